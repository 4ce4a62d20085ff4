// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package pipelines_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/dealiot/dealiot-connect/plugins/event"
)

const mqttToKafka = "mqtt_to_kafka.yaml"

// TestSettings: what a site sets by environment arrives where it belongs,
// whatever characters it holds, and makes components that can be built.
func TestSettings(t *testing.T) {
	const password = `a"b'c: #{x}\ $y ${`
	env := map[string]string{
		"MQTT_SCHEME": "ssl", "MQTT_HOST": "broker.example", "MQTT_PORT": "8883", "MQTT_TOPICS": "$share/a/devices/#, b/+/gps",
		"MQTT_USERNAME": "bridge", "MQTT_PASSWORD": password, "MQTT_CLIENT_ID": "worker-1", "MQTT_SESSION_EXPIRY": "24h", "MQTT_TLS_ENABLED": "true",
		"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1,127.0.0.1:2", "KAFKA_TLS_ENABLED": "true",
		"KAFKA_SASL_MECHANISM": "SCRAM-SHA-512", "KAFKA_SASL_USERNAME": "bridge", "KAFKA_SASL_PASSWORD": password,
	}
	text := read(t, mqttToKafka)
	stream := service.NewStreamBuilder()
	stream.SetEnvVarLookupFunc(func(name string) (string, bool) { value, ok := env[name]; return value, ok })
	require.NoError(t, stream.SetYAML(text))

	doc := parse(t, text, env)
	mqtt := doc["input"].(map[string]any)["mqtt5"].(map[string]any)
	assert.Equal(t, []any{"ssl://broker.example:8883"}, mqtt["urls"])
	assert.Equal(t, []any{"$share/a/devices/#, b/+/gps"}, mqtt["topics"])
	assert.Equal(t, "bridge", mqtt["user"])
	assert.Equal(t, password, mqtt["password"])
	assert.Equal(t, "worker-1", mqtt["client_id"])
	assert.Equal(t, "24h", mqtt["session_expiry"])
	assert.Equal(t, true, mqtt["tls"].(map[string]any)["enabled"])
	kafka := doc["output"].(map[string]any)["kafka_franz"].(map[string]any)
	assert.Equal(t, true, kafka["tls"].(map[string]any)["enabled"])
	assert.Equal(t, map[string]any{"mechanism": "SCRAM-SHA-512", "username": "bridge", "password": password}, kafka["sasl"].([]any)[0])

	require.NoError(t, construct(t, nil, doc["input"].(map[string]any), doc["output"].(map[string]any)))
}

// publish is a message as the mqtt input hands it on.
func publish(topic, payload string) *service.Message {
	msg := service.NewMessage([]byte(payload))
	msg.MetaSetMut(event.MQTTTopic, topic)
	msg.MetaSetMut(event.MQTTQoS, 1)
	msg.MetaSetMut(event.MQTTRetained, false)
	return msg
}

const (
	goodGPS    = `{"timestamp":"2026-05-04T10:11:12Z","lat":47.6,"lon":9.1}`
	noPosition = `{"timestamp":"2026-05-04T10:11:12Z"}`
)

// startStrict runs a pipeline's processors as `run` does, under strict error
// handling, with inputs and outputs of the test's own.
func startStrict(t *testing.T, env map[string]string, configure func(*service.StreamBuilder, map[string]any)) service.MessageBatchHandlerFunc {
	t.Helper()
	doc := parse(t, read(t, mqttToKafka), env)
	builder := service.NewStreamBuilder()
	builder.SetStrict(true)
	builder.SetThreads(1)
	require.NoError(t, builder.SetLoggerYAML("level: ERROR"))
	for _, p := range processors(t, doc) {
		require.NoError(t, builder.AddProcessorYAML(toYAML(t, p)))
	}
	configure(builder, doc)
	produce, err := builder.AddBatchProducerFunc()
	require.NoError(t, err)
	stream, err := builder.Build()
	require.NoError(t, err)
	stopped := make(chan error, 1)
	go func() { stopped <- stream.Run(context.WithoutCancel(t.Context())) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		assert.NoError(t, stream.Stop(ctx), "stopping the pipeline")
		assert.NoError(t, <-stopped)
	})
	return produce
}

