// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

// Package kafkaconf turns the platform's KAFKA_* settings into the options of a
// Kafka client, so that every command reads them the same way.
package kafkaconf

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/dealiot/dealiot-connect/internal/secrets"
)

// DefaultBrokers is where the embedded development stack has its Kafka.
const DefaultBrokers = "127.0.0.1:9092"

// Names of the settings.
const (
	BootstrapServers = "KAFKA_BOOTSTRAP_SERVERS"
	securityProtocol = "KAFKA_SECURITY_PROTOCOL"
	saslMechanism    = "KAFKA_SASL_MECHANISM"
	saslUsername     = "KAFKA_SASL_USERNAME"
	saslPassword     = "KAFKA_SASL_PASSWORD"
	sslCAFile        = "KAFKA_SSL_CAFILE"
	sslCertFile      = "KAFKA_SSL_CERTFILE"
	sslKeyFile       = "KAFKA_SSL_KEYFILE"
	sslCheckHostname = "KAFKA_SSL_CHECK_HOSTNAME"
)

// Lookup finds the value of a setting by its name, such as an environment
// variable. A setting that is blank counts as not set.
type Lookup func(name string) (value string, found bool)

// Config is how to reach a Kafka cluster.
type Config struct {
	Brokers   []string // addresses, host:port
	Protocol  string   // PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL
	Mechanism string   // PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; empty without SASL
	Username  string
	Password  string
	CAFile    string // PEM; empty for the system's certificate authorities
	CertFile  string // PEM, with KeyFile, for a client certificate
	KeyFile   string
	// CheckHostname tells whether the broker's certificate must carry the name
	// it was reached by. Its chain is verified either way.
	CheckHostname bool
}

// Parse reads and checks the settings; it opens no file. Names in upper or
// lower case mean the same, and an unknown word is an error, never a default:
// a misspelt protocol must not turn security off.
func Parse(lookup Lookup) (Config, error) {
	get := func(name string) string {
		v, _ := lookup(name)
		return strings.TrimSpace(v)
	}
	c := Config{
		Brokers:  secrets.ParseCSV(get(BootstrapServers)),
		Protocol: strings.ToUpper(get(securityProtocol)),
		CAFile:   get(sslCAFile),
		CertFile: get(sslCertFile),
		KeyFile:  get(sslKeyFile),
	}
	if len(c.Brokers) == 0 {
		c.Brokers = []string{DefaultBrokers}
	}
	switch c.Protocol {
	case "":
		c.Protocol = "PLAINTEXT"
	case "PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL":
	default:
		return Config{}, fmt.Errorf("reading %s: %q is none of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL", securityProtocol, c.Protocol)
	}
	if c.sasl() {
		if c.Mechanism = strings.ToUpper(get(saslMechanism)); c.Mechanism == "" {
			c.Mechanism = "SCRAM-SHA-512"
		}
		switch c.Mechanism {
		case "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512":
		default:
			return Config{}, fmt.Errorf("reading %s: %q is none of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512", saslMechanism, c.Mechanism)
		}
		c.Username = get(saslUsername)
		c.Password, _ = lookup(saslPassword) // not trimmed: a password may begin or end with a blank
		if c.Username == "" || c.Password == "" {
			return Config{}, fmt.Errorf("reading %s and %s: both must be set when %s is %s; the password may also be in a file named by %s_FILE",
				saslUsername, saslPassword, securityProtocol, c.Protocol, saslPassword)
		}
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		return Config{}, fmt.Errorf("reading %s and %s: a client certificate needs both or neither", sslCertFile, sslKeyFile)
	}
	c.CheckHostname = true
	if v := get(sslCheckHostname); v != "" {
		var err error
		if c.CheckHostname, err = secrets.ParseBool(v); err != nil {
			return Config{}, fmt.Errorf("reading %s: %w", sslCheckHostname, err)
		}
	}
	return c, nil
}

func (c Config) sasl() bool { return strings.HasPrefix(c.Protocol, "SASL_") }
func (c Config) tls() bool  { return strings.HasSuffix(c.Protocol, "SSL") }

// Options returns the client options that reach the cluster. It reads the
// certificate files, and its errors name the setting that is at fault.
func (c Config) Options() ([]kgo.Opt, error) {
	opts := []kgo.Opt{kgo.SeedBrokers(c.Brokers...)}
	if c.tls() {
		conf, err := c.tlsConfig()
		if err != nil {
			return nil, err
		}
		opts = append(opts, kgo.DialTLSConfig(conf))
	}
	if c.sasl() {
		var m sasl.Mechanism
		switch c.Mechanism {
		case "PLAIN":
			m = plain.Auth{User: c.Username, Pass: c.Password}.AsMechanism()
		case "SCRAM-SHA-256":
			m = scram.Auth{User: c.Username, Pass: c.Password}.AsSha256Mechanism()
		case "SCRAM-SHA-512":
			m = scram.Auth{User: c.Username, Pass: c.Password}.AsSha512Mechanism()
		default:
			return nil, fmt.Errorf("reading %s: %q is not a known mechanism", saslMechanism, c.Mechanism)
		}
		opts = append(opts, kgo.SASL(m))
	}
	return opts, nil
}

func (c Config) tlsConfig() (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", sslCAFile, err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("reading %s: %s holds no PEM certificate", sslCAFile, c.CAFile)
		}
	}
	if c.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("reading %s and %s: %w", sslCertFile, sslKeyFile, err)
		}
		conf.Certificates = []tls.Certificate{cert}
	}
	if !c.CheckHostname {
		// The standard verification cannot leave out the name alone, so the chain
		// is verified here.
		conf.InsecureSkipVerify = true
		conf.VerifyConnection = func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return errors.New("verifying the broker's certificate: it sent none")
			}
			rest := x509.NewCertPool()
			for _, i := range s.PeerCertificates[1:] {
				rest.AddCert(i)
			}
			_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: conf.RootCAs, Intermediates: rest})
			return err
		}
	}
	return conf, nil
}
