// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package simulate

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
)

// Defaults and bounds of PublisherConfig.
const (
	DefaultInflight     = 1000
	maxInflight         = 60_000 // MQTT has 65,535 packet ids
	DefaultDrainTimeout = 30 * time.Second
	defaultProgress     = time.Second

	dialTimeout  = 10 * time.Second
	writeTimeout = 30 * time.Second
	keepAlive    = 30 * time.Second
	firstBackoff = 250 * time.Millisecond
	lastBackoff  = 10 * time.Second

	// maxStuck is how many connections in a row may end without one
	// acknowledgement before the run gives up on the first message in line.
	maxStuck = 5
)

// PublisherConfig says where and how fast to publish. The zero value of a
// field stands for its default.
//
// The publisher speaks MQTT 3.1.1, which every broker does, and needs nothing
// of version 5: the identity of an event is in its content, and the window of
// unacknowledged messages is the publisher's own.
type PublisherConfig struct {
	// Broker is an address such as tcp://127.0.0.1:1883 or ssl://host:8883; ws
	// and wss work too, and a bare host:port means tcp.
	Broker             string
	Username, Password string
	TLS                *tls.Config // for ssl and wss; nil means the system's roots
	ClientID           string      // "" makes one up

	// Rate is how many messages a second to send; 0 means as fast as possible.
	// After an interruption the run catches up, as devices do that buffer.
	Rate float64
	// Count ends the run after so many messages; 0 means no such end.
	Count uint64
	// Duration ends the run after that time; 0 means no such end. At a rate it is
	// Rate × Duration messages, unless the broker is slower than that.
	Duration time.Duration
	// Inflight is how many messages may be sent and not yet acknowledged; 0 means
	// DefaultInflight.
	Inflight int
	// DrainTimeout is how long to wait, after the last message, without any
	// acknowledgement coming in; 0 means DefaultDrainTimeout.
	DrainTimeout time.Duration

	// Gate, if not nil, is asked before each message is sent for the first time,
	// with the number already sent. It holds the run back by not returning; an
	// error ends the run with it.
	Gate func(ctx context.Context, sent uint64) error
	// Manifest, if not nil, gets a ManifestEntry as a line of JSON for each
	// message, in order, once it is acknowledged or given up.
	Manifest io.Writer
	// Notify, if not nil, is told in words about lost and new connections.
	Notify func(text string)
	// ProgressInterval is how often progress is called; 0 means each second.
	ProgressInterval time.Duration

	backoff time.Duration // before the first attempt to connect again; tests make it short
}

func (c PublisherConfig) withDefaults() PublisherConfig {
	if c.Inflight == 0 {
		c.Inflight = DefaultInflight
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = DefaultDrainTimeout
	}
	if c.ProgressInterval == 0 {
		c.ProgressInterval = defaultProgress
	}
	if c.backoff == 0 {
		c.backoff = firstBackoff
	}
	if c.ClientID == "" {
		var b [8]byte
		_, _ = rand.Read(b[:]) // crypto/rand never fails
		c.ClientID = "dealiot-simulate-" + hex.EncodeToString(b[:])
	}
	if c.Notify == nil {
		c.Notify = func(string) {}
	}
	return c
}

func (c PublisherConfig) validate() error {
	switch {
	case c.Inflight < 1 || c.Inflight > maxInflight:
		return fmt.Errorf("checking messages in flight: %d is outside 1 to %d", c.Inflight, maxInflight)
	case !(c.Rate >= 0) || c.Rate > maxRate:
		return fmt.Errorf("checking rate: %g is outside 0 to %g messages a second", c.Rate, maxRate)
	case c.Duration < 0:
		return fmt.Errorf("checking duration: %s is negative", c.Duration)
	case c.DrainTimeout < 0:
		return fmt.Errorf("checking drain timeout: %s is negative", c.DrainTimeout)
	}
	return nil
}

