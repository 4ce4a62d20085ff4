// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package liveview

import (
	"cmp"
	"fmt"
	"math"
	"net"
	"slices"
	"strings"
	"time"
)

// Smallest terminal that a frame is made for; a smaller one shows the upper
// left of it.
const (
	minWidth  = 60
	minHeight = 16
)

// Style says what a terminal can do.
type Style struct {
	Color bool
}

type ink string

const (
	bold  ink = "\x1b[1m"
	faint ink = "\x1b[2m"
	red   ink = "\x1b[31m"
	green ink = "\x1b[32m"
	none  ink = ""
)

func (s Style) paint(i ink, text string) string {
	if !s.Color || i == none || text == "" {
		return text
	}
	return string(i) + text + "\x1b[0m"
}

// Frame draws a snapshot for a terminal of that many cells. It returns at most
// height lines of at most width cells each; title stands in the first line.
func Frame(s Snapshot, title string, w, h int, style Style) []string {
	f := frame{Snapshot: s, style: style, w: max(w, minWidth), h: max(h, minHeight)}
	lines := f.lines(title)
	if len(lines) > h {
		lines = lines[:max(h, 0)]
	}
	if w < f.w { // too narrow for colours that would be cut off
		for i, line := range lines {
			lines[i] = cut(uncoloured(line), w)
		}
	}
	return lines
}

type frame struct {
	Snapshot
	style Style
	w, h  int
}

func (f *frame) lines(title string) []string {
	out := []string{
		f.style.paint(bold, fit(clean(title), f.w-9)) + " " + clock(f.Uptime),
		f.flow(),
		"",
	}
	topics := f.topics()
	out = append(out, topics...)

	// What is left below the topics, without two blank lines, two headings and
	// the notice: half for dead letters if there are as many, the rest for the
	// animals.
	left := f.h - len(out) - 5
	reasons := min(max(left/2, 2), max(len(f.Reasons), 1))
	out = append(out, "")
	out = append(out, f.deadLetters(reasons)...)
	out = append(out, "")
	out = append(out, f.animals(max(left-reasons, 1))...)
	for len(out) < f.h-1 {
		out = append(out, "")
	}
	return append(out[:f.h-1], f.footer())
}

func (f *frame) flow() string {
	text := fmt.Sprintf("MQTT  in %s/s  out %s/s  clients %d", perSecond(f.In), perSecond(f.Out), f.Source.Clients)
	if f.HasLag {
		text += "  ·  device to Kafka " + delay(f.Lag)
	}
	warning := ""
	if n := f.Source.Unmatched; n > 0 {
		warning += fmt.Sprintf("  ·  %s not subscribed to", grouped(uint64(n)))
	}
	if n := f.Source.Dropped; n > 0 {
		warning += fmt.Sprintf("  ·  %s dropped", grouped(uint64(n)))
	}
	return cut(text, f.w-cells(warning)) + f.style.paint(red, warning)
}

// topics is a table with as many rows as leave room for the rest.
func (f *frame) topics() []string {
	rows := f.Topics
	limit := max(3, f.h-3-1-5-6) // header, its own heading, the blank lines and headings below, six rows below
	hidden := 0
	if len(rows) > limit {
		// The quiet ones go first, dead letters stay.
		kept := slices.Clone(rows)
		slices.SortStableFunc(kept, func(a, b TopicRow) int {
			switch {
			case a.Name == deadLetterTopic:
				return -1
			case b.Name == deadLetterTopic:
				return 1
			}
			return -cmp.Compare(a.Total, b.Total)
		})
		hidden = len(rows) - (limit - 1)
		keep := map[string]bool{}
		for _, r := range kept[:limit-1] {
			keep[r.Name] = true
		}
		rows = slices.DeleteFunc(slices.Clone(rows), func(r TopicRow) bool { return !keep[r.Name] })
	}
	name := len("topic")
	for _, r := range rows {
		name = max(name, cells(r.Name))
	}
	name = min(name, f.w-42)
	spark := min(window-1, f.w-name-2-9-2-11-2)
	out := []string{f.style.paint(faint, fit(fit("topic", name)+"  "+fitRight("events/s", 9)+"  "+fitRight("total", 11)+"  "+"last minute", f.w))}
	for _, r := range rows {
		colour := none
		switch {
		case r.Name == deadLetterTopic && r.Total > 0:
			colour = red
		case r.Rate > 0:
			colour = green
		}
		out = append(out, fit(clean(r.Name), name)+"  "+
			fitRight(perSecond(r.Rate), 9)+"  "+fitRight(grouped(r.Total), 11)+"  "+
			f.style.paint(colour, sparkline(r.History, spark)))
	}
	if hidden > 0 {
		out = append(out, f.style.paint(faint, fmt.Sprintf("and %d more topics", hidden)))
	}
	return out
}

