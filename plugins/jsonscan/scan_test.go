// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package jsonscan

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestDocument(t *testing.T) {
	for _, test := range []struct {
		name, text string
		kind       Kind
		notes      Notes
		reason     string // part of the error; empty when the text is fine
		limit      bool
	}{
		{name: "object", text: ` {"a":1, "b":[true,null,"x"]} `, kind: Object},
		{name: "array", text: `[1,-0.5e-3]`, kind: Array},
		{name: "empty object", text: `{}`, kind: Object},
		{name: "empty array", text: `[ ]`, kind: Array},
		{name: "string", text: `"kuh-ä 牛 🐄"`, kind: String},
		{name: "bool", text: `true`, kind: Bool},
		{name: "null", text: `null`, kind: Null},
		{name: "big number", text: `123456789012345678901234567890`, kind: Number},
		{name: "duplicate key", text: `{"a":1,"b":2,"a":3}`, kind: Object, notes: DuplicateKeys},
		{name: "duplicate deep", text: `{"x":[{"lat":1,"lat":2}]}`, kind: Object, notes: DuplicateKeys},
		{name: "same key at two levels", text: `{"a":{"a":1},"b":{"a":2}}`, kind: Object},
		{name: "escaped key is suspect", text: `{"\u0061":1}`, kind: Object, notes: DuplicateKeys},
		{name: "surrogate pair", text: `"\ud83d\ude00"`, kind: String},
		{name: "lone surrogate", text: `{"s":"\ud83dx"}`, kind: Object, notes: LoneSurrogate},
		{name: "lone low surrogate", text: `"\udc00"`, kind: String, notes: LoneSurrogate},
		{name: "empty", text: ``, reason: "no JSON value"},
		{name: "space only", text: " \n", reason: "no JSON value"},
		{name: "NaN", text: `{"lat":NaN}`, reason: "cannot begin a value at byte 7"},
		{name: "truncated", text: `{"lat":47.1,"lo`, reason: "text ends inside a string"},
		{name: "trailing comma", text: `[1,]`, reason: "cannot begin a value"},
		{name: "trailing text", text: `{} x`, reason: "text after the JSON value at byte 3"},
		{name: "byte order mark", text: "\ufeff{}", reason: "cannot begin a value"},
		{name: "control character", text: "\"a\x00b\"", reason: "raw control character"},
		{name: "invalid UTF-8", text: "\"a\xffb\"", reason: "invalid UTF-8 in a string at byte 2"},
		{name: "encoded surrogate", text: "\"\xed\xa0\x80\"", reason: "invalid UTF-8"},
		{name: "leading zero", text: `01`, reason: "text after the JSON value"},
		{name: "bare minus", text: `-`, reason: "a digit is due"},
		{name: "open fraction", text: `1.`, reason: "after the decimal point"},
		{name: "open exponent", text: `1e+`, reason: "in an exponent"},
		{name: "bad escape", text: `"\x"`, reason: "unknown escape"},
		{name: "short unicode escape", text: `"\u12"`, reason: "four hexadecimal digits"},
		{name: "misspelt literal", text: `nul`, reason: "neither null"},
		{name: "number of 1000 characters", text: strings.Repeat("9", 1000), kind: Number},
		{name: "number of 1001 characters", text: strings.Repeat("9", 1001), reason: "more than 1000 characters", limit: true},
		{name: "exponent at the limit", text: `1e1000`, kind: Number},
		{name: "exponent with leading zeros", text: `1e-0001000`, kind: Number},
		{name: "exponent beyond the limit", text: `1e1001`, reason: "exponent beyond", limit: true},
		{name: "exponent that makes parsers panic", text: `1e10000000`, reason: "exponent beyond", limit: true},
		{name: "128 levels", text: strings.Repeat("[", 128) + strings.Repeat("]", 128), kind: Array},
		{name: "129 levels", text: strings.Repeat("[", 129) + strings.Repeat("]", 129), reason: "nesting deeper than 128", limit: true},
		{name: "129 objects", text: strings.Repeat(`{"n":`, 129) + "1" + strings.Repeat("}", 129), reason: "nesting deeper than 128", limit: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			var s Scanner
			_, _, kind, err := s.Document([]byte(test.text), 0)
			if test.reason != "" {
				require.ErrorContains(t, err, test.reason)
				var e *Error
				require.ErrorAs(t, err, &e)
				require.Equal(t, test.limit, e.Limit)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.kind, kind)
			require.Equal(t, test.notes, s.Notes)
		})
	}
}

func TestDocumentCountsTheNestingAround(t *testing.T) {
	var s Scanner
	text := []byte(strings.Repeat("[", 127) + strings.Repeat("]", 127))
	_, _, _, err := s.Document(text, 1)
	require.NoError(t, err)
	_, _, _, err = s.Document(text, 2)
	require.ErrorContains(t, err, "nesting deeper")
}

