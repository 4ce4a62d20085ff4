// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package deadletter

// tally adds up the records of one batch by topic. A batch holds few topics.
type tally []topicBytes

type topicBytes struct {
	topic string
	bytes int
}

// add counts a record. It reports false, and counts nothing, when the topic's
// records together would be larger than limit; a record alone always fits.
func (t *tally) add(topic string, size, limit int) bool {
	for i := range *t {
		if have := &(*t)[i]; have.topic == topic {
			if have.bytes+size > limit {
				return false
			}
			have.bytes += size
			return true
		}
	}
	*t = append(*t, topicBytes{topic, size})
	return true
}
