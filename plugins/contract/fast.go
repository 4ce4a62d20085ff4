// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"encoding/json"
	"maps"
	"math/big"
	"slices"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v5"

	"github.com/dealiot/dealiot-connect/plugins/jsonscan"
)

// kinds is a set of JSON types.
type kinds uint8

const (
	kindNull kinds = 1 << iota
	kindTrue
	kindFalse
	kindNumber
	kindInteger // numbers without a fraction only, when kindNumber is absent
	kindString
	kindArray
	kindObject

	kindAny = kindNull | kindTrue | kindFalse | kindNumber | kindString | kindArray | kindObject
)

var kindsByName = map[string]kinds{
	"null": kindNull, "boolean": kindTrue | kindFalse, "number": kindNumber, "integer": kindInteger,
	"string": kindString, "array": kindArray, "object": kindObject,
}

// node is one schema compiled to be checked on the bytes of a value while they
// are read for the first time. It accepts or it does not know: every keyword
// that it has no check for makes it accept nothing (kinds is empty).
//
// What accepts keeps to this: if a node accepts the text of a value, the
// library accepts the value that encoding/json decodes from it.
type node struct {
	kinds kinds

	// Strings.
	text   bool // some limit on strings below is set
	minLen int  // in characters; -1 is no limit
	maxLen int
	format format
	match  *pattern
	enum   []string // allowed texts, nil is all

	// Numbers.
	bounds  *interval
	numbers []*interval // allowed numbers, nil is all

	// Arrays.
	minItems int // -1 is no limit
	maxItems int
	prefix   []*node
	items    *node // of items behind prefix

	// Objects.
	names    *names // nil when the schema names no field
	required uint64 // bits of the fields that must be there
	depends  bool   // some field requires others
	minProps int    // 0 or 1
	maxProps int    // -1 is no limit
	more     *node  // of fields that names does not hold; nil forbids them
}

// anything accepts every JSON value within jsonscan's limits.
var anything = func() *node {
	n := unlimited()
	n.more, n.items = n, n
	return n
}()

// unknown accepts nothing.
var unknown = &node{}

func unlimited() *node {
	return &node{kinds: kindAny, minLen: -1, maxLen: -1, minItems: -1, maxItems: -1, maxProps: -1}
}

// compiler builds nodes. It reads the library's own compiled schema, so that
// both judges start from one understanding of the text.
type compiler struct {
	formats bool // whether format is an assertion
	nodes   map[*jsonschema.Schema]*node
}

func newFast(s *jsonschema.Schema, formats bool) *node {
	c := compiler{formats: formats, nodes: map[*jsonschema.Schema]*node{}}
	return c.node(s)
}

// node compiles a schema once; a schema that refers back to itself finds the
// node that is still being built.
func (c *compiler) node(s *jsonschema.Schema) *node {
	if s == nil {
		return anything
	}
	if n, ok := c.nodes[s]; ok {
		return n
	}
	if s.Ref != nil && onlyRef(s) {
		c.nodes[s] = unknown // a chain of references that ends in itself
		n := c.node(s.Ref)
		c.nodes[s] = n
		return n
	}
	n := unlimited()
	c.nodes[s] = n
	if !c.build(n, s) {
		*n = *unknown
	}
	return n
}

// onlyRef says whether a schema is a reference and nothing else that counts.
func onlyRef(s *jsonschema.Schema) bool {
	return covered(s) && s.Draft == jsonschema.Draft2020 && s.Always == nil &&
		len(s.Types) == 0 && s.Enum == nil && len(s.Constant) == 0 &&
		s.Minimum == nil && s.ExclusiveMinimum == nil && s.Maximum == nil && s.ExclusiveMaximum == nil &&
		s.MinLength == -1 && s.MaxLength == -1 && s.Format == "" && s.Pattern == nil &&
		s.MinItems == -1 && s.MaxItems == -1 && len(s.PrefixItems) == 0 && s.Items2020 == nil &&
		s.MinProperties == -1 && s.MaxProperties == -1 && len(s.Properties) == 0 && len(s.Required) == 0 &&
		len(s.DependentRequired) == 0 && s.AdditionalProperties == nil
}

