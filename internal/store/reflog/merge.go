package reflog

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"
)

// Frozen is the map as it was at a Freeze. Its methods belong to one goroutine, any.
type Frozen struct {
	l       *Log
	old     *view
	tables  []*table
	patches []*patch
	merged  *view // after Merge
}

var errOrder = errors.New("BUG: what is needed of the references was not given in the order of shards and lanes")

// Merge writes new files with what is needed, synced and with durable names, and returns the image and all the files it
// refers to. Files that are not among them any more are the caller's to remove, once no image names them. On an error the
// files it made are removed again as far as that is possible. throttle, if not nil, is called with the bytes read and
// written and may end the Merge.
func (f *Frozen) Merge(needed Needed, throttle func(bytes int) error) (image []byte, files []File, err error) {
	m := newMerge(f, throttle)
	defer m.cleanUp(&err)
	if err := needed.Shards(m.shard); err != nil {
		return nil, nil, fmt.Errorf("merge references: %w", err)
	}
	v, err := m.finish()
	if err != nil {
		return nil, nil, fmt.Errorf("merge references: %w", err)
	}
	f.merged = v
	return encodeImage(v, m.numbers), slices.Clone(v.files), nil
}

// merge is one Merge under way.
type merge struct {
	f     *Frozen
	l     *Log
	r     *reader // of the old view
	spend func(bytes int) error
	keys  []Key // of the tables, those not yet passed
	next  uint32
	made  []*writer
	files map[uint32]File // the ones finished

	begun bool // shard, the newest, means something
	last  uint64

	lanes []*mainLane
	chunk *writer // where chunks go

	groups  []*group
	numbers []uint32 // of the files in the end
}

func newMerge(f *Frozen, throttle func(int) error) *merge {
	if throttle == nil {
		throttle = func(int) error { return nil }
	}
	m := &merge{
		f: f, l: f.l, spend: throttle, next: f.old.next, keys: keys(f.tables), files: make(map[uint32]File),
	}
	m.r = &reader{l: f.l, v: f.old, patches: f.patches, spend: throttle}
	m.r = m.r.scanner()
	m.plan()
	return m
}

// shard takes what is needed of one shard.
func (m *merge) shard(shard uint64, lanes iter.Seq2[int64, uint64]) error {
	if m.begun && shard <= m.last {
		return errOrder
	}
	first := true
	var before int64
	var err error
	fate := fateOf(m.f.tables, shard)
	for lane, from := range lanes {
		if !first && lane <= before {
			return errOrder
		}
		first, before = false, lane
		k := Key{Shard: shard, Lane: lane}
		fresh := m.fresh(k, fate)
		if lane == 0 {
			err = m.mainLane(k, from, fate, fresh)
		} else {
			err = m.delayed(k, from, fate, fresh)
		}
		if err != nil {
			return err
		}
	}
	m.begun, m.last = true, shard
	return nil
}

// fresh is what the tables have of a lane; nil: nothing.
func (m *merge) fresh(k Key, fate fate) []*lane {
	for len(m.keys) > 0 && m.keys[0].less(k) {
		m.keys = m.keys[1:]
	}
	if len(m.keys) == 0 || m.keys[0] != k {
		return nil
	}
	m.keys = m.keys[1:]
	var lanes []*lane
	for _, t := range m.f.tables {
		if ln := t.lane(k); ln != nil && !fate.gone(ln.last()) {
			lanes = append(lanes, ln)
		}
	}
	return lanes
}

// eachFresh calls f for the runs that end behind from.
func eachFresh(lanes []*lane, from uint64, fate fate, f func(Run) error) (err error) {
	for _, ln := range lanes {
		ln.parts(func(runs []Run) bool {
			for i := range runs {
				if r := &runs[i]; r.end() > from && !fate.gone(r) {
					if err = f(*r); err != nil {
						return false
					}
				}
			}
			return true
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// finish ends all files and puts the new view together.
func (m *merge) finish() (*view, error) {
	if err := m.shorten(); err != nil {
		return nil, err
	}
	if err := m.rewrite(); err != nil {
		return nil, err
	}
	v := &view{main: m.lanes}
	for _, g := range m.groups {
		lv, err := g.finish()
		if err != nil {
			return nil, err
		}
		if lv != nil {
			v.levels = append(v.levels, lv)
		}
	}
	if err := m.endFiles(); err != nil {
		return nil, err
	}
	v.next = m.next
	m.list(v)
	return v, nil
}

// create begins a file.
func (m *merge) create() (*writer, error) {
	w, err := createFile(m.l, m.next, m.spend)
	if w != nil {
		m.next++
		m.made = append(m.made, w)
	}
	return w, err
}

// endFiles makes the files and their names durable.
func (m *merge) endFiles() error {
	for _, w := range m.made {
		f, err := w.finish()
		if err != nil {
			return err
		}
		m.files[w.number] = f
	}
	if len(m.made) == 0 {
		return nil
	}
	return m.l.fs.SyncDir(m.l.dir)
}

// list notes the files that the view refers to.
func (m *merge) list(v *view) {
	used := make(map[uint32]bool)
	for _, ln := range v.main {
		for i := range ln.chunks {
			used[ln.chunks[i].file] = true
		}
	}
	for _, lv := range v.levels {
		used[lv.file] = true
	}
	delete(used, 0)
	for number := range used {
		m.numbers = append(m.numbers, number)
	}
	slices.Sort(m.numbers)
	for _, number := range m.numbers {
		f, ok := m.files[number]
		if !ok {
			f = *m.f.old.file(number)
		}
		v.files = append(v.files, f)
	}
}

// cleanUp gives back the space of a Merge that failed.
func (m *merge) cleanUp(err *error) {
	if *err == nil {
		return
	}
	for _, w := range m.made {
		if w.file != nil {
			_ = w.file.Close()
		}
		if e := m.l.fs.Remove(m.l.path(w.number)); e != nil && !errors.Is(e, os.ErrNotExist) {
			*err = errors.Join(*err, e)
		}
	}
}
