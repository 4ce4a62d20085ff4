// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package devstack

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

var errLocked = errors.New("another process holds the lock")

// lock takes a file for this process until unlock or the end of the process,
// however that ends, and leaves the number of the process in it.
func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errLocked
		}
		return nil, err
	}
	if err := f.Truncate(0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if _, err := fmt.Fprintln(f, os.Getpid()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// unlock leaves the file itself: removing it would let two others lock two
// files of the same name.
func unlock(f *os.File) error { return f.Close() }