// brokerURL completes a broker's address.
func brokerURL(address string) (*url.URL, error) {
	full := address
	if !strings.Contains(full, "://") {
		full = "tcp://" + full
	}
	u, err := url.Parse(full)
	if err != nil {
		return nil, fmt.Errorf("parsing broker address %q: %w", address, err)
	}
	port := ""
	switch u.Scheme {
	case "tcp", "mqtt":
		port = "1883"
	case "ssl", "tls", "mqtts":
		port = "8883"
	case "ws", "wss":
	default:
		return nil, fmt.Errorf("parsing broker address %q: scheme %q is none of tcp, ssl, ws, wss", address, u.Scheme)
	}
	if u.Hostname() == "" {
		return nil, fmt.Errorf("parsing broker address %q: no host; write it as tcp://127.0.0.1:1883", address)
	}
	if u.Port() == "" && port != "" {
		u.Host += ":" + port
	}
	if u.User != nil {
		return nil, fmt.Errorf("parsing broker address of %s: user and password don't belong in it", u.Host)
	}
	return u, nil
}

// ConnectError says that the broker could not be reached at the start, or that
// it refused the connection.
type ConnectError struct {
	Broker string // address
	Err    error
}

func (e *ConnectError) Error() string {
	return fmt.Sprintf("connecting to MQTT broker %s: %v", e.Broker, e.Err)
}

func (e *ConnectError) Unwrap() error { return e.Err }

// Refused says whether a broker answered, and would not let the client in.
func (e *ConnectError) Refused() bool {
	return errors.Is(e.Err, packets.ErrorRefusedNotAuthorised) || errors.Is(e.Err, packets.ErrorRefusedBadUsernameOrPassword)
}

// UnacknowledgedError says that a run ended with messages of which the broker
// never said that it has them.
type UnacknowledgedError struct {
	Count int           // how many
	First uint64        // Seq of the first of them
	After time.Duration // without any acknowledgement
}

func (e *UnacknowledgedError) Error() string {
	return fmt.Sprintf("waiting for the broker's acknowledgements: none within %s; %d messages, the first of them number %d, may or may not have arrived",
		e.After, e.Count, e.First)
}

// Stats is the state of a run.
type Stats struct {
	Sent, Acknowledged, Resent, Reconnects uint64
	Connected                              bool
	Elapsed                                time.Duration
	LastTopic                              string // MQTT topic of the last message
}

// Run publishes the messages of a herd until its count or duration is reached
// or ctx is done, then waits for the acknowledgements that are due. It calls
// progress, if not nil, at intervals and once at the end. The summary is
// complete also when the error is not nil.
//
// A broker that cannot be reached at the start is an error; when the connection
// is lost later, Run connects again with back-off for as long as ctx lives, and
// sends what was not acknowledged again, in order.
func Run(ctx context.Context, cfg Config, pub PublisherConfig, progress func(Stats)) (Summary, error) {
	herd, err := NewHerd(cfg)
	if err != nil {
		return Summary{}, err
	}
	pub = pub.withDefaults()
	if err := pub.validate(); err != nil {
		return Summary{}, err
	}
	broker, err := brokerURL(pub.Broker)
	if err != nil {
		return Summary{}, err
	}
	p := &publisher{
		cfg: pub, herd: herd, broker: broker,
		slots:   make(chan struct{}, pub.Inflight),
		acks:    make(chan struct{}, 1),
		summary: newSummary(herd.Config()),
		started: time.Now(),
	}
	if pub.Manifest != nil {
		p.manifest = json.NewEncoder(pub.Manifest)
	}
	if progress != nil {
		stop := p.report(progress)
		defer stop()
	}
	err = p.run(ctx)
	return p.finish(), err
}

// publisher is one run. The sending goroutine owns what has no comment; a
// collector goroutine per connection takes the acknowledgements.
type publisher struct {
	cfg    PublisherConfig
	herd   *Herd
	broker *url.URL

	slots   chan struct{} // one taken for each unacknowledged message
	acks    chan struct{} // says that some acknowledgement came in
	limit   uint64        // messages to send in all
	stopErr error         // why the run stops sending
	first   time.Time     // when the first message went out

	startDrain func() // from now on DrainTimeout without an acknowledgement ends the run

	mu          sync.Mutex // guards all below
	unacked     []*Message // in order
	summary     Summary
	connected   bool
	lastTopic   string
	manifest    *json.Encoder
	manifestErr error
	started     time.Time
}

