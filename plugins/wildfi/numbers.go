// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package wildfi

import (
	"math"
	"strconv"
)

// appendFixed appends v with so many decimals, rounded half up from its shortest
// decimal form as Java does; C and Go round the binary value instead.
func appendFixed(b []byte, v float64, decimals int) []byte {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return strconv.AppendFloat(b, v, 'f', -1, 64)
	}
	from := len(b)
	b = strconv.AppendFloat(b, v, 'f', -1, 64)
	point := -1
	for i := from; i < len(b); i++ {
		if b[i] == '.' {
			point = i
			break
		}
	}
	if point < 0 {
		point = len(b)
		if decimals > 0 {
			b = append(b, '.')
		}
	}
	have := max(len(b)-point-1, 0)
	for ; have < decimals; have++ {
		b = append(b, '0')
	}
	if have == decimals {
		return b
	}
	cut := point + 1 + decimals
	up := b[cut] >= '5'
	if decimals == 0 {
		cut = point
	}
	b = b[:cut]
	for i := len(b) - 1; up && i >= from; i-- {
		switch b[i] {
		case '.', '-':
			continue
		case '9':
			b[i] = '0'
		default:
			b[i]++
			up = false
		}
	}
	if up { // 9.99 became 10.00
		first := from
		if b[first] == '-' {
			first++
		}
		b = append(b, 0)
		copy(b[first+1:], b[first:])
		b[first] = '1'
	}
	return b
}

// appendTrimmed appends v with at most so many decimals and without zeros at
// the end.
func appendTrimmed(b []byte, v float64, decimals int) []byte {
	from := len(b)
	b = strconv.AppendFloat(b, v, 'f', decimals, 64)
	if decimals > 0 {
		for b[len(b)-1] == '0' {
			b = b[:len(b)-1]
		}
		if b[len(b)-1] == '.' {
			b = b[:len(b)-1]
		}
	}
	if string(b[from:]) == "-0" {
		return append(b[:from], '0')
	}
	return b
}

// appendScaled appends an integer divided by ten to the power of digits, with so
// many decimals, at least digits.
func appendScaled(b []byte, v int64, digits, decimals int) []byte {
	if v < 0 {
		b = append(b, '-')
		v = -v
	}
	unit := int64(1)
	for range digits {
		unit *= 10
	}
	b = strconv.AppendInt(b, v/unit, 10)
	if decimals == 0 {
		return b
	}
	b = append(b, '.')
	for v, i := v%unit, 0; i < decimals; i++ {
		if unit /= 10; unit > 0 {
			b = append(b, byte('0'+v/unit))
			v %= unit
		} else {
			b = append(b, '0')
		}
	}
	return b
}

// numberTable holds the texts of converted samples by their raw value. A log has
// far more samples than there are raw values.
type numberTable struct {
	text   func(b []byte, raw int16) []byte
	places [1 << 16]uint32 // place in arena and length, 0 where not made yet
	arena  []byte
}

func newNumberTable(text func(b []byte, raw int16) []byte) *numberTable {
	return &numberTable{text: text, arena: make([]byte, 1, 1<<16)}
}

func (t *numberTable) append(b []byte, raw int16) []byte {
	p := t.places[uint16(raw)]
	if p == 0 {
		return t.make(b, raw)
	}
	at := p >> 5
	return append(b, t.arena[at:at+p&31]...)
}

func (t *numberTable) make(b []byte, raw int16) []byte {
	at := len(t.arena)
	t.arena = t.text(t.arena, raw)
	n := len(t.arena) - at
	b = append(b, t.arena[at:]...)
	if n < 32 && at < 1<<27 {
		t.places[uint16(raw)] = uint32(at<<5 | n)
	} else {
		t.arena = t.arena[:at] // factors that make numbers of this length are not in use
	}
	return b
}
