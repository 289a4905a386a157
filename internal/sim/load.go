package sim

import (
	"fmt"
	"strings"
	"time"

	"github.com/opencmq/cmq/internal/check"
	"github.com/opencmq/cmq/internal/cmq"
)

// actor is one client program working on one queue. It does one thing after the other.
type actor struct {
	*client
	q       *queue
	number  int
	counter int // of the bodies it made
	session *session
}

func (w *world) newActor(q *queue, number int) *actor {
	return &actor{q: q, number: number, client: &client{
		w: w, id: cmq.NodeID(100 + number), rng: newStream(w.cfg.Seed, fmt.Sprint("client ", number)), hint: map[cmq.SetID]cmq.NodeID{},
	}}
}

// begin starts the nodes, opens the queues and then lets the clients and the faults loose.
func (w *world) begin() {
	for _, n := range w.nodes {
		if err := n.create(); err != nil {
			w.violation("simulator", "node %d cannot be set up: %v", n.id, err)
			return
		}
		n.start()
	}
	w.makeQueues()
	w.makeFaults()
	for i, q := range w.queues {
		if q.push == nil {
			w.newActor(q, i).openQueue()
		}
	}
	for i, t := range w.topics {
		w.newActor(t.place, 500+i).subscribe(t, t.subscriptions)
	}
}

func (a *actor) invoke(op *check.Op) *check.Op {
	op.Client, op.Queue, op.Call = a.number, a.q.name, a.w.now
	switch a.w.phase {
	case settling:
		op.Phase = check.PhaseQuiet
	case draining:
		op.Phase = check.PhaseDrain
	}
	return a.w.history.Invoke(op)
}

func (a *actor) finish(op *check.Op, ans answer) {
	op.Finish(a.w.now, ans.outcome)
	if a.w.trace.on() {
		a.w.trace.say(a.w.now, "client %d %s %s: %s%s", a.number, op.Kind, a.q.name, ans.outcome, detail(op, ans))
	}
}

func detail(op *check.Op, ans answer) string {
	var b strings.Builder
	for i, body := range op.Bodies {
		fmt.Fprintf(&b, " %.12q", body)
		if ans.outcome == check.OK {
			fmt.Fprintf(&b, "=%d", op.IDs[i])
		}
	}
	if op.Delay > 0 {
		fmt.Fprintf(&b, " delay %v", op.Delay)
	}
	for i := range op.Messages {
		m := &op.Messages[i]
		fmt.Fprintf(&b, " %d (%.12q, handle %d, count %d)", m.ID, m.Body, m.Handle, m.Count)
	}
	if len(op.Handles) > 0 {
		fmt.Fprintf(&b, " handles %v done %v", op.Handles, op.Done)
	}
	if len(op.Decisions) > 0 {
		fmt.Fprintf(&b, " %v done %v", op.Decisions, op.Done)
	}
	if op.Counts != nil {
		fmt.Fprintf(&b, " %+v", *op.Counts)
	}
	if ans.reply != nil && ans.reply.Err != nil {
		fmt.Fprintf(&b, " %v", ans.reply.Err)
	}
	fmt.Fprintf(&b, " [%d, called at %.6f]", op.ID, op.Call.Seconds())
	return b.String()
}

// pausing calls next after a while, as long as clients are at work.
func (a *actor) pausing(next func()) {
	wait := a.rng.mostly(0, 3*a.w.knobs.think)
	a.w.after(wait, func() {
		if a.w.phase == loading {
			next()
		}
	})
}

func (a *actor) openQueue() {
	q := a.q
	op := a.invoke(&check.Op{Kind: check.Set, Settings: q.settings()})
	req := &cmq.Request{Kind: cmq.KindOpenShard, Shard: q.shard, Attributes: q.attrs, Version: q.version}
	a.call(q.set, req, 5*time.Second, func(ans answer) {
		a.finish(op, ans)
		if ans.outcome != check.OK {
			a.openQueue()
			return
		}
		q.open = true
		a.w.opened()
	})
}

// ready reports whether all queues and subscriptions are there.
func (w *world) ready() bool {
	for _, q := range w.queues {
		if !q.open {
			return false
		}
	}
	return w.subscribed()
}

