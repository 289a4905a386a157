package segment

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/opencmq/cmq/internal/vfs"
)

// model drives a log and a slice of entries side by side.
type model struct {
	h    *history
	disk *vfs.Disk
	t    *rapid.T
}

// TestAgainstModel does random things, crashes included, and compares with the model after each.
func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		disk := vfs.NewDisk(rand.New(rand.NewPCG(seed, 0)))
		m := &model{h: start(t, disk), disk: disk, t: rt}
		rt.Repeat(map[string]func(*rapid.T){
			"append":  m.append,
			"replace": m.replace,
			"vote":    m.vote,
			"commit":  m.commit,
			"drop":    m.drop,
			"reopen":  func(rt *rapid.T) { m.h.reopen(m.disk) },
			"crash":   m.crash,
			"":        m.check,
		})
	})
}

func (m *model) last() uint64 { return uint64(len(m.h.now().entries)) }

func (m *model) add(rt *rapid.T, from uint64) {
	s := m.h.now()
	n := rapid.IntRange(1, 6).Draw(rt, "entries")
	size := rapid.SampledFrom([]int{0, 1, 7, 8, 100, 1023, 1025, 3000, 9000}).Draw(rt, "size")
	hs := s.hs
	hs.Term = max(hs.Term, 1)
	m.h.append(entries(hs.Term, size, span(from, from+uint64(n))...), hs, rapid.Bool().Draw(rt, "sync"))
}

func (m *model) append(rt *rapid.T) { m.add(rt, m.last()+1) }

func (m *model) replace(rt *rapid.T) {
	s := m.h.now()
	low := max(s.hs.Commit+1, m.h.l.FirstIndex())
	if low > m.last() {
		return
	}
	hs := s.hs
	hs.Term, hs.Vote = hs.Term+1, 0
	m.h.append(nil, hs, true)
	m.add(rt, rapid.Uint64Range(low, m.last()).Draw(rt, "from"))
}

func (m *model) vote(rt *rapid.T) {
	hs := m.h.now().hs
	hs.Term, hs.Vote = hs.Term+1, rapid.Uint64Range(0, 3).Draw(rt, "vote")
	m.h.append(nil, hs, false)
}

func (m *model) commit(rt *rapid.T) {
	hs := m.h.now().hs
	hs.Term = max(hs.Term, 1)
	hs.Commit = rapid.Uint64Range(hs.Commit, max(hs.Commit, m.last())).Draw(rt, "commit")
	m.h.append(nil, hs, rapid.Bool().Draw(rt, "sync"))
}

func (m *model) drop(rt *rapid.T) {
	m.h.drop(rapid.Uint64Range(1, m.h.now().hs.Commit+1).Draw(rt, "before"))
}

func (m *model) crash(rt *rapid.T) {
	mode := rapid.SampledFrom(vfs.CrashModes()).Draw(rt, "mode")
	m.disk.Crash(mode)
	for range rapid.IntRange(0, 2).Draw(rt, "crashes of the recovery") {
		crashAt(m.disk, rapid.IntRange(1, 20).Draw(rt, "operation"), mode)
		if l, err := Open(m.disk.Mount(), "log", crashOptions()); err == nil {
			_ = l.Close()
		} else if !errors.Is(err, vfs.ErrCrashed) {
			rt.Fatal(err)
		}
		m.disk.OnOp(nil)
		m.disk.Crash(vfs.KillProcess)
	}
	l, shown, err := openView(m.disk)
	if err == nil {
		err = m.h.allows(shown)
	}
	if err != nil {
		rt.Fatal(err)
	}
	all := append(slices.Clone(m.h.now().entries[:shown.first-1]), shown.entries...)
	m.h.l = l
	m.h.states = []state{{first: shown.first, entries: all, hs: shown.hs}}
	m.h.synced = 0
}

func (m *model) check(rt *rapid.T) {
	if m.h.broken != nil {
		rt.Fatal(m.h.broken)
	}
	s, l := m.h.now(), m.h.l
	v, err := view(l)
	if err != nil {
		rt.Fatal(err)
	}
	if !slices.EqualFunc(v.entries, s.entries[l.FirstIndex()-1:], same) || v.hs != s.hs {
		rt.Fatalf("the log is %v, the model %v", v, s)
	}
	if first := l.FirstIndex(); first > 1 {
		if term, err := l.Term(first - 1); err != nil || term != s.entries[first-2].Term {
			rt.Fatalf("term before the first: %d, %v", term, err)
		}
	}
}
