package engine

import (
	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/set"
)

// refuses reports whether the disks are too full for requests of this kind. First messages are not taken in any more,
// while those that are there go their way, to consumers and to dead-letter queues. Then only what makes room is left:
// a receive makes the log longer and nothing smaller.
func (m *Machine) refuses(kind cmq.Kind) bool {
	switch kind {
	case cmq.KindSend, cmq.KindPrepare, cmq.KindPublish:
		return m.space >= set.SpaceSoft
	case cmq.KindReceive, cmq.KindTransfer, cmq.KindMove, cmq.KindSpread, cmq.KindRewind:
		return m.space >= set.SpaceHard
	}
	return false
}

// SetSpace implements set.Machine.
func (m *Machine) SetSpace(level set.Space) {
	if level == m.space {
		return
	}
	m.cfg.Logger.Warn("space on the disks of the set", "set", m.cfg.Set, "sends", level < set.SpaceSoft, "receives", level < set.SpaceHard)
	m.space = level
	for _, id := range sortedShards(m.shards) {
		s := m.shards[id]
		if !m.refuses(cmq.KindReceive) {
			m.feed(s)
			m.ask(s)
			continue
		}
		for s.parks() > 0 {
			m.refuseFull(s.more.unpark())
		}
	}
}

func (m *Machine) refuseFull(c *Call) {
	m.stats.Full.Add(1)
	c.refuse(cmq.ErrDiskFull)
}
