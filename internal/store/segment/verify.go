package segment

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sort"

	"github.com/opencmq/cmq/internal/mutant"
)

// Hole is a part of a log or segment that was promised and is not what was written.
type Hole struct {
	Lo, Hi uint64 // entries that are lost, [Lo, Hi); Lo == Hi if only what is around them is damaged
	// A replica whose log has an entry of term AnchorTerm at AnchorIndex has exactly the entries that are lost here: logs that
	// agree at one place agree everywhere before it. AnchorTerm 0: no such place is known.
	AnchorIndex, AnchorTerm uint64

	File   string
	Offset int64
	Why    string
}

// Numbers are those of the first and the last segment of the log.
func (l *Log) Numbers() (first, last uint64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.segs[0].head.number, l.active().head.number
}

// Verify reads a segment of the log again, from its file and not from memory, and lists what is damaged: of the active one
// up to where it was synced last. None if there is no such segment (any more). throttle is told of the bytes read; its error
// ends the reading. Any goroutine may call it.
func (l *Log) Verify(number uint64, throttle func(bytes int) error) ([]Hole, error) {
	probe, s := l.probe(number)
	if s == nil {
		return nil, nil
	}
	holes, err := l.verify(probe, throttle)
	if len(holes) == 0 || err != nil {
		return nil, err
	}
	l.healing.Lock()
	_, now := l.probe(number)
	l.healing.Unlock()
	if now != s { // it left the log and may have been removed meanwhile, or it was written anew
		return l.Verify(number, throttle)
	}
	for i := range holes {
		l.anchor(&holes[i], max(holes[i].Hi, 1)-1)
	}
	return holes, nil
}

// probe is a copy of what is known of a segment, for reading it beside the log.
func (l *Log) probe(number uint64) (p, of *segment) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for i, s := range l.segs {
		if s.head.number != number || l.shut {
			continue
		}
		p = &segment{path: s.path, head: s.head, begin: s.begin, begun: s.begun, table: s.table.clone(), size: s.size, end: s.end}
		if i == len(l.segs)-1 {
			p.end, p.size = l.syncedEnd.Load(), 0
		}
		return p, s
	}
	return nil, nil
}

