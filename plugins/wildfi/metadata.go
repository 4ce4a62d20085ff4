// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package wildfi

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// MetadataMessage is one line of a gateway's METADATA.txt: a message that is no
// data message.
type MetadataMessage struct {
	Line     int
	Received float64 // seconds since the gateway was started
	Tag      MAC
	Payload  []byte // valid during the call
}

// Kinds of messages, by the first byte of the payload.
const (
	KindActivated          = 0x55
	KindTagAround          = 0x77
	KindTagAroundV2        = 0x99
	KindProximityBroadcast = 0xAA
	KindProximityAround    = 0xCC
	KindProximityActivated = 0xEE
)

// proximityBroadcastLen is the least length of a proximity broadcast.
const proximityBroadcastLen = 250

// maxMetadataLine is more than the 1,024 bytes of a line.
const maxMetadataLine = 16 << 10

// ReadMetadata reads the lines of a METADATA.txt:
//
//	SSSSSSS.mmm,AA:BB:CC:DD:EE:FF,LLL,HEX____
//
// with the time in seconds, the tag's address, the payload's length in decimal
// and the payload in hexadecimal, filled up with underscores. It gives the
// numbers of the first lines that are not so, and how many there are.
func ReadMetadata(r io.Reader, take func(*MetadataMessage) error) (bad []int, badCount int, err error) {
	in := bufio.NewReaderSize(r, maxMetadataLine)
	var payload []byte
	for n := 1; ; n++ {
		line, err := in.ReadSlice('\n')
		whole := true
		for errors.Is(err, bufio.ErrBufferFull) { // no line of a gateway
			whole = false
			_, err = in.ReadSlice('\n')
		}
		if err != nil && err != io.EOF {
			return bad, badCount, fmt.Errorf("reading METADATA.txt, line %d: %w", n, err)
		}
		if text := bytes.TrimSpace(line); len(text) > 0 {
			m, ok := parseMetadata(text, &payload)
			m.Line = n
			if !ok || !whole {
				if badCount++; len(bad) < maxListed {
					bad = append(bad, n)
				}
			} else if failed := take(&m); failed != nil {
				return bad, badCount, failed
			}
		}
		if err == io.EOF {
			return bad, badCount, nil
		}
	}
}

func parseMetadata(line []byte, payload *[]byte) (m MetadataMessage, ok bool) {
	parts := strings.Split(strings.TrimRight(string(line), "_"), ",")
	if len(parts) != 4 {
		return m, false
	}
	var err error
	if m.Received, err = strconv.ParseFloat(parts[0], 64); err != nil || math.IsNaN(m.Received) || math.IsInf(m.Received, 0) {
		return m, false
	}
	mac, err := hex.DecodeString(strings.ReplaceAll(parts[1], ":", ""))
	if err != nil || len(mac) != len(m.Tag) {
		return m, false
	}
	m.Tag = MAC(mac)
	n, err := strconv.Atoi(parts[2])
	if err != nil || n < 0 {
		return m, false
	}
	*payload, err = hex.AppendDecode((*payload)[:0], []byte(parts[3]))
	if err != nil || len(*payload) < min(n, 1) {
		return m, false
	}
	m.Payload = (*payload)[:min(n, len(*payload))]
	return m, true
}

// ProximityBroadcast is what a proximity tag says of itself.
type ProximityBroadcast struct {
	Group       uint32
	OwnID       uint16
	SendOffset  uint16 // ms since the detection began
	LastSync    uint32 // s since 1970
	SyncType    uint8  // 0 none, 1 GPS, 2 WiFi, 3 neighbour
	Battery     uint16 // mV
	LastError   uint8
	ErrorCount  uint16
	UTC         uint32
	Software    uint8
	Config      uint8
	SyncCounter uint32
	FreeMemory  uint32 // bytes
	StartCount  uint32
}

// ProximityBroadcast reads a message of that kind; ok is false for others.
func (m *MetadataMessage) ProximityBroadcast() (p ProximityBroadcast, ok bool) {
	b := m.Payload
	if len(b) < proximityBroadcastLen || b[0] != KindProximityBroadcast {
		return p, false
	}
	u16, u32 := binary.BigEndian.Uint16, binary.BigEndian.Uint32
	return ProximityBroadcast{
		Group: u32(b[1:]), OwnID: u16(b[5:]), SendOffset: u16(b[7:]), LastSync: u32(b[9:]), SyncType: b[13],
		Battery: u16(b[14:]), LastError: b[16], ErrorCount: u16(b[17:]), UTC: u32(b[19:]), Software: b[23],
		Config: b[24], SyncCounter: u32(b[25:]), FreeMemory: u32(b[29:]), StartCount: u32(b[33:]),
	}, true
}

// TagAround is what a movement tag says of itself.
type TagAround struct {
	Battery         uint16 // mV
	LastError       uint8
	ErrorCount      uint16
	Command         uint8
	State           uint8
	Activated       uint8
	ValidTime       uint8
	Software        uint8
	Config          uint8
	HardIron        [3]int16 // offset of the magnetometer
	StartCount      uint32
	BytesToTransmit uint32
}

