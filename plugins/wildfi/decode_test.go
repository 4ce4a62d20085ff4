// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package wildfi

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// decoded counts the entries of a log by tag and bytes.
func decoded(t testing.TB, log []byte, opts Options) (map[string]int, *Report) {
	t.Helper()
	found := map[string]int{}
	report, err := Decode(bytes.NewReader(log), opts, Sink{Entry: func(e *Entry) error {
		found[e.Tag.String()+string(e.Raw)]++
		return nil
	}})
	require.NoError(t, err)
	return found, report
}

// compare tells how many entries of the log are missing, leaving out those that
// overlap a lost part, and how many were returned that are not in it.
func (l *testLog) compare(found map[string]int, lost func(tag int, part span) bool) (missing, invented int) {
	for i, tag := range l.tags {
		for _, s := range tag.entries {
			key := tag.mac.String() + string(tag.stream[s.from:s.to])
			if found[key] > 0 {
				found[key]--
			} else if lost == nil || !lost(i, s) {
				missing++
			}
		}
	}
	for _, n := range found {
		invented += n
	}
	return missing, invented
}

func TestRoundTrip(t *testing.T) {
	for _, product := range []Product{Movement, Proximity} {
		for seed := range uint64(20) {
			t.Run(fmt.Sprintf("%v/%d", product, seed), func(t *testing.T) {
				l := newTestLog(seed, product, 1+int(seed%5), 60_000, 40)
				found, report := decoded(t, l.bytes(), Options{})
				missing, invented := l.compare(found, nil)
				assert.Zero(t, missing, "missing")
				assert.Zero(t, invented, "invented")
				assert.Empty(t, report.Damage)
				for _, tag := range report.Tags {
					assert.Equal(t, product.String(), tag.Product)
					assert.Equal(t, tag.LogBytes, tag.EntryBytes)
				}
			})
		}
	}
}

// The same entries come out whatever the pieces in which the log goes in.
func TestPieces(t *testing.T) {
	log := newTestLog(7, Movement, 3, 40_000, 40).bytes()
	want, _ := decoded(t, log, Options{})
	got := map[string]int{}
	_, err := Decode(iotest.OneByteReader(bytes.NewReader(log)), Options{}, Sink{Entry: func(e *Entry) error {
		got[e.Tag.String()+string(e.Raw)]++
		return nil
	}})
	require.NoError(t, err)
	assert.Equal(t, want, got)
}

// A log many times the reorder window is decoded as one within it, at any size
// of the window: entries over the borders of what is held back are whole.
func TestSmallWindows(t *testing.T) {
	for _, product := range []Product{Movement, Proximity} {
		l := newTestLog(3, product, 4, 2_000_000, 40)
		log := l.bytes()
		for _, window := range []int{1, 1000, 50_000, 500_000} {
			found, report := decoded(t, log, Options{ReorderWindow: window})
			missing, invented := l.compare(found, nil)
			assert.Zero(t, missing, "missing with window %d", window)
			assert.Zero(t, invented, "invented with window %d", window)
			assert.Zero(t, report.DamageCount, "damage with window %d", window)
		}
	}
}

// What two gateways received, in any order, is returned once.
func TestReorderAndRepeat(t *testing.T) {
	for _, window := range []int{DefaultReorderWindow, 20_000} {
		for seed := range uint64(10) {
			l := newTestLog(seed, Movement, 3, 200_000, 30)
			r := rand.New(rand.NewPCG(seed, 2))
			for i := 0; i+30 < len(l.messages); i += 10 + r.IntN(30) { // blocks change places, some twice there
				n := 1 + r.IntN(10)
				block := slices.Clone(l.messages[i : i+n])
				at := i + n + r.IntN(len(l.messages)-i-n)
				l.messages = slices.Insert(l.messages, at, block...)
				if r.IntN(2) == 0 {
					l.messages = slices.Delete(l.messages, i, i+n)
				}
			}
			found, report := decoded(t, l.bytes(), Options{ReorderWindow: window})
			missing, invented := l.compare(found, nil)
			assert.Zero(t, invented, "invented, seed %d, window %d", seed, window)
			assert.Zero(t, missing, "missing, seed %d, window %d", seed, window)
			if window == DefaultReorderWindow {
				assert.Zero(t, report.DamageCount)
			}
		}
	}
}

