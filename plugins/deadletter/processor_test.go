// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package deadletter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/dealiot/dealiot-connect/plugins/event"
	"github.com/dealiot/dealiot-connect/schemas"
)

var rejectedAt = time.Date(2026, 5, 4, 10, 11, 12, 0, time.UTC)

type meta map[string]any

func message(content string, metadata meta) *service.Message {
	msg := service.NewMessage([]byte(content))
	for name, value := range metadata {
		msg.MetaSetMut(name, value)
	}
	return msg
}

func metadataOf(msg *service.Message) meta {
	all := meta{}
	_ = msg.MetaWalkMut(func(name string, value any) error {
		all[name] = value
		return nil
	})
	return all
}

func newTestProcessor(t testing.TB, yaml string) *processor {
	t.Helper()
	conf, err := processorConfig().ParseYAML(yaml, nil)
	require.NoError(t, err)
	p, err := processorFromParsed(conf, service.MockResources())
	require.NoError(t, err)
	p.now = func() time.Time { return rejectedAt }
	return p
}

// run processes one batch that must come out as one.
func run(t testing.TB, p *processor, batch ...*service.Message) service.MessageBatch {
	t.Helper()
	out, err := p.ProcessBatch(t.Context(), batch)
	require.NoError(t, err)
	require.Len(t, out, 1)
	require.Len(t, out[0], len(batch))
	for i, msg := range out[0] {
		require.Same(t, batch[i], msg, "outgoing messages are the incoming ones")
		require.NoError(t, msg.GetError(), "message %d is not flagged", i)
	}
	return out[0]
}

func contents(t testing.TB, msg *service.Message) string {
	t.Helper()
	b, err := msg.AsBytes()
	require.NoError(t, err)
	return string(b)
}

func requireContract(t testing.TB, envelope []byte) {
	t.Helper()
	text, err := schemas.FS.ReadFile("dlq.events.schema.json")
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	c.AssertFormat = true
	require.NoError(t, c.AddResource("dlq.events.json", bytes.NewReader(text)))
	schema, err := c.Compile("dlq.events.json")
	require.NoError(t, err)
	dec := json.NewDecoder(bytes.NewReader(envelope))
	dec.UseNumber()
	var value any
	require.NoError(t, dec.Decode(&value))
	require.NoError(t, schema.Validate(value))
}

var badLatitude = []any{map[string]any{
	"path": "/latitude", "keyword": "maximum", "message": "latitude is 132 but must be at most 90", "contract": "raw.gps", "version": "1.0.0",
}}

