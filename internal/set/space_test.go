package set

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
)

func TestLeaderHearsOfTheFullestDisk(t *testing.T) {
	c := newTrio(t)
	l := c.elect(1)
	c.tick(4)
	require.Equal(t, SpaceOK, l.m.space)
	c.members[2].r.SetSpace(SpaceSoft)
	c.tick(4)
	require.Equal(t, SpaceSoft, l.m.space)
	c.members[3].r.SetSpace(SpaceHard)
	c.tick(4)
	require.Equal(t, SpaceHard, l.m.space)
	require.Equal(t, SpaceHard, l.r.Status(c.clock()).Space)
	c.crash(3)
	c.tick(100)
	require.Equal(t, SpaceHard, l.m.space, "heard less than ten seconds ago")
	c.tick(120)
	require.Equal(t, SpaceSoft, l.m.space, "whoever is gone is not waited for")
	c.members[2].r.SetSpace(SpaceOK)
	c.tick(4)
	require.Equal(t, SpaceOK, l.m.space)
	l.r.SetSpace(SpaceSoft)
	c.tick(1)
	require.Equal(t, SpaceSoft, l.m.space)
}

func TestFullDiskHasImagesMadeSoonerSoThatTheLogCanGo(t *testing.T) {
	c := newTrio(t)
	l := c.elect(1)
	c.tick(int(pressedEvery/TickInterval) + 2)
	before := l.r.Status(c.clock())
	require.Less(t, before.ImageIndex, before.Applied, "no image is due yet")
	l.r.SetSpace(SpaceSoft)
	c.tick(2 * (int(pressedEvery/TickInterval) + 2))
	after := l.r.Status(c.clock())
	require.Equal(t, after.Applied, after.ImageIndex)
	require.Less(t, c.members[2].r.Status(c.clock()).ImageIndex, after.Applied, "the disks of the others are not full")
}

func TestNewLeaderLearnsTheLevelAgain(t *testing.T) {
	c := newTrio(t)
	l := c.elect(1)
	c.members[2].r.SetSpace(SpaceSoft)
	c.tick(4)
	require.True(t, l.r.GiveTo(2))
	c.tick(4)
	require.Equal(t, SpaceSoft, c.leader().m.space)
}

// syncing makes the replica believe that its latest writes took so long.
func (m *member) syncing(d time.Duration) {
	for range syncsKept {
		m.r.disks.synced(d)
	}
}

func TestLeaderWithTheSlowestDiskHandsOver(t *testing.T) {
	rows := map[string]struct {
		own, others time.Duration
		hands       bool
	}{
		"five times as slow":    {own: 51 * time.Millisecond, others: 10 * time.Millisecond, hands: true},
		"all slow":              {own: 49 * time.Millisecond, others: 10 * time.Millisecond},
		"slow, but fast enough": {own: 4 * time.Millisecond, others: 100 * time.Microsecond},
		"others not known":      {own: time.Second},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			c := newTrio(t)
			l := c.elect(1)
			l.syncing(row.own)
			for _, id := range []cmq.NodeID{2, 3} {
				if row.others > 0 {
					c.members[id].syncing(row.others)
				}
			}
			c.tick(30)
			require.True(t, l.m.leading, "it is watched for two seconds")
			c.tick(30)
			require.Equal(t, !row.hands, l.m.leading)
		})
	}
}

func TestSlowDiskIsNotHandedTheLeadership(t *testing.T) {
	c := newTrio(t)
	l := c.elect(1)
	l.syncing(60 * time.Millisecond)
	c.members[2].syncing(55 * time.Millisecond)
	c.members[3].syncing(time.Millisecond)
	c.tick(60)
	require.Equal(t, cmq.NodeID(3), c.leader().id)
}

// Nothing is free on the disk, so no image can be made, and without one nothing that is dead is given back: the ballast is for
// that. When there is room again it is there again.
func TestFullDiskHasRoomForAnImage(t *testing.T) {
	c := smallImages(t)
	l := c.elect(1)
	c.fillUp(l, 40)
	ballast := func() (n int) {
		for _, name := range l.disk.Files() {
			if strings.Contains(name, "ballast-") {
				n++
			}
		}
		return n
	}
	l.r.checkpoint.want(1)
	c.tick(2)
	whole := ballast()
	require.Positive(t, whole)

	l.r.SetSpace(SpaceHard)
	l.disk.SetBudget(l.disk.Used())
	c.propose(l, "one more")
	c.tick((whole + 2) * (int(pressedEvery/TickInterval) + 2)) // the image may need all of it
	status := l.r.Status(c.clock())
	require.Equal(t, status.Applied, status.ImageIndex)
	require.Less(t, ballast(), whole)

	l.disk.SetBudget(-1)
	l.r.SetSpace(SpaceOK)
	l.r.checkpoint.want(1)
	c.tick(2)
	require.Equal(t, whole, ballast())
}
