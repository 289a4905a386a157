package reflog

import (
	"errors"
	"iter"
	"sort"
)

func (f *Frozen) walker(throttle func(int) error) *reader {
	if f.merged == nil {
		panic("BUG: references are walked that were not merged")
	}
	return &reader{l: f.l, v: f.merged, spend: throttle, scan: true}
}

// Look gives what is on the disk and in the tails to Weigh and Each, without what was added since: for a map that was opened to
// see what an image needs. There is nothing to install.
func (l *Log) Look() *Frozen { return &Frozen{l: l, merged: l.current()} }

// Weigh tells how the live bytes are distributed over the raft log: entries [lo, hi) have about so many. Every entry with a
// live message is in one of the ranges. Chunks that are wholly alive are not read. Of delayed lanes it tells what was needed
// at the Merge, in the proportions of when their levels were written. Call it after Merge.
func (f *Frozen) Weigh(live Live, throttle func(bytes int) error, out func(lo, hi, bytes uint64)) error {
	r := f.walker(throttle)
	err := live.Shards(func(shard uint64, spans iter.Seq[Span]) error {
		if m := f.merged.lane(shard); m != nil {
			return weighLane(r, m, mainSpans(spans), out)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, lv := range f.merged.levels {
		for i, bytes := range lv.bytes {
			if bytes > 0 {
				lo := (lv.base + uint64(i)) << lv.shift
				out(lo, lo+1<<lv.shift, share(bytes, lv.live, lv.runs))
			}
		}
	}
	return nil
}

// share is bytes * part / whole without the multiplication running over; at least 1.
func share(bytes, part, whole uint64) uint64 {
	if part >= whole {
		return bytes
	}
	return max(1, uint64(float64(bytes)*float64(part)/float64(whole)))
}

// mainSpans are the spans of the main lane, which come first.
func mainSpans(spans iter.Seq[Span]) (main []Span) {
	for s := range spans {
		if s.Lane != 0 {
			break
		}
		main = append(main, s)
	}
	return main
}

// weighLane weighs one main lane. A chunk that cannot be read weighs as if it were wholly alive.
func weighLane(r *reader, m *mainLane, spans []Span, out func(lo, hi, bytes uint64)) error {
	for i := 0; i < len(m.chunks) && len(spans) > 0; i++ {
		c := &m.chunks[i]
		for len(spans) > 0 && spans[0].Hi <= c.seq {
			spans = spans[1:]
		}
		if len(spans) == 0 || spans[0].Lo >= c.end() {
			continue
		}
		whole := spans[0].Lo <= c.seq && spans[0].Hi >= c.end()
		if !whole {
			runs, err := r.chunk(m, i)
			if err == nil {
				weighRuns(runs, spans, out)
				continue
			}
			if !isDamage(err) {
				return err
			}
		}
		out(c.index, c.last()+1, c.bytes)
	}
	return nil
}

func weighRuns(runs []Run, spans []Span, out func(lo, hi, bytes uint64)) {
	var lo, hi, bytes uint64
	clip(runs, spans, func(r Run) error {
		if hi == 0 {
			lo = r.Index
		}
		lo, hi = min(lo, r.Index), max(hi, r.Index+1)
		bytes += uint64(r.Bytes)
		return nil
	})
	if hi > 0 {
		out(lo, hi, bytes)
	}
}

// clip gives what of the runs lies in the spans.
func clip(runs []Run, spans []Span, f func(Run) error) error {
	for _, s := range spans {
		for runs = from(runs, s.Lo); len(runs) > 0 && runs[0].Seq < s.Hi; runs = runs[1:] {
			if err := f(runs[0].cut(s.Lo, s.Hi)); err != nil {
				return err
			}
			if runs[0].end() > s.Hi { // the next span may begin in it
				break
			}
		}
	}
	return nil
}

// Each gives the live runs in entries [lo, hi), shard by shard, lane by lane, in the order of positions. Call it after Merge. Where
// references of such entries are damaged it goes on behind them, and the error is a *PartialError in the end.
func (f *Frozen) Each(live Live, lo, hi uint64, throttle func(bytes int) error, out func(k Key, r Run) error) error {
	r := f.walker(throttle)
	e := eacher{r: r, lo: lo, hi: hi, out: out}
	for _, lv := range f.merged.levels {
		e.cursors = append(e.cursors, &cursor{r: r.scanner(), lv: lv})
	}
	err := live.Shards(func(shard uint64, spans iter.Seq[Span]) error {
		k := Key{Shard: shard}
		var of []Span // of the lane k
		for s := range spans {
			if s.Lane != k.Lane {
				if err := e.lane(k, of); err != nil {
					return err
				}
				k.Lane, of = s.Lane, of[:0]
			}
			of = append(of, s)
		}
		return e.lane(k, of)
	})
	if err == nil && len(e.partial.Damage) > 0 {
		err = &e.partial
	}
	return err
}

type eacher struct {
	r       *reader
	lo, hi  uint64
	cursors []*cursor
	out     func(Key, Run) error
	partial PartialError
}

func (e *eacher) lane(k Key, spans []Span) error {
	if len(spans) == 0 {
		return nil
	}
	if k.Lane == 0 {
		return e.main(k, spans)
	}
	for _, c := range e.cursors {
		skip := func(b *entry) bool { return b.index >= e.hi || b.last() < e.lo }
		err := c.lane(k, skip, func(runs []Run, b *entry, damage *DamageError) error {
			if damage == nil {
				return e.give(k, runs, spans)
			}
			if reach(spans, damage.Lo, damage.Hi) {
				e.partial.add(damage, b.index, b.last()+1)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *eacher) main(k Key, spans []Span) error {
	m := e.r.v.lane(k.Shard)
	if m == nil {
		return nil
	}
	for i := m.at(spans[0].Lo); i < len(m.chunks); i++ {
		c := &m.chunks[i]
		if c.index >= e.hi || c.last() < e.lo {
			continue
		}
		for len(spans) > 0 && spans[0].Hi <= c.seq {
			spans = spans[1:]
		}
		if len(spans) == 0 {
			return nil
		}
		if spans[0].Lo >= c.end() {
			continue
		}
		runs, err := e.r.chunk(m, i)
		var damage *DamageError
		if errors.As(err, &damage) {
			e.partial.add(damage, c.index, c.last()+1)
			continue
		}
		if err == nil {
			err = e.give(k, runs, spans)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// reach reports whether any of the spans has a position in [lo, hi).
func reach(spans []Span, lo, hi uint64) bool {
	i := sort.Search(len(spans), func(i int) bool { return spans[i].Hi > lo })
	return i < len(spans) && spans[i].Lo < hi
}

func (e *eacher) give(k Key, runs []Run, spans []Span) error {
	return clip(runs, spans, func(r Run) error {
		if r.Index < e.lo || r.Index >= e.hi {
			return nil
		}
		return e.out(k, r)
	})
}
