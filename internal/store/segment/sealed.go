package segment

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/opencmq/cmq/internal/vfs"
)

// Info says what a sealed segment is, for a root that lists it.
type Info struct {
	Number      uint64
	First, Last uint64 // indexes of its entries; Last is First-1 if there are none
	End         int64  // where its batches end and its footer begins
	Size        int64  // of the file
	Salt        uint32
}

// Name is the file's name.
func (i *Info) Name() string { return fileName(i.Number) }

func (s *segment) info() Info {
	return Info{Number: s.head.number, First: s.table.first, Last: s.table.last(), End: s.end, Size: s.size, Salt: s.head.salt}
}

// Sealed lists the sealed segments of the log, oldest first. It belongs to the appending goroutine.
func (l *Log) Sealed() []Info {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var list []Info
	for _, s := range l.segs[:len(l.segs)-1] {
		list = append(list, s.info())
	}
	return list
}

// FirstNumber is the number of the log's first segment: what a root must name.
func (l *Log) FirstNumber() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.segs[0].head.number
}

// Forget lets the first n sealed segments leave the log: FirstIndex moves behind them. Their files stay, as the caller's, who
// has said so in its root before. It belongs to the appending goroutine.
func (l *Log) Forget(n int) error {
	if n < 0 || n >= len(l.segs) {
		panic(fmt.Sprintf("BUG: %d of %d segments leave the log", n, len(l.segs)))
	}
	if n == 0 {
		return nil
	}
	l.mu.Lock()
	gone := l.segs[:n:n]
	l.segs = append([]*segment(nil), l.segs[n:]...)
	l.read.dropBefore(l.segs[0].table.first)
	l.mu.Unlock()
	l.countLost()
	return closeAll(gone)
}

func closeAll(segs []*segment) error {
	var err error
	for _, s := range segs {
		if s.file != nil { // a lost one has none
			err = errors.Join(err, s.file.Close())
		}
	}
	return err
}

// Payload is the data of one entry, read piece by piece. The entry's checksum is not looked at: the data has its own.
type Payload interface {
	io.ReaderAt
	Size() int64
}

// Payload finds an entry's data. ErrCompacted, ErrUnavailable, ErrClosed, a *DamageError if the entry's record cannot be
// recognized. A piece read from a segment that leaves the log meanwhile fails with os.ErrClosed.
func (l *Log) Payload(index uint64) (Payload, error) {
	data, err := l.Cached(index)
	switch {
	case err != nil:
		return nil, err
	case data != nil:
		return data, nil
	}
	return l.stored(index)
}

// Cached is Payload for an entry that is in memory; nil without an error if it is not.
func (l *Log) Cached(index uint64) (Data, error) {
	l.mu.RLock()
	e, ok, err := l.cachedLocked(index)
	l.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	if !ok {
		e, ok = l.read.peek(index)
	}
	if !ok {
		return nil, nil
	}
	if e.Data == nil {
		return Data{}, nil
	}
	return e.Data, nil
}

// stored is Payload for an entry that is not in memory.
func (l *Log) stored(index uint64) (Payload, error) {
	for {
		s, off, term, err := l.place(index)
		if err != nil {
			return nil, err
		}
		p, err := s.payload(off, index, term)
		if err == nil {
			p.log, p.index, p.term = l, index, term
			return p, nil
		}
		if !l.moved(index, s, err) {
			return nil, err
		}
	}
}

// Data is a Payload in memory. It must not be changed.
type Data []byte

// Size implements Payload.
func (b Data) Size() int64 { return int64(len(b)) }

// Bytes is the data itself.
func (b Data) Bytes() []byte { return b }

// ReadAt implements Payload.
func (b Data) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > int64(len(b)) {
		return 0, io.EOF
	}
	n := copy(p, b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// filePayload is data in a file. If that is of the log, it may be written anew.
type filePayload struct {
	file vfs.File
	off  int64
	size int64
	kind uint8 // the entry's type

	log         *Log
	index, term uint64
}

func (f *filePayload) Size() int64 { return f.size }

func (f *filePayload) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > f.size {
		return 0, io.EOF
	}
	n := min(int64(len(p)), f.size-off)
	got, err := f.file.ReadAt(p[:n], f.off+off)
	if f.log != nil && errors.Is(err, os.ErrClosed) {
		return f.readAgain(p, off)
	}
	if err == nil && n < int64(len(p)) {
		err = io.EOF
	}
	return got, err
}

// readAgain reads where the entry is now, if it is still in the log.
func (f *filePayload) readAgain(p []byte, off int64) (int, error) {
	if term, err := f.log.Term(f.index); err != nil || term != f.term {
		return 0, os.ErrClosed
	}
	now, err := f.log.stored(f.index)
	if err != nil {
		return 0, os.ErrClosed
	}
	return now.ReadAt(p, off)
}

// payload recognizes the record of an entry and leaves its data unread.
func (s *segment) payload(off int64, index, term uint64) (*filePayload, error) {
	if off == 0 {
		return nil, s.lostEntry(index)
	}
	var head [recordSize]byte
	if n, err := s.file.ReadAt(head[:], off); n < len(head) {
		return nil, s.readError(off, err)
	}
	r, why := decodeRecord(head[:], s.head.salt, off)
	if why == "" && (r.typ != typeEntry || r.index != index || r.term != term || r.length > MaxEntry) {
		why = fmt.Sprintf("another record is where entry %d of term %d should be", index, term)
	}
	if why != "" {
		return nil, damage(s.path, off, "%s", why)
	}
	return &filePayload{file: s.file, off: off + recordSize, size: int64(r.length), kind: r.flags}, nil
}

