// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestHealthcheck(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ready":
			w.WriteHeader(http.StatusOK)
		case "/hangs":
			<-r.Context().Done()
		default:
			http.Error(w, `{"statuses":[{"label":"kafka_out","connected":false}]}`, http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(server.Close)
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()

	for _, tc := range []struct {
		name     string
		args     []string
		wantCode int
		wantErr  []string
	}{
		{name: "ready", args: []string{"--url", server.URL + "/ready"}},
		{name: "not ready", args: []string{"--url", server.URL + "/other"}, wantCode: 1, wantErr: []string{"503 Service Unavailable", `"kafka_out"`}},
		{name: "no answer in time", args: []string{"--url", server.URL + "/hangs", "--timeout", "50ms"}, wantCode: 1, wantErr: []string{"deadline exceeded"}},
		{name: "nobody there", args: []string{"--url", closed.URL}, wantCode: 1, wantErr: []string{"connection refused"}},
		{name: "not an address", args: []string{"--url", "::"}, wantCode: 1, wantErr: []string{"checking health", "::"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := runCLI(t, nil, append([]string{"healthcheck"}, tc.args...)...)
			assert.Equal(t, tc.wantCode, got.code, got.stderr)
			for _, want := range tc.wantErr {
				assert.Contains(t, got.stderr, want)
			}
		})
	}
}
