// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package simulate

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dealiot/dealiot-connect/plugins/event"
)

var update = flag.Bool("update", false, "write the golden files anew")

var testStart = time.Date(2026, 5, 4, 6, 30, 0, 0, time.UTC)

func newTestHerd(t testing.TB, cfg Config) *Herd {
	t.Helper()
	if cfg.Start.IsZero() {
		cfg.Start = testStart
	}
	h, err := NewHerd(cfg)
	require.NoError(t, err)
	return h
}

// parsed reads a payload that must be a JSON object.
func parsed(t testing.TB, m Message) map[string]any {
	t.Helper()
	var o map[string]any
	require.NoError(t, json.Unmarshal(m.Payload, &o), "message %d of class %s: %.300s", m.Seq, m.Class, m.Payload)
	return o
}

func TestHerdIsDeterministic(t *testing.T) {
	cfg := Config{Seed: 7, Faults: EvenFaults(0.2), OversizeBytes: 20_000}
	a, b := newTestHerd(t, cfg), newTestHerd(t, cfg)
	for range 3000 {
		require.Equal(t, a.Next(), b.Next())
	}
	cfg.Seed = 8
	c := newTestHerd(t, cfg)
	same := 0
	a = newTestHerd(t, Config{Seed: 7, Faults: EvenFaults(0.2), OversizeBytes: 20_000})
	for range 1000 {
		if bytes.Equal(a.Next().Payload, c.Next().Payload) {
			same++
		}
	}
	assert.Zero(t, same, "another seed gave equal payloads")
}

// The sequence is part of what users rely on when they compare runs of two
// versions: a change of it is a change of behaviour.
func TestHerdGoldenHash(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skipf("skipping the golden hash of the herd: made on amd64, and %s may round sums differently", runtime.GOARCH)
	}
	h := newTestHerd(t, Config{Seed: 42, Faults: EvenFaults(0.2)})
	sum := sha256.New()
	for range 1000 {
		line, err := json.Marshal(h.Next())
		require.NoError(t, err)
		sum.Write(line)
	}
	got := hex.EncodeToString(sum.Sum(nil)) + "\n"
	file := filepath.Join("testdata", "first1000.sha256")
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, string(want), got, "the messages of seed 42 changed; if that is meant, run the test with -update")
}

func TestHerdIsPlausible(t *testing.T) {
	h := newTestHerd(t, Config{Seed: 3, Rate: 2}) // 10,000 s in 20,000 messages
	type last struct {
		time    time.Time
		at      point
		battery float64
	}
	lasts := map[string]last{}
	topics := map[string]int{}
	activities := map[string]int{}
	for range 20_000 {
		m := h.Next()
		require.Equal(t, OK, m.Class)
		topics[m.Expect.KafkaTopic]++
		o := parsed(t, m)
		seq, ok := FindSeq(m.Payload)
		require.True(t, ok)
		require.Equal(t, m.Seq, seq)
		require.True(t, m.HasTime)
		switch ts := o["timestamp"].(type) {
		case string:
			at, err := event.ParseTime(ts)
			require.NoError(t, err)
			require.Equal(t, m.EventTime, at)
		default:
			require.Equal(t, float64(m.EventTime.UnixMilli()), o["utcTimestamp"])
		}
		require.Less(t, len(m.Payload), 700, "%s", m.Payload)
		require.Equal(t, event.NewID(m.DeviceID, m.MQTTTopic, m.EventTime, m.Payload).String(), m.EventID)

		if v, ok := o["temperature_c"].(float64); ok && strings.HasSuffix(m.MQTTTopic, "/rumen") {
			require.InDelta(t, 37.5, v, 4)
		}
		if v, ok := o["activity"].(string); ok {
			activities[v]++
		}
		if m.Expect.KafkaTopic != TopicGPS {
			continue
		}
		lat, lon := number(o, "latitude", "lat"), number(o, "longitude", "lon")
		home := pasture
		if strings.HasPrefix(m.DeviceID, "WF-") {
			home = rangeland
		}
		p := point{(lon - originLongitude) * metresPerDegreeEast, (lat - originLatitude) * metresPerDegree}
		require.True(t, home.contains(p, 8*fixError), "%s is at %v, outside its range", m.DeviceID, p)
		require.Less(t, number(o, "speed_m_s"), 5.0)
		require.InDelta(t, 180, number(o, "heading_deg"), 180)
		battery := number(o, "battery_v", "batteryV")
		require.InDelta(t, 3.6, battery, 0.7)
		if l, ok := lasts[m.DeviceID]; ok {
			dt := m.EventTime.Sub(l.time).Seconds()
			require.Positive(t, dt)
			moved := math.Hypot(p.x-l.at.x, p.y-l.at.y)
			require.Less(t, moved, 5*dt+8*fixError, "%s moved %.1f m in %.1f s", m.DeviceID, moved, dt)
			require.LessOrEqual(t, battery, l.battery+0.011)
		}
		lasts[m.DeviceID] = last{time: m.EventTime, at: p, battery: battery}
	}
	for _, topic := range []string{TopicGPS, TopicSensor, TopicImage2D, TopicImage3D, TopicVideo2D, TopicVideo3D} {
		assert.Positive(t, topics[topic], topic)
	}
	for a := range cattle.bouts {
		assert.Positive(t, activities[activity(a).String()], activity(a).String())
	}
}

