// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package wildfi

import (
	"bytes"
	"encoding/binary"
)

// A message is the tag's address, the length of the payload and the payload,
// with nothing that marks its begin. The payload of a data message begins with
// AB and the flash word, whose four low bits are set.
const (
	messageHead    = 7
	maxPayload     = 250 // of ESP-NOW
	dataMark       = 0xAB
	dataHead       = 5 // mark and flash word
	ownIDLen       = 2
	maxLogBytes    = maxPayload - dataHead
	maxHops        = 8       // messages that are looked ahead
	frameLookahead = 4 << 10 // more than maxHops messages
	recurWithin    = 8 << 10 // where the address of a tag is looked for again
)

// maxStray is how many bytes too many a message may have and still be used.
const maxStray = 64

// trust says what is known of a message's length.
type trust struct {
	suspect bool // bytes inside it are missing or too many
	stray   int  // so many bytes too many, in the message or after it
	cut     bool // the file ends inside it
}

var sound trust

// dataMessage tells whether b begins like a data message, and how long its
// payload is.
func dataMessage(b []byte) (payload int, ok bool) {
	if len(b) < messageHead+dataHead {
		return 0, false
	}
	n := int(b[6])
	return n, b[7] == dataMark && b[11]&0x0F == 0x0F && n >= dataHead && n <= maxPayload
}

// flashAddress reads the flash word: page and offset in the page, above four
// set bits.
func flashAddress(payload []byte) uint32 {
	w := binary.BigEndian.Uint32(payload[1:])
	return w>>15*2048 + w>>4&2047
}

func macOf(b []byte) MAC { return MAC(b[:6]) }

// unicast tells whether the bytes can be the address of a radio.
func unicast(m MAC) bool { return m[0]&1 == 0 && m != MAC{} }

// frames takes messages from the buffer and gives back how many bytes it used.
// Before the end of the file it keeps what it may need to look ahead.
func (d *Decoder) frames() int {
	i := 0
	for d.err == nil {
		rest := d.buf[i:]
		if len(rest) == 0 || !d.final && len(rest) < frameLookahead {
			break
		}
		i += d.message(rest, d.off+int64(i))
	}
	return i
}

// message takes what stands at the begin of rest, which is the message after
// the last one if nothing is damaged, and gives back its length.
func (d *Decoder) message(rest []byte, off int64) int {
	n, ok := dataMessage(rest)
	if !ok {
		return d.otherMessage(rest, off)
	}
	total := messageHead + n
	t := d.tag(macOf(rest), rest, off == d.lostTo)
	if t == nil {
		return d.lost(rest, off, ReasonNoMessage)
	}
	if total > len(rest) {
		d.frameDamage(rest, off, t, ReasonCutMessage)
		d.accept(t, rest, off, trust{cut: true})
		return len(rest)
	}
	if _, ok := dataMessage(rest[total:]); ok || d.follows(rest[total:]) && d.nextSure(rest[:min(len(rest), total+messageHead)], messageHead+dataHead) < 0 {
		d.accept(t, rest[:total], off, sound)
		return total
	}
	// What follows is no message: the length is wrong, or bytes were lost or
	// added. The next sure message tells.
	next := d.nextSure(rest, messageHead+dataHead)
	if next < 0 {
		if t.report.Messages == 0 { // nothing speaks for it
			d.forget(t)
			return d.lost(rest, off, ReasonNoMessage)
		}
		d.frameDamage(rest[:total], off, t, ReasonMessageLength)
		d.accept(t, rest[:total], off, trust{suspect: true})
		return total
	}
	if d.continues(t, rest, next) {
		d.frameDamage(rest[6:7], off+6, t, ReasonMessageLength)
		d.accept(t, rest[:next], off, sound)
		return next
	}
	if next-total > maxStray {
		d.accept(t, rest[:total], off, sound)
		d.frameDamage(rest[total:next], off+int64(total), nil, ReasonNoMessage)
		return next
	}
	d.frameDamage(rest[:next], off, t, ReasonMessageLength)
	d.accept(t, rest[:next], off, trust{suspect: true, stray: max(next-total, 0)})
	return next
}

// continues tells whether the message at next has the flash address that comes
// after the log bytes of the message at the begin of rest, if that one ends
// where the other begins.
func (d *Decoder) continues(t *tag, rest []byte, next int) bool {
	if macOf(rest[next:]) != t.mac {
		return false
	}
	delta := int(addressDelta(flashAddress(rest[messageHead:]), flashAddress(rest[next+messageHead:])))
	own, n := t.ownLen(), next-messageHead
	return n <= maxPayload && delta > 0 && delta == n-dataHead-own
}

