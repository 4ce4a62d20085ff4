// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package topics

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Cluster is what Observe saw of a Kafka cluster.
type Cluster struct {
	ID        string
	Brokers   int // brokers that are up
	MinInsync int // the brokers' default of min.insync.replicas, 0 when they did not tell
	Topics    map[string]TopicState

	nodes []int32 // ids of the brokers
}

// TopicState is one existing topic.
type TopicState struct {
	Partitions  int32
	Replication int16 // of the partition that has the fewest replicas
	Configs     map[string]ConfigState
	Err         error // set when the cluster would not show the topic
}

// ConfigState is the value a configuration has in effect.
type ConfigState struct {
	Value string
	Own   bool // set on the topic itself, not inherited from the brokers
}

// Options widen what a plan may do.
type Options struct {
	// CapReplication lets topics have fewer replicas than the catalogue wants
	// when the cluster has fewer brokers, with min.insync.replicas lowered to fit.
	CapReplication bool
	// ForceCompactedPartitions lets compacted topics grow although records of
	// a key then lie in two partitions.
	ForceCompactedPartitions bool
}

// Kind says what an Action does.
type Kind string

// The kinds of action.
const (
	Create        Kind = "create"
	AddPartitions Kind = "add_partitions"
	SetConfig     Kind = "set_config"
	Kept          Kind = "kept"    // differs from the catalogue and is left so on purpose
	OK            Kind = "ok"      // as the catalogue says
	Refused       Kind = "refused" // differs, and only a person can put it right
)

// Changes tells whether applying an action of this kind changes the cluster.
func (k Kind) Changes() bool { return k == Create || k == AddPartitions || k == SetConfig }

// Result says what became of an action that was applied.
type Result string

// The results.
const (
	Done   Result = "done"
	Failed Result = "failed"
)

// Action is one step of a plan, or the statement that none is needed. A topic
// has one action or more.
type Action struct {
	Topic  string `json:"topic"`
	Kind   Kind   `json:"action"`
	Config string `json:"config,omitempty"` // set_config: its name
	From   string `json:"from,omitempty"`
	To     string `json:"to,omitempty"`
	Reason string `json:"reason,omitempty"` // kept, refused: why; set_config by an override: its name

	Warning string `json:"warning,omitempty"` // what to know before applying

	Partitions  int32             `json:"partitions,omitempty"`  // create, add_partitions: the number afterwards
	Replication int16             `json:"replication,omitempty"` // create
	Configs     map[string]string `json:"configs,omitempty"`     // create

	Result Result `json:"result,omitempty"` // after Apply, for actions that change something
	Error  string `json:"error,omitempty"`  // after Apply, with the result failed
}

