// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package deviceevent

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dealiot/dealiot-connect/plugins/event"
	"github.com/dealiot/dealiot-connect/plugins/jsonscan"
	"github.com/dealiot/dealiot-connect/plugins/route"
)

var testNow = time.Date(2026, 7, 1, 12, 0, 0, 123456789, time.UTC)

const testNowText = "2026-07-01T12:00:00.123456789Z"

func defaultRules(t testing.TB) *route.Table {
	t.Helper()
	rules, err := route.Compile(route.Defaults())
	require.NoError(t, err)
	return rules
}

func build(t testing.TB, topic string, m Message) (*Destination, Event, *Failure) {
	t.Helper()
	d := NewDestination(defaultRules(t), topic)
	var b Builder
	b.Begin(testNow)
	e, failure := b.Build(nil, d, m)
	return d, e, failure
}

func decode(t testing.TB, text []byte) any {
	t.Helper()
	v, err := decodeJSON(text)
	require.NoError(t, err, "%.200s", text)
	return v
}

func decodeJSON(text []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	err = d.Decode(&v)
	return v, err
}

// same compares JSON values, numbers by their exact value.
func same(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for k, v := range a {
			if w, ok := b[k]; !ok || !same(v, w) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !same(a[i], b[i]) {
				return false
			}
		}
		return true
	case json.Number:
		b, ok := b.(json.Number)
		return ok && (a == b || rat(a).Cmp(rat(b)) == 0)
	}
	return a == b
}

func rat(n json.Number) *big.Rat {
	r, ok := new(big.Rat).SetString(string(n))
	if !ok {
		panic("not a number: " + string(n))
	}
	return r
}

func requireSame(t testing.TB, want, got any) {
	t.Helper()
	if !same(want, got) {
		w, _ := json.MarshalIndent(want, "", " ")
		g, _ := json.MarshalIndent(got, "", " ")
		require.Equal(t, string(w), string(g))
		t.Fatalf("the values differ in a number: %s", w)
	}
}

type goldenRow struct {
	ID        string `json:"id"`
	MQTTTopic string `json:"mqtt_topic"`
	Payload   []byte `json:"payload_b64"`
	QoS       int    `json:"qos"`
	Retain    bool   `json:"retain"`
	Intended  string `json:"intended_topic"`
	Kafka     string `json:"kafka_topic"`
	Key       string `json:"key"`
	Bug       bool   `json:"upstream_bug"`
	Event     map[string]any
	Want      map[string]any `json:"want"`
}

// wants tells what a user needs where the platform is wrong.
func (r goldenRow) wants(name string) string {
	s, _ := r.Want[name].(string)
	return s
}

func golden(t testing.TB) []goldenRow {
	t.Helper()
	text, err := os.ReadFile("testdata/routing.jsonl")
	require.NoError(t, err)
	var rows []goldenRow
	for _, line := range bytes.Split(bytes.TrimSpace(text), []byte("\n")) {
		var row goldenRow
		d := json.NewDecoder(bytes.NewReader(line))
		d.UseNumber()
		require.NoError(t, d.Decode(&row))
		rows = append(rows, row)
	}
	require.Len(t, rows, 202)
	return rows
}

// instant parses a time of a golden row; those of ingestion are ours.
func instant(t testing.TB, text any) time.Time {
	t.Helper()
	if text == "$INGESTED_AT" {
		return testNow
	}
	at, err := event.ParseTime(text.(string))
	require.NoError(t, err)
	return at
}

