// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package mqtt5

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// readBuffer is how much is read from the network at once.
const readBuffer = 64 << 10

// conn is a network connection to a broker, as the client library sees it,
// without the messages: PUBLISH packets are taken out of the stream and handed
// to receiver as they are read. The library would read each byte of a packet's
// header by a system call of its own, pass the message through two channels and
// a goroutine, and keep acknowledgements in a list that it searches for each
// message. Everything else (CONNECT, SUBSCRIBE, PING, DISCONNECT) is the
// library's.
//
// It is a sync.Locker so that the library locks it while it writes a packet.
type conn struct {
	net.Conn
	receiver     receiver
	maxPacket    int           // largest packet from the broker, in bytes
	writeTimeout time.Duration // for one packet

	writeMu sync.Mutex

	in     *bufio.Reader
	header [1 + maxVarInt]byte // of the packet that is passed on to the library
	unread []byte              // of header
	rest   int                 // what is still to be read of that packet

	at       time.Time    // when something was last read; of the reading goroutine
	readAt   atomic.Int64 // the same, or when reading went on after a pause; ns since epoch
	isPaused atomic.Bool
	full     chan struct{} // closed at the first pause
	fullOnce sync.Once
	isEnded  atomic.Bool
	draining atomic.Bool
	cause    atomic.Pointer[error] // why it ended
}

// receiver takes the messages.
type receiver interface {
	// arrived takes a message over, body and all, waiting if need be.
	arrived(c *conn, p publish, at time.Time) error
	// oversize is told about a message that was larger than allowed and of which
	// only the beginning, up to the packet identifier, was read.
	oversize(c *conn, p publish, size int) error
}

func newConn(raw net.Conn, r receiver, maxPacket int, writeTimeout time.Duration) *conn {
	c := &conn{Conn: raw, receiver: r, maxPacket: maxPacket, writeTimeout: writeTimeout, full: make(chan struct{})}
	c.in = bufio.NewReaderSize(readerFunc(func(p []byte) (int, error) {
		n, err := raw.Read(p)
		if n > 0 {
			c.at = time.Now()
			c.readAt.Store(int64(c.at.Sub(epoch)))
		}
		return n, err
	}), readBuffer)
	c.readAt.Store(int64(time.Since(epoch)))
	return c
}

// epoch is where monotonic times are counted from.
var epoch = time.Now()

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// Read gives the stream without the PUBLISH packets.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.read(p)
	if err != nil {
		c.fail(err)
	}
	return n, err
}

func (c *conn) read(p []byte) (int, error) {
	for len(c.unread) == 0 && c.rest == 0 {
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	if len(c.unread) > 0 {
		n := copy(p, c.unread)
		c.unread = c.unread[n:]
		return n, nil
	}
	n, err := c.in.Read(p[:min(len(p), c.rest)])
	c.rest -= n
	return n, err
}

// next reads the fixed header of the next packet, and all of it if it is a PUBLISH.
func (c *conn) next() error {
	first, err := c.in.ReadByte()
	if err != nil {
		return err
	}
	c.header[0] = first
	size, n := 0, 1
	for shift := 0; ; shift += 7 {
		b, err := c.in.ReadByte()
		if err != nil {
			return unexpectedEOF(err)
		}
		c.header[n] = b
		n++
		size |= int(b&0x7F) << shift
		if b < 0x80 {
			break
		}
		if n == len(c.header) {
			return fmt.Errorf("%w: length of a packet has more than %d bytes", errMalformed, maxVarInt)
		}
	}
	whole := n + size
	if first>>4 != typePublish {
		if whole > c.maxPacket {
			return fmt.Errorf("%w: packet of type %d has %d bytes, more than max_packet_size allows", errMalformed, first>>4, whole)
		}
		c.unread, c.rest = c.header[:n], size
		return nil
	}
	if c.draining.Load() {
		_, err := io.CopyN(io.Discard, c.in, int64(size))
		return unexpectedEOF(err)
	}
	if whole > c.maxPacket {
		return c.skip(first, size, whole)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(c.in, body); err != nil {
		return unexpectedEOF(err)
	}
	p, err := parsePublish(first, body)
	if err != nil {
		return err
	}
	if err := c.receiver.arrived(c, p, c.at); err != nil && !c.draining.Load() {
		return err
	}
	return nil
}

// drain makes the rest of the messages be read and forgotten.
func (c *conn) drain() { c.draining.Store(true) }

// skip reads over a PUBLISH that is larger than allowed.
func (c *conn) skip(first byte, size, whole int) error {
	p := publish{qos: first >> 1 & 3, duplicate: first&8 != 0}
	var two [2]byte
	if _, err := io.ReadFull(c.in, two[:]); err != nil {
		return unexpectedEOF(err)
	}
	topic := int(two[0])<<8 | int(two[1])
	if topic+4 > size {
		return fmt.Errorf("%w: PUBLISH ends within its topic", errMalformed)
	}
	p.topic = make([]byte, topic)
	if _, err := io.ReadFull(c.in, p.topic); err != nil {
		return unexpectedEOF(err)
	}
	read := 2 + topic
	if p.qos > 0 {
		if _, err := io.ReadFull(c.in, two[:]); err != nil {
			return unexpectedEOF(err)
		}
		p.id = uint16(two[0])<<8 | uint16(two[1])
		read += 2
	}
	if _, err := io.CopyN(io.Discard, c.in, int64(size-read)); err != nil {
		return unexpectedEOF(err)
	}
	if p.qos == 3 || p.qos > 0 && p.id == 0 {
		return fmt.Errorf("%w: PUBLISH of QoS %d with packet identifier %d", errMalformed, p.qos, p.id)
	}
	return c.receiver.oversize(c, p, whole)
}

func unexpectedEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Lock keeps others from writing, until Unlock.
func (c *conn) Lock() { c.writeMu.Lock() }

// Unlock lets others write.
func (c *conn) Unlock() { c.writeMu.Unlock() }

// Write writes a part of a packet. The caller holds the lock.
func (c *conn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.writeTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// writeAcks sends whole packets. An error ends the connection.
func (c *conn) writeAcks(packets []byte) error {
	c.Lock()
	defer c.Unlock()
	if _, err := c.Write(packets); err != nil {
		err = fmt.Errorf("writing acknowledgements: %w", err)
		c.fail(err)
		_ = c.Close()
		return err
	}
	return nil
}

func (c *conn) paused(yes bool) {
	if yes {
		c.fullOnce.Do(func() { close(c.full) })
	} else {
		c.readAt.Store(int64(time.Since(epoch)))
	}
	c.isPaused.Store(yes)
}

// silence is for how long nothing came from the broker although somebody
// was listening.
func (c *conn) silence() time.Duration {
	if c.isPaused.Load() {
		return 0
	}
	return time.Since(epoch) - time.Duration(c.readAt.Load())
}

// fail notes why the connection ends. The first reason is the cause of those
// that follow.
func (c *conn) fail(err error) {
	c.cause.CompareAndSwap(nil, &err)
}

// reason is why the connection ended.
func (c *conn) reason() error {
	err := c.cause.Load()
	switch {
	case err == nil:
		return errConnEnded
	case errors.Is(*err, io.EOF):
		return errors.New("the broker closed the connection without a word")
	default:
		return *err
	}
}

func (c *conn) ended() bool { return c.isEnded.Load() }

// Close ends the connection.
func (c *conn) Close() error {
	c.isEnded.Store(true)
	return c.Conn.Close()
}
