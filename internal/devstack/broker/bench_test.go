// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dealiot/dealiot-connect/internal/devstack/broker"
)

// BenchmarkQoS1 is one publisher, 1,000 messages of 200 bytes under way, and
// one subscriber that acknowledges each, from publish to that acknowledgement.
func BenchmarkQoS1(b *testing.B) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	server, err := broker.Start(listener, slog.New(slog.DiscardHandler))
	require.NoError(b, err)
	defer func() { require.NoError(b, server.Close()) }()

	subscriber, publisher := benchConnect(b, server, 's'), benchConnect(b, server, 'p')
	_, err = subscriber.Write([]byte{0x82, 7, 0, 1, 0, 0, 1, '#', 1})
	require.NoError(b, err)
	in := bufio.NewReaderSize(subscriber, 64<<10)
	require.EqualValues(b, 0x90, benchPacket(b, in, nil))

	const topic, window = "devices/cow-1/gps", 1000
	body := make([]byte, 0, 256)
	body = binary.BigEndian.AppendUint16(body, uint16(len(topic)))
	body = append(body, topic...)
	idAt := len(body)
	body = append(body, 0, 0, 0)
	body = append(body, bytes.Repeat([]byte{'x'}, 200)...)
	frame := append(binary.AppendUvarint([]byte{0x32}, uint64(len(body))), body...)
	idAt += len(frame) - len(body)

	slots := make(chan struct{}, window)
	failed := make(chan error, 3)
	b.SetBytes(200)
	b.ResetTimer()
	go func() {
		out := bufio.NewWriterSize(publisher, 16<<10)
		for i := range b.N {
			select {
			case slots <- struct{}{}:
			default:
				_ = out.Flush()
				slots <- struct{}{}
			}
			binary.BigEndian.PutUint16(frame[idAt:], uint16(i%30_000+1))
			_, _ = out.Write(frame)
		}
		failed <- out.Flush()
	}()
	go func() {
		acks := bufio.NewReader(publisher)
		for range b.N {
			require.EqualValues(b, 0x40, benchPacket(b, acks, nil))
			<-slots
		}
		failed <- nil
	}()
	go func() {
		out := bufio.NewWriterSize(subscriber, 16<<10)
		got := make([]byte, 512)
		for range b.N {
			require.EqualValues(b, 0x32, benchPacket(b, in, got))
			_, _ = out.Write([]byte{0x40, 2, got[2+len(topic)], got[3+len(topic)]})
			if in.Buffered() == 0 {
				_ = out.Flush()
			}
		}
		failed <- out.Flush()
	}()
	for range 3 {
		require.NoError(b, <-failed)
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}

// benchConnect opens a session of MQTT 5 with bare bytes: a client library
// would cost more than the broker.
func benchConnect(b *testing.B, server *broker.Broker, id byte) net.Conn {
	b.Helper()
	conn, err := net.Dial("tcp", server.Addr().String())
	require.NoError(b, err)
	b.Cleanup(func() { _ = conn.Close() })
	_, err = conn.Write([]byte{0x10, 14, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 60, 0, 0, 1, id})
	require.NoError(b, err)
	require.EqualValues(b, 0x20, benchPacket(b, byteReader{conn}, nil))
	return conn
}

type byteReader struct{ io.Reader }

func (r byteReader) ReadByte() (byte, error) {
	var b [1]byte
	_, err := io.ReadFull(r, b[:])
	return b[0], err
}

// benchPacket reads a packet, into a buffer if there is one, and gives its
// first byte.
func benchPacket(b *testing.B, r interface {
	io.Reader
	io.ByteReader
}, into []byte,
) byte {
	first, err := r.ReadByte()
	if err != nil {
		b.Error(err)
		return 0
	}
	n, err := binary.ReadUvarint(r)
	if err != nil {
		b.Error(err)
		return 0
	}
	if into == nil {
		into = make([]byte, n)
	}
	if _, err := io.ReadFull(r, into[:n]); err != nil {
		b.Error(err)
	}
	return first
}
