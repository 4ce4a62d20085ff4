// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"fmt"
	"math/big"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dealiot/dealiot-connect/plugins/jsonscan"
)

func contractOf(t testing.TB, schema string) *Contract {
	t.Helper()
	c, err := load("test", []byte(schema))
	require.NoError(t, err)
	return c
}

// What the compiled form decides by itself, and what it leaves to the library.
// Each document is also put before both judges.
func TestFastPath(t *testing.T) {
	closed := `{"type":"object","additionalProperties":false,"required":["a"],"properties":{"a":{"type":"integer"},"b":{"type":"string"}}}`
	for _, tc := range []struct {
		name, schema string
		accepts      []string
		leaves       []string // valid, but the library has to say so
		rejects      []string // invalid
	}{
		{"types", `{"type":["string","null"]}`, []string{`"a"`, `null`, ` "\u0041" `}, nil, []string{`1`, `[]`, `{}`, `true`}},
		{"boolean", `{"type":"boolean"}`, []string{`true`, `false`}, nil, []string{`null`, `0`, `"true"`}},
		{"anything", `{}`, []string{`{"a":[1,{"b":null}]}`, `1e400`, `""`}, nil, nil},
		{"integer", `{"type":"integer"}`, []string{`1`, `-0`, `10.0`, `-0.0`, `10.00`}, []string{`1e2`, `100e-2`, `12345678901234567890`, `1.0000000000000000000`}, []string{`1.5`, `1e-1`, `"1"`}},
		{"number", `{"type":"number"}`, []string{`1`, `1e2`, `1e400`, `-0.1`, strings.Repeat("9", 900)}, nil, []string{`"1"`, `null`}},
		{"bounds", `{"minimum":-90,"maximum":90}`, []string{`90`, `-90`, `90.0`, `89.9999999999999999`, `"text"`}, []string{`9e1`, `90.0000000000000000000`}, []string{`90.0000000000000001`, `90.00000000000000000001`, `-90.1`, `1e3`}},
		{"exclusive bounds", `{"exclusiveMinimum":0,"exclusiveMaximum":0.5}`, []string{`0.1`, `0.000000000000000001`, `0.499999999999999999`}, []string{`1e-5`}, []string{`0`, `0.5`, `0.50`, `-1`}},
		{"odd bounds", `{"minimum":0.333,"maximum":1e30}`, []string{`0.333`, `0.3330`, `1`}, []string{`999999999999999999999`}, []string{`0.3329`, `0`}},
		{"enum", `{"enum":["a","é",1,null,true,{"x":1}]}`, []string{`"a"`, `"é"`, `"\u00e9"`, `1`, `1.0`, `null`, `true`}, []string{`1e0`, `{"x":1}`}, []string{`"b"`, `false`, `2`, `[]`}},
		{"const", `{"const":1.5}`, []string{`1.5`, `1.50`}, []string{`15e-1`}, []string{`"1.5"`, `1`}},
		{"length", `{"minLength":2,"maxLength":3}`, []string{`"ab"`, `"éüß"`, `"\ud83d\ude00x"`, `7`}, nil, []string{`""`, `"a"`, `"abcd"`}},
		{"long escapes", `{"minLength":2}`, nil, []string{`"\n` + strings.Repeat("x", 300) + `"`}, nil},
		{"items", `{"minItems":1,"maxItems":2,"prefixItems":[{"type":"string"}],"items":{"type":"number"}}`, []string{`["a"]`, `["a",1]`, `{}`}, nil, []string{`[]`, `[1]`, `["a","b"]`, `["a",1,1]`}},
		{"no items", `{"prefixItems":[{}],"items":false}`, []string{`[]`, `[1]`}, nil, []string{`[1,2]`}},
		{"closed object", closed, []string{`{"a":1}`, `{"b":"","a":1}`, `{"\u0061":1}`, " {\n\"a\" :\t1 }\r\n"}, []string{`{"a":1,"a":2}`, `{"a":1,"\u0061":"x","a":2}`, `{"a":1.0e0}`}, []string{`{}`, `{"a":1,"c":1}`, `{"a":1,"b":1}`, `{"a":1,"a":"x"}`}},
		{"open object", `{"properties":{"a":{"type":"integer"}}}`, []string{`{}`, `{"x":1,"x":2}`, `{"a":1,"x":{"a":"b"}}`}, nil, []string{`{"a":"b"}`}},
		{"more by schema", `{"properties":{"a":{}},"additionalProperties":{"type":"integer"}}`, []string{`{"a":"x","b":1}`, `{"b":1,"b":2}`}, []string{`{"b":"x","b":2}`}, []string{`{"b":"x"}`}},
		{"required without schema", `{"required":["a"],"additionalProperties":{"type":"integer"}}`, []string{`{"a":1}`}, nil, []string{`{"a":"x"}`, `{"b":1}`}},
		{"forbidden field", `{"properties":{"a":false}}`, []string{`{}`, `{"b":1}`}, nil, []string{`{"a":1}`}},
		{"dependent", `{"dependentRequired":{"a":["b","c"]}}`, []string{`{}`, `{"b":1}`, `{"a":1,"b":1,"c":1}`}, nil, []string{`{"a":1}`, `{"a":1,"b":1}`}},
		{"members", `{"minProperties":1,"maxProperties":2}`, []string{`{"a":1}`, `{"a":1,"b":2}`, `[]`}, []string{`{"a":1,"a":1,"a":1}`}, []string{`{}`, `{"a":1,"b":1,"c":1}`}},
		{"references", `{"$ref":"#/$defs/node","$defs":{"node":{"type":"object","properties":{"next":{"$ref":"#/$defs/node"}}}}}`,
			[]string{`{"next":{"next":{}}}`}, nil, []string{`{"next":{"next":1}}`}},
		{"left to the library", `{"properties":{"a":{"anyOf":[{"type":"string"},{"type":"null"}]},"b":{"multipleOf":2}}}`,
			[]string{`{}`, `{"c":1}`}, []string{`{"a":"x"}`, `{"b":4}`}, []string{`{"a":1}`, `{"b":3}`}},
		{"unknown format", `{"format":"farm-id"}`, []string{`"x"`}, nil, nil},
		{"format of the library's", `{"format":"ipv4"}`, nil, []string{`"127.0.0.1"`, `1`}, []string{`"x"`}},
		{"date-time", `{"format":"date-time"}`, []string{`"2026-01-01T00:00:00Z"`, `"2024-02-29t23:59:59.5+05:30"`, `"2026-01-01T00:00:00\u005a"`, `5`},
			[]string{`"2026-06-30T23:59:60Z"`}, []string{`"2026-02-29T00:00:00Z"`, `"2026-01-01"`, `"2026-01-01T24:00:00Z"`}},
		{"beyond the bits", manyFields(65), nil, []string{`{"f1":1}`}, []string{`{"f1":""}`}},
		{"as many as bits", manyFields(64), []string{`{"f1":1}`, `{"f63":1}`}, nil, []string{`{"f63":""}`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := contractOf(t, tc.schema)
			for _, doc := range tc.accepts {
				fast, valid := agree(t, c, []byte(doc))
				assert.Truef(t, valid && fast, "valid %v, by the compiled form %v: %s", valid, fast, doc)
			}
			for _, doc := range tc.leaves {
				fast, valid := agree(t, c, []byte(doc))
				assert.Truef(t, valid && !fast, "valid %v, by the compiled form %v: %s", valid, fast, doc)
			}
			for _, doc := range tc.rejects {
				fast, valid := agree(t, c, []byte(doc))
				assert.Falsef(t, valid || fast, "valid %v, by the compiled form %v: %s", valid, fast, doc)
			}
		})
	}
}

