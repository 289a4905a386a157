package set

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/store"
)

// smallImages makes the set make images often, so that the log's beginning goes.
func smallImages(t *testing.T) *trio {
	c := newTrio(t)
	c.images = 8 << 10
	for id := range c.members {
		c.restart(id)
	}
	return c
}

func (c *trio) restart(id cmq.NodeID) {
	m := c.members[id]
	m.up = false
	require.NoError(c.t, m.st.Close())
	c.boot(id)
}

// fillUp proposes n entries of some hundred bytes through the leader, of which all but every tenth are dead.
func (c *trio) fillUp(l *member, n int) {
	for i := range n {
		text := "dead"
		if i%10 == 0 {
			text = "live"
		}
		text = fmt.Sprintf("%s %d %0300d ", text, len(l.m.entries), i)
		c.propose(l, text+sumOf(text))
	}
}

// has checks that the replica has every living message itself.
func (c *trio) has(m *member) {
	c.t.Helper()
	for _, run := range m.m.living() {
		got, err := m.st.Message(store.Ref{Index: run.Index})
		require.NoError(c.t, err, "entry %d", run.Index)
		require.True(c.t, slices.Contains(m.m.entries, string(got.Body)), "entry %d", run.Index)
	}
}

func (c *trio) whole() {
	c.t.Helper()
	want := c.leader().m.entries
	for _, m := range c.members {
		if m.up {
			require.NoError(c.t, m.err)
			require.Equal(c.t, len(want), len(m.m.entries), "node %d", m.id)
			require.True(c.t, slices.Equal(want, m.m.entries), "node %d", m.id)
			c.has(m)
		}
	}
}

func TestLaggingReplicaIsFilledWhileTheLeaderWorksOn(t *testing.T) {
	c := smallImages(t)
	l := c.elect(1)
	c.fillUp(l, 20)
	c.tick(2)
	c.crash(3)
	c.fillUp(l, 400)
	require.Greater(t, l.st.Log().FirstIndex(), uint64(40), "the log's beginning is gone")
	c.boot(3)
	late := c.members[3]
	asked := map[AskKind]int{}
	c.lose = func(_ cmq.NodeID, e Envelope) bool {
		if e.Ask != nil {
			asked[e.Ask.Kind]++
		}
		return false
	}
	for range 60 {
		c.fillUp(l, 2)
		c.tick(1)
		if late.r.pull != nil && !late.r.pull.done {
			require.Less(t, late.r.last, uint64(50), "not caught up before everything is here")
		}
	}
	c.tick(5)
	require.NotZero(t, c.seen[raftpb.MsgSnap])
	require.NotZero(t, asked[AskImage])
	require.NotZero(t, asked[AskMessages], "the messages are not in the log any more")
	c.whole()
}

func TestReplicaIsNotCaughtUpBeforeItsMessagesAreHere(t *testing.T) {
	c := smallImages(t)
	l := c.elect(1)
	c.fillUp(l, 20)
	c.crash(3)
	c.fillUp(l, 400)
	c.boot(3)
	c.lose = func(_ cmq.NodeID, e Envelope) bool { return e.Answer != nil && e.Answer.Kind == AskMessages }
	c.tick(60)
	require.NotNil(t, c.members[3].r.pull)
	require.Less(t, l.r.rn.Status().Progress[3].Match, uint64(30))
	require.Empty(t, c.members[3].r.pull.lost)
	c.lose = nil
	c.tick(200)
	c.whole()
}

