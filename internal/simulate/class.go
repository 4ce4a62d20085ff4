// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package simulate

import "github.com/dealiot/dealiot-connect/plugins/event"

// Class says in which way a message is faulty.
type Class string

// The classes. Outcomes by topic: see Expect.
const (
	OK             Class = "ok"              // nothing wrong
	BadJSON        Class = "bad_json"        // JSON text that breaks off
	MissingField   Class = "missing_field"   // a field that the contract requires is absent
	OutOfRange     Class = "out_of_range"    // a number beyond the contract's bounds
	WrongType      Class = "wrong_type"      // text where the contract wants a number
	Binary         Class = "binary"          // bytes that are not UTF-8
	Oversize       Class = "oversize"        // larger than the record limit of its topic allows
	Duplicate      Class = "duplicate"       // an earlier message again: same topic, same bytes
	Late           Class = "late"            // measured hours or days before it is sent
	ClockWrong     Class = "clock_wrong"     // a device clock that restarted in 1970 or runs in 2080
	UnparsableTime Class = "unparsable_time" // a timestamp that is no time
	NoDevice       Class = "no_device"       // an MQTT topic without a device id
	NoTime         Class = "no_time"         // no timestamp at all
)

// Classes lists all classes, OK first.
func Classes() []Class {
	return append([]Class{OK}, FaultClasses()...)
}

// FaultClasses lists the classes of faulty messages in the order of the
// documentation.
func FaultClasses() []Class {
	return []Class{
		BadJSON, MissingField, OutOfRange, WrongType, Binary, Oversize,
		Duplicate, Late, ClockWrong, UnparsableTime, NoDevice, NoTime,
	}
}

// Kafka topics that messages of the herd are for.
const (
	TopicGPS        = "raw.gps"
	TopicSensor     = "raw.sensor"
	TopicImage2D    = "raw.image2d.meta"
	TopicImage3D    = "raw.image3d.meta"
	TopicVideo2D    = "raw.video2d.meta"
	TopicVideo3D    = "raw.video3d.meta"
	TopicDeadLetter = "dlq.events"
)

// recordLimit is the largest record in bytes that dead_letter lets pass, by
// default, to the topics for GPS and media events. Sensor events and dead
// letters have more room, because base64 makes bytes longer.
const recordLimit = 1_000_000

// category groups streams by the rules that hold for them.
type category int

const (
	gps category = iota
	media
	sensor
	categories // their number
)

// suits says on which streams a class means anything: the contract of sensor
// events asks nothing of the payload and its topic has room for any packet, so
// some faults cannot happen there; and a topic without a device id is only
// routed at all when it is a sensor topic.
func (c Class) suits(cat category) bool {
	switch c {
	case MissingField, OutOfRange, WrongType, Oversize:
		return cat == gps || cat == media
	case NoDevice:
		return cat == sensor
	default:
		return true
	}
}

// Outcome is what the ingestion rules make of a message.
type Outcome struct {
	// KafkaTopic is where a record for the message must appear.
	KafkaTopic string `json:"kafka_topic"`
	// IntendedTopic is the topic that a dead letter was for; "" for others.
	IntendedTopic string `json:"intended_topic,omitempty"`
	// ErrorClass of the dead letter; "" for events.
	ErrorClass event.Class `json:"error_class,omitempty"`
	// PayloadB64: the event carries the bytes as payload.payload_b64.
	PayloadB64 bool `json:"payload_b64,omitempty"`
	// Ingested: the event takes its time from the ingestion, hence its id cannot
	// be told beforehand.
	Ingested bool `json:"ingested,omitempty"`
	// Duplicate: this is a second record with the event_id of an earlier one.
	Duplicate bool `json:"duplicate,omitempty"`
}

// Expect gives the outcome of a message of class c that is for Kafka topic
// intended, under the default settings of the ingestion pipeline. For an
// oversize message it is that of the default size.
//
//	class            raw.sensor              raw.gps, raw.*.meta
//	ok               event                   event
//	bad_json         event, payload_b64      dead letter, contract
//	missing_field    (not made)              dead letter, contract
//	out_of_range     (not made)              dead letter, contract
//	wrong_type       (not made)              dead letter, contract
//	binary           event, payload_b64      dead letter, contract
//	oversize         (not made)              dead letter, sink
//	duplicate        event, same event_id    event, same event_id
//	late             event                   event
//	clock_wrong      event                   event
//	unparsable_time  dead letter, decode     dead letter, decode
//	no_device        dead letter, route      (not made)
//	no_time          event, ingestion time   event, ingestion time
func Expect(c Class, intended string) Outcome {
	deadLetter := func(class event.Class) Outcome {
		return Outcome{KafkaTopic: TopicDeadLetter, IntendedTopic: intended, ErrorClass: class}
	}
	switch c {
	case BadJSON, Binary:
		if intended == TopicSensor {
			return Outcome{KafkaTopic: intended, PayloadB64: true, Ingested: true}
		}
		return deadLetter(event.ClassContract) // what the contract requires is not there
	case MissingField, OutOfRange, WrongType:
		return deadLetter(event.ClassContract)
	case Oversize:
		return deadLetter(event.ClassSink)
	case UnparsableTime:
		return deadLetter(event.ClassDecode)
	case NoDevice:
		return deadLetter(event.ClassRoute)
	case Duplicate:
		return Outcome{KafkaTopic: intended, Duplicate: true}
	case NoTime:
		return Outcome{KafkaTopic: intended, Ingested: true}
	default:
		return Outcome{KafkaTopic: intended}
	}
}
