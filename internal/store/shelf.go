package store

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/opencmq/cmq/internal/store/archive"
	"github.com/opencmq/cmq/internal/store/segment"
)

// shelf holds the readers of all files of the archive. Readers take the list as it is and need no lock; whoever changes it
// makes a new one.
type shelf struct {
	mu    sync.Mutex // of those who change the list
	list  atomic.Pointer[row]
	clock atomic.Int64 // counts uses, to find the file used longest ago
	open  atomic.Int64 // about how many files are open
	limit int
}

// row is the pieces, ascending by lo. It is never changed.
type row struct {
	pieces []*piece
	ends   []uint64 // highest hi up to each piece
}

// piece is one file of the archive with its reader.
type piece struct {
	lo, hi  uint64 // raft indexes, [lo, hi)
	key     uint64 // see pieceKey
	number  uint64
	name    string
	size    int64
	segment *segment.Sealed // one of the two
	file    *archive.File
	message finder
	used    atomic.Int64 // time of the last use; 0: not open
	counted *tally       // nil: not yet
}

// finder finds a message in the data of its entry.
type finder = func(entry segment.Payload, slot uint16) (Message, error)

func newSegmentPiece(s *segment.Sealed, message finder) *piece {
	i := s.Info()
	return &piece{lo: i.First, hi: i.Last + 1, key: pieceKey(i.Name(), i.Number), number: i.Number, name: i.Name(), size: i.Size,
		segment: s, message: message}
}

func newFilePiece(f *archive.File) *piece {
	i := f.Info()
	return &piece{lo: i.Lo, hi: i.Hi, key: pieceKey(i.Name(), i.Number), number: i.Number, name: i.Name(), size: i.Size, file: f}
}

func (p *piece) get(ref Ref, near *near) (Message, error) {
	if p.file != nil {
		return p.file.Get(ref)
	}
	return near.message(ref, p.message, p.name, func() (segment.Payload, error) { return p.segment.Payload(ref.Index) })
}

// extract finds a message in the data of its entry. What the data itself is found to be wrong with is damage of the file.
func extract(message finder, data segment.Payload, ref Ref, file string) (Message, error) {
	m, err := message(data, ref.Slot)
	if err != nil && !closedUnder(err) {
		err = &segment.DamageError{File: file, Why: fmt.Sprintf("slot %d of entry %d: %v", ref.Slot, ref.Index, err), Fix: fixMessage}
	}
	m.Ref = ref
	return m, err
}

const fixMessage = "the message is fetched from the other replicas of the set; without any it is lost"

// has reports whether the file has the message, by its tables only. A segment has every message of its entries.
func (p *piece) has(ref Ref) (bool, error) {
	if p.file != nil {
		return p.file.Has(ref)
	}
	return true, nil
}

// check tells whether anything of the file can be read.
func (p *piece) check() error {
	if p.file != nil {
		return p.file.Check()
	}
	return p.segment.Check()
}

func (p *piece) release() error {
	p.used.Store(0)
	if p.file != nil {
		return p.file.Release()
	}
	return p.segment.Release()
}

func (p *piece) close() error {
	if p.file != nil {
		return p.file.Close()
	}
	return p.segment.Close()
}

// pieces is the list in force, ascending by lo. It must not be changed.
func (s *shelf) pieces() []*piece {
	if r := s.list.Load(); r != nil {
		return r.pieces
	}
	return nil
}

// covering calls f for the pieces whose range has the index, until f returns false. There is one, as a rule; ranges overlap
// where messages were fetched from other replicas.
func (s *shelf) covering(index uint64, f func(*piece) bool) {
	r := s.list.Load()
	if r == nil {
		return
	}
	n := sort.Search(len(r.pieces), func(i int) bool { return r.pieces[i].lo > index })
	for i := n - 1; i >= 0 && r.ends[i] > index; i-- {
		if index < r.pieces[i].hi && !f(r.pieces[i]) {
			return
		}
	}
}

// add puts pieces on the shelf.
func (s *shelf) add(pieces ...*piece) { s.replace(pieces, nil) }

// replace puts pieces on the shelf and takes others off, in one step.
func (s *shelf) replace(add, remove []*piece) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := make([]*piece, 0, len(s.pieces())+len(add))
	for _, p := range s.pieces() {
		if !slices.Contains(remove, p) {
			next = append(next, p)
		}
	}
	next = append(next, add...)
	slices.SortFunc(next, func(a, b *piece) int { return cmp.Or(cmp.Compare(a.lo, b.lo), cmp.Compare(a.key, b.key)) })
	ends := make([]uint64, len(next))
	for i, end := 0, uint64(0); i < len(next); i++ {
		end = max(end, next[i].hi)
		ends[i] = end
	}
	s.list.Store(&row{pieces: next, ends: ends})
}

// touch notes that a piece is used, and closes the one used longest ago if too many are open.
func (s *shelf) touch(p *piece) {
	if p.used.Swap(s.clock.Add(1)) != 0 {
		return
	}
	if int(s.open.Add(1)) <= s.limit {
		return
	}
	var oldest *piece
	count := int64(0)
	for _, q := range s.pieces() {
		at := q.used.Load()
		if at == 0 {
			continue
		}
		count++
		if q != p && (oldest == nil || at < oldest.used.Load()) {
			oldest = q
		}
	}
	if oldest != nil && int(count) > s.limit {
		_ = oldest.release() // it was only read
		count--
	}
	s.open.Store(count)
}

func (s *shelf) close() error {
	var err error
	for _, p := range s.pieces() {
		err = errors.Join(err, p.close())
	}
	return err
}

// closedUnder tells whether a read failed only because the file was closed to make room, or left the log, meanwhile.
func closedUnder(err error) bool { return errors.Is(err, os.ErrClosed) }
