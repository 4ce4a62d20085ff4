// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

// Package topics keeps the Kafka topics of a cluster as the topic catalogue
// says. Load reads a catalogue, Observe looks at a cluster, NewPlan compares
// the two without side effects, and Apply carries a plan out. Nothing here
// deletes a topic, takes partitions away or moves replicas.
package topics

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/dealiot/dealiot-connect/resources"
)

// Names of the topic configurations that planning itself has to understand.
const (
	configCleanupPolicy  = "cleanup.policy"
	configMinInsync      = "min.insync.replicas"
	configRetentionMs    = "retention.ms"
	configRetentionBytes = "retention.bytes"
)

// Topic is one topic as it shall be.
type Topic struct {
	Name        string            `json:"name"`
	Domain      string            `json:"domain"`
	Partitions  int32             `json:"partitions"`  // at least 1
	Replication int16             `json:"replication"` // copies of each partition, at least 1
	Configs     map[string]string `json:"configs"`     // topic-level configuration; what is absent is left as the cluster has it
	Purpose     string            `json:"purpose"`
	Overrides   []string          `json:"overrides,omitempty"` // names of the overrides laid over Configs
}

// Override is a named deviation from the platform's settings.
type Override struct {
	Name    string             `json:"name"`
	Topics  []string           `json:"topics"`
	Configs map[string]*string `json:"configs"` // nil takes the configuration out, so that the cluster's value is left alone
	Reason  string             `json:"reason"`
}

// Catalogue is a checked list of topics and the overrides laid over them.
type Catalogue struct {
	base      []Topic
	overrides []Override
}

// Topics returns the topics in the catalogue's order with the overrides
// applied. The caller owns the result.
func (c *Catalogue) Topics() []Topic {
	out := make([]Topic, 0, len(c.base))
	for _, t := range c.base {
		t.Configs = maps.Clone(t.Configs)
		for _, o := range c.overrides {
			if !slices.Contains(o.Topics, t.Name) {
				continue
			}
			t.Overrides = append(t.Overrides, o.Name)
			for k, v := range o.Configs {
				if v == nil {
					delete(t.Configs, k)
				} else {
					t.Configs[k] = *v
				}
			}
		}
		out = append(out, t)
	}
	return out
}

// Overrides returns the catalogue's overrides in their order.
func (c *Catalogue) Overrides() []Override { return slices.Clone(c.overrides) }

// Default returns the catalogue that is built into the binary.
func Default() (*Catalogue, error) { return Load("topics.yaml", resources.Topics) }

// Load reads a catalogue from YAML (the form is described at the head of
// resources/topics.yaml). The name is used in errors only. Everything that is
// wrong is reported at once, each with its line and field.
func Load(name string, data []byte) (*Catalogue, error) {
	r := &reader{name: name}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("parsing topic catalogue %s: %w", name, err)
	}
	if doc.Kind == 0 || len(doc.Content) == 0 {
		return nil, fmt.Errorf("parsing topic catalogue %s: it is empty; it needs a list of domains", name)
	}
	c := r.catalogue(doc.Content[0])
	if len(r.errs) > 0 {
		return nil, fmt.Errorf("checking topic catalogue: %w", errors.Join(r.errs...))
	}
	return c, nil
}

// reader walks the YAML nodes of a catalogue and collects what is wrong.
type reader struct {
	name string
	errs []error
}

func (r *reader) fail(n *yaml.Node, field, format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf("%s:%d: %s: %s", r.name, n.Line, field, fmt.Sprintf(format, args...)))
}

// mapping returns the values of n by key, refusing keys that are not known or
// come twice. Known nil admits any key.
func (r *reader) mapping(n *yaml.Node, field string, known []string) (keys []*yaml.Node, values map[string]*yaml.Node) {
	n = deref(n)
	if n.Kind != yaml.MappingNode {
		r.fail(n, field, "must be a mapping of names to values")
		return nil, nil
	}
	values = map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		switch {
		case k.Kind != yaml.ScalarNode:
			r.fail(k, field, "has a key that is not a plain name")
			continue
		case known != nil && !slices.Contains(known, k.Value):
			r.fail(k, field, "does not know the key %q; known are %s", k.Value, strings.Join(known, ", "))
			continue
		case values[k.Value] != nil:
			r.fail(k, field, "has the key %q twice", k.Value)
			continue
		}
		keys = append(keys, k)
		values[k.Value] = deref(n.Content[i+1])
	}
	return keys, values
}

