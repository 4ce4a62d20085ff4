// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package deviceevent

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/require"

	"github.com/dealiot/dealiot-connect/plugins/contract"
	"github.com/dealiot/dealiot-connect/plugins/event"
	"github.com/dealiot/dealiot-connect/schemas"
)

func newTestProcessor(t testing.TB, yaml string) *processor {
	t.Helper()
	conf, err := Spec().ParseYAML(yaml, nil)
	require.NoError(t, err)
	p, err := processorFromParsed(conf, service.MockResources())
	require.NoError(t, err)
	p.now = func() time.Time { return testNow }
	return p
}

// mqttMessage is a message with the metadata of the stock mqtt input.
func mqttMessage(topic, payload string) *service.Message {
	msg := service.NewMessage([]byte(payload))
	msg.MetaSetMut("mqtt_duplicate", false)
	msg.MetaSetMut(event.MQTTQoS, 1)
	msg.MetaSetMut(event.MQTTRetained, false)
	msg.MetaSetMut(event.MQTTTopic, topic)
	msg.MetaSetMut("mqtt_message_id", 7)
	return msg
}

func process(t testing.TB, p *processor, batch ...*service.Message) service.MessageBatch {
	t.Helper()
	out, err := p.ProcessBatch(t.Context(), batch)
	require.NoError(t, err)
	if len(out) == 0 {
		return nil
	}
	require.Len(t, out, 1)
	for _, msg := range out[0] {
		require.NoError(t, msg.GetError(), "a message was flagged as failed")
	}
	return out[0]
}

func metadata(t testing.TB, msg *service.Message) map[string]any {
	t.Helper()
	m := map[string]any{}
	require.NoError(t, msg.MetaWalkMut(func(k string, v any) error { m[k] = v; return nil }))
	return m
}

func content(t testing.TB, msg *service.Message) string {
	t.Helper()
	b, err := msg.AsBytes()
	require.NoError(t, err)
	return string(b)
}

