package reflog

import (
	"math"
	"sort"
)

// resolve finds the run that has a position of the lane.
func (r *reader) resolve(k Key, seq uint64) (run Run, ok bool, err error) {
	if k.Lane == 0 {
		run, ok, err = r.resolveMain(k, seq)
	} else {
		run, ok, err = r.resolveDelayed(k, seq)
	}
	if err != nil {
		if run, ok := r.patched(k, seq); ok {
			return run, true, nil
		}
	}
	return run, ok, err
}

func (r *reader) resolveDelayed(k Key, seq uint64) (run Run, ok bool, err error) {
	for _, lv := range r.v.levels {
		// What begins behind seq is not asked for, but a lane that begins at seq is.
		i := lv.search(k, seq)
		if i == len(lv.blocks) || lv.blocks[i].key != k || lv.blocks[i].seq != seq {
			i--
		}
		if i < 0 {
			continue
		}
		runs, e := r.part(lv, i, k)
		if e != nil {
			err = e
			continue
		}
		if runs = from(runs, seq); len(runs) > 0 {
			if runs[0].Seq <= seq {
				return runs[0], true, nil
			}
			break
		}
	}
	return Run{}, false, err
}

func (r *reader) resolveMain(k Key, seq uint64) (run Run, ok bool, err error) {
	m := r.v.lane(k.Shard)
	if m == nil {
		return Run{}, false, nil
	}
	i := m.at(seq)
	if i == len(m.chunks) || m.chunks[i].seq > seq {
		return Run{}, false, nil
	}
	runs, err := r.chunk(m, i)
	if err != nil {
		return Run{}, false, err
	}
	r.ahead(m, i)
	if runs = from(runs, seq); len(runs) == 0 {
		return Run{}, false, nil
	}
	return runs[0], runs[0].Seq <= seq, nil
}

// before is the newest position before which something was sent earlier than time; any says that there is something
// sent at time or later, or may be. When the error is not nil, nothing held before seq was sent at time or later.
func (r *reader) before(k Key, time int64) (seq uint64, found, any bool, err error) {
	if k.Lane == 0 {
		return r.beforeMain(k, time)
	}
	for i := len(r.v.levels) - 1; i >= 0; i-- {
		lv := r.v.levels[i]
		a, b := lv.blocksOf(k)
		for j := b - 1; j >= a; j-- {
			e := &lv.blocks[j]
			if e.size > 0 && e.time >= time {
				any = true
				continue
			}
			runs, err := r.part(lv, j, k)
			if err != nil {
				return 0, false, true, err
			}
			n := older(runs, time)
			any = any || n < len(runs)
			if n > 0 {
				return runs[n-1].end(), true, any, nil
			}
		}
	}
	return 0, false, any, nil
}

func (r *reader) beforeMain(k Key, time int64) (seq uint64, found, any bool, err error) {
	m := r.v.lane(k.Shard)
	if m == nil {
		return 0, false, false, nil
	}
	i := sort.Search(len(m.chunks), func(i int) bool { return m.chunks[i].time >= time }) - 1
	any = i+1 < len(m.chunks)
	if i < 0 {
		return 0, false, any, nil
	}
	c := &m.chunks[i]
	if c.lastTime() < time {
		return c.end(), true, any, nil
	}
	runs, err := r.chunk(m, i)
	if err != nil {
		return c.seq, false, true, err
	}
	n := older(runs, time)
	if n == 0 {
		return 0, false, len(runs) > 0 || any, nil
	}
	return runs[n-1].end(), true, true, nil
}

// timeAt is the time of the first message at or behind seq. When the error is not nil, it is a lower bound.
func (r *reader) timeAt(k Key, seq uint64) (sent int64, found bool, err error) {
	if k.Lane == 0 {
		return r.timeAtMain(k, seq)
	}
	sent = math.MaxInt64
	for _, lv := range r.v.levels {
		a, b := lv.blocksOf(k)
		// Of the entries that begin at or before seq only the last one matters.
		if a+1 < b && lv.blocks[a+1].key == k && lv.blocks[a+1].seq <= seq {
			a = lv.lastAt(a+1, b, seq)
		}
		for ; a < b; a++ {
			runs, e := r.part(lv, a, k)
			if e != nil {
				err, sent = e, min(sent, lv.blocks[a].time)
				continue
			}
			if runs = from(runs, seq); len(runs) > 0 {
				return min(sent, runs[0].Time), true, err
			}
		}
	}
	return sent, err != nil, err
}

// lastAt is the last of the entries [a, b) of one lane that begins at or before seq; entry a does.
func (lv *level) lastAt(a, b int, seq uint64) int {
	return a + sort.Search(b-a, func(i int) bool { return lv.blocks[a+i].seq > seq }) - 1
}

func (r *reader) timeAtMain(k Key, seq uint64) (sent int64, found bool, err error) {
	m := r.v.lane(k.Shard)
	if m == nil {
		return 0, false, nil
	}
	i := m.at(seq)
	if i == len(m.chunks) {
		return 0, false, nil
	}
	c := &m.chunks[i]
	if seq <= c.seq {
		return c.time, true, nil
	}
	runs, err := r.chunk(m, i)
	if err != nil {
		return c.time, true, err
	}
	if runs = from(runs, seq); len(runs) > 0 {
		return runs[0].Time, true, nil
	}
	if i+1 < len(m.chunks) { // a peer gave less than the chunk had
		return m.chunks[i+1].time, true, nil
	}
	return 0, false, nil
}

// each gives the pieces of a lane that may have something in [lo, hi), in order.
func (r *reader) each(k Key, lo, hi uint64, f func([]Run) error) error {
	if k.Lane == 0 {
		return r.eachMain(k, lo, hi, f)
	}
	for _, lv := range r.v.levels {
		a, b := lv.blocksOf(k)
		for ; a < b; a++ {
			if first, end := lv.bounds(a, k); end <= lo || first >= hi {
				continue
			}
			runs, err := r.part(lv, a, k)
			if err == nil {
				err = f(runs)
			}
			if err != nil && !r.passes(err) {
				return err
			}
		}
	}
	return nil
}

func (r *reader) eachMain(k Key, lo, hi uint64, f func([]Run) error) error {
	m := r.v.lane(k.Shard)
	if m == nil {
		return nil
	}
	for i := m.at(lo); i < len(m.chunks) && m.chunks[i].seq < hi; i++ {
		runs, err := r.chunk(m, i)
		if err != nil && r.passes(err) {
			continue
		}
		if err != nil {
			return err
		}
		r.ahead(m, i)
		if err := f(runs); err != nil {
			return err
		}
	}
	return nil
}
