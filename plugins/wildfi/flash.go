// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package wildfi

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"slices"
)

// A tag's flash is a ring of 131,072 pages of 2,048 bytes.
const (
	flashBytes = 131072 * 2048
	ringMask   = flashBytes - 1
)

// addressDelta is how far it is from a to b around the ring.
func addressDelta(a, b uint32) uint32 { return (b - a) & ringMask }

// runCost is what a run costs beside its bytes, so that a file of single bytes
// at random addresses does not fill the memory.
const runCost = 1 << 10

// segment is the part of a run that one message brought.
type segment struct {
	at   int    // in the run's buffer
	addr uint32 // flash address of its first byte
	off  int64  // of its first byte in the file
}

// span is a part of a run's buffer.
type span struct{ from, to int }

// doubtful is a message of wrong length in a run's buffer. Either the bytes
// between stray and to are not the tag's, or others before them are not.
type doubtful struct {
	span
	stray int
}

func (x doubtful) moved(by int) doubtful {
	return doubtful{span{x.from + by, x.to + by}, x.stray + by}
}

// run is a stretch of one tag's flash without a gap.
type run struct {
	base, end uint32 // flash addresses; end is after the last byte
	buf       []byte // from base on, less what is decoded
	segs      []segment
	decoded   int  // bytes decoded before buf[0]
	gen       int  // how often the tag's flash was written anew before, as far as known
	started   bool // some of it may be decoded
	attached  bool // what was left over before it is part of it
	anchored  bool // buf[0] begins an entry
	broken    bool // a message of unknown length is in it: addresses have a jump
	suspect   []doubtful
	flexFrom  uint32 // address of that message, whose end is not known
	flex      bool
	last      int64 // file offset of the newest message
}

// pendingMessage is a data message of a tag whose product is not known yet.
type pendingMessage struct {
	payload []byte
	off     int64
	trust   trust
}

const maxPendingBytes = 64 << 10

// interval is a stretch of a tag's flash that has been decoded.
type interval struct {
	from   uint32
	length uint32
	off    int64 // of its first message
}

// maxIntervals bounds what all tags together remember of where they were, and
// maxUnordered how much of it is moved for a stretch that comes out of order.
// Beyond, gaps are not counted any more.
const (
	maxIntervals = 1 << 18
	maxUnordered = 1 << 12
)

// tag is what is known of one tag.
type tag struct {
	mac     MAC
	report  *TagReport
	product Product
	ownID   uint16
	hasID   bool

	prevAddr    uint32
	prevPayload int // 0 before the first data message

	pending      []pendingMessage
	pendingBytes int

	runs      []*run // by base
	cur       *run   // the one that grew last
	gen       int
	intervals []interval // by address
	leftovers []*leftover
}

func (t *tag) ownLen() int {
	if t.product == Proximity {
		return ownIDLen
	}
	return 0
}

// expects tells whether the next data message of the tag should have the address.
func (t *tag) expects(addr uint32) bool {
	if t.prevPayload == 0 || t.product == ProductAuto {
		return false
	}
	return addressDelta(t.prevAddr, addr) == uint32(t.prevPayload-dataHead-t.ownLen())
}

// tag finds the tag of a message, or makes it. message is the data message that
// named it, nil for other messages; afterLoss says that the bytes before it were
// no message. It is nil when there are too many.
func (d *Decoder) tag(mac MAC, message []byte, afterLoss bool) *tag {
	if d.lastTag != nil && d.lastTag.mac == mac {
		return d.lastTag
	}
	t := d.tags[mac]
	if t == nil && message != nil {
		addr := flashAddress(message[messageHead:])
		if t = d.misspelt(mac, addr); t == nil && afterLoss && !bytes.Contains(message[messageHead:min(len(message), recurWithin)], mac[:]) {
			t = d.expecting(addr)
		}
	}
	if t == nil {
		if len(d.order) >= maxTags {
			return nil
		}
		t = &tag{mac: mac, product: d.opts.Product, report: &TagReport{Tag: mac}}
		d.tags[mac] = t
		d.order = append(d.order, t)
	}
	d.lastTag = t
	return t
}

