package sim

import (
	"slices"
	"time"

	"github.com/opencmq/cmq/internal/check"
	"github.com/opencmq/cmq/internal/cmq"
)

// Producers of transactional queues prepare messages and decide about them: soon, late, twice, once this and once that
// way, or never. Carriers do what access.Producers does on every node: they wait for queries and hand them to a producer,
// who answers or does not.

// prepare sends one message or a few that are to be decided.
func (a *actor) prepare() {
	op := &check.Op{Kind: check.Prepare}
	req := &cmq.Request{
		Kind: cmq.KindPrepare, Shard: a.q.shard,
		Origin: cmq.Origin{Node: pick(a.rng, a.w.nodes).id, Conn: uint64(a.number)},
	}
	for range 1 + a.rng.IntN(4) {
		b := a.body()
		op.Bodies, req.Bodies = append(op.Bodies, b), append(req.Bodies, []byte(b))
	}
	if a.rng.chance(30) {
		req.Interval = a.rng.between(50*time.Millisecond, time.Second).Truncate(time.Millisecond)
	}
	a.invoke(op)
	a.call(a.q.set, req, time.Second, func(ans answer) {
		if ans.outcome == check.OK {
			op.IDs = ans.reply.IDs
			a.q.prepared = append(a.q.prepared, op.IDs...)
			a.plan(op.IDs)
		}
		a.finish(op, ans)
		a.pausing(a.produce)
	})
}

// produce sends to a transactional queue: mostly prepared messages, some ordinary ones.
func (a *actor) produce() {
	if a.rng.chance(75) {
		a.prepare()
	} else {
		a.send()
	}
}

// plan says what the producer will do about messages it prepared.
func (a *actor) plan(ids []cmq.MsgID) {
	commit := a.rng.chance(60)
	soon := a.rng.mostly(0, 300*time.Millisecond)
	switch p := a.rng.IntN(100); {
	case p < 50:
		a.w.after(soon, func() { a.decideSome(ids, commit) })
	case p < 65:
		a.w.after(a.rng.between(0, 2*time.Second), func() { a.decideSome(ids, commit) })
	case p < 75: // twice, perhaps not the same
		again := a.rng.chance(70) == commit
		a.w.after(soon, func() { a.decideSome(ids, commit) })
		a.w.after(a.rng.mostly(0, time.Second), func() { a.decideSome(ids, again) })
	default: // somebody has to ask
	}
}

func (a *actor) decideSome(ids []cmq.MsgID, commit bool) {
	if a.w.phase == loading {
		a.decide(ids, commit, func(*check.Op) {})
	}
}

// decide commits or rolls back.
func (a *actor) decide(ids []cmq.MsgID, commit bool, then func(op *check.Op)) {
	op := &check.Op{Kind: check.Decide}
	req := &cmq.Request{Kind: cmq.KindDecide, Shard: a.q.shard}
	for _, id := range ids {
		op.Decisions = append(op.Decisions, check.Decision{ID: id, Commit: commit})
		req.Decisions = append(req.Decisions, cmq.Decision{ID: id, Commit: commit})
	}
	a.invoke(op)
	a.call(a.q.set, req, time.Second, func(ans answer) {
		if ans.outcome == check.OK {
			op.Done = make([]bool, len(ids))
			for i := range ids {
				op.Done[i] = ans.reply.Errors[i] == nil
			}
		}
		a.finish(op, ans)
		then(op)
	})
}

// carry waits for queries at some node and passes them on.
func (a *actor) carry() {
	req := &cmq.Request{
		Kind: cmq.KindQueries, Shard: a.q.shard, Max: 1 + a.rng.IntN(10),
		Wait: a.rng.between(50*time.Millisecond, time.Second), Origin: cmq.Origin{Node: pick(a.rng, a.w.nodes).id},
	}
	a.call(a.q.set, req, req.Wait+time.Second, func(ans answer) {
		if ans.outcome == check.OK {
			for _, q := range ans.reply.Queries {
				a.asked(q)
			}
		}
		a.pausing(a.carry)
	})
}

// asked is a query on its way to a producer, who knows, does not know yet, or is gone.
func (a *actor) asked(q cmq.Query) {
	a.w.stats.hit("queries")
	if a.rng.chance(50) {
		commit := a.rng.chance(60)
		a.w.after(a.rng.mostly(0, 200*time.Millisecond), func() { a.decideSome([]cmq.MsgID{q.ID}, commit) })
	}
}

// decideRest commits what nobody has decided about, once the queue is drained, and drains again: nothing undecided may have
// come out before, and none of it may be lost.
func (a *actor) decideRest() {
	const atATime = 16
	if len(a.q.prepared) == 0 {
		a.listPrepared(0, func() {
			a.q.decided = true
			a.drain()
		})
		return
	}
	n := min(atATime, len(a.q.prepared))
	a.decide(a.q.prepared[:n:n], true, func(op *check.Op) {
		if op.Outcome != check.OK {
			a.w.after(50*time.Millisecond, a.decideRest)
			return
		}
		for _, done := range op.Done {
			if done {
				a.w.stats.hit("undecided to the end")
			}
		}
		a.q.confirmed, a.q.prepared = append(a.q.confirmed, a.q.prepared[:n]...), a.q.prepared[n:]
		a.decideRest()
	})
}

// listPrepared looks, as an operator does, at what is prepared behind a message: all that was decided about must be gone
// from it. What is left is of producers who do not know that it is stored.
func (a *actor) listPrepared(after cmq.MsgID, then func()) {
	const atATime = 3
	req := &cmq.Request{Kind: cmq.KindPrepared, Shard: a.q.shard, Max: atATime, Number: uint64(after)}
	a.call(a.q.set, req, time.Second, func(ans answer) {
		if ans.outcome != check.OK {
			a.w.after(50*time.Millisecond, func() { a.listPrepared(after, then) })
			return
		}
		list := ans.reply.Prepared
		for _, p := range list {
			if p.ID <= after || p.Bytes == 0 || slices.Contains(a.q.confirmed, p.ID) {
				a.w.violation("decided and listed", "%s: message %d is listed as prepared: %+v", a.q.name, p.ID, p)
			}
		}
		a.w.stats.hit("lists of what is prepared")
		if len(list) == atATime {
			a.listPrepared(list[atATime-1].ID, then)
			return
		}
		then()
	})
}