func (f *frame) deadLetters(n int) []string {
	total := uint64(0)
	for _, r := range f.Reasons {
		total += r.Count
	}
	heading := "dead letters"
	if more := len(f.Reasons) - n; more > 0 {
		heading += fmt.Sprintf(", the %d most frequent of %d reasons", n, len(f.Reasons))
	}
	out := []string{f.style.paint(faint, heading)}
	if total == 0 {
		return append(out, "none")
	}
	for _, r := range f.Reasons[:min(n, len(f.Reasons))] {
		out = append(out, fitRight(grouped(r.Count), 7)+"  "+
			f.style.paint(red, fit(clean(r.Class), 8))+"  "+
			cut(clean(reason(r)), f.w-19))
	}
	return out
}

// reason is the words of a dead letter with where it was for.
func reason(r Reason) string {
	if r.Intended == "" {
		return r.Text
	}
	return r.Intended + ": " + r.Text
}

// animals lists the last positions, beside a map of all.
func (f *frame) animals(rows int) []string {
	if len(f.Animals) == 0 {
		return []string{f.style.paint(faint, "positions"), "none yet"}
	}
	const list = 48 // cells of a row of the list
	shown := f.Animals[:min(rows, len(f.Animals))]
	mapWidth := f.w - list - len(" | ")
	var m chart
	if mapWidth >= 12 && rows >= 3 {
		m = newChart(f.Animals, mapWidth, rows)
	}
	heading := fmt.Sprintf("positions of %d animals", len(f.Animals))
	if len(f.Animals) > len(shown) {
		heading = fmt.Sprintf("positions, %d of %d animals", len(shown), len(f.Animals))
	}
	if len(f.Animals) == 1 {
		heading = "position of 1 animal"
	}
	line := f.style.paint(faint, fit(heading, list))
	if m.rows != nil {
		line += f.style.paint(faint, " │ "+cut(m.caption(), mapWidth))
	}
	out := []string{line}
	for i := range max(len(shown), len(m.rows)) {
		left := ""
		if i < len(shown) {
			a := shown[i]
			speed := "      "
			if a.Speed != nil {
				speed = fitRight(fmt.Sprintf("%.2f", *a.Speed), 5) + " m/s"
			}
			left = fit(clean(a.Device), 12) + " " + fitRight(fmt.Sprintf("%.5f", a.Latitude), 9) + " " +
				fitRight(fmt.Sprintf("%.5f", a.Longitude), 10) + " " + fit(speed, 9) + " " + fitRight(age(f.Now.Sub(a.Time)), 4)
		}
		if i < len(m.rows) {
			left = fit(left, list) + f.style.paint(faint, " │ ") + f.style.paint(green, m.rows[i])
		}
		out = append(out, left)
	}
	return out
}

func (f *frame) footer() string {
	const stop = "Ctrl-C stops"
	if f.Notice == "" {
		return f.style.paint(faint, stop)
	}
	return f.style.paint(faint, stop+"  ·  ") + cut(clean(f.Notice), f.w-len(stop)-5)
}

// chart is a map, north up: a cell with one animal shows a dot, one with more
// their number. It is scaled so that the herd fits and a metre is as long in
// both directions.
type chart struct {
	rows  []string
	width float64 // metres from the left edge to the right
}

const (
	metresPerDegree = 111_195.0 // of latitude
	cellHeight      = 2.0       // of a terminal's cell, in widths
)

func newChart(animals []Animal, w, h int) chart {
	var lat, lon []float64
	for _, a := range animals {
		if math.Abs(a.Latitude) <= 90 && math.Abs(a.Longitude) <= 180 {
			lat, lon = append(lat, a.Latitude), append(lon, a.Longitude)
		}
	}
	if len(lat) == 0 {
		return chart{}
	}
	// A stray far away must not shrink the herd to a dot: the map shows where
	// nine of ten are, and those beyond at its edge.
	south, north := spread(lat)
	west, east := spread(lon)
	midLat, midLon := (south+north)/2, (west+east)/2
	eastDegree := metresPerDegree * math.Max(0.01, math.Cos(midLat*math.Pi/180))
	cell := math.Max((east-west)*eastDegree/float64(max(w-1, 1)), (north-south)*metresPerDegree/cellHeight/float64(max(h-1, 1)))
	cell = math.Max(cell, 1) // metres a cell is wide

	counts := make([]int, w*h)
	for i := range lat {
		x := int(math.Round((lon[i]-midLon)*eastDegree/cell + float64(w-1)/2))
		y := int(math.Round(float64(h-1)/2 - (lat[i]-midLat)*metresPerDegree/cell/cellHeight))
		counts[min(max(y, 0), h-1)*w+min(max(x, 0), w-1)]++
	}
	c := chart{width: cell * float64(w)}
	for row := range h {
		var b strings.Builder
		for _, n := range counts[row*w : (row+1)*w] {
			switch {
			case n == 0:
				b.WriteByte(' ')
			case n == 1:
				b.WriteRune('•')
			case n <= 9:
				b.WriteByte('0' + byte(n))
			default:
				b.WriteByte('#')
			}
		}
		c.rows = append(c.rows, b.String())
	}
	return c
}

