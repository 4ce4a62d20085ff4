// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package devstack

import "strings"

// exposition puts metrics of several pipelines together. The text format (see
// prometheus.io/docs/instrumenting/exposition_formats) wants all samples of a
// metric in one group behind its HELP and TYPE, and no sample twice; so samples
// are regrouped and labelled with their pipeline, as the engine's streams mode
// does.
type exposition struct {
	order    []string // names of families as they first came
	families map[string]*family
}

type family struct {
	describedBy string // the pipeline whose comments are used; they are alike
	comments    []string
	samples     []string
}

func (e *exposition) add(stream, text string) {
	if e.families == nil {
		e.families = map[string]*family{}
	}
	current := "" // the family that the last comment was about
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if comment, ok := strings.CutPrefix(line, "# "); ok {
			words := strings.SplitN(comment, " ", 3)
			if len(words) < 3 || words[0] != "HELP" && words[0] != "TYPE" {
				continue
			}
			current = words[1]
			f := e.family(current)
			if f.describedBy == "" {
				f.describedBy = stream
			}
			if f.describedBy == stream {
				f.comments = append(f.comments, line)
			}
			continue
		}
		if line == "" {
			continue
		}
		name := line[:strings.IndexAny(line+" ", "{ ")]
		of := name
		if current != "" && strings.HasPrefix(name, current) {
			of = current // _bucket, _sum and _count belong to it
		}
		f := e.family(of)
		f.samples = append(f.samples, labelled(line, name, stream))
	}
}

func (e *exposition) family(name string) *family {
	f := e.families[name]
	if f == nil {
		f = &family{}
		e.families[name] = f
		e.order = append(e.order, name)
	}
	return f
}

// labelled adds the label stream to a sample.
func labelled(line, name, stream string) string {
	label := `stream="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(stream) + `"`
	rest := line[len(name):]
	switch {
	case strings.HasPrefix(rest, "{}"):
		return name + "{" + label + rest[1:]
	case strings.HasPrefix(rest, "{"):
		return name + "{" + label + "," + rest[1:]
	default:
		return name + "{" + label + "}" + rest
	}
}

func (e *exposition) text() string {
	var b strings.Builder
	for _, name := range e.order {
		for _, lines := range [][]string{e.families[name].comments, e.families[name].samples} {
			for _, line := range lines {
				b.WriteString(line)
				b.WriteByte('\n')
			}
		}
	}
	return b.String()
}
