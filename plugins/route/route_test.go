// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package route

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// readLines decodes a file of JSON lines.
func readLines[T any](t testing.TB, path string) []T {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	var rows []T
	s := bufio.NewScanner(f)
	s.Buffer(nil, 4<<20)
	for s.Scan() {
		var row T
		require.NoError(t, json.Unmarshal(s.Bytes(), &row))
		rows = append(rows, row)
	}
	require.NoError(t, s.Err())
	require.NotEmpty(t, rows)
	return rows
}

func compile(t testing.TB, s Settings) *Table {
	t.Helper()
	table, err := Compile(s)
	require.NoError(t, err)
	return table
}

// TestGoldenRouting compares the topic, the device and the source of every row
// of the platform's routing cases.
func TestGoldenRouting(t *testing.T) {
	type row struct {
		ID            string  `json:"id"`
		MQTTTopic     string  `json:"mqtt_topic"`
		IntendedTopic *string `json:"intended_topic"`
		Key           *string `json:"key"`
		Bug           bool    `json:"upstream_bug"`
		Want          struct {
			KafkaTopic string   `json:"kafka_topic"`
			Key        string   `json:"key"`
			Errors     []string `json:"errors"`
		} `json:"want"`
		Event struct {
			Source string `json:"source"`
		} `json:"event"`
	}
	table := compile(t, Defaults())
	rows := readLines[row](t, "testdata/routing.jsonl")
	require.Len(t, rows, 202)
	for _, row := range rows {
		t.Run(row.ID, func(t *testing.T) {
			got, err := table.Resolve(row.MQTTTopic)
			if row.Bug && len(row.Want.Errors) == 1 && row.Want.Errors[0] == ErrNoDevice.Error() {
				require.ErrorIs(t, err, ErrNoDevice)
				require.Empty(t, got.DeviceID)
				return
			}
			require.NoError(t, err)
			if row.IntendedTopic == nil { // the platform's process stopped on this one
				require.True(t, row.Bug)
				require.Equal(t, "raw.sensor", got.KafkaTopic)
				require.Equal(t, "cow-7", got.DeviceID)
				return
			}
			topic, key := *row.IntendedTopic, *row.Key
			if row.Bug && row.Want.KafkaTopic != "" && row.Want.KafkaTopic != "dlq.events" {
				topic = row.Want.KafkaTopic
			}
			// Rows that want another key because the payload names the device
			// are for the builder of events.
			if row.Bug && row.Want.Key != "" && strings.Contains(row.MQTTTopic, row.Want.Key) {
				key = row.Want.Key
			}
			require.Equal(t, topic, got.KafkaTopic)
			require.Equal(t, key, got.DeviceID)
			require.Equal(t, row.Event.Source, got.Source)
		})
	}
}

// TestGoldenSettings compares routing under other settings than the defaults.
func TestGoldenSettings(t *testing.T) {
	type row struct {
		ID        string            `json:"id"`
		Env       map[string]string `json:"env"`
		MQTTTopic string            `json:"mqtt_topic"`
		Result    struct {
			KafkaTopic string `json:"kafka_topic"`
			Key        string `json:"key"`
			Source     string `json:"source"`
		} `json:"result"`
	}
	for _, row := range readLines[row](t, "testdata/config.jsonl") {
		t.Run(row.ID, func(t *testing.T) {
			s := Defaults()
			for name, value := range row.Env {
				switch name {
				case "DEFAULT_KAFKA_TOPIC":
					s.DefaultTopic = value
				case "WILDFI_TOPIC_PREFIXES":
					s.WildFiPrefixes = []string{value}
				default:
					t.Fatalf("no setting stands for %s", name)
				}
			}
			got, err := compile(t, s).Resolve(row.MQTTTopic)
			require.NoError(t, err)
			require.Equal(t, Route{row.Result.KafkaTopic, row.Result.Key, row.Result.Source}, got)
		})
	}
}

