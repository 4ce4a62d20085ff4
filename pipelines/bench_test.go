// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package pipelines_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/redpanda-data/benthos/v4/public/service"
)

// BenchmarkErrorHandling compares the two ways in which the processors of
// mqtt_to_kafka can reject a message: by marking it, as they stand in the file,
// and inside try_catch, which runs them message by message. Batches of 100
// positions of which none, or one in ten, breaks its contract.
// docs/decisions/0001-marking-instead-of-failing.md quotes the figures.
func BenchmarkErrorHandling(b *testing.B) {
	const size = 100
	var chain []any
	for _, p := range processors(b, parse(b, read(b, mqttToKafka), elsewhere)) {
		chain = append(chain, p)
	}
	spec := service.NewConfigSpec().Field(service.NewProcessorListField("processors"))
	for _, way := range []struct {
		name       string
		processors []any
	}{
		{"making the messages", nil},
		{"marking", chain},
		{"try_catch", []any{map[string]any{"try_catch": map[string]any{"processors": chain}}}},
	} {
		for _, bad := range []int{0, 10} {
			b.Run(fmt.Sprintf("%s/bad=%d%%", way.name, bad), func(b *testing.B) {
				conf, err := spec.ParseYAML(toYAML(b, map[string]any{"processors": way.processors}), nil)
				require.NoError(b, err)
				procs, err := conf.FieldProcessorList("processors")
				require.NoError(b, err)
				batch := make(service.MessageBatch, size)
				b.ReportAllocs()
				for b.Loop() {
					for i := range batch {
						payload := goodGPS
						if i < bad {
							payload = noPosition
						}
						batch[i] = publish("devices/cow-7/gps", payload)
					}
					if _, err := service.ExecuteProcessors(b.Context(), procs, batch); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/msg")
			})
		}
	}
}
