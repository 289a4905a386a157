package sim

import (
	"errors"
	"time"

	"github.com/opencmq/cmq/internal/check"
	"github.com/opencmq/cmq/internal/cmq"
)

// Producers with a session repeat a send until they know what became of it, and now and then one that is long answered.

// session is an actor's producer session.
type session struct {
	id     uint64
	epoch  uint64
	number uint64 // of the newest request
}

// openSession begins a session, as often as it takes.
func (a *actor) openSession() {
	if a.session == nil {
		a.session = &session{id: 1 + uint64(a.number)}
	}
	req := &cmq.Request{Kind: cmq.KindOpenSession, Shard: a.q.shard, Session: cmq.Session{ID: a.session.id}}
	a.call(a.q.set, req, time.Second, func(ans answer) {
		if ans.outcome != check.OK {
			a.pausing(a.openSession)
			return
		}
		a.session.epoch, a.session.number = ans.reply.Number, 0
		a.pausing(a.sendOnce)
	})
}

// sendOnce sends in the session.
func (a *actor) sendOnce() {
	a.session.number++
	op := &check.Op{Kind: check.Send, Session: true}
	req := &cmq.Request{Kind: cmq.KindSend, Shard: a.q.shard, Session: cmq.Session{
		ID: a.session.id, Epoch: a.session.epoch, Number: a.session.number,
	}}
	if a.rng.chance(30) { // this producer has one request out at a time
		req.Session.Acked = a.session.number
	}
	for range 1 + a.rng.IntN(4) {
		b := a.body()
		op.Bodies, req.Bodies = append(op.Bodies, b), append(req.Bodies, []byte(b))
	}
	a.put(op, req, func(again, lost bool) {
		switch {
		case lost:
			a.pausing(a.openSession)
		case again:
			a.repeat(op, req)
		default:
			if op.Outcome == check.OK && a.rng.chance(20) { // a repetition that was on its way for long
				a.w.after(a.rng.mostly(0, 2*time.Second), func() { a.putAgain(op, req, func(bool, bool) {}) })
			}
			a.pausing(a.sendOnce)
		}
	})
}

// repeat puts the request again until its outcome is known.
func (a *actor) repeat(op *check.Op, req *cmq.Request) {
	a.pausing(func() {
		a.putAgain(op, req, func(again, lost bool) {
			switch {
			case lost:
				a.openSession()
			case again:
				a.repeat(op, req)
			default:
				a.pausing(a.sendOnce)
			}
		})
	})
}

func (a *actor) putAgain(op *check.Op, req *cmq.Request, then func(again, lost bool)) {
	if a.w.phase != loading {
		return
	}
	a.w.stats.hit("sends repeated")
	a.put(&check.Op{Kind: check.Resend, Bodies: op.Bodies, Session: true}, req, then)
}

// put makes one attempt. again says that its outcome is unknown, lost that it will remain so.
func (a *actor) put(op *check.Op, req *cmq.Request, then func(again, lost bool)) {
	a.invoke(op)
	a.call(a.q.set, req, time.Second, func(ans answer) {
		lost := false
		switch {
		case ans.outcome == check.OK:
			op.IDs = ans.reply.IDs
		case ans.reply != nil && ans.reply.Err != nil:
			lost = errors.Is(ans.reply.Err, cmq.ErrSession) || errors.Is(ans.reply.Err, cmq.ErrRequestOld)
		}
		if lost {
			ans.outcome = check.Info
		}
		a.finish(op, ans)
		then(ans.outcome == check.Info, lost)
	})
}
