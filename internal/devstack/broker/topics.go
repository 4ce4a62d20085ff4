// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package broker

import "strings"

// subscription is one topic filter of a session.
type subscription struct {
	session           *session
	filter            string // as the client sent it
	levels            string // the filter without $share and the group
	group             string // of a shared subscription, else empty
	qos               byte
	identifier        int // 0 for none
	noLocal           bool
	retainAsPublished bool
}

// parseFilter reads a topic filter, shared or not (MQTT 5, 4.7 and 4.8.2).
func parseFilter(filter string) (levels, group string, ok bool) {
	levels = filter
	if rest, shared := strings.CutPrefix(filter, "$share/"); shared {
		group, levels, ok = strings.Cut(rest, "/")
		if !ok || group == "" || strings.ContainsAny(group, "+#") {
			return "", "", false
		}
	}
	if levels == "" {
		return "", "", false
	}
	for rest, more := levels, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		if level == "#" && more || len(level) > 1 && strings.ContainsAny(level, "+#") {
			return "", "", false
		}
	}
	return levels, group, true
}

// node is a level of the tree of all topic filters. Which ones match a topic is
// found by walking down its levels.
type node struct {
	children map[string]*node
	subs     map[*session]*subscription
	shares   map[string]*share // by group
}

// share is a shared subscription: each message goes to one of its members.
type share struct {
	members []*subscription
	last    int // the member that got the last message
}

func (n *node) add(s *subscription) {
	for rest, more := s.levels, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		child := n.children[level]
		if child == nil {
			child = &node{}
			if n.children == nil {
				n.children = make(map[string]*node)
			}
			n.children[level] = child
		}
		n = child
	}
	if s.group == "" {
		if n.subs == nil {
			n.subs = make(map[*session]*subscription)
		}
		n.subs[s.session] = s
		return
	}
	if n.shares == nil {
		n.shares = make(map[string]*share)
	}
	group := n.shares[s.group]
	if group == nil {
		group = &share{}
		n.shares[s.group] = group
	}
	group.members = append(group.members, s)
}

func (n *node) remove(s *subscription) { n.removeAt(s.levels, s) }

// removeAt takes a subscription out below a node, and says whether nothing is
// left there.
func (n *node) removeAt(levels string, s *subscription) (empty bool) {
	level, rest, more := strings.Cut(levels, "/")
	child := n.children[level]
	if child == nil {
		return false
	}
	switch {
	case more:
		if child.removeAt(rest, s) {
			delete(n.children, level)
		}
	default:
		if s.group == "" {
			delete(child.subs, s.session)
		} else if group := child.shares[s.group]; group != nil {
			group.remove(s)
			if len(group.members) == 0 {
				delete(child.shares, s.group)
			}
		}
		if child.empty() {
			delete(n.children, level)
		}
	}
	return n.empty()
}

func (n *node) empty() bool { return len(n.children)+len(n.subs)+len(n.shares) == 0 }

// match appends the nodes whose filters match a topic.
func (n *node) match(topic string, first bool, found []*node) []*node {
	level, rest, more := strings.Cut(topic, "/")
	next := [2]*node{n.children[level]}
	// Topics that begin with $ are not for filters that begin with a wildcard.
	if !first || !strings.HasPrefix(level, "$") {
		next[1] = n.children["+"]
		if all := n.children["#"]; all != nil {
			found = append(found, all)
		}
	}
	for _, child := range next {
		switch {
		case child == nil:
		case more:
			found = child.match(rest, false, found)
		default:
			found = append(found, child)
			if all := child.children["#"]; all != nil { // a/# matches a, too
				found = append(found, all)
			}
		}
	}
	return found
}

// matches says whether the levels of a filter match one topic.
func matches(levels, topic string) bool {
	if strings.HasPrefix(topic, "$") && (levels[0] == '+' || levels[0] == '#') {
		return false
	}
	for {
		want, restLevels, moreLevels := strings.Cut(levels, "/")
		if want == "#" {
			return true
		}
		have, restTopic, moreTopic := strings.Cut(topic, "/")
		switch {
		case want != "+" && want != have:
			return false
		case !moreTopic:
			return !moreLevels || restLevels == "#"
		case !moreLevels:
			return false
		}
		levels, topic = restLevels, restTopic
	}
}

func (g *share) remove(s *subscription) {
	for i, member := range g.members {
		if member == s {
			g.members = append(g.members[:i:i], g.members[i+1:]...)
			return
		}
	}
}

// pick chooses the member for a message: of those connected the one with the
// shortest queue, in turns when several are alike. Nobody connected, a
// persistent session keeps the message. It gives nil when all have full queues
// (wait), and when a message of QoS 0 finds nobody connected.
func (g *share) pick(qos byte) (best *subscription, wait bool) {
	for _, connected := range []bool{true, false} {
		any := false
		for i := range g.members {
			at := (g.last + 1 + i) % len(g.members)
			member := g.members[at]
			if (member.session.conn != nil) != connected || !connected && min(qos, member.qos) == 0 {
				continue
			}
			any = true
			if member.session.room() && (best == nil || member.session.count < best.session.count) {
				best = member
			}
		}
		if any {
			g.turn(best)
			return best, best == nil
		}
	}
	return nil, false
}

// heir chooses who gets a message of a member that is gone, full or not; nil if
// there is nobody else.
func (g *share) heir(gone *session, connectedOnly bool) (best *subscription) {
	for i := range g.members {
		member := g.members[(g.last+1+i)%len(g.members)]
		connected := member.session.conn != nil
		switch {
		case member.session == gone, connectedOnly && !connected:
		case best == nil,
			connected && best.session.conn == nil,
			connected == (best.session.conn != nil) && member.session.count < best.session.count:
			best = member
		}
	}
	g.turn(best)
	return best
}

func (g *share) turn(to *subscription) {
	for i, member := range g.members {
		if member == to {
			g.last = i
		}
	}
}
