// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package mqtt5

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/gorilla/websocket"
)

// linkConfig is how to reach a broker and what to tell it.
type linkConfig struct {
	endpoints      []endpoint
	tls            *tls.Config
	clientID       string
	user, password string
	keepAlive      time.Duration
	connectTimeout time.Duration
	minWait        time.Duration // before connecting again
	maxWait        time.Duration
	cleanStart     bool
	sessionExpiry  time.Duration
	maxInFlight    uint16
	maxPacket      int
	will           *paho.WillMessage
	willDelay      time.Duration
	subscriptions  []subscription
	subscriptionID bool // gives each filter its position, from 1, as identifier
}

// linkHooks is what a link tells about itself. Each may be called by several
// goroutines.
type linkHooks struct {
	up         func(e endpoint, sessionPresent bool, n uint64)
	down       func(reason error)
	failed     func(err error) // an attempt to connect
	refused    func(filter string)
	downgraded func(filter string, asked, granted byte)
	oversize   func(topic string, size int)
}

// link keeps a connection to a broker, and makes a new one when it is lost. It
// does so on its own, whether or not the pipeline reads at the moment: the
// broker drops the session, and the messages that it holds, when the client
// stays away for longer than the session expiry, and a pipeline that waits for
// its sink must not be the reason.
type link struct {
	cfg   linkConfig
	inbox *inbox
	hooks linkHooks

	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	n       uint64 // number of the present connection, or of the last one
	up      bool
	tries   uint64 // attempts that failed
	err     error  // of the last attempt, or why the connection was lost
	changed chan struct{}
}

func newLink(cfg linkConfig, in *inbox, hooks linkHooks) *link {
	return &link{cfg: cfg, inbox: in, hooks: hooks, changed: make(chan struct{}), done: make(chan struct{})}
}

// start begins to connect, until stop.
func (l *link) start() {
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	go l.run(ctx)
}

// stop says goodbye to the broker and waits until the connection is closed.
func (l *link) stop(ctx context.Context) error {
	l.cancel()
	select {
	case <-l.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// linkState is what a link is now. changed is closed when that is outdated.
type linkState struct {
	n, tries uint64
	up       bool
	err      error
	changed  <-chan struct{}
}

func (l *link) state() linkState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return linkState{l.n, l.tries, l.up, l.err, l.changed}
}

func (l *link) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *link) run(ctx context.Context) {
	defer close(l.done)
	failures := 0
	for at := 0; ctx.Err() == nil; {
		c, err := l.connect(ctx, l.cfg.endpoints[at%len(l.cfg.endpoints)])
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			l.set(func() { l.tries++; l.err = err })
			l.hooks.failed(err)
			at++
			// Every address is tried before the wait grows.
			if at%len(l.cfg.endpoints) == 0 {
				failures++
			}
			sleep(ctx, l.wait(failures))
			continue
		}
		since := time.Now()
		select {
		case <-c.client.Done():
		case <-ctx.Done():
			l.goodbye(c)
			return
		}
		reason := c.conn.reason()
		l.set(func() { l.up = false; l.err = reason })
		l.hooks.down(reason)
		// A connection that does not last is no success: two workers with one
		// client id would throw each other out as fast as they can.
		if time.Since(since) > l.cfg.maxWait {
			failures = 0
		} else {
			failures++
		}
		sleep(ctx, l.wait(failures))
	}
}

