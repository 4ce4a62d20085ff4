// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package event

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/big"
	"strconv"
	"time"
)

// recipe is the version of the identity's recipe. It is part of every id: a
// changed recipe never yields an id that the old one may have given to
// something else.
const recipe = "1"

// ID identifies an event: the same event has the same id, however often and
// whichever way it arrives (redelivery, replay, backfill).
type ID [16]byte

// NewID makes the id of an event: the first 128 bits of SHA-256 over five
// fields, each preceded by its length in bytes as a 64-bit big-endian number:
//
//  1. the recipe version, "1"
//  2. the device id
//  3. the source stream (the full MQTT topic for messages from a broker)
//  4. the event time in nanoseconds since 1970-01-01T00:00:00Z as decimal text
//  5. the payload's bytes as they were received
//
// testdata/ids.json holds test vectors for other implementations.
func NewID(deviceID, stream string, t time.Time, payload []byte) ID {
	var m IDMaker
	return m.ID(deviceID, stream, t, payload)
}

// IDMaker makes ids and keeps its buffer between them. It is not safe for
// concurrent use; the zero value is ready.
type IDMaker struct {
	buf []byte
}

// largePayload is where copying the payload in front of the hash would cost
// memory for good: beyond it the payload is hashed as it lies.
const largePayload = 64 << 10

// ID makes the id of an event as NewID does.
func (m *IDMaker) ID(deviceID, stream string, t time.Time, payload []byte) ID {
	b := appendField(m.buf[:0], recipe)
	b = appendField(b, deviceID)
	b = appendField(b, stream)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	at := len(b)
	b = appendUnixNano(b, t)
	binary.BigEndian.PutUint64(b[at-8:], uint64(len(b)-at))
	b = binary.BigEndian.AppendUint64(b, uint64(len(payload)))

	var sum [sha256.Size]byte
	if len(payload) <= largePayload {
		b = append(b, payload...)
		sum = sha256.Sum256(b)
	} else {
		h := sha256.New()
		h.Write(b)
		h.Write(payload)
		h.Sum(sum[:0])
	}
	m.buf = b
	return ID(sum[:16])
}

func appendField(b []byte, field string) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(len(field)))
	return append(b, field...)
}

// int64 holds nanoseconds from 1677-09-21 to 2262-04-11 only.
var (
	firstInt64Second = time.Unix(0, -1<<63).Unix() + 1
	lastInt64Second  = time.Unix(0, 1<<63-1).Unix() - 1
)

func appendUnixNano(b []byte, t time.Time) []byte {
	sec := t.Unix()
	if sec >= firstInt64Second && sec <= lastInt64Second {
		return strconv.AppendInt(b, t.UnixNano(), 10)
	}
	n := new(big.Int).Mul(big.NewInt(sec), big.NewInt(int64(time.Second)))
	return n.Add(n, big.NewInt(int64(t.Nanosecond()))).Append(b, 10)
}

// AppendTo appends the id as 32 lower-case hexadecimal digits.
func (id ID) AppendTo(b []byte) []byte {
	return hex.AppendEncode(b, id[:])
}

// String gives the id as 32 lower-case hexadecimal digits.
func (id ID) String() string {
	return hex.EncodeToString(id[:])
}

// ValidID says whether text is an id in its usual form: 32 lower-case
// hexadecimal digits.
func ValidID(text string) bool {
	if len(text) != 2*len(ID{}) {
		return false
	}
	for i := range len(text) {
		if c := text[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