// maxCompared is with how many tags an unknown one is compared.
const maxCompared = 256

// misspelt finds the tag that a message with an unknown tag address is of: one
// byte of the tag address differs, and the flash address is the next one.
func (d *Decoder) misspelt(mac MAC, addr uint32) *tag {
	for _, t := range d.order[:min(len(d.order), maxCompared)] {
		wrong := 0
		for i := range mac {
			if mac[i] != t.mac[i] {
				wrong++
			}
		}
		if wrong == 1 && t.expects(addr) {
			return t
		}
	}
	return nil
}

// expecting finds the tag whose next data message should have the address.
func (d *Decoder) expecting(addr uint32) *tag {
	for _, t := range d.order[:min(len(d.order), maxCompared)] {
		if t.expects(addr) {
			return t
		}
	}
	return nil
}

// forget takes back a tag that was made for bytes that were no message.
func (d *Decoder) forget(t *tag) {
	delete(d.tags, t.mac)
	d.order = slices.DeleteFunc(d.order, func(o *tag) bool { return o == t })
	d.lastTag = nil
}

// accept takes a data message; off is that of its first byte.
func (d *Decoder) accept(t *tag, message []byte, off int64, tr trust) {
	payload := message[messageHead:]
	if !tr.cut {
		d.give(t, message)
	}
	d.report.Messages++
	d.report.MessageBytes += int64(len(message))
	t.report.Messages++
	if len(payload) < dataHead {
		return
	}
	payloadOff := off + messageHead
	addr := flashAddress(payload)
	if t.product == ProductAuto {
		t.product = productOf(t, addr)
		if t.product == ProductAuto {
			t.pending = append(t.pending, pendingMessage{bytes.Clone(payload), payloadOff, tr})
			t.pendingBytes += len(payload) + runCost
			d.buffered += len(payload) + runCost
			t.prevAddr, t.prevPayload = addr, len(payload)
			if t.pendingBytes > maxPendingBytes {
				d.decideProduct(t)
			}
			return
		}
	}
	t.prevAddr, t.prevPayload = addr, len(payload)
	if len(t.pending) > 0 {
		d.releasePending(t)
	}
	d.place(t, payload, payloadOff, tr)
}

// productOf tells the product from two messages in a row: the address grows by
// the log bytes of the first, and those are two fewer if it has an own id.
func productOf(t *tag, addr uint32) Product {
	delta, n := int(addressDelta(t.prevAddr, addr)), t.prevPayload-dataHead
	switch {
	case n <= 0 || delta == 0:
		return ProductAuto
	case delta == n:
		return Movement
	case delta == n-ownIDLen:
		return Proximity
	}
	return ProductAuto
}

// decideProduct settles the product of a tag without two messages in a row: by
// the own id, which is normally the end of the tag's address, else by what
// decodes to more, else as most tags of the file.
func (d *Decoder) decideProduct(t *tag) {
	id := 0
	var decoded [3]int
	for _, m := range t.pending {
		if len(m.payload) >= dataHead+ownIDLen && bytes.Equal(m.payload[dataHead:dataHead+ownIDLen], t.mac[4:]) {
			id++
		}
		for _, p := range []Product{Movement, Proximity} {
			if own := dataHead + int(p-Movement)*ownIDLen; len(m.payload) > own {
				decoded[p] += d.trial(m.payload[own:])
			}
		}
	}
	switch {
	case id > 0 && id == len(t.pending):
		t.product = Proximity
	case decoded[Proximity] > decoded[Movement]:
		t.product = Proximity
	case decoded[Movement] > decoded[Proximity]:
		t.product = Movement
	case d.products[Proximity] > d.products[Movement]:
		t.product = Proximity
	default:
		t.product = Movement
	}
	d.releasePending(t)
}

