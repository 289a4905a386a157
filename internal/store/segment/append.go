package segment

import (
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/opencmq/cmq/internal/mutant"
)

// Append adds entries and a hard state (zero: unchanged) as one batch, with one write and, if sync is true, one
// fdatasync; when it returns nil with sync, everything appended so far is durable. A change of term or vote is always
// made durable. Entries must follow the log or replace a suffix of it that is not committed: the old entries from
// entries[0].Index on are gone then.
//
// ErrNoSpace means that nothing happened. After any other error the log is dead: nobody knows what is on the disk, and
// every later call returns the same error. The process should end, and the restart finds out.
func (l *Log) Append(entries []Entry, hs HardState, sync bool) error {
	if l.err != nil {
		return l.err
	}
	if n := l.lost.Load(); n > 0 {
		panic(fmt.Sprintf("BUG: append to a log that lacks %d entries", n))
	}
	l.check(entries)
	next, voted := l.nextHardState(entries, hs)
	sync = sync || voted
	if len(entries) == 0 && next == l.hs {
		if err := l.flush(sync); err != nil {
			return l.died(err)
		}
		l.markDurable(sync)
		return nil
	}
	need := batchSize(entries)
	if !l.active().fits(need, len(entries)) {
		if err := l.roll(need, len(entries)); err != nil {
			if mutant.On(mutant.NoSpaceHole) && errors.Is(err, ErrNoSpace) {
				return nil
			}
			return err
		}
	}
	sync = sync || !l.active().begun // a segment is never made ahead of one whose begin may be lost
	if err := l.write(entries, next, voted, sync); err != nil {
		return l.died(err)
	}
	l.publish(entries, next)
	l.markDurable(sync)
	l.makeAhead()
	return nil
}

// setSynced notes up to where the active segment is durable.
func (l *Log) setSynced(end int64) {
	l.synced = end
	l.syncedEnd.Store(end)
}

// died makes an error stick.
func (l *Log) died(err error) error {
	if err != nil {
		l.err = fmt.Errorf("%w in %s: %w", ErrFailed, l.dir, err)
	}
	return l.err
}

func (l *Log) check(entries []Entry) {
	if len(entries) == 0 {
		return
	}
	first, last := l.segs[0].table.first, l.lastLocked()
	if i := entries[0].Index; i < first || i > last+1 {
		panic(fmt.Sprintf("BUG: append of entry %d to a log from %d to %d", i, first, last))
	}
	if i := entries[0].Index; i <= l.hs.Commit {
		panic(fmt.Sprintf("BUG: append of entry %d over committed entries up to %d", i, l.hs.Commit))
	}
	for i := range entries {
		if entries[i].Index != entries[0].Index+uint64(i) {
			panic(fmt.Sprintf("BUG: append of entry %d after entry %d", entries[i].Index, entries[i-1].Index))
		}
		if entries[i].Term == 0 || len(entries[i].Data) > MaxEntry {
			panic(fmt.Sprintf("BUG: append of entry %d with term %d and %d bytes", entries[i].Index, entries[i].Term, len(entries[i].Data)))
		}
	}
}

func (l *Log) nextHardState(entries []Entry, hs HardState) (next HardState, voted bool) {
	if hs == (HardState{}) || hs == l.hs {
		return l.hs, false
	}
	last := l.lastLocked()
	if n := len(entries); n > 0 {
		last = entries[n-1].Index
	}
	if hs.Commit > last {
		panic(fmt.Sprintf("BUG: commit %d of a log that ends at %d", hs.Commit, last))
	}
	if hs.Term < l.hs.Term || hs.Commit < l.hs.Commit || hs.Term == l.hs.Term && l.hs.Vote != 0 && hs.Vote != l.hs.Vote {
		panic(fmt.Sprintf("BUG: hard state goes from %+v to %+v", l.hs, hs))
	}
	return hs, hs.Term != l.hs.Term || hs.Vote != l.hs.Vote
}

// flush makes durable what earlier calls only wrote.
func (l *Log) flush(sync bool) error {
	s := l.active()
	if !sync || l.synced == s.end || mutant.On(mutant.ConfirmBeforeFsync) {
		return nil
	}
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", s.path, err)
	}
	l.setSynced(s.end)
	return nil
}

// write writes one batch to the active segment, which has room for it.
func (l *Log) write(entries []Entry, hs HardState, voted, sync bool) error {
	s := l.active()
	bufs, off := l.encode(s, entries, hs)
	if err := s.file.WritevAt(bufs, off); err != nil {
		return fmt.Errorf("write %s: %w", s.path, err)
	}
	l.mu.Lock()
	s.begun, s.end = true, l.enc.off
	l.mu.Unlock()
	if err := l.flush(sync); err != nil {
		return err
	}
	if voted {
		return l.slots.writeHardState(hs)
	}
	return nil
}

