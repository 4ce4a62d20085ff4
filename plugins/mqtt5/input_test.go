// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package mqtt5

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redpanda-data/benthos/v4/public/service"
)

func ackOK(t *testing.T, ack service.AckFunc) {
	t.Helper()
	require.NoError(t, ack(t.Context(), nil))
}

func TestConnectPacket(t *testing.T) {
	b := newScriptedBroker(t)
	in := testInput(t, b, `
session_expiry: 2h
keepalive: 45s
max_in_flight: 77
max_packet_size: 5000
user: bob
password: secret
subscriptions:
  - { filter: u, qos: 1, no_local: true, retain_as_published: true, retain_handling: never }
subscription_identifiers: true
will: { enabled: true, topic: gone, payload: bye, delay: 3s }
`)
	up := connecting(t, in)
	c := b.accept()
	p := c.connect(false)
	assert.Equal(t, t.Name(), p.ClientID)
	assert.Equal(t, byte(5), p.ProtocolVersion)
	assert.False(t, p.CleanStart)
	assert.Equal(t, uint16(45), p.KeepAlive)
	assert.Equal(t, "bob", p.Username)
	assert.Equal(t, "secret", string(p.Password))
	assert.Equal(t, uint32(7200), *p.Properties.SessionExpiryInterval)
	assert.Equal(t, uint16(77), *p.Properties.ReceiveMaximum)
	assert.Equal(t, uint32(5000), *p.Properties.MaximumPacketSize)
	assert.Equal(t, "gone", p.WillTopic)
	assert.Equal(t, uint32(3), *p.WillProperties.WillDelayInterval)

	s := c.suback()
	assert.Equal(t, []packets.SubOptions{{Topic: "t", QoS: 2, RetainHandling: 1}}, s.Subscriptions)
	assert.Equal(t, 1, *s.Properties.SubscriptionIdentifier)
	s = c.suback()
	assert.Equal(t, []packets.SubOptions{{Topic: "u", QoS: 1, NoLocal: true, RetainAsPublished: true, RetainHandling: 2}}, s.Subscriptions)
	assert.Equal(t, 2, *s.Properties.SubscriptionIdentifier)
	wait(t, up, "Connect")
}

func TestAcknowledgesAfterDeliveryAndInOrder(t *testing.T) {
	b := newScriptedBroker(t)
	in := testInput(t, b, "")
	up := connecting(t, in)
	c := b.session(false)
	wait(t, up, "Connect")

	var acks []service.AckFunc
	for id := uint16(1); id <= 4; id++ {
		c.publish(id, 1, false)
		texts, ack := readOne(t, in)
		require.Equal(t, []string{fmt.Sprint(id)}, texts)
		acks = append(acks, ack)
	}
	c.quiet()
	ackOK(t, acks[2])
	ackOK(t, acks[1])
	c.quiet()
	ackOK(t, acks[0])
	c.pubacks(1, 2, 3)
	c.quiet()
	ackOK(t, acks[3])
	ackOK(t, acks[3]) // a second time changes nothing
	c.pubacks(4)
	c.quiet()
	assert.Zero(t, in.inbox.state().inFlight)
}

func TestReceiveMaximumHoldsAcrossConnections(t *testing.T) {
	b := newScriptedBroker(t)
	in := testInput(t, b, "max_in_flight: 3")
	up := connecting(t, in)
	c := b.session(false)
	wait(t, up, "Connect")

	var acks []service.AckFunc
	for id := uint16(1); id <= 3; id++ {
		c.publish(id, 1, false)
		_, ack := readOne(t, in)
		acks = append(acks, ack)
	}
	// The session is lost: the broker knows nothing of the three, and sends
	// others. They wait in the network.
	require.NoError(t, c.Close())
	c = b.session(false)
	for id := uint16(1); id <= 3; id++ {
		c.publishText(id, 1, false, fmt.Sprint("new ", id))
	}
	waitPaused(t, in)
	assert.Zero(t, in.inbox.state().queued)
	ackOK(t, acks[0])
	texts, ack := readOne(t, in)
	assert.Equal(t, []string{"new 1"}, texts)
	ackOK(t, ack)
	c.pubacks(1)
	texts, _ = readOne(t, in)
	assert.Equal(t, []string{"new 2"}, texts)
}