// wait is how long to wait before connecting again: between nothing and a
// limit that doubles each time ("full jitter"), so that workers do not come
// back all at once.
func (l *link) wait(failures int) time.Duration {
	limit := l.cfg.minWait << min(failures, 20)
	if limit <= 0 || limit > l.cfg.maxWait {
		limit = l.cfg.maxWait
	}
	return rand.N(limit + 1)
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// connection is a connection that is up.
type connection struct {
	client *paho.Client
	conn   *conn
}

// goodbye tells the broker that the client goes, and waits until it has heard
// that. A socket that is closed with something unread in it is reset, and the
// broker may then lose what it has not read yet: acknowledgements above all.
func (l *link) goodbye(c *connection) {
	c.conn.drain()
	l.inbox.disconnected(c.conn)
	bye := packets.Disconnect{ReasonCode: packets.DisconnectNormalDisconnection, Properties: &packets.Properties{}}
	if _, err := bye.WriteTo(c.conn); err == nil {
		t := time.NewTimer(l.cfg.connectTimeout)
		defer t.Stop()
		select {
		case <-c.client.Done():
			return
		case <-t.C:
		}
	}
	_ = c.conn.Close()
	<-c.client.Done()
}

// connect makes one attempt at one address.
func (l *link) connect(ctx context.Context, e endpoint) (*connection, error) {
	raw, err := l.dial(ctx, e)
	if err != nil {
		return nil, fmt.Errorf("connecting to %v: %w", e, err)
	}
	n := l.state().n + 1
	c := &connection{}
	c.conn = newConn(raw, &linkReceiver{link: l, again: n > 1}, l.cfg.maxPacket, l.cfg.connectTimeout)
	c.client = paho.NewClient(paho.ClientConfig{
		Conn:        c.conn,
		Session:     newSession(l.inbox, c.conn),
		PingHandler: pinger{c.conn},
		// Requests are bounded by their contexts; SUBSCRIBE has to outlast a pause.
		PacketTimeout: time.Hour,
		// Never called, see conn, but without it the library routes messages itself.
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){
			func(paho.PublishReceived) (bool, error) { return true, nil },
		},
	})

	connectCtx, cancel := context.WithTimeout(ctx, l.cfg.connectTimeout)
	defer cancel()
	ack, err := c.client.Connect(connectCtx, l.connectPacket())
	if err != nil {
		_ = raw.Close()
		if ack != nil && ack.ReasonCode != 0 {
			said := ""
			if ack.Properties != nil {
				said = ack.Properties.ReasonString
				if ack.Properties.ServerReference != "" {
					said = strings.TrimSpace(said + " use " + ack.Properties.ServerReference)
				}
			}
			return nil, fmt.Errorf("connecting to %v: %s", e, reasonText(connectReasons, ack.ReasonCode, said))
		}
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("the broker did not answer CONNECT within %v", l.cfg.connectTimeout)
		}
		return nil, fmt.Errorf("connecting to %v: %w", e, err)
	}
	// A broker that kept the session sends what it holds before it answers
	// SUBSCRIBE. If that is more than there is room for, the answer can be read
	// only once somebody reads messages, which nobody does before the link is up.
	up := func() {
		l.set(func() { l.up = true; l.n = n; l.err = nil })
		l.hooks.up(e, ack.SessionPresent, n)
	}
	subscribed := make(chan error, 1)
	go func() { subscribed <- l.subscribe(ctx, c, ack) }()
	early := false
	select {
	case err = <-subscribed:
	case <-c.conn.full:
		early = true
		up()
		err = <-subscribed
	}
	if err != nil {
		l.goodbye(c)
		err = fmt.Errorf("subscribing at %v: %w", e, err)
		if early {
			l.set(func() { l.up = false; l.err = err })
			l.hooks.down(err)
		}
		return nil, err
	}
	if !early {
		up()
	}
	return c, nil
}

func (l *link) dial(ctx context.Context, e endpoint) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.connectTimeout)
	defer cancel()
	switch e.transport {
	case transportTLS:
		return (&tls.Dialer{Config: l.cfg.tls}).DialContext(ctx, "tcp", e.host)
	case transportWS, transportWSS:
		d := websocket.Dialer{
			TLSClientConfig: l.cfg.tls,
			Subprotocols:    []string{"mqtt"},
			ReadBufferSize:  readBuffer,
		}
		u := url.URL{Scheme: "ws", Host: e.host}
		if e.transport == transportWSS {
			u.Scheme = "wss"
		}
		ws, resp, err := d.DialContext(ctx, u.String()+e.path, nil)
		if err != nil {
			if resp != nil {
				return nil, fmt.Errorf("opening a WebSocket: %w (HTTP status %s)", err, resp.Status)
			}
			return nil, fmt.Errorf("opening a WebSocket: %w", err)
		}
		return &wsConn{Conn: ws}, nil
	default:
		return (&net.Dialer{}).DialContext(ctx, "tcp", e.host)
	}
}

func (l *link) connectPacket() *paho.Connect {
	maxPacket := uint32(l.cfg.maxPacket)
	p := &paho.Connect{
		ClientID:     l.cfg.clientID,
		CleanStart:   l.cfg.cleanStart,
		KeepAlive:    uint16(l.cfg.keepAlive / time.Second),
		Username:     l.cfg.user,
		UsernameFlag: l.cfg.user != "",
		Password:     []byte(l.cfg.password),
		PasswordFlag: l.cfg.password != "",
		WillMessage:  l.cfg.will,
		Properties: &paho.ConnectProperties{
			ReceiveMaximum:     &l.cfg.maxInFlight,
			MaximumPacketSize:  &maxPacket,
			RequestProblemInfo: true,
		},
	}
	if seconds := uint32(l.cfg.sessionExpiry / time.Second); seconds > 0 {
		p.Properties.SessionExpiryInterval = &seconds
	}
	if l.cfg.will != nil {
		delay := uint32(l.cfg.willDelay / time.Second)
		p.WillProperties = &paho.WillProperties{WillDelayInterval: &delay}
	}
	return p
}

