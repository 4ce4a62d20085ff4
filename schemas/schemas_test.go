// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package schemas_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dealiot/dealiot-connect/schemas"
)

const suffix = ".schema.json"

// ownRequired are the required fields of the contracts that are ours alone, for
// which no field table exists.
var ownRequired = map[string][]string{
	"alerts.events":   {"alert_id", "event_id", "device_id", "rule", "status", "severity", "timestamp", "message"},
	"features.events": {"device_id", "event_id", "timestamp", "kind", "source_topic", "revision", "features"},
	"state.latest":    {"device_id", "kind", "timestamp", "event_id", "state"},
}

var ownTopics = slices.Sorted(maps.Keys(ownRequired))

// contracts compiles every embedded contract by topic, formats asserted.
func contracts(t *testing.T) map[string]*jsonschema.Schema {
	t.Helper()
	names, err := fs.Glob(schemas.FS, "*"+suffix)
	require.NoError(t, err)
	require.NotEmpty(t, names, "no contract embedded")

	set := map[string]*jsonschema.Schema{}
	for _, name := range names {
		raw, err := fs.ReadFile(schemas.FS, name)
		require.NoError(t, err)
		c := jsonschema.NewCompiler()
		c.Draft = jsonschema.Draft2020
		c.AssertFormat = true
		c.LoadURL = func(url string) (io.ReadCloser, error) {
			return nil, fmt.Errorf("a contract stands alone but refers to %q", url)
		}
		require.NoError(t, c.AddResource(name, bytes.NewReader(raw)))
		sch, err := c.Compile(name)
		require.NoErrorf(t, err, "compiling %s", name)
		set[strings.TrimSuffix(name, suffix)] = sch
	}
	return set
}

// source decodes the contract of a topic as a document.
func source(t *testing.T, topic string) map[string]any {
	t.Helper()
	raw, err := fs.ReadFile(schemas.FS, topic+suffix)
	require.NoError(t, err)
	return object(t, raw)
}

// decode reads one JSON document and keeps its numbers as written.
func decode(raw []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one document")
	}
	return v, nil
}

func object(t *testing.T, raw []byte) map[string]any {
	t.Helper()
	v, err := decode(raw)
	require.NoError(t, err)
	m, ok := v.(map[string]any)
	require.True(t, ok, "the document is not an object")
	return m
}

func testdata(t *testing.T, name string, into any) {
	t.Helper()
	raw, err := os.ReadFile(path.Join("testdata", name))
	require.NoError(t, err)
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	require.NoErrorf(t, d.Decode(into), "reading %s", name)
}

// violation is one leaf of a validation error.
type violation struct {
	at      string   // JSON pointer into the event
	keyword string   // keyword of the contract that was broken
	names   []string // fields that are missing, or not allowed
}

// field is the top-level field at fault, for each field at fault.
func (v violation) fields() []string {
	if v.at == "" {
		return v.names
	}
	return []string{strings.Split(v.at, "/")[1]}
}

var quoted = regexp.MustCompile(`'([^']*)'`)

// violations validates an event and flattens the answer.
func violations(t *testing.T, sch *jsonschema.Schema, event any) []violation {
	t.Helper()
	err := sch.Validate(event)
	if err == nil {
		return nil
	}
	var top *jsonschema.ValidationError
	require.ErrorAs(t, err, &top)

	var out []violation
	var walk func(e *jsonschema.ValidationError)
	walk = func(e *jsonschema.ValidationError) {
		for _, cause := range e.Causes {
			walk(cause)
		}
		if len(e.Causes) > 0 {
			return
		}
		v := violation{at: e.InstanceLocation}
		at := strings.Split(e.KeywordLocation, "/")
		v.keyword = at[len(at)-1]
		if n := len(at); n > 2 && at[n-3] == "dependentRequired" { // then a field name and an index follow
			v.keyword = at[n-3]
		}
		switch v.keyword {
		case "required", "additionalProperties":
			for _, m := range quoted.FindAllStringSubmatch(e.Message, -1) {
				v.names = append(v.names, m[1])
			}
		}
		out = append(out, v)
	}
	walk(top)
	return out
}