func TestDeadLetter(t *testing.T) {
	const (
		badLatitudeText = `[{"contract":"raw.gps","keyword":"maximum","message":"latitude is 132 but must be at most 90","path":"/latitude","version":"1.0.0"}]`
		reason          = `"errors":["latitude is 132 but must be at most 90"]`
	)
	for name, tc := range map[string]struct {
		config  string
		content string
		meta    meta
		want    string // envelope without timestamp and source
		wantM   meta
	}{
		"event that broke its contract": {
			config:  "source: mqtt-bridge\npipeline: mqtt_to_kafka",
			content: `{"device_id":"cow-7","latitude":132}`,
			meta: meta{
				event.ErrorClass: "contract", event.ErrorComponent: "check_contract", event.Violations: badLatitude, event.Original: []byte(`{"lat":132}`),
				event.KafkaTopic: "raw.gps", event.KafkaKey: "cow-7", event.EventID: "00112233445566778899aabbccddeeff", event.Time: "2026-05-04T10:00:00Z",
				event.Contract: "raw.gps", event.ContractVersion: "1.0.0", event.MQTTTopic: "devices/cow-7/gps", event.MQTTQoS: 1, event.MQTTRetained: false,
			},
			want: `"intended_topic":"raw.gps","source_topic":"devices/cow-7/gps","device_id":"cow-7",` + reason +
				`,"raw_event":{"device_id":"cow-7","latitude":132,"payload_b64":"eyJsYXQiOjEzMn0="}`,
			wantM: meta{
				event.ErrorClass: "contract", event.ErrorComponent: "check_contract", event.Violations: badLatitudeText, event.DeadLettered: true, event.Attempt: int64(1),
				event.KafkaTopic: "dlq.events", event.KafkaKey: "cow-7", event.EventID: "00112233445566778899aabbccddeeff", event.Time: "2026-05-04T10:00:00Z",
				event.Contract: "raw.gps", event.ContractVersion: "1.0.0", event.MQTTTopic: "devices/cow-7/gps", event.MQTTQoS: 1, event.MQTTRetained: false,
				event.SourceTopic: "devices/cow-7/gps", event.Pipeline: "mqtt_to_kafka",
			},
		},
		"payload that is not JSON": {
			content: "\xff\x00",
			meta: meta{
				event.ErrorClass: "decode", event.ErrorComponent: "device_event", event.Violations: []any{map[string]any{"message": "not JSON"}}, event.Original: []byte("\xff\x00"),
				event.KafkaTopic: "raw.gps", event.KafkaKey: "cow-7", event.MQTTTopic: "devices/cow-7/gps", event.MQTTQoS: 0, event.MQTTRetained: true,
			},
			want: `"intended_topic":"raw.gps","source_topic":"devices/cow-7/gps","device_id":"cow-7","errors":["not JSON"],"raw_event":{"mqtt_topic":"devices/cow-7/gps","qos":0,"retain":true,"payload_b64":"/wA="}`,
			wantM: meta{
				event.ErrorClass: "decode", event.ErrorComponent: "device_event", event.Violations: `[{"keyword":"","message":"not JSON","path":""}]`, event.DeadLettered: true, event.Attempt: int64(1),
				event.KafkaTopic: "dlq.events", event.KafkaKey: "cow-7", event.SourceTopic: "devices/cow-7/gps",
				event.MQTTTopic: "devices/cow-7/gps", event.MQTTQoS: 0, event.MQTTRetained: true,
			},
		},
		"no device and no topic": {
			content: `{}`,
			meta:    meta{event.ErrorClass: "route", event.Violations: "no device in the topic", event.MQTTTopic: "devices", event.Original: []byte(`{}`)},
			want:    `"intended_topic":"unknown","source_topic":"devices","device_id":"unknown","errors":["no device in the topic"],"raw_event":{"mqtt_topic":"devices","payload_b64":"e30="}`,
			wantM: meta{
				event.ErrorClass: "route", event.Violations: `[{"keyword":"","message":"no device in the topic","path":""}]`, event.DeadLettered: true, event.Attempt: int64(1),
				event.KafkaTopic: "dlq.events", event.KafkaKey: "devices", event.SourceTopic: "devices", event.MQTTTopic: "devices",
			},
		},
		"nothing but a class": {
			content: "x",
			meta:    meta{event.ErrorClass: "decode"},
			want:    `"intended_topic":"unknown","source_topic":"","device_id":"unknown","errors":["a processor rejected it with error class decode"],"raw_event":{"payload_b64":"eA=="}`,
			wantM:   meta{event.ErrorClass: "decode", event.Violations: "[]", event.DeadLettered: true, event.Attempt: int64(1), event.KafkaTopic: "dlq.events", event.KafkaKey: "unknown"},
		},
		"read from Kafka, not routed yet": {
			content: "x",
			meta:    meta{event.ErrorClass: "decode", event.Violations: "bad", "kafka_topic": "wildfi.logs", "kafka_partition": 3, "kafka_offset": 42, "kafka_key": "gw-1"},
			want:    `"intended_topic":"unknown","source_topic":"wildfi.logs","device_id":"gw-1","errors":["bad"],"raw_event":{"payload_b64":"eA=="}`,
			wantM: meta{
				event.ErrorClass: "decode", event.Violations: `[{"keyword":"","message":"bad","path":""}]`, event.DeadLettered: true, event.Attempt: int64(1), event.KafkaTopic: "dlq.events", event.KafkaKey: "gw-1",
				event.SourceTopic: "wildfi.logs", event.SourcePartition: "3", event.SourceOffset: "42", "kafka_partition": 3, "kafka_offset": 42,
			},
		},
		"read from Kafka, routed, for the second time": {
			config:  "topic: dlq.other\ntopic_max_record_bytes: {}",
			content: `{"object_uri":"s3://a/b","device_id":"cam-1"}`,
			meta: meta{
				event.ErrorClass: "contract", event.Violations: badLatitude, event.Original: "raw bytes", event.KafkaTopic: "raw.image2d.meta", event.Attempt: "1", event.Pipeline: "replay",
				event.SourceTopic: "media.object.events", event.SourcePartition: "3", event.SourceOffset: "42", "kafka_offset": 42,
			},
			want: `"intended_topic":"raw.image2d.meta","source_topic":"media.object.events","device_id":"cam-1",` + reason +
				`,"raw_event":{"object_uri":"s3://a/b","device_id":"cam-1","payload_b64":"cmF3IGJ5dGVz"}`,
			wantM: meta{
				event.ErrorClass: "contract", event.Violations: badLatitudeText, event.DeadLettered: true, event.Attempt: int64(2), event.Pipeline: "replay",
				event.KafkaTopic: "dlq.other", event.KafkaKey: "cam-1", event.Contract: "raw.gps", event.ContractVersion: "1.0.0",
				event.SourceTopic: "media.object.events", event.SourcePartition: "3", event.SourceOffset: "42", "kafka_offset": 42,
			},
		},
		"object whose source is known only to itself": {
			content: `{"object_uri":"s3://a/b"}`,
			meta:    meta{event.ErrorClass: "contract", event.Violations: badLatitude, event.Original: []byte("x")},
			want:    `"intended_topic":"unknown","source_topic":"s3://a/b","device_id":"unknown",` + reason + `,"raw_event":{"object_uri":"s3://a/b","payload_b64":"eA=="}`,
			wantM: meta{
				event.ErrorClass: "contract", event.Violations: badLatitudeText, event.DeadLettered: true, event.Attempt: int64(1),
				event.KafkaTopic: "dlq.events", event.KafkaKey: "s3://a/b", event.Contract: "raw.gps", event.ContractVersion: "1.0.0", event.SourceTopic: "s3://a/b",
			},
		},
		"event as it was received": {
			content: ` {"device_id":"cow-7"}`,
			meta:    meta{event.ErrorClass: "contract", event.Violations: "bad", event.Original: []byte(` {"device_id":"cow-7"}`)},
			want:    `"intended_topic":"unknown","source_topic":"","device_id":"cow-7","errors":["bad"],"raw_event":{"device_id":"cow-7","payload_b64":"IHsiZGV2aWNlX2lkIjoiY293LTcifQ=="}`,
			wantM:   meta{event.ErrorClass: "contract", event.Violations: `[{"keyword":"","message":"bad","path":""}]`, event.DeadLettered: true, event.Attempt: int64(1), event.KafkaTopic: "dlq.events", event.KafkaKey: "cow-7"},
		},
		"caught by try_catch": {
			config:  "class: contract",
			content: "x",
			meta:    meta{"error": map[string]any{"what": "cannot parse", "name": "mapping", "label": "read_position", "path": "root.pipeline"}, event.MQTTTopic: "a/b"},
			want:    `"intended_topic":"unknown","source_topic":"a/b","device_id":"unknown","errors":["cannot parse"],"raw_event":{"mqtt_topic":"a/b","payload_b64":"eA=="}`,
			wantM: meta{
				event.ErrorClass: "contract", event.ErrorComponent: "read_position", event.Violations: `[{"keyword":"processing","message":"cannot parse","path":""}]`, event.DeadLettered: true, event.Attempt: int64(1),
				event.KafkaTopic: "dlq.events", event.KafkaKey: "a/b", event.SourceTopic: "a/b", event.MQTTTopic: "a/b",
			},
		},
		"marked, then caught": {
			content: "x",
			meta:    meta{event.ErrorClass: "contract", event.ErrorComponent: "c", event.Violations: badLatitude, "error": map[string]any{"what": "w"}},
			want:    `"intended_topic":"unknown","source_topic":"","device_id":"unknown",` + reason + `,"raw_event":{"payload_b64":"eA=="}`,
			wantM: meta{
				event.ErrorClass: "contract", event.ErrorComponent: "c", event.Violations: badLatitudeText, event.DeadLettered: true, event.Attempt: int64(1),
				event.KafkaTopic: "dlq.events", event.KafkaKey: "unknown", event.Contract: "raw.gps", event.ContractVersion: "1.0.0",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newTestProcessor(t, tc.config)
			msg := run(t, p, message(tc.content, tc.meta))[0]
			envelope := contents(t, msg)
			source := "dealiot-connect"
			if strings.Contains(tc.config, "source:") {
				source = "mqtt-bridge"
			}
			assert.Equal(t, `{"timestamp":"2026-05-04T10:11:12Z","source":"`+source+`",`+tc.want+`}`, envelope)
			assert.Equal(t, tc.wantM, metadataOf(msg))
			requireContract(t, []byte(envelope))

			// A second dead_letter leaves it alone.
			again := run(t, newTestProcessor(t, ""), msg)[0]
			assert.Equal(t, envelope, contents(t, again))
			assert.Equal(t, tc.wantM, metadataOf(again))
		})
	}
}

