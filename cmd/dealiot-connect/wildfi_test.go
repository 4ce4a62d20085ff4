// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/urfave/cli/v2"
)

const wildfiCases = "../../plugins/wildfi/testdata/cases"

// runWildfi runs the command in this process, with its exit code.
func runWildfi(t *testing.T, args ...string) cliResult {
	t.Helper()
	var stdout, stderr bytes.Buffer
	app := &cli.App{
		Name: "dealiot-connect", Writer: &stdout, ErrWriter: &stderr, Commands: []*cli.Command{wildfiCommand()},
		ExitErrHandler: func(*cli.Context, error) {},
	}
	err := app.RunContext(t.Context(), append([]string{"dealiot-connect", "wildfi"}, args...))
	r := cliResult{stdout: stdout.String(), stderr: stderr.String()}
	var exit cli.ExitCoder
	switch {
	case errors.As(err, &exit):
		r.code = exit.ExitCode()
	case err != nil:
		r.code = 1
		r.stderr += err.Error()
	}
	return r
}

func TestWildfiInspect(t *testing.T) {
	r := runWildfi(t, "inspect", wildfiCases+"/lost_messages/input.bin")
	require.Zero(t, r.code, r.stderr)
	assert.Contains(t, r.stdout, "24:6F:28:AB:34:12  movement  10")
	assert.Contains(t, r.stdout, "types: 5E 10")
	assert.Contains(t, r.stdout, "not decoded:")

	r = runWildfi(t, "inspect", wildfiCases+"/lost_messages/input.bin", "--exit-code", "--json")
	require.Equal(t, exitDamaged, r.code, r.stderr)
	var results []struct {
		Report struct {
			Entries int `json:"entry_count"`
			Damage  []struct {
				Reason string `json:"reason"`
			} `json:"damage"`
		} `json:"report"`
	}
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &results))
	require.Len(t, results, 1)
	assert.Equal(t, 10, results[0].Report.Entries)
	assert.NotEmpty(t, results[0].Report.Damage)
}

func TestWildfiOtherFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
		return path
	}
	empty := write("empty.bin", "")
	jpeg := write("picture.bin", "\xFF\xD8\xFF\xE0\x00\x10JFIF"+strings.Repeat("\xAB\x01\x02", 1000))

	r := runWildfi(t, "inspect", empty)
	assert.Zero(t, r.code)
	assert.Contains(t, r.stdout, "an empty file")

	r = runWildfi(t, "inspect", jpeg, wildfiCases+"/type_58_gps/input.bin")
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.stderr, "no entry of a WildFi tag")
	assert.Contains(t, r.stdout, "4 entries", "the other log is told about all the same")

	r = runWildfi(t, "inspect", filepath.Join(dir, "none.bin"))
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.stderr, "none.bin")

	r = runWildfi(t, "inspect")
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.stderr, "no file is named")
}

func TestWildfiDecodeNDJSON(t *testing.T) {
	dir := t.TempDir()
	r := runWildfi(t, "decode", wildfiCases+"/type_5e_acc_mag_gyro/input.bin", "-o", dir, "--imu-hz", "50")
	require.Zero(t, r.code, r.stderr)
	data, err := os.ReadFile(filepath.Join(dir, "input.ndjson"))
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	require.Len(t, lines, 5)
	var first struct {
		TagMAC  string       `json:"tag_mac"`
		Type    string       `json:"entry_type"`
		UTC     int64        `json:"utc_timestamp"`
		Start   string       `json:"time_start"`
		End     string       `json:"time_end"`
		Samples int          `json:"sample_count"`
		Offset  int64        `json:"file_offset"`
		Battery float64      `json:"battery_v"`
		Acc     [][3]float64 `json:"acc_g"`
		Mag     [][3]float64 `json:"mag_ut"`
	}
	require.NoError(t, json.Unmarshal([]byte(lines[0]), &first))
	assert.Equal(t, "50:02:91:91:38:A8", first.TagMAC)
	assert.Equal(t, "5E", first.Type)
	assert.EqualValues(t, 1717200001, first.UTC)
	assert.Equal(t, 3, first.Samples)
	assert.EqualValues(t, 12, first.Offset)
	assert.Equal(t, 3.974, first.Battery)
	assert.Equal(t, [3]float64{0.2014160115, 0.03955078044, 0.91455076252}, first.Acc[0])
	assert.Equal(t, [3]float64{13, 16.125, -43.0625}, first.Mag[0])
	assert.Equal(t, "2024-06-01T00:00:01.94Z", first.Start, "the head's time is the end of the burst")
	assert.Equal(t, "2024-06-01T00:00:01.98Z", first.End)
	assert.FileExists(t, filepath.Join(dir, "input_report.json"))

	r = runWildfi(t, "decode", wildfiCases+"/type_5e_acc_mag_gyro/input.bin")
	require.Zero(t, r.code, r.stderr)
	assert.Len(t, strings.Split(strings.TrimSpace(r.stdout), "\n"), 5, "without a folder the entries go to standard output")
}

