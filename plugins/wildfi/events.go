// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package wildfi

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/dealiot/dealiot-connect/plugins/event"
)

// The topics of events, which are also their contracts.
const (
	TopicGPS    = "raw.gps"
	TopicSensor = "raw.sensor"
)

// SourceLog is the source of events that came from a log.
const SourceLog = "wildfi-log"

// Event is what an entry, or a part of it, became.
type Event struct {
	Body         []byte // JSON object; the caller's from then on
	Topic        string
	DeviceID     string
	ID           event.ID
	Time         time.Time
	TimeIngested bool // the tag's clock was not set, Time is that of the ingestion
}

// EventMaker makes events of entries. It is not safe for concurrent use.
type EventMaker struct {
	Units   *Units
	File    string             // where the log came from
	Devices map[string]string  // names of tags by address, which is the device id otherwise
	Samples bool               // an event a sample in place of arrays
	Source  string             // SourceLog if empty
	Now     func() time.Time   // of the ingestion
	Emit    func(*Event) error // takes an event; it is valid during the call but for its Body

	ids    event.IDMaker
	stream []byte
}

// Make makes the events of an entry: a position, if it holds one, and a sensor
// reading, if it holds anything else.
//
// The identity of an event is made of the tag's address and the entry's bytes,
// never of the file: what two gateways received is the same event.
func (m *EventMaker) Make(e *Entry) error {
	if e.Fix() {
		if err := m.gps(e); err != nil {
			return err
		}
	}
	if e.Type == TypeGPS && e.Fix() {
		return nil
	}
	if err := m.sensor(e); err != nil {
		return err
	}
	if !m.Samples {
		return nil
	}
	for i := range e.Samples() {
		if err := m.sample(e, i); err != nil {
			return err
		}
	}
	return nil
}

// begin starts an event: its envelope up to the payload.
func (m *EventMaker) begin(e *Entry, topic, part string, at, end time.Time, known bool) Event {
	v := Event{Topic: topic, DeviceID: m.device(e.Tag), Time: at}
	now := m.Now().UTC()
	if !known {
		v.Time, v.TimeIngested = now, true
	}
	m.stream = append(append(append(m.stream[:0], "wildfi/"...), topic...), part...)
	v.ID = m.ids.ID(e.Tag.String(), string(m.stream), time.Unix(int64(e.UTC), int64(e.Hundredths)*10_000_000), e.Raw)

	b := make([]byte, 0, 700+16*len(e.Raw))
	b = append(b, `{"event_id":"`...)
	b = v.ID.AppendTo(b)
	b = append(b, `","device_id":`...)
	b = appendText(b, v.DeviceID)
	b = append(b, `,"timestamp":"`...)
	b = v.Time.AppendFormat(b, time.RFC3339Nano)
	if known && end.After(at) {
		b = append(b, `","time_end":"`...)
		b = end.AppendFormat(b, time.RFC3339Nano)
	}
	b = append(b, `","ingested_at":"`...)
	b = now.AppendFormat(b, time.RFC3339Nano)
	b = append(b, '"')
	if v.TimeIngested {
		b = append(b, `,"event_time_source":"ingested"`...)
	}
	source := m.Source
	if source == "" {
		source = SourceLog
	}
	b = appendText(append(b, `,"source":`...), source)
	b = append(b, `,"tag_mac":"`...)
	b = e.Tag.AppendTo(b, ':')
	b = append(b, `","entry_type":"`...)
	b = append(b, e.Type.String()...)
	b = appendText(append(b, `","file":`...), m.File)
	b = strconv.AppendInt(append(b, `,"file_offset":`...), e.Offset, 10)
	b = appendUint(append(b, `,"flash_address":`...), uint64(e.Address))
	if e.Doubts != 0 {
		names, _ := json.Marshal(e.Doubts.Names())
		b = append(append(b, `,"doubts":`...), names...)
	}
	v.Body = b
	return v
}

func (m *EventMaker) device(tag MAC) string {
	mac := tag.String()
	if name, ok := m.Devices[mac]; ok {
		return name
	}
	return mac
}

