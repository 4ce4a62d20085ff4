// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package wildfi

import "time"

// Times is when an entry was measured.
type Times struct {
	Head       time.Time // what the tag's clock said
	Start, End time.Time // of the IMU burst; equal to Head where there is none
	Sure       bool      // false where the rate is needed and not known: Start and End are Head then
}

// Times gives the times of an entry; hz is the sampling rate of the IMU, which a
// log does not hold, or 0 when it is not known. ok is false when the tag's clock
// was not set.
//
// The clock means two things. Movement entries read it when the sensor's memory
// was emptied, at the end of the burst. Proximity entries read it when the
// detection of the minute began; the burst begins some 20 to 110 ms later.
func (e *Entry) Times(hz float64) (t Times, ok bool) {
	if !e.Clock() {
		return Times{}, false
	}
	l := &layouts[e.Type]
	var ns int64
	if l.centis > 0 && e.Hundredths != noHundredths {
		ns = int64(e.Hundredths) * 10_000_000
	}
	t.Head = time.Unix(int64(e.UTC), ns).UTC()
	t.Start, t.End, t.Sure = t.Head, t.Head, true
	n := e.Samples()
	if n < 2 {
		return t, true
	}
	if hz <= 0 {
		t.Sure = false
		return t, true
	}
	span := time.Duration(float64(n-1) / hz * float64(time.Second))
	if l.startTime {
		t.End = t.Head.Add(span)
	} else {
		t.Start = t.Head.Add(-span)
	}
	return t, true
}

// SampleTime gives the time of sample i. ok is false when the clock was not set
// or the rate is not known.
func (e *Entry) SampleTime(i int, hz float64) (time.Time, bool) {
	t, ok := e.Times(hz)
	if !ok || !t.Sure {
		return time.Time{}, false
	}
	if i == 0 || hz <= 0 {
		return t.Start, true
	}
	return t.Start.Add(time.Duration(float64(i) / hz * float64(time.Second))), true
}