// TestStrictBatch: under strict error handling the engine looks at the first
// message of a batch only, and one that failed there would let the others by
// unprocessed. So no message ever fails, whichever place the bad ones have.
func TestStrictBatch(t *testing.T) {
	type sent struct{ topic, key, class string }
	out := make(chan []sent, 10)
	produce := startStrict(t, elsewhere, func(builder *service.StreamBuilder, _ map[string]any) {
		require.NoError(t, builder.AddBatchConsumerFunc(func(_ context.Context, batch service.MessageBatch) error {
			var got []sent
			for _, msg := range batch {
				if err := msg.GetError(); err != nil {
					return fmt.Errorf("message is flagged: %w", err)
				}
				topic, _ := msg.MetaGet(event.KafkaTopic)
				key, _ := msg.MetaGet(event.KafkaKey)
				class, _ := msg.MetaGet(event.ErrorClass)
				got = append(got, sent{topic, key, class})
			}
			out <- got
			return nil
		}))
	})
	var (
		badJSON = func() *service.Message { return publish("devices/a/gps", "not JSON") }
		noPos   = func() *service.Message { return publish("devices/b/gps", noPosition) }
		noID    = func() *service.Message { return publish("devices", "{}") }
		noTime  = func() *service.Message { return publish("devices/c/sensor", `{"timestamp":1e300}`) }
		good    = func() *service.Message { return publish("devices/d/gps", goodGPS) }
	)
	var (
		toGPS     = sent{"raw.gps", "d", ""}
		fromJSON  = sent{"dlq.events", "a", "contract"}
		fromNoPos = sent{"dlq.events", "b", "contract"}
		fromNoID  = sent{"dlq.events", "devices", "route"}
		fromTime  = sent{"dlq.events", "c", "decode"}
	)
	for name, tc := range map[string]struct {
		in   service.MessageBatch
		want []sent
	}{
		"contract first": {service.MessageBatch{noPos(), good(), good()}, []sent{fromNoPos, toGPS, toGPS}},
		"JSON first":     {service.MessageBatch{badJSON(), good(), noPos()}, []sent{fromJSON, toGPS, fromNoPos}},
		"route first":    {service.MessageBatch{noID(), good(), noTime(), good()}, []sent{fromNoID, toGPS, fromTime, toGPS}},
		"decode first":   {service.MessageBatch{noTime(), noID(), good()}, []sent{fromTime, fromNoID, toGPS}},
		"all bad":        {service.MessageBatch{noTime(), noID(), badJSON(), noPos()}, []sent{fromTime, fromNoID, fromJSON, fromNoPos}},
		"good first":     {service.MessageBatch{good(), noPos()}, []sent{toGPS, fromNoPos}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			require.NoError(t, produce(ctx, tc.in), "waiting for the batch to be acknowledged")
			assert.Equal(t, tc.want, <-out)
		})
	}
}

// TestEngineSkipsTheBatch holds what the engine does with a batch whose first
// message failed, which is why no component of ours fails one: the good
// messages are written without the processors that were still to come. If this
// test fails, the engine has changed, and with it the reason for
// docs/decisions/0001-marking-instead-of-failing.md.
func TestEngineSkipsTheBatch(t *testing.T) {
	for name, tc := range map[string]struct {
		batch     []string
		validated bool
	}{
		"failed first": {[]string{"bad", "good"}, false},
		"failed last":  {[]string{"good", "bad"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			builder := service.NewStreamBuilder()
			builder.SetStrict(true)
			require.NoError(t, builder.SetLoggerYAML("level: OFF"))
			require.NoError(t, builder.AddProcessorYAML(`mapping: 'root = if content() == "bad" { throw("bad") } else { content() }'`))
			require.NoError(t, builder.AddProcessorYAML(`mapping: 'meta validated = "yes"'`))
			written := make(chan bool, 10)
			require.NoError(t, builder.AddBatchConsumerFunc(func(_ context.Context, batch service.MessageBatch) error {
				for _, msg := range batch {
					if text, _ := msg.AsBytes(); string(text) == "good" {
						_, validated := msg.MetaGet("validated")
						written <- validated
					}
				}
				return nil
			}))
			produce, err := builder.AddBatchProducerFunc()
			require.NoError(t, err)
			stream, err := builder.Build()
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			stopped := make(chan error, 1)
			go func() { stopped <- stream.Run(ctx) }()
			var batch service.MessageBatch
			for _, text := range tc.batch {
				batch = append(batch, service.NewMessage([]byte(text)))
			}
			_ = produce(ctx, batch) // whether the bad one is acknowledged is the output's affair
			select {
			case validated := <-written:
				assert.Equal(t, tc.validated, validated, "the good message went through the second processor")
			case <-ctx.Done():
				t.Fatal("waiting for the good message at the output")
			}
			require.NoError(t, stream.Stop(ctx))
			require.NoError(t, <-stopped)
		})
	}
}