func number(o map[string]any, names ...string) float64 {
	for _, n := range names {
		if v, ok := o[n].(float64); ok {
			return v
		}
	}
	return math.NaN()
}

// A day of the herd: cattle graze most around sunrise and sunset, rest at
// night, and walk kilometres, not metres.
func TestDayRhythm(t *testing.T) {
	h := newTestHerd(t, Config{Seed: 5, Devices: 40, Rate: 0.5, Start: testStart.Truncate(24 * time.Hour)})
	grazes, total := [24]int{}, [24]int{}
	for range 43_200 {
		m := h.Next()
		if !strings.HasSuffix(m.MQTTTopic, "/imu") || !strings.HasPrefix(m.DeviceID, "cow-") {
			continue
		}
		hour := int(localHour(m.EventTime))
		total[hour]++
		if parsed(t, m)["activity"] == "grazing" {
			grazes[hour]++
		}
	}
	share := func(hours ...int) float64 {
		g, n := 0, 0
		for _, h := range hours {
			g, n = g+grazes[h], n+total[h]
		}
		return float64(g) / float64(n)
	}
	dawn, dusk, night := share(6, 7), share(18, 19, 20), share(0, 1, 2, 3)
	t.Logf("share of cattle grazing: dawn %.2f, dusk %.2f, night %.2f", dawn, dusk, night)
	assert.Greater(t, dawn, 2*night)
	assert.Greater(t, dusk, 2*night)

	km := 0.0
	for _, s := range allStreams(h) {
		if c, ok := s.device.(*cow); ok && s.cat == gps {
			km += c.steps * 0.9 / 1000 // a stride of some 0.9 m
		}
	}
	t.Logf("%.1f km a cow and day", km/25)
	assert.InDelta(t, 7, km/25, 5)
}

func allStreams(h *Herd) (all []*stream) {
	for _, q := range h.queues {
		all = append(all, q...)
	}
	return all
}

// A larger herd holds the smaller one, and its devices start out the same.
func TestMoreDevicesChangeNoOthers(t *testing.T) {
	ids := func(n int) map[string]float64 {
		m := map[string]float64{}
		for _, s := range allStreams(newTestHerd(t, Config{Seed: 1, Devices: n})) {
			require.NotContains(t, m, s.mqttTopic)
			m[s.mqttTopic] = s.due
		}
		return m
	}
	small, large := ids(40), ids(95)
	for topic, due := range small {
		require.Contains(t, large, topic)
		assert.Equal(t, due, large[topic], topic)
	}
	assert.Contains(t, small, "devices/cow-0001/gps")
	assert.Contains(t, small, "wildfi/tags/WF-0001/gps")
	assert.Contains(t, large, "devices/cam-3/video2d")
}

func TestHerdOfOne(t *testing.T) {
	h := newTestHerd(t, Config{Devices: 1, Faults: EvenFaults(1), OversizeBytes: minOversizeBytes})
	seen := map[Class]int{}
	for range 2000 {
		seen[h.Next().Class]++
	}
	for _, c := range FaultClasses() {
		assert.Positive(t, seen[c], c)
	}
}

func TestFaultShares(t *testing.T) {
	faults := map[Class]float64{BadJSON: 0.1, MissingField: 0.3, Late: 0.05, NoDevice: 0.02, Duplicate: 0.03}
	h := newTestHerd(t, Config{Seed: 11, Faults: faults})
	const n = 50_000
	seen := map[Class]float64{}
	for range n {
		seen[h.Next().Class] += 1.0 / n
	}
	for _, c := range FaultClasses() {
		assert.InDelta(t, faults[c], seen[c], 0.006, c)
	}
}

