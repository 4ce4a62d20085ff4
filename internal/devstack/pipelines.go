// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package devstack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/dealiot/dealiot-connect/internal/devstack/broker"
)

// Pipeline is one configuration file.
type Pipeline struct {
	Name string // file name without .yaml
	YAML string
}

// LoadPipelines reads the *.yaml files at the top of a file system, in order of
// their names, without their tests (*_benthos_test.yaml).
func LoadPipelines(files fs.FS) ([]Pipeline, error) {
	names, err := fs.Glob(files, "*.yaml")
	if err != nil {
		return nil, fmt.Errorf("listing pipelines: %w", err)
	}
	var list []Pipeline
	for _, name := range names {
		if strings.HasSuffix(name, "_benthos_test.yaml") {
			continue
		}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("reading pipeline %s: %w", name, err)
		}
		list = append(list, Pipeline{Name: strings.TrimSuffix(path.Base(name), ".yaml"), YAML: string(text)})
	}
	return list, nil
}

// pipelines are the streams of a stack, one for each file.
type pipelines struct {
	list   []*pipeline
	logger *slog.Logger
	run    sync.WaitGroup
}

type pipeline struct {
	name       string
	stream     *service.Stream
	mux        *http.ServeMux // what the engine registers: /ready, /metrics and endpoints of components
	mqttInputs int
	started    bool

	mu    sync.Mutex
	ended bool
	err   error
}

// buildPipelines reads all configurations; nothing connects yet.
func buildPipelines(list []Pipeline, lookup func(string) (string, bool), logs logs) (*pipelines, error) {
	ps := &pipelines{logger: logs.part("pipelines")}
	schema := service.GlobalEnvironment().FullConfigSchema("", "")
	schema.SetFieldDefault(true, "error_handling", "strict") // as the binary runs them
	for _, conf := range list {
		p := &pipeline{name: conf.Name, mux: http.NewServeMux()}
		builder := service.NewStreamBuilder()
		builder.SetSchema(schema)
		builder.SetEnvVarLookupFunc(lookup)
		builder.SetHTTPMux(p.mux)
		if err := builder.SetYAML(conf.YAML); err != nil {
			return nil, fmt.Errorf("reading pipeline %s: %w", conf.Name, err)
		}
		var quiet []string // paths of components
		err := builder.WalkComponents(func(w *service.WalkedComponent) error {
			switch {
			case w.ComponentType == "input" && strings.HasPrefix(w.Name, "mqtt"):
				p.mqttInputs++
			case w.ComponentType == "processor" && w.Name == "dead_letter":
				quiet = append(quiet, "root."+w.Path)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("walking pipeline %s: %w", conf.Name, err)
		}
		builder.SetLogger(logs.pipeline(conf.Name, quiet))
		if p.stream, err = builder.Build(); err != nil {
			return nil, fmt.Errorf("building pipeline %s: %w", conf.Name, err)
		}
		ps.list = append(ps.list, p)
	}
	return ps, nil
}

func (ps *pipelines) names() []string {
	names := make([]string, 0, len(ps.list))
	for _, p := range ps.list {
		names = append(names, p.name)
	}
	return names
}

// start lets all streams run.
func (ps *pipelines) start() error {
	for _, p := range ps.list {
		p.started = true
		ps.run.Add(1)
		go func() {
			defer ps.run.Done()
			err := p.stream.Run(context.Background())
			p.mu.Lock()
			p.ended, p.err = true, err
			p.mu.Unlock()
			if err != nil {
				ps.logger.Error("pipeline ended", "pipeline", p.name, "error", err)
			}
		}()
	}
	return nil
}

// stop lets each stream finish what it has.
func (ps *pipelines) stop(ctx context.Context) error {
	var g errgroup.Group
	for _, p := range ps.list {
		if !p.started {
			continue
		}
		g.Go(func() error {
			if err := p.stream.Stop(ctx); err != nil {
				return fmt.Errorf("stopping pipeline %s: %w", p.name, err)
			}
			return nil
		})
	}
	err := g.Wait()
	if err == nil {
		ps.run.Wait()
	}
	return err
}

// readyPoll is how long awaitReady waits between two looks.
const readyPoll = 5 * time.Millisecond

// awaitReady waits until all inputs and outputs are connected. An mqtt input
// counts as connected before it has subscribed, and what is published in
// between is lost to it; hence the look at the broker.
func (ps *pipelines) awaitReady(ctx context.Context, b *broker.Broker) error {
	subscriptions := 0
	for _, p := range ps.list {
		subscriptions += p.mqttInputs
	}
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		var missing []string
		for _, p := range ps.list {
			switch why, err := p.state(); {
			case err != nil:
				return fmt.Errorf("starting pipeline %s: %w", p.name, err)
			case why != "":
				missing = append(missing, p.name+" ("+why+")")
			}
		}
		if n := b.Subscribed(); n < subscriptions {
			missing = append(missing, fmt.Sprintf("%d of %d MQTT subscriptions", subscriptions-n, subscriptions))
		}
		if len(missing) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for pipelines to connect: %s: %w", strings.Join(missing, ", "), ctx.Err())
		case <-tick.C:
		}
	}
}

// state says what a pipeline waits for; "" when it is ready or has done all it
// had to do. The error says why it ended.
func (p *pipeline) state() (waitsFor string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return "", p.err
	}
	r := &recorder{header: http.Header{}}
	request, err := http.NewRequest(http.MethodGet, "/ready", nil)
	if err != nil {
		return "", errors.Join(errors.New("asking for its state"), err)
	}
	p.mux.ServeHTTP(r, request)
	if r.status == 0 || r.status == http.StatusOK {
		return "", nil
	}
	return unconnected(r.body.Bytes()), nil
}
