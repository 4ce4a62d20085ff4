// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package topics

import (
	"context"
	"fmt"
	"math"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The fake cluster keeps and shows any topic configuration it is given, but has
// defaults for a dozen only (min.cleanable.dirty.ratio has none) and checks no
// value. What it cannot show is left to the test against a real Kafka.

func connect(t *testing.T, addrs ...string) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(addrs...))
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return client
}

func fake(t *testing.T, brokers int, opts ...kfake.Opt) (*kfake.Cluster, *kgo.Client) {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(brokers)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c, connect(t, c.ListenAddrs()...)
}

// bounded is long enough for a busy machine; no test waits it out.
func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func plan(t *testing.T, client *kgo.Client, c *Catalogue, opt Options) *Plan {
	t.Helper()
	cluster, err := Observe(bounded(t), client, c)
	require.NoError(t, err)
	return NewPlan(c, cluster, opt)
}

func applied(t *testing.T, client *kgo.Client, p *Plan) *Plan {
	t.Helper()
	require.NoError(t, Apply(bounded(t), client, p, ApplyOptions{Timeout: time.Minute}))
	require.Zero(t, p.Summary.Failed, "%+v", p.Actions)
	return p
}

// lifeOfACluster goes with an empty cluster through all that plan and apply
// promise. It serves the fake cluster and a real one. The prefix is put before
// each topic name, so that nothing else in the cluster is touched.
func lifeOfACluster(t *testing.T, client *kgo.Client, brokers int, prefix string) {
	ctx := bounded(t)
	c, err := Default()
	require.NoError(t, err)
	for i := range c.base {
		c.base[i].Name = prefix + c.base[i].Name
	}
	for _, o := range c.overrides {
		for i := range o.Topics {
			o.Topics[i] = prefix + o.Topics[i]
		}
	}
	opt := Options{}
	copies := min(brokers, 3)
	if copies < 3 {
		p := plan(t, client, c, opt)
		require.Contains(t, p.Refused, "--cap-replication")
		require.ErrorContains(t, Apply(ctx, client, p, ApplyOptions{}), "applying the plan")
		opt.CapReplication = true
	}

	// Everything is created, and then nothing is left to do.
	p := plan(t, client, c, opt)
	require.Equal(t, Summary{Topics: 47, Create: 47}, p.Summary)
	require.Equal(t, brokers, p.Brokers)
	seen := 0
	require.NoError(t, Apply(ctx, client, p, ApplyOptions{Timeout: time.Minute, Progress: func(a Action) {
		seen++
		assert.Equal(t, Done, a.Result, "%s: %s", a.Topic, a.Error)
	}}))
	require.Equal(t, 47, seen)
	require.Equal(t, Summary{Topics: 47, Create: 47, Done: 47}, p.Summary)
	require.Equal(t, Summary{Topics: 47, OK: 47}, plan(t, client, c, opt).Summary)

	// The cluster itself says so, too.
	cluster, err := Observe(ctx, client, c)
	require.NoError(t, err)
	for _, want := range c.Topics() {
		got := cluster.Topics[want.Name]
		require.NoError(t, got.Err, want.Name)
		assert.Equal(t, want.Partitions, got.Partitions, want.Name)
		assert.EqualValues(t, copies, got.Replication, want.Name)
		for k, v := range want.Configs {
			if k == configMinInsync && copies < 2 {
				v = "1"
			}
			assert.Equal(t, v, got.Configs[k].Value, "%s %s", want.Name, k)
		}
	}

	// A second apply is a no-op.
	p = applied(t, client, plan(t, client, c, opt))
	require.Zero(t, p.Summary.Done)

	// Drift: a managed setting changed by hand comes back, together with one that
	// was taken off; a foreign one stays.
	_, err = kadm.NewClient(client).AlterTopicConfigs(ctx, []kadm.AlterConfig{
		{Op: kadm.SetConfig, Name: "retention.ms", Value: kadm.StringPtr("3600000")},
		{Op: kadm.DeleteConfig, Name: "max.message.bytes"},
		{Op: kadm.SetConfig, Name: "segment.ms", Value: kadm.StringPtr("1800000")},
	}, prefix+"dlq.events")
	require.NoError(t, err)
	waitFor(t, "the drift to show", func() bool {
		p = plan(t, client, c, opt)
		return p.Summary.SetConfig == 2
	})
	applied(t, client, p)
	require.Equal(t, Summary{Topics: 47, SetConfig: 2, OK: 46, Done: 2}, p.Summary)
	cluster, err = Observe(ctx, client, c)
	require.NoError(t, err)
	dlq := cluster.Topics[prefix+"dlq.events"].Configs
	assert.Equal(t, ConfigState{"2592000000", true}, dlq["retention.ms"])
	assert.Equal(t, ConfigState{"4194304", true}, dlq["max.message.bytes"])
	assert.Equal(t, ConfigState{"1800000", true}, dlq["segment.ms"])

	// A site's catalogue: more partitions, a compacted topic that must not grow,
	// fewer partitions than there are, and a policy changed.
	site, err := Load("site.yaml", []byte(strings.ReplaceAll(`
domains:
  - name: site
    topics:
      - {name: raw.gps, partitions: 30, replication: 1, purpose: grows}
      - {name: raw.sensor, partitions: 6, replication: 1, purpose: is kept}
      - {name: state.latest, partitions: 24, replication: 1, configs: {cleanup.policy: compact}, purpose: is refused}
      - {name: governance.data.products, partitions: 3, replication: 1, configs: {cleanup.policy: delete, retention.ms: -1}, purpose: changes its policy}
`, "{name: ", "{name: "+prefix)))
	require.NoError(t, err)
	p = applied(t, client, plan(t, client, site, opt))
	assert.Equal(t, 1, p.Summary.AddPartitions)
	assert.Equal(t, 1, p.Summary.Refused)
	assert.Equal(t, 2, p.Summary.SetConfig)
	assert.Equal(t, 3, p.Summary.Done)
	assert.False(t, p.Clean())
	cluster, err = Observe(ctx, client, site)
	require.NoError(t, err)
	assert.EqualValues(t, 30, cluster.Topics[prefix+"raw.gps"].Partitions)
	assert.EqualValues(t, 24, cluster.Topics[prefix+"raw.sensor"].Partitions)
	assert.EqualValues(t, 12, cluster.Topics[prefix+"state.latest"].Partitions)
	assert.Equal(t, "delete", cluster.Topics[prefix+"governance.data.products"].Configs["cleanup.policy"].Value)

	opt.ForceCompactedPartitions = true
	p = applied(t, client, plan(t, client, site, opt))
	assert.Equal(t, 1, p.Summary.Done)
	p = plan(t, client, site, opt)
	assert.Zero(t, p.Summary.Changes(), "%+v", p.Actions)
	assert.True(t, p.Clean())
}

