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
	opt = opt.withDefaults()
	l := &Log{fs: fsys, dir: dir, opt: opt}
	sl, err := openSlots(fsys, dir, opt.identity())
	if err != nil {
		return nil, l.withoutSlots(err)
	}
	l.slots = sl
	o := &opening{log: l}
	err = o.read()
	if err == nil {
		err = o.settle()
	}
	if err != nil {
		return nil, errors.Join(err, o.close())
	}
	l.start(o.segs)
	return l, nil
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
}

func (o *opening) close() error {
	var err error
	if o.spare != nil {
		err = o.spare.file.Close()
	}
	for _, s := range o.segs {
		err = errors.Join(err, s.file.Close())
	}
	return errors.Join(err, o.log.slots.close())
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
	first := l.slots.last.first
	next := first
	for _, name := range names {
		path := filepath.Join(l.dir, name)
		number, ok := fileNumber(name)
		switch {
		case strings.HasSuffix(name, suffix+vfs.TempSuffix) || ok && number < first:
			o.dead = append(o.dead, path)
			continue
		case !ok:
			continue
		case l.slots.torn >= 0 && len(o.segs) == 0:
			next = number // the unreadable slot may have been the one that let older segments go
		case number != next:
			return missing(filepath.Join(l.dir, fileName(next)))
		}
		s, err := o.open(path, number)
		if err != nil {
			return err
		}
		o.segs = append(o.segs, s)
		next = number + 1
	}
	if len(o.segs) == 0 {
		return missing(filepath.Join(l.dir, fileName(first)))
	}
	return nil
}

func missing(path string) error {
	return &DamageError{File: path, Why: "the segment is missing, but the log goes on behind it or needs it", Fix: fixRejoin}
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
// as not begun, but is not used again; one in which something was promised is damaged.
func (o *opening) split() error {
	for i, s := range o.segs {
		if s.begun {
			continue
		}
		promise, zero, err := s.scanner(s.size).rest(beginAt)
		if err != nil {
			return err
		}
		if i != len(o.segs)-1 || i == 0 || promise > headerSize {
			return damage(s.path, beginAt, "the block that says how the segment continues the log is unreadable")
		}
		o.spare, o.spareUsed = s, !zero
	}
	if o.spare != nil {
		o.segs = o.segs[:len(o.segs)-1]
	}
	return nil
}

// readSealed reads the tables of all segments but the last.
func (o *opening) readSealed() error {
	for i, s := range o.segs[:len(o.segs)-1] {
		next := o.segs[i+1]
		if next.begin.prevSalt != s.head.salt {
			return damage(s.path, 0, "this is not the segment that segment %d was written behind", next.head.number)
		}
		s.end = next.begin.prevEnd
		if s.size < s.end {
			return damage(s.path, s.size, "the file ends before offset %d, up to where it was synced", s.end)
		}
		ok, err := s.readFooter()
		if err == nil && !ok {
			err = s.rebuild()
		}
		if err != nil {
			return err
		}
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
		case typeFooter:
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
		if older.table.last()+1 < s.begin.first || older.table.last()+1 < s.table.first {
			return damage(s.path, beginAt, "entries %d to %d are missing before it", older.table.last()+1, s.begin.first-1)
		}
		older.table.limit(s.table.first, s.table.prevTerm)
		if n := len(older.table.offsets); n > 0 && older.table.term(older.table.last()) != s.table.prevTerm {
			return damage(s.path, beginAt, "it continues a log of another term")
		}
	}
	return nil
}

// readHardState combines the last segment's hard state with the side file's.
func (o *opening) readHardState() error {
	l := o.log
	s := o.segs[len(o.segs)-1]
	kept := l.slots.last
	switch {
	case l.slots.torn >= 0 && o.torn:
		return &DamageError{File: filepath.Join(l.dir, slotsName), Offset: int64(l.slots.torn) * slotStride,
			Why: "one of its slots is unreadable and the log's tail is torn, so term and vote are not known", Fix: fixRejoin}
	case kept.term > o.hs.Term:
		o.hs.Term, o.hs.Vote = kept.term, kept.vote
	case kept.term == o.hs.Term && o.hs.Vote == 0:
		o.hs.Vote = kept.vote
	case kept.term == o.hs.Term && kept.vote != 0 && kept.vote != o.hs.Vote:
		return &DamageError{File: filepath.Join(l.dir, slotsName),
			Why: fmt.Sprintf("it says that the vote of term %d went to %d, the log says to %d", kept.term, kept.vote, o.hs.Vote), Fix: fixRejoin}
	}
	if last := s.table.last(); o.hs.Commit > last {
		return damage(s.path, s.end, "entries up to %d were committed, but the log ends at %d", o.hs.Commit, last)
	}
	l.hs = o.hs
	return nil
}
