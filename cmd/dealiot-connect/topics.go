// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
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

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/urfave/cli/v2"

	"github.com/dealiot/dealiot-connect/internal/kafkaconf"
	"github.com/dealiot/dealiot-connect/internal/secrets"
	"github.com/dealiot/dealiot-connect/internal/topics"
	"github.com/dealiot/dealiot-connect/resources"
)

// exitChangesPending is the exit code of `topics plan --exit-code` when the
// cluster is not as the catalogue says.
const exitChangesPending = 2

func topicsCommand() *cli.Command {
	catalogue := &cli.StringFlag{Name: "catalogue", Usage: "a topic catalogue of your own, in place of the built-in one", TakesFile: true}
	asJSON := &cli.BoolFlag{Name: "json", Usage: "print one JSON document"}
	cluster := []cli.Flag{
		catalogue,
		asJSON,
		&cli.StringFlag{Name: "brokers", Usage: "addresses of Kafka brokers, with commas; default " + kafkaconf.BootstrapServers + ", else " + kafkaconf.DefaultBrokers},
		&cli.DurationFlag{Name: "timeout", Value: 15 * time.Second, Usage: "how long to wait for Kafka: to be reached, for each change, and for the changes to show"},
		&cli.BoolFlag{Name: "cap-replication", Usage: "accept fewer copies of the data when there are fewer brokers than the catalogue asks for"},
		&cli.BoolFlag{Name: "force-compacted-partitions", Usage: "add partitions to compacted topics too, although old records of a key stay where they were"},
	}
	return &cli.Command{
		Name:  "topics",
		Usage: "Bring the topics of a Kafka cluster in line with the topic catalogue",
		Description: `
The topic catalogue names every topic of the platform with its partitions,
replication and configuration. A catalogue is built in; --catalogue gives
another.

  {{.BinaryName}} topics list
  {{.BinaryName}} topics plan --brokers kafka1:9092
  {{.BinaryName}} topics apply --brokers kafka1:9092

Secured clusters are reached with KAFKA_SECURITY_PROTOCOL, KAFKA_SASL_MECHANISM,
KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD (or KAFKA_SASL_PASSWORD_FILE),
KAFKA_SSL_CAFILE, KAFKA_SSL_CERTFILE, KAFKA_SSL_KEYFILE and
KAFKA_SSL_CHECK_HOSTNAME.`[1:],
		Subcommands: []*cli.Command{
			{
				Name:   "list",
				Usage:  "Show the topic catalogue",
				Flags:  []cli.Flag{catalogue, asJSON, &cli.BoolFlag{Name: "yaml", Usage: "print the catalogue's file, to make one of your own from"}},
				Action: topicsList,
			},
			{
				Name:  "plan",
				Usage: "Show how a cluster differs from the catalogue, and change nothing",
				Description: `
Exit codes: 0 when there is nothing to refuse, 1 when something is refused or
went wrong. With --exit-code also 2, when changes are pending.`[1:],
				Flags:  append(slices.Clone(cluster), &cli.BoolFlag{Name: "exit-code", Usage: "exit with 2 when changes are pending"}),
				Action: func(c *cli.Context) error { return topicsAgainstCluster(c, false) },
			},
			{
				Name:  "apply",
				Usage: "Create topics, add partitions and set configuration as the catalogue says",
				Description: `
Topics, partitions and copies are never taken away. What cannot be done safely is
refused with a reason, and the rest is done. Applying twice changes nothing the
second time.

Exit codes: 0 when the cluster is as the catalogue says, 1 when something was
refused or failed.`[1:],
				Flags:  cluster,
				Action: func(c *cli.Context) error { return topicsAgainstCluster(c, true) },
			},
		},
	}
}

