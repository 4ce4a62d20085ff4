// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dealiot/dealiot-connect/plugins/event"
)

func newTestProcessor(t *testing.T, yaml string) *processor {
	t.Helper()
	conf, err := Spec().ParseYAML(yaml, nil)
	require.NoError(t, err)
	p, err := processorFromParsed(conf, service.MockResources())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close(t.Context())) })
	return p
}

// message makes a message with metadata given as name, value pairs.
func message(content string, meta ...any) *service.Message {
	msg := service.NewMessage([]byte(content))
	for i := 0; i < len(meta); i += 2 {
		msg.MetaSetMut(meta[i].(string), meta[i+1])
	}
	return msg
}

// openStill opens a directory whose watch never looks by itself; the processors
// of the same directory share it.
func openStill(t *testing.T, dir string) *Source {
	t.Helper()
	s, err := open(dir, time.Hour, nil)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

// process passes one message through.
func process(t *testing.T, p *processor, msg *service.Message) *service.Message {
	t.Helper()
	out, err := p.ProcessBatch(t.Context(), service.MessageBatch{msg})
	require.NoError(t, err)
	require.Len(t, out, 1)
	require.Len(t, out[0], 1)
	require.NoError(t, out[0][0].GetError(), "no message is flagged")
	return out[0][0]
}

func metadata(t *testing.T, msg *service.Message) map[string]any {
	t.Helper()
	m := map[string]any{}
	require.NoError(t, msg.MetaWalkMut(func(k string, v any) error {
		m[k] = v
		return nil
	}))
	return m
}

func content(t *testing.T, msg *service.Message) string {
	t.Helper()
	b, err := msg.AsBytes()
	require.NoError(t, err)
	return string(b)
}

const (
	validGPS   = `{"device_id":"cow-7","timestamp":"2026-01-01T00:00:00Z","latitude":47.6,"longitude":9.1}`
	invalidGPS = `{"device_id":"cow-7","timestamp":"2026-01-01T00:00:00Z","latitude":95.2,"longitude":9.1,"altitude_m":null}`
)

func TestProcessor(t *testing.T) {
	violation := func(path, keyword, message, contract, version string) map[string]any {
		return event.Violation{Path: path, Keyword: keyword, Message: message, Contract: contract, Version: version}.Object()
	}
	latitude := violation("/latitude", "maximum", "latitude is 95.2, above the maximum of 90", "raw.gps", "1.0.0")
	for _, tc := range []struct {
		name, config string
		in           *service.Message
		content      string         // "" is as it was
		meta         map[string]any // added
	}{
		{name: "valid", in: message(validGPS, "kafka_topic", "raw.gps")},
		{name: "null stripped", in: message(`{"altitude_m":null,`+validGPS[1:], "kafka_topic", "raw.gps"), content: validGPS},
		{name: "null kept", config: "null_fields: keep", in: message(`{"altitude_m":null,`+validGPS[1:], "kafka_topic", "raw.gps"), meta: map[string]any{
			"error_class": "contract", "error_component": "contract_validate", "contract": "raw.gps", "contract_version": "1.0.0",
			"violations": []any{violation("/altitude_m", "type", "altitude_m is null, but must be a number", "raw.gps", "1.0.0")},
			"original":   []byte(`{"altitude_m":null,` + validGPS[1:])}},
		{name: "invalid, content stays", in: message(invalidGPS, "kafka_topic", "raw.gps"), meta: map[string]any{
			"error_class": "contract", "error_component": "contract_validate", "contract": "raw.gps", "contract_version": "1.0.0",
			"violations": []any{latitude}, "original": []byte(invalidGPS)}},
		{name: "original and remarks are kept", in: message(invalidGPS, "kafka_topic", "raw.gps", "original", []byte("raw"), "violations", []any{"remark"}), meta: map[string]any{
			"error_class": "contract", "error_component": "contract_validate", "contract": "raw.gps", "contract_version": "1.0.0",
			"violations": []any{latitude, "remark"}}},
		{name: "not JSON", in: message("\xff{", "kafka_topic", "raw.gps"), meta: map[string]any{
			"error_class": "decode", "error_component": "contract_validate", "contract": "raw.gps", "contract_version": "1.0.0",
			"violations": []any{violation("", "json", `the message is not acceptable JSON: byte '\u00ff' cannot begin a value at byte 0`, "raw.gps", "1.0.0")},
			"original":   []byte("\xff{")}},
		{name: "empty", in: message("", "kafka_topic", "raw.gps"), meta: map[string]any{
			"error_class": "decode", "error_component": "contract_validate", "contract": "raw.gps", "contract_version": "1.0.0",
			"violations": []any{violation("", "json", "the message is not acceptable JSON: no JSON value at byte 0", "raw.gps", "1.0.0")},
			"original":   []byte{}}},
		{name: "marked before", in: message("{", "kafka_topic", "raw.gps", "error_class", "route")},
		{name: "unknown passes", in: message("{", "kafka_topic", "milk")},
		{name: "unknown rejected", config: "on_unknown: reject", in: message("{", "kafka_topic", "milk"), meta: map[string]any{
			"error_class": "contract", "error_component": "contract_validate", "contract": "milk",
			"violations": []any{violation("", "unknown_contract", `topic "milk" has no contract`, "milk", "")}, "original": []byte("{")}},
		{name: "no topic rejected", config: "on_unknown: reject", in: message("{}"), meta: map[string]any{
			"error_class": "contract", "error_component": "contract_validate",
			"violations": []any{violation("", "unknown_contract", "the event has no topic, hence no contract", "", "")}, "original": []byte("{}")}},
		{name: "static", config: "contract: raw.gps", in: message(invalidGPS, "kafka_topic", "raw.sensor"), meta: map[string]any{
			"error_class": "contract", "error_component": "contract_validate", "contract": "raw.gps", "contract_version": "1.0.0",
			"violations": []any{latitude}, "original": []byte(invalidGPS)}},
		{name: "interpolated", config: "contract: ${! @mine }", in: message(invalidGPS, "mine", "raw.gps"), meta: map[string]any{
			"error_class": "contract", "error_component": "contract_validate", "contract": "raw.gps", "contract_version": "1.0.0",
			"violations": []any{latitude}, "original": []byte(invalidGPS)}},
		{name: "not to be interpolated", config: `contract: ${! @mine.not_null() }`, in: message(`{}`), meta: map[string]any{
			"error_class": "contract", "error_component": "contract_validate",
			"violations": []any{violation("", "unknown_contract", "resolving field contract: meta field mine: value is null", "", "")}, "original": []byte("{}")}},
		{name: "static, not known yet", config: "contract: milk", in: message("{}")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newTestProcessor(t, tc.config)
			want := metadata(t, tc.in.DeepCopy())
			for k, v := range tc.meta {
				want[k] = v
			}
			if tc.content == "" {
				tc.content = content(t, tc.in)
			}
			out := process(t, p, tc.in)
			assert.Equal(t, want, metadata(t, out))
			assert.Equal(t, tc.content, content(t, out))
		})
	}
}