// spread gives the range of values without the outermost twentieth on either
// side, if there are enough of them.
func spread(values []float64) (low, high float64) {
	values = slices.Sorted(slices.Values(values))
	skip := len(values) / 20
	return values[skip], values[len(values)-1-skip]
}

func (c chart) caption() string {
	if c.width >= 2000 {
		return fmt.Sprintf("map, %.1f km wide", c.width/1000)
	}
	return fmt.Sprintf("map, %.0f m wide", c.width)
}

// Title is the first line of a frame; the addresses are host:port.
func Title(mqtt, kafka, http string) string {
	m, k, h := split(mqtt), split(kafka), split(http)
	if m[0] == k[0] && m[0] == h[0] {
		return fmt.Sprintf("dealiot-connect dev on %s: MQTT %s  Kafka %s  HTTP %s", m[0], m[1], k[1], h[1])
	}
	return fmt.Sprintf("dealiot-connect dev: MQTT %s  Kafka %s  HTTP %s", mqtt, kafka, http)
}

func split(address string) [2]string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return [2]string{address, ""}
	}
	return [2]string{host, port}
}

// uncoloured takes the colours out of a line.
func uncoloured(line string) string {
	for {
		start := strings.Index(line, "\x1b[")
		if start < 0 {
			return line
		}
		end := strings.IndexByte(line[start:], 'm')
		if end < 0 {
			return line[:start]
		}
		line = line[:start] + line[start+end+1:]
	}
}

// Status draws a snapshot as one line, for logs.
func Status(s Snapshot) string {
	parts := []string{fmt.Sprintf("%s  MQTT in %s/s", clock(s.Uptime), perSecond(s.In))}
	for _, t := range s.Topics {
		switch {
		case t.Name == deadLetterTopic:
			parts = append(parts, fmt.Sprintf("%s %s/s (%s in all)", t.Name, perSecond(t.Rate), grouped(t.Total)))
		case t.Total > 0:
			parts = append(parts, fmt.Sprintf("%s %s/s", clean(t.Name), perSecond(t.Rate)))
		}
	}
	if s.HasLag {
		parts = append(parts, "device to Kafka "+delay(s.Lag))
	}
	if s.Source.Dropped > 0 {
		parts = append(parts, grouped(uint64(s.Source.Dropped))+" dropped by the broker")
	}
	if s.Source.Unmatched > 0 {
		parts = append(parts, grouped(uint64(s.Source.Unmatched))+" on topics nobody subscribes to")
	}
	return strings.Join(parts, " · ")
}

// News finds dead letters to tell of in a log: each reason when it comes up,
// and again when there were more, but no sooner than its pause.
type News struct {
	Pause time.Duration
	Limit int // lines at one time; 0 means all
	told  map[string]told
}

type told struct {
	at    time.Time
	count uint64
}

// maxNews is how long a line may get, in cells: a reason can be 2,000 bytes.
const maxNews = 200

// Lines tells what is new in a snapshot, one line a reason, the most frequent
// first; what is beyond the limit is summed up in one more line and told the
// next time, if it still is among the first.
func (n *News) Lines(now time.Time, s Snapshot) []string {
	type item struct {
		Reason
		key   string
		fresh uint64
	}
	var items []item
	current := map[string]told{} // what the model forgot is forgotten here too
	for _, r := range s.Reasons {
		key := r.Class + "\x00" + r.Intended + "\x00" + pattern(r.Text)
		before, known := n.told[key]
		current[key] = before
		if r.Count != before.count && (!known || before.at.IsZero() || now.Sub(before.at) >= n.Pause) {
			items = append(items, item{r, key, r.Count - before.count})
		}
	}
	n.told = current
	slices.SortStableFunc(items, func(a, b item) int { return -cmp.Compare(a.fresh, b.fresh) })
	var lines []string
	rest := uint64(0)
	for i, it := range items {
		if n.Limit > 0 && i >= n.Limit {
			rest += it.fresh
			continue
		}
		n.told[it.key] = told{now, it.Count}
		line := fmt.Sprintf("  dead letter  %s  %s", orUnknown(it.Class), reason(it.Reason))
		end := ""
		if it.Source != "" {
			end = "  (" + cut(clean(it.Source), maxNews/4) + ")"
		}
		if it.fresh > 1 {
			end += fmt.Sprintf("  and %d more like it", it.fresh-1)
		}
		lines = append(lines, cut(clean(line), maxNews-cells(end))+end)
	}
	if rest > 0 {
		lines = append(lines, fmt.Sprintf("  dead letters for other reasons: %d", rest))
	}
	return lines
}

func orUnknown(class string) string {
	if class == "" {
		return "unknown"
	}
	return class
}
