package sim

import (
	"fmt"
	"time"

	"github.com/opencmq/cmq/internal/check"
	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/dispatch/push/course"
)

// A topic of some runs has subscriptions that push. What is decided there is decided by package course, as in a server; the
// couriers below do what those of package push do: ask, deliver, write down. A courier is on the node that leads, or thinks
// so, and ends with it; endpoints (endpoint.go) outlive all.
//
// Schedules last minutes, and runs 20 seconds. So couriers live faster: to a course all times look haste times as long as
// they are.
const haste = 20

// slower is a time of the cluster as a course sees it, faster one of a course as the cluster sees it: in whole milliseconds, and
// never less.
func slower(d time.Duration) time.Duration { return d * haste }

func faster(d time.Duration) time.Duration {
	return (d/haste + time.Millisecond - 1).Truncate(time.Millisecond)
}

// outlet is a subscription that pushes. Its shard is a queue of the run.
type outlet struct {
	topic    *cmq.Topic
	sub      *cmq.Subscription
	endpoint *endpoint
	patience time.Duration // of a try with the endpoint
}

// makePushes makes a topic with two subscriptions that push, one of them in order, in some seeds.
func (w *world) makePushes(add func(name string) *queue) {
	s := newStream(w.cfg.Seed, "pushes")
	if !s.chance(35) {
		return
	}
	id := cmq.QueueID(700 + 100*len(w.topics))
	t := &topic{w: w, id: cmq.TopicID(id), place: &queue{w: w, name: "orders", set: cmq.SetID(1 + s.IntN(w.knobs.sets))}}
	w.topics = append(w.topics, t)
	shop := &cmq.Subscription{Name: "shop", Strategy: cmq.ExponentialRetry}
	shop.Push.Concurrency = pick(s, []int{0, 0, 1, 4})
	shop.Push.Rate = pick(s, []int{0, 0, 1})
	bank := &cmq.Subscription{Name: "bank", Strategy: cmq.BackoffRetry, Tags: []string{"red", "blue"}}
	if s.chance(40) {
		bank.Strategy, bank.Push.Ordered = cmq.ExponentialRetry, true
	}
	for _, sub := range []*cmq.Subscription{shop, bank} {
		t.push(s, sub, add)
	}
}

// push adds a subscription that pushes. What it gives up goes to a dead-letter queue or nowhere.
func (t *topic) push(s stream, sub *cmq.Subscription, add func(name string) *queue) {
	w := t.w
	q := add(sub.Name)
	q.load, q.fed, q.set = false, true, t.place.set
	sub.ID, sub.Topic, sub.Protocol = cmq.SubscriptionID(q.id), t.id, cmq.ProtocolHTTP
	q.shard = sub.ID.Shard()
	if sub.Strategy == cmq.BackoffRetry && s.chance(60) {
		q.dead = add(sub.Name + " dead")
		q.dead.load = false
		sub.Push.DeadLetter = q.dead.id
	}
	q.push = &outlet{
		topic:    &cmq.Topic{ID: t.id, Name: t.place.name, Set: t.place.set, Filter: cmq.FilterTags, MsgRetention: pick(s, []time.Duration{time.Hour, time.Hour, 5 * time.Second})},
		sub:      sub,
		endpoint: newEndpoint(w, q),
		patience: pick(s, []time.Duration{15 * time.Second, 15 * time.Second, time.Minute}),
	}
	q.attrs = sub.ShardAttributes(q.push.topic)
	t.subscriptions = append(t.subscriptions, &subscription{
		Subscription: check.Subscription{Name: sub.Name, Queue: q.name, Tags: sub.Tags}, id: sub.ID, to: q,
	})
}

// schedule is what the documents promise (http-api.md 4.4), in the time of the cluster.
func (o *outlet) schedule() *check.Schedule {
	s := &check.Schedule{
		Tries: 177, FromTry: true, Rest: time.Second / haste, Lock: faster(course.LockTime), InOrder: o.sub.InOrder(),
		Slack: 2 * time.Millisecond, DeadNext: o.sub.Push.DeadLetter != 0,
	}
	if o.sub.Strategy == cmq.BackoffRetry {
		s.Tries, s.FromTry, s.Pauses = 4, false, []check.Pause{{Least: 19 * time.Second / haste, Most: 29 * time.Second / haste}}
		return s
	}
	for seconds := time.Duration(1); seconds <= 512; seconds *= 2 {
		s.Pauses = append(s.Pauses, check.Pause{Least: seconds * time.Second / haste, Most: seconds * time.Second / haste})
	}
	return s
}

// pushes lists the queues of the subscriptions that push.
func (w *world) pushes() (list []*queue) {
	for _, q := range w.queues {
		if q.push != nil {
			list = append(list, q)
		}
	}
	return list
}