// covered says whether a schema has none of the keywords that are left to the
// library.
func covered(s *jsonschema.Schema) bool {
	return s.RecursiveRef == nil && s.DynamicRef == nil && s.Not == nil &&
		len(s.AllOf) == 0 && len(s.AnyOf) == 0 && len(s.OneOf) == 0 && s.If == nil && s.Then == nil && s.Else == nil &&
		s.PropertyNames == nil && !s.RegexProperties && len(s.PatternProperties) == 0 && len(s.Dependencies) == 0 &&
		len(s.DependentSchemas) == 0 && s.UnevaluatedProperties == nil && !s.UniqueItems && s.Items == nil &&
		s.AdditionalItems == nil && s.Contains == nil && s.UnevaluatedItems == nil && s.MultipleOf == nil && len(s.Extensions) == 0
}

// build fills a node in; false says that the schema asks for something that no
// check covers.
func (c *compiler) build(n *node, s *jsonschema.Schema) bool {
	if s.Draft != jsonschema.Draft2020 || s.Ref != nil || !covered(s) {
		return false
	}
	if s.Always != nil {
		n.more, n.items = anything, anything
		return *s.Always
	}
	if len(s.Types) > 0 {
		n.kinds = 0
		for _, name := range s.Types {
			n.kinds |= kindsByName[name]
		}
	}
	return c.values(n, s) && c.text(n, s) && c.array(n, s) && c.object(n, s)
}

// values compiles enum and const, and the bounds of numbers.
func (c *compiler) values(n *node, s *jsonschema.Schema) bool {
	n.bounds = newInterval(s.Minimum, s.ExclusiveMinimum, s.Maximum, s.ExclusiveMaximum)
	values := s.Enum
	if values != nil && len(values) == 0 {
		return false // nothing is allowed, which the library takes for anything
	}
	if len(s.Constant) > 0 {
		if len(values) > 0 {
			return false
		}
		values = s.Constant[:1]
	}
	if len(values) == 0 {
		return true
	}
	n.text = true
	n.enum, n.numbers = []string{}, []*interval{}
	var allowed kinds
	for _, v := range values {
		switch v := v.(type) {
		case nil:
			allowed |= kindNull
		case bool:
			if v {
				allowed |= kindTrue
			} else {
				allowed |= kindFalse
			}
		case string:
			allowed |= kindString
			n.enum = append(n.enum, v)
		case json.Number:
			x, ok := new(big.Rat).SetString(v.String())
			if !ok {
				return false
			}
			allowed |= kindNumber | kindInteger
			n.numbers = append(n.numbers, newInterval(x, nil, x, nil))
		}
		// Arrays and objects are left to the library.
	}
	n.kinds &= allowed
	return true
}

func (c *compiler) text(n *node, s *jsonschema.Schema) bool {
	n.minLen, n.maxLen = s.MinLength, s.MaxLength
	if c.formats && s.Format != "" {
		if _, asserted := jsonschema.Formats[s.Format]; asserted {
			if n.format = formats[s.Format]; n.format == formatNone {
				return false
			}
		}
	}
	if s.Pattern != nil {
		if n.match = newPattern(s.Pattern); n.match == nil {
			return false
		}
	}
	n.text = n.text || n.minLen != -1 || n.maxLen != -1 || n.format != formatNone || n.match != nil
	return true
}

func (c *compiler) array(n *node, s *jsonschema.Schema) bool {
	n.minItems, n.maxItems = s.MinItems, s.MaxItems
	for _, sub := range s.PrefixItems {
		n.prefix = append(n.prefix, c.node(sub))
	}
	n.items = c.node(s.Items2020)
	return true
}