func TestGolden(t *testing.T) {
	for _, row := range golden(t) {
		t.Run(row.ID, func(t *testing.T) {
			if row.ID == "r222" {
				t.Skip("an empty retained message is dropped by the processor, see TestProcessorDrops")
			}
			d, e, failure := build(t, row.MQTTTopic, Message{Payload: row.Payload, QoS: row.QoS, Retained: row.Retain})

			// What the platform would have accepted, or died of, and we refuse.
			if errs, ok := row.Want["errors"].([]any); ok && errs[0] == "no device id in the topic" {
				require.NotNil(t, failure)
				require.Equal(t, event.ClassRoute, failure.Class)
				require.Contains(t, failure.Violations[0].Message, "no device id in the topic")
				return
			}
			switch row.ID {
			case "r248", "r249", "r253", "r254", "r255", "r258", "r259":
				require.NotNil(t, failure)
				require.Equal(t, event.ClassDecode, failure.Class)
				require.Equal(t, "/timestamp", failure.Violations[0].Path)
				return
			}
			require.Nil(t, failure)
			body := decode(t, e.Body).(map[string]any)

			// What every event has.
			require.Equal(t, testNowText, body["ingested_at"])
			at, err := event.ParseTime(body["timestamp"].(string))
			require.NoError(t, err)
			require.Equal(t, string(e.Time), body["timestamp"])
			require.True(t, strings.HasSuffix(string(e.Time), "Z"))
			if d.shape == spread {
				require.NotContains(t, body, "event_id")
				require.NotContains(t, body, "event_time_source")
			} else {
				require.Equal(t, e.ID.String(), body["event_id"])
				_, says := body["event_time_source"]
				require.Equal(t, e.TimeIngested, says)
			}
			require.Equal(t, event.NewID(e.DeviceID, row.MQTTTopic, at, row.Payload), e.ID)

			topic, key := row.Intended, row.Key
			if row.Bug {
				if want := row.wants("kafka_topic"); want != "" && want != "dlq.events" {
					topic = want
				}
				if want := row.wants("key"); want != "" {
					key = want
				}
				switch row.ID {
				case "r257":
					topic, key = "raw.sensor", "cow-7"
					require.Equal(t, "2024-01-01T00:00:00Z", string(e.Time))
				case "r182":
					require.Len(t, e.Remarks, 1)
					require.Contains(t, e.Remarks[0].Message, "payload is not JSON")
				}
				if want := row.wants("event.timestamp"); want != "" && row.ID != "r257" {
					require.True(t, instant(t, want).Equal(at), "got %s", e.Time)
				}
				if want, ok := row.Want["event.latitude"]; ok {
					requireSame(t, want, body["latitude"])
				}
				if want, ok := row.Want["event.payload.big"]; ok {
					requireSame(t, want, body["payload"].(map[string]any)["big"])
				}
			}
			require.Equal(t, topic, d.KafkaTopic)
			require.Equal(t, key, e.DeviceID)
			if errs, ok := row.Want["errors"].([]any); ok && strings.Contains(fmt.Sprint(errs), "latitude/longitude") {
				_, lat := body["latitude"]
				_, lon := body["longitude"]
				require.False(t, lat && lon, "coordinates were invented")
				return
			}
			if topic != row.Intended || row.Event == nil {
				return // the platform built an event for another topic, or none
			}

			want := row.Event
			if raw, ok := want["raw_event"].(map[string]any); ok && row.Kafka == "dlq.events" {
				want = raw
			}
			switch row.ID {
			case "r244", "r257", "r263": // another time is wanted, which was compared above
			case "r182": // NaN, which is no JSON value
				return
			case "r180": // another latitude is wanted, which was compared above
				want["latitude"] = body["latitude"]
			case "r262":
				require.Equal(t, "1978-01-11T21:31:40.799Z", string(e.Time))
			default:
				require.True(t, instant(t, want["timestamp"]).Equal(at), "want %v, got %s", want["timestamp"], e.Time)
			}
			want["timestamp"] = body["timestamp"]
			if row.ID == "r120" { // another device is wanted, which was compared above
				want["device_id"] = key
			}
			for _, name := range []string{"event_id", "ingested_at", "event_time_source"} {
				delete(body, name)
			}
			for _, name := range []string{"utcTimestamp", "utc_timestamp", "time"} {
				if d.shape == spread {
					delete(want, name) // was read as the event's time
				}
			}
			for name, value := range want {
				if value == nil {
					delete(want, name)
				}
			}
			requireSame(t, want, body)
		})
	}
}

