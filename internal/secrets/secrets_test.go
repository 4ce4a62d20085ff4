// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package secrets

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func lookupIn(env map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		value, ok := env[name]
		return value, ok
	}
}

func TestLookup(t *testing.T) {
	root := t.TempDir()
	allowed := filepath.Join(root, "allowed")
	write := func(path, content string) string {
		path = filepath.Join(root, path)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	link := func(target, path string) string {
		path = filepath.Join(root, path)
		require.NoError(t, os.Symlink(target, path))
		return path
	}
	password := write("allowed/password", "  correct horse \r\n")
	nested := write("allowed/kafka/password", "nested")
	empty := write("allowed/empty", " \n")
	big := write("allowed/big", strings.Repeat("x", MaxFileBytes+1))
	full := write("allowed/full", strings.Repeat("x", MaxFileBytes))
	outside := write("outside/password", "not for you")
	sibling := write("allowed-too/password", "same prefix, other folder")
	inward := link(password, "outside/inward")
	outward := link(outside, "allowed/outward")
	aliasDir := link(allowed, "alias")
	pipe := filepath.Join(allowed, "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))

	tests := []struct {
		name        string
		env         map[string]string
		dirs        []string
		want        string
		found       bool
		errContains []string
	}{
		{name: "nothing set"},
		{name: "value", env: map[string]string{"PW": "plain"}, want: "plain", found: true},
		{name: "value keeps its white space", env: map[string]string{"PW": " a "}, want: " a ", found: true},
		{name: "empty value is set", env: map[string]string{"PW": ""}, found: true},
		{name: "empty file variable counts as unset", env: map[string]string{"PW_FILE": ""}},
		{name: "file", env: map[string]string{"PW_FILE": password}, want: "correct horse", found: true},
		{name: "value wins", env: map[string]string{"PW": "plain", "PW_FILE": password}, want: "plain", found: true},
		{name: "value wins over a file that is not there", env: map[string]string{"PW": "plain", "PW_FILE": "/nope"}, want: "plain", found: true},
		{name: "file wins over an empty value", env: map[string]string{"PW": "", "PW_FILE": password}, want: "correct horse", found: true},
		{name: "file in a folder below", env: map[string]string{"PW_FILE": nested}, want: "nested", found: true},
		{name: "path with dots", env: map[string]string{"PW_FILE": allowed + "/kafka/../password"}, want: "correct horse", found: true},
		{name: "link into the directory", env: map[string]string{"PW_FILE": inward}, want: "correct horse", found: true},
		{name: "directory given by a link", env: map[string]string{"PW_FILE": password}, dirs: []string{aliasDir}, want: "correct horse", found: true},
		{name: "file reached through a linked directory", env: map[string]string{"PW_FILE": aliasDir + "/password"}, want: "correct horse", found: true},
		{name: "second directory", env: map[string]string{"PW_FILE": password}, dirs: []string{"/does/not/exist", allowed}, want: "correct horse", found: true},
		{name: "largest file", env: map[string]string{"PW_FILE": full}, want: strings.Repeat("x", MaxFileBytes), found: true},

		{name: "outside", env: map[string]string{"PW_FILE": outside}, errContains: []string{"outside the secret directories", allowed, "DEALIOT_SECRET_DIRECTORIES"}},
		{name: "same prefix", env: map[string]string{"PW_FILE": sibling}, errContains: []string{"outside the secret directories"}},
		{name: "link out of the directory", env: map[string]string{"PW_FILE": outward}, errContains: []string{"outside the secret directories", outside}},
		{name: "climbing out", env: map[string]string{"PW_FILE": allowed + "/../outside/password"}, errContains: []string{"outside the secret directories"}},
		{name: "missing", env: map[string]string{"PW_FILE": allowed + "/nope"}, errContains: []string{"no such file", "create the file"}},
		{name: "no directories", env: map[string]string{"PW_FILE": password}, dirs: []string{}, errContains: []string{"outside the secret directories"}},
		{name: "empty file", env: map[string]string{"PW_FILE": empty}, errContains: []string{"it is empty"}},
		{name: "too large", env: map[string]string{"PW_FILE": big}, errContains: []string{"larger than 1048576 bytes"}},
		{name: "a directory", env: map[string]string{"PW_FILE": filepath.Dir(nested)}, errContains: []string{"not a regular file"}},
		{name: "the allowed directory itself", env: map[string]string{"PW_FILE": allowed}, errContains: []string{"outside the secret directories"}},
		{name: "a named pipe", env: map[string]string{"PW_FILE": pipe}, errContains: []string{"not a regular file"}},
		{name: "a NUL in the path", env: map[string]string{"PW_FILE": allowed + "/\x00"}, errContains: []string{"invalid argument"}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			dirs := tc.dirs
			if dirs == nil {
				dirs = []string{allowed}
			}
			value, found, err := Resolver{LookupEnv: lookupIn(tc.env), Directories: dirs}.Lookup("PW")
			if tc.errContains == nil {
				require.NoError(t, err)
				assert.Equal(t, tc.want, value)
				assert.Equal(t, tc.found, found)
				return
			}
			require.Error(t, err)
			assert.Empty(t, value)
			assert.False(t, found)
			for _, want := range append(tc.errContains, "secret PW", "PW_FILE=") {
				assert.Contains(t, err.Error(), want)
			}
			assert.NotContains(t, err.Error(), "not for you", "the content of a file")
		})
	}
}

func TestLookupUnreadableFile(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("SKIPPED: the superuser reads every file, so run this as an ordinary user")
	}
	path := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(path, []byte("x"), 0o000))
	_, _, err := Resolver{
		LookupEnv:   lookupIn(map[string]string{"PW_FILE": path}),
		Directories: []string{filepath.Dir(path)},
	}.Lookup("PW")
	assert.ErrorContains(t, err, "make it readable for user id")
}

func TestRelativeSecretsDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	require.NoError(t, os.Mkdir("secrets", 0o700))
	require.NoError(t, os.WriteFile("secrets/password", []byte("local"), 0o600))
	value, found, err := Resolver{
		LookupEnv:   lookupIn(map[string]string{"PW_FILE": "secrets/password"}),
		Directories: Directories(""),
	}.Lookup("PW")
	require.NoError(t, err)
	assert.True(t, found)
	assert.Equal(t, "local", value)
}

func TestDirectories(t *testing.T) {
	standard := []string{"/run/secrets", "/var/run/dealiot-secrets", "./secrets"}
	assert.Equal(t, standard, Directories(""))
	assert.Equal(t, standard, Directories(" : "))
	assert.Equal(t, append(standard, "/etc/a", "/etc/b"), Directories("/etc/a: /etc/b :"))
	assert.Equal(t, standard, Directories(""), "an earlier call must not leave its extra directories behind")
}
