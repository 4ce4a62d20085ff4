// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

// Package jsonscan walks JSON text (RFC 8259) without building values and
// without allocating. It answers what ingestion has to know before it lets
// bytes from the field near a parser: is this JSON at all, is it within the
// limits that every later reader can bear, and where do the members of the
// top-level object stand.
package jsonscan

import (
	"encoding/binary"
	"math/bits"
	"strconv"
	"unicode/utf8"
)

// Limits of a document. Text beyond them is refused with an Error whose Limit
// is true: it may be JSON, but parsers further down panic, stall or recurse
// without bound on it.
const (
	// MaxDepth is the deepest nesting of arrays and objects; a scalar has depth 0.
	MaxDepth = 128
	// MaxNumberLen is the longest number in bytes.
	MaxNumberLen = 1000
	// MaxExponent is the largest absolute value of a number's exponent.
	MaxExponent = 1000
)

// Kind is the type of a JSON value.
type Kind uint8

// The kinds of a JSON value. Invalid is the zero value.
const (
	Invalid Kind = iota
	Null
	Bool
	Number
	String
	Array
	Object
)

var kindNames = [...]string{"invalid", "null", "boolean", "number", "string", "array", "object"}

// String gives the name that JSON Schema uses for the kind.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return kindNames[Invalid]
}

// Notes are properties of a valid document that a plain copy of its bytes
// would hand on to readers that disagree about them.
type Notes uint8

const (
	// DuplicateKeys says that some object may name a member twice. It is a
	// cheap test that errs on the side of yes; Canonical settles it.
	DuplicateKeys Notes = 1 << iota
	// LoneSurrogate says that a string holds a \u escape of one half of a
	// UTF-16 pair, which is no Unicode character.
	LoneSurrogate
)

// Error says where and why a text is not acceptable JSON.
type Error struct {
	Offset int    // byte offset of the offending byte
	Reason string // in words, lower case
	Limit  bool   // within the grammar, but beyond a limit of this package
}

// Error implements error.
func (e *Error) Error() string {
	return e.Reason + " at byte " + strconv.Itoa(e.Offset)
}

// Member is one member of the top-level object, as offsets into the text.
type Member struct {
	Key, KeyEnd     int  // the key with its quotes
	Value, ValueEnd int  // the value without surrounding white space
	Kind            Kind // of the value
	Escaped         bool // the key holds a backslash escape
}

// Scanner scans documents one after the other and keeps its buffers between
// them. It is not safe for concurrent use.
type Scanner struct {
	// Members of the top-level object of the last document, in text order.
	// Empty for any other kind of document.
	Members []Member
	// Notes of the last document.
	Notes Notes

	hashes []uint32 // key hashes of the objects that are open, innermost last
}

// Document scans a text that must hold exactly one JSON value, and gives the
// value's place and kind. depth is the nesting that the caller will add around
// the value; the document may use MaxDepth less that much.
func (s *Scanner) Document(data []byte, depth int) (start, end int, kind Kind, err error) {
	s.Members = s.Members[:0]
	s.hashes = s.hashes[:0]
	s.Notes = 0
	start = Space(data, 0)
	if start == len(data) {
		return start, start, Invalid, &Error{Offset: start, Reason: "no JSON value"}
	}
	kind = KindOf(data[start])
	if kind == Object {
		end, err = s.object(data, start, depth+1, true)
	} else {
		end, err = s.Value(data, start, depth)
	}
	if err != nil {
		return start, end, Invalid, err
	}
	if i := Space(data, end); i != len(data) {
		return start, end, Invalid, &Error{Offset: i, Reason: "text after the JSON value"}
	}
	return start, end, kind, nil
}

// Value scans the value that begins at data[i], inside depth open arrays and
// objects, and gives the offset behind it. It adds to s.Notes.
func (s *Scanner) Value(data []byte, i, depth int) (end int, err error) {
	if i >= len(data) {
		return i, &Error{Offset: i, Reason: "text ends where a value is due"}
	}
	switch c := data[i]; c {
	case '"':
		end, note, err := ScanString(data, i)
		s.Notes |= note & LoneSurrogate
		return end, err
	case '{':
		return s.object(data, i, depth+1, false)
	case '[':
		return s.array(data, i, depth+1)
	case 't':
		return literal(data, i, "true")
	case 'f':
		return literal(data, i, "false")
	case 'n':
		return literal(data, i, "null")
	default:
		if c == '-' || isDigit(c) {
			return ScanNumber(data, i)
		}
		return i, &Error{Offset: i, Reason: "byte " + strconv.QuoteRuneToASCII(rune(c)) + " cannot begin a value"}
	}
}

