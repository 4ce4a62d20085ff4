// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

// Package devstack runs the platform in one process, for development, demos and
// tests: an MQTT broker, Kafka with its data on disk, all topics, and the
// pipelines. Production never starts any of it.
package devstack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dealiot/dealiot-connect/internal/devstack/broker"
	"github.com/dealiot/dealiot-connect/internal/devstack/kafka"
	"github.com/dealiot/dealiot-connect/internal/topics"
)

// DefaultBind is the address that is listened on where Config names none. It
// can be reached from this machine only.
const DefaultBind = "127.0.0.1"

// logFile in the data directory.
const logFile = "dev.log"

// drainTimeout bounds how long Stop waits for subscribers of the MQTT broker to
// acknowledge what they were sent.
const drainTimeout = 5 * time.Second

// Config of a stack. Ports are 1 to 65535; 0 takes any that is free.
type Config struct {
	Bind      string // address to listen on; "" is DefaultBind
	Advertise string // host that Kafka tells its clients; "" is Bind, or an address of this machine where Bind is all of them
	MQTTPort  int
	KafkaPort int
	HTTPPort  int

	// DataDir keeps Kafka's data from one start to the next; it is created.
	// Required.
	DataDir string
	// Fresh removes what an earlier stack left in DataDir.
	Fresh bool

	// Topics that Kafka shall have, each with one copy; nil is the catalogue that
	// is built in.
	Topics *topics.Catalogue
	// Pipelines to run; see LoadPipelines.
	Pipelines []Pipeline
	// LookupEnv gives variables of pipelines other than those that the stack
	// itself decides on (see environment); nil gives none.
	LookupEnv func(name string) (string, bool)
	// Logger gets what Kafka and the pipelines have to say, but for the warnings
	// of dead_letter processors, which dlq.events shows better; nil discards it.
	// The file dev.log in DataDir, new at each start, gets everything at level
	// info, the MQTT broker's log included.
	Logger *slog.Logger
}

// Addrs are the addresses that clients use, host:port.
type Addrs struct {
	MQTT, Kafka, HTTP string
}

// Stack is a running platform.
type Stack struct {
	addrs     Addrs
	topics    []string
	dir       *dataDir
	broker    *broker.Broker
	kafka     *kafka.Broker
	offsets   kadm.Offsets
	pipelines *pipelines
	http      *httpServer
	log       *os.File
	drained   bool
}

