// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

// Package plugins_test holds every component of this distribution to the same
// rules, whoever wrote it.
package plugins_test

import (
	"bytes"
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"github.com/redpanda-data/benthos/v4/public/bloblang"
	"github.com/redpanda-data/benthos/v4/public/service"
	_ "github.com/redpanda-data/connect/v4/public/components/io"
	_ "github.com/redpanda-data/connect/v4/public/components/kafka"
	_ "github.com/redpanda-data/connect/v4/public/components/mqtt"

	"github.com/dealiot/dealiot-connect/internal/docgen"
	"github.com/dealiot/dealiot-connect/schemas"
)

var (
	versionPattern = regexp.MustCompile(`^\d+\.\d+\.\d+$`)
	// sitePath is a folder of a site's own; here it holds one contract.
	sitePath    = regexp.MustCompile(`/etc/dealiot-connect/[\w/.-]+`)
	namePattern = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
)

// packages parses the Go files of each folder below plugins: its tests, or all
// but its tests.
func packages(t *testing.T, tests bool) map[string][]*ast.File {
	t.Helper()
	pkgs := map[string][]*ast.File{}
	require.NoError(t, filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") != tests {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(filepath.Join("plugins", filepath.Dir(path)))
		pkgs[dir] = append(pkgs[dir], file)
		return nil
	}))
	require.Greater(t, len(pkgs), 3)
	return pkgs
}

// registered finds what the code of the folders registers with the engine: the
// names in calls of MustRegister….
func registered(t *testing.T) map[docgen.Component]bool {
	t.Helper()
	kinds := map[string]docgen.Kind{
		"MustRegisterInput": docgen.Input, "MustRegisterBatchInput": docgen.Input,
		"MustRegisterProcessor": docgen.Processor, "MustRegisterBatchProcessor": docgen.Processor,
		"MustRegisterOutput": docgen.Output, "MustRegisterBatchOutput": docgen.Output,
		"MustRegisterBatchScannerCreator": docgen.Scanner,
		"MustRegisterFunctionV2":          docgen.Function,
	}
	found := map[docgen.Component]bool{}
	for dir, files := range packages(t, false) {
		constants := map[string]string{}
		for _, file := range files {
			ast.Inspect(file, func(n ast.Node) bool {
				if spec, ok := n.(*ast.ValueSpec); ok {
					for i, name := range spec.Names {
						if i < len(spec.Values) {
							if text, ok := literal(spec.Values[i]); ok {
								constants[name.Name] = text
							}
						}
					}
				}
				return true
			})
		}
		for _, file := range files {
			ast.Inspect(file, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				selector, ok := call.Fun.(*ast.SelectorExpr)
				if !ok || !strings.HasPrefix(selector.Sel.Name, "MustRegister") && !strings.HasPrefix(selector.Sel.Name, "Register") {
					return true
				}
				kind, ok := kinds[selector.Sel.Name]
				if !assert.True(t, ok, "%s calls %s: register with one of the MustRegister functions that this test knows", dir, selector.Sel.Name) {
					return true
				}
				name, ok := literal(call.Args[0])
				if ident, isIdent := call.Args[0].(*ast.Ident); isIdent {
					name, ok = constants[ident.Name]
				}
				if assert.True(t, ok, "%s registers a %s whose name is neither a text nor a constant", dir, kind) {
					found[docgen.Component{Kind: kind, Name: name, Dir: dir}] = true
				}
				return true
			})
		}
	}
	return found
}

func literal(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(lit.Value)
	return text, err == nil
}

// TestComponentsAreListed: what the folders register and what has a README are
// the same.
func TestComponentsAreListed(t *testing.T) {
	found := registered(t)
	require.NotEmpty(t, found)
	listed := map[docgen.Component]bool{}
	for _, c := range docgen.Components {
		assert.False(t, listed[c], "%s %s stands twice in docgen.Components", c.Kind, c.Name)
		listed[c] = true
		assert.True(t, found[c], "docgen.Components has the %s %s in %s, where nothing registers it", c.Kind, c.Name, c.Dir)
	}
	for c := range found {
		assert.True(t, listed[c], "%s registers the %s %s: add it to docgen.Components", c.Dir, c.Kind, c.Name)
	}
}

