package segment

import (
	"errors"
	"path/filepath"
	"slices"

	"github.com/opencmq/cmq/internal/vfs"
)

// A segment of which something was lost is written anew, whole, beside the old file, and takes its name: same number, same
// salt, same begin block, and the batches end where the next segment's begin block says. So its neighbours need not change.

// Holes lists the entries that were promised and cannot be read, as Open found them. Until Fill has given them back nothing
// can be appended.
func (l *Log) Holes() []Hole {
	if l.lost.Load() == 0 {
		return nil
	}
	l.mu.RLock()
	var holes []Hole
	for _, s := range l.segs {
		for _, h := range s.holes() {
			for lo := h.Lo; lo < h.Hi; {
				for ; lo < h.Hi && l.isGiven(lo); lo++ {
				}
				hi := lo
				for ; hi < h.Hi && !l.isGiven(hi); hi++ {
				}
				if lo < hi {
					holes = append(holes, Hole{Lo: lo, Hi: hi, File: h.File, Offset: h.Offset, Why: h.Why})
				}
				lo = hi
			}
		}
	}
	l.mu.RUnlock()
	for i := range holes {
		l.anchor(&holes[i], holes[i].Hi)
	}
	return holes
}

// holes are the lost entries of a segment, with what is wrong with its file.
func (s *segment) holes() []Hole {
	var holes []Hole
	for _, lost := range s.table.holes() {
		h := Hole{Lo: lost[0], Hi: lost[1], File: s.path, Why: "it cannot be read"}
		if s.bad != nil {
			h.Offset, h.Why = s.bad.Offset, s.bad.Why
		}
		holes = append(holes, h)
	}
	return holes
}

// damagedOf reads the lost entries whose records say which they are.
func damagedOf(segs []*segment) ([]Damaged, error) {
	var entries []Damaged
	for _, s := range segs {
		if s.file == nil || len(s.table.holes()) == 0 {
			continue
		}
		probe := *s
		if _, err := probe.salvage(s.size, true); err != nil {
			return nil, err
		}
		for _, h := range s.table.holes() {
			for i := h[0]; i < h[1] && i <= probe.table.last(); i++ {
				if i < probe.table.first || probe.table.lost(i) {
					continue
				}
				e, err := probe.readAsItIs(i)
				if err != nil {
					return nil, err
				}
				entries = append(entries, e)
			}
		}
	}
	return entries, nil
}

// readAsItIs reads an entry of the table, whatever its checksum says.
func (s *segment) readAsItIs(index uint64) (Damaged, error) {
	off, term := s.table.offset(index), s.table.term(index)
	if e, err := s.read(off, index, term); !errors.As(err, new(*DamageError)) {
		return Damaged{Entry: e, Intact: true}, err
	}
	p, err := s.payload(off, index, term)
	if err != nil {
		return Damaged{}, err
	}
	e := Entry{Index: index, Term: term, Type: p.kind, Data: make([]byte, p.size)}
	if n, err := p.ReadAt(e.Data, 0); n < len(e.Data) {
		return Damaged{}, s.readError(off, err)
	}
	return Damaged{Entry: e}, nil
}

func (l *Log) isGiven(index uint64) bool {
	_, ok := l.given[index]
	return ok
}

// Fill gives lost entries back. Segments of which nothing is lost any more are written anew and durable when it returns. It belongs
// to the appending goroutine. After ErrNoSpace the holes that were to be filled are there as before.
func (l *Log) Fill(entries []Entry) error {
	if l.err != nil {
		return l.err
	}
	l.mu.Lock()
	if l.given == nil {
		l.given = map[uint64]Entry{}
	}
	for _, e := range entries {
		if s, err := l.findLocked(e.Index); err == nil && s.table.lost(e.Index) {
			l.given[e.Index] = e
		}
	}
	l.mu.Unlock()
	for i := range l.segs {
		holes := l.segs[i].table.holes()
		if len(holes) == 0 || !l.allGiven(holes) {
			continue
		}
		err := l.restore(i, func(s *segment, index uint64) (Entry, error) {
			if e, ok := l.given[index]; ok {
				return e, nil
			}
			l.mu.Lock() // more of the segment is lost than was known
			s.table.lose(index)
			l.mu.Unlock()
			return Entry{}, s.lostEntry(index)
		})
		if err != nil && !errors.As(err, new(*DamageError)) {
			l.takeBack(holes)
			return l.noSpaceOrDied(err)
		}
	}
	l.countLost()
	return nil
}

