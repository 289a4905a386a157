package set

import (
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
	l.m.bent = 0
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
