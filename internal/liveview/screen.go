// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package liveview

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// Control sequences that every terminal emulator of today knows (ECMA-48, and
// xterm's private modes for the alternate screen and the cursor).
const (
	enter      = "\x1b[?1049h\x1b[?25l" // alternate screen, no cursor
	leave      = "\x1b[?25h\x1b[?1049l"
	home       = "\x1b[H"
	clearAll   = "\x1b[2J"
	clearLine  = "\x1b[K"
	clearBelow = "\x1b[J"
)

// Intervals at which things are shown.
const (
	redraw      = 500 * time.Millisecond
	statusEvery = 5 * time.Second
	newsPause   = 10 * time.Second
	newsLimit   = 3 // reasons at one time
)

// Screen redraws a terminal in place. It takes the alternate screen and gives
// the user's own back when it ends.
type Screen struct {
	Out   io.Writer
	Size  func() (width, height int) // asked at each frame, so that a resize shows
	Title string
	Style Style
}

// Run draws until ctx is done.
func (s *Screen) Run(ctx context.Context, snapshot func(time.Time) Snapshot) {
	fmt.Fprint(s.Out, enter)
	defer fmt.Fprint(s.Out, leave)
	tick := time.NewTicker(redraw)
	defer tick.Stop()
	width, height := 0, 0
	for {
		var b strings.Builder
		w, h := s.Size()
		if w != width || h != height {
			width, height = w, h
			b.WriteString(clearAll)
		}
		b.WriteString(home)
		for i, line := range Frame(snapshot(time.Now()), s.Title, w, h, s.Style) {
			if i > 0 {
				b.WriteString("\r\n")
			}
			b.WriteString(line + clearLine)
		}
		b.WriteString(clearBelow)
		fmt.Fprint(s.Out, b.String())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Log writes plain lines: the traffic at intervals, and what dead letters come
// up.
type Log struct {
	Out   io.Writer
	Every time.Duration // between two lines of traffic; 0 is 5 s
}

// Run writes until ctx is done.
func (l *Log) Run(ctx context.Context, snapshot func(time.Time) Snapshot) {
	every := l.Every
	if every == 0 {
		every = statusEvery
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	news := News{Pause: newsPause, Limit: newsLimit}
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			s := snapshot(now)
			fmt.Fprintln(l.Out, Status(s))
			for _, line := range news.Lines(now, s) {
				fmt.Fprintln(l.Out, line)
			}
		}
	}
}
