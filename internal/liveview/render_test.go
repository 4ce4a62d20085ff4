// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package liveview

import (
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden files")

var start = time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)

// busy is a model after a bit more than a minute of a herd.
func busy() (*Model, time.Time) {
	m := NewModel(start, "raw.gps", "raw.sensor", "raw.image2d.meta", "raw.image3d.meta", "raw.video2d.meta", "raw.video3d.meta", deadLetterTopic)
	now := start
	received := int64(0)
	for second := range 75 {
		now = start.Add(time.Duration(second) * time.Second)
		for i := range 10 + second%7 {
			speed := 0.1 * float64(i)
			p := &Position{
				Device:   fmt.Sprintf("cow-%04d", i+1),
				Latitude: 47.78 + 0.0004*float64(i%4) + 0.00001*float64(second), Longitude: 9.06 + 0.0007*float64(i), Time: now,
			}
			if i > 0 {
				p.Speed = &speed
			}
			m.Record(now, Record{Topic: gpsTopic, Position: p, IngestedAt: now.Add(-12 * time.Millisecond)})
		}
		for range 31 {
			m.Record(now, Record{Topic: "raw.sensor"})
		}
		if second%9 == 0 {
			m.Record(now, Record{Topic: "raw.image2d.meta"})
		}
		received += 45
		m.Source(now, Source{Received: received, Sent: received, Clients: 2})
		for _, d := range []struct {
			every  int
			letter DeadLetter
		}{
			{3, DeadLetter{"contract", "raw.gps", "devices/cow-0007/gps", fmt.Sprintf("latitude is %d.5, above the maximum of 90", 91+second)}},
			{5, DeadLetter{"decode", "raw.gps", "devices/cow-0002/gps", "reading JSON: unexpected end at byte 107"}},
			{11, DeadLetter{"contract", "raw.image2d.meta", "devices/cam-1/image2d", "required field bucket is missing"}},
			{20, DeadLetter{"route", "raw.sensor", "wildfi/imu", `routing topic "wildfi/imu": no device id in the topic, which would have to stand behind one of its markers`}},
			{37, DeadLetter{"sink", "raw.gps", "devices/cow-0009/gps", "the record would have 1049913 bytes but may have at most 1000000"}},
		} {
			if second%d.every == 0 {
				m.Record(now, Record{Topic: deadLetterTopic, DeadLetter: &d.letter})
			}
		}
	}
	return m, now.Add(time.Second)
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, string(want), got, "run the test with -update to accept")
}

func text(lines []string) string { return strings.Join(lines, "\n") + "\n" }

func TestGoldenFrames(t *testing.T) {
	title := Title("127.0.0.1:1883", "127.0.0.1:9092", "127.0.0.1:4195")
	tests := []struct {
		name  string
		model func() (*Model, time.Time)
		w, h  int
		style Style
	}{
		{name: "busy_80x24", model: busy, w: 80, h: 24},
		{name: "busy_120x40", model: busy, w: 120, h: 40},
		{name: "busy_80x24_color", model: busy, w: 80, h: 24, style: Style{Color: true}},
		{name: "too_small_40x10", model: busy, w: 40, h: 10, style: Style{Color: true}},
		{name: "quiet_80x24", w: 80, h: 24, model: func() (*Model, time.Time) {
			return NewModel(start, "raw.gps", "raw.sensor", deadLetterTopic), start.Add(3 * time.Second)
		}},
		{name: "trouble_80x24", w: 80, h: 24, model: func() (*Model, time.Time) {
			m, now := busy()
			m.Source(now, Source{Received: 5000, Sent: 4000, Clients: 12, Dropped: 1200, Unmatched: 34})
			m.Notice(now, "10:01:15 mqtt_to_kafka: kafka: connection to the broker was lost, connecting again in 3 s and then more slowly")
			return m, now
		}},
		{name: "many_topics_80x24", w: 80, h: 24, model: func() (*Model, time.Time) {
			m, now := busy()
			for i := range 30 {
				for range i + 1 {
					m.Record(now, Record{Topic: fmt.Sprintf("site.topic-%02d", i)})
				}
			}
			return m, now
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m, now := test.model()
			lines := Frame(m.Snapshot(now), title, test.w, test.h, test.style)
			golden(t, test.name+".txt", text(lines))
			requireFits(t, lines, test.w, test.h)
		})
	}
}

func requireFits(t *testing.T, lines []string, w, h int) {
	t.Helper()
	require.LessOrEqual(t, len(lines), h)
	for i, line := range lines {
		plain := uncoloured(line)
		require.LessOrEqual(t, cells(plain), w, "line %d: %q", i+1, line)
		for _, r := range plain {
			require.True(t, unicode.IsPrint(r), "line %d: %q", i+1, line)
		}
	}
}