func manyFields(n int) string {
	var fields []string
	for i := range n {
		fields = append(fields, fmt.Sprintf(`"f%d":{"type":"integer"}`, i))
	}
	return `{"properties":{` + strings.Join(fields, ",") + `}}`
}

// Text that is not JSON, or beyond the limits, never reaches the library.
func TestDecodeFaults(t *testing.T) {
	c := contractOf(t, `{}`)
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for doc, want := range map[string]string{
		"":                          "no JSON value at byte 0",
		"  ":                        "no JSON value at byte 2",
		"NaN":                       "cannot begin a value at byte 0",
		`{"a":1}x`:                  "text after the JSON value at byte 7",
		`{"a":1`:                    "text ends inside an object at byte 6",
		"\"\xff\"":                  "invalid UTF-8 in a string at byte 1",
		"1e10000000":                "number with an exponent beyond ±1000 at byte 0",
		strings.Repeat("1", 1001):   "number of more than 1000 characters at byte 0",
		deep(jsonscan.MaxDepth + 1): "nesting deeper than 128 levels at byte 128",
		deep(10000):                 "nesting deeper than 128 levels at byte 128",
		"\xef\xbb\xbf{}":            "cannot begin a value at byte 0",
	} {
		agree(t, c, []byte(doc))
		res := c.Validate([]byte(doc), Options{})
		require.Len(t, res.Violations, 1)
		assert.Containsf(t, res.Violations[0].Message, want, "%.40q", doc)
	}
	agree(t, c, []byte(deep(jsonscan.MaxDepth)))
	assert.True(t, c.fast.accepts([]byte(deep(jsonscan.MaxDepth))))
}