func TestProcessor(t *testing.T) {
	gps := `{"timestamp":1704067200,"lat":47.6,"lon":9.1}`
	id := event.NewID("cow-7", "devices/cow-7/gps", time.Unix(1704067200, 0), []byte(gps)).String()
	input := map[string]any{"mqtt_duplicate": false, "mqtt_qos": 1, "mqtt_retained": false, "mqtt_message_id": 7}
	with := func(more map[string]any) map[string]any {
		m := map[string]any{}
		for k, v := range input {
			m[k] = v
		}
		for k, v := range more {
			m[k] = v
		}
		return m
	}
	for _, test := range []struct {
		name, config string
		msg          *service.Message
		change       func(*service.Message)
		content      string
		meta         map[string]any
		reason       string // part of the first violation's message, which meta leaves out
	}{
		{
			name: "event with a time", msg: mqttMessage("devices/cow-7/gps", gps),
			content: `{"event_id":"` + id + `","device_id":"cow-7","timestamp":"2024-01-01T00:00:00Z","ingested_at":"` + testNowText +
				`","latitude":47.6,"longitude":9.1,"payload":` + gps + `,"mqtt_topic":"devices/cow-7/gps","source":"mqtt-bridge","qos":1,"retain":false}`,
			meta: with(map[string]any{
				"mqtt_topic": "devices/cow-7/gps", "kafka_topic": "raw.gps", "kafka_key": "cow-7", "contract": "raw.gps",
				"event_id": id, "event_time": "2024-01-01T00:00:00Z", "original": []byte(gps),
			}),
		},
		{
			name: "event without a time", msg: mqttMessage("wildfi/WF-1/imu", "5"),
			content: `{"event_id":"` + event.NewID("WF-1", "wildfi/WF-1/imu", testNow, []byte("5")).String() + `","device_id":"WF-1","timestamp":"` + testNowText + `","ingested_at":"` + testNowText +
				`","payload":{"value":5},"mqtt_topic":"wildfi/WF-1/imu","source":"wildfi-mqtt","qos":1,"retain":false,"event_time_source":"ingested"}`,
			meta: with(map[string]any{
				"mqtt_topic": "wildfi/WF-1/imu", "kafka_topic": "raw.sensor", "kafka_key": "WF-1", "contract": "raw.sensor",
				"event_id":   event.NewID("WF-1", "wildfi/WF-1/imu", testNow, []byte("5")).String(),
				"event_time": testNowText, "event_time_source": "ingested", "original": []byte("5"),
			}),
		},
		{
			name: "payload names the device", msg: mqttMessage("devices/c/image", `{"time":0,"device_id":"cam"}`),
			content: `{"device_id":"cam","timestamp":"1970-01-01T00:00:00Z","ingested_at":"` + testNowText + `","mqtt_topic":"devices/c/image","source":"mqtt-bridge","qos":1,"retain":false}`,
			meta: with(map[string]any{
				"mqtt_topic": "devices/c/image", "kafka_topic": "raw.image2d.meta", "kafka_key": "cam", "contract": "raw.image2d.meta",
				"event_id":   event.NewID("cam", "devices/c/image", time.Unix(0, 0), []byte(`{"time":0,"device_id":"cam"}`)).String(),
				"event_time": "1970-01-01T00:00:00Z", "original": []byte(`{"time":0,"device_id":"cam"}`),
			}),
		},
		{
			name: "metadata as text", msg: mqttMessage("devices/cow-7/gps", gps),
			change: func(m *service.Message) {
				m.MetaSetMut("mqtt_qos", "2")
				m.MetaSetMut("mqtt_retained", "true")
				m.MetaSetMut("mqtt_topic", []byte("devices/cow-7/gps"))
			},
			content: `{"event_id":"` + id + `","device_id":"cow-7","timestamp":"2024-01-01T00:00:00Z","ingested_at":"` + testNowText +
				`","latitude":47.6,"longitude":9.1,"payload":` + gps + `,"mqtt_topic":"devices/cow-7/gps","source":"mqtt-bridge","qos":2,"retain":true}`,
		},
		{
			name: "from Kafka", msg: mqttMessage("devices/cow-7/gps", gps),
			change: func(m *service.Message) {
				m.MetaSetMut("kafka_topic", "mqtt.mirror")
				m.MetaSetMut("kafka_partition", 3)
				m.MetaSetMut("kafka_offset", 99)
				m.MetaSetMut("kafka_key", "k")
				m.MetaSetMut("event_time_source", "ingested") // of another pass
			},
			meta: with(map[string]any{
				"mqtt_topic": "devices/cow-7/gps", "kafka_topic": "raw.gps", "kafka_key": "cow-7", "contract": "raw.gps",
				"event_id": id, "event_time": "2024-01-01T00:00:00Z", "original": []byte(gps),
				"source_topic": "mqtt.mirror", "source_partition": 3, "source_offset": 99, "source_key": "k",
			}),
		},
		{
			name: "identity from metadata", msg: mqttMessage("devices/c/sensor", "5"),
			change: func(m *service.Message) { m.MetaSetMut("event_id", "00112233445566778899aabbccddeeff") },
			meta: with(map[string]any{
				"mqtt_topic": "devices/c/sensor", "kafka_topic": "raw.sensor", "kafka_key": "c", "contract": "raw.sensor",
				"event_id":   "00112233445566778899aabbccddeeff",
				"event_time": testNowText, "event_time_source": "ingested", "original": []byte("5"),
			}),
		},
		{
			name: "no device", msg: mqttMessage("wildfi/imu", gps), content: gps,
			meta: with(map[string]any{
				"mqtt_topic": "wildfi/imu", "kafka_topic": "raw.sensor", "original": []byte(gps),
				"error_class": "route", "error_component": "device_event",
			}),
			reason: "no device id in the topic (it stands behind",
		},
		{
			name: "no time", msg: mqttMessage("devices/c/gps", `{"time":"noon"}`), content: `{"time":"noon"}`,
			meta: with(map[string]any{
				"mqtt_topic": "devices/c/gps", "kafka_topic": "raw.gps", "kafka_key": "c", "original": []byte(`{"time":"noon"}`),
				"error_class": "decode", "error_component": "device_event",
			}),
			reason: "time is not a time: reading \"noon\"",
		},
		{
			name: "not JSON", config: `non_json: reject`, msg: mqttMessage("devices/c/sensor", `hello`), content: `hello`,
			meta: with(map[string]any{
				"mqtt_topic": "devices/c/sensor", "kafka_topic": "raw.sensor", "kafka_key": "c", "original": []byte(`hello`),
				"error_class": "decode", "error_component": "device_event",
			}),
			reason: "payload is not JSON: byte 'h' cannot begin a value at byte 0",
		},
		{
			name: "no MQTT topic", msg: service.NewMessage([]byte("5")), content: "5",
			meta:   map[string]any{"original": []byte("5"), "error_class": "route", "error_component": "device_event"},
			reason: "message has no MQTT topic: metadata mqtt_topic is not set",
		},
		{
			name: "from Kafka without an MQTT topic", msg: service.NewMessage([]byte("5")), content: "5",
			change: func(m *service.Message) { m.MetaSetMut("kafka_topic", "mqtt.mirror") },
			meta:   map[string]any{"source_topic": "mqtt.mirror", "original": []byte("5"), "error_class": "route", "error_component": "device_event"},
			reason: "message has no MQTT topic",
		},
		{
			name: "marked before", msg: mqttMessage("devices/c/gps", "damage"), content: "damage",
			change: func(m *service.Message) { m.MetaSetMut("error_class", "decode") },
			meta:   with(map[string]any{"mqtt_topic": "devices/c/gps", "error_class": "decode"}),
		},
		{
			name: "topic from an expression", config: `topic: 'devices/${! @who }/sensor'`, msg: service.NewMessage([]byte(`{"time":0}`)),
			change: func(m *service.Message) { m.MetaSetMut("who", "c") },
			content: `{"event_id":"` + event.NewID("c", "devices/c/sensor", time.Unix(0, 0), []byte(`{"time":0}`)).String() +
				`","device_id":"c","timestamp":"1970-01-01T00:00:00Z","ingested_at":"` + testNowText +
				`","payload":{"time":0},"mqtt_topic":"devices/c/sensor","source":"mqtt-bridge","retain":false}`,
		},
		{
			name: "topic from an expression that fails", config: `topic: '${! content().string().parse_json().t }'`, msg: service.NewMessage([]byte(`x`)), content: "x",
			meta:   map[string]any{"original": []byte("x"), "error_class": "route", "error_component": "device_event"},
			reason: "message has no MQTT topic: reading field topic",
		},
		{
			name: "own rules", config: "default_topic: raw.other\nrules: [ { markers: [ Milk ], topic: farm.milk } ]\ndevice_markers: [ cows ]\nwildfi_prefixes: [ 'biolog, x' ]",
			msg: mqttMessage("cows/7/MILK", `{"time":0,"litres":21.50}`),
			content: `{"litres":21.50,"device_id":"7","timestamp":"1970-01-01T00:00:00Z","ingested_at":"` + testNowText +
				`","mqtt_topic":"cows/7/MILK","source":"mqtt-bridge","qos":1,"retain":false}`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newTestProcessor(t, test.config)
			if test.change != nil {
				test.change(test.msg)
			}
			out := process(t, p, test.msg)
			require.Len(t, out, 1)
			if test.content != "" {
				require.Equal(t, test.content, content(t, out[0]))
			}
			got := metadata(t, out[0])
			if test.reason != "" {
				vs := event.ParseViolations(got["violations"])
				require.NotEmpty(t, vs)
				require.Contains(t, vs[0].Message, test.reason)
				delete(got, "violations")
			}
			if test.meta != nil {
				require.Equal(t, test.meta, got)
			}
		})
	}
}

