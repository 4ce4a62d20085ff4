// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package secrets

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseBool(t *testing.T) {
	for want, values := range map[bool][]string{
		true:  {"1", "true", "yes", "on", "TRUE", "On", " yes\t", "yEs"},
		false: {"0", "false", "no", "off", "", " ", "FALSE", "Off", "2", "-1", "007"},
	} {
		for _, value := range values {
			got, err := ParseBool(value)
			require.NoError(t, err, "%q", value)
			assert.Equal(t, want, got, "%q", value)
		}
	}
	for _, value := range []string{"y", "t", "n", "enabled", "tru", "1.0", "yes please", "ja"} {
		_, err := ParseBool(value)
		require.ErrorContains(t, err, "parsing switch", "%q", value)
		assert.ErrorContains(t, err, value)
	}
}

func TestParseCSV(t *testing.T) {
	assert.Equal(t, []string{"a", "b c", "$share/g/x/#"}, ParseCSV(" a ,,b c,\t$share/g/x/#,"))
	assert.Empty(t, ParseCSV(""))
	assert.Empty(t, ParseCSV(" , ,"))
}

// TestGoldenConfig replays what the platform made of its settings.
// testdata/config.jsonl holds the rows of golden/config.jsonl about switches,
// lists and subscriptions.
func TestGoldenConfig(t *testing.T) {
	data, err := os.ReadFile("testdata/config.jsonl")
	require.NoError(t, err)
	// The defaults that the platform's helpers were called with.
	const switchDefault, listDefault = "true", "d/#,e/#"
	const topicsDefault = "$share/ingestors/devices/#,$share/ingestors/wildfi/#"

	rows := map[string]int{}
	for line := range bytes.Lines(data) {
		var row struct {
			ID       string            `json:"id"`
			Category string            `json:"category"`
			Env      map[string]string `json:"env"`
			Result   any               `json:"result"`
			Bug      bool              `json:"upstream_bug"`
			Want     string            `json:"want"`
		}
		require.NoError(t, json.Unmarshal(line, &row))
		rows[row.Category]++
		t.Run(row.ID+" "+row.Category, func(t *testing.T) {
			switch row.Category {
			case "bool":
				value, set := row.Env["UNIT_B"]
				if !set {
					value = switchDefault
				}
				got, err := ParseBool(value)
				if row.Bug {
					require.Equal(t, "refuse the value", row.Want)
					require.Error(t, err)
					return
				}
				require.NoError(t, err)
				assert.Equal(t, row.Result, got)
			case "csv":
				items := ParseCSV(row.Env["UNIT_C"])
				if len(items) == 0 {
					items = ParseCSV(listDefault)
				}
				assert.Equal(t, row.Result, asAny(items))
			case "topics":
				list, found := Resolver{LookupEnv: lookupIn(row.Env)}.MQTTTopics()
				if !found {
					list = topicsDefault
				}
				assert.Equal(t, row.Result, asAny(strings.Split(list, ",")))
			default:
				t.Fatalf("no test for category %q", row.Category)
			}
		})
	}
	assert.Equal(t, map[string]int{"bool": 11, "csv": 5, "topics": 4}, rows)
}

func asAny(items []string) []any {
	list := make([]any, len(items))
	for i, item := range items {
		list[i] = item
	}
	return list
}
