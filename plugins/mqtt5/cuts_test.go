// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package mqtt5

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/stretchr/testify/require"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// cutter is a network between a client and a broker that can be cut.
type cutter struct {
	ln    net.Listener
	to    string
	mu    sync.Mutex
	conns []net.Conn
	made  atomic.Int64
}

func newCutter(t *testing.T, to string) *cutter {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c := &cutter{ln: ln, to: to}
	t.Cleanup(func() {
		_ = ln.Close()
		c.cut()
	})
	go func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			broker, err := net.Dial("tcp", to)
			if err != nil {
				_ = client.Close()
				continue
			}
			c.mu.Lock()
			c.conns = append(c.conns, client, broker)
			c.mu.Unlock()
			c.made.Add(1)
			go pipe(client, broker)
			go pipe(broker, client)
		}
	}()
	return c
}

func pipe(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.Close()
	_ = from.Close()
}

func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		// What is in the socket's buffers is lost, as when a cable is pulled.
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
	}
	c.conns = nil
}

// TestRealBrokerCuts cuts the connection at any moment, with deliveries that
// finish in any order. The process lives through it, so that QoS 2 is exactly
// once.
func TestRealBrokerCuts(t *testing.T) {
	for _, qos := range []byte{1, 2} {
		t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
			b := realBroker(t)
			u, err := url.Parse(b.url)
			require.NoError(t, err)
			network := newCutter(t, u.Host)
			run := strconv.FormatInt(time.Now().UnixNano(), 36)
			conf, err := inputConfig().ParseYAML(fmt.Sprintf(`
urls: [ "mqtt://%s" ]
topics: [ "cuts/%s" ]
qos: %d
client_id: cuts-%s
max_in_flight: 50
reconnect: { min_interval: 1ms, max_interval: 5ms }
batching: { count: 5 }
`, network.ln.Addr(), run, qos, run), nil)
			require.NoError(t, err)
			in, err := inputFromParsed(conf, service.MockResources())
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, in.Close(context.Background())) })
			wait(t, connecting(t, in), "Connect")

			var mu sync.Mutex
			got := map[string]int{}
			total := func() int {
				mu.Lock()
				defer mu.Unlock()
				return len(got)
			}
			ctx, cancel := context.WithCancel(t.Context())
			var readers sync.WaitGroup
			readers.Go(func() {
				for ctx.Err() == nil {
					batch, ack, err := in.ReadBatch(ctx)
					if errors.Is(err, service.ErrNotConnected) {
						_ = in.Connect(ctx)
						continue
					}
					if err != nil {
						continue
					}
					readers.Go(func() {
						// A delivery takes its time, now and then a long one.
						time.Sleep(rand.N(5 * time.Millisecond))
						mu.Lock()
						for _, m := range batch {
							text, _ := m.AsBytes()
							got[string(text)]++
						}
						mu.Unlock()
						_ = ack(ctx, nil)
					})
				}
			})

			conn, err := net.Dial("tcp", u.Host)
			require.NoError(t, err)
			publisher := paho.NewClient(paho.ClientConfig{Conn: conn})
			_, err = publisher.Connect(ctx, &paho.Connect{CleanStart: true, KeepAlive: 30})
			require.NoError(t, err)
			const n = 3000
			published := make(chan error, 1)
			go func() {
				for i := range n {
					_, err := publisher.Publish(ctx, &paho.Publish{Topic: "cuts/" + run, QoS: qos, Payload: []byte(strconv.Itoa(i))})
					if err != nil {
						published <- err
						return
					}
				}
				published <- nil
			}()
			cuts := 0
			for ; total() < n*9/10; cuts++ {
				had := total()
				require.Eventually(t, func() bool { return total() >= min(had+1+rand.IntN(100), n) }, deadline, time.Millisecond,
					"waiting for messages after cut %d, there are %d", cuts, had)
				network.cut()
			}
			require.NoError(t, <-published)
			require.Eventually(t, func() bool {
				return total() == n && in.inbox.state().inFlight == 0
			}, deadline, 10*time.Millisecond, "waiting for all %d messages, and for the broker to be told", n)
			cancel()
			readers.Wait()
			twice := 0
			for _, times := range got {
				twice += times - 1
			}
			t.Logf("%d messages, %d cuts, %d connections, %d delivered twice", n, cuts, network.made.Load(), twice)
			if qos == 2 {
				require.Zero(t, twice, "QoS 2 is exactly once while the process lives")
			}
		})
	}
}
