// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dealiot/dealiot-connect/internal/devstack/broker"
)

func TestRetained(t *testing.T) {
	b := start(t)
	p, _ := dial(t, b, "p")
	for topic, payload := range map[string]string{"a": "1", "a/b": "2", "c": "3", "gone": "4"} {
		p.send(&packets.Publish{Topic: topic, QoS: 1, PacketID: 1, Retain: true, Payload: []byte(payload), Properties: &packets.Properties{}})
		receive[*packets.Puback](p)
	}
	p.send(&packets.Publish{Topic: "gone", Retain: true, Properties: &packets.Properties{}})
	p.sync()
	assert.EqualValues(t, 3, b.Counters().Retained)

	s, _ := dial(t, b, "s")
	replayed := func(properties *packets.Properties, o packets.SubOptions) map[string]byte {
		require.Equal(t, []byte{o.QoS}, s.subscribe(properties, o))
		got := make(map[string]byte)
		s.send(&packets.Pingreq{})
		for pongs := 0; pongs < 2; { // the first may overtake the messages of its batch
			pk, err := s.read()
			require.NoError(t, err)
			m, ok := pk.(*packets.Publish)
			if !ok {
				if pongs++; pongs == 1 {
					s.send(&packets.Pingreq{})
				}
				continue
			}
			assert.True(t, m.Retain)
			got[m.Topic] = m.QoS
			if properties != nil {
				assert.Equal(t, properties.SubscriptionIdentifier, m.Properties.SubscriptionIdentifier)
			}
			s.puback(m.PacketID)
		}
		return got
	}
	seven := &packets.Properties{SubscriptionIdentifier: ptr(7)}
	assert.Equal(t, map[string]byte{"a": 1, "a/b": 1}, replayed(seven, packets.SubOptions{Topic: "a/#", QoS: 1}))
	assert.Equal(t, map[string]byte{"a": 1, "a/b": 1}, replayed(nil, packets.SubOptions{Topic: "a/#", QoS: 1}), "again")
	assert.Empty(t, replayed(nil, packets.SubOptions{Topic: "a/#", QoS: 1, RetainHandling: 1}), "only new subscriptions")
	assert.Equal(t, map[string]byte{"c": 1}, replayed(nil, packets.SubOptions{Topic: "c", QoS: 1, RetainHandling: 1}))
	assert.Empty(t, replayed(nil, packets.SubOptions{Topic: "a/b", QoS: 1, RetainHandling: 2}))
	assert.Empty(t, replayed(nil, packets.SubOptions{Topic: "$share/g/a", QoS: 1}))
}

