// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package deadletter

import (
	"cmp"
	"strconv"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/dealiot/dealiot-connect/plugins/event"
	"github.com/dealiot/dealiot-connect/plugins/jsonscan"
)

// Set by inputs that read from Kafka, along with kafka_topic, which then names
// the source.
const (
	kafkaPartition = "kafka_partition"
	kafkaOffset    = "kafka_offset"
)

// moveSource moves where a message came from to the metadata of that name,
// unless an event-making processor has done so, and gives the topic that the
// message was to go to, if it had got that far.
func moveSource(msg *service.Message) (intended string) {
	if text(msg, event.SourceTopic) != "" {
		return text(msg, event.KafkaTopic)
	}
	if text(msg, kafkaOffset) != "" {
		// No processor has routed the message yet: the topic is where the input
		// read it.
		msg.MetaSet(event.SourceTopic, text(msg, event.KafkaTopic))
		msg.MetaSet(event.SourcePartition, text(msg, kafkaPartition))
		msg.MetaSet(event.SourceOffset, text(msg, kafkaOffset))
		return ""
	}
	msg.MetaSet(event.SourceTopic, text(msg, event.MQTTTopic))
	return text(msg, event.KafkaTopic)
}

// caughtError reads the error that try_catch left on a message. Anything else
// that goes by the same name is not an object with a text in "what".
func caughtError(msg *service.Message) (rejection, bool) {
	value, ok := msg.MetaGetImmut(catchMetadata)
	if !ok {
		return rejection{}, false
	}
	object, ok := value.(map[string]any)
	if !ok {
		return rejection{}, false
	}
	what, ok := object["what"].(string)
	if !ok {
		return rejection{}, false
	}
	label, _ := object["label"].(string)
	name, _ := object["name"].(string)
	return rejection{
		component:  cmp.Or(label, name),
		violations: []event.Violation{{Keyword: keywordProcessing, Message: what}},
	}, true
}

// attempts reads how often delivery was tried before: a number, or its text
// when it came as a Kafka header.
func attempts(msg *service.Message) int64 {
	if n := metaInt(msg, event.Attempt); n != nil && *n > 0 {
		return int64(*n)
	}
	return 0
}

// recordSize is the size of a message's record in bytes, rounded up.
func recordSize(msg *service.Message, content int) int {
	return content + len(text(msg, event.KafkaKey)) + len(text(msg, event.SourceTopic)) + recordAllowance
}

// isObject tells whether content looks like a JSON object.
func isObject(content []byte) bool {
	i := jsonscan.Space(content, 0)
	return i < len(content) && content[i] == '{'
}

// text reads metadata as text; it is empty where there is none.
func text(msg *service.Message, name string) string {
	value, ok := msg.MetaGetImmut(name)
	if !ok || value == nil {
		return ""
	}
	if s, ok := value.(string); ok {
		return s
	}
	s, _ := msg.MetaGet(name)
	return s
}

func metaBytes(msg *service.Message, name string) ([]byte, bool) {
	value, _ := msg.MetaGetMut(name)
	switch value := value.(type) {
	case []byte:
		return value, true
	case string:
		return []byte(value), true
	}
	return nil, false
}

func metaInt(msg *service.Message, name string) *int {
	n, err := strconv.Atoi(text(msg, name))
	if err != nil {
		return nil
	}
	return &n
}

func metaBool(msg *service.Message, name string) *bool {
	switch text(msg, name) {
	case "true":
		yes := true
		return &yes
	case "false":
		no := false
		return &no
	}
	return nil
}

// short gives a name that may stand as a key or header; one that is longer
// than any real name gives none.
func short(name string) string {
	if len(name) > maxName {
		return ""
	}
	return name
}
