package sim

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/store/reflog"
	"github.com/opencmq/cmq/internal/store/segment"
	"github.com/opencmq/cmq/internal/vfs"
)

// What damage may be done, so that nothing confirmed may be lost by it:
//
// One node at a time is wounded, and stays so until it is whole again (whole): the cluster promises to heal what the other
// replicas still have. Several are wounded together only at different places.
//
// A replica whose log was shortened, or put back to what it was, cannot always know. It forgets what it acknowledged, and
// how it voted, until it hears from the others. So the damage is done at a moment at which that does not matter
// (expendable): the others have all that this one has, and follow one leader in its term or a later one. That moment
// is waited for, with the node stopped if it is to be stopped.

const (
	woundPoll  = 50 * time.Millisecond
	woundTries = 60
	// wholePoll is how often a wounded node is looked at.
	wholePoll = 200 * time.Millisecond
	// healLimit is how long after the end of all faults damage may be left. The files are read every half minute.
	healLimit = 60 * time.Second
)

// wound is what is wrong with a node.
type wound struct {
	since time.Duration
	left  string // what was not whole when it was last looked at
}

// hurt damages a node as soon as that may be done, stopped or running. do draws and acts, and tells whether it did
// anything. Nothing happens if the moment does not come.
func (f *fault) hurt(n *node, stopped bool, do func() bool) {
	w := f.w
	if len(w.nodes) < 3 || n.detained || len(w.wounded()) > 0 {
		return
	}
	n.wound = &wound{since: w.now, left: "not damaged yet"}
	if stopped {
		n.detained = true
		n.kill(pick(f.rng, vfs.CrashModes()), "stopped to damage it")
	}
	f.await(n, stopped, woundTries, do)
}

func (f *fault) await(n *node, stopped bool, tries int, do func() bool) {
	w := f.w
	possible := w.phase == loading && tries > 0 && (stopped || n.up)
	switch {
	case possible && !w.expendable(n):
		w.after(woundPoll, func() { f.await(n, stopped, tries-1, do) })
		return
	case possible && do():
		f.struck()
		w.oracle.forgets(n)
		w.watch(n)
	default:
		n.wound = nil
	}
	if stopped {
		n.detained = false
		w.after(f.rng.mostly(0, time.Second), n.start)
	}
}

// hurtAll damages several running nodes at once. do tells whether it did anything.
func (f *fault) hurtAll(do func() bool) {
	w := f.w
	if len(w.nodes) < 3 || w.cfg.Mode == Liveness || len(w.wounded()) > 0 {
		return
	}
	for _, n := range w.nodes {
		if n.detained || !w.expendable(n) {
			w.after(woundPoll, func() { f.tryAgain(do) })
			return
		}
	}
	f.strikeAll(do)
}

func (f *fault) tryAgain(do func() bool) {
	if f.w.phase == loading && f.patience > 0 {
		f.patience--
		f.hurtAll(do)
	}
}

func (f *fault) strikeAll(do func() bool) {
	w := f.w
	if !do() {
		return
	}
	f.struck()
	for _, n := range w.nodes {
		n.wound = &wound{since: w.now}
		w.oracle.forgets(n)
	}
	for _, n := range w.nodes {
		w.watch(n)
	}
}

// wounded lists the nodes that are not whole.
func (w *world) wounded() []*node {
	var list []*node
	for _, n := range w.nodes {
		if n.wound != nil {
			list = append(list, n)
		}
	}
	return list
}

// expendable tells whether nothing would be lost with all that a node has: see above.
func (w *world) expendable(n *node) bool {
	for id := cmq.SetID(1); id <= cmq.SetID(w.knobs.sets); id++ {
		if !w.expendableIn(n, id) {
			return false
		}
	}
	return true
}

func (w *world) expendableIn(n *node, id cmq.SetID) bool {
	mine := n.remembered(id)
	var leader cmq.NodeID
	var term uint64 // of the entry at mine.last
	first := true
	for _, x := range w.nodes {
		if x == n {
			continue
		}
		if !x.up {
			return false
		}
		p := x.replica(id)
		st, log := p.r.Status(x.now()), p.st.Log()
		if st.Repairing || st.Fetching || st.Leader == 0 || st.Term < mine.term || log.DurableIndex() < mine.last {
			return false
		}
		t, err := log.Term(mine.last)
		if err != nil && mine.last < log.FirstIndex() {
			t, err = 0, nil // in its image
		}
		if err != nil {
			return false
		}
		if first {
			leader, term, first = st.Leader, t, false
		}
		if st.Leader != leader || t != 0 && term != 0 && t != term {
			return false
		}
	}
	return true
}

