package reflog

import (
	"cmp"
	"errors"
	"slices"
)

// errNotCached says that the answer is on the disk.
var errNotCached = errors.New("not in the cache")

// patch is what a peer gave for a part that cannot be read.
type patch struct {
	key    Key
	lo, hi uint64
	runs   []Run
}

// reader looks things up in a view.
type reader struct {
	l       *Log
	v       *view
	patches []*patch // newest last
	cached  bool     // the disk must not be touched
	spend   func(bytes int) error

	// A lenient one passes over what is damaged, and remembers the first error about it.
	lenient bool
	passed  error

	// A scan goes through everything once. It leaves the cache alone and keeps the newest block, or why there is none.
	scan   bool
	newest cacheID
	held   *block
	why    error
}

// scanner makes a reader for a scan of its own.
func (r *reader) scanner() *reader {
	return &reader{l: r.l, v: r.v, patches: r.patches, spend: r.spend, scan: true}
}

func (r *reader) block(s source) (*block, error) {
	if !r.scan {
		return r.find(s)
	}
	if r.held == nil && r.why == nil || r.newest != s.id() {
		r.newest = s.id()
		r.held, r.why = r.find(s)
	}
	return r.held, r.why
}

func (r *reader) find(s source) (*block, error) {
	if b := r.l.cache.get(s.id()); b != nil {
		return b, nil
	}
	body := s.body
	if body == nil {
		body = r.l.salvaged.get(s.id())
	}
	if body == nil {
		if r.cached {
			return nil, errNotCached
		}
		var err error
		if body, err = r.read(&s); err != nil {
			return nil, err
		}
	}
	b, err := r.l.decode(&s, body)
	if err == nil && !r.scan {
		r.l.cache.put(s.id(), b)
	}
	return b, err
}

func (r *reader) read(s *source) ([]byte, error) {
	body, err := r.l.readBody(s)
	if err == nil && r.spend != nil {
		err = r.spend(len(body))
	}
	return body, err
}

// patch is the newest one for a part of a lane.
func (r *reader) patch(k Key, lo, hi uint64) *patch {
	for _, p := range slices.Backward(r.patches) {
		if p.key == k && p.lo <= lo && p.hi >= hi {
			return p
		}
	}
	return nil
}

// patched is the run with a position of the lane in the newest patch that has it. It may be of a part of a block only.
func (r *reader) patched(k Key, seq uint64) (Run, bool) {
	p := r.patch(k, seq, seq+1)
	if p == nil {
		return Run{}, false
	}
	runs := from(p.runs, seq)
	if len(runs) == 0 || runs[0].Seq > seq {
		return Run{}, false
	}
	return runs[0], true
}

// passes reports whether to go on behind an error.
func (r *reader) passes(err error) bool {
	if !r.lenient || !isDamage(err) {
		return false
	}
	r.passed = cmp.Or(r.passed, err)
	return true
}

// chunk is the runs of a chunk.
func (r *reader) chunk(m *mainLane, i int) ([]Run, error) {
	c, k := &m.chunks[i], Key{Shard: m.shard}
	if p := r.patch(k, c.seq, c.end()); p != nil {
		return cutTo(p.runs, c.seq, c.end()), nil
	}
	b, err := r.block(m.source(i))
	if err != nil {
		return nil, r.lost(err, k, c.seq, c.end(), c.file)
	}
	return b.runs, nil
}

// part is what entry i of a level has of a lane.
func (r *reader) part(lv *level, i int, k Key) ([]Run, error) {
	if e := &lv.blocks[i]; e.size == 0 && e.key != k || lv.dropped(k.Shard) {
		return nil, nil
	}
	lo, hi := lv.bounds(i, k)
	if p := r.patch(k, lo, hi); p != nil {
		return lv.blocks[i].within(cutTo(p.runs, lo, hi)), nil
	}
	b, err := r.block(lv.source(i))
	if err != nil {
		return nil, r.lost(err, k, lo, hi, lv.file)
	}
	return b.of(k), nil
}

// within is the runs that can be from the block: a peer gives the lane to its end, if it is not known where the block's part ends.
func (e *entry) within(runs []Run) []Run {
	for len(runs) > 0 && runs[0].Index < e.index {
		runs = runs[1:]
	}
	for len(runs) > 0 && runs[len(runs)-1].Index > e.last() {
		runs = runs[:len(runs)-1]
	}
	return runs
}

// lost completes a *DamageError and remembers which file is to be written anew.
func (r *reader) lost(err error, k Key, lo, hi uint64, file uint32) error {
	var d *DamageError
	if errors.As(err, &d) {
		d.Key, d.Last, d.Lo, d.Hi = k, k, lo, hi
		r.l.suspect(file)
	}
	return err
}
