// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package wildfi

import (
	"bytes"
	"encoding/binary"
)

// scanLookahead is how many bytes after a place the scanner may need to judge
// what stands there: an entry, one that begins in it, and one after it.
const scanLookahead = 4 * maxEntryLen

// scanner cuts contiguous log bytes into entries. It has no state between two
// calls of start but its buffers.
//
// Without a checksum an entry is believed for where it stands: it begins where
// another ended, and something begins where it ends. The less of this holds, the
// more its values must be such as a tag stores.
type scanner struct {
	notBefore, notAfter uint32

	found     func(p int, e *Entry)
	bad       func(from, to int, reason Reason)
	unwritten func(n int)

	buf      []byte
	final    bool
	anchored bool // the next byte begins an entry, as far as one knows
	suspect  []doubtful

	// The first confirmed prefix at or after searchedFrom is at confirmed, or
	// there is none before searchedTo.
	searchedFrom, searchedTo, confirmed int

	entry, inner Entry
	tail         []byte
	cut          []byte // an entry without the stray bytes inside it
}

func (s *scanner) start(buf []byte, final, anchored bool, suspect []doubtful) {
	s.buf, s.final, s.anchored, s.suspect = buf, final, anchored, suspect
	s.searchedFrom, s.searchedTo, s.confirmed = 0, 0, -1
}

// follower is what stands after an entry.
type follower uint8

const (
	followedByOther follower = iota
	followedByPrefix
	followedByUnwritten
	followedByEnd
)

func (s *scanner) follower(p int) follower { return followerIn(s.buf[p:]) }

func followerIn(b []byte) follower {
	switch {
	case isPrefix(b):
		return followedByPrefix
	case len(b) == 0:
		return followedByEnd
	case len(b) < prefixLen && bytes.HasPrefix(prefixBytes, b):
		return followedByEnd // as much of a prefix as is there
	case b[0] == 0xFF:
		n := countFF(b[:min(len(b), maxEntryLen)])
		if n >= unwrittenRun || n == len(b) || isPrefix(b[n:]) {
			return followedByUnwritten
		}
	}
	return followedByOther
}

// verdict is what is to be done at a place.
type verdict struct {
	reason Reason // 0: the entry is good
	length int    // of the entry; 0 where it is not known
	stray  span   // bytes inside it that are not the tag's
	next   follower
}

// judge decides on the prefix at p and leaves the entry in s.entry.
func (s *scanner) judge(p int) verdict {
	v := s.judgeAsIs(p)
	if v.reason == ReasonWrongLength || v.reason == ReasonCutEntry {
		for _, x := range s.suspect {
			if x.stray < x.to && p < x.stray && x.from < p+maxEntryLen {
				if without := s.judgeWithout(p, span{x.stray, x.to}); without.reason == 0 {
					return without
				}
			}
		}
	}
	return v
}

// judgeWithout decides on the prefix at p as if the stray bytes were not there.
// It is for entries that would be good then, and nothing else.
func (s *scanner) judgeWithout(p int, stray span) verdict {
	bad := verdict{reason: ReasonWrongLength}
	s.cut = append(append(s.cut[:0], s.buf[p:stray.from]...), s.buf[stray.to:min(len(s.buf), stray.to+2*maxEntryLen)]...)
	if !isPrefix(s.cut) {
		return bad
	}
	n, complete, reason := entryLen(s.cut)
	if reason != 0 || !complete || n > len(s.cut) || p+n < stray.from-prefixLen+1 {
		return bad
	}
	e := &s.entry
	e.read(s.cut[:n:n])
	e.Doubts = e.doubts(s.notBefore, s.notAfter)
	next := followerIn(s.cut[n:])
	if next == followedByOther || !e.credible(s.notBefore, s.notAfter) || !s.smoothWithout(p, e, stray) {
		return bad
	}
	if p+n <= stray.from {
		return verdict{length: n, next: followedByOther}
	}
	return verdict{length: n, stray: stray, next: next}
}