// subschemas calls visit for the root and every schema below it, with a path in
// the notation of the field tables: "a.b", "list[]", "" for the root.
func subschemas(s map[string]any, at string, visit func(at string, s map[string]any)) {
	visit(at, s)
	if props, ok := s["properties"].(map[string]any); ok {
		for _, name := range slices.Sorted(maps.Keys(props)) {
			child := name
			if at != "" {
				child = at + "." + name
			}
			subschemas(props[name].(map[string]any), child, visit)
		}
	}
	if items, ok := s["items"].(map[string]any); ok {
		subschemas(items, at+"[]", visit)
	}
	if more, ok := s["additionalProperties"].(map[string]any); ok {
		subschemas(more, at+".*", visit)
	}
}

func strs(v any) []string {
	list, _ := v.([]any)
	out := make([]string, 0, len(list))
	for _, x := range list {
		out = append(out, x.(string))
	}
	return out
}

// Each file is a complete, described contract under its own name. Keywords are
// checked against a list because a validator ignores a misspelt one.
func TestContractFiles(t *testing.T) {
	var index map[string]struct {
		Group   string `json:"group"`
		Version string `json:"version"`
	}
	testdata(t, "contract-index.json", &index)
	groups := map[string]bool{}
	for _, entry := range index {
		groups[entry.Group] = true
	}
	rootKeys := []string{
		"$schema", "$id", "title", "description", "x-group", "x-version", "type",
		"additionalProperties", "required", "properties", "dependentRequired",
	}
	known := append(slices.Clone(rootKeys), "enum", "examples", "exclusiveMinimum", "format",
		"items", "maximum", "minItems", "minimum", "pattern", "minLength")

	set := contracts(t)
	for _, topic := range slices.Concat(slices.Sorted(maps.Keys(index)), ownTopics) {
		assert.Containsf(t, set, topic, "topic %s has no contract", topic)
	}
	for topic := range set {
		t.Run(topic, func(t *testing.T) {
			raw, err := fs.ReadFile(schemas.FS, topic+suffix)
			require.NoError(t, err)
			doc := object(t, raw)

			version, _ := doc["x-version"].(string)
			assert.Regexp(t, `^\d+\.\d+\.\d+$`, version)
			assert.Equal(t, "https://json-schema.org/draft/2020-12/schema", doc["$schema"])
			assert.Equal(t, "urn:dealiot:contract:"+topic+":"+version, doc["$id"])
			assert.NotEmpty(t, doc["title"])
			group, _ := doc["x-group"].(string)
			if want, ok := index[topic]; ok {
				assert.Equal(t, want.Group, group)
			} else {
				assert.Contains(t, ownTopics, topic, "a contract that no index names")
				assert.Truef(t, groups[group], "x-group %q is none of the registry's", group)
			}

			keys := rootOrder(t, raw)
			want := slices.DeleteFunc(slices.Clone(rootKeys), func(k string) bool { return doc[k] == nil })
			assert.Equal(t, want, keys, "order of the keywords")

			subschemas(doc, "", func(at string, s map[string]any) {
				text, _ := s["description"].(string)
				assert.Greaterf(t, len(strings.Fields(text)), 2, "%q has no description", at)
				assert.NotNilf(t, s["type"], "%q has no type", at)
				for k := range s {
					assert.Containsf(t, known, k, "keyword at %q", at)
				}
				if s["type"] == "object" {
					assert.Containsf(t, s, "additionalProperties", "%q does not say whether it is open", at)
				}
				for _, name := range strs(s["required"]) {
					assert.Containsf(t, s["properties"], name, "%q requires a field that it does not describe", at)
				}
			})
		})
	}
}

// rootOrder lists the keywords of a contract in the order of the file.
func rootOrder(t *testing.T, raw []byte) []string {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(raw))
	_, err := d.Token()
	require.NoError(t, err)
	var keys []string
	for d.More() {
		key, err := d.Token()
		require.NoError(t, err)
		keys = append(keys, key.(string))
		var skip json.RawMessage
		require.NoError(t, d.Decode(&skip))
	}
	return keys
}

