// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package event

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"math/big"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write testdata/ids.json anew; only for a new recipe version")

type idVector struct {
	Why        string `json:"why"`
	DeviceID   string `json:"device_id"`
	Stream     string `json:"stream"`
	UnixNano   string `json:"unix_nano"`
	PayloadB64 string `json:"payload_b64"`
	ID         string `json:"id"`
}

// TestIDVectors holds the recipe still: a changed id would make every replay
// and every redelivery a new event.
func TestIDVectors(t *testing.T) {
	raw, err := os.ReadFile("testdata/ids.json")
	require.NoError(t, err)
	var vectors []idVector
	require.NoError(t, json.Unmarshal(raw, &vectors))
	require.NotEmpty(t, vectors)
	var maker IDMaker
	for i, v := range vectors {
		payload, err := base64.StdEncoding.DecodeString(v.PayloadB64)
		require.NoError(t, err, v.Why)
		ns, ok := new(big.Int).SetString(v.UnixNano, 10)
		require.True(t, ok, v.Why)
		sec, rest := new(big.Int).DivMod(ns, big.NewInt(1e9), new(big.Int))
		at := time.Unix(sec.Int64(), rest.Int64())
		if *update {
			vectors[i].ID = NewID(v.DeviceID, v.Stream, at, payload).String()
			continue
		}
		require.Equal(t, v.ID, NewID(v.DeviceID, v.Stream, at, payload).String(), v.Why)
		require.Equal(t, v.ID, maker.ID(v.DeviceID, v.Stream, at, payload).String(), v.Why)
		require.Equal(t, v.ID, plainID(v.DeviceID, v.Stream, v.UnixNano, payload), v.Why)
		require.True(t, ValidID(v.ID))
	}
	if *update {
		out, err := json.MarshalIndent(vectors, "", "  ")
		require.NoError(t, err)
		require.NoError(t, os.WriteFile("testdata/ids.json", append(out, '\n'), 0o644))
	}
}

// plainID follows the words of NewID's recipe and nothing else.
func plainID(device, stream, unixNano string, payload []byte) string {
	h := sha256.New()
	for _, field := range []string{"1", device, stream, unixNano, string(payload)} {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(field)))
		h.Write(length[:])
		h.Write([]byte(field))
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

func TestIDTellsFieldsApart(t *testing.T) {
	at := time.Unix(1704067200, 0)
	seen := map[ID]string{}
	for name, id := range map[string]ID{
		"base":               NewID("cow-7", "devices/cow-7/gps", at, []byte("x")),
		"moved boundary":     NewID("cow-7d", "evices/cow-7/gps", at, []byte("x")),
		"other stream":       NewID("cow-7", "devices/cow-7/imu", at, []byte("x")),
		"one ns later":       NewID("cow-7", "devices/cow-7/gps", at.Add(1), []byte("x")),
		"other payload":      NewID("cow-7", "devices/cow-7/gps", at, []byte("y")),
		"empty payload":      NewID("cow-7", "devices/cow-7/gps", at, nil),
		"large payload":      NewID("cow-7", "devices/cow-7/gps", at, make([]byte, largePayload)),
		"larger payload":     NewID("cow-7", "devices/cow-7/gps", at, make([]byte, largePayload+1)),
		"before the epoch":   NewID("cow-7", "devices/cow-7/gps", time.Unix(-1, 5e8), []byte("x")),
		"before int64 began": NewID("cow-7", "devices/cow-7/gps", time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), []byte("x")),
	} {
		require.NotContains(t, seen, id, name)
		seen[id] = name
	}
	require.Equal(t, NewID("cow-7", "s", at, nil), NewID("cow-7", "s", at.In(time.FixedZone("", 7200)), nil), "the zone is no part of an instant")
}

func TestValidID(t *testing.T) {
	require.True(t, ValidID("00112233445566778899aabbccddeeff"))
	for _, bad := range []string{"", "00112233445566778899aabbccddeef", "00112233445566778899AABBCCDDEEFF", "00112233445566778899aabbccddeefg", strings.Repeat("0", 33)} {
		require.False(t, ValidID(bad), bad)
	}
}

