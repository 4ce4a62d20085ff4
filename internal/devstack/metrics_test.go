// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package devstack

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestExposition(t *testing.T) {
	var e exposition
	e.add("a", `# HELP sent Counter
# TYPE sent counter
sent{label="x"} 1
# HELP up Gauge
# TYPE up gauge
up 1
# HELP latency Seconds
# TYPE latency histogram
latency_bucket{le="0.1"} 2
latency_sum 0.5
latency_count 2
`)
	e.add(`b"\`, `# HELP sent Counter, in other words
# TYPE sent counter
sent{label="x"} 3
sent{} 4

# HELP latency Seconds
# TYPE latency histogram
latency_bucket{le="0.1"} 7
latency_sum 0.9
latency_count 7
loose 9`)
	assert.Equal(t, `# HELP sent Counter
# TYPE sent counter
sent{stream="a",label="x"} 1
sent{stream="b\"\\",label="x"} 3
sent{stream="b\"\\"} 4
# HELP up Gauge
# TYPE up gauge
up{stream="a"} 1
# HELP latency Seconds
# TYPE latency histogram
latency_bucket{stream="a",le="0.1"} 2
latency_sum{stream="a"} 0.5
latency_count{stream="a"} 2
latency_bucket{stream="b\"\\",le="0.1"} 7
latency_sum{stream="b\"\\"} 0.9
latency_count{stream="b\"\\"} 7
loose{stream="b\"\\"} 9
`, e.text())
}

func TestUnconnected(t *testing.T) {
	for answer, want := range map[string]string{
		`{"statuses":[{"label":"in","path":"input","connected":true},{"label":"","path":"output","connected":false,"error":"dialing"}]}`: "output: dialing",
		`{"statuses":[{"label":"in","connected":false},{"label":"out","connected":false}]}`:                                              "in, out",
		`{"error":"stream terminated","statuses":[]}`:                                                                                    "its start",
		`404 page not found`: "an answer from the engine",
	} {
		assert.Equal(t, want, unconnected([]byte(answer)), answer)
	}
}
