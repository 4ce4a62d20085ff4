// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v5"

	"github.com/dealiot/dealiot-connect/plugins/event"
)

const (
	maxValueLen = 64  // bytes of an offending value in a message
	maxListLen  = 200 // bytes of a list of allowed values in a message
	maxPathLen  = 256 // bytes of a path in a violation
)

// fault is one leaf of the library's answer, before it is put in words.
type fault struct {
	path    string // JSON pointer to the field at fault, also if it is missing
	keyword string
	at      *jsonschema.ValidationError
}

// violations puts the library's answer in words: one violation a field and
// keyword, ordered by path.
func (c *Contract) violations(err *jsonschema.ValidationError, doc any, limit int) []event.Violation {
	if limit <= 0 {
		limit = DefaultMaxErrors
	}
	var faults []fault
	c.collect(&faults, err, doc)
	slices.SortFunc(faults, func(a, b fault) int {
		return cmp.Or(strings.Compare(a.path, b.path), strings.Compare(a.keyword, b.keyword),
			strings.Compare(a.at.AbsoluteKeywordLocation, b.at.AbsoluteKeywordLocation))
	})
	faults = slices.CompactFunc(faults, func(a, b fault) bool { return a.path == b.path && a.keyword == b.keyword })

	left := max(0, len(faults)-limit)
	list := make([]event.Violation, 0, min(len(faults), limit)+1)
	for _, f := range faults[:len(faults)-left] {
		list = append(list, c.violation(f.path, f.keyword, c.words(f, doc)))
	}
	if left > 0 {
		list = append(list, c.violation("", KeywordMaxErrors, fmt.Sprintf("%d more violations are not listed", left)))
	}
	return list
}

func (c *Contract) violation(path, keyword, message string) event.Violation {
	return event.Violation{Path: cut(path, maxPathLen), Keyword: keyword, Message: message, Contract: c.name, Version: c.version}
}

// collect walks to the leaves of the library's answer. It stops at alternatives
// (anyOf, oneOf, contains): what each of them lacks contradicts the others.
func (c *Contract) collect(to *[]fault, err *jsonschema.ValidationError, doc any) {
	keyword := c.keyword(err)
	switch keyword {
	case "anyOf", "oneOf", "contains", "minContains":
	default:
		if len(err.Causes) > 0 {
			for _, cause := range err.Causes {
				c.collect(to, cause, doc)
			}
			return
		}
	}
	path := pointer(err.InstanceLocation)
	switch value, _ := resolve(doc, path); keyword {
	case "required":
		object, _ := value.(map[string]any)
		names, _ := c.schemaValue(err, "").([]any)
		for _, name := range names {
			if name, ok := name.(string); ok {
				if _, there := object[name]; !there {
					*to = append(*to, fault{path + "/" + token(name), keyword, err})
				}
			}
		}
		if len(names) > 0 {
			return
		}
	case "dependentRequired":
		if name, ok := c.schemaValue(err, "").(string); ok {
			*to = append(*to, fault{path + "/" + token(name), keyword, err})
			return
		}
	case "additionalProperties":
		if object, ok := value.(map[string]any); ok && c.schemaValue(err, "") == false {
			for _, name := range c.undescribed(err, object) {
				*to = append(*to, fault{path + "/" + token(name), keyword, err})
			}
			return
		}
	}
	*to = append(*to, fault{path, keyword, err})
}

// keyword is the JSON Schema keyword that a leaf of the library's answer is
// about. For a field whose schema is false it is the keyword that holds it.
func (c *Contract) keyword(err *jsonschema.ValidationError) (keyword string) {
	_, at, _ := strings.Cut(err.AbsoluteKeywordLocation, "#")
	tokens := strings.Split(at, "/")
	for i := 0; i < len(tokens); i++ {
		keyword = tokens[i]
		switch keyword {
		case "properties", "patternProperties", "dependentSchemas", "$defs", "definitions",
			"allOf", "anyOf", "oneOf", "prefixItems":
			i++ // a name or a number, which may look like a keyword
		case "dependentRequired":
			return keyword
		}
	}
	return keyword
}

// undescribed lists the fields that the schema whose additionalProperties
// failed does not know.
func (c *Contract) undescribed(err *jsonschema.ValidationError, object map[string]any) (names []string) {
	properties, _ := c.schemaValue(err, "properties").(map[string]any)
	patterns, _ := c.schemaValue(err, "patternProperties").(map[string]any)
	var known []*regexp.Regexp
	for p := range patterns {
		if re, err := regexp.Compile(p); err == nil {
			known = append(known, re)
		}
	}
	for name := range object {
		_, described := properties[name]
		if !described && !slices.ContainsFunc(known, func(re *regexp.Regexp) bool { return re.MatchString(name) }) {
			names = append(names, name)
		}
	}
	return names
}

