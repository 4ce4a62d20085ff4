// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package devstack

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Files of a data directory.
const (
	markerFile = "DEALIOT_CONNECT_DEV" // says that the directory is ours
	lockFile   = "lock"

	markerText = `This directory belongs to "dealiot-connect dev": it keeps the data of its Kafka.
It may be deleted while no such process runs; "dealiot-connect dev --fresh" does that.
`
)

// dataDir is a directory that this process alone uses.
type dataDir struct {
	path string
	lock *os.File
}

// openDataDir makes a directory ours: it is created, or empty, or carries the
// marker of an earlier stack. With fresh it is emptied first, which a directory
// without the marker never is.
func openDataDir(path string, fresh bool) (*dataDir, error) {
	if path == "" {
		return nil, errors.New("opening data directory: none is given; name one with --data-dir")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("opening data directory %q: %w", path, err)
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, fmt.Errorf("creating data directory: %w; name another with --data-dir", err)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("reading data directory: %w; name another with --data-dir", err)
	}
	marker := filepath.Join(path, markerFile)
	if info, err := os.Lstat(marker); (err != nil || !info.Mode().IsRegular()) && len(entries) > 0 {
		return nil, fmt.Errorf("opening data directory %s: it holds other files and no %s; name another, empty one with --data-dir", path, markerFile)
	}
	if err := os.WriteFile(marker, []byte(markerText), 0o644); err != nil {
		return nil, fmt.Errorf("marking data directory: %w; name another with --data-dir", err)
	}
	d := &dataDir{path: path}
	d.lock, err = lock(filepath.Join(path, lockFile))
	if errors.Is(err, errLocked) {
		owner, _ := os.ReadFile(filepath.Join(path, lockFile))
		return nil, fmt.Errorf("locking data directory %s: process %s uses it; stop that one, or name another with --data-dir", path, strings.TrimSpace(string(owner)))
	}
	if err != nil {
		return nil, fmt.Errorf("locking data directory %s: %w", path, err)
	}
	if !fresh {
		return d, nil
	}
	for _, e := range entries {
		if e.Name() == markerFile || e.Name() == lockFile {
			continue
		}
		if err := os.RemoveAll(filepath.Join(path, e.Name())); err != nil {
			return nil, errors.Join(fmt.Errorf("emptying data directory: %w", err), d.close())
		}
	}
	return d, nil
}

// close gives the directory up; its content stays.
func (d *dataDir) close() error {
	if err := unlock(d.lock); err != nil {
		return fmt.Errorf("unlocking data directory %s: %w", d.path, err)
	}
	return nil
}
