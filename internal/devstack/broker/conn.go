// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"bufio"
	"crypto/rand"
	"errors"
	"math"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// conn is a connection of a client. One goroutine reads it, one writes it; what
// they share is guarded by Broker.mu.
type conn struct {
	broker    *Broker
	net       net.Conn
	in        *bufio.Reader
	version   byte
	keepAlive time.Duration // 0 for none
	deadline  time.Time     // when the read deadline is to be set again

	session        *session
	receiveMaximum int // of the client
	maxPacket      int // of the client, in bytes
	will           *message
	willDelay      uint32 // seconds

	wake    *sync.Cond // signals the writer
	ready   *sync.Cond // signals the reader that it may go on
	out     []byte     // acknowledgements and answers to be written
	closing bool
	held    []*publication // held back, in order
	heldIDs int            // of them, those of QoS 1 and 2
	bytes   int            // of them
}

// publication is a message with its packet identifier, 0 at QoS 0.
type publication struct {
	message *message
	id      uint16
}

// maxOut bounds the answers to a client that sends but does not read.
const maxOut = 64 << 10

func newConn(b *Broker, client net.Conn) *conn {
	return &conn{
		broker: b, net: client, in: bufio.NewReaderSize(client, 16<<10),
		wake: sync.NewCond(&b.mu), ready: sync.NewCond(&b.mu),
	}
}

// serve runs a connection from its first packet to its end.
func (c *conn) serve() {
	var writer sync.WaitGroup
	writer.Go(c.write)
	err := c.read()
	c.broker.mu.Lock()
	code := packets.CodeDisconnect
	switch {
	case errors.As(err, &code):
		c.broker.log.Warn("disconnecting an MQTT client", "client", c.clientID(), "remote", c.net.RemoteAddr(), "reason", code.Reason)
	case err != nil && !c.closing:
		c.broker.log.Debug("MQTT client disconnected", "client", c.clientID(), "remote", c.net.RemoteAddr(), "error", err)
	}
	c.close(code)
	c.finish()
	c.broker.mu.Unlock()
	writer.Wait()
}

func (c *conn) clientID() string {
	if c.session == nil {
		return ""
	}
	return c.session.id
}

// close ends a connection. Its writer says why to a client that understands it.
func (c *conn) close(reason packets.Code) {
	if c.closing {
		return
	}
	c.closing = true
	if c.session != nil && c.version == 5 && reason.Code >= packets.ErrUnspecifiedError.Code {
		c.out = appendPacket(c.out, packets.Packet{
			ProtocolVersion: c.version, FixedHeader: packets.FixedHeader{Type: packets.Disconnect}, ReasonCode: reason.Code,
		})
	}
	_ = c.net.SetWriteDeadline(time.Now().Add(goodbyeTimeout))
	c.wake.Broadcast()
	c.ready.Broadcast()
	if len(c.held) > 0 {
		c.broker.room.Broadcast()
	}
}

// finish leaves the session to itself.
func (c *conn) finish() {
	delete(c.broker.conns, c)
	if s := c.session; s != nil && s.conn == c {
		c.leave(s)
	}
}

// leave detaches a session from its lost connection, and ends it when it does
// not outlive connections.
func (c *conn) leave(s *session) {
	s.conn = nil
	b := c.broker
	if b.closed {
		return
	}
	if s.will = c.will; s.will != nil {
		b.after(s, min(c.willDelay, s.expiry), s.fireWill)
	}
	s.handOver()
	if s.expiry != neverExpires {
		b.after(s, s.expiry, s.end)
	}
}

// after does something with a session in some seconds if it is offline until
// then.
func (b *Broker) after(s *session, seconds uint32, do func()) {
	if seconds == 0 {
		do()
		return
	}
	epoch := s.epoch
	time.AfterFunc(time.Duration(seconds)*time.Second, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if s.epoch == epoch && !b.closed {
			do()
		}
	})
}

// read takes packets until the connection ends; nil means that the client said
// so.
func (c *conn) read() error {
	var pk packets.Packet
	_ = c.net.SetReadDeadline(time.Now().Add(connectTimeout))
	if err := readPacket(c.in, 0, &pk); err != nil {
		return err
	}
	if pk.FixedHeader.Type != packets.Connect {
		return packets.ErrProtocolViolationRequireFirstConnect
	}
	if accepted := c.connect(&pk); !accepted {
		return nil
	}
	if c.keepAlive == 0 {
		_ = c.net.SetReadDeadline(time.Time{})
	}
	for {
		// A new deadline for each packet would cost more than the packet.
		if now := time.Now(); c.keepAlive > 0 && now.After(c.deadline) {
			_ = c.net.SetReadDeadline(now.Add(c.keepAlive * 3 / 2))
			c.deadline = now.Add(c.keepAlive / 16)
		}
		if err := readPacket(c.in, c.version, &pk); err != nil {
			return err
		}
		if pk.FixedHeader.Type == packets.Disconnect {
			return c.disconnect(&pk)
		}
		if err := c.handle(&pk); err != nil {
			return err
		}
	}
}

