// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// noticePause is how long the same warning is not repeated.
const noticePause = 10 * time.Second

// notices is a log handler that tells warnings and errors in words.
type notices struct {
	tell  func(string)
	attrs []slog.Attr
	pause *pause
}

func newNotices(tell func(string)) *notices {
	return &notices{tell: tell, pause: &pause{told: map[string]time.Time{}}}
}

func (*notices) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (n *notices) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	for _, a := range n.attrs {
		if a.Key == "pipeline" || a.Key == "part" || a.Key == "label" {
			b.WriteString(a.Value.String() + ": ")
		}
	}
	b.WriteString(strings.TrimSpace(r.Message))
	r.Attrs(func(a slog.Attr) bool {
		b.WriteString(" " + a.Key + "=" + a.Value.String())
		return true
	})
	if text := b.String(); n.pause.due(text, r.Time) {
		n.tell(text)
	}
	return nil
}

func (n *notices) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &notices{tell: n.tell, attrs: append(n.attrs[:len(n.attrs):len(n.attrs)], attrs...), pause: n.pause}
}

func (n *notices) WithGroup(string) slog.Handler { return n }

// pause remembers when a warning was told last.
type pause struct {
	mu   sync.Mutex
	told map[string]time.Time
}

func (p *pause) due(text string, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if last, ok := p.told[text]; ok && now.Sub(last) < noticePause {
		return false
	}
	if len(p.told) > 1000 {
		clear(p.told)
	}
	p.told[text] = now
	return true
}
