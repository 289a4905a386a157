package set

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/vfs"
)

const rootFile = "/set/MANIFEST"

// vanish removes every file with one of these endings from a stopped replica's disk.
func (c *trio) vanish(id cmq.NodeID, endings ...string) {
	m := c.members[id]
	for _, name := range m.disk.Files() {
		for _, end := range endings {
			if strings.HasSuffix(name, end) {
				require.NoError(c.t, m.disk.Vanish(name))
			}
		}
	}
}

// TestReplicaWithoutARootIsMadeWhole from what is on its disk and what the others have, while they go on and after.
func TestReplicaWithoutARootIsMadeWhole(t *testing.T) {
	for name, row := range map[string]struct {
		harm   func(c *trio, early *vfs.Kept)
		repair bool // the replica may neither vote nor acknowledge at first
	}{
		"the root is missing":            {func(c *trio, _ *vfs.Kept) { c.vanish(2, "MANIFEST") }, false},
		"the root is an older copy":      {func(c *trio, early *vfs.Kept) { require.NoError(c.t, c.members[2].disk.Put(early, rootFile)) }, false},
		"root and archive are missing":   {func(c *trio, _ *vfs.Kept) { c.vanish(2, "MANIFEST", ".arc") }, false},
		"root and images are missing":    {func(c *trio, _ *vfs.Kept) { c.vanish(2, "MANIFEST", ".image") }, true},
		"root and log are missing":       {func(c *trio, _ *vfs.Kept) { c.vanish(2, "MANIFEST", ".seg") }, true},
		"root and side file are missing": {func(c *trio, _ *vfs.Kept) { c.vanish(2, "MANIFEST", "hardstate") }, true},
		"only the root is left":          {func(c *trio, _ *vfs.Kept) { c.vanish(2, "hardstate", ".seg", ".image", ".arc") }, true},
		"only the archive is left":       {func(c *trio, _ *vfs.Kept) { c.vanish(2, "MANIFEST", "hardstate", ".seg", ".image") }, true},
		"an old root and no archive": {func(c *trio, early *vfs.Kept) {
			require.NoError(c.t, c.members[2].disk.Put(early, rootFile))
			c.vanish(2, ".arc")
		}, false},
		"an old root, its log is long gone": {func(c *trio, early *vfs.Kept) {
			c.vanish(2, ".seg")
			require.NoError(c.t, c.members[2].disk.Put(early, rootFile))
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			c := smallImages(t)
			l := c.elect(1)
			c.fillUp(l, 200)
			c.tick(2)
			m := c.members[2]
			early, err := m.disk.Keep(rootFile)
			require.NoError(t, err)
			c.fillUp(l, 400)
			c.tick(2)
			c.crash(2)
			c.fillUp(l, 5)
			row.harm(c, early)
			c.boot(2)
			if row.repair {
				require.NotNil(t, m.r.repair)
				c.silent(2)
			}
			c.fillUp(c.leader(), 5)
			c.tick(1300)
			require.Nil(t, m.r.repair)
			require.Empty(t, m.lost())
			c.fillUp(c.leader(), 5)
			c.tick(2)
			c.whole()
			c.crash(2)
			c.boot(2)
			require.Nil(t, m.r.repair)
			require.Empty(t, m.st.Damage())
			c.tick(100)
			c.whole()
		})
	}
}

// TestReplicasWithoutRootsHealEachOther: each lacks something else beside its root, and none may be the source of all.
func TestReplicasWithoutRootsHealEachOther(t *testing.T) {
	c := smallImages(t)
	l := c.elect(1)
	c.fillUp(l, 600)
	c.tick(2)
	for id, endings := range map[cmq.NodeID][]string{1: {".arc"}, 2: {".image"}, 3: {"hardstate"}} {
		c.crash(id)
		c.vanish(id, append(endings, "MANIFEST")...)
	}
	for _, id := range []cmq.NodeID{1, 2, 3} {
		c.boot(id)
	}
	c.tick(1300)
	c.fillUp(c.leader(), 5)
	c.tick(1300)
	for _, m := range c.members {
		require.Nil(t, m.r.repair, "node %d", m.id)
		require.Empty(t, m.lost(), "node %d", m.id)
	}
	c.whole()
}

// TestReplicaThatLostItsWholeLogGoesOn behind its image, whose term only the image knows.
func TestReplicaThatLostItsWholeLogGoesOn(t *testing.T) {
	c := smallImages(t)
	l := c.elect(1)
	c.fillUp(l, 200)
	c.tick(2)
	m := c.members[2]
	m.r.checkpoint.want(1)
	c.tick(5)
	require.Equal(t, m.m.index, m.r.storage.image.Index)
	// The leader knows that two has the image's entry, and of no entry behind it.
	c.lose = func(from cmq.NodeID, _ Envelope) bool { return from == 2 }
	c.fillUp(l, 10)
	c.crash(2)
	c.vanish(2, ".seg")
	c.boot(2)
	require.NotNil(t, m.r.repair)
	// It goes on beyond the end that two is told.
	c.lose = func(_ cmq.NodeID, e Envelope) bool {
		return e.To == 2 && e.Answer != nil && e.Answer.Kind == AskEntries
	}
	for i := 0; m.r.repair.endTerm == 0; i++ {
		require.Less(t, i, 200)
		c.tick(1)
	}
	c.fillUp(l, 10)
	sent := 0
	c.lose = func(from cmq.NodeID, e Envelope) bool {
		if from == 2 && e.Raft != nil {
			sent++
		}
		return sent > 5000
	}
	c.tick(200)
	require.Nil(t, m.r.repair)
	require.Less(t, sent, 1000, "leader and follower do not go in circles")
	c.lose = nil
	c.fillUp(c.leader(), 5)
	c.tick(1300)
	require.Empty(t, m.lost())
	c.whole()
}
