// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

// Package session is what `dealiot-connect dev` does: a development stack with
// a simulated herd, a live view of it, and an account at the end of what became
// of every message.
package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dealiot/dealiot-connect/internal/devstack"
	"github.com/dealiot/dealiot-connect/internal/liveview"
	"github.com/dealiot/dealiot-connect/internal/simulate"
)

const (
	startTimeout = time.Minute
	stopTimeout  = 20 * time.Second
	patience     = 10 * time.Second
	quietTime    = time.Second // without a record before pipelines of one's own count as done
	samplePause  = 250 * time.Millisecond
	pollPause    = 5 * time.Millisecond

	// maxBehind is how many messages of the herd may be in the MQTT broker and
	// not yet in Kafka: far below its limits, at which it would drop some.
	maxBehind = 5000
)

// Config of a session.
type Config struct {
	Stack devstack.Config
	// OwnPipelines says that the pipelines are not those of the distribution, so
	// that a message need not become one record on raw.* or dlq.events; then the
	// account is not drawn up.
	OwnPipelines bool

	Herd     *simulate.Config // nil runs none; Start and QoS are set here
	Count    uint64           // ends the session after so many messages of the herd; 0 means no such end
	Duration time.Duration    // ends the session after that time; 0 means no such end
	// Patience is how long to wait at the end for messages that have not
	// arrived, while none arrives; 0 is 10 s.
	Patience time.Duration

	Out io.Writer // gets the view and the account
	Err io.Writer // gets warnings in plain mode
	// Terminal draws the live view on Out; nil writes plain lines instead.
	Terminal *Terminal
}

// Terminal is one that can be drawn on.
type Terminal struct {
	Size  func() (width, height int)
	Color bool
}

// MissingError says that messages that the MQTT broker took are not in Kafka.
type MissingError struct{ Account Account }

func (e *MissingError) Error() string {
	return fmt.Sprintf("comparing MQTT with Kafka: %d of %d messages are missing", e.Account.Missing, e.Account.Taken)
}

// Run runs a session until ctx is done or its duration is over. It stops in an
// order in which nothing is lost, and says by numbers whether that is so.
func Run(ctx context.Context, cfg Config) (Account, error) {
	if cfg.Patience == 0 {
		cfg.Patience = patience
	}
	s := &session{cfg: cfg, started: time.Now()}
	return s.run(ctx)
}

type session struct {
	cfg     Config
	started time.Time
	live    *liveview.Live
	ledger  ledger
	stack   *devstack.Stack

	herd    simulate.Summary
	herdErr error
}

func (s *session) run(ctx context.Context) (Account, error) {
	s.live = liveview.NewLive(s.started, "raw.gps", "raw.sensor", "raw.image2d.meta", "raw.image3d.meta", "raw.video2d.meta", "raw.video3d.meta", "dlq.events")
	s.cfg.Stack.Logger = slog.New(newNotices(s.tell))

	starting, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	var err error
	if s.stack, err = devstack.Start(starting, s.cfg.Stack); err != nil {
		return Account{}, err
	}
	reader, err := liveview.NewReader([]string{s.stack.Addrs().Kafka}, s.stack.Offsets())
	if err != nil {
		return Account{}, errors.Join(err, s.stop())
	}
	var reading sync.WaitGroup
	reading.Go(func() { reader.Run(context.Background(), s.record, func(err error) { s.tell(err.Error()) }) })

	s.announce()
	s.play(ctx)
	account, err := s.settle(ctx)
	reader.Close()
	reading.Wait()
	return account, err
}

// announce says in one line that everything is ready, and what to do now.
func (s *session) announce() {
	a := s.stack.Addrs()
	pipelines := strings.Join(s.stack.Pipelines(), ", ")
	if pipelines == "" {
		pipelines = "none"
	}
	fmt.Fprintf(s.cfg.Out, "ready in %.2f s: MQTT %s · Kafka %s · %d topics · pipelines %s · http http://%s\n",
		time.Since(s.started).Seconds(), a.MQTT, a.Kafka, len(s.stack.Topics()), pipelines, a.HTTP)
	host, port, _ := strings.Cut(a.MQTT, ":")
	fmt.Fprintf(s.cfg.Out, "publish a position of your own:\n  mosquitto_pub -h %s -p %s -q 1 -t devices/cow-7/gps -m '{\"timestamp\":\"%s\",\"lat\":47.781,\"lon\":9.061}'\nCtrl-C stops\n",
		host, port, time.Now().UTC().Format(time.RFC3339))
}

// play lets the herd and the view run until it is time to stop. When it
// returns, the herd has all its acknowledgements and the terminal is as it was.
func (s *session) play(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if s.cfg.Duration > 0 {
		defer time.AfterFunc(s.cfg.Duration, cancel).Stop()
	}
	var herd, view sync.WaitGroup
	viewing, endView := context.WithCancel(ctx)
	defer endView()
	view.Go(func() { s.sample(viewing) })
	view.Go(func() { s.show(viewing) })
	if s.cfg.Herd != nil {
		herd.Go(func() {
			switch s.runHerd(ctx); {
			case s.herdErr != nil:
				s.tell("the herd stopped: " + s.herdErr.Error())
			case s.cfg.Count > 0:
				cancel()
			}
		})
	}
	<-ctx.Done()
	view.Wait()
	fmt.Fprintln(s.cfg.Out, "stopping; Ctrl-C again stops at once and may lose what is under way")
	herd.Wait()
}

