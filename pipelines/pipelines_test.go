// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package pipelines_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"github.com/redpanda-data/benthos/v4/public/service"
	_ "github.com/redpanda-data/connect/v4/public/components/io"
	_ "github.com/redpanda-data/connect/v4/public/components/kafka"
	_ "github.com/redpanda-data/connect/v4/public/components/mqtt"

	_ "github.com/redpanda-data/connect/v4/public/components/prometheus"
	_ "github.com/redpanda-data/connect/v4/public/components/pure"

	"github.com/dealiot/dealiot-connect/pipelines"
	_ "github.com/dealiot/dealiot-connect/plugins/contract"
	_ "github.com/dealiot/dealiot-connect/plugins/deadletter"
	_ "github.com/dealiot/dealiot-connect/plugins/deviceevent"
	_ "github.com/dealiot/dealiot-connect/plugins/mqtt5"
)

const testSuffix = "_benthos_test.yaml"

// names lists the pipelines, without their tests.
func names(t *testing.T) []string {
	t.Helper()
	files, err := fs.Glob(pipelines.FS, "*.yaml")
	require.NoError(t, err)
	var names []string
	for _, file := range files {
		if !strings.HasSuffix(file, testSuffix) {
			names = append(names, file)
		}
	}
	require.NotEmpty(t, names)
	return names
}

func read(t testing.TB, file string) string {
	t.Helper()
	text, err := pipelines.FS.ReadFile(file)
	require.NoError(t, err)
	return string(text)
}

// elsewhere is an environment in which nothing is reached: a test must not
// take messages out of a broker that happens to run on this machine.
var elsewhere = map[string]string{"MQTT_PORT": "1", "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}

var variable = regexp.MustCompile(`\$\{([A-Z_][A-Z0-9_]*)(:([^}]*))?\}`)

// parse reads a pipeline with its variables replaced.
func parse(t testing.TB, text string, env map[string]string) map[string]any {
	t.Helper()
	text = variable.ReplaceAllStringFunc(text, func(ref string) string {
		m := variable.FindStringSubmatch(ref)
		if value := env[m[1]]; value != "" {
			return value
		}
		require.NotEmpty(t, m[2], "%s has no default", ref)
		return m[3]
	})
	var doc map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(text), &doc))
	return doc
}

func toYAML(t testing.TB, value any) string {
	t.Helper()
	text, err := yaml.Marshal(value)
	require.NoError(t, err)
	return string(text)
}

func processors(t testing.TB, doc map[string]any) []map[string]any {
	t.Helper()
	var list []map[string]any
	pipeline, ok := doc["pipeline"].(map[string]any)
	require.True(t, ok)
	for _, p := range pipeline["processors"].([]any) {
		list = append(list, p.(map[string]any))
	}
	require.NotEmpty(t, list)
	return list
}

// TestBuild constructs every component of every pipeline, as they are without
// any environment: lint alone does not see a resource that is missing or a
// setting that only its component can judge.
func TestBuild(t *testing.T) {
	for _, file := range names(t) {
		t.Run(file, func(t *testing.T) {
			text := read(t, file)
			stream := service.NewStreamBuilder()
			stream.SetStrict(true)
			stream.SetEnvVarLookupFunc(func(string) (string, bool) { return "", false })
			require.NoError(t, stream.SetYAML(text), "linting with no environment set")

			doc := parse(t, text, elsewhere)
			input, output := doc["input"].(map[string]any), doc["output"].(map[string]any)
			require.NoError(t, construct(t, processors(t, doc), input, output))
		})
	}
}

// construct makes components: lint alone does not see a resource that is
// missing, or a setting that only its component can judge. The engine makes a
// resource when it is first asked for, and a suspended one connects to nothing.
func construct(t *testing.T, processors []map[string]any, input, output map[string]any) error {
	t.Helper()
	builder := service.NewResourceBuilder()
	label := func(component map[string]any, otherwise string) string {
		if component["label"] == nil {
			component["label"] = otherwise
		}
		return component["label"].(string)
	}
	for i, p := range processors {
		label(p, "processor_"+strconv.Itoa(i))
		require.NoError(t, builder.AddProcessorYAML(toYAML(t, p)))
	}
	if input != nil {
		label(input, "input")
		require.NoError(t, builder.AddInputYAML(toYAML(t, input)))
	}
	if output != nil {
		label(output, "output")
		require.NoError(t, builder.AddOutputYAML(toYAML(t, output)))
	}
	res, stop, err := builder.BuildSuspended()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, p := range processors {
		err = errors.Join(err, res.AccessProcessor(ctx, p["label"].(string), func(*service.ResourceProcessor) {}))
	}
	if input != nil {
		err = errors.Join(err, res.AccessInput(ctx, input["label"].(string), func(*service.ResourceInput) {}))
	}
	if output != nil {
		err = errors.Join(err, res.AccessOutput(ctx, output["label"].(string), func(*service.ResourceOutput) {}))
	}
	// An output that was never fed waits for its feed to end, so it is not waited for.
	cancel()
	_ = stop(ctx)
	return err
}