func (r *reader) list(n *yaml.Node, field string) []*yaml.Node {
	n = deref(n)
	if n.Kind != yaml.SequenceNode {
		r.fail(n, field, "must be a list")
		return nil
	}
	out := make([]*yaml.Node, 0, len(n.Content))
	for _, c := range n.Content {
		out = append(out, deref(c))
	}
	return out
}

// text returns the required, non-blank text under key.
func (r *reader) text(parent *yaml.Node, m map[string]*yaml.Node, field, key string) string {
	n := m[key]
	if n == nil {
		r.fail(parent, field, "needs %q", key)
		return ""
	}
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" || strings.TrimSpace(n.Value) == "" {
		r.fail(n, field+"."+key, "must be a text that is not empty")
		return ""
	}
	return strings.TrimSpace(n.Value)
}

// count returns the required whole number from 1 to limit under key.
func (r *reader) count(parent *yaml.Node, m map[string]*yaml.Node, field, key string, limit int64) int64 {
	n := m[key]
	if n == nil {
		r.fail(parent, field, "needs %q", key)
		return 0
	}
	v, err := strconv.ParseInt(n.Value, 10, 64)
	if n.Kind != yaml.ScalarNode || err != nil || v < 1 || v > limit {
		r.fail(n, field+"."+key, "must be a whole number from 1 to %d, got %q", limit, n.Value)
		return 0
	}
	return v
}

// configs reads a mapping of topic configurations; null values come back as
// nil pointers and are refused unless allowNull.
func (r *reader) configs(n *yaml.Node, field string, allowNull bool) map[string]*string {
	out := map[string]*string{}
	keys, values := r.mapping(n, field, nil)
	for _, k := range keys {
		v := values[k.Value]
		f := field + "." + k.Value
		switch {
		case strings.TrimSpace(k.Value) == "":
			r.fail(k, field, "has a configuration without a name")
		case v.Kind != yaml.ScalarNode:
			r.fail(v, f, "must be one value; write a list as text with commas, such as compact,delete")
		case v.Tag == "!!null" && !allowNull:
			r.fail(v, f, "has no value")
		case v.Tag == "!!null":
			out[k.Value] = nil
		case strings.TrimSpace(v.Value) == "":
			r.fail(v, f, "must not be empty")
		default:
			s := strings.TrimSpace(v.Value)
			out[k.Value] = &s
		}
	}
	return out
}

func (r *reader) catalogue(n *yaml.Node) *Catalogue {
	c := &Catalogue{}
	_, m := r.mapping(n, "catalogue", []string{"domains", "overrides"})
	if m == nil {
		return c
	}
	if m["domains"] == nil {
		r.fail(n, "catalogue", "needs %q", "domains")
		return c
	}
	lines := map[string]*yaml.Node{} // topic name -> where it stands
	byMetric := map[string]string{}  // name with . as _ -> topic name
	domains := map[string]bool{}
	for i, dn := range r.list(m["domains"], "domains") {
		field := fmt.Sprintf("domains[%d]", i)
		_, dm := r.mapping(dn, field, []string{"name", "topics"})
		if dm == nil {
			continue
		}
		domain := r.text(dn, dm, field, "name")
		if domain != "" {
			if domains[domain] {
				r.fail(dm["name"], field+".name", "the domain %q stands here a second time", domain)
			}
			domains[domain] = true
			field = fmt.Sprintf("domain %q", domain)
		}
		if dm["topics"] == nil {
			r.fail(dn, field, "needs %q", "topics")
			continue
		}
		for j, tn := range r.list(dm["topics"], field+".topics") {
			t, ok := r.topic(tn, fmt.Sprintf("%s.topics[%d]", field, j))
			if !ok {
				continue
			}
			t.Domain = domain
			metric := strings.ReplaceAll(t.Name, ".", "_")
			if first := lines[t.Name]; first != nil {
				r.fail(tn, "topic "+t.Name, "stands here a second time, first on line %d", first.Line)
				continue
			} else if other, taken := byMetric[metric]; taken {
				r.fail(tn, "topic "+t.Name, "collides with topic %s: Kafka takes '.' and '_' for the same in its metrics and refuses the second", other)
				continue
			}
			lines[t.Name], byMetric[metric] = tn, t.Name
			c.base = append(c.base, t)
		}
	}
	if len(c.base) == 0 && len(r.errs) == 0 {
		r.fail(n, "domains", "must hold at least one topic")
	}
	if m["overrides"] != nil {
		r.overrides(m["overrides"], c, lines)
	}
	for _, t := range c.Topics() {
		r.consistent(lines[t.Name], t)
	}
	return c
}

