package queue

import "slices"

// Weight is about how many numbered things the image of the shard lists: what AppendImage costs grows with it.
func (s *Shard) Weight() int {
	n := s.flights.len() + s.lanes.Len() + s.delay.Len() + len(s.dead.runs)
	if s.returned.tree != nil {
		n += s.returned.tree.Len()
	}
	return n
}

// Freeze makes a copy that stays as the shard is now and is good for its image only: AppendImage may be called
// on another goroutine while the shard goes on. Copying costs a small part of what encoding does: the trees
// are shared until somebody writes, nothing is sorted.
func (s *Shard) Freeze() *Shard {
	c := &Shard{
		ordinal: s.ordinal, attributes: s.attributes, counter: s.counter, sent: s.sent, main: s.main,
		delay: s.delay.Copy(), dead: s.dead, returned: s.returned,
	}
	s.lanes.Scan(func(due int64, l *lane) bool {
		own := *l
		c.lanes.Load(due, &own)
		return true
	})
	c.flights = flights{table: make([]flight, 0, s.flights.n), n: s.flights.n} // good for a walk, not for finding
	s.flights.each(func(f *flight) { c.flights.table = append(c.flights.table, *f) })
	c.dead.runs = slices.Clone(s.dead.runs)
	if s.returned.tree != nil {
		c.returned.tree = s.returned.tree.Copy()
	}
	return c
}
