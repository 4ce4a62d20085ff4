// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package devstack_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	_ "github.com/redpanda-data/connect/v4/public/components/kafka"
	_ "github.com/redpanda-data/connect/v4/public/components/mqtt"
	_ "github.com/redpanda-data/connect/v4/public/components/prometheus"

	"github.com/dealiot/dealiot-connect/internal/devstack"
	"github.com/dealiot/dealiot-connect/internal/simulate"
)

// copying takes every message to one topic as it is: the stack is what is
// tested here, not the processors of the distribution.
const copying = `
input:
  label: devices
  mqtt:
    urls: [ "tcp://${MQTT_HOST}:${MQTT_PORT}" ]
    topics: [ "#" ]
    client_id: copying
    qos: 1
output:
  label: events
  kafka_franz:
    seed_brokers: [ "${KAFKA_BOOTSTRAP_SERVERS}" ]
    topic: ${TARGET_TOPIC:raw.sensor}
    key: ${! @mqtt_topic }
    batching:
      count: 100
      period: 5ms
`

func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func config(t *testing.T) devstack.Config {
	return devstack.Config{
		DataDir:   t.TempDir(),
		Pipelines: []devstack.Pipeline{{Name: "copying", YAML: copying}},
	}
}

func start(t *testing.T, cfg devstack.Config) *devstack.Stack {
	t.Helper()
	began := time.Now()
	s, err := devstack.Start(bounded(t), cfg)
	require.NoError(t, err)
	t.Logf("ready in %s", time.Since(began).Round(time.Millisecond))
	return s
}

func stop(t *testing.T, s *devstack.Stack) {
	t.Helper()
	began := time.Now()
	require.NoError(t, s.Stop(bounded(t)))
	t.Logf("stopped in %s", time.Since(began).Round(time.Millisecond))
}

// records counts what all topics hold.
func records(t *testing.T, s *devstack.Stack) (n int64) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(s.Addrs().Kafka))
	require.NoError(t, err)
	defer client.Close()
	adm := kadm.NewClient(client)
	ends, err := adm.ListEndOffsets(bounded(t))
	require.NoError(t, err)
	require.NoError(t, ends.Error())
	ends.Each(func(o kadm.ListedOffset) { n += o.Offset })
	return n
}

func publish(t *testing.T, s *devstack.Stack, n uint64) {
	t.Helper()
	summary, err := simulate.Run(bounded(t),
		simulate.Config{Start: time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC), QoS: 1},
		simulate.PublisherConfig{Broker: "tcp://" + s.Addrs().MQTT, Count: n}, nil)
	require.NoError(t, err)
	require.Equal(t, n, summary.Acknowledged)
}

func awaitRecords(t *testing.T, s *devstack.Stack, want int64) {
	t.Helper()
	ctx := bounded(t)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for n := records(t, s); n != want; n = records(t, s) {
		select {
		case <-ctx.Done():
			t.Fatalf("waiting for %d records: there are %d", want, n)
		case <-tick.C:
		}
	}
}

func TestRecordsSurviveARestart(t *testing.T) {
	cfg := config(t)
	s := start(t, cfg)
	assert.Len(t, s.Topics(), 47)
	publish(t, s, 500)
	awaitRecords(t, s, 500)
	assert.EqualValues(t, 500, s.Broker().Accepted)
	stop(t, s)

	s = start(t, cfg)
	assert.EqualValues(t, 500, records(t, s))
	publish(t, s, 100)
	awaitRecords(t, s, 600)
	stop(t, s)
}

func TestTakenPortsAreToldTogether(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port

	cfg := config(t)
	cfg.MQTTPort, cfg.HTTPPort = port, port
	_, err = devstack.Start(bounded(t), cfg)
	address := "127.0.0.1:" + strconv.Itoa(port)
	require.EqualError(t, err, "listening on "+address+" (MQTT): address already in use; choose another with --mqtt-port\n"+
		"listening on "+address+" (HTTP): address already in use; choose another with --http-port")
	var port1 *devstack.PortError
	require.ErrorAs(t, err, &port1)
	entries, err := os.ReadDir(cfg.DataDir)
	require.NoError(t, err)
	assert.Empty(t, entries, "nothing may be started")
}

func TestAddressOfAnotherMachine(t *testing.T) {
	cfg := config(t)
	cfg.Bind = "192.0.2.1" // of no machine: RFC 5737
	_, err := devstack.Start(bounded(t), cfg)
	require.ErrorContains(t, err, "give an address of this machine with --bind")
}

