// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

// Package deadletter is the processor dead_letter: it turns a message that
// cannot become a valid event into a record for the dead-letter topic.
package deadletter

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/dealiot/dealiot-connect/plugins/event"
)

const (
	dlName = "dead_letter"

	dlFieldTopic          = "topic"
	dlFieldSource         = "source"
	dlFieldPipeline       = "pipeline"
	dlFieldClass          = "class"
	dlFieldMaxRecord      = "max_record_bytes"
	dlFieldTopicMaxRecord = "topic_max_record_bytes"
)

const (
	// warnEvery is the least time between two warnings about one class.
	warnEvery = 10 * time.Second
	// recordAllowance is what a record may hold besides its value, its key and
	// the headers counted one by one: the small headers, and Kafka's own fields.
	recordAllowance = 1024
	// maxViolationsHeader bounds the header of the same name, in bytes.
	maxViolationsHeader = 16 << 10
	// maxName bounds the key and the source topic of a dead letter, in bytes; an
	// MQTT topic has fewer.
	maxName = 1 << 16
	// minDeadLetterRecord holds the key, the headers and the smallest envelope.
	minDeadLetterRecord = 2*maxName + maxViolationsHeader + recordAllowance + event.MinDeadLetterBytes
	// keywordMaxRecord is the rule that an event too large for its topic breaks.
	keywordMaxRecord = "max_record_bytes"
	// keywordProcessing is the rule that a message caught by try_catch broke.
	keywordProcessing = "processing"
	// catchMetadata is where try_catch leaves the error that it caught.
	catchMetadata = "error"
)

