// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

// Package secrets resolves the settings that a site gives by environment
// variables: a value in NAME itself or, for secrets, in a file that NAME_FILE
// points to. The environment is handed in, so that only the command reads it.
package secrets

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// FileSuffix is appended to a variable's name to give the variable that names
// the file holding its value.
const FileSuffix = "_FILE"

// MaxFileBytes bounds what is read of a secret file. Keys, tokens and
// certificate chains are far smaller.
const MaxFileBytes = 1 << 20

// defaultDirectories are where container platforms mount secrets, and the
// folder beside a local checkout.
var defaultDirectories = []string{"/run/secrets", "/var/run/dealiot-secrets", "./secrets"}

// Directories returns the directories that secret files may lie in: the
// default ones, then those of extra, a list separated by ':' in which blank
// items are ignored.
func Directories(extra string) []string {
	dirs := append([]string(nil), defaultDirectories...)
	for dir := range strings.SplitSeq(extra, ":") {
		if dir = strings.TrimSpace(dir); dir != "" {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// Resolver looks up settings. It holds no state and is safe for concurrent use.
type Resolver struct {
	// LookupEnv returns an environment variable and whether it is set.
	LookupEnv func(name string) (string, bool)
	// Directories are the directories that secret files may lie in.
	Directories []string
}

// Lookup returns the value of a setting and whether there is one. The variable
// called name wins when it is not empty. Otherwise, when name_FILE is not
// empty, the value is the content of the file it points to, without leading
// and trailing white space. The error names the variable, the file and the
// allowed directories, never the content.
func (r Resolver) Lookup(name string) (value string, found bool, err error) {
	value, found = r.LookupEnv(name)
	if value != "" {
		return value, true, nil
	}
	fileVar := name + FileSuffix
	path, _ := r.LookupEnv(fileVar)
	if path == "" {
		return value, found, nil
	}
	if value, err = r.read(path); err != nil {
		return "", false, fmt.Errorf("reading secret %s from %s=%q: %w", name, fileVar, path, err)
	}
	return value, true, nil
}

func (r Resolver) read(path string) (string, error) {
	// The target decides, not the link: a link inside an allowed directory
	// must not open the rest of the file system.
	target, err := resolve(path)
	if err != nil {
		return "", fmt.Errorf("%w: create the file, or correct or unset the variable", bare(err))
	}
	if !r.allowed(target) {
		return "", fmt.Errorf("its target %q is outside the secret directories %s: move the file there, or add its directory to DEALIOT_SECRET_DIRECTORIES",
			target, strings.Join(r.Directories, ", "))
	}
	info, err := os.Stat(target)
	if err != nil {
		return "", bare(err)
	}
	// Checked before opening, because opening a named pipe waits for a writer.
	if !info.Mode().IsRegular() {
		return "", errors.New("it is not a regular file")
	}
	file, err := os.Open(target)
	if err != nil {
		return "", fmt.Errorf("%w: make it readable for user id %d", bare(err), os.Getuid())
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, MaxFileBytes+1))
	if err != nil {
		return "", bare(err)
	}
	if len(content) > MaxFileBytes {
		return "", fmt.Errorf("it is larger than %d bytes", MaxFileBytes)
	}
	value := strings.TrimSpace(string(content))
	if value == "" {
		return "", errors.New("it is empty: write the secret into it, or unset the variable")
	}
	return value, nil
}

func (r Resolver) allowed(target string) bool {
	for _, dir := range r.Directories {
		dir, err := resolve(dir)
		if err != nil {
			continue // a directory that does not exist holds no file
		}
		rel, err := filepath.Rel(dir, target)
		if err == nil && filepath.IsLocal(rel) && rel != "." {
			return true
		}
	}
	return false
}

// resolve returns the absolute path without symbolic links.
func resolve(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(abs)
}

// bare drops the operation and path from a file error; the caller names both.
func bare(err error) error {
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}
