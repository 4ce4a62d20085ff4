// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package wildfi

import (
	"bytes"
	"context"
	"fmt"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/dealiot/dealiot-connect/plugins/event"
)

const (
	processorName = "wildfi_decode"

	wpFieldFile = "file"
)

// ProcessorSpec describes the processor and its fields.
func ProcessorSpec() *service.ConfigSpec {
	return service.NewConfigSpec().
		Version("0.1.0").
		Categories("Parsing").
		Summary("Decodes a binary log of WildFi tags into events for `raw.gps` and `raw.sensor`.").
		Description(`
Each message is a whole log, or a piece of one that a gateway published; it is decoded alone, and an entry that is cut at its end is undecodable. All its events are in memory at once: for large files use the scanner `+"`wildfi`"+`.
`+eventsDescription+`

Other metadata of the message is copied to all that come of it. Metadata of a Kafka input is moved first: `+"`kafka_topic`, `kafka_partition`, `kafka_offset`, `kafka_key` to `source_topic`, `source_partition`, `source_offset`, `source_key`"+`.

A message that is no log at all is marked as it is. One that is marked already passes untouched, and an empty one is dropped.

== Ordering

The events of a tag are in the order of its flash memory; tags come one after the other.`).
		Fields(
			service.NewInterpolatedStringField(wpFieldFile).
				Description("Name of the log in events and dead letters.").
				Default(`${! @path.or(@s3_key).or(@sftp_path).or(@mqtt_topic).or("") }`),
		).
		Fields(settingsFields()...).
		Example("Pieces of logs over MQTT", "Gateways publish what they received to `wildfi/gateways/<id>/log`.", `
input:
  label: gateways
  mqtt:
    urls: [ tcp://localhost:1883 ]
    topics: [ wildfi/gateways/+/log ]

pipeline:
  processors:
    - label: wildfi
      wildfi_decode:
        imu_hz: 50
`)
}

func init() {
	service.MustRegisterBatchProcessor(processorName, ProcessorSpec(), NewProcessor)
}

// NewProcessor makes the processor from a configuration that ProcessorSpec has
// parsed.
func NewProcessor(conf *service.ParsedConfig, mgr *service.Resources) (service.BatchProcessor, error) {
	s, err := settingsFromParsed(conf, mgr, processorName)
	if err != nil {
		return nil, err
	}
	file, err := conf.FieldInterpolatedString(wpFieldFile)
	if err != nil {
		return nil, err
	}
	return &processor{settings: s, file: file}, nil
}

// processor is the wildfi_decode processor. One instance serves all threads.
type processor struct {
	*settings
	file *service.InterpolatedString
}

// ProcessBatch implements service.BatchProcessor.
func (p *processor) ProcessBatch(_ context.Context, batch service.MessageBatch) ([]service.MessageBatch, error) {
	var out service.MessageBatch
	for _, msg := range batch {
		if _, marked := msg.MetaGetImmut(event.ErrorClass); marked {
			out = append(out, msg)
			continue
		}
		out = p.decode(out, msg)
	}
	if len(out) == 0 {
		return nil, nil
	}
	return []service.MessageBatch{out}, nil
}

// Close implements service.BatchProcessor.
func (p *processor) Close(context.Context) error { return nil }

// decode appends what a message becomes.
func (p *processor) decode(out service.MessageBatch, msg *service.Message) service.MessageBatch {
	file, err := p.file.TryString(msg)
	if err != nil { // provenance only
		file = ""
	}
	moveSource(msg)
	log, err := msg.AsBytes()
	if err != nil {
		p.mark(msg, nil, event.Violation{Keyword: "wildfi", Message: fmt.Sprintf("reading the message: %v", err)})
		return append(out, msg)
	}
	from := len(out)
	d := p.decoding(file, msg.Copy, func(m *service.Message) error {
		out = append(out, m)
		return nil
	})
	report, err := Decode(bytes.NewReader(log), p.options, d.sink())
	if err != nil { // neither the reader nor the sink has an error
		p.mark(msg, log, event.Violation{Keyword: "wildfi", Message: err.Error()})
		return append(out[:from], msg)
	}
	if why, is := notALog(report, file); is {
		p.mark(msg, log, why)
		return append(out[:from], msg)
	}
	p.count(report)
	return out
}

func (s *settings) count(r *Report) {
	for _, t := range r.Tags {
		if t.Duplicates > 0 {
			s.duplicates.Incr(t.Duplicates)
		}
	}
}

// moveSource makes room for the destination where the input has set the topic
// that a message came from.
func moveSource(msg *service.Message) {
	if _, ok := msg.MetaGetImmut(event.KafkaTopic); !ok {
		return
	}
	for _, move := range [...][2]string{
		{event.KafkaTopic, event.SourceTopic},
		{"kafka_partition", event.SourcePartition},
		{"kafka_offset", event.SourceOffset},
		{event.KafkaKey, event.SourceKey},
	} {
		if v, ok := msg.MetaGetMut(move[0]); ok {
			msg.MetaSetMut(move[1], v)
			msg.MetaDelete(move[0])
		}
	}
}
