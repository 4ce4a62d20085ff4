// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package wildfi

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// different lists the runs in which the reference prints something else, with
// what is wrong with it. It is "case/run"; a case alone stands for all its runs.
var different = map[string]string{
	"duplicates_late":             "late repeats are not removed",
	"ff_inside":                   "entries with unwritten flash inside are returned",
	"ff_then_long_entry/mt_split": "bytes after unwritten flash are replaced",
	"ff_then_long_entry/mt_burst": "bytes after unwritten flash are replaced",
	"fuzz_hd":                     "gaps are joined and repeats kept",
	"fuzz_prox":                   "gaps are joined and repeats kept",
	"half_byte_prefix":            "a prefix at half a byte drops the whole window",
	"long_burst":                  "bursts beyond the window are lost",
	"reordered_hd":                "messages out of order are not sorted",
	"reordered_prox/mt_split":     "messages out of order are not sorted",
	"reordered_prox/mt_burst":     "messages out of order are not sorted",
	"two_gateways_prox/mt_split":  "messages out of order are not sorted",
	"two_gateways_prox/mt_burst":  "messages out of order are not sorted",
	"wrong_burst_length":          "an entry that swallowed others is returned",
}

func (c *testCase) referenceCSV(t testing.TB, run string) map[string]string {
	t.Helper()
	w := &ReferenceCSV{Base: "input", Scale: RawScale, IMUHz: c.IMUFreq}
	w.Split = run == "std_split" || run == "mt_split"
	if run == "mt_split" || run == "mt_burst" {
		w.Flavour = Multithreaded
	}
	if c.Config != nil {
		var err error
		w.Scale, _, err = ReadConfig(bytes.NewReader(c.Config))
		require.NoError(t, err)
	}
	files := map[string]string{}
	w.Append = func(name string, data []byte) error {
		files[name] += string(data)
		return nil
	}
	_, err := Decode(bytes.NewReader(c.Input), Options{}, Sink{Entry: w.Write})
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return files
}

func TestReferenceCSV(t *testing.T) {
	same, files := 0, 0
	for _, c := range loadCases(t) {
		if c.Mode > 2 {
			continue
		}
		for run, want := range c.Manifest {
			if want.Status != "ok" {
				continue
			}
			t.Run(c.Name+"/"+run, func(t *testing.T) {
				got := c.referenceCSV(t, run)
				var wrong []string
				for name, f := range want.Files {
					files++
					sum := sha256.Sum256([]byte(got[name]))
					if hex.EncodeToString(sum[:]) != f.SHA256 {
						wrong = append(wrong, fmt.Sprintf("%s: %d bytes, reference %d", name, len(got[name]), f.Bytes))
					} else {
						same++
					}
				}
				for name := range got {
					if _, ok := want.Files[name]; !ok {
						wrong = append(wrong, name+": the reference has no such file")
					}
				}
				why := cmp.Or(different[c.Name], different[c.Name+"/"+run])
				switch {
				case why == "":
					assert.Empty(t, wrong)
				case len(wrong) == 0:
					t.Errorf("the same as the reference, of which one would expect that %s", why)
				}
			})
		}
	}
	t.Logf("%d of %d files are the reference's", same, files)
}
