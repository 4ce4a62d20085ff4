// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

// Package compose holds the checks of docker-compose.yml and its helpers.
package compose

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"
)

type composeFile struct {
	Services map[string]service `yaml:"services"`
	Networks map[string]struct {
		Internal bool `yaml:"internal"`
	} `yaml:"networks"`
	Volumes map[string]any `yaml:"volumes"`
	Secrets map[string]struct {
		File string `yaml:"file"`
	} `yaml:"secrets"`
}

type service struct {
	Image       string            `yaml:"image"`
	Build       any               `yaml:"build"`
	Restart     string            `yaml:"restart"`
	User        string            `yaml:"user"`
	ReadOnly    bool              `yaml:"read_only"`
	CapDrop     []string          `yaml:"cap_drop"`
	SecurityOpt []string          `yaml:"security_opt"`
	Command     []string          `yaml:"command"`
	Environment map[string]string `yaml:"environment"`
	Secrets     []string          `yaml:"secrets"`
	Networks    []string          `yaml:"networks"`
	Volumes     []string          `yaml:"volumes"`
	Ports       []string          `yaml:"ports"`
	DependsOn   map[string]struct {
		Condition string `yaml:"condition"`
	} `yaml:"depends_on"`
	Healthcheck *struct {
		Test    []string `yaml:"test"`
		Disable bool     `yaml:"disable"`
	} `yaml:"healthcheck"`
}

// oneShot tells whether a service does its work and ends.
func (s service) oneShot() bool { return s.Restart == "no" }

func readCompose(t *testing.T) (string, composeFile) {
	t.Helper()
	text, err := os.ReadFile("../../docker-compose.yml")
	require.NoError(t, err)
	var file composeFile
	require.NoError(t, yaml.Unmarshal(text, &file))
	require.NotEmpty(t, file.Services)
	return string(text), file
}

func TestServices(t *testing.T) {
	_, file := readCompose(t)
	pinned := regexp.MustCompile(`^[a-z0-9./-]+:v?[0-9]+\.[0-9]+(\.[0-9]+)?[a-z0-9.-]*(@sha256:[0-9a-f]{64})?$`)
	usedSecrets := map[string]bool{}
	for name, s := range file.Services {
		if s.Build == nil {
			assert.Regexp(t, pinned, s.Image, "%s: an image with an exact version", name)
		}
		if s.oneShot() {
			for other, o := range file.Services {
				if dep, ok := o.DependsOn[name]; ok {
					assert.Equal(t, "service_completed_successfully", dep.Condition, "%s waits for %s", other, name)
				}
			}
		} else if assert.NotNil(t, s.Healthcheck, "%s: a health check", name) {
			assert.False(t, s.Healthcheck.Disable, name)
			assert.Greater(t, len(s.Healthcheck.Test), 1, name)
		}
		for dep, d := range s.DependsOn {
			require.Contains(t, file.Services, dep, name)
			if !file.Services[dep].oneShot() {
				assert.Equal(t, "service_healthy", d.Condition, "%s waits for %s", name, dep)
			}
		}
		assert.Contains(t, s.SecurityOpt, "no-new-privileges:true", name)
		assert.NotEmpty(t, s.Networks, name)
		published := len(s.Ports) > 0
		reachesOut := false
		for _, network := range s.Networks {
			require.Contains(t, file.Networks, network, name)
			reachesOut = reachesOut || !file.Networks[network].Internal
		}
		assert.Equal(t, published, reachesOut, "%s: a published port needs a network with a way out, and nothing else does", name)
		for _, port := range s.Ports {
			assert.True(t, strings.HasPrefix(port, "${BIND_ADDRESS:-127.0.0.1}:"), "%s publishes %s on this machine only unless asked otherwise", name, port)
		}
		for _, volume := range s.Volumes {
			source, _, _ := strings.Cut(volume, ":")
			assert.Contains(t, file.Volumes, source, name)
		}
		for _, secret := range s.Secrets {
			assert.Contains(t, file.Secrets, secret, name)
			usedSecrets[secret] = true
		}
		for key, value := range s.Environment {
			if strings.HasSuffix(key, "_FILE") {
				secret, ok := strings.CutPrefix(value, "/run/secrets/")
				assert.True(t, ok, "%s: %s", name, key)
				assert.Contains(t, s.Secrets, secret, "%s: %s", name, key)
				continue
			}
			assert.NotRegexp(t, `(?i)password|secret_key|token`, key, "%s: a secret belongs in a file", name)
		}
	}
	for secret := range file.Secrets {
		assert.True(t, usedSecrets[secret], "secret %s is used by a service", secret)
	}
}

