package segment

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/opencmq/cmq/internal/mutant"
	"github.com/opencmq/cmq/internal/vfs"
)

// The side file keeps what must never be lost with a torn tail: term and vote, for a replica that forgot its vote
// could elect a second leader, and the number of the first live segment, so that a missing file is told from a
// dropped one. It has two slots, written in turn, so that one is always whole.
//
//	0     slot, 64 bytes: even sequence numbers
//	4096  slot, 64 bytes: odd sequence numbers
//
// A slot:
//
//	0   magic     "HARD"
//	4   version   u16
//	6   set       u16
//	8   cluster   u64
//	16  replica   u64
//	24  sequence  u64
//	32  term      u64
//	40  vote      u64
//	48  first     u32   number of the first live segment
//	52  doubts    u32   bit 0: term and vote are in doubt; bit 1: entries behind the log's end were lost; bit 2: the caller's
//	                    state is wrong
//	56  root      u32   low half of the sequence number of the caller's root
//	60  crc32c    u32   of bytes 0 to 59
const (
	slotsName  = SideFile
	slotMagic  = uint32(0x44524148)
	slotStride = 4096
	slotsSize  = slotStride + blockSize
)

// SideFile is the name of the log's side file.
const SideFile = "hardstate"

type slot struct {
	sequence   uint64
	term, vote uint64
	first      uint64
	root       uint32
	doubts     uint32
}

const (
	doubtVote = 1 << iota
	doubtEnd
	doubtState
)

func (s *slot) encode(p []byte, id identity) {
	le.PutUint32(p, slotMagic)
	le.PutUint16(p[4:], version)
	le.PutUint16(p[6:], id.set)
	le.PutUint64(p[8:], id.cluster)
	le.PutUint64(p[16:], id.replica)
	le.PutUint64(p[24:], s.sequence)
	le.PutUint64(p[32:], s.term)
	le.PutUint64(p[40:], s.vote)
	le.PutUint32(p[48:], uint32(s.first))
	le.PutUint32(p[52:], s.doubts)
	le.PutUint32(p[56:], s.root)
	le.PutUint32(p[60:], checksum(p[:60]))
}

// slots is the open side file.
type slots struct {
	mu   sync.Mutex // Append writes votes, DropBefore the first segment
	file vfs.File   // nil: there is none yet
	id   identity
	last slot
	torn int // the slot that was unreadable at Open, or -1
}

func createSlots(fs vfs.FS, dir string, id identity, first slot) error {
	p := make([]byte, slotsSize)
	first.sequence = 0
	first.encode(p, id)
	first.sequence = 1
	first.encode(p[slotStride:], id)
	return vfs.WriteFile(fs, filepath.Join(dir, slotsName), p)
}

// openSlots reads the side file and changes nothing.
func openSlots(fs vfs.FS, dir string, id identity) (*slots, error) {
	name := filepath.Join(dir, slotsName)
	f, err := fs.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	s := &slots{file: f, id: id, torn: -1}
	if err := s.read(name); err != nil {
		f.Close()
		return nil, err
	}
	return s, nil
}

func (s *slots) read(name string) error {
	found := false
	for i := range 2 {
		p := make([]byte, blockSize)
		at := int64(i * slotStride)
		if n, err := s.file.ReadAt(p, at); n < len(p) && !isEOF(err) {
			return fmt.Errorf("read %s: %w", name, err)
		}
		if le.Uint32(p) != slotMagic || le.Uint32(p[60:]) != checksum(p[:60]) {
			if s.torn >= 0 {
				return &DamageError{File: name, Offset: 0, Why: "neither of its two slots is readable, so term and vote are not known", Fix: fixRejoin}
			}
			s.torn = i
			continue
		}
		if v := le.Uint16(p[4:]); v != version {
			return &VersionError{File: name, Version: uint32(v), Known: version}
		}
		have := identity{set: le.Uint16(p[6:]), cluster: le.Uint64(p[8:]), replica: le.Uint64(p[16:])}
		if have != s.id {
			return &ForeignError{File: name, Have: have.String(), Want: s.id.String()}
		}
		one := slot{sequence: le.Uint64(p[24:]), term: le.Uint64(p[32:]), vote: le.Uint64(p[40:]), first: uint64(le.Uint32(p[48:])), doubts: le.Uint32(p[52:]), root: le.Uint32(p[56:])}
		if !found || one.sequence > s.last.sequence {
			found, s.last = true, one
		}
	}
	if s.torn >= 0 && int(s.last.sequence+1)%2 != s.torn {
		return &DamageError{File: name, Offset: int64(s.torn) * slotStride, Why: "its slots do not belong together", Fix: fixRejoin}
	}
	return nil
}

