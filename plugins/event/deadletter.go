// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package event

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dealiot/dealiot-connect/plugins/jsonscan"
)

// DeadLettered is set on a message once it holds the envelope of a dead
// letter, so that a second dead_letter down the line leaves it as it is. It is
// not sent to Kafka.
const DeadLettered = "dead_lettered"

// Unknown stands in a dead letter where the intended topic or the device could
// not be told.
const Unknown = "unknown"

// Members of raw_event that are not the event's own.
const (
	payloadB64       = "payload_b64"
	payloadTruncated = "payload_truncated"
	payloadBytes     = "payload_bytes"
	payloadSHA256    = "payload_sha256"
	eventOmitted     = "event_omitted"
	rawMQTTTopic     = "mqtt_topic"
	rawQoS           = "qos"
	rawRetain        = "retain"
)

// words bounds the text in an envelope, in bytes before escaping.
type words struct {
	name   int // longest topic, device or source
	error  int // longest reason
	errors int // number of reasons
}

var (
	// MQTT topics have at most 65,535 bytes; reasons never crowd out the payload.
	longWords = words{name: 1 << 16, error: 2000, errors: 64}
	// What is kept when an envelope fits its limit in no other way.
	shortWords = words{name: 256, error: 256, errors: 4}
)

// MinDeadLetterBytes is the smallest limit that every dead letter can be cut
// down to: shortWords, each byte escaped to six.
const MinDeadLetterBytes = 16 << 10

// DeadLetter is a message that could not become a valid event, as it is
// written to the dead-letter topic: the reasons in words, the event as far as
// it was built, and the bytes as they were received. Its JSON form meets the
// contract dlq.events.
type DeadLetter struct {
	Time          time.Time // when the message was rejected
	Source        string    // the part of the platform that rejected it
	IntendedTopic string    // Kafka topic that the event was for; "" if unknown
	SourceTopic   string    // MQTT topic, Kafka topic or s3:// address; "" if unknown
	DeviceID      string    // "" if unknown
	Errors        []string  // why, one sentence a violation
	Event         []byte    // the event as a JSON object; nil when none was built
	Original      []byte    // the payload as it was received

	// How the message came over MQTT. Written only where there is no event,
	// whose members they are otherwise.
	MQTTTopic string
	QoS       *int
	Retain    *bool

	// Truncated is set by ParseDeadLetter when Original is the beginning of
	// the payload only.
	Truncated *Truncation
}

// Truncation describes a payload of which only the beginning was kept.
type Truncation struct {
	Bytes  int    // length of the whole payload
	SHA256 string // of the whole payload, in hexadecimal digits
}

// Cut says what a dead letter had to leave out to stay within its limit. Each
// value includes those before it.
type Cut uint8

// What was left out.
const (
	CutNothing Cut = iota
	CutEvent       // the event's members
	CutWords       // the end of long names and reasons; the payload is whole
	CutPayload     // the end of the payload
)

// layout is one way to write an envelope.
type layout struct {
	event   bool // with the members of the event
	payload int  // how many bytes of the payload
	words   words
}

// AppendTo appends the envelope as JSON, in at most limit bytes (no limit when
// it is 0; see MinDeadLetterBytes for the smallest). Text that is not UTF-8 is
// repaired with U+FFFD; the payload always stands as it was received, in
// base64. An envelope over the limit leaves out the event first, because it
// can be made again from the payload, then the end of long names, then that of
// the payload, and says so in raw_event.
func (d *DeadLetter) AppendTo(dst []byte, limit int) ([]byte, Cut) {
	start := len(dst)
	fits := func() bool { return limit <= 0 || len(dst)-start <= limit }

	event, isEvent := eventMembers(d.Event)
	l := layout{event: isEvent, payload: len(d.Original), words: longWords}
	if dst = d.append(dst, l, event); fits() {
		return dst, CutNothing
	}
	if isEvent {
		l.event = false
		if dst = d.append(dst[:start], l, event); fits() {
			return dst, CutEvent
		}
	}
	l.words = shortWords
	if dst = d.append(dst[:start], l, event); fits() {
		return dst, CutWords
	}
	l.payload = 0
	dst = d.append(dst[:start], l, event)
	// Three bytes of payload take four of base64.
	l.payload = max(0, limit-(len(dst)-start)) / 4 * 3
	return d.append(dst[:start], l, event), CutPayload
}

