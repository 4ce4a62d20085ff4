// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"testing"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/require"

	"github.com/dealiot/dealiot-connect/plugins/event"
)

// Events as device_event makes them, some 300 bytes each.
var benchEvents = map[string]string{
	"raw.gps": `{"device_id":"collar-0042","timestamp":"2026-05-04T10:11:12.345Z","latitude":47.6512345,"longitude":9.1756789,` +
		`"altitude_m":412.5,"speed_m_s":0.42,"heading_deg":271.3,"source":"mqtt-bridge","mqtt_topic":"farm/lindenhof/devices/collar-0042/gps",` +
		`"ingested_at":"2026-05-04T10:11:13.001Z","qos":1,"retain":false,"event_id":"0123456789abcdef0123456789abcdef"}`,
	"raw.sensor": `{"device_id":"tag-00a1","timestamp":"2026-05-04T10:11:12Z","payload":{"temperature_c":38.6,"activity":0.74,"battery_mv":3312,` +
		`"acc":[0.01,-0.98,0.12],"state":"ruminating"},"source":"mqtt-bridge","mqtt_topic":"wildfi/tags/tag-00a1/imu",` +
		`"ingested_at":"2026-05-04T10:11:13.001Z","qos":1,"retain":false,"event_id":"0123456789abcdef0123456789abcdef"}`,
}

var benchTopics = []string{"raw.gps", "raw.sensor"}

// BenchmarkAccept compares, in one run, the ways to accept one event: the
// compiled contract from the bytes; the library on the event as it comes out
// of the parser; the parser and the library together.
func BenchmarkAccept(b *testing.B) {
	for _, topic := range benchTopics {
		c := embeddedContract(b, topic)
		doc := []byte(benchEvents[topic])
		require.True(b, c.fast.accepts(doc))
		parsed, err := decode(doc)
		require.NoError(b, err)

		b.Run(topic+"/compiled", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(doc)))
			for b.Loop() {
				if res := c.Validate(doc, Options{}); !res.Valid() {
					b.Fatal(res.Violations)
				}
			}
		})
		b.Run(topic+"/library on parsed event", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := c.library.Validate(parsed); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(topic+"/parse and library", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				v, err := decode(doc)
				if err != nil {
					b.Fatal(err)
				}
				if err := c.library.Validate(v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkReject is the price of an event that breaks its contract.
func BenchmarkReject(b *testing.B) {
	c := embeddedContract(b, "raw.gps")
	doc := []byte(`{"device_id":"collar-0042","timestamp":"2026-05-04T10:11:12.345Z","latitude":95.2,"longitude":9.17,"qos":1}`)
	b.ReportAllocs()
	for b.Loop() {
		if res := c.Validate(doc, Options{}); res.Valid() {
			b.Fatal("accepted")
		}
	}
}

// BenchmarkNullField is the price of a null that is stripped.
func BenchmarkNullField(b *testing.B) {
	c := embeddedContract(b, "raw.gps")
	doc := []byte(`{"device_id":"collar-0042","timestamp":"2026-05-04T10:11:12.345Z","latitude":47.6,"longitude":9.17,"altitude_m":null,"qos":1}`)
	b.ReportAllocs()
	for b.Loop() {
		if res := c.Validate(doc, Options{}); !res.Valid() || res.Stripped != 1 {
			b.Fatal(res)
		}
	}
}

// BenchmarkProcessBatch passes batches of 100 valid events of two topics
// through the processor; the figures are for an event.
func BenchmarkProcessBatch(b *testing.B) {
	conf, err := Spec().ParseYAML("", nil)
	require.NoError(b, err)
	p, err := processorFromParsed(conf, service.MockResources())
	require.NoError(b, err)
	defer func() { require.NoError(b, p.Close(b.Context())) }()

	const size = 100
	batch := make(service.MessageBatch, size)
	for i := range batch {
		topic := benchTopics[i%len(benchTopics)]
		batch[i] = service.NewMessage([]byte(benchEvents[topic]))
		batch[i].MetaSetMut(event.KafkaTopic, topic)
	}
	b.ReportAllocs()
	events := 0
	for b.Loop() {
		if _, err := p.ProcessBatch(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
		events += size
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(events), "ns/event")
}