func TestPipelineName(t *testing.T) {
	for want, tc := range map[string]struct{ field, metadata, stream string }{
		"field":    {"field", "metadata", "stream"},
		"metadata": {"", "metadata", "stream"},
		"stream":   {"", "", "stream"},
		"":         {"", "", ""},
	} {
		p := newTestProcessor(t, "pipeline: '"+tc.field+"'")
		p.stream = tc.stream
		msg := run(t, p, message("x", meta{event.ErrorClass: "decode", event.Pipeline: tc.metadata}))[0]
		assert.Equal(t, want, text(msg, event.Pipeline))
	}
}

func TestOthersPass(t *testing.T) {
	for name, m := range map[string]meta{
		"event":                      {event.KafkaTopic: "raw.gps", event.KafkaKey: "cow-7", event.EventID: "x", event.MQTTTopic: "t"},
		"no metadata":                {},
		"empty class":                {event.ErrorClass: ""},
		"class null":                 {event.ErrorClass: nil},
		"metadata error of a device": {"error": "E42"},
		"object without what":        {"error": map[string]any{"code": 7}},
		"what is no text":            {"error": map[string]any{"what": 7}},
	} {
		t.Run(name, func(t *testing.T) {
			given := message("content", m)
			given.MetaSetMut(event.Original, []byte("received"))
			msg := run(t, newTestProcessor(t, ""), given)[0]
			assert.Equal(t, "content", contents(t, msg))
			assert.Equal(t, m, metadataOf(msg), "as it was, without the original bytes")
		})
	}
}

