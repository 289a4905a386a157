package segment

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/vfs"
)

// healRig is a log of several segments and its twin on another replica.
type healRig struct {
	disk  *vfs.Disk
	twin  []Entry // entries 1 to n
	names []string
	clean bool
	from  uint64 // Options.VerifyFrom; 0: 1
}

func newHealRig(t testing.TB, clean bool) *healRig {
	r := &healRig{disk: newTestDisk(7), clean: clean}
	fs := r.disk.Mount()
	opt := testOptions()
	l := mustCreate(t, fs, opt, 1, 0)
	term := uint64(1)
	for i := uint64(1); i <= 120; i += 2 {
		es := entries(term, 300+int(i%7)*40, i, i+1)
		if i%30 == 1 && i > 1 { // something that was never committed goes before
			must(t, l.Append(entries(term, 200, i, i+1, i+2), HardState{Term: term, Commit: i - 1}, true))
			term++
			es = entries(term, 300, i, i+1)
		}
		must(t, l.Append(es, HardState{Term: term, Commit: i - 1}, true))
		r.twin = append(r.twin, es...)
	}
	if clean {
		must(t, l.Close())
	}
	r.disk.Crash(vfs.KillProcess)
	names, err := r.disk.Mount().ReadDir("log")
	must(t, err)
	r.names = names
	return r
}

func (r *healRig) open(t testing.TB, disk *vfs.Disk) (*Log, error) {
	opt := testOptions()
	opt.First, opt.VerifyFrom = 1, max(r.from, 1)
	return Open(disk.Mount(), "log", opt)
}

// heal fills the holes from the twin, as a peer would that agrees at the anchor.
func (r *healRig) heal(t testing.TB, l *Log) {
	t.Helper()
	for n := 0; len(l.Holes()) > 0; n++ {
		require.Less(t, n, 1000)
		h := l.Holes()[0]
		if h.AnchorTerm != 0 {
			require.Equal(t, r.twin[h.AnchorIndex-1].Term, h.AnchorTerm, "%+v", h)
		}
		require.LessOrEqual(t, h.Hi, uint64(len(r.twin)+1))
		must(t, l.Fill(r.twin[h.Lo-1:h.Hi-1]))
	}
}

// whole checks that the log has what the twin has; at the end entries may be missing if the log says so.
func (r *healRig) whole(t testing.TB, l *Log) {
	t.Helper()
	require.Equal(t, uint64(len(r.twin)), l.LastIndex())
	require.Equal(t, uint64(1), l.FirstIndex())
	for i := uint64(1); i <= l.LastIndex(); i++ {
		e, err := l.Entry(i)
		must(t, err)
		require.Equal(t, r.twin[i-1], e)
	}
}

// scrub reads everything again, writes damaged segments anew and finds nothing more.
func (r *healRig) scrub(t testing.TB, l *Log, last Entry) {
	t.Helper()
	get := func(lo, hi uint64) ([]Entry, error) {
		return append(slices.Clone(r.twin[:last.Index-1]), last)[lo-1 : hi-1], nil
	}
	for round := range 2 {
		first, end := l.Numbers()
		for n := first; n <= end; n++ {
			holes, err := l.Verify(n, func(int) error { return nil })
			must(t, err)
			if len(holes) == 0 {
				continue
			}
			require.Zero(t, round, "%+v", holes)
			if n == end {
				must(t, l.Roll())
			}
			must(t, l.Rebuild(n, get))
		}
	}
}

// later checks that the log can be used and is whole after a restart.
func (r *healRig) later(t testing.TB, l *Log, disk *vfs.Disk) {
	t.Helper()
	r.whole(t, l)
	next := l.LastIndex() + 1
	term := l.HardState().Term + 1
	more := entries(term, 100, next)
	must(t, l.Append(more, HardState{Term: term, Commit: next - 1}, true))
	r.scrub(t, l, more[0])
	disk.Crash(vfs.LoseAll)
	again, err := r.open(t, disk)
	must(t, err)
	require.Empty(t, again.Holes())
	require.Equal(t, next, again.LastIndex())
	e, err := again.Entry(next)
	must(t, err)
	require.Equal(t, more[0], e)
	must(t, again.Close())
}