// opened starts the load once all queues are there.
func (w *world) opened() {
	if !w.ready() {
		return
	}
	w.phase = loading
	w.beginPushing()
	number := len(w.queues)
	next := func(q *queue) *actor {
		number++
		return w.newActor(q, number)
	}
	for _, q := range w.queues {
		if q.push != nil { // its only consumers are couriers
			continue
		}
		for range w.knobs.producers {
			if q.load {
				a := next(q)
				switch {
				case q.attrs.Transaction.On:
					a.pausing(a.produce)
				case !q.delays && a.rng.chance(40):
					a.pausing(a.openSession)
				default:
					a.pausing(a.send)
				}
			}
		}
		for range w.knobs.consumers {
			a := next(q)
			a.pausing(a.receive)
		}
		a := next(q)
		a.pausing(a.manage)
		if q.attrs.Transaction.On {
			for range 2 {
				a := next(q)
				a.pausing(a.carry)
			}
		}
	}
	for _, t := range w.topics {
		number = t.begin(number)
	}
	for _, f := range w.faults {
		f.plan()
	}
}

// body makes the next body of this client: unlike any other, and long enough to be torn.
func (a *actor) body() string {
	a.counter++
	name := fmt.Sprintf("c%d.%d.", a.number, a.counter)
	n := max(1, a.rng.IntN(a.w.knobs.maxBody)/len(name))
	return strings.Repeat(name, n)
}

// send sends one message or a batch, at once or delayed.
func (a *actor) send() {
	n := 1
	if a.rng.chance(30) {
		n = 2 + a.rng.IntN(6)
	}
	op := &check.Op{Kind: check.Send}
	req := &cmq.Request{Kind: cmq.KindSend, Shard: a.q.shard}
	for range n {
		b := a.body()
		op.Bodies, req.Bodies = append(op.Bodies, b), append(req.Bodies, []byte(b))
	}
	if a.q.delays && a.rng.chance(50) {
		op.Delay = a.rng.between(time.Millisecond, maxDelay).Truncate(time.Millisecond)
		req.Delay = op.Delay
	}
	timeout := time.Second
	if a.rng.chance(20) { // long enough for the answer of a leader that was cut off for a while
		timeout = 12 * time.Second
	}
	a.invoke(op)
	a.call(a.q.set, req, timeout, func(ans answer) {
		if ans.outcome == check.OK {
			op.IDs = ans.reply.IDs
		}
		a.finish(op, ans)
		if a.q.attrs.Transaction.On {
			a.pausing(a.produce)
		} else {
			a.pausing(a.send)
		}
	})
}

// receive asks for messages, waits or not, gives up early or not.
func (a *actor) receive() {
	req := &cmq.Request{
		Kind: cmq.KindReceive, Shard: a.q.shard, Max: 1 + a.rng.IntN(5),
		Lock: a.rng.between(minLock, maxLock).Truncate(time.Millisecond),
	}
	if a.rng.chance(60) {
		req.Wait = a.rng.between(50*time.Millisecond, time.Second)
	}
	timeout := req.Wait + time.Second
	if a.rng.chance(10) {
		timeout = a.rng.between(time.Millisecond, 300*time.Millisecond)
	}
	a.take(req, timeout, func(op *check.Op) {
		a.treat(op)
		a.pausing(a.receive)
	})
}

// take receives and hands over the operation when it has ended.
func (a *actor) take(req *cmq.Request, timeout time.Duration, then func(op *check.Op)) {
	op := a.invoke(&check.Op{Kind: check.Receive, Max: req.Max, Lock: req.Lock})
	a.call(a.q.set, req, timeout, func(ans answer) {
		a.took(op, ans)
		a.finish(op, ans)
		then(op)
	})
}

// took notes what was received.
func (a *actor) took(op *check.Op, ans answer) {
	if ans.outcome != check.OK {
		return
	}
	for i := range ans.reply.Messages {
		m := &ans.reply.Messages[i]
		op.Messages = append(op.Messages, check.Delivery{
			ID: m.ID, Handle: m.Handle, Body: string(m.Body), Count: m.DequeueCount,
			Enqueued: m.Enqueued.UnixMilli(), Until: m.NextVisible.UnixMilli(),
		})
		a.q.remember(m.Handle)
		a.q.compareSource(m)
	}
}

