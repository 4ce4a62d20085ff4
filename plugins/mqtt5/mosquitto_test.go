// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package mqtt5

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/stretchr/testify/require"

	"github.com/redpanda-data/benthos/v4/public/service"
	_ "github.com/redpanda-data/connect/v4/public/components/io"
)

// Environment of the worker process that the tests here start and kill.
const childConfig = "DEALIOT_MQTT5_TEST_CHILD"

func TestMain(m *testing.M) {
	if yaml := os.Getenv(childConfig); yaml != "" {
		if err := runChild(yaml); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// runChild runs a pipeline until the process is killed or told to stop by the
// end of its standard input.
func runChild(yaml string) error {
	b := service.NewStreamBuilder()
	if err := b.SetYAML(yaml); err != nil {
		return err
	}
	stream, err := b.Build()
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- stream.Run(context.Background()) }()
	stdin := make(chan struct{})
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadString(0)
		close(stdin)
	}()
	select {
	case err := <-ended:
		return err
	case <-stdin:
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		return stream.Stop(ctx)
	}
}

// mosquitto is a broker process.
type mosquitto struct {
	t    *testing.T
	url  string
	conf string
	cmd  *exec.Cmd
}

// realBroker gives the broker that DEALIOT_TEST_MQTT names, or else starts a
// Mosquitto of its own.
func realBroker(t *testing.T) *mosquitto {
	t.Helper()
	if url := os.Getenv("DEALIOT_TEST_MQTT"); url != "" {
		return &mosquitto{t: t, url: url}
	}
	return ownMosquitto(t)
}

func ownMosquitto(t *testing.T) *mosquitto {
	t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto" // where Debian puts it, outside of a user's PATH
		if _, err := os.Stat(path); err != nil {
			t.Skipf("SKIPPED %s: no mosquitto on this machine (Debian: apt-get install mosquitto)", t.Name())
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := ln.Addr().String()
	require.NoError(t, ln.Close())
	dir := t.TempDir()
	// max_queued_messages 0 is no limit; the default drops what a client lags behind.
	conf := filepath.Join(dir, "mosquitto.conf")
	_, port, _ := net.SplitHostPort(addr)
	require.NoError(t, os.WriteFile(conf, fmt.Appendf(nil, `
listener %s 127.0.0.1
allow_anonymous true
persistence true
persistence_location %s/
max_queued_messages 0
max_inflight_messages 0
log_type none
user root
`, port, dir), 0o600))
	m := &mosquitto{t: t, url: "mqtt://" + addr, conf: conf}
	m.cmd = exec.Command(path, "-c", conf)
	m.start()
	t.Cleanup(m.stop)
	return m
}

func (m *mosquitto) start() {
	m.t.Helper()
	m.cmd = exec.Command(m.cmd.Path, "-c", m.conf)
	require.NoError(m.t, m.cmd.Start())
	u, err := url.Parse(m.url)
	require.NoError(m.t, err)
	require.Eventually(m.t, func() bool {
		c, err := net.Dial("tcp", u.Host)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}, deadline, 5*time.Millisecond, "waiting for mosquitto to listen at %s", m.url)
}

// stop ends the broker in an orderly way: it writes down what it holds.
func (m *mosquitto) stop() {
	_ = m.cmd.Process.Signal(os.Interrupt)
	_ = m.cmd.Wait()
}

// ledger publishes numbered messages and knows which ones the broker accepted.
type ledger struct {
	t        *testing.T
	url      string
	topic    string
	next     atomic.Int64
	accepted sync.Map // int64 to bool
	n        atomic.Int64
}

// publish sends numbered messages by a connection of its own, each until the
// broker has acknowledged it, until more is false.
func (l *ledger) publish(ctx context.Context, more func() bool) {
	var client *paho.Client
	live, lost := ctx, func() {}
	for more() && ctx.Err() == nil {
		n := l.next.Add(1)
		for ctx.Err() == nil {
			if client == nil {
				if client = l.connect(ctx); client != nil {
					live, lost = context.WithCancel(ctx)
					go func(c *paho.Client, lost func()) { <-c.Done(); lost() }(client, lost)
				}
				continue
			}
			_, err := client.Publish(live, &paho.Publish{Topic: l.topic, QoS: 1, Payload: []byte(strconv.FormatInt(n, 10))})
			if err == nil {
				l.accepted.Store(n, true)
				l.n.Add(1)
				break
			}
			lost()
			client = nil
		}
	}
	lost()
	if client != nil {
		_ = client.Disconnect(&paho.Disconnect{})
	}
}

func (l *ledger) connect(ctx context.Context) *paho.Client {
	u, err := url.Parse(l.url)
	if err != nil {
		return nil
	}
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil
	}
	client := paho.NewClient(paho.ClientConfig{Conn: c})
	if _, err := client.Connect(ctx, &paho.Connect{CleanStart: true, KeepAlive: 30}); err != nil {
		return nil
	}
	return client
}

