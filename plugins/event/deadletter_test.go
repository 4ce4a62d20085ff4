// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package event

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dealiot/dealiot-connect/schemas"
)

var rejectedAt = time.Date(2026, 5, 4, 10, 11, 12, 130_000_000, time.UTC)

// contract compiles the contract that every dead letter is to meet.
func contract(t testing.TB) *jsonschema.Schema {
	t.Helper()
	text, err := schemas.FS.ReadFile("dlq.events.schema.json")
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	c.AssertFormat = true
	require.NoError(t, c.AddResource("dlq.events.json", bytes.NewReader(text)))
	schema, err := c.Compile("dlq.events.json")
	require.NoError(t, err)
	return schema
}

func requireContract(t testing.TB, schema *jsonschema.Schema, envelope []byte) {
	t.Helper()
	require.True(t, utf8.Valid(envelope), "the envelope is UTF-8")
	dec := json.NewDecoder(bytes.NewReader(envelope))
	dec.UseNumber()
	var value any
	require.NoError(t, dec.Decode(&value), "%.400s", envelope)
	require.NoError(t, schema.Validate(value), "%.400s", envelope)
}

func ptr[T any](v T) *T { return &v }

func TestDeadLetterAppendTo(t *testing.T) {
	schema := contract(t)
	const head = `{"timestamp":"2026-05-04T10:11:12.13Z","source":"mqtt-bridge","intended_topic":"raw.gps","source_topic":"devices/cow-7/gps","device_id":"cow-7",`
	base := DeadLetter{
		Time: rejectedAt, Source: "mqtt-bridge", IntendedTopic: "raw.gps", SourceTopic: "devices/cow-7/gps", DeviceID: "cow-7",
		Errors: []string{"latitude is missing"},
	}
	for name, tc := range map[string]struct {
		change func(*DeadLetter)
		want   string
	}{
		"event": {func(d *DeadLetter) {
			d.Event = []byte(`{"device_id":"cow-7", "longitude":9.10}`)
			d.Original = []byte(`{"lon":9.10}`)
			d.MQTTTopic, d.QoS = "devices/cow-7/gps", ptr(1)
		}, head + `"errors":["latitude is missing"],"raw_event":{"device_id":"cow-7","longitude":9.10,"payload_b64":"eyJsb24iOjkuMTB9"}}`},
		"event with a payload_b64 of its own": {func(d *DeadLetter) {
			d.Event = []byte(`{"payload_b64":"bGll","a":1,"payload\u005fb64":2}`)
			d.Original = []byte("\xff\x00\x88")
		}, head + `"errors":["latitude is missing"],"raw_event":{"a":1,"payload_b64":"/wCI"}}`},
		"event without members": {func(d *DeadLetter) {
			d.Event = []byte(` {} `)
		}, head + `"errors":["latitude is missing"],"raw_event":{"payload_b64":""}}`},
		"no event": {func(d *DeadLetter) {
			d.Original = []byte("\xff")
			d.MQTTTopic, d.QoS, d.Retain = "devices/cow-7/gps", ptr(0), ptr(true)
		}, head + `"errors":["latitude is missing"],"raw_event":{"mqtt_topic":"devices/cow-7/gps","qos":0,"retain":true,"payload_b64":"/w=="}}`},
		"event that is not JSON": {func(d *DeadLetter) {
			d.Event = []byte(`{"a":`)
			d.Original = []byte("x")
		}, head + `"errors":["latitude is missing"],"raw_event":{"event_omitted":true,"payload_b64":"eA=="}}`},
		"event that no parser can bear": {func(d *DeadLetter) {
			d.Event = []byte(`{"a":1e10000000}`)
			d.Original = []byte("x")
		}, head + `"errors":["latitude is missing"],"raw_event":{"event_omitted":true,"payload_b64":"eA=="}}`},
		"several reasons, one blank": {func(d *DeadLetter) {
			d.Errors = []string{"one", " ", "t\"w\no"}
		}, head + `"errors":["one","t\"w\no"],"raw_event":{"payload_b64":""}}`},
		"no reason": {func(d *DeadLetter) { d.Errors = nil },
			head + `"errors":["no reason was given"],"raw_event":{"payload_b64":""}}`},
		"nothing known": {func(d *DeadLetter) { *d = DeadLetter{Time: rejectedAt, Errors: []string{"x"}} },
			`{"timestamp":"2026-05-04T10:11:12.13Z","source":"unknown","intended_topic":"unknown","source_topic":"","device_id":"unknown","errors":["x"],"raw_event":{"payload_b64":""}}`},
		"names that are not UTF-8": {func(d *DeadLetter) { d.SourceTopic, d.DeviceID = "a/\xff", "\xc3" },
			`{"timestamp":"2026-05-04T10:11:12.13Z","source":"mqtt-bridge","intended_topic":"raw.gps","source_topic":"a/` + "\uFFFD" + `","device_id":"` + "\uFFFD" + `","errors":["latitude is missing"],"raw_event":{"payload_b64":""}}`},
	} {
		t.Run(name, func(t *testing.T) {
			d := base
			tc.change(&d)
			got, cut := d.AppendTo([]byte("before"), 0)
			got = bytes.TrimPrefix(got, []byte("before"))
			assert.Equal(t, tc.want, string(got))
			assert.Equal(t, CutNothing, cut)
			requireContract(t, schema, got)
		})
	}
}