func TestResolve(t *testing.T) {
	long := strings.Repeat("x", 65_527)
	for _, test := range []struct {
		topic, kafka, device, source string
		err                          string
	}{
		{topic: "wildfi/gateways/GW-1/status", kafka: TopicSensor, device: "GW-1", source: SourceWildFi},
		{topic: "wildfi/imu/acc/WF-1", kafka: TopicSensor, device: "WF-1", source: SourceWildFi},
		{topic: "WILDFI/Tags/wf-1/GPS", kafka: TopicGPS, device: "wf-1", source: SourceWildFi},
		{topic: "devices/gps", kafka: TopicSensor, device: "gps", source: SourceMQTT},
		{topic: "devices/gps/gps", kafka: TopicGPS, device: "gps", source: SourceMQTT},
		{topic: "farm-1/gps/cow-7", kafka: TopicGPS, device: "cow-7", source: SourceMQTT},
		{topic: "devices/gateway-1/tags/T1/image", kafka: TopicImage2D, device: "T1", source: SourceMQTT},
		{topic: "wildfi/WF-1/imu/tags", kafka: TopicSensor, device: "WF-1", source: SourceWildFi},
		{topic: "devices/\u212aow/sensor", kafka: TopicSensor, device: "\u212aow", source: SourceMQTT},
		{topic: "devices/" + long, kafka: TopicSensor, device: long, source: SourceMQTT},
		{topic: strings.Repeat("/", 65_535), kafka: TopicSensor, source: SourceMQTT, err: "no device id"},
		{topic: strings.Repeat("a/", 32_767) + "b", kafka: TopicSensor, device: "b", source: SourceMQTT},
		{topic: "", kafka: TopicSensor, source: SourceMQTT, err: "no device id"},
		{topic: "farm/gps", kafka: TopicGPS, source: SourceMQTT, err: "no device id in the topic (it stands behind one of the levels tags, tag, devices, wildfi, wild-fi"},
		{topic: "cow-7/wildfi", kafka: TopicSensor, source: SourceWildFi, err: "no device id"},
		{topic: "devices/ \u00a0/gps", kafka: TopicGPS, source: SourceMQTT, err: "it is blank"},
		{topic: "devices/cow\x00/gps", kafka: TopicGPS, source: SourceMQTT, err: "control character"},
		{topic: "devices/cow\x7f/gps", kafka: TopicGPS, source: SourceMQTT, err: "control character"},
		{topic: "devices/cow-7/\x00", kafka: TopicSensor, device: "cow-7", source: SourceMQTT},
		{topic: "devices/cow\xff/gps", err: "not valid UTF-8"},
	} {
		t.Run(fmt.Sprintf("%.40q", test.topic), func(t *testing.T) {
			got, err := compile(t, Defaults()).Resolve(test.topic)
			if test.err != "" {
				require.ErrorContains(t, err, test.err)
				require.Less(t, len(err.Error()), 1000)
			} else {
				require.NoError(t, err)
			}
			require.Equal(t, Route{test.kafka, test.device, test.source}, got)
		})
	}
}

func TestCompile(t *testing.T) {
	t.Run("own rules", func(t *testing.T) {
		s := Defaults()
		s.Rules = []Rule{{[]string{"Milk"}, "farm.milk"}}
		s.DeviceMarkers = []string{"cows"}
		s.DefaultTopic = "farm.other"
		s.WildFiPrefixes = []string{" biolog , Move-Tag", ""}
		table := compile(t, s)
		require.Equal(t, []string{"farm.other", "farm.milk", TopicSensor}, table.Topics())
		got, err := table.Resolve("cows/7/milk")
		require.NoError(t, err)
		require.Equal(t, Route{"farm.milk", "7", SourceMQTT}, got)
		got, err = table.Resolve("MOVE-TAG/imu/B1")
		require.NoError(t, err)
		require.Equal(t, Route{TopicSensor, "B1", SourceWildFi}, got)
		got, err = table.Resolve("devices/7/gps")
		require.NoError(t, err)
		require.Equal(t, Route{"farm.other", "gps", SourceMQTT}, got)
	})
	for name, test := range map[string]struct {
		change func(*Settings)
		err    string
	}{
		"default topic":    {func(s *Settings) { s.DefaultTopic = "" }, `reading default topic: naming Kafka topic ""`},
		"rule topic":       {func(s *Settings) { s.Rules[2].Topic = "raw image" }, `reading rule 2: naming Kafka topic "raw image"`},
		"no markers":       {func(s *Settings) { s.Rules[0].Markers = nil }, "reading rule 0 for raw.video3d.meta: it has no markers"},
		"two levels":       {func(s *Settings) { s.Rules[0].Markers = []string{"a/b"} }, `reading marker "a/b"`},
		"blank marker":     {func(s *Settings) { s.DeviceMarkers = []string{" "} }, `reading marker " "`},
		"marker twice":     {func(s *Settings) { s.Rules[1].Markers = []string{"GPS"} }, "it stands in rules 1 and 4"},
		"slash in prefix":  {func(s *Settings) { s.WildFiPrefixes = []string{"a,b/c"} }, `reading marker "b/c"`},
		"slash in wordset": {func(s *Settings) { s.WildFiMarkers = []string{"/"} }, `reading marker "/"`},
	} {
		t.Run(name, func(t *testing.T) {
			s := Defaults()
			test.change(&s)
			_, err := Compile(s)
			require.ErrorContains(t, err, test.err)
		})
	}
}