// start publishes by several connections until stop is called, which waits
// for the end.
func (l *ledger) start() (stop func()) {
	var ended atomic.Bool
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { l.publish(l.t.Context(), func() bool { return !ended.Load() }) })
	}
	return func() {
		l.t.Helper()
		ended.Store(true)
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		wait(l.t, done, "the publishers to end")
	}
}

// one publishes one message.
func (l *ledger) one() {
	once := true
	l.publish(l.t.Context(), func() bool { defer func() { once = false }(); return once })
}

// worker is a process that reads from the broker and writes to a file.
type worker struct {
	t    *testing.T
	yaml string
	out  string
	cmd  *exec.Cmd
	stop func() // by closing its standard input
}

func newWorker(t *testing.T, url, topic, id string) *worker {
	t.Helper()
	out := filepath.Join(t.TempDir(), id+".txt")
	w := &worker{t: t, out: out, yaml: fmt.Sprintf(`
logger: { level: INFO, format: logfmt }
input:
  mqtt5:
    urls: [ %q ]
    topics: [ %q ]
    client_id: %q
    reconnect: { min_interval: 10ms, max_interval: 100ms }
pipeline:
  threads: 1
output:
  file:
    path: %q
    codec: lines
`, url, topic, id, out)}
	t.Cleanup(w.kill)
	return w
}

func (w *worker) start() {
	w.t.Helper()
	exe, err := os.Executable()
	require.NoError(w.t, err)
	w.cmd = exec.Command(exe)
	w.cmd.Env = append(os.Environ(), childConfig+"="+w.yaml)
	w.cmd.Stderr = os.Stderr
	stdin, err := w.cmd.StdinPipe()
	require.NoError(w.t, err)
	w.stop = func() { _ = stdin.Close() }
	require.NoError(w.t, w.cmd.Start())
}

// kill is kill -9.
func (w *worker) kill() {
	if w.cmd != nil {
		_ = w.cmd.Process.Kill()
		_ = w.cmd.Wait()
		w.cmd = nil
	}
}

// written gives how often each number was written by some workers.
func written(t *testing.T, workers ...*worker) map[int64]int {
	t.Helper()
	got := map[int64]int{}
	for _, w := range workers {
		text, err := os.ReadFile(w.out)
		if os.IsNotExist(err) {
			continue
		}
		require.NoError(t, err)
		for line := range bytes.Lines(text) {
			// What was being written at a kill has no end of line, or runs into the
			// next line; its message was not acknowledged and comes again.
			if n, err := strconv.ParseInt(strings.TrimSuffix(string(line), "\n"), 10, 64); err == nil && bytes.HasSuffix(line, []byte("\n")) {
				got[n]++
			}
		}
	}
	return got
}

// lines is how much a worker has written.
func (w *worker) lines() int {
	text, err := os.ReadFile(w.out)
	if err != nil {
		return 0
	}
	return bytes.Count(text, []byte("\n"))
}