// waitPaused waits until reading has stopped for want of room.
func waitPaused(t *testing.T, in *input) {
	t.Helper()
	require.Eventually(t, func() bool {
		in.inbox.mu.Lock()
		defer in.inbox.mu.Unlock()
		c, ok := in.inbox.conn.(*conn)
		return ok && c.isPaused.Load()
	}, deadline, time.Millisecond, "waiting for reading to stop")
}

func TestReconnectKeepsWhatIsInTheProcess(t *testing.T) {
	b := newScriptedBroker(t)
	in := testInput(t, b, "")
	up := connecting(t, in)
	c := b.session(false)
	wait(t, up, "Connect")

	// 1 is in the pipeline, 2 was delivered behind it, 3 was not read yet.
	for id := uint16(1); id <= 3; id++ {
		c.publish(id, 1, false)
	}
	texts, ack1 := readOne(t, in)
	require.Equal(t, []string{"1"}, texts)
	texts, ack2 := readOne(t, in)
	require.Equal(t, []string{"2"}, texts)
	ackOK(t, ack2)
	require.Eventually(t, func() bool { return in.inbox.state().queued == 1 }, deadline, time.Millisecond, "waiting for message 3")
	require.NoError(t, c.Close())

	c = b.session(true)
	for id := uint16(1); id <= 3; id++ {
		c.publish(id, 1, true)
	}
	c.publish(4, 1, false)
	texts, ack3 := readOne(t, in)
	require.Equal(t, []string{"3"}, texts)
	texts, ack4 := readOne(t, in)
	require.Equal(t, []string{"4"}, texts, "the three were not handed over again")
	c.quiet()
	ackOK(t, ack4)
	ackOK(t, ack1)
	c.pubacks(1, 2)
	ackOK(t, ack3)
	c.pubacks(3, 4)
	c.quiet()
}

func TestAcksOfALostConnection(t *testing.T) {
	for name, tc := range map[string]struct {
		present   bool
		duplicate bool
		text      string
		handed    bool
	}{
		"same message again":             {true, true, "1", false},
		"another message, no duplicate":  {true, false, "1", true},
		"another message, as duplicate":  {true, true, "other", true},
		"same message, session was lost": {false, true, "1", true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newScriptedBroker(t)
			in := testInput(t, b, "")
			up := connecting(t, in)
			c := b.session(false)
			wait(t, up, "Connect")
			c.publish(1, 1, false)
			_, ack := readOne(t, in)
			require.NoError(t, c.Close())
			c = b.session(tc.present)
			waitUp(t, in, 2)

			// The message is delivered now, on the new connection nothing is due.
			ackOK(t, ack)
			assert.EqualValues(t, 1, in.inbox.state().acksHeld)
			c.quiet()
			c.publishText(1, 1, tc.duplicate, tc.text)
			if !tc.handed {
				c.pubacks(1)
				assert.Zero(t, in.inbox.state().queued)
				return
			}
			texts, ack := readOne(t, in)
			require.Equal(t, []string{tc.text}, texts)
			c.quiet()
			ackOK(t, ack)
			c.pubacks(1)
		})
	}
}

func waitUp(t *testing.T, in *input, n uint64) {
	t.Helper()
	for {
		s := in.link.state()
		if s.up && s.n == n {
			return
		}
		wait(t, s.changed, fmt.Sprintf("connection %d", n))
	}
}

