// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package mqtt5

import (
	"errors"
	"io"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho/session/state"
)

// session is the session state of one connection as the client library sees
// it: the library's own for what the client sends, our inbox, which outlives
// the connection, for what the broker sends.
type session struct {
	*state.State
	inbox *inbox
	conn  *conn
}

func newSession(in *inbox, c *conn) *session {
	return &session{State: state.NewInMemory(), inbox: in, conn: c}
}

// ConAckReceived begins the connection.
func (s *session) ConAckReceived(w io.Writer, connect *packets.Connect, ack *packets.Connack) error {
	if err := s.State.ConAckReceived(w, connect, ack); err != nil {
		return err
	}
	s.inbox.connected(s.conn, ack.SessionPresent)
	return nil
}

// ConnectionLost ends the connection.
func (s *session) ConnectionLost(d *packets.Disconnect) error {
	if d != nil {
		said := ""
		if d.Properties != nil {
			said = d.Properties.ReasonString
		}
		s.conn.fail(errors.New(reasonText(disconnectReasons, d.ReasonCode, said)))
	}
	s.inbox.disconnected(s.conn)
	return s.State.ConnectionLost(d)
}

// PacketReceived handles a packet that has an identifier. A PUBLISH is never
// among them, see conn.
func (s *session) PacketReceived(p *packets.ControlPacket, ch chan<- *packets.Publish) error {
	rel, ok := p.Content.(*packets.Pubrel)
	if !ok {
		return s.State.PacketReceived(p, ch)
	}
	return s.inbox.release(s.conn, rel.PacketID)
}

// Ack does nothing: the inbox acknowledges once the pipeline delivered.
func (s *session) Ack(*packets.Publish) error { return nil }
