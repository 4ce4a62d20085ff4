// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/dealiot/dealiot-connect/plugins/event"
)

const (
	cvName = "contract_validate"

	cvFieldContract   = "contract"
	cvFieldDirectory  = "directory"
	cvFieldOnUnknown  = "on_unknown"
	cvFieldNullFields = "null_fields"
	cvFieldMaxErrors  = "max_errors"

	cvPass   = "pass"
	cvReject = "reject"
	cvStrip  = "strip"
	cvKeep   = "keep"
)

// unknownLabel is the metrics' label for topics without a contract: their names
// come from messages and have no bound.
const unknownLabel = "unknown"

// Spec describes the processor and its fields.
func Spec() *service.ConfigSpec {
	return service.NewConfigSpec().
		Stable().
		Version("0.1.0").
		Categories("Parsing").
		Summary("Validates each event against the contract (JSON Schema) of its topic and marks those that break it.").
		Description(`
The contracts of the platform's topics are part of the binary: one JSON Schema (draft 2020-12, formats asserted) a topic. A directory can add to them or override them, and is watched for changes.

An event that breaks its contract is marked with metadata and goes on; its content stays as it is. `+"`dead_letter`"+` further down makes a dead letter of it. No message is flagged as failed. Messages that an earlier processor marked or flagged pass untouched.

Only text that every JSON parser reads alike is accepted: one value, valid UTF-8, nesting of at most 128, numbers of at most 1000 characters with exponents within ±1000. A field of the contract that stands twice in an object counts with its last value, and the event is handed on with that value alone. But for that and for `+"`null_fields: strip`"+`, an accepted event leaves as the bytes it came as.

== Metadata

Read: `+"`kafka_topic`"+` (unless `+"`contract`"+` is set), `+"`error_class`"+`, `+"`violations`"+` (what an earlier processor remarked; kept behind the new ones).

Set on an event that breaks its contract:

- `+"`error_class`"+`: `+"`contract`"+`, or `+"`decode`"+` when the content is not acceptable JSON
- `+"`error_component`"+`: label, else name, of this processor
- `+"`violations`"+`: list of objects with `+"`path`"+` (JSON pointer to the field at fault, also if it is missing), `+"`keyword`, `message`, `contract` and `version`"+`, ordered by path
- `+"`contract`, `contract_version`"+`: the contract that was broken
- `+"`original`"+`: the content, unless an earlier processor has set it

== Metrics

- `+"`contract_validated`"+` (label `+"`contract`"+`): events that were checked
- `+"`contract_rejected`"+` (labels `+"`contract`, `keyword`"+`): events that broke their contract, by the keyword of the first violation
- `+"`contract_unknown`"+`: events whose topic has no contract
- `+"`contract_nulls_stripped`"+`: null fields taken out
- `+"`contract_slow_path`"+`: events that the compiled form of the contract could not accept by itself, so that the JSON Schema library was asked. Accepting costs some twenty times more there
- `+"`contract_reloads`"+` (label `+"`result`: `ok` or `failed`"+`): changes of the directory

== Ordering

Messages leave in the order and batches in which they came.`).
		Fields(
			service.NewInterpolatedStringField(cvFieldContract).
				Description("Topic whose contract the event is to meet. Without it, the metadata `kafka_topic`.").
				Example("raw.gps").
				Example("${! @contract }").
				Optional(),
			service.NewStringField(cvFieldDirectory).
				Description("Directory with contracts of one's own, files named `<topic>.schema.json`. They override the embedded contract of the same topic; other topics keep theirs. A change is seen within a few seconds and taken as a whole; if any file is not a contract, the change is refused with a log line that names the file, and the contracts stay as they were.").
				Default("").
				Example("/etc/dealiot-connect/schemas"),
			service.NewStringAnnotatedEnumField(cvFieldOnUnknown, map[string]string{
				cvPass:   "The event passes unchecked and is counted.",
				cvReject: "The event is marked like one that breaks its contract.",
			}).
				Description("What to do with an event whose topic has no contract.").
				Default(cvPass),
			service.NewStringAnnotatedEnumField(cvFieldNullFields, map[string]string{
				cvStrip: "A top-level text or number that is null counts as absent and is taken out of the event, where the contract knows the field, does not require it and does not allow null. A null object, list or boolean is a violation.",
				cvKeep:  "Events are validated as they are.",
			}).
				Description("What to do with null, which devices write for a missing reading.").
				Default(cvStrip),
			service.NewIntField(cvFieldMaxErrors).
				Description("Violations to list for an event; one more entry says how many were left out.").
				Default(DefaultMaxErrors).
				Advanced().
				LintRule(`root = if this < 1 { [ "max_errors must be at least 1" ] }`),
		).
		Example("Behind device_event",
			"Every event is checked against the contract of the topic it goes to; what breaks it leaves for `dlq.events` with its reasons.", `
pipeline:
  threads: 1
  processors:
    - label: check_contract
      contract_validate: {}
    - label: keep_dead_letters
      mapping: |
        meta kafka_topic = if @error_class != null { "dlq.events" }
`).
		Example("Contracts of one's own",
			"A site's own topics, kept in a mounted directory; events of any other topic are refused.", `
pipeline:
  processors:
    - label: check_site_contract
      contract_validate:
        contract: ${! @mqtt_topic.split("/").index(0) + ".events" }
        directory: /etc/dealiot-connect/schemas
        on_unknown: reject
`)
}

