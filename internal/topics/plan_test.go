// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package topics

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// one returns a catalogue of a single topic with the given configs in YAML flow
// form.
func one(t *testing.T, partitions, replication int, configs string) *Catalogue {
	t.Helper()
	c, err := Load("one.yaml", fmt.Appendf(nil, `
domains:
  - name: d
    topics:
      - {name: a, partitions: %d, replication: %d, configs: {%s}, purpose: p}
`, partitions, replication, configs))
	require.NoError(t, err)
	return c
}

// state describes an existing topic; configs are name=value, with a leading '*'
// when the topic has the value of its own.
func state(partitions int32, replication int16, configs ...string) map[string]TopicState {
	s := TopicState{Partitions: partitions, Replication: replication, Configs: map[string]ConfigState{}}
	for _, c := range configs {
		k, v, _ := strings.Cut(c, "=")
		own := strings.HasPrefix(k, "*")
		s.Configs[strings.TrimPrefix(k, "*")] = ConfigState{Value: v, Own: own}
	}
	return map[string]TopicState{"a": s}
}

// carriedOut returns the cluster as it is after a plan.
func carriedOut(p *Plan, c Cluster) Cluster {
	topics := maps.Clone(c.Topics)
	for _, a := range p.Actions {
		s := topics[a.Topic]
		switch a.Kind {
		case Create:
			s = TopicState{Partitions: a.Partitions, Replication: a.Replication, Configs: map[string]ConfigState{
				configMinInsync: {Value: itoa(max(c.MinInsync, 1))},
			}}
			for k, v := range a.Configs {
				s.Configs[k] = ConfigState{Value: v, Own: true}
			}
		case AddPartitions:
			s.Partitions = a.Partitions
		case SetConfig:
			s.Configs = maps.Clone(s.Configs)
			s.Configs[a.Config] = ConfigState{Value: a.To, Own: true}
		}
		topics[a.Topic] = s
	}
	c.Topics = topics
	return c
}

