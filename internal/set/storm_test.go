package set

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"testing/cryptotest"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/vfs"
)

// storm is a set to which many things happen at once: crashes, cuts, lost messages, full disks, and flipped bits on one of its
// disks.
type storm struct {
	*trio
	rng       *rand.Rand
	confirmed []string
	unlucky   cmq.NodeID // whose disk rots
	n         int
	happened  []string
}

func newStorm(t *testing.T, seed uint64) *storm {
	s := &storm{trio: smallImages(t), rng: rand.New(rand.NewPCG(seed, 11))}
	s.unlucky = cmq.NodeID(1 + s.rng.IntN(3))
	s.elect(1)
	// A leader and a follower that lost the end of its log tell each other so until the next heartbeat.
	s.hasty = true
	loss := s.rng.IntN(8)
	s.lose = func(cmq.NodeID, Envelope) bool { return s.rng.IntN(100) < loss }
	return s
}

func (s *storm) say(format string, args ...any) {
	s.happened = append(s.happened, fmt.Sprintf(format, args...))
}

// send proposes through whoever leads and notes what was confirmed.
func (s *storm) send(n int) {
	for range n {
		for _, id := range []cmq.NodeID{1, 2, 3} {
			m := s.members[id]
			if !m.up || !m.m.leading {
				continue
			}
			s.n++
			text := "dead"
			if s.n%5 == 0 {
				text = "live"
			}
			text = fmt.Sprintf("%s %d %0200d ", text, s.n, s.n)
			text += sumOf(text)
			s.propose(m, text)
			if m.up && slices.Contains(m.m.entries, text) {
				s.confirmed = append(s.confirmed, text)
			}
			break
		}
	}
}

func (s *storm) step() {
	m := s.members[cmq.NodeID(1+s.rng.IntN(3))]
	switch s.rng.IntN(10) {
	case 0, 1:
		if m.up {
			modes := vfs.CrashModes()
			mode := modes[s.rng.IntN(len(modes))]
			s.say("crash %d %v", m.id, mode)
			m.up = false
			m.disk.Crash(mode)
			if m.id == s.unlucky && s.rng.IntN(2) == 0 {
				s.say("flip %s", s.flipAnywhere(s.rng, m, false))
			}
		}
	case 2, 3, 4:
		s.bootAll()
	case 5:
		a, b := cmq.NodeID(1+s.rng.IntN(3)), cmq.NodeID(1+s.rng.IntN(3))
		s.say("cut %d %d", a, b)
		s.cut[[2]cmq.NodeID{a, b}], s.cut[[2]cmq.NodeID{b, a}] = true, true
	case 6, 7:
		clear(s.cut)
	case 8:
		if u := s.members[s.unlucky]; u.up && u.err == nil {
			s.say("flip %s", s.flipAnywhere(s.rng, u, true, "hardstate"))
			if s.rng.IntN(3) == 0 {
				u.r.suspect(uint64(s.rng.IntN(int(u.r.last) + 1)))
			}
		}
	case 9:
		if m.up {
			s.say("disk of %d full: %v", m.id, s.rng.IntN(2) == 0)
			if s.rng.IntN(2) == 0 {
				m.disk.SetBudget(m.disk.Used() + 20<<10)
			} else {
				m.disk.SetBudget(-1)
			}
		}
	}
	s.send(s.rng.IntN(40))
	s.tick(1 + s.rng.IntN(60))
	for _, m := range s.members {
		require.NoError(s.t, m.err, "%v", s.happened)
	}
}

func (s *storm) bootAll() {
	for _, id := range []cmq.NodeID{1, 2, 3} {
		if m := s.members[id]; !m.up {
			m.disk.SetBudget(-1)
			s.say("boot %d", id)
			s.boot(id)
		}
	}
}

func TestNothingConfirmedIsLostInAStorm(t *testing.T) {
	first, seeds := uint64(0), uint64(40)
	if n, err := strconv.ParseUint(os.Getenv("CMQ_STORMS"), 10, 64); err == nil {
		seeds = n
	}
	if n, err := strconv.ParseUint(os.Getenv("CMQ_STORM"), 10, 64); err == nil {
		first, seeds = n, n+1
	}
	for seed := first; seed < seeds; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { weather(t, seed) })
	}
}

// weather is one storm, and what must be true after it.
func weather(t *testing.T, seed uint64) {
	cryptotest.SetGlobalRandom(t, seed) // raft's timeouts
	s := newStorm(t, seed)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%q", s.happened)
		}
	})
	for range 25 {
		s.step()
	}
	s.bootAll()
	clear(s.cut)
	s.lose = nil
	for _, m := range s.members {
		m.disk.SetBudget(-1)
	}
	s.tick(1500)
	s.send(10)
	s.tick(1500)
	for _, m := range s.members {
		require.NoError(t, m.err)
		require.Nil(t, m.r.repair, "node %d", m.id)
		require.Nil(t, m.r.pull, "node %d", m.id)
		require.Empty(t, m.lost(), "node %d", m.id)
	}
	s.whole()
	have := s.leader().m.entries
	at := 0
	for _, text := range s.confirmed {
		i := slices.Index(have[at:], text)
		require.GreaterOrEqual(t, i, 0, "lost or out of order: %.12s", text)
		at += i + 1
	}
}
