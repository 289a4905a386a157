package segment

import (
	"errors"
	"fmt"
	"os"

	"github.com/opencmq/cmq/internal/mutant"
)

// Entry returns one entry, from memory if it is among the newest or was read recently. ErrCompacted, ErrUnavailable,
// ErrClosed, a *DamageError if its bytes are wrong, or the disk's error.
func (l *Log) Entry(index uint64) (Entry, error) {
	l.mu.RLock()
	e, ok, err := l.cachedLocked(index)
	l.mu.RUnlock()
	if ok || err != nil {
		return e, err
	}
	return l.read.get(index, func() (Entry, error) { return l.load(index) })
}

// ForgetCached gives up the memory of the entries that are kept only to be read faster. Whoever wants them reads the disk.
func (l *Log) ForgetCached() {
	l.mu.Lock()
	l.tail.clear()
	l.mu.Unlock()
	l.read.forget(func(uint64) bool { return true })
}

// Entries returns the entries from lo up to but not including hi, as many as fit into maxBytes of data but at least
// one. Errors as for Entry.
func (l *Log) Entries(lo, hi, maxBytes uint64) ([]Entry, error) {
	if lo >= hi {
		return nil, nil
	}
	var entries []Entry
	for i, n := lo, uint64(0); i < hi; i++ {
		l.mu.RLock()
		e, ok, err := l.cachedLocked(i)
		l.mu.RUnlock()
		if err == nil && !ok {
			e, err = l.load(i)
		}
		if err != nil {
			return nil, err
		}
		n += uint64(len(e.Data))
		if len(entries) > 0 && n > maxBytes {
			break
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// cachedLocked checks that an entry exists and takes it from the tail cache if it is there.
func (l *Log) cachedLocked(index uint64) (e Entry, ok bool, err error) {
	if l.shut {
		return e, false, ErrClosed
	}
	if _, err := l.findLocked(index); err != nil {
		return e, false, err
	}
	if e, ok = l.given[index]; ok {
		return e, true, nil
	}
	e, ok = l.tail.get(index)
	return e, ok, nil
}

// load reads an entry from the disk. The segment may be dropped or written anew meanwhile.
func (l *Log) load(index uint64) (Entry, error) {
	for {
		s, off, term, err := l.place(index)
		if err != nil {
			return Entry{}, err
		}
		e, err := s.read(off, index, term)
		if err == nil || !l.moved(index, s, err) {
			return e, err
		}
	}
}

// place is where an entry lies on the disk.
func (l *Log) place(index uint64) (s *segment, off int64, term uint64, err error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.shut {
		return nil, 0, 0, ErrClosed
	}
	if s, err = l.findLocked(index); err != nil {
		return nil, 0, 0, err
	}
	return s, s.table.offset(index), s.table.term(index), nil
}

// moved tells whether a read of s failed because the entry is not there any more: its file was closed, or had the damage for
// which it was written anew.
func (l *Log) moved(index uint64, s *segment, failed error) bool {
	now, _, _, err := l.place(index)
	if err == nil && now == s && errors.Is(failed, os.ErrClosed) {
		panic("BUG: a live segment was closed")
	}
	return err != nil || now != s
}

// lostEntry is the error for an entry that was promised and cannot be read.
func (s *segment) lostEntry(index uint64) error {
	return damage(s.path, 0, "entry %d is lost", index)
}

// read reads the entry at off, which must have that index and term.
func (s *segment) read(off int64, index, term uint64) (Entry, error) {
	if off == 0 {
		return Entry{}, s.lostEntry(index)
	}
	var head [recordSize]byte
	if n, err := s.file.ReadAt(head[:], off); n < len(head) {
		return Entry{}, s.readError(off, err)
	}
	r, why := decodeRecord(head[:], s.head.salt, off)
	if why != "" {
		return Entry{}, damage(s.path, off, "%s", why)
	}
	if r.typ != typeEntry || r.index != index || r.term != term || r.length > MaxEntry {
		return Entry{}, damage(s.path, off, "another record is where entry %d of term %d should be", index, term)
	}
	r.payload = make([]byte, r.length)
	if n, err := s.file.ReadAt(r.payload, off+recordSize); n < r.length {
		return Entry{}, s.readError(off, err)
	}
	if !r.intact(head[:]) && !mutant.On(mutant.TornTailKept) {
		return Entry{}, damage(s.path, off, "the checksum of entry %d is wrong", index)
	}
	return Entry{Index: index, Term: term, Type: r.flags, Data: r.payload}, nil
}

func (s *segment) readError(off int64, err error) error {
	if isEOF(err) {
		return damage(s.path, off, "the file ends within an entry")
	}
	return fmt.Errorf("read %s at offset %d: %w", s.path, off, err)
}
