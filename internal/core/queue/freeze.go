package queue

import "slices"

// Weight is about how many numbered things the image of the shard lists: what AppendImage costs grows with it.
func (s *Shard) Weight() int {
	n := s.flights.len() + len(s.dead.list()) + s.prepared.len() + s.sessions.weight()
	if s.delayed != nil {
		n += s.delayed.lanes.Len() + s.delayed.Len()
	}
	if s.returned.tree != nil {
		n += s.returned.tree.Len()
	}
	return n
}

// Freeze makes a copy that stays as the shard is now and is good for its image only: AppendImage may be called
// on another goroutine while the shard goes on. Copying costs a small part of what encoding does: the trees and
// the pages of the in-flight table are shared until somebody writes, nothing is sorted.
func (s *Shard) Freeze() Shard {
	c := Shard{
		ordinal: s.ordinal, attributes: s.attributes, counter: s.counter, sent: s.sent, now: s.now, main: s.main,
		delayed: s.delayed.copy(), flights: s.flights.copy(), returned: s.returned, prepared: s.prepared.freeze(),
		sessions: s.sessions.freeze(),
	}
	if s.dead != nil {
		dead := *s.dead
		dead.runs = slices.Clone(dead.runs)
		c.dead = &dead
	}
	if s.returned.tree != nil {
		c.returned.tree = s.returned.tree.Copy()
	}
	return c
}
