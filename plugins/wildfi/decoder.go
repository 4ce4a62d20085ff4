// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package wildfi

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/maphash"
	"io"
)

// Defaults of Options.
const (
	DefaultReorderWindow = 8 << 20
	DefaultNotBefore     = 1_546_300_800 // 2019-01-01, before the first tag was made
	DefaultNotAfter      = 2_147_483_647 // 2038-01-19
)

// maxTags is how many tags a file may hold; messages of more are reported as
// damage. Every unknown address costs memory, and damage makes many of them.
const maxTags = 16384

// Options say how to decode. The zero value is good for any log.
type Options struct {
	// Product is needed only for a log so small or so damaged that it cannot be
	// found out.
	Product Product
	// ReorderWindow is how many bytes of the file are held back so that messages
	// can be put in order. 0 is DefaultReorderWindow. Messages that come later
	// than that are decoded with what was left over at their borders.
	ReorderWindow int
	// NotBefore and NotAfter bound the clock, in seconds since 1970; 0 is the
	// default. They are fixed, not relative to now: the same file gives the same
	// entries on every day.
	NotBefore, NotAfter uint32
}

func (o Options) withDefaults() (Options, error) {
	if o.ReorderWindow == 0 {
		o.ReorderWindow = DefaultReorderWindow
	}
	if o.ReorderWindow < 0 {
		return o, fmt.Errorf("reading reorder window: %d bytes is less than nothing", o.ReorderWindow)
	}
	if o.NotBefore == 0 {
		o.NotBefore = DefaultNotBefore
	}
	if o.NotAfter == 0 {
		o.NotAfter = DefaultNotAfter
	}
	if o.NotAfter < o.NotBefore {
		return o, fmt.Errorf("reading bounds of the clock: the last second %d is before the first %d", o.NotAfter, o.NotBefore)
	}
	return o, nil
}

// Sink takes what a Decoder finds. All may be nil. An error ends the decoding.
type Sink struct {
	Entry  func(*Entry) error  // the entry is valid during the call
	Damage func(*Damage) error // its data too
	// Message takes each message as it stands in the file, in the file's order.
	Message func(tag MAC, message []byte) error
}

// Decoder decodes the bytes that are written to it. It keeps at most the reorder
// window, some tables and what is left over at the borders of damage. It is not
// safe for concurrent use.
type Decoder struct {
	opts   Options
	sink   Sink
	report Report
	err    error
	final  bool

	buf []byte // of the file, not cut into messages yet
	off int64  // of buf in the file

	tags     map[MAC]*tag
	order    []*tag
	lastTag  *tag
	buffered int // bytes that runs hold
	products [3]int

	lostTo        int64 // where the last bytes ended that were no message
	pendingDamage Damage
	damageHash    hash.Hash // of its bytes
	leftovers     leftoverList
	seen          entrySet
	scan          scanner
	spare         []*run // finished runs whose buffers are used again
	entry         Entry
	intervals     int
}

// NewDecoder makes a decoder that gives what it finds to the sink.
func NewDecoder(opts Options, sink Sink) (*Decoder, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	d := &Decoder{opts: opts, sink: sink, tags: map[MAC]*tag{}, lostTo: -1, damageHash: sha256.New()}
	d.report.DamageReasons = map[string]int64{}
	d.report.Damage, d.report.Gaps, d.report.Tags = []Damage{}, []Gap{}, []*TagReport{}
	d.seen.seed = maphash.MakeSeed()
	return d, nil
}

// errClosed is what Write gives after Close.
var errClosed = errors.New("writing to a decoder that is closed")

// Write decodes the next bytes of the file. Its error is one of the sink.
func (d *Decoder) Write(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	if d.final {
		return 0, errClosed
	}
	d.report.Bytes += int64(len(p))
	for rest := p; len(rest) > 0 && d.err == nil; { // in pieces, so that the buffer stays small
		n := min(len(rest), 256<<10)
		d.buf = append(d.buf, rest[:n]...)
		rest = rest[n:]
		d.consume()
	}
	return len(p), d.err
}

func (d *Decoder) consume() {
	n := d.frames()
	d.buf = d.buf[:copy(d.buf, d.buf[n:])]
	d.off += int64(n)
	d.settle()
}

