// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

// Package mqtt_test measures three bridges from MQTT to Kafka side by side:
// pipelines/mqtt_to_kafka.yaml, the same with the engine's own components, and
// one written by hand that validates nothing. RESULTS.md says how to run it and
// what came out.
//
// The bridge is a process of its own, and only its CPU time counts. Mosquitto
// is another, and this process publishes and holds the Kafka broker.
package mqtt_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/redpanda-data/benthos/v4/public/service"
	_ "github.com/redpanda-data/connect/v4/public/components/io"
	_ "github.com/redpanda-data/connect/v4/public/components/kafka"
	_ "github.com/redpanda-data/connect/v4/public/components/mqtt"

	"github.com/dealiot/dealiot-connect/pipelines"
	_ "github.com/dealiot/dealiot-connect/plugins/contract"
	_ "github.com/dealiot/dealiot-connect/plugins/deadletter"
	_ "github.com/dealiot/dealiot-connect/plugins/deviceevent"
	_ "github.com/dealiot/dealiot-connect/plugins/mqtt5"
)

// childEnv holds the settings of a bridge process as JSON.
const childEnv = "DEALIOT_BENCH_BRIDGE"

const (
	partitions = 24
	devices    = 1000
	publishers = 4
	// ahead is how much may be on its way: less than the brokers would drop.
	ahead = 8000
	// warmUp is published before the measurement begins.
	warmUp   = 20_000
	patience = 2 * time.Minute
)

var bridges = []string{"ours", "stock", "handwritten"}

func TestMain(m *testing.M) {
	text := os.Getenv(childEnv)
	if text == "" {
		os.Exit(m.Run())
	}
	var env map[string]string
	if err := json.Unmarshal([]byte(text), &env); err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		// Each line asks for the CPU time so far; the end is the end.
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			var use syscall.Rusage
			_ = syscall.Getrusage(syscall.RUSAGE_SELF, &use)
			fmt.Println(use.Utime.Nano()+use.Stime.Nano(), peakMemory())
		}
		stop()
	}()
	if err := runBridge(ctx, env); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// peakMemory is the most memory that the process had so far, in KiB. What
// getrusage says includes the process that started this one.
func peakMemory() string {
	status, _ := os.ReadFile("/proc/self/status")
	if m := regexp.MustCompile(`VmHWM:\s*(\d+)`).FindSubmatch(status); m != nil {
		return string(m[1])
	}
	return "0"
}

