// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package mqtt5

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"
)

// subscription is one topic filter with its options, MQTT 5.0 section 3.8.3.1.
type subscription struct {
	filter            string
	qos               byte
	noLocal           bool
	retainAsPublished bool
	retainHandling    byte // 0 always, 1 new, 2 never
}

// sharePrefix begins the filter of a shared subscription, MQTT 5.0 section 4.8.2.
const sharePrefix = "$share/"

func (s subscription) shared() bool { return strings.HasPrefix(s.filter, sharePrefix) }

// splitList gives what is in a list whose items may each hold several,
// separated by commas, as in an environment variable. Space around an item and
// empty ones are dropped.
func splitList(items []string) []string {
	var list []string
	for _, item := range items {
		for s := range strings.SplitSeq(item, ",") {
			if s = strings.TrimSpace(s); s != "" {
				list = append(list, s)
			}
		}
	}
	return list
}

// checkFilter says what is wrong with a topic filter, MQTT 5.0 section 4.7.
func checkFilter(filter string) error {
	topic := filter
	if rest, ok := strings.CutPrefix(filter, sharePrefix); ok {
		group, t, ok := strings.Cut(rest, "/")
		if !ok || group == "" || strings.ContainsAny(group, "+#") {
			return errors.New("a shared subscription is $share/<group>/<filter>, with neither + nor # in the group")
		}
		topic = t
	}
	switch {
	case topic == "":
		return errors.New("there is no topic in it")
	case len(filter) > 65535:
		return fmt.Errorf("it has %d bytes, more than the 65535 that MQTT allows", len(filter))
	case !utf8.ValidString(filter) || strings.ContainsRune(filter, 0):
		return errors.New("it is not valid UTF-8 text, or contains a zero character")
	}
	levels := strings.Split(topic, "/")
	for i, level := range levels {
		switch {
		case strings.Contains(level, "#") && (level != "#" || i < len(levels)-1):
			return errors.New("# stands for all further levels: it must be the last level, and alone in it")
		case strings.Contains(level, "+") && level != "+":
			return errors.New("+ stands for one level: it must be alone in it")
		}
	}
	return nil
}

// looksExpanded says whether a filter is what remains of $share/group/filter
// after a shell or Docker Compose took $share for a variable. Topics may begin
// with a slash, so it is no more than a suspicion.
func looksExpanded(filter string) bool {
	return strings.HasPrefix(filter, "/") && strings.Count(filter, "/") > 2
}

// transport is how a broker is reached.
type transport byte

const (
	transportTCP transport = iota
	transportTLS
	transportWS
	transportWSS
)

var schemes = map[string]struct {
	transport transport
	port      string
}{
	"mqtt":  {transportTCP, "1883"},
	"tcp":   {transportTCP, "1883"},
	"mqtts": {transportTLS, "8883"},
	"ssl":   {transportTLS, "8883"},
	"tls":   {transportTLS, "8883"},
	"ws":    {transportWS, "80"},
	"wss":   {transportWSS, "443"},
}

// endpoint is a broker's address.
type endpoint struct {
	transport transport
	host      string // with port
	path      string // of a WebSocket, with query
}

func (e endpoint) String() string {
	for _, s := range []string{"mqtt", "mqtts", "ws", "wss"} {
		if schemes[s].transport == e.transport {
			return s + "://" + e.host + e.path
		}
	}
	return e.host
}

// withTLS gives the same address, encrypted.
func (e endpoint) withTLS() endpoint {
	switch e.transport {
	case transportTCP:
		e.transport = transportTLS
	case transportWS:
		e.transport = transportWSS
	}
	return e
}

// parseEndpoint reads a broker's address, such as mqtts://broker.example:8883.
// Errors do not show credentials.
func parseEndpoint(text string) (endpoint, error) {
	u, err := url.Parse(text)
	if err != nil {
		// The error of net/url shows the whole text.
		return endpoint{}, errors.New("not a URL such as mqtt://host:1883")
	}
	s, ok := schemes[strings.ToLower(u.Scheme)]
	if !ok || u.Opaque != "" {
		return endpoint{}, fmt.Errorf("scheme %q is none of mqtt, mqtts, tcp, ssl, tls, ws and wss", u.Scheme)
	}
	if u.Hostname() == "" {
		return endpoint{}, errors.New("there is no host in it")
	}
	if u.User != nil {
		return endpoint{}, errors.New("it holds a user: use the fields user and password, which are never logged")
	}
	e := endpoint{transport: s.transport, host: u.Host}
	if u.Port() == "" {
		e.host = strings.TrimSuffix(u.Host, ":") + ":" + s.port
	}
	if s.transport == transportWS || s.transport == transportWSS {
		if e.path = u.EscapedPath(); e.path == "" {
			e.path = "/mqtt"
		}
		if u.RawQuery != "" {
			e.path += "?" + u.RawQuery
		}
		return e, nil
	}
	if u.Path != "" && u.Path != "/" || u.RawQuery != "" {
		return endpoint{}, errors.New("only a WebSocket address has a path")
	}
	return e, nil
}
