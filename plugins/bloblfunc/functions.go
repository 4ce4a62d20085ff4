// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

// Package bloblfunc gives Bloblang the rules by which device_event works, for
// authors of pipelines who want one of them alone or want to go another way
// for some topics.
package bloblfunc

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redpanda-data/benthos/v4/public/bloblang"

	"github.com/dealiot/dealiot-connect/plugins/event"
	"github.com/dealiot/dealiot-connect/plugins/route"
)

const (
	category = "DEALIoT"
	version  = "0.1.0"

	paramMQTTTopic = "mqtt_topic"
	paramDeviceID  = "device_id"
	paramStream    = "stream"
	paramTime      = "time"
	paramPayload   = "payload"
)

// example is an example of a function, shown in its documentation and run by
// the tests: for each input document the mapping gives the output.
type example struct {
	summary, mapping string
	cases            [][2]string
}

var (
	kafkaTopicExample = example{
		summary: "A camera that publishes under devices, and a tag under WildFi.",
		mapping: `root.topic = kafka_topic(this.t)`,
		cases: [][2]string{
			{`{"t":"devices/barn-2/camera/left"}`, `{"topic":"raw.image2d.meta"}`},
			{`{"t":"wildfi/tags/WF-001/gnss/fix"}`, `{"topic":"raw.gps"}`},
			{`{"t":"devices/gps-unit-5/temperature"}`, `{"topic":"raw.sensor"}`},
		},
	}
	deviceIDExample = example{
		summary: "A collar, and a tag that a gateway speaks for.",
		mapping: `root.device = device_id(this.t)`,
		cases: [][2]string{
			{`{"t":"devices/cow-7/gps"}`, `{"device":"cow-7"}`},
			{`{"t":"wildfi/gateways/GW-1/tags/WF-009/metadata"}`, `{"device":"WF-009"}`},
		},
	}
	noDeviceExample = example{
		summary: "Topics that name no device fall back to a name of the site's own.",
		mapping: `root.device = device_id(this.t).catch("unnamed")`,
		cases: [][2]string{
			{`{"t":"wildfi/imu"}`, `{"device":"unnamed"}`},
		},
	}
	eventIDExample = example{
		summary: "The same reading has the same identity, whichever way its time is written.",
		mapping: `root.id = event_id("cow-7", "devices/cow-7/gps", this.at, this.raw)`,
		cases: [][2]string{
			{`{"at":"2026-05-04T10:11:12Z","raw":"{\"lat\":47.6}"}`, `{"id":"f267ea841c62c12795fb5bcf8a69c3f4"}`},
			{`{"at":1777889472000,"raw":"{\"lat\":47.6}"}`, `{"id":"f267ea841c62c12795fb5bcf8a69c3f4"}`},
		},
	}
)

func (e example) addTo(s *bloblang.PluginSpec) *bloblang.PluginSpec {
	return s.Example(e.summary, e.mapping, e.cases...)
}

func kafkaTopicSpec() *bloblang.PluginSpec {
	return kafkaTopicExample.addTo(bloblang.NewPluginSpec().
		Category(category).
		Version(version).
		Description("Gives the Kafka topic where the messages of an MQTT topic belong, by the default rules of the processor `device_event`. Fails when the topic is not valid UTF-8.").
		Param(bloblang.NewStringParam(paramMQTTTopic).Description("The full MQTT topic, usually `@mqtt_topic`.")))
}

func deviceIDSpec() *bloblang.PluginSpec {
	return noDeviceExample.addTo(deviceIDExample.addTo(bloblang.NewPluginSpec().
		Category(category).
		Version(version).
		Description("Gives the id of the device that an MQTT topic names, by the default rules of the processor `device_event`: the level behind `tags`, `tag` or `devices`, in this order, else behind a WildFi prefix, else the last level if it is no marker. Fails when there is none, or when it is blank or holds control characters.").
		Param(bloblang.NewStringParam(paramMQTTTopic).Description("The full MQTT topic, usually `@mqtt_topic`."))))
}

