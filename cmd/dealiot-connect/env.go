// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/dealiot/dealiot-connect/internal/kafkaconf"
	"github.com/dealiot/dealiot-connect/internal/secrets"
)

// envLookup gives the value of a setting: the variable called name or, when
// that is empty, the content of the secret file that name_FILE points to.
//
// Those who ask can take no error, and going on would mean to connect with an
// empty password. So a secret file that cannot be read ends the process, with a
// message that says which one and what to do.
func envLookup(_ context.Context, name string) (string, bool) {
	resolver := secretResolver()
	if name == "MQTT_TOPICS" {
		return resolver.MQTTTopics()
	}
	return orFatal(resolver.Lookup(name))
}

// configLookup gives the value of ${NAME} in a configuration. It is asked
// before the engine falls back to the default in ${NAME:default}. Besides what
// envLookup knows, it puts the platform's settings into the words of the
// fields; one that makes no sense ends the process too, because the default
// would mean to connect without encryption.
func configLookup(ctx context.Context, name string) (string, bool) {
	switch name {
	case "MQTT_SCHEME":
		return orFatal(mqttScheme(secretResolver()))
	case "MQTT_TLS_ENABLED":
		scheme, found, err := mqttScheme(secretResolver())
		return orFatal(strconv.FormatBool(scheme == "ssl" || scheme == "wss"), found, err)
	case "KAFKA_TLS_ENABLED", "KAFKA_SASL_MECHANISM":
		return orFatal(kafkaSecurity(secretResolver(), name))
	}
	return envLookup(ctx, name)
}

func secretResolver() secrets.Resolver {
	return secrets.Resolver{
		LookupEnv:   os.LookupEnv,
		Directories: secrets.Directories(os.Getenv("DEALIOT_SECRET_DIRECTORIES")),
	}
}

func orFatal(value string, found bool, err error) (string, bool) {
	if err != nil {
		fatal(err)
		return "", false
	}
	return value, found
}

// mqttScheme gives the scheme of the broker's URL from the settings that the
// platform has for it: TLS is on when MQTT_TLS_ENABLED says so or, without it,
// when MQTT_PORT is the port for TLS. MQTT_SCHEME itself comes first.
func mqttScheme(resolver secrets.Resolver) (string, bool, error) {
	if scheme, _ := resolver.LookupEnv("MQTT_SCHEME"); scheme != "" {
		return scheme, true, nil
	}
	enabled, _ := resolver.LookupEnv("MQTT_TLS_ENABLED")
	if enabled == "" {
		port, _ := resolver.LookupEnv("MQTT_PORT")
		enabled = strconv.FormatBool(port == "8883")
	}
	on, err := secrets.ParseBool(enabled)
	if err != nil {
		return "", false, fmt.Errorf("reading MQTT_TLS_ENABLED: %w", err)
	}
	if !on {
		return "tcp", true, nil
	}
	return "ssl", true, nil
}

// kafkaSecurity gives what the fields of a Kafka component need from
// KAFKA_SECURITY_PROTOCOL, so that pipelines and commands connect alike. When
// that is not set, the variable called name counts by itself.
func kafkaSecurity(resolver secrets.Resolver, name string) (string, bool, error) {
	if protocol, _ := resolver.LookupEnv("KAFKA_SECURITY_PROTOCOL"); protocol == "" {
		return resolver.Lookup(name)
	}
	var secretErr error
	conf, err := kafkaconf.Parse(func(name string) (string, bool) {
		value, found, err := resolver.Lookup(name)
		secretErr = errors.Join(secretErr, err)
		return value, found
	})
	switch {
	case secretErr != nil:
		return "", false, secretErr
	case err != nil:
		return "", false, err
	case name == "KAFKA_TLS_ENABLED":
		return strconv.FormatBool(strings.HasSuffix(conf.Protocol, "SSL")), true, nil
	case conf.Mechanism == "":
		return "none", true, nil
	}
	return conf.Mechanism, true, nil
}

// fatal reports an error that must stop the process and stops it. Lint looks
// up from several goroutines at once, and one message is enough.
var fatal = func(err error) {
	fatalOnce.Do(func() {
		fmt.Fprintf(os.Stderr, "dealiot-connect: %v\n", err)
		os.Exit(1)
	})
}

var fatalOnce sync.Once
