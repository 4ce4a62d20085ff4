// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"bufio"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dealiot/dealiot-connect/plugins/event"
	"github.com/dealiot/dealiot-connect/schemas"
)

func embedded(t testing.TB) *Set {
	t.Helper()
	set, err := LoadSet(schemas.FS)
	require.NoError(t, err)
	return set
}

func embeddedContract(t testing.TB, topic string) *Contract {
	t.Helper()
	c, ok := embedded(t).Contract(topic)
	require.Truef(t, ok, "no contract %s", topic)
	return c
}

type goldenRow struct {
	ID          string          `json:"id"`
	Category    string          `json:"category"`
	Topic       string          `json:"topic"`
	EventJSON   string          `json:"event_json"`
	Errors      []string        `json:"errors"`
	UpstreamBug bool            `json:"upstream_bug"`
	Want        json.RawMessage `json:"want"`
	Registry    []string        `json:"registry_schema_errors"`
}

func goldenRows(t testing.TB) (rows []goldenRow) {
	t.Helper()
	f, err := os.Open("../../test/vectors/validation.jsonl")
	require.NoError(t, err)
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r goldenRow
		require.NoError(t, json.Unmarshal(lines.Bytes(), &r))
		rows = append(rows, r)
	}
	require.NoError(t, lines.Err())
	return rows
}

var (
	afterColon = regexp.MustCompile(`^(?:missing required field|field must be .*|field not allowed by .*): (.*)$`)
	inQuotes   = regexp.MustCompile(`'([^']*)'`)
)

// wantedFields gives the top-level fields at fault; nil for an event that is
// not JSON.
func wantedFields(t *testing.T, row goldenRow) map[string]bool {
	t.Helper()
	errs := row.Errors
	var words string
	switch {
	case !row.UpstreamBug:
	case json.Unmarshal(row.Want, &errs) == nil:
	case json.Unmarshal(row.Want, &words) == nil:
		switch words {
		case "parse error -> DLQ":
			return nil
		case "validate against the registry schema":
			fields := map[string]bool{}
			for _, e := range row.Registry {
				for _, m := range inQuotes.FindAllStringSubmatch(e, -1) {
					fields[m[1]] = true
				}
			}
			require.NotEmpty(t, fields)
			return fields
		case "strip nulls before validation", "decide: null = absent (strip) or error":
			errs = nil
		default:
			errs = []string{words}
		}
	default:
		t.Fatalf("row %s: want %s is neither a list nor a text", row.ID, row.Want)
	}
	fields := map[string]bool{}
	for _, e := range errs {
		if m := afterColon.FindStringSubmatch(e); m != nil {
			fields[m[1]] = true
		} else {
			fields[e[:strings.IndexByte(e, ' ')]] = true
		}
	}
	return fields
}

// ours are the rows where a rule of ours stands against the observed answer.
var ours = map[string]map[string]bool{
	// The platform has no contract for these two topics; we do.
	"v110": {"device_id": true, "event_id": true, "features": true, "kind": true, "revision": true, "source_topic": true, "timestamp": true},
	"v111": {"device_id": true, "event_id": true, "kind": true, "state": true, "timestamp": true},
}

// Each golden event is valid or invalid as observed, and the fields at fault
// are the same.
func TestGoldenValidation(t *testing.T) {
	set := embedded(t)
	seen := map[string]int{}
	for _, row := range goldenRows(t) {
		t.Run(row.ID+" "+row.Category, func(t *testing.T) {
			c, ok := set.Contract(row.Topic)
			if !ok {
				assert.Empty(t, row.Errors, "an unknown topic is not validated")
				t.Logf("topic %q has no contract", row.Topic)
				seen["no contract"]++
				return
			}
			res := c.Validate([]byte(row.EventJSON), Options{MaxErrors: 100})
			want, ok := ours[row.ID]
			if !ok {
				want = wantedFields(t, row)
			}
			if want == nil {
				seen["decode"]++
				assert.Equal(t, event.ClassDecode, res.Class)
				assert.False(t, res.Library, "the library sees JSON only")
				return
			}
			got := map[string]bool{}
			for _, v := range res.Violations {
				got[strings.SplitN(v.Path+"/", "/", 3)[1]] = true
				assert.Equal(t, row.Topic, v.Contract)
			}
			assert.Equalf(t, want, got, "violations: %+v", res.Violations)
			assert.Equal(t, len(want) == 0, res.Valid())
			seen[map[bool]string{true: "valid", false: "invalid"}[res.Valid()]]++
		})
	}
	t.Logf("rows by answer: %v", seen)
	assert.Greater(t, seen["valid"], 50)
	assert.Greater(t, seen["invalid"], 100)
	assert.Equal(t, 6, seen["decode"])
}