func (r *reader) topic(n *yaml.Node, field string) (Topic, bool) {
	before := len(r.errs)
	_, m := r.mapping(n, field, []string{"name", "partitions", "replication", "configs", "purpose"})
	if m == nil {
		return Topic{}, false
	}
	t := Topic{Name: r.text(n, m, field, "name"), Configs: map[string]string{}}
	if t.Name != "" {
		if why := illegalName(t.Name); why != "" {
			r.fail(m["name"], field+".name", "%q %s", t.Name, why)
		}
		field = "topic " + t.Name
	}
	t.Partitions = int32(r.count(n, m, field, "partitions", math.MaxInt32))
	t.Replication = int16(r.count(n, m, field, "replication", math.MaxInt16))
	t.Purpose = r.text(n, m, field, "purpose")
	if m["configs"] != nil {
		for k, v := range r.configs(m["configs"], field+".configs", false) {
			t.Configs[k] = *v
		}
	}
	return t, len(r.errs) == before
}

func (r *reader) overrides(n *yaml.Node, c *Catalogue, lines map[string]*yaml.Node) {
	names := map[string]bool{}
	setBy := map[[2]string]string{} // topic, config -> override
	for i, on := range r.list(n, "overrides") {
		field := fmt.Sprintf("overrides[%d]", i)
		_, m := r.mapping(on, field, []string{"name", "topics", "configs", "reason"})
		if m == nil {
			continue
		}
		o := Override{Name: r.text(on, m, field, "name")}
		if o.Name != "" {
			field = "override " + o.Name
			if names[o.Name] {
				r.fail(m["name"], field, "stands here a second time")
			}
			names[o.Name] = true
		}
		o.Reason = r.text(on, m, field, "reason")
		if m["configs"] == nil {
			r.fail(on, field, "needs %q", "configs")
		} else if o.Configs = r.configs(m["configs"], field+".configs", true); len(o.Configs) == 0 {
			r.fail(m["configs"], field+".configs", "must set at least one configuration")
		}
		if m["topics"] == nil {
			r.fail(on, field, "needs %q", "topics")
			continue
		}
		topics := r.list(m["topics"], field+".topics")
		if len(topics) == 0 {
			r.fail(m["topics"], field+".topics", "must name at least one topic")
		}
		for _, tn := range topics {
			if tn.Kind != yaml.ScalarNode || lines[tn.Value] == nil {
				r.fail(tn, field+".topics", "names the topic %q, which no domain holds", tn.Value)
				continue
			}
			if slices.Contains(o.Topics, tn.Value) {
				r.fail(tn, field+".topics", "names the topic %s twice", tn.Value)
				continue
			}
			for k := range o.Configs {
				if other, taken := setBy[[2]string{tn.Value, k}]; taken {
					r.fail(tn, field+".configs."+k, "override %s sets it on topic %s already", other, tn.Value)
				}
				setBy[[2]string{tn.Value, k}] = o.Name
			}
			o.Topics = append(o.Topics, tn.Value)
		}
		c.overrides = append(c.overrides, o)
	}
}

// consistent checks what only shows once overrides are laid over a topic.
func (r *reader) consistent(n *yaml.Node, t Topic) {
	field := "topic " + t.Name
	if v, ok := t.Configs[configMinInsync]; ok {
		isr, err := strconv.Atoi(v)
		if err != nil || isr < 1 {
			r.fail(n, field+".configs."+configMinInsync, "must be a whole number of 1 or more, got %q", v)
		} else if isr > int(t.Replication) {
			r.fail(n, field+".configs."+configMinInsync, "is %d but replication is %d: no write with acks=all would ever succeed", isr, t.Replication)
		}
	}
	if v, ok := t.Configs[configCleanupPolicy]; ok {
		for p := range strings.SplitSeq(v, ",") {
			if p = strings.TrimSpace(p); p != "compact" && p != "delete" {
				r.fail(n, field+".configs."+configCleanupPolicy, "must be compact, delete or both with a comma, got %q", v)
				break
			}
		}
	}
}

// illegalName says why Kafka would not take a topic of this name, or nothing.
// The rules are those of org.apache.kafka.common.internals.Topic.
func illegalName(name string) string {
	switch {
	case name == "." || name == "..":
		return "is not a topic name"
	case len(name) > 249:
		return fmt.Sprintf("has %d characters, a topic name at most 249", len(name))
	case name == "__consumer_offsets" || name == "__transaction_state" || name == "__share_group_state" || name == "__cluster_metadata":
		return "belongs to Kafka itself and must not be managed here"
	}
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return fmt.Sprintf("holds the character %q; a topic name has only letters, digits, '.', '_' and '-'", c)
		}
	}
	return ""
}

func deref(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}