func TestQoS2WithAReconnectAtEachPoint(t *testing.T) {
	for _, point := range []string{"nowhere", "after PUBLISH", "after delivery, before PUBREC arrived", "after PUBREC", "after PUBREL"} {
		t.Run(point, func(t *testing.T) {
			b := newScriptedBroker(t)
			in := testInput(t, b, "")
			up := connecting(t, in)
			c := b.session(false)
			wait(t, up, "Connect")
			n := uint64(1)
			again := func() {
				require.NoError(t, c.Close())
				c = b.session(true)
				n++
				waitUp(t, in, n)
			}

			c.publish(1, 2, false)
			texts, ack := readOne(t, in)
			require.Equal(t, []string{"1"}, texts)
			c.quiet()
			switch point {
			case "after PUBLISH":
				again()
				c.publish(1, 2, true)
				c.quiet()
				ackOK(t, ack)
			case "after delivery, before PUBREC arrived":
				require.NoError(t, c.Close())
				require.Eventually(t, func() bool { return in.link.state().n == 1 && !in.link.state().up }, deadline, time.Millisecond, "waiting for the loss to be noticed")
				ackOK(t, ack)
				c = b.session(true)
				n++
				waitUp(t, in, n)
				c.quiet()
				c.publish(1, 2, true)
			default:
				ackOK(t, ack)
			}
			require.Equal(t, uint16(1), expect[*packets.Pubrec](c).PacketID)
			if point == "after PUBREC" {
				again()
				c.publish(1, 2, true) // the broker did not get it
				require.Equal(t, uint16(1), expect[*packets.Pubrec](c).PacketID)
			}
			c.send(&packets.Pubrel{PacketID: 1, Properties: &packets.Properties{}})
			require.Equal(t, uint16(1), expect[*packets.Pubcomp](c).PacketID)
			if point == "after PUBREL" {
				again()
				c.send(&packets.Pubrel{PacketID: 1, Properties: &packets.Properties{}})
				require.Equal(t, uint16(1), expect[*packets.Pubcomp](c).PacketID)
			}
			s := in.inbox.state()
			assert.Zero(t, s.queued, "handed over once")
			assert.Zero(t, s.inFlight)

			// The identifier is free, and what comes under it is new.
			c.publishText(1, 2, false, "next")
			texts, ack = readOne(t, in)
			require.Equal(t, []string{"next"}, texts)
			ackOK(t, ack)
			require.Equal(t, uint16(1), expect[*packets.Pubrec](c).PacketID)
		})
	}
}

func TestRefusals(t *testing.T) {
	suback := func(codes ...byte) func(*scriptedConn) {
		return func(c *scriptedConn) {
			c.connect(false)
			s := expect[*packets.Subscribe](c)
			c.send(&packets.Suback{PacketID: s.PacketID, Reasons: codes, Properties: &packets.Properties{}})
		}
	}
	connack := func(p *packets.Connack) func(*scriptedConn) {
		return func(c *scriptedConn) {
			expect[*packets.Connect](c)
			if p.Properties == nil {
				p.Properties = &packets.Properties{}
			}
			c.send(p)
		}
	}
	for name, tc := range map[string]struct {
		script func(*scriptedConn)
		yaml   string
		want   []string
	}{
		"filter not authorised": {suback(0x87), "", []string{`filter "t"`, "not authorised to subscribe", "0x87", "access rules"}},
		"one of two filters":    {suback(2, 0x8F), "subscriptions: [ { filter: u } ]", []string{`filter "u"`, "0x8F"}},
		"granted QoS 0":         {suback(0), "", []string{`filter "t"`, "grants QoS 0 only instead of 2"}},
		"too few answers":       {suback(2), "subscriptions: [ { filter: u } ]", []string{"answered 1 of 2 filters"}},
		"bad password":          {connack(&packets.Connack{ReasonCode: 0x86}), "user: bob\npassword: geheim", []string{"user and password", "0x86"}},
		"broker explains":       {connack(&packets.Connack{ReasonCode: 0x97, Properties: &packets.Properties{ReasonString: "10 connections"}}), "", []string{"limit", `"10 connections"`}},
		"old broker":            {connack(&packets.Connack{ReasonCode: 0x84}), "", []string{"does not speak MQTT 5", "mqtt input"}},
		"no wildcards":          {connack(&packets.Connack{Properties: &packets.Properties{WildcardSubAvailable: ptr(byte(0))}}), "subscriptions: [ { filter: a/# } ]", []string{`filter "a/#"`, "0xA2"}},
		"no shared":             {connack(&packets.Connack{Properties: &packets.Properties{SharedSubAvailable: ptr(byte(0))}}), "subscriptions: [ { filter: $share/g/a, qos: 1 } ]", []string{`filter "$share/g/a"`, "0x9E"}},
		"no identifiers":        {connack(&packets.Connack{Properties: &packets.Properties{SubIDAvailable: ptr(byte(0))}}), "subscription_identifiers: true", []string{`filter "t"`, "0xA1"}},
		"no answer":             {func(c *scriptedConn) { _ = c.Close() }, "", []string{"connecting to mqtt://"}},
		"disconnected meanwhile": {func(c *scriptedConn) {
			c.connect(false)
			expect[*packets.Subscribe](c)
			c.send(&packets.Disconnect{ReasonCode: 0x8E, Properties: &packets.Properties{}})
		}, "", []string{"subscribing at", "another client connected with the same client id"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newScriptedBroker(t)
			in := testInput(t, b, tc.yaml)
			errs := make(chan error, 1)
			go func() { errs <- in.Connect(t.Context()) }()
			tc.script(b.accept())
			select {
			case err := <-errs:
				for _, want := range tc.want {
					require.ErrorContains(t, err, want)
				}
				assert.NotContains(t, err.Error(), "geheim")
			case <-time.After(deadline):
				require.FailNow(t, "timeout", "waiting for Connect to fail")
			}
		})
	}
}

