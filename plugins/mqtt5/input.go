// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package mqtt5

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
)

func init() {
	service.MustRegisterBatchInput("mqtt5", inputConfig(),
		func(conf *service.ParsedConfig, mgr *service.Resources) (service.BatchInput, error) {
			in, err := inputFromParsed(conf, mgr)
			if err != nil {
				return nil, err
			}
			return service.AutoRetryNacksBatchedToggled(conf, in)
		})
}

// reportEvery is how often what happened in the inbox goes to the metrics.
const reportEvery = time.Second

// input is the component.
type input struct {
	cfg     inputSettings
	log     *service.Logger
	metrics metrics
	inbox   *inbox
	link    *link
	warn    throttle

	mu       sync.Mutex
	started  bool
	closed   bool
	reported chan struct{} // closed by Close
	seen     uint64        // number of the connection that Connect last spoke of

	readMu sync.Mutex
	topics topicNames

	underway atomic.Int64  // batches handed over and not finished
	finished chan struct{} // one slot: a batch was finished
}

// metrics are what the input counts.
type metrics struct {
	received, redelivered, known, dropped, acksHeld *service.MetricCounter
	reconnects, sessionsLost, refused, oversize     *service.MetricCounter
	rejected, userProperties                        *service.MetricCounter
	inFlight, queued, connected                     *service.MetricGauge
	ackLatency                                      *service.MetricTimer
}

func newMetrics(m *service.Metrics) metrics {
	return metrics{
		received:       m.NewCounter("mqtt5_received", "qos"),
		redelivered:    m.NewCounter("mqtt5_redelivered"),
		known:          m.NewCounter("mqtt5_redelivered_known"),
		dropped:        m.NewCounter("mqtt5_qos0_dropped"),
		acksHeld:       m.NewCounter("mqtt5_acks_dropped"),
		reconnects:     m.NewCounter("mqtt5_reconnects"),
		sessionsLost:   m.NewCounter("mqtt5_sessions_lost"),
		refused:        m.NewCounter("mqtt5_subscriptions_refused"),
		oversize:       m.NewCounter("mqtt5_oversize"),
		rejected:       m.NewCounter("mqtt5_rejected"),
		userProperties: m.NewCounter("mqtt5_user_properties_dropped"),
		inFlight:       m.NewGauge("mqtt5_in_flight"),
		queued:         m.NewGauge("mqtt5_queued"),
		connected:      m.NewGauge("mqtt5_connected"),
		ackLatency:     m.NewTimer("mqtt5_ack_latency"),
	}
}

func inputFromParsed(conf *service.ParsedConfig, mgr *service.Resources) (*input, error) {
	cfg, err := settingsFromParsed(conf, mgr.Label())
	if err != nil {
		return nil, err
	}
	return newInput(cfg, mgr.Logger(), mgr.Metrics()), nil
}

func newInput(cfg inputSettings, log *service.Logger, m *service.Metrics) *input {
	i := &input{
		cfg:      cfg,
		log:      log,
		metrics:  newMetrics(m),
		inbox:    newInbox(cfg.inbox),
		reported: make(chan struct{}),
		finished: make(chan struct{}, 1),
	}
	i.link = newLink(cfg.link, i.inbox, linkHooks{
		up:         i.up,
		down:       i.down,
		failed:     func(err error) { log.Debugf("%v", err) },
		refused:    func(string) { i.metrics.refused.Incr(1) },
		downgraded: i.downgraded,
		oversize:   i.oversize,
	})
	for _, w := range cfg.warnings {
		log.Warn(w)
	}
	return i
}

func (i *input) up(e endpoint, sessionPresent bool, n uint64) {
	i.metrics.connected.Set(1)
	kept := "the broker began a new session"
	if sessionPresent {
		kept = "the broker kept the session"
	}
	i.log.Infof("Connected to %v as %q, %s", e, i.cfg.link.clientID, kept)
	if n == 1 {
		return
	}
	i.metrics.reconnects.Incr(1)
	if !sessionPresent && i.cfg.link.sessionExpiry > 0 {
		i.metrics.sessionsLost.Incr(1)
		i.log.Warnf("The broker did not keep the session of %q: what it held for this client is gone. Look at the broker's persistence, and at whether it restarted or session_expiry (%v) ran out", i.cfg.link.clientID, i.cfg.link.sessionExpiry)
	}
}

