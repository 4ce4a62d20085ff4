// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package wildfi

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Scale converts raw samples to units. A log does not say how the sensors were
// set.
type Scale struct {
	Acc  float64 // g of one step
	Gyro float64 // degrees per second of one step
	Mag  float64 // steps of one microtesla
}

// Scales to begin with.
var (
	// DefaultScale is that of the reference decoder's own configuration file and of
	// the firmware as it is published: ±8 g, ±500 °/s, 16 steps a microtesla.
	DefaultScale = Scale{Acc: 0.00024414062, Gyro: 0.0153, Mag: 16}
	// RawScale leaves the integers as they are. The reference decoder uses it when
	// it has no configuration file.
	RawScale = Scale{Acc: 1, Gyro: 1, Mag: 1}
)

// Factors by range, as the reference decoder offers them. Those of the gyroscope
// are rounded, by up to 0.4 %; exactly they are range/32768.
var (
	accFactors  = map[int]float64{2: 0.00006103515, 4: 0.00012207031, 8: 0.00024414062, 16: 0.00048828125}
	gyroFactors = map[int]float64{2000: 0.061, 1000: 0.0305, 500: 0.0153, 250: 0.0076, 125: 0.0038}
)

// WithAccRange sets the scale of the accelerometer by its range in g: 2, 4, 8 or
// 16.
func (s Scale) WithAccRange(g int) (Scale, error) {
	f, ok := accFactors[g]
	if !ok {
		return s, fmt.Errorf("reading accelerometer range: ±%d g is none of ±2, 4, 8, 16 g", g)
	}
	s.Acc = f
	return s, nil
}

// WithGyroRange sets the scale of the gyroscope by its range in °/s: 125, 250,
// 500, 1000 or 2000. exact gives range/32768 in place of the reference decoder's
// rounded factor.
func (s Scale) WithGyroRange(dps int, exact bool) (Scale, error) {
	f, ok := gyroFactors[dps]
	if !ok {
		return s, fmt.Errorf("reading gyroscope range: ±%d °/s is none of ±125, 250, 500, 1000, 2000 °/s", dps)
	}
	s.Gyro = f
	if exact {
		s.Gyro = float64(dps) / 32768
	}
	return s, nil
}

// ReadConfig reads a WildFiDecoderConfig.txt: the factors of accelerometer,
// gyroscope and magnetometer in lines 2, 4 and 6, comments in the others. As in
// the reference decoder, a line that is missing or holds no number is a factor of
// 1; its number is in ignored, for a warning.
func ReadConfig(r io.Reader) (s Scale, ignored []int, err error) {
	data, err := io.ReadAll(io.LimitReader(r, 64<<10))
	if err != nil {
		return RawScale, nil, fmt.Errorf("reading decoder configuration: %w", err)
	}
	lines := bytes.Split(data, []byte("\n"))
	s = RawScale
	for i, f := range []*float64{&s.Acc, &s.Gyro, &s.Mag} {
		n := 2*i + 1
		if n < len(lines) {
			v, err := strconv.ParseFloat(strings.TrimSpace(string(lines[n])), 64)
			if err == nil && v != 0 && !math.IsNaN(v) && !math.IsInf(v, 0) {
				*f = v
				continue
			}
		}
		ignored = append(ignored, n+1)
	}
	return s, slices.Clip(ignored), nil
}
