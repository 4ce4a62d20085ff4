// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/dealiot/dealiot-connect/internal/secrets"
	"github.com/dealiot/dealiot-connect/internal/simulate"
)

// Names of the settings for reaching an MQTT broker.
const (
	mqttHost        = "MQTT_HOST"
	mqttPort        = "MQTT_PORT"
	mqttUsername    = "MQTT_USERNAME"
	mqttPassword    = "MQTT_PASSWORD"
	mqttTLSEnabled  = "MQTT_TLS_ENABLED"
	mqttTLSCAFile   = "MQTT_TLS_CA_FILE"
	mqttTLSCertFile = "MQTT_TLS_CERT_FILE"
	mqttTLSKeyFile  = "MQTT_TLS_KEY_FILE"
)

func simulateCommand() *cli.Command {
	var classes []string
	for _, c := range simulate.FaultClasses() {
		classes = append(classes, string(c))
	}
	return &cli.Command{
		Name:  "simulate",
		Usage: "Publish the messages of a believable herd to an MQTT broker",
		Description: `
Cattle with collars and rumen boluses, WildFi tags, a weather station, barn
sensors, cameras, a lidar and a stereo rig publish to any MQTT broker. A share
of the messages can be faulty, in named classes, each with a known outcome. The
same seed, start and settings give the same messages, byte for byte.

  dealiot-connect simulate
  dealiot-connect simulate --devices 500 --rate 1000 --duration 1m
  dealiot-connect simulate --count 100000 --rate 0 --faults 5% --json --manifest sent.ndjson
  dealiot-connect simulate --fault bad_json=1% --fault duplicate=0.02

The broker is --broker, else MQTT_HOST and MQTT_PORT, else 127.0.0.1:1883.
Settings: MQTT_USERNAME, MQTT_PASSWORD (or MQTT_PASSWORD_FILE), MQTT_TLS_ENABLED
(default: when the port is 8883), MQTT_TLS_CA_FILE, MQTT_TLS_CERT_FILE,
MQTT_TLS_KEY_FILE.

Ctrl-C stops sending, waits for what the broker has not acknowledged yet, and
prints the summary.`[1:],
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "broker", Usage: "address of the broker, such as tcp://127.0.0.1:1883 or ssl://host:8883"},
			&cli.StringFlag{Name: "username", Usage: "user at the broker"},
			&cli.StringFlag{Name: "password", Usage: "password of the user; others on this machine can see it here, " + mqttPassword + "_FILE hides it"},
			&cli.BoolFlag{Name: "tls", Usage: "connect with TLS"},
			&cli.StringFlag{Name: "tls-ca", Usage: "certificate authorities to trust, in place of the system's (PEM)", TakesFile: true},
			&cli.StringFlag{Name: "tls-cert", Usage: "client certificate (PEM), with --tls-key", TakesFile: true},
			&cli.StringFlag{Name: "tls-key", Usage: "key of the client certificate (PEM)", TakesFile: true},
			&cli.IntFlag{Name: "devices", Value: simulate.DefaultDevices, Usage: "how many devices; of 40, 25 are cows and 8 carry WildFi tags"},
			&cli.Float64Flag{Name: "rate", Value: simulate.DefaultRate, Usage: "messages a second of all devices together; 0 sends as fast as possible"},
			&cli.DurationFlag{Name: "duration", Usage: "stop after that time, such as 30s or 10m"},
			&cli.Uint64Flag{Name: "count", Usage: "stop after so many messages"},
			&cli.Uint64Flag{Name: "seed", Value: 1, Usage: "decides everything that is random"},
			&cli.StringFlag{Name: "start", Usage: "time of the first message, such as 2026-05-04T06:30:00Z (default: now)"},
			&cli.IntFlag{Name: "qos", Value: 1, Usage: "MQTT quality of service, 0 to 2"},
			&cli.StringFlag{Name: "faults", Usage: "share of faulty messages, spread evenly over all classes, such as 0.05 or 5%"},
			&cli.StringSliceFlag{Name: "fault", Usage: "share of one class as `CLASS=SHARE`, repeatable; classes: " + strings.Join(classes, ", ")},
			&cli.IntFlag{Name: "oversize-bytes", Value: simulate.DefaultOversizeBytes, Usage: "size of oversize messages as MQTT packets; a broker may disconnect a client that sends more than it takes"},
			&cli.IntFlag{Name: "inflight", Value: simulate.DefaultInflight, Usage: "how many messages may be sent and not yet acknowledged"},
			&cli.StringFlag{Name: "manifest", Usage: "write a line of JSON for each message to this file: what it is and what must become of it", TakesFile: true},
			&cli.BoolFlag{Name: "json", Usage: "print the summary as one JSON document"},
		},
		Action: simulateAction,
	}
}