func TestProcessorRemarks(t *testing.T) {
	out := process(t, newTestProcessor(t, ""), mqttMessage("devices/c/gps", "$GPGGA"))
	got := metadata(t, out[0])
	require.NotContains(t, got, "error_class")
	require.Equal(t, "payload is not JSON: byte '$' cannot begin a value at byte 0", event.ParseViolations(got["violations"])[0].Message)
}

func TestProcessorDrops(t *testing.T) {
	clear := func(topic string) *service.Message {
		m := mqttMessage(topic, "")
		m.MetaSetMut(event.MQTTRetained, true)
		return m
	}
	p := newTestProcessor(t, "")
	batch := service.MessageBatch{
		clear("devices/a/sensor"), mqttMessage("devices/b/sensor", ""), clear("wildfi"), mqttMessage("devices/c/sensor", "1"), clear("x"),
	}
	before := append(service.MessageBatch(nil), batch...)
	out := process(t, p, batch...)
	require.Len(t, out, 2)
	require.Contains(t, content(t, out[0]), `"device_id":"b"`)
	require.Contains(t, content(t, out[0]), `"payload":{"payload_b64":""}`)
	require.Contains(t, content(t, out[1]), `"device_id":"c"`)
	require.Equal(t, before, batch, "the batch was changed")
	require.Nil(t, process(t, p, clear("devices/a/sensor"), clear("devices/b/sensor")))
}