// schemaValue gives the value of the keyword that failed, or of a keyword
// beside it; nil when it lies outside the contract's own text.
func (c *Contract) schemaValue(err *jsonschema.ValidationError, beside string) any {
	base, at, _ := strings.Cut(err.AbsoluteKeywordLocation, "#")
	if own, _, _ := strings.Cut(c.library.Location, "#"); base != own {
		return nil
	}
	at = pointer(at)
	if beside != "" {
		at = at[:strings.LastIndexByte(at, '/')+1] + token(beside)
	}
	v, _ := resolve(c.source, at)
	return v
}

// words says what is wrong: the field, its value, what is allowed.
func (c *Contract) words(f fault, doc any) string {
	value, _ := resolve(doc, pointer(f.at.InstanceLocation))
	allowed := c.schemaValue(f.at, "")
	field := fieldName(f.path)
	is := field + " is " + short(value)
	switch f.keyword {
	case "required":
		return "required field " + field + " is missing"
	case "dependentRequired":
		return fmt.Sprintf("field %s is missing, which field %s requires", field, fieldName(c.dependent(f)))
	case "additionalProperties":
		return fmt.Sprintf("field %s is not part of the contract %s", field, c.name)
	case "properties", "patternProperties", "unevaluatedProperties":
		return fmt.Sprintf("field %s is not allowed by the contract %s", field, c.name)
	case "type":
		want := kindList(allowed)
		if value == nil {
			if c.requires(f.at) {
				return "required field " + field + " is null"
			}
			return is + ", but must be " + want
		}
		return fmt.Sprintf("%s is %s, but must be %s", field, shortWithKind(value), want)
	case "minimum":
		return fmt.Sprintf("%s, below the minimum of %s", is, short(allowed))
	case "maximum":
		return fmt.Sprintf("%s, above the maximum of %s", is, short(allowed))
	case "exclusiveMinimum":
		return fmt.Sprintf("%s, but must be greater than %s", is, short(allowed))
	case "exclusiveMaximum":
		return fmt.Sprintf("%s, but must be less than %s", is, short(allowed))
	case "multipleOf":
		return fmt.Sprintf("%s, but must be a multiple of %s", is, short(allowed))
	case "enum":
		return fmt.Sprintf("%s, but must be one of %s", is, shortList(allowed))
	case "const":
		return fmt.Sprintf("%s, but must be %s", is, short(allowed))
	case "pattern":
		if text, ok := value.(string); ok && strings.TrimSpace(text) == "" {
			is = field + " is blank"
		} else if strings.ContainsFunc(text, unicode.IsControl) {
			is += ", with control characters"
		}
		return fmt.Sprintf("%s, but must match the pattern %s", is, cut(fmt.Sprint(allowed), maxListLen))
	case "format":
		if allowed == "date-time" {
			return is + ", but must be an RFC 3339 date-time with a zone, such as 2026-05-04T10:11:12Z"
		}
		return fmt.Sprintf("%s, but must have the format %s", is, cut(fmt.Sprint(allowed), maxValueLen))
	case "minLength":
		return fmt.Sprintf("%s, but needs at least %s characters", is, short(allowed))
	case "maxLength":
		return fmt.Sprintf("%s, but may have at most %s characters", is, short(allowed))
	case "minItems":
		return fmt.Sprintf("%s has %d items, but needs at least %s", field, count(value), short(allowed))
	case "maxItems":
		return fmt.Sprintf("%s has %d items, but may have at most %s", field, count(value), short(allowed))
	case "minProperties":
		return fmt.Sprintf("%s has %d fields, but needs at least %s", field, count(value), short(allowed))
	case "maxProperties":
		return fmt.Sprintf("%s has %d fields, but may have at most %s", field, count(value), short(allowed))
	case "anyOf", "oneOf":
		return fmt.Sprintf("%s fits %s of the alternatives of %s", field, howMany(f.at), f.keyword)
	case "not":
		return is + ", which the contract excludes"
	default:
		return fmt.Sprintf("%s breaks the rule %s: %s", field, f.keyword, cut(f.at.Message, maxListLen))
	}
}

// howMany tells the two ways to fail oneOf apart: with causes, every
// alternative failed.
func howMany(err *jsonschema.ValidationError) string {
	if len(err.Causes) == 0 {
		return "more than one"
	}
	return "none"
}

