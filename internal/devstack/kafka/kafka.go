// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

// Package kafka is the Kafka broker of the development stack: franz-go's kfake
// in this process, one broker, without authentication, its data on disk.
//
// Records are in the page cache when they are acknowledged, as with Kafka's own
// defaults: the end of the process loses nothing, that of the machine may lose
// the last seconds.
package kafka

import (
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

const (
	// retentionBytes is how much a partition keeps, in bytes, besides the limits
	// in time that topics have: a herd that is left running must not fill the
	// disk of a laptop. Whole segments go at once.
	retentionBytes = 64 << 20
	segmentBytes   = 16 << 20

	tidyEvery = 10 * time.Minute
)

// Config of a broker.
type Config struct {
	// Listener to serve on; Start owns it, also when it returns an error.
	Listener net.Listener
	// Advertise is the host that clients are told to connect to; "" is that of
	// the listener.
	Advertise string
	// DataDir keeps topics, records and group offsets; "" keeps them in memory.
	DataDir string
	Logger  *slog.Logger
}

// Broker is a running Kafka broker.
type Broker struct {
	cluster *kfake.Cluster
	addr    string
	closing chan struct{}
	tidying sync.WaitGroup
	stop    sync.Once
}

// Start loads what the data directory holds and serves it. It returns when
// clients can connect.
func Start(cfg Config) (*Broker, error) {
	host, port, err := net.SplitHostPort(cfg.Listener.Addr().String())
	if err != nil {
		return nil, fmt.Errorf("reading listener address %q: %w", cfg.Listener.Addr(), err)
	}
	if cfg.Advertise != "" {
		host = cfg.Advertise
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, fmt.Errorf("reading listener port %q: %w", port, err)
	}
	listener := advertised{Listener: cfg.Listener, addr: hostPort(net.JoinHostPort(host, port))}
	options := []kfake.Opt{
		kfake.NumBrokers(1),
		kfake.Ports(number),
		kfake.ListenFn(func(string, string) (net.Listener, error) { return listener, nil }),
		kfake.ClusterID("dealiot-connect-dev"),
		kfake.WithLogger(logger{cfg.Logger}),
		kfake.BrokerConfigs(map[string]string{
			// One broker cannot keep the two copies that the platform's brokers
			// ask for by default.
			"min.insync.replicas":        "1",
			"default.replication.factor": "1",
			"log.retention.bytes":        strconv.Itoa(retentionBytes),
			"log.segment.bytes":          strconv.Itoa(segmentBytes),
		}),
	}
	if cfg.DataDir != "" {
		options = append(options, kfake.DataDir(cfg.DataDir))
	}
	cluster, err := kfake.NewCluster(options...)
	if err != nil {
		return nil, fmt.Errorf("starting Kafka on %s with data directory %q: %w", listener.addr, cfg.DataDir, err)
	}
	b := &Broker{cluster: cluster, addr: string(listener.addr), closing: make(chan struct{})}
	b.tidying.Go(b.tidy)
	return b, nil
}

// tidy compacts topics and removes what is beyond their retention, now and at
// intervals: kfake by itself does so only after a topic was created or changed.
func (b *Broker) tidy() {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	for {
		b.cluster.Compact()
		select {
		case <-b.closing:
			return
		case <-tick.C:
		}
	}
}

// Addr is the address that clients connect to, host:port.
func (b *Broker) Addr() string { return b.addr }

// Close stops the broker and writes its state to the data directory.
func (b *Broker) Close() {
	b.stop.Do(func() {
		close(b.closing)
		b.tidying.Wait() // it would wait for ever for a closed cluster
		b.cluster.Close()
	})
}

// advertised tells kfake, and so its clients, another address than the one
// that is listened on: 0.0.0.0 is no address to connect to.
type advertised struct {
	net.Listener
	addr hostPort
}

func (l advertised) Addr() net.Addr { return l.addr }

type hostPort string

func (hostPort) Network() string  { return "tcp" }
func (a hostPort) String() string { return string(a) }

// logger passes warnings and errors on; what kfake says at other levels is
// about single requests.
type logger struct{ to *slog.Logger }

func (l logger) Logf(level kfake.LogLevel, format string, args ...any) {
	switch {
	case l.to == nil:
	case level == kfake.LogLevelError:
		l.to.Error(fmt.Sprintf(format, args...))
	case level == kfake.LogLevelWarn:
		l.to.Warn(fmt.Sprintf(format, args...))
	}
}