// Every faulty message is what its class says, and not more.
func TestFaultsAreWhatTheyClaim(t *testing.T) {
	h := newTestHerd(t, Config{Seed: 9, Faults: EvenFaults(0.9)})
	originals := map[uint64]Message{}
	seen := map[Class]map[category]int{}
	for range 4000 {
		m := h.Next()
		cat := map[string]category{TopicGPS: gps, TopicSensor: sensor}
		intended := m.Expect.KafkaTopic
		if intended == TopicDeadLetter {
			intended = m.Expect.IntendedTopic
		}
		kind, ok := cat[intended]
		if !ok {
			kind = media
		}
		if seen[m.Class] == nil {
			seen[m.Class] = map[category]int{}
		}
		seen[m.Class][kind]++

		seq, ok := FindSeq(m.Payload)
		require.True(t, ok, "no trace in %.200q", m.Payload)
		if m.DuplicateOf != 0 {
			require.Equal(t, m.DuplicateOf, seq)
		} else {
			require.Equal(t, m.Seq, seq)
		}
		want := Expect(m.Class, intended)
		require.Equal(t, want, m.Expect)
		require.Equal(t, m.HasTime && m.DeviceID != "", m.EventID != "", m.Class)
		if m.HasTime && m.DeviceID != "" {
			require.Equal(t, event.NewID(m.DeviceID, m.MQTTTopic, m.EventTime, m.Payload).String(), m.EventID)
		}

		switch m.Class {
		case BadJSON:
			require.False(t, json.Valid(m.Payload))
			require.True(t, utf8.Valid(m.Payload))
		case Binary:
			require.False(t, utf8.Valid(m.Payload))
		case Oversize:
			require.True(t, json.Valid(m.Payload))
			require.Equal(t, DefaultOversizeBytes, packetBytes(m.MQTTTopic, len(m.Payload), m.QoS))
			require.Empty(t, problems(t, m, intended))
		case MissingField, OutOfRange, WrongType:
			require.NotEqual(t, sensor, kind)
			p := problems(t, m, intended)
			require.Len(t, p, 1, "%s: %s", m.Class, m.Payload)
			require.Equal(t, string(m.Class), p[0], "%s", m.Payload)
		case UnparsableTime:
			o := parsed(t, m)
			v := o["timestamp"]
			if v == nil {
				v = o["utcTimestamp"]
			}
			require.NotNil(t, v)
			if s, ok := v.(string); ok {
				_, err := event.ParseTime(s)
				require.Error(t, err)
			} else {
				require.Equal(t, true, v)
			}
			require.Empty(t, problems(t, m, intended))
		case NoTime:
			o := parsed(t, m)
			require.NotContains(t, o, "timestamp")
			require.NotContains(t, o, "utcTimestamp")
			require.Empty(t, problems(t, m, intended))
		case Late, ClockWrong:
			requireTime(t, m)
			require.Empty(t, problems(t, m, intended))
			now := testStart.Add(time.Duration(float64(m.Seq-1) / DefaultRate * float64(time.Second)))
			if m.Class == Late {
				require.GreaterOrEqual(t, now.Sub(m.EventTime), time.Hour)
				require.Less(t, now.Sub(m.EventTime), 73*time.Hour)
			} else {
				require.Contains(t, []int{1970, 2080}, m.EventTime.Year())
			}
		case NoDevice:
			require.Contains(t, noDeviceTopics, m.MQTTTopic)
			require.Empty(t, m.DeviceID)
			parsed(t, m)
		case Duplicate:
			require.NotZero(t, m.DuplicateOf)
			require.Less(t, m.DuplicateOf, m.Seq)
			o, ok := originals[m.DuplicateOf]
			require.True(t, ok)
			require.Equal(t, o.Payload, m.Payload)
			require.Equal(t, o.MQTTTopic, m.MQTTTopic)
			require.Equal(t, o.EventID, m.EventID)
		case OK:
			require.Zero(t, m.DuplicateOf)
			requireTime(t, m)
			require.Empty(t, problems(t, m, intended))
			originals[m.Seq] = m
		}
	}
	for _, c := range FaultClasses() {
		for cat := range categories {
			if c.suits(cat) {
				assert.Positive(t, seen[c][cat], "class %s on category %d", c, cat)
			} else {
				assert.Zero(t, seen[c][cat], "class %s on category %d", c, cat)
			}
		}
	}
}

