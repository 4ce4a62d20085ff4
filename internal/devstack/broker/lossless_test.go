// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/eclipse/paho.golang/packets"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dealiot/dealiot-connect/internal/devstack/broker"
)

// A subscriber with a small receive maximum that acknowledges nothing, then
// one by one, then in batches: everything arrives in order, and meanwhile the
// publisher is held back where the queue ends.
func TestSlowSubscriber(t *testing.T) {
	const n, limit, receiveMaximum = 70_000, 1000, 10
	b := start(t, broker.QueueLimit(limit, 1<<20))
	subscriber, _ := dial(t, b, "subscriber", with(persistent(receiveMaximum)))
	subscriber.subscribe(nil, packets.SubOptions{Topic: "devices/#", QoS: 1})
	publisher, _ := dial(t, b, "publisher")
	flooding := flood(publisher, "devices/cow-1/gps", 1, n)

	awaitCounters(t, b, "the publisher to be held back", held)
	c := b.Counters()
	assert.EqualValues(t, limit, c.Queued, "the queue is full")
	assert.EqualValues(t, limit, c.Accepted, "what the queue does not hold is not acknowledged")
	assert.EqualValues(t, receiveMaximum, c.Sent, "no more than the subscriber wants is sent")

	var unacknowledged []uint16
	for i := range n {
		pk, got := subscriber.message()
		require.Equal(t, i, got, "in order")
		require.False(t, pk.Duplicate)
		unacknowledged = append(unacknowledged, pk.PacketID)
		if i < n/2 || len(unacknowledged) == receiveMaximum || i == n-1 {
			for _, id := range unacknowledged {
				subscriber.puback(id)
			}
			unacknowledged = unacknowledged[:0]
		}
		if i%100 == 0 {
			require.LessOrEqual(t, b.Counters().Queued, int64(limit))
		}
	}
	finish(t, flooding)
	subscriber.sync()
	c = b.Counters()
	assert.Zero(t, c.Queued)
	assert.Zero(t, c.Held)
	assert.Zero(t, c.Dropped)
	assert.EqualValues(t, n, c.Sent)
	assert.EqualValues(t, n, c.Accepted)
}

// The bytes in a queue are bounded like the messages, and QoS 0 is held back
// like the rest.
func TestQueueBytes(t *testing.T) {
	const limit = 100_000
	for qos := range byte(3) {
		t.Run("QoS "+strconv.Itoa(int(qos)), func(t *testing.T) {
			b := start(t, broker.QueueLimit(1000, limit))
			subscriber, _ := dial(t, b, "subscriber", with(persistent(1)))
			subscriber.subscribe(nil, packets.SubOptions{Topic: "#", QoS: 1})
			publisher, _ := dial(t, b, "publisher")
			blob := make([]byte, limit/4)
			// The first is not acknowledged, so the second is in the way of the others.
			for i := range uint16(2) {
				publisher.publish("blob", 1, 1+i, 0)
				receive[*packets.Puback](publisher)
			}
			for i := range uint16(6) {
				pk := &packets.Publish{Topic: "blob", QoS: qos, Payload: blob, Properties: &packets.Properties{}}
				if qos > 0 {
					pk.PacketID = 3 + i
				}
				publisher.send(pk)
			}
			awaitCounters(t, b, "the publisher to be held back", held)
			assert.EqualValues(t, 6, b.Counters().Queued, "two, and four of a quarter each")
			for range 2 {
				small, _ := subscriber.message()
				subscriber.puback(small.PacketID)
			}
			for range 6 {
				pk := receive[*packets.Publish](subscriber)
				assert.Len(t, pk.Payload, len(blob))
				if pk.QoS > 0 {
					subscriber.puback(pk.PacketID)
				}
			}
		})
	}
}

