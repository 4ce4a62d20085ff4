// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package simulate

import (
	"encoding/json"
	"time"
)

// Summary is what a run sent, for people and for tests to compare with what
// came out of a pipeline.
type Summary struct {
	// Sent counts the messages handed to the broker, each once, however often a
	// lost connection made the run send it again.
	Sent uint64 `json:"sent"`
	// Acknowledged counts those that the broker took: PUBACK at QoS 1, PUBCOMP at
	// QoS 2, written to the connection at QoS 0.
	Acknowledged uint64 `json:"acknowledged"`
	// Resent counts messages sent again after a lost connection. Each may have
	// reached the broker twice: another record with the same event_id.
	Resent     uint64 `json:"resent"`
	Reconnects uint64 `json:"reconnects"`

	ByClass map[Class]*ClassSummary `json:"by_class"`
	// ByTopic counts the records that must appear on each Kafka topic.
	ByTopic map[string]uint64 `json:"by_topic"`

	// What made the sequence: with these and the same faults, the same messages.
	Seed    uint64    `json:"seed"`
	Devices int       `json:"devices"`
	Start   time.Time `json:"start"`
	Rate    float64   `json:"rate"`

	Duration Seconds `json:"duration_s"`
}

// ClassSummary counts the messages of one class.
type ClassSummary struct {
	Sent uint64 `json:"sent"`
	// Expect counts the records that must appear on each Kafka topic.
	Expect map[string]uint64 `json:"expect"`
}

// Seconds is a duration that is printed as a number of seconds.
type Seconds time.Duration

// MarshalJSON prints seconds with milliseconds.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return json.Marshal(float64(time.Duration(s).Milliseconds()) / 1000)
}

// UnmarshalJSON reads a number of seconds.
func (s *Seconds) UnmarshalJSON(b []byte) error {
	var x float64
	if err := json.Unmarshal(b, &x); err != nil {
		return err
	}
	*s = Seconds(x * float64(time.Second))
	return nil
}

func newSummary(cfg Config) Summary {
	return Summary{
		ByClass: map[Class]*ClassSummary{}, ByTopic: map[string]uint64{},
		Seed: cfg.Seed, Devices: cfg.Devices, Start: cfg.Start, Rate: cfg.Rate,
	}
}

// count adds a message that is sent for the first time.
func (s *Summary) count(m *Message) {
	s.Sent++
	c := s.ByClass[m.Class]
	if c == nil {
		c = &ClassSummary{Expect: map[string]uint64{}}
		s.ByClass[m.Class] = c
	}
	c.Sent++
	c.Expect[m.Expect.KafkaTopic]++
	s.ByTopic[m.Expect.KafkaTopic]++
}

// ManifestEntry is the line of a manifest for one message: what was sent, and
// what must become of it.
type ManifestEntry struct {
	Seq         uint64    `json:"seq"`
	Class       Class     `json:"class"`
	MQTTTopic   string    `json:"mqtt_topic"`
	DeviceID    string    `json:"device_id,omitempty"`
	QoS         byte      `json:"qos"`
	Bytes       int       `json:"bytes"`
	EventTime   time.Time `json:"event_time,omitzero"` // absent when the payload has none
	EventID     string    `json:"event_id,omitempty"`  // absent when it cannot be told beforehand
	DuplicateOf uint64    `json:"duplicate_of,omitempty"`
	// Acknowledged says that the broker took the message. Without it nothing is
	// certain: it may have arrived.
	Acknowledged bool    `json:"acknowledged"`
	Expect       Outcome `json:"expect"`
}

func manifestEntry(m *Message, acknowledged bool) ManifestEntry {
	e := ManifestEntry{
		Seq: m.Seq, Class: m.Class, MQTTTopic: m.MQTTTopic, DeviceID: m.DeviceID, QoS: m.QoS, Bytes: len(m.Payload),
		EventID: m.EventID, DuplicateOf: m.DuplicateOf, Acknowledged: acknowledged, Expect: m.Expect,
	}
	if m.HasTime {
		e.EventTime = m.EventTime
	}
	return e
}
