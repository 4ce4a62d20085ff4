// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package simulate

import (
	"strconv"
	"time"
)

// document writes one flat JSON object. Names and texts of the herd need no
// escaping; a fault changes fields by name as they pass.
type document struct {
	b    []byte
	mark int // end of the sequence number, where padding may be inserted

	stamp time.Time // event time, what time writes
	when  timeFault
	fault fieldFault
}

// fieldFault changes at most one field of a document.
type fieldFault struct {
	field string // "" changes nothing
	raw   string // JSON text in its place; "" leaves the field out
}

// timeFault changes the time field of a document.
type timeFault struct {
	omit bool
	raw  string // JSON text in its place
}

const (
	timestampField = "timestamp"    // RFC 3339
	epochField     = "utcTimestamp" // ms since 1970-01-01T00:00:00Z
)

// open begins the object with the sequence number.
func (d *document) open(seq uint64) {
	d.b = append(d.b, `{"sim_seq":`...)
	d.b = strconv.AppendUint(d.b, seq, 10)
	d.mark = len(d.b)
}

// openTagged begins the object of a media contract, which is closed at top
// level: the sequence number goes into its tags.
func (d *document) openTagged(seq uint64, tags string) {
	d.b = append(d.b, `{"tags":{"sim_seq":`...)
	d.b = strconv.AppendUint(d.b, seq, 10)
	d.mark = len(d.b)
	d.b = append(d.b, tags...)
	d.b = append(d.b, '}')
}

func (d *document) close() {
	d.b = append(d.b, '}')
}

// name writes the name of a field and says whether its value is to follow.
func (d *document) name(field string) bool {
	faulty := field == d.fault.field && field != ""
	if faulty && d.fault.raw == "" {
		return false
	}
	d.b = append(d.b, ',', '"')
	d.b = append(d.b, field...)
	d.b = append(d.b, '"', ':')
	if faulty {
		d.b = append(d.b, d.fault.raw...)
	}
	return !faulty
}

func (d *document) text(field, value string) {
	if d.name(field) {
		d.b = append(d.b, '"')
		d.b = append(d.b, value...)
		d.b = append(d.b, '"')
	}
}

func (d *document) number(field string, value float64, decimals int) {
	if d.name(field) {
		d.b = strconv.AppendFloat(d.b, value, 'f', decimals, 64)
	}
}

func (d *document) integer(field string, value int64) {
	if d.name(field) {
		d.b = strconv.AppendInt(d.b, value, 10)
	}
}

// numbers writes an array.
func (d *document) numbers(field string, values []float64, decimals int) {
	if !d.name(field) {
		return
	}
	d.b = append(d.b, '[')
	for i, v := range values {
		if i > 0 {
			d.b = append(d.b, ',')
		}
		d.b = strconv.AppendFloat(d.b, v, 'f', decimals, 64)
	}
	d.b = append(d.b, ']')
}

// raw writes JSON text as it is.
func (d *document) raw(field, json string) {
	if d.name(field) {
		d.b = append(d.b, json...)
	}
}

// time writes the event time, in milliseconds.
func (d *document) time(field string) {
	switch {
	case d.when.omit:
	case d.when.raw != "":
		d.raw(field, d.when.raw)
	case field == epochField:
		d.integer(field, d.stamp.UnixMilli())
	default:
		if d.name(field) {
			d.b = append(d.b, '"')
			d.b = d.stamp.AppendFormat(d.b, "2006-01-02T15:04:05.000Z")
			d.b = append(d.b, '"')
		}
	}
}

// pad inserts a text field behind the sequence number so that the document
// grows by n bytes; n must be at least padOverhead.
func (d *document) pad(n int) {
	tail := append([]byte(nil), d.b[d.mark:]...)
	d.b = append(d.b[:d.mark], padPrefix...)
	for n -= padOverhead; n > 0; n -= len(padding) {
		d.b = append(d.b, padding[:min(n, len(padding))]...)
	}
	d.b = append(d.b, '"')
	d.b = append(d.b, tail...)
}

const (
	padPrefix   = `,"dump":"`
	padOverhead = len(padPrefix) + len(`"`)
	padding     = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
)
