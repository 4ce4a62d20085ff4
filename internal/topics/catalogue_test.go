// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package topics

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestDefaultIsThePlatformsTopics holds the built-in catalogue, before its
// overrides, against the platform's own list.
func TestDefaultIsThePlatformsTopics(t *testing.T) {
	data, err := os.ReadFile("testdata/platform_topics.json")
	require.NoError(t, err)
	var platform struct {
		Count  int `json:"count"`
		Topics []struct {
			Topic       string            `json:"topic"`
			Partitions  int32             `json:"partitions"`
			Replication int16             `json:"replication"`
			Configs     map[string]string `json:"configs"`
			Group       string            `json:"registry_group"`
		} `json:"topics"`
	}
	require.NoError(t, json.Unmarshal(data, &platform))
	require.Len(t, platform.Topics, 47)

	c, err := Default()
	require.NoError(t, err)
	base := map[string]Topic{}
	for _, topic := range c.base {
		base[topic.Name] = topic
	}
	assert.Len(t, c.base, len(platform.Topics))
	for _, want := range platform.Topics {
		got, ok := base[want.Topic]
		if !assert.True(t, ok, "topic %s is missing", want.Topic) {
			continue
		}
		assert.Equal(t, want.Partitions, got.Partitions, want.Topic)
		assert.Equal(t, want.Replication, got.Replication, want.Topic)
		assert.Equal(t, want.Configs, got.Configs, want.Topic)
		if want.Group != "" {
			assert.Equal(t, want.Group, strings.ReplaceAll(got.Domain, " ", ""), want.Topic)
		}
	}
}

func TestDefaultOverrides(t *testing.T) {
	c, err := Default()
	require.NoError(t, err)
	names := []string{}
	for _, o := range c.Overrides() {
		names = append(names, o.Name)
		assert.NotEmpty(t, o.Reason)
	}
	assert.Equal(t, []string{"large_events", "dead_letter_retention", "consent_ledger_kept"}, names)

	got := map[string]Topic{}
	for _, topic := range c.Topics() {
		got[topic.Name] = topic
	}
	assert.Equal(t, map[string]string{"max.message.bytes": "4194304"}, got["raw.sensor"].Configs)
	assert.Equal(t, map[string]string{"max.message.bytes": "4194304", "retention.ms": "2592000000"}, got["dlq.events"].Configs)
	assert.Equal(t, []string{"large_events", "dead_letter_retention"}, got["dlq.events"].Overrides)
	assert.Equal(t, map[string]string{"cleanup.policy": "delete", "retention.ms": "315360000000", "min.insync.replicas": "2"}, got["governance.permission.events"].Configs)
	assert.Empty(t, got["raw.gps"].Configs)

	c.Topics()[0].Configs["retention.ms"] = "1"
	assert.Empty(t, c.Topics()[0].Configs, "a caller must not reach into the catalogue")
}