func processorConfig() *service.ConfigSpec {
	return service.NewConfigSpec().
		Stable().
		Version("0.1.0").
		Categories("Utility").
		Summary("Turns a message that cannot become a valid event into a record for the dead-letter topic. Other messages pass as they are.").
		Description(`
A message is turned into a dead letter when

- it is marked: an earlier processor such as `+"`device_event` or `contract_validate`"+` set the metadata `+"`error_class`"+`;
- or `+"`try_catch`"+` caught an error on it, which it leaves in the metadata `+"`error`"+`: put this processor into its `+"`catch`"+` list, or anywhere after it. A `+"`catch`"+` list that repairs the message must delete that metadata (`+"`meta error = deleted()`"+`);
- or its record would be larger than its topic takes. One record over the limit makes a Kafka output repeat its whole batch for ever, so size is checked here.

Its content becomes the JSON envelope of the contract `+"`dlq.events`"+`: the reasons in words, where it came from and was to go, and in `+"`raw_event`"+` the event as far as it was built together with `+"`payload_b64`"+`, the exact bytes as they were received. An envelope over its limit leaves out the event's fields first, then the end of long names, then that of the payload, and says so.

A message that is flagged as failed is left alone: strict error handling rejects it, and the input tries it again. To make a dead letter of it instead, wrap the processor that failed in `+"`try_catch`"+`. This processor never flags a message itself, and never turns a dead letter into another one.

== Metadata

Read, if present: `+"`error_class`, `error_component`, `violations`, `original`"+` (else the content counts as the original bytes), `+"`kafka_topic`"+` (where the event was to go), `+"`kafka_key`, `event_id`, `contract`, `contract_version`, `attempt`, `source_topic`, `source_partition`, `source_offset`, `mqtt_topic`, `mqtt_qos`, `mqtt_retained`"+`.

Set on a dead letter:

- `+"`kafka_topic`"+`: the field `+"`topic`"+`
- `+"`kafka_key`"+`: as it was, else the device id, else the source topic, else `+"`unknown`"+`
- `+"`error_class`"+`: `+"`decode`, `contract`, `route` or `sink`"+`
- `+"`error_component`"+`: label, else name, of the component that rejected the message
- `+"`violations`"+`: the reasons as JSON text, a list of objects with path, keyword, message, contract and version
- `+"`attempt`"+`: 1, and one more each time the message was replayed
- `+"`pipeline`"+`: the field `+"`pipeline`"+`
- `+"`source_topic`, `source_partition`, `source_offset`"+`: where the message came from; for one from a broker the MQTT topic
- `+"`contract`, `contract_version`"+`: the contract that was broken, if it got that far
- `+"`event_id`"+`: as it was; a message that has none gets none
- `+"`dead_lettered`"+`: true, so that a second `+"`dead_letter`"+` leaves it alone

The metadata `+"`original` and `error`"+` is removed. Send the others as Kafka headers with `+"`metadata.include_prefixes`"+` of the output.

== Batches

Kafka's limit holds for the records of a batch together. Where the messages of one batch for one topic are larger than its limit, they are handed on as several batches, in the same order.

== Metrics

- `+"`dead_letters`"+` (label `+"`class`"+`): messages turned into dead letters. A message that is delivered again counts again.
- `+"`dead_letters_truncated`"+` (label `+"`what`"+`): dead letters that had to leave something out to stay within their limit: `+"`event`"+` (its fields), `+"`words`"+` (the end of long names and reasons, too; the payload is whole), `+"`payload`"+` (its end).

Dead letters are logged as a warning, at most one each 10 seconds and class.`).
		Fields(
			service.NewStringField(dlFieldTopic).
				Description("Kafka topic for dead letters.").
				Default("dlq.events").
				LintRule(`root = if this.trim() == "" { [ "topic must not be blank" ] }`),
			service.NewStringField(dlFieldSource).
				Description("The part of the platform that this is, as the envelope's `source`.").
				Default("dealiot-connect").
				LintRule(`root = if this.trim() == "" { [ "source must not be blank" ] }`),
			service.NewStringField(dlFieldPipeline).
				Description("Name of the pipeline, as the header `pipeline`. If empty, the metadata `pipeline`, else the name of the stream in streams mode.").
				Default(""),
			service.NewStringAnnotatedEnumField(dlFieldClass, map[string]string{
				string(event.ClassDecode):   "The bytes are not what they claim to be.",
				string(event.ClassContract): "An event that its contract does not allow.",
				string(event.ClassRoute):    "No destination or no device.",
				string(event.ClassSink):     "The destination refuses it for good.",
			}).
				Description("Error class of messages that `try_catch` caught and nobody marked.").
				Default(string(event.ClassDecode)),
			service.NewIntField(dlFieldMaxRecord).
				Description("Largest record in bytes (value, key and headers) that a topic takes. Stay some way below the topic's `max.message.bytes`, by default 1,048,588.").
				Default(1_000_000).
				LintRule(`root = if this < 1 { [ "max_record_bytes must be at least 1" ] }`),
			service.NewIntMapField(dlFieldTopicMaxRecord).
				Description("Topics that take larger or smaller records, by name. The defaults fit topics with `max.message.bytes` of 4 MiB, because base64 makes bytes a third larger. A map given here replaces the default one.").
				Default(map[string]any{"raw.sensor": 4_000_000, "dlq.events": 4_000_000}),
		).
		Example("At the end of a pipeline",
			"Messages that an earlier processor marked leave for `dlq.events`, all others for the topic that `device_event` chose, through one output.", `
pipeline:
  threads: 1
  processors:
    - label: keep_dead_letters
      dead_letter:
        source: mqtt-bridge
        pipeline: mqtt_to_kafka

output:
  label: kafka
  kafka_franz:
    seed_brokers: [ "127.0.0.1:9092" ]
    topic: ${! @kafka_topic }
    key: ${! @kafka_key }
    metadata:
      include_prefixes: [ event_, error_, source_, contract, violations, attempt, pipeline ]
    max_in_flight: 1
`).
		Example("Steps of one's own that may fail",
			"A mapping that cannot read a message makes a dead letter of it, with the mapping's error as the reason.", `
pipeline:
  processors:
    - try_catch:
        processors:
          - label: read_position
            mapping: |
              root = this
              root.latitude = this.lat.number()
        catch:
          - label: keep_unreadable
            dead_letter:
              class: decode
`)
}

func init() {
	service.MustRegisterBatchProcessor(dlName, processorConfig(),
		func(conf *service.ParsedConfig, mgr *service.Resources) (service.BatchProcessor, error) {
			return processorFromParsed(conf, mgr)
		})
}

// config is what a site sets.
type config struct {
	topic    string
	source   string
	pipeline string
	class    event.Class
	limit    int
	limits   map[string]int // by topic
}

// deps is what the engine gives.
type deps struct {
	component string // label, else name
	stream    string // name of the stream, in streams mode
	log       *service.Logger
	metrics   *service.Metrics
	now       func() time.Time
}