func runBridge(ctx context.Context, env map[string]string) error {
	if path := env["PROFILE"]; path != "" {
		stop, err := profile(path)
		if err != nil {
			return err
		}
		defer stop()
	}
	var yaml []byte
	var err error
	switch env["BRIDGE"] {
	case "handwritten":
		return runHandwritten(ctx, env)
	case "stock":
		yaml, err = os.ReadFile("stock.yaml")
	default:
		yaml, err = pipelines.FS.ReadFile("mqtt_to_kafka.yaml")
		yaml = regexp.MustCompile(`qos: 1`).ReplaceAll(yaml, []byte("qos: "+env["QOS"]))
	}
	if err != nil {
		return err
	}
	b := service.NewStreamBuilder()
	b.SetEnvVarLookupFunc(func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	if err := b.SetYAML(string(yaml)); err != nil {
		return err
	}
	b.SetStrict(true)
	if err := b.SetLoggerYAML("level: warn"); err != nil {
		return err
	}
	stream, err := b.Build()
	if err != nil {
		return err
	}
	return stream.Run(ctx)
}

// BenchmarkBridge is the CPU time of the bridge for an event, and how many go
// through it in a second while everything shares the machine.
func BenchmarkBridge(b *testing.B) {
	for _, qos := range []byte{0, 1} {
		for _, bridge := range bridges {
			b.Run(fmt.Sprintf("qos=%d/%s", qos, bridge), func(b *testing.B) {
				r := newRun(b, bridge, qos)
				r.publish(warmUp, 0)
				before, _ := r.usage()
				start := time.Now()
				b.ResetTimer()
				r.publish(b.N, 0)
				b.StopTimer()
				took := time.Since(start)
				after, rss := r.usage()
				b.ReportMetric(float64((after-before).Nanoseconds())/1000/float64(b.N), "cpu-µs/event")
				b.ReportMetric(float64(b.N)/took.Seconds(), "events/s")
				b.ReportMetric(float64(rss)/1024, "peak-MiB")
			})
		}
	}
}

// BenchmarkLatency is the time from publishing to the record being readable in
// Kafka, at 1,000 events a second.
func BenchmarkLatency(b *testing.B) {
	for _, bridge := range bridges {
		b.Run(bridge, func(b *testing.B) {
			r := newRun(b, bridge, 1)
			r.publish(warmUp, 0)
			latencies := r.consume(b.N)
			b.ResetTimer()
			r.publish(b.N, time.Millisecond)
			b.StopTimer()
			all := <-latencies
			slices.Sort(all)
			for _, p := range []int{50, 99} {
				b.ReportMetric(float64(all[len(all)*p/100].Microseconds())/1000, fmt.Sprintf("p%d-ms", p))
			}
		})
	}
}

// run is one bridge between two brokers.
type run struct {
	b         *testing.B
	mqtt      string
	kafka     string
	admin     *kadm.Client
	child     *exec.Cmd
	stdin     io.Writer
	answers   *bufio.Scanner
	conns     []net.Conn
	qos       byte
	sequence  atomic.Int64 // of the last event
	sentAt    sync.Map     // sequence to time.Time, while latencies are measured
	timed     atomic.Bool
	delivered atomic.Int64
}

func newRun(b *testing.B, bridge string, qos byte) *run {
	b.Helper()
	r := &run{b: b, qos: qos, mqtt: startMosquitto(b)}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, "raw.gps", "dlq.events"))
	require.NoError(b, err)
	b.Cleanup(cluster.Close)
	r.kafka = cluster.ListenAddrs()[0]
	client, err := kgo.NewClient(kgo.SeedBrokers(r.kafka))
	require.NoError(b, err)
	b.Cleanup(client.Close)
	r.admin = kadm.NewClient(client)

	host, port, err := net.SplitHostPort(r.mqtt)
	require.NoError(b, err)
	schema, err := filepath.Abs(filepath.Join("..", "..", "..", "schemas", "raw.gps.schema.json"))
	require.NoError(b, err)
	env := map[string]string{
		"BRIDGE": bridge, "QOS": strconv.Itoa(int(qos)), "SCHEMA": schema,
		"MQTT_URL": "tcp://" + r.mqtt, "MQTT_HOST": host, "MQTT_PORT": port, "MQTT_TOPICS": "devices/#", "MQTT_CLIENT_ID": "bench-ours",
		"KAFKA_BOOTSTRAP_SERVERS": r.kafka,
	}
	if dir := os.Getenv("DEALIOT_BENCH_PROFILES"); dir != "" {
		env["PROFILE"] = filepath.Join(dir, fmt.Sprintf("%s-qos%d.pprof", bridge, qos))
	}
	text, err := json.Marshal(env)
	require.NoError(b, err)
	exe, err := os.Executable()
	require.NoError(b, err)
	r.child = exec.Command(exe)
	r.child.Env = append(os.Environ(), childEnv+"="+string(text))
	r.child.Stderr = os.Stderr
	stdin, err := r.child.StdinPipe()
	require.NoError(b, err)
	stdout, err := r.child.StdoutPipe()
	require.NoError(b, err)
	r.stdin, r.answers = stdin, bufio.NewScanner(stdout)
	require.NoError(b, r.child.Start())
	b.Cleanup(func() {
		_ = stdin.Close()
		end := time.AfterFunc(10*time.Second, func() { _ = r.child.Process.Kill() })
		defer end.Stop()
		_ = r.child.Wait()
	})
	for range publishers {
		r.conns = append(r.conns, r.dial())
	}
	// What is published before the bridge has subscribed goes nowhere.
	for deadline := time.Now().Add(patience); r.offsets() == 0; time.Sleep(10 * time.Millisecond) {
		require.True(b, time.Now().Before(deadline), "timeout waiting for the first event to come through %s", bridge)
		r.send(r.conns[0], r.sequence.Add(1))
	}
	r.settle()
	return r
}

// settle waits until nothing is on its way.
func (r *run) settle() {
	for before := int64(-1); before != r.offsets(); time.Sleep(300 * time.Millisecond) {
		before = r.offsets()
	}
}

func startMosquitto(b *testing.B) string {
	b.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto"
		if _, err := os.Stat(path); err != nil {
			b.Skipf("SKIPPED %s: no mosquitto on this machine (Debian: apt-get install mosquitto)", b.Name())
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	addr := ln.Addr().String()
	require.NoError(b, ln.Close())
	_, port, _ := net.SplitHostPort(addr)
	conf := filepath.Join(b.TempDir(), "mosquitto.conf")
	require.NoError(b, os.WriteFile(conf, fmt.Appendf(nil,
		"listener %s 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 0\nlog_type none\n", port), 0o600))
	cmd := exec.Command(path, "-c", conf)
	require.NoError(b, cmd.Start())
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
			return addr
		}
		require.True(b, time.Now().Before(deadline), "timeout waiting for mosquitto")
	}
}

// dial connects a publisher. What the broker answers is read and forgotten.
func (r *run) dial() net.Conn {
	r.b.Helper()
	c, err := net.Dial("tcp", r.mqtt)
	require.NoError(r.b, err)
	r.b.Cleanup(func() { _ = c.Close() })
	_, err = (&packets.Connect{ProtocolName: "MQTT", ProtocolVersion: 5, CleanStart: true, Properties: &packets.Properties{}}).WriteTo(c)
	require.NoError(r.b, err)
	p, err := packets.ReadPacket(c)
	require.NoError(r.b, err)
	require.Zero(r.b, p.Content.(*packets.Connack).ReasonCode)
	go func() { _, _ = io.Copy(io.Discard, c) }()
	return c
}

