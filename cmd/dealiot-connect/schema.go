// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package main

import "github.com/redpanda-data/benthos/v4/public/service"

//go:generate go test -count=1 -run ^TestEditorSchemaIsCurrent$ . -update

// configSchema is the stock configuration schema with the defaults of this
// distribution. The engine asks for it after all components are registered.
func configSchema() *service.ConfigSchema {
	schema := service.GlobalEnvironment().FullConfigSchema(version, dateBuilt)
	// A message that failed somewhere must not be written as if it had not.
	schema.SetFieldDefault(true, "error_handling", "strict")
	schema.SetFieldDefault(map[string]any{"@service": "dealiot-connect"}, "logger", "static_fields")
	return schema
}