// takeBack forgets what was given for holes that could not be filled with it: they are holes as before.
func (l *Log) takeBack(holes [][2]uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range holes {
		for i := h[0]; i < h[1]; i++ {
			delete(l.given, i)
		}
	}
}

func (l *Log) allGiven(holes [][2]uint64) bool {
	for _, h := range holes {
		for i := h[0]; i < h[1]; i++ {
			if !l.isGiven(i) {
				return false
			}
		}
	}
	return true
}

// countLost counts the lost entries, for Holes.
func (l *Log) countLost() {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := int64(0)
	for _, s := range l.segs {
		for _, h := range s.table.holes() {
			n += int64(h[1] - h[0])
		}
	}
	l.lost.Store(n)
	if n == 0 {
		l.given = nil
	}
}

// Roll goes on in a new segment, so that the active one is sealed and can be rebuilt. It belongs to the appending goroutine.
func (l *Log) Roll() error {
	if l.err != nil {
		return l.err
	}
	return l.roll(commitSize, 0)
}

// Rebuild writes a sealed segment of the log anew. Entries that cannot be read come from get, which is asked for [lo, hi). It
// belongs to the appending goroutine.
func (l *Log) Rebuild(number uint64, get func(lo, hi uint64) ([]Entry, error)) error {
	if l.err != nil {
		return l.err
	}
	i := slices.IndexFunc(l.segs, func(s *segment) bool { return s.head.number == number })
	switch i {
	case -1:
		return nil // it has left the log
	case len(l.segs) - 1:
		panic("BUG: the active segment cannot be rebuilt")
	}
	err := l.restore(i, func(s *segment, index uint64) (Entry, error) {
		entries, err := get(index, index+1)
		if err != nil || len(entries) != 1 || entries[0].Index != index {
			return Entry{}, errors.Join(s.lostEntry(index), err)
		}
		return entries[0], nil
	})
	if errors.As(err, new(*DamageError)) {
		return err
	}
	return l.noSpaceOrDied(err)
}

// restore writes the i-th segment's file anew. What cannot be read comes from get. Who reads the old file meanwhile finds it closed,
// and the new one in the list.
func (l *Log) restore(i int, get func(s *segment, index uint64) (Entry, error)) error {
	l.healing.Lock()
	defer l.healing.Unlock()
	for moved := true; moved; i++ {
		var err error
		if moved, err = l.restoreOne(i, get); err != nil {
			return err
		}
	}
	return nil
}

// restoreOne tells whether the segment ends elsewhere now than the next one says, or with an entry of another term, so that this must be
// written anew too. A crash in between shows at the next Open as damage of the i-th.
func (l *Log) restoreOne(i int, get func(s *segment, index uint64) (Entry, error)) (moved bool, err error) {
	old := l.segs[i]
	var entries []Entry
	for at := old.table.first; at <= old.table.last(); at++ {
		e, err := old.read(old.table.offset(at), at, old.table.term(at))
		if errors.As(err, new(*DamageError)) {
			e, err = get(old, at)
		}
		if err != nil {
			return false, err
		}
		entries = append(entries, e)
	}
	isLast := i == len(l.segs)-1
	fresh, err := l.writeAgain(old, l.again(i), entries, isLast)
	if err != nil {
		return false, err
	}
	fresh.sure = old.sure
	l.mu.Lock()
	l.segs = slices.Clone(l.segs)
	l.segs[i] = fresh
	l.read.truncate(fresh.table.first)
	if isLast {
		l.setSynced(fresh.end)
	}
	l.mu.Unlock()
	if old.file != nil {
		if err := old.file.Close(); err != nil {
			l.opt.Logger.Warn("closing a damaged segment", "segment", old.path, "error", err)
		}
	}
	return !isLast && (fresh.end != old.end || l.otherTerm(i+1)), nil
}

