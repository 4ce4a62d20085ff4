// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package mqtt5

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestTrackerAgainstABroker plays a broker with a session, a client with a
// pipeline that finishes in any order, and connections that break at any
// moment, and checks what the protocol and the guarantees demand.
func TestTrackerAgainstABroker(t *testing.T) {
	for seed := range uint64(300) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { playTracker(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

// sent is a message at the broker.
type sent struct {
	id       uint16
	qos      byte
	sum      uint64
	released bool // PUBREC came
}

func playTracker(t *testing.T, r *rand.Rand) {
	tr := newTracker()
	tr.connected(false)

	var session []*sent          // what the broker waits for, in the order of first sending
	var arrivals []*sent         // of this connection, not acknowledged, in order
	handed := map[uint64]int{}   // by sum: how often it was handed over
	finished := map[uint64]int{} // and how often finished
	qos := map[uint64]byte{}
	var pipeline []*delivery
	nextSum := uint64(0)

	freeID := func() uint16 {
		for {
			id := uint16(r.IntN(20) + 1)
			used := false
			for _, s := range session {
				used = used || s.id == id
			}
			if !used {
				return id
			}
		}
	}
	arrive := func(s *sent, duplicate bool) {
		arrivals = append(arrivals, s)
		a := tr.look(s.id, s.qos, duplicate, s.sum)
		if a != arrivedNew {
			tr.again(s.id, a)
			return
		}
		handed[s.sum]++
		d := &delivery{id: s.id, qos: s.qos, sum: s.sum}
		tr.add(d)
		pipeline = append(pipeline, d)
	}
	// acks gives the acknowledgements that are due to the broker, which gets each
	// of them or, if it breaks the connection, none of the rest.
	acks := func(lost bool) {
		b := tr.appendAcks(nil)
		for ; len(b) > 0; b = b[4:] {
			require.NotEmpty(t, arrivals, "acknowledged what did not arrive")
			s := arrivals[0]
			arrivals = arrivals[1:]
			require.Equal(t, s.id, uint16(b[2])<<8|uint16(b[3]), "out of order")
			require.Positive(t, finished[s.sum], "acknowledged before it was delivered")
			require.Equal(t, map[byte]byte{1: typePuback, 2: typePubrec}[s.qos], b[0]>>4)
			if lost {
				continue
			}
			if s.qos == 2 {
				s.released = true
				continue
			}
			session = remove(session, s)
		}
	}
	for range 400 {
		switch n := r.IntN(20); {
		case n < 8 && len(session) < 15:
			nextSum++
			s := &sent{id: freeID(), qos: byte(r.IntN(2) + 1), sum: nextSum}
			qos[s.sum] = s.qos
			session = append(session, s)
			arrive(s, false)
		case n < 15 && len(pipeline) > 0:
			i := r.IntN(len(pipeline))
			d := pipeline[i]
			pipeline = append(pipeline[:i], pipeline[i+1:]...)
			tr.finish(d, 0)
			finished[d.sum]++
			acks(r.IntN(10) == 0)
		case n < 18:
			for _, s := range session {
				if s.released {
					tr.release(s.id) // and PUBCOMP, which always arrives here
					session = remove(session, s)
					break
				}
			}
		case n == 19:
			// The connection breaks; the broker sends everything again, in order.
			tr.disconnected()
			if r.IntN(2) == 0 {
				for len(pipeline) > 0 && r.IntN(3) > 0 {
					require.False(t, tr.finish(pipeline[0], 0), "nothing can be acknowledged")
					finished[pipeline[0].sum]++
					pipeline = pipeline[1:]
				}
				require.Empty(t, tr.appendAcks(nil))
			}
			tr.connected(true)
			arrivals = nil
			for _, s := range session {
				if !s.released {
					arrive(s, true)
				}
			}
			acks(false)
		}
	}
	for _, d := range pipeline {
		tr.finish(d, 0)
		finished[d.sum]++
	}
	acks(false)
	assert.Empty(t, arrivals, "delivered and never acknowledged")
	assert.Zero(t, tr.unfinished)
	for sum := range nextSum {
		sum++
		require.Positive(t, handed[sum], "message %d was never handed over", sum)
		if qos[sum] == 2 {
			require.Equal(t, 1, handed[sum], "message %d of QoS 2 was handed over twice", sum)
		}
	}
}

func remove(list []*sent, s *sent) []*sent {
	for i := range list {
		if list[i] == s {
			return append(list[:i:i], list[i+1:]...)
		}
	}
	return list
}

func TestTrackerForgetsAtASessionsEnd(t *testing.T) {
	tr := newTracker()
	tr.connected(false)
	a, b := &delivery{id: 1, qos: 1}, &delivery{id: 2, qos: 2, finished: true}
	tr.add(a)
	tr.add(b)
	tr.connected(false)
	assert.Equal(t, arrivedNew, tr.look(1, 1, true, 0))
	assert.False(t, tr.finish(a, 0))
	assert.Empty(t, tr.appendAcks(nil))
	assert.Zero(t, tr.unacknowledged())
	assert.Zero(t, tr.unfinished)
}

func TestTrackerKeepsItsMemory(t *testing.T) {
	tr := newTracker()
	tr.connected(false)
	first := &delivery{id: 1, qos: 1}
	tr.add(first)
	for n := range 100_000 {
		d := &delivery{id: uint16(n%1000 + 2), qos: 1}
		tr.add(d)
		tr.finish(d, 0)
		if n%1000 == 999 {
			tr.finish(first, 0)
			require.Len(t, tr.appendAcks(nil), 4*1001)
			first = &delivery{id: 1, qos: 1}
			tr.add(first)
		}
	}
	assert.LessOrEqual(t, cap(tr.order), 4096)
	assert.LessOrEqual(t, len(tr.byID), 1001)
}

func BenchmarkInbox(b *testing.B) {
	in := newInbox(inboxLimits{inFlight: 1000, qos0: 1000, bytes: 1 << 20})
	c := &nullConn{}
	in.connected(c, false)
	p := publish{topic: []byte("devices/c1/gps"), payload: make([]byte, 200), qos: 1}
	batch := make([]*inbound, 0, 100)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		p.id = uint16(n%60000 + 1)
		if err := in.arrived(c, p, epoch, false); err != nil {
			b.Fatal(err)
		}
		if n%100 == 99 {
			batch = in.take(batch[:0], 100, 1<<20)
			if err := in.finish(batch, 0); err != nil {
				b.Fatal(err)
			}
		}
	}
}

type nullConn struct{}

func (*nullConn) writeAcks([]byte) error { return nil }
func (*nullConn) paused(bool)            {}
func (*nullConn) ended() bool            { return false }
