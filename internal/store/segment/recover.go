package segment

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"
)

// readLast scans the last segment that was begun, finds its tail, and tells a torn tail from damage.
func (o *opening) readLast() error {
	s := o.segs[len(o.segs)-1]
	if s.file == nil {
		return o.lostLast()
	}
	o.hs = s.begin.hs
	s.startTable()
	o.promise = headerSize
	sc := s.scanner(s.size)
	touched := []touch{{headerSize, s.table.first}}
	off, why, bad := int64(headerSize), "", int64(0)
	for off < s.size {
		var b batch
		var err error
		if b, why, bad, err = sc.next(off); err != nil {
			return err
		}
		if why != "" {
			break
		}
		if err := s.apply(&b); err != nil {
			return err
		}
		touched = append(touched, touchedBy(&b))
		o.note(&b)
		off = b.end
	}
	s.end = off
	o.low = lowest(touched, o.promise, s.table.last()+1)
	err := o.judge(sc, why, bad)
	var damage *DamageError
	if !errors.As(err, &damage) || o.log.opt.First == 0 {
		return err
	}
	return o.salvageLast(damage)
}

// salvageLast reads what is left of a damaged last segment. It is written anew when nothing of it is lost any more.
func (o *opening) salvageLast(damage *DamageError) error {
	s := o.segs[len(o.segs)-1]
	o.log.opt.Logger.Error("the last segment is damaged", "segment", s.path, "offset", damage.Offset, "why", damage.Why)
	last, err := s.salvage(s.size, false)
	if err != nil {
		return err
	}
	if last != nil {
		o.hs = last.hs
	}
	s.bad, s.end = damage, max(s.end, s.seen) // what can be read behind the bad spot belongs to it
	if s.size < s.head.size && !o.sealed {    // what was cut off may have been promised, and nothing is left that says so
		o.cut, o.doubts = true, o.doubts|doubtEnd
	}
	o.salvaged, o.clean, o.torn = true, false, false
	return nil
}

// lostLast stands in for a last segment that is lost. The log goes on behind the one before, and how far the lost one went, nobody
// knows.
func (o *opening) lostLast() error {
	n := len(o.segs)
	s := o.segs[n-1]
	o.short, o.clean = true, false
	first := max(o.log.opt.VerifyFrom, 1)
	if n > 1 {
		older := o.segs[n-2]
		first = older.table.last() + 1
		if len(older.table.offsets) > 0 {
			s.begin.prevTerm = older.table.term(older.table.last())
		}
		s.begin.prevEnd, s.begin.prevSalt = older.end, older.head.salt
		if c, err := older.lastCommit(); err != nil {
			return err
		} else if c != nil {
			o.hs = c.hs
		}
		s.doubt = o.hs.Commit + 1
	}
	s.begin.first = first
	s.startTable()
	return nil
}

// lastCommit reads the newest COMMIT of a segment, nil if there is none.
func (s *segment) lastCommit() (*commit, error) {
	if s.file == nil {
		return nil, nil
	}
	probe := *s
	return probe.salvage(s.end, false)
}

// touch says that the batch at offset start changed the log from index on.
type touch struct {
	start int64
	index uint64
}

func touchedBy(b *batch) touch {
	for _, r := range b.records {
		if r.typ != typeFooter {
			return touch{b.start, r.index}
		}
	}
	return touch{b.start, ^uint64(0)}
}

// lowest is the first index that a batch from offset promise on changed; next if none did.
func lowest(touched []touch, promise int64, next uint64) uint64 {
	low := next
	for _, t := range touched {
		if t.start >= promise {
			low = min(low, t.index)
		}
	}
	return low
}

// note takes what a batch says besides its entries.
func (o *opening) note(b *batch) {
	o.promise = max(o.promise, b.commit.syncedUpTo)
	o.clean, o.mark = b.clean(), b.start
	o.sealed = len(b.records) > 0 && b.records[len(b.records)-1].typ == typeFooter
	if b.last.typ == typeCommit {
		o.hs = b.commit.hs
	}
}

