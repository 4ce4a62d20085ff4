// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package deviceevent

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/dealiot/dealiot-connect/plugins/event"
	"github.com/dealiot/dealiot-connect/plugins/route"
)

const (
	name = "device_event"

	deFieldTopic          = "topic"
	deFieldDefaultTopic   = "default_topic"
	deFieldRules          = "rules"
	deFieldRuleMarkers    = "markers"
	deFieldRuleTopic      = "topic"
	deFieldWildFiPrefixes = "wildfi_prefixes"
	deFieldWildFiMarkers  = "wildfi_markers"
	deFieldDeviceMarkers  = "device_markers"
	deFieldNonJSON        = "non_json"

	nonJSONWrap   = "wrap"
	nonJSONReject = "reject"

	// defaultTopicExpr is read as metadata, without the cost of an expression.
	defaultTopicExpr = "${! @" + event.MQTTTopic + " }"
)

// Spec describes the processor and its fields.
func Spec() *service.ConfigSpec {
	defaults := route.Defaults()
	rules := make([]any, len(defaults.Rules))
	for i, r := range defaults.Rules {
		rules[i] = map[string]any{deFieldRuleMarkers: anyList(r.Markers), deFieldRuleTopic: r.Topic}
	}
	return service.NewConfigSpec().
		Version("0.1.0").
		Categories("Parsing", "Mapping").
		Summary("Turns what devices publish over MQTT into events: routed to a Kafka topic, keyed by device, with a time and an identity, in the shape of their contract.").
		Description(`
The MQTT topic decides where a message belongs. It is read level by level, empty levels count for nothing, and words are compared whole and in any case:

- The *device* is the level behind the first of `+"`device_markers`"+` that has one, else the first level behind a WildFi prefix that is no marker, else the last level if it is no marker.
- The *Kafka topic* is that of the first of `+"`rules`"+` of which any level but the device's is a marker. WildFi topics with one of `+"`wildfi_markers`"+` go to `+"`raw.sensor`"+`, and all else to `+"`default_topic`"+`.

The payload is read once and copied as it stands; numbers keep all their digits. The form of the event follows from its Kafka topic:

- `+"`raw.sensor`"+`: an envelope around the payload. A payload that is a single value stands as `+"`payload.value`"+`, one that is not JSON as `+"`payload.payload_b64`"+` (see `+"`non_json`"+`).
- `+"`raw.gps`"+`: the same, and `+"`latitude`, `longitude`, `altitude_m`, `speed_m_s` and `heading_deg`"+` lifted from the payload under these names or `+"`latitude_deg`, `lat`, `longitude_deg`, `lon`, `altitude`, `speed`, `heading`"+`; the first that is not null counts. What the device did not send is left out: a message without coordinates is rejected by the contract, and never becomes a place at 0, 0.
- `+"`raw.image2d.meta`, `raw.image3d.meta`, `raw.video2d.meta`, `raw.video3d.meta`"+` and every other topic: the payload's members beside those of the envelope. A `+"`device_id`"+` in the payload goes before that of the topic, and is the Kafka key then.

The event's `+"`timestamp`"+` is the first of `+"`timestamp`, `utcTimestamp`, `utc_timestamp`, `time`"+` in the payload that is neither null nor empty: an RFC 3339 date-time with a zone, or a number since 1970 in seconds (up to 1e10), milliseconds (up to 1e14), microseconds (up to 1e17) or nanoseconds. It leaves in UTC. Without any, it is the time of ingestion.

An empty retained message is MQTT's way to delete a retained one; it is dropped and counted. Where an object names a member twice, the last one stands; half of a surrogate pair becomes U+FFFD.

A message that cannot become an event keeps its content and is marked in its metadata for `+"`dead_letter`"+`; it is not flagged as failed. Messages that are marked already pass untouched.

== Metadata

Read: `+"`mqtt_topic`, `mqtt_qos`, `mqtt_retained`"+`. For messages without a time of their own also `+"`event_id`"+` (32 hexadecimal digits, from the publisher or an earlier pass) and the `+"`event_time`"+` that goes with it.

Moved, when the message came from Kafka: `+"`kafka_topic`, `kafka_partition`, `kafka_offset`, `kafka_key` to `source_topic`, `source_partition`, `source_offset`, `source_key`"+`.

Set on every message:

`+"```text"+`
- original (the payload as it was received)
- kafka_topic (if the MQTT topic leads to one)
- kafka_key (if the MQTT topic names a device)
`+"```"+`

Set on events:

`+"```text"+`
- event_id
- event_time (RFC 3339, UTC)
- event_time_source ("ingested", when the message had no time of its own)
- contract (the Kafka topic)
- violations (only where the payload of a GPS or media message is not JSON: why the contract is going to reject it)
`+"```"+`

Set on messages that cannot become events:

`+"```text"+`
- error_class (route: no topic or no device; decode: no time, or beyond the limits of JSON)
- error_component (the label of this processor, else its name)
- violations
`+"```"+`

== Identity

`+"`event_id`"+` is the same for a redelivery and a replay: it is made from the device, the full MQTT topic, the event time and the payload's bytes. A message without a time of its own takes it from metadata, else from the time of ingestion; the latter may appear twice after a crash.

== Metrics

- `+"`device_events`"+` (label `+"`topic`"+`): events made.
- `+"`device_event_rejected`"+` (label `+"`class`"+`): messages that cannot become events.
- `+"`device_event_dropped`"+` (label `+"`reason`"+`): messages dropped; `+"`empty_retained`"+` is the only reason.
- `+"`device_event_time_ingested`"+`: events that had no time of their own.

== Ordering

Messages keep their order; one batch comes out for each that goes in, or none when all of it was dropped.`).
		Fields(
			service.NewStringField(deFieldDefaultTopic).
				Description("Kafka topic of messages whose MQTT topic has no marker.").
				Default(defaults.DefaultTopic),
			service.NewObjectListField(deFieldRules,
				service.NewStringListField(deFieldRuleMarkers).
					Description("Levels of an MQTT topic, in any case."),
				service.NewStringField(deFieldRuleTopic).
					Description("Kafka topic that they lead to."),
			).
				Description("Which levels of an MQTT topic lead to which Kafka topic. The first rule that applies decides, wherever in the topic its marker stands.").
				Default(rules),
			service.NewStringListField(deFieldWildFiPrefixes).
				Description("Levels that make a topic a WildFi topic, beside `wildfi` and `wild-fi`. An item may hold several, parted by commas.").
				Default([]any{}).
				Example([]any{"biolog"}),
			service.NewStringListField(deFieldWildFiMarkers).
				Description("Levels that lead a WildFi topic to `raw.sensor`, after all rules, and that are no device.").
				Default(anyList(defaults.WildFiMarkers)).
				Advanced(),
			service.NewStringListField(deFieldDeviceMarkers).
				Description("Levels in front of a device id, in order of precedence.").
				Default(anyList(defaults.DeviceMarkers)),
			service.NewStringAnnotatedEnumField(deFieldNonJSON, map[string]string{
				nonJSONWrap:   "It becomes an event with the bytes as `payload_b64`. Contracts of sensors accept that, those of positions and media don't.",
				nonJSONReject: "It cannot become an event (`error_class` decode).",
			}).
				Description("What happens to a payload that is not JSON.").
				Default(nonJSONWrap),
			service.NewInterpolatedStringField(deFieldTopic).
				Description("The MQTT topic of a message, for inputs that don't set `mqtt_topic`.").
				Default(defaultTopicExpr).
				Advanced(),
		).
		Example("From MQTT to Kafka", "Devices publish to `devices/<id>/...` or `wildfi/tags/<id>/...`; every message leaves for the topic of its contract, or for `dlq.events` with a reason.", `
pipeline:
  processors:
    - label: event
      device_event: {}

output:
  label: kafka
  kafka_franz:
    seed_brokers: [ localhost:9092 ]
    topic: ${! @kafka_topic }
    key: ${! @kafka_key }
    max_in_flight: 1
`).
		Example("A topic of one's own", "Milk meters publish to `farm/<herd>/cows/<id>/milk`. The list replaces the default one, so rules that are still wanted are repeated.", `
pipeline:
  processors:
    - label: event
      device_event:
        device_markers: [ cows, devices ]
        rules:
          - markers: [ milk ]
            topic: farm.milk
          - markers: [ gps, gnss ]
            topic: raw.gps
`)
}