func TestFlaggedMessageIsLeftAlone(t *testing.T) {
	msg := message("content", meta{event.ErrorClass: "decode"})
	msg.SetError(errors.New("still to be tried again"))
	out, err := newTestProcessor(t, "").ProcessBatch(t.Context(), service.MessageBatch{msg, message("y", nil)})
	require.NoError(t, err)
	require.ErrorContains(t, out[0][0].GetError(), "tried again")
	assert.Equal(t, "content", contents(t, out[0][0]))
	assert.Equal(t, meta{event.ErrorClass: "decode"}, metadataOf(out[0][0]))
}

func TestOversize(t *testing.T) {
	config := "max_record_bytes: 10000\ntopic_max_record_bytes: { raw.sensor: 20000, dlq.events: 400000 }"
	make := func(topic string, bytes int, more meta) *service.Message {
		m := meta{event.KafkaTopic: topic, event.KafkaKey: "cow-7", event.Contract: topic, event.Original: []byte("received")}
		for k, v := range more {
			m[k] = v
		}
		frame := `{"device_id":"cow-7","x":""}`
		return message(strings.Replace(frame, `""`, `"`+strings.Repeat("x", bytes-len(frame))+`"`, 1), m)
	}
	const room = 10_000 - recordAllowance - len("cow-7")
	for name, tc := range map[string]struct {
		msg  *service.Message
		want string
	}{
		"just fits":         {make("raw.gps", room, nil), ""},
		"a byte too many":   {make("raw.gps", room+1, nil), "the record for raw.gps would have 10001 bytes but may have at most 10000"},
		"header counts":     {make("raw.gps", room, meta{event.SourceTopic: "t"}), "the record for raw.gps would have 10001 bytes but may have at most 10000"},
		"topic of its own":  {make("raw.sensor", 15_000, nil), ""},
		"too large for it":  {make("raw.sensor", 20_000, nil), "the record for raw.sensor would have 21029 bytes but may have at most 20000"},
		"topic without any": {make("", 20_000, nil), "the record for unknown would have 21029 bytes but may have at most 10000"},
	} {
		t.Run(name, func(t *testing.T) {
			before := contents(t, tc.msg)
			topic := text(tc.msg, event.KafkaTopic)
			msg := run(t, newTestProcessor(t, config), tc.msg)[0]
			if tc.want == "" {
				assert.Equal(t, before, contents(t, msg))
				assert.Empty(t, text(msg, event.ErrorClass))
				return
			}
			d, err := event.ParseDeadLetter([]byte(contents(t, msg)))
			require.NoError(t, err)
			assert.Equal(t, []string{tc.want}, d.Errors)
			assert.Equal(t, topic, d.IntendedTopic)
			assert.Equal(t, "received", string(d.Original))
			assert.JSONEq(t, before, string(d.Event))
			assert.Equal(t, "sink", text(msg, event.ErrorClass))
			assert.Equal(t, dlName, text(msg, event.ErrorComponent))
			assert.Contains(t, text(msg, event.Violations), `"keyword":"max_record_bytes"`)
		})
	}
}