func TestParseEpoch(t *testing.T) {
	for text, want := range map[string]string{
		"0":                    "1970-01-01T00:00:00Z",
		"-0":                   "1970-01-01T00:00:00Z",
		"1704067200":           "2024-01-01T00:00:00Z",
		"1704067200.5":         "2024-01-01T00:00:00.5Z",
		"1704067200.123456":    "2024-01-01T00:00:00.123456Z",
		"1.7040672e9":          "2024-01-01T00:00:00Z",
		"10000000000":          "2286-11-20T17:46:40Z",
		"10000000000.5":        "1970-04-26T17:46:40.0005Z", // more than 1e10: milliseconds
		"10000000001":          "1970-04-26T17:46:40.001Z",
		"1704067200123":        "2024-01-01T00:00:00.123Z",
		"1704067200123.25":     "2024-01-01T00:00:00.12325Z",
		"1704067200123456":     "2024-01-01T00:00:00.123456Z",
		"1704067200123456789":  "2024-01-01T00:00:00.123456789Z",
		"253402300799":         "1978-01-11T21:31:40.799Z",
		"-1.5":                 "1969-12-31T23:59:58.5Z",
		"-0.25":                "1969-12-31T23:59:59.75Z",
		"0.000000001":          "1970-01-01T00:00:00.000000001Z",
		"9999999999.999999999": "2286-11-20T17:46:39.999999999Z",
		"-1":                   "1969-12-31T23:59:59Z",
		"1704067200.000000001": "2024-01-01T00:00:00.000000001Z",
		"1e-3":                 "1970-01-01T00:00:00.001Z",
		"9200000000000000000":  "2261-07-15T11:33:20Z",
	} {
		got, err := ParseEpoch(text)
		require.NoError(t, err, text)
		require.Equal(t, want, string(AppendTime(nil, got)), text)
	}
	for _, text := range []string{"9200000000000000001", "1e300", "-1e300", "1e1000", "-99999999999999", strings.Repeat("9", 400), "0." + strings.Repeat("1", 100), "x", ""} {
		_, err := ParseEpoch(text)
		require.Error(t, err, text)
	}
}

func TestParseTime(t *testing.T) {
	for text, want := range map[string]string{
		"2026-01-01T00:00:00Z":                  "2026-01-01T00:00:00Z",
		"2026-01-01t00:00:00z":                  "2026-01-01T00:00:00Z",
		"2026-01-01T00:00:00+00:00":             "2026-01-01T00:00:00Z",
		"2026-01-01T00:00:00.123456789+02:00":   "2025-12-31T22:00:00.123456789Z",
		"2026-01-01T00:00:00.1234567899Z":       "2026-01-01T00:00:00.123456789Z",
		"2024-02-29T23:59:59.5-05:30":           "2024-03-01T05:29:59.5Z",
		"2016-12-31T23:59:60Z":                  "2017-01-01T00:00:00Z",
		"2017-01-01T00:59:60+01:00":             "2017-01-01T00:00:00Z",
		"0001-01-01T00:00:00Z":                  "0001-01-01T00:00:00Z",
		"9999-12-31T23:59:59Z":                  "9999-12-31T23:59:59Z",
		"2026-01-01T00:00:00.000000000000000Z":  "2026-01-01T00:00:00Z",
		"2026-01-01T00:00:00.100-00:00":         "2026-01-01T00:00:00.1Z",
		"1582-10-04T12:00:00Z":                  "1582-10-04T12:00:00Z",
		"2026-06-30T12:30:15.000001+14:00":      "2026-06-29T22:30:15.000001Z",
		"2026-06-30T12:30:15." + "5" + "+23:59": "2026-06-29T12:31:15.5Z",
	} {
		got, err := ParseTime(text)
		require.NoError(t, err, text)
		require.Equal(t, want, string(AppendTime(nil, got)), text)
	}
	for _, text := range []string{
		"", "yesterday", "1704067200", "2026-01-01", "01/02/2026", "2026-01-01 00:00:00Z", "2026-01-01T00:00:00", "2026-13-01T00:00:00Z", "2026-04-31T00:00:00Z",
		"2026-00-01T00:00:00Z", "2026-01-00T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:60:00Z", "2026-01-01T00:00:61Z", "2026-01-01T12:00:60Z", "2026-01-01T00:00:00.Z",
		"2026-01-01T00:00:00.5", "2026-01-01T00:00:00+0200", "2026-01-01T00:00:00+24:00", "2026-01-01T00:00:00+02:60", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:60Z",
		"9999-12-31T23:59:59-01:00", "0000-01-01T00:00:00Z", "2026-01-01T00:00:00ZZ", "+026-01-01T00:00:00Z", "2026-01-01T00:00:0\u0660Z", "2023-02-29T00:00:00Z",
	} {
		_, err := ParseTime(text)
		require.Error(t, err, text)
	}
}