// TestEveryFlippedByteHeals flips bytes of all files, one at a time: what was promised is read as it was, comes back from the
// twin, or the log says that its end is lost.
func TestEveryFlippedByteHeals(t *testing.T) {
	for _, clean := range []bool{true, false} {
		rig := newHealRig(t, clean)
		for _, name := range rig.names {
			data, err := vfs.ReadFile(rig.disk.Mount(), "log/"+name)
			must(t, err)
			end := len(data)
			for end > 0 && data[end-1] == 0 {
				end--
			}
			step := 1 + end/400
			for off := 0; off < end; off += step {
				disk := rig.disk.Clone(rand.New(rand.NewPCG(uint64(off), 3)))
				must(t, disk.Flip("/log/"+name, int64(off), uint(off%8)))
				what := fmt.Sprintf("clean %v, %s, byte %d", clean, name, off)
				l, err := rig.open(t, disk)
				require.NoError(t, err, what)
				rig.heal(t, l)
				// Rot in the very last batch of a log that was not closed looks torn; the leader knows better.
				last := l.LastIndex()
				if n := uint64(len(rig.twin)); last < n && (l.Short() || !clean && last+2 >= n) {
					must(t, l.Append(rig.twin[last:], HardState{}, true))
				}
				if l.Short() || l.Amnesia() {
					must(t, l.Certain())
				}
				rig.later(t, l, disk)
			}
		}
	}
}

// TestEndThatWasThereOnceIsLost flips bytes of the last segment, of which the caller knows that all its entries were durable: none is
// taken for torn.
func TestEndThatWasThereOnceIsLost(t *testing.T) {
	rig := newHealRig(t, false)
	rig.from = uint64(len(rig.twin)) + 1
	name := rig.names[len(rig.names)-1]
	if n, _ := fileNumber(name); n == 0 {
		name = rig.names[len(rig.names)-2] // the other is the side file
	}
	lost := 0
	for _, name := range []string{name, fmt.Sprintf("%010d.seg", mustNumber(t, name)-1)} {
		for off := int64(0); off < rig.disk.Size("/log/"+name); off += 7 {
			disk := rig.disk.Clone(rand.New(rand.NewPCG(uint64(off), 3)))
			must(t, disk.Flip("/log/"+name, off, uint(off%8)))
			l, err := rig.open(t, disk)
			require.NoError(t, err, "%s, byte %d", name, off)
			require.Equal(t, uint64(len(rig.twin)), l.LastIndex())
			if len(l.Holes()) == 0 {
				continue
			}
			lost++
			require.Panics(t, func() { _ = l.Append(nil, HardState{}, true) })
			rig.heal(t, l)
			must(t, l.Certain())
			rig.later(t, l, disk)
		}
	}
	require.Positive(t, lost)
}

// A lost entry that the set never agreed on comes back as the one it did agree on, of a newer term. What follows the segment must say so,
// too, or no later start takes the two for parts of one log.
func TestLostEntryComesBackWithANewerTerm(t *testing.T) {
	disk := newTestDisk(7)
	opt := testOptions()
	opt.First = 1
	l := mustCreate(t, disk.Mount(), opt, 1, 0)
	must(t, l.Append(entries(1, 100, 1, 2), HardState{Term: 1, Commit: 0}, true))
	must(t, l.Append(entries(4, 100, 3), HardState{Term: 4, Commit: 2}, true))
	must(t, l.Roll())
	must(t, l.Append(nil, HardState{Term: 5, Vote: 1, Commit: 2}, true))
	disk.Crash(vfs.KillProcess)
	must(t, disk.Flip("/log/0000000001.seg", 0, 0))
	agreed := append(entries(1, 100, 1, 2), entries(6, 100, 3)...)
	fill := func(disk *vfs.Disk) error {
		l, err := Open(disk.Mount(), "log", opt)
		if err != nil {
			return err
		}
		for n := 0; len(l.Holes()) > 0; n++ {
			require.Less(t, n, 10)
			if err := l.Fill(agreed); err != nil {
				return err
			}
		}
		term, err := l.Term(3)
		must(t, err)
		require.EqualValues(t, 6, term)
		return l.Certain()
	}

	for n := 1; ; n++ { // with a crash at each operation
		copied := disk.Clone(rand.New(rand.NewPCG(uint64(n), 3)))
		count := crashAt(copied, n, vfs.LoseAll)
		err := fill(copied)
		copied.OnOp(nil)
		if *count < n {
			must(t, err)
			require.Greater(t, n, 10)
			return
		}
		copied.Crash(vfs.LoseAll)
		must(t, fill(copied))
		copied.Crash(vfs.LoseAll)
		l, err := Open(copied.Mount(), "log", opt)
		must(t, err)
		require.Empty(t, l.Holes())
		wantEntries(t, l, agreed)
	}
}