// requireTime checks that the time in the payload is the one that the message
// states, read by the rules of ingestion.
func requireTime(t *testing.T, m Message) {
	t.Helper()
	var o struct {
		Timestamp    string      `json:"timestamp"`
		UTCTimestamp json.Number `json:"utcTimestamp"`
	}
	require.NoError(t, json.Unmarshal(m.Payload, &o))
	var at time.Time
	var err error
	if o.Timestamp != "" {
		at, err = event.ParseTime(o.Timestamp)
	} else {
		at, err = event.ParseEpoch(o.UTCTimestamp.String())
	}
	require.NoError(t, err)
	require.True(t, m.EventTime.Equal(at), "message says %s, payload %s", m.EventTime, at)
}

// problems checks a payload against the field tables of the contracts, as far
// as the herd's messages go.
func problems(t *testing.T, m Message, topic string) (found []string) {
	t.Helper()
	if topic == TopicSensor {
		return nil
	}
	o := parsed(t, m)
	numbers := func(min, max float64, aliases ...string) {
		for _, name := range aliases {
			v, ok := o[name]
			if !ok {
				continue
			}
			if x, ok := v.(float64); !ok {
				found = append(found, string(WrongType))
			} else if x < min || x > max {
				found = append(found, string(OutOfRange))
			}
		}
	}
	required := func(aliases ...string) {
		for _, name := range aliases {
			if _, ok := o[name]; ok {
				return
			}
		}
		found = append(found, string(MissingField))
	}
	if topic == TopicGPS {
		required("latitude", "lat")
		required("longitude", "lon")
		numbers(-90, 90, "latitude", "lat")
		numbers(-180, 180, "longitude", "lon")
		numbers(0, math.Inf(1), "speed_m_s")
		numbers(0, 360, "heading_deg")
		numbers(math.Inf(-1), math.Inf(1), "altitude_m")
		return found
	}
	for _, name := range []string{"bucket", "object_key", "object_uri", "format"} {
		required(name)
	}
	numbers(0, math.Inf(1), "size_bytes", "duration_ms", "frame_count", "point_count")
	numbers(1, math.Inf(1), "frame_rate", "width", "height", "views")
	allowed := map[string]string{
		TopicImage2D: "camera_id width height",
		TopicImage3D: "sensor_id capture_type point_count coordinate_frame",
		TopicVideo2D: "camera_id codec duration_ms frame_rate frame_count width height",
		TopicVideo3D: "rig_id representation codec duration_ms frame_rate frame_count views width height",
	}[topic] + " timestamp bucket object_key object_uri format content_type size_bytes checksum tags"
	for name := range o {
		assert.Contains(t, strings.Fields(allowed), name, "field of %s", topic)
	}
	return found
}

func TestExpect(t *testing.T) {
	ev := func(topic string) Outcome { return Outcome{KafkaTopic: topic} }
	dead := func(topic string, class event.Class) Outcome {
		return Outcome{KafkaTopic: "dlq.events", IntendedTopic: topic, ErrorClass: class}
	}
	wrapped := Outcome{KafkaTopic: "raw.sensor", PayloadB64: true, Ingested: true}
	for _, tc := range []struct {
		class Class
		topic string
		want  Outcome
	}{
		{OK, "raw.sensor", ev("raw.sensor")},
		{OK, "raw.video3d.meta", ev("raw.video3d.meta")},
		{BadJSON, "raw.sensor", wrapped},
		{BadJSON, "raw.gps", dead("raw.gps", "contract")},
		{BadJSON, "raw.image2d.meta", dead("raw.image2d.meta", "contract")},
		{Binary, "raw.sensor", wrapped},
		{Binary, "raw.gps", dead("raw.gps", "contract")},
		{MissingField, "raw.gps", dead("raw.gps", "contract")},
		{OutOfRange, "raw.image3d.meta", dead("raw.image3d.meta", "contract")},
		{WrongType, "raw.video2d.meta", dead("raw.video2d.meta", "contract")},
		{Oversize, "raw.gps", dead("raw.gps", "sink")},
		{Duplicate, "raw.sensor", Outcome{KafkaTopic: "raw.sensor", Duplicate: true}},
		{Late, "raw.gps", ev("raw.gps")},
		{ClockWrong, "raw.gps", ev("raw.gps")},
		{UnparsableTime, "raw.sensor", dead("raw.sensor", "decode")},
		{NoDevice, "raw.sensor", dead("raw.sensor", "route")},
		{NoTime, "raw.image2d.meta", Outcome{KafkaTopic: "raw.image2d.meta", Ingested: true}},
	} {
		assert.Equal(t, tc.want, Expect(tc.class, tc.topic), "%s on %s", tc.class, tc.topic)
	}
}