// A new field in the library's compiled schema may be a keyword that the
// compiled form does not know to leave alone.
func TestLibrarySchemaIsKnown(t *testing.T) {
	known := strings.Fields(`Location Draft Format Always Ref RecursiveAnchor RecursiveRef DynamicAnchor DynamicRef Types Constant Enum Not
		AllOf AnyOf OneOf If Then Else MinProperties MaxProperties Required Properties PropertyNames RegexProperties PatternProperties
		AdditionalProperties Dependencies DependentRequired DependentSchemas UnevaluatedProperties MinItems MaxItems UniqueItems Items
		AdditionalItems PrefixItems Items2020 Contains ContainsEval MinContains MaxContains UnevaluatedItems MinLength MaxLength Pattern
		ContentEncoding ContentMediaType ContentSchema Minimum ExclusiveMinimum Maximum ExclusiveMaximum MultipleOf
		Title Description Default Comment ReadOnly WriteOnly Examples Deprecated Extensions
		meta vocab dynamicAnchors format dynamicRefAnchor enumError decoder mediaType`)
	for i := range reflect.TypeFor[jsonschema.Schema]().NumField() {
		name := reflect.TypeFor[jsonschema.Schema]().Field(i).Name
		assert.Truef(t, slices.Contains(known, name), "jsonschema.Schema has a new field %s: see covered and build", name)
	}
}

func TestAcceptAllocatesNothing(t *testing.T) {
	for topic, doc := range benchEvents {
		c := embeddedContract(t, topic)
		text := []byte(strings.Replace(doc, `"mqtt-bridge"`, `"m\u00e4h"`, 1))
		text = []byte(strings.Replace(string(text), `0Z"`, `0\u005a"`, 1))
		require.True(t, c.fast.accepts(text))
		assert.Zerof(t, testing.AllocsPerRun(100, func() { c.Validate(text, Options{}) }), "%s", topic)
	}
}

func TestNames(t *testing.T) {
	var list []field
	for i := range maxNames {
		// Same length, same first and last eight bytes: all collide.
		list = append(list, field{name: fmt.Sprintf("averylongname-%02d-averylongname", i), bit: 1 << i})
	}
	table := newNames(list)
	for i, f := range list {
		got := table.find([]byte(f.name))
		require.NotNilf(t, got, "%s", f.name)
		assert.Equal(t, uint64(1)<<i, got.bit)
	}
	assert.Nil(t, table.find([]byte("averylongname-99-averylongname")))
	assert.Nil(t, table.find(nil))
	for _, name := range []string{"", "a", "ab", "abc", "abcd", "abcdefg", "abcdefgh", "abcdefghi"} {
		one := newNames([]field{{name: name, bit: 1}})
		assert.NotNilf(t, one.find([]byte(name)), "%q", name)
		assert.Nilf(t, one.find([]byte(name+"x")), "%q", name)
	}
}

func FuzzPattern(f *testing.F) {
	for _, p := range []string{`\S`, `^[0-9a-f]{32}$`, `^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$`, `^\d+\.\d+$`, `a|^b|c$`, `^$`, ``, `(ab)*c`, `^(a|b)*$`,
		`[^a]`, `.`, `(?s).`, `\bword\b`, `(?i)abc`, `(?m)^x$`, `^a*?b+?c{2,3}$`, `[\p{L}]+`, `^\z`, `x^`, `$x`, `(^a)|(b$)|(^)`, `[[:word:]]é`, `^.{1,64}$`} {
		for _, s := range []string{"", "a", "abc", "0123456789abcdef0123456789abcdef", " ", "\n", "é", "日本", "x\nx", "word", "ABC", "a\x00b"} {
			f.Add(p, s)
		}
	}
	f.Fuzz(func(t *testing.T, expression, text string) {
		re, err := regexp.Compile(expression)
		if err != nil || !utf8.ValidString(text) || len(expression) > 200 {
			return
		}
		if p := newPattern(re); p != nil {
			require.Equalf(t, re.MatchString(text), p.match([]byte(text)), "%q on %q", expression, text)
		}
	})
}

func TestPatternsOfContractsCompile(t *testing.T) {
	for _, p := range []string{`\S`, `^[0-9a-f]{32}$`, `^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$`, `^\d+\.\d+\.\d+$`, `[\p{L}]`} {
		assert.NotNilf(t, newPattern(regexp.MustCompile(p)), "%s", p)
	}
	for _, p := range []string{`\bx`, `(?i)x`, `(?m)^x`, `^.{600}$`} {
		assert.Nilf(t, newPattern(regexp.MustCompile(p)), "%s", p)
	}
}