// A client that is held back is still served: its pings are answered, and it
// can acknowledge what it has to acknowledge before there is room.
func TestHeldClientIsServed(t *testing.T) {
	const n = 1000
	b := start(t, broker.QueueLimit(10, 1<<20))
	p, _ := dial(t, b, "both", with(persistent(5)))
	p.subscribe(nil, packets.SubOptions{Topic: "self", QoS: 1})
	for i := range n {
		p.publish("self", 1, uint16(i+1), i)
	}
	awaitCounters(t, b, "the client to be held back by itself", held)
	p.send(&packets.Pingreq{})
	next, acknowledged, pong := 0, 0, false
	for next < n || acknowledged < n {
		pk, err := p.read()
		require.NoError(t, err, "after %d messages and %d acknowledgements", next, acknowledged)
		switch pk := pk.(type) {
		case *packets.Pingresp:
			pong = true
		case *packets.Puback:
			acknowledged++
			require.EqualValues(t, acknowledged, pk.PacketID)
		case *packets.Publish:
			require.Equal(t, strconv.Itoa(next), string(pk.Payload))
			next++
			p.puback(pk.PacketID)
		}
		require.True(t, pong || acknowledged <= 10, "the ping waited for the messages")
	}
	assert.True(t, pong)
}

// Connections are cut again and again, with messages unacknowledged in any
// pattern. Each time the session goes on with just those, marked as duplicates
// and in their order, and nothing is lost.
func TestCutConnections(t *testing.T) {
	const n, limit, receiveMaximum = 5000, 200, 50
	b := start(t, broker.QueueLimit(limit, 1<<20))
	random := rand.New(rand.NewPCG(1, 2))
	subscriber, present := dial(t, b, "subscriber", with(persistent(receiveMaximum)))
	require.False(t, present)
	subscriber.subscribe(nil, packets.SubOptions{Topic: "devices/#", QoS: 1})
	publisher, _ := dial(t, b, "publisher")
	flooding := flood(publisher, "devices/cow-1/gps", 1, n)

	type open struct {
		id uint16
		n  int
	}
	var unacknowledged []open
	next, redelivered := 0, 0
	handled := func() { // waits until the broker has all acknowledgements
		subscriber.send(&packets.Pingreq{})
		for {
			pk, err := subscriber.read()
			require.NoError(t, err)
			m, isMessage := pk.(*packets.Publish)
			if !isMessage {
				require.IsType(t, &packets.Pingresp{}, pk)
				return
			}
			got, err := strconv.Atoi(string(m.Payload))
			require.NoError(t, err)
			require.Equal(t, next, got)
			next++
			unacknowledged = append(unacknowledged, open{m.PacketID, got})
		}
	}
	for next < n || len(unacknowledged) > 0 {
		for range 1 + random.IntN(200) { // messages until the cut
			if len(unacknowledged) < receiveMaximum && next < n {
				pk, got := subscriber.message()
				require.Equal(t, next, got)
				next++
				unacknowledged = append(unacknowledged, open{pk.PacketID, got})
			}
			if len(unacknowledged) > 0 && random.IntN(10) > 0 {
				i := random.IntN(len(unacknowledged))
				subscriber.puback(unacknowledged[i].id)
				unacknowledged = append(unacknowledged[:i], unacknowledged[i+1:]...)
			}
		}
		handled()
		subscriber.cut()
		require.LessOrEqual(t, b.Counters().Queued, int64(limit))
		subscriber, present = dial(t, b, "subscriber", with(persistent(receiveMaximum)))
		require.True(t, present)
		for i := 0; i < len(unacknowledged); i++ {
			pk, got := subscriber.message()
			require.Equal(t, unacknowledged[i].n, got, "in order")
			require.Equal(t, unacknowledged[i].id, pk.PacketID)
			require.True(t, pk.Duplicate)
			redelivered++
		}
		handled()
	}
	finish(t, flooding)
	assert.Positive(t, redelivered)
	awaitCounters(t, b, "everything to be acknowledged", func(c broker.Counters) bool { return c.Queued == 0 })
	assert.Zero(t, b.Counters().Dropped)
}