// Close decodes what was held back and gives the report, which is complete when
// the error is nil.
func (d *Decoder) Close() (*Report, error) {
	if !d.final {
		d.final = true
		if d.err == nil {
			d.consume()
		}
		if d.err == nil {
			d.finishAll()
		}
	}
	d.report.finish()
	return &d.report, d.err
}

// Decode decodes all that r gives.
func Decode(r io.Reader, opts Options, sink Sink) (*Report, error) {
	d, err := NewDecoder(opts, sink)
	if err != nil {
		return nil, err
	}
	buf := make([]byte, 256<<10)
	for {
		n, err := r.Read(buf)
		if _, failed := d.Write(buf[:n]); failed != nil {
			report, _ := d.Close()
			return report, failed
		}
		if err == io.EOF {
			return d.Close()
		}
		if err != nil {
			report, _ := d.Close()
			return report, fmt.Errorf("reading log at byte %d: %w", d.report.Bytes, err)
		}
	}
}

// damage reports a region.
func (d *Decoder) damage(g Damage) {
	d.report.DamageCount++
	d.report.DamagedBytes += int64(g.Length)
	d.report.DamageReasons[g.Reason.String()]++
	if len(d.report.Damage) < maxListed {
		listed := g
		listed.Data = nil
		d.report.Damage = append(d.report.Damage, listed)
	}
	if d.sink.Damage != nil && d.err == nil {
		d.err = d.sink.Damage(&g)
	}
}

func (d *Decoder) give(t *tag, message []byte) {
	if d.sink.Message != nil && d.err == nil {
		d.err = d.sink.Message(t.mac, message)
	}
}

// emit gives an entry to the sink, unless the same entry came before.
func (d *Decoder) emit(t *tag) {
	e := &d.entry
	e.Tag, e.Product, e.OwnID = t.mac, t.product, t.ownID
	if d.seen.repeated(t, e) {
		t.report.RepeatEntries++
		return
	}
	t.report.count(e)
	if d.sink.Entry != nil && d.err == nil {
		d.err = d.sink.Entry(e)
	}
}

// entrySet remembers entries by tag, flash address and bytes, so that what two
// gateways received is returned once. When it is full, the oldest are forgotten.
type entrySet struct {
	seed  maphash.Seed
	slots []uint64
	used  int
	key   [10]byte
}

const (
	minSeen = 1 << 12
	maxSeen = 1 << 20
)

func (s *entrySet) repeated(t *tag, e *Entry) bool {
	copy(s.key[:6], t.mac[:])
	binary.LittleEndian.PutUint32(s.key[6:], e.Address)
	h := maphash.Bytes(s.seed, e.Raw) ^ maphash.Bytes(s.seed, s.key[:])
	if h == 0 {
		h = 1
	}
	if s.used*2 >= len(s.slots) && len(s.slots) < maxSeen {
		s.grow()
	}
	mask := uint64(len(s.slots) - 1)
	for probe := range uint64(8) {
		slot := &s.slots[(h+probe)&mask]
		if *slot == h {
			return true
		}
		if *slot == 0 {
			*slot = h
			s.used++
			return false
		}
	}
	s.slots[h&mask] = h
	return false
}

func (s *entrySet) grow() {
	old := s.slots
	s.slots = make([]uint64, max(minSeen, 2*len(old)))
	mask := uint64(len(s.slots) - 1)
	for _, h := range old {
		for probe := uint64(0); h != 0 && probe < 8; probe++ {
			if slot := &s.slots[(h+probe)&mask]; *slot == 0 {
				*slot = h
				break
			}
		}
	}
}

// countFF is how many bytes at the begin of b are FF.
func countFF(b []byte) int {
	n := 0
	for n+8 <= len(b) && binary.LittleEndian.Uint64(b[n:]) == ^uint64(0) {
		n += 8
	}
	for n < len(b) && b[n] == 0xFF {
		n++
	}
	return n
}

var (
	prefixBytes    = []byte{prefix0, prefix1}
	unwrittenBytes = bytes.Repeat([]byte{0xFF}, unwrittenRun)
	burstUnwritten = bytes.Repeat([]byte{0xFF}, unwrittenInBurst)
)