// otherTerm tells whether the i-th segment says that the entry before its first has another term than it has. An entry that was lost
// without having been agreed on comes back with a newer one; then nothing follows it.
func (l *Log) otherTerm(i int) bool {
	s := l.segs[i]
	term, err := l.Term(s.table.first - 1)
	return err == nil && s.table.prevTerm != 0 && term != s.table.prevTerm
}

// again is what the i-th segment begins with when it is written anew.
func (l *Log) again(i int) *segment {
	s := l.segs[i]
	like := &segment{begin: s.begin, table: table{first: s.table.first, prevTerm: s.table.prevTerm}}
	if i == 0 {
		return like
	}
	if s.file == nil || l.otherTerm(i) { // what stands in for a lost one does not know its past
		term, _ := l.Term(s.begin.first - 1) // 0 if that is lost too
		like.begin.prevTerm, like.table.prevTerm = term, term
	}
	like.begin.prevEnd, like.begin.prevSalt = l.segs[i-1].end, l.segs[i-1].head.salt
	return like
}

// writeAgain makes the file. The last segment looks like one of a log that was closed; of any other the batches end where the
// next begin block says, if they can.
func (l *Log) writeAgain(s, like *segment, entries []Entry, isLast bool) (*segment, error) {
	need := headerSize + batchSize(entries) + int64(footerSize(len(entries), len(entries))) + 2*commitSize
	head := s.head
	head.size = max(head.size, l.opt.SegmentSize, need)
	if isLast {
		synced := l.synced
		fresh, err := l.makeClosed(head, like, entries)
		l.setSynced(synced)
		return fresh, err
	}
	return makeFile(l.fs, l.dir, head, func(f *segment) error {
		f.begin, f.table = like.begin, like.table
		if err := f.writePadded(&l.enc, entries, l.HardState(), s.end); err != nil {
			return err
		}
		return l.sealFile(f)
	})
}

// writePadded writes the begin block and one batch that ends at end, or where it must if it is longer.
func (s *segment) writePadded(e *encoder, entries []Entry, hs HardState, end int64) error {
	e.reset(s.head.salt, s.end)
	e.prefix(s.beginBytes())
	last, term := s.table.first-1, s.table.prevTerm
	for i := range entries {
		en := &entries[i]
		off := e.add(record{typ: typeEntry, flags: en.Type, index: en.Index, term: en.Term, payload: en.Data})
		s.table.add(en.Index, en.Term, off)
		last, term = en.Index, en.Term
	}
	if room := end - commitSize - e.off; room >= recordSize {
		e.add(record{typ: typePad, index: last, term: term, payload: make([]byte, room-recordSize)})
	}
	bufs := e.commit(last, term, hs, s.end, 0)
	if err := s.file.WritevAt(bufs, beginAt); err != nil {
		return err
	}
	s.begun, s.end = true, e.off
	return s.file.Sync()
}

// lostSegment stands for a segment whose file is missing or not readable at all.
func (o *opening) lostSegment(number uint64) *segment {
	path := filepath.Join(o.log.dir, fileName(number))
	return &segment{
		path: path, head: header{number: number, id: o.log.opt.identity()}, end: headerSize,
		bad: &DamageError{File: path, Why: "the file is missing", Fix: fixReplica},
	}
}