func (l *Log) verify(probe *segment, throttle func(int) error) ([]Hole, error) {
	f, err := l.fs.OpenFile(probe.path, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return probe.allLost("the file is missing"), nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	probe.file = f
	return probe.verify(throttle)
}

func (s *segment) allLost(why string) []Hole {
	return []Hole{{Lo: s.table.first, Hi: s.table.last() + 1, File: s.path, Why: why}}
}

// anchor finds an entry at from or behind it, at the end of the hole, whose term is known.
func (l *Log) anchor(h *Hole, from uint64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if h.Hi == h.Lo {
		return
	}
	for i := from; i <= l.lastLocked(); i++ {
		s, err := l.findLocked(i)
		if err != nil {
			return
		}
		if term := s.table.term(i); term != 0 && (!s.table.lost(i) || i < h.Hi) {
			h.AnchorIndex, h.AnchorTerm = i, term
			return
		}
	}
	for _, s := range l.segs {
		if s.sure.term != 0 && s.sure.first+1 >= h.Hi {
			h.AnchorIndex, h.AnchorTerm = s.sure.first, s.sure.term
		}
	}
}

// verify reads the segment's file up to end, and behind it what belongs to a sealed one (size is not 0). The table says what
// should be there.
func (s *segment) verify(throttle func(int) error) ([]Hole, error) {
	size, err := s.file.Size()
	if err != nil {
		return nil, err
	}
	if size < s.end || s.size != 0 && size < s.size {
		return s.allLost("the file is too short"), nil
	}
	v := &verification{s: s, sc: &scanner{file: s.file, name: s.path, salt: s.head.salt, end: s.end}, throttle: throttle}
	if err := v.head(); err != nil {
		return v.holes, err
	}
	if err := v.records(); err != nil {
		return v.holes, err
	}
	return v.holes, v.footer(size)
}

// verification is one reading of a segment.
type verification struct {
	s        *segment
	sc       *scanner
	throttle func(int) error
	holes    []Hole
	told     int64 // throttle knows of the bytes up to here
}

func (v *verification) damaged(lo, hi uint64, off int64, why string) {
	if n := len(v.holes); n > 0 && v.holes[n-1].Hi == lo && lo < hi {
		v.holes[n-1].Hi = hi
		return
	}
	v.holes = append(v.holes, Hole{Lo: lo, Hi: hi, File: v.s.path, Offset: off, Why: why})
}

// head checks the first 4 KiB, which say what the file is: nothing else may be in them. Of a segment that has not been begun, a
// part: it may be begun just now.
func (v *verification) head() error {
	s := v.s
	want := make([]byte, beginAt, headerSize)
	s.head.encode(want)
	if s.begun {
		want = append(want, s.beginBytes()...)
	}
	have := make([]byte, len(want))
	if n, err := s.file.ReadAt(have, 0); n < len(have) {
		return fmt.Errorf("read %s: %w", s.path, err)
	}
	for i := range want {
		if have[i] != want[i] {
			v.damaged(s.table.first, s.table.first, int64(i), "the header is not what was written")
			break
		}
	}
	return nil
}

// records reads all records one behind the other. After a bad one it goes on with the next entry that the table knows.
func (v *verification) records() error {
	off := int64(headerSize)
	if mutant.On(mutant.ScrubSkipsBlock) {
		off = v.s.next(off + 1)
	}
	for off < v.s.end {
		r, _, why, err := v.sc.record(off)
		if err != nil {
			return err
		}
		if why == "" && !v.padded(&r) {
			why = "the bytes behind a record are not zero"
		}
		if why != "" {
			lo := v.s.indexAt(off)
			hi := lo
			if i := lo - v.s.table.first; i < uint64(len(v.s.table.offsets)) && v.s.table.offset(lo) == off {
				hi++
			}
			v.damaged(lo, hi, off, why)
			off = v.s.next(off + 1)
		} else {
			off += r.size()
		}
		if off-v.told >= window {
			if err := v.throttle(int(off - v.told)); err != nil {
				return err
			}
			v.told = off
		}
	}
	return v.throttle(int(max(off-v.told, 0)))
}

// padded checks the bytes between a record and the next.
func (v *verification) padded(r *record) bool {
	p, err := v.sc.bytes(r.off, int(r.size()))
	return err == nil && p != nil && allZero(p[recordSize+r.length:])
}

// indexAt is the first entry at or behind an offset, the one behind the last if there is none.
func (s *segment) indexAt(off int64) uint64 {
	n := sort.Search(len(s.table.offsets), func(i int) bool { return int64(s.table.offsets[i])*align >= off })
	return s.table.first + uint64(n)
}

// next is where the first entry at or behind an offset begins, the end if there is none.
func (s *segment) next(off int64) int64 {
	if i := s.indexAt(off); i <= s.table.last() {
		return s.table.offset(i)
	}
	return s.end
}

// footer checks what a sealed segment ends with. Behind it there may be room that was never used: the file is cut off there without a
// sync, so a crash can undo that.
func (v *verification) footer(size int64) error {
	s := v.s
	if s.size == 0 {
		return nil
	}
	sc := &scanner{file: s.file, name: s.path, salt: s.head.salt, end: size}
	b, why, bad, err := sc.next(s.end)
	if err != nil {
		return err
	}
	if why == "" && (len(b.records) != 1 || b.records[0].typ != typeFooter) {
		why, bad = "the file does not end with its footer", s.end
	}
	if why != "" {
		v.damaged(s.table.last()+1, s.table.last()+1, bad, why)
	}
	return nil
}

// Verify is Log.Verify for a segment that has left the log.
func (s *Sealed) Verify(throttle func(bytes int) error) ([]Hole, error) {
	f, err := s.fs.OpenFile(s.path, os.O_RDONLY, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return []Hole{{Lo: s.info.First, Hi: s.info.Last + 1, File: s.path, Why: "the file is missing"}}, nil
	case err != nil:
		return nil, err
	}
	defer f.Close()
	probe := &segment{path: s.path, file: f}
	var damage *DamageError
	if err := s.check(probe); errors.As(err, &damage) {
		return []Hole{{Lo: s.info.First, Hi: s.info.Last + 1, File: s.path, Offset: damage.Offset, Why: damage.Why}}, nil
	} else if err != nil {
		return nil, err
	}
	return probe.verify(throttle)
}
