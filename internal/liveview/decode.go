// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package liveview

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dealiot/dealiot-connect/plugins/event"
)

// Topics whose records the view looks into.
const (
	gpsTopic        = "raw.gps"
	deadLetterTopic = "dlq.events"
	rawPrefix       = "raw."
)

// Record is what the view needs to know of a Kafka record.
type Record struct {
	Topic string
	Bytes int // key and value
	// Device says whether the record came from a device over MQTT, rather than
	// from another topic or from object storage.
	Device     bool
	IngestedAt time.Time   // when the message arrived, if the record was looked into and says so
	DeadLetter *DeadLetter // for dead letters
	Position   *Position   // for positions
	// Original is the payload as the device sent it, for dead letters; it is nil
	// for events, which hold it in their value.
	Original []byte
}

// DeadLetter is why a message was rejected.
type DeadLetter struct {
	Class       string // decode, contract, route or sink; "" if it does not say
	Intended    string // the Kafka topic it was for
	SourceTopic string
	Reason      string // the first reason, in words
}

// Position is where an animal is.
type Position struct {
	Device              string
	Latitude, Longitude float64  // degrees
	Speed               *float64 // m/s
	Time                time.Time
}

// Decode reads a record. Content that is not what its topic promises is no
// error here: the record counts, and shows nothing else.
func Decode(r *kgo.Record) Record {
	out := Record{Topic: r.Topic, Bytes: len(r.Key) + len(r.Value)}
	source := header(r, event.SourceTopic)
	out.Device = (r.Topic == deadLetterTopic || strings.HasPrefix(r.Topic, rawPrefix)) &&
		header(r, event.SourceOffset) == "" && !strings.HasPrefix(source, "s3://")
	switch r.Topic {
	case deadLetterTopic:
		out.DeadLetter = &DeadLetter{Class: header(r, event.ErrorClass), SourceTopic: source}
		d, err := event.ParseDeadLetter(r.Value)
		if err != nil {
			out.DeadLetter.Reason = "not an envelope of this distribution"
			return out
		}
		out.Original, out.IngestedAt = d.Original, d.Time
		out.DeadLetter.Intended = d.IntendedTopic
		if d.SourceTopic != "" {
			out.DeadLetter.SourceTopic = d.SourceTopic
		}
		if len(d.Errors) > 0 {
			out.DeadLetter.Reason = d.Errors[0]
		}
	case gpsTopic:
		var e struct {
			DeviceID   string    `json:"device_id"`
			Timestamp  time.Time `json:"timestamp"`
			IngestedAt time.Time `json:"ingested_at"`
			Latitude   *float64  `json:"latitude"`
			Longitude  *float64  `json:"longitude"`
			Speed      *float64  `json:"speed_m_s"`
		}
		if json.Unmarshal(r.Value, &e) != nil {
			return out
		}
		out.IngestedAt = e.IngestedAt
		if e.DeviceID != "" && e.Latitude != nil && e.Longitude != nil {
			out.Position = &Position{Device: e.DeviceID, Latitude: *e.Latitude, Longitude: *e.Longitude, Speed: e.Speed, Time: e.Timestamp}
		}
	}
	return out
}

func header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}
