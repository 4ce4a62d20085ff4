// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package mqtt5

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/redpanda-data/benthos/v4/public/service"
	_ "github.com/redpanda-data/connect/v4/public/components/io"
	_ "github.com/redpanda-data/connect/v4/public/components/kafka"
)

func parseSettings(t *testing.T, yaml string) (inputSettings, error) {
	t.Helper()
	conf, err := inputConfig().ParseYAML(yaml, nil)
	require.NoError(t, err)
	return settingsFromParsed(conf, "devices")
}

func TestSettingsDefaults(t *testing.T) {
	s, err := parseSettings(t, `
urls: [ "mqtt://broker" ]
topics: [ "devices/#" ]
`)
	require.NoError(t, err)
	host, err := os.Hostname()
	require.NoError(t, err)
	assert.Equal(t, "dealiot-"+host+"-devices", s.link.clientID)
	assert.Equal(t, []endpoint{{transportTCP, "broker:1883", ""}}, s.link.endpoints)
	assert.Equal(t, []subscription{{filter: "devices/#", qos: 1, retainHandling: 1}}, s.link.subscriptions)
	assert.Equal(t, time.Hour, s.link.sessionExpiry)
	assert.False(t, s.link.cleanStart)
	assert.Nil(t, s.link.tls)
	assert.Nil(t, s.link.will)
	assert.Equal(t, int(s.link.maxInFlight), s.inbox.inFlight)
	assert.True(t, s.autoReplay)
}

func TestSettings(t *testing.T) {
	s, err := parseSettings(t, `
urls: [ "tcp://a:1,ssl://b", "ws://c/x?y=1" ]
topics: [ "$share/ingestors/devices/#, $share/ingestors/wildfi/#,", "" ]
qos: 0
subscriptions:
  - filter: cmd/+
    qos: 2
    no_local: true
    retain_as_published: true
    retain_handling: never
  - filter: other
retain_handling: always
client_id: me
clean_start: true
tls:
  enabled: true
alpn: [ mqtt ]
will:
  enabled: true
  topic: gone
  payload: bye
  qos: 1
  retained: true
  delay: 5s
qos0_overflow: drop
`)
	require.NoError(t, err)
	assert.Equal(t, []endpoint{{transportTLS, "a:1", ""}, {transportTLS, "b:8883", ""}, {transportWSS, "c:80", "/x?y=1"}}, s.link.endpoints)
	assert.Equal(t, []subscription{
		{filter: "$share/ingestors/devices/#"},
		{filter: "$share/ingestors/wildfi/#"},
		{filter: "cmd/+", qos: 2, noLocal: true, retainAsPublished: true, retainHandling: 2},
		{filter: "other"},
	}, s.link.subscriptions)
	assert.Equal(t, "me", s.link.clientID)
	assert.Zero(t, s.link.sessionExpiry, "a clean start ends the session with the connection")
	assert.Equal(t, []string{"mqtt"}, s.link.tls.NextProtos)
	assert.Equal(t, "gone", s.link.will.Topic)
	assert.Equal(t, []byte("bye"), s.link.will.Payload)
	assert.Equal(t, byte(1), s.link.will.QoS)
	assert.True(t, s.link.will.Retain)
	assert.Equal(t, 5*time.Second, s.link.willDelay)
	assert.True(t, s.inbox.dropQoS0)
}