// A client that reconnects with a smaller receive maximum gets its
// unacknowledged messages within it.
func TestSmallerReceiveMaximum(t *testing.T) {
	b := start(t)
	subscriber, _ := dial(t, b, "subscriber", with(persistent(20)))
	subscriber.subscribe(nil, packets.SubOptions{Topic: "t", QoS: 1})
	publisher, _ := dial(t, b, "publisher")
	finish(t, flood(publisher, "t", 1, 30))
	awaitCounters(t, b, "20 messages to be sent", func(c broker.Counters) bool { return c.Sent == 20 })
	subscriber.cut()
	subscriber, _ = dial(t, b, "subscriber", with(persistent(3)))
	awaitCounters(t, b, "three more to be sent", func(c broker.Counters) bool { return c.Sent == 23 })
	for i := range 30 {
		pk, got := subscriber.message()
		require.Equal(t, i, got)
		require.Equal(t, i < 20, pk.Duplicate)
		subscriber.puback(pk.PacketID)
	}
}

// What is published while a persistent session is offline waits for it; at the
// bound the publisher is held back until it returns.
func TestOfflineSession(t *testing.T) {
	const n, limit = 450, 100
	b := start(t, broker.QueueLimit(limit, 1<<20))
	subscriber, _ := dial(t, b, "subscriber", with(persistent(10)))
	subscriber.subscribe(nil, packets.SubOptions{Topic: "devices/#", QoS: 1})
	subscriber.send(&packets.Disconnect{Properties: &packets.Properties{}})
	awaitCounters(t, b, "the subscriber to be gone", func(c broker.Counters) bool { return c.Clients == 0 })

	publisher, _ := dial(t, b, "publisher")
	publisher.publish("devices/cow-1/gps", 0, 0, -1) // QoS 0 is not kept
	publisher.sync()
	flooding := flood(publisher, "devices/cow-1/gps", 1, n)
	awaitCounters(t, b, "the publisher to be held back", held)
	assert.EqualValues(t, limit, b.Counters().Queued)
	assert.EqualValues(t, limit+1, b.Counters().Accepted)

	subscriber, present := dial(t, b, "subscriber", with(persistent(10)))
	require.True(t, present)
	for i := range n {
		pk, got := subscriber.message()
		require.Equal(t, i, got)
		subscriber.puback(pk.PacketID)
	}
	finish(t, flooding)
	assert.Zero(t, b.Counters().Dropped)
}

// The end of a session lets those go who were held back by it.
func TestEndOfFullSession(t *testing.T) {
	t.Parallel()
	const limit = 10
	ends := map[string]func(t *testing.T, b *broker.Broker, subscriber *peer){
		"clean start":   func(t *testing.T, b *broker.Broker, _ *peer) { dial(t, b, "subscriber", clean) },
		"disconnection": func(_ *testing.T, _ *broker.Broker, s *peer) { s.cut() },
		"expiry": func(_ *testing.T, _ *broker.Broker, s *peer) {
			s.send(&packets.Disconnect{Properties: &packets.Properties{SessionExpiryInterval: ptr(uint32(1))}})
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			b := start(t, broker.QueueLimit(limit, 1<<20))
			session := persistent(5)
			if name == "disconnection" {
				session.SessionExpiryInterval = nil
			}
			subscriber, _ := dial(t, b, "subscriber", with(session))
			subscriber.subscribe(nil, packets.SubOptions{Topic: "t", QoS: 1})
			publisher, _ := dial(t, b, "publisher")
			flooding := flood(publisher, "t", 1, 50)
			awaitCounters(t, b, "the publisher to be held back", held)
			end(t, b, subscriber)
			finish(t, flooding)
			c := b.Counters()
			assert.Zero(t, c.Queued)
			assert.EqualValues(t, limit, c.Accepted)
			assert.EqualValues(t, 50-limit, c.Unmatched)
		})
	}
}