// trial gives how many bytes of b are entries.
func (d *Decoder) trial(b []byte) int {
	s := scanner{notBefore: d.opts.NotBefore, notAfter: d.opts.NotAfter}
	n := 0
	s.start(b, true, false, nil)
	s.found = func(p int, e *Entry) { n += len(e.Raw) }
	s.bad = func(from, to int, _ Reason) {}
	s.scan(len(b))
	return n
}

func (d *Decoder) releasePending(t *tag) {
	d.products[t.product]++
	pending := t.pending
	d.buffered -= t.pendingBytes
	t.pending, t.pendingBytes = nil, 0
	for _, m := range pending {
		d.place(t, m.payload, m.off, m.trust)
	}
}

// place puts the log bytes of a data message where their address says.
func (d *Decoder) place(t *tag, payload []byte, off int64, tr trust) {
	head := dataHead + t.ownLen()
	if len(payload) < head {
		d.frameDamage(payload, off, t, ReasonShortMessage)
		return
	}
	if t.product == Proximity && !t.hasID {
		t.hasID, t.ownID = true, uint16(payload[5])<<8|uint16(payload[6])
	}
	addr, data := flashAddress(payload), payload[head:]
	off += int64(head)
	if len(data) == 0 {
		return
	}
	if r := t.cur; r != nil && (r.end == addr || r.flex && addressDelta(r.flexFrom, addr)-1 < maxLogBytes) {
		d.grow(t, r, addr, data, off, tr)
		return
	}
	// Not the next one: a repeat, a gap, or out of order.
	i, _ := slices.BinarySearchFunc(t.runs, addr, func(r *run, addr uint32) int {
		if r.base <= addr {
			return -1
		}
		return 1
	})
	for j := i - 1; j >= 0 && j >= i-4; j-- {
		if r := t.runs[j]; d.joinTo(t, r, addr, data, off, tr) {
			return
		}
	}
	if n := len(t.runs); n > 0 && i-4 < 0 { // a run may go around the ring
		if r := t.runs[n-1]; r.base > addr && d.joinTo(t, r, addr, data, off, tr) {
			return
		}
	}
	r := d.newRun()
	r.base, r.end, r.gen = addr, addr, t.gen
	t.runs = slices.Insert(t.runs, i, r)
	d.buffered += runCost
	d.grow(t, r, addr, data, off, tr)
}

// maxSpare and maxSpareBytes bound the buffers that are kept for later runs.
const (
	maxSpare      = 16
	maxSpareBytes = 1 << 20
)

func (d *Decoder) newRun() *run {
	n := len(d.spare)
	if n == 0 {
		return &run{}
	}
	old := d.spare[n-1]
	d.spare = d.spare[:n-1]
	return &run{buf: old.buf[:0], segs: old.segs[:0]}
}

// recycle keeps the buffers of a run that nobody refers to any more.
func (d *Decoder) recycle(r *run) {
	if len(d.spare) < maxSpare && cap(r.buf) <= maxSpareBytes {
		d.spare = append(d.spare, r)
	}
}

// joinTo deals with a message that begins inside the run or at its end. It is
// false when the message is not part of the run.
func (d *Decoder) joinTo(t *tag, r *run, addr uint32, data []byte, off int64, tr trust) bool {
	if addr == r.end {
		d.grow(t, r, addr, data, off, tr)
		return true
	}
	have := r.bytesAt(addr)
	if have == nil {
		return false
	}
	m := min(len(have), len(data))
	if same := bytes.Equal(have[:m], data[:m]); !same {
		differing := 0
		for k := range m {
			if have[k] != data[k] {
				differing++
			}
		}
		if m == len(data) && differing*4 < m { // damaged on one of its ways
			d.frameDamage(data, off, t, ReasonConflict)
			return true
		}
		if r.gen == t.gen { // the flash was erased and written anew
			t.gen++
		}
		return false
	}
	if m == len(data) {
		t.report.Duplicates++
		return true
	}
	if r.broken || tr.suspect {
		return false
	}
	d.grow(t, r, r.end, data[m:], off+int64(m), sound)
	return true
}