func processorFromParsed(conf *service.ParsedConfig, mgr *service.Resources) (*processor, error) {
	var cfg config
	var class string
	var err error
	if cfg.topic, err = conf.FieldString(dlFieldTopic); err != nil {
		return nil, err
	}
	if cfg.source, err = conf.FieldString(dlFieldSource); err != nil {
		return nil, err
	}
	if cfg.pipeline, err = conf.FieldString(dlFieldPipeline); err != nil {
		return nil, err
	}
	if class, err = conf.FieldString(dlFieldClass); err != nil {
		return nil, err
	}
	cfg.class = event.Class(class)
	if cfg.limit, err = conf.FieldInt(dlFieldMaxRecord); err != nil {
		return nil, err
	}
	if cfg.limits, err = conf.FieldIntMap(dlFieldTopicMaxRecord); err != nil {
		return nil, err
	}
	component := mgr.Label()
	if component == "" {
		component = dlName
	}
	return newProcessor(cfg, deps{component: component, stream: mgr.StreamID(), log: mgr.Logger(), metrics: mgr.Metrics(), now: time.Now})
}

type processor struct {
	config
	deps
	warnings  *throttle
	letters   *service.MetricCounter
	truncated *service.MetricCounter
}

func newProcessor(cfg config, d deps) (*processor, error) {
	if strings.TrimSpace(cfg.topic) == "" {
		return nil, fmt.Errorf("checking field %s: it must not be blank", dlFieldTopic)
	}
	if strings.TrimSpace(cfg.source) == "" {
		return nil, fmt.Errorf("checking field %s: it must not be blank", dlFieldSource)
	}
	if cfg.limit < 1 {
		return nil, fmt.Errorf("checking field %s: it must be at least 1, got %d", dlFieldMaxRecord, cfg.limit)
	}
	for _, topic := range slices.Sorted(maps.Keys(cfg.limits)) {
		if limit := cfg.limits[topic]; limit < 1 {
			return nil, fmt.Errorf("checking field %s.%s: it must be at least 1, got %d", dlFieldTopicMaxRecord, topic, limit)
		}
	}
	p := &processor{
		config:    cfg,
		deps:      d,
		warnings:  newThrottle(warnEvery, d.now),
		letters:   d.metrics.NewCounter("dead_letters", "class"),
		truncated: d.metrics.NewCounter("dead_letters_truncated", "what"),
	}
	if limit := p.limitOf(cfg.topic); limit < minDeadLetterRecord {
		return nil, fmt.Errorf("checking field %s: dead letters need at least %d bytes, but %s may have %d; set %s.%s",
			dlFieldTopicMaxRecord, minDeadLetterRecord, cfg.topic, limit, dlFieldTopicMaxRecord, cfg.topic)
	}
	return p, nil
}

// ProcessBatch implements service.BatchProcessor.
func (p *processor) ProcessBatch(_ context.Context, batch service.MessageBatch) ([]service.MessageBatch, error) {
	var sizes tally
	var split []int // where a new batch begins
	for i, msg := range batch {
		if msg.GetError() != nil {
			continue
		}
		topic, size, err := p.message(msg)
		if err != nil {
			return nil, err
		}
		if !sizes.add(topic, size, p.limitOf(topic)) {
			split = append(split, i)
			sizes = append(sizes[:0], topicBytes{topic, size})
		}
	}
	if split == nil {
		return []service.MessageBatch{batch}, nil
	}
	batches := make([]service.MessageBatch, 0, len(split)+1)
	from := 0
	for _, to := range append(split, len(batch)) {
		batches = append(batches, batch[from:to:to])
		from = to
	}
	return batches, nil
}

// Close implements service.BatchProcessor.
func (p *processor) Close(context.Context) error {
	for class, n := range p.warnings.rest() {
		p.log.Warnf("dead letters to %s with error class %s: %d since the last warning", p.topic, class, n)
	}
	return nil
}

func (p *processor) limitOf(topic string) int {
	if limit, ok := p.limits[topic]; ok {
		return limit
	}
	return p.limit
}

// message makes a dead letter of a message where that is due, and gives the
// destination and size of its record.
func (p *processor) message(msg *service.Message) (topic string, size int, err error) {
	content, err := msg.AsBytes()
	if err != nil {
		return "", 0, fmt.Errorf("reading content of message: %w", err)
	}
	topic = text(msg, event.KafkaTopic)
	if class := text(msg, event.ErrorClass); class != "" {
		if _, done := msg.MetaGetImmut(event.DeadLettered); done {
			return topic, recordSize(msg, len(content)), nil
		}
		violations, _ := msg.MetaGetMut(event.Violations)
		return p.topic, p.bury(msg, content, rejection{
			class:      event.Class(class),
			component:  text(msg, event.ErrorComponent),
			violations: event.ParseViolations(violations),
		}), nil
	}
	if caught, ok := caughtError(msg); ok {
		caught.class = p.class
		return p.topic, p.bury(msg, content, caught), nil
	}
	size = recordSize(msg, len(content))
	if limit := p.limitOf(topic); size > limit {
		return p.topic, p.bury(msg, content, rejection{
			class:     event.ClassSink,
			component: p.component,
			violations: []event.Violation{{
				Keyword:  keywordMaxRecord,
				Message:  fmt.Sprintf("the record for %s would have %d bytes but may have at most %d", cmp.Or(topic, event.Unknown), size, limit),
				Contract: text(msg, event.Contract),
			}},
		}), nil
	}
	if _, ok := msg.MetaGetImmut(event.Original); ok {
		msg.MetaDelete(event.Original)
	}
	return topic, size, nil
}

