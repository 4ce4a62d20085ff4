// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package mqtt5

import (
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/redpanda-data/benthos/v4/public/service"
)

const (
	m5FieldURLs           = "urls"
	m5FieldTopics         = "topics"
	m5FieldQoS            = "qos"
	m5FieldSubscriptions  = "subscriptions"
	m5FieldSubFilter      = "filter"
	m5FieldSubQoS         = "qos"
	m5FieldSubNoLocal     = "no_local"
	m5FieldSubRetainAs    = "retain_as_published"
	m5FieldSubRetain      = "retain_handling"
	m5FieldSubIDs         = "subscription_identifiers"
	m5FieldRetainHandling = "retain_handling"
	m5FieldSharedQoS2     = "shared_qos2"
	m5FieldClientID       = "client_id"
	m5FieldCleanStart     = "clean_start"
	m5FieldSessionExpiry  = "session_expiry"
	m5FieldUser           = "user"
	m5FieldPassword       = "password"
	m5FieldTLS            = "tls"
	m5FieldALPN           = "alpn"
	m5FieldMaxInFlight    = "max_in_flight"
	m5FieldMaxBytes       = "max_in_flight_bytes"
	m5FieldQoS0Queue      = "qos0_queue"
	m5FieldQoS0Overflow   = "qos0_overflow"
	m5FieldBatching       = "batching"
	m5FieldBatchCount     = "count"
	m5FieldBatchPeriod    = "period"
	m5FieldBatchBytes     = "byte_size"
	m5FieldMaxPacket      = "max_packet_size"
	m5FieldKeepAlive      = "keepalive"
	m5FieldConnectTimeout = "connect_timeout"
	m5FieldBackoff        = "reconnect"
	m5FieldBackoffMin     = "min_interval"
	m5FieldBackoffMax     = "max_interval"
	m5FieldWill           = "will"
	m5FieldWillEnabled    = "enabled"
	m5FieldWillTopic      = "topic"
	m5FieldWillPayload    = "payload"
	m5FieldWillQoS        = "qos"
	m5FieldWillRetained   = "retained"
	m5FieldWillDelay      = "delay"
	m5FieldReceivedAt     = "received_at"
	m5OverflowBlock       = "block"
	m5OverflowDrop        = "drop"
)

var retainHandlings = map[string]byte{"always": 0, "new": 1, "never": 2}

// minPacket is the smallest packet limit: the answers of a broker, with words
// and properties, fit into it.
const minPacket = 1024

// defaultSessionExpiry outlasts a restart of the worker or its host.
const defaultSessionExpiry = time.Hour

// inputSettings are the component's settings, checked.
type inputSettings struct {
	link        linkConfig
	inbox       inboxLimits
	batchCount  int
	batchPeriod time.Duration
	batchBytes  int
	receivedAt  bool
	autoReplay  bool
	warnings    []string // to log at start
}

// settingsFromParsed reads the settings of a component with that label.
func settingsFromParsed(conf *service.ParsedConfig, label string) (s inputSettings, err error) {
	r := reader{conf: conf}
	s = inputSettings{
		link: linkConfig{
			user:           r.text(m5FieldUser),
			password:       r.text(m5FieldPassword),
			cleanStart:     r.flag(m5FieldCleanStart),
			sessionExpiry:  defaultSessionExpiry,
			keepAlive:      r.duration(0, math.MaxUint16*time.Second, m5FieldKeepAlive),
			connectTimeout: r.duration(10*time.Millisecond, time.Hour, m5FieldConnectTimeout),
			minWait:        r.duration(time.Millisecond, time.Hour, m5FieldBackoff, m5FieldBackoffMin),
			maxWait:        r.duration(time.Millisecond, time.Hour, m5FieldBackoff, m5FieldBackoffMax),
			maxInFlight:    uint16(r.number(1, math.MaxUint16, m5FieldMaxInFlight)),
			maxPacket:      r.number(minPacket, 268_435_460, m5FieldMaxPacket),
			subscriptionID: r.flag(m5FieldSubIDs),
		},
		inbox: inboxLimits{
			qos0:     r.number(1, 10_000_000, m5FieldQoS0Queue),
			bytes:    r.number(1, math.MaxInt32, m5FieldMaxBytes),
			dropQoS0: r.text(m5FieldQoS0Overflow) == m5OverflowDrop,
		},
		batchCount:  r.number(1, 100_000, m5FieldBatching, m5FieldBatchCount),
		batchPeriod: r.duration(0, time.Minute, m5FieldBatching, m5FieldBatchPeriod),
		batchBytes:  r.number(1, math.MaxInt32, m5FieldBatching, m5FieldBatchBytes),
		receivedAt:  r.flag(m5FieldReceivedAt),
		autoReplay:  r.flag(service.AutoRetryNacksToggleFieldName),
	}
	s.inbox.inFlight = int(s.link.maxInFlight)
	// These have no default in the spec, so that its lint rules can tell
	// whether somebody set them.
	if conf.Contains(m5FieldClientID) {
		s.link.clientID = r.text(m5FieldClientID)
	}
	if conf.Contains(m5FieldSessionExpiry) {
		s.link.sessionExpiry = r.duration(0, math.MaxUint32*time.Second, m5FieldSessionExpiry)
	}
	if r.err != nil {
		return s, r.err
	}
	if ka := s.link.keepAlive; ka > 0 && ka < time.Second {
		return s, fmt.Errorf("field %s: %v is shorter than a second", m5FieldKeepAlive, ka)
	}
	if s.link.minWait > s.link.maxWait {
		return s, fmt.Errorf("field %s: %s (%v) is longer than %s (%v)", m5FieldBackoff, m5FieldBackoffMin, s.link.minWait, m5FieldBackoffMax, s.link.maxWait)
	}
	if (s.link.user == "") != (s.link.password == "") {
		return s, errors.New("fields user and password go together: set both, or neither")
	}
	if s.link.cleanStart {
		s.link.sessionExpiry = 0
	}
	if err := s.subscriptions(conf); err != nil {
		return s, err
	}
	if err := s.endpoints(conf); err != nil {
		return s, err
	}
	if err := s.will(conf); err != nil {
		return s, err
	}
	return s, s.identity(label)
}