const gps = `{"timestamp":"2026-05-04T10:11:%02d.%03dZ","latitude":47.6951234,"longitude":9.1323456,"altitude_m":411.2,"speed_m_s":0.42,"heading_deg":84.5,"hdop":0.9,"battery_v":3.71,"fix":"3d","sats":11,"seq":%d}`

// send publishes one event.
func (r *run) send(w io.Writer, n int64) {
	p := packets.Publish{
		Topic: fmt.Sprintf("devices/cow-%04d/gps", n%devices), QoS: r.qos, PacketID: uint16(n%65535 + 1),
		Payload: fmt.Appendf(nil, gps, n/1000%60, n%1000, n), Properties: &packets.Properties{},
	}
	if r.timed.Load() {
		r.sentAt.Store(n, time.Now())
	}
	var buf bytes.Buffer
	_, _ = p.WriteTo(&buf)
	_, _ = w.Write(buf.Bytes())
}

// publish sends events and waits until they are in Kafka. With a pause they
// go out one by one.
func (r *run) publish(count int, pause time.Duration) {
	r.b.Helper()
	before := r.offsets()
	r.delivered.Store(0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for r.delivered.Load() < int64(count) && r.b.Context().Err() == nil {
			time.Sleep(2 * time.Millisecond)
			r.delivered.Store(r.offsets() - before)
		}
	}()
	var sent atomic.Int64
	var wg sync.WaitGroup
	conns := r.conns
	if pause > 0 {
		conns = conns[:1]
	}
	for _, c := range conns {
		wg.Go(func() {
			w := bufio.NewWriterSize(c, 16<<10)
			start, mine := time.Now(), 0
			for r.b.Context().Err() == nil {
				at := sent.Add(1)
				if at > int64(count) {
					break
				}
				for at-r.delivered.Load() > ahead {
					_ = w.Flush()
					time.Sleep(time.Millisecond)
				}
				if pause > 0 {
					mine++
					time.Sleep(time.Until(start.Add(time.Duration(mine) * pause)))
				}
				r.send(w, r.sequence.Add(1))
				if pause > 0 {
					_ = w.Flush()
				}
			}
			_ = w.Flush()
		})
	}
	wg.Wait()
	select {
	case <-done:
	case <-time.After(patience):
		require.FailNow(r.b, "timeout", "waiting for %d events in Kafka, %d are there", count, r.delivered.Load())
	}
	require.EqualValues(r.b, count, r.offsets()-before, "events in Kafka")
}

// offsets is how many records there are. A dead letter would be a fault of the
// benchmark.
func (r *run) offsets() int64 {
	ends, err := r.admin.ListEndOffsets(r.b.Context(), "raw.gps", "dlq.events")
	if err != nil {
		return -1
	}
	var n int64
	ends.Each(func(o kadm.ListedOffset) {
		if o.Topic == "dlq.events" && o.Offset > 0 {
			panic("the bridge made dead letters")
		}
		n += o.Offset
	})
	return n
}

// usage is the CPU time and the peak of the memory, in KiB, of the bridge so far.
func (r *run) usage() (cpu time.Duration, rss int64) {
	r.b.Helper()
	_, err := fmt.Fprintln(r.stdin)
	require.NoError(r.b, err)
	require.True(r.b, r.answers.Scan(), "the bridge has ended")
	var ns int64
	_, err = fmt.Sscan(r.answers.Text(), &ns, &rss)
	require.NoError(r.b, err)
	return time.Duration(ns), rss
}

var sequencePattern = regexp.MustCompile(`"seq":\s*(\d+)`)

// consume reads what comes from now on and gives how long it took.
func (r *run) consume(count int) <-chan []time.Duration {
	r.b.Helper()
	ends, err := r.admin.ListEndOffsets(r.b.Context(), "raw.gps")
	require.NoError(r.b, err)
	from := map[string]map[int32]kgo.Offset{"raw.gps": {}}
	ends.Each(func(o kadm.ListedOffset) { from["raw.gps"][o.Partition] = kgo.NewOffset().At(o.Offset) })
	client, err := kgo.NewClient(kgo.SeedBrokers(r.kafka), kgo.ConsumePartitions(from), kgo.FetchMaxWait(100*time.Millisecond))
	require.NoError(r.b, err)
	r.b.Cleanup(client.Close)
	r.timed.Store(true)
	out := make(chan []time.Duration, 1)
	go func() {
		var all []time.Duration
		for len(all) < count {
			fetches := client.PollFetches(r.b.Context())
			now := time.Now()
			if fetches.IsClientClosed() || r.b.Context().Err() != nil {
				break
			}
			fetches.EachRecord(func(rec *kgo.Record) {
				m := sequencePattern.FindSubmatch(rec.Value)
				if m == nil {
					return
				}
				n, _ := strconv.ParseInt(string(m[1]), 10, 64)
				if at, ok := r.sentAt.LoadAndDelete(n); ok {
					all = append(all, now.Sub(at.(time.Time)))
				}
			})
		}
		out <- all
	}()
	return out
}