// connect answers a CONNECT, and attaches the connection to its session.
func (c *conn) connect(pk *packets.Packet) (accepted bool) {
	b := c.broker
	b.mu.Lock()
	defer b.mu.Unlock()
	c.version = pk.ProtocolVersion
	if reason := c.refusal(pk); reason != packets.CodeSuccess {
		code := reason
		if v3, ok := packets.V5CodesToV3[reason]; ok && c.version < 5 {
			code = v3
		}
		b.log.Warn("refusing an MQTT client", "client", pk.Connect.ClientIdentifier, "remote", c.net.RemoteAddr(), "reason", reason.Reason)
		c.out = appendPacket(c.out, packets.Packet{
			ProtocolVersion: c.version, FixedHeader: packets.FixedHeader{Type: packets.Connack}, ReasonCode: code.Code,
		})
		return false
	}
	answer := packets.Packet{
		ProtocolVersion: c.version, FixedHeader: packets.FixedHeader{Type: packets.Connack},
		Properties: packets.Properties{ReceiveMaximum: receiveMaximum, MaximumPacketSize: MaximumPacketSize},
	}
	id := pk.Connect.ClientIdentifier
	if id == "" {
		id = "auto-" + rand.Text()
		answer.Properties.AssignedClientID = id
	}
	expiry := pk.Properties.SessionExpiryInterval
	if c.version < 5 && !pk.Connect.Clean {
		expiry = neverExpires
	}
	c.keepAlive = time.Duration(pk.Connect.Keepalive) * time.Second
	c.receiveMaximum = math.MaxUint16
	if n := int(pk.Properties.ReceiveMaximum); n > 0 {
		c.receiveMaximum = n
	}
	c.maxPacket = math.MaxInt
	if n := pk.Properties.MaximumPacketSize; n > 0 {
		c.maxPacket = int(n)
	}
	if pk.Connect.WillFlag {
		c.will = &message{
			topic: pk.Connect.WillTopic, payload: pk.Connect.WillPayload, qos: pk.Connect.WillQos, retain: pk.Connect.WillRetain,
		}
		c.will.setProperties(&pk.Connect.WillProperties, time.Now())
		c.willDelay = pk.Connect.WillProperties.WillDelayInterval
	}

	s := b.sessions[id]
	if s != nil && s.conn != nil {
		old := s.conn
		old.close(packets.ErrSessionTakenOver)
		s.conn = nil
		if s.will = old.will; s.will != nil && (old.willDelay == 0 || pk.Connect.Clean) {
			s.fireWill()
		}
	}
	if s != nil && pk.Connect.Clean {
		s.end()
		s = nil
	}
	answer.SessionPresent = s != nil
	if s == nil {
		s = &session{
			broker: b, id: id, subs: make(map[string]*subscription),
			received: make(map[uint16]struct{}), flight: make(map[uint16]*delivery),
		}
		b.sessions[id] = s
	}
	s.expiry = expiry
	c.session = s
	c.out = appendPacket(c.out, answer)
	s.attach(c)
	c.wake.Signal()
	return true
}

// refusal is why a client cannot connect.
func (c *conn) refusal(pk *packets.Packet) packets.Code {
	switch code := pk.ConnectValidate(); {
	case code == packets.ErrProtocolViolationProtocolVersion:
		return packets.ErrUnsupportedProtocolVersion
	case code != packets.CodeSuccess:
		return code
	case c.broker.refusing || c.broker.closed:
		return packets.ErrServerUnavailable
	case c.version < 5 && pk.Connect.ClientIdentifier == "" && !pk.Connect.Clean:
		return packets.ErrClientIdentifierNotValid
	case pk.Properties.AuthenticationMethod != "":
		return packets.ErrBadAuthenticationMethod
	case pk.Connect.WillFlag && strings.ContainsAny(pk.Connect.WillTopic, "+#"):
		return packets.ErrTopicNameInvalid
	}
	return packets.CodeSuccess
}

