// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package mqtt5

import "time"

// denseBatch is how many messages must come within a period for waiting to be
// worth it: about where a batch's fixed cost is spread over enough of them.
const denseBatch = 8

// pace measures how dense the traffic is, over windows of at least one period.
type pace struct {
	period time.Duration
	start  time.Time // of the window
	n      int       // messages in the window
	dense  bool      // what the last whole window was
}

// add counts messages that came until now and says whether more are worth
// waiting for.
func (p *pace) add(n int, now time.Time) bool {
	if p.period <= 0 {
		return false
	}
	p.n += n
	if p.start.IsZero() {
		p.start = now
	}
	if length := now.Sub(p.start); length >= p.period {
		p.dense = float64(p.n)*float64(p.period) >= denseBatch*float64(length)
		p.start, p.n = now, 0
	}
	return p.dense
}