func (d *DeadLetter) append(b []byte, l layout, event []byte) []byte {
	b = append(b, `{"timestamp":"`...)
	b = AppendTime(b, d.Time)
	b = append(b, `","source":`...)
	b = appendName(b, d.Source, l.words.name, Unknown)
	b = append(b, `,"intended_topic":`...)
	b = appendName(b, d.IntendedTopic, l.words.name, Unknown)
	b = append(b, `,"source_topic":`...)
	b = appendName(b, d.SourceTopic, l.words.name, "")
	b = append(b, `,"device_id":`...)
	b = appendName(b, d.DeviceID, l.words.name, Unknown)
	b = append(b, `,"errors":`...)
	b = appendErrors(b, d.Errors, l.words)
	b = append(b, `,"raw_event":{`...)
	if l.event {
		b = append(b, event...)
	} else {
		if d.MQTTTopic != "" {
			b = append(b, `"mqtt_topic":`...)
			b = appendName(b, d.MQTTTopic, l.words.name, "")
			b = append(b, ',')
		}
		if d.QoS != nil {
			b = append(b, `"qos":`...)
			b = strconv.AppendInt(b, int64(*d.QoS), 10)
			b = append(b, ',')
		}
		if d.Retain != nil {
			b = append(b, `"retain":`...)
			b = strconv.AppendBool(b, *d.Retain)
			b = append(b, ',')
		}
		if d.Event != nil {
			b = append(b, `"event_omitted":true,`...)
		}
	}
	if l.payload < len(d.Original) {
		sum := sha256.Sum256(d.Original)
		b = append(b, `"payload_truncated":true,"payload_bytes":`...)
		b = strconv.AppendInt(b, int64(len(d.Original)), 10)
		b = append(b, `,"payload_sha256":"`...)
		b = hex.AppendEncode(b, sum[:])
		b = append(b, `",`...)
	}
	b = append(b, `"payload_b64":"`...)
	b = base64.StdEncoding.AppendEncode(b, d.Original[:l.payload])
	return append(b, `"}}`...)
}

// appendName appends a name of at most limit bytes as a JSON string, instead
// if it is blank.
func appendName(b []byte, name string, limit int, instead string) []byte {
	if strings.TrimSpace(name) == "" {
		name = instead
	} else {
		name = shorten(name, limit)
	}
	return jsonscan.AppendString(b, name)
}

func appendErrors(b []byte, list []string, bound words) []byte {
	b = append(b, '[')
	n := 0
	for _, text := range list {
		if strings.TrimSpace(text) == "" {
			continue
		}
		if n > 0 {
			b = append(b, ',')
		}
		if n == bound.errors {
			b = jsonscan.AppendString(b, "and more, not listed")
			break
		}
		b = jsonscan.AppendString(b, shorten(text, bound.error))
		n++
	}
	if n == 0 {
		b = jsonscan.AppendString(b, "no reason was given")
	}
	return append(b, ']')
}

// shorten cuts text to at most limit bytes, the mark included that shows it.
func shorten(text string, limit int) string {
	const mark = "…"
	if len(text) <= limit || limit < len(mark) {
		return text
	}
	cut := limit - len(mark)
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + mark
}

