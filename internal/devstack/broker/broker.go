// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

// Package broker is the MQTT broker of the development stack: mochi-mqtt in
// this process, MQTT 3.1.1 and 5, open to everyone who can reach it, sessions
// in memory only.
//
// It is no proof of what a pipeline loses or keeps. mochi-mqtt 2.7.9 stalls or
// drops QoS 1 messages when a subscriber lags: a message that it deferred never
// gives its share of the receive maximum back, and a full queue drops. The
// limits here are set so high that a herd on one machine does not get there.
package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
)

// MaximumPacketSize in bytes; a client that sends more is disconnected.
const MaximumPacketSize = 1 << 20

// pollPause is how long Drain waits between two looks at what is in flight.
const pollPause = 5 * time.Millisecond

// Broker is a running MQTT broker.
type Broker struct {
	server *mqtt.Server
	addr   net.Addr
	gate   gate
	stop   sync.Once
}

// Counters of a broker since its start.
type Counters struct {
	Received  int64 // messages that clients published, whether taken or not
	Sent      int64 // messages sent to subscribers
	Dropped   int64 // messages that a subscriber did not get because it lagged
	Clients   int64 // connected now
	Retained  int64 // retained messages kept now
	Accepted  int64 // messages taken for which there was a subscription
	Unmatched int64 // messages taken that nobody had subscribed to
	Cleared   int64 // empty retained messages, MQTT's way to delete one; not in Accepted
}

// Start serves MQTT on a listener, which it owns from now on.
func Start(listener net.Listener, logger *slog.Logger) (*Broker, error) {
	limits := mqtt.NewDefaultServerCapabilities()
	limits.MaximumPacketSize = MaximumPacketSize
	limits.MaximumInflight = math.MaxUint16
	limits.ReceiveMaximum = math.MaxUint16
	limits.MaximumClientWritesPending = math.MaxUint16 // 512 KiB of queue a client

	b := &Broker{addr: listener.Addr()}
	b.server = mqtt.New(&mqtt.Options{
		Capabilities:             limits,
		ClientNetWriteBufferSize: 16 << 10,
		ClientNetReadBufferSize:  16 << 10,
		Logger:                   logger,
	})
	b.gate.topics = b.server.Topics
	for _, hook := range []mqtt.Hook{new(auth.AllowHook), &b.gate} {
		if err := b.server.AddHook(hook, nil); err != nil {
			return nil, fmt.Errorf("adding hook %s to the MQTT broker: %w", hook.ID(), err)
		}
	}
	if err := b.server.AddListener(listeners.NewNet("tcp", listener)); err != nil {
		return nil, fmt.Errorf("adding listener %s to the MQTT broker: %w", listener.Addr(), err)
	}
	if err := b.server.Serve(); err != nil {
		return nil, fmt.Errorf("serving MQTT on %s: %w", listener.Addr(), err)
	}
	return b, nil
}

// Addr is the address that the broker listens on.
func (b *Broker) Addr() net.Addr { return b.addr }

// Counters since the start.
func (b *Broker) Counters() Counters {
	info := b.server.Info
	return Counters{
		Received:  atomic.LoadInt64(&info.MessagesReceived),
		Sent:      atomic.LoadInt64(&info.MessagesSent),
		Dropped:   atomic.LoadInt64(&info.MessagesDropped) + atomic.LoadInt64(&info.InflightDropped),
		Clients:   atomic.LoadInt64(&info.ClientsConnected),
		Retained:  atomic.LoadInt64(&info.Retained),
		Accepted:  b.gate.accepted.Load(),
		Unmatched: b.gate.unmatched.Load(),
		Cleared:   b.gate.cleared.Load(),
	}
}

// Subscribed is how often clients have subscribed to something. It counts
// whole requests, however many topic filters they had, when all of them are in
// force.
func (b *Broker) Subscribed() int { return int(b.gate.subscribed.Load()) }

// Refuse makes the broker take no more messages: publishes are not
// acknowledged, so that their senders still have them, and new clients are
// turned away. Subscribers go on to receive what was taken before.
func (b *Broker) Refuse() { b.gate.closed.Store(true) }

// Drain waits until connected subscribers have acknowledged every message of
// QoS 1 and 2 that was sent to them.
func (b *Broker) Drain(ctx context.Context) error {
	tick := time.NewTicker(pollPause)
	defer tick.Stop()
	for {
		left := 0
		for _, client := range b.server.Clients.GetAll() {
			if !client.Closed() {
				left += client.State.Inflight.Len()
			}
		}
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for subscribers to acknowledge %d messages: %w", left, ctx.Err())
		case <-tick.C:
		}
	}
}

// Close disconnects all clients and stops the broker.
func (b *Broker) Close() error {
	var err error
	b.stop.Do(func() { err = b.server.Close() })
	return err
}

// gate counts what comes in, and refuses it once closed.
type gate struct {
	mqtt.HookBase
	topics    *mqtt.TopicsIndex
	closed    atomic.Bool
	accepted  atomic.Int64
	unmatched atomic.Int64
	cleared   atomic.Int64

	subscribed atomic.Int64
}

func (*gate) ID() string { return "gate" }

func (*gate) Provides(event byte) bool {
	return event == mqtt.OnConnect || event == mqtt.OnPublish || event == mqtt.OnSubscribed
}

var errStopping = errors.New("the broker is stopping")

func (g *gate) OnConnect(*mqtt.Client, packets.Packet) error {
	if g.closed.Load() {
		return errStopping
	}
	return nil
}

func (g *gate) OnSubscribed(*mqtt.Client, packets.Packet, []byte) { g.subscribed.Add(1) }

func (g *gate) OnPublish(_ *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	if g.closed.Load() {
		return pk, packets.ErrRejectPacket // dropped before it is acknowledged
	}
	switch s := g.topics.Subscribers(pk.TopicName); {
	case strings.HasPrefix(pk.TopicName, "$"):
	case pk.FixedHeader.Retain && len(pk.Payload) == 0:
		g.cleared.Add(1)
	case len(s.Subscriptions)+len(s.Shared) > 0:
		g.accepted.Add(1)
	default:
		g.unmatched.Add(1)
	}
	return pk, nil
}
