// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"bytes"
	"context"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	_ "github.com/redpanda-data/connect/v4/public/components/kafka"
	_ "github.com/redpanda-data/connect/v4/public/components/mqtt"
	_ "github.com/redpanda-data/connect/v4/public/components/prometheus"

	"github.com/dealiot/dealiot-connect/internal/devstack"
	"github.com/dealiot/dealiot-connect/internal/simulate"
	"github.com/dealiot/dealiot-connect/pipelines"
	_ "github.com/dealiot/dealiot-connect/plugins/bloblfunc"
	_ "github.com/dealiot/dealiot-connect/plugins/contract"
	_ "github.com/dealiot/dealiot-connect/plugins/deadletter"
	_ "github.com/dealiot/dealiot-connect/plugins/deviceevent"
	_ "github.com/dealiot/dealiot-connect/plugins/mqtt5"
)

// copying makes one record of each message; a mapping may change that.
func copying(mapping string) devstack.Pipeline {
	return devstack.Pipeline{Name: "copying", YAML: `
input:
  mqtt:
    urls: [ "tcp://${MQTT_HOST}:${MQTT_PORT}" ]
    topics: [ "#" ]
    client_id: copying
    qos: 1
pipeline:
  threads: 1
  processors:
    - mapping: '` + mapping + `'
output:
  kafka_franz:
    seed_brokers: [ "${KAFKA_BOOTSTRAP_SERVERS}" ]
    topic: raw.sensor
    key: ${! @mqtt_topic }
    batching:
      count: 100
      period: 5ms
`}
}

// output may be written by several goroutines.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func config(t *testing.T, mapping string) (Config, *output) {
	out := &output{}
	return Config{
		Stack: devstack.Config{
			DataDir:   t.TempDir(),
			Pipelines: []devstack.Pipeline{copying(mapping)},
		},
		Herd:  &simulate.Config{Devices: 10, Rate: 5000, Faults: simulate.EvenFaults(0.2), OversizeBytes: 8 << 10},
		Count: 500,
		Out:   out,
		Err:   out,
	}, out
}

func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestEveryMessageIsAccountedFor(t *testing.T) {
	cfg, out := config(t, "root = content()")
	account, err := Run(bounded(t), cfg)
	require.NoError(t, err, out)
	assert.Equal(t, Account{Taken: 500, Herd: 500, Events: 500}, account)
	assert.Regexp(t, regexp.MustCompile(`(?m)^ready in \d+\.\d\d s: MQTT 127\.0\.0\.1:\d+ · Kafka 127\.0\.0\.1:\d+ · 47 topics · pipelines copying · http http://127\.0\.0\.1:\d+$`), out.String())
	assert.Contains(t, out.String(), "  missing                      0\n")
}

func TestMissingMessagesAreTold(t *testing.T) {
	// Every message with a 7 at the end of its number is lost.
	cfg, out := config(t, `root = if content().string().re_match("sim_seq\\D+\\d*7\\b") { deleted() } else { content() }`)
	cfg.Herd.Faults = nil
	cfg.Patience = 200 * time.Millisecond
	account, err := Run(bounded(t), cfg)
	var missing *MissingError
	require.ErrorAs(t, err, &missing, out)
	assert.Equal(t, account, missing.Account)
	assert.EqualValues(t, 50, account.Missing)
	assert.EqualValues(t, 450, account.Events)
	assert.Contains(t, out.String(), "  missing                     50\n")
}

func TestInterruptIsAnOrderlyEnd(t *testing.T) {
	cfg, out := config(t, "root = content()")
	cfg.Count = 0
	ctx, interrupt := context.WithCancel(bounded(t))
	defer interrupt()
	done := make(chan struct{})
	var account Account
	var err error
	go func() {
		defer close(done)
		account, err = Run(ctx, cfg)
	}()
	require.Eventually(t, func() bool { return bytes.Contains([]byte(out.String()), []byte("ready in")) }, 30*time.Second, time.Millisecond)
	interrupt()
	<-done
	require.NoError(t, err, out)
	assert.Zero(t, account.Missing)
	assert.Equal(t, account.Herd, account.Events)
}

func TestOwnPipelinesNeedNotKeepEverything(t *testing.T) {
	cfg, out := config(t, "root = deleted()")
	cfg.OwnPipelines = true
	_, err := Run(bounded(t), cfg)
	require.NoError(t, err)
	assert.Regexp(t, `MQTT messages taken +500\n  records in Kafka +0\n$`, out.String())
}

func TestNoHerd(t *testing.T) {
	cfg, out := config(t, "root = content()")
	cfg.Herd, cfg.Count, cfg.Duration = nil, 0, time.Millisecond
	account, err := Run(bounded(t), cfg)
	require.NoError(t, err, out)
	assert.Zero(t, account)
}

// The pipelines of the distribution make of each message what the herd says.
func TestBuiltInPipelines(t *testing.T) {
	cfg, out := config(t, "")
	var err error
	cfg.Stack.Pipelines, err = devstack.LoadPipelines(pipelines.FS)
	require.NoError(t, err)
	require.NotEmpty(t, cfg.Stack.Pipelines)
	cfg.Herd.OversizeBytes = 0
	var events, deadLetters uint64
	same := *cfg.Herd
	same.Start = time.Now()
	herd, err := simulate.NewHerd(same)
	require.NoError(t, err)
	for range cfg.Count {
		if herd.Next().Expect.KafkaTopic == simulate.TopicDeadLetter {
			deadLetters++
		} else {
			events++
		}
	}
	account, err := Run(bounded(t), cfg)
	require.NoError(t, err, out)
	assert.Equal(t, Account{Taken: 500, Herd: 500, Events: events, DeadLetters: deadLetters}, account)
	assert.NotContains(t, out.String(), "dead letters of class", "dead_letter's warnings say again what the view shows")
}

func TestTerminal(t *testing.T) {
	cfg, out := config(t, "root = content()")
	cfg.Terminal = &Terminal{Size: func() (int, int) { return 80, 24 }}
	_, err := Run(bounded(t), cfg)
	require.NoError(t, err, out)
	text := out.String()
	require.Regexp(t, `(?s)^ready in .*\x1b\[\?1049h\x1b\[\?25l.*dealiot-connect dev on 127\.0\.0\.1.*\x1b\[\?25h\x1b\[\?1049lstopping.* missing +0\n$`, text)
}
