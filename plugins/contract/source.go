// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dealiot/dealiot-connect/schemas"
)

// pollEvery is the time between two looks at a directory. Reading the files,
// instead of asking the file system for events, sees every way to change them:
// an editor's rename, the swapped symlink of a Kubernetes volume, a network
// share, a copy that keeps its time stamps.
const pollEvery = 2 * time.Second

var embeddedSet = sync.OnceValues(func() (*Set, error) {
	set, err := LoadSet(schemas.FS)
	if err != nil {
		return nil, fmt.Errorf("loading embedded contracts: %w", err)
	}
	return set, nil
})

// Reload is what came of a change in a directory of contracts.
type Reload struct {
	Changed []string // topics whose file is new, different or gone
	Err     error    // why the change was refused; the set is as it was
}

// Source holds the current set of contracts: the embedded ones, overridden by
// topic from a directory if there is one. Sources of the same directory share
// one set in the process.
type Source struct {
	shared  *shared
	observe func(Reload)
	close   sync.Once
}

// sources are the directories in use, by absolute path.
var sources = struct {
	sync.Mutex
	byDir map[string]*shared
}{byDir: map[string]*shared{}}

// Open gives the embedded contracts, or with a directory these overridden by
// the directory's. A directory need not hold all topics; it is watched, and a
// change takes effect as a whole or not at all. observe, if not nil, hears of
// each change that was taken or refused, on a goroutine of the source's own.
// Close ends that.
func Open(dir string, observe func(Reload)) (*Source, error) {
	return open(dir, pollEvery, observe)
}

func open(dir string, every time.Duration, observe func(Reload)) (*Source, error) {
	base, err := embeddedSet()
	if err != nil {
		return nil, err
	}
	if dir == "" {
		only := &shared{}
		only.set.Store(base)
		return &Source{shared: only}, nil
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("finding directory of contracts %q: %w", dir, err)
	}
	sources.Lock()
	defer sources.Unlock()
	sh, ok := sources.byDir[abs]
	if !ok {
		if sh, err = newShared(abs, base); err != nil {
			return nil, err
		}
		sources.byDir[abs] = sh
		sh.start(every)
	}
	s := &Source{shared: sh, observe: observe}
	sh.join(s)
	return s, nil
}

// Set gives the current contracts. Take it once for a batch: the next call may
// give others.
func (s *Source) Set() *Set { return s.shared.set.Load() }

// Close releases the source; the last one of a directory ends its watch.
func (s *Source) Close() {
	s.close.Do(func() {
		if s.shared.dir == "" {
			return
		}
		sources.Lock()
		defer sources.Unlock()
		if s.shared.leave(s) {
			delete(sources.byDir, s.shared.dir)
			s.shared.stop()
		}
	})
}

// look is what a directory holds at one moment.
type look struct {
	files map[string][]byte
	err   string // why it could not be read
}

func (l look) equal(to look) bool {
	return l.err == to.err && maps.EqualFunc(l.files, to.files, bytes.Equal)
}

// shared watches one directory for all its sources.
type shared struct {
	dir  string // "" for the embedded contracts, which do not change
	base *Set
	set  atomic.Pointer[Set]

	mu    sync.Mutex
	users []*Source

	// Of the watching goroutine alone.
	taken  map[string][]byte // the files that set is made of
	judged look              // the last look that was taken or refused
	before look              // the look before this one

	ask  chan struct{} // closed to stop
	done chan struct{}
}

func newShared(dir string, base *Set) (*shared, error) {
	files, err := readFiles(os.DirFS(dir))
	if err != nil {
		return nil, fmt.Errorf("loading contracts from directory %s: %w", dir, err)
	}
	set, err := newSet(files)
	if err != nil {
		return nil, fmt.Errorf("loading contracts from directory %s: %w", dir, err)
	}
	sh := &shared{dir: dir, base: base, taken: files, judged: look{files: files}}
	sh.before = sh.judged
	sh.set.Store(base.Override(set))
	return sh, nil
}

func (sh *shared) join(s *Source) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.users = append(sh.users, s)
}

// leave says whether it was the last.
func (sh *shared) leave(s *Source) bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.users = slices.DeleteFunc(sh.users, func(u *Source) bool { return u == s })
	return len(sh.users) == 0
}

func (sh *shared) start(every time.Duration) {
	sh.ask, sh.done = make(chan struct{}), make(chan struct{})
	go func() {
		defer close(sh.done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-sh.ask:
				return
			case <-tick.C:
				sh.poll()
			}
		}
	}()
}

func (sh *shared) stop() {
	close(sh.ask)
	<-sh.done
}

// poll looks at the directory and takes what it holds once two looks agree: a
// copy that is under way is not taken in halves. A refused state is reported
// once and looked at again when it changes.
func (sh *shared) poll() {
	files, err := readFiles(os.DirFS(sh.dir))
	now := look{files: files}
	if err != nil {
		now = look{err: err.Error()}
	}
	settled := now.equal(sh.before)
	sh.before = now
	if !settled || now.equal(sh.judged) {
		return
	}
	sh.judged = now
	var set *Set
	if err == nil {
		set, err = newSet(files)
	}
	if err != nil {
		sh.tell(Reload{Err: fmt.Errorf("reloading contracts from directory %s: %w", sh.dir, err)})
		return
	}
	changed := changes(sh.taken, files)
	sh.taken = files
	sh.set.Store(sh.base.Override(set))
	sh.tell(Reload{Changed: changed})
}

func (sh *shared) tell(r Reload) {
	sh.mu.Lock()
	users := slices.Clone(sh.users)
	sh.mu.Unlock()
	for _, s := range users {
		if s.observe != nil {
			s.observe(r)
		}
	}
}

// changes lists the topics whose files differ.
func changes(from, to map[string][]byte) []string {
	topics := map[string]bool{}
	for file, text := range to {
		if before, ok := from[file]; !ok || !bytes.Equal(before, text) {
			topics[strings.TrimSuffix(file, FileSuffix)] = true
		}
	}
	for file := range from {
		if _, ok := to[file]; !ok {
			topics[strings.TrimSuffix(file, FileSuffix)] = true
		}
	}
	return slices.Sorted(maps.Keys(topics))
}
