// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// communityLicensed are the packages under the Redpanda Community License that
// may be in the binary, each with the reason.
var communityLicensed = map[string]string{
	// One file of OAuth2 client-credential helpers. Connect's kafka components
	// import it for their SASL settings; it does nothing unless those select a
	// service account, and checks no licence at run time.
	"github.com/redpanda-data/connect/v4/internal/serviceaccount": "imported by the kafka components",
}

// TestImportClosureLicences walks everything that is linked into the binary
// and finds the files that their authors put under the Redpanda Community
// License, which does not allow what our own licence promises.
func TestImportClosureLicences(t *testing.T) {
	found := map[string]bool{}
	scanned := 0
	for _, pkg := range importClosure(t) {
		if !strings.HasPrefix(pkg.ImportPath, "github.com/redpanda-data/") {
			continue
		}
		for _, name := range pkg.files() {
			source, err := os.ReadFile(filepath.Join(pkg.Dir, name))
			require.NoError(t, err)
			scanned++
			if isCommunityLicensed(source) {
				found[pkg.ImportPath] = true
				assert.Contains(t, communityLicensed, pkg.ImportPath,
					"%s of %s is under the Redpanda Community License: drop the import in components.go that brings it in (go mod why -m says which)", name, pkg.ImportPath)
			}
		}
	}
	for path := range communityLicensed {
		assert.True(t, found[path], "%s is on the list but no longer linked: take it off", path)
	}
	// A walk that reads nothing would find nothing.
	assert.Greater(t, scanned, 300, "source files of Redpanda's modules in the import closure")
	t.Logf("scanned %d files", scanned)
}

func TestIsCommunityLicensed(t *testing.T) {
	const community = `// Copyright 2024 Redpanda Data, Inc.
//
// Licensed as a Redpanda Enterprise file under the Redpanda Community
// License (the "License"); you may not use this file except in compliance with
// the License. You may obtain a copy of the License at
//
// https://github.com/redpanda-data/connect/blob/main/licenses/rcl.md

package enterprise
`
	const apache = `// Copyright 2024 Redpanda Data, Inc.
//
// Licensed under the Apache License, Version 2.0 (the "License");

package kafka

// Not a header: the Redpanda Community License covers other files.
`
	for name, tc := range map[string]struct {
		source string
		want   bool
	}{
		"community":                {community, true},
		"community, block comment": {"/*\n * Redpanda Community\n * License\n */\npackage x\n", true},
		"community, by link":       {"// See licenses/rcl.md.\n\npackage x\n", true},
		"community, after a tag":   {"//go:build linux\n\n" + community, true},
		"community, CRLF":          {strings.ReplaceAll(community, "\n", "\r\n"), true},
		"apache":                   {apache, false},
		"no header":                {"package x\n", false},
		"empty":                    {"", false},
	} {
		assert.Equal(t, tc.want, isCommunityLicensed([]byte(tc.source)), name)
	}
}

// isCommunityLicensed reports whether the comment before the package clause
// puts a file under the Redpanda Community License.
func isCommunityLicensed(source []byte) bool {
	header, _, _ := bytes.Cut(append([]byte("\n"), source...), []byte("\npackage "))
	// The name is wrapped over two comment lines in the usual header.
	words := strings.Fields(strings.NewReplacer("//", " ", "*", " ").Replace(string(header)))
	text := strings.Join(words, " ")
	return strings.Contains(text, "Redpanda Community License") || strings.Contains(string(header), "licenses/rcl.md")
}

type listedPackage struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	CgoFiles   []string
}

func (p listedPackage) files() []string { return append(p.GoFiles, p.CgoFiles...) }

// importClosure lists the packages that are linked into the binary.
func importClosure(t *testing.T) []listedPackage {
	t.Helper()
	var stderr bytes.Buffer
	list := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Dir,GoFiles,CgoFiles", ".")
	list.Stderr = &stderr
	out, err := list.Output()
	require.NoError(t, err, stderr.String())
	var pkgs []listedPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var pkg listedPackage
		if err := dec.Decode(&pkg); errors.Is(err, io.EOF) {
			return pkgs
		} else {
			require.NoError(t, err)
		}
		pkgs = append(pkgs, pkg)
	}
}
