// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package kafka_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dealiot/dealiot-connect/internal/devstack/kafka"
)

func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func start(t *testing.T, dir string) (*kafka.Broker, *kgo.Client) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	b, err := kafka.Start(kafka.Config{Listener: listener, DataDir: dir, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(b.Close)
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.ProducerBatchMaxBytes(8<<20), kgo.ProducerBatchCompression(kgo.NoCompression()))
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return b, client
}

func create(t *testing.T, client *kgo.Client, topic string, configs map[string]string) {
	t.Helper()
	given := map[string]*string{}
	for k, v := range configs {
		given[k] = &v
	}
	_, err := kadm.NewClient(client).CreateTopic(bounded(t), 1, 1, given, topic)
	require.NoError(t, err)
}

func produce(t *testing.T, client *kgo.Client, topic string, bytesEach int) error {
	t.Helper()
	return client.ProduceSync(bounded(t), &kgo.Record{Topic: topic, Value: bytes.Repeat([]byte("x"), bytesEach)}).FirstErr()
}

// The pipelines rely on Kafka's limit for a record: each topic has its own.
func TestMessageLimitOfEachTopic(t *testing.T) {
	_, client := start(t, "")
	create(t, client, "small", nil)
	create(t, client, "large", map[string]string{"max.message.bytes": "4194304"})
	require.NoError(t, produce(t, client, "small", 1_000_000))
	require.ErrorIs(t, produce(t, client, "small", 1_100_000), kerr.MessageTooLarge)
	require.NoError(t, produce(t, client, "large", 4_000_000))
	require.ErrorIs(t, produce(t, client, "large", 4_300_000), kerr.MessageTooLarge)
}

func TestRestartKeepsEverything(t *testing.T) {
	dir := t.TempDir()
	b, client := start(t, dir)
	create(t, client, "kept", map[string]string{"retention.ms": "1000000"})
	for range 3 {
		require.NoError(t, produce(t, client, "kept", 10))
	}
	offsets := kadm.Offsets{}
	offsets.AddOffset("kept", 0, 2, -1)
	require.NoError(t, kadm.NewClient(client).CommitAllOffsets(bounded(t), "group", offsets))
	client.Close()
	b.Close()
	b.Close() // twice is as good as once

	_, client = start(t, dir)
	adm := kadm.NewClient(client)
	ends, err := adm.ListEndOffsets(bounded(t), "kept")
	require.NoError(t, err)
	end, _ := ends.Lookup("kept", 0)
	assert.EqualValues(t, 3, end.Offset)
	committed, err := adm.FetchOffsets(bounded(t), "group")
	require.NoError(t, err)
	at, ok := committed.Lookup("kept", 0)
	require.True(t, ok)
	assert.EqualValues(t, 2, at.At)
	configs, err := adm.DescribeTopicConfigs(bounded(t), "kept")
	require.NoError(t, err)
	config, err := configs.On("kept", nil)
	require.NoError(t, err)
	values := map[string]string{}
	for _, c := range config.Configs {
		values[c.Key] = c.MaybeValue()
	}
	assert.Equal(t, "1000000", values["retention.ms"])
}

// What is beyond retention is removed at the next start at the latest.
func TestRetention(t *testing.T) {
	dir := t.TempDir()
	b, client := start(t, dir)
	create(t, client, "short", map[string]string{"retention.ms": "1"})
	require.NoError(t, produce(t, client, "short", 10))
	client.Close()
	b.Close()

	_, client = start(t, dir)
	adm := kadm.NewClient(client)
	require.Eventually(t, func() bool {
		starts, err := adm.ListStartOffsets(bounded(t), "short")
		first, _ := starts.Lookup("short", 0)
		return err == nil && first.Offset == 1
	}, time.Minute, 5*time.Millisecond, "waiting for the record to go")
	segments := 0
	require.NoError(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".dat" {
			segments++
		}
		return err
	}))
	assert.Zero(t, segments, "segments on disk")
}

func TestSpaceIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 100 MB")
	}
	dir := t.TempDir()
	b, client := start(t, dir)
	create(t, client, "busy", map[string]string{"max.message.bytes": "4194304"})
	for range 25 {
		require.NoError(t, produce(t, client, "busy", 4_000_000))
	}
	client.Close()
	b.Close()
	_, client = start(t, dir)
	adm := kadm.NewClient(client)
	require.Eventually(t, func() bool {
		starts, err := adm.ListStartOffsets(bounded(t), "busy")
		first, _ := starts.Lookup("busy", 0)
		return err == nil && first.Offset > 0
	}, time.Minute, 5*time.Millisecond, "waiting for the oldest records to go")
	var size int64
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".dat" {
			info, err := e.Info()
			if err != nil {
				return err
			}
			size += info.Size()
		}
		return err
	}))
	assert.Less(t, size, int64(64+2*16)<<20, "bytes on disk")
}

// What clients are told to connect to need not be what is listened on.
func TestAdvertisedHost(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := listener.Addr().(*net.TCPAddr).Port
	b, err := kafka.Start(kafka.Config{Listener: listener, Advertise: "localhost"})
	require.NoError(t, err)
	defer b.Close()
	assert.Equal(t, fmt.Sprintf("localhost:%d", port), b.Addr())
	client, err := kgo.NewClient(kgo.SeedBrokers(fmt.Sprintf("127.0.0.1:%d", port)))
	require.NoError(t, err)
	defer client.Close()
	brokers, err := kadm.NewClient(client).ListBrokers(bounded(t))
	require.NoError(t, err)
	require.Len(t, brokers, 1)
	assert.Equal(t, "localhost", brokers[0].Host)
	assert.EqualValues(t, port, brokers[0].Port)
}

func TestDataDirectoryThatCannotBeUsed(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, err = kafka.Start(kafka.Config{Listener: listener, DataDir: "/dev/null/kafka"})
	require.ErrorContains(t, err, "starting Kafka on ")
	require.ErrorContains(t, err, "/dev/null/kafka")
	_, err = listener.Accept()
	require.Error(t, err, "the listener must be closed")
}
