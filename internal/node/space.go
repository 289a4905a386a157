package node

import (
	"time"

	"github.com/opencmq/cmq/internal/set"
	"github.com/opencmq/cmq/internal/vfs"
)

const (
	// spaceInterval is how often the free space is looked at: at the speed of a fast disk it must not be used up in between.
	spaceInterval = time.Second
	// softShare and hardShare say which part of the disk, and of the soft mark, the marks are if the operator sets none.
	softShare = 20
	softMost  = 2 << 30
	hardShare = 16
	// fewInodes is how few inodes count as a full disk: enough for the files that receives and deletes still need.
	softInodes = 256
	hardInodes = 64
)

// spaceMarks are the bytes below which sends, and receives too, are refused.
func spaceMarks(o *Storage, total uint64) (soft, hard uint64) {
	soft, hard = o.SoftFree, o.HardFree
	if soft == 0 {
		soft = min(total/softShare, softMost)
	}
	if hard == 0 {
		hard = soft / hardShare
	}
	return soft, hard
}

// spaceLevel judges what is free.
func spaceLevel(o *Storage, s vfs.Space) set.Space {
	soft, hard := spaceMarks(o, s.Total)
	limited := s.Inodes > 0
	switch {
	case s.Free < hard || limited && s.FreeInodes < hardInodes:
		return set.SpaceHard
	case s.Free < soft || limited && s.FreeInodes < softInodes:
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
