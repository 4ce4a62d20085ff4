// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package wildfi

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// benchmarkLog is a seeded log as those that the reference was measured with: a
// movement log of 32 MB of 4 tags, bursts of about 1,000 bytes.
func benchmarkLog(size, tags int) []byte {
	return newTestLog(42, Movement, tags, size, 150).bytes()
}

func BenchmarkDecode(b *testing.B) {
	for _, tags := range []int{4, 64} {
		log := benchmarkLog(32<<20, tags)
		sinks := map[string]func() (Sink, func() error){
			"nothing": func() (Sink, func() error) {
				return Sink{Entry: func(*Entry) error { return nil }}, func() error { return nil }
			},
			"ndjson": func() (Sink, func() error) {
				u, line := NewUnits(DefaultScale, 50), []byte(nil)
				return Sink{Entry: func(e *Entry) error { line = u.AppendJSON(line[:0], e); return nil }}, func() error { return nil }
			},
			"csv": func() (Sink, func() error) {
				w := &CSV{Units: NewUnits(DefaultScale, 50), Append: func(string, []byte) error { return nil }}
				return Sink{Entry: w.Write}, w.Close
			},
		}
		for _, split := range []bool{true, false} {
			sinks[fmt.Sprintf("reference-csv/split=%v", split)] = func() (Sink, func() error) {
				w := &ReferenceCSV{Split: split, Scale: DefaultScale, IMUHz: 50, Append: func(string, []byte) error { return nil }}
				return Sink{Entry: w.Write}, w.Close
			}
		}
		for name, sink := range sinks {
			b.Run(fmt.Sprintf("tags=%d/%s", tags, name), func(b *testing.B) {
				b.SetBytes(int64(len(log)))
				b.ReportAllocs()
				for b.Loop() {
					s, end := sink()
					_, err := Decode(bytes.NewReader(log), Options{}, s)
					require.NoError(b, err)
					require.NoError(b, end())
				}
			})
		}
	}
}