func (p *publisher) run(ctx context.Context) error {
	p.limit = math.MaxUint64
	if p.cfg.Count > 0 {
		p.limit = p.cfg.Count
	}
	if p.cfg.Duration > 0 && p.cfg.Rate > 0 {
		p.limit = min(p.limit, uint64(math.Ceil(p.cfg.Rate*p.cfg.Duration.Seconds())))
	}

	client, lost, err := p.connect()
	if err != nil {
		return &ConnectError{Broker: p.broker.String(), Err: err}
	}
	// Acknowledgements that are due are waited for also after ctx is done.
	drain, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	p.startDrain = sync.OnceFunc(func() { go p.watch(drain, giveUp) })
	defer context.AfterFunc(ctx, p.startDrain)()

	for stuck := 0; ; {
		before := p.stats().Acknowledged
		cause, err := p.session(ctx, drain, client, lost, stuck > 0)
		if err != nil || cause == nil {
			return errors.Join(p.stopErr, err, p.manifestError())
		}
		p.setConnected(false)
		waiting := p.waiting()
		if len(waiting) > 0 && p.stats().Acknowledged == before {
			stuck++
		} else {
			stuck = 0
		}
		if stuck >= maxStuck {
			m := waiting[0]
			return fmt.Errorf("publishing message %d of class %s (topic %s, %d bytes): the broker closed %d connections in a row without acknowledging it (%w); it may exceed the broker's packet limit, or the user may not publish to that topic",
				m.Seq, m.Class, m.MQTTTopic, len(m.Payload), stuck, cause)
		}
		p.cfg.Notify(fmt.Sprintf("connection to %s lost (%v), %d messages unacknowledged; connecting again", p.broker, cause, len(waiting)))
		if client, lost, err = p.reconnect(drain, stuck); err != nil {
			return errors.Join(p.stopErr, err, p.manifestError())
		}
	}
}

// connect opens one connection. The channel gets the reason when it is lost.
func (p *publisher) connect() (mqtt.Client, chan error, error) {
	lost := make(chan error, 1)
	opts := mqtt.NewClientOptions().
		AddBroker(p.broker.String()).
		SetClientID(p.cfg.ClientID).
		SetUsername(p.cfg.Username).
		SetPassword(p.cfg.Password).
		SetProtocolVersion(4).
		SetCleanSession(true).   // nothing to leave behind on the broker:
		SetAutoReconnect(false). // what is unacknowledged is kept here, in order
		SetConnectRetry(false).
		SetConnectTimeout(dialTimeout).
		SetWriteTimeout(writeTimeout).
		SetKeepAlive(keepAlive).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) { offer(lost, err) })
	if p.cfg.TLS != nil {
		opts.SetTLSConfig(p.cfg.TLS)
	}
	client := mqtt.NewClient(opts)
	token := client.Connect()
	<-token.Done()
	if err := token.Error(); err != nil {
		return nil, nil, networkCause(err)
	}
	p.setConnected(true)
	return client, lost, nil
}

// networkCause leaves the library's «network Error» out of an error that says
// more than that.
func networkCause(err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			if e != nil && e != packets.ErrorNetworkError {
				return e
			}
		}
	}
	return err
}

func offer(lost chan error, err error) {
	select {
	case lost <- err:
	default:
	}
}

// reconnect tries until it is connected or drain is done.
func (p *publisher) reconnect(drain context.Context, stuck int) (mqtt.Client, chan error, error) {
	wait := p.cfg.backoff << min(stuck, 6)
	for {
		timer := time.NewTimer(min(wait, lastBackoff))
		select {
		case <-timer.C:
		case <-drain.Done():
			timer.Stop()
			return nil, nil, p.unacknowledged()
		}
		client, lost, err := p.connect()
		if err == nil {
			p.mu.Lock()
			p.summary.Reconnects++
			p.mu.Unlock()
			p.cfg.Notify(fmt.Sprintf("connected to %s again", p.broker))
			return client, lost, nil
		}
		p.cfg.Notify(fmt.Sprintf("connecting to %s failed (%v); trying again", p.broker, err))
		wait = min(2*wait, lastBackoff)
	}
}

// errDrained ends a session that waited long enough for acknowledgements.
var errDrained = errors.New("waiting for acknowledgements ended")