func TestReadmesAreCurrent(t *testing.T) {
	files, err := docgen.Files()
	require.NoError(t, err)
	for name, want := range files {
		have, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(name)))
		require.NoError(t, err)
		assert.True(t, string(want) == string(have), "%s is stale: run make generate", name)
	}
}

func TestSpecifications(t *testing.T) {
	for _, c := range docgen.Components {
		t.Run(c.Name, func(t *testing.T) {
			assert.Regexp(t, namePattern, c.Name)
			if c.Kind == docgen.Function {
				data, err := docgen.FunctionData(c.Name)
				require.NoError(t, err)
				assert.NotEmpty(t, data.Description)
				assert.Regexp(t, versionPattern, data.Version)
				assert.NotEmpty(t, data.Examples, "examples")
				for _, p := range data.Params.Definitions {
					assert.NotEmpty(t, p.Description, "parameter %s", p.Name)
				}
				return
			}
			view, err := docgen.View(c)
			require.NoError(t, err)
			data, err := view.TemplateData()
			require.NoError(t, err)
			assert.NotEmpty(t, data.Summary)
			assert.NotContains(t, strings.TrimSpace(data.Summary), "\n", "the summary is one paragraph")
			assert.Greater(t, len(data.Description), 200, "the description")
			assert.Contains(t, data.Description, "== Metrics")
			assert.NotEmpty(t, data.Categories)
			assert.Regexp(t, versionPattern, data.Version)
			assert.NotEmpty(t, data.Examples, "examples")
			for _, f := range data.Fields {
				assert.NotContains(t, f.Description, "missing documentation", "field %s", f.FullName)
				assert.Regexp(t, namePattern, f.FullName[strings.LastIndex(f.FullName, ".")+1:], "field %s", f.FullName)
			}
		})
	}
}

// TestExamples: what a user copies out of the documentation lints, and its
// components can be made.
func TestExamples(t *testing.T) {
	for _, c := range docgen.Components {
		if c.Kind == docgen.Function {
			testFunctionExamples(t, c)
			continue
		}
		view, err := docgen.View(c)
		require.NoError(t, err)
		data, err := view.TemplateData()
		require.NoError(t, err)
		for _, example := range data.Examples {
			t.Run(c.Name+"/"+example.Title, func(t *testing.T) {
				lints, err := service.GlobalEnvironment().FullConfigSchema("", "").NewStreamConfigLinter().LintYAML([]byte(example.Config))
				require.NoError(t, err)
				require.Empty(t, lints)
				assert.Contains(t, example.Config, c.Name+":")

				var doc struct {
					Input    map[string]any `yaml:"input"`
					Output   map[string]any `yaml:"output"`
					Pipeline struct {
						Processors []map[string]any `yaml:"processors"`
					} `yaml:"pipeline"`
				}
				site := t.TempDir()
				contract, err := schemas.FS.ReadFile("raw.gps.schema.json")
				require.NoError(t, err)
				require.NoError(t, os.WriteFile(filepath.Join(site, "raw.gps.schema.json"), contract, 0o600))
				config := sitePath.ReplaceAllLiteralString(example.Config, site)
				require.NoError(t, yaml.Unmarshal([]byte(config), &doc))
				builder := service.NewResourceBuilder()
				labels := map[string]string{}
				add := func(add func(string) error, role string, component map[string]any) {
					if component == nil {
						return
					}
					if component["label"] == nil {
						component["label"] = role
					}
					labels[role] = component["label"].(string)
					text, err := yaml.Marshal(component)
					require.NoError(t, err)
					require.NoError(t, add(string(text)))
				}
				for i, p := range doc.Pipeline.Processors {
					add(builder.AddProcessorYAML, "processor_"+strconv.Itoa(i), p)
				}
				add(builder.AddInputYAML, "input", doc.Input)
				add(builder.AddOutputYAML, "output", doc.Output)
				res, stop, err := builder.BuildSuspended()
				require.NoError(t, err)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				// The engine makes a resource when it is first asked for.
				for role, label := range labels {
					switch role {
					case "input":
						err = res.AccessInput(ctx, label, func(*service.ResourceInput) {})
					case "output":
						err = res.AccessOutput(ctx, label, func(*service.ResourceOutput) {})
					default:
						err = res.AccessProcessor(ctx, label, func(*service.ResourceProcessor) {})
					}
					require.NoError(t, err, "making the %s", role)
				}
				// An output that was never fed waits for its feed to end, so it
				// is not waited for.
				cancel()
				_ = stop(ctx)
			})
		}
	}
}

