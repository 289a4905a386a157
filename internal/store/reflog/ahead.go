package reflog

import "sync"

// ahead fetches the chunk behind one that is being read from its beginning to its end: the one before was read too.
func (r *reader) ahead(m *mainLane, i int) {
	if r.l.opt.Go == nil || r.cached || i+1 == len(m.chunks) || m.chunks[i+1].file == 0 {
		return
	}
	next := m.source(i + 1)
	if i > 0 && r.l.cache.get(m.sourceID(i-1)) == nil || r.l.cache.get(next.id()) != nil || !r.l.fetching.start(next.id()) {
		return
	}
	fetch := &reader{l: r.l, v: r.v}
	r.l.opt.Go(func() {
		defer r.l.fetching.end(next.id())
		_, _ = fetch.block(next) // whoever needs it reads it again and has the error
	})
}

func (m *mainLane) sourceID(i int) cacheID {
	s := m.source(i)
	return s.id()
}

// fetching is the chunks that are being read ahead.
type fetching struct {
	mu  sync.Mutex
	ids map[cacheID]bool
}

// start reports whether to read it; end must follow.
func (f *fetching) start(id cacheID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ids[id] || len(f.ids) >= 4 { // what is refused is read when it is needed
		return false
	}
	f.ids[id] = true
	return true
}

func (f *fetching) end(id cacheID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.ids, id)
}