func TestBuild(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for _, test := range []struct {
		name, topic, payload string
		message              Message
		body                 string // parts of the body, one a line
		key                  string
		class                event.Class
		reason               string
	}{
		{name: "numbers keep their digits", topic: "devices/c/gps", payload: `{"lat":47.6950000,"lon":1e-7,"n":18446744073709551617}`,
			body: `"latitude":47.6950000,` + "\n" + `"longitude":1e-7,` + "\n" + `"n":18446744073709551617`},
		{name: "400 digits", topic: "devices/c/sensor", payload: `{"n":` + strings.Repeat("7", 400) + `}`, body: strings.Repeat("7", 400)},
		{name: "1001 digits", topic: "devices/c/sensor", payload: strings.Repeat("7", 1001), class: event.ClassDecode, reason: "payload is beyond the limits of this distribution: number of more than 1000 characters at byte 0"},
		{name: "huge exponent", topic: "devices/c/sensor", payload: `{"n":1e10000000}`, class: event.ClassDecode, reason: "exponent beyond"},
		{name: "nesting of 126", topic: "devices/c/sensor", payload: deep(126), body: `{"value":[[`},
		{name: "nesting of 127", topic: "devices/c/sensor", payload: deep(127), class: event.ClassDecode, reason: "nesting deeper than 128"},
		{name: "nesting of 127 in an object", topic: "devices/c/sensor", payload: `{"a":` + deep(126) + `}`, body: `"payload":{"a":[[`},
		{name: "nesting of 10000", topic: "devices/c/gps", payload: deep(10_000), class: event.ClassDecode, reason: "nesting deeper than 128"},
		{name: "invalid UTF-8", topic: "devices/c/sensor", payload: "{\"a\":\"\xff\"}", body: `"payload":{"payload_b64":"eyJhIjoi/yJ9"}`},
		{name: "duplicate keys", topic: "devices/c/sensor", payload: `{"a":1,"b":{"x":1,"x":2},"a":2}`, body: `"payload":{"a":2,"b":{"x":2}}`},
		{name: "duplicate time", topic: "devices/c/sensor", payload: `{"time":1,"time":2}`, body: `"timestamp":"1970-01-01T00:00:02Z"`},
		{name: "escaped names count", topic: "devices/c/gps", payload: `{"l\u0061t":1,"lon":2}`, body: `"latitude":1,"longitude":2`},
		{name: "lone surrogate", topic: "devices/c/sensor", payload: `{"a":"\ud83d!"}`, body: "\"a\":\"\uFFFD!\""},
		{name: "escaped time", topic: "devices/c/sensor", payload: `{"timestamp":"2026-01-01T00:00:00\u005a"}`, body: `"timestamp":"2026-01-01T00:00:00Z"`},
		{name: "offset", topic: "devices/c/sensor", payload: `{"timestamp":"2026-01-01T02:00:00.5+02:00"}`, body: `"timestamp":"2026-01-01T00:00:00.5Z"`},
		{name: "empty and null times", topic: "devices/c/sensor", payload: `{"timestamp":null,"utcTimestamp":"","utc_timestamp":null,"time":5}`, body: `"timestamp":"1970-01-01T00:00:05Z"`},
		{name: "blank time", topic: "devices/c/sensor", payload: `{"timestamp":" ","time":5}`, class: event.ClassDecode, reason: `timestamp is not a time: reading " "`},
		{name: "boolean time", topic: "devices/c/image", payload: `{"utcTimestamp":true}`, class: event.ClassDecode, reason: `utcTimestamp is not a time: it is a boolean; give RFC 3339`},
		{name: "nested time does not count", topic: "devices/c/sensor", payload: `{"a":{"timestamp":"x"}}`, body: `"event_time_source":"ingested"`},
		{name: "media names the device", topic: "devices/c/image", payload: `{"device_id":"cam-\u00e4"}`, body: `"device_id":"cam-\u00e4","timestamp"`, key: "cam-ä"},
		{name: "media device null", topic: "devices/c/image", payload: `{"device_id":null}`, body: `{"device_id":"c","timestamp"`, key: "c"},
		{name: "media device blank", topic: "devices/c/image", payload: `{"device_id":" "}`, body: `"device_id":" "`, key: "c"},
		{name: "media device number", topic: "devices/c/image", payload: `{"device_id":5}`, body: `"device_id":5,`, key: "c"},
		{name: "media cannot forge the envelope", topic: "devices/c/image", payload: `{"source":"x","mqtt_topic":"x","qos":9,"retain":"x","ingested_at":"x","event_id":"x"}`,
			body: `{"event_id":"x","device_id":"c"` + "\n" + `"source":"mqtt-bridge","qos":1,"retain":false}`},
		{name: "no qos", topic: "devices/c/sensor", payload: `1`, message: Message{QoS: NoQoS}, body: `"source":"mqtt-bridge","retain":false,`},
		{name: "topic with quotes and NUL", topic: "devices/c\"\\/\x00", payload: `1`, body: `"device_id":"c\"\\",` + "\n" + `"mqtt_topic":"devices/c\"\\/\u0000"`, key: `c"\`},
		{name: "no device", topic: "wildfi/imu", payload: `1`, class: event.ClassRoute, reason: "no device id in the topic"},
		{name: "topic not UTF-8", topic: "devices/c\xff", payload: `1`, class: event.ClassRoute, reason: "not valid UTF-8"},
		{name: "white space only", topic: "devices/c/sensor", payload: " \n ", body: `"payload":{"payload_b64":"IAog"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := test.message
			m.Payload = []byte(test.payload)
			if m.QoS == 0 {
				m.QoS = 1
			}
			_, e, failure := build(t, test.topic, m)
			if test.class != "" {
				require.NotNil(t, failure)
				require.Equal(t, test.class, failure.Class)
				require.Contains(t, failure.Violations[0].Message, test.reason)
				return
			}
			require.Nil(t, failure)
			for part := range strings.SplitSeq(test.body, "\n") {
				require.Contains(t, string(e.Body), part)
			}
			decode(t, e.Body)
			if test.key != "" {
				require.Equal(t, test.key, e.DeviceID)
			}
		})
	}
}