func TestDeadLetterManyReasons(t *testing.T) {
	d := DeadLetter{Time: rejectedAt, Source: "s", Errors: slices.Repeat([]string{strings.Repeat("é", 3000)}, 200)}
	envelope, _ := d.AppendTo(nil, 0)
	requireContract(t, contract(t), envelope)
	parsed, err := ParseDeadLetter(envelope)
	require.NoError(t, err)
	require.Len(t, parsed.Errors, longWords.errors+1)
	assert.LessOrEqual(t, len(parsed.Errors[0]), longWords.error)
	assert.True(t, strings.HasSuffix(parsed.Errors[0], "é…"))
	assert.Equal(t, "and more, not listed", parsed.Errors[longWords.errors])
}

func TestDeadLetterLimit(t *testing.T) {
	schema := contract(t)
	payload := bytes.Repeat([]byte("0123456789"), 10_000) // 133,336 bytes of base64
	event := []byte(`{"device_id":"cow-7","blob":"` + strings.Repeat("x", 50_000) + `"}`)
	topic := strings.Repeat("\x01", 1<<16-1) // six bytes each when escaped
	for name, tc := range map[string]struct {
		limit int
		topic string
		want  Cut
	}{
		"fits":             {190_000, "t", CutNothing},
		"payload alone":    {140_000, "t", CutEvent},
		"part of it":       {100_000, "t", CutPayload},
		"hardly any of it": {MinDeadLetterBytes, "t", CutPayload},
		"long names":       {300_000, topic, CutWords},
		"least of all":     {MinDeadLetterBytes, topic, CutPayload},
	} {
		t.Run(name, func(t *testing.T) {
			d := DeadLetter{
				Time: rejectedAt, Source: tc.topic, IntendedTopic: tc.topic, SourceTopic: tc.topic, DeviceID: tc.topic, MQTTTopic: tc.topic,
				Errors: slices.Repeat([]string{strings.Repeat("\x02", min(len(tc.topic), 5000))}, 100), QoS: ptr(2), Retain: ptr(false),
				Event: event, Original: payload,
			}
			envelope, cut := d.AppendTo(nil, tc.limit)
			assert.Equal(t, tc.want, cut)
			assert.LessOrEqual(t, len(envelope), tc.limit)
			requireContract(t, schema, envelope)

			parsed, err := ParseDeadLetter(envelope)
			require.NoError(t, err)
			assert.Equal(t, cut == CutNothing, parsed.Event != nil)
			require.True(t, bytes.HasPrefix(payload, parsed.Original))
			if cut < CutPayload {
				assert.Len(t, parsed.Original, len(payload))
				assert.Nil(t, parsed.Truncated)
				return
			}
			assert.Less(t, len(parsed.Original), len(payload))
			// What there is room for does not go to waste.
			assert.Greater(t, len(envelope), tc.limit-8)
			sum := sha256.Sum256(payload)
			assert.Equal(t, &Truncation{Bytes: len(payload), SHA256: hex.EncodeToString(sum[:])}, parsed.Truncated)
		})
	}
}