// smoothWithout tells whether the samples of e, which was read without the stray
// bytes, go on smoothly over the place where these were, and would not if the
// stray bytes were samples and others further up were stray. The lengths are
// right in both cases.
func (s *scanner) smoothWithout(p int, e *Entry, stray span) bool {
	if e.Samples() == 0 {
		return false
	}
	size, begin, many := layouts[e.Type].sampleLen(), len(e.Raw)-len(e.burst), stray.to-stray.from
	last := min((stray.from-p-begin)/size, e.Samples()-1)
	without, with := 0, 0
	for i := max(1, last-6); i <= last; i++ {
		at := p + begin + i*size + many // of the sample if the stray bytes are samples
		if at+size > len(s.buf) {
			return false
		}
		for axis := 0; axis < size; axis += 2 {
			without += distance(e.burst[i*size+axis:], e.burst[(i-1)*size+axis:])
			with += distance(s.buf[at+axis:], s.buf[at-size+axis:])
		}
	}
	return last > 0 && 2*without < with
}

// distance is how far two samples of an axis are apart.
func distance(a, b []byte) int {
	d := int(int16(binary.LittleEndian.Uint16(a))) - int(int16(binary.LittleEndian.Uint16(b)))
	return max(d, -d)
}

func (s *scanner) judgeAsIs(p int) verdict {
	b := s.buf[p:]
	n, complete, reason := entryLen(b)
	if reason != 0 {
		return verdict{reason: reason}
	}
	if !complete || n > len(b) {
		if complete && !s.anchored {
			if s.inner.readHead(b); !s.inner.credible(s.notBefore, s.notAfter) {
				return verdict{reason: ReasonNoEntry}
			}
		}
		if q := s.nextConfirmed(p + prefixLen); q >= 0 && q < p+n {
			return verdict{reason: ReasonWrongLength}
		}
		return verdict{reason: ReasonCutEntry}
	}
	e := &s.entry
	e.read(b[:n:n])
	next := s.follower(p + n)
	e.Doubts = e.doubts(s.notBefore, s.notAfter)
	grave := e.Doubts&^DoubtRSSI != 0
	switch {
	case !s.anchored && !e.credible(s.notBefore, s.notAfter):
		return verdict{reason: ReasonImplausible}
	case next == followedByOther:
		if grave {
			return verdict{reason: ReasonImplausible}
		}
		q := s.nextConfirmed(p + prefixLen)
		if q >= 0 && q < p+n || s.isSuspect(p, p+n) {
			return verdict{reason: ReasonWrongLength}
		}
		if s.samplesGoOn(e, p+n) {
			return verdict{reason: ReasonWrongLength}
		}
	case s.isSuspect(p, p+n):
		if q := s.nextConfirmed(p + prefixLen); q >= 0 && q < p+n {
			return verdict{reason: ReasonWrongLength}
		}
	case grave && next == followedByUnwritten:
		return verdict{reason: ReasonImplausible}
	}
	if bytes.Contains(e.Raw, burstUnwritten) || bytes.Contains(e.Raw[:n-len(e.burst)], unwrittenBytes) {
		return verdict{reason: ReasonUnwritten, length: n, next: next}
	}
	return verdict{length: n, next: next}
}

func (s *scanner) isSuspect(from, to int) bool {
	for _, x := range s.suspect {
		if x.from < to && from < x.to {
			return true
		}
	}
	return false
}

// nextConfirmed finds the first prefix at or after from whose values a tag may
// store and whose entry ends where something begins; -1 when there is none
// within two entries.
func (s *scanner) nextConfirmed(from int) int {
	if from >= s.searchedFrom {
		if s.confirmed >= from {
			return s.confirmed
		}
		if s.confirmed < 0 && from < s.searchedTo {
			if limit := from + 2*maxEntryLen; limit <= s.searchedTo {
				return -1
			}
		}
	}
	at := from
	if s.confirmed < 0 && from >= s.searchedFrom && from < s.searchedTo {
		at = s.searchedTo // what was searched holds none
	} else {
		s.searchedFrom = from
	}
	s.confirmed = -1
	limit := min(from+2*maxEntryLen, len(s.buf))
	for at < limit {
		i := bytes.Index(s.buf[at:limit], prefixBytes)
		if i < 0 {
			break
		}
		at += i
		if s.isConfirmed(at) {
			s.confirmed, s.searchedTo = at, at
			return at
		}
		at++
	}
	// The last byte may be the first of a prefix.
	s.searchedTo = max(from, limit-1)
	return -1
}

func (s *scanner) isConfirmed(p int) bool {
	b := s.buf[p:]
	if !isPrefix(b) {
		return false
	}
	n, complete, reason := entryLen(b)
	if reason != 0 || !complete || n > len(b) {
		return false
	}
	s.inner.read(b[:n])
	if !s.inner.credible(s.notBefore, s.notAfter) {
		return false
	}
	switch s.follower(p + n) {
	case followedByOther:
		return false
	case followedByEnd:
		return s.final
	}
	return true
}

