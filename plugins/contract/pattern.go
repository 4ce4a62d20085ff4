// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"encoding/binary"
	"regexp"
	"regexp/syntax"
	"slices"
	"unicode/utf8"
)

// Bounds of a compiled pattern; a larger one is left to the library.
const (
	maxStates  = 512
	maxClasses = 128
)

// pattern is a regular expression as a deterministic automaton: one table
// look-up a character, no memory. It tells whether the expression matches
// somewhere in a text, as regexp.Regexp.MatchString does.
type pattern struct {
	ascii   [utf8.RuneSelf]uint8 // class of each ASCII character
	cuts    []rune               // where the expression begins to see characters differently
	class   []uint8              // class of the characters from each cut up to the next; [0] is below all
	classes int
	next    []uint16 // state*classes + class -> state
	final   []bool   // whether a text that ends in the state matches
	start   uint16
}

// matched is the state of a text that matches whatever follows.
const matched = 0

// newPattern compiles an expression; nil says that it needs more than an
// automaton of the bounded size, or looks at what stands around a character
// (line ends, word boundaries, letter case).
func newPattern(re *regexp.Regexp) *pattern {
	tree, err := syntax.Parse(re.String(), syntax.Perl)
	if err != nil {
		return nil
	}
	prog, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return nil
	}
	p := &pattern{}
	for i := range prog.Inst {
		switch in := &prog.Inst[i]; in.Op {
		case syntax.InstRune, syntax.InstRune1:
			if syntax.Flags(in.Arg)&syntax.FoldCase != 0 {
				return nil
			}
			if len(in.Rune) == 1 {
				p.cuts = append(p.cuts, in.Rune[0], in.Rune[0]+1)
				break
			}
			for j := 0; j+1 < len(in.Rune); j += 2 {
				p.cuts = append(p.cuts, in.Rune[j], in.Rune[j+1]+1)
			}
		case syntax.InstRuneAnyNotNL:
			p.cuts = append(p.cuts, '\n', '\n'+1)
		case syntax.InstEmptyWidth:
			if syntax.EmptyOp(in.Arg)&^(syntax.EmptyBeginText|syntax.EmptyEndText) != 0 {
				return nil
			}
		}
	}
	slices.Sort(p.cuts)
	p.cuts = slices.Compact(p.cuts)
	samples, ok := p.classify(prog)
	if !ok {
		return nil
	}
	for c := range p.ascii {
		p.ascii[c] = p.classOf(rune(c))
	}
	b := builder{pattern: p, prog: prog, samples: samples, ids: map[string]uint16{}}
	if !b.build() {
		return nil
	}
	return p
}

// classify numbers the stretches between cuts so that those which no part of
// the expression tells apart share a class. samples holds a character of each
// class.
func (p *pattern) classify(prog *syntax.Prog) (samples []rune, ok bool) {
	ids := map[string]uint8{}
	for i := -1; i < len(p.cuts); i++ {
		r := rune(0)
		if i >= 0 {
			r = p.cuts[i]
		}
		var sees []byte
		for j := range prog.Inst {
			switch in := &prog.Inst[j]; in.Op {
			case syntax.InstRune, syntax.InstRune1, syntax.InstRuneAny, syntax.InstRuneAnyNotNL:
				if in.MatchRune(r) {
					sees = append(sees, 1)
				} else {
					sees = append(sees, 0)
				}
			}
		}
		id, known := ids[string(sees)]
		if !known {
			if len(ids) == maxClasses {
				return nil, false
			}
			id = uint8(len(ids))
			ids[string(sees)] = id
			samples = append(samples, r)
		}
		p.class = append(p.class, id)
	}
	p.classes = len(samples)
	return samples, true
}

// classOf gives the class of a character.
func (p *pattern) classOf(r rune) uint8 {
	n, found := slices.BinarySearch(p.cuts, r)
	if found {
		n++
	}
	return p.class[n]
}

// match says whether the expression matches somewhere in the text, which is
// valid UTF-8.
func (p *pattern) match(text []byte) bool {
	state := int(p.start)
	for i := 0; i < len(text) && state != matched; {
		var class uint8
		if c := text[i]; c < utf8.RuneSelf {
			class = p.ascii[c]
			i++
		} else {
			r, n := utf8.DecodeRune(text[i:])
			class = p.classOf(r)
			i += n
		}
		state = int(p.next[state*p.classes+int(class)])
	}
	return p.final[state]
}

// builder turns the expression's program into an automaton by following, for
// every class of character, all its threads at once.
type builder struct {
	*pattern
	prog    *syntax.Prog
	samples []rune // a character of each class
	ids     map[string]uint16
	sets    [][]uint32 // state -> threads that wait there, not yet expanded
	mark    []bool     // instructions seen in the current expansion
	out     []uint32   // instructions that consume a character
}

func (b *builder) build() bool {
	b.mark = make([]bool, len(b.prog.Inst))
	// State 0 is matched. State 1 is the start; it has no entry in ids because
	// ^ holds there and in no later state, whatever its threads.
	b.start = matched + 1
	b.sets = [][]uint32{nil, {uint32(b.prog.Start)}}
	b.final = []bool{true}
	b.next = make([]uint16, b.classes)
	for state := int(b.start); state < len(b.sets); state++ {
		var begin syntax.EmptyOp
		if state == int(b.start) {
			begin = syntax.EmptyBeginText
		}
		b.final = append(b.final, b.expand(b.sets[state], begin|syntax.EmptyEndText))
		if b.expand(b.sets[state], begin) {
			b.final[state] = true
			for range b.classes {
				b.next = append(b.next, matched)
			}
			continue
		}
		waiting := slices.Clone(b.out)
		for _, r := range b.samples {
			// A match may begin at any character, so the start waits in
			// every state; ^ stops it at once.
			threads := []uint32{uint32(b.prog.Start)}
			for _, pc := range waiting {
				if in := &b.prog.Inst[pc]; in.MatchRune(r) {
					threads = append(threads, in.Out)
				}
			}
			to := b.state(threads)
			if len(b.sets) > maxStates {
				return false
			}
			b.next = append(b.next, to)
		}
	}
	return true
}

// state gives the state of a set of threads.
func (b *builder) state(threads []uint32) uint16 {
	slices.Sort(threads)
	threads = slices.Compact(threads)
	var key []byte
	for _, pc := range threads {
		key = binary.LittleEndian.AppendUint32(key, pc)
	}
	id, ok := b.ids[string(key)]
	if !ok {
		id = uint16(len(b.sets))
		b.ids[string(key)] = id
		b.sets = append(b.sets, threads)
	}
	return id
}

// expand follows the threads to the instructions that consume a character and
// reports whether one reaches the end of the expression.
func (b *builder) expand(threads []uint32, holds syntax.EmptyOp) (match bool) {
	clear(b.mark)
	b.out = b.out[:0]
	stack := slices.Clone(threads)
	for len(stack) > 0 {
		pc := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if b.mark[pc] {
			continue
		}
		b.mark[pc] = true
		switch in := &b.prog.Inst[pc]; in.Op {
		case syntax.InstMatch:
			match = true
		case syntax.InstAlt, syntax.InstAltMatch:
			stack = append(stack, in.Out, in.Arg)
		case syntax.InstCapture, syntax.InstNop:
			stack = append(stack, in.Out)
		case syntax.InstEmptyWidth:
			if syntax.EmptyOp(in.Arg)&^holds == 0 {
				stack = append(stack, in.Out)
			}
		case syntax.InstFail:
		default:
			b.out = append(b.out, pc)
		}
	}
	return match
}
