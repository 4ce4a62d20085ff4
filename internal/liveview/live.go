// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package liveview

import (
	"sync"
	"time"
)

// Live is a Model that several goroutines may use.
type Live struct {
	mu    sync.Mutex
	model *Model
}

// NewLive starts at a time; topics are shown from the beginning.
func NewLive(now time.Time, topics ...string) *Live {
	return &Live{model: NewModel(now, topics...)}
}

// Record takes a record into account.
func (l *Live) Record(now time.Time, r Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.model.Record(now, r)
}

// Source takes the broker's counters into account.
func (l *Live) Source(now time.Time, s Source) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.model.Source(now, s)
}

// Notice shows a line of text for a while.
func (l *Live) Notice(now time.Time, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.model.Notice(now, text)
}

// Snapshot tells what is to be seen now.
func (l *Live) Snapshot(now time.Time) Snapshot {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.model.Snapshot(now)
}