func TestBuildRejectsNonJSON(t *testing.T) {
	for _, topic := range []string{"devices/c/sensor", "devices/c/gps", "devices/c/image"} {
		b := Builder{RejectNonJSON: true}
		b.Begin(testNow)
		_, failure := b.Build(nil, NewDestination(defaultRules(t), topic), Message{Payload: []byte(`{"a":NaN}`)})
		require.Equal(t, &Failure{event.ClassDecode, []event.Violation{{
			Path: "/payload", Keyword: "json", Message: "payload is not JSON: byte 'N' cannot begin a value at byte 5",
		}}}, failure)
	}
}

func TestBuildRemarks(t *testing.T) {
	for topic, path := range map[string]string{
		"devices/c/sensor": "", "devices/c/gps": "/payload", "devices/c/image": "/payload_b64",
	} {
		_, e, failure := build(t, topic, Message{Payload: []byte(`$GPGGA`)})
		require.Nil(t, failure)
		require.Contains(t, string(e.Body), `"payload_b64":"JEdQR0dB"`)
		if path == "" {
			require.Empty(t, e.Remarks)
			continue
		}
		require.Equal(t, []event.Violation{{Path: path, Keyword: "json", Message: "payload is not JSON: byte '$' cannot begin a value at byte 0"}}, e.Remarks)
	}
}

