// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package contract

// format is a format that the compiled form can tell from bytes.
type format uint8

const (
	formatNone format = iota
	formatDateTime
	formatDate
)

var formats = map[string]format{"date-time": formatDateTime, "date": formatDate}

// accepts says whether the text surely has the format.
func (f format) accepts(text []byte) bool {
	switch f {
	case formatDateTime:
		return isDateTime(text)
	case formatDate:
		return len(text) == len("2006-01-02") && isDate(text)
	default:
		return false
	}
}

// isDateTime knows RFC 3339 date-times but for leap seconds, which depend on
// the zone.
func isDateTime(s []byte) bool {
	if len(s) < len("2006-01-02T15:04:05Z") || !isDate(s) || s[10]|0x20 != 't' ||
		two(s[11:]) > 23 || s[13] != ':' || two(s[14:]) > 59 || s[16] != ':' || two(s[17:]) > 59 {
		return false
	}
	s = s[19:]
	if s[0] == '.' {
		n := 1
		for n < len(s) && s[n]-'0' <= 9 {
			n++
		}
		if n == 1 || n == len(s) {
			return false
		}
		s = s[n:]
	}
	if len(s) == 1 {
		return s[0]|0x20 == 'z'
	}
	return len(s) == len("+01:00") && (s[0] == '+' || s[0] == '-') && two(s[1:]) <= 23 && s[3] == ':' && two(s[4:]) <= 59
}

var daysOf = [13]uint{0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}

// isDate says whether at least ten bytes begin with a date, "2006-01-02".
func isDate(s []byte) bool {
	century, year, month, day := two(s), two(s[2:]), two(s[5:]), two(s[8:])
	if century > 99 || year > 99 || s[4] != '-' || month < 1 || month > 12 || s[7] != '-' || day < 1 {
		return false
	}
	days := daysOf[month]
	if month == 2 && year%4 == 0 && (year != 0 || century%4 == 0) {
		days = 29
	}
	return day <= days
}

// two reads two digits; anything else comes out above 99.
func two(s []byte) uint {
	tens, ones := uint(s[0]-'0'), uint(s[1]-'0')
	if tens > 9 || ones > 9 {
		return 100
	}
	return tens*10 + ones
}