func TestSettingsRefused(t *testing.T) {
	const base = "urls: [ 'mqtt://b' ]\ntopics: [ 't' ]\n"
	for name, tc := range map[string]struct{ yaml, want string }{
		"no url":            {"urls: []\ntopics: [ t ]", "urls is empty"},
		"scheme":            {"urls: [ 'http://b' ]\ntopics: [ t ]", `scheme "http"`},
		"no host":           {"urls: [ 'mqtt://' ]\ntopics: [ t ]", "no host"},
		"user in url":       {"urls: [ 'mqtt://bob:geheim@b' ]\ntopics: [ t ]", "user and password"},
		"path without ws":   {"urls: [ 'mqtt://b/x' ]\ntopics: [ t ]", "only a WebSocket address"},
		"no filter":         {"urls: [ 'mqtt://b' ]\ntopics: [ ' , ' ]", "name at least one topic filter"},
		"bad filter":        {"urls: [ 'mqtt://b' ]\ntopics: [ 'a/#/b' ]", "must be the last level"},
		"plus":              {"urls: [ 'mqtt://b' ]\ntopics: [ 'a/b+/c' ]", "alone in it"},
		"share without all": {"urls: [ 'mqtt://b' ]\ntopics: [ '$share/g' ]", "$share/<group>/<filter>"},
		"twice":             {"urls: [ 'mqtt://b' ]\ntopics: [ 'a', 'a' ]", "twice"},
		"shared no_local":   {base + "subscriptions: [ { filter: $share/g/a, no_local: true } ]", "forbids no_local"},
		"shared qos 2":      {base + "subscriptions: [ { filter: $share/g/a, qos: 2 } ]", "shared_qos2"},
		"qos":               {base + "qos: 3", "field qos: 3 is not between 0 and 2"},
		"sub qos":           {base + "subscriptions: [ { filter: a, qos: 3 } ]", "field subscriptions.0: field qos: 3"},
		"in flight":         {base + "max_in_flight: 65536", "field max_in_flight: 65536 is not between 1 and 65535"},
		"keepalive":         {base + "keepalive: 500ms", "shorter than a second"},
		"backoff":           {base + "reconnect: { min_interval: 1m }", "longer than max_interval"},
		"password alone":    {base + "password: x", "go together"},
		"user alone":        {base + "user: x", "go together"},
		"will":              {base + "will: { enabled: true, topic: 'a/#' }", "not a topic to publish to"},
		"packet size":       {base + "max_packet_size: 10", "field max_packet_size: 10"},
		"expiry":            {base + "session_expiry: 1250000h", "field session_expiry"},
		"batch count":       {base + "batching: { count: 0 }", "field batching.count: 0"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseSettings(t, tc.yaml)
			require.ErrorContains(t, err, tc.want)
			assert.NotContains(t, err.Error(), "geheim")
		})
	}
}

func TestExpandedShareIsSuspected(t *testing.T) {
	s, err := parseSettings(t, `
urls: [ "mqtt://b" ]
topics: [ "/ingestors/devices/#" ]
client_id: x
`)
	require.NoError(t, err)
	require.Len(t, s.warnings, 1)
	assert.Contains(t, s.warnings[0], "single quotes")
}

func TestLint(t *testing.T) {
	const base = "mqtt5:\n  urls: [ 'mqtt://b' ]\n"
	for name, tc := range map[string]struct{ yaml, want string }{
		"least":               {base + "  topics: [ t ]", ""},
		"only commas":         {base + "  topics: [ ' , ' ]", "name at least one topic filter"},
		"clean and expiry":    {base + "  topics: [ t ]\n  client_id: a\n  clean_start: true\n  session_expiry: 1h", "clean_start discards"},
		"clean, no expiry":    {base + "  topics: [ t ]\n  clean_start: true\n  session_expiry: 0s", ""},
		"clean":               {base + "  topics: [ t ]\n  clean_start: true", ""},
		"session without id":  {base + "  topics: [ t ]\n  session_expiry: 24h", "set client_id"},
		"session with id":     {base + "  topics: [ t ]\n  session_expiry: 24h\n  client_id: a", ""},
		"share qos 2":         {base + "  topics: [ 'a,$share/g/t' ]\n  qos: 2", "$share/g/t: some brokers refuse"},
		"share qos 2 allowed": {base + "  topics: [ '$share/g/t' ]\n  qos: 2\n  shared_qos2: true", ""},
		"share qos 2 in list": {base + "  subscriptions: [ { filter: $share/g/t, qos: 2 } ]", "$share/g/t: some brokers refuse"},
		"share qos inherited": {base + "  subscriptions: [ { filter: $share/g/t } ]\n  qos: 2", "$share/g/t: some brokers refuse"},
		"share no_local":      {base + "  subscriptions: [ { filter: $share/g/t, no_local: true } ]", "no_local cannot"},
		"user alone":          {base + "  topics: [ t ]\n  user: u", "go together"},
		"user and password":   {base + "  topics: [ t ]\n  user: u\n  password: ${PASSWORD:x}", ""},
		"will":                {base + "  topics: [ t ]\n  will: { enabled: true }", "will.topic is empty"},
		"qos":                 {base + "  topics: [ t ]\n  qos: 3", "qos must be 0, 1 or 2"},
		"in flight":           {base + "  topics: [ t ]\n  max_in_flight: 0", "max_in_flight must be"},
		"overflow":            {base + "  topics: [ t ]\n  qos0_overflow: explode", "explode"},
		"unknown field":       {base + "  topics: [ t ]\n  topic: x", "topic"},
	} {
		t.Run(name, func(t *testing.T) {
			lints, err := service.NewEnvironment().NewComponentConfigLinter().LintInputYAML([]byte(tc.yaml))
			require.NoError(t, err)
			if tc.want == "" {
				require.Empty(t, lints)
				return
			}
			require.Len(t, lints, 1)
			assert.Contains(t, lints[0].Error(), tc.want)
		})
	}
}

