// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package contract

import (
	"errors"
	"fmt"

	"github.com/santhosh-tekuri/jsonschema/v5"

	"github.com/dealiot/dealiot-connect/plugins/event"
	"github.com/dealiot/dealiot-connect/plugins/jsonscan"
)

// Keywords of violations that no JSON Schema keyword stands for.
const (
	KeywordJSON      = "json"             // the text is not JSON
	KeywordLimit     = "limit"            // JSON beyond the limits of package jsonscan
	KeywordUnknown   = "unknown_contract" // the topic has no contract
	KeywordLibrary   = "library"          // the library gave up on the document
	KeywordMaxErrors = "max_errors"       // more violations than were asked for
)

// DefaultMaxErrors is how many violations of a document are listed by default.
const DefaultMaxErrors = 10

// Options of Validate. The zero value strips nulls and lists DefaultMaxErrors
// violations.
type Options struct {
	// KeepNulls validates the document as it is. Otherwise a top-level text or
	// number that the contract knows, does not require and does not allow to be
	// null is taken out of the document when it is null: devices write null for
	// "no reading".
	KeepNulls bool
	// MaxErrors bounds the list of violations; one more entry then says how
	// many were left out.
	MaxErrors int
}

// Result is the answer to whether a document meets a contract.
type Result struct {
	// Doc is the document to hand on: the bytes given, or a rewritten copy if
	// nulls were stripped or a field stood in it twice.
	Doc []byte
	// Class is the class of the error, "" when the document is valid.
	Class event.Class
	// Violations say what is wrong, in the order of their paths.
	Violations []event.Violation
	// Stripped counts the nulls taken out of Doc.
	Stripped int
	// Library says that the compiled form of the contract could not decide and
	// the library was asked.
	Library bool
}

// Valid says whether the document meets the contract.
func (r *Result) Valid() bool { return r.Class == "" }

// Rewritten says whether Doc is a copy that differs from the bytes given.
func (r *Result) Rewritten(doc []byte) bool {
	return len(r.Doc) != len(doc) || len(doc) > 0 && &r.Doc[0] != &doc[0]
}

// Validate judges a document's bytes. It keeps and changes nothing of doc.
func (c *Contract) Validate(doc []byte, opts Options) Result {
	if c.fast.accepts(doc) {
		return Result{Doc: doc}
	}
	return c.judge(doc, opts)
}

// judge is Validate for a document that the compiled form did not accept as it
// stands.
func (c *Contract) judge(doc []byte, opts Options) Result {
	res := Result{Doc: doc}
	var sc jsonscan.Scanner
	if _, _, _, err := sc.Document(doc, 0); err != nil {
		res.Class = event.ClassDecode
		res.Violations = []event.Violation{c.violation("", decodeKeyword(err), "the message is not acceptable JSON: "+err.Error())}
		return res
	}
	if sc.Notes&jsonscan.DuplicateKeys != 0 {
		// Readers disagree on which of two members counts. What is judged here
		// is what is handed on.
		res.Doc = jsonscan.AppendCanonical(make([]byte, 0, len(doc)), doc)
		if _, _, _, err := sc.Document(res.Doc, 0); err != nil {
			res.Doc = doc // never seen; the library judges by the last member too
		}
	}
	if !opts.KeepNulls {
		if res.Doc, res.Stripped = c.stripNulls(res.Doc, sc.Members); res.Stripped > 0 && c.fast.accepts(res.Doc) {
			return res
		}
	}
	res.Library = true
	value, err := decode(res.Doc)
	if err != nil {
		// The scanner lets nothing through that the decoder refuses; if it
		// ever does, the document is at fault, not the process.
		res.Doc, res.Stripped, res.Class = doc, 0, event.ClassDecode
		res.Violations = []event.Violation{c.violation("", KeywordJSON, "the message is not acceptable JSON: "+err.Error())}
		return res
	}
	err = validate(c.library, value)
	if err == nil {
		return res
	}
	res.Doc, res.Stripped, res.Class = doc, 0, event.ClassContract
	var invalid *jsonschema.ValidationError
	if errors.As(err, &invalid) {
		res.Violations = c.violations(invalid, value, opts.MaxErrors)
	} else {
		res.Violations = []event.Violation{c.violation("", KeywordLibrary, fmt.Sprintf("the event cannot be validated: %.200s", err))}
	}
	return res
}

func decodeKeyword(err error) string {
	var scan *jsonscan.Error
	if errors.As(err, &scan) && scan.Limit {
		return KeywordLimit
	}
	return KeywordJSON
}

// stripNulls takes the optional fields that are null, though their schema does
// not allow it, out of a top-level object. doc keeps its bytes.
func (c *Contract) stripNulls(doc []byte, members []jsonscan.Member) ([]byte, int) {
	strip := func(m jsonscan.Member) bool {
		if m.Kind != jsonscan.Null {
			return false
		}
		key := doc[m.Key+1 : m.KeyEnd-1]
		if m.Escaped {
			key = jsonscan.AppendText(nil, doc[m.Key:m.KeyEnd])
		}
		keep, known := c.keepNull[string(key)]
		return known && !keep
	}
	stripped := 0
	for _, m := range members {
		if strip(m) {
			stripped++
		}
	}
	if stripped == 0 {
		return doc, 0
	}
	out := make([]byte, 0, len(doc))
	out = append(out, '{')
	for _, m := range members {
		if strip(m) {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, doc[m.Key:m.KeyEnd]...)
		out = append(out, ':')
		out = append(out, doc[m.Value:m.ValueEnd]...)
	}
	return append(out, '}'), stripped
}

// validate asks the library, which panics on some values.
func validate(s *jsonschema.Schema, value any) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("validating: %v", r)
		}
	}()
	return s.Validate(value)
}
