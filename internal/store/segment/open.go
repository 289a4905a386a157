package segment

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencmq/cmq/internal/vfs"
)

// Open opens the log in dir. It first reads and checks and changes nothing; if something is wrong it returns a
// *DamageError, *ForeignError or *VersionError (fs.ErrNotExist if there is no log). Then it settles: a tail
// that is torn is cut off, and what is left behind the last promise is copied to a new segment and synced, because it
// may exist in the page cache only. When Open returns, all that the log shows is durable. A crash at any moment of
// this is harmless. An error that wraps syscall.ENOSPC passes when there is room again.
func Open(fsys vfs.FS, dir string, opt Options) (*Log, error) {
	p, err := Prepare(fsys, dir, opt)
	if err != nil {
		return nil, err
	}
	return p.Open()
}

// Prepared is a log that was read and checked, and that nothing of was changed yet.
type Prepared struct{ o *opening }

// Prepare is the first part of Open.
func Prepare(fsys vfs.FS, dir string, opt Options) (*Prepared, error) {
	opt = opt.withDefaults()
	o := &opening{log: &Log{fs: fsys, dir: dir, opt: opt}}
	if err := o.openSlots(); err != nil {
		return nil, err
	}
	err := o.read()
	if err == nil {
		err = o.judged()
	}
	if err != nil {
		return nil, errors.Join(err, o.close())
	}
	return &Prepared{o}, nil
}

// LastIndex is what Log.LastIndex will be, if nothing is lost at the log's end.
func (p *Prepared) LastIndex() uint64 { return p.o.segs[len(p.o.segs)-1].table.last() }

// Close gives up what Prepare opened, instead of Open.
func (p *Prepared) Close() error { return p.o.close() }

