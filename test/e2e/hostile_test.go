// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"github.com/dealiot/dealiot-connect/internal/simulate"
)

// TestAnyBytesOnAnyTopic publishes what no device should send. Each message
// becomes exactly one record: an event, or a dead letter with a reason in words
// and with the bytes as they came. The worker goes on, and stops in good order.
func TestAnyBytesOnAnyTopic(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	b := startBrokers(ctx, t)
	w := startWorker(ctx, t, "pipelines/mqtt_to_kafka.yaml", b.environment())
	records := startReader(ctx, t, b.kafkaAddr, eventTopics...)

	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + b.mqttAddr).SetClientID("hostile"))
	await(t, client.Connect())
	defer client.Disconnect(0)

	nested := func(n int) string { return strings.Repeat(`{"n":`, n) + "1" + strings.Repeat("}", n) }
	payloads := map[string]string{
		"empty":                  "",
		"one space":              " ",
		"NUL":                    "\x00",
		"invalid UTF-8":          "\xff\x00\x88",
		"invalid UTF-8 in JSON":  "{\"a\":\"\xc3\x28\"}",
		"UTF-16":                 "\xff\xfe{\x00}\x00",
		"byte order mark":        "\ufeff{}",
		"NaN":                    `{"latitude":NaN,"longitude":9.1}`,
		"infinite":               `{"latitude":-Infinity,"longitude":9.1}`,
		"duplicate keys":         `{"lat":1,"lat":47.6,"lon":9.1,"lon":10}`,
		"lone surrogate":         `{"s":"\ud800"}`,
		"nested 127":             nested(127),
		"nested 10,000":          nested(10_000),
		"open brackets":          strings.Repeat("[", 200_000),
		"number of 400 digits":   `{"n":` + strings.Repeat("9", 400) + `}`,
		"number of 2,000 digits": `{"n":` + strings.Repeat("9", 2000) + `}`,
		"exponent of eight":      `{"lat":1e10000000,"lon":2}`,
		"time of 400 digits":     `{"timestamp":` + strings.Repeat("9", 400) + `}`,
		"truncated":              `{"timestamp":"2026-05-04T10:1`,
		"a megabyte of text":     strings.Repeat("x", 1_000_000),
		"a megabyte of zeros":    strings.Repeat("\x00", 1_000_000),
		"a megabyte of JSON":     `{"blob":"` + strings.Repeat("x", 1_000_000) + `"}`,
		"10,000 members":         `{"k":0` + strings.Repeat(`,"k":1`, 10_000) + `}`,
		"a list":                 `[1,2,3]`,
		"null":                   `null`,
		"foreign device":         `{"device_id":"\u0000","lat":1,"lon":2}`,
		"our own fields":         `{"event_id":"x","ingested_at":7,"qos":9,"retain":"no","source":null,"payload":[]}`,
	}
	topics := []string{"devices/cow-7/gps", "devices/cow-7/sensor", "devices/cam-1/image2d", "devices/rig-1/video3d"}
	names := []string{
		"devices//cow-7///sensor/", "devices/", "devices/ /sensor", "devices/\u200b/sensor", "devices/牛-🐄/gps", "devices/a\u0085b/sensor",
		"wildfi/imu", "devices/" + strings.Repeat("x", 65_520) + "/gps", "devices/" + strings.Repeat("y/", 32_000) + "z", "devices/" + strings.Repeat("/", 60_000) + "x/sensor",
	}
	sent := map[string][]string{} // MQTT topic: payloads
	publish := func(topic, payload string) {
		await(t, client.Publish(topic, 1, false, payload))
		sent[topic] = append(sent[topic], payload)
	}
	for _, topic := range topics {
		for _, payload := range payloads {
			publish(topic, payload)
		}
	}
	for _, name := range names {
		publish(name, `{"lat":1,"lon":2}`)
	}
	// What follows the worst still arrives.
	publish("devices/cow-7/gps", `{"lat":47.1,"lon":9.1,"last":true}`)

	want := 0
	for _, p := range sent {
		want += len(p)
	}
	w.await(ctx, t, fmt.Sprintf("%d records", want), func() bool { return records.count.Load() >= int64(want) })
	w.stop(ctx, t)
	records.stop()
	require.NoError(t, records.err)
	require.Equal(t, want, len(records.records))

	for _, rec := range records.records {
		var body struct {
			Errors      []string `json:"errors"`
			SourceTopic string   `json:"source_topic"`
			MQTTTopic   string   `json:"mqtt_topic"`
			DeviceID    string   `json:"device_id"`
			Timestamp   string   `json:"timestamp"`
		}
		require.NoError(t, json.Unmarshal(rec.value, &body))
		_, err := time.Parse(time.RFC3339Nano, body.Timestamp)
		require.NoError(t, err, "%.300s", rec.value)
		require.NotEmpty(t, body.DeviceID, "%.300s", rec.value)
		require.NotEmpty(t, rec.key, "%.300s", rec.value)
		if rec.topic != simulate.TopicDeadLetter {
			require.Contains(t, sent, body.MQTTTopic)
			continue
		}
		require.NotEmpty(t, rec.class, "%.300s", rec.value)
		require.NotEmpty(t, body.Errors, "%.300s", rec.value)
		for _, words := range body.Errors {
			require.Contains(t, words, " ", "a reason in words: %q", words)
		}
		require.Contains(t, sent, body.SourceTopic, "%.300s", rec.value)
		require.Contains(t, sent[body.SourceTopic], string(rec.original), "bytes that can be recovered from %.300s", rec.value)
	}
}

func await(t *testing.T, token mqtt.Token) {
	t.Helper()
	require.True(t, token.WaitTimeout(30*time.Second), "waiting for the MQTT broker's answer")
	require.NoError(t, token.Error())
}
