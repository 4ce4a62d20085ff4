// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dealiot/dealiot-connect/plugins/event"
	"github.com/dealiot/dealiot-connect/plugins/jsonscan"
	"github.com/dealiot/dealiot-connect/schemas"
)

// agree checks one document against the library alone: what the compiled form
// accepts the library accepts; what Validate says and hands on is what the
// library says of the decoded document without its strippable nulls.
func agree(t *testing.T, c *Contract, doc []byte) (fast, valid bool) {
	t.Helper()
	before := string(doc)
	fast = c.fast.accepts(doc)
	res := c.Validate(doc, Options{})
	kept := c.Validate(doc, Options{KeepNulls: true})
	require.Equal(t, before, string(doc), "the document was changed in place")

	var sc jsonscan.Scanner
	if _, _, _, err := sc.Document(doc, 0); err != nil {
		require.Falsef(t, fast, "accepts what is not JSON (%v): %q", err, doc)
		for _, r := range []Result{res, kept} {
			require.Equalf(t, event.ClassDecode, r.Class, "%q", doc)
			require.Len(t, r.Violations, 1)
			require.False(t, r.Library)
		}
		return false, false
	}
	value, err := decode(doc)
	require.NoErrorf(t, err, "the scanner lets through what the decoder refuses: %q", doc)

	asIs := validate(c.library, value) == nil
	require.Falsef(t, fast && !asIs, "%s: the compiled form accepts what the library rejects: %q", c.name, doc)
	require.Equalf(t, asIs, kept.Valid(), "%s, nulls kept: %q: %+v", c.name, doc, kept.Violations)

	stripped := 0
	if object, ok := value.(map[string]any); ok {
		stripped = stripDecoded(c, object)
	}
	valid = validate(c.library, value) == nil
	require.Equalf(t, valid, res.Valid(), "%s: %q: %+v", c.name, doc, res.Violations)
	if valid {
		require.Equalf(t, stripped, res.Stripped, "nulls stripped from %q", doc)
		handedOn, err := decode(res.Doc)
		require.NoErrorf(t, err, "handed on: %q", res.Doc)
		require.Truef(t, reflect.DeepEqual(value, handedOn), "judged %v, handed on %v", value, handedOn)
		return fast, true
	}
	require.NotEmpty(t, res.Violations)
	require.LessOrEqual(t, len(res.Violations), DefaultMaxErrors+1)
	require.Equal(t, &doc[0], &res.Doc[0], "a rejected document is handed on as it is")
	for _, v := range res.Violations {
		require.NotEmpty(t, v.Keyword)
		require.NotEmpty(t, v.Message)
		require.LessOrEqual(t, len(v.Path), maxPathLen+len("…"))
		require.LessOrEqual(t, len(v.Message), 1000)
	}
	return fast, false
}

// stripDecoded takes the strippable nulls out of a decoded event, by the
// contract's text alone.
func stripDecoded(c *Contract, object map[string]any) (n int) {
	root := c.source.(map[string]any)
	properties, _ := root["properties"].(map[string]any)
	required, _ := root["required"].([]any)
	for name, property := range properties {
		if value, there := object[name]; !there || value != nil || slices.Contains(required, any(name)) {
			continue
		}
		text, _ := json.Marshal(property.(map[string]any)["type"])
		if judged := string(text); judged == `"boolean"` || judged == `"object"` || judged == `"array"` {
			continue
		}
		if validate(c.library.Properties[name], nil) != nil {
			delete(object, name)
			n++
		}
	}
	return n
}

