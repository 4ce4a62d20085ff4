// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"encoding/binary"
	"math/bits"
)

// maxNames is how many fields of one object the compiled form keeps apart, one
// bit each; objects with more go to the library.
const maxNames = 64

// field is a name that an object's schema knows.
type field struct {
	name string
	node *node // its schema; nil when the field is forbidden
	bit  uint64
	need uint64 // bits of the fields that this one requires (dependentRequired)
}

// names finds the field of a name: an open-addressed hash table, sparse enough
// that most look-ups compare one name.
type names struct {
	seed  uint64
	shift uint
	slots []uint8 // index into fields + 1; 0 is free
	list  []field
}

// seeds to choose from; the one with the fewest collisions is taken.
var seeds = []uint64{
	0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xFF51AFD7ED558CCD,
	0xC4CEB9FE1A85EC53, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F, 0xE7037ED1A0B428DB,
}

func newNames(list []field) *names {
	size := 1 << bits.Len(uint(4*len(list)))
	t := &names{shift: uint(64 - bits.TrailingZeros(uint(size))), slots: make([]uint8, size), list: list}
	seed, best := seeds[0], len(list)+1
	for _, t.seed = range seeds {
		if n := t.collisions(); n < best {
			seed, best = t.seed, n
		}
	}
	t.seed = seed
	for i, f := range list {
		at := t.hash([]byte(f.name))
		for t.slots[at] != 0 {
			at = (at + 1) & (size - 1)
		}
		t.slots[at] = uint8(i + 1)
	}
	return t
}

func (t *names) collisions() (n int) {
	used := make([]bool, len(t.slots))
	for _, f := range t.list {
		at := t.hash([]byte(f.name))
		if used[at] {
			n++
		}
		used[at] = true
	}
	return n
}

// hash mixes the length with the first and the last eight bytes of a name.
func (t *names) hash(name []byte) int {
	var a, b uint64
	switch n := len(name); {
	case n >= 8:
		a = binary.LittleEndian.Uint64(name)
		b = binary.LittleEndian.Uint64(name[n-8:])
	case n >= 4:
		a = uint64(binary.LittleEndian.Uint32(name))
		b = uint64(binary.LittleEndian.Uint32(name[n-4:]))
	case n > 0:
		a = uint64(name[0]) | uint64(name[n/2])<<8 | uint64(name[n-1])<<16
	}
	h := (a ^ bits.RotateLeft64(b, 23) ^ uint64(len(name))) * t.seed
	h ^= h >> 29
	return int(h * 0x9FB21C651E98DF25 >> t.shift)
}

// find gives the field of a name, nil when the schema does not know it.
func (t *names) find(name []byte) *field {
	for at := t.hash(name); ; at = (at + 1) & (len(t.slots) - 1) {
		i := t.slots[at]
		if i == 0 {
			return nil
		}
		if f := &t.list[i-1]; f.name == string(name) {
			return f
		}
	}
}
