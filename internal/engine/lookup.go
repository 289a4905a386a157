package engine

import (
	"errors"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/store/reflog"
)

// lookup asks the references for times and positions. They are on the disk, and the loop must not wait for that: what is
// not in memory gets a lower bound for an answer and is noted, to be read elsewhere and asked again.
type lookup struct {
	refs  *reflog.Log
	wants []want
	exact bool // all positions are exact, though times may not be
}

// want is a question that could not be answered from memory.
type want struct {
	key  reflog.Key
	time int64
	seq  uint64
	what func(*reflog.Log, *want) error
}

// maxWants is how much is read at a time before looking again: neighbours are in one block, so most of it is read
// already then.
const maxWants = 256

// maxLoads is how often a call waits for references before it goes on with what there is. They can be needed again after
// they were read only if the cache is too small.
const maxLoads = 8

func (m *Machine) lookup() lookup { return lookup{refs: m.refs.Load(), exact: true} }

func (l *lookup) want(w want) {
	if len(l.wants) < maxWants {
		l.wants = append(l.wants, w)
	}
}

// seqAt is reflog's SeqAt.
func (l *lookup) seqAt(k reflog.Key, time int64, end uint64) uint64 {
	seq, ready := l.refs.SeqAt(k, time, end)
	if !ready {
		l.exact = false
		l.want(want{key: k, time: time, what: func(refs *reflog.Log, w *want) error { return refs.LoadSeqAt(w.key, w.time) }})
	}
	return seq
}

// timeAt is reflog's TimeAt.
func (l *lookup) timeAt(k reflog.Key, seq uint64) (int64, bool) {
	sent, found, ready := l.refs.TimeAt(k, seq)
	if !ready {
		l.want(want{key: k, seq: seq, what: func(refs *reflog.Log, w *want) error { return refs.LoadTimeAt(w.key, w.seq) }})
	}
	return sent, found
}

// load reads what the lookup found missing; then is called on the loop. References that are damaged come from another
// replica.
func (m *Machine) load(l lookup, then func(error)) {
	var err error
	m.cfg.Go(func() {
		for i := range l.wants {
			if err = l.wants[i].what(l.refs, &l.wants[i]); err != nil {
				return
			}
		}
	}, func() { m.repairRefs(err, then) })
}

// repairRefs lets references that were found damaged be replaced, and hands on any other error.
func (m *Machine) repairRefs(err error, then func(error)) {
	var damage *reflog.DamageError
	if !errors.As(err, &damage) || m.cfg.RepairRefs == nil {
		then(err)
		return
	}
	m.cfg.Logger.Warn("references are damaged; asking other replicas", "set", m.cfg.Set, "err", err)
	m.cfg.RepairRefs(damage.Key, damage.Lo, damage.Hi, then)
}

// await puts a call aside until the references it asked for are read.
func (m *Machine) await(c *Call, s *shard, l lookup) {
	s.putAside(c)
	m.loadMarks(s, l)
}

// waits reports whether a call that asked for references not in memory has to wait for them.
func (m *Machine) waits(c *Call) bool { return m.leading && !c.hasty && c.tries < maxLoads }

// loaded goes on with a shard and its calls when references have been read, or could not be.
func (m *Machine) loaded(s *shard, err error) {
	if m.shards[s.id] != s {
		return // dropped, or this replica does not lead any more
	}
	b := s.busy()
	b.loading, b.vague = false, false
	s.marksAt = m.now
	if err != nil {
		m.cfg.Logger.Warn("references cannot be read", "set", m.cfg.Set, "shard", s.id, "err", err)
		s.marksAt = m.now + glance
	}
	aside := b.aside
	b.aside = nil
	s.calm()
	for _, c := range aside {
		c.hasty = err != nil
		switch {
		case err != nil && c.req.Kind == cmq.KindRewind:
			c.finish(nil, err)
		case c.asked:
			m.answerStatus(c)
		default:
			m.enqueue(c)
		}
	}
	m.housekeep(s)
}
