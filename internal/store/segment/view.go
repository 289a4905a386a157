package segment

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencmq/cmq/internal/vfs"
)

// View is a segment file as it lies on the disk, for those who look at it without a log around it. It judges nothing by its
// neighbours, and goes on behind damage. It changes nothing, and somebody else may be writing the file meanwhile.
type View struct {
	File   string
	Size   int64  // of the file
	Owner  string // whose it is, in words
	Number uint64
	Begun  bool   // false: it was made ahead and nothing is in it
	First  uint64 // index of the first entry it was begun for; earlier segments end before it
	// PreviousEnd is up to where the segment before belongs to the log; 0: there is none.
	PreviousEnd int64

	// After Walk:

	End     int64     // behind the last whole record
	Synced  int64     // the file was synced up to here, as it says itself
	Sealed  bool      // it ends with a footer: nothing more will be written to it
	Closed  bool      // the log was closed in order behind the last record
	State   HardState // the newest the file knows
	Entries uint64    // whole ones, those that were replaced later included
	Low, Up uint64    // indexes of its entries, [Low, Up)

	file   vfs.File
	salt   uint32
	odd    []Record // what is wrong in the first 4 KiB
	footer bool     // the last record was one
}

// Record is one record of a segment file, or a place where none can be read.
type Record struct {
	Offset, Length int64 // in the file, with the header
	Kind           RecordKind
	Index, Term    uint64
	Type           uint8  // of an entry: raft's entry type as a number
	Data           []byte // of an entry; valid during the call
	// Bad says why the bytes are no record. Torn: nothing says that they were ever whole on the disk, as after a crash in the
	// middle of a write.
	Bad  string
	Torn bool
}

// RecordKind says what a record is.
type RecordKind uint8

// The kinds of records.
const (
	NoRecord        RecordKind = 0
	EntryRecord                = RecordKind(typeEntry)
	TruncateRecord             = RecordKind(typeTruncate) // entries from Index on are gone
	CommitRecord               = RecordKind(typeCommit)   // ends a batch
	FooterRecord               = RecordKind(typeFooter)
	PadRecord                  = RecordKind(typePad)
	unknownFromHere            = RecordKind(typePad) + 1
)

// OpenView reads the head of a segment file. If that says nothing, the view comes with a *DamageError or *VersionError and can
// only be closed; nil if the file cannot be opened.
func OpenView(fsys vfs.FS, path string) (*View, error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	v := &View{File: path, file: f}
	number, ok := fileNumber(filepath.Base(path))
	if ok {
		v.Number = number
	}
	if v.Size, err = f.Size(); err != nil {
		return v, fmt.Errorf("look at %s: %w", path, err)
	}
	return v, v.readHead(ok)
}

func (v *View) readHead(named bool) error {
	p := make([]byte, headerSize)
	if v.Size < headerSize {
		return damage(v.File, v.Size, "the file is too short to be a segment")
	}
	if n, err := v.file.ReadAt(p, 0); n < len(p) {
		return fmt.Errorf("read %s: %w", v.File, err)
	}
	h, newer, why := decodeHeader(p)
	switch {
	case why != "":
		return damage(v.File, 0, "%s", why)
	case newer != 0:
		return &VersionError{File: v.File, Version: newer, Known: version}
	case named && h.number != v.Number:
		return damage(v.File, 0, "this is segment %d under the name of another", h.number)
	}
	v.Owner, v.Number, v.salt, v.End = h.id.String(), h.number, h.salt, headerSize
	v.odd = oddities(p, h.salt)
	var b begin
	if b, v.Begun = decodeBegin(p[beginAt:], h.salt); v.Begun {
		v.First, v.PreviousEnd, v.State = b.first, b.prevEnd, b.hs
		v.Low, v.Up = b.first, b.first
	}
	return nil
}

