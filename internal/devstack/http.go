// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package devstack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"
)

// httpServer serves what a single pipeline's own server would, for all of them:
//
//	/ping             200 as long as the process lives
//	/ready            200 when every pipeline is connected, else 503 and who is not
//	/metrics          Prometheus metrics of all pipelines, told apart by the label stream
//	/<pipeline>/...   what one pipeline serves, such as /mqtt_to_kafka/ready
type httpServer struct {
	server *http.Server
}

func serveHTTP(listener net.Listener, ps *pipelines, logger *slog.Logger) *httpServer {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ping", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("pong\n"))
	})
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		states := map[string]string{}
		status := http.StatusOK
		for _, p := range ps.list {
			switch why, err := p.state(); {
			case err != nil:
				states[p.name], status = "ended: "+err.Error(), http.StatusServiceUnavailable
			case why != "":
				states[p.name], status = "waiting for "+why, http.StatusServiceUnavailable
			default:
				states[p.name] = "ready"
			}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{"pipelines": states})
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		var all exposition
		for _, p := range ps.list {
			part := &recorder{header: http.Header{}}
			p.mux.ServeHTTP(part, metricsRequest(r))
			if part.status == 0 || part.status == http.StatusOK {
				all.add(p.name, part.body.String())
			}
		}
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_, _ = w.Write([]byte(all.text()))
	})
	for _, p := range ps.list {
		mux.Handle("/"+p.name+"/", http.StripPrefix("/"+p.name, p.mux))
	}
	s := &httpServer{server: &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}}
	go func() {
		if err := s.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			logger.Error("serving HTTP", "address", listener.Addr().String(), "error", err)
		}
	}()
	return s
}

func (s *httpServer) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := s.server.Shutdown(ctx); err != nil {
		return errors.Join(err, s.server.Close())
	}
	return nil
}

// metricsRequest asks for plain text, whatever the client itself asked for:
// parts can only be put together when they have one format and no compression.
func metricsRequest(r *http.Request) *http.Request {
	part := r.Clone(r.Context())
	part.Header = http.Header{"Accept": {"text/plain;version=0.0.4"}}
	part.URL.Path = "/metrics"
	return part
}

// recorder takes the answer of a handler that is called within the process.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }

// unconnected says in words what the engine's answer to /ready names as not
// connected.
func unconnected(answer []byte) string {
	var states struct {
		Error    string `json:"error"`
		Statuses []struct {
			Label     string `json:"label"`
			Path      string `json:"path"`
			Connected bool   `json:"connected"`
			Error     string `json:"error"`
		} `json:"statuses"`
	}
	if err := json.Unmarshal(answer, &states); err != nil {
		return "an answer from the engine"
	}
	var words []string
	for _, s := range states.Statuses {
		if s.Connected {
			continue
		}
		name := s.Label
		if name == "" {
			name = s.Path
		}
		if s.Error != "" {
			name += fmt.Sprintf(": %s", s.Error)
		}
		words = append(words, name)
	}
	if len(words) == 0 {
		return "its start"
	}
	return strings.Join(words, ", ")
}
