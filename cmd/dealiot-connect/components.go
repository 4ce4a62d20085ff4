// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package main

// The allow-list of what this distribution is made of. Every import adds
// components to `list`, code to the binary and licences to its closure, so
// each says what it is here for. licence_test.go checks the closure.
//
// Left out on purpose: connect's aws (it registers CDC inputs that need an
// enterprise licence), sql (it links the driver of every database), otlp and
// the community and free bundles (all of those).
import (
	// Everything that touches nothing outside the process: mappings, switches,
	// batching, caches in memory, scanners, the dead-letter idiom try_catch.
	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	// zstd, which devices and archives compress uploads with.
	_ "github.com/redpanda-data/benthos/v4/public/components/pure/extended"
	// Files, HTTP, sockets, stdin and stdout, to try a pipeline without a
	// broker; connect's set, because its file output refuses names that a
	// platform cannot store.
	_ "github.com/redpanda-data/connect/v4/public/components/io"

	// parse_jwt and the password hashes in Bloblang, for gateways that sign
	// what they publish.
	_ "github.com/redpanda-data/connect/v4/public/components/crypto"
	// The kafka_franz output that events leave by, and the redpanda input that
	// reads them back.
	_ "github.com/redpanda-data/connect/v4/public/components/kafka"
	// The mqtt output to answer devices, and the mqtt input for brokers that
	// speak 3.1.1 only; devices arrive by our mqtt5.
	_ "github.com/redpanda-data/connect/v4/public/components/mqtt"
	// Metrics at /metrics.
	_ "github.com/redpanda-data/connect/v4/public/components/prometheus"

	// Our own: MQTT message to event, event against its contract, what failed
	// to a dead letter, and the same rules as Bloblang functions.
	_ "github.com/dealiot/dealiot-connect/plugins/bloblfunc"
	_ "github.com/dealiot/dealiot-connect/plugins/contract"
	_ "github.com/dealiot/dealiot-connect/plugins/deadletter"
	_ "github.com/dealiot/dealiot-connect/plugins/deviceevent"

	// Our own: the MQTT 5 input that acknowledges after delivery.
	_ "github.com/dealiot/dealiot-connect/plugins/mqtt5"
	// Our own: the logs of WildFi tags.
	_ "github.com/dealiot/dealiot-connect/plugins/wildfi"
)