// encode makes the buffers of a batch and notes the entries' places.
func (l *Log) encode(s *segment, entries []Entry, hs HardState) (bufs [][]byte, off int64) {
	e := &l.enc
	e.reset(s.head.salt, s.end)
	off = s.end
	if !s.begun {
		off = beginAt
		e.prefix(s.beginBytes())
	}
	last, term := l.end(s)
	if len(entries) > 0 && entries[0].Index <= last {
		before, _ := l.termLocked(entries[0].Index - 1)
		e.add(record{typ: typeTruncate, index: entries[0].Index, term: before})
	}
	l.places = l.places[:0]
	for i := range entries {
		en := &entries[i]
		l.places = append(l.places, e.add(record{typ: typeEntry, flags: en.Type, index: en.Index, term: en.Term, payload: en.Data}))
		last, term = en.Index, en.Term
	}
	written := hs
	if mutant.On(mutant.VoteNotPersisted) {
		written.Term, written.Vote = s.begin.hs.Term, s.begin.hs.Vote
	}
	return e.commit(last, term, written, l.synced, 0), off
}

// publish shows readers what has been written.
func (l *Log) publish(entries []Entry, hs HardState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hs = hs
	if len(entries) == 0 {
		return
	}
	if first := entries[0].Index; first <= l.lastLocked() {
		before, _ := l.termLocked(first - 1)
		for _, s := range l.segs {
			s.table.limit(first, before)
		}
		l.durable = min(l.durable, first-1)
		l.tail.truncate(first)
		l.read.truncate(first)
	}
	t := &l.active().table
	for i := range entries {
		t.add(entries[i].Index, entries[i].Term, l.places[i])
	}
	l.tail.add(entries)
}

// markDurable notes that the log is durable as it is, if it is.
func (l *Log) markDurable(sync bool) {
	if !sync {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.durable = l.lastLocked()
}

// roll seals the active segment and goes on in the next one, which gets room for a batch of need bytes and n entries.
func (l *Log) roll(need int64, n int) error {
	next, err := l.takeSpare(need, n)
	if err != nil {
		return l.noSpaceOrDied(err)
	}
	old := l.active()
	if err := l.flush(true); err != nil {
		return l.died(err)
	}
	sealed, err := l.sealAnywhere(old)
	if err != nil {
		l.spare = next
		return l.noSpaceOrDied(err)
	}
	last, term := l.end(sealed)
	next.begin = begin{first: last + 1, prevTerm: term, prevEnd: sealed.end, prevSalt: sealed.head.salt, hs: l.hs}
	next.table = table{first: last + 1, prevTerm: term}
	l.mu.Lock()
	l.segs = append(slices.Clone(l.segs[:len(l.segs)-1]), sealed, next)
	l.setSynced(next.end)
	l.mu.Unlock()
	if sealed == old {
		return nil
	}
	return old.file.Close()
}

// noSpaceOrDied tells what passes, a full disk or table of the system, from a failing disk. It is asked only about making a
// segment that is no part of the log yet, or a copy of one.
func (l *Log) noSpaceOrDied(err error) error {
	for _, e := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE, syscall.EROFS} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: %w", ErrNoSpace, err)
		}
	}
	return l.died(err)
}

// seal writes the footer behind a segment's batches, all durable, and cuts the file off there.
func (l *Log) seal(s *segment) error {
	size, err := l.writeFooter(s)
	if err != nil {
		return fmt.Errorf("seal %s: %w", s.path, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.size = size
	return nil
}

// sealFile is seal for a file that is no part of the log yet.
func (l *Log) sealFile(s *segment) (err error) {
	s.size, err = l.writeFooter(s)
	return err
}

func (l *Log) writeFooter(s *segment) (size int64, err error) {
	e := &l.enc
	e.reset(s.head.salt, s.end)
	last, term := l.end(s)
	e.add(record{typ: typeFooter, index: last, term: term, payload: s.table.encodeFooter()})
	bufs := e.commit(last, term, l.hs, s.end, 0)
	if err := s.file.WritevAt(bufs, s.end); errors.Is(err, syscall.EIO) {
		return 0, fmt.Errorf("%w: %w", errBadPlace, err)
	} else if err != nil {
		return 0, err
	}
	if err := s.file.Sync(); err != nil {
		return 0, err
	}
	return e.off, s.file.Truncate(e.off)
}