func eventIDSpec() *bloblang.PluginSpec {
	return eventIDExample.addTo(bloblang.NewPluginSpec().
		Category(category).
		Version(version).
		Description("Gives the identity of an event as 32 hexadecimal digits: the first 128 bits of SHA-256 over the recipe's version, the device, the stream, the time in nanoseconds and the payload, each preceded by its length. The processor `device_event` makes the same of the same message.").
		Param(bloblang.NewStringParam(paramDeviceID).Description("The device, as in the event.")).
		Param(bloblang.NewStringParam(paramStream).Description("Where the event comes from: the full MQTT topic for messages over MQTT.")).
		Param(bloblang.NewAnyParam(paramTime).Description("The event's time: a timestamp, an RFC 3339 date-time with a zone, or a number of seconds, milliseconds, microseconds or nanoseconds since 1970, which its size tells apart.")).
		Param(bloblang.NewAnyParam(paramPayload).Description("The payload as it was received: `content()` before anything changed it, or `@original` behind `device_event`.")))
}

func init() {
	rules, err := route.Compile(route.Defaults())
	if err != nil {
		panic(err) // the tests would have told
	}
	routes := &resolver{rules: rules}
	bloblang.MustRegisterFunctionV2("kafka_topic", kafkaTopicSpec(), routes.kafkaTopic)
	bloblang.MustRegisterFunctionV2("device_id", deviceIDSpec(), routes.deviceID)
	bloblang.MustRegisterFunctionV2("event_id", eventIDSpec(), eventID)
}

// answer is what the rules say of a topic.
type answer struct {
	route.Route
	err error
}

type resolver struct {
	rules *route.Table
	cache route.Cache[answer]
}

func (r *resolver) resolve(args *bloblang.ParsedParams) (answer, error) {
	topic, err := args.GetString(paramMQTTTopic)
	if err != nil {
		return answer{}, err
	}
	return r.cache.Get(topic, func(topic string) answer {
		found, err := r.rules.Resolve(topic)
		return answer{found, err}
	}), nil
}

func (r *resolver) kafkaTopic(args *bloblang.ParsedParams) (bloblang.Function, error) {
	a, err := r.resolve(args)
	if err != nil {
		return nil, err
	}
	// A topic without a device has a destination all the same.
	if a.KafkaTopic == "" {
		return nil, a.err
	}
	return constant(a.KafkaTopic), nil
}

func (r *resolver) deviceID(args *bloblang.ParsedParams) (bloblang.Function, error) {
	a, err := r.resolve(args)
	if err != nil {
		return nil, err
	}
	if a.err != nil {
		return nil, a.err
	}
	return constant(a.DeviceID), nil
}

func eventID(args *bloblang.ParsedParams) (bloblang.Function, error) {
	device, err := args.GetString(paramDeviceID)
	if err != nil {
		return nil, err
	}
	stream, err := args.GetString(paramStream)
	if err != nil {
		return nil, err
	}
	if device == "" || stream == "" {
		return nil, fmt.Errorf("making event id: %s and %s must not be empty", paramDeviceID, paramStream)
	}
	value, err := args.Get(paramTime)
	if err != nil {
		return nil, err
	}
	t, err := timeOf(value)
	if err != nil {
		return nil, fmt.Errorf("making event id: %w", err)
	}
	if value, err = args.Get(paramPayload); err != nil {
		return nil, err
	}
	payload, err := bytesOf(value)
	if err != nil {
		return nil, fmt.Errorf("making event id: %w", err)
	}
	return constant(event.NewID(device, stream, t, payload).String()), nil
}

func constant(text string) bloblang.Function {
	return func() (any, error) { return text, nil }
}

func timeOf(value any) (time.Time, error) {
	switch v := value.(type) {
	case time.Time:
		return v, nil
	case string:
		return event.ParseTime(v)
	case json.Number:
		return event.ParseEpoch(v.String())
	case int:
		return event.ParseEpoch(strconv.Itoa(v))
	case int64:
		return event.ParseEpoch(strconv.FormatInt(v, 10))
	case uint64:
		return event.ParseEpoch(strconv.FormatUint(v, 10))
	case float64:
		return event.ParseEpoch(strconv.FormatFloat(v, 'f', -1, 64))
	}
	return time.Time{}, fmt.Errorf("reading %s: it is a %T; give a timestamp, an RFC 3339 date-time or a number since 1970", paramTime, value)
}

var errNotBytes = errors.New("give the bytes as they were received, such as content()")

func bytesOf(value any) ([]byte, error) {
	switch v := value.(type) {
	case []byte:
		return v, nil
	case string:
		return []byte(v), nil
	}
	return nil, fmt.Errorf("reading %s: it is a %T: %w", paramPayload, value, errNotBytes)
}