// compareSource holds what a dead letter says about where it died against what is known of that queue.
func (q *queue) compareSource(m *cmq.Message) {
	if q.load || q.fed {
		if q.sent == nil {
			q.sent = map[cmq.MsgID]int64{}
		}
		q.sent[m.ID] = m.Enqueued.UnixMilli()
		if m.Source != nil && !q.w.diesInto(m.Source.Queue, q) {
			q.w.violation("source of a dead letter", "%s: message %d says that it died in %d", q.name, m.ID, m.Source.Queue)
		}
		return
	}
	if m.Source == nil || q.w.queueByID(m.Source.Queue) == nil || q.w.queueByID(m.Source.Queue).dead != q {
		q.w.violation("source of a dead letter", "%s: message %d came from %+v", q.name, m.ID, m.Source)
		return
	}
	from := q.w.queueByID(m.Source.Queue)
	sent, seen := from.sent[m.ID]
	unread := m.Source.DequeueCount < 1 && from.attrs.DeadLetter.Policy == cmq.PolicyReceives
	if unread || seen && sent != m.Source.Enqueued.UnixMilli() {
		q.w.violation("source of a dead letter", "%s: message %d came from %+v, and was sent there at %d", q.name, m.ID, m.Source, sent)
	}
	q.w.stats.hit("sources of dead letters compared")
}

// diesInto reports whether it is a subscription whose dead letters go to the queue.
func (w *world) diesInto(subscription cmq.QueueID, q *queue) bool {
	s := w.outbox(subscription.Shard(0))
	return s != nil && s.patience > 0 && s.to == q
}

// remember keeps a few handles for clients that use old ones.
func (q *queue) remember(h cmq.Handle) {
	const most = 40
	if len(q.handles) == most {
		q.handles = q.handles[1:]
	}
	q.handles = append(q.handles, h)
}

// treat does with each message what consumers do: delete it soon, late, twice, never, or give it back.
func (a *actor) treat(op *check.Op) {
	var soon []cmq.Handle
	for i := range op.Messages {
		h := op.Messages[i].Handle
		p := a.rng.IntN(100)
		if a.w.knobs.tidy && p >= 75 {
			p = 0
		}
		switch {
		case p < 55:
			soon = append(soon, h)
		case p < 75: // about when the lock ends, or later
			a.w.after(op.Lock/2+a.rng.between(0, 2*op.Lock), func() { a.handle(check.Delete, []cmq.Handle{h}) })
		case p < 80:
			a.handle(check.Delete, []cmq.Handle{h})
			a.w.after(a.rng.between(0, 300*time.Millisecond), func() { a.handle(check.Delete, []cmq.Handle{h}) })
		case p < 85:
			a.w.after(a.rng.between(0, op.Lock), func() { a.handle(check.Release, []cmq.Handle{h}) })
		case p < 94:
			a.w.after(a.rng.between(0, op.Lock), func() { a.relock(h) })
		}
	}
	if len(soon) > 0 {
		a.w.after(a.rng.mostly(0, 100*time.Millisecond), func() { a.handle(check.Delete, soon) })
	}
}

// relock gives a message back, or shortens or extends its lock and deletes it about when the new one ends.
func (a *actor) relock(h cmq.Handle) {
	if a.w.phase != loading {
		return
	}
	lock := a.rng.between(minLock, maxLock).Truncate(time.Millisecond)
	if a.rng.chance(30) {
		lock = 0
	}
	op := a.invoke(&check.Op{Kind: check.Relock, Handles: []cmq.Handle{h}, Lock: lock})
	req := &cmq.Request{Kind: cmq.KindRelock, Shard: a.q.shard, Handles: op.Handles, Lock: lock}
	a.call(a.q.set, req, time.Second, func(ans answer) {
		a.done(op, ans)
		a.finish(op, ans)
		if ans.outcome == check.OK && op.Done[0] {
			a.w.stats.hit("locks changed")
		}
		if a.rng.chance(50) {
			a.w.after(a.rng.between(lock/2, 3*lock/2), func() { a.handle(check.Delete, op.Handles) })
		}
	})
}

// done notes which handles were not refused.
func (a *actor) done(op *check.Op, ans answer) {
	if ans.outcome != check.OK {
		return
	}
	op.Done = make([]bool, len(op.Handles))
	for i := range op.Handles {
		op.Done[i] = i >= len(ans.reply.Errors) || ans.reply.Errors[i] == nil
	}
}

