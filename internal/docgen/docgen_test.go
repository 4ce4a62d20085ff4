// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package docgen

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMarkdown(t *testing.T) {
	const dir = "plugins/contract"
	for text, want := range map[string]string{
		"plain `code` == text":      "plain `code` == text",
		"== Metrics\n\n=== Details": "## Metrics\n\n### Details",
		"see xref:components:processors/dead_letter.adoc[`dead_letter`].":                        "see [`dead_letter`](../../plugins/deadletter/README.md).",
		"see xref:components:processors/try_catch.adoc[`try_catch`] and xref:a/b.adoc#c[there].": "see `try_catch` and there.",
		"by https://example.org/a_b[this page^], https://example.org/":                           "by [this page](https://example.org/a_b), https://example.org/",
	} {
		assert.Equal(t, want, markdown(text, dir), text)
	}
}

func TestCells(t *testing.T) {
	assert.Equal(t, `a \| b<br>c`, cell("a | b\nc\n"))
	assert.Empty(t, defaultCell(""))
	assert.Equal(t, "`\"a\\|b\"`", defaultCell(`"a|b"`))
	assert.Equal(t, "see above", defaultCell(`["a rather long list","that no cell of a table has the room for"]`))
}

func TestNest(t *testing.T) {
	assert.Equal(t, "pipeline:\n  processors:\n    - label: \"\"\n      x:\n        a: 1\n", nest(Processor, "label: \"\"\nx:\n  a: 1\n"))
	assert.Equal(t, "input:\n  x: {}\n", nest(Input, "input:\n  x: {}\n"))
}

func TestUnknownComponents(t *testing.T) {
	_, err := View(Component{Kind: Processor, Name: "nobody"})
	require.ErrorContains(t, err, "processor nobody")
	_, err = View(Component{Kind: Function, Name: "event_id"})
	require.Error(t, err)
	_, err = FunctionData("nobody")
	require.ErrorContains(t, err, "function nobody")
}
