// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"
)

// runMainVar makes the test binary behave as dealiot-connect itself, so that
// command lines are tested in a process of their own, with its real exit code.
const runMainVar = "DEALIOT_CONNECT_TEST_RUN_MAIN"

var update = flag.Bool("update", false, "write generated files instead of comparing them")

func TestMain(m *testing.M) {
	if os.Getenv(runMainVar) != "" {
		main()
	}
	os.Exit(m.Run())
}

type cliResult struct {
	stdout, stderr string
	code           int
}

// runCLI executes one command line in an empty folder with no environment but
// env, and fails the test when it takes longer than a minute.
func runCLI(t *testing.T, env []string, args ...string) cliResult {
	t.Helper()
	return runCLIIn(t, t.TempDir(), env, args...)
}

func runCLIIn(t *testing.T, dir string, env []string, args ...string) cliResult {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	self, err := os.Executable()
	require.NoError(t, err)
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Dir = dir
	cmd.Env = append([]string{runMainVar + "=1", "HOME=" + dir}, env...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	require.NoError(t, ctx.Err(), "waiting for dealiot-connect %v to end; it wrote %s%s", args, &stdout, &stderr)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return cliResult{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// writeConfig writes a pipeline file of a test and returns its path.
func writeConfig(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pipeline.yaml")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func TestVersion(t *testing.T) {
	got := runCLI(t, nil, "--version")
	assert.Equal(t, 0, got.code, got.stderr)
	assert.Equal(t, "Version: dev\nDate: unknown\n", got.stdout)
}

// TestVersionStamp builds the binary as the Makefile does and asks it.
func TestVersionStamp(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: links the binary, which -short leaves out")
	}
	binary := filepath.Join(t.TempDir(), "dealiot-connect")
	out, err := exec.CommandContext(t.Context(), "make", "-s", "-C", "../..", "build",
		"BIN="+binary, "VERSION=v1.2.3-test", "DATE=2026-01-02T03:04:05Z").CombinedOutput()
	require.NoError(t, err, string(out))
	out, err = exec.CommandContext(t.Context(), binary, "--version").Output()
	require.NoError(t, err)
	assert.Equal(t, "Version: v1.2.3-test\nDate: 2026-01-02T03:04:05Z\n", string(out))
}

func TestStockCommands(t *testing.T) {
	for _, command := range []string{"run", "lint", "test", "streams", "list", "blobl", "create", "template", "echo"} {
		got := runCLI(t, nil, command, "--help")
		assert.Equal(t, 0, got.code, command)
		assert.Contains(t, got.stdout, "dealiot-connect "+command, command)
	}
}

func TestUnknownCommand(t *testing.T) {
	got := runCLI(t, nil, "simulte")
	assert.Equal(t, 1, got.code)
	assert.Contains(t, got.stderr, "Unrecognised command: simulte")
}

func TestListHasComponents(t *testing.T) {
	for kind, names := range map[string][]string{
		"inputs":     {"mqtt", "redpanda", "generate", "file", "stdin"},
		"processors": {"mapping", "try_catch", "switch", "device_event", "contract_validate", "dead_letter"},
		"outputs":    {"kafka_franz", "mqtt", "switch", "fallback", "file", "stdout"},
		"metrics":    {"prometheus"},
		"scanners":   {"lines", "decompress"},

		"bloblang-functions": {"kafka_topic", "device_id", "event_id"},
	} {
		got := runCLI(t, nil, "list", kind)
		require.Equal(t, 0, got.code, got.stderr)
		for _, name := range names {
			assert.Contains(t, strings.Split(got.stdout, "\n"), "  - "+name, kind)
		}
		// What an enterprise licence gates must not be offered.
		assert.NotRegexp(t, `(?m)_cdc$|^  - aws_|^  - redpanda_(common|migrator)$`, got.stdout)
	}
}

func TestLintAndRunRefuseBrokenPipelines(t *testing.T) {
	for _, tc := range []struct {
		name    string
		config  string
		wantErr []string
	}{
		{
			name: "unknown field",
			config: `input:
  generate:
    mapping: root = {}
    cuont: 1
output:
  drop: {}
`,
			wantErr: []string{"pipeline.yaml(4,1)", "cuont"},
		},
		{
			name: "unknown component",
			config: `input:
  mqttt: {}
`,
			wantErr: []string{"pipeline.yaml(2,", "mqttt"},
		},
		{
			name: "bad mapping",
			config: `pipeline:
  processors:
    - mapping: root = this.
`,
			wantErr: []string{"pipeline.yaml(3,"},
		},
		{
			name:    "not YAML",
			config:  "input: [\n",
			wantErr: []string{"pipeline.yaml(", "yaml"},
		},
		{
			name: "variable without a default",
			config: `input:
  mqtt:
    urls: [ "${NOT_SET_ANYWHERE}" ]
    topics: [ devices/# ]
`,
			wantErr: []string{"NOT_SET_ANYWHERE"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := writeConfig(t, tc.config)
			got := runCLI(t, nil, "lint", path)
			assert.Equal(t, 1, got.code)
			for _, want := range tc.wantErr {
				assert.Contains(t, got.stderr, want)
			}
			assert.Equal(t, 1, runCLI(t, nil, "run", path).code)
		})
	}
}

func TestLintPassesWithoutEnvironment(t *testing.T) {
	path := writeConfig(t, envPipeline)
	got := runCLI(t, nil, "lint", path)
	assert.Equal(t, 0, got.code, got.stderr)
	assert.Empty(t, got.stderr)
}

// envPipeline prints the value that its variable has.
const envPipeline = `http: { enabled: false }
input:
  generate: { count: 1, interval: "", mapping: 'root = "<${PASSWORD:default}>"' }
output:
  stdout: {}
`

func TestSecretFiles(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secrets", "password.txt")
	require.NoError(t, os.MkdirAll(filepath.Dir(secret), 0o700))
	require.NoError(t, os.WriteFile(secret, []byte(" from file\n"), 0o600))
	outside := filepath.Join(dir, "outside.txt")
	require.NoError(t, os.WriteFile(outside, []byte("hush"), 0o600))
	path := writeConfig(t, envPipeline)

	for _, tc := range []struct {
		name    string
		env     []string
		want    string
		wantErr []string
	}{
		{name: "nothing set", want: "<default>\n"},
		{name: "empty", env: []string{"PASSWORD="}, want: "<default>\n"},
		{name: "value", env: []string{"PASSWORD=v", "PASSWORD_FILE=secrets/password.txt"}, want: "<v>\n"},
		{name: "file before default", env: []string{"PASSWORD_FILE=secrets/password.txt"}, want: "<from file>\n"},
		{name: "file before default, value empty", env: []string{"PASSWORD=", "PASSWORD_FILE=" + secret}, want: "<from file>\n"},
		{name: "extra directory", env: []string{"PASSWORD_FILE=" + outside, "DEALIOT_SECRET_DIRECTORIES=/nowhere:" + dir}, want: "<hush>\n"},
		{name: "missing file", env: []string{"PASSWORD_FILE=secrets/typo.txt"},
			wantErr: []string{"reading secret PASSWORD", `PASSWORD_FILE="secrets/typo.txt"`, "no such file", "create the file"}},
		{name: "outside", env: []string{"PASSWORD_FILE=" + outside},
			wantErr: []string{"reading secret PASSWORD", outside, "/run/secrets", "DEALIOT_SECRET_DIRECTORIES"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, command := range []string{"run", "lint"} {
				got := runCLIIn(t, dir, tc.env, command, path)
				if tc.wantErr == nil {
					assert.Equal(t, 0, got.code, got.stderr)
					if command == "run" {
						assert.Equal(t, tc.want, got.stdout)
					}
					continue
				}
				assert.Equal(t, 1, got.code)
				assert.Empty(t, got.stdout, "nothing may run with an empty secret")
				assert.Equal(t, 1, strings.Count(got.stderr, "\n"), "one message: %s", got.stderr)
				assert.NotContains(t, got.stderr, "hush")
				for _, want := range tc.wantErr {
					assert.Contains(t, got.stderr, want)
				}
			}
		})
	}
}

// TestMQTTTopicsList shows that a list given by environment becomes a list.
func TestMQTTTopicsList(t *testing.T) {
	path := writeConfig(t, `input:
  mqtt:
    urls: [ tcp://127.0.0.1:1883 ]
    topics: [ ${MQTT_TOPICS:$share/ingestors/devices/#,$share/ingestors/wildfi/#} ]
`)
	for _, tc := range []struct {
		env  []string
		want []string
	}{
		{nil, []string{"$share/ingestors/devices/#", "$share/ingestors/wildfi/#"}},
		{[]string{"MQTT_TOPICS=a/#, b/+/c,"}, []string{"a/#", "b/+/c"}},
		{[]string{"MQTT_TOPICS=,", "MQTT_TOPIC=old/#"}, []string{"old/#"}},
	} {
		got := runCLI(t, tc.env, "echo", path)
		require.Equal(t, 0, got.code, got.stderr)
		var config struct {
			Input struct {
				MQTT struct{ Topics []string }
			}
		}
		require.NoError(t, yaml.Unmarshal([]byte(got.stdout), &config))
		assert.Equal(t, tc.want, config.Input.MQTT.Topics)
	}
}

// TestStrictByDefault shows that a message whose processing failed is not
// written as if nothing had happened, unless a pipeline asks for that.
func TestStrictByDefault(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "in.txt"), []byte("good\nbad\n"), 0o600))
	const pipeline = `http: { enabled: false }
input:
  file: { paths: [ in.txt ], auto_replay_nacks: false }
pipeline:
  processors:
    - mapping: root = if content() == "bad" { throw("no") }
output:
  stdout: {}
`
	got := runCLIIn(t, dir, nil, "run", writeConfig(t, pipeline))
	assert.Equal(t, "good\n", got.stdout)
	got = runCLIIn(t, dir, nil, "run", writeConfig(t, pipeline+"error_handling: { strict: false }\n"))
	assert.ElementsMatch(t, []string{"good", "bad"}, strings.Fields(got.stdout), "in any order: there are several threads")
}