func TestExamplesLint(t *testing.T) {
	view, ok := service.NewEnvironment().GetInputConfig("mqtt5")
	require.True(t, ok)
	data, err := view.TemplateData()
	require.NoError(t, err)
	require.NotEmpty(t, data.Examples)
	for _, e := range data.Examples {
		require.NoError(t, service.NewEnvironment().NewStreamBuilder().SetYAML(e.Config), e.Title)
		lints, err := service.GlobalEnvironment().FullConfigSchema("", "").NewStreamConfigLinter().LintYAML([]byte(e.Config))
		require.NoError(t, err)
		assert.Empty(t, lints, e.Title)
	}
}

func TestSecretsStayOutOfWords(t *testing.T) {
	for in, want := range map[string]string{
		"mqtt://bob:geheim@host:1": "mqtt://…@host:1",
		"bob:geheim@host":          "…@host",
		"mqtt://host":              "mqtt://host",
	} {
		assert.Equal(t, want, withoutUser(in))
	}
}

func TestReasonsAreComplete(t *testing.T) {
	// The codes that MQTT 5.0 defines for each packet.
	for name, tc := range map[string]struct {
		table map[byte]reason
		codes []byte
	}{
		"CONNACK":    {connectReasons, []byte{0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F}},
		"SUBACK":     {subscribeReasons, []byte{0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2}},
		"DISCONNECT": {disconnectReasons, []byte{0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2}},
	} {
		for _, code := range tc.codes {
			assert.Contains(t, tc.table, code, "%s 0x%02X", name, code)
		}
		for code, r := range tc.table {
			text := reasonText(tc.table, code, "")
			assert.True(t, strings.HasPrefix(text, r.what), text)
			if name != "DISCONNECT" {
				assert.NotEmpty(t, r.remedy, "%s 0x%02X", name, code)
			}
		}
	}
	assert.Equal(t,
		`the broker does not accept user and password (reason code 0x86), the broker says "no": check user and password`,
		reasonText(connectReasons, 0x86, "no"))
	assert.Contains(t, reasonText(subscribeReasons, 0xF0, ""), "0xF0")
}

func FuzzParseEndpoint(f *testing.F) {
	for _, s := range []string{"mqtt://h", "mqtts://[::1]:1", "ws://h/p?q", "tcp://a@b", "ssl:", "%", "mqtt://h:x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := parseEndpoint(text)
		if err != nil {
			return
		}
		again, err := parseEndpoint(e.String())
		require.NoError(t, err, "%q became %q", text, e.String())
		require.Equal(t, e, again)
	})
}

func FuzzCheckFilter(f *testing.F) {
	for _, s := range []string{"a/+/#", "$share/g/a", "$share//a", "#", "a#", "", "\x00", "$share/g/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, filter string) {
		if checkFilter(filter) != nil {
			return
		}
		// A filter that is accepted follows the grammar of MQTT 5.0, section 4.7,
		// written down here a second time.
		rest := filter
		if after, ok := strings.CutPrefix(filter, "$share/"); ok {
			_, rest, ok = strings.Cut(after, "/")
			require.True(t, ok)
		}
		require.NotEmpty(t, rest)
		levels := strings.Split(rest, "/")
		for i, l := range levels {
			if strings.ContainsAny(l, "+#") {
				require.Len(t, l, 1)
				require.True(t, l == "+" || i == len(levels)-1)
			}
		}
	})
}
