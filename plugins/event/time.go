// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package event

import (
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// The unit of an epoch number follows from its size: up to 1e10 it counts
// seconds (until the year 2286), up to 1e14 milliseconds, up to 1e17
// microseconds, up to 9.2e18 nanoseconds.
var epochUnits = []struct {
	max  *big.Rat
	unit time.Duration
}{
	{new(big.Rat).SetInt64(1e10), time.Second},
	{new(big.Rat).SetInt64(1e14), time.Millisecond},
	{new(big.Rat).SetInt64(1e17), time.Microsecond},
	{new(big.Rat).SetInt64(9.2e18), time.Nanosecond},
}

var (
	errEpochRange = errors.New("number is too large for an epoch in seconds, milliseconds, microseconds or nanoseconds")
	errYear       = errors.New("year is outside 1 to 9999")
)

// ParseEpoch reads a JSON number (its text) as an instant since
// 1970-01-01T00:00:00Z; its size decides the unit. Arithmetic is exact;
// digits finer than a nanosecond are cut off. An error says that the number
// fits no unit or lies outside the years 1 to 9999.
func ParseEpoch(text string) (time.Time, error) {
	if n, ok := smallInt(text); ok {
		abs := max(n, -n)
		switch {
		case abs <= 1e10:
			return inYears(time.Unix(n, 0))
		case abs <= 1e14:
			return inYears(time.UnixMilli(n))
		case abs <= 1e17:
			return inYears(time.UnixMicro(n))
		}
	}
	if t, ok := smallDecimal(text); ok {
		return inYears(t)
	}
	if len(text) > 64 || exponentDigits(text) > 2 {
		return time.Time{}, fmt.Errorf("reading epoch %.40q: %w", text, errEpochRange)
	}
	x, ok := new(big.Rat).SetString(text)
	if !ok {
		return time.Time{}, fmt.Errorf("reading epoch %.40q: not a number", text)
	}
	abs := new(big.Rat).Abs(x)
	for _, u := range epochUnits {
		if abs.Cmp(u.max) > 0 {
			continue
		}
		x.Mul(x, new(big.Rat).SetInt64(int64(u.unit)))
		ns := new(big.Int).Quo(x.Num(), x.Denom())
		sec, rest := new(big.Int).DivMod(ns, big.NewInt(int64(time.Second)), new(big.Int))
		return inYears(time.Unix(sec.Int64(), rest.Int64()))
	}
	return time.Time{}, fmt.Errorf("reading epoch %.40q: %w", text, errEpochRange)
}

// smallDecimal reads what devices send that count time in fractions of a
// second: up to 10 digits, a point, up to 9 digits, no exponent, and not so
// close to the greatest number of seconds that the fraction decides the unit.
func smallDecimal(text string) (t time.Time, ok bool) {
	whole, fraction, found := strings.Cut(text, ".")
	sec, ok := smallInt(whole)
	if !found || !ok || len(fraction) == 0 || len(fraction) > 9 || max(sec, -sec) >= 1e10 {
		return t, false
	}
	ns, ok := decimal(fraction)
	if !ok {
		return t, false
	}
	for range 9 - len(fraction) {
		ns *= 10
	}
	if text[0] == '-' {
		ns = -ns
	}
	return time.Unix(sec, int64(ns)), true
}

// smallInt reads an integer of at most 18 digits.
func smallInt(text string) (n int64, ok bool) {
	digits := strings.TrimPrefix(text, "-")
	if len(digits) == 0 || len(digits) > 18 {
		return 0, false
	}
	for i := range len(digits) {
		c := digits[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	if len(digits) != len(text) {
		n = -n
	}
	return n, true
}

func exponentDigits(text string) int {
	i := strings.IndexAny(text, "eE")
	if i < 0 {
		return 0
	}
	return len(strings.TrimLeft(text[i+1:], "+-0"))
}

func inYears(t time.Time) (time.Time, error) {
	t = t.UTC()
	if y := t.Year(); y < 1 || y > 9999 {
		return time.Time{}, fmt.Errorf("reading time of year %d: %w", y, errYear)
	}
	return t, nil
}

// ParseTime reads an RFC 3339 date-time: with a zone, upper or lower case,
// fraction of any length (digits finer than a nanosecond are cut off), a leap
// second counted as the first of the next minute. The instant comes back in
// UTC and lies in the years 1 to 9999.
func ParseTime(text string) (time.Time, error) {
	t, ok := parseRFC3339(text)
	if !ok {
		return time.Time{}, fmt.Errorf("reading %.64q: not RFC 3339 with a zone, such as 2026-05-04T10:11:12Z", text)
	}
	return inYears(t)
}

func parseRFC3339(s string) (t time.Time, ok bool) {
	if len(s) < len("2006-01-02T15:04:05Z") || s[4] != '-' || s[7] != '-' || s[10]|0x20 != 't' || s[13] != ':' || s[16] != ':' {
		return t, false
	}
	year, ok0 := decimal(s[0:4])
	month, ok1 := decimal(s[5:7])
	day, ok2 := decimal(s[8:10])
	hour, ok3 := decimal(s[11:13])
	minute, ok4 := decimal(s[14:16])
	sec, ok5 := decimal(s[17:19])
	if !ok0 || !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || month < 1 || month > 12 || day < 1 || hour > 23 || minute > 59 || sec > 60 {
		return t, false
	}
	s = s[19:]
	ns := 0
	if s[0] == '.' {
		n := 1
		for scale := 100_000_000; n < len(s) && s[n] >= '0' && s[n] <= '9'; n++ {
			ns += int(s[n]-'0') * scale
			scale /= 10
		}
		if n == 1 || n == len(s) {
			return t, false
		}
		s = s[n:]
	}
	offset := 0
	switch {
	case len(s) == 1 && s[0]|0x20 == 'z':
	case len(s) == len("+01:00") && (s[0] == '+' || s[0] == '-') && s[3] == ':':
		h, ok0 := decimal(s[1:3])
		m, ok1 := decimal(s[4:6])
		if !ok0 || !ok1 || h > 23 || m > 59 {
			return t, false
		}
		offset = (h*60 + m) * 60
		if s[0] == '-' {
			offset = -offset
		}
	default:
		return t, false
	}
	t = time.Date(year, time.Month(month), day, hour, minute, 0, 0, time.UTC)
	if t.Day() != day { // 31 April
		return t, false
	}
	// RFC 3339 has leap seconds at 23:59:60 UTC only.
	if u := t.Unix() - int64(offset); sec == 60 && (u+60)%(24*60*60) != 0 {
		return t, false
	}
	return t.Add(time.Duration(sec-offset)*time.Second + time.Duration(ns)), true
}

func decimal(s string) (n int, ok bool) {
	for i := range len(s) {
		c := s[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}

// AppendTime appends an instant as every event carries it: RFC 3339 in UTC,
// with as many digits of the second's fraction as it needs, at most nine.
func AppendTime(b []byte, t time.Time) []byte {
	return t.UTC().AppendFormat(b, time.RFC3339Nano)
}