// startKafka starts a broker whose topics have the limits of the platform.
func startKafka(t *testing.T) *kfake.Cluster {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "raw.gps", "raw.sensor", "raw.video2d.meta", "dlq.events"))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	require.NoError(t, err)
	defer client.Close()
	limits := kmsg.NewPtrIncrementalAlterConfigsRequest()
	for topic, bytes := range map[string]string{"raw.gps": "1048588", "raw.video2d.meta": "1048588", "raw.sensor": "4194304", "dlq.events": "4194304"} {
		config := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		config.Name, config.Value = "max.message.bytes", &bytes
		resource := kmsg.NewIncrementalAlterConfigsRequestResource()
		resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeTopic, topic
		resource.Configs = append(resource.Configs, config)
		limits.Resources = append(limits.Resources, resource)
	}
	response, err := limits.RequestWith(t.Context(), client)
	require.NoError(t, err)
	for _, r := range response.Resources {
		require.Zero(t, r.ErrorCode, r.ResourceName)
	}
	return cluster
}

// startToKafka runs the processors and the output as they stand in the file.
func startToKafka(t *testing.T, cluster *kfake.Cluster) service.MessageBatchHandlerFunc {
	t.Helper()
	env := map[string]string{"KAFKA_BOOTSTRAP_SERVERS": strings.Join(cluster.ListenAddrs(), ",")}
	return startStrict(t, env, func(builder *service.StreamBuilder, doc map[string]any) {
		require.NoError(t, builder.AddOutputYAML(toYAML(t, doc["output"])))
	})
}

// consume reads n records and makes sure that there are no more.
func consume(t *testing.T, cluster *kfake.Cluster, n int) []*kgo.Record {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...),
		kgo.ConsumeTopics("raw.gps", "raw.sensor", "raw.video2d.meta", "dlq.events"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxBytes(64<<20), kgo.FetchMaxPartitionBytes(16<<20))
	require.NoError(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var records []*kgo.Record
	for len(records) < n {
		fetches := client.PollFetches(ctx)
		require.NoError(t, ctx.Err(), "waiting for %d records, got %d", n, len(records))
		require.Empty(t, fetches.Errors())
		records = append(records, fetches.Records()...)
	}
	require.Len(t, records, n)
	return records
}

func headers(r *kgo.Record) map[string]string {
	all := map[string]string{}
	for _, h := range r.Headers {
		all[h.Key] = string(h.Value)
	}
	return all
}

// TestRecords shows what a reader of Kafka gets: keys and headers of an event
// and of a dead letter, written by the output of the file.
func TestRecords(t *testing.T) {
	cluster := startKafka(t)
	produce := startToKafka(t, cluster)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, produce(ctx, service.MessageBatch{publish("devices/b/gps", noPosition), publish("devices/d/gps", goodGPS)}), "waiting for Kafka's acknowledgement")

	for _, r := range consume(t, cluster, 2) {
		h := headers(r)
		require.True(t, event.ValidID(h[event.EventID]), h[event.EventID])
		delete(h, event.EventID)
		switch r.Topic {
		case "raw.gps":
			assert.Equal(t, "d", string(r.Key))
			assert.Equal(t, map[string]string{event.Time: "2026-05-04T10:11:12Z", event.Contract: "raw.gps"}, h)
		case "dlq.events":
			assert.Equal(t, "b", string(r.Key))
			assert.Contains(t, h[event.Violations], `"path":"/latitude"`)
			delete(h, event.Violations)
			assert.Equal(t, map[string]string{
				event.Time: "2026-05-04T10:11:12Z", event.Contract: "raw.gps", event.ContractVersion: "1.0.0", event.SourceTopic: "devices/b/gps",
				event.ErrorClass: "contract", event.ErrorComponent: "check_contract", event.Attempt: "1", event.Pipeline: "mqtt_to_kafka",
			}, h)
			d, err := event.ParseDeadLetter(r.Value)
			require.NoError(t, err)
			assert.Equal(t, noPosition, string(d.Original))
		default:
			t.Errorf("a record on %s", r.Topic)
		}
	}
}