// TestDeadLetterStaysWithinItsLimit: not even a dead letter may be larger than
// its topic takes, with everything that goes with it as headers.
func TestDeadLetterStaysWithinItsLimit(t *testing.T) {
	const limit = 400_000
	p := newTestProcessor(t, "topic_max_record_bytes: { dlq.events: "+strconv.Itoa(limit)+" }")
	long := strings.Repeat("\x01", 1<<16-1)
	for name, msg := range map[string]*service.Message{
		"long names": message(strings.Repeat("\xff", 1<<20), meta{event.ErrorClass: "decode", event.MQTTTopic: long, event.KafkaKey: long, event.KafkaTopic: "raw.gps", event.Violations: long}),
		"long key":   message("x", meta{event.ErrorClass: "decode", event.KafkaKey: long + long}),
		"large event": message(`{"x":"`+strings.Repeat("x", 1<<20)+`","device_id":"`+strings.Repeat("d", 1<<20)+`"}`,
			meta{event.ErrorClass: "contract", event.Original: []byte("x"), event.Violations: badLatitude}),
	} {
		t.Run(name, func(t *testing.T) {
			out := run(t, p, msg)[0]
			envelope := contents(t, out)
			size := len(envelope)
			for name, value := range metadataOf(out) {
				switch name {
				case event.MQTTTopic: // not a header
				case event.Attempt, event.DeadLettered:
				default:
					size += len(name) + len(value.(string))
				}
			}
			assert.LessOrEqual(t, size, limit)
			requireContract(t, []byte(envelope))
			assert.NotEmpty(t, text(out, event.KafkaKey))
		})
	}
}

