// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/urfave/cli/v2"

	"github.com/dealiot/dealiot-connect/resources"
)

// runTopics runs one topics command line and returns what it printed, the exit
// code it asks for, and its error.
func runTopics(t *testing.T, args ...string) (out string, code int, err error) {
	t.Helper()
	var stdout bytes.Buffer
	app := &cli.App{
		Name:           "dealiot-connect",
		Writer:         &stdout,
		ErrWriter:      &stdout,
		Commands:       []*cli.Command{topicsCommand()},
		ExitErrHandler: func(*cli.Context, error) {}, // the test looks at the error instead of ending
	}
	err = app.RunContext(t.Context(), append([]string{"dealiot-connect", "topics"}, args...))
	var exit cli.ExitCoder
	switch {
	case errors.As(err, &exit):
		code, err = exit.ExitCode(), nil
	case err != nil:
		code = 1
	}
	return stdout.String(), code, err
}

// fakeKafka starts a cluster that is empty and makes the commands find it.
func fakeKafka(t *testing.T, brokers int) {
	t.Helper()
	for _, name := range []string{
		"KAFKA_SECURITY_PROTOCOL", "KAFKA_SASL_MECHANISM", "KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD", "KAFKA_SASL_PASSWORD_FILE",
		"KAFKA_SSL_CAFILE", "KAFKA_SSL_CERTFILE", "KAFKA_SSL_KEYFILE", "KAFKA_SSL_CHECK_HOSTNAME",
	} {
		t.Setenv(name, "")
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(brokers))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	t.Setenv("KAFKA_BOOTSTRAP_SERVERS", strings.Join(cluster.ListenAddrs(), ","))
}

func TestTopicsPlanAndApply(t *testing.T) {
	fakeKafka(t, 1)

	out, code, err := runTopics(t, "plan")
	require.NoError(t, err)
	assert.Equal(t, 1, code)
	assert.Contains(t, out, "The plan is refused: 47 topics (first: raw.gps) shall have 3 copies")
	assert.Contains(t, out, "--cap-replication")

	out, code, err = runTopics(t, "apply")
	require.NoError(t, err)
	assert.Equal(t, 1, code)
	assert.Contains(t, out, "Nothing was changed.")

	out, code, err = runTopics(t, "plan", "--cap-replication")
	require.NoError(t, err)
	assert.Zero(t, code, "changes alone are no failure")
	assert.Contains(t, out, "To create (47)")
	assert.Regexp(t, `raw\.sensor +24 partitions, replication 1, max\.message\.bytes=4194304\n`, out)
	assert.Contains(t, out, "Warning: replication is capped to 1 copy on 47 topics, as only 1 broker is up")
	assert.Contains(t, out, "Plan: 47 to create, 0 to give more partitions, 0 settings to change; 0 kept, 0 refused, 0 topics as the catalogue says.")

	_, code, err = runTopics(t, "plan", "--cap-replication", "--exit-code")
	require.NoError(t, err)
	assert.Equal(t, 2, code)

	out, code, err = runTopics(t, "apply", "--cap-replication")
	require.NoError(t, err)
	assert.Zero(t, code)
	assert.Contains(t, out, "  state.latest  created\n")
	assert.Contains(t, out, "Applied: 47 changes done, 0 failed; 0 kept, 0 refused, 0 topics as the catalogue said before.")

	out, code, err = runTopics(t, "apply", "--cap-replication")
	require.NoError(t, err)
	assert.Zero(t, code)
	assert.NotContains(t, out, "Applying")
	assert.Contains(t, out, "Applied: 0 changes done, 0 failed; 0 kept, 0 refused, 47 topics as the catalogue said before.")

	_, code, err = runTopics(t, "plan", "--cap-replication", "--exit-code")
	require.NoError(t, err)
	assert.Zero(t, code)
}

func TestTopicsSiteCatalogueAndJSON(t *testing.T) {
	fakeKafka(t, 3)
	_, code, err := runTopics(t, "apply")
	require.NoError(t, err)
	require.Zero(t, code)

	site := filepath.Join(t.TempDir(), "site.yaml")
	require.NoError(t, os.WriteFile(site, []byte(`
domains:
  - name: site
    topics:
      - {name: raw.gps, partitions: 48, replication: 3, configs: {retention.ms: 86400000}, purpose: grows}
      - {name: raw.sensor, partitions: 6, replication: 3, purpose: is kept}
      - {name: state.latest, partitions: 24, replication: 3, configs: {cleanup.policy: compact}, purpose: is refused}
      - {name: site.extra, partitions: 2, replication: 3, purpose: is new}
`), 0o600))

	out, code, err := runTopics(t, "plan", "--catalogue", site)
	require.NoError(t, err)
	assert.Equal(t, 1, code, "something is refused")
	for _, want := range []string{
		"3 brokers. Catalogue: " + site + ", 4 topics.",
		"Partitions to add (1)\n  raw.gps  24 -> 48\n           warning: keys move",
		"raw.gps  retention.ms  604800000 -> 86400000\n           warning: records beyond the shorter retention",
		"raw.sensor: has 24 partitions and the catalogue asks for 6",
		"state.latest: it is compacted",
	} {
		assert.Contains(t, out, want)
	}

	out, code, err = runTopics(t, "apply", "--json", "--catalogue", site)
	require.NoError(t, err)
	assert.Equal(t, 1, code)
	var doc struct {
		Catalogue string           `json:"catalogue"`
		ClusterID string           `json:"cluster_id"`
		Brokers   int              `json:"brokers"`
		Actions   []map[string]any `json:"actions"`
		Summary   map[string]int   `json:"summary"`
	}
	dec := json.NewDecoder(strings.NewReader(out))
	dec.DisallowUnknownFields()
	require.NoError(t, dec.Decode(&doc), out)
	require.False(t, dec.More(), "one document")
	assert.Equal(t, site, doc.Catalogue)
	assert.Equal(t, 3, doc.Brokers)
	assert.Equal(t, map[string]int{"topics": 4, "create": 1, "add_partitions": 1, "set_config": 1, "kept": 1, "ok": 0, "refused": 1, "done": 3, "failed": 0}, doc.Summary)
	require.Len(t, doc.Actions, 5)
	assert.Equal(t, map[string]any{
		"topic": "raw.gps", "action": "set_config", "config": "retention.ms", "from": "604800000", "to": "86400000",
		"warning": "records beyond the shorter retention will be deleted", "result": "done",
	}, doc.Actions[1])
	assert.Equal(t, map[string]any{
		"topic": "site.extra", "action": "create", "partitions": 2.0, "replication": 3.0, "to": "2 partitions, replication 3", "result": "done",
	}, doc.Actions[4])
	assert.Equal(t, "refused", doc.Actions[3]["action"])

	_, code, err = runTopics(t, "apply", "--catalogue", site, "--force-compacted-partitions")
	require.NoError(t, err)
	assert.Zero(t, code)
}