func (i *input) down(reason error) {
	i.metrics.connected.Set(0)
	i.log.Warnf("Connection lost: %v", reason)
}

func (i *input) downgraded(filter string, asked, granted byte) {
	i.log.Warnf("Filter %q: the broker grants QoS %d instead of %d", filter, granted, asked)
}

func (i *input) oversize(topic string, size int) {
	i.metrics.oversize.Incr(1)
	if n := i.warn.add("oversize", 1); n > 0 {
		i.log.Warnf("Refused %d messages larger than max_packet_size, the last one of %d bytes on %.200q: the broker should not have sent them", n, size, topic)
	}
}

// report moves what happened in the inbox to the metrics.
func (i *input) report() {
	s := i.inbox.state()
	m := &i.metrics
	m.inFlight.Set(int64(s.inFlight))
	m.queued.Set(int64(s.queued))
	for _, c := range []struct {
		counter *service.MetricCounter
		n       int64
	}{{m.redelivered, s.redelivered}, {m.known, s.known}, {m.dropped, s.dropped}, {m.acksHeld, s.acksHeld}} {
		if c.n > 0 {
			c.counter.Incr(c.n)
		}
	}
	if s.dropped > 0 {
		if n := i.warn.add("dropped", int(s.dropped)); n > 0 {
			i.log.Warnf("Dropped %d messages of QoS 0: the pipeline is slower than they come. Raise qos0_queue, set qos0_overflow to block, or subscribe with QoS 1", n)
		}
	}
}

