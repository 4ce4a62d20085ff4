// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package jsonscan

import (
	"unicode/utf16"
	"unicode/utf8"
)

// AppendText appends the text of a scanned string token (quotes included) to
// dst, its escapes resolved. One half of a surrogate pair becomes U+FFFD, as
// encoding/json has it.
func AppendText(dst, token []byte) []byte {
	token = token[1 : len(token)-1]
	for i := 0; i < len(token); {
		c := token[i]
		if c != '\\' {
			dst = append(dst, c)
			i++
			continue
		}
		switch token[i+1] {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r, _ := hex4(token, i+2)
			i += 6
			if utf16.IsSurrogate(r) {
				low := rune(-1)
				if i+6 <= len(token) && token[i] == '\\' && token[i+1] == 'u' {
					low, _ = hex4(token, i+2)
				}
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					i += 6
				}
			}
			dst = utf8.AppendRune(dst, r)
			continue
		default: // a quote, a backslash or a slash
			dst = append(dst, token[i+1])
		}
		i += 2
	}
	return dst
}

const hexDigits = "0123456789abcdef"

// AppendString appends text as a quoted JSON string. Bytes that are not UTF-8
// become U+FFFD.
func AppendString[T string | []byte](dst []byte, text T) []byte {
	dst = append(dst, '"')
	done := 0
	for i := 0; i < len(text); {
		c := text[i]
		if c >= 0x20 && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := decodeRune(text[i:])
			if r != utf8.RuneError || n != 1 {
				i += n
				continue
			}
			dst = append(dst, text[done:i]...)
			dst = append(dst, "\uFFFD"...)
			i++
			done = i
			continue
		}
		dst = append(dst, text[done:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		done = i
	}
	dst = append(dst, text[done:]...)
	return append(dst, '"')
}

func decodeRune[T string | []byte](text T) (rune, int) {
	var buf [utf8.UTFMax]byte
	n := copy(buf[:], text)
	return utf8.DecodeRune(buf[:n])
}

// AppendCanonical appends a scanned value to dst so that every reader sees the
// same document: of members that an object names twice the last one stands, in
// the place of the first (what encoding/json and Python's json keep), and one
// half of a surrogate pair becomes U+FFFD. Numbers and all else keep their
// text; white space between tokens goes.
func AppendCanonical(dst, value []byte) []byte {
	dst, _ = canonicalValue(dst, value, 0)
	return dst
}

// canonicalValue relies on the text having been scanned before: it checks
// nothing.
func canonicalValue(dst, data []byte, i int) ([]byte, int) {
	i = Space(data, i)
	switch data[i] {
	case '{':
		return canonicalObject(dst, data, i)
	case '[':
		dst = append(dst, '[')
		for i = Space(data, i+1); data[i] != ']'; {
			dst, i = canonicalValue(dst, data, i)
			if i = Space(data, i); data[i] == ',' {
				dst = append(dst, ',')
				i = Space(data, i+1)
			}
		}
		return append(dst, ']'), i + 1
	case '"':
		end, notes, _ := ScanString(data, i)
		if notes&LoneSurrogate != 0 {
			return AppendString(dst, AppendText(nil, data[i:end])), end
		}
		return append(dst, data[i:end]...), end
	default:
		end := i
		for end < len(data) && data[end] != ',' && data[end] != ']' && data[end] != '}' && Space(data, end) == end {
			end++
		}
		return append(dst, data[i:end]...), end
	}
}

func canonicalObject(dst, data []byte, i int) ([]byte, int) {
	type member struct{ key, value []byte }
	var members []member
	index := map[string]int{}
	for i = Space(data, i+1); data[i] != '}'; {
		end, _, _ := ScanString(data, i)
		key := AppendText(nil, data[i:end])
		i = Space(data, end) + 1
		var value []byte
		value, i = canonicalValue(nil, data, i)
		if at, ok := index[string(key)]; ok {
			members[at].value = value
		} else {
			index[string(key)] = len(members)
			members = append(members, member{key, value})
		}
		if i = Space(data, i); data[i] == ',' {
			i = Space(data, i+1)
		}
	}
	dst = append(dst, '{')
	for n, m := range members {
		if n > 0 {
			dst = append(dst, ',')
		}
		dst = AppendString(dst, m.key)
		dst = append(dst, ':')
		dst = append(dst, m.value...)
	}
	return append(dst, '}'), i + 1
}