// A message that somebody flagged is left to those who handle flags.
func TestProcessorLeavesFlagged(t *testing.T) {
	p := newTestProcessor(t, "")
	msg := message("{", "kafka_topic", "raw.gps")
	msg.SetError(assert.AnError)
	out, err := p.ProcessBatch(t.Context(), service.MessageBatch{msg})
	require.NoError(t, err)
	assert.Equal(t, map[string]any{"kafka_topic": "raw.gps"}, metadata(t, out[0][0]))
}

// A structured message is judged by the JSON it would leave as.
func TestProcessorStructured(t *testing.T) {
	p := newTestProcessor(t, "contract: raw.gps")
	msg := message("")
	msg.SetStructuredMut(map[string]any{"device_id": "a", "timestamp": "2026-01-01T00:00:00Z", "latitude": 91, "longitude": 1.5})
	out := metadata(t, process(t, p, msg))
	assert.Equal(t, "contract", out["error_class"])
}

func TestProcessorConfigErrors(t *testing.T) {
	for config, want := range map[string]string{
		"max_errors: 0":                            "checking field max_errors: it must be at least 1, got 0",
		"directory: /no/such/directory":            "checking field directory: loading contracts from directory /no/such/directory",
		"contract: raw.gsp\non_unknown: reject":    `no contract is named "raw.gsp"; did you mean "raw.gps"? Known are: alerts.events, `,
		"contract: completely\non_unknown: reject": `no contract is named "completely"; known are: alerts.events, `,
		`contract: ""`:                             "it is empty; leave it out to use the metadata kafka_topic",
	} {
		conf, err := Spec().ParseYAML(config, nil)
		require.NoError(t, err)
		_, err = processorFromParsed(conf, service.MockResources())
		assert.ErrorContainsf(t, err, want, "%s", config)
	}
	sources.Lock()
	defer sources.Unlock()
	assert.Empty(t, sources.byDir)
}

