// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// suiteEnv names the directory of the official JSON Schema test suite
// (json-schema-org/JSON-Schema-Test-Suite): "tests" and "remotes" lie in it.
const suiteEnv = "JSON_SCHEMA_TEST_SUITE"

// libraryMisses are the cases of the suite's draft 2020-12 that the library
// gets wrong: file, group, test.
var libraryMisses = map[string]bool{
	// It takes an empty enum for none at all.
	"enum.json | empty enum | string is invalid":  true,
	"enum.json | empty enum | number is invalid":  true,
	"enum.json | empty enum | null is invalid":    true,
	"enum.json | empty enum | object is invalid":  true,
	"enum.json | empty enum | array is invalid":   true,
	"enum.json | empty enum | boolean is invalid": true,
	// It looks for the dynamic anchor in a resource that is only passed through.
	"dynamicRef.json | $dynamicRef skips over intermediate resources - direct reference | integer property passes": true,
	"dynamicRef.json | $dynamicRef skips over intermediate resources - direct reference | string property fails":   true,
}

type suiteGroup struct {
	Description string          `json:"description"`
	Schema      json.RawMessage `json:"schema"`
	Tests       []struct {
		Description string          `json:"description"`
		Data        json.RawMessage `json:"data"`
		Valid       bool            `json:"valid"`
	} `json:"tests"`
}

// The official suite, case by case: the compiled form never accepts what the
// suite calls invalid, both judges together answer what the library answers,
// and the library errs exactly where we know it does.
func TestOfficialSuite(t *testing.T) {
	dir := os.Getenv(suiteEnv)
	if dir == "" {
		t.Skipf("SKIPPED: the official JSON Schema test suite is not here; set %s to its directory", suiteEnv)
	}
	files, err := filepath.Glob(filepath.Join(dir, "tests", "draft2020-12", "*.json"))
	require.NoError(t, err)
	require.NotEmptyf(t, files, "%s holds no tests/draft2020-12", dir)

	cases, valid, decided := 0, 0, 0
	missed := map[string]bool{}
	for _, file := range files {
		for _, g := range suiteGroups(t, file) {
			c := suiteContract(t, dir, g.Schema, false)
			for _, test := range g.Tests {
				name := strings.Join([]string{filepath.Base(file), g.Description, test.Description}, " | ")
				cases++
				fast, library := bothJudges(t, name, c, test.Data)
				if library != test.Valid {
					missed[name] = true
				}
				assert.Falsef(t, fast && !test.Valid, "the compiled form accepts what the suite calls invalid: %s", name)
				if test.Valid {
					valid++
					if fast {
						decided++
					}
				}
			}
		}
	}
	t.Logf("%d cases; of %d valid ones the compiled form accepts %d by itself", cases, valid, decided)
	assert.Equal(t, 1299, cases)
	assert.Equal(t, libraryMisses, missed, "what the library gets wrong")
}

// The formats that the compiled form knows, as the suite tests them.
func TestOfficialSuiteFormats(t *testing.T) {
	dir := os.Getenv(suiteEnv)
	if dir == "" {
		t.Skipf("SKIPPED: the official JSON Schema test suite is not here; set %s to its directory", suiteEnv)
	}
	for name := range formats {
		file := filepath.Join(dir, "tests", "draft2020-12", "optional", "format", name+".json")
		for _, g := range suiteGroups(t, file) {
			c := suiteContract(t, dir, g.Schema, true)
			for _, test := range g.Tests {
				fast, _ := bothJudges(t, test.Description, c, test.Data)
				assert.Falsef(t, fast && !test.Valid, "%s: the compiled form accepts %s (%s)", name, test.Data, test.Description)
			}
		}
	}
}

// bothJudges asks the compiled form, the library and Validate, and checks that
// they agree.
func bothJudges(t *testing.T, name string, c *Contract, data []byte) (fast, library bool) {
	t.Helper()
	value, err := decode(data)
	require.NoErrorf(t, err, name)
	fast = c.fast.accepts(data)
	library = validate(c.library, value) == nil
	assert.Falsef(t, fast && !library, "the compiled form accepts what the library rejects: %s", name)
	res := c.Validate(data, Options{KeepNulls: true})
	assert.Equalf(t, library, res.Valid(), "Validate and the library: %s", name)
	if !res.Valid() {
		assert.NotEmptyf(t, res.Violations, name)
	}
	return fast, library
}

func suiteGroups(t *testing.T, file string) (groups []suiteGroup) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoErrorf(t, json.Unmarshal(text, &groups), "reading %s", file)
	return groups
}

// suiteContract compiles a schema of the suite; unlike a contract's it may
// refer to the suite's remotes.
func suiteContract(t *testing.T, dir string, schema []byte, formats bool) *Contract {
	t.Helper()
	library, err := compile("suite", schema, formats, func(url string) (io.ReadCloser, error) {
		path, ok := strings.CutPrefix(url, "http://localhost:1234/")
		if !ok {
			return nil, fmt.Errorf("the suite has no remote %q", url)
		}
		text, err := os.ReadFile(filepath.Join(dir, "remotes", filepath.FromSlash(path)))
		if err != nil {
			return nil, err
		}
		return io.NopCloser(bytes.NewReader(text)), nil
	})
	require.NoErrorf(t, err, "compiling %s", schema)
	source, err := decode(schema)
	require.NoError(t, err)
	return newContract("suite", "", source, library, formats)
}