func (s *Scanner) array(data []byte, i, depth int) (int, error) {
	if depth > MaxDepth {
		return i, tooDeep(i)
	}
	i = Space(data, i+1)
	if i < len(data) && data[i] == ']' {
		return i + 1, nil
	}
	for {
		var err error
		if i, err = s.Value(data, i, depth); err != nil {
			return i, err
		}
		i = Space(data, i)
		if i >= len(data) {
			return i, &Error{Offset: i, Reason: "text ends inside an array"}
		}
		switch data[i] {
		case ',':
			i = Space(data, i+1)
		case ']':
			return i + 1, nil
		default:
			return i, &Error{Offset: i, Reason: "',' or ']' is due in an array"}
		}
	}
}

func (s *Scanner) object(data []byte, i, depth int, top bool) (int, error) {
	if depth > MaxDepth {
		return i, tooDeep(i)
	}
	i = Space(data, i+1)
	if i < len(data) && data[i] == '}' {
		return i + 1, nil
	}
	base := len(s.hashes)
	for {
		if i >= len(data) || data[i] != '"' {
			return i, &Error{Offset: i, Reason: "a quoted member name is due in an object"}
		}
		key := i
		end, note, err := ScanString(data, i)
		if err != nil {
			return end, err
		}
		s.Notes |= note & LoneSurrogate
		s.seen(data[key+1:end-1], base, note)
		keyEnd := end
		i = Space(data, end)
		if i >= len(data) || data[i] != ':' {
			return i, &Error{Offset: i, Reason: "':' is due after a member name"}
		}
		i = Space(data, i+1)
		val := i
		if i, err = s.Value(data, i, depth); err != nil {
			return i, err
		}
		if top {
			s.Members = append(s.Members, Member{Key: key, KeyEnd: keyEnd, Value: val, ValueEnd: i, Kind: KindOf(data[val]), Escaped: note&Escapes != 0})
		}
		i = Space(data, i)
		if i >= len(data) {
			return i, &Error{Offset: i, Reason: "text ends inside an object"}
		}
		switch data[i] {
		case ',':
			i = Space(data, i+1)
		case '}':
			s.hashes = s.hashes[:base]
			return i + 1, nil
		default:
			return i, &Error{Offset: i, Reason: "',' or '}' is due in an object"}
		}
	}
}

// manyKeys is where comparing every key with all earlier ones would turn
// quadratic: beyond it, a document counts as suspect and Canonical decides
// with a map.
const manyKeys = 64

// seen notes when a key may stand in its object already.
func (s *Scanner) seen(key []byte, base int, note Notes) {
	if s.Notes&DuplicateKeys != 0 {
		return
	}
	if note&Escapes != 0 || len(s.hashes)-base >= manyKeys {
		s.Notes |= DuplicateKeys
		return
	}
	h := hash(key)
	for _, other := range s.hashes[base:] {
		if other == h {
			s.Notes |= DuplicateKeys
			return
		}
	}
	s.hashes = append(s.hashes, h)
}

func hash(key []byte) uint32 {
	h := uint64(len(key)) * 0x9E3779B97F4A7C15
	for len(key) >= 8 {
		h = (h ^ binary.LittleEndian.Uint64(key)) * 0xFF51AFD7ED558CCD
		h ^= h >> 32
		key = key[8:]
	}
	var tail uint64
	for _, c := range key {
		tail = tail<<8 | uint64(c)
	}
	h = (h ^ tail) * 0xC4CEB9FE1A85EC53
	return uint32(h >> 32)
}

// KindOf tells the kind of a value from its first byte.
func KindOf(c byte) Kind {
	switch c {
	case '{':
		return Object
	case '[':
		return Array
	case '"':
		return String
	case 't', 'f':
		return Bool
	case 'n':
		return Null
	default:
		return Number
	}
}

// Space gives the offset of the first byte at or behind i that is not white
// space.
func Space(data []byte, i int) int {
	for i < len(data) {
		switch data[i] {
		case ' ', '\t', '\n', '\r':
			i++
		default:
			return i
		}
	}
	return i
}

// Escapes is a note of ScanString: the string holds a backslash escape, so its
// text differs from the bytes between its quotes.
const Escapes Notes = 1 << 7

const (
	lowBits  = 0x0101010101010101
	highBits = 0x8080808080808080
)