func TestMembers(t *testing.T) {
	text := []byte(` { "lat" : 47.5 , "tags":{"a":[1]}, "\u0061":"x" } `)
	var s Scanner
	_, _, kind, err := s.Document(text, 0)
	require.NoError(t, err)
	require.Equal(t, Object, kind)
	require.Len(t, s.Members, 3)
	m := s.Members[0]
	require.Equal(t, `"lat"`, string(text[m.Key:m.KeyEnd]))
	require.Equal(t, `47.5`, string(text[m.Value:m.ValueEnd]))
	require.Equal(t, Number, m.Kind)
	require.Equal(t, Object, s.Members[1].Kind)
	require.True(t, s.Members[2].Escaped)
	require.Equal(t, "a", string(AppendText(nil, text[s.Members[2].Key:s.Members[2].KeyEnd])))

	_, _, _, err = s.Document([]byte(`[1]`), 0)
	require.NoError(t, err)
	require.Empty(t, s.Members)
}

func TestManyKeysStayLinear(t *testing.T) {
	var b strings.Builder
	b.WriteByte('{')
	for i := range 3000 {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`"k`)
		b.WriteString(strings.Repeat("x", i%7))
		b.WriteByte(byte('a' + i%26))
		b.WriteString(`":0`)
	}
	b.WriteByte('}')
	var s Scanner
	_, _, _, err := s.Document([]byte(b.String()), 0)
	require.NoError(t, err)
	require.NotZero(t, s.Notes&DuplicateKeys)
	require.LessOrEqual(t, len(s.hashes), manyKeys)
}

func TestAppendCanonical(t *testing.T) {
	for text, want := range map[string]string{
		` {"a" : 1, "b":[ 1 , 2 ] } `:        `{"a":1,"b":[1,2]}`,
		`{"a":1,"b":2,"a":3}`:                `{"a":3,"b":2}`,
		`{"a":1,"\u0061":{"x":1,"x":21.50}}`: `{"a":{"x":21.50}}`,
		`["\ud800","\ud83d\ude00"]`:          `["` + "\ufffd" + `","\ud83d\ude00"]`,
		`123456789012345678901234567890`:     `123456789012345678901234567890`,
		`{"a":{},"b":[]}`:                    `{"a":{},"b":[]}`,
	} {
		require.Equal(t, want, string(AppendCanonical(nil, []byte(text))), text)
	}
}

func TestAppendString(t *testing.T) {
	for _, text := range []string{"", "plain", "quote \" slash \\", "tab\tnul\x00\x1f", "kuh-ä 🐄", "bad \xff\xfe end"} {
		quoted := AppendString(nil, text)
		require.Equal(t, quoted, AppendString(nil, []byte(text)))
		var back string
		require.NoError(t, json.Unmarshal(quoted, &back), "%s", quoted)
		require.Equal(t, strings.ToValidUTF8(strings.ReplaceAll(text, "\xff\xfe", "\ufffd\ufffd"), "\ufffd"), back)
	}
}

func decode(t *testing.T, text []byte) any {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var v any
	require.NoError(t, dec.Decode(&v))
	return v
}

// FuzzDocument holds the scanner against encoding/json: they must agree on
// what is JSON, but for the limits and for invalid UTF-8, which encoding/json
// lets pass.
func FuzzDocument(f *testing.F) {
	for _, seed := range []string{
		`{"timestamp":"2026-01-01T00:00:00Z","lat":47.695,"lon":9.132,"nested":{"a":[1,2,{"b":null}]}}`,
		`{"a":1,"a":2}`, `"\ud83d\ude00\ud800"`, `[1e10,-0.0,1E-5]`, `{"a`, "\xff", `nul`, `  true `, `{"\"":"\\"}`, `"01234567\u00e9\n"`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var s Scanner
		start, end, kind, err := s.Document(text, 0)
		if err != nil {
			var e *Error
			require.True(t, errors.As(err, &e))
			if json.Valid(text) && utf8.Valid(text) && !e.Limit {
				t.Fatalf("scanner refuses %q: %v", text, err)
			}
			return
		}
		if !json.Valid(text) {
			t.Fatalf("scanner accepts %q", text)
		}
		value := text[start:end]
		want := decode(t, value)
		if kind == Object {
			for _, m := range s.Members {
				require.True(t, json.Valid(text[m.Value:m.ValueEnd]))
			}
		}
		canonical := AppendCanonical(nil, value)
		if !reflect.DeepEqual(want, decode(t, canonical)) {
			t.Fatalf("canonical form of %q is %q", value, canonical)
		}
		if _, _, _, err := s.Document(canonical, 0); err != nil {
			t.Fatalf("canonical form %q is refused: %v", canonical, err)
		}
		if s.Notes&LoneSurrogate != 0 {
			t.Fatalf("canonical form %q keeps a lone surrogate", canonical)
		}
	})
}

var gpsPayload = []byte(`{"timestamp":"2026-05-04T10:11:12.345Z","latitude":47.6951234,"longitude":9.1323456,"altitude_m":411.2,"speed_m_s":0.42,"heading_deg":84.5,"hdop":0.9,"battery_v":3.71,"fix":"3d","sats":11}`)

func BenchmarkDocument(b *testing.B) {
	b.ReportAllocs()
	b.SetBytes(int64(len(gpsPayload)))
	var s Scanner
	for b.Loop() {
		if _, _, _, err := s.Document(gpsPayload, 0); err != nil {
			b.Fatal(err)
		}
	}
}
