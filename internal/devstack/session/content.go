// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"bytes"
	"encoding/base64"
)

// eventContent gives the bytes of an event in which the herd's number can be
// found: the event itself or, where the device sent something that is not JSON,
// what it sent.
func eventContent(value []byte) []byte {
	_, rest, found := bytes.Cut(value, []byte(`"payload_b64":`))
	if !found {
		return value
	}
	rest = bytes.TrimLeft(rest, " ")
	encoded, _, closed := bytes.Cut(bytes.TrimPrefix(rest, []byte(`"`)), []byte(`"`))
	if !closed {
		return value
	}
	content, err := base64.StdEncoding.AppendDecode(nil, encoded)
	if err != nil {
		return value
	}
	return content
}
