// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package topics

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// settlePause is how long Apply waits between two looks at the cluster while
// its changes spread to all brokers.
const settlePause = 50 * time.Millisecond

// Observe looks up the topics of a catalogue in a cluster. It never creates a
// topic, whatever the brokers' auto-creation setting.
func Observe(ctx context.Context, client *kgo.Client, c *Catalogue) (Cluster, error) {
	out, err := observeThrough(ctx, client, c)
	if err != nil {
		return Cluster{}, err
	}
	out.MinInsync = brokerMinInsync(ctx, kadm.NewClient(client), out.nodes)
	return out, nil
}

// observeThrough asks whichever broker the client picks, or one broker: each
// learns of changes in its own time. The requests are not made through kadm,
// because it cannot ask one broker and gives metadata that may be five seconds
// old.
func observeThrough(ctx context.Context, broker kmsg.Requestor, c *Catalogue) (Cluster, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.AllowAutoTopicCreation = false
	for _, t := range c.base {
		topic := kmsg.NewMetadataRequestTopic()
		topic.Topic = kmsg.StringPtr(t.Name)
		req.Topics = append(req.Topics, topic)
	}
	meta, err := req.RequestWith(ctx, broker)
	if err != nil {
		return Cluster{}, fmt.Errorf("asking for the cluster's topics: %w", err)
	}
	out := Cluster{Brokers: len(meta.Brokers), Topics: map[string]TopicState{}}
	if meta.ClusterID != nil {
		out.ID = *meta.ClusterID
	}
	for _, b := range meta.Brokers {
		out.nodes = append(out.nodes, b.NodeID)
	}

	describe := kmsg.NewPtrDescribeConfigsRequest()
	for _, d := range meta.Topics {
		if d.Topic == nil {
			continue
		}
		switch err := kerr.ErrorForCode(d.ErrorCode); {
		case errors.Is(err, kerr.UnknownTopicOrPartition):
		case err != nil:
			out.Topics[*d.Topic] = TopicState{Err: err}
		default:
			s := TopicState{Partitions: int32(len(d.Partitions)), Configs: map[string]ConfigState{}}
			for _, p := range d.Partitions {
				if n := int16(len(p.Replicas)); s.Replication == 0 || n < s.Replication {
					s.Replication = n
				}
			}
			out.Topics[*d.Topic] = s
			r := kmsg.NewDescribeConfigsRequestResource()
			r.ResourceType = kmsg.ConfigResourceTypeTopic
			r.ResourceName = *d.Topic
			describe.Resources = append(describe.Resources, r)
		}
	}
	if len(describe.Resources) == 0 {
		return out, nil
	}
	described, err := describe.RequestWith(ctx, broker)
	if err != nil {
		return Cluster{}, fmt.Errorf("asking for the topics' configuration: %w", err)
	}
	for _, r := range described.Resources {
		s := out.Topics[r.ResourceName]
		if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
			s.Err = fmt.Errorf("asking for its configuration: %w", withMessage(err, r.ErrorMessage))
		}
		for _, cfg := range r.Configs {
			value := ""
			if cfg.Value != nil {
				value = *cfg.Value
			}
			s.Configs[cfg.Name] = ConfigState{Value: value, Own: cfg.Source == kmsg.ConfigSourceDynamicTopicConfig}
		}
		out.Topics[r.ResourceName] = s
	}
	return out, nil
}

// brokerMinInsync returns the highest default of min.insync.replicas among the
// brokers, 0 when none tells: reading broker settings may not be allowed to us,
// and a plan can do without.
func brokerMinInsync(ctx context.Context, adm *kadm.Client, brokers []int32) int {
	described, err := adm.DescribeBrokerConfigs(ctx, brokers...)
	var some *kadm.ShardErrors
	if err != nil && !errors.As(err, &some) {
		return 0
	}
	highest := 0
	for _, r := range described {
		for _, cfg := range r.Configs {
			if n, err := strconv.Atoi(cfg.MaybeValue()); err == nil && cfg.Key == configMinInsync {
				highest = max(highest, n)
			}
		}
	}
	return highest
}

// ApplyOptions say how Apply goes about it.
type ApplyOptions struct {
	// Timeout bounds each request, and the wait until the cluster shows the
	// changes. 0 means 15 seconds.
	Timeout time.Duration
	// Progress, when set, is called after each change with its result.
	Progress func(Action)
}

