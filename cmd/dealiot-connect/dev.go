// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/dealiot/dealiot-connect/internal/devstack"
	"github.com/dealiot/dealiot-connect/internal/devstack/session"
	"github.com/dealiot/dealiot-connect/internal/simulate"
	"github.com/dealiot/dealiot-connect/internal/topics"
	"github.com/dealiot/dealiot-connect/pipelines"
)

// oversizeShare is how many of the herd's faulty messages are larger than a
// record may be. Each leaves 1.4 MB in the data directory, so they are rare:
// at the defaults, one in 100 seconds.
const oversizeShare = 0.004

func devCommand() *cli.Command {
	port := func(name, part string, value int) cli.Flag {
		return &cli.IntFlag{Name: name, Value: value, Usage: "port of " + part + "; 0 takes a free one"}
	}
	return &cli.Command{
		Name:  "dev",
		Usage: "Run the whole platform on this machine, with a simulated herd and a live view",
		Description: `
Starts an MQTT broker, a Kafka broker that keeps its data on disk, all topics,
the pipelines and a simulated herd, and shows what flows. Nothing has to be
installed. Anybody who reaches the ports may use them: this is for development.

  {{.BinaryName}} dev
  {{.BinaryName}} dev --no-herd                  for devices of your own
  {{.BinaryName}} dev --pipelines my/pipelines   with pipelines of your own
  {{.BinaryName}} dev --duration 1m --plain      for a log

Ctrl-C stops in an order in which nothing is lost, and says by numbers whether
that is so. The exit code is 1 when a message is missing.`[1:],
		Flags: []cli.Flag{
			port("mqtt-port", "the MQTT broker", 1883),
			port("kafka-port", "the Kafka broker", 9092),
			port("http-port", "/ready, /metrics and /ping", 4195),
			&cli.StringFlag{Name: "bind", Value: devstack.DefaultBind, Usage: "address to listen on; 0.0.0.0 lets other machines in, without any password"},
			&cli.StringFlag{Name: "advertise", Usage: "host that Kafka clients are told to connect to; default: --bind, or an address of this machine"},
			&cli.StringFlag{Name: "data-dir", Usage: "where Kafka keeps its data; default: dealiot-connect/dev in $XDG_DATA_HOME, else in ~/.local/share", TakesFile: true},
			&cli.BoolFlag{Name: "fresh", Usage: "begin without the data of earlier runs: empty the data directory"},
			&cli.StringFlag{Name: "pipelines", Usage: "folder whose *.yaml files to run in place of the built-in pipelines", TakesFile: true},
			&cli.StringFlag{Name: "catalogue", Usage: "a topic catalogue of your own, in place of the built-in one", TakesFile: true},
			&cli.BoolFlag{Name: "no-herd", Usage: "only the platform, for your own devices"},
			&cli.IntFlag{Name: "devices", Value: simulate.DefaultDevices, Usage: "how many devices the herd has"},
			&cli.Float64Flag{Name: "rate", Value: simulate.DefaultRate, Usage: "messages a second that the herd publishes"},
			&cli.StringFlag{Name: "faults", Value: "5%", Usage: "share of the herd's messages that are faulty, such as 0.05 or 5%"},
			&cli.Uint64Flag{Name: "seed", Value: 1, Usage: "decides what is random about the herd"},
			&cli.Uint64Flag{Name: "count", Usage: "stop after so many messages of the herd; 0 for no such end"},
			&cli.DurationFlag{Name: "duration", Usage: "stop after that time, such as 30s; 0 runs until Ctrl-C"},
			&cli.BoolFlag{Name: "plain", Usage: "write lines in place of the live view; so it is when the output is no terminal"},
		},
		Action: dev,
	}
}

func dev(c *cli.Context) error {
	if c.Args().Present() {
		return fmt.Errorf("reading arguments: %q is not a flag; dev takes flags only", c.Args().First())
	}
	cfg, err := devConfig(c)
	if err != nil {
		return err
	}
	if bind := cfg.Stack.Bind; !devstack.Loopback(bind) {
		fmt.Fprintf(c.App.ErrWriter, "WARNING: listening on %s: everybody who reaches this machine can publish, read and delete, without a password\n", bind)
	}
	ctx, restore := signal.NotifyContext(c.Context, os.Interrupt, syscall.SIGTERM)
	defer restore()
	defer context.AfterFunc(ctx, restore)() // a second Ctrl-C ends the process
	_, err = session.Run(ctx, cfg)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return errors.New("starting the development stack: interrupted")
	}
	return err
}

