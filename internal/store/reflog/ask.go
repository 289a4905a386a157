package reflog

import (
	"errors"
	"math"
	"slices"
)

// SeqAt is the position of the lane at which time begins: what is held below it was sent before time, what is held from
// it on at time or later; end if nothing is. It may be lower than the first position held.
//
// If it is not ready, the answer is on the disk and seq is a lower bound: what is held below it was sent before time. Call
// LoadSeqAt on another goroutine, then ask again.
func (l *Log) SeqAt(k Key, time int64, end uint64) (seq uint64, ready bool) {
	seq, _, err := l.seqAt(k, time, end, true)
	return min(seq, end), err == nil
}

// LoadSeqAt brings what SeqAt needs into the cache.
func (l *Log) LoadSeqAt(k Key, time int64) error {
	for {
		_, r, err := l.seqAt(k, time, math.MaxUint64, false)
		if !l.changed(r, err) {
			return err
		}
	}
}

func (l *Log) seqAt(k Key, time int64, end uint64, cached bool) (seq uint64, r *reader, err error) {
	l.mu.RLock()
	seq, found, any := l.recentBefore(k, time)
	fate, r := fateOf(l.tables, k.Shard), l.reader(cached)
	l.mu.RUnlock()
	if !found && !fate.dropped {
		var more bool
		seq, found, more, err = r.before(k, time)
		any = any || more
	}
	switch {
	case err != nil:
		return seq, r, err
	case !any:
		return end, r, nil
	case !found:
		return 0, r, nil
	}
	return seq, r, nil
}

// recentBefore is reader.before for the tables.
func (l *Log) recentBefore(k Key, time int64) (seq uint64, found, any bool) {
	fate := fateOf(l.tables, k.Shard)
	for _, t := range slices.Backward(l.tables) {
		ln := t.lane(k)
		if ln == nil {
			continue
		}
		if fate.gone(ln.last()) {
			break
		}
		any = any || ln.last().Time >= time
		if r := ln.before(func(r *Run) bool { return r.Time >= time }); r != nil && !fate.gone(r) {
			return r.end(), true, any
		}
	}
	return 0, false, any
}

// TimeAt is the send time of the first message at or behind a position; not found if there is none.
//
// If it is not ready, the answer is on the disk and sent is a lower bound of the time, if there is such a message. Call
// LoadTimeAt on another goroutine, then ask again.
func (l *Log) TimeAt(k Key, seq uint64) (sent int64, found, ready bool) {
	sent, found, _, err := l.timeAt(k, seq, true)
	return sent, found, err == nil
}

// LoadTimeAt brings what TimeAt needs into the cache.
func (l *Log) LoadTimeAt(k Key, seq uint64) error {
	for {
		_, _, r, err := l.timeAt(k, seq, false)
		if !l.changed(r, err) {
			return err
		}
	}
}

func (l *Log) timeAt(k Key, seq uint64, cached bool) (sent int64, found bool, r *reader, err error) {
	l.mu.RLock()
	run, recent := l.recent(k, seq)
	fate, r := fateOf(l.tables, k.Shard), l.reader(cached)
	l.mu.RUnlock()
	if !fate.dropped {
		sent, found, err = r.timeAt(k, seq)
	}
	if recent && (!found || err != nil) {
		if !found || run.Time < sent {
			sent = run.Time
		}
		found = true
	}
	return sent, found, r, err
}

// recent is the first run in the tables that ends behind seq. l.mu is held.
func (l *Log) recent(k Key, seq uint64) (Run, bool) {
	fate := fateOf(l.tables, k.Shard)
	for _, t := range l.tables {
		ln := t.lane(k)
		if ln == nil || fate.gone(ln.last()) {
			continue
		}
		if r := ln.find(func(r *Run) bool { return r.end() > seq && !fate.gone(r) }); r != nil {
			return *r, true
		}
	}
	return Run{}, false
}

// Resolve says where the message at a position is stored; false if the position is not held.
func (l *Log) Resolve(k Key, seq uint64) (Ref, bool, error) {
	for {
		l.mu.RLock()
		run, recent := l.recent(k, seq)
		if recent && run.Seq <= seq {
			l.mu.RUnlock()
			return run.ref(seq), true, nil
		}
		fate, r := fateOf(l.tables, k.Shard), l.reader(false)
		l.mu.RUnlock()
		if fate.dropped {
			return Ref{}, false, nil
		}
		run, ok, err := r.resolve(k, seq)
		if l.changed(r, err) {
			continue
		}
		if err != nil || !ok {
			return Ref{}, false, err
		}
		return run.ref(seq), true, nil
	}
}

// changed reports whether files could not be read because others have taken their place meanwhile.
func (l *Log) changed(r *reader, err error) bool {
	if err == nil {
		return false // nearly always, and the look below costs memory
	}
	var d *DamageError
	return errors.As(err, &d) && l.current() != r.v
}

// Runs gives the runs with positions in [lo, hi), in order, those at the edges cut to it.
func (l *Log) Runs(k Key, lo, hi uint64, f func(Run) error) error {
	give := func(runs []Run) error {
		for _, r := range from(runs, lo) {
			if r.Seq >= hi {
				return nil
			}
			if err := f(r.cut(lo, hi)); err != nil {
				return stopped{err}
			}
			lo = r.end()
		}
		return nil
	}
	for {
		l.mu.RLock()
		recent := l.recentRuns(k)
		fate, r := fateOf(l.tables, k.Shard), l.reader(false)
		l.mu.RUnlock()
		var err error
		if !fate.dropped {
			err = r.each(k, lo, hi, give)
		}
		for i := 0; i < len(recent) && err == nil; i++ {
			err = give(recent[i])
		}
		var stop stopped
		if errors.As(err, &stop) {
			return stop.error
		}
		if !l.changed(r, err) {
			return err
		}
	}
}

// Readable gives the runs with positions in [lo, hi) that can be read, in order, at most limit of them. The error is the *DamageError of the
// first part that cannot, or one that says nothing about what is stored.
func (l *Log) Readable(k Key, lo, hi uint64, limit int) (runs []Run, err error) {
	for {
		runs = nil
		next := lo
		give := func(more []Run) error {
			for _, r := range cutTo(more, next, hi) {
				if len(runs) == limit {
					return errEnough
				}
				runs, next = append(runs, r), r.end()
			}
			return nil
		}
		l.mu.RLock()
		recent := l.recentRuns(k)
		fate, r := fateOf(l.tables, k.Shard), l.reader(false)
		l.mu.RUnlock()
		r.lenient = true
		if !fate.dropped {
			err = r.each(k, lo, hi, give)
		}
		for i := 0; i < len(recent) && err == nil; i++ {
			err = give(recent[i])
		}
		if l.changed(r, r.passed) {
			continue
		}
		if err == nil || errors.Is(err, errEnough) {
			err = r.passed
		}
		return runs, err
	}
}

// errEnough ends a walk over runs.
var errEnough = errors.New("enough")

// stopped is an error of who is given the runs.
type stopped struct{ error }

// recentRuns are the runs of a lane in the tables. l.mu is held.
func (l *Log) recentRuns(k Key) (all [][]Run) {
	fate := fateOf(l.tables, k.Shard)
	for _, t := range l.tables {
		ln := t.lane(k)
		if ln == nil || fate.gone(ln.last()) {
			continue
		}
		for _, runs := range ln.snapshot() {
			for len(runs) > 0 && fate.gone(&runs[0]) {
				runs = runs[1:]
			}
			all = append(all, runs)
		}
	}
	return all
}