// TestSizes: whatever size a message may have by MQTT's packet limit of 1 MiB,
// alone or with others, Kafka takes what becomes of it. A record, or a batch of
// records, over a topic's limit would be sent again and again for ever.
func TestSizes(t *testing.T) {
	const mqttPacket = 1 << 20
	// Random, because brokers look at the size after compression.
	random := rand.NewChaCha8([32]byte{})
	noise := func(n int) []byte {
		b := make([]byte, n)
		_, _ = random.Read(b)
		return b
	}
	gps := func(n int) string {
		frame := `{"timestamp":"2026-05-04T10:11:12Z","lat":47.6,"lon":9.1,"note":""}`
		return strings.Replace(frame, `""`, `"`+base64.StdEncoding.EncodeToString(noise(n))[:n-len(frame)]+`"`, 1)
	}
	binary := string(noise(mqttPacket))
	longTopic := "devices/" + strings.Repeat("d", 65535-len("devices//gps")) + "/gps"

	var in service.MessageBatch
	var want []string // Kafka topic and payload
	add := func(topic, payload, kafkaTopic string) {
		in = append(in, publish(topic, payload))
		want = append(want, kafkaTopic)
	}
	add("devices/a/gps", gps(mqttPacket), "dlq.events") // larger than raw.gps takes
	add("devices/a/gps", gps(900_000), "raw.gps")
	add("devices/a/gps", gps(900_000), "raw.gps") // not in one batch with the one before
	for range 60 {
		add("devices/a/gps", gps(50_000), "raw.gps")
	}
	for range 4 {
		add("devices/a/sensor", binary, "raw.sensor") // base64
		add("devices/a/gps", binary, "dlq.events")
	}
	for range 30 {
		add(longTopic, goodGPS, "raw.gps")
		add(longTopic, noPosition, "dlq.events")
	}

	cluster := startKafka(t)
	produce := startToKafka(t, cluster)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	require.NoError(t, produce(ctx, in), "waiting for Kafka's acknowledgement")

	got := map[string]int{}
	for _, r := range consume(t, cluster, len(want)) {
		got[r.Topic]++
		if r.Topic == "dlq.events" {
			d, err := event.ParseDeadLetter(r.Value)
			require.NoError(t, err)
			assert.Nil(t, d.Truncated, "the payload is whole")
		}
	}
	wanted := map[string]int{}
	for _, topic := range want {
		wanted[topic]++
	}
	assert.Equal(t, wanted, got)
}

// TestGoldenDeadLetters: what the platform sends to dlq.events, and rightly so,
// goes there from here too, with the same envelope. Compared as the golden data
// ask: times as instants, without the words of the reasons and without what
// only ours have; nulls that the platform writes are left out of ours.
func TestGoldenDeadLetters(t *testing.T) {
	type golden struct {
		ID         string         `json:"id"`
		MQTTTopic  string         `json:"mqtt_topic"`
		PayloadB64 []byte         `json:"payload_b64"`
		QoS        int            `json:"qos"`
		Retain     bool           `json:"retain"`
		KafkaTopic string         `json:"kafka_topic"`
		Key        string         `json:"key"`
		Event      map[string]any `json:"event"`
		Bug        bool           `json:"upstream_bug"`
	}
	file, err := os.Open("../plugins/deviceevent/testdata/routing.jsonl")
	require.NoError(t, err)
	defer file.Close()
	var rows []golden
	var in service.MessageBatch
	for dec := json.NewDecoder(file); ; {
		var row golden
		if err := dec.Decode(&row); errors.Is(err, io.EOF) {
			break
		} else {
			require.NoError(t, err)
		}
		if row.KafkaTopic != "dlq.events" || row.Bug {
			continue
		}
		msg := publish(row.MQTTTopic, string(row.PayloadB64))
		msg.MetaSetMut(event.MQTTQoS, row.QoS)
		msg.MetaSetMut(event.MQTTRetained, row.Retain)
		rows, in = append(rows, row), append(in, msg)
	}
	require.Greater(t, len(rows), 15)

	out := make(chan service.MessageBatch, 1)
	produce := startStrict(t, elsewhere, func(builder *service.StreamBuilder, _ map[string]any) {
		require.NoError(t, builder.AddBatchConsumerFunc(func(_ context.Context, batch service.MessageBatch) error {
			out <- batch.DeepCopy()
			return nil
		}))
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, produce(ctx, in), "waiting for the batch to be acknowledged")
	batch := <-out
	require.Len(t, batch, len(rows))

	comparable := func(envelope map[string]any) map[string]any {
		raw := envelope["raw_event"].(map[string]any)
		for name, value := range raw {
			if value == nil {
				delete(raw, name)
			}
		}
		for _, name := range []string{"payload_b64", "event_id", "event_time_source", "ingested_at"} {
			delete(raw, name)
		}
		if at, ok := raw["timestamp"].(string); ok {
			if instant, err := event.ParseTime(at); err == nil {
				raw["timestamp"] = instant.Unix()
			}
		}
		delete(envelope, "timestamp")
		delete(envelope, "errors")
		return envelope
	}
	for i, row := range rows {
		text, err := batch[i].AsBytes()
		require.NoError(t, err)
		d, err := event.ParseDeadLetter(text)
		require.NoError(t, err)
		assert.Equal(t, string(row.PayloadB64), string(d.Original), "%s: the bytes received", row.ID)
		assert.NotEmpty(t, d.Errors, row.ID)
		key, _ := batch[i].MetaGet(event.KafkaKey)
		assert.Equal(t, row.Key, key, row.ID)

		var got map[string]any
		require.NoError(t, json.Unmarshal(text, &got))
		want := comparable(row.Event)
		got = comparable(got)
		if raw := want["raw_event"].(map[string]any); raw["timestamp"] == "$INGESTED_AT" {
			delete(raw, "timestamp")
			delete(got["raw_event"].(map[string]any), "timestamp")
		}
		assert.Equal(t, want, got, row.ID)
	}
}