// TestConstruct: construct sees what lint does not.
func TestConstruct(t *testing.T) {
	list := func(text string) (list []map[string]any) {
		require.NoError(t, yaml.Unmarshal([]byte(text), &list))
		return list
	}
	require.NoError(t, construct(t, list("[dead_letter: {}]"), nil, nil))
	require.ErrorContains(t, construct(t, list("[dead_letter: { topic_max_record_bytes: { dlq.events: 10 } }]"), nil, nil), "dead letters need")
	require.ErrorContains(t, construct(t, list("[try: [resource: nobody]]"), nil, nil), "nobody")
	require.ErrorContains(t, construct(t, nil, nil, list("[kafka_franz: { seed_brokers: [a], topic: x, max_message_bytes: huge }]")[0]), "max_message_bytes")
	require.ErrorContains(t, construct(t, nil, list("[mqtt: { urls: ['tcp://a:1'], topics: [x], tls: { enabled: true, root_cas_file: /nope } }]")[0], nil), "/nope")
}

// labels collects the labels of a component and all below it, and reports the
// components that have none.
func labels(t *testing.T, path string, value any, found map[string]bool) {
	switch value := value.(type) {
	case map[string]any:
		if label, ok := value["label"].(string); ok {
			assert.False(t, found[label], "label %s stands twice", label)
			found[label] = true
		}
		for name, child := range value {
			labels(t, path+"."+name, child, found)
		}
	case []any:
		for i, child := range value {
			labels(t, fmt.Sprintf("%s.%d", path, i), child, found)
		}
	}
}

type testFile struct {
	Tests []testCase `yaml:"tests"`
}

type testCase struct {
	Name    string             `yaml:"name"`
	Target  string             `yaml:"target_processors"`
	Outputs [][]map[string]any `yaml:"output_batches"`
}

// TestUnitTests: every processor is the target of a case, every case asks
// whether its messages failed, and every case can fail.
func TestUnitTests(t *testing.T) {
	for _, file := range names(t) {
		t.Run(file, func(t *testing.T) {
			text := read(t, strings.TrimSuffix(file, ".yaml")+testSuffix)
			var tests testFile
			require.NoError(t, yaml.Unmarshal([]byte(text), &tests))
			targets := map[string]bool{}
			for _, c := range tests.Tests {
				targets[c.Target] = true
				for _, batch := range c.Outputs {
					for i, conditions := range batch {
						check, _ := conditions["bloblang"].(string)
						assert.Contains(t, check, "!errored()", "%s: message %d", c.Name, i)
						assert.Greater(t, len(conditions)+strings.Count(check, "&&"), 1, "%s: message %d is asked for more than not having failed", c.Name, i)
					}
				}
			}
			found := map[string]bool{}
			doc := parse(t, read(t, file), elsewhere)
			for _, p := range processors(t, doc) {
				require.NotEmpty(t, p["label"], "a processor has no label")
				assert.True(t, targets[p["label"].(string)], "no test has %s alone as its target", p["label"])
			}
			labels(t, "", doc, found)
			assert.True(t, targets["/pipeline/processors"], "no test has all processors as its target")
		})
	}
}

// TestUnitTestsCanFail runs each case of the unit tests against a pipeline
// whose processors do nothing. A case that passes there shows nothing.
func TestUnitTestsCanFail(t *testing.T) {
	for _, file := range names(t) {
		var tests struct {
			Tests []map[string]any `yaml:"tests"`
		}
		require.NoError(t, yaml.Unmarshal([]byte(read(t, strings.TrimSuffix(file, ".yaml")+testSuffix)), &tests))
		require.NotEmpty(t, tests.Tests)
		doc := parse(t, read(t, file), elsewhere)
		var idle []any
		for _, p := range processors(t, doc) {
			idle = append(idle, map[string]any{"label": p["label"], "mapping": "root = content()"})
		}
		doc["pipeline"] = map[string]any{"processors": idle}
		for _, c := range tests.Tests {
			t.Run(file+"/"+c["name"].(string), func(t *testing.T) {
				dir := t.TempDir()
				require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte(toYAML(t, doc)), 0o600))
				test := filepath.Join(dir, strings.TrimSuffix(file, ".yaml")+testSuffix)
				require.NoError(t, os.WriteFile(test, []byte(toYAML(t, map[string]any{"tests": []any{c}})), 0o600))
				code, out := runTests(t, filepath.Join(dir, file))
				assert.Equal(t, 1, code, out)
				assert.Contains(t, out, c["name"].(string), "it is the case that failed")
			})
		}
	}
}

// TestUnitTestsPass is the same with the pipelines as they are.
func TestUnitTestsPass(t *testing.T) {
	for _, file := range names(t) {
		code, out := runTests(t, file)
		assert.Equal(t, 0, code, out)
	}
}

// runTests is the command `test`; its report goes to standard output.
func runTests(t *testing.T, path string) (code int, out string) {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	stdout := os.Stdout
	os.Stdout = w
	done := make(chan string)
	go func() {
		text, _ := io.ReadAll(r)
		done <- string(text)
	}()
	code, err = service.RunCLIToCode(t.Context(), service.CLIOptSetArgs("dealiot-connect", "test", path))
	os.Stdout = stdout
	_ = w.Close()
	out = <-done
	if err != nil {
		out += err.Error()
	}
	return code, out
}