// disconnect ends a connection as its client wishes.
func (c *conn) disconnect(pk *packets.Packet) error {
	c.broker.mu.Lock()
	defer c.broker.mu.Unlock()
	if s := c.session; s.conn == c && pk.Properties.SessionExpiryIntervalFlag {
		if s.expiry == 0 && pk.Properties.SessionExpiryInterval > 0 {
			return packets.ErrProtocolViolationZeroNonZeroExpiry
		}
		s.expiry = pk.Properties.SessionExpiryInterval
	}
	if pk.ReasonCode != packets.CodeDisconnectWillMessage.Code {
		c.will = nil
	}
	return nil
}

// handle does what a packet asks for.
func (c *conn) handle(pk *packets.Packet) error {
	b := c.broker
	switch pk.FixedHeader.Type {
	case packets.Publish:
		if code := pk.PublishValidate(0); code != packets.CodeSuccess {
			return code
		}
	case packets.Subscribe:
		if code := pk.SubscribeValidate(); code != packets.CodeSuccess {
			return code
		}
	case packets.Unsubscribe:
		if code := pk.UnsubscribeValidate(); code != packets.CodeSuccess {
			return code
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(c.out) > maxOut && !c.closing {
		c.ready.Wait()
	}
	if c.closing {
		return net.ErrClosed
	}
	s := c.session
	switch pk.FixedHeader.Type {
	case packets.Publish:
		return c.publish(&publication{message: newMessage(pk, time.Now()), id: pk.PacketID})
	case packets.Puback, packets.Pubcomp:
		s.settle(pk.PacketID)
	case packets.Pubrec:
		if pk.ReasonCode >= packets.ErrUnspecifiedError.Code {
			s.settle(pk.PacketID)
			return nil
		}
		c.acknowledge(packets.Pubrel, pk.PacketID, s.release(pk.PacketID))
	case packets.Pubrel:
		reason := byte(0)
		if _, known := s.received[pk.PacketID]; !known {
			reason = packets.ErrPacketIdentifierNotFound.Code
		}
		delete(s.received, pk.PacketID)
		c.acknowledge(packets.Pubcomp, pk.PacketID, reason)
	case packets.Subscribe:
		return c.subscribe(pk)
	case packets.Unsubscribe:
		c.unsubscribe(pk)
	case packets.Pingreq:
		c.answer(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingresp}})
	default:
		return packets.ErrProtocolViolation
	}
	return nil
}

func (c *conn) acknowledge(kind byte, id uint16, reason byte) {
	if c.version < 5 {
		reason = 0
	}
	c.out = appendAck(c.out, kind, id, reason)
	c.wake.Signal()
}

func (c *conn) answer(pk packets.Packet) {
	pk.ProtocolVersion = c.version
	c.out = appendPacket(c.out, pk)
	c.wake.Signal()
}

// publish takes a message of the client, or holds it back behind a subscriber
// without room. Reading goes on meanwhile, for the client may have to
// acknowledge messages before there is room, and wants answers to its pings.
func (c *conn) publish(p *publication) error {
	c.broker.received++
	if p.id != 0 && c.version == 5 && c.heldIDs+len(c.session.received) > receiveMaximum {
		return packets.ErrReceiveMaximum
	}
	if len(c.held) == 0 && c.take(p) {
		return nil
	}
	c.held = append(c.held, p)
	if p.id != 0 {
		c.heldIDs++
	}
	c.bytes += p.message.size()
	if len(c.held) == 1 {
		c.broker.held++
		c.broker.running.Go(c.takeHeld)
	}
	for c.bytes >= heldBytes && !c.closing {
		c.ready.Wait()
	}
	return nil
}

// takeHeld takes the messages held back, as there is room.
func (c *conn) takeHeld() {
	b := c.broker
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(c.held) > 0 && !c.closing {
		if !c.take(c.held[0]) {
			b.room.Wait()
			continue
		}
		c.bytes -= c.held[0].message.size()
		if c.held[0].id != 0 {
			c.heldIDs--
		}
		c.held[0] = nil
		c.held = c.held[1:]
		c.ready.Signal()
	}
	c.held = nil // of a closed connection: its client has them still
	b.held--
}

// take hands a message to its subscribers and acknowledges it; false says that
// it has to wait.
func (c *conn) take(p *publication) bool {
	s := c.session
	if c.broker.refusing {
		return true
	}
	if _, again := s.received[p.id]; again && p.message.qos == 2 {
		c.acknowledge(packets.Pubrec, p.id, 0)
		return true
	}
	if !c.broker.publish(s, p.message, false) {
		return false
	}
	switch p.message.qos {
	case 1:
		c.acknowledge(packets.Puback, p.id, 0)
	case 2:
		s.received[p.id] = struct{}{}
		c.acknowledge(packets.Pubrec, p.id, 0)
	}
	return true
}

