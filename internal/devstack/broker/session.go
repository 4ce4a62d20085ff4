// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// neverExpires is the session expiry interval of a session without end.
const neverExpires = math.MaxUint32

// delivery is a message on its way to one session.
type delivery struct {
	message     *message
	identifiers []int
	share       *share // through which it came, nil for none
	seq         uint64 // order of all deliveries
	id          uint16 // packet identifier, once in flight
	qos         byte
	retain      bool
	sent        bool // on the present connection
	released    bool // QoS 2: PUBREC came, PUBCOMP is due
}

// session is what the broker keeps of a client, connected or not. Broker.mu
// guards it.
//
// A delivery is waiting, then in flight until the client has acknowledged it;
// what is in flight when the connection is lost goes out again on the next one,
// first and in its old order.
type session struct {
	broker   *Broker
	id       string
	conn     *conn // nil while offline
	expiry   uint32
	epoch    int // counts connections, for timers of earlier ones
	will     *message
	subs     map[string]*subscription
	received map[uint16]struct{} // QoS 2 messages of the client's, taken and not yet released

	waiting fifo
	again   []*delivery // in flight, to be sent again
	flight  map[uint16]*delivery
	sent    int // in flight on the present connection: what the receive maximum limits
	lastID  uint16

	count  int // deliveries waiting and in flight
	bytes  int // of them
	full   bool
	warned bool

	mark  uint64 // the last publish that matched
	index int    // of its target
}

// room says whether another message may be queued. Once full, a queue stays so
// until a quarter of it is gone: publishers do not wake up for every single
// acknowledgement.
func (s *session) room() bool {
	if !s.full && s.count < s.broker.maxQueue && s.bytes < s.broker.maxQueueBytes {
		return true
	}
	s.full = true
	if !s.warned {
		s.warned = true
		s.broker.log.Warn("holding publishers back until a subscriber has caught up",
			"client", s.id, "connected", s.conn != nil, "messages", s.count, "bytes", s.bytes)
	}
	return false
}

// put queues a delivery.
func (s *session) put(d *delivery) {
	s.broker.seq++
	d.seq = s.broker.seq
	s.waiting.push(d)
	s.count++
	s.bytes += d.message.size()
	s.broker.queued++
	if s.conn != nil {
		s.conn.wake.Signal()
	}
}

// forget takes a delivery that has left waiting and flight off the books.
func (s *session) forget(d *delivery) {
	s.count--
	s.bytes -= d.message.size()
	s.broker.queued--
	if s.full && s.count <= s.broker.maxQueue*3/4 && s.bytes <= s.broker.maxQueueBytes*3/4 {
		s.full = false
		s.broker.room.Broadcast()
	}
	if s.count == 0 {
		s.warned = false
	}
}

// attach makes a connection the session's.
func (s *session) attach(c *conn) {
	s.conn = c
	s.epoch++
	s.will = nil
	s.sent = 0
	s.again = s.inFlight()
	for _, d := range s.again {
		d.sent = false
	}
}

// inFlight is what is in flight, in its order.
func (s *session) inFlight() []*delivery {
	list := make([]*delivery, 0, len(s.flight))
	for _, d := range s.flight {
		list = append(list, d)
	}
	slices.SortFunc(list, func(a, b *delivery) int { return cmp.Compare(a.seq, b.seq) })
	return list
}

