// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package route

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"
)

// Bounds of a Cache. Devices publish to few topics of modest length; whoever
// publishes to ever new or huge ones pays for the rules each time and takes no
// memory.
const (
	// MaxCached is how many topics a cache keeps.
	MaxCached = 8192
	// MaxCachedTopic is the longest topic that is kept, in bytes.
	MaxCachedTopic = 512
)

// Cache keeps what was worked out for MQTT topics, because messages come over
// the same topics again and again. Reading takes no lock. When it is full it
// starts anew. It is safe for concurrent use; the zero value is ready.
type Cache[V any] struct {
	// read is never written to once it stands here. Topics that came later are
	// in fresh, and move to read when they were looked up often enough to pay
	// for the copy.
	read   atomic.Pointer[map[string]V]
	mu     sync.Mutex
	fresh  map[string]V
	misses int
}

// Get gives the value of a topic; compute makes it when it is not known. The
// topic that compute receives is a copy that may be kept. Two goroutines may
// compute the value of one topic at the same time.
func (c *Cache[V]) Get(topic string, compute func(topic string) V) V {
	if m := c.read.Load(); m != nil {
		if v, ok := (*m)[topic]; ok {
			return v
		}
	}
	if len(topic) > MaxCachedTopic {
		return compute(topic)
	}
	c.mu.Lock()
	v, ok := c.fresh[topic]
	if ok {
		c.miss()
	}
	c.mu.Unlock()
	if ok {
		return v
	}
	topic = strings.Clone(topic)
	v = compute(topic)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.len() >= MaxCached {
		c.read.Store(nil)
		clear(c.fresh)
		c.misses = 0
	}
	if c.fresh == nil {
		c.fresh = map[string]V{}
	}
	c.fresh[topic] = v
	c.miss()
	return v
}

// miss counts a look-up that needed the lock. It is called with the lock held.
func (c *Cache[V]) miss() {
	c.misses++
	read := c.read.Load()
	known := 0
	if read != nil {
		known = len(*read)
	}
	// Copying known+fresh entries after as many misses keeps the cost of a
	// miss constant.
	if c.misses < known+len(c.fresh) {
		return
	}
	next := make(map[string]V, known+len(c.fresh))
	if read != nil {
		maps.Copy(next, *read)
	}
	maps.Copy(next, c.fresh)
	c.read.Store(&next)
	clear(c.fresh)
	c.misses = 0
}

// len is called with the lock held.
func (c *Cache[V]) len() int {
	n := len(c.fresh)
	if m := c.read.Load(); m != nil {
		n += len(*m)
	}
	return n
}
