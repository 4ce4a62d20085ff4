// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package mqtt5

import (
	"errors"
	"hash/maphash"
	"sync"
	"time"
)

// inbound is a message that came in and was not acknowledged yet. One of
// QoS 0 has no use for its delivery.
type inbound struct {
	publish
	delivery
	at     time.Time // when it was read from the connection
	replay bool      // a retained message that came because of a reconnect
}

// inboxLimits bounds what lies in the process.
type inboxLimits struct {
	// inFlight bounds the messages of QoS 1 and 2 that the pipeline is not done
	// with. The broker keeps to it as the receive maximum of one connection;
	// here it also holds for what is left of connections that were lost.
	inFlight int
	// qos0 bounds the messages of QoS 0 that wait to be read.
	qos0 int
	// bytes bounds the payloads of all messages that the pipeline is not done
	// with, but for a single one that is larger.
	bytes int
	// dropQoS0 drops messages of QoS 0 above that; else reading stops.
	dropQoS0 bool
}

// inbox holds messages between the connection, which fills it, the reader,
// who takes them in batches, and the pipeline, which finishes them.
type inbox struct {
	limits inboxLimits
	seed   maphash.Seed

	// ackMu makes the acknowledgements of concurrent callers leave in the order
	// in which they were taken from the tracker. It is locked before mu.
	ackMu  sync.Mutex
	ackBuf []byte

	mu      sync.Mutex
	tracker *tracker
	conn    ackWriter // nil while there is no connection
	queue   []*inbound
	head    int           // of queue
	qos0    int           // messages of QoS 0 in queue
	bytes   int           // of payloads that the pipeline is not done with
	wanted  int           // signal ready at that many messages, 0 for never
	ready   chan struct{} // one slot
	space   sync.Cond     // there may be room again, or the connection has ended
	counts  inboxCounts
}

// ackWriter is a connection as the inbox needs it.
type ackWriter interface {
	// writeAcks sends whole packets. After an error the connection is of no use.
	writeAcks(packets []byte) error
	// paused is told when reading stops for want of room, and when it goes on.
	paused(bool)
	ended() bool
}

// inboxCounts is what happened since it was asked for.
type inboxCounts struct {
	redelivered, known, dropped, acksHeld int64
}

func newInbox(limits inboxLimits) *inbox {
	in := &inbox{
		limits:  limits,
		seed:    maphash.MakeSeed(),
		tracker: newTracker(),
		ready:   make(chan struct{}, 1),
	}
	in.space.L = &in.mu
	return in
}

var errConnEnded = errors.New("connection has ended")

// connected makes c the connection that acknowledgements go to.
func (in *inbox) connected(c ackWriter, sessionPresent bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.conn = c
	in.tracker.connected(sessionPresent)
	in.space.Broadcast()
}

// disconnected is to be called when c has ended, at least once.
func (in *inbox) disconnected(c ackWriter) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.conn == c {
		in.conn = nil
		in.tracker.disconnected()
	}
	in.space.Broadcast()
}

// arrived takes in a message that came by c. It waits while there is no room
// for it.
func (in *inbox) arrived(c ackWriter, p publish, at time.Time, replay bool) error {
	var sum uint64
	if p.qos > 0 {
		sum = in.sum(p)
	}

	in.mu.Lock()
	if p.qos > 0 {
		if p.duplicate {
			in.counts.redelivered++
		}
		if a := in.tracker.look(p.id, p.qos, p.duplicate, sum); a != arrivedNew {
			in.counts.known++
			in.tracker.again(p.id, a)
			in.mu.Unlock()
			return in.flush()
		}
	}
	if p.qos == 0 && in.limits.dropQoS0 && !in.hasRoom(p) {
		in.counts.dropped++
		in.mu.Unlock()
		return nil
	}
	defer in.mu.Unlock()
	if !in.hasRoom(p) {
		c.paused(true)
		defer c.paused(false)
		for !in.hasRoom(p) {
			if in.conn != c || c.ended() {
				break
			}
			in.space.Wait()
		}
	}
	// A message of an ended connection has no place in any order. The broker
	// sends it again, but not one of QoS 0.
	if in.conn != c || !in.hasRoom(p) {
		if p.qos == 0 {
			in.counts.dropped++
		}
		return errConnEnded
	}
	m := &inbound{publish: p, at: at, replay: replay}
	if p.qos > 0 {
		m.delivery = delivery{id: p.id, qos: p.qos, sum: sum}
		in.tracker.add(&m.delivery)
	} else {
		in.qos0++
	}
	in.push(m)
	return nil
}

// refused takes in a message that is not handed over, to be acknowledged with
// a reason code in its turn.
func (in *inbox) refused(c ackWriter, id uint16, qos, code byte) error {
	in.mu.Lock()
	if in.conn != c {
		in.mu.Unlock()
		return errConnEnded
	}
	in.tracker.add(&delivery{id: id, qos: qos, code: code, finished: true})
	in.mu.Unlock()
	return in.flush()
}

