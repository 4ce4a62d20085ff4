// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/urfave/cli/v2"

	"github.com/dealiot/dealiot-connect/internal/simulate"
)

// runSimulate runs one simulate command line and returns what it printed.
func runSimulate(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errOut bytes.Buffer
	app := &cli.App{
		Name:           "dealiot-connect",
		Writer:         &out,
		ErrWriter:      &errOut,
		Commands:       []*cli.Command{simulateCommand()},
		ExitErrHandler: func(*cli.Context, error) {}, // the test looks at the error instead of ending
	}
	err = app.RunContext(t.Context(), append([]string{"dealiot-connect", "simulate"}, args...))
	return out.String(), errOut.String(), err
}

func clearMQTT(t *testing.T) {
	t.Helper()
	for _, name := range []string{mqttHost, mqttPort, mqttUsername, mqttPassword, mqttPassword + "_FILE", mqttTLSEnabled, mqttTLSCAFile, mqttTLSCertFile, mqttTLSKeyFile} {
		t.Setenv(name, "")
	}
}

// testBroker starts a broker at a free port that lets in user farm, password
// clover, or with open anybody.
func testBroker(t *testing.T, open bool) (host, port string) {
	t.Helper()
	clearMQTT(t)
	server := mochi.New(&mochi.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if open {
		require.NoError(t, server.AddHook(new(auth.AllowHook), nil))
	} else {
		require.NoError(t, server.AddHook(new(auth.Hook), &auth.Options{Ledger: &auth.Ledger{
			Auth: auth.AuthRules{{Username: "farm", Password: "clover", Allow: true}},
		}}))
	}
	tcp := listeners.NewTCP(listeners.Config{ID: "tcp", Address: "127.0.0.1:0"})
	require.NoError(t, server.AddListener(tcp))
	require.NoError(t, server.Serve())
	t.Cleanup(func() { _ = server.Close() })
	host, port, err := net.SplitHostPort(tcp.Address())
	require.NoError(t, err)
	return host, port
}

func TestSimulateJSONAndManifest(t *testing.T) {
	host, port := testBroker(t, true)
	t.Setenv(mqttHost, host)
	t.Setenv(mqttPort, port)
	file := filepath.Join(t.TempDir(), "sent.ndjson")
	args := []string{"--count", "800", "--rate", "0", "--faults", "30%", "--fault", "oversize=0", "--seed", "5", "--start", "2026-05-04T06:30:00Z", "--json", "--manifest", file}
	stdout, stderr, err := runSimulate(t, args...)
	require.NoError(t, err, stderr)
	assert.Contains(t, stderr, "40 devices publish to tcp://"+host+":"+port)

	var sum simulate.Summary
	require.NoError(t, json.Unmarshal([]byte(stdout), &sum))
	assert.EqualValues(t, 800, sum.Sent)
	assert.EqualValues(t, 800, sum.Acknowledged)
	assert.NotContains(t, sum.ByClass, simulate.Oversize)
	assert.Contains(t, sum.ByClass, simulate.BadJSON)

	lines, err := os.ReadFile(file)
	require.NoError(t, err)
	counts := map[simulate.Class]uint64{}
	topics := map[string]uint64{}
	for line := range strings.Lines(string(lines)) {
		var e simulate.ManifestEntry
		require.NoError(t, json.Unmarshal([]byte(line), &e))
		assert.True(t, e.Acknowledged)
		counts[e.Class]++
		topics[e.Expect.KafkaTopic]++
	}
	assert.Equal(t, topics, sum.ByTopic)
	for class, s := range sum.ByClass {
		assert.Equal(t, counts[class], s.Sent, class)
	}

	// The same command line sends the same.
	_, _, err = runSimulate(t, args...)
	require.NoError(t, err)
	again, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, string(lines), string(again))
}

func TestSimulateForPeople(t *testing.T) {
	host, port := testBroker(t, false)
	stdout, stderr, err := runSimulate(t, "--broker", net.JoinHostPort(host, port), "--username", "farm", "--password", "clover", "--count", "50", "--rate", "0", "--fault", "late=0.5")
	require.NoError(t, err)
	assert.Contains(t, stdout, "late")
	assert.Contains(t, stdout, "raw.gps")
	assert.Contains(t, stdout, "50 messages of 40 devices")
	assert.Contains(t, stderr, "50 sent, 50 acknowledged")
	assert.NotContains(t, stdout+stderr, "clover")
}

func TestSimulateReadsPasswordFile(t *testing.T) {
	host, port := testBroker(t, false)
	dir := t.TempDir()
	secret := filepath.Join(dir, "mqtt_password")
	require.NoError(t, os.WriteFile(secret, []byte("clover\n"), 0o600))
	t.Setenv("DEALIOT_SECRET_DIRECTORIES", dir)
	t.Setenv(mqttUsername, "farm")
	t.Setenv(mqttPassword+"_FILE", secret)
	_, stderr, err := runSimulate(t, "--broker", net.JoinHostPort(host, port), "--count", "5", "--rate", "0")
	require.NoError(t, err, stderr)

	t.Setenv(mqttPassword+"_FILE", "")
	t.Setenv(mqttPassword, "wrong")
	_, _, err = runSimulate(t, "--broker", net.JoinHostPort(host, port), "--count", "5")
	require.ErrorContains(t, err, "set --username and --password, or MQTT_USERNAME and MQTT_PASSWORD")
}

