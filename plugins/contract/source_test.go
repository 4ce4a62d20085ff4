// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dealiot/dealiot-connect/schemas"
)

// siteContract is a contract with one required field.
func siteContract(version, field string) string {
	return fmt.Sprintf(`{"x-version":%q,"type":"object","required":[%q],"properties":{%q:{"type":"number"}}}`, version, field, field)
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
}

func version(t *testing.T, set *Set, topic string) string {
	t.Helper()
	c, ok := set.Contract(topic)
	require.Truef(t, ok, "no contract %s", topic)
	return c.Version()
}

func TestLoadSet(t *testing.T) {
	set := embedded(t)
	assert.Contains(t, set.Names(), "raw.gps")
	assert.Len(t, set.Names(), 40)
	for _, name := range set.Names() {
		c, ok := set.Contract(name)
		require.True(t, ok)
		assert.Equal(t, name, c.Name())
		assert.Regexp(t, `^\d+\.\d+\.\d+$`, c.Version())
	}
	_, ok := set.Contract("RAW.GPS")
	assert.False(t, ok, "names are exact")
	assert.Equal(t, "raw.gps", set.Nearest("raw.gp"))
	assert.Equal(t, "raw.sensor", set.Nearest("raw_sensors"))
	assert.Empty(t, set.Nearest("milk"))
	_, err := LoadSet(schemas.Examples)
	assert.ErrorIs(t, err, ErrNoContracts)
}

func TestLoadSetErrors(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"not JSON":       {`{"type":}`, "reading JSON: byte '}' cannot begin a value at byte 8"},
		"two documents":  {`{} {}`, "text after the JSON value at byte 3"},
		"huge number":    {`{"minimum":1e10000000}`, "exponent beyond ±1000"},
		"no object":      {`true`, "the document is not an object"},
		"other draft":    {`{"$schema":"http://json-schema.org/draft-07/schema#"}`, "contracts are written in https://json-schema.org/draft/2020-12/schema"},
		"version":        {`{"x-version":1}`, `reading x-version 1: it is a text such as "1.0.0"`},
		"no schema":      {`{"type":"nmuber"}`, "compiling schema: at /type"},
		"deep no schema": {`{"properties":{"a/b":{"minimum":"1"}}}`, "at /properties/a~1b/minimum: expected number, but got string"},
		"pattern":        {`{"pattern":"(?!x)"}`, "(?!x)"},
		"remote":         {`{"$ref":"http://example.org/other.json"}`, "a contract stands alone; put what it refers to under $defs"},
		"file":           {`{"$ref":"file:///etc/passwd"}`, `refusing to load "file:///etc/passwd"`},
		"dangling":       {`{"$ref":"#/$defs/none"}`, "#/$defs/none not found"},
		"loop":           {`{"$ref":"#"}`, "compiling schema"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := LoadSet(fstest.MapFS{"good.schema.json": {Data: []byte(`{}`)}, "bad.schema.json": {Data: []byte(tc.text)}})
			assert.ErrorContains(t, err, "loading contract bad.schema.json: ")
			assert.ErrorContains(t, err, tc.want)
		})
	}
	_, err := LoadSet(fstest.MapFS{"a b.schema.json": {Data: []byte(`{}`)}, "c.schema.json": {Data: []byte(`1`)}, "notes.txt": {}})
	assert.ErrorContains(t, err, `naming topic "a b"`)
	assert.ErrorContains(t, err, "c.schema.json", "all faults are told at once")
	_, err = LoadSet(fstest.MapFS{"notes.txt": {}})
	assert.ErrorIs(t, err, ErrNoContracts)
	_, err = LoadSet(os.DirFS(filepath.Join(t.TempDir(), "none")))
	assert.ErrorIs(t, err, os.ErrNotExist)
}

// record keeps what a source reports.
type record struct {
	sync.Mutex
	reloads []Reload
}

func (r *record) add(reload Reload) {
	r.Lock()
	defer r.Unlock()
	r.reloads = append(r.reloads, reload)
}