func TestConnectSucceedsAfterRefusal(t *testing.T) {
	b := newScriptedBroker(t)
	in := testInput(t, b, "")
	up := connecting(t, in)
	c := b.accept()
	expect[*packets.Connect](c)
	c.send(&packets.Connack{ReasonCode: packets.ConnackServerBusy, Properties: &packets.Properties{}})
	b.session(false)
	wait(t, up, "Connect")
}

func TestSeveralAddresses(t *testing.T) {
	gone := newScriptedBroker(t)
	require.NoError(t, gone.ln.Close())
	b := newScriptedBroker(t)
	in := testInput(t, b, "")
	e, err := parseEndpoint(gone.url())
	require.NoError(t, err)
	in.link.cfg.endpoints = append([]endpoint{e}, in.link.cfg.endpoints...)
	up := connecting(t, in)
	b.session(false)
	wait(t, up, "Connect")
}

func TestLossIsReportedAndRepaired(t *testing.T) {
	b := newScriptedBroker(t)
	in := testInput(t, b, "")
	up := connecting(t, in)
	c := b.session(false)
	wait(t, up, "Connect")
	c.send(&packets.Disconnect{ReasonCode: packets.DisconnectServerShuttingDown, Properties: &packets.Properties{}})
	_, _, err := in.ReadBatch(t.Context())
	require.ErrorIs(t, err, service.ErrNotConnected)
	if s := in.link.state(); !s.up {
		require.ErrorContains(t, s.err, "shutting down")
	}
	up = connecting(t, in)
	c = b.session(true)
	wait(t, up, "Connect")
	c.publish(9, 1, false)
	texts, _ := readOne(t, in)
	require.Equal(t, []string{"9"}, texts)
}

func TestOversize(t *testing.T) {
	for _, qos := range []byte{0, 1, 2} {
		t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
			b := newScriptedBroker(t)
			in := testInput(t, b, "max_packet_size: 2000")
			up := connecting(t, in)
			c := b.session(false)
			wait(t, up, "Connect")
			id := uint16(0)
			if qos > 0 {
				id = 5
			}
			c.publishText(id, qos, false, strings.Repeat("x", 3000))
			c.publish(6, 1, false)
			switch qos {
			case 1:
				assert.Equal(t, byte(codeImplementation), expect[*packets.Puback](c).ReasonCode)
			case 2:
				assert.Equal(t, byte(codeImplementation), expect[*packets.Pubrec](c).ReasonCode)
			}
			texts, ack := readOne(t, in)
			require.Equal(t, []string{"6"}, texts)
			ackOK(t, ack)
			c.pubacks(6)
		})
	}
}

func TestMalformedEndsTheConnection(t *testing.T) {
	b := newScriptedBroker(t)
	in := testInput(t, b, "")
	up := connecting(t, in)
	c := b.session(false)
	wait(t, up, "Connect")
	_, err := c.Write([]byte{0x32, 3, 0, 9, 'x'})
	require.NoError(t, err)
	for c.next("the end of the connection") != nil {
	}
	c = b.session(true)
	c.publish(1, 1, false)
	texts, _ := readOne(t, in)
	require.Equal(t, []string{"1"}, texts)
}