func init() {
	service.MustRegisterBatchProcessor(cvName, Spec(), New)
}

// New makes the processor from a configuration that Spec has parsed.
func New(conf *service.ParsedConfig, mgr *service.Resources) (service.BatchProcessor, error) {
	p, err := processorFromParsed(conf, mgr)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// config is what a site sets.
type config struct {
	contract  *service.InterpolatedString // nil is the metadata kafka_topic
	directory string
	reject    bool // events without a contract
	options   Options
}

// deps is what the engine gives.
type deps struct {
	component string // label, else name
	log       *service.Logger
	metrics   *service.Metrics
}

func processorFromParsed(conf *service.ParsedConfig, mgr *service.Resources) (*processor, error) {
	var cfg config
	var err error
	if conf.Contains(cvFieldContract) {
		if cfg.contract, err = conf.FieldInterpolatedString(cvFieldContract); err != nil {
			return nil, err
		}
	}
	if cfg.directory, err = conf.FieldString(cvFieldDirectory); err != nil {
		return nil, err
	}
	onUnknown, err := conf.FieldString(cvFieldOnUnknown)
	if err != nil {
		return nil, err
	}
	cfg.reject = onUnknown == cvReject
	nulls, err := conf.FieldString(cvFieldNullFields)
	if err != nil {
		return nil, err
	}
	cfg.options.KeepNulls = nulls == cvKeep
	if cfg.options.MaxErrors, err = conf.FieldInt(cvFieldMaxErrors); err != nil {
		return nil, err
	}
	component := mgr.Label()
	if component == "" {
		component = cvName
	}
	return newProcessor(cfg, deps{component: component, log: mgr.Logger(), metrics: mgr.Metrics()})
}

type processor struct {
	config
	deps
	source *Source
	static string // the one contract's name, when it does not depend on the message

	validated *service.MetricCounter
	rejected  *service.MetricCounter
	unknown   *service.MetricCounter
	stripped  *service.MetricCounter
	slow      *service.MetricCounter
	reloads   *service.MetricCounter
}

func newProcessor(cfg config, d deps) (*processor, error) {
	if cfg.options.MaxErrors < 1 {
		return nil, fmt.Errorf("checking field %s: it must be at least 1, got %d", cvFieldMaxErrors, cfg.options.MaxErrors)
	}
	p := &processor{
		config:    cfg,
		deps:      d,
		validated: d.metrics.NewCounter("contract_validated", "contract"),
		rejected:  d.metrics.NewCounter("contract_rejected", "contract", "keyword"),
		unknown:   d.metrics.NewCounter("contract_unknown"),
		stripped:  d.metrics.NewCounter("contract_nulls_stripped"),
		slow:      d.metrics.NewCounter("contract_slow_path"),
		reloads:   d.metrics.NewCounter("contract_reloads", "result"),
	}
	var err error
	if p.source, err = Open(cfg.directory, p.reloaded); err != nil {
		return nil, fmt.Errorf("checking field %s: %w", cvFieldDirectory, err)
	}
	if cfg.contract != nil {
		var ok bool
		if p.static, ok = cfg.contract.Static(); ok {
			if err := p.checkStatic(); err != nil {
				p.source.Close()
				return nil, err
			}
		}
	}
	return p, nil
}

// checkStatic finds a misspelt contract at the start instead of in every event.
func (p *processor) checkStatic() error {
	set := p.source.Set()
	if _, ok := set.Contract(p.static); ok {
		return nil
	}
	if p.static == "" {
		return fmt.Errorf("checking field %s: it is empty; leave it out to use the metadata %s", cvFieldContract, event.KafkaTopic)
	}
	if !p.reject {
		p.log.Warnf("No contract is named %q: events pass unchecked until a contract of that name appears", p.static)
		return nil
	}
	if near := set.Nearest(p.static); near != "" {
		return fmt.Errorf("checking field %s: no contract is named %q; did you mean %q? Known are: %s",
			cvFieldContract, p.static, near, strings.Join(set.Names(), ", "))
	}
	return fmt.Errorf("checking field %s: no contract is named %q; known are: %s", cvFieldContract, p.static, strings.Join(set.Names(), ", "))
}

// reloaded hears of changes of the directory. A refused state is told once, so
// the log line needs no throttle.
func (p *processor) reloaded(r Reload) {
	if r.Err != nil {
		p.reloads.Incr(1, "failed")
		p.log.Errorf("Contracts stay as they were: %v", r.Err)
		return
	}
	p.reloads.Incr(1, "ok")
	p.log.Infof("Contracts reloaded from %s, changed: %s", p.directory, strings.Join(r.Changed, ", "))
}

// ProcessBatch implements service.BatchProcessor.
func (p *processor) ProcessBatch(_ context.Context, batch service.MessageBatch) ([]service.MessageBatch, error) {
	set := p.source.Set()
	var t tally
	for _, msg := range batch {
		if _, marked := msg.MetaGetImmut(event.ErrorClass); marked || msg.GetError() != nil {
			continue
		}
		name, err := p.contractName(msg)
		if err != nil {
			t.unknown++
			p.markUnknown(msg, "", err.Error())
			continue
		}
		c, ok := set.Contract(name)
		if !ok {
			t.unknown++
			if p.reject {
				words := "the event has no topic, hence no contract"
				if name != "" {
					words = fmt.Sprintf("topic %.64q has no contract", name)
				}
				p.markUnknown(msg, name, words)
			}
			continue
		}
		if err := p.validate(msg, c, &t); err != nil {
			return nil, err
		}
	}
	t.flush(p)
	return []service.MessageBatch{batch}, nil
}

// Close implements service.BatchProcessor.
func (p *processor) Close(context.Context) error {
	p.source.Close()
	return nil
}

// contractName says which contract a message is to meet.
func (p *processor) contractName(msg *service.Message) (string, error) {
	if p.contract == nil {
		if topic, ok := msg.MetaGetImmut(event.KafkaTopic); ok {
			if name, ok := topic.(string); ok {
				return name, nil
			}
		}
		name, _ := msg.MetaGet(event.KafkaTopic)
		return name, nil
	}
	if p.static != "" {
		return p.static, nil
	}
	name, err := p.contract.TryString(msg)
	if err != nil {
		return "", fmt.Errorf("resolving field %s: %w", cvFieldContract, err)
	}
	return name, nil
}

// validate checks one message and marks it if it breaks its contract.
func (p *processor) validate(msg *service.Message, c *Contract, t *tally) error {
	content, err := msg.AsBytes()
	if err != nil {
		return fmt.Errorf("reading content of message: %w", err)
	}
	t.validated(p, c)
	res := c.Validate(content, p.options)
	t.stripped += res.Stripped
	if res.Library {
		t.slow++
	}
	switch {
	case !res.Valid():
		p.mark(msg, c.name, res.Class, res.Violations)
	case res.Rewritten(content):
		msg.SetBytes(res.Doc)
	}
	return nil
}

// mark says on the message what is wrong with it. label is the contract's in
// the metrics.
func (p *processor) mark(msg *service.Message, label string, class event.Class, violations []event.Violation) {
	p.rejected.Incr(1, label, violations[0].Keyword)
	if _, ok := msg.MetaGetImmut(event.Original); !ok {
		if content, err := msg.AsBytes(); err == nil {
			msg.MetaSetMut(event.Original, bytes.Clone(content))
		}
	}
	list := event.ViolationList(violations)
	// What an earlier processor remarked may explain why the event is wrong.
	if remarks, ok := msg.MetaGetMut(event.Violations); ok {
		if remarks, ok := remarks.([]any); ok {
			list = append(list, remarks...)
		}
	}
	msg.MetaSetMut(event.ErrorClass, string(class))
	msg.MetaSetMut(event.ErrorComponent, p.component)
	msg.MetaSetMut(event.Violations, list)
	if c := violations[0].Contract; c != "" {
		msg.MetaSetMut(event.Contract, c)
		msg.MetaSet(event.ContractVersion, violations[0].Version)
	}
}

// markUnknown is mark for an event whose topic has no contract.
func (p *processor) markUnknown(msg *service.Message, name, words string) {
	p.mark(msg, unknownLabel, event.ClassContract, []event.Violation{{Keyword: KeywordUnknown, Message: words, Contract: cut(name, maxPathLen)}})
}

// tally collects the figures of a batch: a counter with labels costs more than
// a validation.
type tally struct {
	checked  [8]checked // the contracts of a batch are few
	unknown  int64
	slow     int64
	stripped int
}

type checked struct {
	contract *Contract
	events   int64
}

// validated counts an event that is checked.
func (t *tally) validated(p *processor, c *Contract) {
	for i := range t.checked {
		switch at := &t.checked[i]; at.contract {
		case nil:
			at.contract = c
			fallthrough
		case c:
			at.events++
			return
		}
	}
	p.validated.Incr(1, c.name)
}

func (t *tally) flush(p *processor) {
	for _, at := range t.checked {
		if at.contract != nil {
			p.validated.Incr(at.events, at.contract.name)
		}
	}
	if t.unknown > 0 {
		p.unknown.Incr(t.unknown)
	}
	if t.slow > 0 {
		p.slow.Incr(t.slow)
	}
	if t.stripped > 0 {
		p.stripped.Incr(int64(t.stripped))
	}
}
