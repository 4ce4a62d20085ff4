// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

// Package e2e holds the tests that run the built binary as a user does: as a
// process of its own, on the pipelines as they are shipped, between an MQTT
// broker and a Kafka broker.
package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// root of the repository.
const root = "../.."

// deadline of a whole test: it is a bound for a stuck run on a slow machine,
// not what a run takes.
const deadline = 8 * time.Minute

// binary gives the path of the built binary: the one that make names in
// DEALIOT_CONNECT_BIN, else one that is built here once.
var binary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("DEALIOT_CONNECT_BIN"); path != "" {
		return filepath.Abs(path)
	}
	dir, err := os.MkdirTemp("", "dealiot-connect-e2e")
	if err != nil {
		return "", err
	}
	built = dir
	path := filepath.Join(dir, "dealiot-connect")
	if out, err := exec.Command("go", "build", "-o", path, root+"/cmd/dealiot-connect").CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the binary: %w\n%s", err, out)
	}
	return path, nil
})

var built string // folder of a binary that these tests built

func TestMain(m *testing.M) {
	code := m.Run()
	if built != "" {
		os.RemoveAll(built)
	}
	os.Exit(code)
}

// worker is a running process of the binary.
type worker struct {
	cmd  *exec.Cmd
	http string // host:port of its HTTP server
	log  *logBuffer
	done chan struct{} // closed when the process has ended
	err  error         // how it ended, after done
}

// startWorker runs the binary on a pipeline and waits until its input and
// output are connected. The process is killed when the test ends.
func startWorker(ctx context.Context, t *testing.T, pipeline string, env map[string]string) *worker {
	t.Helper()
	path, err := binary()
	require.NoError(t, err)
	w := &worker{http: freeAddress(t), log: &logBuffer{}, done: make(chan struct{})}
	w.cmd = exec.Command(path, "run", "-s", "http.address="+w.http, filepath.Join(root, pipeline))
	w.cmd.Stdout, w.cmd.Stderr = w.log, w.log
	w.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	for name, value := range env {
		w.cmd.Env = append(w.cmd.Env, name+"="+value)
	}
	require.NoError(t, w.cmd.Start())
	go func() {
		w.err = w.cmd.Wait()
		close(w.done)
	}()
	t.Cleanup(func() {
		_ = w.cmd.Process.Kill()
		<-w.done
		if t.Failed() {
			t.Logf("what the worker said:\n%s", w.log)
		}
	})
	w.await(ctx, t, "the worker's input and output to be connected", w.ready)
	return w
}

func (w *worker) ready() bool {
	resp, err := http.Get("http://" + w.http + "/ready")
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// await polls until ok says yes, the worker ends or ctx does.
func (w *worker) await(ctx context.Context, t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-w.done:
			t.Fatalf("waiting for %s: the worker ended: %v", what, w.err)
		case <-ctx.Done():
			t.Fatalf("waiting for %s: %v", what, ctx.Err())
		}
	}
}

// stop asks the worker to end, as a service manager does, and waits for it.
func (w *worker) stop(ctx context.Context, t *testing.T) {
	t.Helper()
	require.NoError(t, w.cmd.Process.Signal(os.Interrupt))
	select {
	case <-w.done:
		require.NoError(t, w.err, "exit code of an orderly stop")
	case <-ctx.Done():
		t.Fatal("waiting for the worker to stop")
	}
}

func (w *worker) metrics(t *testing.T) string {
	t.Helper()
	resp, err := http.Get("http://" + w.http + "/metrics")
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(text)
}

// freeAddress gives an address of this machine that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

// logBuffer collects what a process prints.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