// otherMessage takes a message that is no data message: a status message, an
// empty one, a data message with a damaged head, or nothing of the kind.
func (d *Decoder) otherMessage(rest []byte, off int64) int {
	if len(rest) < messageHead {
		return d.lost(rest, off, ReasonCutMessage)
	}
	total := messageHead + int(rest[6])
	if !d.follows(rest) {
		return d.lost(rest, off, ReasonNoMessage)
	}
	t := d.tag(macOf(rest), nil, false)
	if t == nil {
		return d.lost(rest, off, ReasonNoMessage)
	}
	if total > len(rest) {
		d.frameDamage(rest, off, t, ReasonCutMessage)
		return len(rest)
	}
	if !d.follows(rest[total:]) { // a data message whose begin is damaged, and its length
		if next := d.nextSure(rest, messageHead); next >= 0 {
			d.frameDamage(rest[:next], off, t, ReasonNoMessage)
			return next
		}
	}
	payload := rest[messageHead:total]
	switch {
	case len(payload) == 0:
		d.report.EmptyMessages++
	case len(payload) >= dataHead && t.expects(flashAddress(payload)):
		// The mark or the four set bits are damaged, the address is the next one.
		d.frameDamage(payload[:1], off+messageHead, t, ReasonNoMessage)
		d.accept(t, rest[:total], off, sound)
		return total
	case payload[0] == dataMark:
		d.frameDamage(rest[:total], off, t, ReasonShortMessage)
	}
	d.report.Messages++
	d.report.MessageBytes += int64(total)
	t.report.Messages++
	t.report.Status++
	d.give(t, rest[:total])
	return total
}

// follows tells whether b, the bytes after a message, begin with a message, as
// far as one can tell: a data message, a message of a tag that is known, or a
// few messages that lead to one or to the end of the file.
func (d *Decoder) follows(b []byte) bool {
	for hop := range maxHops {
		if len(b) == 0 {
			return d.final
		}
		if _, ok := dataMessage(b); ok {
			if hop == 0 || len(d.tags) == 0 {
				return true
			}
			_, known := d.tags[macOf(b)]
			return known
		}
		if len(b) < messageHead {
			return d.final && hop == 0
		}
		mac, total := macOf(b), messageHead+int(b[6])
		if total > messageHead+maxPayload || !unicast(mac) {
			return false
		}
		if _, known := d.tags[mac]; known {
			return true
		}
		if total > len(b) {
			return false
		}
		b = b[total:]
	}
	return false
}

// nextSure finds the next place, from on, where a data message begins without
// doubt: one of a tag that is known, or one that another data message or the end
// of the file follows. It is negative when there is none in b.
func (d *Decoder) nextSure(b []byte, from int) int {
	for at := from + messageHead; at < len(b); at++ {
		i := bytes.IndexByte(b[at:], dataMark)
		if i < 0 {
			return -1
		}
		at += i
		h := b[at-messageHead:]
		n, ok := dataMessage(h)
		if !ok {
			continue
		}
		mac := macOf(h)
		if _, known := d.tags[mac]; known {
			return at - messageHead
		}
		total := messageHead + n
		if !unicast(mac) || total > len(h) {
			continue
		}
		_, followed := dataMessage(h[total:])
		if !followed && !(total == len(h) && d.final) {
			continue
		}
		// Stray bytes before a message may stand where its tag's address should.
		if len(d.tags) == 0 || bytes.Contains(h[messageHead:min(len(h), recurWithin)], mac[:]) || d.expecting(flashAddress(h[messageHead:])) != nil {
			return at - messageHead
		}
	}
	return -1
}

// lost reports the bytes up to the next sure message, and gives back how many
// they are. Pieces of one region are reported together, see frameDamage.
func (d *Decoder) lost(rest []byte, off int64, reason Reason) int {
	n := d.nextSure(rest, 1)
	if n < 0 {
		n = len(rest)
		if !d.final { // a message may begin in the last bytes
			n -= messageHead + maxPayload + messageHead + dataHead
		}
	}
	d.frameDamage(rest[:n], off, nil, reason)
	d.lostTo = off + int64(n)
	return n
}

// frameDamage reports bytes of the file. Regions that touch and have the same
// reason are put together.
func (d *Decoder) frameDamage(b []byte, off int64, t *tag, reason Reason) {
	var mac MAC
	if t != nil {
		mac = t.mac
	}
	if p := &d.pendingDamage; p.Length > 0 {
		if p.End == off && p.Reason == reason && p.Tag == mac && reason == ReasonNoMessage {
			p.End += int64(len(b))
			p.Length += len(b)
			p.Data = append(p.Data, b[:min(len(b), maxDamageData-len(p.Data))]...)
			d.hashDamage(b)
			return
		}
		d.flushFrameDamage()
	}
	d.pendingDamage = Damage{
		Offset: off, End: off + int64(len(b)), Length: len(b), Tag: mac, Reason: reason,
		Data: append(d.pendingDamage.Data[:0], b[:min(len(b), maxDamageData)]...),
	}
	d.hashDamage(b)
}

func (d *Decoder) hashDamage(b []byte) {
	if d.sink.Damage != nil {
		d.damageHash.Write(b)
	}
}

func (d *Decoder) flushFrameDamage() {
	if p := d.pendingDamage; p.Length > 0 {
		d.pendingDamage.Length = 0
		d.damageHash.Sum(p.SHA256[:0])
		d.damageHash.Reset()
		d.damage(p)
	}
}