// beginPushing starts couriers and endpoints, once all subscriptions are known.
func (w *world) beginPushing() {
	for _, q := range w.pushes() {
		q.push.endpoint.begin()
		w.alter(q, newStream(w.cfg.Seed, "settings of "+q.name))
	}
	for _, n := range w.nodes {
		for _, p := range n.replicas {
			p.updateCouriers()
		}
	}
}

// alter changes now and then what the subscription says: its limits, and whether anything is delivered. Behind the faults
// everything is.
func (w *world) alter(q *queue, s stream) {
	w.after(s.between(500*time.Millisecond, 5*time.Second), func() {
		sub := *q.push.sub
		sub.Push.Concurrency, sub.Push.Rate = pick(s, []int{0, 0, 1, 4}), pick(s, []int{0, 0, 1})
		sub.Push.Paused = s.chance(25) && w.phase == loading
		q.push.sub = &sub
		w.stats.hit("subscriptions changed")
		for _, n := range w.nodes {
			for _, p := range n.replicas {
				n.after(s.between(0, 200*time.Millisecond), p.updateCouriers)
			}
		}
		if w.phase == loading {
			w.alter(q, s)
		}
	})
}

// lookForCouriers notices that the replica has begun or ceased to lead. The node hears of that a moment later.
func (p *replica) lookForCouriers() {
	leading := p.r.Leading()
	if leading == p.pushing {
		return
	}
	if p.pushing = leading; len(p.node.w.pushes()) > 0 {
		p.node.after(p.node.rng.between(0, 50*time.Millisecond), p.updateCouriers)
	}
}

// updateCouriers lets the subscriptions of the set be delivered from here as they are now, if the replica leads.
func (p *replica) updateCouriers() {
	w := p.node.w
	var kept []*courier
	for i, q := range w.pushes() {
		c := p.courier(q)
		wanted := p.pushing && q.set == p.set && !q.push.sub.Push.Paused && w.phase >= loading && w.phase < draining
		switch {
		case c != nil && !wanted:
			c.close()
		case c != nil:
			c.change()
			kept = append(kept, c)
		case wanted:
			c = newCourier(p.node, q, i)
			kept = append(kept, c)
			c.step()
		}
	}
	p.couriers = kept
}

// courier finds the one for the subscription; nil: there is none here.
func (p *replica) courier(q *queue) *courier {
	for _, c := range p.couriers {
		if c.q == q {
			return c
		}
	}
	return nil
}

// endPushing waits until nothing is left to be delivered, and ends all couriers.
func (w *world) endPushing(then func()) {
	waiting := w.pushes()
	if len(waiting) == 0 {
		then()
		return
	}
	n := len(waiting)
	for i, q := range waiting {
		w.newActor(q, 6000+i).whenEmpty(func() {
			if n--; n == 0 {
				w.after(endOfTries, func() { w.stopPushing(); then() })
			}
		})
	}
}

// endOfTries is how long a try may go on whose message is gone, and how long dead letters are on their way.
const endOfTries = 3 * time.Second

func (w *world) stopPushing() {
	for _, n := range w.nodes {
		for _, p := range n.replicas {
			for _, c := range p.couriers {
				c.close()
			}
		}
	}
}

// whenEmpty asks until the queue has nothing any more.
func (a *actor) whenEmpty(then func()) {
	a.call(a.q.set, &cmq.Request{Kind: cmq.KindStatus, Shard: a.q.shard}, time.Second, func(ans answer) {
		if ans.outcome == check.OK && ans.reply.Status.Active+ans.reply.Status.Inactive+ans.reply.Status.Delayed == 0 {
			a.q.idle = true
			then()
			return
		}
		a.w.after(50*time.Millisecond, func() { a.whenEmpty(then) })
	})
}

// courier delivers for one subscription.
type courier struct {
	*actor
	node   *node
	course *course.Course
	asked  *call // of the course; nil: it waits
	turn   int   // of steps; a wait for an earlier one is over
	closed bool
}

func newCourier(n *node, q *queue, i int) *courier {
	inc := n.incarnation
	return &courier{node: n, course: course.New(q.push.sub), actor: &actor{q: q, number: 4000 + 10*int(n.id) + i, client: &client{
		w: n.w, id: n.id, rng: newStream(n.w.cfg.Seed, fmt.Sprint("courier ", n.id, inc, q.name, n.w.now)), hint: map[cmq.SetID]cmq.NodeID{q.set: n.id},
		alive: func() bool { return n.up && n.incarnation == inc },
	}}}
}

// now is what the course takes for the time.
func (c *courier) now() time.Time { return time.Unix(0, 0).Add(slower(c.node.now().Mono)) }