func (r *record) take() []Reload {
	r.Lock()
	defer r.Unlock()
	taken := r.reloads
	r.reloads = nil
	return taken
}

// settle polls as often as it takes to see a change and that it has settled.
func settle(s *Source) {
	s.shared.poll()
	s.shared.poll()
}

func TestSourceReloads(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "site.events.schema.json", siteContract("1.0.0", "a"))
	write(t, dir, "raw.gps.schema.json", siteContract("9.0.0", "lat"))
	write(t, dir, "README.md", "not a contract")
	var rec record
	// The clock never comes: the test polls.
	s, err := open(dir, time.Hour, rec.add)
	require.NoError(t, err)
	defer s.Close()

	first := s.Set()
	assert.Equal(t, "1.0.0", version(t, first, "site.events"))
	assert.Equal(t, "9.0.0", version(t, first, "raw.gps"), "the directory overrides")
	assert.Equal(t, "1.0.0", version(t, first, "raw.sensor"), "other topics keep the embedded contract")

	settle(s)
	assert.Empty(t, rec.take(), "nothing changed")
	assert.Same(t, first, s.Set())

	// An editor writes a file beside and renames it; half of the change is
	// seen by one look.
	write(t, dir, "site.events.schema.json.tmp", siteContract("1.1.0", "b"))
	require.NoError(t, os.Rename(filepath.Join(dir, "site.events.schema.json.tmp"), filepath.Join(dir, "site.events.schema.json")))
	s.shared.poll()
	assert.Same(t, first, s.Set(), "a change is not taken before it has settled")
	write(t, dir, "other.events.schema.json", siteContract("1.0.0", "c"))
	s.shared.poll()
	assert.Same(t, first, s.Set())
	s.shared.poll()
	assert.Equal(t, []Reload{{Changed: []string{"other.events", "site.events"}}}, rec.take())
	assert.Equal(t, "1.1.0", version(t, s.Set(), "site.events"))
	assert.Equal(t, "1.0.0", version(t, first, "site.events"), "a set does not change under its user")

	// A broken file is refused with its name, once, and nothing is taken.
	second := s.Set()
	write(t, dir, "site.events.schema.json", `{"type":"object"`)
	write(t, dir, "other.events.schema.json", siteContract("2.0.0", "c"))
	settle(s)
	refused := rec.take()
	require.Len(t, refused, 1)
	assert.ErrorContains(t, refused[0].Err, "loading contract site.events.schema.json")
	assert.ErrorContains(t, refused[0].Err, dir)
	assert.Same(t, second, s.Set(), "the old set stays")
	settle(s)
	assert.Empty(t, rec.take(), "a refusal is told once")

	// Repaired: both changes come in together.
	write(t, dir, "site.events.schema.json", siteContract("1.2.0", "b"))
	settle(s)
	assert.Equal(t, []Reload{{Changed: []string{"other.events", "site.events"}}}, rec.take())
	assert.Equal(t, "1.2.0", version(t, s.Set(), "site.events"))
	assert.Equal(t, "2.0.0", version(t, s.Set(), "other.events"))

	// A removed override gives the embedded contract back.
	require.NoError(t, os.Remove(filepath.Join(dir, "raw.gps.schema.json")))
	settle(s)
	assert.Equal(t, []Reload{{Changed: []string{"raw.gps"}}}, rec.take())
	assert.Equal(t, "1.0.0", version(t, s.Set(), "raw.gps"))

	// A directory that is gone or empty is a fault of the site, not a wish.
	third := s.Set()
	require.NoError(t, os.Rename(dir, dir+".away"))
	settle(s)
	gone := rec.take()
	require.Len(t, gone, 1)
	assert.ErrorIs(t, gone[0].Err, os.ErrNotExist)
	assert.Same(t, third, s.Set())
	require.NoError(t, os.Rename(dir+".away", dir))
	settle(s)
	assert.Empty(t, rec.take()[0].Err, "told that it is well again")
}

