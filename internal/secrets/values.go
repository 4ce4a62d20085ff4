// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package secrets

import (
	"fmt"
	"strconv"
	"strings"
)

// ParseBool reads a switch: 1, true, yes or on, and 0, false, no, off or
// nothing, in any case and with white space around. Any other number is false,
// as it always was for these variables. Words that are neither are refused,
// because a switch that silently means off (such as "enabled") is a trap.
func ParseBool(value string) (bool, error) {
	word := strings.ToLower(strings.TrimSpace(value))
	switch word {
	case "1", "true", "yes", "on":
		return true, nil
	case "", "0", "false", "no", "off":
		return false, nil
	}
	if _, err := strconv.Atoi(word); err == nil {
		return false, nil
	}
	return false, fmt.Errorf("parsing switch %q: write true or false (also 1, yes, on, 0, no, off)", value)
}

// ParseCSV splits a list at its commas. Items are trimmed and empty ones
// dropped, so that the result is empty when nothing was listed.
func ParseCSV(value string) []string {
	var items []string
	for item := range strings.SplitSeq(value, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

// MQTTTopics returns the subscriptions of MQTT_TOPICS as a list without blank
// items or, when it has none, the single subscription in that setting's older
// name MQTT_TOPIC. Both empty counts as not set, so that a default applies.
func (r Resolver) MQTTTopics() (list string, found bool) {
	for _, name := range []string{"MQTT_TOPICS", "MQTT_TOPIC"} {
		value, _ := r.LookupEnv(name)
		if items := ParseCSV(value); len(items) > 0 {
			return strings.Join(items, ","), true
		}
	}
	return "", false
}
