// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/dealiot/dealiot-connect/internal/devstack/broker"
	"github.com/dealiot/dealiot-connect/internal/simulate"
)

func TestLedger(t *testing.T) {
	message := func(seq uint64) []byte { return fmt.Appendf(nil, `{"payload":{"sim_seq":%d}}`, seq) }
	herd := func(acknowledged, repeats uint64) simulate.Summary {
		return simulate.Summary{Acknowledged: acknowledged, ByClass: map[simulate.Class]*simulate.ClassSummary{
			simulate.Duplicate: {Sent: repeats},
		}}
	}
	tests := []struct {
		name   string
		events []uint64 // numbers of the herd's messages, 0 for a device's own
		dead   []uint64
		broker broker.Counters
		herd   simulate.Summary
		want   Account
	}{
		{name: "nothing"},
		{
			name: "all there", events: []uint64{1, 2, 4}, dead: []uint64{3},
			broker: broker.Counters{Accepted: 4}, herd: herd(4, 0),
			want: Account{Taken: 4, Herd: 4, Events: 3, DeadLetters: 1},
		},
		{
			name: "one missing", events: []uint64{1, 3}, broker: broker.Counters{Accepted: 3}, herd: herd(3, 0),
			want: Account{Taken: 3, Herd: 3, Events: 2, Missing: 1},
		},
		{
			name: "one missing behind one that came twice", events: []uint64{1, 3, 3}, broker: broker.Counters{Accepted: 3}, herd: herd(3, 0),
			want: Account{Taken: 3, Herd: 3, Events: 3, Missing: 1, Again: 1},
		},
		{
			name: "a duplicate of the herd is a message of its own", events: []uint64{1, 2, 1}, broker: broker.Counters{Accepted: 3}, herd: herd(3, 1),
			want: Account{Taken: 3, Herd: 3, Events: 3},
		},
		{
			name: "delivered again", events: []uint64{1, 2, 2, 2}, broker: broker.Counters{Accepted: 2}, herd: herd(2, 0),
			want: Account{Taken: 2, Herd: 2, Events: 4, Again: 2},
		},
		{
			name: "devices of one's own", events: []uint64{0, 0, 1}, broker: broker.Counters{Accepted: 4, Unmatched: 5}, herd: herd(1, 0),
			want: Account{Taken: 4, Herd: 1, Events: 3, Missing: 1, Unmatched: 5},
		},
		{
			name: "made-up numbers", events: []uint64{math.MaxUint64, 1 << 40, 1<<32 - 1, 1}, broker: broker.Counters{Accepted: 4}, herd: herd(1, 0),
			want: Account{Taken: 4, Herd: 1, Events: 4},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var l ledger
			l.record(false, false, message(1)) // of another origin
			for _, seq := range test.events {
				l.record(true, false, message(seq))
			}
			for _, seq := range test.dead {
				l.record(true, true, message(seq))
			}
			assert.Equal(t, test.want, l.account(test.broker, test.herd))
			assert.EqualValues(t, 1+len(test.events)+len(test.dead), l.total())
			assert.Less(t, len(l.seen), 1<<16, "memory")
		})
	}
}

func TestEventContent(t *testing.T) {
	for in, want := range map[string]string{
		`{"payload":{"sim_seq":1}}`:                   `{"payload":{"sim_seq":1}}`,
		`{"payload":{"payload_b64":"c2ltX3NlcT03"}}`:  `sim_seq=7`,
		`{"payload":{"payload_b64": "c2ltX3NlcT03"}}`: `sim_seq=7`,
		`{"payload_b64":"c2ltX3NlcT03`:                `{"payload_b64":"c2ltX3NlcT03`,
		`{"payload_b64":"?"}`:                         `{"payload_b64":"?"}`,
		`{"payload_b64":7}`:                           `{"payload_b64":7}`,
		``:                                            ``,
	} {
		assert.Equal(t, want, string(eventContent([]byte(in))), in)
	}
}
