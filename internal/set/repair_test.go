package set

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/store/segment"
)

func TestDamagedReplicaIsRepairedBeforeItTakesPart(t *testing.T) {
	c := newTrio(t)
	l := c.elect(1)
	c.fillUp(l, 100)
	c.tick(2)
	c.crash(2)
	c.fillUp(l, 20)
	c.bootDamaged(2, span{lo: 30, hi: 35}, span{lo: 60, hi: 61})
	c.members[2].m.leading = false
	require.NotNil(t, c.members[2].r.repair)
	c.silent(2)
	c.tick(10)
	require.Nil(t, c.members[2].r.repair)
	c.tick(10)
	c.whole()
}

func TestDifferentDamageOnEveryReplicaHealsWithoutALeader(t *testing.T) {
	rows := map[string]map[cmq.NodeID][]span{
		"two":           {1: {{lo: 20, hi: 30}}, 2: {{lo: 50, hi: 60}}},
		"three":         {1: {{lo: 20, hi: 30}}, 2: {{lo: 50, hi: 60}}, 3: {{lo: 80, hi: 81}}},
		"beside":        {1: {{lo: 20, hi: 30}}, 2: {{lo: 30, hi: 40}}, 3: {{lo: 40, hi: 50}}},
		"overlapping":   {1: {{lo: 20, hi: 30}}, 2: {{lo: 25, hi: 35}}, 3: {{lo: 32, hi: 50}}},
		"all over":      {1: {{lo: 20, hi: 22}, {lo: 40, hi: 50}}, 2: {{lo: 22, hi: 24}, {lo: 60, hi: 70}}, 3: {{lo: 24, hi: 26}}},
		"interleaved":   {1: {{lo: 20, hi: 21}, {lo: 23, hi: 24}}, 2: {{lo: 21, hi: 22}, {lo: 24, hi: 25}}, 3: {{lo: 22, hi: 23}, {lo: 25, hi: 26}}},
		"two have more": {1: {{lo: 5, hi: 90}}, 2: {{lo: 5, hi: 90}}},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			c := newTrio(t)
			l := c.elect(1)
			c.fillUp(l, 100)
			c.tick(2)
			want := l.m.entries
			for id := range c.members {
				c.crash(id)
			}
			for _, id := range []cmq.NodeID{1, 2, 3} {
				c.bootDamaged(id, row[id]...)
				if len(row[id]) > 0 {
					require.NotNil(t, c.members[id].r.repair)
					c.silent(id)
				}
			}
			c.tick(100)
			for _, m := range c.members {
				require.Nil(t, m.r.repair, "node %d", m.id)
			}
			require.Equal(t, want, c.leader().m.entries)
			c.fillUp(c.leader(), 5)
			c.tick(5)
			c.whole()
		})
	}
}

func TestEntryThatIsLostEverywhereIsWaitedFor(t *testing.T) {
	c := newTrio(t)
	l := c.elect(1)
	c.fillUp(l, 100)
	c.tick(2)
	for id := range c.members {
		c.crash(id)
	}
	for _, id := range []cmq.NodeID{1, 2, 3} {
		c.bootDamaged(id, span{lo: 50, hi: 51})
	}
	c.tick(200)
	for _, m := range c.members {
		require.NoError(t, m.err)
		require.NotNil(t, m.r.repair, "nobody pretends that there was nothing")
	}
}

func TestEntriesTheOthersLetGoOfAreReplacedByAnImage(t *testing.T) {
	c := smallImages(t)
	l := c.elect(1)
	c.fillUp(l, 100)
	c.tick(2)
	c.crash(2)
	c.fillUp(l, 1000)
	require.Greater(t, l.st.Log().FirstIndex(), uint64(110))
	lo := c.members[2].m.index - 20
	c.bootDamaged(2, span{lo: lo, hi: lo + 5})
	c.tick(200)
	require.Nil(t, c.members[2].r.repair)
	c.tick(1000) // the scrubber finds what the archive took over
	c.whole()
}

