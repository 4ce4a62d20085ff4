// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

// Package wildfi decodes the binary logs of WildFi tags as a WildFi gateway
// writes them: radio messages back to back, each with a few bytes of one tag's
// flash memory.
//
// The format has no checksum, no end marker and no record of what produced it.
// What a decoder can know, it knows from the flash address that each message
// carries and from entries that end where the next one begins; this package
// relies on both. It works in three layers:
//
//	messages   frame.go   the file is cut into messages, and found again after damage
//	flash      flash.go   a tag's bytes are put back in the order of their addresses
//	entries    scan.go    contiguous bytes are cut into entries
//
// Bytes that belong to no entry are reported with their place in the file and
// the reason, never guessed. Nothing here reads the clock or the environment:
// the same bytes give the same entries.
package wildfi