func TestBuildIdentity(t *testing.T) {
	d := NewDestination(defaultRules(t), "devices/c/sensor")
	var b Builder
	b.Begin(testNow)
	made := func(m Message) Event {
		t.Helper()
		e, failure := b.Build(nil, d, m)
		require.Nil(t, failure)
		return e
	}
	given := "00112233445566778899aabbccddeeff"

	t.Run("own time", func(t *testing.T) {
		payload := []byte(`{"time":1704067200}`)
		e := made(Message{Payload: payload, EventID: given, EventTime: testNowText})
		require.Equal(t, event.NewID("c", "devices/c/sensor", time.Unix(1704067200, 0), payload), e.ID)
		require.Equal(t, e.ID, made(Message{Payload: payload}).ID)
		require.False(t, e.TimeIngested)
	})
	t.Run("equal readings without a time are two events", func(t *testing.T) {
		a, b := made(Message{Payload: []byte(`5`)}), made(Message{Payload: []byte(`5`)})
		require.NotEqual(t, a.ID, b.ID)
		require.NotEqual(t, string(a.Time), string(b.Time))
		require.True(t, a.TimeIngested)
		body := decode(t, b.Body).(map[string]any)
		require.Equal(t, body["timestamp"], body["ingested_at"])
	})
	t.Run("given id", func(t *testing.T) {
		e := made(Message{Payload: []byte(`5`), EventID: given})
		require.Equal(t, given, e.ID.String())
		require.True(t, e.TimeIngested)
		e = made(Message{Payload: []byte(`5`), EventID: given, EventTime: "2026-01-01T01:00:00+01:00"})
		require.Equal(t, given, e.ID.String())
		require.Equal(t, "2026-01-01T00:00:00Z", string(e.Time))
		require.Contains(t, string(e.Body), `"ingested_at":"`+testNowText)
	})
	t.Run("given id that is none", func(t *testing.T) {
		e := made(Message{Payload: []byte(`5`), EventID: "x", EventTime: "2026-01-01T00:00:00Z"})
		require.Contains(t, string(e.Time), "2026-07-01")
	})
}

func TestBuildBigPayload(t *testing.T) {
	blob := strings.Repeat("\xff", 1<<20)
	_, e, failure := build(t, "devices/c/sensor", Message{Payload: []byte(blob)})
	require.Nil(t, failure)
	body := decode(t, e.Body).(map[string]any)
	back, err := base64.StdEncoding.DecodeString(body["payload"].(map[string]any)["payload_b64"].(string))
	require.NoError(t, err)
	require.Equal(t, blob, string(back))

	keys := "{" + strings.Repeat(`"a":{"b":[1,2,{"a":3}]},`, 40_000) + `"z":1}`
	_, e, failure = build(t, "devices/c/sensor", Message{Payload: []byte(keys)})
	require.Nil(t, failure)
	require.Contains(t, string(e.Body), `"payload":{"a":{"b":[1,2,{"a":3}]},"z":1}`)

	topic := "devices/c/" + strings.Repeat("\x01", 65_525)
	_, e, failure = build(t, topic, Message{Payload: []byte(`1`)})
	require.Nil(t, failure)
	require.Equal(t, topic, decode(t, e.Body).(map[string]any)["mqtt_topic"])
}

// fuzzOverwritten are the members of a media event that are ours.
var fuzzOverwritten = []string{"timestamp", "utcTimestamp", "utc_timestamp", "time", "device_id", "ingested_at", "mqtt_topic", "qos", "retain", "source"}