// TestProcessorBatch proves that messages of one batch, and of those before
// and after it, share no bytes that are written again.
func TestProcessorBatch(t *testing.T) {
	p := newTestProcessor(t, "")
	sizes := []int{10, 300, 20_000, 300, 200_000, 5, 1 << 20, 300}
	var all []*service.Message
	var want []string
	for round := range 5 {
		var batch service.MessageBatch
		for i, n := range sizes {
			topic := fmt.Sprintf("devices/d-%d-%d/%s", round, i, []string{"sensor", "gps", "image"}[i%3])
			payload := fmt.Sprintf(`{"time":%d,"lat":1,"lon":2,"pad":%q}`, round*100+i, strings.Repeat(string(rune('a'+i)), n))
			batch = append(batch, mqttMessage(topic, payload))
			d := NewDestination(p.rules, topic)
			var b Builder
			b.Begin(testNow)
			e, failure := b.Build(nil, d, Message{Payload: []byte(payload), QoS: 1})
			require.Nil(t, failure)
			want = append(want, string(e.Body)+e.ID.String()+string(e.Time)+e.DeviceID+payload)
		}
		all = append(all, process(t, p, batch...)...)
	}
	require.Len(t, all, len(want))
	for i, msg := range all {
		m := metadata(t, msg)
		got := content(t, msg) + m["event_id"].(string) + m["event_time"].(string) + m["kafka_key"].(string) + string(m["original"].([]byte))
		require.True(t, want[i] == got, "message %d differs", i)
		b, err := msg.AsBytes()
		require.NoError(t, err)
		require.Equal(t, len(b), cap(b), "appending to a body would write into its neighbour")
	}
}

// TestProcessorClock proves that equal readings without a time are as many
// events, whatever the clock does.
func TestProcessorClock(t *testing.T) {
	p := newTestProcessor(t, "")
	var mu sync.Mutex
	ids, times := map[string]bool{}, map[string]bool{}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 10 {
				batch := make(service.MessageBatch, 25)
				for i := range batch {
					batch[i] = mqttMessage("devices/c/sensor", "5")
				}
				out, err := p.ProcessBatch(t.Context(), batch)
				if err != nil || len(out) != 1 {
					t.Errorf("got %v, %v", out, err)
					return
				}
				mu.Lock()
				for _, msg := range out[0] {
					ids[metaString(msg, event.EventID)] = true
					times[metaString(msg, event.Time)] = true
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	require.Len(t, ids, 1000)
	require.Len(t, times, 1000)

	p.now = func() time.Time { return testNow.Add(-time.Hour) }
	out := process(t, p, mqttMessage("devices/c/sensor", "5"))
	require.Equal(t, "2026-07-01T11:00:00.123456789Z", metaString(out[0], event.Time))
}

func TestProcessorConcurrent(t *testing.T) {
	p := newTestProcessor(t, "")
	p.now = time.Now
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for round := range 50 {
				var batch service.MessageBatch
				for i := range 20 {
					batch = append(batch, mqttMessage(fmt.Sprintf("devices/d-%d/gps", (g*round+i)%97), fmt.Sprintf(`{"time":%d,"lat":%d,"lon":2}`, i, g)))
				}
				out, err := p.ProcessBatch(t.Context(), batch)
				if err != nil || len(out) != 1 || len(out[0]) != 20 {
					t.Errorf("got %v, %v", out, err)
					return
				}
				for i, msg := range out[0] {
					b, _ := msg.AsBytes()
					if !bytes.Contains(b, fmt.Appendf(nil, `"latitude":%d,"longitude":2,"payload":{"time":%d,`, g, i)) {
						t.Errorf("got %s", b)
						return
					}
				}
			}
		})
	}
	wg.Wait()
}

// counters is a metrics exporter that keeps what counters of ours count.
type counters struct {
	mu   sync.Mutex
	seen map[string]int64
}

func (c *counters) NewCounterCtor(name string, keys ...string) service.MetricsExporterCounterCtor {
	return func(values ...string) service.MetricsExporterCounter {
		full := name
		for i, key := range keys {
			if key == "topic" || key == "class" || key == "reason" {
				full += " " + values[i]
			}
		}
		return counter{c, full}
	}
}

func (c *counters) NewTimerCtor(string, ...string) service.MetricsExporterTimerCtor {
	return func(...string) service.MetricsExporterTimer { return discard{} }
}

func (c *counters) NewGaugeCtor(string, ...string) service.MetricsExporterGaugeCtor {
	return func(...string) service.MetricsExporterGauge { return discard{} }
}

func (c *counters) Close(context.Context) error { return nil }

type counter struct {
	*counters
	name string
}

func (c counter) Incr(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if strings.HasPrefix(c.name, "device_event") {
		c.seen[c.name] += n
	}
}

type discard struct{}

func (discard) Timing(int64) {}
func (discard) Set(int64)    {}