// Apply carries out a plan, topic by topic, and records the result of each
// change in the plan's actions. One failing change does not hold up the others.
// Afterwards it waits until the cluster shows what was done, so that producers
// can start at once and a plan made next finds nothing left to do.
//
// The error is about the run as a whole (the plan is refused, the context
// ended, the changes did not show in time); failed changes are in the plan.
func Apply(ctx context.Context, client *kgo.Client, p *Plan, opt ApplyOptions) error {
	if p.Refused != "" {
		return fmt.Errorf("applying the plan: %s", p.Refused)
	}
	if opt.Timeout <= 0 {
		opt.Timeout = 15 * time.Second
	}
	adm := kadm.NewClient(client)
	finish := func(i int, err error) {
		a := &p.Actions[i]
		a.Result = Done
		if err != nil {
			a.Result, a.Error = Failed, err.Error()
		}
		if opt.Progress != nil {
			opt.Progress(*a)
		}
	}
	for i := 0; i < len(p.Actions); i++ {
		a := p.Actions[i]
		if !a.Kind.Changes() {
			continue
		}
		// A topic's configurations go in one request: Kafka takes all of them or
		// none, so that a policy is never in force without the retention it needs.
		last := i
		for a.Kind == SetConfig && last+1 < len(p.Actions) && p.Actions[last+1].Topic == a.Topic && p.Actions[last+1].Kind == SetConfig {
			last++
		}
		err := ctx.Err()
		if err == nil {
			err = apply(ctx, adm, p.Actions[i:last+1], opt.Timeout)
		}
		for ; i <= last; i++ {
			finish(i, err)
		}
		i--
	}
	p.summarise()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("applying the plan: %w", err)
	}
	if p.Summary.Done == 0 {
		return nil
	}
	return settle(ctx, client, p, opt.Timeout)
}

// apply makes one request: a creation, a growth, or all configurations of one
// topic.
func apply(ctx context.Context, adm *kadm.Client, actions []Action, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	switch a := actions[0]; a.Kind {
	case Create:
		configs := make(map[string]*string, len(a.Configs))
		for k, v := range a.Configs {
			configs[k] = kadm.StringPtr(v)
		}
		r, err := adm.CreateTopic(ctx, a.Partitions, a.Replication, configs, a.Topic)
		if errors.Is(err, kerr.TopicAlreadyExists) {
			return fmt.Errorf("creating the topic: it has come into being since the plan was made; plan again: %w", err)
		}
		if err != nil {
			return fmt.Errorf("creating the topic: %w", withMessage(err, &r.ErrMessage))
		}
	case AddPartitions:
		rs, err := adm.UpdatePartitions(ctx, int(a.Partitions), a.Topic)
		if err != nil {
			return fmt.Errorf("adding partitions: %w", err)
		}
		if r, err := rs.On(a.Topic, nil); err != nil || r.Err != nil {
			return fmt.Errorf("adding partitions: %w", withMessage(errors.Join(err, r.Err), &r.ErrMessage))
		}
	case SetConfig:
		changes := make([]kadm.AlterConfig, 0, len(actions))
		for _, c := range actions {
			changes = append(changes, kadm.AlterConfig{Op: kadm.SetConfig, Name: c.Config, Value: kadm.StringPtr(c.To)})
		}
		rs, err := adm.AlterTopicConfigs(ctx, changes, a.Topic)
		if err != nil {
			return fmt.Errorf("setting configuration: %w", err)
		}
		if r, err := rs.On(a.Topic, nil); err != nil || r.Err != nil {
			return fmt.Errorf("setting configuration: %w", withMessage(errors.Join(err, r.Err), &r.ErrMessage))
		}
	}
	return nil
}

// settle waits until every broker shows every change that was done. A broker
// that lags would have producers told that a topic does not exist, and the next
// plan create it again.
func settle(ctx context.Context, client *kgo.Client, p *Plan, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tick := time.NewTicker(settlePause)
	defer tick.Stop()
	for left := ""; ; {
		now := p.notShown(ctx, client)
		if now == "" {
			return nil
		}
		if left == "" || ctx.Err() == nil { // when time runs out while asking, the answer before says more
			left = now
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the cluster to show what was applied (still missing: %s): %w", left, ctx.Err())
		case <-tick.C:
		}
	}
}

// notShown names something that was done and that a broker does not show yet,
// or nothing.
func (p *Plan) notShown(ctx context.Context, client *kgo.Client) string {
	type change struct {
		topic, config string
		kind          Kind
	}
	done := map[change]bool{}
	for _, a := range p.Actions {
		if a.Result != Done {
			continue
		}
		done[change{a.Topic, a.Config, a.Kind}] = true
		if a.Kind == Create { // seen half-way, it looks like a topic to change
			done[change{a.Topic, "", AddPartitions}] = true
			for k := range a.Configs {
				done[change{a.Topic, k, SetConfig}] = true
			}
		}
	}
	seen, err := observeThrough(ctx, client, p.catalogue)
	if err != nil {
		return err.Error()
	}
	for _, node := range seen.nodes {
		cluster, err := observeThrough(ctx, client.Broker(int(node)), p.catalogue)
		if err != nil {
			return fmt.Sprintf("the answer of broker %d: %v", node, err)
		}
		for _, a := range NewPlan(p.catalogue, cluster, p.options).Actions {
			if done[change{a.Topic, a.Config, a.Kind}] {
				return fmt.Sprintf("%s of topic %s on broker %d", a.Kind, a.Topic, node)
			}
		}
	}
	return ""
}

// withMessage adds the broker's own words to an error code, where it gave any.
func withMessage(err error, message *string) error {
	if message == nil || *message == "" {
		return err
	}
	return fmt.Errorf("%w (%s)", err, *message)
}
