// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dealiot/dealiot-connect/plugins/event"
	"github.com/dealiot/dealiot-connect/schemas"
)

func TestViolations(t *testing.T) {
	type v struct{ path, keyword, message string }
	gps := func(fields string) string {
		return `{"device_id":"cow-7","timestamp":"2026-01-01T00:00:00Z","latitude":47.6,"longitude":9.1` + fields + `}`
	}
	for _, tc := range []struct {
		name, topic, schema, doc string
		want                     []v
	}{
		{"range", "raw.gps", "", gps(`,"heading_deg":360.5,"speed_m_s":-0.1`), []v{
			{"/heading_deg", "maximum", "heading_deg is 360.5, above the maximum of 360"},
			{"/speed_m_s", "minimum", "speed_m_s is -0.1, below the minimum of 0"}}},
		{"missing and null", "raw.gps", "", `{"timestamp":"2026-01-01T00:00:00Z","latitude":null}`, []v{
			{"/device_id", "required", "required field device_id is missing"},
			{"/latitude", "type", "required field latitude is null"},
			{"/longitude", "required", "required field longitude is missing"}}},
		{"type", "raw.gps", "", gps(`,"altitude_m":"12","payload":[],"qos":1.5,"retain":0`), []v{
			{"/altitude_m", "type", `altitude_m is the string "12", but must be a number`},
			{"/payload", "type", `payload is an array, but must be an object`},
			{"/qos", "type", `qos is the number 1.5, but must be an integer`},
			{"/retain", "type", `retain is the number 0, but must be a boolean`}}},
		{"text", "raw.gps", "", `{"device_id":" ","timestamp":"yesterday","latitude":1,"longitude":1,"event_id":"<x>","event_time_source":"now"}`, []v{
			{"/device_id", "pattern", `device_id is blank, but must match the pattern ^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$`},
			{"/event_id", "pattern", `event_id is "<x>", but must match the pattern ^[0-9a-f]{32}$`},
			{"/event_time_source", "enum", `event_time_source is "now", but must be one of "device", "ingested"`},
			{"/timestamp", "format", `timestamp is "yesterday", but must be an RFC 3339 date-time with a zone, such as 2026-05-04T10:11:12Z`}}},
		{"control", "raw.sensor", "", `{"device_id":"a\u0000b","timestamp":"2026-01-01T00:00:00Z","payload":{}}`, []v{
			{"/device_id", "pattern", `device_id is "a\u0000b", with control characters, but must match the pattern ^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$`}}},
		{"closed", "raw.video2d.meta", "", `{"device_id":"c","timestamp":"2026-01-01T00:00:00Z","bucket":"b","object_key":"k","object_uri":"s3://b/k","format":"mp4","frame":1,"a/b~ c":2,"frame_rate":0}`, []v{
			{"/a~1b~0 c", "additionalProperties", `field "a/b~ c" is not part of the contract raw.video2d.meta`},
			{"/frame", "additionalProperties", "field frame is not part of the contract raw.video2d.meta"},
			{"/frame_rate", "exclusiveMinimum", "frame_rate is 0, but must be greater than 0"}}},
		{"not an object", "raw.gps", "", ` [1]`, []v{{"", "type", "the event is an array, but must be an object"}}},
		{"null", "raw.gps", "", `null`, []v{{"", "type", "the event is null, but must be an object"}}},
		{"arrays", "dlq.events", "", `{"timestamp":"2026-01-01T00:00:00Z","source":"x","intended_topic":"y","errors":["a",""],"raw_event":{}}`, []v{
			{"/errors/1", "pattern", `errors[1] is blank, but must match the pattern \S`}}},
		{"few items", "dlq.events", "", `{"timestamp":"2026-01-01T00:00:00Z","source":"x","intended_topic":"y","errors":[],"raw_event":{}}`, []v{
			{"/errors", "minItems", `errors has 0 items, but needs at least 1`}}},
		{"sizes", "", `{"properties":{"a":{"minLength":2},"b":{"maxLength":1},"c":{"maxItems":1},"d":{"minProperties":1},"e":{"maxProperties":0},"f":{"multipleOf":2},"g":{"const":4},"h":{"exclusiveMaximum":1},"i":{"format":"ipv4"},"j":{"uniqueItems":true}}}`,
			`{"a":"x","b":"xy","c":[1,2],"d":{},"e":{"x":1},"f":3,"g":{},"h":1,"i":"x","j":[1,1]}`, []v{
				{"/a", "minLength", `a is "x", but needs at least 2 characters`},
				{"/b", "maxLength", `b is "xy", but may have at most 1 characters`},
				{"/c", "maxItems", "c has 2 items, but may have at most 1"},
				{"/d", "minProperties", "d has 0 fields, but needs at least 1"},
				{"/e", "maxProperties", "e has 1 fields, but may have at most 0"},
				{"/f", "multipleOf", "f is 3, but must be a multiple of 2"},
				{"/g", "const", "g is an object, but must be 4"},
				{"/h", "exclusiveMaximum", "h is 1, but must be less than 1"},
				{"/i", "format", `i is "x", but must have the format ipv4`},
				{"/j", "uniqueItems", "j breaks the rule uniqueItems: items at index 0 and 1 are equal"}}},
		{"alternatives", "", `{"properties":{"a":{"anyOf":[{"type":"string"},{"required":["x"],"type":"object"}]},"b":{"oneOf":[{"type":"number"},{"minimum":1}]},"c":{"not":{"type":"string"}},"d":{"contains":{"type":"string"}},"e":false}}`,
			`{"a":1,"b":2,"c":"x","d":[1,2],"e":0}`, []v{
				{"/a", "anyOf", "a fits none of the alternatives of anyOf"},
				{"/b", "oneOf", "b fits more than one of the alternatives of oneOf"},
				{"/c", "not", `c is "x", which the contract excludes`},
				{"/d", "minContains", "d breaks the rule minContains: valid must be >= 1, but got 0"},
				{"/e", "properties", "field e is not allowed by the contract test"}}},
		{"applicators", "", `{"$ref":"#/$defs/base","allOf":[{"required":["b"]}],"if":{"required":["c"]},"then":{"required":["d"]},"dependentRequired":{"c":["e","f/g"]},"unevaluatedProperties":false,"properties":{"c":{},"required":{"type":"null"}},"$defs":{"base":{"properties":{"a":{"$ref":"#/$defs/n"}}},"n":{"type":["number","null"]}}}`,
			`{"a":"x","c":1,"required":1,"z":2}`, []v{
				{"/a", "type", `a is the string "x", but must be a number or null`},
				{"/a", "unevaluatedProperties", "field a is not allowed by the contract test"},
				{"/b", "required", "required field b is missing"},
				{"/d", "required", "required field d is missing"},
				{"/e", "dependentRequired", "field e is missing, which field c requires"},
				{"/f~1g", "dependentRequired", "field f/g is missing, which field c requires"},
				{"/required", "type", "required is the number 1, but must be null"},
				{"/z", "unevaluatedProperties", "field z is not allowed by the contract test"}}},
		{"nested", "", `{"properties":{"p":{"required":["t"],"properties":{"t":{"type":"number"},"properties":{"type":"string"}}},"l":{"items":{"additionalProperties":false,"patternProperties":{"^x":{}}}}}}`,
			`{"p":{"t":null,"properties":1},"l":[{},{"y":1,"x1":2}]}`, []v{
				{"/l/1/y", "additionalProperties", "field l[1].y is not part of the contract test"},
				{"/p/properties", "type", "p.properties is the number 1, but must be a string"},
				{"/p/t", "type", "required field p.t is null"}}},
		{"meta-schema", "", `{"properties":{"s":{"$ref":"https://json-schema.org/draft/2020-12/schema"}}}`, `{"s":{"type":"x"}}`, []v{
			{"/s/type", "anyOf", `s.type fits none of the alternatives of anyOf`}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var c *Contract
			if tc.topic != "" {
				c = embeddedContract(t, tc.topic)
			} else {
				c = contractOf(t, tc.schema)
			}
			agree(t, c, []byte(tc.doc))
			res := c.Validate([]byte(tc.doc), Options{})
			var got []v
			for _, x := range res.Violations {
				got = append(got, v{x.Path, x.Keyword, x.Message})
				assert.Equal(t, c.Name(), x.Contract)
				assert.Equal(t, c.Version(), x.Version)
			}
			assert.Equal(t, tc.want, got)
			assert.Equal(t, event.ClassContract, res.Class)
			assert.True(t, res.Library, "every rejection is the library's")
		})
	}
}

