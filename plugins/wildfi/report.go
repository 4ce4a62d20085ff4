// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package wildfi

import (
	"maps"
	"slices"
)

// Reason is why bytes are not part of an entry.
type Reason uint8

// The reasons.
const (
	ReasonNoMessage       Reason = iota + 1 // the file's bytes are no message of a gateway
	ReasonCutMessage                        // the file ends inside a message
	ReasonMessageLength                     // a message is not as long as it says
	ReasonShortMessage                      // a data message too short to hold an address
	ReasonConflict                          // a repeat of a message that differs from the first
	ReasonNoEntry                           // log bytes that begin no entry
	ReasonCutEntry                          // the entry goes on where no bytes are
	ReasonHeadless                          // bytes before the first entry after a gap
	ReasonNeighbourLength                   // the head says the neighbour list is longer than can be
	ReasonBurstLength                       // the head says the burst is longer than can be
	ReasonRecordLength                      // raw GNSS records of another size, or too many
	ReasonWrongLength                       // another entry begins before this one ends, or its samples go on after it
	ReasonImplausible                       // a value that a tag does not store, in an entry that nothing else confirms
	ReasonUnwritten                         // unwritten flash inside the entry
	reasonCount
)

var reasonTexts = [reasonCount]string{
	ReasonNoMessage:       "bytes that are no message of a gateway",
	ReasonCutMessage:      "the file ends inside this message",
	ReasonMessageLength:   "the message is not as long as it says",
	ReasonShortMessage:    "a data message too short to hold a flash address",
	ReasonConflict:        "a repeat of a message whose bytes differ from the first",
	ReasonNoEntry:         "log bytes that begin no known entry",
	ReasonCutEntry:        "the rest of this entry is not in the file",
	ReasonHeadless:        "the end of an entry whose beginning is not in the file",
	ReasonNeighbourLength: "the entry says its neighbour list is longer than 512 bytes",
	ReasonBurstLength:     "the entry says its burst is longer than 8192 bytes",
	ReasonRecordLength:    "raw GNSS records are not 34 bytes each, or more than 50",
	ReasonWrongLength:     "the entry does not end where it says",
	ReasonImplausible:     "the entry has a value that a tag does not store",
	ReasonUnwritten:       "unwritten flash inside the entry",
}

// String says the reason in words.
func (r Reason) String() string {
	if r < reasonCount && reasonTexts[r] != "" {
		return reasonTexts[r]
	}
	return "unknown reason"
}