// bytesAt gives the run's bytes from the address on, nil where it has none.
func (r *run) bytesAt(addr uint32) []byte {
	if !r.broken {
		rel := int(addressDelta(r.base, addr)) - r.decoded
		if rel < 0 || rel >= len(r.buf) {
			return nil
		}
		return r.buf[rel:]
	}
	for i, s := range r.segs { // rare: a run with a damaged message
		if s.addr == addr {
			to := len(r.buf)
			if i+1 < len(r.segs) {
				to = r.segs[i+1].at
			}
			return r.buf[s.at:to]
		}
	}
	return nil
}

// grow appends to a run.
func (d *Decoder) grow(t *tag, r *run, addr uint32, data []byte, off int64, tr trust) {
	t.cur = r
	if addr != r.end {
		r.broken = true
	}
	r.segs = append(r.segs, segment{len(r.buf), addr, off})
	if tr.suspect {
		to := len(r.buf) + len(data)
		r.suspect = append(r.suspect, doubtful{span{len(r.buf), to}, to - min(tr.stray, len(data))})
		r.broken, r.flex, r.flexFrom = true, true, addr
	} else {
		r.flex = false
	}
	r.buf = append(r.buf, data...)
	r.end = (addr + uint32(len(data))) & ringMask
	r.last = max(r.last, off)
	d.buffered += len(data)
	t.report.LogBytes += int64(len(data))
}

// join appends b, which begins skip bytes before a ends.
func (d *Decoder) join(a, b *run, skip int) {
	for _, s := range b.segs {
		if s.at < skip {
			s.addr = (s.addr + uint32(skip-s.at)) & ringMask
			s.off += int64(skip - s.at)
			s.at = skip
			if n := len(a.segs); n > 0 && a.segs[n-1].at == len(a.buf) {
				a.segs = a.segs[:n-1]
			}
		}
		s.at += len(a.buf) - skip
		a.segs = append(a.segs, s)
	}
	for _, s := range b.suspect {
		a.suspect = append(a.suspect, s.moved(len(a.buf)-skip))
	}
	a.buf = append(a.buf, b.buf[skip:]...)
	a.end, a.broken, a.flex, a.flexFrom = b.end, a.broken || b.broken, b.flex, b.flexFrom
	a.last = max(a.last, b.last)
	d.buffered -= skip + runCost
}

// normalise joins the runs of a tag that touch, or that overlap and agree.
func (d *Decoder) normalise(t *tag) {
	if len(t.runs) < 2 {
		return
	}
	joined := t.runs[:1]
	for _, b := range t.runs[1:] {
		a := joined[len(joined)-1]
		for back := len(joined) - 1; back > 0 && a.gen != b.gen && back > len(joined)-4; back-- {
			a = joined[back-1]
		}
		if !d.tryJoin(t, a, b) {
			joined = append(joined, b)
		}
	}
	clear(t.runs[len(joined):])
	t.runs = joined
	if n := len(t.runs); n > 1 && t.runs[0].base == t.runs[n-1].end && d.tryJoin(t, t.runs[n-1], t.runs[0]) {
		t.runs = slices.Delete(t.runs, 0, 1)
	}
}

func (d *Decoder) tryJoin(t *tag, a, b *run) bool {
	if a == b || a.gen != b.gen || b.started {
		return false
	}
	rel := int(addressDelta(a.base, b.base)) - a.decoded
	overlap := len(a.buf) - rel
	if a.end == b.base {
		overlap = 0
	} else if a.broken || rel < 0 || overlap <= 0 {
		return false
	}
	switch {
	case overlap == 0:
	case b.broken || !bytes.Equal(a.buf[rel:rel+min(overlap, len(b.buf))], b.buf[:min(overlap, len(b.buf))]):
		return false
	case overlap >= len(b.buf): // all of it is there
		d.buffered -= len(b.buf) + runCost
		t.report.LogBytes -= int64(len(b.buf))
		t.report.Duplicates += int64(len(b.segs))
		if t.cur == b {
			t.cur = nil
		}
		return true
	}
	d.join(a, b, overlap)
	t.report.LogBytes -= int64(overlap)
	if t.cur == b {
		t.cur = a
	}
	return true
}