// write makes one slot durable.
func (s *slots) write(change func(*slot)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.last
	change(&next)
	next.sequence++
	p := make([]byte, blockSize)
	next.encode(p, s.id)
	if _, err := s.file.WriteAt(p, int64(next.sequence%2)*slotStride); err != nil {
		return fmt.Errorf("write %s: %w", slotsName, err)
	}
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", slotsName, err)
	}
	s.last = next
	return nil
}

// renew makes the file anew, beside the old one: where the medium is bad, a slot cannot be written over.
func (s *slots) renew(fs vfs.FS, dir string, change func(*slot)) error {
	next := s.last
	change(&next)
	fresh, err := replaceSlots(fs, dir, s.id, next)
	if err != nil {
		return err
	}
	old := s.file
	s.file, s.last, s.torn = fresh.file, fresh.last, -1
	return old.Close()
}

// writeHardState records term and vote.
func (s *slots) writeHardState(hs HardState) error {
	if mutant.On(mutant.VoteNotPersisted) {
		return nil
	}
	return s.write(func(next *slot) { next.term, next.vote = hs.Term, hs.Vote })
}

func (s *slots) close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// NoteRoot records the sequence number of the root that was just made durable, and Root gives the low half of the newest
// recorded: a root with a lower number is an old copy. They may be called by any goroutine.
func (l *Log) NoteRoot(sequence uint64) error {
	return l.slots.write(func(next *slot) { next.root = uint32(sequence) })
}

// Root is described at NoteRoot.
func (l *Log) Root() uint32 {
	l.slots.mu.Lock()
	defer l.slots.mu.Unlock()
	return l.slots.last.root
}

// Amnesia reports whether nobody knows in which terms, and for whom, this replica voted: the side file was lost and the log
// was not closed. HardState is what the log says. It stays so, over restarts, until Certain.
func (l *Log) Amnesia() bool { return l.doubts()&doubtVote != 0 }

// Short reports whether the log may lack entries behind its end that were promised: its last segment is lost. It stays so, over
// restarts, until Certain.
func (l *Log) Short() bool { return l.doubts()&doubtEnd != 0 }

func (l *Log) doubts() uint32 {
	l.slots.mu.Lock()
	defer l.slots.mu.Unlock()
	return l.slots.last.doubts
}

// Doubt says that the caller has found out that both are the case: another replica knows of entries this one promised and does
// not have.
func (l *Log) Doubt() error {
	return l.slots.write(func(next *slot) { next.doubts |= doubtVote | doubtEnd })
}

// Certain says that the caller has found out, or made harmless, what Amnesia and Short are about.
func (l *Log) Certain() error {
	return l.slots.write(func(next *slot) { next.doubts &^= doubtVote | doubtEnd })
}

// WrongState reports whether the state that the caller makes of the entries is wrong, by the newest NoteState. It stays so over restarts.
func (l *Log) WrongState() bool { return l.doubts()&doubtState != 0 }

// NoteState makes durable that the caller's state is wrong, or right again.
func (l *Log) NoteState(wrong bool) error {
	return l.slots.write(func(next *slot) {
		next.doubts &^= doubtState
		if wrong {
			next.doubts |= doubtState
		}
	})
}