func TestProcessorLints(t *testing.T) {
	env := service.NewEnvironment()
	linter := env.NewComponentConfigLinter()
	lints, err := linter.LintProcessorYAML([]byte("contract_validate: { max_errors: 0, on_unknown: drop, nulls: keep }"))
	require.NoError(t, err)
	assert.Len(t, lints, 3, "%v", lints)
	view, ok := env.GetProcessorConfig(cvName)
	require.True(t, ok)
	data, err := view.TemplateData()
	require.NoError(t, err)
	require.NotEmpty(t, data.Summary)
	require.Len(t, data.Examples, 2)
	for _, ex := range data.Examples {
		lints, err := env.FullConfigSchema("", "").NewStreamConfigLinter().LintYAML([]byte(ex.Config))
		require.NoError(t, err)
		assert.Emptyf(t, lints, "example %q", ex.Title)
	}
}

// A directory's contracts take effect in a running processor.
func TestProcessorReload(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "site.events.schema.json", siteContract("1.0.0", "a"))
	openStill(t, dir)
	p := newTestProcessor(t, fmt.Sprintf("contract: site.events\non_unknown: reject\ndirectory: %q", dir))
	again := newTestProcessor(t, fmt.Sprintf("directory: %q", dir))
	assert.Same(t, p.source.Set(), again.source.Set(), "equal settings share one set")

	assert.NotContains(t, metadata(t, process(t, p, message(`{"a":1}`))), "error_class")
	write(t, dir, "site.events.schema.json", siteContract("2.0.0", "b"))
	settle(p.source)
	meta := metadata(t, process(t, p, message(`{"a":1}`)))
	assert.Equal(t, "contract", meta["error_class"])
	assert.Equal(t, "2.0.0", meta["contract_version"])
	write(t, dir, "site.events.schema.json", `nothing`)
	settle(p.source)
	assert.Equal(t, "2.0.0", metadata(t, process(t, p, message(`{"a":1}`)))["contract_version"])
}

// One processor serves all threads, while its contracts change.
func TestProcessorConcurrently(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "site.events.schema.json", siteContract("1", "a"))
	openStill(t, dir)
	p := newTestProcessor(t, fmt.Sprintf("directory: %q", dir))
	topics := []string{"raw.gps", "raw.sensor", "site.events", "milk"}
	docs := append([]string{validGPS, invalidGPS, `{"a":1}`, "nonsense"}, benchEvents["raw.sensor"])
	var workers sync.WaitGroup
	for w := range 4 {
		workers.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 0))
			for range 200 {
				batch := make(service.MessageBatch, 10)
				for i := range batch {
					batch[i] = message(docs[rnd.IntN(len(docs))], "kafka_topic", topics[rnd.IntN(len(topics))])
				}
				out, err := p.ProcessBatch(t.Context(), batch)
				if err != nil || len(out) != 1 || len(out[0]) != len(batch) {
					t.Errorf("batch of %d came out as %v: %v", len(batch), out, err)
				}
			}
		})
	}
	for v := range 20 {
		write(t, dir, "site.events.schema.json", siteContract(fmt.Sprint(v), "a"))
		settle(p.source)
	}
	workers.Wait()
}

// counters is a metrics exporter that keeps what it counts, by name and labels.
type counters struct {
	mu     sync.Mutex
	counts map[string]int64
}

type counter struct {
	to   *counters
	name string
}

