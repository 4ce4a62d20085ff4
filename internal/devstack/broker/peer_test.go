// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"bufio"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/stretchr/testify/require"

	"github.com/dealiot/dealiot-connect/internal/devstack/broker"
)

// peer is an MQTT 5 client of which the test does every step.
type peer struct {
	t    *testing.T
	net  net.Conn
	in   *bufio.Reader
	name string
}

func ptr[T any](v T) *T { return &v }

// persistent are the properties of a session that outlives its connections.
func persistent(receiveMaximum uint16) *packets.Properties {
	return &packets.Properties{SessionExpiryInterval: ptr(uint32(3600)), ReceiveMaximum: ptr(receiveMaximum)}
}

// dial connects, and fails the test if the broker does not accept.
func dial(t *testing.T, b *broker.Broker, id string, options ...func(*packets.Connect)) (p *peer, present bool) {
	t.Helper()
	p, answer := try(t, b, id, options...)
	require.Zero(t, answer.ReasonCode, answer.Reason())
	return p, answer.SessionPresent
}

func try(t *testing.T, b *broker.Broker, id string, options ...func(*packets.Connect)) (*peer, *packets.Connack) {
	t.Helper()
	conn, err := net.Dial("tcp", b.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	p := &peer{t: t, net: conn, in: bufio.NewReader(conn), name: id}
	connect := &packets.Connect{
		ProtocolName: "MQTT", ProtocolVersion: 5, ClientID: id, KeepAlive: 60, Properties: &packets.Properties{},
	}
	for _, option := range options {
		option(connect)
	}
	p.send(connect)
	return p, receive[*packets.Connack](p)
}

func with(properties *packets.Properties) func(*packets.Connect) {
	return func(c *packets.Connect) { c.Properties = properties }
}

func clean(c *packets.Connect) { c.CleanStart = true }

// cut loses the connection.
func (p *peer) cut() { require.NoError(p.t, p.net.Close()) }

type packet interface{ packets.Packet }

func (p *peer) send(pk packet) {
	p.t.Helper()
	_, err := pk.WriteTo(p.net)
	require.NoError(p.t, err)
}

// read gives the next packet; it may be called in a goroutine of its own.
func (p *peer) read() (packet, error) {
	_ = p.net.SetReadDeadline(time.Now().Add(patience))
	pk, err := packets.ReadPacket(p.in)
	if err != nil {
		return nil, err
	}
	return pk.Content, nil
}

// receive gives the next packet, which has to be of a certain type.
func receive[P packet](p *peer) P {
	p.t.Helper()
	pk, err := p.read()
	var want P
	require.NoError(p.t, err, "%s is waiting for %T", p.name, want)
	require.IsType(p.t, want, pk, "%s: %v", p.name, pk)
	return pk.(P)
}

func (p *peer) subscribe(properties *packets.Properties, filters ...packets.SubOptions) []byte {
	p.t.Helper()
	if properties == nil {
		properties = &packets.Properties{}
	}
	p.send(&packets.Subscribe{PacketID: 1, Subscriptions: filters, Properties: properties})
	return receive[*packets.Suback](p).Reasons
}

// publish sends a numbered message.
func (p *peer) publish(topic string, qos byte, id uint16, n int) {
	p.t.Helper()
	p.send(&packets.Publish{
		Topic: topic, QoS: qos, PacketID: id, Payload: []byte(strconv.Itoa(n)), Properties: &packets.Properties{},
	})
}

// puback acknowledges a message.
func (p *peer) puback(id uint16) {
	p.t.Helper()
	p.send(&packets.Puback{PacketID: id, Properties: &packets.Properties{}})
}

// sync returns when the broker has handled all that was sent before.
func (p *peer) sync() {
	p.t.Helper()
	p.send(&packets.Pingreq{})
	receive[*packets.Pingresp](p)
}

// message gives the next message.
func (p *peer) message() (pk *packets.Publish, n int) {
	p.t.Helper()
	pk = receive[*packets.Publish](p)
	n, err := strconv.Atoi(string(pk.Payload))
	require.NoError(p.t, err)
	return pk, n
}

// flood publishes the messages 0 to n-1 in a goroutine, as fast as the broker
// acknowledges them with at most 500 under way; the channel gives the first
// error, or nil at the end.
func flood(p *peer, topic string, qos byte, n int) <-chan error {
	result := make(chan error, 1)
	window := make(chan struct{}, 500)
	acks := make(chan error, 1)
	out := packets.NewThreadSafeConn(p.net) // both goroutines write
	go func() {
		for done := 0; done < n; {
			pk, err := p.read()
			if err != nil {
				acks <- err
				return
			}
			switch pk := pk.(type) {
			case *packets.Pubrec:
				if _, err := (&packets.Pubrel{PacketID: pk.PacketID, Properties: &packets.Properties{}}).WriteTo(out); err != nil {
					acks <- err
					return
				}
			case *packets.Puback, *packets.Pubcomp:
				<-window
				done++
			}
		}
		acks <- nil
	}()
	go func() {
		for i := range n {
			select {
			case window <- struct{}{}:
			case err := <-acks:
				result <- err
				return
			}
			pk := &packets.Publish{
				Topic: topic, QoS: qos, PacketID: uint16(i%60_000 + 1), Payload: []byte(strconv.Itoa(i)), Properties: &packets.Properties{},
			}
			if _, err := pk.WriteTo(out); err != nil {
				result <- err
				return
			}
		}
		result <- <-acks
	}()
	return result
}

// finish waits for the end of a flood.
func finish(t *testing.T, flooding <-chan error) {
	t.Helper()
	select {
	case err := <-flooding:
		require.NoError(t, err)
	case <-time.After(patience):
		t.Fatal("waiting for the acknowledgements of all that was published")
	}
}

// awaitCounters waits for the counters to be as they should.
func awaitCounters(t *testing.T, b *broker.Broker, what string, ok func(broker.Counters) bool) {
	t.Helper()
	require.Eventually(t, func() bool { return ok(b.Counters()) }, patience, time.Millisecond, "waiting for %s", what)
}

func held(c broker.Counters) bool { return c.Held > 0 }