func TestOurContainersAreLockedDown(t *testing.T) {
	_, file := readCompose(t)
	ours := 0
	for name, s := range file.Services {
		if s.Build == nil {
			continue
		}
		ours++
		assert.Regexp(t, `^[1-9][0-9]*:[1-9][0-9]*$`, s.User, name)
		assert.True(t, s.ReadOnly, name)
		assert.Equal(t, []string{"ALL"}, s.CapDrop, name)
	}
	assert.Equal(t, 2, ours, "the worker and the one that applies topics")
}

// TestSharedSubscriptions shows that the filters reach the worker with their
// dollar sign, both by default and from the settings file.
func TestSharedSubscriptions(t *testing.T) {
	text, file := readCompose(t)
	const want = "$share/ingestors/devices/#,$share/ingestors/wildfi/#"
	setting := file.Services["worker"].Environment["MQTT_TOPICS"]

	got, err := interpolate(setting, nil)
	require.NoError(t, err)
	assert.Equal(t, want, got)

	env := readEnvExample(t)
	got, err = interpolate(setting, env)
	require.NoError(t, err)
	assert.Equal(t, want, got)

	// Nowhere else may a dollar sign be taken for a variable that nobody set.
	_, err = interpolate(regexp.MustCompile(`(?m)^\s*#.*$`).ReplaceAllString(text, ""), nil)
	require.NoError(t, err)
}

func TestEnvExampleNamesEverySetting(t *testing.T) {
	text, _ := readCompose(t)
	defaults := map[string]string{}
	for _, m := range regexp.MustCompile(`\$\{([A-Z0-9_]+):-([^}]*)\}`).FindAllStringSubmatch(text, -1) {
		value := strings.ReplaceAll(m[2], "$$", "$")
		if before, ok := defaults[m[1]]; ok {
			assert.Equal(t, before, value, "defaults of %s", m[1])
		}
		defaults[m[1]] = value
	}
	assert.Equal(t, defaults, readEnvExample(t), "names and defaults in docker-compose.yml and .env.example")
}

// readEnvExample reads the settings file by the rules of Compose, as far as it
// uses them: a value in single quotes is literal, others are interpolated.
func readEnvExample(t *testing.T) map[string]string {
	t.Helper()
	content, err := os.ReadFile(".env.example")
	require.NoError(t, err)
	env := map[string]string{}
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		require.True(t, ok, line)
		if literal, quoted := strings.CutPrefix(value, "'"); quoted {
			value, quoted = strings.CutSuffix(literal, "'")
			require.True(t, quoted, line)
		} else {
			value, err = interpolate(value, nil)
			require.NoError(t, err, "%s: put it in single quotes", line)
		}
		env[name] = value
	}
	return env
}

// interpolate expands $$ and ${NAME:-default} as Compose does. Other forms are
// errors here: in this project they can only be a slip.
func interpolate(text string, env map[string]string) (string, error) {
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] != '$':
			out.WriteByte(text[i])
		case strings.HasPrefix(text[i:], "$$"):
			out.WriteByte('$')
			i++
		case strings.HasPrefix(text[i:], "${"):
			end := strings.IndexByte(text[i:], '}')
			name, fallback, ok := strings.Cut(text[i+2:max(i+2, i+end)], ":-")
			if end < 0 || !ok {
				return "", fmt.Errorf("interpolating %q: no ${NAME:-default} at byte %d", text, i)
			}
			value := env[name]
			if value == "" {
				var err error
				if value, err = interpolate(fallback, env); err != nil {
					return "", err
				}
			}
			out.WriteString(value)
			i += end
		default:
			return "", fmt.Errorf("interpolating %q: a single $ at byte %d, write $$", text, i)
		}
	}
	return out.String(), nil
}

