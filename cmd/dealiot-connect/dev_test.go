// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dealiot/dealiot-connect/internal/simulate"
)

var freePorts = []string{"--mqtt-port", "0", "--kafka-port", "0", "--http-port", "0"}

func TestDevRunsTheWholePath(t *testing.T) {
	dir := t.TempDir()
	args := append([]string{"dev", "--count", "300", "--rate", "3000", "--faults", "20%"}, freePorts...)
	// Settings of another place must not lead anything there.
	elsewhere := []string{"MQTT_HOST=broker.invalid", "KAFKA_BOOTSTRAP_SERVERS=kafka.invalid:9092", "KAFKA_SECURITY_PROTOCOL=SASL_SSL", "MQTT_TLS_ENABLED=true"}
	for range 2 {
		got := runCLIIn(t, dir, elsewhere, args...)
		require.Equal(t, 0, got.code, got.stdout+got.stderr)
		assert.Regexp(t, `(?m)^ready in \d+\.\d\d s: MQTT 127\.0\.0\.1:\d+ · Kafka 127\.0\.0\.1:\d+ · 47 topics · pipelines .*mqtt_to_kafka.* · http http://127\.0\.0\.1:\d+$`, got.stdout)
		assert.Contains(t, got.stdout, "  MQTT messages taken        300  (herd 300, others 0)\n")
		assert.Contains(t, got.stdout, "  missing                      0\n")
		assert.Empty(t, got.stderr)
	}
	require.DirExists(t, filepath.Join(dir, ".local", "share", "dealiot-connect", "dev", "kafka"))
}

func TestDevPipelinesOfOnesOwn(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "mine"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "mine", "copy.yaml"), []byte(`
input:
  mqtt:
    urls: [ "tcp://${MQTT_HOST}:${MQTT_PORT}" ]
    topics: [ "#" ]
output:
  drop: {}
`), 0o600))
	got := runCLIIn(t, dir, []string{"XDG_DATA_HOME=" + filepath.Join(dir, "data")},
		append([]string{"dev", "--pipelines", "mine", "--no-herd", "--duration", "1ms"}, freePorts...)...)
	require.Equal(t, 0, got.code, got.stdout+got.stderr)
	assert.Contains(t, got.stdout, " · pipelines copy · ")
	require.DirExists(t, filepath.Join(dir, "data", "dealiot-connect", "dev", "kafka"))
}

func TestDevSaysWhatIsWrong(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	port := strconv.Itoa(taken.Addr().(*net.TCPAddr).Port)
	broken := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(broken, "broken.yaml"), []byte("input:\n  carrier_pigeon: {}\n"), 0o600))

	tests := []struct {
		name string
		args []string
		want string
	}{
		{"argument", []string{"start"}, `"start" is not a flag; dev takes flags only`},
		{"unknown flag", []string{"--port", "1"}, "flag provided but not defined: -port"},
		{"port", []string{"--mqtt-port", "65536"}, "reading --mqtt-port: 65536 is not a port, 0 to 65535"},
		{"negative port", []string{"--http-port=-1"}, "reading --http-port: -1 is not a port"},
		{"port taken", append(freePorts[2:], "--mqtt-port", port), "listening on 127.0.0.1:" + port + " (MQTT): address already in use; choose another with --mqtt-port"},
		{"bind", []string{"--bind", "everywhere"}, `reading --bind: "everywhere" is not an IP address of this machine`},
		{"duration", []string{"--duration=-1s"}, "reading --duration: -1s is negative"},
		{"faults", []string{"--faults", "120%"}, "reading --faults: "},
		{"devices", []string{"--devices", "0"}, "reading --devices: 0 is not a number of devices; use --no-herd for none"},
		{"rate", []string{"--rate", "0"}, "reading --rate: 0 messages a second is not a rate"},
		{"count without a herd", []string{"--no-herd", "--count", "5"}, "reading --count: 5 messages of a herd, but --no-herd"},
		{"pipelines", []string{"--pipelines", "nowhere"}, "reading --pipelines: open nowhere: no such file or directory"},
		{"no pipelines", []string{"--pipelines", "."}, "there is no *.yaml file in ."},
		{"broken pipeline", append(freePorts, "--pipelines", broken), "reading pipeline broken: "},
		{"catalogue", []string{"--catalogue", "nowhere.yaml"}, "reading --catalogue: open nowhere.yaml"},
		{"data directory", append(freePorts, "--data-dir", broken), "it holds other files and no DEALIOT_CONNECT_DEV"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := runCLI(t, nil, append([]string{"dev"}, test.args...)...)
			assert.Equal(t, 1, got.code)
			assert.Contains(t, got.stdout+got.stderr, test.want)
			assert.NotContains(t, got.stdout, "ready in")
		})
	}
}

func TestDevFaults(t *testing.T) {
	faults := devFaults(0.05)
	total := 0.0
	for _, share := range faults {
		total += share
	}
	assert.Len(t, faults, len(simulate.FaultClasses()))
	assert.InDelta(t, 0.05, total, 1e-12)
	assert.InDelta(t, 0.0002, faults[simulate.Oversize], 1e-12)
}
