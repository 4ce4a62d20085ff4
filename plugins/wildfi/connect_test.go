// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package wildfi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	_ "github.com/redpanda-data/benthos/v4/public/components/io"
	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/dealiot/dealiot-connect/plugins/event"
	"github.com/dealiot/dealiot-connect/schemas"
)

func caseInput(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata/cases", name, "input.bin"))
	require.NoError(t, err)
	return data
}

func testProcessor(t testing.TB, yaml string) service.BatchProcessor {
	t.Helper()
	conf, err := ProcessorSpec().ParseYAML(yaml, nil)
	require.NoError(t, err)
	p, err := NewProcessor(conf, service.MockResources())
	require.NoError(t, err)
	return p
}

func process(t testing.TB, p service.BatchProcessor, msgs ...*service.Message) service.MessageBatch {
	t.Helper()
	out, err := p.ProcessBatch(t.Context(), msgs)
	require.NoError(t, err)
	if len(out) == 0 {
		return nil
	}
	require.Len(t, out, 1)
	for _, m := range out[0] {
		require.NoError(t, m.GetError(), "nothing is flagged as failed")
	}
	return out[0]
}

func body(t testing.TB, m *service.Message) map[string]any {
	t.Helper()
	b, err := m.AsBytes()
	require.NoError(t, err)
	var v map[string]any
	require.NoError(t, json.Unmarshal(b, &v), "%.300s", b)
	return v
}

func metaText(m *service.Message, key string) string {
	v, _ := m.MetaGet(key)
	return v
}

// Each event of each case meets its contract, but for positions no map has.
func TestEventsMeetContracts(t *testing.T) {
	contracts := map[string]*jsonschema.Schema{}
	for _, topic := range []string{TopicGPS, TopicSensor} {
		text, err := schemas.FS.ReadFile(topic + ".schema.json")
		require.NoError(t, err)
		c := jsonschema.NewCompiler()
		c.AssertFormat = true
		require.NoError(t, c.AddResource(topic, bytes.NewReader(text)))
		contracts[topic], err = c.Compile(topic)
		require.NoError(t, err)
	}
	for _, samples := range []string{samplesArrays, samplesEvents} {
		p := testProcessor(t, "imu_hz: 50\nsamples: "+samples)
		events := 0
		for _, c := range loadCases(t) {
			if c.Mode > 2 || len(c.Input) == 0 {
				continue
			}
			for _, m := range process(t, p, service.NewMessage(c.Input)) {
				if metaText(m, event.ErrorClass) != "" {
					assert.NotEmpty(t, metaText(m, event.Violations))
					continue
				}
				events++
				topic := metaText(m, event.KafkaTopic)
				v := body(t, m)
				if lat, ok := v["latitude"].(float64); ok && lat > 90 { // bounds_*: values no receiver gives
					continue
				}
				require.NoError(t, contracts[topic].Validate(v), "%s: %v", c.Name, v)
				require.Equal(t, v["event_id"], metaText(m, event.EventID))
				require.Equal(t, v["device_id"], metaText(m, event.KafkaKey))
			}
		}
		assert.Greater(t, events, 400)
	}
}

func TestProcessorEvents(t *testing.T) {
	p := testProcessor(t, `
imu_hz: 50
devices: { "50:02:91:91:38:A8": cow-17 }
`)
	in := service.NewMessage(caseInput(t, "type_5e_acc_mag_gyro"))
	in.MetaSetMut("path", "card/x.bin")
	in.MetaSetMut(event.KafkaTopic, "logs")
	in.MetaSetMut("kafka_offset", 7)
	out := process(t, p, in)
	require.Len(t, out, 5)
	v := body(t, out[0])
	assert.Equal(t, "cow-17", v["device_id"])
	assert.Equal(t, "2024-06-01T00:00:01.94Z", v["timestamp"], "the first sample")
	assert.Equal(t, "2024-06-01T00:00:01.98Z", v["time_end"])
	assert.Equal(t, "50:02:91:91:38:A8", v["tag_mac"])
	assert.Equal(t, "5E", v["entry_type"])
	assert.Equal(t, "card/x.bin", v["file"])
	assert.EqualValues(t, 12, v["file_offset"])
	payload := v["payload"].(map[string]any)
	assert.EqualValues(t, 3, payload["sample_count"])
	assert.Len(t, payload["acc_g"], 3)
	assert.Equal(t, TopicSensor, metaText(out[0], event.KafkaTopic))
	assert.Equal(t, "logs", metaText(out[0], event.SourceTopic))
	assert.Equal(t, "card/x.bin", metaText(out[0], "path"), "other metadata is kept")
	assert.Equal(t, "2024-06-01T00:00:01.94Z", metaText(out[0], event.Time))

	out = process(t, testProcessor(t, "imu_hz: 50\nsamples: events"), service.NewMessage(caseInput(t, "type_5c_gps_acc_mag")))
	topics := map[string]int{}
	ids := map[string]bool{}
	for _, m := range out {
		topics[metaText(m, event.KafkaTopic)]++
		ids[metaText(m, event.EventID)] = true
	}
	assert.Equal(t, 5, topics[TopicGPS])
	assert.Greater(t, topics[TopicSensor], 5)
	assert.Len(t, ids, len(out), "each event has an identity of its own")
}