func TestDamageAtRunTimeIsRepaired(t *testing.T) {
	for name, id := range map[string]cmq.NodeID{"follower": 2, "leader": 1} {
		t.Run(name, func(t *testing.T) {
			c := newTrio(t)
			l := c.elect(1)
			c.fillUp(l, 200)
			c.tick(2)
			m := c.members[id]
			c.rot(m, m.fs, span{lo: 32, hi: 35})
			m.r.suspect(33)
			c.tick(2)
			require.Equal(t, 1, m.r.generation, "raft was stopped")
			c.tick(100)
			require.Nil(t, m.r.repair)
			require.Empty(t, m.st.Log().Holes())
			c.fillUp(c.leader(), 20)
			c.tick(5)
			c.whole()
		})
	}
}

func TestDamageThatRaftStumblesOverIsRepaired(t *testing.T) {
	c := newTrio(t)
	l := c.elect(1)
	c.fillUp(l, 200)
	c.tick(2)
	c.crash(3)
	c.fillUp(l, 100)
	// The leader needs the entry for the follower that comes back, and finds it unreadable.
	c.rot(l, l.fs, span{lo: 210, hi: 212})
	c.boot(3)
	c.tick(100)
	require.Equal(t, 1, l.r.generation)
	require.Nil(t, l.r.repair)
	c.fillUp(c.leader(), 5)
	c.tick(5)
	c.whole()
}

func TestWhoForgotItsVoteGetsATermBehindAllOthers(t *testing.T) {
	c := newTrio(t)
	l := c.elect(1)
	c.fillUp(l, 10)
	c.tick(2)
	c.crash(2)
	m := c.members[2]
	info, err := m.disk.Mount().Stat("set/hardstate")
	require.NoError(t, err)
	require.NoError(t, m.disk.Corrupt("/set/hardstate", 0, int(info.Size), func(p []byte) { clear(p) }))
	c.boot(2)
	require.NotNil(t, m.r.repair)
	require.True(t, m.r.repair.amnesia)
	c.cut[[2]cmq.NodeID{2, 3}] = true
	c.silent(2)
	c.tick(100)
	require.NotNil(t, m.r.repair, "not all voters were heard")
	clear(c.cut)
	c.tick(40)
	require.Nil(t, m.r.repair)
	require.GreaterOrEqual(t, m.r.term, uint64(termLeap))
	c.tick(60)
	c.fillUp(c.leader(), 5)
	c.tick(5)
	c.whole()
}

func TestOnlyReplicaThatIsDamagedSaysSo(t *testing.T) {
	c := newTrio(t)
	m := c.members[1]
	m.r.conf = &raftpb.ConfState{Voters: []uint64{1}}
	m.r.repair = nil
	m.r.lost(&segment.DamageError{File: "0000000001.seg"})
	require.ErrorContains(t, m.r.failed, "only replica")
}

// silent checks that a replica in repair neither votes nor acknowledges nor leads.
func (c *trio) silent(id cmq.NodeID) {
	before := c.lose
	c.lose = func(from cmq.NodeID, e Envelope) bool {
		if from == id && e.Raft != nil {
			require.Nil(c.t, c.members[id].r.repair, "node %d says %v in repair", id, e.Raft.GetType())
		}
		return before != nil && before(from, e)
	}
}

func TestReplicaWithoutAnImageTakesOneOfAnother(t *testing.T) {
	c := smallImages(t)
	l := c.elect(1)
	c.fillUp(l, 300)
	c.tick(2)
	c.crash(2)
	m := c.members[2]
	images := 0
	for _, name := range m.disk.Files() {
		if strings.HasSuffix(name, ".image") {
			images++
			require.NoError(t, m.disk.Flip(name, 200, 2))
		}
	}
	require.Equal(t, 2, images)
	c.fillUp(l, 10)
	c.boot(2)
	require.NotNil(t, m.r.repair)
	c.silent(2)
	c.tick(60)
	require.Nil(t, m.r.repair)
	c.whole()
}

