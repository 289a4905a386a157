package sim

import (
	"fmt"
	"time"

	"github.com/opencmq/cmq/internal/check"
	"github.com/opencmq/cmq/internal/cmq"
)

const (
	// restTime is how long the cluster is left alone after the faults: every operation, lock, delay and dead-letter
	// move that was under way ends within it.
	restTime = 6 * time.Second
	// endLimit is when a run must be over after the faults.
	endLimit = 60 * time.Second
	// elections is how many election timeouts a majority has to serve again (reliability notes, L1).
	elections       = 10
	electionTimeout = 1200 * time.Millisecond
)

// endOfFaults begins the last part of a run.
func (w *world) endOfFaults() {
	w.phase = settling
	w.ended, w.limit = w.now, w.now+endLimit
	if len(w.wounded()) > 0 {
		w.limit += healLimit
	}
	w.trace.say(w.now, "the faults end")
	w.lostReply = 0
	for _, q := range w.queues {
		if q.dead != nil {
			w.stats.hits["queues with dead letters"]++
		}
	}
	if w.cfg.Mode == Liveness {
		w.serveWithMajority()
		return
	}
	w.net.healAll()
	for _, n := range w.nodes {
		n.heal()
	}
	w.after(restTime, func() { w.endPushing(w.takeStock) })
}

// heal ends every fault of a node and starts it if it is down.
func (n *node) heal() {
	n.freeDisk()
	n.unhamper()
	n.detained = false
	n.slow, n.trip, n.recoveryCrash = 1, 0, 0
	n.disk.OnOp(nil)
	n.disk.FailSyncs(0)
	n.resume()
	if !n.up {
		n.w.after(n.rng.between(0, 500*time.Millisecond), n.start)
	}
}

// takeStock reads the counters of all queues at rest, then drains them. Before, every replica must have become whole without being asked for
// anything: what a consumer happens to read is healed anyway.
func (w *world) takeStock() {
	if !w.healed() {
		w.after(wholePoll, w.takeStock)
		return
	}
	w.oracle.provided()
	waiting := len(w.queues)
	for i, q := range w.queues {
		a := w.newActor(q, 1000+i)
		a.insist(func(op *check.Op) {
			if waiting--; waiting == 0 {
				w.drain()
			}
		})
	}
}

// insist reads the status until it gets it.
func (a *actor) insist(then func(op *check.Op)) {
	a.status(func(op *check.Op) {
		if op.Outcome == check.OK {
			then(op)
			return
		}
		a.insist(then)
	})
}

func (w *world) drain() {
	w.phase = draining
	for i, q := range w.queues {
		w.newActor(q, 2000+i).drain()
	}
}

// drainLock is longer than the drain of a queue takes.
const drainLock = 20 * time.Second

// drain receives and deletes until the queue is empty.
func (a *actor) drain() {
	req := &cmq.Request{Kind: cmq.KindReceive, Shard: a.q.shard, Max: 16, Lock: drainLock}
	a.take(req, 3*time.Second, func(op *check.Op) {
		switch {
		case op.Outcome == check.OK && len(op.Messages) == 0 && !a.q.decided:
			a.decideRest()
		case op.Outcome == check.OK && len(op.Messages) == 0:
			a.q.drained = true
			a.w.maybeFinish()
		case op.Outcome == check.OK:
			a.confirm(op)
		case op.Outcome == check.Fail: // the cap of messages in flight, or no leader just then
			a.w.after(50*time.Millisecond, a.drain)
		default: // whatever it may have locked comes back
			a.w.after(drainLock+time.Second, a.drain)
		}
	})
}

func (a *actor) confirm(op *check.Op) {
	var handles []cmq.Handle
	for i := range op.Messages {
		handles = append(handles, op.Messages[i].Handle)
	}
	a.remove(check.Delete, handles, func(del *check.Op) {
		if del.Outcome == check.OK {
			a.drain()
			return
		}
		a.confirm(op)
	})
}