func simulateAction(c *cli.Context) (err error) {
	if c.Args().Present() {
		return fmt.Errorf("reading the command line: %q is not expected, simulate takes flags only", c.Args().First())
	}
	herd, err := herdFromFlags(c, time.Now())
	if err != nil {
		return err
	}
	pub, err := publisherFromFlags(c)
	if err != nil {
		return err
	}
	if file := c.String("manifest"); file != "" {
		f, err := os.Create(file)
		if err != nil {
			return fmt.Errorf("creating manifest: %w", err)
		}
		buffered := bufio.NewWriterSize(f, 1<<16)
		defer func() {
			if failed := errors.Join(buffered.Flush(), f.Close()); failed != nil && err == nil {
				err = fmt.Errorf("writing manifest: %w", failed)
			}
		}()
		pub.Manifest = buffered
	}

	ctx, stop := signal.NotifyContext(c.Context, os.Interrupt, syscall.SIGTERM)
	defer stop()
	status := newStatusLine(c.App.ErrWriter, expectedCount(pub))
	pub.Notify = status.say
	pub.ProgressInterval = status.interval()
	defer context.AfterFunc(ctx, func() {
		stop() // a second Ctrl-C ends the process
		status.say("stopping: waiting for the broker's acknowledgements; Ctrl-C again ends at once")
	})()

	status.say(fmt.Sprintf("%s publish to %s, seed %d, start %s", counted(herd.Devices, "device"), pub.Broker, herd.Seed, herd.Start.UTC().Format(time.RFC3339Nano)))
	summary, runErr := simulate.Run(ctx, herd, pub, status.show)
	status.end()
	var unreached *simulate.ConnectError
	switch {
	case errors.As(runErr, &unreached) && unreached.Refused():
		return fmt.Errorf("%w; set --username and --password, or %s and %s", runErr, mqttUsername, mqttPassword)
	case errors.As(runErr, &unreached):
		return fmt.Errorf("%w; is an MQTT broker running there? `dealiot-connect dev` starts one; another address goes into --broker, or %s and %s", runErr, mqttHost, mqttPort)
	case summary.ByClass == nil: // a setting is wrong, nothing was begun
		return runErr
	}
	if c.Bool("json") {
		err = writeJSON(c.App.Writer, summary)
	} else {
		err = writeSimulation(c.App.Writer, summary)
	}
	return errors.Join(runErr, err)
}

// expectedCount is how many messages the run is to send, 0 when that is open.
func expectedCount(pub simulate.PublisherConfig) uint64 {
	n := pub.Count
	if byTime := uint64(pub.Rate * pub.Duration.Seconds()); byTime > 0 && (n == 0 || byTime < n) {
		n = byTime
	}
	return n
}