// TestInPipeline runs the processor as the engine does: strict, labelled, with
// metrics.
func TestInPipeline(t *testing.T) {
	env := service.NewEnvironment()
	metrics := &counters{seen: map[string]int64{}}
	require.NoError(t, env.RegisterMetricsExporter("counters", service.NewConfigSpec(),
		func(*service.ParsedConfig, *service.Logger) (service.MetricsExporter, error) { return metrics, nil }))
	builder := env.NewStreamBuilder()
	builder.SetStrict(true)
	builder.SetThreads(1)
	require.NoError(t, builder.SetLoggerYAML("level: none"))
	require.NoError(t, builder.SetMetricsYAML("counters: {}"))
	require.NoError(t, builder.AddProcessorYAML("label: make_event\ndevice_event: { default_topic: raw.other }"))
	produce, err := builder.AddBatchProducerFunc()
	require.NoError(t, err)
	var got []string
	require.NoError(t, builder.AddBatchConsumerFunc(func(_ context.Context, batch service.MessageBatch) error {
		for _, msg := range batch {
			got = append(got, metaString(msg, event.KafkaTopic)+" "+metaString(msg, event.ErrorClass)+" "+metaString(msg, event.ErrorComponent))
		}
		return nil
	}))
	stream, err := builder.Build()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- stream.Run(ctx) }()

	retained := mqttMessage("devices/a/sensor", "")
	retained.MetaSetMut(event.MQTTRetained, true)
	require.NoError(t, produce(ctx, service.MessageBatch{
		mqttMessage("wildfi/imu", "1"), // the first is what strict mode looks at
		mqttMessage("devices/a/gps", `{"time":0,"lat":1,"lon":2}`),
		retained,
		mqttMessage("devices/a/gps", `{"time":true}`),
		mqttMessage("devices/a/sensor", "5"),
		mqttMessage("devices/a/x", `{"time":0}`),
	}))
	require.NoError(t, stream.Stop(ctx))
	require.NoError(t, <-stopped)
	require.Equal(t, []string{
		"raw.sensor route make_event", "raw.gps  ", "raw.gps decode make_event", "raw.sensor  ", "raw.other  ",
	}, got)
	require.Equal(t, map[string]int64{
		"device_events raw.gps": 1, "device_events raw.sensor": 1, "device_events raw.other": 1,
		"device_event_rejected route": 1, "device_event_rejected decode": 1,
		"device_event_dropped empty_retained": 1, "device_event_time_ingested": 1,
	}, metrics.seen)
}

func TestProcessorConfig(t *testing.T) {
	for name, test := range map[string]struct{ config, err string }{
		"default topic": {"default_topic: 'a b'", `reading routing rules: reading default topic: naming Kafka topic "a b"`},
		"rule":          {"rules: [ { markers: [], topic: x } ]", "it has no markers"},
		"topic":         {"topic: '${! '", "topic"},
		"non_json":      {"non_json: drop", "non_json"},
	} {
		t.Run(name, func(t *testing.T) {
			conf, err := Spec().ParseYAML(test.config, nil)
			if err == nil {
				_, err = processorFromParsed(conf, service.MockResources())
			}
			require.ErrorContains(t, err, test.err)
		})
	}
}

// BenchmarkProcessor measures batches of 100 fresh messages, alone and with the
// judgement of the contract that follows in a pipeline.
func BenchmarkProcessor(b *testing.B) {
	set, err := contract.LoadSet(schemas.FS)
	require.NoError(b, err)
	const size = 100
	for _, c := range benchCases {
		for _, validate := range []bool{false, true} {
			b.Run(c.name+map[bool]string{true: "+contract"}[validate], func(b *testing.B) {
				p := newTestProcessor(b, "")
				p.now = time.Now
				b.ReportAllocs()
				for n := 0; n < b.N; n += size {
					b.StopTimer()
					batch := make(service.MessageBatch, size)
					for i := range batch {
						batch[i] = mqttMessage(c.topic, c.payload)
					}
					b.StartTimer()
					out, err := p.ProcessBatch(b.Context(), batch)
					if err != nil {
						b.Fatal(err)
					}
					if !validate {
						continue
					}
					for _, msg := range out[0] {
						topic, _ := msg.MetaGetImmut(event.KafkaTopic)
						met, _ := set.Contract(topic.(string))
						body, _ := msg.AsBytes()
						if res := met.Validate(body, contract.Options{}); !res.Valid() || res.Library {
							b.Fatal(res)
						}
					}
				}
			})
		}
	}
}