// The schemas' own invalid examples are rejected where and why they claim.
func TestInvalidExamples(t *testing.T) {
	set := embedded(t)
	names, err := fs.Glob(schemas.Examples, "examples/*/invalid/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, names)
	for _, name := range names {
		text, err := fs.ReadFile(schemas.Examples, name)
		require.NoError(t, err)
		var ex struct {
			At, Keyword string
			Event       json.RawMessage
		}
		require.NoError(t, json.Unmarshal(text, &ex))
		c, ok := set.Contract(strings.Split(name, "/")[1])
		require.Truef(t, ok, name)
		res := c.Validate(ex.Event, Options{KeepNulls: true})
		require.Lenf(t, res.Violations, 1, "%s", name)
		got := res.Violations[0]
		assert.Equalf(t, ex.Keyword, got.Keyword, "%s", name)
		if ex.Keyword == "required" || ex.Keyword == "additionalProperties" || ex.Keyword == "dependentRequired" {
			assert.Equalf(t, ex.At, got.Path[:strings.LastIndexByte(got.Path, '/')], "%s", name)
		} else {
			assert.Equalf(t, ex.At, got.Path, "%s", name)
		}
	}
}

func TestMaxErrors(t *testing.T) {
	c := embeddedContract(t, "raw.image2d.meta")
	var doc strings.Builder
	doc.WriteString(`{"device_id":"c","timestamp":"2026-01-01T00:00:00Z","bucket":"b","object_key":"k","object_uri":"s3://b/k","format":"jpg"`)
	for i := range 20 {
		fmt.Fprintf(&doc, `,"x%02d":1`, i)
	}
	doc.WriteString(`}`)
	res := c.Validate([]byte(doc.String()), Options{MaxErrors: 3})
	require.Len(t, res.Violations, 4)
	assert.Equal(t, "/x02", res.Violations[2].Path)
	assert.Equal(t, event.Violation{Keyword: KeywordMaxErrors, Message: "17 more violations are not listed", Contract: c.Name(), Version: c.Version()}, res.Violations[3])
	assert.Len(t, c.Validate([]byte(doc.String()), Options{}).Violations, 11)
	assert.Len(t, c.Validate([]byte(doc.String()), Options{MaxErrors: 20}).Violations, 20)
}

// What a message quotes of an event has a bound.
func TestMessagesAreShort(t *testing.T) {
	c := contractOf(t, `{"additionalProperties":false,"properties":{"a":{"type":"number"},"b":{"enum":["`+strings.Repeat(`long","`, 500)+`"]}}}`)
	long := strings.Repeat("é", 100_000)
	doc := `{"a":"` + long + `","b":"` + long + `","` + long + `":1}`
	res := c.Validate([]byte(doc), Options{})
	require.Len(t, res.Violations, 3)
	for _, v := range res.Violations {
		assert.LessOrEqual(t, len(v.Message), 500)
		assert.LessOrEqual(t, len(v.Path), 300)
	}
}

func TestNullFields(t *testing.T) {
	c := contractOf(t, `{"required":["r"],"properties":{"r":{"type":"number"},"o":{"type":"number"},"n":{"type":["number","null"]},"e":{"enum":[null,1]},"any":{}},
		"allOf":[{"properties":{"deep":{"type":"string"}},"required":["r2"]}]}`)
	for doc, want := range map[string]string{
		`{"r":1,"r2":1,"o":null}`:                         `{"r":1,"r2":1}`,
		` { "o" : null , "r" : 1 , "r2":[ 1, 2 ] } `:      `{"r":1,"r2":[ 1, 2 ]}`,
		`{"r":1,"r2":1,"\u006f":null,"deep":null}`:        `{"r":1,"r2":1}`,
		`{"r":1,"r2":1,"n":null,"e":null,"any":null}`:     `{"r":1,"r2":1,"n":null,"e":null,"any":null}`,
		`{"r":1,"r2":1,"unknown":null}`:                   `{"r":1,"r2":1,"unknown":null}`,
		`{"r":1,"r2":1,"o":1,"o":null}`:                   `{"r":1,"r2":1}`,
		`{"r":1,"r2":1,"o":null,"o":1}`:                   `{"r":1,"r2":1,"o":1}`,
		`{"r":1,"r2":1,"o":1,"o":2,"p":{"a":1,"a":null}}`: `{"r":1,"r2":1,"o":2,"p":{"a":null}}`,
	} {
		given := []byte(doc)
		res := c.Validate(given, Options{})
		assert.Truef(t, res.Valid(), "%s: %v", doc, res.Violations)
		assert.Equal(t, want, string(res.Doc))
		assert.Equal(t, doc != want, res.Rewritten(given))
		assert.Equal(t, doc, string(given))
	}
	res := c.Validate([]byte(`{"r":null,"r2":1,"o":null}`), Options{})
	require.Len(t, res.Violations, 1, "only the required null is a violation")
	assert.Equal(t, "required field r is null", res.Violations[0].Message)
	assert.Zero(t, res.Stripped)
	res = c.Validate([]byte(`{"r":1,"r2":1,"o":null}`), Options{KeepNulls: true})
	require.Len(t, res.Violations, 1)
	assert.Equal(t, "o is null, but must be a number", res.Violations[0].Message)
}
