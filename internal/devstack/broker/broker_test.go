// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dealiot/dealiot-connect/internal/devstack/broker"
)

const patience = 30 * time.Second

func start(t *testing.T, options ...broker.Option) *broker.Broker {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	b, err := broker.Start(listener, slog.New(slog.DiscardHandler), options...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

func connect(t *testing.T, b *broker.Broker, id string) mqtt.Client {
	t.Helper()
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + b.Addr().String()).
		SetClientID(id).SetAutoReconnect(false).SetAutoAckDisabled(true))
	await(t, client.Connect())
	t.Cleanup(func() { client.Disconnect(0) })
	return client
}

func await(t *testing.T, token mqtt.Token) {
	t.Helper()
	require.True(t, token.WaitTimeout(patience), "waiting for the broker's answer")
	require.NoError(t, token.Error())
}

func TestCountersAndRefuse(t *testing.T) {
	b := start(t)
	subscriber, publisher := connect(t, b, "subscriber"), connect(t, b, "publisher")
	messages := make(chan mqtt.Message, 10)
	assert.Zero(t, b.Subscribed())
	await(t, subscriber.SubscribeMultiple(map[string]byte{"$share/g/devices/#": 1, "$share/g/wildfi/#": 1},
		func(_ mqtt.Client, m mqtt.Message) { messages <- m }))
	assert.Equal(t, 1, b.Subscribed())

	await(t, publisher.Publish("devices/cow-1/gps", 1, false, "a"))
	await(t, publisher.Publish("devices/cow-1/gps", 1, true, ""))
	await(t, publisher.Publish("elsewhere", 1, false, "b"))
	c := b.Counters()
	assert.EqualValues(t, 3, c.Received)
	assert.EqualValues(t, 1, c.Accepted)
	assert.EqualValues(t, 1, c.Cleared)
	assert.EqualValues(t, 1, c.Unmatched)
	assert.EqualValues(t, 2, c.Clients)

	// A message that nobody has acknowledged yet is waited for.
	b.Refuse()
	soon, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.ErrorContains(t, b.Drain(soon), "waiting for subscribers to acknowledge 2 messages")
	for range 2 {
		select {
		case m := <-messages:
			m.Ack()
		case <-time.After(patience):
			t.Fatal("waiting for a message")
		}
	}
	later, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, b.Drain(later))

	// Refused: neither acknowledged nor handed on, and nobody new.
	token := publisher.Publish("devices/cow-1/gps", 1, false, "c")
	assert.False(t, token.WaitTimeout(50*time.Millisecond), "a message was acknowledged that the broker does not take")
	assert.EqualValues(t, 1, b.Counters().Accepted)
	assert.Empty(t, messages)
	late := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + b.Addr().String()).SetClientID("late").SetConnectTimeout(patience))
	connecting := late.Connect()
	require.True(t, connecting.WaitTimeout(patience))
	require.Error(t, connecting.Error())
}

// A herd of MQTT 3.1.1, which knows no receive maximum, that is faster than its
// subscriber is held back and loses nothing.
func TestLaggingSubscriber(t *testing.T) {
	b := start(t, broker.QueueLimit(1000, 1<<20))
	subscriber, publisher := connect(t, b, "subscriber"), connect(t, b, "publisher")
	const n = 20_000
	hold := make(chan struct{})
	got := make(chan mqtt.Message, n)
	await(t, subscriber.Subscribe("devices/#", 1, func(_ mqtt.Client, m mqtt.Message) {
		<-hold
		got <- m
	}))
	var last mqtt.Token
	for range n {
		last = publisher.Publish("devices/cow-1/gps", 1, false, "x")
	}
	awaitCounters(t, b, "the publisher to be held back", held)
	assert.EqualValues(t, 1000, b.Counters().Queued)
	close(hold)
	deadline := time.After(patience)
	for i := range n {
		select {
		case m := <-got:
			m.Ack()
		case <-deadline:
			t.Fatalf("waiting for message %d of %d", i+1, n)
		}
	}
	await(t, last)
	assert.Zero(t, b.Counters().Dropped)
}

func TestPacketLimit(t *testing.T) {
	b := start(t)
	subscriber, publisher := connect(t, b, "subscriber"), connect(t, b, "publisher")
	got := make(chan int, 1)
	await(t, subscriber.Subscribe("#", 1, func(_ mqtt.Client, m mqtt.Message) { got <- len(m.Payload()) }))
	largest := broker.MaximumPacketSize - 100
	await(t, publisher.Publish("devices/cam-1/image2d", 1, false, bytes.Repeat([]byte("x"), largest)))
	select {
	case n := <-got:
		assert.Equal(t, largest, n)
	case <-time.After(patience):
		t.Fatal("waiting for the large message")
	}
	publisher.Publish("devices/cam-1/image2d", 1, false, bytes.Repeat([]byte("x"), broker.MaximumPacketSize))
	require.Eventually(t, func() bool { return !publisher.IsConnectionOpen() }, patience, time.Millisecond, "waiting to be disconnected")
}
