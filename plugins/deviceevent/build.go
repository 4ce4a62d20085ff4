// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

// Package deviceevent turns what a device published over MQTT into an event in
// the shape of its contract: routed, keyed, with an identity and a time of its
// own. The rules stand in destination.go and build.go, which know nothing of
// the engine; processor.go puts them into a pipeline.
package deviceevent

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unsafe"

	"github.com/dealiot/dealiot-connect/plugins/event"
	"github.com/dealiot/dealiot-connect/plugins/jsonscan"
)

// Failure says why a message cannot become an event.
type Failure struct {
	Class      event.Class
	Violations []event.Violation
}

// NoQoS stands in Message.QoS when the quality of service is not known.
const NoQoS = -1

// Message is one publish of a device.
type Message struct {
	Payload  []byte
	QoS      int // 0 to 2, or NoQoS
	Retained bool

	// EventID and EventTime are for messages without a time of their own: the
	// identity that the publisher or an earlier pass gave it (32 hexadecimal
	// digits), and the time (RFC 3339) that went with it. Anything else counts
	// as not given.
	EventID, EventTime string
}

// Event is what a message became.
type Event struct {
	Body         []byte // JSON object
	ID           event.ID
	Time         []byte // RFC 3339 in UTC; a part of Body
	TimeIngested bool   // the message had no time of its own
	// DeviceID is the Kafka key: the device of the topic, or the one that the
	// payload names where the contract has it there.
	DeviceID string
	// Remarks are not reasons to reject the event but explain why its contract
	// is going to.
	Remarks []event.Violation
}

// Builder makes events. It keeps its buffers between them and is not safe for
// concurrent use; the zero value is ready.
type Builder struct {
	// RejectNonJSON makes a payload that is not JSON a failure. Otherwise it
	// becomes an event with payload_b64.
	RejectNonJSON bool

	scan  jsonscan.Scanner
	ids   event.IDMaker
	canon []byte // the payload rewritten
	text  []byte // a string of the payload with its escapes resolved
	field [fieldCount]int

	now     time.Time
	nowText []byte
	count   time.Duration // events since Begin that took their time from now
}

// Begin tells the builder the time of ingestion for the messages that follow.
// Messages without a time of their own get instants of their own, a nanosecond
// apart: two equal readings are two events.
func (b *Builder) Begin(now time.Time) {
	b.now = now
	b.nowText = event.AppendTime(b.nowText[:0], now)
	b.count = 0
}

// Members of a payload that mean something to the envelope. Aliases of one
// meaning stand together, in order of precedence.
const (
	fieldTimestamp = iota
	fieldUTCTimestamp
	fieldUTCTimestamp2
	fieldTime
	fieldLatitude
	fieldLatitudeDeg
	fieldLat
	fieldLongitude
	fieldLongitudeDeg
	fieldLon
	fieldAltitudeM
	fieldAltitude
	fieldSpeedMS
	fieldSpeed
	fieldHeadingDeg
	fieldHeading
	fieldDeviceID
	fieldEnvelope // written by us, whatever the payload says
	fieldCount
)

var timeNames = [...]string{"timestamp", "utcTimestamp", "utc_timestamp", "time"}

func fieldOf(name []byte) (field int, ok bool) {
	switch string(name) {
	case "timestamp":
		return fieldTimestamp, true
	case "utcTimestamp":
		return fieldUTCTimestamp, true
	case "utc_timestamp":
		return fieldUTCTimestamp2, true
	case "time":
		return fieldTime, true
	case "latitude":
		return fieldLatitude, true
	case "latitude_deg":
		return fieldLatitudeDeg, true
	case "lat":
		return fieldLat, true
	case "longitude":
		return fieldLongitude, true
	case "longitude_deg":
		return fieldLongitudeDeg, true
	case "lon":
		return fieldLon, true
	case "altitude_m":
		return fieldAltitudeM, true
	case "altitude":
		return fieldAltitude, true
	case "speed_m_s":
		return fieldSpeedMS, true
	case "speed":
		return fieldSpeed, true
	case "heading_deg":
		return fieldHeadingDeg, true
	case "heading":
		return fieldHeading, true
	case "device_id":
		return fieldDeviceID, true
	case "ingested_at", "mqtt_topic", "qos", "retain", "source":
		return fieldEnvelope, true
	}
	return 0, false
}

// lifted are the members of a position, with the first and last of their
// names in a payload.
var lifted = [...]struct {
	name        string
	first, last int
}{
	{`,"latitude":`, fieldLatitude, fieldLat},
	{`,"longitude":`, fieldLongitude, fieldLon},
	{`,"altitude_m":`, fieldAltitudeM, fieldAltitude},
	{`,"speed_m_s":`, fieldSpeedMS, fieldSpeed},
	{`,"heading_deg":`, fieldHeadingDeg, fieldHeading},
}