// subscribe asks for all filters and looks at each answer.
func (l *link) subscribe(ctx context.Context, c *connection, ack *paho.Connack) error {
	if p := ack.Properties; p != nil {
		for _, s := range l.cfg.subscriptions {
			switch {
			case s.shared() && !p.SharedSubAvailable:
				l.hooks.refused(s.filter)
				return refusal(s.filter, 0x9E, "")
			case strings.ContainsAny(s.filter, "+#") && !p.WildcardSubAvailable:
				l.hooks.refused(s.filter)
				return refusal(s.filter, 0xA2, "")
			case l.cfg.subscriptionID && !p.SubIDAvailable:
				l.hooks.refused(s.filter)
				return refusal(s.filter, 0xA1, "")
			}
		}
	}
	// An identifier holds for a whole packet.
	perPacket := len(l.cfg.subscriptions)
	if l.cfg.subscriptionID {
		perPacket = 1
	}
	for i := 0; i < len(l.cfg.subscriptions); i += perPacket {
		group := l.cfg.subscriptions[i : i+perPacket]
		p := &paho.Subscribe{}
		if l.cfg.subscriptionID {
			id := i + 1
			p.Properties = &paho.SubscribeProperties{SubscriptionIdentifier: &id}
		}
		for _, s := range group {
			p.Subscriptions = append(p.Subscriptions, paho.SubscribeOptions{
				Topic:             s.filter,
				QoS:               s.qos,
				NoLocal:           s.noLocal,
				RetainAsPublished: s.retainAsPublished,
				RetainHandling:    s.retainHandling,
			})
		}
		suback, err := l.request(ctx, c, p)
		if suback == nil {
			return err
		}
		if err := l.granted(group, suback); err != nil {
			return err
		}
	}
	return nil
}

// request waits for the answer to a SUBSCRIBE. While reading is paused the
// answer cannot come, and that is no fault of the broker's.
func (l *link) request(ctx context.Context, c *connection, p *paho.Subscribe) (*paho.Suback, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var late atomic.Bool
	go func() {
		tick := time.NewTicker(l.cfg.connectTimeout / 10)
		defer tick.Stop()
		for listened := 0; ; {
			select {
			case <-ctx.Done():
				return
			case <-c.client.Done():
				cancel()
				return
			case <-tick.C:
				if !c.conn.isPaused.Load() {
					listened++
				}
				if listened > 10 {
					late.Store(true)
					cancel()
					return
				}
			}
		}
	}()
	suback, err := c.client.Subscribe(ctx, p)
	switch {
	case suback != nil:
		return suback, nil
	case late.Load():
		return nil, fmt.Errorf("the broker did not answer SUBSCRIBE within %v", l.cfg.connectTimeout)
	case c.conn.ended():
		return nil, c.conn.reason()
	default:
		return nil, err
	}
}

// granted checks the answer to each filter.
func (l *link) granted(asked []subscription, answer *paho.Suback) error {
	if len(answer.Reasons) != len(asked) {
		return fmt.Errorf("the broker answered %d of %d filters", len(answer.Reasons), len(asked))
	}
	said := ""
	if answer.Properties != nil {
		said = answer.Properties.ReasonString
	}
	var errs []error
	for i, code := range answer.Reasons {
		s := asked[i]
		switch {
		case code >= 0x80:
			l.hooks.refused(s.filter)
			errs = append(errs, refusal(s.filter, code, said))
		case code == 0 && s.qos > 0:
			// Messages would be lost without anyone knowing.
			l.hooks.refused(s.filter)
			errs = append(errs, fmt.Errorf("filter %q: the broker grants QoS 0 only instead of %d: set qos to 0 if messages may be lost, else use another broker", s.filter, s.qos))
		case code < s.qos:
			l.hooks.downgraded(s.filter, s.qos, code)
		}
	}
	return errors.Join(errs...)
}

func refusal(filter string, code byte, said string) error {
	return fmt.Errorf("filter %q: %s", filter, reasonText(subscribeReasons, code, said))
}

// linkReceiver takes the messages of one connection.
type linkReceiver struct {
	link  *link
	again bool // this is not the first connection
}

func (r *linkReceiver) arrived(c *conn, p publish, at time.Time) error {
	return r.link.inbox.arrived(c, p, at, r.again && p.retain && !r.link.retainIsLive())
}

func (r *linkReceiver) oversize(c *conn, p publish, size int) error {
	r.link.hooks.oversize(string(p.topic), size)
	if p.qos == 0 {
		return nil
	}
	return r.link.inbox.refused(c, p.id, p.qos, codeImplementation)
}

// retainIsLive says whether the retain flag may be one that the publisher set
// on a message that is not a replayed one.
func (l *link) retainIsLive() bool {
	for _, s := range l.cfg.subscriptions {
		if s.retainAsPublished {
			return true
		}
	}
	return false
}