// Subscription options of MQTT 5: no local, retain as published, identifiers;
// and one copy, of the highest QoS, for filters that overlap.
func TestSubscriptionOptions(t *testing.T) {
	b := start(t)
	s, _ := dial(t, b, "s")
	reasons := s.subscribe(&packets.Properties{SubscriptionIdentifier: ptr(5)},
		packets.SubOptions{Topic: "a/#", QoS: 0, RetainAsPublished: true},
		packets.SubOptions{Topic: "a/+", QoS: 2}, packets.SubOptions{Topic: "own/#", QoS: 1, NoLocal: true},
		packets.SubOptions{Topic: "a/#/b", QoS: 1})
	require.Equal(t, []byte{0, 2, 1, packets.SubackTopicFilterinvalid}, reasons)
	s.publish("own/x", 0, 0, 1) // comes back to nobody
	s.send(&packets.Publish{
		Topic: "a/b", QoS: 1, PacketID: 3, Retain: true, Payload: []byte("1"),
		Properties: &packets.Properties{
			ContentType: "application/json", ResponseTopic: "r", CorrelationData: []byte{1}, PayloadFormat: ptr(byte(1)),
			MessageExpiry: ptr(uint32(1000)), User: []packets.User{{Key: "k", Value: "v"}, {Key: "k", Value: "w"}},
		},
	})
	for range 2 {
		pk, err := s.read()
		require.NoError(t, err)
		m, ok := pk.(*packets.Publish)
		if !ok {
			require.IsType(t, &packets.Puback{}, pk)
			continue
		}
		assert.Equal(t, "a/b", m.Topic)
		assert.EqualValues(t, 1, m.QoS)
		assert.True(t, m.Retain)
		assert.Equal(t, "application/json", m.Properties.ContentType)
		assert.Equal(t, "r", m.Properties.ResponseTopic)
		assert.Equal(t, []byte{1}, m.Properties.CorrelationData)
		assert.Equal(t, ptr(byte(1)), m.Properties.PayloadFormat)
		assert.Equal(t, ptr(5), m.Properties.SubscriptionIdentifier)
		assert.Equal(t, []packets.User{{Key: "k", Value: "v"}, {Key: "k", Value: "w"}}, m.Properties.User)
		assert.InDelta(t, 1000, *m.Properties.MessageExpiry, 60)
	}
	s.send(&packets.Unsubscribe{PacketID: 2, Topics: []string{"a/#", "a/+", "nothing"}, Properties: &packets.Properties{}})
	assert.Equal(t, []byte{0, 0, 0x11}, receive[*packets.Unsuback](s).Reasons)
	s.publish("a/b", 1, 4, 2)
	receive[*packets.Puback](s)
	assert.EqualValues(t, 1, b.Counters().Unmatched)
	assert.EqualValues(t, 1, b.Counters().Sent)
}

// What a subscriber cannot or should no longer get is counted, and does not
// stand in the way of the rest.
func TestExpiredAndTooLarge(t *testing.T) {
	t.Parallel()
	b := start(t)
	session := persistent(1)
	session.MaximumPacketSize = ptr(uint32(100))
	s, _ := dial(t, b, "s", with(session))
	s.subscribe(nil, packets.SubOptions{Topic: "t", QoS: 1})
	p, _ := dial(t, b, "p")
	p.publish("t", 1, 1, 0)
	p.send(&packets.Publish{Topic: "t", QoS: 1, PacketID: 2, Payload: make([]byte, 200), Properties: &packets.Properties{}})
	p.send(&packets.Publish{Topic: "t", QoS: 1, PacketID: 3, Payload: []byte("2"), Properties: &packets.Properties{MessageExpiry: ptr(uint32(1))}})
	p.publish("t", 1, 4, 3)
	for range 4 {
		receive[*packets.Puback](p)
	}
	expired := time.Now().Add(2 * time.Second)
	require.Eventually(t, func() bool { return time.Now().After(expired) }, patience, 10*time.Millisecond)
	for _, want := range []int{0, 3} {
		pk, got := s.message()
		require.Equal(t, want, got)
		s.puback(pk.PacketID)
	}
	assert.EqualValues(t, 2, b.Counters().Dropped)
	assert.EqualValues(t, 2, b.Counters().Sent)
}

func TestTakeover(t *testing.T) {
	b := start(t)
	first, _ := dial(t, b, "same", with(persistent(10)))
	first.subscribe(nil, packets.SubOptions{Topic: "t", QoS: 1})
	first.publish("t", 1, 1, 1)
	receive[*packets.Puback](first)
	_, _ = first.message()
	second, present := dial(t, b, "same", with(persistent(10)))
	require.True(t, present)
	assert.EqualValues(t, packets.DisconnectSessionTakenOver, receive[*packets.Disconnect](first).ReasonCode)
	_, err := first.read()
	require.ErrorIs(t, err, io.EOF)
	pk, _ := second.message()
	assert.True(t, pk.Duplicate)
	second.puback(pk.PacketID)
	second.sync()
	assert.EqualValues(t, 1, b.Counters().Clients)
	assert.Zero(t, b.Counters().Queued)
}

