// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dealiot/dealiot-connect/internal/simulate"
)

// maxBehind is how many messages may be on their way at once.
const maxBehind = 10_000

var eventTopics = []string{
	simulate.TopicGPS, simulate.TopicSensor, simulate.TopicImage2D, simulate.TopicImage3D,
	simulate.TopicVideo2D, simulate.TopicVideo3D, simulate.TopicDeadLetter,
}

// TestEveryMessageIsAccountedFor sends a herd's messages, one in eight of them
// faulty, through the built binary and holds every record in Kafka against the
// message that it came from.
func TestEveryMessageIsAccountedFor(t *testing.T) {
	count := uint64(100_000)
	if testing.Short() {
		count = 10_000
	}
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	b := startBrokers(ctx, t)
	w := startWorker(ctx, t, "pipelines/mqtt_to_kafka.yaml", b.environment())
	records := startReader(ctx, t, b.kafkaAddr, eventTopics...)

	faults := simulate.EvenFaults(0.125)
	faults[simulate.Oversize] = 0.0005 // a megabyte each
	herd := simulate.Config{Devices: 200, Seed: 42, QoS: 1, Start: time.Date(2026, 5, 4, 6, 0, 0, 0, time.UTC), Faults: faults}
	started := time.Now()
	summary, err := simulate.Run(ctx, herd, simulate.PublisherConfig{
		Broker: b.mqttAddr, Count: count, Inflight: 1000,
		Gate: func(ctx context.Context, sent uint64) error {
			return notFarBehind(ctx, w, records, sent)
		},
	}, nil)
	require.NoError(t, err)
	require.Equal(t, count, summary.Sent)
	w.await(ctx, t, "a record for every message", func() bool { return records.count.Load() >= int64(count) })
	elapsed := time.Since(started)

	metrics := w.metrics(t)
	w.stop(ctx, t)
	records.stop()
	require.NoError(t, records.err)
	sum := account(t, herd, count, records.records, false)
	inOrder(t, records.records)
	require.EqualValues(t, count, sum.events+sum.deadLetters)
	require.NotZero(t, sum.deadLetters)
	require.Contains(t, metrics, "dead_letters")
	t.Logf("%d messages: %d events, %d dead letters, none missing, none too many; %.0f a second",
		count, sum.events, sum.deadLetters, float64(count)/elapsed.Seconds())
}

// notFarBehind holds the publisher back while too many messages have no record
// yet.
func notFarBehind(ctx context.Context, w *worker, records *reader, sent uint64) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for int64(sent)-records.count.Load() >= maxBehind {
		select {
		case <-tick.C:
		case <-w.done:
			return errors.New("the worker ended")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// TestKafkaOutage takes Kafka away in the middle of the stream and gives it
// back: nothing is lost, and what comes twice has one identity.
func TestKafkaOutage(t *testing.T) {
	const count, outageAt = 20_000, 6_000
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	b := startBrokers(ctx, t)
	b.mqttAddr = startMosquitto(ctx, t)
	w := startWorker(ctx, t, "pipelines/mqtt_to_kafka.yaml", b.environment())
	records := startReader(ctx, t, b.kafkaAddr, eventTopics...)

	faults := simulate.EvenFaults(0.125)
	faults[simulate.Oversize] = 0
	herd := simulate.Config{Devices: 60, Seed: 7, QoS: 1, Start: time.Date(2026, 5, 4, 6, 0, 0, 0, time.UTC), Faults: faults}
	away := false
	_, err := simulate.Run(ctx, herd, simulate.PublisherConfig{
		Broker: b.mqttAddr, Count: count, Inflight: 500,
		Gate: func(ctx context.Context, sent uint64) error {
			switch {
			case sent >= outageAt && !away:
				away = true
				b.stopKafka()
			case sent >= outageAt+maxBehind/4 && b.kafka == nil:
				// The worker has more to write than it had when Kafka went.
				b.startKafka(t)
			}
			return notFarBehind(ctx, w, records, sent)
		},
	}, nil)
	require.NoError(t, err)
	require.True(t, away)
	w.await(ctx, t, "a record for every message", func() bool { return records.count.Load() >= count })
	w.stop(ctx, t)
	records.stop()
	require.NoError(t, records.err)
	sum := account(t, herd, count, records.records, true)
	require.EqualValues(t, count, sum.events+sum.deadLetters)
	t.Logf("%d messages: %d events, %d dead letters, none missing; %d records came again", count, sum.events, sum.deadLetters, sum.again)
}
