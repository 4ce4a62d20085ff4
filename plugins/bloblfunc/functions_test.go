// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package bloblfunc

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/redpanda-data/benthos/v4/public/bloblang"
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/stretchr/testify/require"

	"github.com/dealiot/dealiot-connect/plugins/event"
)

func TestExamples(t *testing.T) {
	for name, e := range map[string]example{
		"kafka_topic": kafkaTopicExample, "device_id": deviceIDExample, "device_id without": noDeviceExample, "event_id": eventIDExample,
	} {
		for i, c := range e.cases {
			t.Run(fmt.Sprint(name, i), func(t *testing.T) {
				exe, err := bloblang.Parse(e.mapping)
				require.NoError(t, err)
				out, err := service.NewMessage([]byte(c[0])).BloblangQuery(exe)
				require.NoError(t, err)
				got, err := out.AsBytes()
				require.NoError(t, err)
				require.JSONEq(t, c[1], string(got))
			})
		}
	}
}

func TestFunctions(t *testing.T) {
	at := time.Date(2026, 5, 4, 10, 11, 12, 500_000_000, time.UTC)
	raw := []byte("{\"a\":\"\xff\"}")
	id := event.NewID("c", "devices/c/sensor", at, raw).String()
	for _, test := range []struct {
		mapping string
		meta    map[string]any
		want    string
		err     string
	}{
		{mapping: `root = kafka_topic(@mqtt_topic)`, meta: map[string]any{"mqtt_topic": "devices/c/lidar"}, want: "raw.image3d.meta"},
		{mapping: `root = kafka_topic("wildfi/imu")`, want: "raw.sensor"},
		{mapping: `root = kafka_topic(mqtt_topic: @t)`, meta: map[string]any{"t": "devices/c\xff"}, err: "not valid UTF-8"},
		{mapping: `root = kafka_topic(@t)`, err: "mqtt_topic"},
		{mapping: `root = device_id("site/wild-fi/WF-2/imu")`, want: "WF-2"},
		{mapping: `root = device_id(@t)`, meta: map[string]any{"t": "farm/gps"}, err: "no device id in the topic"},
		{mapping: `root = device_id(@t)`, meta: map[string]any{"t": "devices/a\tb"}, err: "control character"},
		{mapping: `root = event_id("c", "devices/c/sensor", "2026-05-04T12:11:12.5+02:00", content())`, want: id},
		{mapping: `root = event_id(device_id: "c", stream: "devices/c/sensor", time: 1777889472.5, payload: content())`, want: id},
		{mapping: `root = event_id("c", "devices/c/sensor", 1777889472500, content())`, want: id},
		{mapping: `root = event_id("c", "devices/c/sensor", 1777889472500000000, content())`, want: id},
		{mapping: `root = event_id("c", "devices/c/sensor", @n, content())`, meta: map[string]any{"n": json.Number("1777889472500")}, want: id},
		{mapping: `root = event_id("c", "devices/c/sensor", @n, content())`, meta: map[string]any{"n": at}, want: id},
		{mapping: `root = event_id("c", "devices/c/sensor", @n, @original)`, meta: map[string]any{"n": at, "original": raw}, want: id},
		{mapping: `root = event_id("c", "devices/c/sensor", "noon", content())`, err: `reading "noon"`},
		{mapping: `root = event_id("c", "devices/c/sensor", true, content())`, err: "reading time: it is a bool"},
		{mapping: `root = event_id("c", "devices/c/sensor", 0, {"a":1})`, err: "reading payload: it is a map[string]interface {}: give the bytes as they were received"},
		{mapping: `root = event_id(@t, "devices/c/sensor", 0, content())`, meta: map[string]any{"t": ""}, err: "device_id and stream must not be empty"},
		{mapping: `root = event_id("c", "s", @n, content())`, meta: map[string]any{"n": 1e300}, err: "too large for an epoch"},
	} {
		t.Run(test.mapping, func(t *testing.T) {
			exe, err := bloblang.Parse(test.mapping)
			var got []byte
			if err == nil {
				msg := service.NewMessage(raw)
				for k, v := range test.meta {
					msg.MetaSetMut(k, v)
				}
				var out *service.Message
				if out, err = msg.BloblangQuery(exe); err == nil {
					got, err = out.AsBytes()
				}
			}
			if test.err != "" {
				require.ErrorContains(t, err, test.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.want, string(got))
		})
	}
}

func TestDocumented(t *testing.T) {
	seen := 0
	bloblang.GlobalEnvironment().WalkFunctions(func(name string, view *bloblang.FunctionView) {
		switch name {
		case "kafka_topic", "device_id", "event_id":
			require.NotEmpty(t, view.Description())
			seen++
		}
	})
	require.Equal(t, 3, seen)
}
