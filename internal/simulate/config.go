// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package simulate

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Defaults of Config, and the bounds that Config.validate enforces.
const (
	DefaultDevices = 40
	DefaultRate    = 50.0
	maxDevices     = 1_000_000
	maxRate        = 1e6

	// DefaultOversizeBytes is just under 1 MiB, the packet limit of the embedded
	// broker, which disconnects a client that sends more. The event made of such
	// a message is larger than the topics it is for take.
	DefaultOversizeBytes = 1<<20 - 16
	minOversizeBytes     = 4 << 10
	maxOversizeBytes     = 64 << 20

	// eventOverhead is more than what an event adds to its payload. Within it of
	// the record limit the outcome would depend on the lengths of names.
	eventOverhead = 4096
)

// Config says what herd to simulate. The zero value of a field stands for its
// default.
type Config struct {
	// Devices is how many there are; 0 means DefaultDevices. Their kinds follow
	// a fixed pattern, so that a larger herd holds the smaller one.
	Devices int
	// Seed decides everything that is random.
	Seed uint64
	// Start is the time of the first message on the virtual clock. It must lie
	// in the years 2000 to 2199; the herd never asks the time of day.
	Start time.Time
	// Rate is how many messages a second the virtual clock sees: message i
	// happens at Start + (i-1)/Rate. 0 means DefaultRate.
	Rate float64
	// Faults is the share of all messages that belongs to each fault class, each
	// 0 to 1, together at most 1. The rest is in order.
	Faults map[Class]float64
	// OversizeBytes is the size of an oversize message as MQTT packet; 0 means
	// DefaultOversizeBytes. Well below the record limit the messages are events.
	OversizeBytes int
	// QoS is that of every message: 0, 1 or 2.
	QoS byte
}

func (c Config) withDefaults() Config {
	if c.Devices == 0 {
		c.Devices = DefaultDevices
	}
	if c.Rate == 0 {
		c.Rate = DefaultRate
	}
	if c.OversizeBytes == 0 {
		c.OversizeBytes = DefaultOversizeBytes
	}
	c.Start = c.Start.UTC()
	return c
}

func (c Config) validate() error {
	switch {
	case c.Devices < 1 || c.Devices > maxDevices:
		return fmt.Errorf("checking devices: %d is outside 1 to %d", c.Devices, maxDevices)
	case !(c.Rate > 0) || c.Rate > maxRate:
		return fmt.Errorf("checking rate: %g is outside 0 (exclusive) to %g messages a second", c.Rate, maxRate)
	case c.Start.Year() < 2000 || c.Start.Year() > 2199:
		return fmt.Errorf("checking start time: %s is outside the years 2000 to 2199", c.Start.Format(time.RFC3339))
	case c.QoS > 2:
		return fmt.Errorf("checking qos: %d is not 0, 1 or 2", c.QoS)
	case c.OversizeBytes < minOversizeBytes || c.OversizeBytes > maxOversizeBytes:
		return fmt.Errorf("checking size of oversize messages: %d is outside %d to %d bytes", c.OversizeBytes, minOversizeBytes, maxOversizeBytes)
	case c.OversizeBytes > recordLimit-eventOverhead && c.OversizeBytes < recordLimit+eventOverhead:
		return fmt.Errorf("checking size of oversize messages: %d is too near the record limit of %d bytes to tell what becomes of them; stay %d bytes away from it", c.OversizeBytes, recordLimit, eventOverhead)
	}
	total := 0.0
	for _, class := range slices.Sorted(maps.Keys(c.Faults)) {
		share := c.Faults[class]
		if !slices.Contains(FaultClasses(), class) {
			return unknownClass(string(class))
		}
		if !(share >= 0) || share > 1 {
			return fmt.Errorf("checking share of %s: %g is outside 0 to 1", class, share)
		}
		total += share
	}
	if total > 1+1e-9 {
		return fmt.Errorf("checking shares of faults: they add up to %g, more than 1", total)
	}
	return nil
}

// EvenFaults spreads a share of faulty messages over all fault classes.
func EvenFaults(share float64) map[Class]float64 {
	classes := FaultClasses()
	faults := make(map[Class]float64, len(classes))
	for _, c := range classes {
		faults[c] = share / float64(len(classes))
	}
	return faults
}

// ParseFault reads CLASS=SHARE, such as bad_json=0.01 or bad_json=1%.
func ParseFault(text string) (Class, float64, error) {
	name, value, ok := strings.Cut(text, "=")
	class := Class(strings.TrimSpace(name))
	if !ok {
		return "", 0, fmt.Errorf("parsing fault %q: write CLASS=SHARE, such as bad_json=0.01", text)
	}
	if !slices.Contains(FaultClasses(), class) {
		return "", 0, fmt.Errorf("parsing fault %q: %w", text, unknownClass(string(class)))
	}
	share, err := ParseShare(value)
	if err != nil {
		return "", 0, fmt.Errorf("parsing fault %q: %w", text, err)
	}
	return class, share, nil
}

var errShare = errors.New("a share is a number from 0 to 1 or a percentage such as 2.5%")

// ParseShare reads a share: a number from 0 to 1 or a percentage.
func ParseShare(text string) (float64, error) {
	digits, percent := strings.CutSuffix(strings.TrimSpace(text), "%")
	x, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
	if percent {
		x /= 100
	}
	if err != nil || math.IsNaN(x) || x < 0 || x > 1 {
		return 0, fmt.Errorf("reading share %q: %w", text, errShare)
	}
	return x, nil
}

func unknownClass(name string) error {
	var b strings.Builder
	for i, c := range FaultClasses() {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(c))
	}
	return fmt.Errorf("unknown fault class %q; there are %s", name, b.String())
}