func testFunctionExamples(t *testing.T, c docgen.Component) {
	data, err := docgen.FunctionData(c.Name)
	require.NoError(t, err)
	for i, example := range data.Examples {
		t.Run(c.Name+"/"+strconv.Itoa(i), func(t *testing.T) {
			mapping, err := bloblang.Parse(example.Mapping)
			require.NoError(t, err)
			require.NotEmpty(t, example.Results)
			for _, result := range example.Results {
				var in any
				require.NoError(t, yaml.Unmarshal([]byte(result[0]), &in))
				out, err := mapping.Query(in)
				require.NoError(t, err)
				var want any
				require.NoError(t, yaml.Unmarshal([]byte(result[1]), &want))
				assert.Equal(t, want, out)
			}
		})
	}
}

// TestConfigurationsInReadmes: the full configuration at the top of a README
// lints too, with nothing set otherwise than by default.
func TestConfigurationsInReadmes(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```")
	files, err := docgen.Files()
	require.NoError(t, err)
	linter := service.GlobalEnvironment().FullConfigSchema("", "").NewStreamConfigLinter()
	n := 0
	for name, text := range files {
		for _, block := range blocks.FindAllSubmatch(text, -1) {
			n++
			config := block[1]
			for _, c := range docgen.Components {
				// A scanner's fields are part of an input.
				if c.Kind == docgen.Scanner && bytes.HasPrefix(config, []byte(c.Name+":")) {
					config = append([]byte("input:\n  file:\n    paths: [ log.bin ]\n    scanner:\n      "), bytes.ReplaceAll(config, []byte("\n"), []byte("\n      "))...)
				}
			}
			lints, err := linter.LintYAML(config)
			require.NoError(t, err, name)
			assert.Empty(t, lints, "%s\n%s", name, block[1])
		}
	}
	require.NotZero(t, n)
}

// readsForeignBytes are the folders whose code is handed bytes that nobody has
// checked before.
var readsForeignBytes = []string{"plugins/contract", "plugins/deadletter", "plugins/deviceevent", "plugins/event", "plugins/jsonscan", "plugins/mqtt5", "plugins/route", "plugins/wildfi"}

// TestFuzzTargets: whatever reads foreign bytes has a fuzz target.
func TestFuzzTargets(t *testing.T) {
	pkgs := packages(t, true)
	for _, dir := range readsForeignBytes {
		files, ok := pkgs[dir]
		require.True(t, ok, "%s has no tests", dir)
		var targets []string
		for _, file := range files {
			for _, decl := range file.Decls {
				if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Fuzz") {
					targets = append(targets, f.Name.Name)
				}
			}
		}
		assert.NotEmpty(t, targets, "%s has no fuzz target", dir)
	}
}

// TestLayers: pure packages import nothing of the engine, and no plugin imports
// the wiring of another one.
func TestLayers(t *testing.T) {
	const own = "github.com/dealiot/dealiot-connect/"
	wiring := map[string]bool{}
	for c := range registered(t) {
		wiring[c.Dir] = true
	}
	for dir, files := range packages(t, false) {
		for _, file := range files {
			for _, spec := range file.Imports {
				imported, err := strconv.Unquote(spec.Path.Value)
				require.NoError(t, err)
				if strings.HasPrefix(imported, "github.com/redpanda-data/") {
					assert.True(t, wiring[dir], "%s registers no component, yet imports %s", dir, imported)
				}
				if below, ok := strings.CutPrefix(imported, own); ok {
					assert.False(t, wiring[below], "%s imports %s, the wiring of another component", dir, below)
					assert.False(t, strings.HasPrefix(below, "internal/") || strings.HasPrefix(below, "cmd/"), "%s imports %s, which is above it", dir, below)
				}
			}
		}
	}
}