// settle decodes what is older than the reorder window.
func (d *Decoder) settle() {
	window := d.opts.ReorderWindow
	if d.buffered <= window {
		return
	}
	keep := window - window/16
	for d.err == nil {
		cutoff := d.off - int64(keep)
		for _, t := range d.order {
			if len(t.pending) > 0 && t.pending[0].off < cutoff {
				d.decideProduct(t)
			}
			if len(t.runs) > 0 {
				d.flush(t, cutoff)
			}
		}
		if d.buffered <= window-window/16 || keep == 0 {
			return
		}
		keep /= 2
	}
}

// flush decodes a tag's bytes that came before the cutoff.
func (d *Decoder) flush(t *tag, cutoff int64) {
	d.normalise(t)
	kept := t.runs[:0]
	for _, r := range t.runs {
		switch {
		case d.err != nil:
		case r.last < cutoff:
			d.finish(t, r)
			if t.cur == r {
				t.cur = nil
			}
			d.recycle(r)
			continue
		case r.segs[0].off < cutoff:
			d.progress(t, r, cutoff)
		}
		kept = append(kept, r)
	}
	clear(t.runs[len(kept):])
	t.runs = kept
}

// finishAll decodes everything that is left, at the end of the file.
func (d *Decoder) finishAll() {
	d.flushFrameDamage()
	for _, t := range d.order {
		if len(t.pending) > 0 {
			d.decideProduct(t)
		}
		d.normalise(t)
		slices.SortStableFunc(t.runs, func(a, b *run) int { return cmp.Compare(a.gen, b.gen) })
		for _, r := range t.runs {
			if d.err == nil {
				d.finish(t, r)
			}
		}
		t.runs, t.cur = nil, nil
		t.report.Product = t.product.String()
		if t.hasID {
			t.report.OwnID = string([]byte{hexDigits[t.ownID>>12], hexDigits[t.ownID>>8&15], hexDigits[t.ownID>>4&15], hexDigits[t.ownID&15]})
		}
	}
	for _, l := range d.leftovers.takeAll() {
		if d.err == nil {
			d.reportLeftover(l)
		}
	}
	for _, t := range d.order {
		d.gaps(t)
		d.report.Tags = append(d.report.Tags, t.report)
	}
	d.flushFrameDamage()
}

// settled notes that the bytes of a run were decoded. It tells whether some of
// them had been before.
func (d *Decoder) settled(t *tag, from uint32, length int, off int64) (before bool) {
	if length == 0 {
		return false
	}
	iv := t.intervals
	i, _ := slices.BinarySearchFunc(iv, from, func(v interval, from uint32) int {
		if v.from <= from {
			return -1
		}
		return 1
	})
	if i > 0 {
		p := &iv[i-1]
		if rel := from - p.from; rel < p.length {
			before = true
			p.length = max(p.length, rel+uint32(length))
			return before
		} else if rel == p.length {
			p.length += uint32(length)
			return false
		}
	}
	if d.intervals < maxIntervals && (len(iv) < maxUnordered || len(iv)-i < maxUnordered) {
		d.intervals++
		t.intervals = slices.Insert(iv, i, interval{from, uint32(length), off})
	}
	return false
}