var rfc3339 = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

// FuzzParseTime holds the parser against the standard library's: whatever
// that one accepts as RFC 3339 is the same instant here.
func FuzzParseTime(f *testing.F) {
	f.Add("2026-01-01T00:00:00Z")
	f.Add("2024-02-29T23:59:59.123456789-05:30")
	f.Add("2016-12-31T23:59:60Z")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseTime(text)
		// The standard library also takes "T1:02:03" and ",5".
		if want, err2 := time.Parse(time.RFC3339Nano, text); err2 == nil && rfc3339.MatchString(text) {
			if y := want.UTC().Year(); y >= 1 && y <= 9999 {
				require.NoError(t, err, text)
				require.True(t, got.Equal(want), "%q: %s and %s", text, got, want)
			}
		}
		if err == nil {
			again, err := ParseTime(string(AppendTime(nil, got)))
			require.NoError(t, err, text)
			require.True(t, again.Equal(got), text)
		}
	})
}

// FuzzParseEpoch holds the exact arithmetic against big.Rat's.
func FuzzParseEpoch(f *testing.F) {
	for _, seed := range []string{"1704067200", "1704067200.5", "-1.5", "1e9", "1704067200123456789", "1e300"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseEpoch(text)
		if err != nil {
			return
		}
		if y := got.Year(); y < 1 || y > 9999 {
			t.Fatalf("%q gives year %d", text, y)
		}
		x, ok := new(big.Rat).SetString(text)
		require.True(t, ok, text)
		ns := new(big.Rat).SetInt(new(big.Int).Add(new(big.Int).Mul(big.NewInt(got.Unix()), big.NewInt(1e9)), big.NewInt(int64(got.Nanosecond()))))
		for _, unit := range []int64{1, 1e3, 1e6, 1e9} {
			diff := new(big.Rat).Sub(new(big.Rat).Mul(x, new(big.Rat).SetInt64(unit)), ns)
			if diff.Abs(diff).Cmp(new(big.Rat).SetInt64(1)) < 0 {
				return
			}
		}
		t.Fatalf("%q became %s, which is the number in no unit", text, got)
	})
}

func TestViolationList(t *testing.T) {
	list := ViolationList([]Violation{{Path: "/latitude", Keyword: "maximum", Message: "m", Contract: "raw.gps", Version: "1.0.0"}, {Keyword: "json", Message: "n"}})
	require.Equal(t, []any{
		map[string]any{"path": "/latitude", "keyword": "maximum", "message": "m", "contract": "raw.gps", "version": "1.0.0"},
		map[string]any{"path": "", "keyword": "json", "message": "n"},
	}, list)
}

func BenchmarkParseEpoch(b *testing.B) {
	for _, text := range []string{"1704067200", "1704067200123", "1704067200.123", "1.7040672e9"} {
		b.Run(text, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseEpoch(text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkID(b *testing.B) {
	b.ReportAllocs()
	payload := []byte(strings.Repeat("x", 200))
	at := time.Unix(1704067200, 5)
	var m IDMaker
	for b.Loop() {
		m.ID("cow-7", "devices/cow-7/gps", at, payload)
	}
}