// TagAround reads a message of that kind, version 2; ok is false for others.
func (m *MetadataMessage) TagAround() (t TagAround, ok bool) {
	b := m.Payload
	if len(b) < 26 || b[0] != KindTagAroundV2 {
		return t, false
	}
	u16, u32 := binary.BigEndian.Uint16, binary.BigEndian.Uint32
	t = TagAround{
		Battery: u16(b[1:]), LastError: b[3], ErrorCount: u16(b[4:]), Command: b[6], State: b[7], Activated: b[8],
		ValidTime: b[9], Software: b[10], Config: b[11], StartCount: u32(b[18:]), BytesToTransmit: u32(b[22:]),
	}
	for axis := range t.HardIron {
		t.HardIron[axis] = int16(u16(b[12+2*axis:]))
	}
	return t, true
}

// groupSeconds is how far two broadcasts of one detection are apart at most.
const groupSeconds = 2

// maxGroup is how many tags a group has at most; each pair of them is a row.
const maxGroup = 1024

// MetadataTables writes the two tables that the reference decoder makes of
// METADATA.txt: the proximity broadcasts, and how far the clocks of tags that
// were heard together differ. As there, the second column of the broadcasts is
// empty, and the differences are in seconds although their columns are called
// otherwise.
type MetadataTables struct {
	Broadcasts, Differences io.Writer

	begun bool
	last  float64
	group int
	tags  []groupTag
	utcs  []uint32
	line  []byte
}

type groupTag struct {
	id    uint16
	begun float64 // when its detection began, in the gateway's time
}

const (
	broadcastColumns  = "receiveTimeDouble,calculatedTimeOnTags,group,ownId,sendOffset,timestampLastSync,lastSyncType,voltage,lastErrorId,errorCnt,timestamp,swVersion,confVersion,syncCounter\n"
	differenceColumns = "groupCounter,mostFrequentTimestampInGroup,tagA,tagB,timeDiffMs,timeDiffBMinusAMs,tagCntInGroup\n"
)

func (w *MetadataTables) begin() error {
	if w.begun {
		return nil
	}
	w.begun = true
	_, err := io.WriteString(w.Broadcasts, broadcastColumns)
	if err == nil {
		_, err = io.WriteString(w.Differences, differenceColumns)
	}
	return err
}

// Write adds a message, if it is a proximity broadcast.
func (w *MetadataTables) Write(m *MetadataMessage) error {
	if err := w.begin(); err != nil {
		return err
	}
	p, ok := m.ProximityBroadcast()
	if !ok {
		return nil
	}
	b := appendJavaDouble(w.line[:0], m.Received)
	b = append(b, ",,"...)
	b = appendID(appendID(b, uint16(p.Group>>16)), uint16(p.Group))
	b = appendID(append(b, ','), p.OwnID)
	for _, v := range []uint32{uint32(p.SendOffset), p.LastSync, uint32(p.SyncType), uint32(p.Battery), uint32(p.LastError),
		uint32(p.ErrorCount), p.UTC, uint32(p.Software), uint32(p.Config), p.SyncCounter} {
		b = appendUint(append(b, ','), uint64(v))
	}
	w.line = append(b, '\n')
	if _, err := w.Broadcasts.Write(w.line); err != nil {
		return fmt.Errorf("writing broadcasts: %w", err)
	}
	if len(w.utcs) > 0 && (math.Abs(m.Received-w.last) > groupSeconds || len(w.tags) >= maxGroup) {
		if err := w.endGroup(); err != nil {
			return err
		}
	}
	w.last = m.Received
	w.utcs = append(w.utcs, p.UTC)
	begun := m.Received - float64(p.SendOffset)/1000
	for i := range w.tags {
		if t := &w.tags[i]; t.id == p.OwnID {
			t.begun = min(t.begun, begun)
			return nil
		}
	}
	w.tags = append(w.tags, groupTag{p.OwnID, begun})
	return nil
}

// Close writes the last group.
func (w *MetadataTables) Close() error {
	if err := w.begin(); err != nil {
		return err
	}
	return w.endGroup()
}

func (w *MetadataTables) endGroup() error {
	if len(w.utcs) == 0 {
		return nil
	}
	w.group++
	count := map[uint32]int{}
	for _, utc := range w.utcs {
		count[utc]++
	}
	most := w.utcs[0] // the first of those that are equally frequent
	for _, utc := range w.utcs {
		if count[utc] > count[most] {
			most = utc
		}
	}
	b := w.line[:0]
	for i, first := range w.tags {
		for _, second := range w.tags[i+1:] {
			d := second.begun - first.begun
			b = appendUint(b, uint64(w.group))
			b = appendUint(append(b, ','), uint64(most))
			b = appendID(append(b, ','), first.id)
			b = appendID(append(b, ','), second.id)
			b = appendFixed(append(b, ','), math.Abs(d), 4)
			b = appendFixed(append(b, ','), d, 4)
			b = appendUint(append(b, ','), uint64(len(w.tags)))
			b = append(b, '\n')
		}
		if _, err := w.Differences.Write(b); err != nil {
			return fmt.Errorf("writing differences of clocks: %w", err)
		}
		b = b[:0]
	}
	w.line, w.tags, w.utcs = b, w.tags[:0], w.utcs[:0]
	return nil
}

// appendJavaDouble appends v as Java does where it needs no exponent: the
// shortest decimal with at least one digit after the point.
func appendJavaDouble(b []byte, v float64) []byte {
	from := len(b)
	b = strconv.AppendFloat(b, v, 'f', -1, 64)
	if bytes.IndexByte(b[from:], '.') < 0 {
		b = append(b, ".0"...)
	}
	return b
}