// The field tables are the floor: what they name is there with its type and
// limits, and a contract may only add fields where the table leaves it open.
func TestContractsHoldFieldTables(t *testing.T) {
	type row struct {
		Field       string         `json:"field"`
		Type        string         `json:"type"`
		Required    bool           `json:"required"`
		Constraints map[string]any `json:"constraints"`
		Additional  *bool          `json:"additional_fields"`
	}
	var tables map[string][]row
	testdata(t, "contracts.json", &tables)
	require.Len(t, tables, 37)

	for topic, rows := range tables {
		t.Run(topic, func(t *testing.T) {
			byPath := map[string]map[string]any{}
			subschemas(source(t, topic), "", func(at string, s map[string]any) { byPath[at] = s })

			required := map[string][]string{}
			inTable := map[string]bool{}
			for _, r := range rows {
				at := r.Field
				if at == "(root)" {
					at = ""
				}
				inTable[at] = true
				s, ok := byPath[at]
				if !assert.Truef(t, ok, "field %q is missing", at) {
					continue
				}
				assert.Equalf(t, r.Type, s["type"], "type of %q", at)
				for keyword, want := range r.Constraints {
					assert.Equalf(t, want, s[keyword], "%s of %q", keyword, at)
				}
				if r.Additional != nil {
					assert.Equalf(t, *r.Additional, s["additionalProperties"], "additional fields of %q", at)
				}
				if at != "" && r.Required && !strings.HasSuffix(at, "[]") {
					parent, name := "", at
					if i := strings.LastIndex(at, "."); i >= 0 {
						parent, name = at[:i], at[i+1:]
					}
					required[parent] = append(required[parent], name)
				}
			}
			for at, s := range byPath {
				assert.ElementsMatchf(t, required[at], strs(s["required"]), "required fields of %q", at)
				if !inTable[at] {
					assert.Equalf(t, true, byPath[""]["additionalProperties"],
						"field %q is not in the table of a closed contract", at)
				}
			}
		})
	}
}

// Our own contracts keep what their readers rely upon: the required fields, room
// for more, and revisions that count from 0.
func TestOwnContracts(t *testing.T) {
	for topic, required := range ownRequired {
		doc := source(t, topic)
		assert.ElementsMatch(t, required, strs(doc["required"]), topic)
		assert.Equal(t, true, doc["additionalProperties"], topic)
		revision := doc["properties"].(map[string]any)["revision"].(map[string]any)
		assert.Equal(t, "integer", revision["type"], topic)
		assert.Equal(t, json.Number("0"), revision["minimum"], topic)
	}
}

type example struct {
	topic, name string
	raw         []byte
}

func examples(t *testing.T, kind string) []example {
	t.Helper()
	names, err := fs.Glob(schemas.Examples, "examples/*/"+kind+"/*")
	require.NoError(t, err)
	out := make([]example, 0, len(names))
	for _, name := range names {
		raw, err := fs.ReadFile(schemas.Examples, name)
		require.NoError(t, err)
		out = append(out, example{topic: strings.Split(name, "/")[1], name: name, raw: raw})
	}
	return out
}

func TestValidExamples(t *testing.T) {
	set := contracts(t)
	for _, ex := range examples(t, "valid") {
		t.Run(strings.TrimPrefix(ex.name, "examples/"), func(t *testing.T) {
			require.Contains(t, set, ex.topic, "example of an unknown topic")
			assert.Empty(t, violations(t, set[ex.topic], object(t, ex.raw)))
		})
	}
}

// An invalid example has one fault, the one it claims; a missing or surplus
// field is named in its reason.
func TestInvalidExamples(t *testing.T) {
	set := contracts(t)
	for _, ex := range examples(t, "invalid") {
		t.Run(strings.TrimPrefix(ex.name, "examples/"), func(t *testing.T) {
			var doc struct {
				Why     string          `json:"why"`
				At      string          `json:"at"`
				Keyword string          `json:"keyword"`
				Event   json.RawMessage `json:"event"`
			}
			d := json.NewDecoder(bytes.NewReader(ex.raw))
			d.DisallowUnknownFields()
			require.NoError(t, d.Decode(&doc))
			require.NotEmpty(t, doc.Why)
			require.Contains(t, set, ex.topic, "example of an unknown topic")

			event, err := decode(doc.Event)
			require.NoError(t, err)
			got := violations(t, set[ex.topic], event)
			require.Lenf(t, got, 1, "violations: %+v", got)
			assert.Equal(t, doc.At, got[0].at, "instance path")
			assert.Equal(t, doc.Keyword, got[0].keyword, "keyword")
			for _, name := range got[0].names {
				assert.Contains(t, doc.Why, name, "the reason names the field")
			}
		})
	}
}