func mustNumber(t *testing.T, name string) uint64 {
	n, ok := fileNumber(name)
	require.True(t, ok)
	return n
}

// A last segment that was made shorter may have lost entries that nothing else names: the log says that it may have lost its
// end, wherever the cut is.
func TestShortenedLastSegmentIsInDoubt(t *testing.T) {
	for _, clean := range []bool{false, true} {
		r := newHealRig(t, clean)
		name := "log/" + lastBegun(t, r)
		info, err := r.disk.Mount().Stat(name)
		must(t, err)
		for _, size := range []int64{headerSize, headerSize + 100, info.Size / 4, info.Size / 2, info.Size - 8} {
			t.Run(fmt.Sprintf("clean %v, %d bytes", clean, size), func(t *testing.T) {
				disk := r.disk.Clone(rand.New(rand.NewPCG(1, 2)))
				f, err := disk.Mount().OpenFile(name, os.O_RDWR, 0)
				must(t, err)
				must(t, f.Truncate(size))
				must(t, f.Sync())
				must(t, f.Close())
				for range 2 { // it is not forgotten
					l, err := r.open(t, disk)
					must(t, err)
					require.True(t, l.Short(), "entries to %d of %d", l.LastIndex(), len(r.twin))
					must(t, l.Close())
				}
			})
		}
	}
}

// lastBegun is the last segment with entries.
func lastBegun(t *testing.T, r *healRig) (last string) {
	for _, name := range r.names {
		if _, ok := fileNumber(name); !ok {
			continue
		}
		v, err := OpenView(r.disk.Mount(), "log/"+name)
		must(t, err)
		if v.Begun {
			last = name
		}
		must(t, v.Close())
	}
	return last
}

// TestFillThatFindsNoRoomLeavesTheHoles: what was given is not on the disk, so the log is not whole, and the same can be given again.
func TestFillThatFindsNoRoomLeavesTheHoles(t *testing.T) {
	rig := newHealRig(t, true)
	must(t, rig.disk.Flip("/log/0000000002.seg", headerSize+100, 3))
	l, err := rig.open(t, rig.disk)
	must(t, err)
	holes := l.Holes()
	require.NotEmpty(t, holes)
	rig.disk.SetInodes(0)
	wantErr(t, l.Fill(rig.twin[holes[0].Lo-1:holes[0].Hi-1]), ErrNoSpace)
	require.Equal(t, holes, l.Holes())
	require.Panics(t, func() { _ = l.Append(nil, HardState{}, true) })
	rig.disk.SetInodes(-1)
	rig.heal(t, l)
	rig.later(t, l, rig.disk)
}

// TestSideFileOnABadSectorIsMadeAnew: a slot is a part of a sector, which a disk does not write over if it cannot read it.
func TestSideFileOnABadSectorIsMadeAnew(t *testing.T) {
	for _, at := range []int64{0, slotStride} {
		for _, lost := range []bool{false, true} {
			rig := newHealRig(t, false)
			must(t, rig.disk.BadSectors("/log/"+slotsName, at, 1))
			if lost { // that it was there is recorded before anything else is written
				must(t, rig.disk.Shorten("/log/"+lastBegun(t, rig), 100))
			}
			opt := testOptions()
			opt.First, opt.VerifyFrom = 1, 1
			fs := vfs.Patchy(rig.disk.Mount(), func(string, int64, int) {})
			l, err := Open(fs, "log", opt)
			must(t, err)
			require.Equal(t, lost, l.Short())
			if l.Amnesia() || lost {
				must(t, l.Certain())
			}
			require.False(t, rig.disk.Sick(), "slot at %d", at)
			if !lost {
				rig.later(t, l, rig.disk)
			}
		}
	}
}

