// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package liveview

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/width"
)

// clean makes text from devices safe to print: what a terminal would act on,
// or what takes no cell or an unknown number of them, becomes a dot.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || r == '\n' {
			return ' '
		}
		if !unicode.IsPrint(r) || unicode.In(r, unicode.Mn, unicode.Me, unicode.Mc) || r == unicode.ReplacementChar {
			return '·'
		}
		return r
	}, text)
}

// runeCells is how many cells of a terminal a printable rune takes.
func runeCells(r rune) int {
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

func cells(text string) (n int) {
	for _, r := range text {
		n += runeCells(r)
	}
	return n
}

// fit cuts clean text to n cells, or fills it up with blanks.
func fit(text string, n int) string {
	text = cut(text, n)
	return text + strings.Repeat(" ", n-cells(text))
}

// fitRight is fit with the blanks in front.
func fitRight(text string, n int) string {
	text = cut(text, n)
	return strings.Repeat(" ", n-cells(text)) + text
}

func cut(text string, n int) string {
	if n <= 0 {
		return ""
	}
	if cells(text) <= n {
		return text
	}
	used := 0
	for i, r := range text {
		if used += runeCells(r); used > n-1 {
			return text[:i] + "…"
		}
	}
	return text
}

// grouped prints a number with separators: 12,345.
func grouped(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// perSecond prints a rate.
func perSecond(x float64) string {
	if x >= 9999.5 {
		return grouped(uint64(x + 0.5))
	}
	return strconv.FormatFloat(x, 'f', 1, 64)
}

// age prints a duration roughly, in at most four cells.
func age(d time.Duration) string {
	switch {
	case d < 0:
		return "0 s"
	case d < 100*time.Second:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < 100*time.Minute:
		return fmt.Sprintf("%d m", d/time.Minute)
	case d < 100*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	case d < 100*24*time.Hour:
		return fmt.Sprintf("%d d", d/(24*time.Hour))
	default:
		return "long"
	}
}

// clock prints how long something has been running.
func clock(d time.Duration) string {
	s := int64(d / time.Second)
	return fmt.Sprintf("%02d:%02d:%02d", s/3600, s/60%60, s%60)
}

// delay prints a short duration.
func delay(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return "<1 ms"
	case d < 10*time.Second:
		return fmt.Sprintf("%d ms", d/time.Millisecond)
	default:
		return fmt.Sprintf("%d s", d/time.Second)
	}
}

var bars = []rune(" ▁▂▃▄▅▆▇█")

// sparkline draws values in n cells, several values a cell where there are
// more, scaled to the largest. Zero is blank, anything else at least the
// lowest bar.
func sparkline(values []uint64, n int) string {
	if n <= 0 || len(values) == 0 {
		return ""
	}
	n = min(n, len(values))
	sums := make([]uint64, n)
	for i := range sums {
		for _, v := range values[i*len(values)/n : (i+1)*len(values)/n] {
			sums[i] += v
		}
	}
	// Cells of unequal numbers of values would draw waves that are not there.
	peak := 0.0
	means := make([]float64, n)
	for i, s := range sums {
		means[i] = float64(s) / float64((i+1)*len(values)/n-i*len(values)/n)
		peak = max(peak, means[i])
	}
	var b strings.Builder
	for _, x := range means {
		level := 0
		if x > 0 {
			level = 1 + int(x/peak*float64(len(bars)-2)+0.5)
		}
		b.WriteRune(bars[min(level, len(bars)-1)])
	}
	return b.String()
}
