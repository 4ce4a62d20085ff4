// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestConfigLookupDerivesSettings shows that the platform's settings reach the
// fields of components, and that a slip stops the process instead of turning
// security off.
func TestConfigLookupDerivesSettings(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(secret, []byte("p\n"), 0o600))
	sasl := func(protocol string, more ...string) []string {
		return append([]string{"KAFKA_SECURITY_PROTOCOL=" + protocol, "KAFKA_SASL_USERNAME=u", "KAFKA_SASL_PASSWORD=p"}, more...)
	}
	for _, tc := range []struct {
		env     []string
		name    string
		want    string
		unset   bool
		wantErr string
	}{
		{name: "MQTT_SCHEME", want: "tcp"},
		{name: "MQTT_SCHEME", env: []string{"MQTT_TLS_ENABLED=yes"}, want: "ssl"},
		{name: "MQTT_SCHEME", env: []string{"MQTT_PORT=8883"}, want: "ssl"},
		{name: "MQTT_SCHEME", env: []string{"MQTT_PORT=8883", "MQTT_TLS_ENABLED=off"}, want: "tcp"},
		{name: "MQTT_SCHEME", env: []string{"MQTT_SCHEME=wss", "MQTT_TLS_ENABLED=off"}, want: "wss"},
		{name: "MQTT_SCHEME", env: []string{"MQTT_TLS_ENABLED=enabled"}, wantErr: `reading MQTT_TLS_ENABLED: parsing switch "enabled"`},

		{name: "KAFKA_TLS_ENABLED", unset: true},
		{name: "KAFKA_TLS_ENABLED", env: []string{"KAFKA_TLS_ENABLED=true"}, want: "true"},
		{name: "KAFKA_TLS_ENABLED", env: []string{"KAFKA_SECURITY_PROTOCOL=ssl"}, want: "true"},
		{name: "KAFKA_TLS_ENABLED", env: []string{"KAFKA_SECURITY_PROTOCOL=PLAINTEXT", "KAFKA_TLS_ENABLED=true"}, want: "false"},
		{name: "KAFKA_TLS_ENABLED", env: sasl("sasl_ssl"), want: "true"},
		{name: "KAFKA_TLS_ENABLED", env: sasl("SASL_PLAINTEXT"), want: "false"},
		{name: "KAFKA_TLS_ENABLED", env: []string{"KAFKA_SECURITY_PROTOCOL=TLS"}, wantErr: "KAFKA_SECURITY_PROTOCOL"},

		{name: "KAFKA_SASL_MECHANISM", unset: true},
		{name: "KAFKA_SASL_MECHANISM", env: []string{"KAFKA_SASL_MECHANISM=PLAIN"}, want: "PLAIN"},
		{name: "KAFKA_SASL_MECHANISM", env: []string{"KAFKA_SECURITY_PROTOCOL=SSL", "KAFKA_SASL_MECHANISM=PLAIN"}, want: "none"},
		{name: "KAFKA_SASL_MECHANISM", env: sasl("SASL_SSL"), want: "SCRAM-SHA-512"},
		{name: "KAFKA_SASL_MECHANISM", env: sasl("SASL_SSL", "KAFKA_SASL_MECHANISM=plain"), want: "PLAIN"},
		{name: "KAFKA_SASL_MECHANISM", want: "SCRAM-SHA-512", env: []string{
			"KAFKA_SECURITY_PROTOCOL=SASL_SSL", "KAFKA_SASL_USERNAME=u", "KAFKA_SASL_PASSWORD_FILE=" + secret,
			"DEALIOT_SECRET_DIRECTORIES=" + filepath.Dir(secret)}},
		{name: "KAFKA_SASL_MECHANISM", env: []string{"KAFKA_SECURITY_PROTOCOL=SASL_SSL", "KAFKA_SASL_USERNAME=u"}, wantErr: "KAFKA_SASL_PASSWORD"},
		{name: "KAFKA_SASL_MECHANISM", env: []string{"KAFKA_SECURITY_PROTOCOL=SASL_SSL", "KAFKA_SASL_USERNAME=u", "KAFKA_SASL_PASSWORD_FILE=/nope"},
			wantErr: `reading secret KAFKA_SASL_PASSWORD from KAFKA_SASL_PASSWORD_FILE="/nope"`},
	} {
		t.Run(tc.name+" "+strings.Join(tc.env, " "), func(t *testing.T) {
			for _, name := range []string{"MQTT_SCHEME", "MQTT_TLS_ENABLED", "MQTT_PORT", "KAFKA_SECURITY_PROTOCOL",
				"KAFKA_TLS_ENABLED", "KAFKA_SASL_MECHANISM", "KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD", "KAFKA_SASL_PASSWORD_FILE"} {
				t.Setenv(name, "") // whatever it is where the test runs
			}
			for _, pair := range tc.env {
				name, value, _ := strings.Cut(pair, "=")
				t.Setenv(name, value)
			}
			var stopped error
			production := fatal
			fatal = func(err error) { stopped = err }
			t.Cleanup(func() { fatal = production })

			value, found := configLookup(t.Context(), tc.name)
			if tc.wantErr != "" {
				require.ErrorContains(t, stopped, tc.wantErr)
				assert.False(t, found)
				return
			}
			require.NoError(t, stopped)
			assert.Equal(t, tc.unset, value == "" || !found)
			assert.Equal(t, tc.want, value)
		})
	}
}