// An oversize message that is not that large after all is an event.
func TestSmallOversizeIsAccepted(t *testing.T) {
	h := newTestHerd(t, Config{Faults: map[Class]float64{Oversize: 1}, OversizeBytes: 100_000})
	m := h.Next()
	assert.Equal(t, Oversize, m.Class)
	assert.Equal(t, 100_000, packetBytes(m.MQTTTopic, len(m.Payload), m.QoS))
	assert.Empty(t, m.Expect.IntendedTopic)
	assert.NotEqual(t, TopicDeadLetter, m.Expect.KafkaTopic)
}

func TestConfigErrors(t *testing.T) {
	for name, tc := range map[string]struct {
		cfg  Config
		want string
	}{
		"devices":   {Config{Start: testStart, Devices: -1}, "devices: -1"},
		"rate":      {Config{Start: testStart, Rate: -2}, "rate: -2"},
		"nan":       {Config{Start: testStart, Rate: math.NaN()}, "rate: NaN"},
		"start":     {Config{}, "start time"},
		"qos":       {Config{Start: testStart, QoS: 3}, "qos: 3"},
		"size":      {Config{Start: testStart, OversizeBytes: 10}, "10 is outside"},
		"near":      {Config{Start: testStart, OversizeBytes: 999_000}, "too near the record limit"},
		"share":     {Config{Start: testStart, Faults: map[Class]float64{Late: 1.5}}, "share of late: 1.5"},
		"nan share": {Config{Start: testStart, Faults: map[Class]float64{Late: math.NaN()}}, "share of late"},
		"sum":       {Config{Start: testStart, Faults: map[Class]float64{Late: 0.6, Binary: 0.6}}, "add up to 1.2"},
		"class":     {Config{Start: testStart, Faults: map[Class]float64{"worse": 0.1}}, `unknown fault class "worse"; there are bad_json,`},
		"ok":        {Config{Start: testStart, Faults: map[Class]float64{OK: 0.1}}, `unknown fault class "ok"`},
	} {
		_, err := NewHerd(tc.cfg)
		assert.ErrorContains(t, err, tc.want, name)
	}
}

func TestParseFault(t *testing.T) {
	for _, tc := range []struct {
		text, err string
		class     Class
		share     float64
	}{
		{text: "bad_json=0.01", class: BadJSON, share: 0.01},
		{text: " late = 2.5% ", class: Late, share: 0.025},
		{text: "late", err: "CLASS=SHARE"},
		{text: "late=", err: "a share is"},
		{text: "late=2", err: "a share is"},
		{text: "late=-1%", err: "a share is"},
		{text: "late=NaN", err: "a share is"},
		{text: "later=0.1", err: `unknown fault class "later"`},
	} {
		class, share, err := ParseFault(tc.text)
		if tc.err != "" {
			assert.ErrorContains(t, err, tc.err, tc.text)
			continue
		}
		assert.NoError(t, err, tc.text)
		assert.Equal(t, tc.class, class, tc.text)
		assert.InDelta(t, tc.share, share, 1e-12, tc.text)
	}
}

func TestFindSeq(t *testing.T) {
	for _, tc := range []struct {
		text string
		seq  uint64
		ok   bool
	}{
		{`{"sim_seq":12,"a":1}`, 12, true},
		{`{"sim_seq": 12}`, 12, true},
		{`{"sim_seq":12`, 12, true},
		{`{"payload":{"tags":{"sim_seq":7}}}`, 7, true},
		{`{"text":"{\"sim_seq\":9"}`, 9, true},
		{"sim_seq=3;\xff\xfe12", 3, true},
		{`sim_seq sim_seq=4`, 4, true},
		{`{"sim_seq":"x"}`, 0, false},
		{`sim_seq5`, 0, false},
		{`sim_seq=99999999999999999999999`, 0, false},
		{``, 0, false},
	} {
		seq, ok := FindSeq([]byte(tc.text))
		assert.Equal(t, tc.ok, ok, tc.text)
		assert.Equal(t, tc.seq, seq, tc.text)
	}
}

func FuzzFindSeq(f *testing.F) {
	f.Add([]byte(`{"sim_seq":12}`))
	f.Add([]byte("sim_seq=3;\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, ok := FindSeq(b); ok && !bytes.Contains(b, []byte(seqName)) {
			t.Fatalf("found a number without its name in %q", b)
		}
	})
}

func BenchmarkHerd(b *testing.B) {
	h := newTestHerd(b, Config{Seed: 1})
	b.ReportAllocs()
	size := 0
	for b.Loop() {
		size += len(h.Next().Payload)
	}
	b.ReportMetric(float64(size)/float64(b.N), "bytes/message")
}
