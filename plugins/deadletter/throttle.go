// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package deadletter

import (
	"sync"
	"time"
)

// throttle lets one report a class through in each interval and counts what
// it holds back. It is safe for concurrent use.
type throttle struct {
	every time.Duration
	now   func() time.Time

	mu      sync.Mutex
	classes map[string]*heldBack
}

type heldBack struct {
	next  time.Time
	count int
}

func newThrottle(every time.Duration, now func() time.Time) *throttle {
	return &throttle{every: every, now: now, classes: map[string]*heldBack{}}
}

// add counts n more of a class. It returns how many have come since the last
// report when the next one is due, else 0.
func (t *throttle) add(class string, n int) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.classes[class]
	if c == nil {
		c = &heldBack{}
		t.classes[class] = c
	}
	c.count += n
	now := t.now()
	if now.Before(c.next) {
		return 0
	}
	due := c.count
	c.count, c.next = 0, now.Add(t.every)
	return due
}

// rest returns what was counted since the last report of each class, and
// forgets it.
func (t *throttle) rest() map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	rest := map[string]int{}
	for class, c := range t.classes {
		if c.count > 0 {
			rest[class] = c.count
			c.count = 0
		}
	}
	return rest
}
