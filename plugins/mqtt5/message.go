// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package mqtt5

import (
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/dealiot/dealiot-connect/plugins/event"
)

// Metadata of a message, besides what plugins/event names.
const (
	metaDuplicate       = "mqtt_duplicate"
	metaRetainedReplay  = "mqtt_retained_replay"
	metaContentType     = "mqtt_content_type"
	metaResponseTopic   = "mqtt_response_topic"
	metaCorrelationData = "mqtt_correlation_data"
	metaMessageExpiry   = "mqtt_message_expiry"
	metaSubscriptionID  = "mqtt_subscription_id"
	metaReceivedAt      = "mqtt_received_at"
	metaUserPrefix      = "mqtt_user_"
)

// A publisher may attach as many user properties as a packet holds. Beyond
// these bounds they are dropped and counted.
const (
	maxUserProperties    = 32
	maxUserPropertyBytes = 4096 // names and values of one message together
)

// maxTopicNames bounds how many topics are remembered.
const maxTopicNames = 16384

// topicNames remembers topics as metadata values, so that each is allocated
// once and not for each message.
type topicNames struct {
	names map[string]any
}

func (t *topicNames) get(topic []byte) any {
	if v, ok := t.names[string(topic)]; ok {
		return v
	}
	if t.names == nil || len(t.names) >= maxTopicNames {
		t.names = map[string]any{}
	}
	s := string(topic)
	v := any(s)
	t.names[s] = v
	return v
}

// message makes a message of what came in.
func (t *topicNames) message(m *inbound, receivedAt bool, dropped *int) *service.Message {
	msg := service.NewMessage(m.payload)
	msg.MetaSetMut(event.MQTTTopic, t.get(m.topic))
	msg.MetaSetMut(event.MQTTQoS, int(m.publish.qos))
	msg.MetaSetMut(event.MQTTRetained, m.retain)
	if m.duplicate {
		msg.MetaSetMut(metaDuplicate, true)
	}
	if m.replay {
		msg.MetaSetMut(metaRetainedReplay, true)
	}
	if receivedAt {
		msg.MetaSetMut(metaReceivedAt, m.at.UTC().Format(time.RFC3339Nano))
	}
	if len(m.props) > 0 {
		setProperties(msg, m.props, dropped)
	}
	return msg
}

func setProperties(msg *service.Message, props []byte, dropped *int) {
	var ids []any
	users, bytes := 0, 0
	// The section was checked when it was read.
	_ = walkProperties(props, func(p property) {
		switch p.id {
		case propContentType:
			msg.MetaSetMut(metaContentType, string(p.value))
		case propResponseTopic:
			msg.MetaSetMut(metaResponseTopic, string(p.value))
		case propCorrelationData:
			msg.MetaSetMut(metaCorrelationData, p.value)
		case propMessageExpiry:
			msg.MetaSetMut(metaMessageExpiry, int(p.number))
		case propSubscriptionID:
			ids = append(ids, int(p.number))
		case propUser:
			users++
			bytes += len(p.key) + len(p.value)
			if users > maxUserProperties || bytes > maxUserPropertyBytes {
				*dropped++
				return
			}
			if string(p.key) == event.EventID {
				if id := string(p.value); event.ValidID(id) {
					msg.MetaSetMut(event.EventID, id)
					return
				}
			}
			msg.MetaSetMut(metaUserPrefix+string(p.key), string(p.value))
		}
	})
	switch len(ids) {
	case 0:
	case 1:
		msg.MetaSetMut(metaSubscriptionID, ids[0])
	default:
		msg.MetaSetMut(metaSubscriptionID, ids)
	}
}
