package set

import (
	"testing"

	"github.com/stretchr/testify/require"
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