func (c *conn) subscribe(pk *packets.Packet) error {
	b, s := c.broker, c.session
	reasons := make([]byte, len(pk.Filters))
	var replay []*delivery
	now := time.Now()
	for i, f := range pk.Filters {
		levels, group, ok := parseFilter(f.Filter)
		if !ok {
			reasons[i] = packets.ErrTopicFilterInvalid.Code
			if c.version < 5 {
				reasons[i] = packets.ErrUnspecifiedError.Code
			}
			continue
		}
		if group != "" && f.NoLocal || f.RetainHandling > 2 {
			return packets.ErrProtocolViolation
		}
		old := s.subs[f.Filter]
		sub := &subscription{
			session: s, filter: f.Filter, levels: levels, group: group, qos: f.Qos,
			identifier: f.Identifier, noLocal: f.NoLocal, retainAsPublished: f.RetainAsPublished,
		}
		if old != nil {
			b.filters.remove(old)
		}
		b.filters.add(sub)
		s.subs[f.Filter] = sub
		reasons[i] = f.Qos
		if group != "" || f.RetainHandling == 2 || f.RetainHandling == 1 && old != nil {
			continue
		}
		for topic, m := range b.retained {
			if !matches(levels, topic) {
				continue
			}
			if m.expired(now) {
				delete(b.retained, topic)
				continue
			}
			d := &delivery{message: m, qos: min(m.qos, f.Qos), retain: true}
			if f.Identifier > 0 {
				d.identifiers = []int{f.Identifier}
			}
			replay = append(replay, d)
		}
	}
	b.subscribed++
	c.answer(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Suback}, PacketID: pk.PacketID, ReasonCodes: reasons,
	})
	for _, d := range replay {
		s.put(d)
	}
	return nil
}

func (c *conn) unsubscribe(pk *packets.Packet) {
	s := c.session
	reasons := make([]byte, len(pk.Filters))
	for i, f := range pk.Filters {
		sub := s.subs[f.Filter]
		if sub == nil {
			reasons[i] = packets.CodeNoSubscriptionExisted.Code
			continue
		}
		delete(s.subs, f.Filter)
		c.broker.filters.remove(sub)
	}
	c.answer(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Unsuback}, PacketID: pk.PacketID, ReasonCodes: reasons,
	})
}

// write sends answers and deliveries until the connection ends, and closes it.
func (c *conn) write() {
	defer func() {
		_ = c.net.Close()
		c.broker.mu.Lock()
		defer c.broker.mu.Unlock()
		c.close(packets.CodeDisconnect) // the reader may wait for something else than the network
	}()
	batch := make([]outgoing, 0, batchMessages)
	var frames []byte
	var tooLarge []outgoing
	for {
		last := false
		if batch, frames, last = c.await(batch[:0], frames[:0], tooLarge); last && len(frames) == 0 {
			return
		}
		tooLarge = tooLarge[:0]
		now := time.Now()
		for i := range batch {
			before := len(frames)
			if frames = batch[i].append(frames, c.version, now); len(frames)-before > c.maxPacket {
				frames = frames[:before]
				tooLarge = append(tooLarge, batch[i])
			}
		}
		if _, err := c.net.Write(frames); err != nil || last {
			return
		}
		clear(batch)
		if cap(frames) > 2*batchBytes {
			frames = nil // a large message was in it
		}
	}
}

// await waits for something to write: answers already encoded, and deliveries.
// Those of the batch before that were too large count as delivered.
func (c *conn) await(batch []outgoing, frames []byte, tooLarge []outgoing) ([]outgoing, []byte, bool) {
	b := c.broker
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, o := range tooLarge {
		b.dropped++
		b.sent--
		if c.session.conn == c {
			c.session.settle(o.id)
		}
	}
	for {
		if len(c.out) > 0 {
			frames = append(frames, c.out...)
			if len(c.out) > maxOut {
				c.ready.Signal()
			}
			c.out = c.out[:0]
		}
		if s := c.session; s != nil && s.conn == c && !c.closing {
			batch = s.next(batch, time.Now())
			for i := range batch {
				if !batch[i].release {
					b.sent++
				}
			}
		}
		if len(batch)+len(frames) > 0 || c.closing {
			return batch, frames, c.closing
		}
		c.wake.Wait()
	}
}
