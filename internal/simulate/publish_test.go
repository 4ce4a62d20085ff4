// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package simulate

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const patience = 60 * time.Second

// received is what a broker took, in order.
type received struct {
	mochi.HookBase
	mu       sync.Mutex
	messages []packets.Packet
	onCount  func(n int)
}

func (r *received) ID() string           { return "received" }
func (r *received) Provides(b byte) bool { return b == mochi.OnPublish }
func (r *received) OnPublish(_ *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	r.mu.Lock()
	pk.Payload = bytes.Clone(pk.Payload)
	r.messages = append(r.messages, pk)
	n, f := len(r.messages), r.onCount
	r.mu.Unlock()
	if f != nil {
		f(n)
	}
	return pk, nil
}

// startBroker starts an embedded broker at a free port.
func startBroker(t testing.TB, r *received, capabilities func(*mochi.Capabilities)) (server *mochi.Server, address string) {
	t.Helper()
	caps := mochi.NewDefaultServerCapabilities()
	if capabilities != nil {
		capabilities(caps)
	}
	server = mochi.New(&mochi.Options{Capabilities: caps, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	require.NoError(t, server.AddHook(new(auth.AllowHook), nil))
	require.NoError(t, server.AddHook(r, nil))
	tcp := listeners.NewTCP(listeners.Config{ID: "tcp", Address: "127.0.0.1:0"})
	require.NoError(t, server.AddListener(tcp))
	require.NoError(t, server.Serve())
	t.Cleanup(func() { _ = server.Close() })
	return server, "tcp://" + tcp.Address()
}

func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// readManifest reads the lines of a manifest.
func readManifest(t testing.TB, b *bytes.Buffer) (entries []ManifestEntry) {
	t.Helper()
	lines := bufio.NewScanner(b)
	for lines.Scan() {
		var e ManifestEntry
		require.NoError(t, json.Unmarshal(lines.Bytes(), &e))
		entries = append(entries, e)
	}
	require.NoError(t, lines.Err())
	return entries
}

func TestRunPublishesEverythingOnce(t *testing.T) {
	for name, qos := range map[string]byte{"qos 0": 0, "qos 1": 1, "qos 2": 2} {
		t.Run(name, func(t *testing.T) {
			var r received
			_, address := startBroker(t, &r, nil)
			cfg := Config{Seed: 4, Start: testStart, QoS: qos, Faults: EvenFaults(0.3), OversizeBytes: 60_000}
			var manifest bytes.Buffer
			var stats []Stats
			const n = 3000
			sum, err := Run(bounded(t), cfg, PublisherConfig{Broker: address, Count: n, Manifest: &manifest, Inflight: 200}, func(s Stats) { stats = append(stats, s) })
			require.NoError(t, err)
			if qos == 0 { // written, but perhaps not read yet
				require.Eventually(t, func() bool { r.mu.Lock(); defer r.mu.Unlock(); return len(r.messages) == n }, patience, time.Millisecond, "the broker has not read all messages")
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			require.Len(t, r.messages, n)
			entries := readManifest(t, &manifest)
			require.Len(t, entries, n)

			twin := newTestHerd(t, cfg)
			byClass, byTopic := map[Class]uint64{}, map[string]uint64{}
			for i, got := range r.messages {
				want := twin.Next()
				require.Equal(t, want.MQTTTopic, got.TopicName)
				require.True(t, bytes.Equal(want.Payload, got.Payload), "message %d", i+1)
				require.Equal(t, qos, got.FixedHeader.Qos)
				require.Equal(t, manifestEntry(&want, true), entries[i])
				byClass[want.Class]++
				byTopic[want.Expect.KafkaTopic]++
			}
			assert.EqualValues(t, n, sum.Sent)
			assert.EqualValues(t, n, sum.Acknowledged)
			assert.Zero(t, sum.Resent)
			assert.Equal(t, byTopic, sum.ByTopic)
			require.Len(t, sum.ByClass, len(byClass))
			for c, s := range sum.ByClass {
				assert.Equal(t, byClass[c], s.Sent, c)
				expected := uint64(0)
				for _, x := range s.Expect {
					expected += x
				}
				assert.Equal(t, s.Sent, expected, c)
			}
			require.NotEmpty(t, stats)
			assert.EqualValues(t, n, stats[len(stats)-1].Acknowledged)
		})
	}
}

// proxy passes connections on to a broker and can cut them.
type proxy struct {
	net.Listener
	target string
	mu     sync.Mutex
	conns  []net.Conn
}

func startProxy(t *testing.T, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{Listener: l, target: target}
	t.Cleanup(func() { _ = l.Close(); p.cut() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", target)
			if err != nil {
				_ = in.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, in, out)
			p.mu.Unlock()
			go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
			go func() { _, _ = io.Copy(in, out); _ = in.Close() }()
		}
	}()
	return p
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
	}
	p.conns = nil
}

// The connection breaks several times at full speed: nothing is lost, the
// order of first arrivals holds, and what arrives twice was sent again.
func TestRunSurvivesLostConnections(t *testing.T) {
	r := &received{}
	_, address := startBroker(t, r, nil)
	p := startProxy(t, address[len("tcp://"):])
	r.onCount = func(n int) {
		if n == 500 || n == 1500 || n == 2700 {
			p.cut()
		}
	}
	var manifest bytes.Buffer
	var notices atomic.Int32
	const n = 3000
	sum, err := Run(bounded(t), Config{Seed: 4, Start: testStart, QoS: 1}, PublisherConfig{
		Broker: "tcp://" + p.Addr().String(), Count: n, Manifest: &manifest, Inflight: 100, backoff: time.Millisecond,
		Notify: func(text string) { notices.Add(1); t.Log(text) },
	}, nil)
	require.NoError(t, err)
	assert.EqualValues(t, n, sum.Sent)
	assert.EqualValues(t, n, sum.Acknowledged)
	assert.GreaterOrEqual(t, sum.Reconnects, uint64(3))
	assert.GreaterOrEqual(t, notices.Load(), int32(6))
	assert.Len(t, readManifest(t, &manifest), n)

	r.mu.Lock()
	defer r.mu.Unlock()
	seen := map[uint64]bool{}
	highest, again := uint64(0), uint64(0)
	for _, m := range r.messages {
		seq, ok := FindSeq(m.Payload)
		require.True(t, ok)
		if seen[seq] {
			again++
			continue
		}
		seen[seq] = true
		require.Equal(t, highest+1, seq, "a first arrival is out of order")
		highest = seq
	}
	assert.Len(t, seen, n)
	assert.LessOrEqual(t, again, sum.Resent)
}

// A broker that disconnects at a large message must not make the run try for
// ever, and the error must name the message at fault.
func TestRunNamesTheMessageThatTheBrokerWontTake(t *testing.T) {
	r := &received{}
	_, address := startBroker(t, r, func(c *mochi.Capabilities) { c.MaximumPacketSize = 8192 })
	cfg := Config{Seed: 2, Start: testStart, QoS: 1, Faults: map[Class]float64{Oversize: 0.02}, OversizeBytes: 20_000}
	twin := newTestHerd(t, cfg)
	poison := twin.Next()
	for poison.Class != Oversize {
		poison = twin.Next()
	}
	require.Greater(t, poison.Seq, uint64(5))
	var manifest bytes.Buffer
	sum, err := Run(bounded(t), cfg, PublisherConfig{Broker: address, Count: 5000, Inflight: 50, Manifest: &manifest, backoff: time.Millisecond}, nil)
	require.ErrorContains(t, err, "packet limit")
	require.ErrorContains(t, err, "of class oversize")
	assert.Equal(t, poison.Seq-1, sum.Acknowledged)
	assert.Greater(t, sum.Sent, sum.Acknowledged)
	entries := readManifest(t, &manifest)
	require.Len(t, entries, int(sum.Sent))
	for _, e := range entries {
		assert.Equal(t, e.Seq < poison.Seq, e.Acknowledged, "message %d", e.Seq)
	}
}

// The default size of an oversize message fits a broker's limit of 1 MiB.
func TestOversizeFitsTheEmbeddedBroker(t *testing.T) {
	r := &received{}
	_, address := startBroker(t, r, func(c *mochi.Capabilities) { c.MaximumPacketSize = 1 << 20 })
	cfg := Config{Start: testStart, QoS: 1, Faults: map[Class]float64{Oversize: 1}}
	sum, err := Run(bounded(t), cfg, PublisherConfig{Broker: address, Count: 10}, nil)
	require.NoError(t, err)
	assert.EqualValues(t, 10, sum.Acknowledged)
	assert.Zero(t, sum.Reconnects)
}

func TestRunStopsWhenTold(t *testing.T) {
	r := &received{}
	_, address := startBroker(t, r, nil)
	ctx, cancel := context.WithCancel(bounded(t))
	r.onCount = func(n int) {
		if n == 200 {
			cancel()
		}
	}
	sum, err := Run(ctx, Config{Start: testStart, QoS: 1}, PublisherConfig{Broker: address, Inflight: 20}, nil)
	require.NoError(t, err)
	assert.GreaterOrEqual(t, sum.Sent, uint64(200))
	assert.Equal(t, sum.Sent, sum.Acknowledged)
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.Len(t, r.messages, int(sum.Sent))
}

func TestRunIsPacedByRateAndDuration(t *testing.T) {
	r := &received{}
	_, address := startBroker(t, r, nil)
	sum, err := Run(bounded(t), Config{Start: testStart, QoS: 1}, PublisherConfig{Broker: address, Rate: 400, Duration: 500 * time.Millisecond}, nil)
	require.NoError(t, err)
	assert.EqualValues(t, 200, sum.Sent)
	assert.GreaterOrEqual(t, time.Duration(sum.Duration), 490*time.Millisecond, "199 intervals at 400 a second")
}

// The gate decides how far the run is ahead of whoever consumes.
func TestRunWaitsAtTheGate(t *testing.T) {
	r := &received{}
	_, address := startBroker(t, r, nil)
	consumed := make(chan struct{}, 1)
	var ahead, most atomic.Int64
	r.onCount = func(int) {
		ahead.Add(-1)
		select {
		case consumed <- struct{}{}:
		default:
		}
	}
	const n, window = 500, 10
	gate := func(ctx context.Context, sent uint64) error {
		for ahead.Load() >= window {
			select {
			case <-consumed:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		most.Store(max(most.Load(), ahead.Add(1)))
		return nil
	}
	sum, err := Run(bounded(t), Config{Start: testStart, QoS: 1}, PublisherConfig{Broker: address, Count: n, Gate: gate}, nil)
	require.NoError(t, err)
	assert.EqualValues(t, n, sum.Acknowledged)
	assert.LessOrEqual(t, most.Load(), int64(window))
	assert.Positive(t, most.Load())
}

func TestGateErrorEndsRun(t *testing.T) {
	r := &received{}
	_, address := startBroker(t, r, nil)
	closed := errors.New("consumer is gone")
	sum, err := Run(bounded(t), Config{Start: testStart, QoS: 1}, PublisherConfig{Broker: address, Gate: func(_ context.Context, sent uint64) error {
		if sent == 7 {
			return closed
		}
		return nil
	}}, nil)
	require.ErrorIs(t, err, closed)
	assert.ErrorContains(t, err, "message 8")
	assert.EqualValues(t, 7, sum.Acknowledged)
}

// A broker that takes messages but never acknowledges them.
func TestRunGivesUpOnSilentBroker(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = c.Write([]byte{0x20, 2, 0, 0}) // CONNACK
				_, _ = io.Copy(io.Discard, c)
			}()
		}
	}()
	var manifest bytes.Buffer
	sum, err := Run(bounded(t), Config{Start: testStart, QoS: 1}, PublisherConfig{
		Broker: l.Addr().String(), Count: 3, DrainTimeout: 200 * time.Millisecond, Manifest: &manifest,
	}, nil)
	var unacked *UnacknowledgedError
	require.ErrorAs(t, err, &unacked)
	assert.Equal(t, 3, unacked.Count)
	assert.EqualValues(t, 1, unacked.First)
	assert.EqualValues(t, 3, sum.Sent)
	assert.Zero(t, sum.Acknowledged)
	for _, e := range readManifest(t, &manifest) {
		assert.False(t, e.Acknowledged)
	}
}

func TestRunSaysWhatIsWrong(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	nobody := free.Addr().String()
	require.NoError(t, free.Close())

	ok := Config{Start: testStart}
	for name, tc := range map[string]struct {
		cfg     Config
		pub     PublisherConfig
		want    string
		connect bool
	}{
		"nobody there": {ok, PublisherConfig{Broker: nobody}, "connecting to MQTT broker tcp://" + nobody, true},
		"no broker":    {ok, PublisherConfig{}, "no host", false},
		"scheme":       {ok, PublisherConfig{Broker: "http://x"}, `scheme "http"`, false},
		"password":     {ok, PublisherConfig{Broker: "tcp://u:secret@x"}, "don't belong", false},
		"inflight":     {ok, PublisherConfig{Broker: nobody, Inflight: 70_000}, "70000", false},
		"rate":         {ok, PublisherConfig{Broker: nobody, Rate: -1}, "rate: -1", false},
		"duration":     {ok, PublisherConfig{Broker: nobody, Duration: -1}, "negative", false},
		"herd":         {Config{}, PublisherConfig{Broker: nobody}, "start time", false},
	} {
		_, err := Run(bounded(t), tc.cfg, tc.pub, nil)
		require.ErrorContains(t, err, tc.want, name)
		var unreached *ConnectError
		assert.Equal(t, tc.connect, errors.As(err, &unreached), name)
		assert.NotContains(t, err.Error(), "secret", name)
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("disk is full") }

func TestRunReportsManifestThatCannotBeWritten(t *testing.T) {
	r := &received{}
	_, address := startBroker(t, r, nil)
	sum, err := Run(bounded(t), Config{Start: testStart, QoS: 1}, PublisherConfig{Broker: address, Count: 5, Manifest: failingWriter{}}, nil)
	require.ErrorContains(t, err, "writing manifest: disk is full")
	assert.EqualValues(t, 5, sum.Acknowledged)
}

func TestSummaryJSON(t *testing.T) {
	s := newSummary(newTestHerd(t, Config{Seed: 1}).Config())
	for _, m := range []Message{
		{Class: OK, Expect: Expect(OK, TopicGPS)},
		{Class: OK, Expect: Expect(OK, TopicSensor)},
		{Class: BadJSON, Expect: Expect(BadJSON, TopicGPS)},
		{Class: BadJSON, Expect: Expect(BadJSON, TopicSensor)},
		{Class: BadJSON, Expect: Expect(BadJSON, TopicImage2D)},
	} {
		s.count(&m)
	}
	s.Duration = Seconds(1234567 * time.Microsecond)
	got, err := json.Marshal(s)
	require.NoError(t, err)
	assert.JSONEq(t, `{
		"sent": 5, "acknowledged": 0, "resent": 0, "reconnects": 0,
		"by_class": {
			"ok": {"sent": 2, "expect": {"raw.gps": 1, "raw.sensor": 1}},
			"bad_json": {"sent": 3, "expect": {"dlq.events": 2, "raw.sensor": 1}}
		},
		"by_topic": {"raw.gps": 1, "raw.sensor": 2, "dlq.events": 2},
		"seed": 1, "devices": 40, "start": "2026-05-04T06:30:00Z", "rate": 50,
		"duration_s": 1.234
	}`, string(got))
	var back Summary
	require.NoError(t, json.Unmarshal(got, &back))
	assert.Equal(t, s.ByClass, back.ByClass)
}

func BenchmarkRun(b *testing.B) {
	_, address := startBroker(b, &received{}, nil)
	ctx := b.Context()
	b.ReportAllocs()
	_, err := Run(ctx, Config{Start: testStart, QoS: 1}, PublisherConfig{Broker: address, Count: uint64(b.N)}, nil)
	require.NoError(b, err)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}