// handle deletes or releases.
func (a *actor) handle(kind check.Kind, handles []cmq.Handle) {
	if a.w.phase == loading {
		a.remove(kind, handles, func(*check.Op) {})
	}
}

func (a *actor) remove(kind check.Kind, handles []cmq.Handle, then func(op *check.Op)) {
	op := a.invoke(&check.Op{Kind: kind, Handles: handles})
	req := &cmq.Request{Kind: cmq.KindDelete, Shard: a.q.shard, Handles: handles}
	if kind == check.Release {
		req.Kind = cmq.KindRelease
	}
	a.call(a.q.set, req, time.Second, func(ans answer) {
		if kind == check.Delete {
			a.done(op, ans)
		}
		a.finish(op, ans)
		then(op)
	})
}

// manage does what is done to a queue now and then.
func (a *actor) manage() {
	next := func() { a.pausing(a.manage) }
	switch p := a.rng.IntN(100); {
	case p < 25:
		a.status(func(*check.Op) { next() })
	case p < 55 && len(a.q.handles) > 0:
		a.remove(check.Delete, []cmq.Handle{pick(a.rng, a.q.handles)}, func(*check.Op) { next() })
	case p >= 60 && p < 85 && a.q.attrs.Rewind > 0:
		a.rewind(next)
	case p == 85 && a.w.knobs.clears:
		a.clear(next)
	case p > 90:
		a.set(next)
	default:
		next()
	}
}

func (a *actor) status(then func(op *check.Op)) {
	op := a.invoke(&check.Op{Kind: check.Status})
	a.call(a.q.set, &cmq.Request{Kind: cmq.KindStatus, Shard: a.q.shard}, time.Second, func(ans answer) {
		if ans.outcome == check.OK {
			s := ans.reply.Status
			op.Counts = &check.Counts{Active: s.Active, Inactive: s.Inactive, Delayed: s.Delayed, Rewindable: s.Rewindable, Prepared: s.Prepared}
		}
		a.finish(op, ans)
		then(op)
	})
}

func (a *actor) rewind(next func()) {
	back := a.rng.mostly(0, min(a.q.attrs.Rewind, 10*time.Second))
	to := time.UnixMilli(epoch + (a.w.now - back).Milliseconds())
	op := a.invoke(&check.Op{Kind: check.Rewind, To: to.UnixMilli()})
	a.call(a.q.set, &cmq.Request{Kind: cmq.KindRewind, Shard: a.q.shard, Time: to}, time.Second, func(ans answer) {
		a.finish(op, ans)
		if ans.outcome == check.OK {
			a.w.stats.hit("rewinds")
		}
		next()
	})
}

func (a *actor) clear(next func()) {
	op := a.invoke(&check.Op{Kind: check.Clear})
	a.call(a.q.set, &cmq.Request{Kind: cmq.KindClear, Shard: a.q.shard}, time.Second, func(ans answer) {
		a.finish(op, ans)
		if ans.outcome == check.OK {
			a.w.stats.hit("clears")
		}
		next()
	})
}

// set changes an attribute. The new one is in the history whether the change arrives or not: the rules then allow both.
func (a *actor) set(next func()) {
	q := a.q
	switch {
	case q.attrs.DeadLetter.MaxReceiveCount > 0:
		q.attrs.DeadLetter.MaxReceiveCount = 1 + a.rng.IntN(3)
	case q.attrs.MaxInFlight < 10:
		q.attrs.MaxInFlight = 1 + a.rng.IntN(5)
	case q.attrs.Rewind > 0 && a.rng.chance(20) && !a.w.knobs.tidy:
		q.attrs.Rewind = a.rng.between(time.Second, time.Hour).Truncate(time.Second)
	default:
		q.attrs.VisibilityTimeout = a.rng.between(time.Second, 3*time.Second).Truncate(time.Second)
	}
	q.version++
	op := a.invoke(&check.Op{Kind: check.Set, Settings: q.settings()})
	req := &cmq.Request{Kind: cmq.KindSetShard, Shard: q.shard, Attributes: q.attrs, Version: q.version}
	a.call(q.set, req, time.Second, func(ans answer) {
		a.finish(op, ans)
		next()
	})
}