// memory is what a replica has promised last.
type memory struct{ term, last uint64 }

// remembered is what a node's replica had promised, now or when it fell.
func (n *node) remembered(id cmq.SetID) memory {
	if n.up && len(n.replicas) >= int(id) {
		return n.replica(id).memory()
	}
	return n.memories[id]
}

func (p *replica) memory() memory {
	return memory{max(p.r.Status(p.node.now()).Term, p.st.Log().HardState().Term), p.st.Log().LastIndex()}
}

// remember keeps it over the fall.
func (n *node) remember() {
	for _, p := range n.replicas {
		if p.r != nil {
			n.memories[p.set] = p.memory()
		}
	}
}

// watch looks again and again whether a wounded node is whole.
func (w *world) watch(n *node) {
	w.after(wholePoll, func() {
		if n.wound == nil || n.abandoned {
			return
		}
		if n.wound.left = w.missing(n); n.wound.left == "" {
			w.trace.say(w.now, "node %d is whole again after %v", n.id, w.now-n.wound.since)
			w.stats.hit("nodes healed")
			n.wound = nil
			return
		}
		w.watch(n)
	})
}

// missing says what a node lacks of being whole; nothing if it is.
func (w *world) missing(n *node) string {
	if n.lying {
		return "writes may yet be lost"
	}
	if !n.up || len(n.replicas) < w.knobs.sets {
		return "it is down"
	}
	for _, p := range n.replicas {
		if s := p.missing(); s != "" {
			return fmt.Sprintf("set %d: %s", p.set, s)
		}
	}
	return w.lostWay()
}

func (p *replica) missing() (what string) {
	st := p.r.Status(p.node.now())
	p.stray = p.stray && p.node.w.phase == loading // later there may be no entry for it any more
	switch {
	case p.stray:
		return "it has yet to go astray"
	case st.Repairing:
		return "it is in repair"
	case st.Fetching:
		return "it fetches an image"
	case st.Applied < p.node.w.oracle.sets[p.set].commit:
		return fmt.Sprintf("it has applied %d", st.Applied)
	case len(p.st.Log().Holes()) > 0:
		return fmt.Sprintf("holes %v", p.st.Log().Holes())
	case len(p.st.Damage()) > 0:
		return p.st.Damage()[0].String()
	}
	free := func(int) error { return nil }
	err := p.st.Scrub(free, func(d store.Damage) { what = d.String() })
	if err == nil && what == "" {
		err = p.m.VerifyRefs(free, func(key reflog.Key, lo, hi uint64) { what = fmt.Sprintf("references %v %d to %d", key, lo, hi) })
	}
	if err != nil {
		return err.Error()
	}
	if what == "" {
		what = p.unreadable()
	}
	return what
}

// refusedStart is a node that refuses to start on a directory that somebody meddled with. The operator does what the error
// says: the directory goes, and the replica is filled by the others.
func (n *node) refusedStart(id cmq.SetID, err error) bool {
	if n.wound == nil {
		return false
	}
	var damage *segment.DamageError
	var foreign *segment.ForeignError
	var version *segment.VersionError
	if !errors.As(err, &damage) && !errors.As(err, &foreign) && !errors.As(err, &version) {
		return false
	}
	n.w.stats.hit("starts refused for damage")
	n.w.trace.say(n.w.now, "node %d set %d: the operator takes the directory away: %v", n.id, id, err)
	if err := n.disk.Vanish(directory(id)); err != nil {
		n.w.violation("simulator", "%v", err)
	}
	return true
}

// forgets lets a node that is damaged vote again where it has voted: nobody stands for election in those terms any more.
func (o *oracle) forgets(n *node) {
	for id, t := range o.sets {
		term := n.remembered(id).term
		maps.DeleteFunc(t.votes, func(b ballot, _ cmq.NodeID) bool { return b.node == n.id && b.term <= term })
	}
}

// healed tells whether no node is wounded, and complains about those that stay so too long.
func (w *world) healed() bool {
	list := w.wounded()
	if len(list) > 0 && w.now > w.ended+healLimit {
		n := slices.MinFunc(list, func(a, b *node) int { return int(a.wound.since - b.wound.since) })
		w.violation("healing", "node %d, damaged at %v, is not whole: %s", n.id, n.wound.since, n.wound.left)
	}
	return len(list) == 0
}