// Start starts everything and returns when it is ready: all listeners are up,
// the topics applied, the inputs and outputs of the pipelines connected. When
// it returns an error, it has stopped what it had started.
func Start(ctx context.Context, cfg Config) (*Stack, error) {
	if cfg.Bind == "" {
		cfg.Bind = DefaultBind
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.LookupEnv == nil {
		cfg.LookupEnv = func(string) (string, bool) { return "", false }
	}
	ports, err := listen(cfg)
	if err != nil {
		return nil, err
	}
	s := &Stack{}
	if err := s.start(ctx, cfg, ports); err != nil {
		ports.close()
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		if also := s.Stop(stopping); also != nil {
			cfg.Logger.Warn("stopping after an unsuccessful start", "error", also)
		}
		return nil, err
	}
	return s, nil
}

func (s *Stack) start(ctx context.Context, cfg Config, ports *ports) (err error) {
	if s.dir, err = openDataDir(cfg.DataDir, cfg.Fresh); err != nil {
		return err
	}
	s.log, err = os.Create(filepath.Join(s.dir.path, logFile))
	if err != nil {
		return fmt.Errorf("creating log: %w", err)
	}
	logs := logs{file: slog.NewTextHandler(s.log, nil), user: cfg.Logger.Handler()}
	// What clients do wrong, and each that goes without a goodbye, is a warning
	// to the broker; only the file gets that.
	if s.broker, err = broker.Start(ports.mqtt, slog.New(logs.file).With("part", "mqtt broker")); err != nil {
		return err
	}
	s.kafka, err = kafka.Start(kafka.Config{
		Listener:  ports.kafka,
		Advertise: advertised(cfg),
		DataDir:   filepath.Join(s.dir.path, "kafka"),
		Logger:    logs.part("kafka"),
	})
	if err != nil {
		return err
	}
	s.addrs = Addrs{MQTT: reachable(s.broker.Addr()), Kafka: s.kafka.Addr(), HTTP: reachable(ports.http.Addr())}
	if err := s.applyTopics(ctx, cfg.Topics); err != nil {
		return err
	}
	if s.pipelines, err = buildPipelines(cfg.Pipelines, environment(s.addrs, cfg.LookupEnv), logs); err != nil {
		return err
	}
	s.http = serveHTTP(ports.http, s.pipelines, logs.part("http"))
	if err := s.pipelines.start(); err != nil {
		return err
	}
	return s.pipelines.awaitReady(ctx, s.broker)
}

// Addrs are the addresses of the stack's parts.
func (s *Stack) Addrs() Addrs { return s.addrs }

// Topics names the topics of the catalogue.
func (s *Stack) Topics() []string { return s.topics }

// Pipelines names the pipelines that run.
func (s *Stack) Pipelines() []string { return s.pipelines.names() }

// Broker gives the counters of the MQTT broker.
func (s *Stack) Broker() broker.Counters { return s.broker.Counters() }

// Offsets is where the topics ended before the pipelines started: what lies
// behind came with this run.
func (s *Stack) Offsets() kadm.Offsets { return s.offsets }

// Refuse makes the MQTT broker take no more messages, while what it took before
// goes on its way.
func (s *Stack) Refuse() { s.broker.Refuse() }

// Drain stops the pipelines so that what the MQTT broker took arrives: it takes
// nothing more, and the pipelines finish what they have. Kafka can still be
// read afterwards. The context bounds how long the pipelines have.
//
// An input that acknowledges before it hands on, as the stock mqtt does in a
// pipeline of one's own, drops messages when it stops; who needs certainty
// waits, after Refuse, until everything has arrived.
func (s *Stack) Drain(ctx context.Context) error {
	if s.drained || s.broker == nil || s.pipelines == nil {
		return nil
	}
	s.drained = true
	s.broker.Refuse()
	waiting, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	return errors.Join(s.broker.Drain(waiting), s.pipelines.stop(ctx))
}

// Stop drains the pipelines, lets Kafka write its state and closes everything.
// It must be called once.
func (s *Stack) Stop(ctx context.Context) error {
	errs := []error{s.Drain(ctx)}
	if s.kafka != nil {
		s.kafka.Close()
	}
	if s.broker != nil {
		errs = append(errs, s.broker.Close())
	}
	if s.http != nil {
		errs = append(errs, s.http.close(ctx))
	}
	if s.log != nil {
		errs = append(errs, s.log.Close())
	}
	if s.dir != nil {
		errs = append(errs, s.dir.close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("stopping the development stack: %w", err)
	}
	return nil
}

// applyTopics brings the topics up to date and notes where they end now.
func (s *Stack) applyTopics(ctx context.Context, catalogue *topics.Catalogue) error {
	if catalogue == nil {
		var err error
		if catalogue, err = topics.Default(); err != nil {
			return fmt.Errorf("reading the built-in topic catalogue: %w", err)
		}
	}
	for _, t := range catalogue.Topics() {
		s.topics = append(s.topics, t.Name)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(s.addrs.Kafka), kgo.ClientID("dealiot-connect-dev"))
	if err != nil {
		return fmt.Errorf("setting up the Kafka client for %s: %w", s.addrs.Kafka, err)
	}
	defer client.Close()
	cluster, err := topics.Observe(ctx, client, catalogue)
	if err != nil {
		return fmt.Errorf("looking at the topics: %w", err)
	}
	plan := topics.NewPlan(catalogue, cluster, topics.Options{CapReplication: true})
	if err := topics.Apply(ctx, client, plan, topics.ApplyOptions{}); err != nil {
		return fmt.Errorf("applying topics: %w", err)
	}
	for _, a := range plan.Actions {
		// A refused one is a topic that somebody changed by hand: it works.
		if a.Result == topics.Failed {
			return fmt.Errorf("applying topic %s: %s", a.Topic, a.Error)
		}
	}
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, s.topics...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return fmt.Errorf("asking where the topics end: %w", err)
	}
	s.offsets = ends.Offsets()
	return nil
}

// environment gives a pipeline the addresses of the stack, and takes from the
// outside only what does not lead it elsewhere: somebody who has the settings
// of a production cluster in the environment must not reach it from here.
func environment(addrs Addrs, outside func(string) (string, bool)) func(string) (string, bool) {
	host, port, _ := net.SplitHostPort(addrs.MQTT)
	own := map[string]string{
		"MQTT_HOST":               host,
		"MQTT_PORT":               port,
		"MQTT_SCHEME":             "tcp",
		"KAFKA_BOOTSTRAP_SERVERS": addrs.Kafka,
	}
	// Credentials and security settings; topics and the like stay the user's.
	foreign := func(name string) bool {
		for _, prefix := range []string{"MQTT_USER", "MQTT_PASS", "MQTT_TLS", "MQTT_CLIENT", "KAFKA_SECURITY", "KAFKA_SASL", "KAFKA_SSL", "KAFKA_TLS", "KAFKA_BROKER"} {
			if strings.HasPrefix(name, prefix) {
				return true
			}
		}
		return false
	}
	return func(name string) (string, bool) {
		if value, ok := own[name]; ok {
			return value, true
		}
		if foreign(name) {
			return "", false
		}
		return outside(name)
	}
}