// dependent is the path of the field that asks for the missing one.
func (c *Contract) dependent(f fault) string {
	at := strings.Split(pointer(f.at.KeywordLocation), "/")
	return pointer(f.at.InstanceLocation) + "/" + at[len(at)-2]
}

// requires says whether the field whose schema failed is a required one.
func (c *Contract) requires(err *jsonschema.ValidationError) bool {
	// ".../properties/<field>/type": the object's schema lies three steps up.
	at := strings.Split(err.AbsoluteKeywordLocation, "/")
	if len(at) < 4 || at[len(at)-3] != "properties" {
		return false
	}
	up := jsonschema.ValidationError{AbsoluteKeywordLocation: strings.Join(at[:len(at)-3], "/") + "/required"}
	names, _ := c.schemaValue(&up, "").([]any)
	path := pointer(err.InstanceLocation)
	name := untoken(path[strings.LastIndexByte(path, '/')+1:])
	return slices.Contains(names, any(name))
}

// pointer gives the JSON pointer (RFC 6901) behind one of the library's
// locations, which are percent-encoded.
func pointer(location string) string {
	if p, err := url.PathUnescape(location); err == nil {
		return p
	}
	return location
}

var (
	tokenEscaper   = strings.NewReplacer("~", "~0", "/", "~1")
	tokenUnescaper = strings.NewReplacer("~1", "/", "~0", "~")
)

func token(name string) string    { return tokenEscaper.Replace(name) }
func untoken(token string) string { return tokenUnescaper.Replace(token) }

// resolve follows a JSON pointer.
func resolve(doc any, pointer string) (any, bool) {
	if pointer == "" {
		return doc, true
	}
	for _, t := range strings.Split(pointer[1:], "/") {
		ok := false
		switch d := doc.(type) {
		case map[string]any:
			doc, ok = d[untoken(t)]
		case []any:
			i, err := strconv.Atoi(t)
			if ok = err == nil && i >= 0 && i < len(d); ok {
				doc = d[i]
			}
		}
		if !ok {
			return nil, false
		}
	}
	return doc, true
}

// fieldName gives a JSON pointer as people write fields: payload.t, errors[0].
func fieldName(path string) string {
	if path == "" {
		return "the event"
	}
	var b strings.Builder
	for i, t := range strings.Split(path[1:], "/") {
		t = untoken(t)
		if _, err := strconv.ParseUint(t, 10, 32); err == nil && i > 0 {
			b.WriteString("[" + t + "]")
			continue
		}
		if i > 0 {
			b.WriteByte('.')
		}
		if t == "" || strings.ContainsFunc(t, func(r rune) bool { return !unicode.IsGraphic(r) || r == ' ' }) {
			t = strconv.Quote(cut(t, maxValueLen))
		}
		b.WriteString(t)
	}
	return cut(b.String(), maxValueLen)
}

// short gives a value as JSON text of bounded length.
func short(value any) string {
	switch v := value.(type) {
	case map[string]any:
		return "an object"
	case []any:
		return "an array"
	case json.Number:
		return cut(v.String(), maxValueLen)
	case string:
		return quoted(cut(v, maxValueLen))
	default:
		return quoted(v)
	}
}

// quoted is JSON text without the escapes that HTML needs.
func quoted(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "a value"
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func shortWithKind(value any) string {
	switch value.(type) {
	case string:
		return "the string " + short(value)
	case json.Number:
		return "the number " + short(value)
	case bool:
		return "the boolean " + short(value)
	default:
		return short(value)
	}
}

func shortList(values any) string {
	list, _ := values.([]any)
	var b strings.Builder
	for i, v := range list {
		if i > 0 {
			b.WriteString(", ")
		}
		if b.Len() > maxListLen {
			fmt.Fprintf(&b, "… (%d values)", len(list))
			break
		}
		b.WriteString(short(v))
	}
	return b.String()
}

func kindList(types any) string {
	list, ok := types.([]any)
	if !ok {
		list = []any{types}
	}
	words := make([]string, len(list))
	for i, name := range list {
		switch name {
		case "null":
			words[i] = "null"
		case "integer", "array", "object":
			words[i] = "an " + name.(string)
		default:
			words[i] = fmt.Sprintf("a %v", name)
		}
	}
	return strings.Join(words, " or ")
}

func count(value any) int {
	switch v := value.(type) {
	case map[string]any:
		return len(v)
	case []any:
		return len(v)
	default:
		return 0
	}
}

// cut shortens a text to about n bytes, at a character's edge.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + "…"
}