func TestQoS0Overflow(t *testing.T) {
	t.Run("drop", func(t *testing.T) {
		b := newScriptedBroker(t)
		in := testInput(t, b, "qos0_queue: 2\nqos0_overflow: drop")
		up := connecting(t, in)
		c := b.session(false)
		wait(t, up, "Connect")
		for n := range 5 {
			c.publishText(0, 0, false, fmt.Sprint("m", n))
		}
		c.publish(1, 1, false) // has a place of its own, whatever QoS 0 does
		require.Eventually(t, func() bool {
			in.inbox.mu.Lock()
			defer in.inbox.mu.Unlock()
			return len(in.inbox.queue)-in.inbox.head == 3 && in.inbox.counts.dropped == 3
		}, deadline, time.Millisecond, "waiting for two messages to be kept and three to be dropped")
		for _, want := range []string{"m0", "m1", "1"} {
			texts, _ := readOne(t, in)
			require.Equal(t, []string{want}, texts)
		}
	})
	t.Run("block", func(t *testing.T) {
		b := newScriptedBroker(t)
		in := testInput(t, b, "qos0_queue: 2\nkeepalive: 1s")
		up := connecting(t, in)
		c := b.session(false)
		wait(t, up, "Connect")
		for n := range 5 {
			c.publishText(0, 0, false, fmt.Sprint("m", n))
		}
		waitPaused(t, in)
		in.inbox.mu.Lock()
		first := in.inbox.conn.(*conn)
		in.inbox.mu.Unlock()
		require.Zero(t, first.silence())
		for n := range 5 {
			texts, _ := readOne(t, in)
			require.Equal(t, []string{fmt.Sprint("m", n)}, texts)
		}
		require.EqualValues(t, 1, in.link.state().n, "the connection was not lost")
		require.Zero(t, in.inbox.state().dropped)
	})
}

func TestBytesInTheProcessAreBounded(t *testing.T) {
	b := newScriptedBroker(t)
	in := testInput(t, b, "max_in_flight_bytes: 10")
	up := connecting(t, in)
	c := b.session(false)
	wait(t, up, "Connect")
	c.publishText(1, 1, false, "larger than ten bytes")
	texts, ack := readOne(t, in)
	require.Equal(t, []string{"larger than ten bytes"}, texts, "one that is too large comes alone")
	c.publishText(0, 0, false, "0123456789")
	waitPaused(t, in)
	assert.Zero(t, in.inbox.state().queued)
	ackOK(t, ack)
	texts, ack = readOne(t, in)
	require.Equal(t, []string{"0123456789"}, texts)
	c.publishText(2, 1, false, "x")
	waitPaused(t, in)
	ackOK(t, ack)
	texts, _ = readOne(t, in)
	require.Equal(t, []string{"x"}, texts)
}

func TestKeepAliveUnderBackPressure(t *testing.T) {
	b := newScriptedBroker(t)
	in := testInput(t, b, "qos0_queue: 1\nkeepalive: 1s")
	up := connecting(t, in)
	c := b.session(false)
	wait(t, up, "Connect")
	c.publishText(0, 0, false, "a")
	c.publishText(0, 0, false, "b")
	waitPaused(t, in)
	// Three seconds are four pings, more than the pinger would wait for an answer.
	for n := 0; n < 3; {
		select {
		case p, open := <-c.in:
			require.True(t, open, "the connection was given up")
			require.Nil(t, p)
		case <-time.After(time.Second):
			n++
		}
	}
	for _, want := range []string{"a", "b"} {
		texts, _ := readOne(t, in)
		require.Equal(t, []string{want}, texts)
	}
	require.EqualValues(t, 1, in.link.state().n)
}

func TestSilentBrokerIsGivenUp(t *testing.T) {
	b := newScriptedBroker(t)
	in := testInput(t, b, "keepalive: 1s")
	up := connecting(t, in)
	c := b.accept()
	c.pongs = false
	c.connect(false)
	c.suback()
	wait(t, up, "Connect")
	require.Nil(t, c.next("the client to give up"))
	c = b.session(true)
	c.publish(1, 1, false)
	texts, _ := readOne(t, in)
	require.Equal(t, []string{"1"}, texts)
}

func TestSubscribeOutlastsAPause(t *testing.T) {
	b := newScriptedBroker(t)
	in := testInput(t, b, "max_in_flight: 1\nconnect_timeout: 100ms")
	up := connecting(t, in)
	c := b.session(false)
	wait(t, up, "Connect")
	c.publish(1, 1, false)
	_, ack := readOne(t, in)
	require.NoError(t, c.Close())

	// The broker has given message 1 to another worker and sends the next one
	// before the answer to SUBSCRIBE, which cannot be read: there is no room.
	c = b.accept()
	c.connect(true)
	c.publish(2, 1, false)
	waitPaused(t, in)
	s := expect[*packets.Subscribe](c)
	c.send(&packets.Suback{PacketID: s.PacketID, Reasons: []byte{2}, Properties: &packets.Properties{}})
	select {
	case p, open := <-c.in:
		require.True(t, open, "the connection was given up")
		require.Fail(t, "unexpected packet", "%v", p)
	case <-time.After(500 * time.Millisecond):
	}
	ackOK(t, ack)
	texts, ack := readOne(t, in)
	require.Equal(t, []string{"2"}, texts)
	ackOK(t, ack)
	c.pubacks(2)
	waitUp(t, in, 2)
}

