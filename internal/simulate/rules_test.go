// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package simulate

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dealiot/dealiot-connect/plugins/contract"
	"github.com/dealiot/dealiot-connect/plugins/deviceevent"
	"github.com/dealiot/dealiot-connect/plugins/event"
	"github.com/dealiot/dealiot-connect/plugins/route"
	"github.com/dealiot/dealiot-connect/schemas"
)

// The outcome that a message states is what the rules of ingestion make of it:
// routing, event, contract and record limit, as the pipeline applies them. And
// its number can be found in what becomes of it.
func TestOutcomesAreThoseOfTheRules(t *testing.T) {
	rules, err := route.Compile(route.Defaults())
	require.NoError(t, err)
	contracts, err := contract.LoadSet(schemas.FS)
	require.NoError(t, err)
	var builder deviceevent.Builder
	builder.Begin(testStart.Add(time.Hour))

	h := newTestHerd(t, Config{Seed: 12, Faults: EvenFaults(0.6), QoS: 1})
	ids := map[string]uint64{}
	seen := map[Class]int{}
	for range 3000 {
		m := h.Next()
		seen[m.Class]++
		d := deviceevent.NewDestination(rules, m.MQTTTopic)
		e, failure := builder.Build(nil, d, deviceevent.Message{Payload: m.Payload, QoS: int(m.QoS)})

		got := Outcome{KafkaTopic: d.KafkaTopic, Ingested: e.TimeIngested}
		reject := func(class event.Class) {
			got = Outcome{KafkaTopic: TopicDeadLetter, IntendedTopic: d.KafkaTopic, ErrorClass: class}
		}
		if failure != nil {
			reject(failure.Class)
		} else {
			require.Equal(t, m.DeviceID, e.DeviceID)
			c, ok := contracts.Contract(d.KafkaTopic)
			require.True(t, ok, "no contract for %s", d.KafkaTopic)
			if res := c.Validate(e.Body, contract.Options{}); !res.Valid() {
				reject(res.Class)
			} else if d.KafkaTopic != TopicSensor && len(e.Body) > recordLimit {
				reject(event.ClassSink)
			}
			if m.EventID != "" {
				require.Equal(t, m.EventID, e.ID.String(), "message %d of class %s", m.Seq, m.Class)
				at, err := event.ParseTime(string(e.Time))
				require.NoError(t, err)
				require.True(t, m.EventTime.Equal(at))
			}
		}
		if got.KafkaTopic != TopicDeadLetter {
			var body struct {
				Payload struct {
					B64 []byte `json:"payload_b64"`
				} `json:"payload"`
			}
			require.NoError(t, json.Unmarshal(e.Body, &body))
			trace := e.Body
			if got.PayloadB64 = body.Payload.B64 != nil; got.PayloadB64 {
				require.Equal(t, base64.StdEncoding.EncodeToString(m.Payload), base64.StdEncoding.EncodeToString(body.Payload.B64))
				trace = body.Payload.B64
			}
			seq, ok := FindSeq(trace)
			require.True(t, ok)
			first := m.Seq
			if m.DuplicateOf != 0 {
				first = m.DuplicateOf
			}
			require.Equal(t, first, seq)

			if before, ok := ids[e.ID.String()]; ok {
				require.Equal(t, m.DuplicateOf, before, "two messages with one event_id")
				got.Duplicate = true
			} else {
				ids[e.ID.String()] = m.Seq
			}
		}
		require.Equal(t, m.Expect, got, "message %d of class %s on %s: %.300q", m.Seq, m.Class, m.MQTTTopic, m.Payload)
	}
	for _, c := range Classes() {
		assert.Positive(t, seen[c], c)
	}
}

// The guide shows the outcomes as a table.
func TestGuideShowsOutcomes(t *testing.T) {
	guide, err := os.ReadFile("../../docs/simulate.md")
	require.NoError(t, err)
	words := func(c Class, topic string, cat category) string {
		o := Expect(c, topic)
		switch {
		case !c.suits(cat):
			return "(not made)"
		case o.KafkaTopic == TopicDeadLetter:
			return "dead letter, `" + string(o.ErrorClass) + "`"
		case o.PayloadB64:
			return "event, `payload_b64`"
		case o.Duplicate:
			return "event, same `event_id`"
		case o.Ingested:
			return "event, ingestion time"
		}
		return "event"
	}
	for _, c := range Classes() {
		require.Equal(t, words(c, TopicGPS, gps), words(c, TopicImage2D, media), "one column serves both")
		row := "| " + words(c, TopicSensor, sensor) + " | " + words(c, TopicGPS, gps) + " |"
		found := false
		for line := range strings.Lines(string(guide)) {
			if strings.HasPrefix(line, "| `"+string(c)+"` |") {
				found = true
				assert.Equal(t, row, "| "+strings.TrimSpace(strings.SplitN(line, "|", 4)[3]), "class %s", c)
			}
		}
		assert.True(t, found, "the guide has no row for class %s", c)
	}
}