func TestParseDeadLetter(t *testing.T) {
	d := DeadLetter{
		Time: rejectedAt, Source: "mqtt-bridge", IntendedTopic: "raw.gps", SourceTopic: "devices/cow-7/gps", DeviceID: "cow-7",
		Errors: []string{"one", "two"}, Original: []byte("\x00\xff{"), MQTTTopic: "devices/cow-7/gps", QoS: ptr(1), Retain: ptr(false),
	}
	for name, change := range map[string]func(*DeadLetter){
		"no event": func(*DeadLetter) {},
		"event": func(d *DeadLetter) {
			d.Event = []byte(`{"n":12345678901234567890.10}`)
			d.MQTTTopic, d.QoS, d.Retain = "", nil, nil
		},
		"event that looks like the frame": func(d *DeadLetter) {
			d.Event = []byte(`{"qos":"high"}`)
			d.MQTTTopic, d.QoS, d.Retain = "", nil, nil
		},
		"nothing known": func(d *DeadLetter) { d.IntendedTopic, d.DeviceID, d.SourceTopic = "", "", "" },
	} {
		t.Run(name, func(t *testing.T) {
			want := d
			change(&want)
			envelope, _ := want.AppendTo(nil, 0)
			got, err := ParseDeadLetter(envelope)
			require.NoError(t, err)
			assert.Equal(t, want, got)
		})
	}

	const ok = `"timestamp":"2026-05-04T10:11:12Z","source":"x","intended_topic":"x","errors":["x"]`
	for text, wantErr := range map[string]string{
		``:                                 "unexpected end of JSON input",
		`[]`:                               "cannot unmarshal",
		`{}`:                               "raw_event is missing",
		`{` + ok + `}`:                     "raw_event is missing",
		`{"raw_event":{}}`:                 "reading timestamp",
		`{` + ok + `,"raw_event":1}`:       "reading raw_event",
		`{` + ok + `,"raw_event":null}`:    "raw_event is missing",
		`{` + ok + `,"raw_event":{"a":1}}`: "payload_b64 is missing",
		`{` + ok + `,"raw_event":{"payload_b64":1}}`:                                                                  "reading payload_b64",
		`{` + ok + `,"raw_event":{"payload_b64":"not64"}}`:                                                            "illegal base64",
		`{` + ok + `,"raw_event":{"payload_b64":"","a":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}}`: "beyond the limits",
	} {
		_, err := ParseDeadLetter([]byte(text))
		require.ErrorContains(t, err, wantErr, "%.80s", text)
	}
}

func TestViolationsAsText(t *testing.T) {
	vs := []Violation{
		{Path: "/latitude", Keyword: "maximum", Message: "latitude is 132 but must be at most 90", Contract: "raw.gps", Version: "1.0.0"},
		{Keyword: "required", Message: "longitude is missing"},
	}
	text := AppendViolations(nil, vs, 1000)
	assert.JSONEq(t, `[
		{"path":"/latitude","keyword":"maximum","message":"latitude is 132 but must be at most 90","contract":"raw.gps","version":"1.0.0"},
		{"path":"","keyword":"required","message":"longitude is missing"}]`, string(text))
	assert.Equal(t, vs, ParseViolations(string(text)))
	assert.Equal(t, vs, ParseViolations(text))
	assert.Equal(t, vs, ParseViolations(ViolationList(vs)))

	assert.Equal(t, vs[:1], ParseViolations(AppendViolations(nil, vs, len(text)-1)))
	assert.Equal(t, "[]", string(AppendViolations(nil, vs, 10)))
	assert.LessOrEqual(t, len(AppendViolations(nil, []Violation{{Message: strings.Repeat("x", 1<<20)}}, 4000)), 4000)

	assert.Equal(t, []Violation{{Message: "in words"}}, ParseViolations("in words"))
	assert.Equal(t, []Violation{{Message: "[in words"}}, ParseViolations("[in words"))
	assert.Equal(t, []Violation{{Message: "a"}, {Message: "7"}, {Keyword: "k"}}, ParseViolations([]any{"a", 7, map[string]any{"keyword": "k", "path": 3}}))
	assert.Equal(t, []Violation{{Message: "m"}}, ParseViolations(map[string]any{"message": "m"}))
	assert.Empty(t, ParseViolations(nil))
	assert.Empty(t, ParseViolations(" "))
	assert.Empty(t, ParseViolations(3))
}

func TestWords(t *testing.T) {
	assert.Equal(t, []string{"m", "required /a", "k"}, Words([]Violation{
		{Message: "m", Keyword: "k"}, {Keyword: "required", Path: "/a"}, {Keyword: "k", Message: " "},
	}))
}