func (m *EventMaker) gps(e *Entry) error {
	t, ok := e.Times(m.Units.IMUHz)
	v := m.begin(e, TopicGPS, "", t.Head, t.Head, ok)
	b := appendScaled(append(v.Body, `,"latitude":`...), int64(e.LatitudeE6), 6, 6)
	b = appendScaled(append(b, `,"longitude":`...), int64(e.LongitudeE6), 6, 6)
	b = appendScaled(append(b, `,"payload":{"hdop":`...), int64(e.HDOPTenths), 1, 1)
	if layouts[e.Type].ttf > 0 {
		b = appendUint(append(b, `,"ttf_s":`...), uint64(e.TTF))
	}
	v.Body = append(b, "}}"...)
	return m.Emit(&v)
}

func (m *EventMaker) sensor(e *Entry) error {
	t, ok := e.Times(m.Units.IMUHz)
	v := m.begin(e, TopicSensor, "", t.Start, t.End, ok)
	b := append(v.Body, `,"payload":{"entry":"`...)
	b = append(b, e.Type.Name()...)
	b = append(b, '"')
	if l := &layouts[e.Type]; l.burst > 0 {
		b = appendUint(append(b, `,"sample_count":`...), uint64(e.Samples()))
		if hz := m.Units.IMUHz; hz > 0 {
			b = strconv.AppendFloat(append(b, `,"imu_hz":`...), hz, 'g', -1, 64)
		}
	}
	b = append(b, ',')
	if m.Samples && e.Samples() > 0 {
		bare := *e
		bare.burst = nil
		b = m.Units.appendFields(b, &bare, false)
	} else {
		b = m.Units.appendFields(b, e, true)
	}
	if b[len(b)-1] == ',' {
		b = b[:len(b)-1]
	}
	v.Body = append(b, "}}"...)
	return m.Emit(&v)
}

func (m *EventMaker) sample(e *Entry, i int) error {
	at, ok := e.SampleTime(i, m.Units.IMUHz)
	known := ok
	if !ok { // the rate is not known: all have the head's time
		var t Times
		t, known = e.Times(m.Units.IMUHz)
		at = t.Head
	}
	v := m.begin(e, TopicSensor, "/"+strconv.Itoa(i), at, at, known)
	s, sensors := e.Sample(i), layouts[e.Type].sensors
	b := appendUint(append(v.Body, `,"payload":{"entry":"imu-sample","sample":`...), uint64(i))
	three := func(name string, t *numberTable, x [3]int16) {
		for k, axis := range [...]string{"x", "y", "z"} {
			b = append(append(append(b, `,"`...), name...), '_')
			b = append(append(b, axis...), `":`...)
			b = t.append(b, x[k])
		}
	}
	three("acc_g", m.Units.acc, s.Acc)
	if sensors&Mag != 0 {
		three("mag_ut", m.Units.mag, s.Mag)
		b = strconv.AppendInt(append(b, `,"hall":`...), int64(s.Hall), 10)
	}
	if sensors&Gyro != 0 {
		three("gyro_dps", m.Units.gyro, s.Gyro)
	}
	v.Body = append(b, "}}"...)
	return m.Emit(&v)
}

// appendText appends text as a JSON string.
func appendText(b []byte, text string) []byte {
	quoted, err := json.Marshal(text)
	if err != nil { // a string has no such case
		return append(b, `""`...)
	}
	return append(b, quoted...)
}

// DamageBody describes a damaged region as a JSON object, for a dead letter.
func DamageBody(file string, g *Damage) []byte {
	b := appendText([]byte(`{"file":`), file)
	b = strconv.AppendInt(append(b, `,"file_offset":`...), g.Offset, 10)
	b = strconv.AppendInt(append(b, `,"file_end":`...), g.End, 10)
	b = appendUint(append(b, `,"length":`...), uint64(g.Length))
	b = append(b, `,"sha256":"`...)
	b = hex.AppendEncode(b, g.SHA256[:])
	b = appendText(append(b, `","reason":`...), g.Reason.String())
	if g.Tag != (MAC{}) {
		b = append(b, `,"tag_mac":"`...)
		b = g.Tag.AppendTo(b, ':')
		b = appendUint(append(b, `","flash_address":`...), uint64(g.Address))
	}
	return append(b, '}')
}

// DamageViolation says why a damaged region is no event.
func DamageViolation(file string, g *Damage) event.Violation {
	where := ""
	if file != "" {
		where = " of " + file
	}
	return event.Violation{
		Path: "/file_offset", Keyword: "wildfi",
		Message: fmt.Sprintf("%d bytes at byte %d%s cannot be decoded: %v", g.Length, g.Offset, where, g.Reason),
	}
}
