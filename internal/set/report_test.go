package set

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
)

// A report says what a leader knows of the others, and what a replica in repair lacks.
func TestReport(t *testing.T) {
	c := newTrio(t)
	l := c.elect(1)
	c.fillUp(l, 100)
	c.tick(2)
	r := l.r.Report(c.clock())
	require.Equal(t, []cmq.NodeID{1, 2, 3}, r.Voters)
	require.True(t, r.Warm)
	require.Len(t, r.Peers, 2)
	for i, p := range r.Peers {
		require.Equal(t, cmq.NodeID(i+2), p.Node)
		require.True(t, p.Known && p.Active)
		require.Equal(t, "replicate", p.State)
		require.Equal(t, l.r.storage.log().LastIndex(), p.Match)
	}

	c.crash(2)
	c.bootDamaged(2, span{lo: 30, hi: 35}, span{lo: 60, hi: 61})
	m := c.members[2]
	r = m.r.Report(c.clock())
	require.GreaterOrEqual(t, r.Lost, uint64(6)) // and what is in doubt with them
	require.False(t, r.Amnesia || r.Open || r.ImageLost || r.WrongState)
	for _, p := range r.Peers {
		require.Empty(t, p.State, "no leader, no progress")
	}
}

func TestReportOfAWrongState(t *testing.T) {
	c := newTrio(t)
	l := c.elect(1)
	c.fillUp(l, 10)
	c.lose = func(_ cmq.NodeID, e Envelope) bool { return e.Ask != nil } // it cannot be given another
	c.members[3].m.bent = 1
	c.propose(l, "dead")
	c.tick(100)
	r := c.members[3].r.Report(c.clock())
	require.True(t, r.WrongState)
	require.False(t, r.Amnesia || r.Open || r.ImageLost)
	require.Zero(t, r.Lost)
}