// next gives what can be sent now, within the receive maximum of the client.
func (s *session) next(batch []outgoing, now time.Time) []outgoing {
	for bytes := 0; len(batch) < cap(batch) && bytes < batchBytes; {
		if len(s.again) > 0 {
			d := s.again[0]
			if s.flight[d.id] == d {
				if s.sent >= s.conn.receiveMaximum {
					break
				}
				d.sent = true
				s.sent++
				batch = append(batch, outgoing{
					message: d.message, identifiers: d.identifiers, id: d.id, qos: d.qos,
					retain: d.retain, dup: true, release: d.released,
				})
				bytes += d.message.size()
			}
			s.again = s.again[1:]
			continue
		}
		d := s.waiting.peek()
		if d == nil {
			break
		}
		if d.message.expired(now) {
			s.waiting.pop()
			s.forget(d)
			s.broker.dropped++
			continue
		}
		if d.qos > 0 {
			if s.sent >= s.conn.receiveMaximum {
				break
			}
			d.id = s.freeID()
			d.sent = true
			s.flight[d.id] = d
			s.sent++
		}
		s.waiting.pop()
		if d.qos == 0 {
			s.forget(d)
		}
		batch = append(batch, outgoing{
			message: d.message, identifiers: d.identifiers, id: d.id, qos: d.qos, retain: d.retain,
		})
		bytes += d.message.size()
	}
	return batch
}

// freeID gives a packet identifier that is not in flight. There is one: the
// receive maximum is no larger than their number.
func (s *session) freeID() uint16 {
	for {
		s.lastID++
		if _, used := s.flight[s.lastID]; !used && s.lastID != 0 {
			return s.lastID
		}
	}
}

// settle ends a delivery that the client has acknowledged.
func (s *session) settle(id uint16) {
	d := s.flight[id]
	if d == nil {
		return // acknowledged before
	}
	delete(s.flight, id)
	if d.sent {
		s.sent--
	}
	s.forget(d)
	if s.conn != nil {
		s.conn.wake.Signal()
	}
}

// release notes that the client has received a message of QoS 2.
func (s *session) release(id uint16) (reason byte) {
	d := s.flight[id]
	if d == nil || d.qos != 2 {
		return packets.ErrPacketIdentifierNotFound.Code
	}
	d.released = true
	return 0
}

// handOver gives what waits for an offline member of a shared subscription to
// the members that are connected.
func (s *session) handOver() {
	var kept fifo
	for d := s.waiting.pop(); d != nil; d = s.waiting.pop() {
		var heir *subscription
		if d.share != nil {
			heir = d.share.heir(s, true)
		}
		if heir == nil {
			kept.push(d)
			continue
		}
		s.forget(d)
		heir.give(d)
	}
	s.waiting = kept
}

// end deletes a session and all that it holds, except for what members of its
// shared subscriptions can take over. A message of QoS 2 that may have reached
// the client must not go to another (MQTT 5, 4.8.2).
func (s *session) end() {
	b := s.broker
	delete(b.sessions, s.id)
	s.epoch++
	for _, sub := range s.subs {
		b.filters.remove(sub)
	}
	left := s.inFlight()
	s.flight, s.again = nil, nil
	for d := s.waiting.pop(); d != nil; d = s.waiting.pop() {
		left = append(left, d)
	}
	for _, d := range left {
		s.forget(d)
		if d.share == nil || d.qos == 2 && d.id != 0 {
			continue
		}
		if heir := d.share.heir(s, false); heir != nil {
			heir.give(d)
		}
	}
	s.fireWill()
}

// give queues a delivery of another member of the same shared subscription.
func (sub *subscription) give(d *delivery) {
	heir := &delivery{message: d.message, share: d.share, qos: min(d.message.qos, sub.qos), retain: d.retain}
	if sub.identifier > 0 {
		heir.identifiers = []int{sub.identifier}
	}
	sub.session.put(heir)
}

// fireWill publishes the will of a lost connection.
func (s *session) fireWill() {
	if will := s.will; will != nil {
		s.will = nil
		s.broker.publish(s, will, true)
	}
}

// fifo is a queue of deliveries.
type fifo struct {
	items []*delivery
	head  int
}

func (q *fifo) push(d *delivery) { q.items = append(q.items, d) }

func (q *fifo) peek() *delivery {
	if q.head == len(q.items) {
		return nil
	}
	return q.items[q.head]
}

func (q *fifo) pop() *delivery {
	d := q.peek()
	if d == nil {
		return nil
	}
	q.items[q.head] = nil
	q.head++
	if q.head*2 >= len(q.items) { // moves each delivery about once
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	return d
}