// validExamples are the schemas' own examples by topic.
func validExamples(t testing.TB) map[string][][]byte {
	t.Helper()
	names, err := fs.Glob(schemas.Examples, "examples/*/valid/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, names)
	docs := map[string][][]byte{}
	for _, name := range names {
		doc, err := fs.ReadFile(schemas.Examples, name)
		require.NoError(t, err)
		topic := strings.Split(name, "/")[1]
		docs[topic] = append(docs[topic], doc)
	}
	return docs
}

// FuzzFastAgreesWithLibrary tries arbitrary bytes, and mutations of valid
// examples, on an embedded contract.
func FuzzFastAgreesWithLibrary(f *testing.F) {
	set := embedded(f)
	topics := set.Names()
	examples := validExamples(f)
	at := func(topic string) uint8 { return uint8(slices.Index(topics, topic)) }
	for topic, docs := range examples {
		for i, doc := range docs {
			f.Add(at(topic), uint64(i), doc)
		}
	}
	for i, row := range goldenRows(f) {
		if _, ok := set.Contract(row.Topic); ok {
			f.Add(at(row.Topic), uint64(i), []byte(row.EventJSON))
		}
	}
	for topic, doc := range benchEvents {
		f.Add(at(topic), uint64(1), []byte(doc))
	}
	f.Fuzz(func(t *testing.T, which uint8, seed uint64, doc []byte) {
		topic := topics[int(which)%len(topics)]
		c, _ := set.Contract(topic)
		agree(t, c, doc)
		if docs := examples[topic]; len(docs) > 0 {
			rnd := rand.New(rand.NewPCG(seed, uint64(which)))
			agree(t, c, mutate(rnd, docs[rnd.IntN(len(docs))]))
		}
	})
}

// The two judges agree on mutated examples, and the compiled form had its say
// in enough of them for that to mean something.
func TestJudgesAgreeOnMutations(t *testing.T) {
	set := embedded(t)
	total, valid, fast := 0, 0, 0
	for topic, docs := range validExamples(t) {
		c, ok := set.Contract(topic)
		require.True(t, ok, topic)
		rnd := rand.New(rand.NewPCG(1, uint64(len(topic))))
		for range 200 {
			f, v := agree(t, c, mutate(rnd, docs[rnd.IntN(len(docs))]))
			total++
			if v {
				valid++
			}
			if f {
				fast++
			}
		}
	}
	t.Logf("%d mutations: %d valid, %d of them accepted by the compiled form alone", total, valid, fast)
	assert.Greater(t, valid, total/5)
	assert.Greater(t, total-valid, total/5)
	assert.Greater(t, fast, valid/2)
}

// The compiled form decides nearly all valid events by itself, contract by
// contract, else its speed is one on paper.
func TestCompiledFormDecides(t *testing.T) {
	set := embedded(t)
	for topic, docs := range validExamples(t) {
		c, _ := set.Contract(topic)
		for _, doc := range docs {
			assert.Truef(t, c.fast.accepts(doc), "%s: valid example is left to the library: %s", topic, doc)
		}
	}
	allValid, allFast := 0, 0
	for _, topic := range set.Names() {
		c, _ := set.Contract(topic)
		rnd := rand.New(rand.NewPCG(2, uint64(len(topic))))
		valid, fast := 0, 0
		for range 300 {
			doc := generate(t, rnd, c.source.(map[string]any))
			f, v := agree(t, c, doc)
			if v {
				valid++
			}
			if f {
				fast++
			}
		}
		assert.Greaterf(t, valid, 100, "%s: the generator makes too few valid events", topic)
		assert.GreaterOrEqualf(t, float64(fast), 0.9*float64(valid), "%s: share decided by the compiled form", topic)
		allValid += valid
		allFast += fast
	}
	t.Logf("%d contracts, %d valid events generated, %d (%.1f %%) accepted by the compiled form alone",
		len(set.Names()), allValid, allFast, 100*float64(allFast)/float64(allValid))
}

// generate makes an event after a contract: required fields always, optional
// ones half the time, values as devices write them.
func generate(t testing.TB, rnd *rand.Rand, schema map[string]any) []byte {
	t.Helper()
	return writeJSON(rnd, generateValue(t, rnd, schema), rnd.IntN(4) == 0)
}

// ordered is an object with its members in the order to write them, names
// repeated as they are.
type ordered []orderedMember

type orderedMember struct {
	name  string
	value any
}

// rawText is written as it is.
type rawText string

var textCandidates = []string{
	"cow-7", "0123456789abcdef0123456789abcdef", "1.0.0", "Kälte-Sensor 12 °C", "2026-05-04", "s3://bucket/key.jpg", "sha256:9f86d081",
	"cow-7|gps", "a", "line\nbreak", "\"quoted\" \\ back", "日本語", "16Uiu2HAm", "https://example.org/x", "DE", "P30D",
}

func generateValue(t testing.TB, rnd *rand.Rand, schema map[string]any) any {
	t.Helper()
	if list, ok := schema["enum"].([]any); ok {
		return list[rnd.IntN(len(list))]
	}
	number := func(keyword string, or float64) float64 {
		if n, ok := schema[keyword].(json.Number); ok {
			x, err := n.Float64()
			require.NoError(t, err)
			return x
		}
		return or
	}
	switch schema["type"] {
	case "object":
		var o ordered
		properties, _ := schema["properties"].(map[string]any)
		required, _ := schema["required"].([]any)
		for _, name := range slices.Sorted(maps.Keys(properties)) {
			if slices.Contains(required, any(name)) || rnd.IntN(2) == 0 {
				o = append(o, orderedMember{name, generateValue(t, rnd, properties[name].(map[string]any))})
			}
		}
		switch more := schema["additionalProperties"].(type) {
		case map[string]any:
			o = append(o, orderedMember{"own_field", generateValue(t, rnd, more)})
		case bool:
			if more {
				o = append(o, orderedMember{"own_field", rawText(`{"a":[1,-2.5e3,null,{"b":"\u00e9"}],"c":true}`)})
			}
		}
		rnd.Shuffle(len(o), func(i, j int) { o[i], o[j] = o[j], o[i] })
		return o
	case "array":
		items, _ := schema["items"].(map[string]any)
		list := make([]any, int(number("minItems", 0))+rnd.IntN(3))
		for i := range list {
			if list[i] = any(rawText("1")); items != nil {
				list[i] = generateValue(t, rnd, items)
			}
		}
		return list
	case "integer", "number":
		lo := number("minimum", number("exclusiveMinimum", -1000))
		hi := number("maximum", number("exclusiveMaximum", lo+1e6))
		if schema["type"] == "integer" {
			return rawText(fmt.Sprint(int64(lo) + rnd.Int64N(int64(hi)-int64(lo)+1)))
		}
		x := lo + (hi-lo)*(1-rnd.Float64())
		return rawText([]string{fmt.Sprintf("%.7f", x), fmt.Sprintf("%.1f", x), fmt.Sprint(x)}[rnd.IntN(3)])
	case "boolean":
		return rnd.IntN(2) == 0
	case "string":
		switch schema["format"] {
		case "date-time":
			return fmt.Sprintf("20%02d-%02d-%02dT%02d:%02d:%02d%s%s", rnd.IntN(100), 1+rnd.IntN(12), 1+rnd.IntN(28), rnd.IntN(24), rnd.IntN(60), rnd.IntN(60),
				[]string{"", ".5", ".123456789"}[rnd.IntN(3)], []string{"Z", "+00:00", "-05:30"}[rnd.IntN(3)])
		case "date":
			return fmt.Sprintf("20%02d-%02d-%02d", rnd.IntN(100), 1+rnd.IntN(12), 1+rnd.IntN(28))
		}
		candidates := textCandidates
		if list, ok := schema["examples"].([]any); ok {
			for _, ex := range list {
				candidates = append(slices.Clone(candidates), ex.(string))
			}
		}
		if pattern, ok := schema["pattern"].(string); ok {
			re := regexp.MustCompile(pattern)
			candidates = slices.DeleteFunc(slices.Clone(candidates), func(s string) bool { return !re.MatchString(s) })
			require.NotEmptyf(t, candidates, "no text at hand matches %s", pattern)
		}
		return candidates[rnd.IntN(len(candidates))]
	default:
		return rawText(`"anything"`)
	}
}

// writeJSON writes a value; strange adds white space and needless escapes.
func writeJSON(rnd *rand.Rand, v any, strange bool) []byte {
	var b []byte
	space := func() {
		if strange {
			b = append(b, []string{"", "", " ", "\n\t", "\r\n  "}[rnd.IntN(5)]...)
		}
	}
	text := func(s string) {
		if !strange || rnd.IntN(2) == 0 {
			b = jsonscan.AppendString(b, s)
			return
		}
		b = append(b, '"')
		for _, r := range s {
			switch {
			case r > 0xFFFF:
				b = append(b, string(r)...)
			case r < 0x20 || r == '"' || r == '\\' || rnd.IntN(4) == 0:
				b = fmt.Appendf(b, `\u%04x`, r)
			default:
				b = append(b, string(r)...)
			}
		}
		b = append(b, '"')
	}
	var write func(v any)
	write = func(v any) {
		space()
		switch v := v.(type) {
		case ordered:
			b = append(b, '{')
			for i, m := range v {
				if i > 0 {
					b = append(b, ',')
				}
				space()
				text(m.name)
				space()
				b = append(b, ':')
				write(m.value)
			}
			b = append(b, '}')
		case []any:
			b = append(b, '[')
			for i, x := range v {
				if i > 0 {
					b = append(b, ',')
				}
				write(x)
			}
			b = append(b, ']')
		case map[string]any:
			var o ordered
			for _, name := range slices.Sorted(maps.Keys(v)) {
				o = append(o, orderedMember{name, v[name]})
			}
			write(o)
		case string:
			text(v)
		case rawText:
			b = append(b, v...)
		case json.Number:
			b = append(b, v.String()...)
		case nil:
			b = append(b, "null"...)
		case bool:
			b = fmt.Append(b, v)
		default:
			panic(fmt.Sprintf("%T", v))
		}
		space()
	}
	write(v)
	return b
}

// mean are values that a judge may get wrong.
var mean = []rawText{
	`null`, `true`, `false`, `0`, `-0`, `-0.0`, `0.0`, `10.0`, `1e2`, `1E+2`, `100e-2`, `1.5`, `-1`, `2`, `3`, `90`, `90.0`, `90.000000000000000`,
	`90.0000000000000000001`, `-90.00000000000000001`, `180.00000000000001`, `359.99999999999999999`, `360.0`, `1e400`, `-1e400`, `1e-400`, `1e1001`,
	`9223372036854775807`, `9223372036854775808`, `18446744073709551616`, `123456789012345678`, `999999999999999999`, `0.000000000000000001`, `1e`, `01`, `.5`, `NaN`,
	`""`, `" "`, `"\u0000"`, `"\t"`, `"x"`, `"\u00a0"`, `"\ud800"`, `"\ud83d\ude00"`, `"a\u007fb"`, `"\u0078"`, "\"\xff\"", `"tab	raw"`,
	`"2026-01-01T23:59:60Z"`, `"2026-02-29T00:00:00Z"`, `"2024-02-29t00:00:00z"`, `"2026-01-01T00:00:00"`, `"2026-01-01 00:00:00Z"`, `"2026-01-01T00:00:00.Z"`,
	`"2026-01-01T00:00:00.000000000000001+23:59"`, `"2026-01-01T00:00:00+24:00"`, `"\u0032026-01-01T00:00:00Z"`, `"0000-01-01T00:00:00Z"`,
	`"0123456789abcdef0123456789abcdef"`, `"0123456789ABCDEF0123456789abcdef"`, `"0123456789abcdef0123456789abcdef\n"`, `"0123456789abcdef0123456789abcde\u0066"`,
	`"device"`, `"devic\u0065"`, `"ingested"`, `[]`, `[null]`, `[1,2]`, `["a"]`, `[""]`, `{}`, `{"a":1}`, `{"a":null}`, `{"a":1,"a":2}`, `[1,]`, `{"a"}`,
}

func mutate(rnd *rand.Rand, doc []byte) []byte {
	v, err := decode(doc)
	if err != nil {
		return doc
	}
	object, ok := v.(map[string]any)
	if !ok {
		return doc
	}
	var o ordered
	for _, name := range slices.Sorted(maps.Keys(object)) {
		o = append(o, orderedMember{name, object[name]})
	}
	deep := func(n int) rawText { return rawText(strings.Repeat("[", n) + strings.Repeat("]", n)) }
	for range rnd.IntN(4) {
		i := rnd.IntN(len(o))
		switch rnd.IntN(9) {
		case 0, 1, 2:
			o[i].value = mean[rnd.IntN(len(mean))]
		case 3:
			if o = slices.Delete(o, i, i+1); len(o) == 0 {
				return []byte(`{}`)
			}
		case 4:
			o = append(o, orderedMember{"zz_unknown", mean[rnd.IntN(len(mean))]})
		case 5: // the same field twice, sometimes with a null
			o = append(o, orderedMember{o[i].name, []any{o[i].value, nil, mean[rnd.IntN(len(mean))]}[rnd.IntN(3)]})
		case 6:
			o[i].value = deep([]int{1, 100, 126, 127, 128, 129}[rnd.IntN(6)])
		case 7:
			o[i].name = []string{"", "Device_ID", o[i].name + "x", strings.Repeat("k", 300), "a/b~c", "payload"}[rnd.IntN(6)]
		case 8:
			if sub, ok := o[i].value.(map[string]any); ok {
				sub = maps.Clone(sub)
				sub["zz"] = mean[rnd.IntN(len(mean))]
				o[i].value = sub
			}
		}
	}
	rnd.Shuffle(len(o), func(i, j int) { o[i], o[j] = o[j], o[i] })
	out := writeJSON(rnd, o, rnd.IntN(2) == 0)
	if rnd.IntN(20) == 0 {
		out = append(out, []string{"x", "{}", ",", "\x00", " ", "\n"}[rnd.IntN(6)]...)
	}
	return out
}