// editorSchema is what editors complete and check pipeline files with. It lies
// apart from the contracts, which are embedded by their file names.
const editorSchema = "../../schemas/editor/config.schema.json"

func TestEditorSchemaIsCurrent(t *testing.T) {
	got := runCLI(t, nil, "list", "--format", "jsonschema")
	require.Equal(t, 0, got.code, got.stderr)
	var want bytes.Buffer
	require.NoError(t, json.Indent(&want, []byte(got.stdout), "", " "))
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(editorSchema), 0o755))
		require.NoError(t, os.WriteFile(editorSchema, want.Bytes(), 0o644))
	}
	have, err := os.ReadFile(editorSchema)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(want.Bytes(), have), "%s is stale: run make generate", editorSchema)
}

// TestPipelinesNameTheEditorSchema checks the line that editors look for.
func TestPipelinesNameTheEditorSchema(t *testing.T) {
	want, err := filepath.Abs(editorSchema)
	require.NoError(t, err)
	files, err := filepath.Glob("../../pipelines/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		if strings.HasSuffix(file, "_benthos_test.yaml") {
			continue // the schema knows no test files
		}
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		line, _, _ := strings.Cut(string(content), "\n")
		schema, ok := strings.CutPrefix(line, "# yaml-language-server: $schema=")
		if assert.True(t, ok, "the first line of %s names its schema for editors, but reads %q", file, line) {
			path, err := filepath.Abs(filepath.Join(filepath.Dir(file), schema))
			require.NoError(t, err)
			assert.Equal(t, want, path, file)
		}
	}
}