// samplesGoOn tells whether the bytes between the end of a burst and whatever
// begins next are further samples of it: the length of the burst is wrong then.
// They are if they are whole samples, each about as the ones before.
func (s *scanner) samplesGoOn(e *Entry, end int) bool {
	n := e.Samples()
	if n == 0 {
		return false
	}
	to := s.nextConfirmed(end)
	if to < 0 {
		if !s.final || len(s.buf)-end > maxEntryLen {
			return false
		}
		to = len(s.buf)
	}
	if i := bytes.Index(s.buf[end:to], unwrittenBytes); i >= 0 {
		to = end + i
	}
	size := layouts[e.Type].sampleLen()
	s.tail = append(append(s.tail[:0], e.burst[n*size:]...), s.buf[end:to]...)
	if len(s.tail) == 0 || len(s.tail)%size != 0 || len(s.tail) > maxBurstBytes {
		return false
	}
	const (
		slack = 512     // raw; a still animal's samples differ by less than that
		wide  = 1 << 14 // a burst that fills a quarter of the range says nothing
	)
	for at := 0; at < size; at += 2 {
		lo, hi := 1<<15, -1<<15
		for i := range n {
			v := int(int16(binary.LittleEndian.Uint16(e.burst[i*size+at:])))
			lo, hi = min(lo, v), max(hi, v)
		}
		spread := 2*(hi-lo) + slack
		if hi-lo+2*spread > wide {
			return false
		}
		for i := at; i < len(s.tail); i += size {
			if v := int(int16(binary.LittleEndian.Uint16(s.tail[i:]))); v < lo-spread || v > hi+spread {
				return false
			}
		}
	}
	return true
}

// scan decodes from the begin of the buffer up to limit, and gives back where it
// stopped: at limit or after it, unless the buffer is final and ends before.
func (s *scanner) scan(limit int) int {
	junk := -1 // where bytes begin that are no entry
	var why Reason
	end := func(p int) {
		if junk >= 0 {
			s.bad(junk, p, why)
			junk = -1
		}
	}
	first := true // the buffer's begin is as good as an anchor
	p := 0
	for p < limit {
		b := s.buf[p:]
		switch {
		case b[0] == 0xFF && (junk < 0 || len(b) >= unwrittenRun && b[unwrittenRun-1] == 0xFF):
			n := countFF(b)
			if n >= unwrittenRun || junk < 0 && (s.anchored || first) && (n == len(b) || isPrefix(b[n:])) {
				end(p)
				if s.unwritten != nil {
					s.unwritten(n)
				}
				p += n
				s.anchored = true
				continue
			}
			if junk < 0 {
				junk, why, s.anchored = p, ReasonNoEntry, false
			}
			p += n
		case isPrefix(b):
			was := s.anchored
			s.anchored = was || first
			v := s.judge(p)
			s.anchored = was
			switch {
			case v.reason == 0:
				end(p)
				s.found(p, &s.entry)
				p += v.length
				if n := v.stray.to - v.stray.from; n > 0 {
					s.bad(v.stray.from, v.stray.to, ReasonNoMessage)
					p += n
				}
				s.anchored = v.next != followedByOther
			case v.reason == ReasonCutEntry && s.final:
				end(p)
				s.bad(p, len(s.buf), v.reason)
				return len(s.buf)
			default:
				if junk < 0 {
					junk, why = p, v.reason
				}
				p++
				if v.length > 0 {
					p += v.length - 1
					end(p)
					s.anchored = v.next != followedByOther
				} else {
					s.anchored = false
				}
			}
		default:
			if junk < 0 {
				junk, why = p, ReasonNoEntry
				if s.final && len(b) < prefixLen && bytes.HasPrefix(prefixBytes, b) {
					why = ReasonCutEntry
				}
			}
			s.anchored = false
			p++
			p = s.nextCandidate(p, limit)
		}
		first = false
	}
	end(p)
	return p
}

// nextCandidate finds the next place where a prefix or unwritten flash may
// begin, limit when there is none before it.
func (s *scanner) nextCandidate(p, limit int) int {
	for p < limit {
		switch b := s.buf[p:]; {
		case b[0] == prefix0 && isPrefix(b), b[0] == 0xFF && len(b) >= unwrittenRun && b[unwrittenRun-1] == 0xFF:
			return p
		}
		p++
	}
	return p
}
