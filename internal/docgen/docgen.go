// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

// Package docgen writes the README beside each component of this distribution
// from the component's own specification, so that the documentation, the
// defaults and the linter cannot drift apart.
package docgen

import (
	"bytes"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/redpanda-data/benthos/v4/public/bloblang"
	"github.com/redpanda-data/benthos/v4/public/service"

	_ "github.com/redpanda-data/benthos/v4/public/components/pure"

	_ "github.com/dealiot/dealiot-connect/plugins/bloblfunc"
	_ "github.com/dealiot/dealiot-connect/plugins/contract"
	_ "github.com/dealiot/dealiot-connect/plugins/deadletter"
	_ "github.com/dealiot/dealiot-connect/plugins/deviceevent"
	_ "github.com/dealiot/dealiot-connect/plugins/mqtt5"
	_ "github.com/dealiot/dealiot-connect/plugins/wildfi"
)

//go:generate go run ./cmd ../..

// Kind is what a component is to the engine.
type Kind string

// The kinds of components that this distribution has.
const (
	Input     Kind = "input"
	Processor Kind = "processor"
	Output    Kind = "output"
	Scanner   Kind = "scanner"
	Function  Kind = "function" // of Bloblang
)

// Component is one component of this distribution.
type Component struct {
	Kind Kind
	Name string
	Dir  string // folder below the root of the repository
}

// Components lists the components of this distribution, in the order in which
// the README of a folder shows them. plugins/conformance_test.go compares the
// list with what the folders register.
var Components = []Component{
	{Input, "mqtt5", "plugins/mqtt5"},
	{Processor, "device_event", "plugins/deviceevent"},
	{Processor, "contract_validate", "plugins/contract"},
	{Processor, "dead_letter", "plugins/deadletter"},
	{Processor, "wildfi_decode", "plugins/wildfi"},
	{Scanner, "wildfi", "plugins/wildfi"},
	{Function, "kafka_topic", "plugins/bloblfunc"},
	{Function, "device_id", "plugins/bloblfunc"},
	{Function, "event_id", "plugins/bloblfunc"},
}

// View finds the specification of a component other than a function.
func View(c Component) (*service.ConfigView, error) {
	env := service.GlobalEnvironment()
	walk, ok := map[Kind]func(func(string, *service.ConfigView)){
		Input:     env.WalkInputs,
		Processor: env.WalkProcessors,
		Output:    env.WalkOutputs,
		Scanner:   env.WalkScanners,
	}[c.Kind]
	if !ok {
		return nil, fmt.Errorf("looking for %s %s: specifications of this kind are not components'", c.Kind, c.Name)
	}
	var found *service.ConfigView
	walk(func(name string, view *service.ConfigView) {
		if name == c.Name {
			found = view
		}
	})
	if found == nil {
		return nil, fmt.Errorf("looking for %s %s: nothing has registered it", c.Kind, c.Name)
	}
	return found, nil
}

// FunctionData finds the specification of a Bloblang function.
func FunctionData(name string) (bloblang.TemplateFunctionData, error) {
	var found *bloblang.FunctionView
	bloblang.GlobalEnvironment().WalkFunctions(func(n string, view *bloblang.FunctionView) {
		if n == name {
			found = view
		}
	})
	if found == nil {
		return bloblang.TemplateFunctionData{}, fmt.Errorf("looking for function %s: nothing has registered it", name)
	}
	return found.TemplateData(), nil
}

// Files renders all READMEs, by their path below the root of the repository.
func Files() (map[string][]byte, error) {
	files := map[string][]byte{}
	var dirs []string
	for _, c := range Components {
		if !slices.Contains(dirs, c.Dir) {
			dirs = append(dirs, c.Dir)
		}
	}
	for _, dir := range dirs {
		var b bytes.Buffer
		var functions []Component
		for _, c := range Components {
			switch {
			case c.Dir != dir:
			case c.Kind == Function:
				functions = append(functions, c)
			default:
				if err := component(&b, c); err != nil {
					return nil, err
				}
			}
		}
		if len(functions) > 0 {
			if err := functionList(&b, functions); err != nil {
				return nil, err
			}
		}
		files[path.Join(dir, "README.md")] = b.Bytes()
	}
	return files, nil
}

const notice = "<!-- Generated from the specification in the code by `make generate`: change it there. -->\n\n"