func TestWill(t *testing.T) {
	t.Parallel()
	b := start(t)
	s, _ := dial(t, b, "s", with(persistent(10)))
	s.subscribe(nil, packets.SubOptions{Topic: "will/#", QoS: 1})
	will := func(topic string, delay, expiry uint32) func(*packets.Connect) {
		return func(c *packets.Connect) {
			c.WillFlag, c.WillTopic, c.WillMessage, c.WillQOS = true, topic, []byte("0"), 1
			c.WillProperties = &packets.Properties{User: []packets.User{{Key: "k", Value: "v"}}}
			if delay > 0 {
				c.WillProperties.WillDelayInterval = &delay
			}
			c.Properties.SessionExpiryInterval = &expiry
		}
	}
	expect := func(topic string) {
		t.Helper()
		pk, _ := s.message()
		assert.Equal(t, topic, pk.Topic)
		assert.Equal(t, []packets.User{{Key: "k", Value: "v"}}, pk.Properties.User)
		s.puback(pk.PacketID)
	}
	lost, _ := dial(t, b, "lost", will("will/lost", 0, 0))
	lost.cut()
	expect("will/lost")
	said, _ := dial(t, b, "said", will("will/said", 0, 0))
	said.send(&packets.Disconnect{ReasonCode: packets.DisconnectDisconnectWithWillMessage, Properties: &packets.Properties{}})
	expect("will/said")
	ended, _ := dial(t, b, "ended", will("will/ended", 3600, 0))
	ended.cut() // the delay ends with the session
	expect("will/ended")
	delayed, _ := dial(t, b, "delayed", will("will/delayed", 1, 3600))
	delayed.cut()
	expect("will/delayed")

	// No will: a client that left, and one that came back in time.
	left, _ := dial(t, b, "left", will("will/left", 0, 0))
	left.send(&packets.Disconnect{Properties: &packets.Properties{}})
	back, _ := dial(t, b, "back", will("will/back", 3600, 3600))
	back.cut()
	back, present := dial(t, b, "back", with(persistent(10)))
	require.True(t, present)
	back.send(&packets.Disconnect{Properties: &packets.Properties{}})
	awaitCounters(t, b, "both to be gone", func(c broker.Counters) bool { return c.Clients == 1 })
	s.sync()
	assert.EqualValues(t, 4, b.Counters().Sent)
}

func TestRefusedConnections(t *testing.T) {
	b := start(t)
	p, answer := try(t, b, "")
	assert.Zero(t, answer.ReasonCode)
	assert.True(t, strings.HasPrefix(answer.Properties.AssignedClientID, "auto-"))
	assert.EqualValues(t, 1024, *answer.Properties.ReceiveMaximum)
	assert.EqualValues(t, broker.MaximumPacketSize, *answer.Properties.MaximumPacketSize)
	p.send(&packets.Connect{ProtocolName: "MQTT", ProtocolVersion: 5, Properties: &packets.Properties{}})
	assert.EqualValues(t, packets.DisconnectProtocolError, receive[*packets.Disconnect](p).ReasonCode)

	_, answer = try(t, b, "x", with(&packets.Properties{AuthMethod: "SCRAM"}))
	assert.EqualValues(t, packets.ConnackBadAuthenticationMethod, answer.ReasonCode)

	for name, c := range map[string]struct{ sent, answer []byte }{
		"MQTT 3.1.1 without id, not clean": {[]byte{0x10, 12, 0, 4, 'M', 'Q', 'T', 'T', 4, 0, 0, 60, 0, 0}, []byte{0x20, 2, 0, 2}},
		"MQTT 3.1.1 without id, clean":     {[]byte{0x10, 12, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, 0}, []byte{0x20, 2, 0, 0}},
		"MQTT 4":                           {[]byte{0x10, 12, 0, 4, 'M', 'Q', 'T', 'T', 3, 2, 0, 60, 0, 0}, []byte{0x20, 2, 0, 1}},
		"no CONNECT":                       {[]byte{0xc0, 0}, nil},
		"truncated":                        {[]byte{0x10, 3, 0, 4, 'M'}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", b.Addr().String())
			require.NoError(t, err)
			defer conn.Close()
			require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
			_, err = conn.Write(c.sent)
			require.NoError(t, err)
			got := make([]byte, len(c.answer))
			_, err = io.ReadFull(conn, got)
			require.NoError(t, err)
			assert.Equal(t, c.answer, append([]byte(nil), got...))
			if len(c.answer) == 0 {
				_, err := conn.Read(make([]byte, 1))
				assert.ErrorIs(t, err, io.EOF)
			}
		})
	}
}

