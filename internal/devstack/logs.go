// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package devstack

import (
	"log/slog"
	"slices"
)

// logs is where the parts of the stack write to.
type logs struct {
	file slog.Handler
	user slog.Handler // of Config.Logger
}

func (l logs) part(name string) *slog.Logger {
	return slog.New(slog.NewMultiHandler(l.file, l.user)).With("part", name)
}

// pipeline keeps what components at some paths log from the user.
func (l logs) pipeline(name string, quiet []string) *slog.Logger {
	return slog.New(slog.NewMultiHandler(l.file, without{l.user, quiet})).With("pipeline", name)
}

// without drops what carries the attribute path with one of some values. The
// engine gives each component a logger of its own with that attribute.
type without struct {
	slog.Handler
	paths []string
}

func (w without) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		if a.Key == "path" && slices.Contains(w.paths, a.Value.String()) {
			return slog.DiscardHandler
		}
	}
	return without{w.Handler.WithAttrs(attrs), w.paths}
}

func (w without) WithGroup(name string) slog.Handler {
	return without{w.Handler.WithGroup(name), w.paths}
}
