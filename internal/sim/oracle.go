package sim

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/opencmq/cmq/internal/check"
	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/set"
	"github.com/opencmq/cmq/internal/store/segment"
)

// oracle sees everything and knows what must never happen, whatever the faults: two leaders in a term, two votes of one
// node in a term, logs that differ, states that differ, committed entries that are lost, time that runs ahead.
type oracle struct {
	w    *world
	sets map[cmq.SetID]*setTruth
}

// setTruth is what is known about one set.
type setTruth struct {
	leaders map[uint64]cmq.NodeID  // term → who led
	votes   map[ballot]cmq.NodeID  // → who got it
	entries map[position]uint64    // hash of every entry ever sent or stored
	log     map[uint64]applied     // index → what was applied there, on any replica
	digests map[uint64]stateDigest // index → state after it
	commit  uint64                 // highest index applied anywhere

	// How far cluster time was ahead of true time when an entry was last applied at a leader, when that was, and the term.
	ahead   time.Duration
	aheadAt time.Duration
	term    uint64
}

type ballot struct {
	node cmq.NodeID
	term uint64
}

type position struct{ index, term uint64 }

type applied struct {
	term, hash uint64
	node       cmq.NodeID
}

type stateDigest struct {
	digest string
	node   cmq.NodeID
}

// digestEvery is how many indexes apart states are compared.
const digestEvery = 8

// drift is how much faster than true time cluster time may run: 500 ppm slew and the clocks' own rates, with room.
const drift = 1000 // ppm

func newOracle(w *world) *oracle {
	o := &oracle{w: w, sets: map[cmq.SetID]*setTruth{}}
	for id := cmq.SetID(1); id <= cmq.SetID(w.knobs.sets); id++ {
		o.sets[id] = &setTruth{
			leaders: map[uint64]cmq.NodeID{}, votes: map[ballot]cmq.NodeID{}, entries: map[position]uint64{},
			log: map[uint64]applied{}, digests: map[uint64]stateDigest{},
		}
	}
	return o
}

// sent looks at a message on its way out.
func (o *oracle) sent(from *replica, e *set.Envelope) {
	m := e.Raft
	if m == nil {
		return
	}
	t, id := o.sets[from.set], from.node.id
	switch m.GetType() {
	case raftpb.MsgApp, raftpb.MsgHeartbeat, raftpb.MsgSnap:
		if old, ok := t.leaders[m.GetTerm()]; ok && old != id {
			o.w.violation("one leader a term", "set %d: nodes %d and %d both lead term %d", from.set, old, id, m.GetTerm())
		}
		t.leaders[m.GetTerm()] = id
		for _, entry := range m.GetEntries() {
			o.entry(t, from, entry.GetIndex(), entry.GetTerm(), entry.GetData())
		}
	case raftpb.MsgVoteResp:
		if m.GetReject() {
			return
		}
		b := ballot{id, m.GetTerm()}
		if old, ok := t.votes[b]; ok && old != e.To {
			o.w.violation("one vote a term", "set %d: node %d voted for %d and for %d in term %d", from.set, id, old, e.To, m.GetTerm())
		}
		t.votes[b] = e.To
	}
}

// entry checks log matching: index and term name one entry.
func (o *oracle) entry(t *setTruth, p *replica, index, term uint64, data []byte) {
	at, h := position{index, term}, hashBytes(data)
	if old, ok := t.entries[at]; ok && old != h {
		o.w.violation("log matching", "set %d: node %d has another entry at index %d, term %d than others", p.set, p.node.id, index, term)
	}
	t.entries[at] = h
}

// applied checks that every replica applies the same entries in the same order and ends in the same state.
func (o *oracle) applied(p *replica, index, term uint64, data []byte) {
	t := o.sets[p.set]
	h := hashBytes(data)
	if old, ok := t.log[index]; !ok {
		t.log[index] = applied{term, h, p.node.id}
	} else if old.term != term || old.hash != h {
		o.w.violation("commit lost", "set %d: index %d was applied by node %d in term %d and, differently, by node %d in term %d",
			p.set, index, old.node, old.term, p.node.id, term)
	}
	o.w.trace.mix(7, uint64(p.node.id), uint64(p.set), index, h)
	if index > t.commit {
		t.commit = index
		if p.r.Leading() && data != nil {
			o.time(t, p, term, true)
		}
	}
	if index%digestEvery == 0 {
		o.state(p, index)
	}
}

// state compares the state after an index with the other replicas'.
func (o *oracle) state(p *replica, index uint64) {
	if p.astray() {
		return
	}
	t := o.sets[p.set]
	d := fmt.Sprint(p.m.Broker().Digest())
	if old, ok := t.digests[index]; !ok {
		t.digests[index] = stateDigest{d, p.node.id}
		o.w.trace.mix(8, hashBytes([]byte(d)))
	} else if old.digest != d {
		o.w.violation("states differ", "set %d: nodes %d and %d differ after index %d", p.set, old.node, p.node.id, index)
	}
}

// restored compares the state of an image with that of the replicas that applied the log up to there.
func (o *oracle) restored(p *replica, index uint64) {
	if p.r == nil {
		o.w.stats.hit("starts from an image")
	} else {
		o.w.stats.hit("snapshots installed")
	}
	if index%digestEvery == 0 && index > 0 {
		o.state(p, index)
	}
}