func TestTopicsList(t *testing.T) {
	out, code, err := runTopics(t, "list")
	require.NoError(t, err)
	assert.Zero(t, code)
	assert.Contains(t, out, "raw.gps")
	assert.Contains(t, out, "24 x 3")
	assert.Contains(t, out, "override consent_ledger_kept on governance.permission.events: ")

	out, _, err = runTopics(t, "list", "--yaml")
	require.NoError(t, err)
	assert.Equal(t, string(resources.Topics), out)

	out, _, err = runTopics(t, "list", "--json")
	require.NoError(t, err)
	var doc struct {
		Topics    []map[string]any `json:"topics"`
		Overrides []map[string]any `json:"overrides"`
	}
	require.NoError(t, json.Unmarshal([]byte(out), &doc))
	assert.Len(t, doc.Topics, 47)
	assert.Len(t, doc.Overrides, 3)
}

func TestTopicsSaysWhatIsWrong(t *testing.T) {
	fakeKafka(t, 1)
	dir := t.TempDir()
	broken := filepath.Join(dir, "broken.yaml")
	require.NoError(t, os.WriteFile(broken, []byte("domains:\n  - name: d\n    topics:\n      - {name: a, partitions: 0, replication: 1, purpose: p}\n"), 0o600))

	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and never answers
	require.NoError(t, err)
	t.Cleanup(func() { silent.Close() })
	go func() {
		for {
			if _, err := silent.Accept(); err != nil {
				return
			}
		}
	}()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	nobody := closed.Addr().String()
	require.NoError(t, closed.Close())

	for _, tc := range []struct {
		name string
		env  map[string]string
		args []string
		err  []string
	}{
		{
			name: "nobody listens",
			args: []string{"plan", "--brokers", nobody, "--timeout", "300ms"},
			err:  []string{"connecting to Kafka at " + nobody, "connection refused", "is Kafka running there? set KAFKA_BOOTSTRAP_SERVERS or --brokers"},
		},
		{
			name: "nobody answers",
			args: []string{"apply", "--brokers", silent.Addr().String(), "--timeout", "300ms"},
			err:  []string{"connecting to Kafka at " + silent.Addr().String(), "no answer within 300ms", "KAFKA_SECURITY_PROTOCOL (PLAINTEXT)"},
		},
		{
			name: "unknown protocol",
			env:  map[string]string{"KAFKA_SECURITY_PROTOCOL": "TLS"},
			args: []string{"plan"},
			err:  []string{`reading KAFKA_SECURITY_PROTOCOL: "TLS" is none of`},
		},
		{
			name: "password missing",
			env:  map[string]string{"KAFKA_SECURITY_PROTOCOL": "sasl_ssl", "KAFKA_SASL_USERNAME": "u"},
			args: []string{"plan"},
			err:  []string{"KAFKA_SASL_PASSWORD"},
		},
		{name: "no address", args: []string{"plan", "--brokers", ","}, err: []string{`reading --brokers: "," names no address`}},
		{name: "no time", args: []string{"plan", "--timeout", "0s"}, err: []string{"reading --timeout"}},
		{name: "catalogue missing", args: []string{"plan", "--catalogue", filepath.Join(dir, "none.yaml")}, err: []string{"reading topic catalogue: open " + dir}},
		{name: "catalogue broken", args: []string{"list", "--catalogue", broken}, err: []string{broken + ":4: topic a.partitions: must be a whole number from 1"}},
		{name: "a topic as argument", args: []string{"plan", "raw.gps"}, err: []string{`"raw.gps" is not expected`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for k, v := range tc.env {
				t.Setenv(k, v)
			}
			_, code, err := runTopics(t, tc.args...)
			assert.Equal(t, 1, code)
			for _, want := range tc.err {
				require.ErrorContains(t, err, want)
			}
		})
	}
}
