// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package mqtt_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/eclipse/paho.golang/paho"
	"github.com/twmb/franz-go/pkg/kgo"
)

// runHandwritten is a minimal bridge as one would write it with the two
// libraries: no validation, no routing, no reconnects. Each message becomes a
// record under its device's key, and is acknowledged once Kafka has it.
func runHandwritten(ctx context.Context, env map[string]string) error {
	kafka, err := kgo.NewClient(
		kgo.SeedBrokers(env["KAFKA_BOOTSTRAP_SERVERS"]),
		kgo.DefaultProduceTopic("raw.gps"),
		kgo.ProducerBatchCompression(kgo.Lz4Compression()),
		kgo.MaxBufferedRecords(100_000),
	)
	if err != nil {
		return err
	}
	defer kafka.Close()

	u, err := url.Parse(env["MQTT_URL"])
	if err != nil {
		return err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return err
	}
	lost := make(chan error, 1)
	client := paho.NewClient(paho.ClientConfig{
		Conn:                       conn,
		EnableManualAcknowledgment: true,
		OnClientError:              func(err error) { lost <- err },
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){
			func(p paho.PublishReceived) (bool, error) {
				device := p.Packet.Topic
				if parts := strings.Split(device, "/"); len(parts) > 1 {
					device = parts[1]
				}
				kafka.Produce(ctx, &kgo.Record{Key: []byte(device), Value: p.Packet.Payload}, func(_ *kgo.Record, err error) {
					if err == nil {
						_ = p.Client.Ack(p.Packet)
					}
				})
				return true, nil
			},
		},
	})
	receiveMaximum, expiry := uint16(1000), uint32(3600)
	if _, err := client.Connect(ctx, &paho.Connect{
		ClientID: "bench-handwritten", KeepAlive: 30,
		Properties: &paho.ConnectProperties{ReceiveMaximum: &receiveMaximum, SessionExpiryInterval: &expiry},
	}); err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	qos := env["QOS"][0] - '0'
	if _, err := client.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "devices/#", QoS: qos}}}); err != nil {
		return fmt.Errorf("subscribing: %w", err)
	}
	select {
	case err := <-lost:
		return err
	case <-ctx.Done():
		return nil
	}
}
