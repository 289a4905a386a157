package node

import (
	"time"

	"github.com/opencmq/cmq/internal/datadir"
	"github.com/opencmq/cmq/internal/set"
	"github.com/opencmq/cmq/internal/vfs"
)

// spaceInterval is how often the free space is looked at: at the speed of a fast disk it must not be used up in between.
const spaceInterval = time.Second

// spaceLevel judges what is free.
func spaceLevel(o *Storage, s vfs.Space) set.Space {
	switch o.marks().Judge(s) {
	case datadir.HardFull:
		return set.SpaceHard
	case datadir.SoftFull:
		return set.SpaceSoft
	}
	return set.SpaceOK
}

// watchSpace tells every replica how full the disk is.
func (n *Node) watchSpace() {
	ticker := time.NewTicker(spaceInterval)
	defer ticker.Stop()
	last := set.SpaceOK
	for {
		space, err := n.fs.Space(n.opt.DataDir)
		level := spaceLevel(&n.opt.Storage, space)
		switch {
		case err != nil:
			n.log.Error("the free space of the data directory cannot be found out", "error", err)
			level = last
		case level > last:
			n.log.Warn("the disk is getting full: sends are refused until there is room; at the hard mark receives too", "free", space.Free, "free_inodes", space.FreeInodes, "hard", level == set.SpaceHard)
		case level == set.SpaceOK && last != set.SpaceOK:
			n.log.Info("there is room on the disk again; sends are taken", "free", space.Free)
		}
		last = level
		n.free.Store(space.Free)
		n.spaceLevel.Store(int32(level))
		for _, id := range n.setIDs {
			h := n.sets[id]
			h.host.Exec(func(set.Now) { h.replica.SetSpace(level) })
		}
		select {
		case <-ticker.C:
		case <-n.ctx.Done():
			return
		}
	}
}