func (c *compiler) object(n *node, s *jsonschema.Schema) bool {
	// The number of members counts a field that is named twice twice, so only
	// limits that this cannot fool are checked.
	if s.MinProperties > 1 {
		return false
	}
	n.minProps, n.maxProps = max(s.MinProperties, 0), s.MaxProperties

	n.more = anything
	switch more := s.AdditionalProperties.(type) {
	case bool:
		if !more {
			n.more = nil
		}
	case *jsonschema.Schema:
		n.more = c.node(more)
	}

	var list []field
	index := map[string]int{}
	at := func(name string) int {
		i, ok := index[name]
		if !ok {
			i = len(list)
			index[name] = i
			sub := n.more
			if schema, ok := s.Properties[name]; ok {
				sub = c.node(schema)
			}
			list = append(list, field{name: name, node: sub, bit: 1 << (i % maxNames)})
		}
		return i
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		at(name)
	}
	for _, name := range s.Required {
		i := at(name)
		n.required |= list[i].bit
	}
	for name, needs := range s.DependentRequired {
		n.depends = true
		i := at(name)
		for _, need := range needs {
			bit := list[at(need)].bit
			list[i].need |= bit
		}
	}
	if len(list) > maxNames {
		return false
	}
	if len(list) > 0 {
		n.names = newNames(list)
	}
	return true
}

// accepts says whether the text is one JSON value that the contract surely
// allows. False says nothing: ask the library.
func (n *node) accepts(text []byte) bool {
	end := n.value(text, jsonscan.Space(text, 0), 0)
	return end >= 0 && jsonscan.Space(text, end) == len(text)
}

// value checks the value that begins at data[i], inside depth open arrays and
// objects, and gives the offset behind it, or -1 for "don't know".
func (n *node) value(data []byte, i, depth int) int {
	if i >= len(data) {
		return -1
	}
	switch data[i] {
	case '"':
		end, notes, err := jsonscan.ScanString(data, i)
		if err != nil || n.kinds&kindString == 0 {
			return -1
		}
		if !n.text {
			return end
		}
		if notes&jsonscan.Escapes != 0 {
			if !n.escaped(data[i:end]) {
				return -1
			}
			return end
		}
		if !n.string(data[i+1 : end-1]) {
			return -1
		}
		return end
	case '{':
		if n.kinds&kindObject == 0 || depth >= jsonscan.MaxDepth {
			return -1
		}
		return n.object(data, i, depth+1)
	case '[':
		if n.kinds&kindArray == 0 || depth >= jsonscan.MaxDepth {
			return -1
		}
		return n.array(data, i, depth+1)
	case 't':
		return n.literal(data, i, "true", kindTrue)
	case 'f':
		return n.literal(data, i, "false", kindFalse)
	case 'n':
		return n.literal(data, i, "null", kindNull)
	default:
		end, err := jsonscan.ScanNumber(data, i)
		if err != nil || !n.number(data[i:end]) {
			return -1
		}
		return end
	}
}

func (n *node) literal(data []byte, i int, word string, kind kinds) int {
	end := i + len(word)
	if n.kinds&kind == 0 || end > len(data) || string(data[i:end]) != word {
		return -1
	}
	return end
}

// number checks a scanned number.
func (n *node) number(token []byte) bool {
	if n.kinds&(kindNumber|kindInteger) == 0 {
		return false
	}
	if n.kinds&kindNumber != 0 && n.bounds == nil && n.numbers == nil {
		return true
	}
	d, integral, ok := plainNumber(token)
	if !ok || n.kinds&kindNumber == 0 && !integral || n.bounds != nil && !n.bounds.contains(d) {
		return false
	}
	if n.numbers == nil {
		return true
	}
	for _, one := range n.numbers {
		if one.contains(d) {
			return true
		}
	}
	return false
}

// maxEscaped is the longest string token whose escapes are resolved on the
// stack.
const maxEscaped = 256

