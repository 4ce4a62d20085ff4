// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package liveview

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRates(t *testing.T) {
	m := NewModel(start, "t")
	at := func(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }
	for s := range 10 {
		for range s + 1 { // 1, 2, … 10 records in seconds 0 to 9
			m.Record(at(float64(s)+0.5), Record{Topic: "t"})
		}
	}
	row := func(now time.Time) TopicRow { return m.Snapshot(now).Topics[0] }

	assert.InDelta(t, 7, row(at(9.9)).Rate, 1e-9, "mean of 5, 6, 7, 8, 9: a second that is not over does not count")
	assert.InDelta(t, 8, row(at(10)).Rate, 1e-9, "mean of 6, 7, 8, 9, 10")
	h := row(at(10)).History
	require.Len(t, h, 59)
	assert.Equal(t, []uint64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, h[48:])
	assert.InDelta(t, 2, row(at(14)).Rate, 1e-9, "mean of 10 and four seconds of nothing")
	assert.Zero(t, row(at(15)).Rate)
	assert.EqualValues(t, 10, row(at(68)).History[0])
	assert.Zero(t, row(at(1000)).History[0])
	assert.EqualValues(t, 55, row(at(1000)).Total)

	young := NewModel(start, "t")
	young.Record(at(0.1), Record{Topic: "t"})
	assert.Zero(t, young.Snapshot(at(0.2)).Topics[0].Rate)
	assert.InDelta(t, 0.5, young.Snapshot(at(2)).Topics[0].Rate, 1e-9, "since the start, if that is less than five seconds")
	// A clock that is set back does no harm.
	young.Record(at(-100), Record{Topic: "t"})
	assert.EqualValues(t, 2, young.Snapshot(at(-100)).Topics[0].Total)
}

func TestLag(t *testing.T) {
	m := NewModel(start)
	assert.False(t, m.Snapshot(start).HasLag)
	now := start
	record := func(lag time.Duration) { m.Record(now, Record{Topic: "t", IngestedAt: now.Add(-lag)}) }
	record(10 * time.Millisecond)
	record(30 * time.Millisecond)
	m.Record(now, Record{Topic: "t"})
	record(-time.Minute) // a clock in the future
	record(48 * time.Hour)
	now = now.Add(time.Second)
	s := m.Snapshot(now)
	assert.True(t, s.HasLag)
	assert.Equal(t, 20*time.Millisecond, s.Lag)
	assert.Equal(t, 20*time.Millisecond, m.Snapshot(now.Add(time.Minute)).Lag, "the last that was measured")
}

func TestReasonsAreGrouped(t *testing.T) {
	for a, b := range map[string]string{
		"latitude is 132.0554 but must be at most 90": "latitude is 91 but must be at most 90",
		"at byte 107":             "at byte 9",
		`topic "a/1": no device`:  `topic "b/c": no device`,
		"would have -1.5e10 B":    "would have -7 B",
		"utcTimestamp 1700000000": "utcTimestamp 1",
	} {
		assert.Equal(t, pattern(a), pattern(b))
	}
	for a, b := range map[string]string{
		"latitude is 1": "longitude is 1",
		`"a" is 1`:      `a is 1`,
		"at 1 and 2":    "at 1",
	} {
		assert.NotEqual(t, pattern(a), pattern(b))
	}
}

func TestLastPositions(t *testing.T) {
	m := NewModel(start)
	now := start.Add(time.Hour)
	at := func(lat float64, when time.Time) {
		m.Record(now, Record{Topic: gpsTopic, Position: &Position{Device: "cow-1", Latitude: lat, Time: when}})
	}
	latitude := func() float64 { return m.Snapshot(now).Animals[0].Latitude }
	at(1, start)
	at(2, start.Add(time.Minute))
	assert.InDelta(t, 2, latitude(), 0)
	at(3, start.Add(30*time.Second))
	assert.InDelta(t, 2, latitude(), 0, "a late message")
	at(4, now.Add(10*365*24*time.Hour))
	assert.InDelta(t, 4, latitude(), 0)
	at(5, now)
	assert.InDelta(t, 5, latitude(), 0, "a clock in the future does not hold the animal")
}

func TestMemoryIsBounded(t *testing.T) {
	m := NewModel(start)
	for i := range maxAnimals + 50 {
		now := start.Add(time.Duration(i) * time.Second)
		m.Record(now, Record{Topic: gpsTopic, Position: &Position{Device: fmt.Sprint(i), Time: now}})
	}
	s := m.Snapshot(start)
	assert.Len(t, s.Animals, maxAnimals)
	for _, a := range s.Animals {
		assert.NotEqual(t, "0", a.Device, "the one that was silent longest goes")
	}
	for i := range maxReasons + 50 {
		reason := "field " + string(rune('a'+i%26)) + string(rune('a'+i/26)) + " is missing"
		m.Record(start.Add(time.Duration(i)*time.Second), Record{Topic: deadLetterTopic, DeadLetter: &DeadLetter{Reason: reason}})
	}
	assert.Len(t, m.Snapshot(start).Reasons, maxReasons)
}

func TestNoticeFades(t *testing.T) {
	m := NewModel(start)
	m.Notice(start, "look")
	assert.Equal(t, "look", m.Snapshot(start.Add(29*time.Second)).Notice)
	assert.Empty(t, m.Snapshot(start.Add(31*time.Second)).Notice)
}

func TestSourceRate(t *testing.T) {
	m := NewModel(start)
	for i := range 21 {
		m.Source(start.Add(time.Duration(i)*250*time.Millisecond), Source{Received: int64(10 * i), Sent: int64(5 * i)})
	}
	s := m.Snapshot(start.Add(5 * time.Second))
	assert.InDelta(t, 38, s.In, 0.01) // the first sample is the zero
	assert.InDelta(t, 19, s.Out, 0.01)
	// A broker that starts anew counts from zero.
	m.Source(start.Add(6*time.Second), Source{Received: 1})
	assert.GreaterOrEqual(t, m.Snapshot(start.Add(7*time.Second)).In, 0.0)
}
