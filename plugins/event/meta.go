// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

// Package event holds what all components agree on: the names of the metadata
// that passes between them, the identity and the time of an event, and the
// shape of a dead letter. It imports no Connect package, so that a rule can be
// read and tested without the engine.
package event

// Metadata that inputs set, on which event-making processors rely.
const (
	MQTTTopic    = "mqtt_topic"    // the full topic of the publish
	MQTTQoS      = "mqtt_qos"      // 0 to 2
	MQTTRetained = "mqtt_retained" // whether the broker replayed a retained message
)

// Metadata that says where a message came from, once it has become something
// else. The redpanda input sets kafka_topic to the source; an event written
// back there would be a loop, hence the move.
const (
	SourceTopic     = "source_topic"
	SourcePartition = "source_partition"
	SourceOffset    = "source_offset"
	SourceKey       = "source_key"
)

// Metadata of an event, set by every event-making processor.
const (
	KafkaTopic      = "kafka_topic"       // destination
	KafkaKey        = "kafka_key"         // device id; on compacted topics "<device id>|<kind>"
	EventID         = "event_id"          // 32 hexadecimal digits, see ID
	Time            = "event_time"        // RFC 3339, UTC
	TimeSource      = "event_time_source" // TimeIngested when the message had no time of its own, else absent
	Contract        = "contract"          // name of the contract that the event is to meet
	ContractVersion = "contract_version"  // version of the contract that rejected it
)

// TimeIngested is the value of TimeSource for events that took their time from
// the clock of the ingesting process.
const TimeIngested = "ingested"

// Metadata of a message that cannot become a valid event. A message is marked
// with these and goes on; it is never flagged as failed (see docs/decisions).
const (
	ErrorClass     = "error_class"
	ErrorComponent = "error_component" // label, else name, of the component that marked it
	Violations     = "violations"      // list of objects, see Violation
	Original       = "original"        // the payload as it was received, []byte
	Attempt        = "attempt"         // how often delivery was tried before
	Pipeline       = "pipeline"
)

// Class is the class of a permanent error: why a message cannot become a valid
// event, however often it is tried again. Transient faults have no class; they
// are retried.
type Class string

// The classes of permanent errors.
const (
	ClassDecode   Class = "decode"   // the bytes are not what they claim to be, or beyond a limit
	ClassContract Class = "contract" // an event, but not one that its contract allows
	ClassRoute    Class = "route"    // no destination or no device
	ClassSink     Class = "sink"     // the destination refuses it for good
)

// Violation is one reason why a message is not a valid event.
type Violation struct {
	Path     string // JSON pointer into the event; "" for the whole
	Keyword  string // JSON Schema keyword, or the rule of ours that was broken
	Message  string // in words
	Contract string // name of the contract; "" where no contract was reached
	Version  string // version of the contract
}

// Object gives the violation in the form that metadata carries, readable from
// Bloblang as @violations.0.path.
func (v Violation) Object() map[string]any {
	o := map[string]any{"path": v.Path, "keyword": v.Keyword, "message": v.Message}
	if v.Contract != "" {
		o["contract"] = v.Contract
	}
	if v.Version != "" {
		o["version"] = v.Version
	}
	return o
}

// ViolationList gives violations in the form that metadata carries.
func ViolationList(vs []Violation) []any {
	list := make([]any, len(vs))
	for i, v := range vs {
		list[i] = v.Object()
	}
	return list
}