func TestMakeSecrets(t *testing.T) {
	_, file := readCompose(t)
	dir := filepath.Join(t.TempDir(), "secrets")
	run := func() {
		out, err := exec.CommandContext(t.Context(), "bash", "make-secrets.sh", dir).CombinedOutput()
		require.NoError(t, err, string(out))
	}
	read := func() map[string]string {
		contents := map[string]string{}
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		for _, entry := range entries {
			content, err := os.ReadFile(filepath.Join(dir, entry.Name()))
			require.NoError(t, err)
			contents[entry.Name()] = string(content)
			info, err := entry.Info()
			require.NoError(t, err)
			assert.Equal(t, os.FileMode(0o644), info.Mode().Perm(), "%s is readable inside a container", entry.Name())
		}
		return contents
	}

	run()
	first := read()
	info, err := os.Stat(dir)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o700), info.Mode().Perm(), "nobody else on the machine may enter")
	for name, secret := range file.Secrets {
		base, ok := strings.CutPrefix(secret.File, "./secrets/")
		require.True(t, ok, name)
		assert.NotEmpty(t, first[base], "%s is made by the script", secret.File)
	}
	values := map[string]bool{}
	for name, value := range first {
		if strings.HasSuffix(name, ".txt") {
			// No character that YAML, JSON, a shell or the broker's script would read.
			assert.Regexp(t, `^[0-9a-f]{40}$`, value, name)
			values[value] = true
		}
	}
	assert.Len(t, values, 4, "each secret is another")
	var users struct {
		Identities []struct {
			Credentials []struct{ AccessKey, SecretKey string }
		}
	}
	require.NoError(t, json.Unmarshal([]byte(first["seaweedfs_s3.json"]), &users))
	require.Len(t, users.Identities, 1)
	assert.Equal(t, first["s3_access_key.txt"], users.Identities[0].Credentials[0].AccessKey)
	assert.Equal(t, first["s3_secret_key.txt"], users.Identities[0].Credentials[0].SecretKey)

	run()
	assert.Equal(t, first, read(), "a second run changes nothing")

	require.NoError(t, os.Remove(filepath.Join(dir, "mqtt_password.txt")))
	run()
	again := read()
	assert.NotEqual(t, first["mqtt_password.txt"], again["mqtt_password.txt"])
	assert.Equal(t, first["timescaledb_password.txt"], again["timescaledb_password.txt"])
}

// TestWorkerSettingsAreRead compares what the worker is told with what its
// pipeline asks for.
func TestWorkerSettingsAreRead(t *testing.T) {
	_, file := readCompose(t)
	worker := file.Services["worker"]
	require.Len(t, worker.Command, 2)
	pipeline, err := os.ReadFile(filepath.Join("../..", worker.Command[1]))
	require.NoError(t, err)
	for name := range worker.Environment {
		name = strings.TrimSuffix(name, "_FILE")
		assert.Contains(t, string(pipeline), "${"+name+":", "%s reads %s", worker.Command[1], name)
	}
}

func TestDockerfile(t *testing.T) {
	content, err := os.ReadFile("../Dockerfile")
	require.NoError(t, err)
	mod, err := os.ReadFile("../../go.mod")
	require.NoError(t, err)
	goVersion := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(string(mod))
	require.NotNil(t, goVersion)

	from := regexp.MustCompile(`(?m)^FROM (\S+)`).FindAllStringSubmatch(string(content), -1)
	require.Len(t, from, 2)
	assert.Regexp(t, `^golang:`+regexp.QuoteMeta(goVersion[1])+`\.\d+$`, from[0][1], "the Go of go.mod")
	assert.Equal(t, "scratch", from[1][1])
	assert.Regexp(t, `(?m)^USER [1-9][0-9]*:[1-9][0-9]*$`, string(content), "a numeric user that is not root")

	ignored, err := os.ReadFile("../Dockerfile.dockerignore")
	require.NoError(t, err)
	for _, name := range []string{"secrets", ".env", ".git"} {
		assert.True(t, slices.Contains(strings.Split(string(ignored), "\n"), name), "%s stays out of the image", name)
	}
}
