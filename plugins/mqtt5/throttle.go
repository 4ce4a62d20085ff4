// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package mqtt5

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// warnEvery is the least time between two warnings about the same thing.
const warnEvery = 10 * time.Second

// throttle lets one warning of a kind through in each interval and counts
// what it holds back. The zero value is ready; it is safe for concurrent use.
type throttle struct {
	mu    sync.Mutex
	kinds map[string]held
}

type held struct {
	next  time.Time
	count int
}

// add counts n more of a kind. It returns how many have come since the last
// warning if the next one is due, else 0.
func (t *throttle) add(kind string, n int) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.kinds == nil {
		t.kinds = map[string]held{}
	}
	h := t.kinds[kind]
	h.count += n
	now := time.Now()
	due := 0
	if !now.Before(h.next) {
		due = h.count
		h = held{next: now.Add(warnEvery)}
	}
	t.kinds[kind] = h
	return due
}

// clientIDs are the client ids that inputs of this process use. Two with the
// same id at the same broker throw each other out, for ever.
var clientIDs = claims{used: map[string][]endpoint{}}

type claims struct {
	mu   sync.Mutex
	used map[string][]endpoint
}

func (c *claims) claim(cfg linkConfig) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range cfg.endpoints {
		if slices.Contains(c.used[cfg.clientID], e) {
			return fmt.Errorf("another mqtt5 input of this process is connected to %v as %q: give each a client_id or a label of its own", e, cfg.clientID)
		}
	}
	c.used[cfg.clientID] = append(c.used[cfg.clientID], cfg.endpoints...)
	return nil
}

func (c *claims) release(cfg linkConfig) {
	c.mu.Lock()
	defer c.mu.Unlock()
	left := slices.DeleteFunc(c.used[cfg.clientID], func(e endpoint) bool {
		return slices.Contains(cfg.endpoints, e)
	})
	if len(left) == 0 {
		delete(c.used, cfg.clientID)
		return
	}
	c.used[cfg.clientID] = left
}
