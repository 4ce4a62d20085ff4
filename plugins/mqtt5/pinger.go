// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package mqtt5

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho/log"
)

// pinger keeps a connection alive and finds out when it is dead. The library's
// own takes a missing PINGRESP for a dead connection; here reading stops when
// the pipeline is behind, and the answer then waits in the socket. So what
// counts is silence while somebody listens.
type pinger struct {
	conn *conn
}

// Run returns an error once the connection is dead.
func (p pinger) Run(ctx context.Context, _ net.Conn, keepAlive uint16) error {
	err := p.run(ctx, keepAlive)
	if err != nil {
		p.conn.fail(err)
	}
	return err
}

func (p pinger) run(ctx context.Context, keepAlive uint16) error {
	if keepAlive == 0 {
		return nil
	}
	// The broker gives up after 1.5 times the keep-alive. A ping each 3/4 of it
	// leaves room for a slow network, and is answered or not before the next one.
	// On an idle connection the answer to the last ping is then almost as old as
	// that, hence the margin: a dead connection is found by the next ping at last.
	every := time.Duration(keepAlive) * time.Second * 3 / 4
	dead := every + every/4
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if _, err := packets.NewControlPacket(packets.PINGREQ).WriteTo(p.conn); err != nil {
			return fmt.Errorf("writing PINGREQ: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if s := p.conn.silence(); s >= dead {
			return fmt.Errorf("nothing came from the broker for %v, not even the answer to a ping", s.Round(time.Millisecond))
		}
	}
}

// PacketSent is of no interest: pings go out regularly.
func (pinger) PacketSent() {}

// PacketReceived is of no interest: the connection notes each read itself.
func (pinger) PacketReceived() {}

// PingResp is of no interest, for the same reason.
func (pinger) PingResp() {}

// SetDebug does nothing: there is nothing to debug that an error does not say.
func (pinger) SetDebug(log.Logger) {}
