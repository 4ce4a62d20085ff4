// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package kafkaconf

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

func from(env map[string]string) Lookup {
	return func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	}
}

// TestPlatformRows holds Parse against what the platform does with the same
// settings; where the platform is wrong the row says what users need.
func TestPlatformRows(t *testing.T) {
	f, err := os.Open("testdata/kafka_security.jsonl")
	require.NoError(t, err)
	defer f.Close()
	rows := 0
	for s := bufio.NewScanner(f); s.Scan(); rows++ {
		var row struct {
			ID     string            `json:"id"`
			Env    map[string]string `json:"env"`
			Result *struct {
				Protocol      string `json:"security_protocol"`
				Mechanism     string `json:"sasl_mechanism"`
				Username      string `json:"sasl_plain_username"`
				Password      string `json:"sasl_plain_password"`
				CAFile        string `json:"ssl_cafile"`
				CertFile      string `json:"ssl_certfile"`
				KeyFile       string `json:"ssl_keyfile"`
				CheckHostname *bool  `json:"ssl_check_hostname"`
			} `json:"result"`
			UpstreamBug bool   `json:"upstream_bug"`
			Want        string `json:"want"`
		}
		require.NoError(t, json.Unmarshal(s.Bytes(), &row))
		t.Run(row.ID, func(t *testing.T) {
			got, err := Parse(from(row.Env))
			if row.Result == nil {
				require.Error(t, err)
				return
			}
			require.NoError(t, err)
			if row.UpstreamBug {
				require.Equal(t, "case-insensitive or refused", row.Want)
				assert.Equal(t, strings.ToUpper(row.Env[securityProtocol]), got.Protocol)
				assert.Equal(t, row.Env[saslUsername], got.Username, "security must not be skipped")
				assert.Equal(t, "SCRAM-SHA-512", got.Mechanism)
				return
			}
			assert.Equal(t, row.Result.Protocol, got.Protocol)
			assert.Equal(t, row.Result.Mechanism, got.Mechanism)
			assert.Equal(t, row.Result.Username, got.Username)
			assert.Equal(t, row.Result.Password, got.Password)
			assert.Equal(t, row.Result.CAFile, got.CAFile)
			assert.Equal(t, row.Result.CertFile, got.CertFile)
			assert.Equal(t, row.Result.KeyFile, got.KeyFile)
			if row.Result.CheckHostname != nil {
				assert.Equal(t, *row.Result.CheckHostname, got.CheckHostname)
			}
		})
	}
	require.Equal(t, 6, rows)
}

func TestParse(t *testing.T) {
	tests := []struct {
		name string
		env  map[string]string
		want Config
		err  string
	}{
		{name: "nothing set", want: Config{Brokers: []string{"127.0.0.1:9092"}, Protocol: "PLAINTEXT", CheckHostname: true}},
		{
			name: "brokers with blanks and empty items",
			env:  map[string]string{BootstrapServers: " a:9092, ,b:9093,"},
			want: Config{Brokers: []string{"a:9092", "b:9093"}, Protocol: "PLAINTEXT", CheckHostname: true},
		},
		{
			name: "brokers of nothing but commas",
			env:  map[string]string{BootstrapServers: ",,"},
			want: Config{Brokers: []string{"127.0.0.1:9092"}, Protocol: "PLAINTEXT", CheckHostname: true},
		},
		{
			name: "blank means not set",
			env:  map[string]string{securityProtocol: " ", sslCheckHostname: "", sslCAFile: " "},
			want: Config{Brokers: []string{"127.0.0.1:9092"}, Protocol: "PLAINTEXT", CheckHostname: true},
		},
		{
			name: "mixed case, blanks round a password kept",
			env:  map[string]string{securityProtocol: "Sasl_Plaintext", saslMechanism: "scram-sha-256", saslUsername: "u", saslPassword: " p "},
			want: Config{Brokers: []string{"127.0.0.1:9092"}, Protocol: "SASL_PLAINTEXT", Mechanism: "SCRAM-SHA-256", Username: "u", Password: " p ", CheckHostname: true},
		},
		{
			name: "hostname check off",
			env:  map[string]string{securityProtocol: "SSL", sslCheckHostname: "No"},
			want: Config{Brokers: []string{"127.0.0.1:9092"}, Protocol: "SSL"},
		},
		{name: "unknown protocol", env: map[string]string{securityProtocol: "TLS"}, err: `KAFKA_SECURITY_PROTOCOL: "TLS" is none of PLAINTEXT, SSL`},
		{name: "unknown mechanism", env: map[string]string{securityProtocol: "SASL_SSL", saslMechanism: "GSSAPI", saslUsername: "u", saslPassword: "p"}, err: `KAFKA_SASL_MECHANISM: "GSSAPI"`},
		{name: "password missing", env: map[string]string{securityProtocol: "SASL_SSL", saslUsername: "u"}, err: "KAFKA_SASL_PASSWORD_FILE"},
		{name: "certificate without key", env: map[string]string{sslCertFile: "/c.pem"}, err: "KAFKA_SSL_CERTFILE and KAFKA_SSL_KEYFILE"},
		{name: "unknown boolean", env: map[string]string{sslCheckHostname: "y"}, err: `reading KAFKA_SSL_CHECK_HOSTNAME: parsing switch "y"`},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Parse(from(tc.env))
			if tc.err != "" {
				require.ErrorContains(t, err, tc.err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tc.want, got)
		})
	}
}