// Contracts of the event path carry more examples than those of the registers.
func TestExampleCounts(t *testing.T) {
	valid, invalid := map[string]int{}, map[string]int{}
	for _, ex := range examples(t, "valid") {
		valid[ex.topic]++
	}
	for _, ex := range examples(t, "invalid") {
		invalid[ex.topic]++
	}
	for topic := range contracts(t) {
		minValid, minInvalid := 1, 2
		if strings.HasPrefix(topic, "raw.") || topic == "media.object.events" || topic == "dlq.events" ||
			slices.Contains(ownTopics, topic) {
			minValid, minInvalid = 2, 4
		}
		assert.GreaterOrEqualf(t, valid[topic], minValid, "valid examples of %s", topic)
		assert.GreaterOrEqualf(t, invalid[topic], minInvalid, "invalid examples of %s", topic)
	}
}

// The rules that hold across contracts, tried on every field of every contract
// by changing one field of a valid example.
func TestRulesAcrossContracts(t *testing.T) {
	set := contracts(t)
	tried := map[string]int{}
	for _, ex := range examples(t, "valid") {
		doc := source(t, ex.topic)
		props := doc["properties"].(map[string]any)
		sch := set[ex.topic]

		// with validates the example with one top-level field replaced.
		with := func(field string, value any) []violation {
			event := object(t, ex.raw)
			event[field] = value
			return violations(t, sch, event)
		}
		// refuses wants the value to be a violation of its field by the keyword.
		refuses := func(rule, field string, value any, keyword string) {
			tried[rule]++
			got := with(field, value)
			assert.Truef(t, slices.ContainsFunc(got, func(v violation) bool {
				return v.at == "/"+field && (keyword == "" || v.keyword == keyword)
			}), "%s: %s %q = %q should break %s, got %+v", ex.name, rule, field, value, keyword, got)
		}

		// accepts wants no violation of the field itself.
		accepts := func(field string, value any) {
			assert.NotContainsf(t, atPaths(with(field, value)), "/"+field, "%s: %s = %v", ex.name, field, value)
		}

		for _, field := range strs(doc["required"]) {
			tried["required"]++
			event := object(t, ex.raw)
			delete(event, field)
			assert.Equalf(t, []violation{{keyword: "required", names: []string{field}}},
				violations(t, sch, event), "%s without %q", ex.name, field)
			refuses("null", field, nil, "type")
			if props[field].(map[string]any)["type"] == "string" {
				refuses("empty", field, "", "")
				refuses("blank", field, " \t", "")
			}
		}
		for field, p := range props {
			p := p.(map[string]any)
			if p["format"] == "date-time" {
				for _, bad := range []string{
					"yesterday", "2026-01-01", "2026-01-01 00:00:00", "2026-13-01T00:00:00Z", "2026-01-01T00:00:00",
				} {
					refuses("date-time", field, bad, "format")
				}
				for _, good := range []string{"2026-01-01T00:00:00Z", "2026-01-01t00:00:00.123456789+02:00"} {
					accepts(field, good)
				}
			}
			if strings.HasSuffix(field, "_at") || field == "timestamp" {
				assert.Equalf(t, "date-time", p["format"], "%s: %s", ex.topic, field)
			}
			if strings.HasSuffix(field, "_id") && ex.topic != "dlq.events" {
				for _, bad := range []string{"a\x00b", "a\nb", "a\n", "\x1fa", "a\x7f", " "} {
					refuses("id", field, bad, "pattern")
				}
				if field != "event_id" {
					for _, good := range []string{"cow-7", "牛-7", "WF 001", " x", "a/b|c", strings.Repeat("🐄", 100)} {
						accepts(field, good)
					}
				}
			}
			if items, ok := p["items"].(map[string]any); ok && items["type"] == "string" {
				tried["blank item"]++
				assert.Containsf(t, atPaths(with(field, []any{" "})), "/"+field+"/0", "%s: blank item of %s", ex.name, field)
			}
			if field == "qos" {
				refuses("qos", field, json.Number("-1"), "minimum")
				refuses("qos", field, json.Number("3"), "maximum")
				refuses("qos", field, true, "type")
				accepts(field, json.Number("2.0"))
			}
			if p["type"] == "integer" || p["type"] == "number" {
				refuses("number as text", field, "1", "type")
				if p["minimum"] == json.Number("0") {
					refuses("minimum", field, json.Number("-1"), "minimum")
					accepts(field, json.Number("-0.0"))
				}
			}
		}
	}
	for _, rule := range []string{"required", "null", "blank", "date-time", "id", "blank item", "qos", "minimum"} {
		assert.NotZerof(t, tried[rule], "no field tried the rule %q", rule)
	}
}

func atPaths(vs []violation) []string {
	out := make([]string, 0, len(vs))
	for _, v := range vs {
		out = append(out, v.at)
	}
	return out
}

