package set

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
)

func TestMinorityWithAnotherStateIsFencedAndFilledAgain(t *testing.T) {
	c := newTrio(t)
	l := c.elect(1)
	c.tick(2)
	bad := c.members[2]
	c.fillUp(l, 500)
	bad.m.entries[3] = "dead and wrong"
	c.fillUp(l, 300)
	for range 400 {
		c.propose(l, "dead")
	}
	c.tick(2)
	require.Equal(t, 1, bad.r.generation, "it was fenced")
	c.tick(1400)
	require.Nil(t, bad.r.repair)
	require.NoError(t, bad.err)
	c.whole()
}

func TestLeaderWithAnotherStateIsFenced(t *testing.T) {
	c := newTrio(t)
	l := c.elect(1)
	c.tick(2)
	c.fillUp(l, 10)
	l.m.bent = 1
	for range 1000 {
		c.propose(l, "dead")
	}
	c.tick(2)
	require.Equal(t, 1, l.r.generation, "it was fenced")
	c.tick(1400)
	require.Nil(t, l.r.repair)
	require.NotEqual(t, l.id, c.leader().id)
	c.whole()
}

// TestFencedReplicaKeepsItsLog: the state it is given must not end before its own log begins, or what it acknowledged in between would be
// lost.
func TestFencedReplicaKeepsItsLog(t *testing.T) {
	c := smallImages(t)
	l := c.elect(1)
	c.fillUp(l, 300)
	c.tick(2)
	bad := c.members[2]
	for range 2 {
		c.fillUp(l, 60)
		bad.r.checkpoint.want(2)
		c.tick(50)
	}
	log := bad.st.Log()
	last := log.LastIndex()
	require.Greater(t, log.FirstIndex(), l.r.storage.image.Index+1, "the others' images are older")
	bad.r.fence(c.clock(), 20, []cmq.NodeID{1, 3})
	c.silent(2)
	c.tick(200)
	require.Nil(t, bad.r.repair)
	require.GreaterOrEqual(t, log.LastIndex(), last)
	c.fillUp(c.leader(), 5)
	c.tick(1300)
	c.whole()
}

func TestThreeDifferentStatesHaltTheSet(t *testing.T) {
	c := newTrio(t)
	l := c.elect(1)
	c.tick(2)
	c.members[2].m.bent, c.members[3].m.bent = 1, 2
	for range 1000 {
		c.propose(l, "dead")
	}
	c.tick(50)
	for _, m := range c.members {
		require.ErrorContains(t, m.err, "nobody can tell which is right")
	}
}

// A replica whose state was wrong when it told its sum and is right since it was started again does not make the set stop when another
// one goes wrong: what it told before does not hold any more.
func TestSumOfAnEarlierProcessIsNotBelieved(t *testing.T) {
	c := smallImages(t)
	l := c.elect(1)
	c.tick(2)
	healed, bad := c.members[2], c.members[3]
	healed.m.bent, bad.m.bent = 1, 2
	c.lose = func(from cmq.NodeID, e Envelope) bool { return e.Digest != nil && (from == 3 || e.To == 3) }
	const index = digestEvery // where all tell their sums without being asked
	for l.r.applied < index {
		c.propose(l, "dead")
	}
	c.tick(2)
	require.NotEqual(t, l.r.digests.sums[index][1], l.r.digests.sums[index][2], "node 2 told a wrong sum")
	healed.m.bent = 0
	c.propose(l, "dead")
	healed.r.checkpoint.want(2)
	c.tick(40)
	c.crash(2)
	c.boot(2)
	c.tick(2)
	require.NotContains(t, healed.r.digests.sums[index], cmq.NodeID(2), "it does not know what sum it had then")
	c.lose = func(_ cmq.NodeID, e Envelope) bool { return e.Digest != nil && e.Digest.Index != index }
	c.tick(400)
	for _, m := range c.members {
		require.NoError(t, m.err)
	}
	c.lose = nil
	c.tick(400)
	for _, m := range c.members {
		require.NoError(t, m.err)
	}
	require.Equal(t, 1, bad.r.generation, "it is fenced")
	require.Nil(t, bad.r.repair)
	c.fillUp(c.leader(), 5)
	c.tick(100)
	c.whole()
}

func TestDifferenceWithoutAMajorityIsWaitedOut(t *testing.T) {
	c := newTrio(t)
	l := c.elect(1)
	c.tick(2)
	c.members[2].m.bent = 1
	c.crash(3)
	for range 1000 {
		c.propose(l, "dead")
	}
	c.tick(50)
	require.NoError(t, l.err)
	require.NoError(t, c.members[2].err)
	require.True(t, l.m.leading)
	c.boot(3)
	c.tick(100)
	require.Equal(t, 1, c.members[2].r.generation, "now it is known who is wrong")
	require.Zero(t, l.r.generation)
}