func TestTextMembers(t *testing.T) {
	event := []byte(`{"device_id":"a\u00e9","object_uri":7,"dev\u0069ce":"b"}`)
	assert.Equal(t, []string{"aé", "", "b", ""}, TextMembers(event, "device_id", "object_uri", "device", "none"))
	assert.Equal(t, []string{""}, TextMembers(nil, "x"))
	assert.Equal(t, []string{""}, TextMembers([]byte(`["x"]`), "x"))
	assert.Equal(t, []string{""}, TextMembers([]byte(`{"x":"y"`), "x"))
}

// FuzzDeadLetter: whatever the bytes and names, the envelope meets its
// contract and its limit, and the payload comes back.
func FuzzDeadLetter(f *testing.F) {
	f.Add([]byte(`{"a":1}`), []byte(`{"lat":1}`), "devices/cow-7/gps", "cow-7", "latitude is missing", uint32(0))
	f.Add([]byte(nil), []byte("\xff\x00"), "\xff", "", "", uint32(MinDeadLetterBytes))
	f.Add([]byte(`{"payload_b64":"x","payload_b64":{"payload_b64":[]}}`), []byte("x"), "\x00", "\u2028", "\"", uint32(20_000))
	f.Add([]byte(`{"qos":"x","mqtt_topic":1}`), bytes.Repeat([]byte("ab"), 20_000), "t", "d", "e", uint32(17_000))
	f.Add([]byte(`{"event_omitted":true,"payload_truncated":true,"payload_bytes":"x"}`), []byte{}, "t", "d", "e", uint32(0))
	schema := contract(f)
	f.Fuzz(func(t *testing.T, event, original []byte, topic, device, reason string, limit uint32) {
		if limit > 0 {
			limit = max(limit%(1<<20), MinDeadLetterBytes)
		}
		d := DeadLetter{
			Time: rejectedAt, Source: device, IntendedTopic: topic, SourceTopic: topic, DeviceID: device, Errors: []string{reason, topic},
			Event: event, Original: original, MQTTTopic: topic, QoS: ptr(1), Retain: ptr(true),
		}
		envelope, cut := d.AppendTo(nil, int(limit))
		if limit > 0 {
			require.LessOrEqual(t, len(envelope), int(limit))
		}
		requireContract(t, schema, envelope)
		parsed, err := ParseDeadLetter(envelope)
		require.NoError(t, err, "%s", envelope)
		if cut < CutPayload {
			require.True(t, bytes.Equal(original, parsed.Original))
		} else {
			require.True(t, bytes.HasPrefix(original, parsed.Original))
			require.NotNil(t, parsed.Truncated)
			require.Equal(t, len(original), parsed.Truncated.Bytes)
		}
		if cut == CutNothing && parsed.Event != nil {
			require.Equal(t, TextMembers(event, "device_id"), TextMembers(parsed.Event, "device_id"))
		}
	})
}

// FuzzParseDeadLetter: foreign bytes on the topic never make it panic.
func FuzzParseDeadLetter(f *testing.F) {
	d := DeadLetter{Time: rejectedAt, Source: "s", Errors: []string{"e"}, Original: []byte("x"), Event: []byte(`{"a":[1,{"b":null}]}`)}
	envelope, _ := d.AppendTo(nil, 0)
	f.Add(envelope)
	f.Add([]byte(`{"timestamp":"2026-05-04T10:11:12Z","raw_event":{"payload_b64":null}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if d, err := ParseDeadLetter(text); err == nil {
			require.LessOrEqual(t, len(d.Original), len(text))
		}
	})
}

func BenchmarkDeadLetter(b *testing.B) {
	payload := make([]byte, 300)
	for i := range payload {
		payload[i] = byte(rand.IntN(256))
	}
	d := DeadLetter{
		Time: rejectedAt, Source: "mqtt-bridge", IntendedTopic: "raw.gps", SourceTopic: "devices/cow-7/gps", DeviceID: "cow-7",
		Errors: []string{"latitude is 132.0554 but must be at most 90"}, Original: payload,
		Event: []byte(`{"device_id":"cow-7","timestamp":"2026-05-04T10:11:12Z","latitude":132.0554,"longitude":47.6953,"payload":{"lat":132.0554,"lon":47.6953}}`),
	}
	b.ReportAllocs()
	var buf []byte
	for b.Loop() {
		buf, _ = d.AppendTo(buf[:0], 4_000_000)
	}
}
