// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package mqtt5

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Control packet types of MQTT 5.0, section 2.1.2, as the high four bits of a
// packet's first byte.
const (
	typePublish = 3
	typePuback  = 4
	typePubrec  = 5
	typePubcomp = 7
)

// Properties that a PUBLISH may carry, MQTT 5.0 section 3.3.2.3.
const (
	propPayloadFormat   = 0x01
	propMessageExpiry   = 0x02
	propContentType     = 0x03
	propResponseTopic   = 0x08
	propCorrelationData = 0x09
	propSubscriptionID  = 0x0B
	propTopicAlias      = 0x23
	propUser            = 0x26
)

// maxVarInt is how many bytes a variable byte integer may have.
const maxVarInt = 4

var errMalformed = errors.New("malformed packet")

// publish is a PUBLISH packet. Its slices are parts of the packet's bytes.
type publish struct {
	topic     []byte
	payload   []byte
	props     []byte // the property section, checked, without its length
	id        uint16 // packet identifier, 0 at QoS 0
	qos       byte
	duplicate bool
	retain    bool
}

// parsePublish reads a PUBLISH packet from its first byte and what follows
// its fixed header. It allocates nothing and keeps body.
func parsePublish(first byte, body []byte) (publish, error) {
	p := publish{
		qos:       first >> 1 & 3,
		duplicate: first&8 != 0,
		retain:    first&1 != 0,
	}
	if p.qos == 3 {
		return p, fmt.Errorf("%w: PUBLISH of QoS 3", errMalformed)
	}
	rest := body
	var ok bool
	if p.topic, rest, ok = cutBinary(rest); !ok {
		return p, fmt.Errorf("%w: PUBLISH ends within its topic", errMalformed)
	}
	if p.qos > 0 {
		if len(rest) < 2 {
			return p, fmt.Errorf("%w: PUBLISH ends within its packet identifier", errMalformed)
		}
		p.id, rest = binary.BigEndian.Uint16(rest), rest[2:]
		if p.id == 0 {
			return p, fmt.Errorf("%w: PUBLISH of QoS %d with packet identifier 0", errMalformed, p.qos)
		}
	}
	size, n := varInt(rest)
	if n == 0 || size > len(rest)-n {
		return p, fmt.Errorf("%w: PUBLISH ends within its properties", errMalformed)
	}
	p.props, p.payload = rest[n:n+size:n+size], rest[n+size:]
	if err := walkProperties(p.props, nil); err != nil {
		return p, err
	}
	return p, nil
}

// property is one property of a PUBLISH. Which field holds its value depends
// on the id.
type property struct {
	id     byte
	number uint32 // payload format, message expiry (seconds), subscription id, topic alias
	value  []byte // content type, response topic, correlation data, value of a user property
	key    []byte // name of a user property
}

// walkProperties calls visit, if not nil, for each property in a property section.
func walkProperties(b []byte, visit func(property)) error {
	for len(b) > 0 {
		p := property{id: b[0]}
		b = b[1:]
		ok := true
		switch p.id {
		case propPayloadFormat:
			if ok = len(b) >= 1; ok {
				p.number, b = uint32(b[0]), b[1:]
			}
		case propTopicAlias:
			if ok = len(b) >= 2; ok {
				p.number, b = uint32(binary.BigEndian.Uint16(b)), b[2:]
			}
		case propMessageExpiry:
			if ok = len(b) >= 4; ok {
				p.number, b = binary.BigEndian.Uint32(b), b[4:]
			}
		case propSubscriptionID:
			v, n := varInt(b)
			if ok = n > 0; ok {
				p.number, b = uint32(v), b[n:]
			}
		case propContentType, propResponseTopic, propCorrelationData:
			p.value, b, ok = cutBinary(b)
		case propUser:
			if p.key, b, ok = cutBinary(b); ok {
				p.value, b, ok = cutBinary(b)
			}
		default:
			return fmt.Errorf("%w: PUBLISH has property 0x%02X, which it cannot have", errMalformed, p.id)
		}
		if !ok {
			return fmt.Errorf("%w: PUBLISH ends within property 0x%02X", errMalformed, p.id)
		}
		if visit != nil {
			visit(p)
		}
	}
	return nil
}

// cutBinary splits off binary data or a string: two bytes of length, then
// the data.
func cutBinary(b []byte) (data, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, b, false
	}
	n := 2 + int(binary.BigEndian.Uint16(b))
	if len(b) < n {
		return nil, b, false
	}
	return b[2:n:n], b[n:], true
}

// varInt reads a variable byte integer (MQTT 5.0, section 1.5.5) and how many
// bytes it takes, 0 if it is incomplete or too long.
func varInt(b []byte) (value, n int) {
	for n = 0; n < len(b) && n < maxVarInt; n++ {
		value |= int(b[n]&0x7F) << (7 * n)
		if b[n] < 0x80 {
			return value, n + 1
		}
	}
	return 0, 0
}

// appendAck appends an acknowledgement without properties: PUBACK, PUBREC or
// PUBCOMP. A reason code of 0, success, is left out, as the protocol allows.
func appendAck(b []byte, packetType byte, id uint16, code byte) []byte {
	if code == 0 {
		return append(b, packetType<<4, 2, byte(id>>8), byte(id))
	}
	return append(b, packetType<<4, 3, byte(id>>8), byte(id), code)
}