// What is held of a publisher that goes away was never acknowledged, and is not
// taken: its client has it still.
func TestHeldPublisherGoesAway(t *testing.T) {
	b := start(t, broker.QueueLimit(10, 1<<20))
	subscriber, _ := dial(t, b, "subscriber", with(persistent(5)))
	subscriber.subscribe(nil, packets.SubOptions{Topic: "t", QoS: 2})
	publisher, _ := dial(t, b, "publisher", with(persistent(5)))
	for i := range 20 {
		publisher.publish("t", 2, uint16(i+1), i)
	}
	for range 10 {
		receive[*packets.Pubrec](publisher)
	}
	awaitCounters(t, b, "the publisher to be held back", held)
	publisher.cut()
	awaitCounters(t, b, "the publisher to be gone", func(c broker.Counters) bool { return c.Held == 0 && c.Clients == 1 })
	assert.EqualValues(t, 10, b.Counters().Accepted)

	// It sends all of them again; those taken are not taken twice.
	publisher, present := dial(t, b, "publisher", with(persistent(5)))
	require.True(t, present)
	for i := range 20 {
		publisher.publish("t", 2, uint16(i+1), i)
	}
	for messages, releases := 0, 0; releases < 20; {
		pk, err := subscriber.read()
		require.NoError(t, err, "after %d messages", messages)
		switch pk := pk.(type) {
		case *packets.Publish:
			require.Equal(t, strconv.Itoa(messages), string(pk.Payload))
			messages++
			subscriber.send(&packets.Pubrec{PacketID: pk.PacketID, Properties: &packets.Properties{}})
		case *packets.Pubrel:
			releases++
			subscriber.send(&packets.Pubcomp{PacketID: pk.PacketID, Properties: &packets.Properties{}})
		}
	}
	for range 20 {
		receive[*packets.Pubrec](publisher)
	}
	assert.EqualValues(t, 20, b.Counters().Accepted)
}

// QoS 2 over cut connections, at any step of the handshake: each message is
// released exactly once.
func TestQoS2(t *testing.T) {
	const n, limit, receiveMaximum = 3000, 100, 20
	b := start(t, broker.QueueLimit(limit, 1<<20))
	random := rand.New(rand.NewPCG(3, 4))
	subscriber, _ := dial(t, b, "subscriber", with(persistent(receiveMaximum)))
	subscriber.subscribe(nil, packets.SubOptions{Topic: "devices/#", QoS: 2})
	publisher, _ := dial(t, b, "publisher")
	flooding := flood(publisher, "devices/cow-1/gps", 2, n)

	// What a client has to remember: numbers by packet identifier until PUBREL.
	received := make(map[uint16]int)
	seen := make([]bool, n)
	next, duplicates, releases := 0, 0, 0
	for completed := 0; completed < n; {
		if random.IntN(100) == 0 {
			subscriber.cut()
			var present bool
			subscriber, present = dial(t, b, "subscriber", with(persistent(receiveMaximum)))
			require.True(t, present)
			require.LessOrEqual(t, b.Counters().Queued, int64(limit))
		}
		pk, err := subscriber.read()
		require.NoError(t, err, "after %d messages", completed)
		switch pk := pk.(type) {
		case *packets.Publish:
			got, err := strconv.Atoi(string(pk.Payload))
			require.NoError(t, err)
			if known, again := received[pk.PacketID]; again {
				require.Equal(t, known, got)
				require.True(t, pk.Duplicate)
				duplicates++
			} else {
				require.False(t, seen[got], "message %d came a second time as a new one", got)
				require.Equal(t, next, got, "in order")
				seen[got] = true
				next++
				received[pk.PacketID] = got
			}
			if random.IntN(20) > 0 { // else the PUBREC gets lost
				subscriber.send(&packets.Pubrec{PacketID: pk.PacketID, Properties: &packets.Properties{}})
				continue
			}
			subscriber.cut()
			subscriber, _ = dial(t, b, "subscriber", with(persistent(receiveMaximum)))
		case *packets.Pubrel:
			require.Zero(t, pk.ReasonCode)
			if _, known := received[pk.PacketID]; known {
				delete(received, pk.PacketID)
				completed++
			} else {
				releases++ // its PUBCOMP got lost
			}
			if random.IntN(20) > 0 {
				subscriber.send(&packets.Pubcomp{PacketID: pk.PacketID, Properties: &packets.Properties{}})
				continue
			}
			subscriber.cut()
			subscriber, _ = dial(t, b, "subscriber", with(persistent(receiveMaximum)))
		default:
			t.Fatalf("unexpected %v", pk)
		}
	}
	finish(t, flooding)
	assert.Positive(t, duplicates)
	assert.Positive(t, releases)
	assert.EqualValues(t, n, b.Counters().Accepted)
}