func (s *session) runHerd(ctx context.Context) {
	herd := *s.cfg.Herd
	herd.Start, herd.QoS = time.Now(), 1
	if herd.Rate == 0 {
		herd.Rate = simulate.DefaultRate
	}
	publisher := simulate.PublisherConfig{
		Broker: "tcp://" + s.stack.Addrs().MQTT,
		Rate:   herd.Rate,
		Count:  s.cfg.Count,
		Notify: func(text string) { s.tell("herd: " + text) },
	}
	if !s.cfg.OwnPipelines {
		publisher.Gate = func(ctx context.Context, sent uint64) error {
			return poll(ctx, func() bool { return sent < s.ledger.arrived()+maxBehind })
		}
	}
	s.herd, s.herdErr = simulate.Run(ctx, herd, publisher, nil)
	if errors.Is(s.herdErr, context.Canceled) {
		s.herdErr = nil // told to stop while it was held back
	}
}

// sample feeds the broker's counters to the view.
func (s *session) sample(ctx context.Context) {
	tick := time.NewTicker(samplePause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			b := s.stack.Broker()
			s.live.Source(now, liveview.Source{Received: b.Received, Sent: b.Sent, Dropped: b.Dropped, Clients: b.Clients, Unmatched: b.Unmatched})
		}
	}
}

func (s *session) show(ctx context.Context) {
	if t := s.cfg.Terminal; t != nil {
		a := s.stack.Addrs()
		screen := liveview.Screen{Out: s.cfg.Out, Size: t.Size, Title: liveview.Title(a.MQTT, a.Kafka, a.HTTP), Style: liveview.Style{Color: t.Color}}
		screen.Run(ctx, s.live.Snapshot)
		return
	}
	log := liveview.Log{Out: s.cfg.Out}
	log.Run(ctx, s.live.Snapshot)
}

func (s *session) record(r *kgo.Record) {
	record := liveview.Decode(r)
	content := record.Original
	if content == nil {
		content = eventContent(r.Value)
	}
	s.ledger.record(record.Device, record.DeadLetter != nil, content)
	s.live.Record(time.Now(), record)
}

// tell passes a warning on: into the view, or to Err in plain mode.
func (s *session) tell(text string) {
	if s.cfg.Terminal != nil {
		now := time.Now()
		s.live.Notice(now, now.Format(time.TimeOnly)+" "+text)
		return
	}
	fmt.Fprintln(s.cfg.Err, text)
}

// settle waits until everything that was taken has arrived, stops the stack and
// draws up the account.
func (s *session) settle(ctx context.Context) (Account, error) {
	began := time.Now()
	ctx = context.WithoutCancel(ctx)
	s.stack.Refuse()
	s.await(ctx)

	stopping, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	drained := s.stack.Drain(stopping)
	read := s.readToEnd(stopping)
	account := s.ledger.account(s.stack.Broker(), s.herd)
	stopped := s.stop()

	fmt.Fprintf(s.cfg.Out, "stopped in %.2f s\n", time.Since(began).Seconds())
	err := errors.Join(s.herdErr, drained, read, stopped)
	if s.cfg.OwnPipelines {
		fmt.Fprintf(s.cfg.Out, "  MQTT messages taken  %9d\n  records in Kafka     %9d\n", account.Taken, s.ledger.total())
		return account, err
	}
	fmt.Fprint(s.cfg.Out, account)
	if account.Missing > 0 {
		err = errors.Join(err, &MissingError{account})
	}
	return account, err
}

// await waits until the ledger is complete, or nothing more happens.
func (s *session) await(ctx context.Context) {
	patience := s.cfg.Patience
	if s.cfg.OwnPipelines {
		patience = quietTime
	}
	last, since := s.ledger.total(), time.Now()
	_ = poll(ctx, func() bool {
		if n := s.ledger.total(); n != last {
			last, since = n, time.Now()
		}
		complete := !s.cfg.OwnPipelines && s.ledger.account(s.stack.Broker(), s.herd).Missing == 0
		return complete || time.Since(since) > patience
	})
}

// readToEnd waits until the reader has seen what is in Kafka now.
func (s *session) readToEnd(ctx context.Context) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(s.stack.Addrs().Kafka))
	if err != nil {
		return fmt.Errorf("setting up the Kafka client: %w", err)
	}
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, s.stack.Topics()...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return fmt.Errorf("asking where the topics end: %w", err)
	}
	due := int64(0)
	from := s.stack.Offsets()
	ends.Each(func(o kadm.ListedOffset) {
		if start, ok := from.Lookup(o.Topic, o.Partition); ok {
			due += o.Offset - start.At
		}
	})
	if err := poll(ctx, func() bool { return s.ledger.total() >= due }); err != nil {
		return fmt.Errorf("reading the last records: %d of %d: %w", s.ledger.total(), due, err)
	}
	return nil
}

func (s *session) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return s.stack.Stop(ctx)
}

// poll waits until a condition holds; the error is that of ctx.
func poll(ctx context.Context, done func() bool) error {
	if done() {
		return nil
	}
	tick := time.NewTicker(pollPause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if done() {
				return nil
			}
		}
	}
}