func TestCache(t *testing.T) {
	t.Run("computes once", func(t *testing.T) {
		var c Cache[int]
		n := 0
		for i := range 1000 {
			topic := fmt.Sprint("devices/", i%10)
			require.Equal(t, i%10, c.Get(topic, func(string) int { n++; return i % 10 }))
		}
		require.Equal(t, 10, n)
		require.Len(t, *c.read.Load(), 10)
		require.Zero(t, testing.AllocsPerRun(100, func() { c.Get("devices/3", nil) }))
	})
	t.Run("stays within bounds", func(t *testing.T) {
		var c Cache[int]
		for i := range 5 * MaxCached {
			require.Equal(t, i, c.Get(fmt.Sprint("devices/", i), func(string) int { return i }))
			require.LessOrEqual(t, c.len(), MaxCached)
		}
	})
	t.Run("keeps no long topics", func(t *testing.T) {
		var c Cache[string]
		topic := strings.Repeat("x", MaxCachedTopic+1)
		for range 3 {
			require.Equal(t, topic, c.Get(topic, func(s string) string { return s }))
		}
		require.Zero(t, c.len())
	})
	t.Run("concurrent", func(t *testing.T) {
		var c Cache[string]
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				for i := range 3 * MaxCached / 2 {
					topic := fmt.Sprint("devices/", (i*(g%3+1))%(2*MaxCached))
					if got := c.Get(topic, func(s string) string { return s }); got != topic {
						t.Errorf("got %q for %q", got, topic)
						return
					}
				}
			})
		}
		wg.Wait()
		require.LessOrEqual(t, c.len(), MaxCached+8)
	})
}

func FuzzRoute(f *testing.F) {
	for _, topic := range []string{
		"devices/cow-7/gps", "wildfi/tags/WF-001/gnss/fix", "//devices//cow-7//sensor//", "wildfi/imu", "", "/", "tags/a/tag/b/sensor",
		"devices/cow\xff", "devices/\x00", "wildfi/gateways/GW-1/status", "devices/\u212aow/GPS",
	} {
		f.Add(topic)
	}
	table := compile(f, Defaults())
	known := map[string]bool{"": true}
	for _, topic := range table.Topics() {
		known[topic] = true
	}
	f.Fuzz(func(t *testing.T, topic string) {
		got, err := table.Resolve(topic)
		again, errAgain := table.Resolve(topic)
		require.Equal(t, got, again)
		require.Equal(t, fmt.Sprint(err), fmt.Sprint(errAgain))
		require.True(t, known[got.KafkaTopic], "unknown topic %q", got.KafkaTopic)
		if err != nil {
			require.Empty(t, got.DeviceID)
			return
		}
		require.True(t, utf8.ValidString(topic))
		require.Contains(t, strings.Split(topic, "/"), got.DeviceID)
		require.NotEmpty(t, strings.TrimSpace(got.DeviceID))
		// Empty levels count for nothing.
		padded, err := table.Resolve("//" + strings.ReplaceAll(topic, "/", "//") + "/")
		require.NoError(t, err)
		require.Equal(t, got, padded)
	})
}

func BenchmarkResolve(b *testing.B) {
	table := compile(b, Defaults())
	topic := "wildfi/gateways/GW-1/tags/WF-009/gps"
	b.Run("rules", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = table.Resolve(topic)
		}
	})
	b.Run("cache", func(b *testing.B) {
		var c Cache[Route]
		compute := func(topic string) Route { r, _ := table.Resolve(topic); return r }
		b.ReportAllocs()
		for b.Loop() {
			c.Get(topic, compute)
		}
	})
}