func TestOneDamagedImageIsReplaced(t *testing.T) {
	c := smallImages(t)
	l := c.elect(1)
	c.fillUp(l, 300)
	c.tick(2)
	c.crash(2)
	m := c.members[2]
	last := ""
	for _, name := range m.disk.Files() {
		if strings.HasSuffix(name, ".image") {
			last = name
		}
	}
	require.NoError(t, m.disk.Flip(last, 200, 2))
	c.boot(2)
	require.Nil(t, m.r.repair)
	require.NotEmpty(t, m.st.Damage())
	c.tick(650) // the one that is left is replaced too, in its time
	require.NotContains(t, m.disk.Files(), last)
	c.whole()
}

func TestOlderCopyStaysInRepairWhenItIsStartedAgain(t *testing.T) {
	c := newTrio(t)
	l := c.elect(1)
	early := c.members[2].disk.Clone(newRand())
	c.fillUp(l, 50)
	c.tick(2)
	c.crash(2)
	m := c.members[2]
	m.disk = early
	c.boot(2)
	m.r.last++ // it is not quite empty
	c.lose = func(_ cmq.NodeID, e Envelope) bool { return e.Answer != nil }
	c.tick(10)
	require.NotNil(t, m.r.repair)
	c.crash(2)
	c.crash(1)
	c.boot(2)
	require.NotNil(t, m.r.repair, "it remembers that it forgot")
	c.silent(2)
	c.lose = nil
	c.tick(60)
	require.False(t, c.members[3].m.leading, "its vote does not count for anybody")
	c.boot(1)
	c.tick(1000)
	require.Nil(t, m.r.repair)
	c.fillUp(c.leader(), 3)
	c.tick(5)
	c.whole()
}

func TestFullDiskWhileALogIsExtendedIsWaitedOut(t *testing.T) {
	c := newTrio(t)
	l := c.elect(1)
	early := c.members[2].disk.Clone(newRand())
	for i := range 120 {
		e := fmt.Sprintf("%d-%020000d", i, i)
		c.propose(l, e+sumOf(e))
	}
	c.tick(2)
	c.crash(2)
	m := c.members[2]
	m.disk = early
	c.boot(2)
	m.disk.SetBudget(m.disk.Used())
	c.tick(60)
	require.NoError(t, m.err)
	require.NotNil(t, m.r.repair)
	m.disk.SetBudget(-1)
	c.tick(1000)
	require.NoError(t, m.err)
	require.Nil(t, m.r.repair)
	c.whole()
}

// TestOlderCopyOfAnotherBranchIsNotApplied: what was put back is no shorter than what this replica acknowledged, but ends with an entry
// that the leader had replaced. The last batch of a log that rots, and looks torn, leaves the same.
func TestOlderCopyOfAnotherBranchIsNotApplied(t *testing.T) {
	c := newTrio(t)
	old := c.elect(1)
	c.propose(old, "a", "b")
	c.tick(2)
	for _, id := range []cmq.NodeID{2, 3} {
		c.cut[[2]cmq.NodeID{1, id}], c.cut[[2]cmq.NodeID{id, 1}] = true, true
	}
	c.propose(old, "lost")
	early, last := old.disk.Clone(newRand()), old.r.last
	c.tick(60)
	next := c.leader()
	require.NotEqual(t, old.id, next.id)
	require.Equal(t, last, next.r.last, "the leader's first entry is in the place of the lost one")
	clear(c.cut)
	c.tick(2)
	require.Equal(t, last, old.r.last)
	require.EqualValues(t, last, old.r.applied)
	c.crash(1)
	old.disk = early
	c.boot(1)
	c.tick(2)
	require.NotContains(t, old.m.entries, "lost")
	require.Equal(t, 1, old.r.generation, "it knows that it forgot what it acknowledged")
	c.tick(100)
	require.Nil(t, old.r.repair)
	c.propose(c.leader(), "c")
	c.tick(2)
	c.same("a", "b", "c")
}