func TestNewPlan(t *testing.T) {
	none := map[string]TopicState{}
	capped := Options{CapReplication: true}
	tests := []struct {
		name      string
		catalogue *Catalogue
		cluster   Cluster
		options   Options
		want      []string // kind, and what is particular about it
		refused   string   // of the whole plan
		warnings  []string
	}{
		{
			name:      "a missing topic is created",
			catalogue: one(t, 6, 3, "retention.ms: 1000"),
			cluster:   Cluster{Brokers: 3, MinInsync: 2, Topics: none},
			want:      []string{"create -> 6 partitions, replication 3, retention.ms=1000"},
		},
		{
			name:      "nothing to do",
			catalogue: one(t, 6, 3, "retention.ms: 1000"),
			cluster:   Cluster{Brokers: 3, MinInsync: 2, Topics: state(6, 3, "*retention.ms=1000")},
			want:      []string{"ok"},
		},
		{
			name:      "an equal default counts, numbers and lists by value",
			catalogue: one(t, 1, 1, `retention.ms: 604800000, min.cleanable.dirty.ratio: 0.10, cleanup.policy: "delete, compact", segment.ms: 0100`),
			cluster:   Cluster{Brokers: 1, MinInsync: 1, Topics: state(1, 1, "retention.ms=604800000", "*min.cleanable.dirty.ratio=0.1", "*cleanup.policy=compact,delete", "*segment.ms=100")},
			want:      []string{"ok"},
		},
		{
			name:      "more partitions are kept",
			catalogue: one(t, 6, 3, ""),
			cluster:   Cluster{Brokers: 3, Topics: state(12, 3)},
			want:      []string{"kept 12 -> 6 because has 12 partitions and the catalogue asks for 6; taking partitions away would delete their data"},
		},
		{
			name:      "partitions are added, with a warning",
			catalogue: one(t, 12, 3, ""),
			cluster:   Cluster{Brokers: 3, Topics: state(6, 3, "cleanup.policy=delete")},
			want:      []string{"add_partitions 6 -> 12 warning keys move"},
		},
		{
			name:      "a compacted topic does not grow",
			catalogue: one(t, 12, 3, "cleanup.policy: compact"),
			cluster:   Cluster{Brokers: 3, Topics: state(6, 3, "*cleanup.policy=compact")},
			want:      []string{"refused 6 -> 12 because it is compacted"},
		},
		{
			name:      "nor one that will be compacted, the configuration is set even so",
			catalogue: one(t, 12, 3, "cleanup.policy: compact"),
			cluster:   Cluster{Brokers: 3, Topics: state(6, 3, "cleanup.policy=delete")},
			want:      []string{"refused 6 -> 12 because it is compacted", "set_config cleanup.policy delete -> compact warning compaction will remove"},
		},
		{
			name:      "one that is compacted until now may grow",
			catalogue: one(t, 12, 3, "cleanup.policy: delete"),
			cluster:   Cluster{Brokers: 3, Topics: state(6, 3, "*cleanup.policy=compact")},
			want:      []string{"add_partitions 6 -> 12 warning keys move", "set_config cleanup.policy compact -> delete warning records older than retention.ms"},
		},
		{
			name:      "nor one that is compacted without the catalogue's asking",
			catalogue: one(t, 12, 3, ""),
			cluster:   Cluster{Brokers: 3, Topics: state(6, 3, "*cleanup.policy=delete,compact")},
			want:      []string{"refused 6 -> 12 because it is compacted"},
		},
		{
			name:      "a compacted topic grows by force",
			catalogue: one(t, 12, 3, "cleanup.policy: compact"),
			cluster:   Cluster{Brokers: 3, Topics: state(6, 3, "*cleanup.policy=compact")},
			options:   Options{ForceCompactedPartitions: true},
			want:      []string{"add_partitions 6 -> 12 warning records written before stay in their old partition"},
		},
		{
			name:      "too few copies need a person",
			catalogue: one(t, 6, 3, "min.insync.replicas: 2, retention.ms: 5"),
			cluster:   Cluster{Brokers: 3, MinInsync: 2, Topics: state(6, 1, "*min.insync.replicas=1", "*retention.ms=9")},
			want: []string{
				"refused 1 -> 3 because has replication 1 and the catalogue asks for 3; more copies need a partition reassignment, which moves data between brokers: use Kafka's kafka-reassign-partitions",
				"set_config retention.ms 9 -> 5 warning records beyond the shorter retention",
			},
		},
		{
			name:      "more copies are kept",
			catalogue: one(t, 6, 2, ""),
			cluster:   Cluster{Brokers: 3, Topics: state(6, 3)},
			want:      []string{"kept 3 -> 2 because has replication 3 and the catalogue asks for 2; copies are never taken away"},
		},
		{
			name:      "drift is set back, foreign settings are left alone",
			catalogue: one(t, 6, 3, "retention.ms: 2000, max.message.bytes: 7"),
			cluster:   Cluster{Brokers: 3, Topics: state(6, 3, "*retention.ms=1000", "max.message.bytes=1048588", "*segment.bytes=42")},
			want:      []string{"set_config max.message.bytes 1048588 -> 7", "set_config retention.ms 1000 -> 2000"},
		},
		{
			name:      "retention for ever is not a short one",
			catalogue: one(t, 6, 3, "retention.ms: -1"),
			cluster:   Cluster{Brokers: 3, Topics: state(6, 3, "retention.ms=604800000")},
			want:      []string{"set_config retention.ms 604800000 -> -1"},
		},
		{
			name:      "from for ever to a day deletes",
			catalogue: one(t, 6, 3, "retention.ms: 86400000"),
			cluster:   Cluster{Brokers: 3, Topics: state(6, 3, "*retention.ms=-1")},
			want:      []string{"set_config retention.ms -1 -> 86400000 warning records beyond the shorter retention"},
		},
		{
			name:      "a topic that is not shown",
			catalogue: one(t, 6, 3, ""),
			cluster:   Cluster{Brokers: 3, Topics: map[string]TopicState{"a": {Err: errors.New("no access")}}},
			want:      []string{"refused because the cluster does not show it: no access"},
		},
		{
			name:      "too few brokers refuse the whole plan",
			catalogue: one(t, 6, 3, ""),
			cluster:   Cluster{Brokers: 1, MinInsync: 1, Topics: none},
			want:      []string{"create -> 6 partitions, replication 3"},
			refused:   "1 topic (first: a) shall have 3 copies of each partition, but only 1 broker is up; start the missing brokers, or give --cap-replication",
		},
		{
			name:      "also when the topic is there with fewer copies",
			catalogue: one(t, 6, 3, ""),
			cluster:   Cluster{Brokers: 2, MinInsync: 1, Topics: state(6, 2)},
			want:      []string{"refused 2 -> 3 because has replication 2"},
			refused:   "but only 2 brokers are up",
		},
		{
			name:      "a broker that is down does not matter to topics that have their copies",
			catalogue: one(t, 6, 3, "retention.ms: 5"),
			cluster:   Cluster{Brokers: 2, MinInsync: 2, Topics: state(6, 3, "retention.ms=5", "min.insync.replicas=2")},
			want:      []string{"ok"},
		},
		{
			name:      "nor under a cap",
			catalogue: one(t, 6, 3, "min.insync.replicas: 2"),
			cluster:   Cluster{Brokers: 1, MinInsync: 2, Topics: state(6, 3, "*min.insync.replicas=2")},
			options:   capped,
			want:      []string{"ok"},
		},
		{
			name:      "a cap lowers copies and what must be in step",
			catalogue: one(t, 6, 3, "min.insync.replicas: 2"),
			cluster:   Cluster{Brokers: 1, MinInsync: 1, Topics: none},
			options:   capped,
			want:      []string{"create -> 6 partitions, replication 1, min.insync.replicas=1"},
			warnings:  []string{"replication is capped to 1 copy on 1 topic, as only 1 broker is up"},
		},
		{
			name:      "two brokers can have two in step",
			catalogue: one(t, 6, 3, "min.insync.replicas: 2"),
			cluster:   Cluster{Brokers: 2, MinInsync: 2, Topics: none},
			options:   capped,
			want:      []string{"create -> 6 partitions, replication 2, min.insync.replicas=2"},
			warnings:  []string{"replication is capped to 2 copies on 1 topic, as only 2 brokers are up"},
		},
		{
			name:      "a cap meets a default that is too high",
			catalogue: one(t, 6, 3, ""),
			cluster:   Cluster{Brokers: 1, MinInsync: 2, Topics: none},
			options:   capped,
			want:      []string{"create -> 6 partitions, replication 1, min.insync.replicas=1"},
			warnings:  []string{"replication is capped"},
		},
		{
			name:      "a cap meets a default that is not known",
			catalogue: one(t, 6, 3, ""),
			cluster:   Cluster{Brokers: 1, Topics: none},
			options:   capped,
			want:      []string{"create -> 6 partitions, replication 1, min.insync.replicas=1"},
			warnings:  []string{"replication is capped"},
		},
		{
			name:      "a cap meets a default that fits",
			catalogue: one(t, 6, 3, ""),
			cluster:   Cluster{Brokers: 1, MinInsync: 1, Topics: none},
			options:   capped,
			want:      []string{"create -> 6 partitions, replication 1"},
			warnings:  []string{"replication is capped"},
		},
		{
			name:      "a cap on a cluster that is large enough does nothing",
			catalogue: one(t, 6, 3, ""),
			cluster:   Cluster{Brokers: 3, Topics: none},
			options:   capped,
			want:      []string{"create -> 6 partitions, replication 3"},
		},
		{
			name:      "a capped topic that cannot be written is repaired",
			catalogue: one(t, 6, 3, ""),
			cluster:   Cluster{Brokers: 1, MinInsync: 2, Topics: state(6, 1, "min.insync.replicas=2")},
			options:   capped,
			want:      []string{"set_config min.insync.replicas 2 -> 1"},
			warnings:  []string{"replication is capped"},
		},
		{
			name:      "a capped topic of before is left so",
			catalogue: one(t, 6, 3, "min.insync.replicas: 2"),
			cluster:   Cluster{Brokers: 1, MinInsync: 2, Topics: state(6, 1, "*min.insync.replicas=1")},
			options:   capped,
			want:      []string{"ok"},
			warnings:  []string{"replication is capped"},
		},
		{
			name:      "after the cluster grew, the explicit setting comes back",
			catalogue: one(t, 6, 3, "min.insync.replicas: 2"),
			cluster:   Cluster{Brokers: 3, MinInsync: 2, Topics: state(6, 3, "*min.insync.replicas=1")},
			want:      []string{"set_config min.insync.replicas 1 -> 2"},
		},
		{
			name:      "after the cluster grew, a leftover of the cap is pointed out",
			catalogue: one(t, 6, 3, ""),
			cluster:   Cluster{Brokers: 3, MinInsync: 2, Topics: state(6, 3, "*min.insync.replicas=1")},
			want:      []string{"ok"},
			warnings:  []string{"topic a has min.insync.replicas=1 of its own, below the brokers' default of 2"},
		},
		{
			name:      "a topic that no write would reach is pointed out",
			catalogue: one(t, 6, 1, ""),
			cluster:   Cluster{Brokers: 3, MinInsync: 2, Topics: none},
			want:      []string{"create -> 6 partitions, replication 1 warning the brokers ask for 2 copies in step"},
		},
		{
			name:      "no brokers at all",
			catalogue: one(t, 6, 1, ""),
			cluster:   Cluster{MinInsync: 1, Topics: none},
			options:   capped,
			want:      []string{"create -> 6 partitions, replication 1"},
			refused:   "only 0 brokers are up",
		},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			p := NewPlan(tc.catalogue, tc.cluster, tc.options)
			var got []string
			for _, a := range p.Actions {
				s := string(a.Kind)
				if a.Config != "" {
					s += " " + a.Config
				}
				if a.From != "" {
					s += " " + a.From
				}
				if a.To != "" {
					s += " -> " + a.To
				}
				if a.Reason != "" && a.Kind != SetConfig {
					s += " because " + a.Reason
				}
				if a.Warning != "" {
					s += " warning " + a.Warning
				}
				got = append(got, s)
			}
			require.Len(t, got, len(tc.want), "%q", got)
			for i, want := range tc.want {
				// Long sentences are given by their beginning; a warning that is not
				// asked for is a mistake.
				require.True(t, strings.HasPrefix(got[i], want), "got  %q\nwant %q", got[i], want)
				if !strings.Contains(want, "warning") {
					assert.NotContains(t, got[i], " warning ")
				}
			}
			if tc.refused == "" {
				assert.Empty(t, p.Refused)
			} else {
				assert.Contains(t, p.Refused, tc.refused)
				assert.False(t, p.Clean())
			}
			require.Len(t, p.Warnings, len(tc.warnings), "%q", p.Warnings)
			for i, want := range tc.warnings {
				assert.Contains(t, p.Warnings[i], want)
			}
			if p.Refused != "" {
				return
			}
			again := NewPlan(tc.catalogue, carriedOut(p, tc.cluster), tc.options)
			assert.Zero(t, again.Summary.Changes(), "a second plan still wants %+v", again.Actions)
		})
	}
}