// Lost messages cost the entries in them and no other.
func TestLostMessages(t *testing.T) {
	for _, product := range []Product{Movement, Proximity} {
		for seed := range uint64(20) {
			l := newTestLog(seed, product, 3, 100_000, 40)
			r := rand.New(rand.NewPCG(seed, 3))
			var gone []testMessage
			l.messages = slices.DeleteFunc(l.messages, func(m testMessage) bool {
				if r.IntN(12) == 0 {
					gone = append(gone, m)
					return true
				}
				return false
			})
			found, report := decoded(t, l.bytes(), Options{})
			missing, invented := l.compare(found, func(tag int, s span) bool {
				return slices.ContainsFunc(gone, func(m testMessage) bool { return m.tag == tag && m.part.from < s.to && s.from < m.part.to })
			})
			assert.Zero(t, missing, "missing, seed %d", seed)
			assert.Zero(t, invented, "invented, seed %d", seed)
			assert.NotZero(t, report.GapCount)
		}
	}
}

// Bytes of the file that are overwritten, taken out or put in cost the entries
// whose bytes they are.
func TestDamagedFile(t *testing.T) {
	type damage struct {
		name string
		do   func(r *rand.Rand, m []byte) []byte
		// How many of 1,000 damaged messages may cost an entry elsewhere, and may give
		// one with other bytes than were stored. Bytes that change within a sample
		// cannot be noticed by anyone.
		missing, other int
	}
	damages := []damage{
		{"overwritten", func(r *rand.Rand, m []byte) []byte {
			at := r.IntN(len(m))
			for i := at; i < min(len(m), at+1+r.IntN(30)); i++ {
				m[i] = byte(r.Uint32())
			}
			return m
		}, 0, 1000},
		{"bit", func(r *rand.Rand, m []byte) []byte { m[r.IntN(len(m))] ^= 1 << r.IntN(8); return m }, 0, 1000},
		{"taken out", func(r *rand.Rand, m []byte) []byte {
			at := r.IntN(len(m))
			return slices.Delete(m, at, min(len(m), at+1+r.IntN(20)))
		}, 0, 5},
		{"put in", func(r *rand.Rand, m []byte) []byte {
			extra := make([]byte, 1+r.IntN(50))
			for i := range extra {
				extra[i] = byte(r.Uint32())
			}
			return slices.Insert(m, r.IntN(len(m)), extra...)
		}, 3, 100},
		{"unwritten", func(r *rand.Rand, m []byte) []byte {
			at := r.IntN(len(m))
			for i := at; i < min(len(m), at+40); i++ {
				m[i] = 0xFF
			}
			return m
		}, 0, 250},
	}
	for _, dmg := range damages {
		t.Run(dmg.name, func(t *testing.T) {
			missing, invented, all := 0, 0, 0
			for seed := range uint64(40) {
				product := Movement
				if seed%2 == 1 {
					product = Proximity
				}
				l := newTestLog(seed, product, 3, 100_000, 40)
				r := rand.New(rand.NewPCG(seed, 4))
				var hit []testMessage
				for i := 5; i < len(l.messages); i += 8 + r.IntN(20) {
					hit = append(hit, l.messages[i])
					l.messages[i].bytes = dmg.do(r, l.messages[i].bytes)
				}
				found, _ := decoded(t, l.bytes(), Options{})
				m, n := l.compare(found, func(tag int, s span) bool {
					return slices.ContainsFunc(hit, func(m testMessage) bool { return m.tag == tag && m.part.from < s.to && s.from < m.part.to })
				})
				if m > 0 {
					t.Logf("seed %d: %d missing", seed, m)
				}
				missing, invented, all = missing+m, invented+n, all+len(hit)
			}
			t.Logf("%d messages damaged: %d entries elsewhere missing, %d returned that are not in the log (%.1f%%)", all, missing, invented, float64(invented)/float64(all)*100)
			assert.LessOrEqual(t, missing*1000, dmg.missing*all, "entries missing that were not damaged")
			assert.LessOrEqual(t, invented*1000, dmg.other*all, "entries that are not in the log")
		})
	}
}

// Files of another kind give no entries and a report that says so.
func TestOtherFiles(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 5))
	noise := make([]byte, 4<<20)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	for name, file := range map[string][]byte{
		"noise":     noise,
		"ff":        bytes.Repeat([]byte{0xFF}, 4<<20),
		"zeros":     make([]byte, 4<<20),
		"jpeg":      append([]byte("\xFF\xD8\xFF\xE0\x00\x10JFIF\x00\x01\x01"), noise[:100_000]...),
		"csv":       bytes.Repeat([]byte("prefixDataType,tagId,utcTimestamp\n12345E,38A8,1717200001\n"), 1000),
		"marks":     bytes.Repeat([]byte{dataMark}, 1<<20),
		"prefixes":  bytes.Repeat([]byte{prefix0, prefix1, 0x61}, 1<<18),
		"one byte":  {0x58},
		"one head":  {0x58, 0xBF, 0x25, 0x9A, 0x74, 0x40, 0x10},
		"addresses": bytes.Repeat([]byte{0x58, 0xBF, 0x25, 0x9A, 0x74, 0x40, 0x00}, 1000),
	} {
		t.Run(name, func(t *testing.T) {
			found, report := decoded(t, file, Options{})
			assert.Empty(t, found)
			assert.EqualValues(t, len(file), report.Bytes)
			assert.NotZero(t, report.DamageCount+report.EmptyMessages, "nothing is said about the file")
			assert.False(t, report.IsLog())
		})
	}
}

