// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"log/slog"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dealiot/dealiot-connect/internal/devstack/broker"
	"github.com/dealiot/dealiot-connect/internal/devstack/kafka"
	"github.com/dealiot/dealiot-connect/internal/topics"
)

// brokers are an MQTT broker and Kafka with all topics of the catalogue. Kafka
// can be taken away and comes back with what it had.
type brokers struct {
	mqttAddr, kafkaAddr string

	kafka   *kafka.Broker // nil while it is away
	dataDir string
}

func startBrokers(ctx context.Context, t *testing.T) *brokers {
	t.Helper()
	b := &brokers{dataDir: t.TempDir(), kafkaAddr: "127.0.0.1:0"}
	quiet := slog.New(slog.DiscardHandler)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	mqtt, err := broker.Start(listener, quiet)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, mqtt.Close()) })
	b.mqttAddr = mqtt.Addr().String()

	b.startKafka(t)
	t.Cleanup(b.stopKafka)
	applyTopics(ctx, t, b.kafkaAddr)
	return b
}

func (b *brokers) startKafka(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", b.kafkaAddr)
	require.NoError(t, err)
	b.kafka, err = kafka.Start(kafka.Config{Listener: listener, DataDir: b.dataDir, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	b.kafkaAddr = b.kafka.Addr()
}

func (b *brokers) stopKafka() {
	if b.kafka != nil {
		b.kafka.Close()
		b.kafka = nil
	}
}

// environment points the shipped pipelines to the brokers, as an operator does.
func (b *brokers) environment() map[string]string {
	host, port, _ := net.SplitHostPort(b.mqttAddr)
	return map[string]string{"MQTT_HOST": host, "MQTT_PORT": port, "KAFKA_BOOTSTRAP_SERVERS": b.kafkaAddr}
}

func applyTopics(ctx context.Context, t *testing.T, addr string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(addr))
	require.NoError(t, err)
	defer client.Close()
	catalogue, err := topics.Default()
	require.NoError(t, err)
	cluster, err := topics.Observe(ctx, client, catalogue)
	require.NoError(t, err)
	plan := topics.NewPlan(catalogue, cluster, topics.Options{CapReplication: true})
	require.NoError(t, topics.Apply(ctx, client, plan, topics.ApplyOptions{}))
	require.True(t, plan.Clean())
}