// escaped checks a string token that holds escapes.
func (n *node) escaped(token []byte) bool {
	if len(token) > maxEscaped {
		return false
	}
	var buf [maxEscaped]byte
	return n.string(jsonscan.AppendText(buf[:0], token))
}

// string checks the text of a string.
func (n *node) string(text []byte) bool {
	if n.minLen != -1 || n.maxLen != -1 {
		length := utf8.RuneCount(text)
		if n.minLen != -1 && length < n.minLen || n.maxLen != -1 && length > n.maxLen {
			return false
		}
	}
	if n.format != formatNone && !n.format.accepts(text) {
		return false
	}
	if n.match != nil && !n.match.match(text) {
		return false
	}
	if n.enum == nil {
		return true
	}
	for _, one := range n.enum {
		if one == string(text) {
			return true
		}
	}
	return false
}

func (n *node) array(data []byte, i, depth int) int {
	i = jsonscan.Space(data, i+1)
	count := 0
	if i < len(data) && data[i] == ']' {
		return n.arrayEnd(count, i+1)
	}
	for {
		item := n.items
		if count < len(n.prefix) {
			item = n.prefix[count]
		}
		if i = item.value(data, i, depth); i < 0 {
			return -1
		}
		count++
		if i = jsonscan.Space(data, i); i >= len(data) {
			return -1
		}
		switch data[i] {
		case ',':
			i = jsonscan.Space(data, i+1)
		case ']':
			return n.arrayEnd(count, i+1)
		default:
			return -1
		}
	}
}

func (n *node) arrayEnd(count, end int) int {
	if n.minItems != -1 && count < n.minItems || n.maxItems != -1 && count > n.maxItems {
		return -1
	}
	return end
}

func (n *node) object(data []byte, i, depth int) int {
	i = jsonscan.Space(data, i+1)
	var seen uint64
	count := 0
	if i < len(data) && data[i] == '}' {
		return n.objectEnd(seen, count, i+1)
	}
	for {
		if i >= len(data) || data[i] != '"' {
			return -1
		}
		end, notes, err := jsonscan.ScanString(data, i)
		if err != nil {
			return -1
		}
		sub := n.more
		if n.names != nil {
			var f *field
			if notes&jsonscan.Escapes == 0 {
				f = n.names.find(data[i+1 : end-1])
			} else {
				var ok bool
				if f, ok = n.names.findEscaped(data[i:end]); !ok {
					return -1
				}
			}
			if f != nil {
				// A field named twice goes to the library, which hands the
				// document on with one of them.
				if seen&f.bit != 0 {
					return -1
				}
				seen |= f.bit
				sub = f.node
			}
		}
		if sub == nil {
			return -1
		}
		count++
		i = jsonscan.Space(data, end)
		if i >= len(data) || data[i] != ':' {
			return -1
		}
		if i = sub.value(data, jsonscan.Space(data, i+1), depth); i < 0 {
			return -1
		}
		if i = jsonscan.Space(data, i); i >= len(data) {
			return -1
		}
		switch data[i] {
		case ',':
			i = jsonscan.Space(data, i+1)
		case '}':
			return n.objectEnd(seen, count, i+1)
		default:
			return -1
		}
	}
}

func (n *node) objectEnd(seen uint64, count, end int) int {
	if seen&n.required != n.required || count < n.minProps || n.maxProps != -1 && count > n.maxProps {
		return -1
	}
	if n.depends {
		for i := range n.names.list {
			if f := &n.names.list[i]; seen&f.bit != 0 && seen&f.need != f.need {
				return -1
			}
		}
	}
	return end
}

// findEscaped gives the field of a name token that holds escapes; ok is false
// when the token is too long to resolve on the stack.
func (t *names) findEscaped(token []byte) (f *field, ok bool) {
	if len(token) > maxEscaped {
		return nil, false
	}
	var buf [maxEscaped]byte
	return t.find(jsonscan.AppendText(buf[:0], token)), true
}