// A start that fails leaves nothing behind that a second would stumble over.
func TestFailedStartCleansUp(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := free.Addr().(*net.TCPAddr).Port
	require.NoError(t, free.Close())

	cfg := config(t)
	cfg.MQTTPort = port
	for name, test := range map[string]struct{ yaml, want string }{
		"no YAML":           {"input: [", "reading pipeline broken: yaml:"},
		"unknown component": {"input:\n  carrier_pigeon: {}\n", "reading pipeline broken:"},
		"unknown field":     {"input:\n  mqtt:\n    urls: [ tcp://localhost:1 ]\n    topics: [ a ]\n    colour: red\n", "field colour not recognised"},
	} {
		cfg.Pipelines = []devstack.Pipeline{{Name: "broken", YAML: test.yaml}}
		_, err := devstack.Start(bounded(t), cfg)
		require.ErrorContains(t, err, test.want, name)
	}
	cfg.Pipelines = nil
	stop(t, start(t, cfg))
}

func TestPipelineThatCannotConnect(t *testing.T) {
	cfg := config(t)
	lost := []devstack.Pipeline{{Name: "lost", YAML: `
input:
  mqtt:
    urls: [ "tcp://127.0.0.1:1" ]
    topics: [ a ]
output:
  drop: {}
`}}
	cfg.Pipelines = nil
	stop(t, start(t, cfg)) // with topics and all, so that the next start waits for the pipeline only
	cfg.Pipelines = lost
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := devstack.Start(ctx, cfg)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "waiting for pipelines to connect: lost (")
	require.ErrorContains(t, err, "input: network Error : dial tcp 127.0.0.1:1: connect: connection refused")
}

func TestDataDirectory(t *testing.T) {
	cfg := config(t)
	cfg.Pipelines = nil
	s := start(t, cfg)
	other := cfg
	_, err := devstack.Start(bounded(t), other)
	require.ErrorContains(t, err, "locking data directory "+cfg.DataDir+": process "+strconv.Itoa(os.Getpid())+" uses it; stop that one, or name another with --data-dir")
	stop(t, s)

	// Emptied only on request, and only if it is ours.
	stray := filepath.Join(cfg.DataDir, "kafka", "stray")
	require.NoError(t, os.WriteFile(stray, nil, 0o600))
	stop(t, start(t, cfg))
	require.FileExists(t, stray)
	cfg.Fresh = true
	stop(t, start(t, cfg))
	require.NoFileExists(t, stray)

	foreign := t.TempDir()
	photo := filepath.Join(foreign, "photo.jpg")
	require.NoError(t, os.WriteFile(photo, nil, 0o600))
	cfg.DataDir = foreign
	_, err = devstack.Start(bounded(t), cfg)
	require.ErrorContains(t, err, "it holds other files and no DEALIOT_CONNECT_DEV; name another, empty one with --data-dir")
	require.FileExists(t, photo)

	cfg.DataDir = ""
	_, err = devstack.Start(bounded(t), cfg)
	require.ErrorContains(t, err, "--data-dir")
}

