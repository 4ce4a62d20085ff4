// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package liveview

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestScreen(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out strings.Builder
	frames := 0
	screen := Screen{Out: &out, Title: "the title", Size: func() (int, int) {
		if frames++; frames == 3 {
			cancel()
		}
		return 60 + 10*(frames/2), 16
	}}
	live := NewLive(start, "raw.gps")
	live.Source(start, Source{Clients: 7})
	live.Notice(start, "look")
	live.Record(start, Record{Topic: "raw.gps"})
	screen.Run(ctx, func(time.Time) Snapshot { return live.Snapshot(start) })

	text := out.String()
	assert.True(t, strings.HasPrefix(text, enter+clearAll+home+"the title "), "%q", text[:80])
	assert.True(t, strings.HasSuffix(text, clearBelow+leave), "the terminal must be given back")
	assert.Equal(t, 2, strings.Count(text, clearAll), "once at first and once when the size changes")
	assert.Equal(t, 3, strings.Count(text, home))
	assert.Contains(t, text, "clients 7")
	assert.Contains(t, text, "look"+clearLine)
	assert.Equal(t, 3*15, strings.Count(text, "\r\n"), "no line break after the last line: it would scroll")
}

func TestLog(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	m := NewModel(start, "raw.gps")
	m.Record(start, Record{Topic: deadLetterTopic, DeadLetter: &DeadLetter{"decode", "raw.gps", "devices/a/gps", "reading JSON"}})
	var out strings.Builder
	calls := 0
	log := Log{Out: &out, Every: time.Millisecond}
	log.Run(ctx, func(time.Time) Snapshot {
		if calls++; calls == 2 {
			cancel()
		}
		return m.Snapshot(start)
	})
	require.GreaterOrEqual(t, calls, 2)
	assert.True(t, strings.HasPrefix(out.String(), "00:00:00  MQTT in 0.0/s · dlq.events 0.0/s (1 in all)\n"+
		"  dead letter  decode  raw.gps: reading JSON  (devices/a/gps)\n"+
		"00:00:00  MQTT in 0.0/s"), out.String())
}