func TestSimulateOverTLS(t *testing.T) {
	clearMQTT(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))

	server := mochi.New(&mochi.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	require.NoError(t, server.AddHook(new(auth.AllowHook), nil))
	listener := listeners.NewTCP(listeners.Config{ID: "tls", Address: "127.0.0.1:0", TLSConfig: &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	}})
	require.NoError(t, server.AddListener(listener))
	require.NoError(t, server.Serve())
	t.Cleanup(func() { _ = server.Close() })

	_, _, err = runSimulate(t, "--broker", "ssl://"+listener.Address(), "--count", "5", "--rate", "0")
	require.ErrorContains(t, err, "certificate", "a certificate of nobody's authority must not be trusted")
	t.Setenv(mqttTLSCAFile, ca)
	stdout, _, err := runSimulate(t, "--tls", "--broker", listener.Address(), "--count", "5", "--rate", "0", "--json")
	require.NoError(t, err)
	assert.Contains(t, stdout, `"acknowledged": 5`)
}

func TestSimulateErrors(t *testing.T) {
	clearMQTT(t)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	nobody := free.Addr().String()
	require.NoError(t, free.Close())
	notPEM := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(notPEM, []byte("hello"), 0o600))

	for _, tc := range []struct {
		args string
		want string
	}{
		{"--broker " + nobody, "connecting to MQTT broker tcp://" + nobody + ": dial tcp"},
		{"--broker " + nobody, "`dealiot-connect dev` starts one"},
		{"now", `"now" is not expected`},
		{"--start now", `"now" is no time such as`},
		{"--start 1999-01-01T00:00:00Z", "outside the years 2000 to 2199"},
		{"--devices 0", "--devices: 0"},
		{"--qos 3", "--qos: 3"},
		{"--qos -1", "--qos: -1"},
		{"--rate -1", "-1 is outside"},
		{"--inflight 0", "--inflight: 0"},
		{"--duration -1s", "negative"},
		{"--faults lots", "reading --faults"},
		{"--fault lots=1", "unknown fault class"},
		{"--fault late=0.7 --fault binary=0.7", "add up to 1.4"},
		{"--username farm", "both must be set or neither"},
		{"--tls --broker tcp://x:1", "write ssl:// in place of tcp://"},
		{"--broker ftp://x:1", `scheme "ftp"`},
		{"--tls --tls-ca " + notPEM, "holds no PEM certificate"},
		{"--tls --tls-ca missing.pem", "reading MQTT_TLS_CA_FILE: open missing.pem"},
		{"--tls --tls-cert x.pem", "needs both or neither"},
		{"--manifest no/such/folder/x.ndjson", "creating manifest"},
	} {
		stdout, _, err := runSimulate(t, strings.Fields(tc.args)...)
		assert.ErrorContains(t, err, tc.want, tc.args)
		assert.Empty(t, stdout, tc.args)
	}

	t.Setenv(mqttTLSEnabled, "enabled")
	_, _, err = runSimulate(t)
	assert.ErrorContains(t, err, "reading MQTT_TLS_ENABLED")
}

func TestSimulateBrokerAddress(t *testing.T) {
	for name, tc := range map[string]struct {
		args   []string
		env    map[string]string
		want   string
		secure bool
	}{
		"default":           {nil, nil, "tcp://127.0.0.1:1883", false},
		"settings":          {nil, map[string]string{mqttHost: "broker", mqttPort: "2883"}, "tcp://broker:2883", false},
		"port 8883":         {nil, map[string]string{mqttHost: "broker", mqttPort: "8883"}, "ssl://broker:8883", true},
		"port 8883, no TLS": {nil, map[string]string{mqttPort: "8883", mqttTLSEnabled: "off"}, "tcp://127.0.0.1:8883", false},
		"TLS setting":       {nil, map[string]string{mqttTLSEnabled: "yes"}, "ssl://127.0.0.1:1883", true},
		"TLS flag":          {[]string{"--tls"}, nil, "ssl://127.0.0.1:1883", true},
		"IPv6":              {nil, map[string]string{mqttHost: "::1"}, "tcp://[::1]:1883", false},
		"flag":              {[]string{"--broker", "a:1"}, map[string]string{mqttHost: "broker"}, "tcp://a:1", false},
		"scheme":            {[]string{"--broker", "mqtts://a:1"}, nil, "mqtts://a:1", true},
		"scheme wins":       {[]string{"--broker", "tcp://a:1"}, map[string]string{mqttTLSEnabled: "1"}, "tcp://a:1", false},
	} {
		t.Run(name, func(t *testing.T) {
			clearMQTT(t)
			for k, v := range tc.env {
				t.Setenv(k, v)
			}
			command := simulateCommand()
			command.Action = func(c *cli.Context) error {
				pub, err := publisherFromFlags(c)
				require.NoError(t, err)
				assert.Equal(t, tc.want, pub.Broker)
				assert.Equal(t, tc.secure, pub.TLS != nil)
				return nil
			}
			app := &cli.App{Commands: []*cli.Command{command}}
			require.NoError(t, app.RunContext(t.Context(), append([]string{"dealiot-connect", "simulate"}, tc.args...)))
		})
	}
}

// Sent as fast as possible, the herd's messages end at the present.
func TestSimulateStart(t *testing.T) {
	now := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		args string
		want time.Time
	}{
		{"", now},
		{"--rate 0", now},
		{"--rate 0 --count 5000", now.Add(-100 * time.Second)},
		{"--rate 100 --count 5000", now},
		{"--rate 0 --count 5000 --start 2026-01-01T01:00:00+01:00", time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		command := simulateCommand()
		command.Action = func(c *cli.Context) error {
			cfg, err := herdFromFlags(c, now)
			require.NoError(t, err)
			assert.Equal(t, tc.want, cfg.Start, tc.args)
			return nil
		}
		app := &cli.App{Commands: []*cli.Command{command}}
		require.NoError(t, app.RunContext(t.Context(), append([]string{"dealiot-connect", "simulate"}, strings.Fields(tc.args)...)))
	}
}
