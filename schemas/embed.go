// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

// Package schemas holds the data contracts: one JSON Schema (draft 2020-12)
// for each Kafka topic, and example documents for each contract.
package schemas

import "embed"

// FS holds the contracts, one file a topic at its root, named
// "<topic>.schema.json".
//
//go:embed *.schema.json
var FS embed.FS

// Examples holds documents that show each contract at work:
// "examples/<topic>/valid/<case>.json" is an event the contract accepts,
// "examples/<topic>/invalid/<case>.json" wraps one it rejects, with the JSON
// pointer ("at") and keyword of the violation and the reason in words ("why").
//
//go:embed examples
var Examples embed.FS