func TestHoleBeforeTheImageGoesWithTheLogsBeginning(t *testing.T) {
	c := newTrio(t)
	c.images = 8 << 10
	c.segment = map[cmq.NodeID]int64{2: 1 << 20}
	for _, id := range []cmq.NodeID{1, 2, 3} {
		c.crash(id)
		c.boot(id)
	}
	l := c.elect(1)
	c.fillUp(l, 400)
	c.tick(2)
	for range 3 { // images of all that there is
		c.tick(650)
	}
	m := c.members[2]
	require.Greater(t, l.st.Log().FirstIndex(), uint64(100))
	require.Less(t, m.st.Log().FirstIndex(), uint64(80), "its segments are longer")
	c.fillUp(c.leader(), 3)
	last := m.st.Log().LastIndex()
	c.crash(2)
	index := m.m.indexes[len(m.m.indexes)-350]
	if first := m.st.Log().FirstIndex(); index < first {
		index = first + 3
	}
	c.bootDamaged(2, span{lo: index, hi: index + 2})
	require.NotNil(t, m.r.repair)
	c.silent(2)
	c.tick(400)
	require.Nil(t, m.r.repair)
	require.GreaterOrEqual(t, m.st.Log().LastIndex(), last)
	require.Greater(t, m.st.Log().FirstIndex(), index)
	c.fillUp(c.leader(), 3)
	c.tick(5)
	c.tick(1000) // the scrubber finds what the archive took over
	c.whole()
}

// TestDamagedSegmentThatIsKeptForAnotherLeavesTheLogLater: the others have let go of its lost entries, so it can only be healed as a file of
// the archive, but at first it may not leave the log.
func TestDamagedSegmentThatIsKeptForAnotherLeavesTheLogLater(t *testing.T) {
	c := smallImages(t)
	l := c.elect(1)
	c.fillUp(l, 60)
	c.tick(2)
	m := c.members[2]
	low := m.st.Log().FirstIndex()
	m.r.pins = pins{3: &pin{index: low - 1, at: c.now, release: func() {}}}
	m.r.cfg.ScrubPause = 24 * time.Hour // that it is left over must be known without reading everything again
	c.fillUp(l, 400)
	c.tick(250) // all files were read once
	require.EqualValues(t, 1, m.r.scrub.stats.Passes)
	require.Greater(t, l.st.Log().FirstIndex(), low+10)
	require.Equal(t, low, m.st.Log().FirstIndex())
	c.rot(m, m.fs, span{lo: low + 1, hi: low + 11})
	require.NotEmpty(t, m.lost())
	m.r.suspect(low + 1)
	c.tick(100)
	require.Equal(t, 1, m.r.generation)
	require.Nil(t, m.r.repair)
	require.Equal(t, low, m.st.Log().FirstIndex(), "it is kept for the one that is filled")
	c.tick(int(pinExpiry / TickInterval))
	require.Greater(t, m.st.Log().FirstIndex(), low+11)
	c.tick(100)
	require.Empty(t, m.lost())
	require.Equal(t, 1, m.r.generation)
	c.whole()
}

// TestLogThatEndsBeforeItsImageIsRepaired lets the very last batch of a log rot, which looks as if it had never been confirmed. But
// there is an image of its entry.
func TestLogThatEndsBeforeItsImageIsRepaired(t *testing.T) {
	rows := map[string]func(c *trio, l *member){
		"the others have the entry":     func(*trio, *member) {},
		"the others go on":              func(c *trio, l *member) { c.fillUp(l, 10) },
		"the others have an image only": func(c *trio, l *member) { c.fillUp(l, 1000) },
	}
	for name, meanwhile := range rows {
		t.Run(name, func(t *testing.T) {
			c := smallImages(t)
			l := c.elect(1)
			c.fillUp(l, 50)
			c.tick(2)
			c.fillUp(l, 1)
			m := c.members[2]
			m.r.checkpoint.want(1)
			c.work()
			last := m.st.Log().LastIndex()
			require.Equal(t, last, m.st.NewestIndex())
			c.crash(2)
			meanwhile(c, l)
			c.bootDamaged(2, span{lo: last, hi: last + 1})
			require.NotNil(t, m.r.repair)
			c.silent(2)
			c.tick(200)
			require.Nil(t, m.r.repair)
			require.False(t, m.st.Log().Short())
			c.fillUp(c.leader(), 5)
			c.tick(1000)
			c.whole()
		})
	}
}