// opened compares the log of a replica that has just started with the others'.
func (o *oracle) opened(p *replica) {
	t := o.sets[p.set]
	log := p.st.Log()
	if log.FirstIndex() > 2 {
		o.w.stats.hit("starts with a shortened log")
	}
	for i := log.FirstIndex(); i <= log.LastIndex(); i++ {
		e, err := log.Entry(i)
		var damage *segment.DamageError
		if p.node.wound != nil && errors.As(err, &damage) {
			continue
		}
		if err != nil {
			o.w.violation("recovery", "set %d node %d: entry %d cannot be read after the start: %v", p.set, p.node.id, i, err)
			return
		}
		o.entry(t, p, e.Index, e.Term, e.Data)
	}
}

// leads checks that a new leader has everything that was ever committed, and that its time is not early.
func (o *oracle) leads(p *replica, term uint64) {
	t := o.sets[p.set]
	o.w.stats.hit("leaders")
	o.w.trace.say(o.w.now, "node %d leads set %d in term %d", p.node.id, p.set, term)
	if last := p.st.Log().LastIndex(); last < t.commit && t.log[t.commit].term < term {
		o.w.violation("leader completeness", "set %d: node %d leads term %d with a log up to %d, but index %d is committed", p.set, p.node.id, term, last, t.commit)
	}
	o.time(t, p, term, false)
}

// time checks that cluster time at a leader does not run ahead of what the leader before had, by more than clocks may.
// It may fall behind: a new leader knows the old one's time only from messages, which took a while. Nobody need know the
// time of a leader that committed nothing. A replica without any memory of cluster time may jump ahead, when it and a
// majority had been down; that is noted in the history.
func (o *oracle) time(t *setTruth, p *replica, term uint64, committed bool) {
	ms := p.r.Time(p.node.now())
	if ms == 0 || term < t.term {
		return
	}
	at := time.Duration(ms-epoch)*time.Millisecond - o.w.now
	allowed := t.ahead + (o.w.now-t.aheadAt)/1_000_000*drift + 2*time.Millisecond
	switch {
	case t.term == 0 || at <= allowed:
	case p.wasWarm:
		o.w.violation("time rule", "set %d: node %d has cluster time %v ahead of what is possible", p.set, p.node.id, at-allowed)
	default:
		o.w.stats.hit("jumps of cluster time")
		o.w.trace.say(o.w.now, "cluster time of set %d jumps ahead by %v", p.set, at-t.ahead)
		o.w.history.Jumps = append(o.w.history.Jumps, check.Jump{At: o.w.now, Ahead: at - t.ahead})
		committed = true
	}
	if committed {
		t.ahead, t.aheadAt, t.term = at, o.w.now, term
	}
}

// notFilled is a body that could not be read. That may be because its entry was dropped meanwhile, or because this replica cannot read
// it and others that may have it are out of reach; the latter not any more when all faults have been over for a while and every node
// is whole. A file that the system would not open is no reason to ask others, the client does that.
func (o *oracle) notFilled(p *replica, err error) {
	if errors.Is(err, segment.ErrCompacted) || errors.Is(err, segment.ErrUnavailable) {
		o.w.stats.hit("bodies gone")
		return
	}
	if errors.Is(err, set.ErrLost) && !p.r.Leading() {
		o.w.stats.hit("bodies gone") // it was deleted meanwhile, and this replica has not heard of it
		return
	}
	if refused := errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE); refused && p.node.excused() {
		o.w.stats.hit("bodies behind files that could not be opened")
		return
	}
	if errors.Is(err, set.ErrUnsure) && !o.w.healthy() {
		o.w.stats.hit("bodies out of reach")
		return
	}
	o.w.violation("reference", "set %d node %d: %v", p.set, p.node.id, err)
}

// healthy tells whether nothing keeps any node from answering: after the faults, with time to come back.
func (w *world) healthy() bool {
	return w.cfg.Mode == Safety && w.phase >= settling && w.now > w.ended+restTime && len(w.wounded()) == 0
}

// provided checks that every replica that is up has every message that its state needs. One that is just being filled is left
// out: messages of the image it has may have died and be gone everywhere since, and its state is about to be replaced.
func (o *oracle) provided() {
	for _, n := range o.w.nodes {
		for _, p := range n.replicas {
			if p.r.Status(n.now()).Fetching {
				continue
			}
			if what := p.unreadable(); what != "" {
				o.w.violation("live set", "set %d node %d: %s", p.set, n.id, what)
			}
		}
	}
}

// settled checks at the very end that every replica has everything and that all are equal.
func (o *oracle) settled() {
	for id := cmq.SetID(1); id <= cmq.SetID(o.w.knobs.sets); id++ {
		var first string
		for _, n := range o.w.nodes {
			p := n.replica(id)
			d := fmt.Sprint(p.m.Broker().Digest())
			if first == "" {
				first = d
			}
			if d != first {
				o.w.violation("states differ", "set %d: node %d differs from node 1 at the end", id, n.id)
			}
		}
	}
}

// caughtUp tells whether every replica has applied all there is.
func (o *oracle) caughtUp() bool {
	for id, t := range o.sets {
		for _, n := range o.w.nodes {
			if !n.up || n.replica(id).r.Status(n.now()).Applied < t.commit {
				return false
			}
		}
	}
	return true
}
