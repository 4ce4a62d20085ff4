// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dealiot/dealiot-connect/internal/simulate"
)

// startMosquitto starts a real broker that keeps sessions, and gives its
// address. The test is skipped where it is not installed.
func startMosquitto(ctx context.Context, t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("mosquitto")
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin"} {
		if err != nil {
			path, err = exec.LookPath(filepath.Join(dir, "mosquitto"))
		}
	}
	if err != nil {
		t.Skip("SKIPPED: mosquitto is not installed (Debian package mosquitto): the loss-free way from a real MQTT broker is not tested")
	}
	addr := freeAddress(t)
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	conf := filepath.Join(t.TempDir(), "mosquitto.conf")
	require.NoError(t, os.WriteFile(conf, []byte(fmt.Sprintf(
		// No limits of its own: what it drops for a slow client would count as lost.
		"listener %s 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 0\nmax_queued_bytes 0\n", port)), 0o600))
	log := &logBuffer{}
	cmd := exec.Command(path, "-c", conf)
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(t, cmd.Start())
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
		if t.Failed() {
			t.Logf("what mosquitto said:\n%s", log)
		}
	})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			return addr
		}
		select {
		case <-tick.C:
		case <-done:
			t.Fatalf("starting mosquitto: it ended:\n%s", log)
		case <-ctx.Done():
			t.Fatalf("waiting for mosquitto on %s: %v", addr, ctx.Err())
		}
	}
}

// TestInterruptedWorker ends the worker again and again while a herd publishes,
// by SIGKILL and in good order, and starts it anew: every message that the
// broker accepted has its record, and what came twice has one identity.
func TestInterruptedWorker(t *testing.T) {
	for name, end := range map[string]func(context.Context, *testing.T, *worker){
		"kill": func(_ context.Context, t *testing.T, w *worker) {
			require.NoError(t, w.cmd.Process.Kill())
			<-w.done
		},
		"stop": func(ctx context.Context, t *testing.T, w *worker) { w.stop(ctx, t) },
	} {
		t.Run(name, func(t *testing.T) { interrupt(t, end) })
	}
}

func interrupt(t *testing.T, end func(context.Context, *testing.T, *worker)) {
	const count, times = 30_000, 5
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	b := startBrokers(ctx, t)
	b.mqttAddr = startMosquitto(ctx, t)
	env := b.environment()
	env["MQTT_CLIENT_ID"] = "worker-0"
	w := startWorker(ctx, t, "pipelines/mqtt_to_kafka.yaml", env)
	records := startReader(ctx, t, b.kafkaAddr, eventTopics...)

	faults := simulate.EvenFaults(0.125)
	faults[simulate.Oversize] = 0
	herd := simulate.Config{Devices: 60, Seed: 11, QoS: 1, Start: time.Date(2026, 5, 4, 6, 0, 0, 0, time.UTC), Faults: faults}
	ended := 0
	_, err := simulate.Run(ctx, herd, simulate.PublisherConfig{
		Broker: b.mqttAddr, Count: count, Inflight: 200,
		Gate: func(ctx context.Context, sent uint64) error {
			if due := uint64(ended+1) * count / (times + 1); ended < times && sent >= due {
				end(ctx, t, w)
				ended++
				w = startWorker(ctx, t, "pipelines/mqtt_to_kafka.yaml", env)
			}
			return nil
		},
	}, nil)
	require.NoError(t, err)
	require.Equal(t, times, ended)
	wanted := distinct(t, herd, count)
	w.await(ctx, t, "a record for every message", func() bool { return seen(records) >= wanted })
	w.stop(ctx, t)
	records.stop()
	require.NoError(t, records.err)
	sum := account(t, herd, count, records.all(), true)
	require.EqualValues(t, count, sum.events+sum.deadLetters)
	t.Logf("%d messages, ended %d times: %d events, %d dead letters, none missing; %d records came again", count, ended, sum.events, sum.deadLetters, sum.again)
}

// seen is how many different messages have a record by now.
func seen(r *reader) int {
	numbers := map[uint64]bool{}
	for _, rec := range r.all() {
		if seq, ok := rec.seq(); ok {
			numbers[seq] = true
		}
	}
	return len(numbers)
}

// distinct is how many of a herd's messages are no deliberate duplicates.
func distinct(t *testing.T, cfg simulate.Config, count uint64) (n int) {
	t.Helper()
	herd, err := simulate.NewHerd(cfg)
	require.NoError(t, err)
	for range count {
		if m := herd.Next(); m.DuplicateOf == 0 {
			n++
		}
	}
	return n
}