// TestSplit: the records of one topic that leave together are within its
// limit together, and nothing changes its place.
func TestSplit(t *testing.T) {
	p := newTestProcessor(t, "max_record_bytes: 10000")
	var batch service.MessageBatch
	var want []string
	for i := range 40 {
		topic := []string{"raw.gps", "raw.sensor", "raw.image2d.meta"}[i%3]
		content := strconv.Itoa(i) + strings.Repeat("x", i*50)
		m := meta{event.KafkaTopic: topic}
		if i == 30 {
			m[event.ErrorClass] = "decode"
		}
		batch = append(batch, message(content, m))
		want = append(want, content)
	}
	out, err := p.ProcessBatch(t.Context(), batch)
	require.NoError(t, err)
	require.Greater(t, len(out), 2)
	i := 0
	for _, part := range out {
		require.NotEmpty(t, part)
		sizes := map[string]int{}
		for _, msg := range part {
			require.Same(t, batch[i], msg)
			if i != 30 {
				require.Equal(t, want[i], contents(t, msg))
			}
			topic := text(msg, event.KafkaTopic)
			sizes[topic] += recordSize(msg, len(contents(t, msg)))
			i++
		}
		for topic, size := range sizes {
			require.LessOrEqual(t, size, p.limitOf(topic), topic)
		}
	}
	require.Equal(t, len(batch), i)

	one := newTestProcessor(t, "")
	out, err = one.ProcessBatch(t.Context(), batch[:10])
	require.NoError(t, err)
	require.Len(t, out, 1)
	out, err = one.ProcessBatch(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, out[0])
}

func TestConfigErrors(t *testing.T) {
	for yaml, wantErr := range map[string]string{
		`topic: " "`:                                   "checking field topic: it must not be blank",
		`source: ""`:                                   "checking field source: it must not be blank",
		`max_record_bytes: 0`:                          "checking field max_record_bytes: it must be at least 1, got 0",
		`topic_max_record_bytes: { raw.gps: 0 }`:       "checking field topic_max_record_bytes.raw.gps: it must be at least 1, got 0",
		`topic_max_record_bytes: { dlq.events: 1000 }`: "but dlq.events may have 1000; set topic_max_record_bytes.dlq.events",
		"max_record_bytes: 1000\ntopic: dlq.other":     "but dlq.other may have 1000",
	} {
		conf, err := processorConfig().ParseYAML(yaml, nil)
		require.NoError(t, err)
		_, err = processorFromParsed(conf, service.MockResources())
		require.ErrorContains(t, err, wantErr, yaml)
	}
}

func TestLint(t *testing.T) {
	linter := service.GlobalEnvironment().NewComponentConfigLinter()
	for yaml, want := range map[string]string{
		`dead_letter: {}`:                          "",
		`dead_letter: { topic: "" }`:               "topic must not be blank",
		`dead_letter: { source: " " }`:             "source must not be blank",
		`dead_letter: { max_record_bytes: 0 }`:     "max_record_bytes must be at least 1",
		`dead_letter: { class: transient }`:        "transient",
		`dead_letter: { max_record_bytes_: 1000 }`: "max_record_bytes_",
	} {
		lints, err := linter.LintProcessorYAML([]byte(yaml))
		require.NoError(t, err)
		if want == "" {
			assert.Empty(t, lints, yaml)
			continue
		}
		require.Len(t, lints, 1, yaml)
		assert.Contains(t, lints[0].Error(), want)
	}
}

func TestThrottle(t *testing.T) {
	now := rejectedAt
	th := newThrottle(10*time.Second, func() time.Time { return now })
	assert.Equal(t, 1, th.add("decode", 1), "the first is reported at once")
	assert.Equal(t, 0, th.add("decode", 1))
	assert.Equal(t, 2, th.add("contract", 2), "each class has a clock of its own")
	now = now.Add(10*time.Second - 1)
	assert.Equal(t, 0, th.add("decode", 1))
	now = now.Add(1)
	assert.Equal(t, 3, th.add("decode", 1), "with those held back")
	assert.Equal(t, 0, th.add("decode", 5))
	assert.Equal(t, map[string]int{"decode": 5}, th.rest())
	assert.Empty(t, th.rest())
}

