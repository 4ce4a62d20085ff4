// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

// Package bench measures the hot path side by side with named alternatives, in
// one run on one machine: what counts is the ratio. README.md says how to run
// it and holds the results.
package bench

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/require"

	_ "github.com/redpanda-data/benthos/v4/public/components/pure"

	"github.com/dealiot/dealiot-connect/plugins/contract"
	_ "github.com/dealiot/dealiot-connect/plugins/deadletter"
	"github.com/dealiot/dealiot-connect/plugins/deviceevent"
)

const batchSize = 100

// inputs are payloads of the usual size on the topics they come by.
var inputs = []struct {
	name, topic, payload string
}{
	{"gps", "devices/cow-0042/gps", `{"timestamp":"2026-05-04T10:11:%02d.345Z","latitude":47.6951234,"longitude":9.1323456,"altitude_m":411.2,"speed_m_s":0.42,"heading_deg":84.5,"hdop":0.9,"battery_v":3.71,"fix":"3d","sats":11}`},
	{"sensor", "wildfi/tags/WF-0007/environment", `{"utcTimestamp":17778888%02d345,"temperatureInDegCel":18.72,"humidityInPct":61.4,"pressureInHPA":963.18,"gasInOhms":148223,"batteryInV":3.94,"rssi":-71,"firmware":"2.4.1"}`},
}

// batch makes messages as the stock mqtt input does.
func batch(topic, payload string) service.MessageBatch {
	b := make(service.MessageBatch, batchSize)
	for i := range b {
		m := service.NewMessage(fmt.Appendf(nil, payload, i%60))
		m.MetaSetMut("mqtt_duplicate", false)
		m.MetaSetMut("mqtt_qos", 1)
		m.MetaSetMut("mqtt_retained", false)
		m.MetaSetMut("mqtt_topic", topic)
		m.MetaSetMut("mqtt_message_id", i)
		b[i] = m
	}
	return b
}

// BenchmarkProcessBatch is the price of an event from the bytes of an MQTT
// message to the validated, serialised event with its identity, the
// processors called directly.
func BenchmarkProcessBatch(b *testing.B) {
	event, err := deviceevent.Spec().ParseYAML("", nil)
	require.NoError(b, err)
	makeEvent, err := deviceevent.New(event, service.MockResources())
	require.NoError(b, err)
	check, err := contract.Spec().ParseYAML("", nil)
	require.NoError(b, err)
	checkContract, err := contract.New(check, service.MockResources())
	require.NoError(b, err)

	for _, in := range inputs {
		b.Run(in.name, func(b *testing.B) {
			b.ReportAllocs()
			events := 0
			for range b.N {
				b.StopTimer()
				messages := batch(in.topic, in.payload)
				b.StartTimer()
				for _, p := range []service.BatchProcessor{makeEvent, checkContract} {
					out, err := p.ProcessBatch(b.Context(), messages)
					if err != nil || len(out) != 1 {
						b.Fatal(err, len(out))
					}
					messages = out[0]
				}
				events += len(messages)
				if _, marked := messages[0].MetaGet("error_class"); marked {
					b.Fatal("the event was rejected")
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(events), "ns/event")
		})
	}
}

// pipelines to compare inside the engine. stock does with stock components what
// can be done with them: routing, envelope, and a schema that its library reads
// without the 2020-12 keywords; it has no identity, no dead letters and no
// exact times.
var pipelines = []struct {
	name       string
	processors func(schema string) []string
}{
	{"engine_alone", func(string) []string { return nil }},
	{"ours", func(string) []string {
		return []string{"device_event: {}", "contract_validate: {}", "dead_letter: {}"}
	}},
	{"stock", func(schema string) []string {
		return []string{stockMapping, "json_schema: { schema_path: file://" + schema + " }"}
	}},
}

const stockMapping = `
mapping: |
  let segments = @mqtt_topic.split("/")
  let kind = $segments.index(-1)
  meta kafka_topic = if ["gps", "gnss", "rawgps"].contains($kind) { "raw.gps" } else { "raw.sensor" }
  meta kafka_key = $segments.index(-2)
  root.device_id = @kafka_key
  root.timestamp = if this.timestamp != null { this.timestamp } else { (this.utcTimestamp / 1000).ts_format("2006-01-02T15:04:05.999Z07:00", "UTC") }
  root.ingested_at = now()
  root.latitude = this.latitude | deleted()
  root.longitude = this.longitude | deleted()
  root.altitude_m = this.altitude_m | deleted()
  root.speed_m_s = this.speed_m_s | deleted()
  root.heading_deg = this.heading_deg | deleted()
  root.payload = this
  root.mqtt_topic = @mqtt_topic
  root.qos = @mqtt_qos
  root.retain = @mqtt_retained
  root.source = "mqtt-bridge"
`

// BenchmarkPipeline is the CPU time of the whole process per event, engine and
// garbage collector included, from a batch input to an output that reads the
// bytes.
func BenchmarkPipeline(b *testing.B) {
	for _, in := range inputs {
		schema, err := filepath.Abs(filepath.Join("..", "..", "schemas", map[string]string{"gps": "raw.gps", "sensor": "raw.sensor"}[in.name]+".schema.json"))
		require.NoError(b, err)
		for _, p := range pipelines {
			b.Run(in.name+"/"+p.name, func(b *testing.B) {
				runPipeline(b, in.topic, in.payload, p.processors(schema))
			})
		}
	}
}

func runPipeline(b *testing.B, topic, payload string, processors []string) {
	builder := service.NewStreamBuilder()
	builder.SetStrict(true)
	builder.SetThreads(1)
	require.NoError(b, builder.SetLoggerYAML("level: none"))
	for _, p := range processors {
		require.NoError(b, builder.AddProcessorYAML(p))
	}
	produce, err := builder.AddBatchProducerFunc()
	require.NoError(b, err)
	var events atomic.Int64
	require.NoError(b, builder.AddBatchConsumerFunc(func(_ context.Context, batch service.MessageBatch) error {
		for _, m := range batch {
			if err := m.GetError(); err != nil {
				return err
			}
			body, err := m.AsBytes()
			if err != nil {
				return err
			}
			if !bytes.HasSuffix(body, []byte("}")) {
				return fmt.Errorf("not an event: %.100s", body)
			}
		}
		events.Add(int64(len(batch)))
		return nil
	}))
	stream, err := builder.Build()
	require.NoError(b, err)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- stream.Run(ctx) }()

	messages := batch(topic, payload)
	require.NoError(b, produce(ctx, messages.DeepCopy())) // everything is built now
	events.Store(0)
	before := cpu(b)
	b.ResetTimer()
	for range b.N {
		if err := produce(ctx, messages.DeepCopy()); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(events.Load()), "cpu-ns/event")
	require.NoError(b, stream.Stop(ctx))
	require.NoError(b, <-ended)
}

// cpu is the time that the process has had on the processors so far.
func cpu(b *testing.B) time.Duration {
	var use syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &use))
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}