// Open is the second part of the function Open. Afterwards the Prepared is used up.
func (p *Prepared) Open() (*Log, error) {
	o := p.o
	l, opt := o.log, o.log.opt
	if err := o.settle(); err != nil {
		return nil, errors.Join(err, o.close())
	}
	l.start(o.segs)
	l.countLost()
	if holes := l.Holes(); len(holes) > 0 && opt.First == 0 {
		return nil, errors.Join(l.segs[0].lostEntry(holes[0].Lo), o.close())
	}
	if o.salvaged && l.lost.Load() == 0 {
		restored := func(s *segment, index uint64) (Entry, error) { return Entry{}, s.lostEntry(index) }
		if err := l.restore(len(l.segs)-1, restored); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return l, nil
}

// openSlots opens the side file. One that is lost or says nothing can be made anew: see readHardState.
func (o *opening) openSlots() error {
	l := o.log
	sl, err := openSlots(l.fs, l.dir, l.opt.identity())
	if err == nil {
		if l.opt.CheckRoot == nil {
			l.slots = sl
			return nil
		}
		if err = l.opt.CheckRoot(sl.last.root); err == nil {
			l.slots = sl
			return nil
		}
		err = errors.Join(err, sl.close())
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = l.withoutSlots(err)
	}
	var damage *DamageError
	if !errors.As(err, &damage) || damage.File != filepath.Join(l.dir, slotsName) || l.opt.First == 0 {
		return err
	}
	o.withoutSlots = damage
	return nil
}

// withoutSlots explains why the side file cannot be opened.
func (l *Log) withoutSlots(err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	names, dirErr := l.fs.ReadDir(l.dir)
	if dirErr != nil {
		return fmt.Errorf("open log: %w", dirErr)
	}
	if l.opt.First != 0 {
		names = append(names, fileName(l.opt.First)) // the root says that there is one
	}
	for _, name := range names {
		if _, ok := fileNumber(name); ok {
			return &DamageError{File: filepath.Join(l.dir, slotsName), Why: "the file is missing, so term and vote are not known", Fix: fixRejoin}
		}
	}
	return fmt.Errorf("no log in %s: %w", l.dir, err)
}

// opening is the state of one Open.
type opening struct {
	log  *Log
	segs []*segment // live ones, ascending
	dead []string   // paths of leftovers

	spare     *segment // made ahead, not begun
	spareUsed bool     // a torn batch is in it

	// Of the last segment that was begun.
	promise int64 // it was synced up to here at least
	low     uint64
	clean   bool
	mark    int64 // where the last batch begins; if clean the next one goes there
	sealed  bool
	torn    bool // something unreadable was behind the tail
	hs      HardState

	salvaged     bool         // it is damaged and must be written anew
	short        bool         // it is lost, and nobody knows how far it went
	cut          bool         // it was made shorter, and nobody knows what was in the rest
	doubts       uint32       // to be recorded
	withoutSlots *DamageError // the side file is lost
}

func (o *opening) close() error {
	var err error
	if o.spare != nil {
		err = o.spare.file.Close()
	}
	for _, s := range o.segs {
		if s.file != nil {
			err = errors.Join(err, s.file.Close())
		}
	}
	if o.log.slots != nil {
		err = errors.Join(err, o.log.slots.close())
	}
	return err
}

// judged asks the caller whether it can live with what is lost.
func (o *opening) judged() error {
	l := o.log
	if l.opt.Judge == nil {
		return nil
	}
	f := Findings{First: o.segs[0].table.first, Short: o.short, Damaged: func() ([]Damaged, error) { return damagedOf(o.segs) }}
	for i, s := range o.segs {
		f.Holes = append(f.Holes, s.holes()...)
		if s.bad != nil && (s.file == nil || s.size < s.end || o.cut && i == len(o.segs)-1) {
			f.Lost = append(f.Lost, s.bad)
		}
	}
	return l.opt.Judge(&f)
}

// read finds out what there is. It changes nothing.
func (o *opening) read() error {
	if err := o.list(); err != nil {
		return err
	}
	if err := o.split(); err != nil {
		return err
	}
	if err := o.readSealed(); err != nil {
		return err
	}
	if err := o.readLast(); err != nil {
		return err
	}
	if err := o.join(); err != nil {
		return err
	}
	return o.readHardState()
}

// list opens the live segments and checks that none is missing.
func (o *opening) list() error {
	l := o.log
	names, err := l.fs.ReadDir(l.dir)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	rooted := l.opt.First != 0
	first := l.opt.First
	if !rooted {
		first = l.slots.last.first
	}
	next := first
	for _, name := range names {
		path := filepath.Join(l.dir, name)
		number, ok := fileNumber(name)
		switch {
		case strings.HasSuffix(name, suffix+vfs.TempSuffix) || ok && number < first && !rooted:
			o.dead = append(o.dead, path)
			continue
		case !ok || number < first:
			continue
		case !rooted && l.slots.torn >= 0 && len(o.segs) == 0:
			next = number // the unreadable slot may have been the one that let older segments go
		}
		for ; next < number; next++ {
			o.segs = append(o.segs, o.lostSegment(next))
		}
		s, err := o.open(path, number)
		var damage *DamageError
		if errors.As(err, &damage) {
			l.opt.Logger.Error("a segment cannot be used", "segment", path, "why", damage.Why)
			s, err = o.lostSegment(number), nil
			s.bad = damage
		}
		if err != nil {
			return err
		}
		o.segs = append(o.segs, s)
		next = number + 1
	}
	if len(o.segs) == 0 {
		o.segs = append(o.segs, o.lostSegment(first))
	}
	return o.dropUnfinished()
}

// dropUnfinished leaves out a segment that Fresh made and that never became the log: it is begun without a predecessor
// and is not the first.
func (o *opening) dropUnfinished() error {
	for i, s := range o.segs {
		if i == 0 || s.file == nil || !s.begun || s.begin.prevSalt != 0 || s.begin.prevEnd != 0 {
			continue
		}
		for _, f := range o.segs[i:] {
			o.dead = append(o.dead, f.path)
			if f.file == nil {
				continue
			}
			if err := f.file.Close(); err != nil {
				return err
			}
		}
		o.segs = o.segs[:i]
		return nil
	}
	return nil
}

// open opens a segment and reads its header and, if it has one, its begin block.
func (o *opening) open(path string, number uint64) (*segment, error) {
	f, err := o.log.fs.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open segment: %w", err)
	}
	s := &segment{path: path, file: f, end: headerSize}
	if err := s.readHead(number, o.log.opt.identity()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return s, nil
}

func (s *segment) readHead(number uint64, want identity) error {
	size, err := s.file.Size()
	if err != nil {
		return fmt.Errorf("open segment %s: %w", s.path, err)
	}
	s.size = size
	p := make([]byte, headerSize)
	if size < headerSize {
		return damage(s.path, size, "the file is too short to be a segment")
	}
	if n, err := s.file.ReadAt(p, 0); n < len(p) {
		return fmt.Errorf("read %s: %w", s.path, err)
	}
	h, newer, why := decodeHeader(p)
	switch {
	case why != "":
		return damage(s.path, 0, "%s", why)
	case newer != 0:
		return &VersionError{File: s.path, Version: newer, Known: version}
	case h.id != want:
		return &ForeignError{File: s.path, Have: h.id.String(), Want: want.String()}
	case h.number != number:
		return damage(s.path, 0, "this is segment %d under the name of another", h.number)
	}
	s.head = h
	s.begin, s.begun = decodeBegin(p[beginAt:], h.salt)
	return nil
}

func (s *segment) scanner(end int64) *scanner {
	return &scanner{file: s.file, name: s.path, salt: s.head.salt, end: min(end, s.size)}
}

// split sets the spare apart: the last segment, if it has not been begun. A segment whose first batch was torn counts
// as not begun, but is not used again; one in which something was promised, or behind which the log goes on, has lost its begin
// block and with it everything.
func (o *opening) split() error {
	for i, s := range o.segs {
		if s.begun || s.file == nil {
			continue
		}
		promise, zero, err := s.scanner(s.size).rest(beginAt)
		if err != nil {
			return err
		}
		if i != len(o.segs)-1 || i == 0 || promise > headerSize {
			if err := s.file.Close(); err != nil {
				return err
			}
			o.segs[i] = o.lostSegment(s.head.number)
			o.segs[i].bad = &DamageError{File: s.path, Offset: beginAt, Why: "the begin block cannot be read", Fix: fixReplica}
			continue
		}
		o.spare, o.spareUsed = s, !zero
	}
	if o.spare != nil {
		o.segs = o.segs[:len(o.segs)-1]
	}
	return nil
}

// readSealed reads the tables of all segments but the last, oldest first.
func (o *opening) readSealed() error {
	for i, s := range o.segs[:len(o.segs)-1] {
		next := o.segs[i+1]
		if s.file != nil && next.file != nil && next.begin.prevSalt != s.head.salt {
			o.log.opt.Logger.Error("this is not the segment that the next was written behind", "segment", s.path)
			if err := s.file.Close(); err != nil {
				return err
			}
			s = o.lostSegment(s.head.number)
			s.bad = &DamageError{File: s.path, Why: "it is not the segment that the next was written behind", Fix: fixReplica}
			o.segs[i] = s
		}
		if s.file == nil {
			if err := o.standIn(i); err != nil {
				return err
			}
			continue
		}
		if err := o.readOneSealed(s, next); err != nil {
			return err
		}
	}
	return nil
}

// readOneSealed reads the table of one segment; if that or the segment is damaged, what is left of it.
func (o *opening) readOneSealed(s, next *segment) error {
	known := next.file != nil
	if known {
		s.end = next.begin.prevEnd
	} else if err := s.findEnd(); err != nil {
		return err
	}
	if s.size >= s.end {
		ok, err := s.readFooter()
		if ok && s.table.last() >= o.log.opt.VerifyFrom && o.log.opt.VerifyFrom != 0 {
			ok = false
		}
		if err == nil && !ok {
			err = s.rebuild()
		}
		var damage *DamageError
		if !errors.As(err, &damage) {
			return err
		}
		o.log.opt.Logger.Error("a segment is damaged", "segment", s.path, "offset", damage.Offset, "why", damage.Why)
		s.bad = damage
	} else {
		s.bad = &DamageError{File: s.path, Offset: s.size, Why: fmt.Sprintf("the file ends before offset %d, up to where it was synced", s.end), Fix: fixReplica}
	}
	if _, err := s.salvage(min(s.end, s.size), false); err != nil {
		return err
	}
	for i := s.table.last() + 1; known && i < next.begin.first; i++ {
		s.table.lose(i)
	}
	return nil
}

// findEnd finds where the footer of a sealed segment begins, or where what can be read ends.
func (s *segment) findEnd() error {
	sc := s.scanner(s.size)
	s.end = headerSize
	for {
		b, why, _, err := sc.next(s.end)
		if err != nil || why != "" || len(b.records) == 1 && b.records[0].typ == typeFooter {
			return err
		}
		s.end = b.end
	}
}

// standIn gives a lost segment, which is not the last, the entries between its neighbours.
func (o *opening) standIn(i int) error {
	s, next := o.segs[i], o.segs[i+1]
	first, prevTerm := uint64(0), uint64(0)
	if i > 0 {
		older := o.segs[i-1]
		first = older.table.last() + 1
		if n := len(older.table.offsets); n > 0 {
			prevTerm = older.table.term(older.table.last())
		}
		s.begin.prevEnd, s.begin.prevSalt = older.end, older.head.salt
		c, err := older.lastCommit()
		if err != nil {
			return err
		}
		s.doubt = older.begin.hs.Commit + 1
		if c != nil {
			s.doubt = c.hs.Commit + 1
		}
	}
	if next.file == nil { // the next stands for this one's entries too
		if first == 0 {
			first = max(o.log.opt.VerifyFrom, 1)
		}
		s.begin.first, s.begin.prevTerm = first, prevTerm
		s.startTable()
		return nil
	}
	if first == 0 {
		first = min(max(o.log.opt.VerifyFrom, 1), next.begin.first)
	}
	s.begin.first, s.begin.prevTerm = first, prevTerm
	s.head.salt, s.end = next.begin.prevSalt, next.begin.prevEnd
	s.startTable()
	for i := first; i < next.begin.first; i++ {
		s.table.lose(i)
	}
	return nil
}

// readFooter takes the table from the footer, if there is a valid one.
func (s *segment) readFooter() (ok bool, err error) {
	sc := s.scanner(s.size)
	r, _, why, err := sc.record(s.end)
	if err != nil || why != "" || r.typ != typeFooter {
		return false, err
	}
	s.table, ok = decodeFooter(r.payload, s.end)
	return ok, nil
}

// rebuild reads the table from the batches, all of which were promised.
func (s *segment) rebuild() error {
	s.startTable()
	sc := s.scanner(s.end)
	for off := int64(headerSize); off < s.end; {
		b, why, bad, err := sc.next(off)
		if err != nil {
			return err
		}
		if why != "" {
			return damage(s.path, bad, "%s, but the segment was synced up to offset %d", why, s.end)
		}
		if err := s.apply(&b); err != nil {
			return err
		}
		off = b.end
	}
	return nil
}

func (s *segment) startTable() {
	s.table = table{first: s.begin.first, prevTerm: s.begin.prevTerm}
}

// apply adds a batch to the segment's table. All checksums were right, so a contradiction is no torn write.
func (s *segment) apply(b *batch) error {
	for i := range b.records {
		r := &b.records[i]
		switch r.typ {
		case typeTruncate:
			s.table.limit(r.index, r.term)
		case typeEntry:
			if r.index != s.table.last()+1 {
				return damage(s.path, r.off, "entry %d follows entry %d", r.index, s.table.last())
			}
			s.table.add(r.index, r.term, r.off)
		case typeFooter, typePad:
		default:
			return damage(s.path, r.off, "record of unknown type %d", r.typ)
		}
	}
	return nil
}

// join checks that the segments continue each other, and cuts what newer ones replaced.
func (o *opening) join() error {
	for i := len(o.segs) - 1; i > 0; i-- {
		s, older := o.segs[i], o.segs[i-1]
		for i := older.table.last() + 1; i < max(s.begin.first, s.table.first); i++ {
			older.table.lose(i)
		}
		older.table.limit(s.table.first, s.table.prevTerm)
		if s.doubt != 0 {
			for i := max(s.doubt, older.table.first); i <= older.table.last(); i++ {
				older.table.lose(i)
			}
			older.doubts(s.doubt)
		}
		if n := len(older.table.offsets); n > 0 && s.table.prevTerm != 0 {
			if last := older.table.last(); !older.table.lost(last) && older.table.term(last) != s.table.prevTerm {
				// A repair that was interrupted, see restoreOne, or files of different times. Nobody knows which of the two is right.
				o.log.opt.Logger.Error("a segment continues a log of another term", "segment", s.path, "entry", last)
				older.table.lose(last)
			}
		}
	}
	return nil
}

// readHardState combines the last segment's hard state with the side file's. A log that was closed in order knows both term and
// vote; else nobody does if the side file is lost, or if the two contradict each other.
func (o *opening) readHardState() error {
	l := o.log
	s := o.segs[len(o.segs)-1]
	if o.withoutSlots != nil {
		l.opt.Logger.Error("the side file of the log is lost", "file", o.withoutSlots.File, "why", o.withoutSlots.Why)
		if !o.clean {
			o.doubts |= doubtVote
		}
		l.slots = &slots{id: l.opt.identity(), torn: -1} // settle makes the file
		l.slots.last = slot{term: o.hs.Term, vote: o.hs.Vote, first: o.segs[0].head.number, doubts: o.doubts, root: l.opt.Root}
	}
	kept := l.slots.last
	switch {
	case l.slots.torn >= 0 && o.torn:
		o.doubts |= doubtVote
	case kept.term > o.hs.Term:
		o.hs.Term, o.hs.Vote = kept.term, kept.vote
	case kept.term == o.hs.Term && o.hs.Vote == 0:
		o.hs.Vote = kept.vote
	case kept.term == o.hs.Term && kept.vote != 0 && kept.vote != o.hs.Vote:
		o.doubts |= doubtVote
	}
	if once := max(o.hs.Commit+1, l.opt.VerifyFrom); s.table.last()+1 < once { // they were there once, and perhaps more
		l.opt.Logger.Error("the log has lost its end", "segment", s.path, "last", s.table.last(), "once", once-1)
		for i := s.table.last() + 1; i < once; i++ {
			s.table.lose(i)
		}
		o.salvaged, o.doubts = true, o.doubts|doubtEnd
	}
	if o.short {
		o.doubts |= doubtEnd
	}
	if o.doubts != 0 && l.opt.First == 0 {
		return &DamageError{File: filepath.Join(l.dir, slotsName), Why: "term and vote, or the end of the log, are in doubt", Fix: fixRejoin}
	}
	l.hs = o.hs
	return nil
}
