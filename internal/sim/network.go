package sim

import (
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/set"
)

// network carries messages between nodes. A directed link delivers in order, as a connection does, unless the fault
// "reorder" is at work; nothing is copied, because neither raft nor package set changes a message it has sent or got.
type network struct {
	w      *world
	rng    stream
	links  map[pair]*link
	base   time.Duration // shortest latency of this seed
	spread time.Duration

	// What faults add for the time being.
	loss, duplicate int // percent
	reorder         bool
	extra           time.Duration // up to this much latency more

	sent, dropped uint64
}

type pair struct{ from, to cmq.NodeID }

type link struct {
	cuts int           // how many faults hold the link cut
	last time.Duration // arrival of the newest message
}

func newNetwork(w *world) *network {
	n := &network{w: w, rng: newStream(w.cfg.Seed, "net"), links: map[pair]*link{}}
	knobs := newStream(w.cfg.Seed, "net knobs")
	n.base = pick(knobs, []time.Duration{50 * time.Microsecond, 300 * time.Microsecond, 2 * time.Millisecond})
	n.spread = n.base * time.Duration(1+knobs.IntN(10))
	return n
}

func (n *network) link(from, to cmq.NodeID) *link {
	l := n.links[pair{from, to}]
	if l == nil {
		l = &link{}
		n.links[pair{from, to}] = l
	}
	return l
}

func (n *network) cut(from, to cmq.NodeID)  { n.link(from, to).cuts++ }
func (n *network) heal(from, to cmq.NodeID) { n.link(from, to).cuts = max(n.link(from, to).cuts-1, 0) }

// healAll ends everything that faults have done to the network.
func (n *network) healAll() {
	for _, l := range n.links {
		l.cuts = 0
	}
	n.loss, n.duplicate, n.reorder, n.extra = 0, 0, false, 0
}

// calm ends what concerns all links and leaves the cuts.
func (n *network) calm() { n.loss, n.duplicate, n.reorder, n.extra = 0, 0, false, 0 }

func (n *network) latency() time.Duration {
	d := n.base + n.rng.mostly(0, n.spread)
	if n.extra > 0 {
		d += n.rng.mostly(0, n.extra)
	}
	return d
}

// carry plans the delivery of something on a link, or loses it. Only what may is doubled: a client's connection
// never doubles a request.
func (n *network) carry(from, to cmq.NodeID, mayDouble bool, deliver func()) {
	n.sent++
	l := n.link(from, to)
	// The draws are made in any case, so that a cut does not shift those that follow.
	at, lost, again := n.w.now+n.latency(), n.rng.IntN(100), n.rng.IntN(100)
	if l.cuts > 0 || lost < n.loss {
		n.dropped++
		if l.cuts > 0 {
			n.w.stats.hit("cut messages")
		} else {
			n.w.stats.hit("lost messages")
		}
		return
	}
	if n.reorder {
		if at < l.last {
			n.w.stats.hit("reordered messages")
		}
	} else {
		at = max(at, l.last+1)
	}
	l.last = max(l.last, at)
	arrive := func() {
		if l.cuts > 0 {
			n.dropped++ // a cut also loses what is on its way
			return
		}
		deliver()
	}
	n.w.agenda.push(at, arrive)
	if mayDouble && again < n.duplicate {
		n.w.stats.hit("duplicated messages")
		n.w.agenda.push(at+n.latency(), arrive)
	}
}

// envelope sends what a replica wants to send.
func (n *network) envelope(from *replica, e set.Envelope) {
	n.w.oracle.sent(from, &e)
	to := n.w.node(e.To)
	if to == nil {
		return
	}
	id, source := from.set, from.node.id
	n.carry(source, e.To, true, func() {
		to.exec(func() { to.receive(id, source, e.Message) })
	})
}

// mixMessage adds a message to the trace's hash.
func mixMessage(t *tracer, m *set.Message) {
	t.mix(uint64(m.Time), uint64(m.Wall))
	if r := m.Raft; r != nil {
		t.mix(uint64(r.GetType()), r.GetTerm(), r.GetIndex(), r.GetLogTerm(), r.GetCommit(), uint64(len(r.GetEntries())))
		if es := r.GetEntries(); len(es) > 0 {
			t.mix(hashBytes(es[len(es)-1].GetData()))
		}
	}
	if a := m.Ask; a != nil {
		t.mix(a.ID, uint64(a.Kind), a.Lo, a.Hi, a.Index, a.Offset, uint64(len(a.Refs)))
	}
	if a := m.Answer; a != nil {
		t.mix(a.ID, uint64(a.Verdict), a.Index, uint64(len(a.Entries)), uint64(len(a.Messages)), hashBytes(a.Data))
	}
	if d := m.Digest; d != nil {
		t.mix(d.Index, d.Sum)
	}
}

func describe(m *set.Message) string {
	switch {
	case m.Ask != nil:
		return "ask " + sprint(m.Ask.Kind, m.Ask.Lo, m.Ask.Hi, m.Ask.Index, m.Ask.Offset, m.Ask.Name, len(m.Ask.Refs))
	case m.Answer != nil:
		return "answer " + sprint(m.Answer.Kind, m.Answer.Verdict, len(m.Answer.Entries), len(m.Answer.Messages), len(m.Answer.Data))
	case m.Digest != nil:
		return "digest " + sprint(m.Digest.Index, m.Digest.Sum)
	case m.Raft == nil:
		return "time only"
	}
	r := m.Raft
	s := r.GetType().String() + " term " + sprint(r.GetTerm()) + " index " + sprint(r.GetIndex())
	if r.GetType() == raftpb.MsgApp {
		s += " entries " + sprint(len(r.GetEntries())) + " commit " + sprint(r.GetCommit())
	}
	if r.GetReject() {
		s += " rejected"
	}
	return s
}