func devConfig(c *cli.Context) (session.Config, error) {
	cfg := session.Config{
		Stack: devstack.Config{
			Bind:      c.String("bind"),
			Advertise: c.String("advertise"),
			MQTTPort:  c.Int("mqtt-port"),
			KafkaPort: c.Int("kafka-port"),
			HTTPPort:  c.Int("http-port"),
			DataDir:   c.String("data-dir"),
			Fresh:     c.Bool("fresh"),
			LookupEnv: func(name string) (string, bool) { return envLookup(c.Context, name) },
		},
		Duration: c.Duration("duration"),
		Count:    c.Uint64("count"),
		Out:      c.App.Writer,
		Err:      c.App.ErrWriter,
	}
	for _, name := range []string{"mqtt-port", "kafka-port", "http-port"} {
		if n := c.Int(name); n < 0 || n > math.MaxUint16 {
			return cfg, fmt.Errorf("reading --%s: %d is not a port, 0 to %d", name, n, math.MaxUint16)
		}
	}
	if b := cfg.Stack.Bind; net.ParseIP(b) == nil && b != "localhost" {
		return cfg, fmt.Errorf("reading --bind: %q is not an IP address of this machine, such as 127.0.0.1 or 0.0.0.0", b)
	}
	if cfg.Duration < 0 {
		return cfg, fmt.Errorf("reading --duration: %s is negative", cfg.Duration)
	}
	var err error
	if cfg.Stack.DataDir == "" {
		if cfg.Stack.DataDir, err = devDataDir(); err != nil {
			return cfg, err
		}
	}
	files := fs.FS(pipelines.FS)
	if dir := c.String("pipelines"); dir != "" {
		cfg.OwnPipelines, files = true, os.DirFS(dir)
		if _, err := os.ReadDir(dir); err != nil {
			return cfg, fmt.Errorf("reading --pipelines: %w", err)
		}
	}
	if cfg.Stack.Pipelines, err = devstack.LoadPipelines(files); err != nil {
		return cfg, err
	}
	if len(cfg.Stack.Pipelines) == 0 {
		return cfg, fmt.Errorf("reading --pipelines: there is no *.yaml file in %s", c.String("pipelines"))
	}
	if name := c.String("catalogue"); name != "" {
		data, err := os.ReadFile(name)
		if err != nil {
			return cfg, fmt.Errorf("reading --catalogue: %w", err)
		}
		if cfg.Stack.Topics, err = topics.Load(name, data); err != nil {
			return cfg, err
		}
	}
	if c.Bool("no-herd") && cfg.Count > 0 {
		return cfg, fmt.Errorf("reading --count: %d messages of a herd, but --no-herd; use --duration to stop after a time", cfg.Count)
	}
	if !c.Bool("no-herd") {
		if cfg.Herd, err = devHerd(c); err != nil {
			return cfg, err
		}
	}
	if !c.Bool("plain") {
		cfg.Terminal = terminal(c.App.Writer)
	}
	return cfg, nil
}

// devHerd reads the flags of the herd. A mistake in them is told before
// anything starts.
func devHerd(c *cli.Context) (*simulate.Config, error) {
	share, err := simulate.ParseShare(c.String("faults"))
	if err != nil {
		return nil, fmt.Errorf("reading --faults: %w", err)
	}
	herd := &simulate.Config{Devices: c.Int("devices"), Seed: c.Uint64("seed"), Rate: c.Float64("rate"), Faults: devFaults(share)}
	if herd.Devices <= 0 {
		return nil, fmt.Errorf("reading --devices: %d is not a number of devices; use --no-herd for none", herd.Devices)
	}
	if !(herd.Rate > 0) {
		return nil, fmt.Errorf("reading --rate: %g messages a second is not a rate; use --no-herd for none", herd.Rate)
	}
	check := *herd
	check.Start = time.Now()
	if _, err := simulate.NewHerd(check); err != nil {
		return nil, fmt.Errorf("reading the flags of the herd: %w", err)
	}
	return herd, nil
}

func devFaults(share float64) map[simulate.Class]float64 {
	rare := share * oversizeShare
	classes := simulate.FaultClasses()
	faults := map[simulate.Class]float64{}
	for _, class := range classes {
		faults[class] = (share - rare) / float64(len(classes)-1)
	}
	faults[simulate.Oversize] = rare
	return faults
}

// devDataDir follows the XDG base directory specification.
func devDataDir() (string, error) {
	// The specification has relative paths ignored.
	if base := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(base) {
		return filepath.Join(base, "dealiot-connect", "dev"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("looking for a data directory: %w; name one with --data-dir", err)
	}
	return filepath.Join(home, ".local", "share", "dealiot-connect", "dev"), nil
}

// terminal is what a writer can be drawn on; nil when it cannot. Colours are
// left out when NO_COLOR is set (see no-color.org).
func terminal(w io.Writer) *session.Terminal {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || os.Getenv("TERM") == "dumb" {
		return nil
	}
	return &session.Terminal{
		Color: os.Getenv("NO_COLOR") == "",
		Size: func() (int, int) {
			width, height, err := term.GetSize(int(f.Fd()))
			if err != nil || width <= 0 || height <= 0 {
				return 80, 24
			}
			return width, height
		},
	}
}