func TestLoadRefuses(t *testing.T) {
	topic := func(lines ...string) string {
		return "domains:\n  - name: d\n    topics:\n      - " + strings.Join(lines, "\n        ") + "\n"
	}
	a := topic("name: a.b", "partitions: 1", "replication: 3", "purpose: p")
	override := func(body string) string { return a + "overrides:\n  - " + body }

	tests := []struct{ name, yaml, err string }{
		{"nothing", "", "it is empty"},
		{"only a comment", "# topics", "it is empty"},
		{"not YAML", "domains: [", "parsing topic catalogue site.yaml"},
		{"a list", "- a", "site.yaml:1: catalogue: must be a mapping"},
		{"no domains", "overrides: []", `catalogue: needs "domains"`},
		{"no topics", "domains: []", "must hold at least one topic"},
		{"null domains", "domains:", "site.yaml:1: domains: must be a list"},
		{"unknown key at the top", a + "extra: 1", `site.yaml:8: catalogue: does not know the key "extra"`},
		{"unknown key in a domain", "domains:\n  - name: d\n    topic: []", `site.yaml:3: domains[0]: does not know the key "topic"; known are name, topics`},
		{"unknown key in a topic", topic("name: a", "partition: 1", "partitions: 1", "replication: 1", "purpose: p"), `site.yaml:5: domain "d".topics[0]: does not know the key "partition"`},
		{"key twice", topic("name: a", "partitions: 1", "partitions: 2", "replication: 1", "purpose: p"), `has the key "partitions" twice`},
		{"no name", topic("partitions: 1", "replication: 1", "purpose: p"), `domain "d".topics[0]: needs "name"`},
		{"no purpose", topic("name: a", "partitions: 1", "replication: 1"), `topic a: needs "purpose"`},
		{"no partitions", topic("name: a", "partitions: 0", "replication: 1", "purpose: p"), `site.yaml:5: topic a.partitions: must be a whole number from 1 to 2147483647, got "0"`},
		{"half a partition", topic("name: a", "partitions: 1.5", "replication: 1", "purpose: p"), `got "1.5"`},
		{"replication too high", topic("name: a", "partitions: 1", "replication: 40000", "purpose: p"), "from 1 to 32767"},
		{"illegal name", topic("name: a/b", "partitions: 1", "replication: 1", "purpose: p"), `"a/b" holds the character '/'`},
		{"name too long", topic("name: "+strings.Repeat("x", 250), "partitions: 1", "replication: 1", "purpose: p"), "has 250 characters"},
		{"name dots", topic("name: ..", "partitions: 1", "replication: 1", "purpose: p"), "is not a topic name"},
		{"Kafka's own", topic("name: __consumer_offsets", "partitions: 1", "replication: 1", "purpose: p"), "belongs to Kafka itself"},
		{"twice", a + a[strings.Index(a, "      - "):], "site.yaml:8: topic a.b: stands here a second time, first on line 4"},
		{"collision", a + strings.ReplaceAll(a[strings.Index(a, "      - "):], "a.b", "a_b"), "topic a_b: collides with topic a.b"},
		{"domain twice", a + strings.ReplaceAll(a[len("domains:\n"):], "a.b", "c"), `the domain "d" stands here a second time`},
		{"config without value", topic("name: a", "partitions: 1", "replication: 1", "purpose: p", "configs: {retention.ms: }"), "topic a.configs.retention.ms: has no value"},
		{"config with a list", topic("name: a", "partitions: 1", "replication: 1", "purpose: p", "configs: {cleanup.policy: [compact]}"), "compact,delete"},
		{"configs as list", topic("name: a", "partitions: 1", "replication: 1", "purpose: p", "configs: []"), "topic a.configs: must be a mapping"},
		{"policy unknown", topic("name: a", "partitions: 1", "replication: 1", "purpose: p", "configs: {cleanup.policy: compacted}"), `got "compacted"`},
		{"more in step than copies", topic("name: a", "partitions: 1", "replication: 1", "purpose: p", "configs: {min.insync.replicas: 2}"), "is 2 but replication is 1"},
		{"in step is no number", topic("name: a", "partitions: 1", "replication: 1", "purpose: p", "configs: {min.insync.replicas: two}"), `got "two"`},
		{"override of an unknown topic", override("{name: o, topics: [a.c], configs: {x: 1}, reason: r}"), `site.yaml:9: override o.topics: names the topic "a.c", which no domain holds`},
		{"override without reason", override("{name: o, topics: [a.b], configs: {x: 1}}"), `override o: needs "reason"`},
		{"override without configs", override("{name: o, topics: [a.b], configs: {}, reason: r}"), "must set at least one configuration"},
		{"override without topics", override("{name: o, topics: [], configs: {x: 1}, reason: r}"), "must name at least one topic"},
		{"override twice", override("{name: o, topics: [a.b], configs: {x: 1}, reason: r}\n  - {name: o, topics: [a.b], configs: {y: 1}, reason: r}"), "override o: stands here a second time"},
		{"overrides at odds", override("{name: o, topics: [a.b], configs: {x: 1}, reason: r}\n  - {name: q, topics: [a.b], configs: {x: 1}, reason: r}"), "override q.configs.x: override o sets it on topic a.b already"},
		{"override breaks a topic", override("{name: o, topics: [a.b], configs: {min.insync.replicas: 4}, reason: r}"), "is 4 but replication is 3"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Load("site.yaml", []byte(tc.yaml))
			require.ErrorContains(t, err, tc.err)
		})
	}
	_, err := Load("site.yaml", []byte(a))
	require.NoError(t, err, "the tables' own topic must be in order")
	_, err = Load("site.yaml", []byte(override("{name: o, topics: [a.b], configs: {x: null}, reason: r}")))
	require.NoError(t, err)
}

func TestLoadReportsEverythingAtOnce(t *testing.T) {
	_, err := Load("site.yaml", []byte("domains:\n  - name: d\n    topics:\n      - {name: a, partitions: 0, replication: 0, purpose: p}\n      - {nam: b}\n"))
	for _, want := range []string{"topic a.partitions", "topic a.replication", `the key "nam"`} {
		require.ErrorContains(t, err, want)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte("domains: [{name: d, topics: [{name: a, partitions: 1, replication: 3, purpose: p, configs: {cleanup.policy: compact, min.insync.replicas: 2}}]}]\noverrides: [{name: o, topics: [a], configs: {cleanup.policy: null, retention.ms: -1}, reason: r}]\n"))
	f.Add([]byte("domains:\n  - &a {name: d, topics: [*a]}\n"))
	f.Add([]byte("domains: [{name: d, topics: [{name: a, partitions: 1, replication: 1, purpose: p, configs: {? [x] : y}}]}]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Load("f", data)
		if err != nil {
			return
		}
		topics := c.Topics()
		if len(topics) == 0 {
			t.Fatal("a catalogue without topics was accepted")
		}
		for _, topic := range topics {
			if topic.Partitions < 1 || topic.Replication < 1 || illegalName(topic.Name) != "" {
				t.Fatalf("accepted %+v", topic)
			}
		}
		// What a fresh plan creates on an ample cluster must leave nothing to do.
		opt := Options{}
		cluster := Cluster{Brokers: 32767, MinInsync: 1, Topics: map[string]TopicState{}}
		cluster = carriedOut(NewPlan(c, cluster, opt), cluster)
		if p := NewPlan(c, cluster, opt); p.Summary.Changes() != 0 || !p.Clean() {
			t.Fatalf("the plan is not idempotent: %+v", p.Actions)
		}
	})
}
