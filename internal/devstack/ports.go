// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package devstack

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
)

// ports are the listeners of a stack, opened before anything else, so that all
// that are taken can be told at once.
type ports struct {
	mqtt, kafka, http net.Listener
}

// PortError says that a part of the stack cannot listen where it should.
type PortError struct {
	Part    string // MQTT, Kafka or HTTP
	Address string // host:port
	Flag    string // of the dev command, that chooses another port
	Err     error
}

func (e *PortError) Error() string {
	reason := e.Err
	var sys syscall.Errno
	if errors.As(e.Err, &sys) {
		reason = sys
	}
	remedy := "choose another with " + e.Flag
	if errors.Is(e.Err, syscall.EADDRNOTAVAIL) {
		remedy = "give an address of this machine with --bind"
	}
	return fmt.Sprintf("listening on %s (%s): %v; %s", e.Address, e.Part, reason, remedy)
}

func (e *PortError) Unwrap() error { return e.Err }

// listen opens all ports; the error joins one PortError for each that it could
// not open.
func listen(cfg Config) (*ports, error) {
	p := &ports{}
	var errs []error
	for _, part := range []struct {
		name, flag string
		port       int
		to         *net.Listener
	}{
		{"MQTT", "--mqtt-port", cfg.MQTTPort, &p.mqtt},
		{"Kafka", "--kafka-port", cfg.KafkaPort, &p.kafka},
		{"HTTP", "--http-port", cfg.HTTPPort, &p.http},
	} {
		address := net.JoinHostPort(cfg.Bind, strconv.Itoa(part.port))
		l, err := net.Listen("tcp", address)
		if err != nil {
			errs = append(errs, &PortError{Part: part.name, Address: address, Flag: part.flag, Err: err})
			continue
		}
		*part.to = l
	}
	if len(errs) > 0 {
		p.close()
		return nil, errors.Join(errs...)
	}
	return p, nil
}

func (p *ports) close() {
	for _, l := range []net.Listener{p.mqtt, p.kafka, p.http} {
		if l != nil {
			_ = l.Close() // closed before, by whom it was given to, or never used
		}
	}
}

// reachable is the address of a listener as clients on this machine use it.
func reachable(addr net.Addr) string {
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = DefaultBind
	}
	return net.JoinHostPort(host, port)
}

// advertised is the host that Kafka clients are told to connect to. A stack
// that listens on all addresses has to name one: the first that other machines
// may reach, else the local one.
func advertised(cfg Config) string {
	if cfg.Advertise != "" {
		return cfg.Advertise
	}
	if ip := net.ParseIP(cfg.Bind); ip == nil || !ip.IsUnspecified() {
		return ""
	}
	addrs, _ := net.InterfaceAddrs()
	for _, addr := range addrs {
		if n, ok := addr.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	return DefaultBind
}

// Loopback tells whether an address can be reached from this machine only.
func Loopback(bind string) bool {
	if bind == "" || bind == "localhost" {
		return true
	}
	ip := net.ParseIP(bind)
	return ip != nil && ip.IsLoopback()
}