// Where little happens nobody waits for a thousand entries: the leader has the states compared every two seconds.
func TestWrongStateIsFoundWithinSeconds(t *testing.T) {
	for id := cmq.NodeID(1); id <= 3; id++ {
		t.Run(fmt.Sprintf("node %d", id), func(t *testing.T) {
			c := newTrio(t)
			l := c.elect(1)
			c.fillUp(l, 20)
			c.tick(100)
			require.Zero(t, c.members[id].r.generation)
			bad := c.members[id]
			bad.m.entries[3] = "dead and wrong"
			c.propose(l, "dead")
			found := int((digestPause + 4*TickInterval) / TickInterval)
			c.tick(found)
			require.Equal(t, 1, bad.r.generation, "it is fenced")
			require.EqualValues(t, 1, bad.r.Status(c.clock()).WrongStates)
			c.tick(200)
			require.Nil(t, bad.r.repair)
			require.NoError(t, bad.err)
			for _, m := range c.members {
				require.Equal(t, bad.m.entries, m.m.entries)
				require.LessOrEqual(t, m.r.generation, 1)
			}
			require.EqualValues(t, 1, bad.r.Status(c.clock()).WrongStates, "once and for all")
			c.whole()
		})
	}
}

// A replica with a wrong state that is restarted makes it again from its own image, and is found again.
func TestWrongStateOutlivesARestartAndIsFound(t *testing.T) {
	c := smallImages(t)
	l := c.elect(1)
	c.fillUp(l, 100)
	bad := c.members[3]
	bad.m.entries[3] = "dead and wrong"
	c.cut[[2]cmq.NodeID{3, 1}], c.cut[[2]cmq.NodeID{3, 2}] = true, true // nobody hears of it yet
	c.lose = func(_ cmq.NodeID, e Envelope) bool { return e.Digest != nil }
	c.fillUp(l, 100)
	bad.r.checkpoint.want(2)
	c.tick(40)
	require.Zero(t, bad.r.generation)
	c.crash(3)
	c.lose = nil
	clear(c.cut)
	c.boot(3)
	require.Contains(t, bad.m.entries, "dead and wrong")
	c.propose(l, "dead")
	c.tick(100)
	require.Equal(t, 1, bad.r.generation, "it is fenced")
	c.tick(400)
	require.Nil(t, bad.r.repair)
	require.NotContains(t, bad.m.entries, "dead and wrong")
	c.whole()
}

// A replica that was fenced and is killed before it has another state is fenced when it starts again: it does not vote, it gives nobody
// its state, and only the other state ends that, once and for all.
func TestFenceOutlivesARestart(t *testing.T) {
	c := newTrio(t)
	l := c.elect(1)
	c.fillUp(l, 20)
	c.tick(100)
	bad, other := c.members[2], c.members[3]
	bad.m.entries[3] = "dead and wrong"
	c.lose = func(_ cmq.NodeID, e Envelope) bool { return e.Ask != nil && e.Ask.Kind == AskManifest }
	c.propose(l, "dead")
	c.tick(int((digestPause + 4*TickInterval) / TickInterval))
	require.NotNil(t, bad.r.repair, "it is fenced")
	require.True(t, bad.st.Log().WrongState())
	for range 2 {
		c.crash(2)
		c.boot(2)
		require.Nil(t, bad.r.rn, "it takes no part")
		require.True(t, bad.r.Report(c.clock()).WrongState)
		c.tick(20)
	}
	c.crash(1)
	c.tick(200)
	require.False(t, other.m.leading, "nobody votes for it")
	require.NotNil(t, bad.r.repair)
	var answer *Answer
	bad.r.envelopes = nil
	bad.r.answer(c.clock(), 3, &Ask{ID: 1, Kind: AskManifest})
	for _, e := range bad.r.envelopes {
		if e.Answer != nil {
			answer = e.Answer
		}
	}
	require.NotNil(t, answer)
	require.Equal(t, Later, answer.Verdict)
	require.Zero(t, answer.Index)
	c.boot(1)
	c.lose = nil
	c.tick(600)
	require.Nil(t, bad.r.repair)
	require.NotContains(t, bad.m.entries, "dead and wrong")
	require.False(t, bad.st.Log().WrongState())
	c.fillUp(c.leader(), 5)
	c.tick(200)
	c.whole()
	c.crash(2)
	c.boot(2)
	require.NotNil(t, bad.r.rn, "it is a normal one")
	require.NotContains(t, bad.m.entries, "dead and wrong")
}

// The sums of the latest entries are known when the leader's choice arrives late, and asked for when it arrives early.
func TestChoiceOfTheLeaderIsComparedByThoseWhoLag(t *testing.T) {
	c := newTrio(t)
	l := c.elect(1)
	c.fillUp(l, 20)
	c.tick(50)
	c.hold[3] = true // it gets entries, and applies none of them
	c.propose(l, "dead", "dead", "dead")
	c.tick(50)
	lag := c.members[3]
	require.Less(t, lag.r.applied, l.r.applied)
	require.NotContains(t, lag.r.digests.sums[l.r.digests.own], cmq.NodeID(3))
	c.hold[3] = false
	c.tick(2)
	require.Contains(t, l.r.digests.sums[l.r.digests.own], cmq.NodeID(3))
	require.Len(t, lag.r.digests.sums[l.r.digests.own], 3)
}
