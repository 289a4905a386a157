package reflog

import (
	"errors"
	"slices"
)

const (
	ratio    = 3           // a level is merged with those behind it when they have more than a third of its runs
	inImage  = 4 * maxRuns // a level up to here is kept in memory and in the image, not in a file
	maxLevel = 100 << 20   // runs: larger levels are not merged, for a file of references ends below 4 GiB
)

// group is levels that lie one behind the other and become one, or one that stays as it is.
type group struct {
	m      *merge
	stays  *level
	tally  tally
	inputs []*cursor
	fresh  bool // what was frozen too
	hasOut bool
	out    levelWriter
}

// plan chooses which levels are merged. It depends on nothing but the levels and the number of runs frozen, except that
// a damaged level is written anew, and so is one with holes once a peer gave something for a delayed lane.
func (m *merge) plan() {
	levels := m.f.old.levels
	var runs uint64
	lo, hi := uint64(0), uint64(0)
	for _, t := range m.f.tables {
		if t.delayed > 0 {
			if runs == 0 {
				lo = t.lo
			}
			lo, hi = min(lo, t.lo), max(hi, t.hi)
			runs += t.delayed
		}
	}
	i := len(levels)
	for ; i > 0 && (levels[i-1].file == 0 || levels[i-1].live <= ratio*runs && levels[i-1].live+runs <= maxLevel); i-- {
		runs += levels[i-1].live
	}
	repaired := m.repaired()
	for _, lv := range levels[:i] {
		g := &group{m: m}
		if lv.live < lv.runs/2 || repaired && lv.holes || m.l.suspected(lv.file) {
			g.input(lv)
			g.begin(lv.live, 0, 0)
		} else {
			g.stays = lv.without(m.f.tables)
			g.tally.lv = g.stays
		}
		m.groups = append(m.groups, g)
	}
	g := &group{m: m, fresh: true}
	for _, lv := range levels[i:] {
		g.input(lv)
	}
	g.begin(runs, lo, hi)
	m.groups = append(m.groups, g)
}

// without is a copy of the level that knows which shards have been dropped.
func (lv *level) without(tables []*table) *level {
	c := *lv
	c.gone = slices.Clone(lv.gone)
	for _, t := range tables {
		for shard := range t.dropped {
			if lv.mayHave(shard) {
				c.gone = append(c.gone, shard)
			}
		}
	}
	slices.Sort(c.gone)
	c.gone = slices.Compact(c.gone)
	return &c
}

func (m *merge) repaired() bool {
	for _, p := range m.f.patches {
		if p.key.Lane != 0 {
			return true
		}
	}
	return false
}

func (g *group) input(lv *level) {
	g.inputs = append(g.inputs, &cursor{r: g.m.r.scanner(), lv: lv})
}

// begin makes the group ready to write so many runs with indexes that are those of the inputs or in [lo, hi].
func (g *group) begin(runs, lo, hi uint64) {
	for _, c := range g.inputs {
		a := c.lv.base << c.lv.shift
		b := (c.lv.base+uint64(len(c.lv.bytes)))<<c.lv.shift - 1
		if hi == 0 {
			lo = a
		}
		lo, hi = min(lo, a), max(hi, b)
	}
	g.hasOut = true
	g.out = levelWriter{m: g.m, memory: runs <= g.m.l.opt.inImage}
	g.out.lv.weights = newWeights(lo, hi)
}