func anyList(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}

func init() {
	service.MustRegisterBatchProcessor(name, Spec(), New)
}

// New makes the processor from a configuration that Spec has parsed.
func New(conf *service.ParsedConfig, mgr *service.Resources) (service.BatchProcessor, error) {
	p, err := processorFromParsed(conf, mgr)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// config is what the fields say.
type config struct {
	rules         *route.Table
	topic         *service.InterpolatedString // nil for the metadata of the input
	rejectNonJSON bool
}

func processorFromParsed(conf *service.ParsedConfig, mgr *service.Resources) (*processor, error) {
	var c config
	settings, err := settingsFromParsed(conf)
	if err != nil {
		return nil, err
	}
	if c.rules, err = route.Compile(settings); err != nil {
		return nil, fmt.Errorf("reading routing rules: %w", err)
	}
	nonJSON, err := conf.FieldString(deFieldNonJSON)
	if err != nil {
		return nil, err
	}
	switch nonJSON {
	case nonJSONWrap, nonJSONReject:
		c.rejectNonJSON = nonJSON == nonJSONReject
	default:
		return nil, fmt.Errorf("reading %s %q: it is %s or %s", deFieldNonJSON, nonJSON, nonJSONWrap, nonJSONReject)
	}
	expr, err := conf.FieldString(deFieldTopic)
	if err != nil {
		return nil, err
	}
	if expr != defaultTopicExpr {
		if c.topic, err = conf.FieldInterpolatedString(deFieldTopic); err != nil {
			return nil, err
		}
	}
	return newProcessor(c, mgr), nil
}

func settingsFromParsed(conf *service.ParsedConfig) (s route.Settings, err error) {
	if s.DefaultTopic, err = conf.FieldString(deFieldDefaultTopic); err != nil {
		return s, err
	}
	if s.WildFiPrefixes, err = conf.FieldStringList(deFieldWildFiPrefixes); err != nil {
		return s, err
	}
	if s.WildFiMarkers, err = conf.FieldStringList(deFieldWildFiMarkers); err != nil {
		return s, err
	}
	if s.DeviceMarkers, err = conf.FieldStringList(deFieldDeviceMarkers); err != nil {
		return s, err
	}
	rules, err := conf.FieldObjectList(deFieldRules)
	if err != nil {
		return s, err
	}
	for _, rule := range rules {
		var r route.Rule
		if r.Markers, err = rule.FieldStringList(deFieldRuleMarkers); err != nil {
			return s, err
		}
		if r.Topic, err = rule.FieldString(deFieldRuleTopic); err != nil {
			return s, err
		}
		s.Rules = append(s.Rules, r)
	}
	return s, nil
}

// processor is the device_event processor. One instance serves all threads.
type processor struct {
	config
	component    string
	now          func() time.Time
	destinations route.Cache[*Destination]
	newDest      func(topic string) *Destination
	workers      sync.Pool
	// last is the latest instant, in Unix nanoseconds, that was given to a
	// message without a time of its own.
	last atomic.Int64

	made, rejected, dropped, ingested *service.MetricCounter
}

func newProcessor(c config, mgr *service.Resources) *processor {
	p := &processor{
		config:    c,
		component: name,
		now:       time.Now,
		newDest:   func(topic string) *Destination { return NewDestination(c.rules, topic) },
		made:      mgr.Metrics().NewCounter("device_events", "topic"),
		rejected:  mgr.Metrics().NewCounter("device_event_rejected", "class"),
		dropped:   mgr.Metrics().NewCounter("device_event_dropped", "reason"),
		ingested:  mgr.Metrics().NewCounter("device_event_time_ingested"),
	}
	if label := mgr.Label(); label != "" {
		p.component = label
	}
	p.workers.New = func() any {
		return &worker{
			Builder: Builder{RejectNonJSON: c.rejectNonJSON},
			made:    make([]int64, len(c.rules.Topics())),
		}
	}
	return p
}

// worker is what one call of ProcessBatch needs and the next one may use
// again. Nothing that a message keeps stands in it.
type worker struct {
	Builder
	events []built
	text   []byte // ids and times of the batch, one after the other
	slab   []byte // where the bodies are written; belongs to the messages
	made   []int64
}

// built is an event whose metadata is not set yet.
type built struct {
	msg      *service.Message
	dest     *Destination
	event    Event
	original []byte
}

const (
	// slabBytes bounds the memory that the messages of a batch share, because
	// one that lives on keeps all of it.
	slabBytes = 128 << 10
	// idBytes is the length of an event id as text.
	idBytes = 2 * len(event.ID{})
)

// ProcessBatch implements service.BatchProcessor.
func (p *processor) ProcessBatch(_ context.Context, batch service.MessageBatch) ([]service.MessageBatch, error) {
	w := p.workers.Get().(*worker)
	defer p.release(w)
	now := p.now()
	w.Begin(now)
	w.count = p.reserve(now, len(batch))

	kept := batch
	dropped := 0
	for i, msg := range batch {
		if p.process(w, msg, len(batch)-i) {
			if dropped > 0 {
				kept = append(kept, msg)
			}
			continue
		}
		if dropped == 0 { // the batch itself is not ours to change
			kept = append(make(service.MessageBatch, 0, len(batch)-1), batch[:i]...)
		}
		dropped++
	}
	p.finish(w)
	if dropped > 0 {
		p.dropped.Incr(int64(dropped), "empty_retained")
		if len(kept) == 0 {
			return nil, nil
		}
	}
	return []service.MessageBatch{kept}, nil
}

// reserve gives a batch of n messages instants of its own, from now plus the
// result on, a nanosecond each: two equal readings without a time are told
// apart by it, also when the clock is coarse or two threads read the same.
func (p *processor) reserve(now time.Time, n int) time.Duration {
	clock := now.UnixNano()
	for {
		last, from := p.last.Load(), clock
		// A clock that was set back is believed.
		if ahead := last - clock; ahead >= 0 && ahead < int64(time.Second) {
			from = last + 1
		}
		if p.last.CompareAndSwap(last, from+int64(n)-1) {
			return time.Duration(from - clock)
		}
	}
}

// Close implements service.BatchProcessor.
func (p *processor) Close(context.Context) error { return nil }

func (p *processor) release(w *worker) {
	clear(w.events)
	w.events = w.events[:0]
	w.text = w.text[:0]
	w.slab = nil
	p.workers.Put(w)
}

// process makes an event of a message. left is how many messages of the batch
// are still to come, this one included. It says whether the message is kept.
func (p *processor) process(w *worker, msg *service.Message, left int) (kept bool) {
	if _, marked := msg.MetaGetImmut(event.ErrorClass); marked {
		return true
	}
	payload, err := msg.AsBytes()
	if err != nil { // the engine has no case of it today
		p.reject(msg, nil, nil, &Failure{event.ClassDecode, []event.Violation{{
			Path: "/payload", Keyword: "json", Message: fmt.Sprintf("payload cannot be read: %v", err),
		}}})
		return true
	}
	moveSource(msg)

	topic, problem := p.mqttTopic(msg)
	if problem != nil {
		p.reject(msg, nil, payload, problem)
		return true
	}
	m := Message{Payload: payload, QoS: qos(msg), Retained: retained(msg)}
	if len(payload) == 0 && m.Retained {
		return false
	}
	m.EventID = metaString(msg, event.EventID)
	if m.EventID != "" {
		m.EventTime = metaString(msg, event.Time)
	}

	dest := p.destinations.Get(topic, p.newDest)
	need := dest.size(len(payload))
	if cap(w.slab)-len(w.slab) < need {
		w.slab = make([]byte, 0, max(need, min(need*left, slabBytes)))
	}
	from := len(w.slab)
	e, failure := w.Build(w.slab[from:from:cap(w.slab)], dest, m)
	if failure != nil {
		p.reject(msg, dest, payload, failure)
		return true
	}
	if !e.TimeIngested { // an earlier pass may have said otherwise
		if _, stale := msg.MetaGetImmut(event.TimeSource); stale {
			msg.MetaDelete(event.TimeSource)
		}
	}
	// A body that outgrew its estimate stands elsewhere.
	if end := from + len(e.Body); end <= cap(w.slab) {
		w.slab = w.slab[:end]
	}
	w.text = e.ID.AppendTo(w.text)
	w.text = append(w.text, e.Time...)
	w.events = append(w.events, built{msg, dest, e, payload})
	return true
}

// finish sets content and metadata of the events of a batch.
func (p *processor) finish(w *worker) {
	text := string(w.text)
	ingested := int64(0)
	for i := range w.events {
		b := &w.events[i]
		msg, dest := b.msg, b.dest
		msg.SetBytes(b.event.Body)
		msg.MetaSetMut(event.Original, b.original)
		msg.MetaSetMut(event.KafkaTopic, dest.topicValue)
		msg.MetaSetMut(event.Contract, dest.topicValue)
		if b.event.DeviceID == dest.DeviceID {
			msg.MetaSetMut(event.KafkaKey, dest.keyValue)
		} else {
			msg.MetaSetMut(event.KafkaKey, b.event.DeviceID)
		}
		end := idBytes + len(b.event.Time)
		msg.MetaSetMut(event.EventID, text[:idBytes])
		msg.MetaSetMut(event.Time, text[idBytes:end])
		text = text[end:]
		if b.event.TimeIngested {
			ingested++
			msg.MetaSetMut(event.TimeSource, event.TimeIngested)
		}
		if b.event.Remarks != nil {
			msg.MetaSetMut(event.Violations, event.ViolationList(b.event.Remarks))
		}
		w.made[dest.index]++
	}
	for i, n := range w.made {
		if n > 0 {
			p.made.Incr(n, p.rules.Topics()[i])
			w.made[i] = 0
		}
	}
	if ingested > 0 {
		p.ingested.Incr(ingested)
	}
}

// reject marks a message that cannot become an event.
func (p *processor) reject(msg *service.Message, dest *Destination, original []byte, f *Failure) {
	msg.MetaSetMut(event.Original, original)
	msg.MetaSetMut(event.ErrorClass, string(f.Class))
	msg.MetaSetMut(event.ErrorComponent, p.component)
	msg.MetaSetMut(event.Violations, event.ViolationList(f.Violations))
	if dest != nil {
		if dest.KafkaTopic != "" {
			msg.MetaSetMut(event.KafkaTopic, dest.topicValue)
		}
		if dest.DeviceID != "" {
			msg.MetaSetMut(event.KafkaKey, dest.keyValue)
		}
	}
	p.rejected.Incr(1, string(f.Class))
}

// mqttTopic gives the MQTT topic of a message, or says why there is none.
func (p *processor) mqttTopic(msg *service.Message) (string, *Failure) {
	var reason string
	if p.topic == nil {
		if topic := metaString(msg, event.MQTTTopic); topic != "" {
			return topic, nil
		}
		reason = "message has no MQTT topic: metadata " + event.MQTTTopic + " is not set, which MQTT inputs do; for other inputs set the field " + deFieldTopic
	} else {
		topic, err := p.topic.TryString(msg)
		switch {
		case err != nil:
			reason = fmt.Sprintf("message has no MQTT topic: reading field %s: %v", deFieldTopic, err)
		case topic == "":
			reason = "message has no MQTT topic: field " + deFieldTopic + " is empty"
		default:
			return topic, nil
		}
	}
	return "", &Failure{event.ClassRoute, []event.Violation{{Path: "/mqtt_topic", Keyword: "topic", Message: reason}}}
}

// moveSource makes room for the destination where the input has set the topic
// that a message came from.
func moveSource(msg *service.Message) {
	if _, ok := msg.MetaGetImmut(event.KafkaTopic); !ok {
		return
	}
	for _, move := range [...][2]string{
		{event.KafkaTopic, event.SourceTopic},
		{"kafka_partition", event.SourcePartition},
		{"kafka_offset", event.SourceOffset},
		{event.KafkaKey, event.SourceKey},
	} {
		if v, ok := msg.MetaGetMut(move[0]); ok {
			msg.MetaSetMut(move[1], v)
			msg.MetaDelete(move[0])
		}
	}
}

// metaString reads metadata as text; "" when it is not there.
func metaString(msg *service.Message, key string) string {
	v, ok := msg.MetaGetMut(key)
	if !ok {
		return ""
	}
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	}
	text, _ := msg.MetaGet(key)
	return text
}

// qos reads the quality of service, which inputs set as a number or, after a
// detour through headers, as text.
func qos(msg *service.Message) int {
	v, ok := msg.MetaGetMut(event.MQTTQoS)
	if !ok {
		return NoQoS
	}
	if n, ok := v.(int); ok {
		return n
	}
	text, _ := msg.MetaGet(event.MQTTQoS)
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		return NoQoS
	}
	return n
}

func retained(msg *service.Message) bool {
	v, ok := msg.MetaGetMut(event.MQTTRetained)
	if !ok {
		return false
	}
	if b, ok := v.(bool); ok {
		return b
	}
	text, _ := msg.MetaGet(event.MQTTRetained)
	b, _ := strconv.ParseBool(strings.TrimSpace(text))
	return b
}