// withSpare is a log with entries of 500 bytes from 1 to before next, and a segment made ahead.
func withSpare(t testing.TB) (disk *vfs.Disk, l *Log, next uint64) {
	disk = newTestDisk(1)
	l = mustCreate(t, disk.Mount(), testOptions(), 1, 0)
	for next = 1; l.spare == nil; next++ {
		must(t, l.Append(entries(1, 500, next), HardState{Term: 1}, true))
	}
	return disk, l, next
}

// TestSegmentMadeAheadThatRottedIsNotUsed: entries written behind a bad header would be lost with it.
func TestSegmentMadeAheadThatRottedIsNotUsed(t *testing.T) {
	disk, l, next := withSpare(t)
	number := l.spare.head.number
	must(t, disk.Flip(fmt.Sprintf("/log/%010d.seg", number), 20, 1))
	for ; l.active().head.number < number; next++ {
		must(t, l.Append(entries(1, 500, next), HardState{Term: 1}, true))
	}
	disk.Crash(vfs.LoseAll)
	l, err := Open(disk.Mount(), "log", testOptions())
	must(t, err)
	wantEntries(t, l, entries(1, 500, span(1, next)...))
}

// TestWhatIsWrittenAnewInASegmentMadeAheadMayRot: whether it is used or the log is opened first.
func TestWhatIsWrittenAnewInASegmentMadeAheadMayRot(t *testing.T) {
	for _, at := range []int64{beginAt + 18, headerSize + 5} {
		for _, opened := range []bool{false, true} {
			disk, l, next := withSpare(t)
			number := l.spare.head.number
			must(t, disk.Flip(fmt.Sprintf("/log/%010d.seg", number), at, 1))
			open := func() {
				disk.Crash(vfs.LoseAll)
				var err error
				l, err = Open(disk.Mount(), "log", testOptions())
				must(t, err)
				require.False(t, l.Amnesia() || l.Short())
				wantEntries(t, l, entries(1, 500, span(1, next)...))
			}
			if opened {
				open()
			}
			for ; l.active().head.number < number; next++ {
				must(t, l.Append(entries(1, 500, next), HardState{Term: 1}, true))
			}
			open()
		}
	}
}

// TestRoomBehindTheFooterIsNoDamage: the cut that follows a sealed segment's footer is not synced, and a crash can undo it.
func TestRoomBehindTheFooterIsNoDamage(t *testing.T) {
	rig := newHealRig(t, true)
	f, err := rig.disk.Mount().OpenFile("log/0000000002.seg", os.O_RDWR, 0)
	must(t, err)
	must(t, f.Truncate(testOptions().SegmentSize))
	must(t, f.Close())
	l, err := rig.open(t, rig.disk)
	must(t, err)
	holes, err := l.Verify(2, func(int) error { return nil })
	must(t, err)
	require.Empty(t, holes)
	rig.whole(t, l)
}

// TestFooterOnABadSectorMovesTheSegment: a log that cannot be sealed in its place is not stuck, neither when it goes on nor when it is
// replaced.
func TestFooterOnABadSectorMovesTheSegment(t *testing.T) {
	patchy := func(d *vfs.Disk) vfs.FS { return vfs.Patchy(d.Mount(), func(string, int64, int) {}) }
	for name, goOn := range map[string]func(l *Log) error{
		"roll":    func(l *Log) error { return l.Roll() },
		"replace": func(l *Log) error { _, err := l.Fresh(1000, 1, HardState{Term: 1}, nil); return err },
	} {
		t.Run(name, func(t *testing.T) {
			disk := newTestDisk(1)
			l := mustCreate(t, patchy(disk), testOptions(), 1, 0)
			must(t, l.Append(entries(1, 300, span(1, 8)...), HardState{Term: 1}, true))
			pad := 512 - l.active().end%512 + 512 - commitSize - recordSize // the next batch's last record ends a sector or little more
			must(t, l.Append(entries(1, int(pad), 8), HardState{Term: 1}, true))
			require.Less(t, l.active().end%512, int64(commitSize))
			must(t, disk.BadSectors("/log/0000000001.seg", l.active().end, 1))
			must(t, goOn(l))
			require.False(t, disk.Sick())
			wantEntries(t, l, append(entries(1, 300, span(1, 8)...), entries(1, int(pad), 8)...))
		})
	}
}

