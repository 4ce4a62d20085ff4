// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package liveview

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Reader reads topics without a consumer group.
type Reader struct {
	client *kgo.Client
}

// NewReader reads from given offsets on.
func NewReader(brokers []string, from kadm.Offsets) (*Reader, error) {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(brokers...),
		kgo.ClientID("dealiot-connect-dev-view"),
		kgo.ConsumePartitions(from.KOffsets()),
	)
	if err != nil {
		return nil, fmt.Errorf("setting up the Kafka client for %v: %w", brokers, err)
	}
	return &Reader{client: client}, nil
}

// Run hands all records to a function until ctx is done or the reader closed.
// Errors of single partitions go to failed; the client tries again by itself.
func (r *Reader) Run(ctx context.Context, record func(*kgo.Record), failed func(error)) {
	for {
		fetches := r.client.PollFetches(ctx)
		if ctx.Err() != nil || fetches.IsClientClosed() {
			return
		}
		fetches.EachError(func(topic string, partition int32, err error) {
			failed(fmt.Errorf("reading topic %s, partition %d: %w", topic, partition, err))
		})
		fetches.EachRecord(record)
	}
}

// Close ends Run.
func (r *Reader) Close() { r.client.Close() }