// judge looks behind the tail: a later promise means that the tail was on the disk once and is damaged now.
func (o *opening) judge(sc *scanner, why string, bad int64) error {
	s := o.segs[len(o.segs)-1]
	promise, zero, err := sc.rest(s.end)
	if err != nil {
		return err
	}
	if promise > s.end {
		return damage(s.path, bad, "%s, but a later record says that the segment was synced up to offset %d", why, promise)
	}
	if o.promise > s.end {
		return damage(s.path, s.end, "the segment was synced up to offset %d, and ends before", o.promise)
	}
	if s.size < s.head.size && !o.sealed {
		return damage(s.path, s.size, "the file is shorter than the %d bytes it was made with", s.head.size)
	}
	if o.sealed && o.spare == nil {
		return o.lostNext()
	}
	o.torn = !zero
	o.clean = o.clean && zero
	if o.clean {
		s.end = o.mark
	}
	return nil
}

// lostNext finds that the last segment there is was sealed, so that another was made behind it.
func (o *opening) lostNext() error {
	s := o.segs[len(o.segs)-1]
	if o.log.opt.First == 0 {
		return &DamageError{File: filepath.Join(o.log.dir, fileName(s.head.number+1)), Why: "the segment is missing, but the log goes on behind it or needs it", Fix: fixRejoin}
	}
	if err := s.findEnd(); err != nil {
		return err
	}
	o.segs = append(o.segs, o.lostSegment(s.head.number+1))
	return o.lostLast()
}

// settle makes everything durable that the log shows, and removes leftovers. The tail comes first: the new segment
// appears whole or not at all, so that a slot torn after it never meets a torn tail. The side file is written in any
// case, for it may exist in the page cache only, and must be durable before what it calls leftovers goes.
func (o *opening) settle() error {
	l := o.log
	if l.slots.file == nil {
		sl, err := replaceSlots(l.fs, l.dir, l.opt.identity(), l.slots.last)
		if err != nil {
			return err
		}
		l.slots = sl
	}
	if err := o.settleTail(); err != nil {
		return err
	}
	first := o.segs[0].head.number
	change := func(next *slot) {
		next.term, next.vote, next.first = o.hs.Term, o.hs.Vote, first
		next.doubts |= o.doubts
	}
	if err := o.record(change); err != nil {
		return err
	}
	for _, path := range o.dead {
		err := l.fs.Remove(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // the new segment may have used the name
			return fmt.Errorf("remove leftover: %w", err)
		}
	}
	return l.fs.SyncDir(l.dir)
}

// record writes the side file. Where the medium cannot take the slot that is next, the file is made anew.
func (o *opening) record(change func(*slot)) error {
	l := o.log
	err := l.slots.write(change)
	if l.slots.torn >= 0 && errors.Is(err, syscall.EIO) {
		err = l.slots.renew(l.fs, l.dir, change)
	}
	return err
}

func (o *opening) settleTail() error {
	l := o.log
	s := o.segs[len(o.segs)-1]
	switch {
	case o.short:
		return o.beginAgain()
	case o.salvaged: // Fill or Open writes it anew
		return o.keepSpare()
	}
	if !o.clean {
		l.opt.Logger.Warn("the log was not closed; copying its tail", "segment", s.path, "promised", o.promise, "end", s.end, "torn", o.torn)
		return o.copyTail()
	}
	return o.keepSpare()
}

// keepSpare uses the segment that was made ahead, unless there was something in it.
func (o *opening) keepSpare() error {
	if !o.spareUsed {
		o.log.spare, o.spare = o.spare, nil
	}
	if o.spare == nil {
		return nil
	}
	spare := o.spare
	o.spare = nil
	return spare.file.Close()
}

// beginAgain makes an empty segment in the place of the lost last one. That there was another is recorded first.
func (o *opening) beginAgain() error {
	if err := o.record(func(next *slot) { next.doubts |= doubtEnd }); err != nil {
		return err
	}
	n := len(o.segs) - 1
	s := o.segs[n]
	s.begin.hs = o.hs
	fresh, err := o.make(s.head.number, s, nil)
	if err != nil {
		return err
	}
	o.segs[n] = fresh
	return o.keepSpare()
}