func get(t *testing.T, s *devstack.Stack, path string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(bounded(t), http.MethodGet, "http://"+s.Addrs().HTTP+path, nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(body)
}

func TestHTTP(t *testing.T) {
	cfg := config(t)
	second := cfg.Pipelines[0]
	second.Name = "second"
	second.YAML = `
input:
  kafka_franz:
    seed_brokers: [ "${KAFKA_BOOTSTRAP_SERVERS}" ]
    topics: [ raw.sensor ]
    consumer_group: second
output:
  drop: {}
`
	cfg.Pipelines = append(cfg.Pipelines, second)
	s := start(t, cfg)
	assert.Equal(t, []string{"copying", "second"}, s.Pipelines())
	publish(t, s, 10)
	awaitRecords(t, s, 10)

	status, body := get(t, s, "/ping")
	assert.Equal(t, http.StatusOK, status)
	assert.Equal(t, "pong\n", body)

	status, body = get(t, s, "/ready")
	assert.Equal(t, http.StatusOK, status)
	var ready struct{ Pipelines map[string]string }
	require.NoError(t, json.Unmarshal([]byte(body), &ready))
	assert.Equal(t, map[string]string{"copying": "ready", "second": "ready"}, ready.Pipelines)

	status, body = get(t, s, "/copying/ready")
	assert.Equal(t, http.StatusOK, status)
	assert.Contains(t, body, `"label":"devices"`)

	status, body = get(t, s, "/metrics")
	assert.Equal(t, http.StatusOK, status)
	assert.Contains(t, body, `input_received{stream="copying",label="devices",path="root.input"} 10`+"\n")
	assert.Contains(t, body, `input_received{stream="second",label="",path="root.input"}`)
	stop(t, s)

	_, err := http.Get("http://" + s.Addrs().HTTP + "/ping")
	require.Error(t, err)
}

// Settings of a production cluster in the environment must not lead pipelines
// of the stack there; what a pipeline reads stays the user's.
func TestEnvironment(t *testing.T) {
	cfg := config(t)
	asked := map[string]bool{}
	cfg.LookupEnv = func(name string) (string, bool) {
		asked[name] = true
		value, ok := map[string]string{
			"MQTT_HOST": "broker.example", "MQTT_PASSWORD": "secret", "KAFKA_BOOTSTRAP_SERVERS": "kafka.example:9092",
			"KAFKA_SASL_MECHANISM": "PLAIN", "TARGET_TOPIC": "raw.gps",
		}[name]
		return value, ok
	}
	cfg.Pipelines[0].YAML += `
    sasl:
      - mechanism: ${KAFKA_SASL_MECHANISM:none}
        password: "${MQTT_PASSWORD:}"
`
	s := start(t, cfg)
	publish(t, s, 5)
	awaitRecords(t, s, 5)
	stop(t, s)
	assert.Equal(t, map[string]bool{"TARGET_TOPIC": true}, asked)
}

// Nobody's acknowledged message is lost while the stack stops, and a publisher
// keeps what was not acknowledged.
func TestStopWhileDevicesPublish(t *testing.T) {
	cfg := config(t)
	s := start(t, cfg)
	ctx, cancel := context.WithCancel(bounded(t))
	defer cancel()
	type result struct {
		summary simulate.Summary
		err     error
	}
	published := make(chan result, 1)
	go func() {
		summary, err := simulate.Run(ctx,
			simulate.Config{Start: time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC), QoS: 1},
			simulate.PublisherConfig{Broker: "tcp://" + s.Addrs().MQTT, Rate: 2000, DrainTimeout: 100 * time.Millisecond}, nil)
		published <- result{summary, err}
	}()
	awaitSome(t, s)
	s.Refuse()
	cancel()
	r := <-published
	var unacknowledged *simulate.UnacknowledgedError
	if r.err != nil && !errors.As(r.err, &unacknowledged) {
		require.NoError(t, r.err)
	}
	assert.EqualValues(t, r.summary.Acknowledged, s.Broker().Accepted)
	awaitRecords(t, s, s.Broker().Accepted)
	require.NoError(t, s.Drain(bounded(t)))
	assert.Equal(t, s.Broker().Accepted, records(t, s))
	stop(t, s)
}

func awaitSome(t *testing.T, s *devstack.Stack) {
	t.Helper()
	require.Eventually(t, func() bool { return records(t, s) > 100 }, time.Minute, time.Millisecond, "waiting for the first 100 records")
}

func TestLoadPipelines(t *testing.T) {
	list, err := devstack.LoadPipelines(fstest.MapFS{
		"b.yaml":              {Data: []byte("b: 1")},
		"a.yaml":              {Data: []byte("a: 1")},
		"a_benthos_test.yaml": {Data: []byte("tests: []")},
		"embed.go":            {Data: []byte("package pipelines")},
		"deeper/c.yaml":       {Data: []byte("c: 1")},
	})
	require.NoError(t, err)
	assert.Equal(t, []devstack.Pipeline{{Name: "a", YAML: "a: 1"}, {Name: "b", YAML: "b: 1"}}, list)
}

func TestLoopback(t *testing.T) {
	for bind, want := range map[string]bool{
		"": true, "127.0.0.1": true, "127.8.9.1": true, "::1": true, "localhost": true,
		"0.0.0.0": false, "::": false, "192.168.1.2": false, "host.example": false,
	} {
		assert.Equal(t, want, devstack.Loopback(bind), bind)
	}
}

// A stack that listens on all addresses tells Kafka clients one that they can
// connect to.
func TestListeningOnAllAddresses(t *testing.T) {
	cfg := config(t)
	cfg.Bind, cfg.Advertise = "0.0.0.0", "localhost"
	s := start(t, cfg)
	host, _, err := net.SplitHostPort(s.Addrs().Kafka)
	require.NoError(t, err)
	assert.Equal(t, "localhost", host)
	host, _, err = net.SplitHostPort(s.Addrs().MQTT)
	require.NoError(t, err)
	assert.Equal(t, "127.0.0.1", host)
	publish(t, s, 5)
	awaitRecords(t, s, 5)
	stop(t, s)
}