func FuzzBuild(f *testing.F) {
	for _, row := range golden(f) {
		if len(row.Payload) < 500 {
			f.Add(row.MQTTTopic, row.Payload)
		}
	}
	rules := defaultRules(f)
	f.Fuzz(func(t *testing.T, topic string, payload []byte) {
		d := NewDestination(rules, topic)
		var b Builder
		b.Begin(testNow)
		e, failure := b.Build(nil, d, Message{Payload: payload, QoS: 1})
		if failure != nil {
			require.NotEmpty(t, failure.Class)
			require.NotEmpty(t, failure.Violations)
			require.NotEmpty(t, failure.Violations[0].Message)
			require.NotEmpty(t, failure.Violations[0].Keyword)
			return
		}
		// A builder that was used before, and a buffer with others' bytes in
		// front, give the same event.
		b.Begin(testNow)
		again, failure := b.Build([]byte("others"), d, Message{Payload: payload, QoS: 1})
		require.Nil(t, failure)
		require.Equal(t, string(e.Body), string(again.Body))
		require.Equal(t, e.ID, again.ID)

		require.True(t, json.Valid(e.Body), "%s", e.Body)
		var s jsonscan.Scanner
		_, _, kind, err := s.Document(e.Body, 0)
		require.NoError(t, err)
		require.Equal(t, jsonscan.Object, kind)
		require.Zero(t, s.Notes&jsonscan.LoneSurrogate)
		body := decode(t, e.Body).(map[string]any)
		at, err := event.ParseTime(body["timestamp"].(string))
		require.NoError(t, err)
		require.Equal(t, event.NewID(e.DeviceID, topic, at, payload), e.ID)
		require.Equal(t, topic, body["mqtt_topic"])

		// The payload's values are in the event, as encoding/json reads them.
		var got any
		switch d.shape {
		case spread:
			for _, name := range fuzzOverwritten {
				delete(body, name)
			}
			got = body
		default:
			require.Equal(t, d.DeviceID, body["device_id"])
			got = body["payload"]
		}
		want, err := decodeJSON(payload)
		var document jsonscan.Scanner
		if _, _, _, scanErr := document.Document(payload, 0); scanErr != nil {
			want = map[string]any{"payload_b64": base64.StdEncoding.EncodeToString(payload)}
		} else {
			require.NoError(t, err)
		}
		switch members, isObject := want.(map[string]any); {
		case isObject && d.shape == spread:
			for _, name := range fuzzOverwritten {
				delete(members, name)
			}
		case isObject:
		case d.shape == nested:
			want = map[string]any{"value": want}
		default:
			want = map[string]any{}
		}
		requireSame(t, want, got)
	})
}

func BenchmarkBuild(b *testing.B) {
	rules := defaultRules(b)
	for _, c := range benchCases {
		b.Run(c.name, func(b *testing.B) {
			d := NewDestination(rules, c.topic)
			var builder Builder
			builder.Begin(testNow)
			buf := make([]byte, 0, 4096)
			payload := []byte(c.payload)
			b.SetBytes(int64(len(payload)))
			b.ReportAllocs()
			for b.Loop() {
				if _, failure := builder.Build(buf, d, Message{Payload: payload, QoS: 1}); failure != nil {
					b.Fatal(failure)
				}
			}
		})
	}
}

// benchCases are messages of 200 to 300 bytes, as collars and barn sensors
// send them.
var benchCases = []struct{ name, topic, payload string }{
	{"gps", "devices/collar-0042/gps", `{"timestamp":"2026-05-04T10:11:12.5Z","latitude_deg":47.6950123,"longitude_deg":9.1320456,"altitude_m":411.2,"speed_m_s":1.8,"heading_deg":84.5,"hdop":0.9,"satellites":11,"fixType":3,"battery_v":3.71,"firmware":"2.14.0","sequence":1048577}`},
	{"sensor", "devices/cow-0042/sensor/rumen", `{"timestamp":"2026-05-04T10:11:12Z","temperature_c":38.65,"ph":6.31,"activity":{"walking_s":112,"lying_s":340,"ruminating_s":448},"drinks":2,"battery_v":3.02,"rssi":-97,"firmware":"1.9.3","sequence":88231,"unit":"bolus"}`},
}
