// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

// Package resources carries the shared YAML of the distribution inside the
// binary, so that commands work without a checkout beside them.
package resources

import _ "embed"

// Topics is the topic catalogue, topics.yaml as it stands in this folder:
// every Kafka topic with its partitions, replication and configuration, and
// the named overrides. internal/topics reads it.
//
//go:embed topics.yaml
var Topics []byte