// session publishes on one connection: first what is unacknowledged, then new
// messages. It returns neither a cause nor an error when all is sent and
// acknowledged; a cause says why the connection is lost, an error why the run
// is over. With oneByOne it waits for each acknowledgement of what it sends
// again, which shows the message that the broker won't take.
func (p *publisher) session(ctx, drain context.Context, client mqtt.Client, lost chan error, oneByOne bool) (cause, err error) {
	out := make(chan *Message, 64)
	flights := make(chan flight, p.cfg.Inflight)
	quit := make(chan struct{})
	collected := make(chan struct{})
	// The sender is not waited for: the library's Publish may hang for
	// writeTimeout when the connection is lost under it.
	go transmit(client, out, flights, quit)
	go func() {
		defer close(collected)
		p.collect(flights, lost, quit)
	}()
	defer func() {
		close(quit)
		<-collected
		client.Disconnect(250)
	}()
	publish := func(m *Message) error {
		select {
		case out <- m:
			return nil
		case cause := <-lost:
			return cause
		case <-drain.Done():
			return errDrained
		}
	}
	// awaitAcks waits until at most n messages are unacknowledged.
	awaitAcks := func(n int) error {
		for p.countWaiting() > n {
			select {
			case <-p.acks:
			case cause := <-lost:
				return cause
			case <-drain.Done():
				return errDrained
			}
		}
		return nil
	}
	send := func() error {
		again := p.waiting()
		for i, m := range again {
			p.mu.Lock()
			p.summary.Resent++
			p.mu.Unlock()
			if err := publish(m); err != nil {
				return err
			}
			if oneByOne {
				if err := awaitAcks(len(again) - i - 1); err != nil {
					return err
				}
			}
		}
		for {
			m, cause := p.next(ctx, lost)
			if cause != nil {
				return cause
			}
			if m == nil {
				p.startDrain()
				return awaitAcks(0)
			}
			if err := publish(m); err != nil {
				return err
			}
		}
	}
	if cause = send(); errors.Is(cause, errDrained) {
		return nil, p.unacknowledged()
	}
	return cause, nil
}

// flight is a message on its way on one connection.
type flight struct {
	m     *Message
	token mqtt.Token
}

// transmit hands messages to the library until quit is closed.
func transmit(client mqtt.Client, out <-chan *Message, flights chan<- flight, quit <-chan struct{}) {
	for {
		select {
		case m := <-out:
			f := flight{m, client.Publish(m.MQTTTopic, m.QoS, m.Retain, m.Payload)}
			select {
			case flights <- f:
			case <-quit:
				return
			}
		case <-quit:
			return
		}
	}
}

// collect takes acknowledgements in the order of sending until quit is closed,
// and then those that have come in already. The first failure ends the
// connection: what follows it is sent again on the next one.
func (p *publisher) collect(flights <-chan flight, lost chan error, quit <-chan struct{}) {
	for {
		var f flight
		select {
		case f = <-flights:
		case <-quit:
			select {
			case f = <-flights:
			default:
				return
			}
		}
		select {
		case <-f.token.Done():
		case <-quit:
			select {
			case <-f.token.Done():
			default:
				return
			}
		}
		if err := f.token.Error(); err != nil {
			offer(lost, err)
			return
		}
		p.acknowledge(f.m)
	}
}

// durationGrace keeps a late timer from cutting off the last messages of a
// duration at a high rate.
const durationGrace = 500 * time.Millisecond

