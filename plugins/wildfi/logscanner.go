// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package wildfi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/redpanda-data/benthos/v4/public/service"
)

const (
	scannerName = "wildfi"

	wsFieldBatchCount = "batch_count"
	wsFieldBatchBytes = "batch_bytes"
)

// ScannerSpec describes the scanner and its fields.
func ScannerSpec() *service.ConfigSpec {
	return service.NewConfigSpec().
		Version("0.1.0").
		Categories("Parsing").
		Summary("Decodes a binary log of WildFi tags into events for `raw.gps` and `raw.sensor`, as the log streams in.").
		Description(`
A log of any size is decoded with the same memory: the reorder window and a few batches. The log counts as consumed when all its events are delivered.
`+eventsDescription+`

A file that is no log at all gives one message that is marked, for all of its bytes.`).
		Fields(
			service.NewIntField(wsFieldBatchCount).
				Description("How many messages a batch has at most.").
				Default(500).
				LintRule(`root = if this < 1 { [ "batch_count must be at least 1" ] }`),
			service.NewIntField(wsFieldBatchBytes).
				Description("How many bytes of content a batch has at most. A single message may have more.").
				Default(1<<20).
				Advanced().
				LintRule(`root = if this < 1 { [ "batch_bytes must be at least 1" ] }`),
		).
		Fields(settingsFields()...).
		Example("A folder of logs", "Every log in a folder, of any size, becomes events under contract; damage becomes dead letters.", `
input:
  label: logs
  file:
    paths: [ ./logs/*.bin ]
    scanner:
      wildfi:
        imu_hz: 12.5

pipeline:
  processors:
    - label: check_contract
      contract_validate: {}
    - label: bury_rejected
      dead_letter: {}

output:
  label: terminal
  stdout: {}
`)
}

func init() {
	service.MustRegisterBatchScannerCreator(scannerName, ScannerSpec(), NewScanner)
}

// NewScanner makes the scanner's creator from a configuration that ScannerSpec
// has parsed.
func NewScanner(conf *service.ParsedConfig, mgr *service.Resources) (service.BatchScannerCreator, error) {
	s, err := settingsFromParsed(conf, mgr, scannerName)
	if err != nil {
		return nil, err
	}
	c := &scannerCreator{settings: s}
	if c.batchCount, err = conf.FieldInt(wsFieldBatchCount); err != nil {
		return nil, err
	}
	if c.batchBytes, err = conf.FieldInt(wsFieldBatchBytes); err != nil {
		return nil, err
	}
	if c.batchCount < 1 || c.batchBytes < 1 {
		return nil, fmt.Errorf("reading %s and %s: %d and %d are to be at least 1", wsFieldBatchCount, wsFieldBatchBytes, c.batchCount, c.batchBytes)
	}
	return c, nil
}

type scannerCreator struct {
	*settings
	batchCount, batchBytes int
}

// Create implements service.BatchScannerCreator.
func (c *scannerCreator) Create(in io.ReadCloser, ack service.AckFunc, details *service.ScannerSourceDetails) (service.BatchScanner, error) {
	file := ""
	if details != nil {
		file = details.Name()
	}
	return service.AutoAggregateBatchScannerAcks(c.scan(in, file), ack), nil
}

// Close implements service.BatchScannerCreator.
func (c *scannerCreator) Close(context.Context) error { return nil }

// scan decodes in a goroutine of its own, which waits for each batch to be
// taken.
func (c *scannerCreator) scan(in io.ReadCloser, file string) *logScanner {
	s := &logScanner{in: in, batches: make(chan service.MessageBatch), stopped: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		s.err = s.decode(c, file)
		close(s.batches)
	}()
	return s
}

// logScanner decodes one log.
type logScanner struct {
	in      io.ReadCloser
	batches chan service.MessageBatch
	stop    sync.Once
	stopped chan struct{} // closed when nobody takes batches any more
	ended   chan struct{}
	err     error // why there are no more batches; nil at the end of the log

	batch service.MessageBatch
	bytes int
}

var errStopped = errors.New("decoding was stopped")

func (s *logScanner) decode(c *scannerCreator, file string) error {
	d := c.decoding(file, func() *service.Message { return service.NewMessage(nil) }, func(msg *service.Message) error {
		content, err := msg.AsBytes()
		if err != nil {
			return err
		}
		if len(s.batch) > 0 && s.bytes+len(content) > c.batchBytes {
			if err := s.flush(); err != nil {
				return err
			}
		}
		s.batch = append(s.batch, msg)
		s.bytes += len(content)
		if len(s.batch) >= c.batchCount {
			return s.flush()
		}
		return nil
	})
	report, err := Decode(s.in, c.options, d.sink())
	if err != nil {
		return err
	}
	c.count(report)
	return s.flush()
}

func (s *logScanner) flush() error {
	if len(s.batch) == 0 {
		return nil
	}
	select {
	case s.batches <- s.batch:
		s.batch, s.bytes = nil, 0
		return nil
	case <-s.stopped:
		return errStopped
	}
}

// NextBatch implements service.SimpleBatchScanner.
func (s *logScanner) NextBatch(ctx context.Context) (service.MessageBatch, error) {
	select {
	case batch, ok := <-s.batches:
		if ok {
			return batch, nil
		}
		if s.err != nil {
			return nil, s.err
		}
		return nil, io.EOF
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Close implements service.SimpleBatchScanner. It closes the log first, which
// ends a read that waits.
func (s *logScanner) Close(ctx context.Context) error {
	s.stop.Do(func() { close(s.stopped) })
	err := s.in.Close()
	select {
	case <-s.ended:
	case <-ctx.Done():
		return ctx.Err()
	}
	return err
}
