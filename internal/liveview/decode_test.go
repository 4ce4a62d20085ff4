// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package liveview

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestDecode(t *testing.T) {
	speed := 0.5
	letter := `{"timestamp":"2026-05-04T10:00:00Z","source":"mqtt-bridge","intended_topic":"raw.gps","source_topic":"devices/cow-7/gps","errors":["latitude is 132, above 90","more"],"raw_event":{"payload_b64":"eyJhIjoxfQ=="}}`
	header := func(pairs ...string) (hs []kgo.RecordHeader) {
		for i := 0; i < len(pairs); i += 2 {
			hs = append(hs, kgo.RecordHeader{Key: pairs[i], Value: []byte(pairs[i+1])})
		}
		return hs
	}
	tests := []struct {
		name   string
		record kgo.Record
		want   Record
	}{
		{
			"position",
			kgo.Record{Topic: "raw.gps", Key: []byte("cow-7"), Value: []byte(`{"device_id":"cow-7","timestamp":"2026-05-04T09:59:59Z","ingested_at":"2026-05-04T10:00:00.5Z","latitude":47.1,"longitude":9.2,"speed_m_s":0.5}`)},
			Record{
				Topic: "raw.gps", Bytes: 148, Device: true, IngestedAt: start.Add(500 * time.Millisecond),
				Position: &Position{Device: "cow-7", Latitude: 47.1, Longitude: 9.2, Speed: &speed, Time: start.Add(-time.Second)},
			},
		},
		{"position without latitude", kgo.Record{Topic: "raw.gps", Value: []byte(`{"device_id":"a","longitude":1}`)}, Record{Topic: "raw.gps", Bytes: 31, Device: true}},
		{"no JSON", kgo.Record{Topic: "raw.gps", Value: []byte(`{`)}, Record{Topic: "raw.gps", Bytes: 1, Device: true}},
		{"wrong types", kgo.Record{Topic: "raw.gps", Value: []byte(`{"latitude":"x"}`)}, Record{Topic: "raw.gps", Bytes: 16, Device: true}},
		{"tombstone", kgo.Record{Topic: "raw.gps"}, Record{Topic: "raw.gps", Device: true}},
		{"sensor event", kgo.Record{Topic: "raw.sensor", Value: []byte("x")}, Record{Topic: "raw.sensor", Bytes: 1, Device: true}},
		{"feature", kgo.Record{Topic: "features.events", Value: []byte("x")}, Record{Topic: "features.events", Bytes: 1}},
		{"from object storage", kgo.Record{Topic: "raw.sensor", Headers: header("source_topic", "s3://bucket/log.bin")}, Record{Topic: "raw.sensor"}},
		{"from another topic", kgo.Record{Topic: "raw.sensor", Headers: header("source_topic", "a", "source_offset", "7")}, Record{Topic: "raw.sensor"}},
		{
			"dead letter",
			kgo.Record{Topic: "dlq.events", Value: []byte(letter), Headers: header("error_class", "contract", "source_topic", "devices/cow-7/gps")},
			Record{
				Topic: "dlq.events", Bytes: len(letter), Device: true, IngestedAt: start, Original: []byte(`{"a":1}`),
				DeadLetter: &DeadLetter{Class: "contract", Intended: "raw.gps", SourceTopic: "devices/cow-7/gps", Reason: "latitude is 132, above 90"},
			},
		},
		{
			"what is no dead letter",
			kgo.Record{Topic: "dlq.events", Value: []byte("x")},
			Record{Topic: "dlq.events", Bytes: 1, Device: true, DeadLetter: &DeadLetter{Reason: "not an envelope of this distribution"}},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { assert.Equal(t, test.want, Decode(&test.record)) })
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("raw.gps", []byte(`{"device_id":"cow-7","latitude":47.1,"longitude":9.2}`))
	f.Add("dlq.events", []byte(`{"timestamp":"2026-05-04T10:00:00Z","intended_topic":"raw.gps","errors":["a"],"raw_event":{"payload_b64":"eyJhIjoxfQ=="}}`))
	f.Add("dlq.events", []byte(`{"raw_event":null}`))
	f.Fuzz(func(t *testing.T, topic string, value []byte) {
		m := NewModel(start)
		r := Decode(&kgo.Record{Topic: topic, Value: value})
		if (r.DeadLetter != nil) != (topic == deadLetterTopic) {
			t.Fatal("every record on the dead-letter topic is a dead letter, and no other")
		}
		m.Record(start, r)
		requireFits(t, Frame(m.Snapshot(start), "", 80, 24, Style{Color: true}), 80, 24)
	})
}
