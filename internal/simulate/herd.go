// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package simulate

import (
	"container/heap"
	"math/rand/v2"
	"time"

	"github.com/dealiot/dealiot-connect/plugins/event"
)

// Message is one MQTT message of the herd.
type Message struct {
	Seq       uint64 // 1 for the first; its place in the order of sending
	MQTTTopic string
	Payload   []byte
	QoS       byte
	Retain    bool

	Class    Class
	DeviceID string // in the topic; "" where that names none
	// EventTime is the time in the payload in whole milliseconds, if it HasTime;
	// else the instant of sending on the virtual clock.
	EventTime time.Time
	HasTime   bool
	// EventID is the identity of the event; "" where it cannot be told
	// beforehand, because the ingestion's clock takes part in it.
	EventID string
	// DuplicateOf is the Seq of the message that this one repeats, else 0. The
	// payload carries that number instead of Seq.
	DuplicateOf uint64
	Expect      Outcome
}

// Herd makes the messages of all devices in one sequence. It is not safe for
// concurrent use.
type Herd struct {
	cfg     Config
	faults  *rand.Rand // decides on faults only
	classes []Class    // with a share
	shares  []float64  // of classes, cumulative
	queues  [categories]queue
	seq     uint64
	ids     event.IDMaker

	recent [recentMessages]Message // in order, candidates for a duplicate
	sound  uint64                  // how many went into recent
}

// recentMessages bounds how much later than its original a duplicate comes:
// by up to that many messages in order.
const recentMessages = 64

// NewHerd makes a herd. An error says which setting is wrong.
func NewHerd(cfg Config) (*Herd, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	h := &Herd{cfg: cfg, faults: rand.New(rand.NewPCG(cfg.Seed, 0x6661756c74))}
	total := 0.0
	for _, c := range FaultClasses() { // in fixed order, unlike the map
		if share := cfg.Faults[c]; share > 0 {
			total += share
			h.classes = append(h.classes, c)
			h.shares = append(h.shares, total)
		}
	}
	order := 0
	for i := range cfg.Devices {
		for _, s := range newDevice(i, cfg.Seed, cfg.Start) {
			s.order = order
			order++
			h.queues[s.cat] = append(h.queues[s.cat], s)
		}
	}
	for i := range h.queues {
		heap.Init(&h.queues[i])
	}
	return h, nil
}

// Config gives the settings of the herd with defaults filled in.
func (h *Herd) Config() Config { return h.cfg }

// Next makes the next message. The herd keeps and reuses nothing of it but
// what a duplicate needs; its payload must not be changed.
func (h *Herd) Next() Message {
	now := h.cfg.Start.Add(time.Duration(float64(h.seq) / h.cfg.Rate * float64(time.Second)))
	h.seq++
	class := h.draw()
	if class == Duplicate {
		if m, ok := h.repeat(); ok {
			return m
		}
		class = OK // nothing to repeat yet
	}
	s, found := h.pop(class)
	if !found {
		// A herd of one kind of device may have no stream for this class.
		class = OK
		s, _ = h.pop(class)
	}
	m := h.make(s, class, now)
	if class == OK {
		h.recent[h.sound%recentMessages] = m
		h.sound++
	}
	return m
}

// draw decides on the class of the next message.
func (h *Herd) draw() Class {
	u := h.faults.Float64()
	for i, limit := range h.shares {
		if u < limit {
			return h.classes[i]
		}
	}
	return OK
}

// repeat sends one of the recent messages again.
func (h *Herd) repeat() (Message, bool) {
	n := min(h.sound, recentMessages)
	if n == 0 {
		return Message{}, false
	}
	m := h.recent[h.faults.Uint64N(n)]
	m.DuplicateOf, m.Seq = m.Seq, h.seq
	m.Class = Duplicate
	m.Expect = Expect(Duplicate, m.Expect.KafkaTopic)
	return m, true
}

// pop takes the stream that is due next among those that suit a class, and
// plans when it is due again.
func (h *Herd) pop(class Class) (*stream, bool) {
	var q *queue
	for cat := range categories {
		if c := &h.queues[cat]; class.suits(cat) && len(*c) > 0 && (q == nil || (*c)[0].before((*q)[0])) {
			q = c
		}
	}
	if q == nil {
		return nil, false
	}
	s := (*q)[0]
	s.due += s.period * (0.95 + 0.1*h.faults.Float64())
	heap.Fix(q, 0)
	return s, true
}

func (h *Herd) make(s *stream, class Class, now time.Time) Message {
	m := Message{
		Seq: h.seq, MQTTTopic: s.mqttTopic, QoS: h.cfg.QoS,
		Class: class, DeviceID: s.deviceID,
		EventTime: now.Truncate(time.Millisecond), HasTime: true,
		Expect: Expect(class, s.topic),
	}
	s.device.advance(now)

	d := document{b: make([]byte, 0, 512)}
	if s.fault != nil {
		d.fault = s.fault(class, h.faults)
	}
	switch class {
	case Late:
		m.EventTime = lateTime(m.EventTime, h.faults)
	case ClockWrong:
		m.EventTime, d.when.raw = wrongClock(s.timeField, h.faults)
	case UnparsableTime:
		d.when.raw = pick(h.faults, noTimes...)
		m.HasTime = false
	case NoTime:
		d.when.omit = true
		m.HasTime = false
	case BadJSON, Binary:
		m.HasTime = false
	case NoDevice:
		m.MQTTTopic, m.DeviceID = pick(h.faults, noDeviceTopics...), ""
	}
	d.stamp = m.EventTime
	s.write(&d, m.Seq, now)

	switch class {
	case BadJSON:
		m.Payload = truncate(&d, h.faults)
	case Binary:
		m.Payload = binary(m.Seq, h.faults)
	case Oversize:
		d.pad(max(padOverhead, h.cfg.OversizeBytes-packetBytes(m.MQTTTopic, len(d.b), m.QoS)))
		m.Payload = d.b
		if h.cfg.OversizeBytes < recordLimit {
			m.Expect = Expect(OK, s.topic) // not that large after all
		}
	default:
		m.Payload = d.b
	}
	if !m.HasTime {
		m.EventTime = now.Truncate(time.Millisecond)
	} else if m.DeviceID != "" {
		m.EventID = h.ids.ID(m.DeviceID, m.MQTTTopic, m.EventTime, m.Payload).String()
	}
	return m
}

// packetBytes is the size of an MQTT 3.1.1 PUBLISH packet whose length takes
// the usual three bytes (16 KiB to 2 MiB).
func packetBytes(topic string, payload int, qos byte) int {
	n := 1 + 3 + 2 + len(topic) + payload
	if qos > 0 {
		n += 2
	}
	return n
}

// queue is a heap of streams by when they are due.
type queue []*stream

func (s *stream) before(t *stream) bool {
	return s.due < t.due || s.due == t.due && s.order < t.order
}

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].before(q[j]) }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)        { *q = append(*q, x.(*stream)) }
func (q *queue) Pop() any {
	last := len(*q) - 1
	s := (*q)[last]
	*q = (*q)[:last]
	return s
}