// ScanString scans the string whose opening quote stands at data[i] and gives
// the offset behind its closing quote. The notes are Escapes and LoneSurrogate.
func ScanString(data []byte, i int) (end int, notes Notes, err error) {
	start := i
	i++
	for {
		// Eight bytes at a time: stop at a quote, a backslash, a control byte
		// or anything beyond ASCII. The test is exact for its lowest hit.
		for i+8 <= len(data) {
			w := binary.LittleEndian.Uint64(data[i:])
			quote := w ^ (lowBits * '"')
			slash := w ^ (lowBits * '\\')
			hit := ((quote - lowBits) | (slash - lowBits) | (w - lowBits*0x20) | w) & highBits
			if hit != 0 {
				i += bits.TrailingZeros64(hit) >> 3
				break
			}
			i += 8
		}
		if i >= len(data) {
			return i, notes, &Error{Offset: start, Reason: "text ends inside a string"}
		}
		switch c := data[i]; {
		case c == '"':
			return i + 1, notes, nil
		case c == '\\':
			notes |= Escapes
			n, lone, err := escape(data, i)
			if err != nil {
				return i, notes, err
			}
			if lone {
				notes |= LoneSurrogate
			}
			i += n
		case c < 0x20:
			return i, notes, &Error{Offset: i, Reason: "raw control character in a string"}
		case c < utf8.RuneSelf:
			i++
		default:
			r, n := utf8.DecodeRune(data[i:])
			if r == utf8.RuneError && n == 1 {
				return i, notes, &Error{Offset: i, Reason: "invalid UTF-8 in a string"}
			}
			i += n
		}
	}
}

// escape reads the escape at data[i]; n is its length in bytes, both halves of
// a surrogate pair counted.
func escape(data []byte, i int) (n int, lone bool, err error) {
	if i+1 >= len(data) {
		return 0, false, &Error{Offset: i, Reason: "text ends inside an escape"}
	}
	switch data[i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2, false, nil
	case 'u':
		r, ok := hex4(data, i+2)
		if !ok {
			return 0, false, &Error{Offset: i, Reason: `\u needs four hexadecimal digits`}
		}
		switch {
		case r >= 0xDC00 && r < 0xE000:
			return 6, true, nil
		case r >= 0xD800 && r < 0xDC00:
			if i+12 <= len(data) && data[i+6] == '\\' && data[i+7] == 'u' {
				if low, ok := hex4(data, i+8); ok && low >= 0xDC00 && low < 0xE000 {
					return 12, false, nil
				}
			}
			return 6, true, nil
		}
		return 6, false, nil
	default:
		return 0, false, &Error{Offset: i, Reason: "unknown escape"}
	}
}

func hex4(data []byte, i int) (r rune, ok bool) {
	if i+4 > len(data) {
		return 0, false
	}
	for _, c := range data[i : i+4] {
		switch {
		case isDigit(c):
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// ScanNumber scans the number that begins at data[i] and gives the offset
// behind it.
func ScanNumber(data []byte, i int) (end int, err error) {
	start := i
	if i < len(data) && data[i] == '-' {
		i++
	}
	switch {
	case i >= len(data) || !isDigit(data[i]):
		return i, &Error{Offset: i, Reason: "a digit is due in a number"}
	case data[i] == '0':
		i++
	default:
		i = digits(data, i)
	}
	if i < len(data) && data[i] == '.' {
		j := digits(data, i+1)
		if j == i+1 {
			return j, &Error{Offset: j, Reason: "a digit is due after the decimal point"}
		}
		i = j
	}
	if i < len(data) && (data[i] == 'e' || data[i] == 'E') {
		i++
		if i < len(data) && (data[i] == '+' || data[i] == '-') {
			i++
		}
		j := digits(data, i)
		if j == i {
			return j, &Error{Offset: j, Reason: "a digit is due in an exponent"}
		}
		for i < j && data[i] == '0' {
			i++
		}
		if n := j - i; n > 4 || n == 4 && string(data[i:j]) > "1000" {
			return j, &Error{Offset: start, Reason: "number with an exponent beyond ±1000", Limit: true}
		}
		i = j
	}
	if i-start > MaxNumberLen {
		return i, &Error{Offset: start, Reason: "number of more than 1000 characters", Limit: true}
	}
	return i, nil
}

func digits(data []byte, i int) int {
	for i < len(data) && isDigit(data[i]) {
		i++
	}
	return i
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func literal(data []byte, i int, want string) (int, error) {
	if len(data)-i < len(want) || string(data[i:i+len(want)]) != want {
		return i, &Error{Offset: i, Reason: "value is neither " + want + " nor anything else in JSON"}
	}
	return i + len(want), nil
}

func tooDeep(i int) error {
	return &Error{Offset: i, Reason: "nesting deeper than 128 levels", Limit: true}
}