func (w *world) maybeFinish() {
	for _, q := range w.queues {
		if !q.drained {
			return
		}
	}
	if !w.oracle.caughtUp() || !w.healed() || w.lostWay() != "" {
		w.after(50*time.Millisecond, w.maybeFinish)
		return
	}
	w.oracle.settled()
	w.phase = finished
}

// whatWaits says what keeps the run from ending.
func (w *world) whatWaits() string {
	s := ""
	for _, n := range w.nodes {
		if !n.up {
			s += fmt.Sprintf("node %d is down; ", n.id)
			continue
		}
		for _, p := range n.replicas {
			st := p.r.Status(n.now())
			s += fmt.Sprintf("node %d set %d: leader %d leading %t term %d log %d..%d commit %d applied %d fetching %t in repair %t; ",
				n.id, p.set, st.Leader, st.Leading, st.Term, st.First, st.Last, st.Committed, st.Applied, st.Fetching, st.Repairing)
		}
	}
	for _, q := range w.queues {
		if w.phase == draining && !q.drained {
			s += "queue " + q.name + " is not drained; "
		}
		if q.push != nil && !q.idle {
			s += "subscription " + q.name + " is not delivered; "
		}
	}
	return s
}

// serveWithMajority heals a majority only. Nodes outside of it stay as they are for ever, and so do the cuts of their
// links; the majority must confirm a send, a receive and a delete on every set in time.
func (w *world) serveWithMajority() {
	inside := w.majority()
	w.net.calm()
	for p, l := range w.net.links {
		if inside[p.from] && inside[p.to] {
			l.cuts = 0
		}
	}
	for _, n := range w.nodes {
		if inside[n.id] {
			n.heal()
		} else if !n.up {
			n.abandoned = true
		}
	}
	w.trace.say(w.now, "majority: %v", inside)
	w.limit = w.now + elections*electionTimeout
	waiting := w.knobs.sets
	for id := cmq.SetID(1); id <= cmq.SetID(w.knobs.sets); id++ {
		w.proveLife(id, func() {
			if waiting--; waiting == 0 {
				w.phase = finished
			}
		})
	}
}

// majority chooses who must serve. A damaged node cannot be counted on.
func (w *world) majority() map[cmq.NodeID]bool {
	inside := map[cmq.NodeID]bool{}
	for _, i := range newStream(w.cfg.Seed, "core").Perm(len(w.nodes)) {
		if n := w.nodes[i]; n.wound == nil && len(inside) < len(w.nodes)/2+1 {
			inside[n.id] = true
		}
	}
	return inside
}

// proveLife sends to a fresh queue of the set, receives from it and deletes, each until it is confirmed.
func (w *world) proveLife(id cmq.SetID, done func()) {
	q := &queue{w: w, name: fmt.Sprint("life ", id), id: cmq.QueueID(1000 + int(id)), set: id, attrs: plain(), version: 1}
	q.shard = q.id.Shard(0)
	a := w.newActor(q, 3000+int(id))
	step := func(req *cmq.Request, then func(r *cmq.Reply)) {
		var try func()
		try = func() {
			a.call(id, req, 2*time.Second, func(ans answer) {
				if ans.outcome == check.OK && (req.Kind != cmq.KindReceive || len(ans.reply.Messages) > 0) {
					then(ans.reply)
					return
				}
				w.after(10*time.Millisecond, try)
			})
		}
		try()
	}
	lock := 2 * time.Second
	step(&cmq.Request{Kind: cmq.KindOpenShard, Shard: q.shard, Attributes: q.attrs, Version: 1}, func(*cmq.Reply) {
		step(&cmq.Request{Kind: cmq.KindSend, Shard: q.shard, Bodies: [][]byte{[]byte("alive")}}, func(*cmq.Reply) {
			step(&cmq.Request{Kind: cmq.KindReceive, Shard: q.shard, Max: 1, Lock: lock}, func(r *cmq.Reply) {
				h := []cmq.Handle{r.Messages[0].Handle}
				step(&cmq.Request{Kind: cmq.KindDelete, Shard: q.shard, Handles: h}, func(*cmq.Reply) { done() })
			})
		})
	})
}