func TestPlanNamesTheOverride(t *testing.T) {
	c, err := Default()
	require.NoError(t, err)
	cluster := Cluster{Brokers: 3, MinInsync: 2, Topics: map[string]TopicState{}}
	cluster = carriedOut(NewPlan(c, cluster, Options{}), cluster)
	dlq := cluster.Topics["dlq.events"]
	dlq.Configs[configRetentionMs] = ConfigState{Value: "604800000"}

	p := NewPlan(c, cluster, Options{})
	var changes []Action
	for _, a := range p.Actions {
		if a.Kind.Changes() {
			changes = append(changes, a)
		}
	}
	assert.Equal(t, []Action{{
		Topic: "dlq.events", Kind: SetConfig, Config: "retention.ms", From: "604800000", To: "2592000000", Reason: "override dead_letter_retention",
	}}, changes)
	assert.Equal(t, Summary{Topics: 47, SetConfig: 1, OK: 46}, p.Summary)
}

// A policy that changes to delete must travel with the retention it needs.
func TestPlanKeepsTheConsentLedger(t *testing.T) {
	c, err := Default()
	require.NoError(t, err)
	cluster := Cluster{Brokers: 3, MinInsync: 2, Topics: map[string]TopicState{}}
	cluster = carriedOut(NewPlan(c, cluster, Options{}), cluster)
	cluster.Topics["governance.permission.events"] = TopicState{Partitions: 6, Replication: 3, Configs: map[string]ConfigState{
		"cleanup.policy": {"compact", true}, "delete.retention.ms": {"31536000000", true}, "min.insync.replicas": {"2", true}, "retention.ms": {"604800000", false},
	}}
	p := NewPlan(c, cluster, Options{})
	var got []string
	for i, a := range p.Actions {
		if a.Kind == SetConfig {
			got = append(got, fmt.Sprintf("%s %s", a.Config, a.To))
			if len(got) == 2 {
				assert.Equal(t, a.Topic, p.Actions[i-1].Topic, "they must be neighbours, to go in one request")
			}
		}
	}
	assert.Equal(t, []string{"cleanup.policy delete", "retention.ms 315360000000"}, got)
}