// gaps reports the stretches of flash that are missing between others.
func (d *Decoder) gaps(t *tag) {
	if len(t.intervals) < 2 {
		return
	}
	// Around a ring there is always one stretch that is not there: the widest is
	// where the log begins, not a gap.
	type gap struct {
		Gap
		length uint32
	}
	var found []gap
	reach := t.intervals[0].from + t.intervals[0].length
	for _, v := range t.intervals[1:] {
		if v.from > reach {
			found = append(found, gap{Gap{Tag: t.mac, Address: reach, Length: v.from - reach, Offset: v.off}, v.from - reach})
		}
		reach = max(reach, v.from+v.length)
	}
	first := t.intervals[0]
	around := flashBytes - int64(reach) + int64(first.from)
	if around > 0 {
		found = append(found, gap{Gap{Tag: t.mac, Address: reach & ringMask, Length: uint32(around), Offset: first.off}, uint32(around)})
	}
	widest := 0
	for i, g := range found {
		if g.length >= found[widest].length {
			widest = i
		}
	}
	for i, g := range found {
		if i == widest {
			continue
		}
		t.report.Gaps++
		t.report.GapBytes += int64(g.length)
		if len(d.report.Gaps) < maxListed {
			d.report.Gaps = append(d.report.Gaps, g.Gap)
		}
	}
}

// leftover is a piece at the border of a run that may be part of an entry: the
// end of one whose beginning did not come yet, or the beginning of one whose end
// did not. When the missing bytes come, however late, they are put together.
type leftover struct {
	t    *tag
	gen  int
	at   uint32 // address of the border: where a tail ends, where a head begins
	tail bool
	buf  []byte
	segs []segment
	gone bool
}

// from is the address of its first byte.
func (l *leftover) from() uint32 { return l.segs[0].addr }

// leftoverList holds leftovers in order of age; each tag has its own, too.
type leftoverList struct {
	order []*leftover
	gone  int
	bytes int
}

const (
	maxLeftoverBytes = 4 << 20
	maxLeftovers     = 512 // of one tag; each is looked at when a run ends
	leftoverCost     = 512
)

func (ll *leftoverList) remove(l *leftover) {
	l.gone = true
	ll.gone++
	ll.bytes -= len(l.buf) + leftoverCost
	l.t.leftovers = slices.DeleteFunc(l.t.leftovers, func(o *leftover) bool { return o == l })
}

// put keeps a leftover, and gives back those that must go for it.
func (ll *leftoverList) put(l *leftover) (out []*leftover) {
	for _, o := range l.t.leftovers {
		if o.tail == l.tail && o.gen == l.gen && o.at == l.at {
			ll.remove(o)
			if !bytes.Equal(o.buf, l.buf) { // else it is the same piece once more
				out = append(out, o)
			}
			break
		}
	}
	if len(l.t.leftovers) >= maxLeftovers {
		oldest := l.t.leftovers[0]
		ll.remove(oldest)
		out = append(out, oldest)
	}
	l.t.leftovers = append(l.t.leftovers, l)
	ll.order = append(ll.order, l)
	ll.bytes += len(l.buf) + leftoverCost
	for ll.bytes > maxLeftoverBytes {
		if oldest := ll.order[0]; !oldest.gone {
			ll.remove(oldest)
			out = append(out, oldest)
		}
		ll.order = ll.order[1:]
		ll.gone--
	}
	if ll.gone > 64 && ll.gone > len(ll.order)/2 {
		ll.order = slices.DeleteFunc(ll.order, func(l *leftover) bool { return l.gone })
		ll.gone = 0
	}
	return out
}

func (ll *leftoverList) takeAll() []*leftover {
	all := slices.DeleteFunc(ll.order, func(l *leftover) bool { return l.gone })
	ll.order, ll.bytes = nil, 0
	return all
}