// herdFromFlags reads what to simulate.
func herdFromFlags(c *cli.Context, now time.Time) (simulate.Config, error) {
	cfg := simulate.Config{
		Devices:       c.Int("devices"),
		Seed:          c.Uint64("seed"),
		Rate:          c.Float64("rate"),
		OversizeBytes: c.Int("oversize-bytes"),
		Faults:        map[simulate.Class]float64{},
	}
	if cfg.Devices < 1 {
		return cfg, fmt.Errorf("reading --devices: %d is less than one", cfg.Devices)
	}
	qos := c.Int("qos")
	if qos < 0 || qos > 2 {
		return cfg, fmt.Errorf("reading --qos: %d is not 0, 1 or 2", qos)
	}
	cfg.QoS = byte(qos)
	if text := c.String("faults"); text != "" {
		share, err := simulate.ParseShare(text)
		if err != nil {
			return cfg, fmt.Errorf("reading --faults: %w", err)
		}
		cfg.Faults = simulate.EvenFaults(share)
	}
	for _, text := range c.StringSlice("fault") {
		class, share, err := simulate.ParseFault(text)
		if err != nil {
			return cfg, fmt.Errorf("reading --fault: %w", err)
		}
		cfg.Faults[class] = share
	}
	if text := c.String("start"); text != "" {
		start, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return cfg, fmt.Errorf("reading --start: %q is no time such as 2026-05-04T06:30:00Z", text)
		}
		cfg.Start = start.UTC()
		return cfg, nil
	}
	cfg.Start = now.UTC().Truncate(time.Millisecond)
	if cfg.Rate == 0 {
		// Sent as fast as possible, the messages are history that ends now.
		cfg.Start = cfg.Start.Add(-time.Duration(float64(c.Uint64("count")) / simulate.DefaultRate * float64(time.Second)))
	}
	return cfg, nil
}

// publisherFromFlags reads where and how to publish. Flags come before MQTT_*
// settings.
func publisherFromFlags(c *cli.Context) (simulate.PublisherConfig, error) {
	get := func(flag, setting string) string {
		if c.IsSet(flag) {
			return c.String(flag)
		}
		value, _ := envLookup(c.Context, setting)
		return value
	}
	pub := simulate.PublisherConfig{
		Username: strings.TrimSpace(get("username", mqttUsername)),
		Password: get("password", mqttPassword),
		Rate:     c.Float64("rate"),
		Count:    c.Uint64("count"),
		Duration: c.Duration("duration"),
		Inflight: c.Int("inflight"),
	}
	if (pub.Username == "") != (pub.Password == "") {
		return pub, fmt.Errorf("reading %s and %s: both must be set or neither; the password may also be in a file named by %s_FILE", mqttUsername, mqttPassword, mqttPassword)
	}
	if c.IsSet("inflight") && pub.Inflight < 1 {
		return pub, fmt.Errorf("reading --inflight: %d is less than one", pub.Inflight)
	}

	address, secure, err := brokerFromFlags(c)
	if err != nil {
		return pub, err
	}
	pub.Broker = address
	if secure {
		if pub.TLS, err = mqttTLS(get("tls-ca", mqttTLSCAFile), get("tls-cert", mqttTLSCertFile), get("tls-key", mqttTLSKeyFile)); err != nil {
			return pub, err
		}
	}
	return pub, nil
}

// brokerFromFlags finds the broker's address, and whether it speaks TLS.
func brokerFromFlags(c *cli.Context) (address string, secure bool, err error) {
	lookup := func(setting, fallback string) string {
		if value, _ := envLookup(c.Context, setting); strings.TrimSpace(value) != "" {
			return strings.TrimSpace(value)
		}
		return fallback
	}
	if address = strings.TrimSpace(c.String("broker")); address == "" {
		address = net.JoinHostPort(lookup(mqttHost, "127.0.0.1"), lookup(mqttPort, "1883"))
	}
	scheme, _, explicit := strings.Cut(address, "://")
	if explicit {
		secure = slices.Contains([]string{"ssl", "tls", "mqtts", "wss"}, scheme)
		if c.Bool("tls") && !secure {
			return "", false, fmt.Errorf("reading --broker and --tls: %s is not encrypted; write ssl:// in place of %s://, or leave the scheme out", address, scheme)
		}
		return address, secure, nil
	}
	secure = c.Bool("tls")
	if !c.IsSet("tls") {
		if secure, err = secrets.ParseBool(lookup(mqttTLSEnabled, fmt.Sprint(strings.HasSuffix(address, ":8883")))); err != nil {
			return "", false, fmt.Errorf("reading %s: %w", mqttTLSEnabled, err)
		}
	}
	if secure {
		return "ssl://" + address, true, nil
	}
	return "tcp://" + address, false, nil
}