// A log whose prefixes all claim long entries is decoded in linear time.
func TestHostileEntries(t *testing.T) {
	stream := bytes.Repeat([]byte{prefix0, prefix1, 0x61, 0x5F, 0x5E, 0x10, 0x00, 0x01, 0x02}, 200_000)
	l := &testLog{product: Movement, tags: []*logTag{{mac: MAC{2, 3, 4, 5, 6, 7}, stream: stream}}}
	l.messages = l.tags[0].messages(0, Movement)
	found, _ := decoded(t, l.bytes(), Options{})
	assert.LessOrEqual(t, len(found), len(stream)/27)
}

// Whatever the bytes: no panic, an end, and the same entries each time.
func TestMutatedCases(t *testing.T) {
	cases := slices.DeleteFunc(loadCases(t), func(c testCase) bool { return len(c.Input) == 0 || len(c.Input) > 4000 })
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 9))
		data := bytes.Clone(cases[r.IntN(len(cases))].Input)
		for range 1 + r.IntN(20) {
			at := r.IntN(len(data))
			switch r.IntN(4) {
			case 0:
				data[at] = byte(r.Uint32())
			case 1:
				data[at] ^= 1 << r.IntN(8)
			case 2:
				n := min(len(data)-at, r.IntN(300))
				data = slices.Insert(data, r.IntN(len(data)), bytes.Clone(data[at:at+n])...)
			case 3:
				if len(data) > 100 {
					data = slices.Delete(data, at, min(len(data), at+r.IntN(50)))
				}
			}
		}
		first, report := decoded(t, data, Options{})
		second, _ := decoded(t, data, Options{})
		require.Equal(t, first, second, "seed %d", seed)
		require.EqualValues(t, len(data), report.Bytes)
		decoded(t, data, Options{ReorderWindow: 300})
	}
}

func TestSinkErrorEnds(t *testing.T) {
	stop := fmt.Errorf("stopping")
	log := newTestLog(1, Movement, 1, 100_000, 40).bytes()
	n := 0
	_, err := Decode(bytes.NewReader(log), Options{ReorderWindow: 1000}, Sink{Entry: func(*Entry) error { n++; return stop }})
	require.ErrorIs(t, err, stop)
	assert.Equal(t, 1, n)
}

func TestReadErrorIsTold(t *testing.T) {
	log := newTestLog(1, Movement, 1, 10_000, 40).bytes()
	report, err := Decode(io.MultiReader(bytes.NewReader(log), iotest.ErrReader(io.ErrUnexpectedEOF)), Options{}, Sink{})
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	assert.NotZero(t, report.EntryCount, "what was read is decoded all the same")
}

func FuzzDecode(f *testing.F) {
	for _, c := range loadCases(f) {
		if c.Mode <= 2 && len(c.Input) < 4000 {
			f.Add(c.Input)
		}
	}
	good := newTestLog(11, Movement, 1, 1500, 10)
	goodLog := good.bytes()
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		var entries, bytesOut int
		run := func(opts Options) (found map[string]int, order []string, report *Report) {
			found = map[string]int{}
			entries, bytesOut = 0, 0
			u := NewUnits(DefaultScale, 50)
			var line []byte
			report, err := Decode(bytes.NewReader(data), opts, Sink{
				Entry: func(e *Entry) error {
					entries++
					bytesOut += len(e.Raw)
					line = u.AppendJSON(line[:0], e)
					order = append(order, string(line))
					found[e.Tag.String()+string(e.Raw)]++
					return nil
				},
			})
			require.NoError(t, err)
			return found, order, report
		}
		_, first, report := run(Options{})
		require.LessOrEqual(t, bytesOut, len(data), "more entries than bytes")
		require.EqualValues(t, entries, report.EntryCount)
		_, second, _ := run(Options{})
		require.Equal(t, first, second, "not deterministic")
		run(Options{ReorderWindow: 300})
		// Garbage before a good log takes nothing from it but what it may hide: the
		// first message.
		data = append(bytes.Clone(data), goodLog...)
		found, _, _ := run(Options{})
		if !bytes.Contains(data[:len(data)-len(goodLog)], good.tags[0].mac[:]) {
			missing, _ := good.compare(found, func(_ int, s span) bool { return s.from < 245 })
			require.Zero(t, missing, "entries of a good log missing after garbage")
		}
	})
}
