// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package mqtt5

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/stretchr/testify/require"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// deadline bounds each wait of a test.
const deadline = 20 * time.Second

// scriptedBroker is a broker whose every word the test says.
type scriptedBroker struct {
	t  *testing.T
	ln net.Listener
}

func newScriptedBroker(t *testing.T) *scriptedBroker {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	return &scriptedBroker{t: t, ln: ln}
}

func (b *scriptedBroker) url() string { return "mqtt://" + b.ln.Addr().String() }

// accept waits for a client.
func (b *scriptedBroker) accept() *scriptedConn {
	b.t.Helper()
	require.NoError(b.t, b.ln.(*net.TCPListener).SetDeadline(time.Now().Add(deadline)))
	c, err := b.ln.Accept()
	require.NoError(b.t, err, "waiting for the client to connect")
	b.t.Cleanup(func() { _ = c.Close() })
	s := &scriptedConn{t: b.t, Conn: c, in: make(chan *packets.ControlPacket, 1000), pongs: true}
	go s.read()
	return s
}

// session lets a client connect and subscribe.
func (b *scriptedBroker) session(present bool) *scriptedConn {
	b.t.Helper()
	c := b.accept()
	c.connect(present)
	c.suback()
	return c
}

type scriptedConn struct {
	net.Conn
	t     *testing.T
	in    chan *packets.ControlPacket
	pongs bool // answer pings
}

func (c *scriptedConn) read() {
	defer close(c.in)
	for {
		p, err := packets.ReadPacket(c.Conn)
		if err != nil {
			return
		}
		if p.Type == packets.PINGREQ {
			if c.pongs {
				_, _ = packets.NewControlPacket(packets.PINGRESP).WriteTo(c.Conn)
			}
			continue
		}
		c.in <- p
		if p.Type == packets.DISCONNECT {
			_ = c.Close()
		}
	}
}

// next waits for a packet from the client, nil if it has gone.
func (c *scriptedConn) next(what string) *packets.ControlPacket {
	c.t.Helper()
	select {
	case p := <-c.in:
		return p
	case <-time.After(deadline):
		require.FailNow(c.t, "no packet from the client", "waiting for %s", what)
		return nil
	}
}

// expect waits for a packet of a kind.
func expect[P packets.Packet](c *scriptedConn) P {
	c.t.Helper()
	var want P
	p := c.next(fmt.Sprintf("%T", want))
	require.NotNil(c.t, p, "the client has gone, waiting for %T", want)
	got, ok := p.Content.(P)
	require.True(c.t, ok, "the client sent %v, waiting for %T", p, want)
	return got
}

func (c *scriptedConn) send(p packets.Packet) {
	c.t.Helper()
	_, err := p.WriteTo(c.Conn)
	require.NoError(c.t, err)
}

func (c *scriptedConn) connect(present bool) *packets.Connect {
	c.t.Helper()
	p := expect[*packets.Connect](c)
	c.send(&packets.Connack{SessionPresent: present, Properties: &packets.Properties{}})
	return p
}

// suback grants what is asked for.
func (c *scriptedConn) suback() *packets.Subscribe {
	c.t.Helper()
	s := expect[*packets.Subscribe](c)
	answer := &packets.Suback{PacketID: s.PacketID, Properties: &packets.Properties{}}
	for _, sub := range s.Subscriptions {
		answer.Reasons = append(answer.Reasons, sub.QoS)
	}
	c.send(answer)
	return s
}

// publish sends a message with the id as payload.
func (c *scriptedConn) publish(id uint16, qos byte, duplicate bool) {
	c.t.Helper()
	c.publishText(id, qos, duplicate, fmt.Sprint(id))
}

func (c *scriptedConn) publishText(id uint16, qos byte, duplicate bool, text string) {
	c.t.Helper()
	c.send(&packets.Publish{
		Topic: "t", Payload: []byte(text), PacketID: id, QoS: qos, Duplicate: duplicate,
		Properties: &packets.Properties{},
	})
}

// quiet makes sure that the client has nothing to say: the next thing that
// comes from it is the answer to a PUBREL that it always answers.
func (c *scriptedConn) quiet() {
	c.t.Helper()
	c.send(&packets.Pubrel{PacketID: 60000, Properties: &packets.Properties{}})
	p := expect[*packets.Pubcomp](c)
	require.Equal(c.t, uint16(60000), p.PacketID)
}

func (c *scriptedConn) pubacks(ids ...uint16) {
	c.t.Helper()
	for _, id := range ids {
		require.Equal(c.t, id, expect[*packets.Puback](c).PacketID)
	}
}

// testInput makes an input and closes it at the end.
func testInput(t *testing.T, b *scriptedBroker, yaml string) *input {
	t.Helper()
	if !strings.Contains(yaml, "batching:") {
		yaml += "\nbatching: { count: 1 }"
	}
	conf, err := inputConfig().ParseYAML(fmt.Sprintf(`
urls: [ %q ]
topics: [ t ]
client_id: %q
qos: 2
connect_timeout: 10s
reconnect: { min_interval: 1ms, max_interval: 2ms }
`, b.url(), t.Name())+yaml, nil)
	require.NoError(t, err)
	in, err := inputFromParsed(conf, service.MockResources())
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		require.NoError(t, in.Close(ctx))
	})
	return in
}

// connecting calls Connect until it succeeds.
func connecting(t *testing.T, in *input) <-chan struct{} {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for t.Context().Err() == nil && in.Connect(t.Context()) != nil {
		}
	}()
	return done
}

func wait(t *testing.T, done <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(deadline):
		require.FailNow(t, "timeout", "waiting for %s", what)
	}
}

// readOne reads a batch and gives its payloads as text.
func readOne(t *testing.T, in *input) ([]string, service.AckFunc) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	for {
		batch, ack, err := in.ReadBatch(ctx)
		if errors.Is(err, service.ErrNotConnected) {
			require.NoError(t, in.Connect(ctx), "connecting again")
			continue
		}
		require.NoError(t, err, "waiting for a message")
		var texts []string
		for _, m := range batch {
			b, err := m.AsBytes()
			require.NoError(t, err)
			texts = append(texts, string(b))
		}
		return texts, ack
	}
}
