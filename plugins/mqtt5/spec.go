// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

// Package mqtt5 is the input mqtt5: messages from an MQTT 5 broker, each
// acknowledged only once the pipeline has delivered it.
package mqtt5

import "github.com/redpanda-data/benthos/v4/public/service"

func inputConfig() *service.ConfigSpec {
	return service.NewConfigSpec().
		Stable().
		Version("0.1.0").
		Categories("Services").
		Summary("Reads from an MQTT 5 broker and acknowledges a message only once the pipeline has delivered it, so that none that the broker accepted is lost.").
		Description(`
Unlike the input `+"`mqtt`"+`, which acknowledges a message as soon as it is handed over, this one sends PUBACK (or PUBREC) after the output has confirmed the message. What is in the pipeline at a crash is sent again by the broker. For brokers that speak MQTT 3.1.1 only, `+"`mqtt`"+` remains; it loses what is in the pipeline at a crash.

== Delivery guarantees

- QoS 1: at least once, as long as the broker keeps the session (`+"`clean_start: false`, `session_expiry`"+` longer than an outage, a `+"`client_id`"+` that stays the same, and persistence at the broker). After a crash, or when a connection is lost while an acknowledgement is on its way, a message comes twice.
- QoS 2: as QoS 1, and not twice while the process lives, lost connections included, with one exception: when a connection is lost just as a message is completed, a broker that begins anew with PUBLISH instead of PUBREL (seen with Mosquitto 2.0) is not recognised. After a crash a message may come twice.
- QoS 0: at most once. `+"`qos0_overflow`"+` says what happens when they come faster than the pipeline takes them.

The broker holds back: it sends no more than `+"`max_in_flight`"+` messages of QoS 1 and 2 that are not acknowledged. Give it room for the rest. Mosquitto, for one, drops messages for a client that lags by more than 1000 unless `+"`max_queued_messages`"+` is raised.

A message that the output rejects is tried again, in this process, until it is delivered: the broker would send it again only on a new connection. Make what can never be delivered a dead letter in the pipeline.

The connection is kept, and made again when it is lost, whether or not the pipeline moves: the session must not expire because a sink is away. Messages that are in the process when the connection is lost stay there and are delivered; when the broker sends them again, they are recognised and acknowledged, not delivered again.

== Ordering

Messages leave in the order in which they came by a connection, and are acknowledged in that order, as MQTT demands: one that is not delivered yet holds back the acknowledgements of those behind it. Order survives up to the output only with `+"`pipeline.threads: 1`"+` and an output with `+"`max_in_flight: 1`"+`. Several workers on one shared subscription have no order between them.

== Subscriptions

An item of `+"`topics`"+` may hold several filters, separated by commas. `+"`$share/<group>/<filter>`"+` makes the workers of a group share the messages. Each answer of the broker is checked: a filter that it refuses, or grants with QoS 0 although more was asked for, fails the connection, with the reason in words.

A broker that kept the session also kept its subscriptions, including filters that are no longer in the configuration. To be rid of those, start once with `+"`clean_start: true`"+`, after the messages that wait in the session were read, or use another `+"`client_id`"+`.

== Batches

A message that comes while nothing is on its way leaves at once, in a batch with what else has come. While a batch is on its way, those that come are gathered until it is delivered, until there are `+"`batching.count`"+` of them, and no longer than `+"`batching.period`"+`. So batches grow with the traffic and with the time that the output takes, and thin traffic never waits.

== Metadata

- mqtt_topic
- mqtt_qos: 0 to 2, the QoS of the delivery to this client
- mqtt_retained: whether it is a retained message that the broker sent because of the subscription

Only if present, or true:

- mqtt_retained_replay: a retained message that came because of a reconnect, and may have come before. Not set if a subscription has `+"`retain_as_published`"+`, because the flag may then be the publisher's
- mqtt_duplicate: the broker may have sent it before
- mqtt_content_type, mqtt_response_topic, mqtt_correlation_data (bytes)
- mqtt_message_expiry: seconds that were left when the broker sent it
- mqtt_subscription_id: position of the filter, from 1, with `+"`subscription_identifiers`"+`; a list if several filters match
- event_id: the user property of this name, if it is an event id (32 lower-case hexadecimal digits)
- mqtt_user_<name>: any other user property; of those with the same name the last one. Beyond 32 properties or 4096 bytes in a message they are left out
- mqtt_received_at: when it was read, RFC 3339 in UTC, with `+"`received_at`"+`

== Metrics

- mqtt5_received (label `+"`qos`"+`): messages handed to the pipeline
- mqtt5_redelivered: messages of QoS 1 and 2 that the broker marked as sent before
- mqtt5_redelivered_known: those of them that were still in this process, and were not handed over again
- mqtt5_in_flight: messages of QoS 1 and 2 that the broker waits for
- mqtt5_queued: messages that the pipeline has not taken yet
- mqtt5_ack_latency: time from reading the oldest message of a batch to its delivery
- mqtt5_acks_dropped: messages delivered when their connection was gone, so that no acknowledgement could be sent
- mqtt5_connected: 1 while connected, else 0
- mqtt5_reconnects: connections after the first
- mqtt5_sessions_lost: reconnects at which the broker had no session any more
- mqtt5_subscriptions_refused: filters that the broker refused, counted at each attempt
- mqtt5_qos0_dropped: messages of QoS 0 that were dropped
- mqtt5_oversize: messages larger than `+"`max_packet_size`"+` that the broker sent all the same, and that were refused. A broker that keeps to MQTT 5 drops them itself; only its own metrics tell
- mqtt5_rejected: messages given up with `+"`auto_replay_nacks: false`"+`
- mqtt5_user_properties_dropped: user properties left out`).
		Fields(
			service.NewStringListField(m5FieldURLs).
				Description("Addresses of the broker, tried in turn: `mqtt://host:1883` (or `tcp`), `mqtts://host:8883` (or `ssl`, `tls`), `ws://host:8080/mqtt`, `wss://host/mqtt`. Several are nodes of one cluster, which share sessions. An item may hold several, separated by commas.").
				Example([]string{"mqtt://localhost:1883"}).
				Example([]string{"mqtts://vernemq1:8883", "mqtts://vernemq2:8883"}),
			service.NewStringListField(m5FieldTopics).
				Description("Topic filters to subscribe to with `qos`. An item may hold several, separated by commas. At least one is needed, here or in `subscriptions`.").
				Optional().
				Example([]string{"$share/ingestors/devices/#", "$share/ingestors/wildfi/#"}),
			service.NewIntField(m5FieldQoS).
				Description("Highest quality of service of the messages: 0 at most once, 1 at least once, 2 exactly once. A message never has more than it was published with.").
				Default(1).
				LintRule(`root = if this < 0 || this > 2 { [ "qos must be 0, 1 or 2" ] }`),
			service.NewObjectListField(m5FieldSubscriptions,
				service.NewStringField(m5FieldSubFilter).
					Description("Topic filter."),
				service.NewIntField(m5FieldSubQoS).
					Description("As `qos` of the input, which is the default.").
					Optional().
					LintRule(`root = if this < 0 || this > 2 { [ "qos must be 0, 1 or 2" ] }`),
				service.NewBoolField(m5FieldSubNoLocal).
					Description("Leaves out messages published under the same client id.").
					Default(false),
				service.NewBoolField(m5FieldSubRetainAs).
					Description("Leaves the retain flag as the publisher set it. Without it the flag says that the broker replays a retained message.").
					Default(false),
				retainHandlingField(m5FieldSubRetain).
					Description("As `retain_handling` of the input, which is the default.").
					Optional(),
			).
				Description("Topic filters with options of their own, in addition to `topics`.").
				Default([]any{}).
				Advanced(),
			retainHandlingField(m5FieldRetainHandling).
				Description("Which retained messages the broker sends when the input subscribes. A shared subscription never gets any.").
				Default("new").
				Advanced(),
			service.NewBoolField(m5FieldSubIDs).
				Description("Gives each filter its position, from 1, as identifier, which messages carry as `mqtt_subscription_id`: first `topics`, then `subscriptions`.").
				Default(false).
				Advanced(),
			service.NewBoolField(m5FieldSharedQoS2).
				Description("Allows shared subscriptions of QoS 2, which some brokers refuse or downgrade.").
				Default(false).
				Advanced(),
			service.NewStringField(m5FieldClientID).
				Description("Client id, by which the broker finds the session again: unique for each worker, and the same after its restart. Without it, or if it is empty, `dealiot-<host name>-<label>`, which suits a host, or a StatefulSet; where host names change (a Deployment, an unnamed container), set it.").
				Optional().
				Example("mqtt-kafka-bridge-0"),
			service.NewBoolField(m5FieldCleanStart).
				Description("Begins a new session with each connection. What the broker held for this client is gone then, also after a short loss of the connection.").
				Default(false),
			service.NewDurationField(m5FieldSessionExpiry).
				Description("How long the broker is to keep the session, and the messages for it, while the input is not connected. By default 1h; with 0, or `clean_start`, it ends with the connection; with 4294967295s it never expires. Brokers may have a limit of their own.").
				Optional().
				Example("24h"),
			service.NewStringField(m5FieldUser).
				Description("User name. It goes together with `password`.").
				Default(""),
			service.NewStringField(m5FieldPassword).
				Description("Password.").
				Default("").
				Secret(),
			service.NewTLSToggledField(m5FieldTLS).
				Description("TLS settings, client certificates included. If enabled, all addresses are encrypted, whatever their scheme. Addresses of an encrypted scheme are so without it, with the certificate authorities of the system."),
			service.NewStringListField(m5FieldALPN).
				Description("Protocols to offer by ALPN during the TLS handshake, for brokers that share a port with others.").
				Default([]any{}).
				Example([]string{"mqtt"}).
				Advanced(),
			service.NewIntField(m5FieldMaxInFlight).
				Description("Most messages of QoS 1 and 2 that are received and not acknowledged, the protocol's receive maximum. As many may come twice after a crash. Brokers may have a lower limit of their own.").
				Default(4000).
				LintRule(`root = if this < 1 || this > 65535 { [ "max_in_flight must be between 1 and 65535" ] }`),
			service.NewIntField(m5FieldMaxBytes).
				Description("Most bytes of payloads, of every QoS, that are received and not delivered. Above that, reading stops. It bounds what lies in memory when the output is away.").
				Default(67_108_864).
				Advanced().
				LintRule(`root = if this < 1 { [ "max_in_flight_bytes must be at least 1" ] }`),
			service.NewIntField(m5FieldQoS0Queue).
				Description("Most messages of QoS 0 that wait for the pipeline.").
				Default(10000).
				Advanced().
				LintRule(`root = if this < 1 { [ "qos0_queue must be at least 1" ] }`),
			service.NewStringAnnotatedEnumField(m5FieldQoS0Overflow, map[string]string{
				m5OverflowBlock: "Stop reading, so that the broker holds back. It does so for messages of every QoS, and sooner or later drops some of QoS 0 itself.",
				m5OverflowDrop:  "Drop the newest message of QoS 0, and count it.",
			}).
				Description("What to do with a message of QoS 0 when `qos0_queue` is full.").
				Default(m5OverflowBlock).
				Advanced(),
			service.NewObjectField(m5FieldBatching,
				service.NewIntField(m5FieldBatchCount).
					Description("Most messages in a batch.").
					Default(1000).
					LintRule(`root = if this < 1 { [ "count must be at least 1" ] }`),
				service.NewDurationField(m5FieldBatchPeriod).
					Description("Longest time to gather messages while an earlier batch is on its way. 0 never gathers.").
					Default("20ms"),
				service.NewIntField(m5FieldBatchBytes).
					Description("Ends a batch once its payloads have that many bytes together.").
					Default(4_194_304).
					LintRule(`root = if this < 1 { [ "byte_size must be at least 1" ] }`),
			).
				Description("How messages are gathered into batches.").
				Advanced(),
			service.NewIntField(m5FieldMaxPacket).
				Description("Largest packet that the broker may send, in bytes. It drops larger messages for this client.").
				Default(1_048_576).
				Advanced().
				LintRule(`root = if this < 1024 || this > 268435460 { [ "max_packet_size must be between 1024 and 268435460" ] }`),
			service.NewDurationField(m5FieldKeepAlive).
				Description("How long the connection may be silent, in whole seconds. Without a sign of life for about that long it is given up. 0 turns this off.").
				Default("30s").
				Advanced(),
			service.NewDurationField(m5FieldConnectTimeout).
				Description("How long to wait for the network connection, for the broker's answers, and for a packet to be sent.").
				Default("10s").
				Advanced(),
			service.NewObjectField(m5FieldBackoff,
				service.NewDurationField(m5FieldBackoffMin).
					Description("Longest first wait.").
					Default("500ms"),
				service.NewDurationField(m5FieldBackoffMax).
					Description("Longest wait.").
					Default("30s"),
			).
				Description("How long to wait before connecting again: a random time, whose limit doubles with each failure, so that workers do not come back all at once.").
				Advanced(),
			service.NewObjectField(m5FieldWill,
				service.NewBoolField(m5FieldWillEnabled).
					Description("Whether to leave a will.").
					Default(false),
				service.NewStringField(m5FieldWillTopic).
					Description("Topic to publish to.").
					Default(""),
				service.NewStringField(m5FieldWillPayload).
					Description("Payload.").
					Default(""),
				service.NewIntField(m5FieldWillQoS).
					Description("QoS, 0 to 2.").
					Default(0).
					LintRule(`root = if this < 0 || this > 2 { [ "qos must be 0, 1 or 2" ] }`),
				service.NewBoolField(m5FieldWillRetained).
					Description("Whether the broker retains it.").
					Default(false),
				service.NewDurationField(m5FieldWillDelay).
					Description("How long the broker waits before it publishes, so that a short loss of the connection goes unnoticed.").
					Default("0s"),
			).
				Description("Message that the broker publishes when the input goes away without a word.").
				Advanced(),
			service.NewBoolField(m5FieldReceivedAt).
				Description("Adds the time of reading as `mqtt_received_at`.").
				Default(false).
				Advanced(),
			service.NewAutoRetryNacksToggleField().
				Description("Whether messages that the output rejects are tried again until they are delivered. If `false`, such a message is given up: it is acknowledged with reason code 0x83, counted, and never comes again."),
		).
		LintRule(`
let expiry = this.session_expiry.or("").string()
let expires = ["", "0", "0s", "0m", "0h", "0ms"].contains($expiry)
let topics = this.topics.or([]).map_each(t -> t.string().split(",")).flatten().map_each(t -> t.trim()).filter(t -> t != "")
let subs = this.subscriptions.or([])
let qos = this.qos.or(1)
let shared2 = [
  $topics.filter(t -> $qos == 2 && t.has_prefix("$share/")),
  $subs.filter(s -> s.qos.or($qos) == 2 && s.filter.or("").trim().has_prefix("$share/")).map_each(s -> s.filter),
].flatten()
root = [
  if this.topics.or([]).length() > 0 && $topics.length() + $subs.length() == 0 {
    "topics and subscriptions are empty: name at least one topic filter, such as 'devices/#'"
  },
  if this.clean_start.or(false) == true && !$expires {
    "clean_start discards at each connection what session_expiry tells the broker to keep: set one of them"
  },
  if this.clean_start.or(false) != true && !$expires && !this.exists("client_id") {
    "session_expiry is set, but a session is found again only under the same client_id: set client_id, unique for each worker and the same after its restart (empty makes one of host name and label)"
  },
  if $shared2.length() > 0 && this.shared_qos2.or(false) != true {
    "%v: `+sharedQoS2Advice+`".format($shared2.join(", "))
  },
  if $subs.any(s -> s.no_local.or(false) && s.filter.or("").trim().has_prefix("$share/")) {
    "no_local cannot be combined with a shared subscription: MQTT forbids it"
  },
  if (this.user.or("") == "") != (this.password.or("") == "") {
    "user and password go together: set both, or neither"
  },
  if this.will.enabled.or(false) == true && this.will.topic.or("") == "" {
    "will.topic is empty: name the topic to publish the will to"
  },
].filter(e -> e != null)`).
		Example("Workers that share the devices of a platform",
			"Each worker gets a part of the messages, keeps its session for a day, and acknowledges what Kafka has confirmed.", `
input:
  label: devices
  mqtt5:
    urls: [ "mqtts://vernemq1:8883", "mqtts://vernemq2:8883" ]
    topics: [ "$share/ingestors/devices/#", "$share/ingestors/wildfi/#" ]
    client_id: mqtt-kafka-bridge-0
    session_expiry: 24h
    user: bridge
    password: "${MQTT_PASSWORD:change-me}"
    tls:
      enabled: true

output:
  kafka_franz:
    seed_brokers: [ "kafka1:9092" ]
    topic: raw.sensor
    key: ${! @mqtt_topic }
    max_in_flight: 1
`).
		Example("Different quality of service by topic",
			"Positions must not be lost; of frequent movement readings a few may be.", `
input:
  mqtt5:
    urls: [ "mqtt://localhost:1883" ]
    subscriptions:
      - filter: devices/+/gps
        qos: 1
      - filter: devices/+/imu
        qos: 0
    qos0_overflow: drop

output:
  stdout: {}
`)
}

func retainHandlingField(name string) *service.ConfigField {
	return service.NewStringAnnotatedEnumField(name, map[string]string{
		"always": "All that match, each time, also after a short loss of the connection.",
		"new":    "Those that match, if the broker's session does not have the subscription yet.",
		"never":  "None.",
	})
}