// waitFor polls until the cluster shows what another client did.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("waited a minute for %s", what)
		case <-tick.C:
		}
	}
}

func TestFakeCluster(t *testing.T) {
	for _, brokers := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d brokers", brokers), func(t *testing.T) {
			_, client := fake(t, brokers)
			lifeOfACluster(t, client, brokers, "")
		})
	}
}

// On a single broker that asks for two copies in step, a capped topic must be
// writable even so.
func TestCapMakesTopicsWritable(t *testing.T) {
	_, client := fake(t, 1, kfake.BrokerConfigs(map[string]string{configMinInsync: "2"}))
	c, err := Default()
	require.NoError(t, err)
	cluster, err := Observe(bounded(t), client, c)
	require.NoError(t, err)
	require.Equal(t, 2, cluster.MinInsync)
	p := applied(t, client, NewPlan(c, cluster, Options{CapReplication: true}))
	require.NotEmpty(t, p.Warnings)
	cluster, err = Observe(bounded(t), client, c)
	require.NoError(t, err)
	for name, s := range cluster.Topics {
		assert.Equal(t, "1", s.Configs[configMinInsync].Value, name)
	}
	require.Zero(t, plan(t, client, c, Options{CapReplication: true}).Summary.Changes())
}

func TestObserveCreatesNothing(t *testing.T) {
	_, client := fake(t, 1, kfake.AllowAutoTopicCreation())
	c, err := Default()
	require.NoError(t, err)
	plan(t, client, c, Options{})
	all, err := kadm.NewClient(client).ListTopicsWithInternal(bounded(t))
	require.NoError(t, err)
	require.Empty(t, all.Names())
}

// One topic that the brokers refuse does not hold up the others, and shows with
// the brokers' own words.
func TestApplyGoesOnAfterAFailure(t *testing.T) {
	cluster, client := fake(t, 3)
	c, err := Default()
	require.NoError(t, err)
	cluster.ControlKey(int16(kmsg.CreateTopics), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		r := req.(*kmsg.CreateTopicsRequest)
		if len(r.Topics) != 1 || r.Topics[0].Topic != "raw.video2d.meta" {
			return nil, nil, false
		}
		resp := r.ResponseKind().(*kmsg.CreateTopicsResponse)
		topic := kmsg.NewCreateTopicsResponseTopic()
		topic.Topic = r.Topics[0].Topic
		topic.ErrorCode = kerr.PolicyViolation.Code
		topic.ErrorMessage = kmsg.StringPtr("video is not welcome here")
		resp.Topics = append(resp.Topics, topic)
		return resp, nil, true
	})
	p := plan(t, client, c, Options{})
	require.NoError(t, Apply(bounded(t), client, p, ApplyOptions{}))
	assert.Equal(t, 46, p.Summary.Done)
	assert.Equal(t, 1, p.Summary.Failed)
	assert.False(t, p.Clean())
	for _, a := range p.Actions {
		if a.Topic == "raw.video2d.meta" {
			assert.Equal(t, Failed, a.Result)
			assert.Contains(t, a.Error, "creating the topic: POLICY_VIOLATION")
			assert.Contains(t, a.Error, "(video is not welcome here)")
		}
	}
	p = plan(t, client, c, Options{})
	assert.Equal(t, Summary{Topics: 47, Create: 1, OK: 46}, p.Summary)
}

