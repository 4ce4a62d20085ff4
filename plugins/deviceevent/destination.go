// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package deviceevent

import (
	"github.com/dealiot/dealiot-connect/plugins/event"
	"github.com/dealiot/dealiot-connect/plugins/jsonscan"
	"github.com/dealiot/dealiot-connect/plugins/route"
)

// shape is the form of an event, which follows from its Kafka topic.
type shape uint8

const (
	// spread puts the payload's own members beside those of the envelope. It
	// is the form of media metadata and of every topic that has no other.
	spread shape = iota
	// nested keeps the payload as a member of the envelope.
	nested
	// position is nested, and lifts coordinates and motion to the top.
	position
)

// Destination is all that follows from an MQTT topic alone, worked out once
// for many messages. It does not change and may be shared.
type Destination struct {
	route.Route
	// MQTTTopic is the topic it was made for.
	MQTTTopic string
	// Failure is why no event can be made of any message of this topic; nil
	// otherwise.
	Failure *Failure

	shape shape
	media bool   // has a closed contract for metadata of media
	index int    // of the Kafka topic among those that the rules know
	id    []byte // ,"device_id":"cow-7","timestamp":" for the envelope
	tail  []byte // ,"mqtt_topic":"devices/cow-7/gps","source":"mqtt-bridge"

	// Metadata in the form that messages carry it, so that no message pays for
	// the conversion.
	topicValue, keyValue any
}

// NewDestination applies the rules to an MQTT topic.
func NewDestination(rules *route.Table, mqttTopic string) *Destination {
	r, err := rules.Resolve(mqttTopic)
	d := &Destination{Route: r, MQTTTopic: mqttTopic, topicValue: r.KafkaTopic, keyValue: r.DeviceID}
	if err != nil {
		d.Failure = &Failure{
			Class:      event.ClassRoute,
			Violations: []event.Violation{{Path: "/mqtt_topic", Keyword: "topic", Message: err.Error()}},
		}
		return d
	}
	switch r.KafkaTopic {
	case route.TopicSensor:
		d.shape = nested
	case route.TopicGPS:
		d.shape = position
	case route.TopicImage2D, route.TopicImage3D, route.TopicVideo2D, route.TopicVideo3D:
		d.media = true
	}
	for i, topic := range rules.Topics() {
		if topic == r.KafkaTopic {
			d.index = i
		}
	}
	d.id = append(d.id, `"device_id":`...)
	d.id = jsonscan.AppendString(d.id, r.DeviceID)
	d.id = append(d.id, `,"timestamp":"`...)
	d.tail = append(d.tail, `,"mqtt_topic":`...)
	d.tail = jsonscan.AppendString(d.tail, mqttTopic)
	d.tail = append(d.tail, `,"source":"`...)
	d.tail = append(d.tail, r.Source...)
	d.tail = append(d.tail, '"')
	return d
}

// envelopeBytes is what an envelope takes beside the parts of a Destination
// and the payload: names, id, two times, qos, retain.
const envelopeBytes = 224

// positionBytes is what coordinates and motion take.
const positionBytes = 192

// size estimates the length of an event with a payload of n bytes, so that it
// seldom has to move while it is written.
func (d *Destination) size(n int) int {
	n += envelopeBytes + len(d.id) + len(d.tail)
	if d.shape == position {
		n += positionBytes
	}
	return n
}
