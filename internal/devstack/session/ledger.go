// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"fmt"
	"strings"
	"sync"

	"github.com/dealiot/dealiot-connect/internal/devstack/broker"
	"github.com/dealiot/dealiot-connect/internal/simulate"
)

// ledger counts what arrived in Kafka, for the account at the end.
type ledger struct {
	mu          sync.Mutex
	read        int64 // records of any topic
	events      uint64
	deadLetters uint64
	seen        []uint64 // bit n: message n of the herd has arrived
	distinct    uint64   // bits set in seen
}

// maxSeq bounds the memory that a made-up number can claim: 2^32 messages are
// half a gibibyte of bits, and years of a herd.
const maxSeq = 1 << 32

// record counts a record. Device says that it came from MQTT, content is what
// the device sent or an event that holds it.
func (l *ledger) record(device, deadLetter bool, content []byte) {
	seq, found := uint64(0), false
	if device {
		seq, found = simulate.FindSeq(content)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.read++
	switch {
	case !device:
		return
	case deadLetter:
		l.deadLetters++
	default:
		l.events++
	}
	if !found || seq >= maxSeq {
		return
	}
	// Numbers far beyond what can have been sent are a device's own business.
	word := seq / 64
	if word > uint64(len(l.seen))+1<<14 {
		return
	}
	for uint64(len(l.seen)) <= word {
		l.seen = append(l.seen, 0)
	}
	if bit := uint64(1) << (seq % 64); l.seen[word]&bit == 0 {
		l.seen[word] |= bit
		l.distinct++
	}
}

// arrived is how many records came from MQTT.
func (l *ledger) arrived() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.events + l.deadLetters
}

func (l *ledger) total() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.read
}

// Account compares what the MQTT broker took with what arrived in Kafka.
type Account struct {
	Taken       uint64 // messages that the broker took and a pipeline had subscribed to
	Herd        uint64 // of them, those of the herd that the broker acknowledged
	Events      uint64 // records on raw.*
	DeadLetters uint64 // records on dlq.events
	Again       uint64 // records beyond one a message: delivered again after an interruption
	Missing     uint64 // messages without a record
	Unmatched   uint64 // messages on topics that nobody had subscribed to
}

// account settles the ledger. Counts alone could hide a lost message behind one
// that came twice; the numbers that the herd gives its messages cannot.
func (l *ledger) account(b broker.Counters, herd simulate.Summary) Account {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := Account{
		Taken: uint64(b.Accepted), Herd: herd.Acknowledged, Unmatched: uint64(b.Unmatched),
		Events: l.events, DeadLetters: l.deadLetters,
	}
	arrived := a.Events + a.DeadLetters
	if a.Taken > arrived {
		a.Missing = a.Taken - arrived
	}
	repeats := uint64(0) // carry the number of the message they repeat
	if c := herd.ByClass[simulate.Duplicate]; c != nil {
		repeats = c.Sent
	}
	if due := herd.Acknowledged - min(repeats, herd.Acknowledged); due > l.distinct {
		a.Missing = max(a.Missing, due-l.distinct)
	}
	if with := arrived + a.Missing; with > a.Taken {
		a.Again = with - a.Taken
	}
	return a
}

// String tells the account in a few lines.
func (a Account) String() string {
	var b strings.Builder
	origin := ""
	if a.Herd > 0 {
		origin = fmt.Sprintf("  (herd %d, others %d)", a.Herd, a.Taken-min(a.Herd, a.Taken))
	}
	fmt.Fprintf(&b, "  MQTT messages taken  %9d%s\n", a.Taken, origin)
	fmt.Fprintf(&b, "  records in Kafka     %9d  (events %d, dead letters %d)\n", a.Events+a.DeadLetters, a.Events, a.DeadLetters)
	if a.Again > 0 {
		fmt.Fprintf(&b, "  delivered again      %9d\n", a.Again)
	}
	fmt.Fprintf(&b, "  missing              %9d\n", a.Missing)
	if a.Unmatched > 0 {
		fmt.Fprintf(&b, "  not subscribed to    %9d  (on MQTT topics that no pipeline reads)\n", a.Unmatched)
	}
	return b.String()
}
