// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// now is any time.
var now = time.Unix(1_700_000_000, 0)

func TestParseFilter(t *testing.T) {
	for filter, want := range map[string][2]string{
		"a": {"a"}, "/": {"/"}, "a//b": {"a//b"}, "#": {"#"}, "+": {"+"}, "a/+/#": {"a/+/#"}, "$SYS/#": {"$SYS/#"}, "$share": {"$share"},
		"$share/g/a/+": {"a/+", "g"}, "$share/g/#": {"#", "g"}, "$share/g//": {"/", "g"},
	} {
		levels, group, ok := parseFilter(filter)
		assert.True(t, ok, filter)
		assert.Equal(t, want, [2]string{levels, group}, filter)
	}
	for _, filter := range []string{
		"", "#/a", "a/#/b", "a#", "a/b+", "+a", "##", "$share/", "$share/g", "$share//a", "$share/g/", "$share/+/a", "$share/g#/a", "$share/g/a#",
	} {
		_, _, ok := parseFilter(filter)
		assert.False(t, ok, filter)
	}
}

// Examples of MQTT 5, 4.7.
func TestMatch(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		{"sport/tennis/player1/#", "sport/tennis/player1", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
		{"sport/tennis/player1/#", "sport/tennis/player12", false},
		{"sport/#", "sport", true},
		{"#", "a/b/c", true},
		{"sport/tennis/+", "sport/tennis/player1", true},
		{"sport/tennis/+", "sport/tennis/player1/ranking", false},
		{"sport/+", "sport", false},
		{"sport/+", "sport/", true},
		{"+/+", "/finance", true},
		{"/+", "/finance", true},
		{"+", "/finance", false},
		{"+/#", "a", true},
		{"+/b/#", "a/b", true},
		{"#", "$SYS/broker", false},
		{"+/monitor", "$SYS/monitor", false},
		{"$SYS/#", "$SYS/broker", true},
		{"$SYS/+", "$SYS/broker", true},
		{"a", "a/b", false},
		{"a/b", "a", false},
		{"A", "a", false},
	} {
		t.Run(c.filter+" "+c.topic, func(t *testing.T) {
			assert.Equal(t, c.want, matches(c.filter, c.topic))
			assert.Equal(t, c.want, treeMatches(t, c.filter, c.topic))
		})
	}
}

// treeMatches asks the tree of filters.
func treeMatches(t *testing.T, filter, topic string) bool {
	levels, group, ok := parseFilter(filter)
	require.True(t, ok, filter)
	s := &subscription{session: &session{}, filter: filter, levels: levels, group: group}
	var tree node
	tree.add(s)
	hits := 0
	for _, n := range tree.match(topic, true, nil) {
		hits += len(n.subs) + len(n.shares)
	}
	tree.remove(s)
	require.True(t, tree.empty(), "a filter left something behind")
	require.LessOrEqual(t, hits, 1, "a filter matches once")
	return hits == 1
}

func FuzzMatch(f *testing.F) {
	f.Add("sport/+/#", "sport/tennis")
	f.Add("$share/g/+/b", "a/b")
	f.Add("$SYS/#", "$SYS")
	f.Fuzz(func(t *testing.T, filter, topic string) {
		levels, _, ok := parseFilter(filter)
		if !ok || topic == "" || strings.ContainsAny(topic, "+#") {
			return
		}
		if got, want := treeMatches(t, filter, topic), matches(levels, topic); got != want {
			t.Fatalf("the tree says %t, the comparison %t", got, want)
		}
	})
}

func TestTreeKeepsOthers(t *testing.T) {
	var tree node
	var subs []*subscription
	for i, filter := range []string{"a", "a/b", "a/#", "a/+", "$share/g/a", "$share/h/a", "$share/g/a"} {
		levels, group, _ := parseFilter(filter)
		s := &subscription{session: &session{id: fmt.Sprint(i)}, filter: filter, levels: levels, group: group}
		subs = append(subs, s)
		tree.add(s)
	}
	for i, gone := range subs {
		tree.remove(gone)
		left := 0
		for _, topic := range []string{"a", "a/b"} {
			for _, n := range tree.match(topic, true, nil) {
				for _, s := range n.subs {
					assert.NotSame(t, gone, s)
					left++
				}
				for _, group := range n.shares {
					left += len(group.members)
				}
			}
		}
		// a/# matches both topics.
		assert.Equal(t, []int{7, 6, 4, 3, 2, 1, 0}[i], left)
	}
	assert.True(t, tree.empty())
}

// FuzzReadPacket: whatever comes, the decoder neither panics nor reads beyond
// the packet, and what it takes for a message can be sent on.
func FuzzReadPacket(f *testing.F) {
	f.Add([]byte{0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, 1, 'c'}, false)
	f.Add([]byte{0x32, 7, 0, 1, 't', 0, 1, 0, 'x'}, true)
	f.Add([]byte{0x82, 6, 0, 1, 0, 0, 1, '#'}, true) // options are missing
	f.Add([]byte{0x40, 2, 0, 1}, false)
	f.Add([]byte{0xe0, 0}, true)
	f.Fuzz(func(t *testing.T, data []byte, five bool) {
		version := byte(4)
		if five {
			version = 5
		}
		r := bufio.NewReader(bytes.NewReader(data))
		var pk packets.Packet
		if readPacket(r, version, &pk) != nil || pk.FixedHeader.Type != packets.Publish || pk.PublishValidate(0) != packets.CodeSuccess {
			return
		}
		m := newMessage(&pk, now)
		out := outgoing{message: m, id: pk.PacketID, qos: m.qos, retain: m.retain}
		sent := out.append(nil, version, now)
		var again packets.Packet
		require.NoError(t, readPacket(bufio.NewReader(bytes.NewReader(sent)), version, &again))
		require.Equal(t, m, newMessage(&again, now))
		require.Equal(t, pk.PacketID, again.PacketID)
	})
}
