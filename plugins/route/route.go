// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

// Package route holds the rules that turn an MQTT topic into a Kafka topic, a
// device id and the name of the source. It is pure: settings go in, a table
// comes out, and the table answers for each topic.
package route

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Kafka topics that the rules lead to when nothing else is set.
const (
	TopicSensor  = "raw.sensor"
	TopicGPS     = "raw.gps"
	TopicImage2D = "raw.image2d.meta"
	TopicImage3D = "raw.image3d.meta"
	TopicVideo2D = "raw.video2d.meta"
	TopicVideo3D = "raw.video3d.meta"
)

// Names of the road an event took into the platform.
const (
	SourceMQTT   = "mqtt-bridge"
	SourceWildFi = "wildfi-mqtt"
)

// ErrNoDevice says that a topic names no device.
var ErrNoDevice = errors.New("no device id in the topic")

// Rule leads topics that have one of the markers as a level to a Kafka topic.
type Rule struct {
	Markers []string
	Topic   string
}

// Settings of the rules. Markers and prefixes are whole levels of a topic, in
// any case; the first rule of which a level is a marker decides. The level
// that is the device id takes no part in that.
type Settings struct {
	// DefaultTopic is where topics without any marker go.
	DefaultTopic string
	// Rules in order of precedence.
	Rules []Rule
	// WildFiPrefixes are levels, beside wildfi and wild-fi, that make a topic a
	// WildFi topic. An item may hold several, parted by commas; blank ones
	// count for nothing.
	WildFiPrefixes []string
	// WildFiMarkers lead WildFi topics to TopicSensor, after all rules.
	WildFiMarkers []string
	// DeviceMarkers stand in front of a device id, in order of precedence.
	DeviceMarkers []string
}

// Defaults gives the platform's settings: words that name a kind of medium go
// before words for positions, and both before words that only hint at a kind.
func Defaults() Settings {
	return Settings{
		DefaultTopic: TopicSensor,
		Rules: []Rule{
			{[]string{"video3d"}, TopicVideo3D},
			{[]string{"video2d"}, TopicVideo2D},
			{[]string{"image2d"}, TopicImage2D},
			{[]string{"image3d"}, TopicImage3D},
			{[]string{"gps", "gnss", "rawgps"}, TopicGPS},
			{[]string{"stereo-video", "volumetric-video"}, TopicVideo3D},
			{[]string{"lidar", "pointcloud"}, TopicImage3D},
			{[]string{"video", "camera-stream"}, TopicVideo2D},
			{[]string{"camera", "image"}, TopicImage2D},
			{[]string{"sensor"}, TopicSensor},
		},
		WildFiMarkers: []string{
			"acc", "accelerometer", "bme", "decoded", "environment", "gateway", "imu", "mag", "metadata",
			"move", "movement", "prox", "proximity", "sensor", "telemetry",
		},
		DeviceMarkers: []string{"tags", "tag", "devices"},
	}
}

// wildFiPrefixes always make a topic a WildFi topic.
var wildFiPrefixes = []string{"wildfi", "wild-fi"}

// wildFiGroup stands in front of a gateway's id: wildfi/gateways/GW-1/status.
const wildFiGroup = "gateways"

// level is what the rules know about one level of a topic.
type level struct {
	rule   int  // 1-based index of the rule that it is a marker of; 0 for none
	device int  // 1-based index of the device marker that it is; 0 for none
	prefix bool // makes the topic a WildFi topic
	word   bool // marker of WildFi topics
	group  bool // wildFiGroup
}

// marker says whether a level has a meaning of its own and so is no device,
// unless it stands behind a device marker.
func (l level) marker() bool { return l != level{} }

// Table is the compiled form of Settings. It is safe for concurrent use.
type Table struct {
	defaultTopic string
	rules        []Rule
	devices      int
	levels       map[string]level
	longest      int // bytes of the longest marker
	topics       []string
	help         string // where a device id may stand, in words
}

// Compile checks settings and compiles them. The error names the setting that
// cannot be met.
func Compile(s Settings) (*Table, error) {
	t := &Table{defaultTopic: s.DefaultTopic, rules: s.Rules, devices: len(s.DeviceMarkers), levels: map[string]level{}}
	if err := t.addTopic(s.DefaultTopic); err != nil {
		return nil, fmt.Errorf("reading default topic: %w", err)
	}
	add := func(marker string, change func(*level) error) error {
		key := strings.ToLower(strings.TrimSpace(marker))
		if key == "" || strings.Contains(key, "/") {
			return fmt.Errorf("reading marker %q: it is one whole level of a topic, not blank and without a slash", marker)
		}
		l := t.levels[key]
		if err := change(&l); err != nil {
			return fmt.Errorf("reading marker %q: %w", marker, err)
		}
		t.levels[key] = l
		t.longest = max(t.longest, len(key))
		return nil
	}
	for i, r := range s.Rules {
		if err := t.addTopic(r.Topic); err != nil {
			return nil, fmt.Errorf("reading rule %d: %w", i, err)
		}
		if len(r.Markers) == 0 {
			return nil, fmt.Errorf("reading rule %d for %s: it has no markers and would never apply", i, r.Topic)
		}
		for _, marker := range r.Markers {
			if err := add(marker, func(l *level) error {
				if l.rule != 0 {
					return fmt.Errorf("it stands in rules %d and %d, of which the second would never apply", l.rule-1, i)
				}
				l.rule = i + 1
				return nil
			}); err != nil {
				return nil, err
			}
		}
	}
	for _, marker := range s.WildFiMarkers {
		if err := add(marker, func(l *level) error { l.word = true; return nil }); err != nil {
			return nil, err
		}
	}
	if len(s.WildFiMarkers) > 0 {
		if err := t.addTopic(TopicSensor); err != nil {
			return nil, err
		}
	}
	prefixes := append([]string(nil), wildFiPrefixes...)
	for _, item := range s.WildFiPrefixes {
		for _, prefix := range strings.Split(item, ",") {
			if prefix = strings.TrimSpace(prefix); prefix != "" {
				prefixes = append(prefixes, prefix)
			}
		}
	}
	for _, prefix := range prefixes {
		if err := add(prefix, func(l *level) error { l.prefix = true; return nil }); err != nil {
			return nil, err
		}
	}
	for i, marker := range s.DeviceMarkers {
		if err := add(marker, func(l *level) error {
			if l.device == 0 {
				l.device = i + 1
			}
			return nil
		}); err != nil {
			return nil, err
		}
	}
	if err := add(wildFiGroup, func(l *level) error { l.group = true; return nil }); err != nil {
		return nil, err
	}
	t.help = "it stands behind one of the levels " + strings.Join(append(append([]string(nil), s.DeviceMarkers...), prefixes...), ", ") +
		", or is the last level and no marker"
	return t, nil
}

