// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package simulate

import (
	"bytes"
	"math/rand/v2"
	"strconv"
	"time"
)

// pick takes one of the choices.
func pick[T any](rng *rand.Rand, choices ...T) T {
	return choices[rng.IntN(len(choices))]
}

// gpsFault makes the faults of a position. The contract requires both
// coordinates, bounds them, speed and heading, and wants numbers.
func gpsFault(latitude, longitude, speed, heading string) func(Class, *rand.Rand) fieldFault {
	return func(c Class, rng *rand.Rand) fieldFault {
		switch c {
		case MissingField:
			return fieldFault{field: pick(rng, latitude, longitude)}
		case OutOfRange:
			return pick(rng,
				fieldFault{latitude, "95.2000000"}, fieldFault{latitude, "-90.0000001"},
				fieldFault{longitude, "190.4000000"}, fieldFault{speed, "-1.50"}, fieldFault{heading, "365.0"})
		case WrongType:
			return pick(rng,
				fieldFault{latitude, `"47.1"`}, fieldFault{longitude, `"9.06"`}, fieldFault{latitude, "true"},
				fieldFault{longitude, "[9.06]"}, fieldFault{speed, `"fast"`}, fieldFault{heading, `"N"`})
		default:
			return fieldFault{}
		}
	}
}

// mediaFault makes the faults of an object's description. positive are numbers
// that the contract of the stream has besides size_bytes; none may be negative.
func mediaFault(positive ...string) func(Class, *rand.Rand) fieldFault {
	return func(c Class, rng *rand.Rand) fieldFault {
		switch c {
		case MissingField:
			return fieldFault{field: pick(rng, "bucket", "format")}
		case OutOfRange:
			return fieldFault{pick(rng, append([]string{"size_bytes"}, positive...)...), "-1"}
		case WrongType:
			return fieldFault{pick(rng, positive...), pick(rng, `"1920"`, "false", "{}")}
		default:
			return fieldFault{}
		}
	}
}

// lateTime moves an event time into the past by an hour to three days.
func lateTime(t time.Time, rng *rand.Rand) time.Time {
	return t.Add(-time.Hour - time.Duration(rng.Int64N(int64(71*time.Hour/time.Millisecond)))*time.Millisecond)
}

// wrongClock gives what the clock of a device shows that lost it: it started
// again in 1970, or runs some 54 years ahead. The JSON text in raw takes the
// place of the usual one where that would be read otherwise: a small epoch
// number counts seconds.
func wrongClock(field string, rng *rand.Rand) (t time.Time, raw string) {
	seconds := rng.Int64N(6 * 3600) // since the restart
	if rng.IntN(2) == 0 {
		return time.Date(2080, 1, 6, 0, 0, 0, 0, time.UTC).Add(time.Duration(seconds) * time.Second), ""
	}
	t = time.Unix(seconds, 0).UTC()
	if field == epochField {
		raw = strconv.FormatInt(seconds, 10)
	}
	return t, raw
}

// noTimes are values of a time field that say no time.
var noTimes = []string{`"yesterday"`, `"2026-13-45T99:00:00Z"`, `"not set"`, `"1704067200"`, `true`, `"12:30"`}

// noDeviceTopics are MQTT topics that the usual subscriptions match but which
// name no device.
var noDeviceTopics = []string{"wildfi/imu", "wildfi/environment/", "devices/"}

// truncate breaks JSON text off behind the sequence number.
func truncate(d *document, rng *rand.Rand) []byte {
	return d.b[:d.mark+rng.IntN(len(d.b)-d.mark)]
}

// binary makes bytes that are not UTF-8, with the sequence number in front.
func binary(seq uint64, rng *rand.Rand) []byte {
	b := append([]byte(nil), seqName...)
	b = append(b, '=')
	b = strconv.AppendUint(b, seq, 10)
	b = append(b, ';', 0xff, 0x00, 0xc0)
	for range 24 + rng.IntN(160) {
		b = append(b, byte(rng.Uint32()))
	}
	return b
}

const seqName = "sim_seq"

// FindSeq finds the sequence number in the bytes of a message, or in anything
// that holds them as text: an event, a dead letter whose payload_b64 was
// decoded. A duplicate has the number of the message it repeats.
func FindSeq(b []byte) (seq uint64, ok bool) {
	for {
		i := bytes.Index(b, []byte(seqName))
		if i < 0 {
			return 0, false
		}
		b = b[i+len(seqName):]
		start := 0
		for start < len(b) && (b[start] == '"' || b[start] == ':' || b[start] == '=' || b[start] == ' ' || b[start] == '\\') {
			start++
		}
		end := start
		for end < len(b) && b[end] >= '0' && b[end] <= '9' {
			end++
		}
		if n, err := strconv.ParseUint(string(b[start:end]), 10, 64); err == nil && start > 0 {
			return n, true
		}
	}
}
