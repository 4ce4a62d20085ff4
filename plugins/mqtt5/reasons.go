// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package mqtt5

import "fmt"

// Reason codes that this input sends or acts upon, MQTT 5.0 section 2.4.
const (
	codeImplementation   = 0x83
	codeSessionTakenOver = 0x8E
)

// reason is a reason code in words, and what to do about it.
type reason struct{ what, remedy string }

func (r reason) text(code byte, said string) string {
	s := fmt.Sprintf("%s (reason code 0x%02X)", r.what, code)
	if said != "" {
		s += fmt.Sprintf(", the broker says %q", said)
	}
	if r.remedy != "" {
		s += ": " + r.remedy
	}
	return s
}

// connectReasons are the reason codes of CONNACK, MQTT 5.0 section 3.2.2.2,
// and below 0x80 those of MQTT 3.1.1, section 3.2.2.3, which a broker that
// does not speak version 5 answers with.
var connectReasons = map[byte]reason{
	0x01: {"the broker does not speak MQTT 5", "use a broker that does, or the mqtt input"},
	0x02: {"the broker does not accept the client id", "set another client_id"},
	0x03: {"the broker is not available", "it is tried again"},
	0x04: {"the broker does not accept user and password", "check user and password"},
	0x05: {"the client is not authorised to connect", "check user and password, and what the broker allows them"},
	0x80: {"the broker refused the connection without saying why", "look into the broker's log"},
	0x81: {"the broker could not read the CONNECT packet", "check that the port speaks MQTT 5"},
	0x82: {"the broker takes the CONNECT packet for wrong", "check will, keepalive and session_expiry"},
	0x83: {"the broker does not accept this connection", "look into the broker's log"},
	0x84: {"the broker does not speak MQTT 5", "use a broker that does, or the mqtt input"},
	0x85: {"the broker does not accept the client id", "set another client_id: some brokers allow 23 letters and digits only, or only ids that belong to the user"},
	0x86: {"the broker does not accept user and password", "check user and password"},
	0x87: {"the client is not authorised to connect", "check user and password, and what the broker allows this client_id"},
	0x88: {"the broker is not available", "it is tried again"},
	0x89: {"the broker is busy", "it is tried again"},
	0x8A: {"the client is banned", "ask who runs the broker"},
	0x8C: {"the broker wants another authentication method", "this input can do user and password, and client certificates"},
	0x90: {"the broker does not accept the topic of the will", "set another will.topic"},
	0x95: {"the CONNECT packet is too large", "make will.payload smaller"},
	0x97: {"a limit of the broker is exceeded", "look for limits on connections, sessions or this user"},
	0x99: {"the will's payload does not match its format", "check will.payload"},
	0x9A: {"the broker does not retain messages", "set will.retained to false"},
	0x9B: {"the broker does not support the QoS of the will", "set a lower will.qos"},
	0x9C: {"the broker wants another server to be used for now", "set urls to that server"},
	0x9D: {"the broker has moved", "set urls to the new server"},
	0x9F: {"too many connections are made in a short time", "it is tried again"},
}

// subscribeReasons are the reason codes of SUBACK that refuse, MQTT 5.0
// section 3.9.3.
var subscribeReasons = map[byte]reason{
	0x80: {"the broker refused it without saying why", "look into the broker's log"},
	0x83: {"the broker does not accept it", "look into the broker's log"},
	0x87: {"the client is not authorised to subscribe to it", "allow the user or client_id to read it in the broker's access rules; a shared subscription may need a rule for the filter with or without $share/<group>/"},
	0x8F: {"the broker does not allow this filter", "use another filter"},
	0x91: {"the packet identifier is in use", "it is tried again; if it stays, client and broker disagree about the session: set clean_start to true once"},
	0x97: {"a limit of the broker is exceeded", "look for limits on subscriptions"},
	0x9E: {"the broker has no shared subscriptions", "subscribe without $share, with one worker only"},
	0xA1: {"the broker has no subscription identifiers", "set subscription_identifiers to false"},
	0xA2: {"the broker has no wildcard subscriptions", "name each topic without + and #"},
}

// disconnectReasons are the reason codes of DISCONNECT, MQTT 5.0 section 3.14.2.1.
var disconnectReasons = map[byte]reason{
	0x00: {"the broker closed the connection", ""},
	0x80: {"the broker closed the connection without saying why", "look into the broker's log"},
	0x81: {"the broker could not read a packet", ""},
	0x82: {"the broker takes a packet for wrong", ""},
	0x83: {"the broker does not accept a packet", "look into the broker's log"},
	0x87: {"the client is not authorised", "check what the broker allows this user and client_id"},
	0x89: {"the broker is busy", ""},
	0x8B: {"the broker is shutting down", ""},
	0x8D: {"the broker heard nothing from the client for too long", ""},
	0x8E: {"another client connected with the same client id", "give each worker a client_id of its own"},
	0x8F: {"the broker does not allow a filter", "use another filter"},
	0x90: {"the broker does not allow a topic", ""},
	0x93: {"too many messages without acknowledgement", ""},
	0x94: {"wrong topic alias", ""},
	0x95: {"a packet was too large", ""},
	0x96: {"messages come too fast", ""},
	0x97: {"a limit of the broker is exceeded", "look for limits on this user or client_id"},
	0x98: {"somebody closed the connection at the broker", ""},
	0x99: {"a payload does not match its format", ""},
	0x9A: {"the broker does not retain messages", ""},
	0x9B: {"the broker does not support a QoS", "use a lower qos"},
	0x9C: {"the broker wants another server to be used for now", "set urls to that server"},
	0x9D: {"the broker has moved", "set urls to the new server"},
	0x9E: {"the broker has no shared subscriptions", "subscribe without $share, with one worker only"},
	0x9F: {"too many connections are made in a short time", ""},
	0xA0: {"the longest time that the broker allows a connection is over", ""},
	0xA1: {"the broker has no subscription identifiers", "set subscription_identifiers to false"},
	0xA2: {"the broker has no wildcard subscriptions", "name each topic without + and #"},
}

// reasonText says in words what a reason code of a table means. said is what
// the broker itself had to say, if anything.
func reasonText(table map[byte]reason, code byte, said string) string {
	r, ok := table[code]
	if !ok {
		r = reason{"the broker gave a reason that MQTT 5.0 does not define", "look into the broker's log"}
	}
	return r.text(code, said)
}