func TestWildfiDecodeReferenceCSV(t *testing.T) {
	var manifest map[string]struct {
		Files map[string]struct {
			SHA256 string `json:"sha256"`
		} `json:"files"`
	}
	folder := wildfiCases + "/multi_tag_prox/"
	data, err := os.ReadFile(folder + "manifest.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &manifest))
	for run, flags := range map[string][]string{
		"std_split": {"--form", "split"},
		"mt_burst":  {"--flavour=multithreaded"},
	} {
		dir := t.TempDir()
		args := append([]string{"decode", "--format", "reference-csv", folder + "input.bin", "-o", dir, "--config", folder + "config.txt", "--imu-hz", "50"}, flags...)
		for range 2 { // the second time replaces the files of the first
			r := runWildfi(t, args...)
			require.Zero(t, r.code, r.stderr)
		}
		for name, want := range manifest[run].Files {
			got, err := os.ReadFile(filepath.Join(dir, name))
			require.NoError(t, err)
			sum := sha256.Sum256(got)
			assert.Equal(t, want.SHA256, hex.EncodeToString(sum[:]), "%s %s", run, name)
		}
	}
}

func TestWildfiDecodeCSV(t *testing.T) {
	dir := t.TempDir()
	r := runWildfi(t, "decode", "--format=csv", "-o", dir, wildfiCases+"/prox_stream_with_imu_bursts/input.bin")
	require.Zero(t, r.code, r.stderr)
	for _, table := range []string{"entries", "samples", "neighbours"} {
		data, err := os.ReadFile(filepath.Join(dir, "input_"+table+".csv"))
		require.NoError(t, err)
		lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
		for i, line := range lines {
			assert.Equal(t, strings.Count(lines[0], ","), strings.Count(line, ","), "%s, line %d", table, i+1)
		}
		assert.Greater(t, len(lines), 1)
	}
}

func TestWildfiFolders(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	log, err := os.ReadFile(wildfiCases + "/type_58_gps/input.bin")
	require.NoError(t, err)
	for _, sub := range []string{"a", "b"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, sub), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, sub, "x_PROX_DATA.bin.up"), log, 0o644))
	}
	r := runWildfi(t, "decode", dir, "-o", out)
	require.Zero(t, r.code, r.stderr)
	found, err := filepath.Glob(filepath.Join(out, "*_x_PROX_DATA.ndjson"))
	require.NoError(t, err)
	assert.Len(t, found, 2, "logs of one name do not overwrite each other")
	r = runWildfi(t, "inspect", filepath.Join(dir, "*", "*.up"))
	assert.Zero(t, r.code, r.stderr)
}

func TestWildfiRefusals(t *testing.T) {
	log := wildfiCases + "/type_58_gps/input.bin"
	for want, args := range map[string][]string{
		"parquet":      {log, "--format", "parquet", "-o", "x"},
		"--output":     {log, "--format", "csv"},
		"--form":       {log, "--form", "wide"},
		"--flavour":    {log, "--flavour", "x"},
		"--product":    {log, "--product", "x"},
		"--acc-range":  {log, "--acc-range", "3"},
		"--gyro-range": {log, "--gyro-range", "3"},
		"--not-before": {log, "--not-before", "yesterday"},
		"--config":     {log, "--config", "no such file"},
		"-unknown":     {log, "--unknown"},
	} {
		r := runWildfi(t, append([]string{"decode"}, args...)...)
		assert.Equal(t, 1, r.code, want)
		assert.Contains(t, r.stderr, want)
	}
}

func sha256Of(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// The files that the reference makes of folders are made the same.
func TestWildfiFolderTools(t *testing.T) {
	dir := t.TempDir()
	for _, tc := range []struct {
		folder string
		args   []string
		files  map[string]string // ours by the reference's
	}{
		{"merge_mode4", []string{"merge", wildfiCases + "/merge_mode4/tree", "-o", filepath.Join(dir, "m4.bin")}, map[string]string{"merged.bin": "m4.bin"}},
		{"merge_mode5", []string{"merge", wildfiCases + "/merge_mode5/tree", "-o", filepath.Join(dir, "m5.bin")}, map[string]string{"mergedsubs.bin": "m5.bin"}},
		{"merge_mode8", []string{"merge", wildfiCases + "/merge_mode8/tree/*_123458.csv", "-o", filepath.Join(dir, "m8.csv")}, map[string]string{"123458_ALL.csv": "m8.csv"}},
		{"split_mode6", []string{"split", wildfiCases + "/split_mode6/tree", "-o", dir}, map[string]string{
			"30_C6_F7_22_16_A4_DATA_MERGED.bin": "30_C6_F7_22_16_A4_DATA_MERGED.bin", "58_BF_25_9A_74_40_DATA_MERGED.bin": "58_BF_25_9A_74_40_DATA_MERGED.bin",
		}},
		{"metadata", []string{"metadata", wildfiCases + "/metadata/tree", "-o", dir}, map[string]string{
			"METADATA_PROX.csv": "METADATA_PROX.csv", "proxTimeDiffsGWTime.csv": "proxTimeDiffsGWTime.csv",
		}},
	} {
		t.Run(tc.folder, func(t *testing.T) {
			r := runWildfi(t, tc.args...)
			require.Zero(t, r.code, r.stderr)
			var manifest map[string]struct {
				Files map[string]struct {
					SHA256 string `json:"sha256"`
				} `json:"files"`
			}
			data, err := os.ReadFile(filepath.Join(wildfiCases, tc.folder, "manifest.json"))
			require.NoError(t, err)
			require.NoError(t, json.Unmarshal(data, &manifest))
			for reference, ours := range tc.files {
				assert.Equal(t, manifest["std"].Files[reference].SHA256, sha256Of(t, filepath.Join(dir, ours)), reference)
			}
		})
	}
	r := runWildfi(t, "merge", filepath.Join(dir, "m4.bin"), "-o", filepath.Join(dir, "m4.bin"))
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.stderr, "also one of the files")
}
