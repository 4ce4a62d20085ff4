// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package wildfi

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
)

// The encoder writes logs as a gateway does, for tests: entries, cut into
// messages, of several tags at once.

// logTag is one tag of a test log.
type logTag struct {
	mac     MAC
	address uint32 // of the log's first byte
	stream  []byte
	entries []span // of the stream
	clock   uint32
}

var movementTypes = []Type{TypeGPSAccREV5, TypeGPSAccMagGyro, TypeGPSAccGyro, TypeGPSAccMag, TypeGPSAcc, TypeAccMagGyro, TypeAccGyro, TypeAccMag, TypeAcc}
var proximityTypes = []Type{TypeProximity, TypeGPS, TypeProximityAcc, TypeProximityEnv, TypeProximityAccEnv, TypeProximity9Axis, TypeProximity9AxisEnv, TypeRawGNSS, TypeAcc}

// randomEntry writes an entry with the values of a tag in the field.
func randomEntry(r *rand.Rand, typ Type, utc uint32, samples int) []byte {
	l := &layouts[typ]
	b := make([]byte, l.head)
	b[0], b[1], b[2] = prefix0, prefix1, byte(typ)
	binary.BigEndian.PutUint32(b[3:], utc)
	if l.centis > 0 {
		b[l.centis] = byte(r.IntN(100))
	}
	if l.lastError > 0 {
		b[l.lastError] = byte(r.IntN(117))
	}
	if l.errorCount > 0 {
		binary.BigEndian.PutUint16(b[l.errorCount:], uint16(r.IntN(9)))
		binary.BigEndian.PutUint16(b[l.errorCount+2:], uint16(3400+r.IntN(800)))
	}
	if l.position > 0 && r.IntN(5) > 0 {
		binary.BigEndian.PutUint32(b[l.position:], uint32(int32(r.IntN(180_000_000)-90_000_000)))
		binary.BigEndian.PutUint32(b[l.position+4:], uint32(int32(r.IntN(360_000_000)-180_000_000)))
		b[l.position+8] = byte(5 + r.IntN(90))
	}
	if l.ttf > 0 {
		b[l.ttf] = byte(1 + r.IntN(255))
	}
	if l.env > 0 {
		binary.BigEndian.PutUint16(b[l.env:], uint16(int16(r.IntN(8000)-3000)))
		binary.BigEndian.PutUint32(b[l.env+2:], uint32(r.IntN(100_001)))
		binary.BigEndian.PutUint32(b[l.env+6:], uint32(65_000+r.IntN(45_000)))
	}
	if l.imuTemp > 0 {
		binary.BigEndian.PutUint16(b[l.imuTemp:], uint16(int16(r.IntN(6000)-1500)))
	}
	if l.neighbours > 0 {
		n := r.IntN(8)
		binary.BigEndian.PutUint16(b[l.neighbours:], uint16(n*neighbourLen))
		for range n {
			b = append(b, byte(r.Uint32()), byte(r.Uint32()), byte(30+r.IntN(70)))
		}
	}
	if l.burst > 0 {
		size := l.sampleLen()
		binary.BigEndian.PutUint16(b[l.burst:], uint16(samples*size))
		b = appendWalk(b, r, samples, size/2)
	}
	if typ == TypeRawGNSS {
		n := r.IntN(5)
		b[15], b[16] = byte(n), gnssRecordLen
		binary.LittleEndian.PutUint32(b[7:], math.Float32bits(float32(r.IntN(604800))))
		for range n * gnssRecordLen {
			b = append(b, byte(r.Uint32()))
		}
	}
	return b
}

// appendWalk appends samples whose values walk, as those of a moving animal.
func appendWalk(b []byte, r *rand.Rand, samples, axes int) []byte {
	v := make([]int, axes)
	for a := range v {
		v[a] = r.IntN(8000) - 4000
	}
	for range samples {
		for a := range v {
			v[a] = max(-32000, min(32000, v[a]+r.IntN(301)-150))
			b = binary.LittleEndian.AppendUint16(b, uint16(int16(v[a])))
		}
	}
	return b
}

// newLogTag writes the log of one tag, of about so many bytes.
func newLogTag(r *rand.Rand, mac MAC, product Product, size, maxSamples int) *logTag {
	t := &logTag{mac: mac, address: uint32(r.IntN(flashBytes)), clock: 1_600_000_000 + uint32(r.IntN(1000))*60}
	types := movementTypes
	if product == Proximity {
		types = proximityTypes
	}
	for len(t.stream) < size {
		t.clock += uint32(1 + r.IntN(5))
		if product == Proximity {
			t.clock = (t.clock/60 + 1) * 60
		}
		e := randomEntry(r, types[r.IntN(len(types))], t.clock, r.IntN(maxSamples+1))
		t.entries = append(t.entries, span{len(t.stream), len(t.stream) + len(e)})
		t.stream = append(t.stream, e...)
	}
	return t
}

// testMessage is a data message with the part of the stream that is in it.
type testMessage struct {
	bytes []byte
	tag   int
	part  span
}

// messages cuts the tag's log into messages.
func (t *logTag) messages(tag int, product Product) []testMessage {
	own := 0
	if product == Proximity {
		own = ownIDLen
	}
	var ms []testMessage
	for at := 0; at < len(t.stream); {
		n := min(maxPayload-dataHead-own, len(t.stream)-at)
		m := append(t.mac[:len(t.mac):len(t.mac)], byte(dataHead+own+n), dataMark)
		addr := (t.address + uint32(at)) & ringMask
		m = binary.BigEndian.AppendUint32(m, addr/2048<<15|addr%2048<<4|15)
		if own > 0 {
			m = append(m, t.mac[4], t.mac[5])
		}
		ms = append(ms, testMessage{append(m, t.stream[at:at+n]...), tag, span{at, at + n}})
		at += n
	}
	return ms
}

// testLog is a log of several tags with their messages mixed, each tag's in
// order.
type testLog struct {
	product  Product
	tags     []*logTag
	messages []testMessage
}

func newTestLog(seed uint64, product Product, tags, size, maxSamples int) *testLog {
	r := rand.New(rand.NewPCG(seed, 1))
	l := &testLog{product: product}
	var queues [][]testMessage
	for i := range tags {
		mac := MAC{0x58, 0xBF, 0x25, byte(r.Uint32()), byte(r.Uint32()), byte(i)}
		t := newLogTag(r, mac, product, size/tags, maxSamples)
		l.tags = append(l.tags, t)
		queues = append(queues, t.messages(i, product))
	}
	for len(queues) > 0 { // transmissions of up to 40 messages
		i := r.IntN(len(queues))
		n := min(1+r.IntN(40), len(queues[i]))
		l.messages = append(l.messages, queues[i][:n]...)
		if queues[i] = queues[i][n:]; len(queues[i]) == 0 {
			queues = slices.Delete(queues, i, i+1)
		}
	}
	return l
}

func (l *testLog) bytes() []byte {
	var b bytes.Buffer
	for _, m := range l.messages {
		b.Write(m.bytes)
	}
	return b.Bytes()
}