// delayed brings one delayed lane up to date.
func (m *merge) delayed(k Key, from uint64, fate fate, fresh []*lane) error {
	for _, g := range m.groups {
		if g.stays != nil {
			if !g.stays.dropped(k.Shard) {
				g.tally.see(k)
			}
			continue
		}
		if !fate.dropped {
			for _, c := range g.inputs {
				if err := c.lane(k, nil, g.taker(c, k, from)); err != nil {
					return err
				}
			}
		}
		if g.fresh {
			if err := eachFresh(fresh, from, fate, func(r Run) error { return g.out.add(k, r) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// taker takes what an input has of a lane.
func (g *group) taker(c *cursor, k Key, from uint64) func([]Run, *entry, *DamageError) error {
	return func(runs []Run, e *entry, damage *DamageError) error {
		if damage != nil {
			if damage.Hi <= from {
				return nil
			}
			return g.out.hole(k, max(damage.Lo, from), e)
		}
		for _, r := range runs {
			if r.end() > from {
				if err := g.out.add(k, r); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

// finish is the level the group has become; nil: nothing.
func (g *group) finish() (*level, error) {
	if g.stays == nil {
		return g.out.finish()
	}
	g.stays.live = g.tally.end()
	return g.stays, nil
}

// tally estimates how many runs of a level are still needed: in each block as large a part as of its lanes.
type tally struct {
	lv    *level
	i     int // the block
	lanes int // needed, of it
	live  uint64
}

func (t *tally) see(k Key) {
	for t.i+1 < len(t.lv.blocks) && !k.less(t.lv.blocks[t.i+1].key) {
		if t.lv.blocks[t.i+1].key == k { // it begins in this block, or lies in it whole
			t.lanes++
		}
		t.leave()
	}
	t.lanes++
}

func (t *tally) leave() {
	e := &t.lv.blocks[t.i]
	if n := int(e.lanes); t.lanes < n {
		t.live += uint64(e.runs) * uint64(t.lanes) / uint64(n)
	} else {
		t.live += uint64(e.runs)
	}
	t.i, t.lanes = t.i+1, 0
}

func (t *tally) end() uint64 {
	if t.i < len(t.lv.blocks) {
		t.leave()
	}
	return t.live
}

// levelWriter writes a level.
type levelWriter struct {
	m      *merge
	memory bool
	out    *writer
	lv     level
	enc    encoder
	cur    entry
	key    Key    // of what was added last
	upTo   uint64 // behind it
	any    bool
}

func (w *levelWriter) add(k Key, r Run) error {
	if w.any && k == w.key && r.Seq < w.upTo {
		return nil // there already
	}
	if w.enc.runs == w.m.l.opt.runs || w.enc.runs > 0 && !w.cur.covers(&r) {
		if err := w.cut(); err != nil {
			return err
		}
	}
	if w.enc.runs == 0 {
		w.cur = entry{key: k, seq: r.Seq, index: r.Index, time: r.Time}
	}
	w.cur.cover(&r)
	w.enc.add(k, r)
	w.lv.add(r.Index, uint64(r.Bytes))
	w.key, w.upTo, w.any = k, r.end(), true
	return nil
}

// covers reports whether the block can take the run, as far as indexes go.
func (e *entry) covers(r *Run) bool {
	lo, hi := min(e.index, r.Index), max(e.last(), r.Index)
	return hi-lo < 1<<32
}

func (e *entry) cover(r *Run) {
	hi := max(e.last(), r.Index)
	e.index = min(e.index, r.Index)
	e.indexes = uint32(hi - e.index)
	e.time = min(e.time, r.Time)
}

// hole notes that what entry e had of a lane, from lo on, is lost.
func (w *levelWriter) hole(k Key, lo uint64, e *entry) error {
	if err := w.cut(); err != nil {
		return err
	}
	if w.any && w.key == k {
		lo = max(lo, w.upTo)
	}
	w.lv.cover(e.index, e.last())
	w.lv.holes = true
	w.lv.blocks = append(w.lv.blocks, entry{key: k, seq: lo, index: e.index, indexes: e.indexes, time: e.time, lanes: 1})
	if w.memory {
		w.lv.bodies = append(w.lv.bodies, nil)
	}
	w.key, w.upTo, w.any = k, lo, true
	return nil
}

// cut ends the block.
func (w *levelWriter) cut() error {
	if w.enc.runs == 0 {
		return nil
	}
	e := w.cur
	e.runs, e.lanes, e.size = uint16(w.enc.runs), uint16(w.enc.lanes), uint32(len(w.enc.body))
	w.lv.runs += uint64(e.runs)
	if w.memory && w.lv.runs > 2*w.m.l.opt.inImage {
		if err := w.spill(); err != nil {
			return err
		}
	}
	if w.memory {
		w.lv.bodies = append(w.lv.bodies, append([]byte(nil), w.enc.body...))
	} else {
		s, err := w.block(w.enc.body, w.enc.runs, w.enc.lanes)
		if err != nil {
			return err
		}
		e.off, e.checksum = s.off, s.checksum
	}
	w.lv.blocks = append(w.lv.blocks, e)
	w.enc.reset()
	return nil
}

var errLarge = errors.New("the references of delayed messages do not fit into a file of 4 GiB")

// spill moves to a file what was taken for less than it is.
func (w *levelWriter) spill() error {
	for i, body := range w.lv.bodies {
		e := &w.lv.blocks[i]
		if e.size == 0 {
			continue
		}
		s, err := w.block(body, int(e.runs), int(e.lanes))
		if err != nil {
			return err
		}
		e.off, e.checksum = s.off, s.checksum
	}
	w.memory, w.lv.bodies = false, nil
	return nil
}

func (w *levelWriter) block(body []byte, runs, lanes int) (source, error) {
	if w.out == nil {
		out, err := w.m.create()
		if err != nil {
			return source{}, err
		}
		w.out = out
	}
	if w.out.size+int64(len(body))+blockHead >= 1<<32 {
		return source{}, errLarge
	}
	return w.out.block(body, runs, lanes)
}

func (w *levelWriter) finish() (*level, error) {
	if err := w.cut(); err != nil {
		return nil, err
	}
	if len(w.lv.blocks) == 0 {
		return nil, nil
	}
	if w.out == nil && !w.memory { // holes only
		w.memory = true
		w.lv.bodies = make([][]byte, len(w.lv.blocks))
	}
	if w.out != nil {
		w.lv.file = w.out.number
	}
	lv := w.lv // alone, for the writer holds all that was frozen
	lv.live = lv.runs
	lv.blocks = slices.Clone(lv.blocks)
	lv.trim()
	return &lv, nil
}