// bigPayload is where buffers that grew with a payload are not worth keeping.
const bigPayload = 256 << 10

// Build makes an event of a message and appends its JSON to dst, which
// Event.Body is the appended part of. Bytes of the payload are copied as they
// stand: numbers keep their digits. On failure dst is not used.
func (b *Builder) Build(dst []byte, d *Destination, m Message) (Event, *Failure) {
	if d.Failure != nil {
		return Event{}, d.Failure
	}
	if len(m.Payload) > bigPayload {
		defer func() { b.scan, b.canon, b.text = jsonscan.Scanner{}, nil, nil }()
	}
	payload, start, end, kind, err := b.read(m.Payload)
	var remarks []event.Violation
	if err != nil {
		remark := event.Violation{Path: "/payload", Keyword: "json", Message: "payload is not JSON: " + err.Reason + " at byte " + strconv.Itoa(err.Offset)}
		if err.Limit {
			remark.Message = "payload is beyond the limits of this distribution: " + err.Reason + " at byte " + strconv.Itoa(err.Offset)
		}
		if err.Limit || b.RejectNonJSON {
			return Event{}, &Failure{Class: event.ClassDecode, Violations: []event.Violation{remark}}
		}
		switch {
		case d.media:
			remark.Path = "/payload_b64"
			remarks = []event.Violation{remark}
		case d.shape == position:
			remarks = []event.Violation{remark}
		}
	}

	t, ingested, problem := b.eventTime(payload)
	if problem != nil {
		return Event{}, problem
	}
	e := Event{TimeIngested: ingested, DeviceID: d.DeviceID, Remarks: remarks}
	hasID, clock := false, false
	if ingested {
		t, hasID, clock = b.ingestionTime(&e, m)
	}
	var deviceToken []byte // of the payload, where it has a say
	if d.shape == spread {
		deviceToken = b.device(&e, payload)
	}
	if !hasID {
		e.ID = b.ids.ID(e.DeviceID, d.MQTTTopic, t, m.Payload)
	}

	from := len(dst)
	switch d.shape {
	case spread:
		dst = append(dst, '{')
		dst = b.appendMembers(dst, payload)
		if err != nil {
			dst = appendBase64(dst, m.Payload)
			dst = append(dst, ',')
		}
		if deviceToken != nil {
			dst = append(dst, `"device_id":`...)
			dst = append(dst, deviceToken...)
			dst = append(dst, `,"timestamp":"`...)
		} else {
			dst = append(dst, d.id...)
		}
	default:
		dst = append(dst, `{"event_id":"`...)
		dst = e.ID.AppendTo(dst)
		dst = append(dst, `",`...)
		dst = append(dst, d.id...)
	}
	timeFrom := len(dst)
	dst = event.AppendTime(dst, t)
	timeTo := len(dst)
	dst = append(dst, `","ingested_at":"`...)
	if clock {
		dst = append(dst, dst[timeFrom:timeTo]...)
	} else {
		dst = append(dst, b.nowText...)
	}
	dst = append(dst, '"')
	if d.shape == position {
		for _, f := range &lifted {
			for i := f.first; i <= f.last; i++ {
				if n := b.field[i]; n != 0 {
					v := b.scan.Members[n-1]
					dst = append(dst, f.name...)
					dst = append(dst, payload[v.Value:v.ValueEnd]...)
					break
				}
			}
		}
	}
	if d.shape != spread {
		dst = append(dst, `,"payload":`...)
		switch {
		case err != nil:
			dst = append(dst, '{')
			dst = appendBase64(dst, m.Payload)
			dst = append(dst, '}')
		case kind == jsonscan.Object:
			dst = append(dst, payload[start:end]...)
		case d.shape == position:
			dst = append(dst, `{}`...)
		default:
			dst = append(dst, `{"value":`...)
			dst = append(dst, payload[start:end]...)
			dst = append(dst, '}')
		}
	}
	dst = append(dst, d.tail...)
	if m.QoS != NoQoS {
		dst = append(dst, `,"qos":`...)
		dst = strconv.AppendInt(dst, int64(m.QoS), 10)
	}
	if m.Retained {
		dst = append(dst, `,"retain":true`...)
	} else {
		dst = append(dst, `,"retain":false`...)
	}
	if ingested && d.shape != spread {
		dst = append(dst, `,"event_time_source":"ingested"`...)
	}
	dst = append(dst, '}')
	e.Body = dst[from:len(dst):len(dst)]
	e.Time = dst[timeFrom:timeTo:timeTo]
	return e, nil
}