// notJSON are the rows whose event is no JSON document: the reader of the bytes
// refuses them before a contract is asked.
var notJSON = []string{"v356", "v357", "v358", "v359", "v361", "v363"}

// ownContract are the rows that call a topic unknown for which we have a
// contract of our own: there, {"anything": 1} lacks every required field.
var ownContract = []string{"v110", "v111"}

// Every row is valid or not as recorded, with the same fields at fault. Where
// the recorded answer is marked as wrong for users, what they want counts.
func TestValidationRows(t *testing.T) {
	set := contracts(t)
	f, err := os.Open("../test/vectors/validation.jsonl")
	require.NoError(t, err)
	defer f.Close()

	var skipped, own []string
	rows := 0
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var r struct {
			ID             string          `json:"id"`
			Topic          string          `json:"topic"`
			EventJSON      string          `json:"event_json"`
			Errors         []string        `json:"errors"`
			UpstreamBug    bool            `json:"upstream_bug"`
			Want           json.RawMessage `json:"want"`
			RegistryErrors []string        `json:"registry_schema_errors"`
		}
		require.NoError(t, json.Unmarshal(lines.Bytes(), &r))
		rows++
		t.Run(r.ID, func(t *testing.T) {
			event, err := decode([]byte(r.EventJSON))
			if err != nil {
				skipped = append(skipped, r.ID)
				return
			}
			sch, ok := set[r.Topic]
			if !ok {
				assert.Emptyf(t, r.Errors, "topic %q has no contract", r.Topic)
				return
			}
			got := violations(t, sch, stripNulls(event, sch))
			if slices.Contains(ownContract, r.ID) {
				own = append(own, r.ID)
				require.Len(t, got, 1)
				assert.Equal(t, "required", got[0].keyword)
				return
			}
			wanted := r.Errors
			if r.UpstreamBug {
				wanted = want(t, r.Want, r.RegistryErrors)
			}
			atFault := map[string]bool{}
			for _, v := range got {
				for _, field := range v.fields() {
					atFault[field] = true
				}
			}
			wantFault := map[string]bool{}
			for _, e := range wanted {
				wantFault[fieldOf(t, e)] = true
			}
			assert.Equalf(t, wantFault, atFault, "fields at fault in %s", r.EventJSON)
		})
	}
	require.NoError(t, lines.Err())
	assert.Equal(t, 312, rows)
	assert.Equal(t, notJSON, skipped, "rows that are not JSON")
	assert.Equal(t, ownContract, own, "rows judged by a contract of our own")
}

// stripNulls drops the top-level nulls of optional fields, as the processor does
// before it validates.
func stripNulls(event any, sch *jsonschema.Schema) any {
	m, ok := event.(map[string]any)
	if !ok {
		return event
	}
	maps.DeleteFunc(m, func(k string, v any) bool {
		if v != nil || slices.Contains(sch.Required, k) || sch.Properties[k] == nil {
			return false
		}
		types := sch.Properties[k].Types
		return slices.Contains(types, "string") || slices.Contains(types, "number") || slices.Contains(types, "integer")
	})
	return m
}

// want turns what users need, a list of errors or a note, into errors.
func want(t *testing.T, raw json.RawMessage, registryErrors []string) []string {
	t.Helper()
	var list []string
	if json.Unmarshal(raw, &list) == nil {
		return list
	}
	var note string
	require.NoErrorf(t, json.Unmarshal(raw, &note), "want %s", raw)
	switch note {
	case "strip nulls before validation", "decide: null = absent (strip) or error":
		return nil
	case "validate against the registry schema":
		require.NotEmpty(t, registryErrors)
		return registryErrors
	default:
		return []string{note}
	}
}

var errorForms = []*regexp.Regexp{
	regexp.MustCompile(`^(?:missing required field|field not allowed by [\w.]+|field must be [a-z ]+): (.+)$`),
	regexp.MustCompile(`^\$: '(.+)' is a required property$`),
	regexp.MustCompile(`^\$: Additional properties are not allowed \('(.+)' was unexpected\)$`),
	regexp.MustCompile(`^(\w+) (?:out of range|must be|has control characters)`),
}

// fieldOf finds the field that a recorded error names.
func fieldOf(t *testing.T, message string) string {
	t.Helper()
	for _, form := range errorForms {
		if m := form.FindStringSubmatch(message); m != nil {
			return m[1]
		}
	}
	require.Failf(t, "error of unknown form", "%q", message)
	return ""
}
