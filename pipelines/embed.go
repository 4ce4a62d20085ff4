// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

// Package pipelines carries the pipelines inside the binary, so that they run
// without a checkout beside it.
package pipelines

import "embed"

// FS holds the pipelines, "<name>.yaml", and their unit tests,
// "<name>_benthos_test.yaml".
//
//go:embed *.yaml
var FS embed.FS