func TestApplyWhenATopicCameIntoBeingMeanwhile(t *testing.T) {
	_, client := fake(t, 1)
	c := one(t, 1, 1, "")
	p := plan(t, client, c, Options{})
	_, err := kadm.NewClient(client).CreateTopic(bounded(t), 3, 1, nil, "a")
	require.NoError(t, err)
	require.NoError(t, Apply(bounded(t), client, p, ApplyOptions{}))
	require.Equal(t, 1, p.Summary.Failed)
	require.Contains(t, p.Actions[0].Error, "plan again")
}

func TestApplyStopsWithItsContext(t *testing.T) {
	_, client := fake(t, 3)
	c, err := Default()
	require.NoError(t, err)
	p := plan(t, client, c, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err = Apply(ctx, client, p, ApplyOptions{Progress: func(Action) {
		if n++; n == 5 {
			cancel()
		}
	}})
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, 5, p.Summary.Done)
	assert.Equal(t, 42, p.Summary.Failed, "what was not tried is reported, too")
}

// The changes of one topic's configuration go in one request, so that a topic
// never stands with a new policy and the old retention.
func TestApplySetsConfigurationAtOnce(t *testing.T) {
	cluster, client := fake(t, 1)
	_, err := kadm.NewClient(client).CreateTopic(bounded(t), 1, 1, map[string]*string{"cleanup.policy": kadm.StringPtr("compact")}, "a")
	require.NoError(t, err)
	var requests []int
	cluster.ControlKey(int16(kmsg.IncrementalAlterConfigs), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		for _, r := range req.(*kmsg.IncrementalAlterConfigsRequest).Resources {
			requests = append(requests, len(r.Configs))
		}
		return nil, nil, false
	})
	p := applied(t, client, plan(t, client, one(t, 1, 1, "cleanup.policy: delete, retention.ms: -1"), Options{}))
	assert.Equal(t, 2, p.Summary.Done)
	assert.Equal(t, []int{2}, requests)
}

// lagging makes one broker of the cluster say that it knows of no topic, for so
// many requests.
func lagging(t *testing.T, cluster *kfake.Cluster, requests int64) *atomic.Int64 {
	t.Helper()
	left := &atomic.Int64{}
	left.Store(requests)
	addrs := cluster.ListenAddrs()
	cluster.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		r := req.(*kmsg.MetadataRequest)
		if cluster.CurrentNode() != 1 || len(r.Topics) == 0 || left.Add(-1) < 0 {
			return nil, nil, false
		}
		resp := r.ResponseKind().(*kmsg.MetadataResponse)
		for i, addr := range addrs {
			host, port, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err, true
			}
			b := kmsg.NewMetadataResponseBroker()
			b.NodeID, b.Host = int32(i), host
			n, err := strconv.Atoi(port)
			if err != nil {
				return nil, err, true
			}
			b.Port = int32(n)
			resp.Brokers = append(resp.Brokers, b)
		}
		for _, asked := range r.Topics {
			topic := kmsg.NewMetadataResponseTopic()
			topic.Topic = asked.Topic
			topic.ErrorCode = kerr.UnknownTopicOrPartition.Code
			resp.Topics = append(resp.Topics, topic)
		}
		return resp, nil, true
	})
	return left
}

func TestApplyWaitsForEveryBroker(t *testing.T) {
	cluster, client := fake(t, 3)
	c, err := Default()
	require.NoError(t, err)
	p := plan(t, client, c, Options{})
	left := lagging(t, cluster, 4)
	applied(t, client, p)
	require.Negative(t, left.Load(), "the broker that lags must have been asked until it knew")
}

func TestApplySaysWhichBrokerDoesNotFollow(t *testing.T) {
	cluster, client := fake(t, 3)
	c, err := Default()
	require.NoError(t, err)
	p := plan(t, client, c, Options{})
	lagging(t, cluster, math.MaxInt64)
	err = Apply(bounded(t), client, p, ApplyOptions{Timeout: 5 * time.Second})
	require.ErrorContains(t, err, "waiting for the cluster to show what was applied (still missing: create of topic raw.gps")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, 47, p.Summary.Done)
}

func TestObserveWithoutKafka(t *testing.T) {
	cluster, client := fake(t, 1)
	cluster.Close()
	c, err := Default()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = Observe(ctx, client, c)
	require.ErrorContains(t, err, "asking for the cluster's topics")
}