// Connect waits until the link is up, or has just failed to come up.
func (i *input) Connect(ctx context.Context) error {
	i.mu.Lock()
	if i.closed {
		i.mu.Unlock()
		return service.ErrEndOfInput
	}
	if !i.started {
		if err := clientIDs.claim(i.cfg.link); err != nil {
			i.mu.Unlock()
			return err
		}
		i.started = true
		i.link.start()
		go i.reportLoop()
	}
	i.mu.Unlock()

	s := i.link.state()
	for tries := s.tries; ; s = i.link.state() {
		switch {
		case s.up:
			i.mu.Lock()
			i.seen = s.n
			i.mu.Unlock()
			return nil
		case s.tries != tries:
			return s.err
		}
		select {
		case <-s.changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (i *input) reportLoop() {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			i.report()
		case <-i.reported:
			i.report()
			return
		}
	}
}

// ReadBatch gives what has come. It waits for more only while an earlier batch
// is on its way.
func (i *input) ReadBatch(ctx context.Context) (service.MessageBatch, service.AckFunc, error) {
	i.readMu.Lock()
	defer i.readMu.Unlock()
	batch, err := i.next(ctx)
	if err != nil {
		return nil, nil, err
	}
	messages := make(service.MessageBatch, len(batch))
	var byQoS [3]int64
	dropped := 0
	for n, m := range batch {
		byQoS[m.publish.qos]++
		messages[n] = i.topics.message(m, i.cfg.receivedAt, &dropped)
	}
	for qos, n := range byQoS {
		if n > 0 {
			i.metrics.received.Incr(n, strconv.Itoa(qos))
		}
	}
	if dropped > 0 {
		i.metrics.userProperties.Incr(int64(dropped))
	}
	return messages, i.ackFunc(batch, messages), nil
}

func (i *input) next(ctx context.Context) ([]*inbound, error) {
	count, size := i.cfg.batchCount, i.cfg.batchBytes
	for {
		s := i.link.state()
		batch := i.inbox.take(make([]*inbound, 0, min(count, 64)), count, size)
		if len(batch) > 0 {
			return i.fill(ctx, batch), nil
		}
		i.mu.Lock()
		seen, closed := i.seen, i.closed
		i.mu.Unlock()
		switch {
		case closed:
			return nil, service.ErrEndOfInput
		case !s.up || s.n != seen:
			return nil, service.ErrNotConnected
		}
		select {
		case <-i.inbox.await(1):
		case <-s.changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// fill adds to a batch what comes while an earlier one is still on its way.
// The pipeline would most likely not have taken this one sooner, and small
// batches would queue up in front of the output.
func (i *input) fill(ctx context.Context, batch []*inbound) []*inbound {
	select {
	case <-i.finished: // of long ago
	default:
	}
	more := i.cfg.batchCount - len(batch)
	if more <= 0 || i.cfg.batchPeriod <= 0 || i.underway.Load() == 0 {
		return batch
	}
	timer := time.NewTimer(i.cfg.batchPeriod)
	defer timer.Stop()
	full := i.inbox.await(more)
	for waiting := true; waiting; {
		select {
		case <-i.finished:
			waiting = i.underway.Load() > 0
		case <-full:
			waiting = false
		case <-timer.C:
			waiting = false
		case <-ctx.Done():
			waiting = false
		}
	}
	return i.inbox.take(batch, i.cfg.batchCount, i.cfg.batchBytes)
}

// ackFunc acknowledges a batch. A rejection reaches it only if auto_replay_nacks
// is off: then it is final.
func (i *input) ackFunc(batch []*inbound, messages service.MessageBatch) service.AckFunc {
	var index *service.Indexer
	if !i.cfg.autoReplay {
		index = messages.Index()
	}
	var once sync.Once
	i.underway.Add(1)
	return func(_ context.Context, err error) error {
		once.Do(func() {
			defer i.delivered()
			i.metrics.ackLatency.Timing(int64(time.Since(batch[0].at)))
			if err == nil {
				i.finish(batch, 0)
				return
			}
			delivered, rejected := splitRejected(batch, index, err)
			i.metrics.rejected.Incr(int64(len(rejected)))
			i.finish(delivered, 0)
			i.finish(rejected, codeImplementation)
		})
		return nil
	}
}

// delivered notes that a batch is not on its way any more.
func (i *input) delivered() {
	i.underway.Add(-1)
	select {
	case i.finished <- struct{}{}:
	default:
	}
}

func (i *input) finish(batch []*inbound, code byte) {
	if err := i.inbox.finish(batch, code); err != nil {
		// The link sees the same and says so.
		i.log.Debugf("%v", err)
	}
}

// splitRejected tells the messages that were delivered from those that an
// error is about.
func splitRejected(batch []*inbound, index *service.Indexer, err error) (delivered, rejected []*inbound) {
	var batchErr *service.BatchError
	if index == nil || !errors.As(err, &batchErr) || batchErr.IndexedErrors() == 0 {
		return nil, batch
	}
	failed := make([]bool, len(batch))
	batchErr.WalkMessagesIndexedBy(index, func(n int, _ *service.Message, err error) bool {
		if err != nil && n >= 0 && n < len(failed) {
			failed[n] = true
		}
		return true
	})
	for n, m := range batch {
		if failed[n] {
			rejected = append(rejected, m)
		} else {
			delivered = append(delivered, m)
		}
	}
	return delivered, rejected
}

// Close leaves the broker in peace. The engine has waited for what is in the
// pipeline by then; what is left is not acknowledged, and the broker keeps it.
func (i *input) Close(ctx context.Context) error {
	i.mu.Lock()
	started, closed := i.started, i.closed
	i.closed = true
	i.mu.Unlock()
	if !started || closed {
		return nil
	}
	err := i.link.stop(ctx)
	clientIDs.release(i.cfg.link)
	if left := i.inbox.abandon(); left > 0 {
		i.metrics.dropped.Incr(int64(left))
		i.log.Warnf("Stopped with %d messages of QoS 0 that nobody read", left)
	}
	close(i.reported)
	i.metrics.connected.Set(0)
	return err
}

// ConnectionTest connects once, under a client id of its own, because the same
// one would throw out the connection of a running pipeline.
func (i *input) ConnectionTest(ctx context.Context) service.ConnectionTestResults {
	cfg := i.cfg.link
	cfg.clientID = fmt.Sprintf("%.40s-test-%08x", cfg.clientID, rand.Uint32())
	cfg.cleanStart, cfg.sessionExpiry, cfg.will, cfg.subscriptions = true, 0, nil, nil
	nothing := func(error) {}
	l := newLink(cfg, newInbox(i.cfg.inbox), linkHooks{
		up: func(endpoint, bool, uint64) {}, down: nothing, failed: nothing,
		oversize: func(string, int) {},
	})
	var errs []error
	for _, e := range cfg.endpoints {
		c, err := l.connect(ctx, e)
		if err == nil {
			l.goodbye(c)
			return service.ConnectionTestSucceeded().AsList()
		}
		errs = append(errs, err)
	}
	return service.ConnectionTestFailed(errors.Join(errs...)).AsList()
}