// salvage reads the records of a damaged segment as far as they can be read, and makes a table with the lost entries marked. It
// returns the last COMMIT.
//
// Behind a bad spot everything not yet committed before it is lost too: the bad spot may have held its replacement.
//
// With loose, an entry counts as there if its header is good, though its data is not what was written: what the data is made of has
// checksums of its own.
func (s *segment) salvage(end int64, loose bool) (last *commit, err error) {
	s.startTable()
	sc := s.scanner(end)
	committed, bad := s.begin.hs.Commit, false
	for off := int64(headerSize); off < end; {
		r, _, why, err := sc.record(off)
		if err != nil {
			return nil, err
		}
		if why != "" && !(loose && why == whyChecksum && r.typ == typeEntry) {
			next, err := sc.seek(off + align)
			if err == nil && next >= end {
				_, zero, restErr := sc.rest(off)
				bad, err = !zero, restErr // zeros behind the last record are where nothing was written yet
			} else {
				bad = true
			}
			if err != nil {
				return nil, err
			}
			off = next
			continue
		}
		if bad {
			s.resync(&r, committed)
			bad = false
		}
		switch r.typ {
		case typeTruncate:
			s.table.limit(r.index, r.term)
		case typeEntry:
			s.table.limit(r.index, 0)
			for i := s.table.last() + 1; i < r.index; i++ {
				s.table.lose(i)
			}
			s.table.add(r.index, r.term, r.off)
		case typeCommit:
			if len(r.payload) == commitBody {
				c := decodeCommit(r.payload)
				committed, last = c.hs.Commit, &c
				s.sure = run{first: r.index, term: r.term}
				for i := s.table.last() + 1; i <= r.index; i++ {
					s.table.lose(i)
				}
				s.table.limit(r.index+1, r.term)
			}
		}
		off += r.size()
		s.seen = off
	}
	if bad {
		s.doubts(committed + 1)
		for i := max(committed+1, s.table.first); i <= s.table.last(); i++ {
			s.table.lose(i)
		}
	}
	return last, nil
}

// doubts notes that something is lost that may have replaced entries from index on.
func (s *segment) doubts(index uint64) {
	if s.doubt == 0 || index < s.doubt {
		s.doubt = index
	}
}

// resync marks what a bad spot before the record may have held: entries, and the replacement of others by the leader of a later term.
func (s *segment) resync(r *record, committed uint64) {
	if r.typ == typeTruncate || s.newestTerm() != r.term {
		s.doubts(committed + 1)
		for i := max(committed+1, s.table.first); i <= s.table.last(); i++ {
			s.table.lose(i)
		}
	}
	if r.typ != typeEntry {
		return
	}
	for i := s.table.last() + 1; i < r.index; i++ {
		s.table.lose(i)
	}
}

// newestTerm is the term of the newest entry that is known. A log that later has an entry of that term has this one too, and all before it:
// they are the log of that term's leader, who replaces nothing of its own.
func (s *segment) newestTerm() uint64 {
	for i := len(s.table.runs) - 1; i >= 0; i-- {
		if term := s.table.runs[i].term; term != 0 {
			return term
		}
	}
	return s.table.prevTerm
}

// seek finds the next whole record at or behind off; the end if there is none.
func (s *scanner) seek(off int64) (int64, error) {
	for ; off < s.end; off += align {
		p, err := s.bytes(off, recordSize)
		if err != nil {
			return 0, err
		}
		if p == nil {
			return s.end, nil
		}
		if le.Uint32(p[24:]) != saltAt(s.salt, off) {
			continue
		}
		if _, _, why, err := s.record(off); err != nil || why == "" {
			return off, err
		}
	}
	return s.end, nil
}

// replaceSlots makes a new side file when the old one says nothing: what the log says counts, and unless it was closed in order
// nobody knows what was voted since.
func replaceSlots(fsys vfs.FS, dir string, id identity, first slot) (*slots, error) {
	if err := createSlots(fsys, dir, id, first); err != nil {
		return nil, err
	}
	return openSlots(fsys, dir, id)
}
