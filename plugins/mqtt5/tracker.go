// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package mqtt5

// delivery is one message of QoS 1 or 2 on its way through this process.
type delivery struct {
	sum      uint64 // of topic and payload, to know a redelivery by
	id       uint16
	qos      byte
	code     byte // reason code to acknowledge with, 0 for success
	finished bool // the pipeline is done with it
	current  bool // it arrived, or arrived again, on the present connection
}

// tracker decides which message of QoS 1 and 2 is new, and which one may be
// acknowledged when. It is the client's side of the session state (MQTT 5.0,
// section 4.1) for messages from the broker. It is not safe for concurrent use.
//
// A message has a place in the order of the connection that it came by, and is
// acknowledged there once it and all before it are finished, because the
// protocol wants acknowledgements in order of arrival (MQTT-4.6.0-2). When the
// connection is lost those places are worth nothing. The message stays known by
// its packet identifier: the broker cannot give that to another message of the
// session before it was acknowledged. So when it comes again with the duplicate
// flag set, it is not handed over again but takes a place in the order of the
// new connection.
type tracker struct {
	byID  map[uint16]*delivery // received, not acknowledged
	order []*delivery          // of the present connection, not acknowledged, by arrival
	head  int                  // of order

	// released holds the messages of QoS 2 that were acknowledged by PUBREC and
	// not completed by PUBREL yet. Theirs is the second half of exactly once:
	// a PUBLISH that comes again was delivered, and only gets its PUBREC again.
	released map[uint16]struct{}

	unfinished int // deliveries that the pipeline is not done with, of all connections
}

func newTracker() *tracker {
	return &tracker{byID: map[uint16]*delivery{}, released: map[uint16]struct{}{}}
}

// connected begins a connection. If the broker did not keep the session,
// packet identifiers mean nothing any more.
func (t *tracker) connected(sessionPresent bool) {
	t.disconnected()
	if !sessionPresent {
		clear(t.byID)
		clear(t.released)
	}
}

// disconnected ends a connection: nothing can be acknowledged until the
// messages arrive again.
func (t *tracker) disconnected() {
	for _, d := range t.order[t.head:] {
		d.current = false
	}
	clear(t.order)
	t.order, t.head = t.order[:0], 0
}

// arrival says what a PUBLISH of QoS 1 or 2 is.
type arrival byte

const (
	arrivedNew      arrival = iota // to be handed over as d
	arrivedKnown                   // another copy of it is on its way through this process
	arrivedReleased                // it was delivered and acknowledged; only PUBREC is due again
)

// look says what a PUBLISH is without changing anything.
func (t *tracker) look(id uint16, qos byte, duplicate bool, sum uint64) arrival {
	if !duplicate {
		return arrivedNew
	}
	if d := t.byID[id]; d != nil && d.qos == qos && d.sum == sum {
		return arrivedKnown
	}
	if _, ok := t.released[id]; ok && qos == 2 {
		return arrivedReleased
	}
	return arrivedNew
}

// add takes in a new message.
func (t *tracker) add(d *delivery) {
	delete(t.released, d.id)
	d.current = true
	t.byID[d.id] = d
	t.push(d)
	if !d.finished {
		t.unfinished++
	}
}

// again takes in a message that look found to be known or released.
func (t *tracker) again(id uint16, a arrival) {
	switch a {
	case arrivedKnown:
		if d := t.byID[id]; !d.current {
			d.current = true
			t.push(d)
		}
	case arrivedReleased:
		t.push(&delivery{id: id, qos: 2, finished: true, current: true})
	}
}

func (t *tracker) push(d *delivery) {
	if t.head > 64 && t.head > len(t.order)/2 {
		n := copy(t.order, t.order[t.head:])
		clear(t.order[n:])
		t.order, t.head = t.order[:n], 0
	}
	t.order = append(t.order, d)
}

// finish notes that the pipeline is done with a message. It returns false if
// there is no connection on which to acknowledge it.
func (t *tracker) finish(d *delivery, code byte) bool {
	if !d.finished {
		d.finished = true
		d.code = code
		t.unfinished--
	}
	return d.current
}

// appendAcks appends the acknowledgements that are due, in order.
func (t *tracker) appendAcks(b []byte) []byte {
	for t.head < len(t.order) && t.order[t.head].finished {
		d := t.order[t.head]
		t.order[t.head] = nil
		t.head++
		// A broker that used the identifier of an unacknowledged message for
		// another one waits for one acknowledgement, not two.
		if known := t.byID[d.id]; known == d {
			delete(t.byID, d.id)
		} else if known != nil {
			continue
		}
		if d.qos == 1 {
			b = appendAck(b, typePuback, d.id, d.code)
			continue
		}
		b = appendAck(b, typePubrec, d.id, d.code)
		if d.code < 0x80 {
			t.released[d.id] = struct{}{}
		}
	}
	if t.head == len(t.order) {
		t.order, t.head = t.order[:0], 0
	}
	return b
}

// release completes a message of QoS 2.
func (t *tracker) release(id uint16) {
	delete(t.released, id)
}

// unacknowledged is how many messages the broker counts as in flight on this
// connection.
func (t *tracker) unacknowledged() int {
	return len(t.order) - t.head + len(t.released)
}
