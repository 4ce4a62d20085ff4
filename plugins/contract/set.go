// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

// Package contract judges events by the contract of their topic. A contract is
// a JSON Schema (draft 2020-12) in a file "<topic>.schema.json".
//
// Two judges stand behind one answer. The library (jsonschema) is the arbiter:
// every rejection is its word. In front of it a compiled form of the contract
// reads the bytes once and accepts what is plainly valid; whatever it does not
// understand it leaves to the library, so it can be slow but never wrong.
package contract

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v5"

	"github.com/dealiot/dealiot-connect/plugins/jsonscan"
)

// FileSuffix ends the name of a contract's file; the topic stands before it.
const FileSuffix = ".schema.json"

// draft is the dialect of every contract, the one the library and the compiled
// form are tested for.
const draft = "https://json-schema.org/draft/2020-12/schema"

// ErrNoContracts says that a directory holds no contract at all, which is a
// wrong path far more often than a wish.
var ErrNoContracts = errors.New("no file named <topic>" + FileSuffix)

// Set is a collection of contracts by topic. It does not change.
type Set struct {
	contracts map[string]*Contract
}

// LoadSet compiles the contracts at the root of a file system. The error names
// every file that is not a contract, and why; there is no partial set.
func LoadSet(fsys fs.FS) (*Set, error) {
	files, err := readFiles(fsys)
	if err != nil {
		return nil, err
	}
	return newSet(files)
}

// readFiles reads the contracts' files by name.
func readFiles(fsys fs.FS) (map[string][]byte, error) {
	// ReadDir and not Glob, which hides errors of the file system.
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, fmt.Errorf("listing contracts: %w", err)
	}
	files := map[string][]byte{}
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), FileSuffix) {
			continue
		}
		if files[entry.Name()], err = fs.ReadFile(fsys, entry.Name()); err != nil {
			return nil, fmt.Errorf("reading contract %s: %w", entry.Name(), err)
		}
	}
	if len(files) == 0 {
		return nil, ErrNoContracts
	}
	return files, nil
}

