package segment

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/opencmq/cmq/internal/vfs"
)

// state is what the log should be after some operation of a workload.
type state struct {
	first   uint64
	entries []Entry // of all indexes from 1; those before first may be gone
	hs      HardState
}

// history is what a workload did: the states after each operation, the last one perhaps under way.
type history struct {
	states []state
	synced int // states before this one were replaced by a later one that was acknowledged as durable
	l      *Log
	broken error // the operation during which the disk crashed or failed
}

func (h *history) now() state { return h.states[len(h.states)-1] }

func (h *history) append(es []Entry, hs HardState, sync bool) {
	if h.broken != nil {
		return
	}
	next := h.now()
	if len(es) > 0 {
		next.entries = append(slices.Clone(next.entries[:es[0].Index-1]), es...)
	}
	voted := false
	if hs != (HardState{}) {
		voted = hs.Term != next.hs.Term || hs.Vote != next.hs.Vote
		next.hs = hs
	}
	h.states = append(h.states, next)
	h.broken = h.l.Append(es, hs, sync)
	if h.broken == nil && (sync || voted) {
		h.synced = len(h.states) - 1
	}
}

func (h *history) drop(index uint64) {
	if h.broken != nil {
		return
	}
	next, before := h.now(), h.l.FirstIndex()
	next.first = max(index, before)
	h.states = append(h.states, next)
	if h.broken = h.l.DropBefore(index); h.broken == nil {
		h.states[len(h.states)-1].first = h.l.FirstIndex()
		if h.l.FirstIndex() > before {
			h.synced = len(h.states) - 1
		}
	}
}

func (h *history) reopen(disk *vfs.Disk) {
	if h.broken != nil {
		return
	}
	if h.broken = h.l.Close(); h.broken != nil {
		return
	}
	h.synced = len(h.states) - 1
	h.l, h.broken = Open(disk.Mount(), "log", crashOptions())
}

func crashOptions() Options {
	o := testOptions()
	o.SegmentSize = minSegmentSize
	return o
}

// script is a workload that meets every kind of operation: appends with and without sync, votes, conflicts within a
// segment and across segments, rolls, entries larger than a segment, drops, orderly restarts.
func (h *history) script(disk *vfs.Disk) {
	h.append(entries(1, 100, 1, 2, 3), HardState{Term: 1, Vote: 2}, true)
	h.append(entries(1, 900, 4, 5), HardState{Term: 1, Vote: 2, Commit: 2}, true)
	h.append(nil, HardState{Term: 1, Vote: 2, Commit: 3}, false)
	h.append(entries(1, 1500, 6, 7), HardState{}, true)
	h.append(entries(2, 600, 5, 6), HardState{Term: 2, Vote: 1, Commit: 3}, true)
	h.append(entries(2, 40, 7, 8, 9), HardState{}, false)
	h.append(entries(2, 700, 10, 11), HardState{Term: 2, Vote: 1, Commit: 6}, true)
	h.reopen(disk)
	h.append(entries(2, 5000, 12), HardState{}, true)
	h.append(nil, HardState{Term: 3, Commit: 6}, true)
	h.append(entries(3, 200, 8, 9), HardState{}, true)
	h.append(entries(3, 2500, 10), HardState{}, false)
	h.append(entries(3, 2500, 11), HardState{}, true)
	h.drop(6)
	h.append(entries(4, 300, 9, 10), HardState{Term: 4, Vote: 3, Commit: 8}, true)
	h.append(entries(4, 1400, 11, 12, 13), HardState{Term: 4, Vote: 3, Commit: 10}, true)
	h.reopen(disk)
	h.append(entries(4, 3000, 14), HardState{}, true)
	h.drop(12)
	h.append(entries(5, 100, 14, 15), HardState{Term: 5, Commit: 12}, true)
}

func start(t testing.TB, disk *vfs.Disk) *history {
	l := mustCreate(t, disk.Mount(), crashOptions(), 1, 0)
	return &history{l: l, states: []state{{first: 1}}}
}

// crashAt crashes the disk at the n-th operation from now on that changes something.
func crashAt(disk *vfs.Disk, n int, mode vfs.CrashMode) (count *int) {
	count = new(int)
	disk.OnOp(func(op vfs.Op) error {
		if op.Kind.Changes() {
			*count++
			if *count == n {
				disk.Crash(mode)
				return vfs.ErrCrashed
			}
		}
		return nil
	})
	return count
}

// view is all that a log shows.
func view(l *Log) (state, error) {
	v := state{first: l.FirstIndex(), hs: l.HardState()}
	es, err := l.Entries(l.FirstIndex(), l.LastIndex()+1, 1<<40)
	v.entries = es
	return v, err
}

// allows reports whether a log may look like v after a crash.
func (h *history) allows(v state) error {
	var why error
	for _, s := range h.states[h.synced:] {
		if why = s.compare(v, h.states[h.synced], h.now()); why == nil {
			return nil
		}
	}
	return why
}

func (s *state) compare(v, low, high state) error {
	if v.first < low.first || v.first > high.first {
		return fmt.Errorf("log begins at %d, not between %d and %d", v.first, low.first, high.first)
	}
	want := s.entries[v.first-1:]
	if !slices.EqualFunc(v.entries, want, same) {
		return fmt.Errorf("%d entries from %d are not the %d expected", len(v.entries), v.first, len(want))
	}
	if v.hs.Term < low.hs.Term || v.hs.Term > high.hs.Term || v.hs.Commit < s.hs.Commit && v.hs.Commit < low.hs.Commit {
		return fmt.Errorf("hard state %+v, not between %+v and %+v", v.hs, low.hs, high.hs)
	}
	if v.hs.Term == low.hs.Term && low.hs.Vote != 0 && v.hs.Vote != low.hs.Vote {
		return fmt.Errorf("vote %+v, was %+v", v.hs, low.hs)
	}
	return nil
}