// Two members of a shared subscription, one of which dies with messages
// unacknowledged and more of them waiting.
func TestSharedSubscription(t *testing.T) {
	const n, receiveMaximum = 1000, 5
	for name, c := range map[string]struct {
		session uint32
		returns func(t *testing.T, b *broker.Broker) *peer
	}{
		"and its session with it": {0, nil},
		"and returns": {3600, func(t *testing.T, b *broker.Broker) *peer {
			p, present := dial(t, b, "dies", with(persistent(receiveMaximum)))
			require.True(t, present)
			return p
		}},
		"and starts anew": {3600, func(t *testing.T, b *broker.Broker) *peer {
			dial(t, b, "dies", clean)
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t)
			session := persistent(receiveMaximum)
			session.SessionExpiryInterval = &c.session
			dies, _ := dial(t, b, "dies", with(session))
			lives, _ := dial(t, b, "lives", with(persistent(receiveMaximum)))
			for _, p := range []*peer{dies, lives} {
				p.subscribe(nil, packets.SubOptions{Topic: "$share/workers/devices/+/gps", QoS: 1})
			}
			publisher, _ := dial(t, b, "publisher")
			finish(t, flood(publisher, "devices/cow-1/gps", 1, n))
			assert.EqualValues(t, n, b.Counters().Queued, "each message is for one of them")

			seen := make([]int, n)
			atDeath := make(map[int]bool)
			for range receiveMaximum {
				_, got := dies.message()
				atDeath[got] = true
			}
			dies.cut()
			awaitCounters(t, b, "it to be gone", func(c broker.Counters) bool { return c.Clients == 2 })

			left := n
			if c.returns != nil {
				left -= receiveMaximum // wait for its return
			}
			take := func(p *peer) (duplicate bool) {
				pk, got := p.message()
				seen[got]++
				p.puback(pk.PacketID)
				return pk.Duplicate
			}
			for range left {
				require.False(t, take(lives))
			}
			lives.sync()
			if c.returns != nil {
				assert.EqualValues(t, receiveMaximum, b.Counters().Queued)
				returned := c.returns(t, b)
				for range receiveMaximum {
					if returned != nil {
						require.True(t, take(returned))
					} else {
						require.False(t, take(lives))
					}
				}
				if returned != nil {
					returned.sync()
				}
				lives.sync()
			}
			for i, times := range seen {
				require.Equal(t, 1, times, "message %d (in flight at the death: %t)", i, atDeath[i])
			}
			assert.Zero(t, b.Counters().Queued)
		})
	}
}

// The member that lags gets fewer messages; nobody is held back for good as
// long as another has room.
func TestSharedSubscriptionWithLaggard(t *testing.T) {
	const n, limit = 2000, 50
	b := start(t, broker.QueueLimit(limit, 1<<20))
	laggard, _ := dial(t, b, "laggard", with(persistent(5)))
	worker, _ := dial(t, b, "worker", with(persistent(5)))
	for _, p := range []*peer{laggard, worker} {
		p.subscribe(nil, packets.SubOptions{Topic: "$share/workers/#", QoS: 1})
	}
	publisher, _ := dial(t, b, "publisher")
	flooding := flood(publisher, "t", 1, n)
	for range n - limit { // the laggard has the rest
		pk, _ := worker.message()
		worker.puback(pk.PacketID)
	}
	finish(t, flooding)
	assert.EqualValues(t, n, b.Counters().Accepted)
}