// next makes the next message when it is due and there is room for it; nil when
// the run is at its end. A cause says that the connection is lost.
func (p *publisher) next(ctx context.Context, lost chan error) (m *Message, cause error) {
	sent := p.sent()
	if sent >= p.limit || ctx.Err() != nil {
		return nil, nil
	}
	select {
	case p.slots <- struct{}{}:
	case cause := <-lost:
		return nil, cause
	case <-ctx.Done():
		return nil, nil
	}
	defer func() {
		if m == nil {
			<-p.slots
		}
	}()
	if p.first.IsZero() {
		p.first = time.Now()
	}
	if p.cfg.Rate > 0 {
		due := p.first.Add(time.Duration(float64(sent) / p.cfg.Rate * float64(time.Second)))
		if wait := time.Until(due); wait > 0 {
			timer := time.NewTimer(wait)
			defer timer.Stop()
			select {
			case <-timer.C:
			case cause := <-lost:
				return nil, cause
			case <-ctx.Done():
				return nil, nil
			}
		}
	}
	if end := p.end(); end > 0 && time.Since(p.first) >= end {
		p.limit = sent
		return nil, nil
	}
	if p.cfg.Gate != nil {
		if err := p.cfg.Gate(ctx, sent); err != nil {
			if ctx.Err() == nil {
				p.stopErr = fmt.Errorf("asking whether message %d may go: %w", sent+1, err)
			}
			p.limit = sent
			return nil, nil
		}
	}
	made := p.herd.Next()
	p.mu.Lock()
	p.unacked = append(p.unacked, &made)
	p.summary.count(&made)
	p.lastTopic = made.MQTTTopic
	p.mu.Unlock()
	return &made, nil
}

// end is the time after which no message goes out, 0 for none.
func (p *publisher) end() time.Duration {
	if p.cfg.Duration > 0 && p.cfg.Rate > 0 {
		return p.cfg.Duration + durationGrace
	}
	return p.cfg.Duration
}

func (p *publisher) acknowledge(m *Message) {
	p.mu.Lock()
	p.unacked[0] = nil
	p.unacked = p.unacked[1:]
	p.summary.Acknowledged++
	p.record(m, true)
	p.mu.Unlock()
	<-p.slots
	select {
	case p.acks <- struct{}{}:
	default:
	}
}

// record writes a line of the manifest. An error stops it, not the run; the
// run reports it at its end.
func (p *publisher) record(m *Message, acknowledged bool) {
	if p.manifest == nil || p.manifestErr != nil {
		return
	}
	p.manifestErr = p.manifest.Encode(manifestEntry(m, acknowledged))
}

func (p *publisher) manifestError() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.manifestErr != nil {
		return fmt.Errorf("writing manifest: %w", p.manifestErr)
	}
	return nil
}

// finish completes the manifest and the summary.
func (p *publisher) finish() Summary {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.unacked {
		p.record(m, false)
	}
	p.summary.Duration = Seconds(time.Since(p.started))
	return p.summary
}

// watch calls giveUp when no acknowledgement comes in for DrainTimeout. It ends
// when drain is done.
func (p *publisher) watch(drain context.Context, giveUp context.CancelFunc) {
	ticker := time.NewTicker(max(p.cfg.DrainTimeout/20, time.Millisecond))
	defer ticker.Stop()
	last, since := p.stats().Acknowledged, time.Now()
	for {
		select {
		case <-drain.Done():
			return
		case <-ticker.C:
		}
		if n := p.stats().Acknowledged; n != last {
			last, since = n, time.Now()
		} else if time.Since(since) >= p.cfg.DrainTimeout {
			giveUp()
			return
		}
	}
}

func (p *publisher) unacknowledged() error {
	waiting := p.waiting()
	if len(waiting) == 0 {
		return nil
	}
	return &UnacknowledgedError{Count: len(waiting), First: waiting[0].Seq, After: p.cfg.DrainTimeout}
}

// waiting gives a copy of the list of unacknowledged messages.
func (p *publisher) waiting() []*Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.unacked)
}

func (p *publisher) countWaiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.unacked)
}

func (p *publisher) sent() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.summary.Sent
}

func (p *publisher) setConnected(yes bool) {
	p.mu.Lock()
	p.connected = yes
	p.mu.Unlock()
}

func (p *publisher) stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Stats{
		Sent: p.summary.Sent, Acknowledged: p.summary.Acknowledged, Resent: p.summary.Resent, Reconnects: p.summary.Reconnects,
		Connected: p.connected, Elapsed: time.Since(p.started), LastTopic: p.lastTopic,
	}
}

// report calls progress at intervals and a last time when stopped.
func (p *publisher) report(progress func(Stats)) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(p.cfg.ProgressInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				progress(p.stats())
			case <-done:
				progress(p.stats())
				return
			}
		}
	}()
	return func() { close(done); <-ended }
}