func (c counter) Incr(n int64) {
	c.to.mu.Lock()
	defer c.to.mu.Unlock()
	c.to.counts[c.name] += n
}
func (counter) Timing(int64) {}
func (counter) Set(int64)    {}

func (c *counters) NewCounterCtor(name string, _ ...string) service.MetricsExporterCounterCtor {
	return func(labels ...string) service.MetricsExporterCounter {
		name := name
		for _, l := range labels {
			if l != "check" && l != "root.pipeline.processors.0" && l != "" {
				name += " " + l
			}
		}
		return counter{c, name}
	}
}

func (c *counters) NewTimerCtor(string, ...string) service.MetricsExporterTimerCtor {
	return func(...string) service.MetricsExporterTimer { return counter{} }
}

func (c *counters) NewGaugeCtor(string, ...string) service.MetricsExporterGaugeCtor {
	return func(...string) service.MetricsExporterGauge { return counter{} }
}

func (c *counters) Close(context.Context) error { return nil }

// In a running pipeline with strict errors: a batch with events of every kind,
// and what is counted of it.
func TestProcessorInStream(t *testing.T) {
	counted := &counters{counts: map[string]int64{}}
	env := service.NewEnvironment()
	require.NoError(t, env.RegisterMetricsExporter("contract_test", service.NewConfigSpec(),
		func(*service.ParsedConfig, *service.Logger) (service.MetricsExporter, error) { return counted, nil }))
	dir := t.TempDir()
	write(t, dir, "site.events.schema.json", siteContract("1.0.0", "a"))
	watch := openStill(t, dir)

	builder := env.NewStreamBuilder()
	require.NoError(t, builder.SetMetricsYAML("contract_test: {}"))
	require.NoError(t, builder.SetLoggerYAML("level: off"))
	produce, err := builder.AddBatchProducerFunc()
	require.NoError(t, err)
	require.NoError(t, builder.AddProcessorYAML(fmt.Sprintf("label: check\ncontract_validate: { directory: %q }", dir)))
	var got service.MessageBatch
	require.NoError(t, builder.AddBatchConsumerFunc(func(_ context.Context, batch service.MessageBatch) error {
		got = batch.DeepCopy()
		return nil
	}))
	stream, err := builder.Build()
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- stream.Run(t.Context()) }()

	require.NoError(t, produce(t.Context(), service.MessageBatch{
		message(invalidGPS, "kafka_topic", "raw.gps"),
		message(validGPS, "kafka_topic", "raw.gps"),
		message(`{"altitude_m":null,"speed_m_s":null,`+validGPS[1:], "kafka_topic", "raw.gps"),
		message(`{"speed_m_s":1e-1,`+validGPS[1:], "kafka_topic", "raw.gps"),
		message(benchEvents["raw.sensor"], "kafka_topic", "raw.sensor"),
		message(`{"a":1}`, "kafka_topic", "site.events"),
		message("?", "kafka_topic", "site.events"),
		message("?", "kafka_topic", "milk"),
	}))
	write(t, dir, "site.events.schema.json", siteContract("2.0.0", "a"))
	settle(watch)
	write(t, dir, "site.events.schema.json", "?")
	settle(watch)
	require.NoError(t, stream.Stop(t.Context()))
	require.NoError(t, <-done)

	require.Len(t, got, 8)
	assert.Equal(t, "check", metadata(t, got[0])["error_component"])
	for i, class := range []any{"contract", nil, nil, nil, nil, nil, "decode", nil} {
		assert.Equalf(t, class, metadata(t, got[i])["error_class"], "message %d", i)
		assert.NoErrorf(t, got[i].GetError(), "message %d", i)
	}
	assert.Equal(t, validGPS, content(t, got[2]))
	for name, want := range map[string]int64{
		"contract_validated raw.gps": 4, "contract_validated raw.sensor": 1, "contract_validated site.events": 2,
		"contract_rejected raw.gps maximum": 1, "contract_rejected site.events json": 1,
		"contract_unknown": 1, "contract_nulls_stripped": 2, "contract_slow_path": 2,
		"contract_reloads ok": 1, "contract_reloads failed": 1,
	} {
		assert.Equalf(t, want, counted.counts[name], "%s in %v", name, counted.counts)
	}
}