// TestInPipeline runs the processor as the engine does: strict, with metrics,
// after try_catch, with several workers on the one instance.
func TestInPipeline(t *testing.T) {
	builder := service.NewStreamBuilder()
	builder.SetStrict(true)
	builder.SetThreads(4)
	require.NoError(t, builder.SetLoggerYAML("level: none"))
	require.NoError(t, builder.AddProcessorYAML(`
try_catch:
  processors:
    - label: read_number
      mapping: |
        root = content().number()
        meta kafka_topic = "raw.gps"
  catch:
    - label: bury
      dead_letter: { pipeline: test }
`))
	require.NoError(t, builder.AddProcessorYAML(`
label: bury_rest
dead_letter: {}
`))
	produce, err := builder.AddBatchProducerFunc()
	require.NoError(t, err)
	var mu sync.Mutex
	topics := map[string]int{}
	require.NoError(t, builder.AddBatchConsumerFunc(func(_ context.Context, batch service.MessageBatch) error {
		mu.Lock()
		defer mu.Unlock()
		for _, msg := range batch {
			topics[text(msg, event.KafkaTopic)+" "+text(msg, event.ErrorComponent)+" "+text(msg, event.Pipeline)]++
		}
		return nil
	}))
	stream, err := builder.Build()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- stream.Run(ctx) }()

	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				batch := service.MessageBatch{service.NewMessage([]byte("no number")), service.NewMessage([]byte("1")), service.NewMessage([]byte("2"))}
				if err := produce(ctx, batch); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, stream.Stop(ctx))
	require.NoError(t, <-stopped)
	assert.Equal(t, map[string]int{"raw.gps  ": 320, "dlq.events read_number test": 160}, topics)
}

// FuzzProcessor: no content and no metadata stops it, and every dead letter
// meets the contract.
func FuzzProcessor(f *testing.F) {
	f.Add([]byte("\xff"), []byte(nil), "decode", "[", "devices/x/gps", "1")
	f.Add([]byte(`{"device_id":7}`), []byte(`{}`), "", `[{"message":7}]`, "", "-1")
	f.Add([]byte(`{"device_id":"x"}`), []byte(`{}`), "contract", `{"message":"m"}`, "\x00", "9223372036854775807")
	text, err := schemas.FS.ReadFile("dlq.events.schema.json")
	require.NoError(f, err)
	schema, err := jsonschema.CompileString("dlq.events.json", string(text))
	require.NoError(f, err)
	p := newTestProcessor(f, "")
	f.Fuzz(func(t *testing.T, content, original []byte, class, violations, topic, attempt string) {
		msg := message(string(content), meta{
			event.ErrorClass: class, event.Violations: violations, event.MQTTTopic: topic, event.KafkaTopic: topic, event.KafkaKey: topic,
			event.Attempt: attempt, event.MQTTQoS: attempt, event.EventID: attempt,
		})
		if original != nil {
			msg.MetaSetMut(event.Original, original)
		}
		out := run(t, p, msg)[0]
		if class == "" {
			require.Equal(t, string(content), contents(t, out))
			return
		}
		var value any
		require.NoError(t, json.Unmarshal([]byte(contents(t, out)), &value))
		require.NoError(t, schema.Validate(value))
		d, err := event.ParseDeadLetter([]byte(contents(t, out)))
		require.NoError(t, err)
		if original == nil {
			original = content
		}
		require.True(t, bytes.Equal(original, d.Original))
	})
}

func BenchmarkPass(b *testing.B) {
	p := newTestProcessor(b, "")
	batch := make(service.MessageBatch, 100)
	for i := range batch {
		batch[i] = message(`{"device_id":"cow-7","timestamp":"2026-05-04T10:11:12Z","latitude":47.6,"longitude":9.1}`, meta{
			event.KafkaTopic: "raw.gps", event.KafkaKey: "cow-7", event.EventID: "00112233445566778899aabbccddeeff", event.Time: "2026-05-04T10:11:12Z",
			event.Contract: "raw.gps", event.MQTTTopic: "devices/cow-7/gps", event.MQTTQoS: 1, event.MQTTRetained: false,
		})
	}
	original := any([]byte("x"))
	b.ReportAllocs()
	for b.Loop() {
		for _, msg := range batch {
			msg.MetaSetMut(event.Original, original)
		}
		if _, err := p.ProcessBatch(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(batch)), "ns/msg")
}