// eventMembers gives the members of an event that is a JSON object within the
// limits of jsonscan, each followed by a comma, without a payload_b64 of its
// own: that name is for the bytes received. An event that is anything else
// cannot stand in an envelope.
func eventMembers(event []byte) (members []byte, ok bool) {
	if len(event) == 0 {
		return nil, false
	}
	var s jsonscan.Scanner
	if _, _, kind, err := s.Document(event, 1); err != nil || kind != jsonscan.Object {
		return nil, false
	}
	for _, m := range s.Members {
		if memberIs(event, m, payloadB64) {
			continue
		}
		members = append(members, event[m.Key:m.KeyEnd]...)
		members = append(members, ':')
		members = append(members, event[m.Value:m.ValueEnd]...)
		members = append(members, ',')
	}
	return members, true
}

func memberIs(text []byte, m jsonscan.Member, name string) bool {
	key := text[m.Key:m.KeyEnd]
	if !m.Escaped {
		return len(key) == len(name)+2 && string(key[1:len(key)-1]) == name
	}
	return string(jsonscan.AppendText(nil, key)) == name
}

// Words gives the reasons of a dead letter in words, one a violation.
func Words(vs []Violation) []string {
	list := make([]string, 0, len(vs))
	for _, v := range vs {
		text := v.Message
		if strings.TrimSpace(text) == "" {
			text = strings.TrimSpace(v.Keyword + " " + v.Path)
		}
		list = append(list, text)
	}
	return list
}

// AppendViolations appends violations as JSON text, the form in which they
// travel as a Kafka header, in at most limit bytes: those that come first.
func AppendViolations(b []byte, vs []Violation, limit int) []byte {
	start := len(b)
	b = append(b, '[')
	for i, v := range vs {
		v.Message = shorten(v.Message, longWords.error)
		text, err := json.Marshal(v.Object())
		if err != nil { // cannot happen: an object of strings
			continue
		}
		if len(b)-start+len(text)+len(",]") > limit {
			break
		}
		if i > 0 && b[len(b)-1] != '[' {
			b = append(b, ',')
		}
		b = append(b, text...)
	}
	return append(b, ']')
}

// ParseViolations reads violations in any form that metadata may carry: the
// list of ViolationList, the JSON text of AppendViolations, or words that
// somebody wrote in a mapping (a string, or a list of strings).
func ParseViolations(value any) []Violation {
	switch value := value.(type) {
	case []any:
		vs := make([]Violation, 0, len(value))
		for _, item := range value {
			vs = append(vs, parseViolation(item))
		}
		return vs
	case []byte:
		return ParseViolations(string(value))
	case string:
		var list []any
		if strings.HasPrefix(value, "[") && json.Unmarshal([]byte(value), &list) == nil {
			return ParseViolations(list)
		}
		if strings.TrimSpace(value) == "" {
			return nil
		}
		return []Violation{{Message: value}}
	case map[string]any:
		return []Violation{parseViolation(value)}
	}
	return nil
}

func parseViolation(item any) Violation {
	switch item := item.(type) {
	case string:
		return Violation{Message: item}
	case map[string]any:
		text := func(name string) string { s, _ := item[name].(string); return s }
		return Violation{
			Path:     text("path"),
			Keyword:  text("keyword"),
			Message:  text("message"),
			Contract: text("contract"),
			Version:  text("version"),
		}
	}
	text, err := json.Marshal(item)
	if err != nil {
		return Violation{Message: fmt.Sprint(item)}
	}
	return Violation{Message: string(text)}
}

var errNotDeadLetter = errors.New("it is not a dead letter of this distribution")

