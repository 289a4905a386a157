package set

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/vfs"
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

func TestLeaderThatLedWhileTheDiskWasFullHearsThatThereIsRoom(t *testing.T) {
	c := newTrio(t)
	l := c.elect(1)
	c.members[2].r.SetSpace(SpaceHard)
	c.tick(4)
	require.Equal(t, SpaceHard, l.m.space)
	require.True(t, l.r.GiveTo(2))
	c.tick(4)
	require.Equal(t, c.members[2], c.leader())
	c.members[2].r.SetSpace(SpaceOK)
	c.tick(4)
	require.True(t, c.leader().r.GiveTo(1))
	c.tick(4)
	require.Equal(t, l, c.leader())
	require.Equal(t, SpaceOK, l.m.space)
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

// What is dead goes bit by bit, so that the syncs of the log do not wait; but a full disk gets it back at once.
func TestFullDiskGetsBackWhatIsDeadAtOnce(t *testing.T) {
	for _, level := range []Space{SpaceOK, SpaceSoft, SpaceHard} {
		c := smallImages(t)
		l := c.elect(1)
		steps := 0
		l.disk.OnOp(func(op vfs.Op) error {
			if op.Kind == vfs.OpResize && strings.Contains(op.Name, ".gone.") {
				steps++
			}
			return nil
		})
		l.r.SetSpace(level)
		c.fillUp(l, 300)
		l.r.checkpoint.want(2)
		c.tick(4)
		require.Greater(t, l.st.Log().FirstIndex(), uint64(100))
		require.Equal(t, level == SpaceOK, steps > 0, "%v: %d steps", level, steps)
		c.has(l)
	}
}