func TestOptionsNameTheFileAtFault(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.pem")
	require.NoError(t, os.WriteFile(empty, []byte("no certificate"), 0o600))
	for _, tc := range []struct{ name, key, file, err string }{
		{"no such authority", sslCAFile, filepath.Join(dir, "none.pem"), "reading KAFKA_SSL_CAFILE: open"},
		{"authority without certificate", sslCAFile, empty, "holds no PEM certificate"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := Parse(from(map[string]string{securityProtocol: "SSL", tc.key: tc.file}))
			require.NoError(t, err)
			_, err = c.Options()
			require.ErrorContains(t, err, tc.err)
		})
	}
	c, err := Parse(from(map[string]string{securityProtocol: "SSL", sslCertFile: empty, sslKeyFile: empty}))
	require.NoError(t, err)
	_, err = c.Options()
	require.ErrorContains(t, err, "reading KAFKA_SSL_CERTFILE and KAFKA_SSL_KEYFILE")
}

// TestConnect talks to a broker that asks for TLS and a password: the right
// settings get through, each wrong one does not.
func TestConnect(t *testing.T) {
	dir := t.TempDir()
	cert, caFile := authority(t, dir, "localhost")
	_, strangerFile := authority(t, t.TempDir(), "localhost")
	cluster, err := kfake.NewCluster(
		kfake.NumBrokers(1),
		kfake.TLS(&tls.Config{Certificates: []tls.Certificate{cert}}),
		kfake.EnableSASL(),
		kfake.Superuser("SCRAM-SHA-512", "u", "p"),
		kfake.Superuser("SCRAM-SHA-256", "v", "p"),
		kfake.Superuser("PLAIN", "w", "p"),
	)
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	addr := strings.Join(cluster.ListenAddrs(), ",") // 127.0.0.1, which is not in the certificate

	base := func(set ...string) map[string]string {
		env := map[string]string{
			BootstrapServers: addr, securityProtocol: "sasl_ssl", saslUsername: "u", saslPassword: "p",
			sslCAFile: caFile, sslCheckHostname: "false",
		}
		for i := 0; i < len(set); i += 2 {
			env[set[i]] = set[i+1]
		}
		return env
	}
	for _, tc := range []struct {
		name string
		env  map[string]string
		ok   bool
	}{
		{"scram 512", base(), true},
		{"scram 256", base(saslMechanism, "SCRAM-SHA-256", saslUsername, "v"), true},
		{"plain", base(saslMechanism, "PLAIN", saslUsername, "w"), true},
		{"wrong password", base(saslPassword, "q"), false},
		{"host name checked", base(sslCheckHostname, "true"), false},
		{"authority unknown although the name is not checked", base(sslCAFile, strangerFile), false},
		{"plain text to a TLS port", base(securityProtocol, "SASL_PLAINTEXT"), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := Parse(from(tc.env))
			require.NoError(t, err)
			opts, err := c.Options()
			require.NoError(t, err)
			client, err := kgo.NewClient(append(opts, kgo.RequestRetries(0))...)
			require.NoError(t, err)
			defer client.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			err = client.Ping(ctx)
			require.NotErrorIs(t, err, context.DeadlineExceeded)
			if tc.ok {
				require.NoError(t, err)
			} else {
				require.Error(t, err)
			}
		})
	}
}

// authority makes a self-signed certificate for one host name and writes it as
// the certificate authority's file.
func authority(t *testing.T, dir, host string) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	require.NoError(t, err)
	file := filepath.Join(dir, "ca.pem")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}
