// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

// Package liveview shows a running development stack: what flows through each
// topic, why messages were rejected, where the animals are. Model gathers it
// and Frame and Lines render it, all without looking at a clock, a terminal or
// a network; Reader and Screen are the parts that do.
package liveview

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	window      = 60 // seconds of history
	rateSeconds = 5  // over which rates are averaged

	noticeFor = 30 * time.Second

	// Bounds of what is kept, whatever devices make up.
	maxReasons = 200
	maxAnimals = 10_000
)

// Source is what the MQTT broker says of itself: counters since its start.
type Source struct {
	Received int64 // messages that devices published
	Sent     int64 // messages handed to pipelines and other subscribers
	Dropped  int64 // messages that a subscriber did not get because it lagged
	Clients  int64 // connected now
	// Unmatched counts messages on topics that nobody had subscribed to.
	Unmatched int64
}

// Model gathers what the view shows. It is not safe for concurrent use.
type Model struct {
	started time.Time
	topics  map[string]*counter
	source  Source
	in, out counter
	reasons map[string]*Reason
	animals map[string]*Animal
	lag     lag
	notice  string
	noticed time.Time
}

// Reason is why messages were rejected; messages with the same class, topic
// and words, numbers apart, count as one.
type Reason struct {
	Class, Intended string
	Text            string // of the last
	Source          string // topic that the last came from
	Count           uint64
	Last            time.Time // when the view saw the last
}

// Animal is the last known place of a device.
type Animal struct {
	Position
	Seen time.Time // when the view saw it
}

// counter counts by second of the last minute.
type counter struct {
	total   uint64
	seconds [window]uint64
	at      int64 // Unix second of the newest
}

func (c *counter) advance(now time.Time) {
	s := now.Unix()
	for steps := min(s-c.at, window); steps > 0; steps-- {
		c.seconds[(s-steps+1)%window] = 0
	}
	c.at = max(c.at, s)
}

func (c *counter) add(now time.Time, n uint64) {
	c.advance(now)
	c.total += n
	c.seconds[c.at%window] += n
}

// rate is the mean of the last full seconds, of those since the start if they
// are fewer.
func (c *counter) rate(now, started time.Time) float64 {
	c.advance(now)
	n := min(rateSeconds, now.Unix()-started.Unix())
	if n <= 0 {
		return 0
	}
	sum := uint64(0)
	for i := range n {
		sum += c.seconds[(c.at-1-i+window)%window]
	}
	return float64(sum) / float64(n)
}

// history gives the full seconds of the last minute, the oldest first.
func (c *counter) history(now time.Time) []uint64 {
	c.advance(now)
	h := make([]uint64, 0, window-1)
	for i := int64(window - 1); i > 0; i-- {
		h = append(h, c.seconds[(c.at-i+window)%window])
	}
	return h
}

// lag is how long messages took to get into Kafka and back out, over the last
// seconds.
type lag struct {
	at      int64
	now     [2]time.Duration // sum and maximum of this second
	n       int
	last    [2]time.Duration // mean and maximum of the last second that had any
	present bool
}

func (l *lag) add(now time.Time, d time.Duration) {
	if s := now.Unix(); s != l.at {
		l.roll()
		l.at = s
	}
	l.now[0] += d
	l.now[1] = max(l.now[1], d)
	l.n++
}

func (l *lag) roll() {
	if l.n > 0 {
		l.last = [2]time.Duration{l.now[0] / time.Duration(l.n), l.now[1]}
		l.present = true
	}
	l.now, l.n = [2]time.Duration{}, 0
}

// NewModel starts at a time; topics are shown from the beginning, others when
// something arrives on them.
func NewModel(now time.Time, topics ...string) *Model {
	m := &Model{started: now, topics: map[string]*counter{}, reasons: map[string]*Reason{}, animals: map[string]*Animal{}}
	for _, t := range topics {
		m.topics[t] = &counter{}
	}
	return m
}

// Record takes a record into account.
func (m *Model) Record(now time.Time, r Record) {
	c := m.topics[r.Topic]
	if c == nil {
		c = &counter{}
		m.topics[r.Topic] = c
	}
	c.add(now, 1)
	if d := now.Sub(r.IngestedAt); !r.IngestedAt.IsZero() && d >= 0 && d < time.Hour {
		m.lag.add(now, d)
	}
	if r.DeadLetter != nil {
		m.deadLetter(now, *r.DeadLetter)
	}
	if p := r.Position; p != nil {
		m.position(now, *p)
	}
}