// TestDamagedSpareIsFound before it is used, or taken for a lost part of the log by the next start.
func TestDamagedSpareIsFound(t *testing.T) {
	disk, l, next := withSpare(t)
	holes, err := l.VerifySpare()
	must(t, err)
	require.Empty(t, holes)
	must(t, disk.Flip("/log/0000000002.seg", 20, 1))
	holes, err = l.VerifySpare()
	must(t, err)
	require.Len(t, holes, 1)
	require.Equal(t, holes[0].Lo, holes[0].Hi)
	must(t, l.RenewSpare())
	holes, err = l.VerifySpare()
	must(t, err)
	require.Empty(t, holes)
	disk.Crash(vfs.LoseAll)
	l, err = Open(disk.Mount(), "log", testOptions())
	must(t, err)
	wantEntries(t, l, entries(1, 500, span(1, next)...))
}

// TestNeighboursOfADamagedEntryAreKept: what was not committed when the entry behind was written is not in doubt for that, as long as no
// leader of a later term can have replaced it.
func TestNeighboursOfADamagedEntryAreKept(t *testing.T) {
	for name, row := range map[string]struct{ term, lo, hi uint64 }{
		"same term":   {1, 20, 21},
		"later terms": {2, 17, 21}, // in the damaged place may have been others of term 2, for 17 and behind
	} {
		disk := newTestDisk(1)
		l := mustCreate(t, disk.Mount(), testOptions(), 1, 0)
		for i := uint64(1); i <= 40; i++ {
			term := uint64(1)
			if i >= 20 {
				term = row.term
			}
			must(t, l.Append(entries(term, 100, i), HardState{Term: term, Commit: max(i, 3) - 3}, true))
		}
		s, err := l.findLocked(20)
		must(t, err)
		must(t, disk.Flip("/"+s.path, s.table.offset(20)+recordSize+7, 2))
		disk.Crash(vfs.KillProcess)
		opt := testOptions()
		opt.First, opt.VerifyFrom = 1, 1
		l, err = Open(disk.Mount(), "log", opt)
		must(t, err)
		require.Len(t, l.Holes(), 1, name)
		require.Equal(t, [2]uint64{row.lo, row.hi}, [2]uint64{l.Holes()[0].Lo, l.Holes()[0].Hi}, name)
	}
}

// What is noted of the caller's state stays over restarts, crashes and what becomes of the other doubts, until it is taken back.
func TestNotedStateStays(t *testing.T) {
	disk := newTestDisk(7)
	opt := testOptions()
	opt.First = 1
	l := mustCreate(t, disk.Mount(), opt, 1, 0)
	must(t, l.Append(entries(1, 100, 1, 2), HardState{Term: 1, Commit: 1}, true))
	require.False(t, l.WrongState())
	must(t, l.NoteState(true))
	again := func(mode vfs.CrashMode) {
		disk.Crash(mode)
		var err error
		l, err = Open(disk.Mount(), "log", opt)
		require.NoError(t, err)
	}
	again(vfs.LoseAll)
	require.True(t, l.WrongState())
	require.False(t, l.Short() || l.Amnesia())
	must(t, l.Doubt())
	require.True(t, l.WrongState())
	again(vfs.LoseAll)
	require.True(t, l.WrongState() && l.Short() && l.Amnesia())
	must(t, l.Certain())
	must(t, l.Append(nil, HardState{Term: 9, Vote: 2, Commit: 2}, true))
	again(vfs.KillProcess)
	require.True(t, l.WrongState())
	require.False(t, l.Short() || l.Amnesia())
	must(t, l.NoteState(false))
	again(vfs.LoseAll)
	require.False(t, l.WrongState() || l.Short() || l.Amnesia())
	require.EqualValues(t, 9, l.HardState().Term)
}
