// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

// Command cmd writes the components' READMEs below the folder that it is given,
// the root of the repository.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/dealiot/dealiot-connect/internal/docgen"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run ./internal/docgen/cmd <root of the repository>")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write(root string) error {
	files, err := docgen.Files()
	if err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(root, filepath.FromSlash(name)), text, 0o644); err != nil {
			return fmt.Errorf("writing documentation: %w", err)
		}
	}
	return nil
}