func (in *inbox) sum(p publish) uint64 {
	var h maphash.Hash
	h.SetSeed(in.seed)
	_, _ = h.Write(p.topic)
	_ = h.WriteByte(0)
	_, _ = h.Write(p.payload)
	return h.Sum64()
}

func (in *inbox) hasRoom(p publish) bool {
	if in.bytes > 0 && in.bytes+len(p.payload) > in.limits.bytes {
		return false
	}
	if p.qos == 0 {
		return in.qos0 < in.limits.qos0
	}
	return in.tracker.unfinished < in.limits.inFlight
}

func (in *inbox) push(m *inbound) {
	if in.head > 64 && in.head > len(in.queue)/2 {
		n := copy(in.queue, in.queue[in.head:])
		clear(in.queue[n:])
		in.queue, in.head = in.queue[:n], 0
	}
	in.queue = append(in.queue, m)
	in.bytes += len(m.payload)
	if in.wanted > 0 && len(in.queue)-in.head >= in.wanted {
		in.wanted = 0
		select {
		case in.ready <- struct{}{}:
		default:
		}
	}
}

// take removes up to count messages, and no more than it takes to reach size
// bytes of payload, and appends them to batch.
func (in *inbox) take(batch []*inbound, count, size int) []*inbound {
	in.mu.Lock()
	defer in.mu.Unlock()
	bytes := 0
	for _, m := range batch {
		bytes += len(m.payload)
	}
	qos0 := in.qos0
	for len(batch) < count && in.head < len(in.queue) && (bytes < size || len(batch) == 0) {
		m := in.queue[in.head]
		in.queue[in.head] = nil
		in.head++
		if m.publish.qos == 0 {
			in.qos0--
		}
		bytes += len(m.payload)
		batch = append(batch, m)
	}
	if in.head == len(in.queue) {
		in.queue, in.head = in.queue[:0], 0
	}
	if in.qos0 < qos0 {
		in.space.Broadcast()
	}
	return batch
}

// await makes ready signal once that many messages are waiting, which may be
// at once. A signal may be stale: look again.
func (in *inbox) await(count int) <-chan struct{} {
	in.mu.Lock()
	defer in.mu.Unlock()
	select {
	case <-in.ready:
	default:
	}
	if len(in.queue)-in.head >= count {
		in.ready <- struct{}{}
		in.wanted = 0
	} else {
		in.wanted = count
	}
	return in.ready
}

// finish notes that the pipeline is done with messages and sends what
// acknowledgements are due.
func (in *inbox) finish(batch []*inbound, code byte) error {
	in.mu.Lock()
	acks := false
	for _, m := range batch {
		in.bytes -= len(m.payload)
		m.topic, m.payload, m.props = nil, nil, nil // the tracker may keep m for long
		if m.publish.qos == 0 {
			continue
		}
		if in.tracker.finish(&m.delivery, code) {
			acks = true
		} else {
			in.counts.acksHeld++
		}
	}
	in.space.Broadcast()
	in.mu.Unlock()
	if !acks {
		return nil
	}
	return in.flush()
}

// flush sends what acknowledgements are due.
func (in *inbox) flush() error {
	in.ackMu.Lock()
	defer in.ackMu.Unlock()

	in.mu.Lock()
	in.ackBuf = in.tracker.appendAcks(in.ackBuf[:0])
	c := in.conn
	in.mu.Unlock()
	if len(in.ackBuf) == 0 || c == nil {
		return nil
	}
	return in.write(c)
}

// write sends what is in ackBuf. The caller holds ackMu.
func (in *inbox) write(c ackWriter) error {
	err := c.writeAcks(in.ackBuf)
	if err != nil {
		// A reader that waits for room would not notice that its connection is gone.
		in.disconnected(c)
	}
	return err
}

// release completes a message of QoS 2 at the broker's word, PUBREL.
func (in *inbox) release(c ackWriter, id uint16) error {
	in.ackMu.Lock()
	defer in.ackMu.Unlock()

	in.mu.Lock()
	if in.conn != c {
		in.mu.Unlock()
		return errConnEnded
	}
	in.tracker.release(id)
	in.mu.Unlock()
	in.ackBuf = appendAck(in.ackBuf[:0], typePubcomp, id, 0)
	return in.write(c)
}

// abandon empties the queue and says how many messages of QoS 0 were in it.
func (in *inbox) abandon() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	left := in.qos0
	clear(in.queue)
	in.queue, in.head, in.qos0 = nil, 0, 0
	return left
}

// inboxState is what is in the process now.
type inboxState struct {
	inboxCounts
	inFlight int // messages of QoS 1 and 2 that the broker waits for
	queued   int // messages that wait to be read
}

// state reports, and begins counting anew.
func (in *inbox) state() inboxState {
	in.mu.Lock()
	defer in.mu.Unlock()
	s := inboxState{in.counts, in.tracker.unacknowledged(), len(in.queue) - in.head}
	in.counts = inboxCounts{}
	return s
}