// recovered opens the log after a crash, perhaps crashing again on the way, and checks what it shows, that all of
// that survives a power cut, and that the log goes on from there.
func (h *history) recovered(disk *vfs.Disk, again []int, mode vfs.CrashMode) error {
	for _, n := range again {
		crashAt(disk, n, mode)
		if l, err := Open(disk.Mount(), "log", crashOptions()); err == nil {
			_ = l.Close()
		} else if !errors.Is(err, vfs.ErrCrashed) {
			return fmt.Errorf("recovery with a crash at operation %d: %w", n, err)
		}
		disk.OnOp(nil)
		disk.Crash(vfs.KillProcess)
	}
	_, shown, err := openView(disk)
	if err == nil {
		err = h.allows(shown)
	}
	if err != nil {
		return err
	}
	disk.Crash(vfs.LoseAll)
	l, kept, err := openView(disk)
	if err != nil {
		return err
	}
	if kept.first != shown.first || kept.hs != shown.hs || !slices.EqualFunc(kept.entries, shown.entries, same) {
		return fmt.Errorf("the log showed %v after the restart, %v after a power cut", shown, kept)
	}
	more := entries(9, 1200, span(l.LastIndex()+1, l.LastIndex()+9)...)
	if err := l.Append(more, HardState{Term: 9, Commit: l.LastIndex()}, true); err != nil {
		return err
	}
	disk.Crash(vfs.LoseAll)
	_, last, err := openView(disk)
	if err == nil && !slices.EqualFunc(last.entries, append(shown.entries, more...), same) {
		err = errors.New("what was appended after the restart is not there")
	}
	return err
}

func openView(disk *vfs.Disk) (*Log, state, error) {
	l, err := Open(disk.Mount(), "log", crashOptions())
	if err != nil {
		return nil, state{}, err
	}
	v, err := view(l)
	return l, v, err
}

// String is short, for failures.
func (s state) String() string {
	terms := make([]uint64, len(s.entries))
	for i, e := range s.entries {
		terms[i] = e.Term
	}
	return fmt.Sprintf("{from %d terms %v %+v}", s.first, terms, s.hs)
}

// operations counts the changing operations of the script.
func operations(t *testing.T) int {
	disk := newTestDisk(0)
	h := start(t, disk)
	count := crashAt(disk, -1, 0)
	h.script(disk)
	must(t, h.broken)
	return *count
}

// crashSeeds is how many ways each crash is tried. CMQ_CRASH_SEEDS=64 is the full evidence run.
func crashSeeds(t *testing.T) uint64 {
	if v := os.Getenv("CMQ_CRASH_SEEDS"); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		must(t, err)
		return n
	}
	return 2
}

// TestCrashAtEveryOperation cuts the power at every operation of the script in every way, then at some operation of
// the recovery, and of the recovery from that.
func TestCrashAtEveryOperation(t *testing.T) {
	total := operations(t)
	for _, mode := range vfs.CrashModes() {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			seeds := crashSeeds(t)
			if mode == vfs.LoseAll || mode == vfs.KillProcess {
				seeds = (seeds + 1) / 2 // only the second crash differs
			}
			for n := 1; n <= total; n++ {
				for seed := range seeds {
					rng := rand.New(rand.NewPCG(seed, uint64(n)))
					disk := newTestDisk(seed)
					h := start(t, disk)
					crashAt(disk, n, mode)
					h.script(disk)
					disk.OnOp(nil)
					again := []int{1 + rng.IntN(20), 1 + rng.IntN(20)}[:rng.IntN(3)]
					again2 := vfs.CrashModes()[rng.IntN(5)]
					if err := h.recovered(disk, again, again2); err != nil {
						t.Fatalf("operation %d, seed %d, again at %v %v: %v", n, seed, again, again2, err)
					}
				}
			}
		})
	}
}

// TestFailingSyncAtEveryOperation lets every sync of the script fail once, as Linux does: the pages stay readable and are
// lost. The log must be dead at once, and a restart must not believe what it reads.
func TestFailingSyncAtEveryOperation(t *testing.T) {
	eio := errors.New("injected EIO")
	for n := 1; ; n++ {
		for seed := range crashSeeds(t) {
			disk := newTestDisk(seed)
			h := start(t, disk)
			syncs := 0
			disk.OnOp(func(op vfs.Op) error {
				if op.Kind == vfs.OpSync || op.Kind == vfs.OpSyncDir {
					if syncs++; syncs == n {
						return eio
					}
				}
				return nil
			})
			h.script(disk)
			disk.OnOp(nil)
			if syncs < n {
				must(t, h.broken)
				return
			}
			if h.broken != nil && !errors.Is(h.broken, eio) {
				t.Fatalf("sync %d: %v", n, h.broken)
			}
			if h.broken != nil && h.l != nil {
				if err := h.l.Append(entries(7, 10, h.l.LastIndex()+1), HardState{}, true); err == nil {
					t.Fatalf("sync %d: the log lives on after %v", n, h.broken)
				}
				_ = h.l.Close()
			}
			disk.Crash(vfs.KillProcess)
			rng := rand.New(rand.NewPCG(seed, uint64(n)))
			again := []int{1 + rng.IntN(20)}[:rng.IntN(2)]
			if err := h.recovered(disk, again, vfs.CrashModes()[rng.IntN(5)]); err != nil {
				t.Fatalf("sync %d, seed %d, again at %v: %v", n, seed, again, err)
			}
		}
	}
}