// Kubernetes swaps the symlink ..data, through which all files are seen.
func TestSourceSymlinkSwap(t *testing.T) {
	root := t.TempDir()
	for v, field := range map[string]string{"..v1": "a", "..v2": "b"} {
		require.NoError(t, os.Mkdir(filepath.Join(root, v), 0o700))
		write(t, filepath.Join(root, v), "site.events.schema.json", siteContract("1.0.0"+v[2:], field))
	}
	require.NoError(t, os.Symlink("..v1", filepath.Join(root, "..data")))
	require.NoError(t, os.Symlink(filepath.Join("..data", "site.events.schema.json"), filepath.Join(root, "site.events.schema.json")))
	s, err := open(root, time.Hour, nil)
	require.NoError(t, err)
	defer s.Close()
	assert.Equal(t, "1.0.0v1", version(t, s.Set(), "site.events"))

	require.NoError(t, os.Symlink("..v2", filepath.Join(root, "..data_tmp")))
	require.NoError(t, os.Rename(filepath.Join(root, "..data_tmp"), filepath.Join(root, "..data")))
	settle(s)
	assert.Equal(t, "1.0.0v2", version(t, s.Set(), "site.events"))
}

func TestSourceOpenErrors(t *testing.T) {
	dir := t.TempDir()
	_, err := Open(filepath.Join(dir, "none"), nil)
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = Open(dir, nil)
	require.ErrorIs(t, err, ErrNoContracts)
	require.ErrorContains(t, err, dir)
	write(t, dir, "x.schema.json", `[]`)
	_, err = Open(dir, nil)
	require.ErrorContains(t, err, "x.schema.json")
	assert.Empty(t, sources.byDir, "a refused directory is not kept")
}

func TestSourcesShare(t *testing.T) {
	a, err := Open("", nil)
	require.NoError(t, err)
	b, err := Open("", nil)
	require.NoError(t, err)
	assert.Same(t, a.Set(), b.Set())
	a.Close()

	dir := t.TempDir()
	write(t, dir, "site.events.schema.json", siteContract("1.0.0", "a"))
	one, err := Open(dir, nil)
	require.NoError(t, err)
	t.Chdir(filepath.Dir(dir))
	two, err := Open(filepath.Base(dir), nil)
	require.NoError(t, err)
	assert.Same(t, one.Set(), two.Set(), "one directory, one set")
	done := one.shared.done
	one.Close()
	one.Close()
	select {
	case <-done:
		t.Fatal("the watch ended while the directory is in use")
	default:
	}
	two.Close()
	<-done
	assert.Empty(t, sources.byDir)
}

// The watch itself, on a real clock; and readers that never see half a set.
func TestSourceWatches(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "one.events.schema.json", siteContract("1", "a"))
	write(t, dir, "two.events.schema.json", siteContract("1", "a"))
	reloads := make(chan Reload, 16)
	s, err := open(dir, time.Millisecond, func(r Reload) { reloads <- r })
	require.NoError(t, err)
	defer s.Close()

	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				set := s.Set()
				one, _ := set.Contract("one.events")
				res := one.Validate([]byte(`{"a":1}`), Options{})
				if !res.Valid() || one.Version() == "broken" {
					t.Errorf("version %s: %v", one.Version(), res.Violations)
					return
				}
			}
		})
	}
	for _, v := range []string{"2", "broken", "3"} {
		text := siteContract(v, "a")
		if v == "broken" {
			text = `{"x-version":"broken","type":"nothing"}`
		}
		tmp := filepath.Join(t.TempDir(), "new")
		require.NoError(t, os.WriteFile(tmp, []byte(text), 0o600))
		require.NoError(t, os.Rename(tmp, filepath.Join(dir, "one.events.schema.json")))
		select {
		case r := <-reloads:
			assert.Equalf(t, v == "broken", r.Err != nil, "version %s: %v", v, r.Err)
		case <-time.After(30 * time.Second):
			t.Fatalf("waited 30 s for version %s to be seen", v)
		}
	}
	assert.Equal(t, "3", version(t, s.Set(), "one.events"))
	close(stop)
	readers.Wait()
}