// identity makes the client id, if none is given: the same one after a restart
// and another one for each replica and component.
func (s *inputSettings) identity(label string) error {
	if s.link.clientID != "" {
		return nil
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		return fmt.Errorf("field %s: making one from the host's name (%w): set it", m5FieldClientID, err)
	}
	if label == "" {
		label = "mqtt5"
	}
	s.link.clientID = "dealiot-" + host + "-" + label
	if s.link.sessionExpiry > 0 && (containerHost.MatchString(host) || host == "localhost") {
		s.warnings = append(s.warnings, fmt.Sprintf("The client id %q has the host's name in it, which looks like one that changes when the container is created anew, or that other hosts have too. The broker would keep the session of the old one, with messages in it, that nobody asks for. Set client_id, or the container's host name", s.link.clientID))
	}
	return nil
}

// containerHost is how container engines name a container that nobody named.
var containerHost = regexp.MustCompile(`^[0-9a-f]{12}$`)

func (s *inputSettings) subscriptions(conf *service.ParsedConfig) error {
	r := reader{conf: conf}
	qos := r.number(0, 2, m5FieldQoS)
	handling := retainHandlings[r.text(m5FieldRetainHandling)]
	sharedQoS2 := r.flag(m5FieldSharedQoS2)
	if r.err != nil {
		return r.err
	}
	var topics []string
	if conf.Contains(m5FieldTopics) {
		var err error
		if topics, err = conf.FieldStringList(m5FieldTopics); err != nil {
			return err
		}
	}
	var subs []subscription
	for _, f := range splitList(topics) {
		subs = append(subs, subscription{filter: f, qos: byte(qos), retainHandling: handling})
	}
	objects, err := conf.FieldObjectList(m5FieldSubscriptions)
	if err != nil {
		return err
	}
	for i, o := range objects {
		r := reader{conf: o}
		sub := subscription{
			filter:            strings.TrimSpace(r.text(m5FieldSubFilter)),
			qos:               byte(qos),
			noLocal:           r.flag(m5FieldSubNoLocal),
			retainAsPublished: r.flag(m5FieldSubRetainAs),
			retainHandling:    handling,
		}
		if o.Contains(m5FieldSubQoS) {
			sub.qos = byte(r.number(0, 2, m5FieldSubQoS))
		}
		if o.Contains(m5FieldSubRetain) {
			sub.retainHandling = retainHandlings[r.text(m5FieldSubRetain)]
		}
		if r.err != nil {
			return fmt.Errorf("field %s.%d: %w", m5FieldSubscriptions, i, r.err)
		}
		subs = append(subs, sub)
	}
	if len(subs) == 0 {
		return fmt.Errorf("fields %s and %s are empty: name at least one topic filter, such as 'devices/#'", m5FieldTopics, m5FieldSubscriptions)
	}
	seen := map[string]bool{}
	for _, sub := range subs {
		if err := checkFilter(sub.filter); err != nil {
			return fmt.Errorf("topic filter %q: %w", sub.filter, err)
		}
		switch {
		case seen[sub.filter]:
			return fmt.Errorf("topic filter %q is there twice, and the broker would heed the last one only", sub.filter)
		case sub.shared() && sub.noLocal:
			return fmt.Errorf("topic filter %q: MQTT forbids %s with a shared subscription", sub.filter, m5FieldSubNoLocal)
		case sub.shared() && sub.qos == 2 && !sharedQoS2:
			return fmt.Errorf("topic filter %q: %s", sub.filter, sharedQoS2Advice)
		}
		seen[sub.filter] = true
		if looksExpanded(sub.filter) {
			s.warnings = append(s.warnings, fmt.Sprintf("The topic filter %q begins with a slash. If it was to be a shared subscription, then a shell or Docker Compose took $share for a variable: write it in single quotes", sub.filter))
		}
	}
	s.link.subscriptions = subs
	return nil
}