// copyTail ends the last segment at its last promise and copies what is behind it to a new one. If nothing was promised in the last
// segment, then the new one takes its place, because its begin block need not be durable either. The old bytes are
// not touched before the new ones are durable.
func (o *opening) copyTail() error {
	old := o.segs[len(o.segs)-1]
	replace := o.promise == headerSize
	low := o.low
	if replace {
		low = old.table.first
	}
	entries, err := old.from(low)
	if err != nil {
		return err
	}
	prevTerm := old.table.prevTerm
	if low > old.table.first {
		prevTerm = old.table.term(low - 1)
	}
	next := &segment{begin: begin{first: low, prevTerm: prevTerm, prevEnd: o.promise, prevSalt: old.head.salt, hs: o.hs}}
	number := old.head.number + 1
	if replace {
		number, next.begin.prevEnd, next.begin.prevSalt = old.head.number, old.begin.prevEnd, old.begin.prevSalt
	}
	next.table = table{first: low, prevTerm: prevTerm}
	fresh, err := o.make(number, next, entries)
	if err != nil {
		return err
	}
	return o.succeed(old, fresh, replace)
}

// from reads the entries from index on.
func (s *segment) from(index uint64) ([]Entry, error) {
	var entries []Entry
	for i := index; i <= s.table.last(); i++ {
		e, err := s.read(s.table.offset(i), i, s.table.term(i))
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func (o *opening) make(number uint64, next *segment, entries []Entry) (*segment, error) {
	l := o.log
	salt, err := l.newSalt()
	if err != nil {
		return nil, err
	}
	need := headerSize + batchSize(entries) + int64(footerSize(len(entries), len(entries))) + 2*commitSize
	head := header{id: l.opt.identity(), number: number, size: max(l.opt.SegmentSize, need), salt: salt}
	s, err := l.makeClosed(head, next, entries)
	for full(err) && (head.size > need || l.opt.Room != nil && l.opt.Room()) {
		head.size = need
		s, err = l.makeClosed(head, next, entries)
	}
	return s, err
}

// makeClosed makes a whole segment that looks like one of a log that was closed: begin block, one batch, clean mark,
// all synced before the file gets its name. like gives the begin block and the empty table.
func (l *Log) makeClosed(head header, like *segment, entries []Entry) (*segment, error) {
	return makeFile(l.fs, l.dir, head, func(s *segment) error {
		s.begin, s.table = like.begin, like.table
		l.setSynced(headerSize)
		bufs, off := l.encode(s, entries, l.hs)
		if err := s.file.WritevAt(bufs, off); err != nil {
			return err
		}
		for i := range entries {
			s.table.add(entries[i].Index, entries[i].Term, l.places[i])
		}
		s.begun, s.end = true, l.enc.off
		return l.writeClean(s)
	})
}

// succeed puts the new segment, durable by now, behind or in the place of the old one.
func (o *opening) succeed(old, fresh *segment, replace bool) error {
	l := o.log
	spare := o.spare
	o.spare = nil
	switch {
	case spare == nil:
	case replace && !o.spareUsed:
		l.spare = spare
	default: // the new segment has its name, or will have
		if err := spare.file.Close(); err != nil {
			return err
		}
	}
	if replace {
		o.segs[len(o.segs)-1] = fresh
		return old.file.Close()
	}
	old.end = o.promise
	for _, s := range o.segs {
		s.table.limit(fresh.table.first, fresh.table.prevTerm)
	}
	o.segs = append(o.segs, fresh)
	if o.sealed && old.size < old.head.size {
		return nil
	}
	sealed, err := l.sealAnywhere(old)
	if err == nil && sealed != old {
		o.segs[len(o.segs)-2] = sealed
		err = old.file.Close()
	}
	return err
}