// rejection is why a message becomes a dead letter.
type rejection struct {
	class      event.Class
	component  string
	violations []event.Violation
}

// bury makes a dead letter of a message and gives the size of its record.
func (p *processor) bury(msg *service.Message, content []byte, why rejection) int {
	d := event.DeadLetter{
		Time:      p.now(),
		Source:    p.source,
		Errors:    event.Words(why.violations),
		Original:  content,
		MQTTTopic: text(msg, event.MQTTTopic),
		QoS:       metaInt(msg, event.MQTTQoS),
		Retain:    metaBool(msg, event.MQTTRetained),
	}
	if len(d.Errors) == 0 {
		d.Errors = []string{fmt.Sprintf("%s rejected it with error class %s", cmp.Or(why.component, "a processor"), why.class)}
	}
	if original, ok := metaBytes(msg, event.Original); ok {
		d.Original = original
	}
	// Content that is still the payload is an event only where it has got as far
	// as a contract or a destination.
	if !bytes.Equal(d.Original, content) || isObject(content) && (why.class == event.ClassContract || why.class == event.ClassSink) {
		d.Event = content
	}
	inEvent := event.TextMembers(d.Event, "device_id", "object_uri")
	d.IntendedTopic = moveSource(msg)
	d.SourceTopic = cmp.Or(text(msg, event.SourceTopic), inEvent[1])
	d.DeviceID = cmp.Or(inEvent[0], text(msg, event.KafkaKey))
	key := cmp.Or(short(text(msg, event.KafkaKey)), short(d.DeviceID), short(d.SourceTopic), event.Unknown)

	violations := event.AppendViolations(nil, why.violations, maxViolationsHeader)
	headers := len(key) + len(violations) + len(short(d.SourceTopic)) + recordAllowance
	envelope, cut := d.AppendTo(make([]byte, 0, 1024+len(d.Event)+base64.StdEncoding.EncodedLen(len(d.Original))), p.limitOf(p.topic)-headers)

	msg.SetBytes(envelope)
	msg.MetaSetMut(event.KafkaTopic, p.topic)
	msg.MetaSetMut(event.KafkaKey, key)
	msg.MetaSetMut(event.ErrorClass, string(why.class))
	msg.MetaSetMut(event.Violations, string(violations))
	msg.MetaSetMut(event.Attempt, attempts(msg)+1)
	msg.MetaSetMut(event.DeadLettered, true)
	msg.MetaSet(event.ErrorComponent, why.component)
	msg.MetaSet(event.SourceTopic, short(d.SourceTopic))
	msg.MetaSet(event.Pipeline, cmp.Or(p.pipeline, text(msg, event.Pipeline), p.stream))
	for _, v := range why.violations {
		if v.Contract != "" {
			msg.MetaSetMut(event.Contract, v.Contract)
			if v.Version != "" {
				msg.MetaSetMut(event.ContractVersion, v.Version)
			}
			break
		}
	}
	msg.MetaDelete(event.Original)
	msg.MetaDelete(catchMetadata)

	p.count(why.class, cut, &d)
	return len(envelope) + headers
}

// count keeps the figures of a dead letter, and warns of it when that is due.
func (p *processor) count(class event.Class, cut event.Cut, d *event.DeadLetter) {
	label := string(class)
	switch class {
	case event.ClassDecode, event.ClassContract, event.ClassRoute, event.ClassSink:
	default:
		label = "other" // a class that a mapping made up must not grow the metrics
	}
	p.letters.Incr(1, label)
	switch cut {
	case event.CutEvent:
		p.truncated.Incr(1, "event")
	case event.CutPayload:
		p.truncated.Incr(1, "payload")
	case event.CutWords:
		p.truncated.Incr(1, "words")
	}
	if n := p.warnings.add(label, 1); n > 0 {
		p.log.Warnf("dead letters to %s with error class %s: %d since the last warning; the latest came from %.200q and was for %s: %.300q",
			p.topic, label, n, d.SourceTopic, cmp.Or(d.IntendedTopic, event.Unknown), d.Errors[0])
	}
}