const sharedQoS2Advice = "some brokers refuse or downgrade a shared subscription of QoS 2. Use qos 1, where a duplicate carries the same event_id, or set shared_qos2 to true if your broker supports it"

func (s *inputSettings) endpoints(conf *service.ParsedConfig) error {
	urls, err := conf.FieldStringList(m5FieldURLs)
	if err != nil {
		return err
	}
	tlsConf, tlsOn, err := conf.FieldTLSToggled(m5FieldTLS)
	if err != nil {
		return fmt.Errorf("field %s: %w", m5FieldTLS, err)
	}
	alpn, err := conf.FieldStringList(m5FieldALPN)
	if err != nil {
		return err
	}
	encrypted := false
	for _, u := range splitList(urls) {
		e, err := parseEndpoint(u)
		if err != nil {
			return fmt.Errorf("field %s, item %q: %w", m5FieldURLs, withoutUser(u), err)
		}
		if tlsOn {
			e = e.withTLS()
		}
		encrypted = encrypted || e.transport == transportTLS || e.transport == transportWSS
		s.link.endpoints = append(s.link.endpoints, e)
	}
	if len(s.link.endpoints) == 0 {
		return fmt.Errorf("field %s is empty: name a broker, such as mqtt://localhost:1883", m5FieldURLs)
	}
	if encrypted {
		if s.link.tls = tlsConf; s.link.tls == nil || !tlsOn {
			s.link.tls = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		if len(alpn) > 0 {
			s.link.tls.NextProtos = alpn
		}
	}
	return nil
}

// withoutUser hides the credentials that somebody put into a URL.
func withoutUser(u string) string {
	scheme, rest, ok := strings.Cut(u, "://")
	if !ok {
		scheme, rest = "", u
	} else {
		scheme += "://"
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		rest = "…" + rest[at:]
	}
	return scheme + rest
}

func (s *inputSettings) will(conf *service.ParsedConfig) error {
	r := reader{conf: conf}
	if !r.flag(m5FieldWill, m5FieldWillEnabled) {
		return r.err
	}
	s.link.will = &paho.WillMessage{
		Topic:   r.text(m5FieldWill, m5FieldWillTopic),
		Payload: []byte(r.text(m5FieldWill, m5FieldWillPayload)),
		QoS:     byte(r.number(0, 2, m5FieldWill, m5FieldWillQoS)),
		Retain:  r.flag(m5FieldWill, m5FieldWillRetained),
	}
	s.link.willDelay = r.duration(0, math.MaxUint32*time.Second, m5FieldWill, m5FieldWillDelay)
	if r.err == nil && (s.link.will.Topic == "" || strings.ContainsAny(s.link.will.Topic, "+#")) {
		return fmt.Errorf("field %s.%s: %q is not a topic to publish to", m5FieldWill, m5FieldWillTopic, s.link.will.Topic)
	}
	return r.err
}

// reader reads fields and keeps the first error.
type reader struct {
	conf *service.ParsedConfig
	err  error
}

func (r *reader) keep(err error, path []string) {
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("field %s: %w", strings.Join(path, "."), err)
	}
}

func (r *reader) text(path ...string) string {
	v, err := r.conf.FieldString(path...)
	r.keep(err, path)
	return v
}

func (r *reader) flag(path ...string) bool {
	v, err := r.conf.FieldBool(path...)
	r.keep(err, path)
	return v
}

func (r *reader) number(low, high int, path ...string) int {
	v, err := r.conf.FieldInt(path...)
	if err == nil && (v < low || v > high) {
		err = fmt.Errorf("%d is not between %d and %d", v, low, high)
	}
	r.keep(err, path)
	return v
}

func (r *reader) duration(low, high time.Duration, path ...string) time.Duration {
	v, err := r.conf.FieldDuration(path...)
	if err == nil && (v < low || v > high) {
		err = fmt.Errorf("%v is not between %v and %v", v, low, high)
	}
	r.keep(err, path)
	return v
}