func (m *Model) deadLetter(now time.Time, d DeadLetter) {
	key := d.Class + "\x00" + d.Intended + "\x00" + pattern(d.Reason)
	r := m.reasons[key]
	if r == nil {
		if len(m.reasons) >= maxReasons {
			evict(m.reasons, func(r *Reason) time.Time { return r.Last })
		}
		r = &Reason{Class: d.Class, Intended: d.Intended}
		m.reasons[key] = r
	}
	r.Count++
	r.Last, r.Text, r.Source = now, d.Reason, d.SourceTopic
}

func (m *Model) position(now time.Time, p Position) {
	a := m.animals[p.Device]
	if a == nil {
		if len(m.animals) >= maxAnimals {
			evict(m.animals, func(a *Animal) time.Time { return a.Seen })
		}
		a = &Animal{}
		m.animals[p.Device] = a
	}
	// A late message does not move the animal back. A clock that runs ahead
	// would hold it where it is for years, so what lies in the future counts as
	// old.
	if a.Time.After(p.Time) && !a.Time.After(now) {
		return
	}
	a.Position, a.Seen = p, now
}

// evict drops the entry that is oldest.
func evict[V any](m map[string]V, at func(V) time.Time) {
	oldest, found := "", false
	for k, v := range m {
		if !found || at(v).Before(at(m[oldest])) {
			oldest, found = k, true
		}
	}
	delete(m, oldest)
}

// pattern is a text without its numbers and quotations.
func pattern(text string) string {
	const longest = 200
	var b strings.Builder
	quoted, number := false, false
	for _, r := range text {
		if b.Len() >= longest {
			break
		}
		if r == '"' {
			quoted = !quoted
		}
		digit := r >= '0' && r <= '9'
		switch {
		case quoted && r != '"':
			continue
		case digit && number:
		case digit:
			b.WriteByte('#')
		case number && (r == '.' || r == '-' || r == '+' || r == 'e' || r == 'E'):
			continue // within a number
		default:
			b.WriteRune(r)
		}
		number = digit
	}
	return b.String()
}

// Source takes the broker's counters into account.
func (m *Model) Source(now time.Time, s Source) {
	m.in.add(now, uint64(max(0, s.Received-m.source.Received)))
	m.out.add(now, uint64(max(0, s.Sent-m.source.Sent)))
	m.source = s
}

// Notice shows a line of text for a while, the last warning for instance.
func (m *Model) Notice(now time.Time, text string) { m.notice, m.noticed = text, now }

// Snapshot is what can be seen at one moment.
type Snapshot struct {
	Now     time.Time
	Uptime  time.Duration // since the start, see NewModel
	Source  Source
	In, Out float64 // MQTT messages a second
	Topics  []TopicRow
	Lag     time.Duration // mean of the last second with a measurement; see HasLag
	HasLag  bool
	Reasons []Reason // the most frequent first
	Animals []Animal // by device
	Notice  string
}

// TopicRow is the traffic of one topic.
type TopicRow struct {
	Name    string
	Rate    float64 // records a second
	Total   uint64
	History []uint64 // records in each second of the last minute, the oldest first
}

// Snapshot tells what is to be seen now.
func (m *Model) Snapshot(now time.Time) Snapshot {
	s := Snapshot{
		Now:    now,
		Uptime: now.Sub(m.started),
		Source: m.source,
		In:     m.in.rate(now, m.started),
		Out:    m.out.rate(now, m.started),
	}
	if now.Sub(m.noticed) < noticeFor {
		s.Notice = m.notice
	}
	if now.Unix() != m.lag.at {
		m.lag.roll()
	}
	s.Lag, s.HasLag = m.lag.last[0], m.lag.present
	for _, name := range slices.Sorted(maps.Keys(m.topics)) {
		c := m.topics[name]
		s.Topics = append(s.Topics, TopicRow{Name: name, Rate: c.rate(now, m.started), Total: c.total, History: c.history(now)})
	}
	// Raw topics first, as the flow goes; dead letters last.
	slices.SortStableFunc(s.Topics, func(a, b TopicRow) int { return cmp.Compare(rank(a.Name), rank(b.Name)) })
	for _, r := range m.reasons {
		s.Reasons = append(s.Reasons, *r)
	}
	slices.SortFunc(s.Reasons, func(a, b Reason) int {
		return cmp.Or(-cmp.Compare(a.Count, b.Count), cmp.Compare(a.Class, b.Class), cmp.Compare(a.Intended, b.Intended), cmp.Compare(a.Text, b.Text))
	})
	for _, device := range slices.Sorted(maps.Keys(m.animals)) {
		s.Animals = append(s.Animals, *m.animals[device])
	}
	return s
}

func rank(topic string) int {
	switch {
	case strings.HasPrefix(topic, rawPrefix):
		return 0
	case topic == deadLetterTopic:
		return 2
	}
	return 1
}
