// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package mqtt5

import (
	"bytes"
	"testing"

	"github.com/eclipse/paho.golang/packets"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// wire gives a packet as its first byte and what follows the fixed header.
func wire(t testing.TB, p packets.Packet) (byte, []byte) {
	t.Helper()
	var b bytes.Buffer
	_, err := p.WriteTo(&b)
	require.NoError(t, err)
	whole := b.Bytes()
	_, n := varInt(whole[1:])
	require.NotZero(t, n)
	return whole[0], whole[1+n:]
}

func ptr[T any](v T) *T { return &v }

func fullPublish() *packets.Publish {
	return &packets.Publish{
		Topic: "devices/c1/gps", Payload: []byte(`{"lat":1}`), QoS: 2, PacketID: 4711, Duplicate: true, Retain: true,
		Properties: &packets.Properties{
			PayloadFormat: ptr(byte(1)), MessageExpiry: ptr(uint32(60)), ContentType: "application/json",
			ResponseTopic: "r", CorrelationData: []byte{0, 1}, SubscriptionIdentifier: ptr(300), TopicAlias: ptr(uint16(7)),
			User: []packets.User{{Key: "event_id", Value: "0123456789abcdef0123456789abcdef"}, {Key: "site", Value: "A"}, {Key: "site", Value: "B"}},
		},
	}
}

func TestParsePublish(t *testing.T) {
	first, body := wire(t, fullPublish())
	p, err := parsePublish(first, body)
	require.NoError(t, err)
	assert.Equal(t, "devices/c1/gps", string(p.topic))
	assert.Equal(t, `{"lat":1}`, string(p.payload))
	assert.Equal(t, uint16(4711), p.id)
	assert.Equal(t, byte(2), p.qos)
	assert.True(t, p.duplicate)
	assert.True(t, p.retain)
	assert.Zero(t, testing.AllocsPerRun(100, func() { _, _ = parsePublish(first, body) }))

	for n := range len(body) - len(p.payload) {
		_, err := parsePublish(first, body[:n])
		require.ErrorIs(t, err, errMalformed, "cut after %d bytes", n)
	}
}

func TestMessageMetadata(t *testing.T) {
	first, body := wire(t, fullPublish())
	p, err := parsePublish(first, body)
	require.NoError(t, err)
	meta := func(p publish, replay bool) (map[string]any, int) {
		var names topicNames
		dropped := 0
		got := map[string]any{}
		require.NoError(t, names.message(&inbound{publish: p, replay: replay}, false, &dropped).MetaWalkMut(func(k string, v any) error {
			got[k] = v
			return nil
		}))
		return got, dropped
	}

	got, dropped := meta(p, true)
	assert.Zero(t, dropped)
	assert.Equal(t, map[string]any{
		"mqtt_topic": "devices/c1/gps", "mqtt_qos": 2, "mqtt_retained": true, "mqtt_duplicate": true, "mqtt_retained_replay": true,
		"mqtt_content_type": "application/json", "mqtt_response_topic": "r", "mqtt_correlation_data": []byte{0, 1},
		"mqtt_message_expiry": 60, "mqtt_subscription_id": 300,
		"event_id": "0123456789abcdef0123456789abcdef", "mqtt_user_site": "B",
	}, got)

	got, _ = meta(publish{topic: []byte("t"), payload: []byte("x")}, false)
	assert.Equal(t, map[string]any{"mqtt_topic": "t", "mqtt_qos": 0, "mqtt_retained": false}, got)

	props := packets.Properties{User: []packets.User{{Key: "event_id", Value: "not one"}}}
	got, _ = meta(publish{topic: []byte("t"), props: props.Pack(packets.PUBLISH)}, false)
	assert.Equal(t, "not one", got["mqtt_user_event_id"])
	assert.NotContains(t, got, "event_id")

	got, _ = meta(publish{topic: []byte("t"), props: []byte{propSubscriptionID, 1, propSubscriptionID, 2}}, false)
	assert.Equal(t, []any{1, 2}, got["mqtt_subscription_id"])

	props = packets.Properties{}
	for range maxUserProperties + 3 {
		props.User = append(props.User, packets.User{Key: "k", Value: "v"})
	}
	_, dropped = meta(publish{topic: []byte("t"), props: props.Pack(packets.PUBLISH)}, false)
	assert.Equal(t, 3, dropped)
}

// FuzzParsePublish compares with the library's parser: what is accepted here,
// is accepted there and means the same.
func FuzzParsePublish(f *testing.F) {
	first, body := wire(f, fullPublish())
	f.Add(first, body)
	first, body = wire(f, &packets.Publish{Topic: "t", Properties: &packets.Properties{}})
	f.Add(first, body)
	f.Add(byte(0x30), []byte{0, 1, 't', 2, propSubscriptionID, 0x80})
	f.Fuzz(func(t *testing.T, first byte, body []byte) {
		first = typePublish<<4 | first&0x0F
		p, err := parsePublish(first, body)
		if err != nil {
			return
		}
		want := packets.Publish{QoS: first >> 1 & 3, Properties: &packets.Properties{}}
		require.NoError(t, want.Unpack(bytes.NewBuffer(bytes.Clone(body))))
		require.Equal(t, want.Topic, string(p.topic))
		require.Equal(t, want.PacketID, p.id)
		require.Equal(t, string(want.Payload), string(p.payload))

		got := packets.Properties{}
		require.NoError(t, walkProperties(p.props, func(q property) {
			switch q.id {
			case propPayloadFormat:
				got.PayloadFormat = ptr(byte(q.number))
			case propMessageExpiry:
				got.MessageExpiry = ptr(q.number)
			case propContentType:
				got.ContentType = string(q.value)
			case propResponseTopic:
				got.ResponseTopic = string(q.value)
			case propCorrelationData:
				got.CorrelationData = q.value
			case propSubscriptionID:
				got.SubscriptionIdentifier = ptr(int(q.number))
			case propTopicAlias:
				got.TopicAlias = ptr(uint16(q.number))
			case propUser:
				got.User = append(got.User, packets.User{Key: string(q.key), Value: string(q.value)})
			}
		}))
		require.Equal(t, string(want.Properties.CorrelationData), string(got.CorrelationData))
		want.Properties.CorrelationData, got.CorrelationData = nil, nil
		require.Equal(t, *want.Properties, got)
	})
}