func TestGoldenStatus(t *testing.T) {
	m, now := busy()
	assert.Equal(t, "00:01:15  MQTT in 45.0/s · raw.gps 12.0/s · raw.image2d.meta 0.2/s · raw.sensor 31.0/s · dlq.events 0.6/s (54 in all) · device to Kafka 12 ms", Status(m.Snapshot(now)))
	m.Source(now, Source{Received: 5000, Sent: 4000, Dropped: 1200, Unmatched: 3})
	assert.Contains(t, Status(m.Snapshot(now)), " · 1,200 dropped by the broker · 3 on topics nobody subscribes to")
}

func TestNews(t *testing.T) {
	m := NewModel(start)
	letter := func(now time.Time, reason string, n int) {
		for range n {
			m.Record(now, Record{Topic: deadLetterTopic, DeadLetter: &DeadLetter{"contract", "raw.gps", "devices/a/gps", reason}})
		}
	}
	news := News{Pause: 10 * time.Second, Limit: 2}
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }

	assert.Empty(t, news.Lines(at(1), m.Snapshot(at(1))))
	letter(at(2), "latitude is 91, above 90", 1)
	letter(at(2), "latitude is 92.5, above 90", 1)
	letter(at(2), "longitude is missing", 1)
	letter(at(2), "speed is negative", 3)
	assert.Equal(t, []string{
		"  dead letter  contract  raw.gps: speed is negative  (devices/a/gps)  and 2 more like it",
		"  dead letter  contract  raw.gps: latitude is 92.5, above 90  (devices/a/gps)  and 1 more like it",
		"  dead letters for other reasons: 1",
	}, news.Lines(at(5), m.Snapshot(at(5))))

	// What was told waits for its pause, what was not comes now.
	letter(at(6), "latitude is 93, above 90", 1)
	assert.Equal(t, []string{"  dead letter  contract  raw.gps: longitude is missing  (devices/a/gps)"}, news.Lines(at(10), m.Snapshot(at(10))))
	assert.Equal(t, []string{"  dead letter  contract  raw.gps: latitude is 93, above 90  (devices/a/gps)"}, news.Lines(at(15), m.Snapshot(at(15))))
	assert.Empty(t, news.Lines(at(60), m.Snapshot(at(60))))

	letter(at(61), strings.Repeat("long ", 1000)+"\x1b[2J", 2)
	lines := news.Lines(at(61), m.Snapshot(at(61)))
	require.Len(t, lines, 1)
	assert.LessOrEqual(t, cells(lines[0]), maxNews)
	assert.NotContains(t, lines[0], "\x1b")
	assert.True(t, strings.HasSuffix(lines[0], "…  (devices/a/gps)  and 1 more like it"), lines[0])
}

func TestTitle(t *testing.T) {
	assert.Equal(t, "dealiot-connect dev on 127.0.0.1: MQTT 1883  Kafka 9092  HTTP 4195", Title("127.0.0.1:1883", "127.0.0.1:9092", "127.0.0.1:4195"))
	assert.Equal(t, "dealiot-connect dev: MQTT 127.0.0.1:1883  Kafka 10.1.2.3:9092  HTTP 127.0.0.1:4195", Title("127.0.0.1:1883", "10.1.2.3:9092", "127.0.0.1:4195"))
}

func TestSparkline(t *testing.T) {
	for _, test := range []struct {
		values []uint64
		n      int
		want   string
	}{
		{nil, 5, ""},
		{[]uint64{1, 2}, 0, ""},
		{[]uint64{0, 0}, 5, "  "},
		{[]uint64{0, 1, 1000}, 3, " ▁█"},
		{[]uint64{5, 5, 5, 5}, 2, "██"},
		{[]uint64{5, 5, 5, 5, 5}, 2, "██"}, // two and three values a cell
		{[]uint64{0, 1, 2, 3, 4, 5, 6, 7}, 8, " ▂▃▄▅▆▇█"},
	} {
		assert.Equal(t, test.want, sparkline(test.values, test.n), "%v", test.values)
	}
}