// MarshalText gives the reason in words.
func (r Reason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// MarshalText gives the address as String does.
func (m MAC) MarshalText() ([]byte, error) { return m.AppendTo(nil, ':'), nil }

// Damage is a region that could not be decoded.
type Damage struct {
	Offset  int64  `json:"file_offset"` // of its first byte in the file
	End     int64  `json:"file_end"`    // after its last byte in the file; messages of other tags may lie between
	Length  int    `json:"length"`      // how many bytes it has
	Tag     MAC    `json:"tag_mac,omitzero"`
	Address uint32 `json:"flash_address"` // of its first byte, where there is a tag
	Reason  Reason `json:"reason"`
	Data    []byte `json:"-"` // its bytes, at most the first 64 KiB; valid during the call

	SHA256 [32]byte `json:"-"` // of all its bytes; only for a sink that takes damage
}

// maxDamageData is how many bytes of a damaged region are kept.
const maxDamageData = 64 << 10

// Gap is a stretch of a tag's flash that is not in the file, between two that
// are.
type Gap struct {
	Tag     MAC    `json:"tag_mac"`
	Address uint32 `json:"flash_address"`
	Length  uint32 `json:"length"`
	Offset  int64  `json:"file_offset"` // of the message after the gap
}

// maxListed is how many gaps and damaged regions a report lists; all are
// counted.
const maxListed = 1000

// TagReport says what the file holds of one tag.
type TagReport struct {
	Tag           MAC              `json:"tag_mac"`
	Product       string           `json:"product"`
	OwnID         string           `json:"own_id,omitempty"` // proximity tags only, hexadecimal
	Messages      int64            `json:"messages"`
	Status        int64            `json:"status_messages"`
	Duplicates    int64            `json:"duplicate_messages"`
	LogBytes      int64            `json:"log_bytes"`       // without duplicates
	EntryBytes    int64            `json:"entry_bytes"`     // decoded
	UnwrittenByte int64            `json:"unwritten_bytes"` // FF between entries
	DamagedBytes  int64            `json:"damaged_bytes"`   // reported as damage
	Entries       map[string]int64 `json:"entries"`         // by type, two hexadecimal digits
	EntryCount    int64            `json:"entry_count"`
	Doubtful      int64            `json:"doubtful_entries"`
	ClockUnset    int64            `json:"clock_unset_entries"`
	Samples       int64            `json:"samples"`
	Fixes         int64            `json:"fixes"`
	FirstUTC      uint32           `json:"first_utc,omitempty"` // among entries with a clock
	LastUTC       uint32           `json:"last_utc,omitempty"`
	Gaps          int64            `json:"gaps"`
	GapBytes      int64            `json:"gap_bytes"`
	LateFragments int64            `json:"late_fragments"` // arrived outside the reorder window
	RepeatEntries int64            `json:"repeated_entries"`
	BatteryMinMV  uint16           `json:"battery_min_mv,omitempty"`
	BatteryMaxMV  uint16           `json:"battery_max_mv,omitempty"`
	TemperatureLo *float64         `json:"temperature_min_c,omitempty"`
	TemperatureHi *float64         `json:"temperature_max_c,omitempty"`

	counts [256]int64
}

// Report says what became of every byte of a file.
type Report struct {
	Bytes         int64            `json:"bytes"`
	MessageBytes  int64            `json:"message_bytes"`
	Messages      int64            `json:"messages"`
	EmptyMessages int64            `json:"empty_messages"`
	Entries       map[string]int64 `json:"entries"`
	EntryCount    int64            `json:"entry_count"`
	Samples       int64            `json:"samples"`
	DamageCount   int64            `json:"damage_count"`
	DamagedBytes  int64            `json:"damaged_bytes"`
	DamageReasons map[string]int64 `json:"damage_reasons"`
	GapCount      int64            `json:"gap_count"`
	Tags          []*TagReport     `json:"tags"`
	Damage        []Damage         `json:"damage"` // the first 1,000
	Gaps          []Gap            `json:"gaps"`   // the first 1,000
}

// IsLog tells whether the file is the log of a gateway as far as one can tell,
// also when it is empty: it holds an entry, or most of it is messages.
func (r *Report) IsLog() bool { return r.EntryCount > 0 || 2*r.MessageBytes >= r.Bytes }

// Clean tells whether everything in the file was decoded.
func (r *Report) Clean() bool { return r.DamageCount == 0 }

func (t *TagReport) count(e *Entry) {
	t.counts[e.Type]++
	t.EntryCount++
	t.EntryBytes += int64(len(e.Raw))
	if e.Doubts != 0 {
		t.Doubtful++
	}
	if e.Clock() {
		if t.FirstUTC == 0 || e.UTC < t.FirstUTC {
			t.FirstUTC = e.UTC
		}
		t.LastUTC = max(t.LastUTC, e.UTC)
	} else {
		t.ClockUnset++
	}
	t.Samples += int64(e.Samples())
	if e.Fix() {
		t.Fixes++
	}
	if e.Type.HasBattery() && e.Battery > 0 {
		if t.BatteryMinMV == 0 || e.Battery < t.BatteryMinMV {
			t.BatteryMinMV = e.Battery
		}
		t.BatteryMaxMV = max(t.BatteryMaxMV, e.Battery)
	}
	if c, ok := e.TemperatureC(); ok {
		if t.TemperatureLo == nil {
			lo, hi := c, c
			t.TemperatureLo, t.TemperatureHi = &lo, &hi
		}
		*t.TemperatureLo, *t.TemperatureHi = min(*t.TemperatureLo, c), max(*t.TemperatureHi, c)
	}
}

// finish fills what is derived.
func (r *Report) finish() {
	r.Entries = map[string]int64{}
	r.EntryCount, r.Samples, r.GapCount = 0, 0, 0
	for _, t := range r.Tags {
		t.Entries = map[string]int64{}
		for typ, n := range t.counts {
			if n > 0 {
				t.Entries[Type(typ).String()] = n
				r.Entries[Type(typ).String()] += n
			}
		}
		r.EntryCount += t.EntryCount
		r.Samples += t.Samples
		r.GapCount += t.Gaps
	}
}

// Types lists the types of entries that were found.
func (r *Report) Types() []string { return slices.Sorted(maps.Keys(r.Entries)) }