func (t *Table) addTopic(topic string) error {
	if err := checkTopic(topic); err != nil {
		return err
	}
	for _, known := range t.topics {
		if known == topic {
			return nil
		}
	}
	t.topics = append(t.topics, topic)
	return nil
}

func checkTopic(topic string) error {
	ok := topic != "" && len(topic) <= 249 && topic != "." && topic != ".."
	for i := 0; ok && i < len(topic); i++ {
		c := topic[i]
		ok = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
	}
	if !ok {
		return fmt.Errorf("naming Kafka topic %q: it has 1 to 249 of the characters a-z A-Z 0-9 . _ -", topic)
	}
	return nil
}

// Topics lists the Kafka topics that the rules can lead to, each once.
func (t *Table) Topics() []string { return t.topics }

// Route says where the messages of an MQTT topic belong.
type Route struct {
	KafkaTopic string
	DeviceID   string // a level of the MQTT topic, its case kept; "" with an error
	Source     string // SourceMQTT or SourceWildFi
}

// Resolve applies the rules to an MQTT topic. An error says that the topic
// names no device that an event could carry, or is not text at all; the Kafka
// topic stands in the result all the same where it can be told.
func (t *Table) Resolve(topic string) (Route, error) {
	if !utf8.ValidString(topic) {
		return Route{}, fmt.Errorf("routing topic %.100q: it is not valid UTF-8", topic)
	}
	device, at := t.device(topic)
	r := Route{KafkaTopic: t.kafkaTopic(topic, at), DeviceID: device, Source: SourceMQTT}
	if t.isWildFi(topic) {
		r.Source = SourceWildFi
	}
	if at < 0 {
		return r, fmt.Errorf("routing topic %.100q: %w (%s)", topic, ErrNoDevice, t.help)
	}
	if err := checkDevice(device); err != nil {
		r.DeviceID = ""
		return r, fmt.Errorf("routing topic %.100q: %w", topic, err)
	}
	return r, nil
}

// device finds the device id and its place among the levels that are not
// empty; -1 when there is none.
func (t *Table) device(topic string) (device string, at int) {
	at = -1
	best := t.devices + 1 // index of the device marker found so far; lower wins
	var (
		before         level // the level before this one
		n              int
		wildFi         bool // behind a WildFi prefix
		wildFiID, last string
		wildFiAt       = -1
		lastLevel      level
	)
	for text := range strings.SplitSeq(topic, "/") {
		if text == "" {
			continue
		}
		l := t.level(text)
		if before.device != 0 && before.device < best {
			best, device, at = before.device, text, n
		}
		if wildFi && wildFiAt < 0 && !l.marker() {
			wildFiID, wildFiAt = text, n
		}
		wildFi = wildFi || l.prefix
		before, last, lastLevel = l, text, l
		n++
	}
	switch {
	case at >= 0:
		return device, at
	case wildFiAt >= 0:
		return wildFiID, wildFiAt
	case n > 0 && !lastLevel.marker():
		return last, n - 1
	}
	return "", -1
}

// kafkaTopic applies the rules to all levels but the device's.
func (t *Table) kafkaTopic(topic string, deviceAt int) string {
	best := len(t.rules) + 1
	wildFi, word := false, false
	n := 0
	for text := range strings.SplitSeq(topic, "/") {
		if text == "" {
			continue
		}
		l := t.level(text)
		wildFi = wildFi || l.prefix
		if n != deviceAt {
			if l.rule != 0 && l.rule < best {
				best = l.rule
			}
			word = word || l.word
		}
		n++
	}
	switch {
	case best <= len(t.rules):
		return t.rules[best-1].Topic
	case wildFi && word:
		return TopicSensor
	}
	return t.defaultTopic
}

func (t *Table) isWildFi(topic string) bool {
	for text := range strings.SplitSeq(topic, "/") {
		if text != "" && t.level(text).prefix {
			return true
		}
	}
	return false
}

func (t *Table) level(text string) level {
	// Lower case of some letters takes fewer bytes, at most a third.
	if len(text) > 3*t.longest {
		return level{}
	}
	return t.levels[strings.ToLower(text)]
}

// checkDevice refuses device ids that every contract refuses: they would be
// dead letters anyway, with a reason that says less.
func checkDevice(id string) error {
	blank := true
	for _, r := range id {
		if r < 0x20 || r == 0x7f {
			return fmt.Errorf("reading device id %.100q: it holds a control character", id)
		}
		blank = blank && unicode.IsSpace(r)
	}
	if blank {
		return fmt.Errorf("reading device id %q: it is blank", id)
	}
	return nil
}