// progress waits until a worker has written more than it had.
func (w *worker) progress(had, more int) {
	w.t.Helper()
	require.Eventually(w.t, func() bool { return w.lines() >= had+more }, 30*time.Second, time.Millisecond,
		"waiting for the worker to write %d lines more than %d, it has %d", more, had, w.lines())
}

// verify waits until everything that was accepted is written, and counts what
// is written more than once.
func (l *ledger) verify(workers ...*worker) {
	l.t.Helper()
	var missing []int64
	ok := func() bool {
		got := written(l.t, workers...)
		missing = missing[:0]
		for n := range l.next.Load() {
			if _, accepted := l.accepted.Load(n + 1); accepted && got[n+1] == 0 {
				missing = append(missing, n+1)
			}
		}
		return len(missing) == 0
	}
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			require.FailNow(l.t, "messages lost", "%d of %d that the broker accepted were never written, such as %v", len(missing), l.n.Load(), missing[:min(5, len(missing))])
		}
	}
	twice := 0
	for _, times := range written(l.t, workers...) {
		twice += times - 1
	}
	l.t.Logf("%d accepted, 0 lost, %d written again", l.n.Load(), twice)
}

// rounds is how often the tests here kill something.
const rounds = 8

func TestRealBrokerKillWorker(t *testing.T) {
	b := realBroker(t)
	topic := fmt.Sprintf("kill/%d", time.Now().UnixNano())
	w := newWorker(t, b.url, topic, "kill-"+strconv.FormatInt(time.Now().UnixNano(), 36))
	// The subscription must be there before the first message.
	w.start()
	l := &ledger{t: t, url: b.url, topic: topic}
	awaitSubscribed(t, l, w)

	stop := l.start()
	for range rounds {
		w.progress(w.lines(), 500)
		w.kill()
		w.start()
	}
	stop()
	l.verify(w)

	// A graceful stop leaves nothing to be sent again.
	before := written(t, w)
	w.stop()
	require.NoError(t, w.cmd.Wait())
	w.cmd = nil
	w.start()
	l.one()
	l.verify(w)
	after := written(t, w)
	for i, times := range before {
		require.Equal(t, times, after[i], "message %d came again after a graceful stop", i)
	}
}

// awaitSubscribed publishes until a message comes through.
func awaitSubscribed(t *testing.T, l *ledger, workers ...*worker) {
	t.Helper()
	c := l.connect(t.Context())
	require.NotNil(t, c, "connecting to %s", l.url)
	for _, w := range workers {
		require.Eventually(t, func() bool {
			_, err := c.Publish(t.Context(), &paho.Publish{Topic: l.topic, QoS: 1, Payload: []byte("0")})
			return err == nil && w.lines() > 0
		}, deadline, 20*time.Millisecond, "waiting for the worker to subscribe")
	}
	_ = c.Disconnect(&paho.Disconnect{})
}

func TestRealBrokerRestart(t *testing.T) {
	b := ownMosquitto(t)
	const topic = "restart/t"
	w := newWorker(t, b.url, topic, "restart")
	w.start()
	l := &ledger{t: t, url: b.url, topic: topic}
	awaitSubscribed(t, l, w)
	stop := l.start()
	for range rounds {
		w.progress(w.lines(), 500)
		b.stop()
		b.start()
	}
	stop()
	l.verify(w)
}

func TestRealBrokerSharedSubscription(t *testing.T) {
	b := realBroker(t)
	run := strconv.FormatInt(time.Now().UnixNano(), 36)
	topic := "shared/" + run
	var workers []*worker
	for _, id := range []string{"a", "b"} {
		w := newWorker(t, b.url, "$share/g"+run+"/"+topic, id+run)
		w.start()
		workers = append(workers, w)
	}
	l := &ledger{t: t, url: b.url, topic: topic}
	awaitSubscribed(t, l, workers...)
	stop := l.start()
	for range rounds {
		workers[0].progress(workers[0].lines(), 200)
		workers[0].kill()
		workers[1].progress(workers[1].lines(), 200)
		workers[0].start()
	}
	stop()
	l.verify(workers...)
	for _, w := range workers {
		require.NotZero(t, w.lines())
	}
}
