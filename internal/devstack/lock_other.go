// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package devstack

import (
	"errors"
	"fmt"
	"os"
)

var errLocked = errors.New("another process holds the lock")

// lock creates a file that must not exist yet. A process that was killed leaves
// it behind, and a person has to remove it.
func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, os.ErrExist) {
		return nil, errLocked
	}
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintln(f, os.Getpid()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func unlock(f *os.File) error { return errors.Join(f.Close(), os.Remove(f.Name())) }