// ParseDeadLetter reads what AppendTo wrote. The payload comes back byte for
// byte; Truncated tells when the end of it is missing. The error says what is
// wrong with the envelope.
func ParseDeadLetter(text []byte) (DeadLetter, error) {
	var envelope struct {
		Timestamp     string           `json:"timestamp"`
		Source        string           `json:"source"`
		IntendedTopic string           `json:"intended_topic"`
		SourceTopic   string           `json:"source_topic"`
		DeviceID      string           `json:"device_id"`
		Errors        []string         `json:"errors"`
		RawEvent      *json.RawMessage `json:"raw_event"`
	}
	if err := json.Unmarshal(text, &envelope); err != nil {
		return DeadLetter{}, fmt.Errorf("reading dead letter: %w", err)
	}
	if envelope.RawEvent == nil {
		return DeadLetter{}, fmt.Errorf("reading dead letter: raw_event is missing: %w", errNotDeadLetter)
	}
	d := DeadLetter{
		Source:        envelope.Source,
		IntendedTopic: known(envelope.IntendedTopic),
		SourceTopic:   envelope.SourceTopic,
		DeviceID:      known(envelope.DeviceID),
		Errors:        envelope.Errors,
	}
	var err error
	if d.Time, err = ParseTime(envelope.Timestamp); err != nil {
		return DeadLetter{}, fmt.Errorf("reading timestamp of dead letter: %w", err)
	}
	if err := d.parseRawEvent(*envelope.RawEvent); err != nil {
		return DeadLetter{}, fmt.Errorf("reading raw_event of dead letter: %w", err)
	}
	return d, nil
}

func known(name string) string {
	if name == Unknown {
		return ""
	}
	return name
}

func (d *DeadLetter) parseRawEvent(raw []byte) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil {
		return err
	}
	// A null where an object is due parses as an empty map.
	if _, ok := members[payloadB64]; !ok {
		return fmt.Errorf("%s is missing: %w", payloadB64, errNotDeadLetter)
	}
	read := func(name string, into any) error {
		value, ok := members[name]
		if !ok {
			return nil
		}
		if err := json.Unmarshal(value, into); err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		return nil
	}
	var encoded string
	if err := read(payloadB64, &encoded); err != nil {
		return err
	}
	var err error
	if d.Original, err = base64.StdEncoding.DecodeString(encoded); err != nil {
		return fmt.Errorf("reading %s: %w", payloadB64, err)
	}

	// Only an envelope without the event's members holds members of ours, and
	// then it holds no others.
	var truncated bool
	var t Truncation
	if ours(members) && errors.Join(
		read(rawMQTTTopic, &d.MQTTTopic), read(rawQoS, &d.QoS), read(rawRetain, &d.Retain),
		read(payloadTruncated, &truncated), read(payloadBytes, &t.Bytes), read(payloadSHA256, &t.SHA256),
	) == nil {
		if truncated {
			d.Truncated = &t
		}
		return nil
	}
	d.MQTTTopic, d.QoS, d.Retain = "", nil, nil
	event, ok := eventMembers(raw)
	if !ok {
		return errors.New("it is beyond the limits of JSON that this distribution reads")
	}
	d.Event = append(append([]byte{'{'}, bytes.TrimSuffix(event, []byte{','})...), '}')
	return nil
}

// ours tells whether raw_event holds nothing but what an envelope without an
// event does.
func ours(members map[string]json.RawMessage) bool {
	for name := range members {
		switch name {
		case payloadB64, payloadTruncated, payloadBytes, payloadSHA256, eventOmitted, rawMQTTTopic, rawQoS, rawRetain:
		default:
			return false
		}
	}
	return true
}

// TextMembers reads members of an event that are strings, by name; the others
// and those that are missing come back empty. It never fails: an event that is
// no JSON object has none.
func TextMembers(event []byte, names ...string) []string {
	values := make([]string, len(names))
	if len(event) == 0 {
		return values
	}
	var s jsonscan.Scanner
	if _, _, _, err := s.Document(event, 0); err != nil {
		return values
	}
	for _, m := range s.Members {
		if m.Kind != jsonscan.String {
			continue
		}
		for i, name := range names {
			if memberIs(event, m, name) {
				values[i] = string(jsonscan.AppendText(nil, event[m.Value:m.ValueEnd]))
			}
		}
	}
	return values
}