func TestRetainedReplayIsMarked(t *testing.T) {
	b := newScriptedBroker(t)
	in := testInput(t, b, "")
	up := connecting(t, in)
	c := b.session(false)
	wait(t, up, "Connect")
	read := func() *service.Message {
		for {
			batch, _, err := in.ReadBatch(t.Context())
			if errors.Is(err, service.ErrNotConnected) {
				require.NoError(t, in.Connect(t.Context()))
				continue
			}
			require.NoError(t, err)
			return batch[0]
		}
	}
	retained := &packets.Publish{Topic: "t", Payload: []byte("r"), Retain: true, Properties: &packets.Properties{}}
	c.send(retained)
	m := read()
	v, _ := m.MetaGetMut("mqtt_retained")
	assert.Equal(t, true, v)
	_, ok := m.MetaGetMut("mqtt_retained_replay")
	assert.False(t, ok, "the first connection replays nothing")

	require.NoError(t, c.Close())
	c = b.session(true)
	c.send(retained)
	v, _ = read().MetaGetMut("mqtt_retained_replay")
	assert.Equal(t, true, v)
	c.publish(1, 1, false)
	_, ok = read().MetaGetMut("mqtt_retained_replay")
	assert.False(t, ok)
}

func TestBatches(t *testing.T) {
	b := newScriptedBroker(t)
	in := testInput(t, b, "")
	in.cfg.batchCount = 3
	in.cfg.batchBytes = 10
	in.cfg.batchPeriod = time.Hour // what waits for it never comes
	up := connecting(t, in)
	c := b.session(false)
	wait(t, up, "Connect")
	say := func(texts ...string) {
		t.Helper()
		had := in.inbox.state().queued
		for _, text := range texts {
			c.publishText(0, 0, false, text)
		}
		require.Eventually(t, func() bool { return in.inbox.state().queued == had+len(texts) }, deadline, time.Millisecond, "waiting for %d messages", len(texts))
	}
	read := func(want ...string) service.AckFunc {
		t.Helper()
		texts, ack := readOne(t, in)
		require.Equal(t, want, texts)
		return ack
	}

	// With nothing on its way, one leaves at once, and so does what there is.
	say("1")
	ackOK(t, read("1"))
	say("2", "3")
	first := read("2", "3")

	// With something on its way, a batch leaves when it is full, by count ...
	say("4", "5", "6", "7")
	second := read("4", "5", "6")
	// ... or when all before it are delivered.
	got := make(chan []string, 1)
	go func() {
		texts, _ := readOne(t, in)
		got <- texts
	}()
	require.Eventually(t, func() bool { return in.inbox.state().queued == 0 }, deadline, time.Millisecond, "waiting for the reader to take 7")
	say("8")
	ackOK(t, first)
	require.Never(t, func() bool { return len(got) > 0 }, 20*time.Millisecond, time.Millisecond, "one is still on its way")
	ackOK(t, second)
	select {
	case texts := <-got:
		require.Equal(t, []string{"7", "8"}, texts)
	case <-time.After(deadline):
		require.FailNow(t, "timeout", "waiting for the batch that was gathered")
	}
}

func TestBatchesBySize(t *testing.T) {
	b := newScriptedBroker(t)
	in := testInput(t, b, "batching: { count: 10, byte_size: 10, period: 0s }")
	up := connecting(t, in)
	c := b.session(false)
	wait(t, up, "Connect")
	for range 3 {
		c.publishText(0, 0, false, "12345")
	}
	require.Eventually(t, func() bool { return in.inbox.state().queued == 3 }, deadline, time.Millisecond, "waiting for three messages")
	texts, _ := readOne(t, in)
	require.Equal(t, []string{"12345", "12345"}, texts)
	texts, _ = readOne(t, in)
	require.Equal(t, []string{"12345"}, texts)
}

func TestBatchesArePeriodic(t *testing.T) {
	b := newScriptedBroker(t)
	in := testInput(t, b, "batching: { count: 10, period: 1ms }")
	up := connecting(t, in)
	c := b.session(false)
	wait(t, up, "Connect")
	// The first one is never delivered, and the others do not wait for it.
	for n := range 5 {
		c.publishText(0, 0, false, fmt.Sprint(n))
		texts, _ := readOne(t, in)
		require.Equal(t, []string{fmt.Sprint(n)}, texts)
	}
}

