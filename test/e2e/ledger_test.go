// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/dealiot/dealiot-connect/internal/simulate"
	"github.com/dealiot/dealiot-connect/plugins/event"
)

// record is what the tests look at in a record of Kafka.
type record struct {
	topic     string
	partition int32
	offset    int64
	key       string
	eventID   string
	class     string // of a dead letter
	original  []byte // bytes that the device sent; of a dead letter and of an event that wraps them
	value     []byte
}

// reader reads all topics from their beginning, from the moment it is made.
type reader struct {
	client  *kgo.Client
	cancel  context.CancelFunc
	mu      sync.Mutex
	records []record
	count   atomic.Int64
	done    chan struct{}
	err     error
}

func startReader(ctx context.Context, t *testing.T, kafka string, topics ...string) *reader {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(kafka), kgo.ConsumeTopics(topics...), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(ctx)
	r := &reader{client: client, cancel: cancel, done: make(chan struct{})}
	go r.read(ctx)
	t.Cleanup(r.stop)
	return r
}

// stop ends the reading; the records stay as they are from then on.
func (r *reader) stop() {
	r.cancel()
	<-r.done
	r.client.Close()
}

// all gives the records so far.
func (r *reader) all() []record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.records[:len(r.records):len(r.records)]
}

func (r *reader) read(ctx context.Context) {
	defer close(r.done)
	for {
		fetches := r.client.PollFetches(ctx)
		if ctx.Err() != nil {
			return
		}
		fetches.EachRecord(func(k *kgo.Record) {
			rec, err := parse(k)
			r.mu.Lock()
			defer r.mu.Unlock()
			if err != nil && r.err == nil {
				r.err = err
			}
			r.records = append(r.records, rec)
		})
		r.count.Add(int64(fetches.NumRecords()))
	}
}

func parse(k *kgo.Record) (record, error) {
	rec := record{topic: k.Topic, partition: k.Partition, offset: k.Offset, key: string(k.Key), value: bytes.Clone(k.Value)}
	for _, h := range k.Headers {
		switch h.Key {
		case event.EventID:
			rec.eventID = string(h.Value)
		case event.ErrorClass:
			rec.class = string(h.Value)
		}
	}
	var body struct {
		RawEvent struct {
			PayloadB64 []byte `json:"payload_b64"`
		} `json:"raw_event"`
		Payload struct {
			PayloadB64 []byte `json:"payload_b64"`
		} `json:"payload"`
	}
	if err := json.Unmarshal(k.Value, &body); err != nil {
		return rec, fmt.Errorf("reading record %s/%d/%d: %w: %.200q", k.Topic, k.Partition, k.Offset, err, k.Value)
	}
	rec.original = body.RawEvent.PayloadB64
	if k.Topic != simulate.TopicDeadLetter {
		rec.original = body.Payload.PayloadB64
	}
	return rec, nil
}

// seq finds the number that the simulated herd writes into every message,
// faulty ones included; ok is false where there is none.
func (r record) seq() (seq uint64, ok bool) {
	text := r.value
	if r.original != nil {
		text = r.original
	}
	return simulate.FindSeq(text)
}

// tally is what became of all messages of a herd.
type tally struct {
	events, deadLetters, again int
}

// account holds every record against the message that it came from and every
// message against its records: each has exactly the outcome that its class
// says, under its own identity, with its own bytes. repeats says whether the
// same event may come again, as after an outage.
func account(t *testing.T, cfg simulate.Config, count uint64, records []record, repeats bool) tally {
	t.Helper()
	herd, err := simulate.NewHerd(cfg)
	require.NoError(t, err)
	bySeq := make(map[uint64][]record, count)
	for _, rec := range records {
		seq, ok := rec.seq()
		require.True(t, ok, "record %s/%d/%d holds no sequence number: %.300s", rec.topic, rec.partition, rec.offset, rec.value)
		bySeq[seq] = append(bySeq[seq], rec)
	}

	messages := make(map[uint64]simulate.Message, count)
	due := make(map[uint64]int, count)
	var order []uint64
	for range count {
		m := herd.Next()
		if m.DuplicateOf != 0 {
			due[m.DuplicateOf]++
			continue
		}
		due[m.Seq]++
		messages[m.Seq] = m
		order = append(order, m.Seq)
	}
	var sum tally
	for _, seq := range order {
		m, got := messages[seq], bySeq[seq]
		delete(bySeq, seq)
		say := func(what string) string {
			return fmt.Sprintf("message %d (%s on %s): %s", seq, m.Class, m.MQTTTopic, what)
		}
		if repeats {
			require.GreaterOrEqual(t, len(got), due[seq], say("records"))
		} else {
			require.Len(t, got, due[seq], say("records"))
		}
		sum.again += len(got) - due[seq]
		for _, rec := range got {
			require.Equal(t, m.Expect.KafkaTopic, rec.topic, say("Kafka topic; the record is %.300s"), rec.value)
			require.Equal(t, string(m.Expect.ErrorClass), rec.class, say("error class"))
			if m.EventID != "" {
				require.Equal(t, m.EventID, rec.eventID, say("event_id"))
			} else if m.Expect.ErrorClass == "" {
				require.True(t, event.ValidID(rec.eventID), say("event_id is %q"), rec.eventID)
			}
			if m.DeviceID != "" {
				require.Equal(t, m.DeviceID, rec.key, say("Kafka key"))
			}
			if rec.topic == simulate.TopicDeadLetter || m.Expect.PayloadB64 {
				require.True(t, bytes.Equal(m.Payload, rec.original), say("bytes that can be recovered"))
			}
		}
		if m.Expect.ErrorClass != "" {
			sum.deadLetters += due[seq]
		} else {
			sum.events += due[seq]
		}
	}
	require.Empty(t, bySeq, "records of messages that nobody sent")
	return sum
}

// inOrder checks that each device's events lie in each partition in the order
// in which they were sent. Deliberate duplicates are second copies of an
// earlier message and do not count.
func inOrder(t *testing.T, records []record) {
	t.Helper()
	type lane struct {
		topic, key string
		partition  int32
	}
	last := map[lane]uint64{}
	seen := map[uint64]bool{}
	for _, rec := range records {
		seq, _ := rec.seq()
		if seen[seq] {
			continue
		}
		seen[seq] = true
		at := lane{rec.topic, rec.key, rec.partition}
		require.Greater(t, seq, last[at], "order of %s in %s/%d", rec.key, rec.topic, rec.partition)
		last[at] = seq
	}
	require.NotEmpty(t, last)
}