// Plan is the difference between a catalogue and a cluster.
type Plan struct {
	ClusterID string `json:"cluster_id,omitempty"`
	Brokers   int    `json:"brokers"`
	// Refused says why nothing of the plan may be applied. Empty when it may.
	Refused  string   `json:"refused,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
	Actions  []Action `json:"actions"`
	Summary  Summary  `json:"summary"`

	catalogue *Catalogue
	options   Options
}

// Summary counts the actions of a plan; topics are counted once in Topics.
type Summary struct {
	Topics        int `json:"topics"`
	Create        int `json:"create"`
	AddPartitions int `json:"add_partitions"`
	SetConfig     int `json:"set_config"`
	Kept          int `json:"kept"`
	OK            int `json:"ok"`
	Refused       int `json:"refused"`
	Done          int `json:"done"`
	Failed        int `json:"failed"`
}

// Changes is the number of actions that change the cluster when applied.
func (s Summary) Changes() int { return s.Create + s.AddPartitions + s.SetConfig }

// Clean tells whether nothing was refused and nothing failed.
func (p *Plan) Clean() bool {
	return p.Refused == "" && p.Summary.Refused == 0 && p.Summary.Failed == 0
}

func (p *Plan) summarise() {
	s := Summary{Topics: p.Summary.Topics}
	for _, a := range p.Actions {
		switch a.Kind {
		case Create:
			s.Create++
		case AddPartitions:
			s.AddPartitions++
		case SetConfig:
			s.SetConfig++
		case Kept:
			s.Kept++
		case OK:
			s.OK++
		case Refused:
			s.Refused++
		}
		switch a.Result {
		case Done:
			s.Done++
		case Failed:
			s.Failed++
		}
	}
	p.Summary = s
}

// NewPlan compares a catalogue with what was observed of a cluster. It asks
// nothing of the cluster and changes nothing.
func NewPlan(c *Catalogue, cluster Cluster, opt Options) *Plan {
	topics := c.Topics()
	p := &Plan{ClusterID: cluster.ID, Brokers: cluster.Brokers, catalogue: c, options: opt}
	p.Summary.Topics = len(topics)

	capped := 0
	for _, t := range topics {
		copies := t.Replication
		state, exists := cluster.Topics[t.Name]
		if int(copies) > cluster.Brokers && cluster.Brokers > 0 && opt.CapReplication {
			copies = int16(cluster.Brokers)
			if !exists || state.Err == nil && state.Replication < t.Replication {
				capped++
			}
		}
		if exists {
			p.Actions = append(p.Actions, p.existing(t, copies, state, cluster)...)
		} else {
			p.Actions = append(p.Actions, p.missing(t, copies, cluster))
		}
	}
	if short := p.shortOfBrokers(topics, cluster); short != "" {
		p.Refused = short
	}
	if capped > 0 {
		p.Warnings = append(p.Warnings, fmt.Sprintf(
			"replication is capped to %s on %s, as only %s up: %s",
			plural(cluster.Brokers, "copy", "copies"), plural(capped, "topic", "topics"),
			plural(cluster.Brokers, "broker is", "brokers are"), cappedRisk(cluster.Brokers)))
	}
	p.summarise()
	return p
}

func cappedRisk(brokers int) string {
	if brokers <= 1 {
		return "losing the broker's disk loses the data"
	}
	return "writing stops, or data is lost, sooner than the catalogue means it to"
}

// shortOfBrokers says why the whole plan is refused when the cluster is too
// small for what would have to be created or is missing copies.
func (p *Plan) shortOfBrokers(topics []Topic, cluster Cluster) string {
	if p.options.CapReplication && cluster.Brokers > 0 {
		return ""
	}
	var short []Topic
	for _, t := range topics {
		state, exists := cluster.Topics[t.Name]
		if int(t.Replication) > cluster.Brokers && (!exists || state.Err == nil && state.Replication < t.Replication) {
			short = append(short, t)
		}
	}
	if len(short) == 0 {
		return ""
	}
	return fmt.Sprintf("%s (first: %s) shall have %d copies of each partition, but only %s up; start the missing brokers, or give --cap-replication to accept fewer copies (for tests and single machines)",
		plural(len(short), "topic", "topics"), short[0].Name, short[0].Replication, plural(cluster.Brokers, "broker is", "brokers are"))
}

// missing plans a topic that the cluster does not have and that gets the given
// number of copies, which is the catalogue's or a capped one.
func (p *Plan) missing(t Topic, copies int16, cluster Cluster) Action {
	a := Action{Topic: t.Name, Kind: Create, Partitions: t.Partitions, Replication: copies, Configs: t.Configs}
	own, explicit := minInsync(t)
	inherited := !explicit && cluster.MinInsync > int(copies)
	unknown := !explicit && cluster.MinInsync == 0
	switch {
	case explicit && own > int(copies),
		copies < t.Replication && (inherited || unknown):
		a.Configs[configMinInsync] = itoa(copies)
	case inherited:
		a.Warning = fmt.Sprintf("the brokers ask for %d copies in step (min.insync.replicas) and the topic has %d: no write with acks=all will succeed", cluster.MinInsync, copies)
	}
	a.To = describe(a)
	return a
}

// existing plans a topic that the cluster has and that shall have the given
// number of copies at least, which is the catalogue's or a capped one.
func (p *Plan) existing(t Topic, copies int16, state TopicState, cluster Cluster) []Action {
	if state.Err != nil {
		return []Action{{Topic: t.Name, Kind: Refused, Reason: fmt.Sprintf("the cluster does not show it: %v", state.Err)}}
	}
	var out []Action
	add := func(a Action) {
		a.Topic = t.Name
		out = append(out, a)
	}

	switch {
	case state.Partitions > t.Partitions:
		add(Action{Kind: Kept, From: itoa(state.Partitions), To: itoa(t.Partitions),
			Reason: fmt.Sprintf("has %d partitions and the catalogue asks for %d; taking partitions away would delete their data", state.Partitions, t.Partitions)})
	case state.Partitions < t.Partitions:
		a := Action{Kind: AddPartitions, From: itoa(state.Partitions), To: itoa(t.Partitions), Partitions: t.Partitions,
			Warning: "keys move to other partitions: around this moment events of one device lie in two partitions and may be read out of order"}
		policy, managed := t.Configs[configCleanupPolicy]
		if !managed {
			policy = state.Configs[configCleanupPolicy].Value
		}
		if compacted(policy) {
			a.Warning = "records written before stay in their old partition, where compaction never removes them: readers that load the topic may take an old record for the newest"
			if !p.options.ForceCompactedPartitions {
				a.Kind, a.Partitions, a.Warning = Refused, 0, ""
				a.Reason = "it is compacted, and with more partitions the old record of a key stays where it was while new ones go elsewhere, so that compaction never removes the old one; copy it into a new topic, or give --force-compacted-partitions (safe while the topic is empty)"
			}
		}
		add(a)
	}

	switch {
	case state.Replication > t.Replication:
		add(Action{Kind: Kept, From: itoa(state.Replication), To: itoa(t.Replication),
			Reason: fmt.Sprintf("has replication %d and the catalogue asks for %d; copies are never taken away", state.Replication, t.Replication)})
	case state.Replication < copies:
		add(Action{Kind: Refused, From: itoa(state.Replication), To: itoa(copies),
			Reason: fmt.Sprintf("has replication %d and the catalogue asks for %d; more copies need a partition reassignment, which moves data between brokers: use Kafka's kafka-reassign-partitions", state.Replication, copies)})
	}

	for _, name := range slices.Sorted(maps.Keys(t.Configs)) {
		want, have := t.Configs[name], state.Configs[name]
		if name == configMinInsync {
			own, _ := minInsync(t)
			if own > int(state.Replication) {
				if !p.options.CapReplication {
					continue // it would stop every write; the refusal of the replication stands above
				}
				want = itoa(state.Replication)
			}
		}
		if equalValues(want, have.Value) {
			continue
		}
		add(Action{Kind: SetConfig, Config: name, From: have.Value, To: want, Reason: p.overrideOf(t, name), Warning: dataLoss(name, have.Value, want)})
	}
	if _, explicit := t.Configs[configMinInsync]; !explicit {
		have, err := strconv.Atoi(state.Configs[configMinInsync].Value)
		switch {
		case err != nil:
		case have > int(state.Replication) && p.options.CapReplication:
			add(Action{Kind: SetConfig, Config: configMinInsync, From: itoa(have), To: itoa(state.Replication),
				Reason: "no write with acks=all would succeed otherwise"})
		case state.Configs[configMinInsync].Own && have < cluster.MinInsync && int(state.Replication) >= cluster.MinInsync:
			p.Warnings = append(p.Warnings, fmt.Sprintf(
				"topic %s has min.insync.replicas=%d of its own, below the brokers' default of %d, perhaps from an earlier --cap-replication; remove it with: kafka-configs --alter --topic %s --delete-config min.insync.replicas",
				t.Name, have, cluster.MinInsync, t.Name))
		}
	}
	if len(out) == 0 {
		add(Action{Kind: OK})
	}
	return out
}

// overrideOf names the override that sets a topic's configuration, if one does.
func (p *Plan) overrideOf(t Topic, config string) string {
	for _, o := range p.catalogue.overrides {
		if _, sets := o.Configs[config]; sets && slices.Contains(o.Topics, t.Name) {
			return "override " + o.Name
		}
	}
	return ""
}

// dataLoss warns of configuration changes after which Kafka removes records.
func dataLoss(name, from, to string) string {
	switch name {
	case configCleanupPolicy:
		switch {
		case compacted(to) && !compacted(from):
			return "compaction will remove all but the newest record of each key"
		case !compacted(to) && compacted(from):
			return "records older than retention.ms will expire from now on"
		}
	case configRetentionMs, configRetentionBytes:
		f, err1 := strconv.ParseInt(from, 10, 64)
		t, err2 := strconv.ParseInt(to, 10, 64)
		if err1 == nil && err2 == nil && t >= 0 && (f < 0 || t < f) {
			return "records beyond the shorter retention will be deleted"
		}
	}
	return ""
}

// equalValues compares two configuration values as Kafka reads them: numbers by
// value, lists without regard to order and blanks.
func equalValues(a, b string) bool {
	if a == b {
		return true
	}
	if x, err := strconv.ParseInt(a, 10, 64); err == nil {
		y, err := strconv.ParseInt(b, 10, 64)
		return err == nil && x == y
	}
	if x, err := strconv.ParseFloat(a, 64); err == nil {
		y, err := strconv.ParseFloat(b, 64)
		return err == nil && x == y
	}
	return slices.Equal(elements(a), elements(b))
}

func elements(list string) []string {
	var out []string
	for e := range strings.SplitSeq(list, ",") {
		if e = strings.TrimSpace(e); e != "" {
			out = append(out, e)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func compacted(policy string) bool { return slices.Contains(elements(policy), "compact") }

// minInsync returns the topic's own min.insync.replicas; Load made sure that it
// is a number.
func minInsync(t Topic) (n int, explicit bool) {
	v, ok := t.Configs[configMinInsync]
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(v)
	return n, err == nil
}

// describe puts a creation into words.
func describe(a Action) string {
	parts := []string{plural(int(a.Partitions), "partition", "partitions"), "replication " + itoa(a.Replication)}
	for _, k := range slices.Sorted(maps.Keys(a.Configs)) {
		parts = append(parts, k+"="+a.Configs[k])
	}
	return strings.Join(parts, ", ")
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

func itoa[T ~int | ~int16 | ~int32](n T) string { return strconv.Itoa(int(n)) }
