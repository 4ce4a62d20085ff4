// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// message is what a client published. It does not change, because several
// sessions share it.
type message struct {
	topic   string
	payload []byte
	qos     byte
	retain  bool
	expires int64               // Unix seconds, 0 for never
	props   *packets.Properties // of MQTT 5, nil for none
}

func newMessage(pk *packets.Packet, now time.Time) *message {
	m := &message{topic: pk.TopicName, payload: pk.Payload, qos: pk.FixedHeader.Qos, retain: pk.FixedHeader.Retain}
	m.setProperties(&pk.Properties, now)
	return m
}

// setProperties takes over those properties that go on to subscribers.
func (m *message) setProperties(p *packets.Properties, now time.Time) {
	if p.MessageExpiryInterval > 0 {
		m.expires = now.Unix() + int64(p.MessageExpiryInterval)
	}
	if p.PayloadFormatFlag || p.ContentType != "" || p.ResponseTopic != "" || len(p.CorrelationData)+len(p.User) > 0 {
		m.props = &packets.Properties{
			PayloadFormat: p.PayloadFormat, PayloadFormatFlag: p.PayloadFormatFlag,
			ContentType: p.ContentType, ResponseTopic: p.ResponseTopic,
			CorrelationData: p.CorrelationData, User: p.User,
		}
	}
}

func (m *message) size() int { return len(m.topic) + len(m.payload) }

func (m *message) expired(now time.Time) bool { return m.expires > 0 && m.expires <= now.Unix() }

// outgoing is a packet for a subscriber: a PUBLISH, or the PUBREL of one.
type outgoing struct {
	message     *message
	identifiers []int // of the subscriptions that matched
	id          uint16
	qos         byte
	retain      bool
	dup         bool
	release     bool
}

// append encodes the packet.
func (o *outgoing) append(dst []byte, version byte, now time.Time) []byte {
	if o.release {
		return appendAck(dst, packets.Pubrel, o.id, 0)
	}
	props := []byte{0} // their length
	if version < 5 {
		props = nil
	} else if m := o.message; m.props != nil || m.expires > 0 || len(o.identifiers) > 0 {
		var p packets.Properties
		if m.props != nil {
			p = *m.props
		}
		p.SubscriptionIdentifier = o.identifiers
		if m.expires > 0 {
			p.MessageExpiryInterval = uint32(min(max(m.expires-now.Unix(), 1), math.MaxUint32))
		}
		var b bytes.Buffer
		p.Encode(packets.Publish, packets.Mods{AllowResponseInfo: true}, &b, 0)
		props = b.Bytes()
	}
	first := packets.Publish<<4 | o.qos<<1
	if o.dup {
		first |= 1 << 3
	}
	if o.retain {
		first |= 1
	}
	length := 2 + len(o.message.topic) + len(props) + len(o.message.payload)
	if o.qos > 0 {
		length += 2
	}
	dst = binary.AppendUvarint(append(dst, first), uint64(length)) // MQTT's variable byte integer is this varint
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(o.message.topic)))
	dst = append(dst, o.message.topic...)
	if o.qos > 0 {
		dst = binary.BigEndian.AppendUint16(dst, o.id)
	}
	dst = append(dst, props...)
	return append(dst, o.message.payload...)
}

// appendAck encodes a PUBACK, PUBREC, PUBREL or PUBCOMP; a reason other than 0
// is for MQTT 5 only.
func appendAck(dst []byte, kind byte, id uint16, reason byte) []byte {
	first := kind << 4
	if kind == packets.Pubrel {
		first |= 1 << 1
	}
	if reason == 0 {
		return binary.BigEndian.AppendUint16(append(dst, first, 2), id)
	}
	return append(binary.BigEndian.AppendUint16(append(dst, first, 3), id), reason)
}

// appendPacket encodes any other packet that the broker sends.
func appendPacket(dst []byte, pk packets.Packet) []byte {
	encode := map[byte]func(*bytes.Buffer) error{
		packets.Connack: pk.ConnackEncode, packets.Suback: pk.SubackEncode, packets.Unsuback: pk.UnsubackEncode,
		packets.Pingresp: pk.PingrespEncode, packets.Disconnect: pk.DisconnectEncode,
	}[pk.FixedHeader.Type]
	b := bytes.NewBuffer(dst)
	if err := encode(b); err != nil {
		panic(fmt.Sprintf("encoding MQTT packet type %d: %v", pk.FixedHeader.Type, err)) // none of these can fail
	}
	return b.Bytes()
}

// readPacket reads and decodes a packet of a client. An error that is the
// client's fault is a packets.Code.
func readPacket(r *bufio.Reader, version byte, pk *packets.Packet) (err error) {
	*pk = packets.Packet{ProtocolVersion: version}
	first, err := r.ReadByte()
	if err != nil {
		return err
	}
	if err := pk.FixedHeader.Decode(first); err != nil {
		return err
	}
	length, lengthBytes, err := packets.DecodeLength(r)
	if err != nil {
		return err
	}
	if 1+lengthBytes+length > MaximumPacketSize {
		return packets.ErrPacketTooLarge
	}
	pk.FixedHeader.Remaining = length
	body := make([]byte, length) // the decoded packet points into it
	if _, err := io.ReadFull(r, body); err != nil {
		return err
	}
	defer func() {
		if recover() != nil { // the codec indexes some truncated packets out of range
			err = packets.ErrMalformedPacket
		}
	}()
	switch pk.FixedHeader.Type {
	case packets.Connect:
		return pk.ConnectDecode(body)
	case packets.Publish:
		return pk.PublishDecode(body)
	case packets.Puback, packets.Pubrec, packets.Pubrel, packets.Pubcomp:
		return pk.PubackDecode(body) // the four are alike
	case packets.Subscribe:
		return pk.SubscribeDecode(body)
	case packets.Unsubscribe:
		return pk.UnsubscribeDecode(body)
	case packets.Disconnect:
		return pk.DisconnectDecode(body)
	case packets.Pingreq:
		return nil
	default:
		return packets.ErrProtocolViolation
	}
}