func TestFillingGoesOnAfterARestart(t *testing.T) {
	c := smallImages(t)
	l := c.elect(1)
	c.fillUp(l, 20)
	c.crash(3)
	c.fillUp(l, 400)
	c.boot(3)
	late := c.members[3]
	c.lose = func(_ cmq.NodeID, e Envelope) bool { return e.Answer != nil && e.Answer.Kind == AskMessages }
	c.tick(40)
	require.NotNil(t, late.r.pull)
	require.True(t, late.r.pull.complete())
	index := late.r.pull.index
	c.restart(3)
	images, messages := 0, 0
	c.lose = func(_ cmq.NodeID, e Envelope) bool {
		if e.Answer != nil && e.Answer.Kind == AskImage {
			images++
		}
		if e.Answer != nil && e.Answer.Kind == AskMessages {
			messages++
		}
		return false
	}
	c.tick(int(2*fillPatience/TickInterval) + 40)
	require.Equal(t, index, late.r.storage.image.Index)
	require.Zero(t, images, "the image was here already")
	require.NotZero(t, messages)
	c.whole()
}

func TestFillingGoesOnUnderAnotherLeader(t *testing.T) {
	c := smallImages(t)
	l := c.elect(1)
	c.fillUp(l, 20)
	c.crash(3)
	c.fillUp(l, 400)
	c.boot(3)
	late := c.members[3]
	c.lose = func(_ cmq.NodeID, e Envelope) bool { return e.Answer != nil && e.Answer.Kind == AskMessages }
	c.tick(40)
	require.True(t, late.r.pull.complete())
	c.lose = nil
	c.crash(1)
	// Two is needed for a majority, and three votes while it is being filled: it has everything it ever acknowledged.
	c.tick(400)
	next := c.leader()
	require.Equal(t, cmq.NodeID(2), next.id)
	c.fillUp(next, 3)
	c.tick(10)
	c.whole()
	c.boot(1)
	c.tick(40)
	c.whole()
}

func TestWipedReplicaIsFilledFromAnImage(t *testing.T) {
	c := newTrio(t)
	c.images = 8 << 10
	blank := c.members[2].disk.Clone(newRand())
	for id := range c.members {
		c.restart(id)
	}
	l := c.elect(1)
	c.fillUp(l, 400)
	c.tick(2)
	c.crash(2)
	c.members[2].disk = blank
	c.boot(2)
	c.tick(200)
	c.whole()
	require.NotZero(t, c.members[2].r.storage.image.Index)
}

func TestImageThatIsKeptForAReplicaOutlivesNewerOnes(t *testing.T) {
	c := smallImages(t)
	l := c.elect(1)
	c.fillUp(l, 20)
	c.crash(3)
	c.fillUp(l, 400)
	c.boot(3)
	c.lose = func(_ cmq.NodeID, e Envelope) bool { return e.Answer != nil && e.Answer.Kind == AskImage }
	c.tick(10)
	require.Len(t, l.r.pins, 1)
	kept := l.r.pins[3].index
	c.lose = nil
	for range 5 {
		c.fillUp(l, 100)
	}
	c.tick(100)
	c.whole()
	require.GreaterOrEqual(t, c.members[3].r.storage.image.Index, kept)
	c.tick(int(pinExpiry/TickInterval) + 10)
	require.Empty(t, l.r.pins)
}

func TestImageIsMadeInTimeThoughLittleHappens(t *testing.T) {
	c := newTrio(t)
	l := c.elect(1)
	c.propose(l, "a")
	c.tick(650)
	require.Greater(t, l.r.storage.image.Index, uint64(2))
	first := l.r.storage.image.Index
	require.False(t, l.r.checkpoint.again)
	c.tick(650)
	require.Equal(t, first, l.r.storage.image.Index)
	require.True(t, l.r.checkpoint.again, "both images are of the newest state")
	c.tick(1300)
	c.propose(c.leader(), "b")
	c.tick(2)
	c.same("a", "b")
}

func TestFullDiskInTheMiddleOfFillingIsWaitedOut(t *testing.T) {
	c := smallImages(t)
	l := c.elect(1)
	c.fillUp(l, 20)
	c.crash(3)
	c.fillUp(l, 400)
	c.boot(3)
	late := c.members[3]
	late.disk.SetBudget(late.disk.Used() + 4<<10)
	c.tick(60)
	require.NoError(t, late.err)
	require.Less(t, late.r.applied, uint64(50))
	late.disk.SetBudget(-1)
	c.tick(600)
	c.whole()
}