func FuzzNumber(f *testing.F) {
	for _, n := range []string{"0", "-0.0", "1.5", "90.000000000000001", "123456789012345678", "1234567890123456789", "0.0000000000000000001", "1e5", "-1.0"} {
		f.Add(n, "90", "-0.5")
	}
	f.Fuzz(func(t *testing.T, number, low, high string) {
		var bounds [2]*big.Rat
		for i, text := range []string{low, high} {
			if end, err := jsonscan.ScanNumber([]byte(text), 0); err != nil || end != len(text) {
				return
			}
			bounds[i], _ = new(big.Rat).SetString(text)
		}
		if end, err := jsonscan.ScanNumber([]byte(number), 0); err != nil || end != len(number) {
			return
		}
		d, integral, ok := plainNumber([]byte(number))
		if !ok {
			return
		}
		x, _ := new(big.Rat).SetString(number)
		require.Equal(t, x.IsInt(), integral)
		require.Equal(t, x.Cmp(bounds[0]) >= 0 && x.Cmp(bounds[1]) <= 0, newInterval(bounds[0], nil, bounds[1], nil).contains(d))
		require.Equal(t, x.Cmp(bounds[0]) > 0 && x.Cmp(bounds[1]) < 0, newInterval(nil, bounds[0], nil, bounds[1]).contains(d))
	})
}

var plainDateTime = regexp.MustCompile(`^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$`)

func FuzzDateTime(f *testing.F) {
	for _, s := range []string{"2026-01-01T00:00:00Z", "2024-02-29t23:59:59.999z", "2026-02-29T00:00:00Z", "1900-02-29T00:00:00Z", "2000-02-29T00:00:00-23:59",
		"2026-01-01T00:00:60Z", "2026-01-01T00:00:00", "2026-1-1T00:00:00Z", "2026-01-01T+1:00:00Z", "0000-02-29T00:00:00Z", "2026-01-01T00:00:00.+01:00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for name, known := range formats {
			if known.accepts([]byte(s)) {
				require.Truef(t, jsonschema.Formats[name](s), "%s accepts %q, the library does not", name, s)
			}
		}
		// But for leap seconds it misses nothing that RFC 3339 has. (The
		// library also takes "+1" for two digits.)
		if plainDateTime.MatchString(s) && jsonschema.Formats["date-time"](s) && !strings.Contains(s, ":60") {
			require.Truef(t, formatDateTime.accepts([]byte(s)), "%q", s)
		}
	})
}

func FuzzLoadSet(f *testing.F) {
	for _, schema := range []string{`{}`, `true`, `[]`, `{"type":"object"}`, `{"$ref":"#"}`, `{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/a"}}}`,
		`{"pattern":"(?!x)"}`, `{"minimum":1e400}`, `{"$ref":"http://example.org/x"}`, `{"$schema":"http://json-schema.org/draft-07/schema#"}`,
		`{"$id":"x","properties":{"a":{"$id":"y","$ref":"z"}}}`, `{"allOf":[{"$ref":"#"}]}`, `{"properties":{"a":{"$dynamicRef":"#x"}},"$dynamicAnchor":"x"}`,
		`{"minLength":1e30,"maxProperties":1e300,"enum":[]}`, `{"x-version":1}`, `{"format":"regex","pattern":"^(a|b)*$","const":{"a":[1]}}`,
		`{"additionalProperties":{"$ref":"#/properties/a"},"properties":{"a":{"items":{"$ref":"#"}}}}`, "\xff", `{"$ref":"#/%zz"}`, `{"$ref":":"}`} {
		f.Add([]byte(schema), []byte(`{"a":[1,{"a":null}],"b":"x"}`))
	}
	f.Fuzz(func(t *testing.T, schema, doc []byte) {
		set, err := LoadSet(fstest.MapFS{"a.schema.json": {Data: schema}})
		if err != nil {
			require.Contains(t, err.Error(), "a.schema.json")
			return
		}
		c, ok := set.Contract("a")
		require.True(t, ok)
		fast := c.fast.accepts(doc)
		res := c.Validate(doc, Options{KeepNulls: true})
		if value, err := decode(doc); err == nil && res.Class != "decode" {
			library := validate(c.library, value) == nil
			require.Falsef(t, fast && !library, "schema %s accepts %s", schema, doc)
			require.Equalf(t, library, res.Valid(), "schema %s, document %s", schema, doc)
		}
	})
}