// loadCatalogue reads the catalogue that the flags ask for, with its name for
// people.
func loadCatalogue(c *cli.Context) (*topics.Catalogue, string, []byte, error) {
	if c.Args().Present() {
		return nil, "", nil, fmt.Errorf("reading the command line: %q is not expected, topics %s takes flags only", c.Args().First(), c.Command.Name)
	}
	file := c.String("catalogue")
	if file == "" {
		cat, err := topics.Default()
		return cat, "built-in", resources.Topics, err
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, "", nil, fmt.Errorf("reading topic catalogue: %w", err)
	}
	cat, err := topics.Load(file, data)
	return cat, file, data, err
}

func topicsList(c *cli.Context) error {
	cat, _, data, err := loadCatalogue(c)
	if err != nil {
		return err
	}
	out := c.App.Writer
	switch {
	case c.Bool("yaml"):
		_, err := out.Write(data)
		return err
	case c.Bool("json"):
		return writeJSON(out, struct {
			Topics    []topics.Topic    `json:"topics"`
			Overrides []topics.Override `json:"overrides"`
		}{cat.Topics(), cat.Overrides()})
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	domain := ""
	for _, t := range cat.Topics() {
		if t.Domain != domain {
			domain = t.Domain
			fmt.Fprintf(w, "%s\n", domain)
		}
		var configs []string
		for _, k := range slices.Sorted(maps.Keys(t.Configs)) {
			configs = append(configs, k+"="+t.Configs[k])
		}
		fmt.Fprintf(w, "  %s\t%d x %d\t%s\t%s\n", t.Name, t.Partitions, t.Replication, t.Purpose, strings.Join(configs, " "))
	}
	fmt.Fprintln(w, "\n(partitions x replication)")
	for _, o := range cat.Overrides() {
		fmt.Fprintf(w, "override %s on %s: %s\n", o.Name, strings.Join(o.Topics, ", "), o.Reason)
	}
	return w.Flush()
}

func topicsAgainstCluster(c *cli.Context, apply bool) error {
	cat, catName, _, err := loadCatalogue(c)
	if err != nil {
		return err
	}
	timeout := c.Duration("timeout")
	if timeout <= 0 {
		return fmt.Errorf("reading --timeout: it must be more than nothing, got %v", timeout)
	}
	ctx, stop := signal.NotifyContext(c.Context, os.Interrupt, syscall.SIGTERM)
	defer stop()

	conf, err := kafkaFromFlags(ctx, c)
	if err != nil {
		return err
	}
	client, cluster, err := reachCluster(ctx, c.App.ErrWriter, conf, cat, timeout)
	if err != nil {
		return err
	}
	defer client.Close()

	plan := topics.NewPlan(cat, cluster, topics.Options{
		CapReplication:           c.Bool("cap-replication"),
		ForceCompactedPartitions: c.Bool("force-compacted-partitions"),
	})
	report := topicsReport{Plan: plan, Catalogue: catName, addresses: conf.Brokers, applied: apply}
	asJSON := c.Bool("json")
	if !asJSON {
		report.writePlan(c.App.Writer)
	}

	var failure error
	if apply && plan.Refused == "" && plan.Summary.Changes() > 0 {
		opt := topics.ApplyOptions{Timeout: timeout}
		if !asJSON {
			fmt.Fprintln(c.App.Writer, "\nApplying")
			opt.Progress = func(a topics.Action) { writeResult(c.App.Writer, a) }
		}
		if failure = topics.Apply(ctx, client, plan, opt); failure != nil {
			report.Error = failure.Error()
		}
	}
	if asJSON {
		if err := writeJSON(c.App.Writer, report); err != nil {
			return err
		}
	} else {
		report.writeSummary(c.App.Writer)
	}
	switch {
	case failure != nil:
		return failure
	case !plan.Clean():
		return cli.Exit("", 1)
	case !apply && c.Bool("exit-code") && plan.Summary.Changes() > 0:
		return cli.Exit("", exitChangesPending)
	}
	return nil
}

// kafkaFromFlags reads the KAFKA_* settings, with the flag --brokers first.
func kafkaFromFlags(ctx context.Context, c *cli.Context) (kafkaconf.Config, error) {
	brokers := c.String("brokers")
	if c.IsSet("brokers") && len(secrets.ParseCSV(brokers)) == 0 {
		return kafkaconf.Config{}, fmt.Errorf("reading --brokers: %q names no address", brokers)
	}
	return kafkaconf.Parse(func(name string) (string, bool) {
		if name == kafkaconf.BootstrapServers && brokers != "" {
			return brokers, true
		}
		return envLookup(ctx, name)
	})
}

// reachCluster connects and looks at the cluster within the timeout; while
// nobody listens it tries again and says so in notes. Its error says which
// address did not answer, why, and what to do.
func reachCluster(ctx context.Context, notes io.Writer, conf kafkaconf.Config, cat *topics.Catalogue, timeout time.Duration) (*kgo.Client, topics.Cluster, error) {
	opts, err := conf.Options()
	if err != nil {
		return nil, topics.Cluster{}, err
	}
	dials := &dialErrors{}
	client, err := kgo.NewClient(append(opts, kgo.ClientID("dealiot-connect-topics"), kgo.WithHooks(dials))...)
	if err != nil {
		return nil, topics.Cluster{}, fmt.Errorf("setting up the Kafka client for %s: %w", strings.Join(conf.Brokers, ","), err)
	}
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	// The client waits for a broker's first answer without regard to the context;
	// closing it ends the wait.
	unbind := context.AfterFunc(bounded, client.Close)
	cluster, err := topics.Observe(bounded, client, cat)
	for told := false; err != nil && dials.mayPass() && bounded.Err() == nil; {
		if !told { // Kafka may be starting beside us
			fmt.Fprintf(notes, "Kafka at %s cannot be reached yet (%v), trying for %v\n", strings.Join(conf.Brokers, ","), dials.last(), timeout)
			told = true
		}
		select {
		case <-bounded.Done():
		case <-time.After(250 * time.Millisecond):
			cluster, err = topics.Observe(bounded, client, cat)
		}
	}
	if unbind() && err == nil {
		return client, cluster, nil
	}
	client.Close()
	where := strings.Join(conf.Brokers, ",")
	switch last := dials.last(); {
	case ctx.Err() != nil:
		return nil, topics.Cluster{}, fmt.Errorf("connecting to Kafka at %s: interrupted", where)
	case last != nil:
		return nil, topics.Cluster{}, fmt.Errorf("connecting to Kafka at %s: %w; is Kafka running there? set %s or --brokers", where, last, kafkaconf.BootstrapServers)
	case bounded.Err() != nil:
		return nil, topics.Cluster{}, fmt.Errorf("connecting to Kafka at %s: no answer within %v; is it Kafka that listens there, and is KAFKA_SECURITY_PROTOCOL (%s) right? set %s or --brokers, or a longer --timeout", where, timeout, conf.Protocol, kafkaconf.BootstrapServers)
	}
	return nil, topics.Cluster{}, fmt.Errorf("looking at Kafka at %s: %w", where, err)
}

// dialErrors remembers why the last connection could not be made: when the
// client gives up it says only that time ran out.
type dialErrors struct {
	mu  sync.Mutex
	err error
}

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (d *dialErrors) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if errors.Is(err, context.Canceled) || errors.Is(err, kgo.ErrClientClosed) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

func (d *dialErrors) last() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// mayPass tells whether the last connection failed for a reason that goes away
// when the server comes up, unlike a certificate that is not trusted.
func (d *dialErrors) mayPass() bool {
	var dial *net.OpError
	return errors.As(d.last(), &dial) && dial.Op == "dial"
}

// topicsReport is a plan with where it came from, for people and for machines.
type topicsReport struct {
	Catalogue string `json:"catalogue"`
	*topics.Plan
	Error string `json:"error,omitempty"` // why applying did not come to its end

	addresses []string
	applied   bool
}

func (r topicsReport) writePlan(out io.Writer) {
	fmt.Fprintf(out, "Kafka at %s: %s. Catalogue: %s, %s.\n", strings.Join(r.addresses, ","),
		counted(r.Brokers, "broker"), r.Catalogue, counted(r.Summary.Topics, "topic"))
	for _, group := range []struct {
		kind  topics.Kind
		title string
	}{
		{topics.Create, "To create"},
		{topics.AddPartitions, "Partitions to add"},
		{topics.SetConfig, "Settings to change"},
		{topics.Kept, "Different, and kept so"},
		{topics.Refused, "Refused"},
	} {
		var actions []topics.Action
		for _, a := range r.Actions {
			if a.Kind == group.kind {
				actions = append(actions, a)
			}
		}
		if len(actions) == 0 {
			continue
		}
		fmt.Fprintf(out, "\n%s (%d)\n", group.title, len(actions))
		if group.kind.Changes() {
			writeChanges(out, actions)
		} else {
			writeReasons(out, actions)
		}
	}
	for _, warning := range r.Warnings {
		fmt.Fprintf(out, "\nWarning: %s.\n", warning)
	}
	if r.Refused != "" {
		fmt.Fprintf(out, "\nThe plan is refused: %s.\n", r.Refused)
	}
}

func writeChanges(out io.Writer, actions []topics.Action) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, a := range actions {
		fmt.Fprintf(w, "  %s\t%s\n", a.Topic, changeText(a))
		if a.Warning != "" {
			fmt.Fprintf(w, "  \twarning: %s\n", a.Warning)
		}
	}
	w.Flush()
}