// takeTail takes the leftover whose entry goes on in the run: it begins before
// the run, and ends where the run begins, or after that with the same bytes. It
// is cut to the part before the run.
func (d *Decoder) takeTail(t *tag, r *run) *leftover {
	for _, l := range t.leftovers {
		if !l.tail || l.gen != r.gen {
			continue
		}
		n := int(addressDelta(l.from(), r.base))
		if n == 0 || n > len(l.buf) {
			continue
		}
		over := l.buf[n:]
		if m := min(len(over), len(r.buf)); len(over) > 0 && (r.broken || !bytes.Equal(over[:m], r.buf[:m]) || len(over) >= len(r.buf)) {
			continue
		}
		d.leftovers.remove(l)
		l.buf = l.buf[:n]
		l.segs = slices.DeleteFunc(l.segs, func(s segment) bool { return s.at >= n })
		return l
	}
	return nil
}

// takeHead takes the leftover that the run's last entry goes on in: it begins
// where the run ends, or before that with the same bytes. It is cut to the part
// after the run.
func (d *Decoder) takeHead(t *tag, r *run) *leftover {
	for _, l := range t.leftovers {
		if l.tail || l.gen != r.gen {
			continue
		}
		n := int(addressDelta(l.from(), r.end)) // bytes of it that the run has
		if n >= len(l.buf) || n >= len(r.buf) {
			continue
		}
		if n > 0 && (r.broken || !bytes.Equal(l.buf[:n], r.buf[len(r.buf)-n:])) {
			continue
		}
		d.leftovers.remove(l)
		if n > 0 {
			i, addr, off := locate(l.segs, 0, n)
			segs := []segment{{0, addr, off}}
			for _, s := range l.segs[i+1:] {
				segs = append(segs, segment{s.at - n, s.addr, s.off})
			}
			l.buf, l.segs = l.buf[n:], segs
		}
		return l
	}
	return nil
}

func (d *Decoder) keepLeftover(l *leftover) {
	for _, out := range d.leftovers.put(l) {
		d.reportLeftover(out)
	}
}

func (d *Decoder) reportLeftover(l *leftover) {
	reason := ReasonHeadless
	if l.tail {
		reason = ReasonCutEntry
	}
	d.runDamage(l.t, l.buf, l.segs, 0, len(l.buf), reason)
}

// runDamage reports a part of a run's buffer.
func (d *Decoder) runDamage(t *tag, buf []byte, segs []segment, from, to int, reason Reason) {
	i, addr, off := locate(segs, 0, from)
	_, _, last := locate(segs, i, to-1)
	t.report.DamagedBytes += int64(to - from)
	g := Damage{
		Offset: off, End: last + 1, Length: to - from, Tag: t.mac, Address: addr, Reason: reason,
		Data: buf[from:min(to, from+maxDamageData)],
	}
	if d.sink.Damage != nil {
		g.SHA256 = sha256.Sum256(buf[from:to])
	}
	d.damage(g)
}

// locate gives the flash address and the file offset of the byte at p, and its
// segment; i is a segment not after it.
func locate(segs []segment, i, p int) (int, uint32, int64) {
	for i+1 < len(segs) && segs[i+1].at <= p {
		i++
	}
	s := segs[i]
	return i, (s.addr + uint32(p-s.at)) & ringMask, s.off + int64(p-s.at)
}

// progress decodes the part of a run that came before the cutoff.
func (d *Decoder) progress(t *tag, r *run, cutoff int64) {
	if len(r.buf) <= scanLookahead {
		return
	}
	d.attachTail(t, r)
	i := 0
	for i < len(r.segs) && r.segs[i].off < cutoff {
		i++
	}
	if i == len(r.segs) {
		i--
	}
	limit := min(r.segs[i].at, len(r.buf)-scanLookahead)
	if limit <= 0 {
		return
	}
	n := d.decodeRun(t, r, limit, false)
	d.drop(t, r, n)
}

