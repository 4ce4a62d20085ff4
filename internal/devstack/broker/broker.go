// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

// Package broker is the MQTT broker of the development stack: MQTT 3.1.1 and 5
// in this process, open to everyone who can reach it, sessions in memory only.
// Packets are decoded by mochi-mqtt's codec.
//
// It loses nothing while it runs. A message of QoS 1 or 2 is acknowledged to
// its publisher once every session that it is for holds it, and a session holds
// it until its client has acknowledged it, over any number of connections. A
// subscriber that lags therefore fills its queue, and once that is full its
// publishers are held back: their messages, of any QoS, are neither queued nor
// acknowledged until there is room, while their connections go on to answer
// pings and to take acknowledgements. The same goes for the queue of a
// persistent session whose client is away: it holds its publishers back until
// the client returns or the session expires. Refusing with reason code 0x97
// instead would need publishers that try again, and MQTT 3.1.1 cannot say it.
//
// What a subscriber does not get in spite of that: messages that expired, those
// larger than the packets it takes, QoS 0 while it is away, and what is left in
// a session when it ends.
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
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// MaximumPacketSize in bytes; a client that sends more is disconnected.
const MaximumPacketSize = 1 << 20

const (
	// queueMessages and queueBytes bound what waits for one subscriber.
	queueMessages = math.MaxUint16
	queueBytes    = 64 << 20

	// receiveMaximum is how many messages of QoS 1 and 2 an MQTT 5 client may
	// have under way to the broker.
	receiveMaximum = 1024
	// heldBytes is what may be held of one publisher until its connection is no
	// longer read: MQTT 3.1.1 and QoS 0 know no receive maximum.
	heldBytes = 1 << 20
	// batchBytes and batchMessages bound what is written to a client at once.
	batchBytes    = 64 << 10
	batchMessages = 256

	connectTimeout = 10 * time.Second       // for the first packet of a connection
	goodbyeTimeout = time.Second            // for the last one
	acceptPause    = 100 * time.Millisecond // after an error
	pollPause      = 5 * time.Millisecond   // between two looks of Drain
)

// Broker is a running MQTT broker.
type Broker struct {
	log           *slog.Logger
	listener      net.Listener
	maxQueue      int
	maxQueueBytes int
	running       sync.WaitGroup

	// mu guards all that follows, and all sessions and connections. Nobody
	// waits for the network with it.
	mu       sync.Mutex
	room     *sync.Cond // signals held publishers: a queue has room again
	sessions map[string]*session
	conns    map[*conn]struct{}
	filters  node
	retained map[string]*message
	refusing bool
	closed   bool

	seq     uint64   // of deliveries
	mark    uint64   // of publishes
	nodes   []*node  // scratch
	targets []target // scratch

	queued     int64
	held       int64
	received   int64
	sent       int64
	dropped    int64
	accepted   int64
	unmatched  int64
	cleared    int64
	subscribed int
}

// target is a session that gets a message.
type target struct {
	session     *session
	identifiers []int
	share       *share
	qos         byte
	retain      bool
}

// Counters of a broker since its start.
type Counters struct {
	Received  int64 // messages that clients published, whether taken or not
	Sent      int64 // messages sent to subscribers, again after a lost connection included
	Dropped   int64 // messages that expired before a subscriber got them, or that were too large for it
	Clients   int64 // connected now
	Retained  int64 // retained messages kept now
	Accepted  int64 // messages taken for which there was a subscription
	Unmatched int64 // messages taken that nobody had subscribed to
	Cleared   int64 // empty retained messages, MQTT's way to delete one; not in Accepted
	Queued    int64 // messages that wait for a subscriber or its acknowledgement now, over all sessions
	Held      int64 // clients now held back, because a subscriber of theirs has a full queue
}

// Option changes a setting of a broker.
type Option func(*Broker)

// QueueLimit bounds what waits for one subscriber or its acknowledgement, in
// messages and in bytes of topic and payload; both at least 1, by default
// 65,535 and 64 MiB. Publishers are held back there; the message that reaches
// the bytes is still taken. Retained messages that a new subscription asks for,
// wills, and what the other members of a shared subscription leave behind may
// exceed it.
func QueueLimit(messages, bytes int) Option {
	return func(b *Broker) { b.maxQueue, b.maxQueueBytes = max(messages, 1), max(bytes, 1) }
}

// Start serves MQTT on a listener, which it owns from now on.
func Start(listener net.Listener, logger *slog.Logger, options ...Option) (*Broker, error) {
	if listener == nil {
		return nil, errors.New("starting the MQTT broker: no listener")
	}
	b := &Broker{
		log: logger, listener: listener, maxQueue: queueMessages, maxQueueBytes: queueBytes,
		sessions: make(map[string]*session), conns: make(map[*conn]struct{}), retained: make(map[string]*message),
	}
	for _, option := range options {
		option(b)
	}
	b.room = sync.NewCond(&b.mu)
	b.running.Go(b.accept)
	return b, nil
}