func TestRejectedMessagesAreGivenUpOnlyOnDemand(t *testing.T) {
	b := newScriptedBroker(t)
	in := testInput(t, b, "auto_replay_nacks: false")
	in.cfg.batchCount = 3
	up := connecting(t, in)
	c := b.session(false)
	wait(t, up, "Connect")
	for id := uint16(1); id <= 3; id++ {
		c.publish(id, 1, false)
	}
	require.Eventually(t, func() bool { return in.inbox.state().queued == 3 }, deadline, time.Millisecond, "waiting for three messages")
	batch, ack, err := in.ReadBatch(t.Context())
	require.NoError(t, err)
	require.Len(t, batch, 3)
	require.NoError(t, ack(t.Context(), service.NewBatchError(batch, errors.New("no")).Failed(1, errors.New("no"))))
	for id, code := range []byte{0, codeImplementation, 0} {
		p := expect[*packets.Puback](c)
		assert.Equal(t, uint16(id+1), p.PacketID)
		assert.Equal(t, code, p.ReasonCode)
	}
	c.publish(4, 2, false)
	_, ack = readOne(t, in)
	require.NoError(t, ack(t.Context(), errors.New("no")))
	p := expect[*packets.Pubrec](c)
	assert.Equal(t, byte(codeImplementation), p.ReasonCode)
	assert.Zero(t, in.inbox.state().inFlight)
}

func TestRejectedMessagesAreTriedAgain(t *testing.T) {
	b := newScriptedBroker(t)
	in := testInput(t, b, "")
	wrapped := service.AutoRetryNacksBatched(in)
	up := connecting(t, in)
	c := b.session(false)
	wait(t, up, "Connect")
	c.publish(1, 1, false)
	for try := range 3 {
		batch, ack, err := wrapped.ReadBatch(t.Context())
		require.NoError(t, err)
		text, err := batch[0].AsBytes()
		require.NoError(t, err)
		require.Equal(t, "1", string(text))
		if try < 2 {
			require.NoError(t, ack(t.Context(), errors.New("kafka is away")))
			c.quiet()
			continue
		}
		require.NoError(t, ack(t.Context(), nil))
	}
	c.pubacks(1)
}

func TestCloseKeepsTheSession(t *testing.T) {
	b := newScriptedBroker(t)
	in := testInput(t, b, "")
	up := connecting(t, in)
	c := b.session(false)
	wait(t, up, "Connect")
	c.publish(1, 1, false)
	_, ack := readOne(t, in)
	ackOK(t, ack)
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	require.NoError(t, in.Close(ctx))
	c.pubacks(1)
	d := expect[*packets.Disconnect](c)
	assert.Zero(t, d.ReasonCode)
	assert.Nil(t, d.Properties.SessionExpiryInterval)
	_, _, err := in.ReadBatch(ctx)
	require.ErrorIs(t, err, service.ErrEndOfInput)
	require.ErrorIs(t, in.Connect(ctx), service.ErrEndOfInput)
}

func TestTwoInputsOfOneClientID(t *testing.T) {
	b := newScriptedBroker(t)
	first := testInput(t, b, "")
	up := connecting(t, first)
	b.session(false)
	wait(t, up, "Connect")
	second := testInput(t, b, "")
	require.ErrorContains(t, second.Connect(t.Context()), "another mqtt5 input of this process")
}

func TestConnectionTest(t *testing.T) {
	b := newScriptedBroker(t)
	in := testInput(t, b, "")
	results := make(chan service.ConnectionTestResults, 1)
	go func() { results <- in.ConnectionTest(t.Context()) }()
	c := b.accept()
	p := c.connect(false)
	assert.NotEqual(t, t.Name(), p.ClientID, "the same id would throw out a running pipeline")
	assert.True(t, p.CleanStart)
	expect[*packets.Disconnect](c)
	require.NoError(t, (<-results)[0].Err)

	go func() { results <- in.ConnectionTest(t.Context()) }()
	c = b.accept()
	expect[*packets.Connect](c)
	c.send(&packets.Connack{ReasonCode: packets.ConnackNotAuthorized, Properties: &packets.Properties{}})
	require.ErrorContains(t, (<-results)[0].Err, "not authorised to connect")
}