// A client that breaks the protocol is told how.
func TestViolations(t *testing.T) {
	b := start(t)
	for name, c := range map[string]struct {
		reason byte
		send   func(p *peer)
	}{
		"reserved flags":      {packets.DisconnectMalformedPacket, func(p *peer) { _, _ = p.net.Write([]byte{0xc1, 0}) }},
		"truncated SUBSCRIBE": {packets.DisconnectMalformedPacket, func(p *peer) { _, _ = p.net.Write([]byte{0x82, 6, 0, 1, 0, 0, 1, '#'}) }},
		"too large":           {packets.DisconnectPacketTooLarge, func(p *peer) { _, _ = p.net.Write([]byte{0x30, 0xff, 0xff, 0x7f}) }},
		"wildcard":            {packets.DisconnectProtocolError, func(p *peer) { p.publish("a/#", 0, 0, 1) }},
		"topic alias":         {packets.DisconnectTopicAliasInvalid, func(p *peer) { p.send(&packets.Publish{Properties: &packets.Properties{TopicAlias: ptr(uint16(1))}}) }},
		"no local of a shared subscription": {packets.DisconnectProtocolError, func(p *peer) {
			p.send(&packets.Subscribe{PacketID: 1, Subscriptions: []packets.SubOptions{{Topic: "$share/g/a", NoLocal: true}}, Properties: &packets.Properties{}})
		}},
		"AUTH": {packets.DisconnectProtocolError, func(p *peer) { p.send(&packets.Auth{ReasonCode: 0x18, Properties: &packets.Properties{}}) }},
		"receive maximum": {packets.DisconnectReceiveMaximumExceeded, func(p *peer) {
			for i := range 1026 {
				p.publish("t", 2, uint16(i+1), i)
			}
			for range 1025 {
				receive[*packets.Pubrec](p)
			}
		}},
		"session expiry out of nothing": {packets.DisconnectProtocolError, func(p *peer) {
			p.send(&packets.Disconnect{Properties: &packets.Properties{SessionExpiryInterval: ptr(uint32(1))}})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			p, _ := dial(t, b, "p")
			c.send(p)
			assert.Equal(t, c.reason, receive[*packets.Disconnect](p).ReasonCode)
			_, err := p.read()
			assert.Error(t, err)
		})
	}
}

// A client that says nothing for one and a half times its keep alive is gone,
// with its will.
func TestKeepAlive(t *testing.T) {
	t.Parallel()
	b := start(t)
	s, _ := dial(t, b, "s")
	s.subscribe(nil, packets.SubOptions{Topic: "will", QoS: 0})
	_, _ = dial(t, b, "silent", func(c *packets.Connect) {
		c.KeepAlive, c.WillFlag, c.WillTopic, c.WillMessage, c.WillProperties = 1, true, "will", []byte("1"), &packets.Properties{}
	})
	_, n := s.message()
	assert.Equal(t, 1, n)
}

func TestClose(t *testing.T) {
	b := start(t)
	p, _ := dial(t, b, "p")
	idle, err := net.Dial("tcp", b.Addr().String())
	require.NoError(t, err)
	defer idle.Close()
	require.NoError(t, b.Close())
	assert.EqualValues(t, packets.DisconnectServerShuttingDown, receive[*packets.Disconnect](p).ReasonCode)
	_, err = net.Dial("tcp", b.Addr().String())
	require.Error(t, err)
	require.NoError(t, b.Close(), "again")
}