// Addr is the address that the broker listens on.
func (b *Broker) Addr() net.Addr { return b.listener.Addr() }

// Counters since the start.
func (b *Broker) Counters() Counters {
	b.mu.Lock()
	defer b.mu.Unlock()
	clients := int64(0)
	for _, s := range b.sessions {
		if s.conn != nil {
			clients++
		}
	}
	return Counters{
		Received: b.received, Sent: b.sent, Dropped: b.dropped, Clients: clients, Retained: int64(len(b.retained)),
		Accepted: b.accepted, Unmatched: b.unmatched, Cleared: b.cleared, Queued: b.queued, Held: b.held,
	}
}

// Subscribed is how often clients have subscribed to something. It counts
// whole requests, however many topic filters they had, when all of them are in
// force.
func (b *Broker) Subscribed() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.subscribed
}

// Refuse makes the broker take no more messages: publishes are not
// acknowledged, so that their senders still have them, and new clients are
// turned away. Subscribers go on to receive what was taken before.
func (b *Broker) Refuse() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refusing = true
	b.room.Broadcast()
}

// Drain waits until connected subscribers have acknowledged every message that
// was taken for them.
func (b *Broker) Drain(ctx context.Context) error {
	tick := time.NewTicker(pollPause)
	defer tick.Stop()
	for {
		left := b.undelivered()
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

// undelivered is how many messages wait for connected subscribers.
func (b *Broker) undelivered() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.sessions {
		if s.conn != nil {
			n += s.count
		}
	}
	return n
}

// Close disconnects all clients and stops the broker.
func (b *Broker) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	for c := range b.conns {
		c.close(packets.ErrServerShuttingDown)
	}
	b.mu.Unlock()
	err := b.listener.Close()
	b.running.Wait()
	if err != nil && !errors.Is(err, net.ErrClosed) { // its maker may have closed it, too
		return fmt.Errorf("closing the MQTT listener %s: %w", b.Addr(), err)
	}
	return nil
}

// accept serves clients until the broker is closed.
func (b *Broker) accept() {
	for {
		client, err := b.listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			b.log.Warn("accepting an MQTT client", "error", err)
			time.Sleep(acceptPause)
			continue
		}
		c := newConn(b, client)
		b.mu.Lock()
		closed := b.closed
		if !closed {
			b.conns[c] = struct{}{}
			b.running.Go(c.serve)
		}
		b.mu.Unlock()
		if closed {
			_ = client.Close()
		}
	}
}

// publish queues a message for everyone who subscribed to its topic, all or
// nobody: false says that one of them has no room. Forced, it does not ask.
func (b *Broker) publish(from *session, m *message, forced bool) bool {
	b.mark++
	b.targets = b.targets[:0]
	b.nodes = b.filters.match(m.topic, true, b.nodes[:0])
	matched := false
	for _, n := range b.nodes {
		for s, sub := range n.subs {
			matched = true
			if sub.noLocal && s == from {
				continue
			}
			b.aim(m, sub)
		}
	}
	kept := b.targets[:0]
	for _, t := range b.targets {
		switch {
		case t.qos == 0 && t.session.conn == nil:
		case !forced && !t.session.room():
			return false
		default:
			kept = append(kept, t)
		}
	}
	b.targets = kept
	for _, n := range b.nodes {
		for _, group := range n.shares {
			matched = true
			member, wait := group.pick(m.qos)
			if wait && !forced {
				return false
			}
			if wait {
				member = group.heir(nil, false)
			}
			if member != nil {
				t := target{session: member.session, share: group, qos: min(m.qos, member.qos), retain: m.retain && member.retainAsPublished}
				if member.identifier > 0 {
					t.identifiers = []int{member.identifier}
				}
				b.targets = append(b.targets, t)
			}
		}
	}
	for _, t := range b.targets {
		t.session.put(&delivery{message: m, identifiers: t.identifiers, share: t.share, qos: t.qos, retain: t.retain})
	}
	cleared := m.retain && len(m.payload) == 0
	if cleared {
		delete(b.retained, m.topic)
	} else if m.retain {
		b.retained[m.topic] = m
	}
	switch {
	case strings.HasPrefix(m.topic, "$"):
	case cleared:
		b.cleared++
	case matched:
		b.accepted++
	default:
		b.unmatched++
	}
	return true
}

// aim adds the session of a subscription to the targets, once for all its
// filters that match, with the highest QoS among them.
func (b *Broker) aim(m *message, sub *subscription) {
	s, qos := sub.session, min(m.qos, sub.qos)
	if s.mark != b.mark {
		s.mark, s.index = b.mark, len(b.targets)
		b.targets = append(b.targets, target{session: s})
	}
	t := &b.targets[s.index]
	t.qos = max(t.qos, qos)
	t.retain = t.retain || m.retain && sub.retainAsPublished
	if sub.identifier > 0 {
		t.identifiers = append(t.identifiers, sub.identifier)
	}
}