func TestChart(t *testing.T) {
	herd := func(places ...[2]float64) (animals []Animal) {
		for _, p := range places {
			animals = append(animals, Animal{Position: Position{Latitude: p[0], Longitude: p[1]}})
		}
		return animals
	}
	north, south, east := [2]float64{47.79, 9.06}, [2]float64{47.77, 9.06}, [2]float64{47.77, 9.09}
	assert.Equal(t, []string{
		" •         ",
		"           ",
		"           ",
		"           ",
		" 2       • ", // as far as the north is high, at twice the width of a cell
	}, newChart(herd(north, south, south, east), 11, 5).rows)

	one := newChart(herd(north), 5, 3)
	assert.Equal(t, []string{"     ", "  •  ", "     "}, one.rows)
	assert.InDelta(t, 5, one.width, 1e-9)

	// A stray stands at the edge and does not shrink the herd.
	var many [][2]float64
	for i := range 40 {
		many = append(many, [2]float64{47.77 + 0.0001*float64(i%8), 9.06 + 0.0001*float64(i/8)})
	}
	c := newChart(herd(append(many, [2]float64{-80, -170})...), 20, 6)
	assert.Less(t, c.width, 1000.0)
	assert.Equal(t, "•", c.rows[5][:len("•")])

	for _, odd := range [][2]float64{{math.NaN(), 0}, {0, math.Inf(1)}, {91, 0}, {0, 181}} {
		assert.Nil(t, newChart(herd(odd), 20, 6).rows)
	}
	assert.NotNil(t, newChart(herd([2]float64{90, 180}, [2]float64{-90, -180}), 20, 6).rows)
}

func TestText(t *testing.T) {
	assert.Equal(t, "·[2J a·b 牛 cafe·", clean("\x1b[2J\ta\x00b\n牛 cafe\u0301"))
	assert.Equal(t, "·", clean("\u202e"), "text that changes the direction of writing")
	assert.Equal(t, 4, cells("牛ab"))
	assert.Equal(t, "牛…", cut("牛牛牛", 4))
	assert.Equal(t, "牛…", cut("牛牛牛", 3))
	assert.Equal(t, "牛牛", cut("牛牛", 4))
	assert.Equal(t, "", cut("abc", 0))
	assert.Equal(t, "a ", fit("a", 2))
	assert.Equal(t, "… ", fit("牛牛", 2))
	assert.Equal(t, " a", fitRight("a", 2))
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		assert.Equal(t, want, grouped(n))
	}
	for d, want := range map[time.Duration]string{
		-time.Second: "0 s", 99 * time.Second: "99 s", 100 * time.Second: "1 m", 3 * time.Hour: "3 h",
		101 * time.Hour: "4 d", 56 * 365 * 24 * time.Hour: "long",
	} {
		assert.Equal(t, want, age(d), d)
	}
	for d, want := range map[time.Duration]string{0: "<1 ms", 1500 * time.Microsecond: "1 ms", 9 * time.Second: "9000 ms", 12 * time.Second: "12 s"} {
		assert.Equal(t, want, delay(d), d)
	}
	assert.Equal(t, "100:02:03", clock(100*time.Hour+2*time.Minute+3*time.Second))
	assert.Equal(t, "12,346", perSecond(12345.6))
	assert.Equal(t, "9999.4", perSecond(9999.4))
}

// Devices choose much of what is shown.
func FuzzFrame(f *testing.F) {
	f.Add("cow-1", "raw.gps", "reason", 47.7, 9.1, 80, 24)
	f.Add("\x1b[2J", "牛牛牛", strings.Repeat("\u0301", 300), math.Inf(1), math.NaN(), 61, 17)
	f.Add("", "", "", -90.0, 180.0, 1, 1)
	f.Add("a\r\nb", "\xff\xfe", "\u202egnp", 1e300, -1e300, 300, 100)
	f.Fuzz(func(t *testing.T, device, topic, reason string, lat, lon float64, w, h int) {
		w, h = min(max(w, 0), 500), min(max(h, 0), 200)
		m, now := NewModel(start, "raw.gps", "raw.sensor"), start.Add(time.Second)
		for i := range 30 {
			m.Record(start, Record{Topic: fmt.Sprintf("topic-%d", i), Position: &Position{Device: fmt.Sprint(i), Latitude: 47 + 0.001*float64(i)}})
			m.Record(start, Record{Topic: deadLetterTopic, DeadLetter: &DeadLetter{Class: "decode", Reason: strings.Repeat("x", i)}})
		}
		speed := lat * lon
		m.Record(now, Record{Topic: topic, Position: &Position{Device: device, Latitude: lat, Longitude: lon, Speed: &speed, Time: now}})
		m.Record(now, Record{Topic: deadLetterTopic, DeadLetter: &DeadLetter{device, topic, device, reason}})
		m.Notice(now, reason)
		s := m.Snapshot(now)
		requireFits(t, Frame(s, topic, w, h, Style{}), w, h)
		colored := Frame(s, topic, w, h, Style{Color: true})
		requireFits(t, colored, w, h)
		var news News
		for _, line := range append(news.Lines(now, s), Status(s)) {
			for _, r := range line {
				if !unicode.IsPrint(r) {
					t.Fatalf("%q in %q", r, line)
				}
			}
		}
	})
}