// oddities lists what else is in the first 4 KiB than identity and begin block. The block of a segment that was not begun is zeros.
func oddities(p []byte, salt uint32) (odd []Record) {
	add := func(lo, hi int, why string) {
		if !allZero(p[lo:hi]) {
			odd = append(odd, Record{Offset: int64(lo), Length: int64(hi - lo), Bad: why})
		}
	}
	add(blockSize, beginAt, "there is something between identity and begin block")
	if _, ok := decodeBegin(p[beginAt:], salt); !ok {
		add(beginAt, beginAt+blockSize, "the begin block cannot be read")
	}
	add(beginAt+blockSize, headerSize, "there is something behind the begin block")
	return odd
}

// Close closes the file.
func (v *View) Close() error { return v.file.Close() }

// Index reads the footer of a sealed segment instead of all of it: indexes and number of the entries that counted when it was
// sealed, and where it ends. false: there is none that can be read. end is what the next segment says of this one's end.
func (v *View) Index(end int64) (bool, error) {
	s := &segment{path: v.File, file: v.file, head: header{salt: v.salt}, size: v.Size, end: end}
	ok, err := s.readFooter()
	if !ok || err != nil {
		return false, err
	}
	v.Sealed, v.End, v.Synced = true, v.Size, end
	v.Low, v.Up, v.Entries = s.table.first, s.table.last()+1, uint64(len(s.table.offsets))
	return true, nil
}

// Walk reads the file and calls visit for every record and every place where none can be read. synced is up to where the
// next segment says that this one was synced; 0 if there is none. The error is visit's or the disk's.
func (v *View) Walk(synced int64, visit func(Record) error) error {
	v.Synced = max(synced, headerSize)
	for _, o := range v.odd {
		if err := visit(o); err != nil {
			return err
		}
	}
	sc := &scanner{file: v.file, name: v.File, salt: v.salt, end: v.Size}
	for off := v.End; off < v.Size; {
		r, _, why, err := sc.record(off)
		if err != nil {
			return err
		}
		next := off + r.size()
		if why != "" {
			if next, err = v.gap(sc, off, why, visit); err != nil || next == v.Size {
				return err
			}
		} else {
			v.note(&r)
			v.End = next
			rec := recordOf(&r)
			if p, err := sc.bytes(off, int(r.size())); err == nil && !allZero(p[recordSize+r.length:]) {
				rec.Bad = "the bytes behind a record are not zero"
			}
			if err := visit(rec); err != nil {
				return err
			}
		}
		off = next
	}
	return nil
}

// gap tells of a place where no record can be read, and finds where the next one is. Room that was never used is no such place.
func (v *View) gap(sc *scanner, off int64, why string, visit func(Record) error) (next int64, err error) {
	promise, zero, err := sc.rest(off)
	if err != nil || zero && v.Synced <= off {
		return v.Size, err
	}
	v.Synced = max(v.Synced, promise)
	if next, err = sc.seek(off + align); err != nil {
		return 0, err
	}
	return next, visit(Record{Offset: off, Length: next - off, Bad: why, Torn: v.Synced <= off})
}

// note takes what a record says of the segment.
func (v *View) note(r *record) {
	footer := v.footer
	v.Closed, v.Sealed, v.footer = false, false, r.typ == typeFooter
	switch r.typ {
	case typeEntry:
		if v.Entries == 0 {
			v.Low = r.index
		}
		v.Entries++
		v.Low, v.Up = min(v.Low, r.index), r.index+1
	case typeTruncate:
		v.Up = max(v.First, min(v.Up, r.index))
	case typeCommit:
		if len(r.payload) == commitBody {
			c := decodeCommit(r.payload)
			v.State, v.Closed = c.hs, r.flags&flagClean != 0
			v.Synced = max(v.Synced, c.syncedUpTo)
		}
		v.Sealed = footer && r.off+r.size() == v.Size
	}
}

func recordOf(r *record) Record {
	out := Record{Offset: r.off, Length: r.size(), Kind: RecordKind(r.typ), Index: r.index, Term: r.term}
	if out.Kind >= unknownFromHere {
		out.Kind, out.Bad = NoRecord, fmt.Sprintf("record of unknown type %d", r.typ)
	}
	if r.typ == typeEntry {
		out.Type, out.Data = r.flags, r.payload
	}
	return out
}