// writeReasons says each reason once, with the topics it is about.
func writeReasons(out io.Writer, actions []topics.Action) {
	var reasons []string
	about := map[string][]string{}
	for _, a := range actions {
		if about[a.Reason] == nil {
			reasons = append(reasons, a.Reason)
		}
		about[a.Reason] = append(about[a.Reason], a.Topic)
	}
	for _, reason := range reasons {
		fmt.Fprintf(out, "  %s: %s\n", strings.Join(about[reason], ", "), reason)
	}
}

func (r topicsReport) writeSummary(out io.Writer) {
	s := r.Summary
	switch {
	case !r.applied:
		fmt.Fprintf(out, "\nPlan: %d to create, %d to give more partitions, %s to change; %d kept, %d refused, %s as the catalogue says.\n",
			s.Create, s.AddPartitions, counted(s.SetConfig, "setting"), s.Kept, s.Refused, counted(s.OK, "topic"))
	case r.Refused != "":
		fmt.Fprintln(out, "\nNothing was changed.")
	default:
		fmt.Fprintf(out, "\nApplied: %s done, %d failed; %d kept, %d refused, %s as the catalogue said before.\n",
			counted(s.Done, "change"), s.Failed, s.Kept, s.Refused, counted(s.OK, "topic"))
	}
}

// changeText puts a change into words that go after the topic's name.
func changeText(a topics.Action) string {
	switch a.Kind {
	case topics.AddPartitions:
		return a.From + " -> " + a.To
	case topics.SetConfig:
		from := a.From
		if from == "" {
			from = "(not set)"
		}
		text := fmt.Sprintf("%s  %s -> %s", a.Config, from, a.To)
		if a.Reason != "" {
			text += "  (" + a.Reason + ")"
		}
		return text
	}
	return a.To
}

// writeResult prints what became of one change.
func writeResult(out io.Writer, a topics.Action) {
	what := map[topics.Kind]string{
		topics.Create:        "created",
		topics.AddPartitions: "has " + a.To + " partitions now",
		topics.SetConfig:     a.Config + " set",
	}[a.Kind]
	if a.Result == topics.Failed {
		what = "FAILED: " + a.Error
	}
	fmt.Fprintf(out, "  %s  %s\n", a.Topic, what)
}

func writeJSON(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