// Sealed is one sealed segment that has left the log. It may be used by any goroutine. Its file is opened with the first
// use and its table read with the first look at an entry.
type Sealed struct {
	fs   vfs.FS
	path string
	id   identity
	info Info

	mu     sync.Mutex
	seg    *segment // nil: not open
	closed bool
}

// OpenSealed makes a reader for a segment as the root describes it. Nothing is read yet.
func OpenSealed(fsys vfs.FS, dir string, opt Options, info Info) *Sealed {
	return &Sealed{fs: fsys, path: filepath.Join(dir, info.Name()), id: opt.identity(), info: info}
}

// Check tells whether anything of the segment can be read: the *DamageError says why not, or that its end is gone.
func (s *Sealed) Check() error {
	seg, err := s.opened()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &DamageError{File: s.path, Why: "the file is missing", Fix: fixReplica}
	case err != nil:
		return err
	case seg.size < s.info.End:
		return damage(s.path, seg.size, "the file ends before offset %d, up to where it was synced", s.info.End)
	}
	for i := s.info.First; i <= s.info.Last; i++ {
		if !seg.table.lost(i) {
			return nil
		}
	}
	return damage(s.path, 0, "nothing of what was written can be found in the file")
}

// Info says which segment it is.
func (s *Sealed) Info() Info { return s.info }

// opened opens the file and reads its table, if that is not done.
func (s *Sealed) opened() (*segment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, os.ErrClosed
	}
	if s.seg != nil {
		return s.seg, nil
	}
	seg, err := s.open()
	if err == nil {
		s.seg = seg
	}
	return seg, err
}

func (s *Sealed) open() (*segment, error) {
	f, err := s.fs.OpenFile(s.path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open segment: %w", err)
	}
	seg := &segment{path: s.path, file: f}
	err = s.check(seg)
	if errors.As(err, new(*DamageError)) {
		err = s.salvage(seg)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return seg, nil
}

// salvage reads what is left of a damaged segment, whatever its header says: the root knows its salt, and that its entries
// are committed.
func (s *Sealed) salvage(seg *segment) error {
	seg.head.salt, seg.begin = s.info.Salt, begin{first: s.info.First, hs: HardState{Commit: s.info.Last}}
	if _, err := seg.salvage(min(s.info.End, seg.size), true); err != nil {
		return err
	}
	for i := seg.table.last() + 1; i <= s.info.Last; i++ {
		seg.table.lose(i)
	}
	return nil
}

// Disowned makes damage of the news that a file is of somebody else or of another version, where a root names it as one of ours: it took
// the place of the one that was written.
func Disowned(err error) error {
	const fix = "what was in it is fetched from the other replicas of the set; if this is the only one, put the right file back"
	var foreign *ForeignError
	var newer *VersionError
	switch {
	case errors.As(err, &foreign):
		return &DamageError{File: foreign.File, Why: fmt.Sprintf("this is a file of %s in the place of one of %s", foreign.Have, foreign.Want), Fix: fix}
	case errors.As(err, &newer):
		return &DamageError{File: newer.File, Why: fmt.Sprintf("this is a file of format version %d in the place of one of version %d", newer.Version, newer.Known), Fix: fix}
	}
	return err
}

// check reads header and table and compares them with what the root says.
func (s *Sealed) check(seg *segment) error {
	if err := Disowned(seg.readHead(s.info.Number, s.id)); err != nil {
		return err
	}
	if seg.head.salt != s.info.Salt || !seg.begun {
		return damage(s.path, 0, "this is not the segment that was written under this name")
	}
	if seg.size < s.info.End {
		return damage(s.path, seg.size, "the file ends before offset %d, up to where it was synced", s.info.End)
	}
	seg.end = s.info.End
	ok, err := seg.readFooter()
	if err == nil && !ok {
		err = seg.rebuild()
	}
	if err != nil {
		return err
	}
	if seg.table.first > s.info.First || seg.table.last() < s.info.Last {
		return damage(s.path, seg.end, "it has entries %d to %d, but %d to %d belong to it", seg.table.first, seg.table.last(), s.info.First, s.info.Last)
	}
	return nil
}

func (s *Sealed) within(index uint64) error {
	if index < s.info.First || index > s.info.Last {
		return ErrUnavailable
	}
	return nil
}

// Payload is Log.Payload for the segment.
func (s *Sealed) Payload(index uint64) (Payload, error) {
	if err := s.within(index); err != nil {
		return nil, err
	}
	seg, err := s.opened()
	if err != nil {
		return nil, err
	}
	p, err := seg.payload(seg.table.offset(index), index, seg.table.term(index))
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Entry reads one entry and checks it. ErrUnavailable if it is not one of the segment's.
func (s *Sealed) Entry(index uint64) (Entry, error) {
	if err := s.within(index); err != nil {
		return Entry{}, err
	}
	seg, err := s.opened()
	if err != nil {
		return Entry{}, err
	}
	return seg.read(seg.table.offset(index), index, seg.table.term(index))
}

// Release closes the file until it is needed again, and forgets its table.
func (s *Sealed) Release() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	seg := s.seg
	s.seg = nil
	if seg == nil {
		return nil
	}
	return seg.file.Close()
}

// Close ends the reader; what is being read fails with os.ErrClosed.
func (s *Sealed) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	return s.Release()
}