func newSet(files map[string][]byte) (*Set, error) {
	s := &Set{contracts: make(map[string]*Contract, len(files))}
	var errs []error
	for _, file := range slices.Sorted(maps.Keys(files)) {
		c, err := load(strings.TrimSuffix(file, FileSuffix), files[file])
		if err != nil {
			errs = append(errs, fmt.Errorf("loading contract %s: %w", file, err))
			continue
		}
		s.contracts[c.name] = c
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return s, nil
}

// Contract gives the contract of a topic.
func (s *Set) Contract(topic string) (*Contract, bool) {
	c, ok := s.contracts[topic]
	return c, ok
}

// Names lists the topics that have a contract, in alphabetical order.
func (s *Set) Names() []string {
	return slices.Sorted(maps.Keys(s.contracts))
}

// Override gives a set of both: where both name a topic, the contract of over
// stands.
func (s *Set) Override(over *Set) *Set {
	both := maps.Clone(s.contracts)
	maps.Copy(both, over.contracts)
	return &Set{contracts: both}
}

// Nearest gives the known topic that a name most likely means, or "" when none
// is near: at most a third of its characters would have to change.
func (s *Set) Nearest(name string) string {
	best, at := "", len(name)/3+1
	for _, known := range s.Names() {
		if d := distance(name, known); d < at {
			best, at = known, d
		}
	}
	return best
}

// distance counts the bytes to insert, delete or replace between two names
// (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

// Contract is the compiled contract of one topic. It is safe for concurrent
// use.
type Contract struct {
	name    string
	version string

	fast     *node              // accepts or does not know
	library  *jsonschema.Schema // the arbiter
	source   any                // the schema as a document, for messages
	keepNull map[string]bool    // top-level field -> whether its null is left for the schema to judge
}

// Name is the topic.
func (c *Contract) Name() string { return c.name }

// Version is the contract's x-version, "" when it names none.
func (c *Contract) Version() string { return c.version }

// load compiles one contract from its file's text.
func load(name string, text []byte) (*Contract, error) {
	if !validTopic(name) {
		return nil, fmt.Errorf("naming topic %q: a Kafka topic has 1 to 249 of the characters a-z A-Z 0-9 . _ -", name)
	}
	var sc jsonscan.Scanner
	if _, _, _, err := sc.Document(text, 0); err != nil {
		return nil, fmt.Errorf("reading JSON: %w", err)
	}
	source, err := decode(text)
	if err != nil {
		return nil, fmt.Errorf("reading JSON: %w", err)
	}
	root, ok := source.(map[string]any)
	if !ok {
		return nil, errors.New("reading schema: the document is not an object")
	}
	if v, ok := root["$schema"]; ok && v != draft {
		return nil, fmt.Errorf("reading $schema %v: contracts are written in %s", short(v), draft)
	}
	version := ""
	if v, ok := root["x-version"]; ok {
		if version, ok = v.(string); !ok || version == "" {
			return nil, fmt.Errorf("reading x-version %v: it is a text such as \"1.0.0\"", short(v))
		}
	}
	library, err := compile(name, text, true, func(url string) (io.ReadCloser, error) {
		return nil, fmt.Errorf("refusing to load %q: a contract stands alone; put what it refers to under $defs", url)
	})
	if err != nil {
		return nil, err
	}
	return newContract(name, version, source, library, true), nil
}

// newContract builds a contract around a compiled schema and its source.
func newContract(name, version string, source any, library *jsonschema.Schema, formats bool) *Contract {
	c := &Contract{name: name, version: version, library: library, source: source, keepNull: map[string]bool{}}
	c.fast = newFast(library, formats)
	required := map[string]bool{}
	c.collectNulls(library, required, map[*jsonschema.Schema]bool{})
	for field := range required {
		delete(c.keepNull, field)
	}
	return c
}

// collectNulls finds out which top-level fields the contract knows, and what a
// null in them means. Devices write null for a text or number that they did not
// read, which is as good as absent. It stays where the contract allows it, and
// where a switch, an object or a list is due: no reading is missing there, the
// message is wrong.
func (c *Contract) collectNulls(s *jsonschema.Schema, required map[string]bool, seen map[*jsonschema.Schema]bool) {
	if s == nil || seen[s] {
		return
	}
	seen[s] = true
	for field, sub := range s.Properties {
		keep := validate(sub, nil) == nil || !reading(sub)
		if before, ok := c.keepNull[field]; ok {
			keep = keep && before
		}
		c.keepNull[field] = keep
	}
	for _, field := range s.Required {
		required[field] = true
	}
	c.collectNulls(s.Ref, required, seen)
	for _, sub := range s.AllOf {
		c.collectNulls(sub, required, seen)
	}
}

// reading says whether a schema is for a text or a number, or for anything.
func reading(s *jsonschema.Schema) bool {
	for len(s.Types) == 0 && s.Ref != nil && s.Ref != s {
		s = s.Ref
	}
	if len(s.Types) == 0 {
		return true
	}
	for _, t := range s.Types {
		if t == "string" || t == "number" || t == "integer" {
			return true
		}
	}
	return false
}

// compile has the library compile a schema. It panics on some schemas, for
// instance on regular expressions that Go does not have.
func compile(name string, text []byte, formats bool, loader func(url string) (io.ReadCloser, error)) (s *jsonschema.Schema, err error) {
	defer func() {
		if r := recover(); r != nil {
			s, err = nil, fmt.Errorf("compiling schema: %v", r)
		}
	}()
	compiler := jsonschema.NewCompiler()
	compiler.Draft = jsonschema.Draft2020
	compiler.AssertFormat = formats
	compiler.LoadURL = loader
	url := "urn:dealiot:file:" + name
	if err := compiler.AddResource(url, bytes.NewReader(text)); err != nil {
		return nil, fmt.Errorf("compiling schema: %w", err)
	}
	s, err = compiler.Compile(url)
	if err != nil {
		return nil, fmt.Errorf("compiling schema: %w", schemaError(err))
	}
	return s, nil
}

// schemaError takes the library's wrapping of a schema that is not a schema
// apart: what counts is the place and the reason.
func schemaError(err error) error {
	var invalid *jsonschema.ValidationError
	if !errors.As(err, &invalid) {
		return err
	}
	for len(invalid.Causes) > 0 {
		invalid = invalid.Causes[0]
	}
	at := pointer(invalid.InstanceLocation)
	if at == "" {
		at = "/"
	}
	return fmt.Errorf("at %s: %s", at, invalid.Message)
}

// decode reads one JSON document and keeps its numbers as written; of members
// that an object names twice the last one stands.
func decode(text []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	return v, nil
}

// validTopic says whether a Kafka topic can have this name.
func validTopic(name string) bool {
	if name == "" || len(name) > 249 || name == "." || name == ".." {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}