// read scans a payload and finds the members that mean something. The text
// comes back as it is to be copied: rewritten when readers would disagree
// about it. On error nothing of it is to be used.
func (b *Builder) read(payload []byte) (text []byte, start, end int, kind jsonscan.Kind, err *jsonscan.Error) {
	b.field = [fieldCount]int{}
	// The payload stands one level down in the event, and two if it is wrapped.
	depth := 1
	if i := jsonscan.Space(payload, 0); i < len(payload) && payload[i] != '{' {
		depth = 2
	}
	text = payload
	for pass := 0; ; pass++ {
		var e error
		if start, end, kind, e = b.scan.Document(text, depth); e != nil {
			b.scan.Members = b.scan.Members[:0]
			return text, 0, 0, jsonscan.Invalid, asScanError(e)
		}
		if b.scan.Notes == 0 || pass > 0 {
			break
		}
		b.canon = jsonscan.AppendCanonical(b.canon[:0], text[start:end])
		text = b.canon
	}
	for i, m := range b.scan.Members {
		if m.Kind == jsonscan.Null {
			continue
		}
		if f, ok := fieldOf(text[m.Key+1 : m.KeyEnd-1]); ok {
			b.field[f] = i + 1
		}
	}
	return text, start, end, kind, nil
}

func asScanError(e error) *jsonscan.Error {
	var err *jsonscan.Error
	if !errors.As(e, &err) {
		err = &jsonscan.Error{Reason: e.Error()}
	}
	return err
}

// appendMembers appends the payload's members that the envelope does not
// write itself, each followed by a comma.
func (b *Builder) appendMembers(dst, payload []byte) []byte {
	for _, m := range b.scan.Members {
		if f, ok := fieldOf(payload[m.Key+1 : m.KeyEnd-1]); ok && (f <= fieldTime || f >= fieldDeviceID) {
			continue
		}
		dst = append(dst, payload[m.Key:m.KeyEnd]...)
		dst = append(dst, ':')
		dst = append(dst, payload[m.Value:m.ValueEnd]...)
		dst = append(dst, ',')
	}
	return dst
}

func appendBase64(dst, payload []byte) []byte {
	dst = append(dst, `"payload_b64":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, payload)
	return append(dst, '"')
}

var wrongTime = [...]string{
	jsonscan.Bool: "a boolean", jsonscan.Array: "an array", jsonscan.Object: "an object",
}

// eventTime reads the first of the payload's times that is neither null nor
// empty.
func (b *Builder) eventTime(payload []byte) (t time.Time, none bool, problem *Failure) {
	for i, name := range timeNames {
		n := b.field[fieldTimestamp+i]
		if n == 0 {
			continue
		}
		m := b.scan.Members[n-1]
		token := payload[m.Value:m.ValueEnd]
		var err error
		switch m.Kind {
		case jsonscan.Number:
			t, err = event.ParseEpoch(view(token))
		case jsonscan.String:
			text := b.resolve(token)
			if len(text) == 0 {
				continue
			}
			t, err = event.ParseTime(view(text))
		default:
			err = fmt.Errorf("it is %s; give RFC 3339 with a zone, or a number of s, ms, µs or ns since 1970", wrongTime[m.Kind])
		}
		if err != nil {
			return t, false, &Failure{
				Class: event.ClassDecode,
				Violations: []event.Violation{{
					Path:    "/timestamp",
					Keyword: "timestamp",
					Message: fmt.Sprintf("%s is not a time: %v", name, err),
				}},
			}
		}
		return t, false, nil
	}
	return t, true, nil
}

// ingestionTime gives the time of a message that has none of its own, and says
// whether its identity was given and whether the time is that of now.
func (b *Builder) ingestionTime(e *Event, m Message) (t time.Time, hasID, clock bool) {
	if event.ValidID(m.EventID) {
		hasID = true
		// Cannot fail: these are 32 hexadecimal digits.
		_, _ = hex.Decode(e.ID[:], []byte(m.EventID))
		if m.EventTime != "" {
			if t, err := event.ParseTime(m.EventTime); err == nil {
				return t, true, false
			}
		}
	}
	t = b.now.Add(b.count)
	b.count++
	return t, hasID, true
}

// device takes over the device that a payload names. The token is what stands
// in the payload, and a contract may refuse it; only text can be the key.
func (b *Builder) device(e *Event, payload []byte) (token []byte) {
	n := b.field[fieldDeviceID]
	if n == 0 {
		return nil
	}
	m := b.scan.Members[n-1]
	token = payload[m.Value:m.ValueEnd]
	if m.Kind == jsonscan.String {
		if text := b.resolve(token); len(bytes.TrimSpace(text)) > 0 && string(text) != e.DeviceID {
			e.DeviceID = string(text)
		}
	}
	return token
}

// resolve gives the text of a string token.
func (b *Builder) resolve(token []byte) []byte {
	if bytes.IndexByte(token, '\\') < 0 {
		return token[1 : len(token)-1]
	}
	b.text = jsonscan.AppendText(b.text[:0], token)
	return b.text
}

// view reads bytes as a string without a copy. It is for calls that neither
// keep the string nor outlive the bytes; those of ours that fail copy what
// they quote.
func view(text []byte) string {
	return unsafe.String(unsafe.SliceData(text), len(text))
}