// pause lets a time of the course pass. The node's clock may run slow.
func (c *courier) pause(d time.Duration, then func()) {
	d = max(d, 0)/haste + time.Microsecond
	c.node.after(d+d/1000, then)
}

// step does what the course wants next.
func (c *courier) step() {
	if c.closed || c.asked != nil {
		return
	}
	c.turn++
	turn, step := c.turn, c.course.Next(c.now())
	switch {
	case step.Ask != nil:
		c.asked = c.ask(step.Ask, func(reply *cmq.Reply, err error) {
			c.asked = nil
			for _, t := range c.course.Answered(c.now(), reply, err) {
				c.begin(t)
			}
			c.step()
		})
	case !step.Until.IsZero():
		c.pause(step.Until.Sub(c.now()), func() {
			if c.turn == turn {
				c.step()
			}
		})
	}
}

// change takes over what the subscription says by now.
func (c *courier) change() {
	c.course.Change(c.q.push.sub)
	c.step()
}

// close ends receiving. Tries go on.
func (c *courier) close() {
	c.closed = true
	if c.asked != nil {
		c.asked.timeUp()
	}
}

// ask carries out a request of the course and writes it into the history.
func (c *courier) ask(of *cmq.Request, then func(*cmq.Reply, error)) *call {
	req := *of
	req.Lock, req.Wait = faster(of.Lock), faster(of.Wait)
	op := &check.Op{Max: req.Max, Lock: req.Lock, Handles: req.Handles}
	switch req.Kind {
	case cmq.KindReceive:
		op.Kind = check.Receive
	case cmq.KindDelete:
		op.Kind = check.Delete
	case cmq.KindRelock:
		op.Kind = check.Relock
	default: // it changes nothing
		op = nil
	}
	if op != nil {
		c.invoke(op)
	}
	return c.call(c.q.set, &req, req.Wait+time.Second, func(ans answer) {
		c.node.exec(func() {
			if op != nil {
				c.note(op, ans)
			}
			then(toCourse(ans, of.Lock))
		})
	})
}

func (c *courier) note(op *check.Op, ans answer) {
	if op.Kind == check.Receive {
		c.took(op, ans)
	} else {
		c.done(op, ans)
	}
	c.finish(op, ans)
}

// toCourse is the answer as a course wants it, with its times.
func toCourse(ans answer, lock time.Duration) (*cmq.Reply, error) {
	switch {
	case ans.outcome == check.Info:
		return nil, cmq.ErrUnknownOutcome
	case ans.reply == nil:
		return nil, cmq.ErrBusy
	case ans.reply.Err != nil:
		return nil, ans.reply.Err
	}
	reply := *ans.reply
	reply.Messages = append([]cmq.Message(nil), reply.Messages...)
	for i := range reply.Messages {
		m := &reply.Messages[i]
		age := m.NextVisible.Add(-faster(lock)).Sub(m.Enqueued)
		m.NextVisible = m.Enqueued.Add(slower(age) + lock)
	}
	return &reply, nil
}

// try is one try of a courier.
type try struct {
	*course.Try
	c     *courier
	ended bool
}

// begin sends the message to the endpoint, and keeps its lock until there is an outcome.
func (c *courier) begin(of *course.Try) {
	t := &try{Try: of, c: c}
	e, inc := c.q.push.endpoint, c.node.incarnation
	c.w.net.carry(c.node.id, e.id, false, func() { e.take(t, inc) })
	c.pause(c.q.push.patience, func() { t.end(course.Outcome{}) })
	t.keep()
}

func (t *try) keep() {
	t.c.pause(course.KeepEvery, func() {
		if t.ended {
			return
		}
		asked := t.c.now()
		t.c.ask(t.Keep(), func(reply *cmq.Reply, err error) {
			if !t.ended {
				t.Kept(asked, reply, err)
				t.keep()
			}
		})
		t.c.w.stats.hit("locks kept")
	})
}

// end is the answer of the endpoint, or the end of the courier's patience.
func (t *try) end(o course.Outcome) {
	if t.ended {
		return
	}
	t.ended = true
	o.Random = t.c.rng.Float64()
	v := t.Ended(t.c.now(), o)
	t.c.w.stats.hit([...]string{course.Delivered: "pushed", course.Again: "push retries", course.Dead: "pushes given up to a dead-letter queue", course.Dropped: "pushes given up"}[v.Fate])
	t.write(v.Write)
}

func (t *try) write(req *cmq.Request) {
	t.c.ask(req, func(reply *cmq.Reply, err error) {
		pause, end := t.Written(t.c.now(), reply, err)
		switch {
		case pause > 0:
			t.c.pause(pause, func() { t.write(req) })
			return
		case end.Lost:
			t.c.w.stats.hit("pushes not written down")
		case end.Opened:
			t.c.w.stats.hit("circuits opened")
		}
		t.c.step()
	})
}