// The identity does not depend on the file, the name of the device, the rate, or
// what else is in the log.
func TestEventIdentity(t *testing.T) {
	ids := func(yaml string, log []byte, path string) (all []string) {
		m := service.NewMessage(log)
		m.MetaSetMut("path", path)
		for _, e := range process(t, testProcessor(t, yaml), m) {
			if metaText(e, event.ErrorClass) == "" {
				all = append(all, metaText(e, event.EventID))
			}
		}
		return all
	}
	log := caseInput(t, "type_61_acc")
	want := ids("imu_hz: 50", log, "a")
	require.Len(t, want, 5)
	assert.Equal(t, want, ids("imu_hz: 25\nacc_range: 2", log, "b"))
	assert.Equal(t, want, ids(`devices: { "`+log0(log)+`": x }`, append(bytes.Repeat([]byte{0}, 100), log...), "c"))
}

func log0(log []byte) string { return macOf(log).String() }

func TestProcessorDamage(t *testing.T) {
	p := testProcessor(t, "")
	in := service.NewMessage(caseInput(t, "lost_messages"))
	in.MetaSetMut(event.MQTTTopic, "wildfi/gateways/g1/log")
	good, marked := 0, 0
	for _, m := range process(t, p, in) {
		if metaText(m, event.ErrorClass) == "" {
			good++
			continue
		}
		marked++
		v := body(t, m)
		assert.Equal(t, "wildfi/gateways/g1/log", v["file"])
		original, ok := m.MetaGetMut(event.Original)
		require.True(t, ok)
		assert.Len(t, original, int(v["length"].(float64)))
		assert.Len(t, v["sha256"], 64)
		assert.Equal(t, string(event.ClassDecode), metaText(m, event.ErrorClass))
		assert.Equal(t, processorName, metaText(m, event.ErrorComponent))
		assert.Contains(t, metaText(m, event.Violations), "cannot be decoded")
	}
	assert.Equal(t, 10, good)
	assert.NotZero(t, marked)

	out := process(t, p, service.NewMessage([]byte("no log at all, but a text that is longer than a message")))
	require.Len(t, out, 1)
	assert.Contains(t, metaText(out[0], event.Violations), "no entry of a WildFi tag")
	assert.Nil(t, process(t, p, service.NewMessage(nil)), "an empty message is dropped")

	already := service.NewMessage([]byte("x"))
	already.MetaSetMut(event.ErrorClass, "route")
	out = process(t, p, already)
	require.Len(t, out, 1)
	assert.Equal(t, "route", metaText(out[0], event.ErrorClass))
}

func TestClockUnsetIsIngested(t *testing.T) {
	var ingested int
	for _, m := range process(t, testProcessor(t, ""), service.NewMessage(caseInput(t, "bounds_hd"))) {
		if metaText(m, event.TimeSource) == event.TimeIngested {
			ingested++
			assert.Equal(t, event.TimeIngested, body(t, m)["event_time_source"])
		}
	}
	assert.NotZero(t, ingested)
}

// readAll takes all batches of a scanner and acknowledges them.
func readAll(t testing.TB, s service.BatchScanner) (msgs []*service.Message, batches int) {
	t.Helper()
	for {
		batch, ack, err := s.NextBatch(t.Context())
		if errors.Is(err, io.EOF) {
			return msgs, batches
		}
		require.NoError(t, err)
		batches++
		msgs = append(msgs, batch...)
		require.NoError(t, ack(t.Context(), nil))
	}
}

func testScanner(t testing.TB, yaml string) *scannerCreator {
	t.Helper()
	conf, err := ScannerSpec().ParseYAML(yaml, nil)
	require.NoError(t, err)
	c, err := NewScanner(conf, service.MockResources())
	require.NoError(t, err)
	return c.(*scannerCreator)
}

func TestScanner(t *testing.T) {
	log := newTestLog(5, Movement, 3, 300_000, 40).bytes()
	want := process(t, testProcessor(t, ""), service.NewMessage(log))
	var acked atomic.Int32
	details := service.NewScannerSourceDetails()
	details.SetName("x.bin")
	s, err := testScanner(t, "batch_count: 50").Create(io.NopCloser(bytes.NewReader(log)), func(context.Context, error) error {
		acked.Add(1)
		return nil
	}, details)
	require.NoError(t, err)
	got, batches := readAll(t, s)
	require.Len(t, got, len(want))
	assert.GreaterOrEqual(t, batches, len(want)/50)
	ids := func(msgs []*service.Message) (all []string) {
		for _, m := range msgs {
			all = append(all, metaText(m, event.EventID))
		}
		return all
	}
	assert.Equal(t, ids(want), ids(got))
	assert.Equal(t, "x.bin", body(t, got[0])["file"])
	require.NoError(t, s.Close(t.Context()))
	assert.EqualValues(t, 1, acked.Load(), "the log is acknowledged once, when all is delivered")
}