// mqttTLS reads the certificate files; each may be absent.
func mqttTLS(caFile, certFile, keyFile string) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", mqttTLSCAFile, err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("reading %s: %s holds no PEM certificate", mqttTLSCAFile, caFile)
		}
	}
	if (certFile == "") != (keyFile == "") {
		return nil, fmt.Errorf("reading %s and %s: a client certificate needs both or neither", mqttTLSCertFile, mqttTLSKeyFile)
	}
	if certFile != "" {
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return nil, fmt.Errorf("reading %s and %s: %w", mqttTLSCertFile, mqttTLSKeyFile, err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, nil
}

// writeSimulation prints a summary for people.
func writeSimulation(out io.Writer, s simulate.Summary) error {
	topics := slices.Sorted(maps.Keys(s.ByTopic))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "class\tsent\t%s\t\n", strings.Join(topics, "\t"))
	row := func(name string, sent uint64, expect map[string]uint64) {
		fmt.Fprintf(w, "%s\t%d\t", name, sent)
		for _, t := range topics {
			if n := expect[t]; n > 0 {
				fmt.Fprint(w, n)
			}
			fmt.Fprint(w, "\t")
		}
		fmt.Fprintln(w)
	}
	for _, c := range simulate.Classes() {
		if sum := s.ByClass[c]; sum != nil {
			row(string(c), sum.Sent, sum.Expect)
		}
	}
	row("together", s.Sent, s.ByTopic)
	if err := w.Flush(); err != nil {
		return err
	}
	seconds := time.Duration(s.Duration).Seconds()
	_, err := fmt.Fprintf(out, "\n%d messages of %s in %.1f s (%.0f a second), %d acknowledged, %d sent again after a lost connection.\nSeed %d, start %s.\n",
		s.Sent, counted(s.Devices, "device"), seconds, float64(s.Sent)/max(seconds, 0.001), s.Acknowledged, s.Resent, s.Seed, s.Start.Format(time.RFC3339Nano))
	return err
}

// statusLine shows progress: a line that is written over on a terminal, a plain
// line now and then elsewhere.
type statusLine struct {
	out      io.Writer
	terminal bool
	total    uint64 // 0 when it is open

	mu    sync.Mutex
	shown bool // a line that can be written over is on the terminal
}

func newStatusLine(out io.Writer, total uint64) *statusLine {
	s := &statusLine{out: out, total: total}
	if f, ok := out.(*os.File); ok {
		s.terminal = term.IsTerminal(int(f.Fd()))
	}
	return s
}

func (s *statusLine) interval() time.Duration {
	if s.terminal {
		return 200 * time.Millisecond
	}
	return 5 * time.Second
}

// clear removes the line that is on the terminal.
func (s *statusLine) clear() {
	if s.shown {
		fmt.Fprint(s.out, "\r\x1b[K")
		s.shown = false
	}
}

func (s *statusLine) say(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	fmt.Fprintln(s.out, text)
}

func (s *statusLine) show(st simulate.Stats) {
	if st.Sent == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	text := fmt.Sprintf("%d sent, %d acknowledged, %.0f a second", st.Sent, st.Acknowledged, float64(st.Sent)/max(st.Elapsed.Seconds(), 0.001))
	if !st.Connected {
		text += ", not connected"
	}
	if !s.terminal {
		fmt.Fprintln(s.out, text)
		return
	}
	if s.total > 0 {
		const width = 30
		done := min(width, int(width*float64(st.Acknowledged)/float64(s.total)))
		text = "[" + strings.Repeat("=", done) + strings.Repeat(" ", width-done) + "] " + text
	} else if st.LastTopic != "" {
		text += ", " + st.LastTopic
	}
	s.clear()
	fmt.Fprint(s.out, text)
	s.shown = true
}

func (s *statusLine) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
}
