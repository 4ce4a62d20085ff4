// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

// Command dealiot-connect is a Redpanda Connect distribution for field IoT:
// the stock commands and components, and those of its own.
package main

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// Stamped by the build: -ldflags "-X main.version=... -X main.dateBuilt=...".
var (
	version   = ""
	dateBuilt = ""
)

func main() {
	os.Exit(run(context.Background(), os.Args))
}

// run executes one command line and returns the exit code of the process.
func run(ctx context.Context, args []string) int {
	stampFromBuildInfo()
	code, err := service.RunCLIToCode(ctx,
		service.CLIOptSetArgs(args...),
		service.CLIOptSetVersion(version, dateBuilt),
		service.CLIOptSetBinaryName("dealiot-connect"),
		service.CLIOptSetProductName("dealiot-connect"),
		service.CLIOptSetDocumentationURL("https://github.com/dealiot/dealiot-connect"),
		service.CLIOptSetDefaultConfigPaths("/etc/dealiot-connect/config.yaml"),
		service.CLIOptSetMainSchemaFrom(configSchema),
		service.CLIOptSetEnvVarLookup(configLookup),
		service.CLIOptAddCommand(devCommand()),
		service.CLIOptAddCommand(healthcheckCommand()),
		service.CLIOptAddCommand(simulateCommand()),
		service.CLIOptAddCommand(topicsCommand()),
		service.CLIOptAddCommand(wildfiCommand()),
	)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return code
}

// stampFromBuildInfo fills what the build did not stamp, from what the Go tool
// records by itself, so that `go install` gives an honest version too.
func stampFromBuildInfo() {
	info, ok := debug.ReadBuildInfo()
	if ok && version == "" && info.Main.Version != "(devel)" {
		version = info.Main.Version
	}
	if ok && dateBuilt == "" {
		for _, setting := range info.Settings {
			if setting.Key == "vcs.time" {
				dateBuilt = setting.Value
			}
		}
	}
	if version == "" {
		version = "dev"
	}
	if dateBuilt == "" {
		dateBuilt = "unknown"
	}
}