// A scanner that is closed in the middle ends its goroutine and its read.
func TestScannerCloses(t *testing.T) {
	log := newTestLog(5, Movement, 1, 300_000, 40).bytes()
	pr, pw := io.Pipe()
	go func() { _, _ = pw.Write(log) }()
	s, err := testScanner(t, "reorder_window: 1024\nbatch_count: 1").Create(pr, func(context.Context, error) error { return nil }, nil)
	require.NoError(t, err)
	_, _, err = s.NextBatch(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, s.Close(ctx), "waiting for the scanner to close")
}

func TestScannerReadError(t *testing.T) {
	broken := io.NopCloser(io.MultiReader(bytes.NewReader(caseInput(t, "type_61_acc")), errorReader{}))
	s, err := testScanner(t, "").Create(broken, func(context.Context, error) error { return nil }, nil)
	require.NoError(t, err)
	for {
		_, _, err := s.NextBatch(t.Context())
		if err != nil {
			assert.ErrorContains(t, err, "reading log at byte")
			break
		}
	}
	require.NoError(t, s.Close(t.Context()))
}

type errorReader struct{}

func (errorReader) Read([]byte) (int, error) { return 0, errors.New("the disk is gone") }

// A file on disk goes through the stock file input with the scanner.
func TestScannerInFileInput(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x_MOVE_DATA.bin")
	require.NoError(t, os.WriteFile(path, caseInput(t, "lost_messages"), 0o644))
	b := service.NewStreamBuilder()
	b.DisableLinting()
	require.NoError(t, b.AddInputYAML(fmt.Sprintf("file:\n  paths: [ %q ]\n  scanner:\n    wildfi:\n      imu_hz: 50\n", path)))
	require.NoError(t, b.SetLoggerYAML("level: off"))
	var events, marked atomic.Int32
	require.NoError(t, b.AddConsumerFunc(func(_ context.Context, m *service.Message) error {
		if metaText(m, event.ErrorClass) != "" {
			marked.Add(1)
			return nil
		}
		events.Add(1)
		content, err := m.AsBytes()
		if err == nil && !strings.Contains(string(content), "x_MOVE_DATA.bin") {
			return fmt.Errorf("event without its file: %.300s", content)
		}
		return err
	}))
	stream, err := b.Build()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	require.NoError(t, stream.Run(ctx), "waiting for the log to be read")
	assert.EqualValues(t, 10, events.Load())
	assert.NotZero(t, marked.Load())
}

func TestSettings(t *testing.T) {
	dir := t.TempDir()
	names := filepath.Join(dir, "names.yaml")
	require.NoError(t, os.WriteFile(names, []byte("58-bf-25-9a-74-40: cow-1\n'58:BF:25:9A:74:41': cow-2\n"), 0o644))
	factors := filepath.Join(dir, "WildFiDecoderConfig.txt")
	require.NoError(t, os.WriteFile(factors, []byte("#\n1\n#\n2\n#\n4\n"), 0o644))
	c := testScanner(t, fmt.Sprintf("devices_file: %q\ndevices: { '58:BF:25:9A:74:41': cow-3 }\ndecoder_config: %q", names, factors))
	assert.Equal(t, map[string]string{"58:BF:25:9A:74:40": "cow-1", "58:BF:25:9A:74:41": "cow-3"}, c.devices)
	assert.Equal(t, Scale{1, 2, 4}, c.scale)

	for want, yaml := range map[string]string{
		"cow":          "devices: { cow: x }",
		"no such file": "devices_file: 'no such file'",
		"not_after":    "not_after: tomorrow",
		"before":       "not_before: '2030-01-01T00:00:00Z'\nnot_after: '2020-01-01T00:00:00Z'",
		"imu_hz":       "imu_hz: -1",
		"±3 g":         "acc_range: 3",
		"batch_count":  "batch_count: 0",
	} {
		conf, err := ScannerSpec().ParseYAML(yaml, nil)
		require.NoError(t, err)
		_, err = NewScanner(conf, service.MockResources())
		assert.ErrorContains(t, err, want)
	}
}

func TestExamplesLint(t *testing.T) {
	lints, err := service.GlobalEnvironment().NewComponentConfigLinter().LintProcessorYAML([]byte("wildfi_decode:\n  imu_hz: 50\n  devices: { '58:BF:25:9A:74:40': x }\n"))
	require.NoError(t, err)
	assert.Empty(t, lints)
	lints, err = service.GlobalEnvironment().NewComponentConfigLinter().LintProcessorYAML([]byte("wildfi_decode:\n  acc_range: 3\n"))
	require.NoError(t, err)
	assert.NotEmpty(t, lints)
	lints, err = service.GlobalEnvironment().NewComponentConfigLinter().LintInputYAML([]byte("file:\n  paths: [ x ]\n  scanner:\n    wildfi: {}\n"))
	require.NoError(t, err)
	assert.Empty(t, lints)
}