func component(b *bytes.Buffer, c Component) error {
	view, err := View(c)
	if err != nil {
		return err
	}
	data, err := view.TemplateData()
	if err != nil {
		return fmt.Errorf("reading specification of %s %s: %w", c.Kind, c.Name, err)
	}
	fmt.Fprintf(b, "# %s\n\n%sA %s, since version %s.\n\n%s\n\n", c.Name, notice, c.Kind, data.Version, markdown(data.Summary, c.Dir))
	fmt.Fprintf(b, "```yaml\n%s```\n\n", nest(c.Kind, data.AdvancedConfigYAML))
	fmt.Fprintf(b, "%s\n\n", strings.TrimSpace(markdown(data.Description, c.Dir)))

	if len(data.Fields) > 0 {
		b.WriteString("## Fields\n\n| field | type | default | |\n|---|---|---|---|\n")
		for _, f := range data.Fields {
			kind := f.Type
			if f.IsInterpolated {
				kind += ", with [interpolation](https://docs.redpanda.com/redpanda-connect/configuration/interpolation/)"
			}
			if f.IsSecret {
				kind += ", secret"
			}
			text := markdown(f.Description, c.Dir)
			for _, o := range f.AnnotatedOptions {
				text += fmt.Sprintf("\n`%s`: %s", o[0], markdown(o[1], c.Dir))
			}
			if len(f.Options) > 0 {
				text += "\nOne of `" + strings.Join(f.Options, "`, `") + "`."
			}
			fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", f.FullName, cell(kind), defaultCell(f.DefaultMarshalled), cell(text))
		}
		b.WriteString("\n")
	}
	for i, e := range data.Examples {
		if i == 0 {
			b.WriteString("## Examples\n\n")
		}
		fmt.Fprintf(b, "### %s\n\n%s\n\n```yaml\n%s\n```\n\n", e.Title, markdown(e.Summary, c.Dir), strings.TrimSpace(e.Config))
	}
	trimEnd(b)
	return nil
}

func functionList(b *bytes.Buffer, functions []Component) error {
	fmt.Fprintf(b, "# Bloblang functions\n\n%s", notice)
	for _, c := range functions {
		data, err := FunctionData(c.Name)
		if err != nil {
			return err
		}
		var params []string
		for _, p := range data.Params.Definitions {
			params = append(params, p.Name)
		}
		fmt.Fprintf(b, "## %s\n\n`%s(%s)`, since version %s.\n\n%s\n\n", c.Name, c.Name, strings.Join(params, ", "), data.Version, strings.TrimSpace(data.Description))
		if len(params) > 0 {
			b.WriteString("| parameter | type | |\n|---|---|---|\n")
			for _, p := range data.Params.Definitions {
				fmt.Fprintf(b, "| `%s` | %s | %s |\n", p.Name, p.ValueType, cell(p.Description))
			}
			b.WriteString("\n")
		}
		for _, e := range data.Examples {
			if e.Summary != "" {
				fmt.Fprintf(b, "%s\n\n", e.Summary)
			}
			fmt.Fprintf(b, "```coffee\n%s\n", strings.TrimSpace(e.Mapping))
			for _, r := range e.Results {
				fmt.Fprintf(b, "\n# In:  %s\n# Out: %s\n", r[0], r[1])
			}
			b.WriteString("```\n\n")
		}
	}
	trimEnd(b)
	return nil
}

func trimEnd(b *bytes.Buffer) {
	b.Truncate(len(bytes.TrimRight(b.Bytes(), "\n")))
	b.WriteByte('\n')
}

// nest puts a component's settings where they stand in a pipeline.
func nest(kind Kind, config string) string {
	if kind != Processor {
		return config
	}
	var b strings.Builder
	b.WriteString("pipeline:\n  processors:\n")
	lead := "    - "
	for line := range strings.Lines(config) {
		b.WriteString(lead + line)
		lead = "      "
	}
	return b.String()
}

var (
	heading = regexp.MustCompile(`(?m)^(=+) `)
	xref    = regexp.MustCompile(`xref:([^\[\s]+)\[([^\]]*)\]`)
	link    = regexp.MustCompile(`(https?://[^\s\[\]]+)\[([^\]^]*)\^?\]`)
)

// markdown turns the AsciiDoc of a specification into Markdown as far as ours
// use it: headings, links, and references to components.
func markdown(text, dir string) string {
	text = heading.ReplaceAllStringFunc(text, func(mark string) string { return strings.Repeat("#", len(mark)-1) + " " })
	text = xref.ReplaceAllStringFunc(text, func(ref string) string {
		m := xref.FindStringSubmatch(ref)
		name := strings.TrimSuffix(path.Base(m[1]), ".adoc")
		for _, c := range Components {
			if c.Name == name && c.Kind != Function {
				return fmt.Sprintf("[%s](%s)", m[2], path.Join(strings.Repeat("../", strings.Count(dir, "/")+1), c.Dir, "README.md"))
			}
		}
		return m[2]
	})
	return link.ReplaceAllString(text, "[$2]($1)")
}

// cell makes text fit into a cell of a table.
func cell(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(strings.TrimSpace(text), "|", `\|`), "\n", "<br>")
}

// defaultCell shows a default, unless the configuration above shows it better.
func defaultCell(value string) string {
	switch {
	case value == "":
		return ""
	case len(value) > 60:
		return "see above"
	}
	return "`" + strings.ReplaceAll(value, "|", `\|`) + "`"
}