// drop forgets the first n bytes of a run.
func (d *Decoder) drop(t *tag, r *run, n int) {
	if n == 0 {
		return
	}
	i, addr, off := locate(r.segs, 0, n)
	d.settled(t, r.segs[0].addr, n, r.segs[0].off)
	r.segs[i] = segment{0, addr, off}
	for j := i + 1; j < len(r.segs); j++ {
		r.segs[j].at -= n
	}
	r.segs[i].at = 0
	r.segs = append(r.segs[:0], r.segs[i:]...)
	kept := r.suspect[:0]
	for _, s := range r.suspect {
		if s.to > n {
			kept = append(kept, s.moved(-n))
		}
	}
	r.suspect = kept
	r.buf = r.buf[:copy(r.buf, r.buf[n:])]
	r.decoded += n
	d.buffered -= n
}

// finish decodes all of a run, together with what was left over at its borders.
func (d *Decoder) finish(t *tag, r *run) {
	d.attachTail(t, r)
	d.buffered -= len(r.buf) + runCost
	if len(r.segs) > 0 && d.settled(t, r.segs[0].addr, len(r.buf), r.segs[0].off) {
		t.report.LateFragments++
	}
	if l := d.takeHead(t, r); l != nil {
		d.join(r, &run{base: r.end, end: (r.end + uint32(len(l.buf))) & ringMask, buf: l.buf, segs: l.segs}, 0)
		d.buffered += runCost
		t.report.LateFragments++
	}
	d.decodeRun(t, r, len(r.buf), true)
}

// attachTail puts the end of an entry that is left over before a run in front of
// it, before its first bytes are decoded.
func (d *Decoder) attachTail(t *tag, r *run) {
	if r.started {
		return
	}
	r.started = true
	l := d.takeTail(t, r)
	if l == nil {
		return
	}
	front := &run{base: l.from(), end: r.base, buf: l.buf, segs: l.segs}
	front.broken = int(addressDelta(front.base, r.base)) != len(l.buf)
	d.buffered += len(l.buf) + runCost
	d.join(front, r, 0)
	r.base, r.buf, r.segs, r.suspect = front.base, front.buf, front.segs, front.suspect
	r.broken = front.broken
	r.anchored, r.attached = true, true
}

// decodeRun decodes a run up to limit and gives back where it stopped, which may
// be after it.
func (d *Decoder) decodeRun(t *tag, r *run, limit int, final bool) int {
	s := &d.scan
	s.notBefore, s.notAfter = d.opts.NotBefore, d.opts.NotAfter
	s.start(r.buf, final, r.anchored, r.suspect)
	fresh := r.decoded == 0 && !r.attached
	seg := 0
	s.found = func(p int, e *Entry) {
		if d.err != nil {
			return
		}
		fresh = false
		d.entry = *e
		seg, d.entry.Address, d.entry.Offset = locate(r.segs, seg, p)
		d.emit(t)
	}
	s.unwritten = func(n int) {
		fresh = false
		t.report.UnwrittenByte += int64(n)
	}
	s.bad = func(from, to int, reason Reason) {
		if d.err != nil {
			return
		}
		head := fresh && from == 0 && reason == ReasonNoEntry
		if head {
			reason = ReasonHeadless
		}
		fresh = false
		switch {
		case head && to <= maxEntryLen:
			d.keepLeftover(d.leftoverOf(t, r, from, to, false))
		case final && to == len(r.buf) && reason == ReasonCutEntry && to-from <= maxEntryLen:
			d.keepLeftover(d.leftoverOf(t, r, from, to, true))
		default:
			d.runDamage(t, r.buf, r.segs, from, to, reason)
		}
	}
	n := s.scan(limit)
	r.anchored = s.anchored
	return n
}

func (d *Decoder) leftoverOf(t *tag, r *run, from, to int, tail bool) *leftover {
	l := &leftover{t: t, gen: r.gen, tail: tail, buf: bytes.Clone(r.buf[from:to])}
	i, addr, off := locate(r.segs, 0, from)
	l.segs = append(l.segs, segment{0, addr, off})
	for i++; i < len(r.segs) && r.segs[i].at < to; i++ {
		s := r.segs[i]
		s.at -= from
		l.segs = append(l.segs, s)
	}
	l.at = addr
	if tail {
		l.at = r.end
	}
	return l
}
