package segment

import (
	"errors"
	"fmt"
)

// Fresh is a first segment that was made beside the log, for a replica whose log goes on behind a snapshot.
type Fresh struct {
	Number uint64 // the root names it as Options.First
	Sealed []Info // all the log's segments with entries: they are the caller's once the root says so
	seg    *segment
	hs     HardState
}

// Fresh makes a durable segment without predecessor, whose first entry will have index first behind an entry of term
// prevTerm, with the entries given, and seals the one in use. The log goes on until Replace. If the root never names the new segment, the next
// Open removes it. It belongs to the appending goroutine; ErrNoSpace means that nothing happened.
func (l *Log) Fresh(first, prevTerm uint64, hs HardState, entries []Entry) (Fresh, error) {
	if l.err != nil {
		return Fresh{}, l.err
	}
	if last := first - 1 + uint64(len(entries)); hs.Commit > last {
		panic(fmt.Sprintf("BUG: commit %d of a fresh log that ends at %d", hs.Commit, last))
	}
	if len(l.active().table.offsets) > 0 {
		if err := l.roll(commitSize, 0); err != nil {
			return Fresh{}, err
		}
	}
	l.collect(true)
	number := l.active().head.number + 1
	if l.spare != nil {
		number = l.spare.head.number + 1
	}
	salt, err := l.newSalt()
	if err != nil {
		return Fresh{}, err
	}
	head := header{id: l.opt.identity(), number: number, size: max(l.opt.SegmentSize, headerSize+batchSize(entries)+int64(footerSize(len(entries), len(entries)))+2*commitSize), salt: salt}
	before, synced := l.hs, l.synced
	l.hs = hs
	seg, err := l.makeClosed(head, &segment{
		begin: begin{first: first, prevTerm: prevTerm, hs: hs},
		table: table{first: first, prevTerm: prevTerm},
	}, entries)
	l.hs = before
	l.setSynced(synced)
	if err != nil {
		return Fresh{}, l.noSpaceOrDied(err)
	}
	return Fresh{Number: number, Sealed: l.Sealed(), seg: seg, hs: hs}, nil
}

// Replace makes the fresh segment the log; the root names it already. The files of the segments before stay.
func (l *Log) Replace(f Fresh) error {
	err := l.slots.write(func(next *slot) { next.term, next.vote, next.first = f.hs.Term, f.hs.Vote, f.Number })
	if err != nil {
		return l.died(err)
	}
	spare := l.spare
	l.spare = nil
	l.mu.Lock()
	old := l.segs
	l.segs = []*segment{f.seg}
	l.hs = f.hs
	l.setSynced(f.seg.end)
	l.durable = l.lastLocked()
	l.tail = newTailCache(l.opt.CacheBytes, l.lastLocked()+1)
	l.read.truncate(0)
	l.mu.Unlock()
	l.countLost()
	err = closeAll(old)
	if spare != nil {
		err = errors.Join(err, spare.file.Close())
	}
	if err != nil {
		return fmt.Errorf("close the replaced log: %w", err)
	}
	return nil
}
