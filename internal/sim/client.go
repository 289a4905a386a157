package sim

import (
	"errors"
	"time"

	"github.com/opencmq/cmq/internal/check"
	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/engine"
)

// client calls the cluster as a node's router does: it looks for the leader, goes on when it hears "not leader", and
// knows at the end whether the request was carried out, was not, or may have been.
type client struct {
	w     *world
	id    cmq.NodeID // its end of the network's links
	rng   stream
	hint  map[cmq.SetID]cmq.NodeID
	alive func() bool // nil: always
}

// answer is how a call ended.
type answer struct {
	reply   *cmq.Reply
	outcome check.Outcome
	late    bool // the time was up
}

// call is one request on its way.
type call struct {
	c        *client
	set      cmq.SetID
	req      *cmq.Request
	deadline time.Duration
	done     func(answer)
	ended    bool
	current  *attempt
}

// attempt is one try of a call at one node.
type attempt struct {
	call    *call
	node    *node
	inc     int
	engine  *engine.Call
	machine *machine
	gone    bool // the client does not wait any more
	over    bool // the node has answered
}

// call sends a request and reports how it ended, at the latest after the timeout.
func (c *client) call(id cmq.SetID, req *cmq.Request, timeout time.Duration, done func(answer)) *call {
	k := &call{c: c, set: id, req: req, deadline: c.w.now + timeout, done: done}
	c.w.agenda.push(k.deadline, k.timeUp)
	k.try(c.hint[id])
	return k
}

func (k *call) try(to cmq.NodeID) {
	if k.ended {
		return
	}
	w := k.c.w
	if w.node(to) == nil {
		to = pick(k.c.rng, w.nodes).id
	}
	a := &attempt{call: k, node: w.node(to)}
	k.current = a
	w.net.carry(k.c.id, to, false, a.arrive)
}

// again tries once more after a moment; nothing has been done so far.
func (k *call) again(hint cmq.NodeID) {
	k.current = nil
	k.c.hint[k.set] = hint
	wait := k.c.rng.between(time.Millisecond, 40*time.Millisecond)
	if hint == 0 {
		wait += 20 * time.Millisecond
	}
	k.c.w.agenda.push(k.c.w.now+wait, func() { k.try(hint) })
}

func (k *call) end(a answer) {
	if k.ended {
		return
	}
	k.ended = true
	if k.c.alive != nil && !k.c.alive() {
		return
	}
	k.c.w.trace.mix(5, uint64(k.c.w.now), uint64(k.c.id), uint64(k.req.Kind), uint64(len(a.outcome)))
	k.done(a)
}

// timeUp ends the call: nobody knows what becomes of a request that is out.
func (k *call) timeUp() {
	if k.ended {
		return
	}
	a := k.current
	if a == nil {
		k.end(answer{outcome: check.Fail, late: true})
		return
	}
	k.c.hint[k.set] = 0
	a.hangUp()
	k.end(answer{outcome: check.Info, late: true})
}

// hangUp closes the connection: a waiting poll is taken back.
func (a *attempt) hangUp() {
	a.call.c.w.net.carry(a.call.c.id, a.node.id, false, func() {
		a.node.exec(func() {
			a.gone = true
			if a.machine != nil && a.inc == a.node.incarnation && !a.over {
				a.machine.Cancel(a.engine)
				a.machine.p.drive()
			}
		})
	})
}

// arrive is the request at the node.
func (a *attempt) arrive() {
	n := a.node
	if !n.up {
		a.respond(func() { a.call.again(0) }) // connection refused
		return
	}
	a.inc = n.incarnation
	n.exec(func() {
		p := n.replica(a.call.set)
		if !p.r.Leading() {
			leader := p.r.Leader()
			if leader == n.id {
				leader = 0
			}
			a.respond(func() { a.call.again(leader) })
			return
		}
		n.w.trace.mix(6, uint64(n.w.now), uint64(n.id), uint64(a.call.req.Kind), uint64(a.call.req.Shard))
		a.machine = p.m
		n.track(a)
		a.engine = p.m.Submit(p.r.Time(n.now()), a.call.req, func(r *engine.Result, err error) { a.result(p, r, err) })
		p.drive()
	})
}

// track keeps the attempt so that a crash of the node can reset its connection.
func (n *node) track(a *attempt) {
	if len(n.attempts) > 64 {
		open := n.attempts[:0]
		for _, old := range n.attempts {
			if !old.over {
				open = append(open, old)
			}
		}
		n.attempts = open
	}
	n.attempts = append(n.attempts, a)
}

// reset is the connection breaking with the node's process.
func (a *attempt) reset() {
	if a.over {
		return
	}
	a.over = true
	a.respond(func() {
		a.call.c.hint[a.call.set] = 0
		a.call.end(answer{outcome: check.Info})
	})
}

// respond carries something back to the client.
func (a *attempt) respond(f func()) {
	w := a.call.c.w
	if w.loseReply() {
		return
	}
	w.net.carry(a.node.id, a.call.c.id, false, f)
}

// result is the machine's answer, on the node's loop.
func (a *attempt) result(p *replica, r *engine.Result, err error) {
	a.over = true
	k := a.call
	switch {
	case err == nil && a.gone && k.req.Kind == cmq.KindReceive && len(r.Reply.Messages) > 0:
		a.release(p, r)
	case err == nil && r.Unread():
		// The bodies are read by another goroutine, a moment later.
		a.over = false
		p.node.after(p.node.rng.mostly(10*time.Microsecond, 2*p.node.w.knobs.disk), func() { a.fill(p, r) })
	case err == nil:
		reply := r.Reply
		a.respond(func() { k.c.hint[k.set] = a.node.id; k.end(refusal(&reply)) })
	case isNotLeader(err) || errors.Is(err, cmq.ErrDropped) || errors.Is(err, cmq.ErrBusy):
		a.respond(func() { k.again(0) })
	default:
		a.respond(func() { k.end(answer{outcome: check.Info}) })
	}
}

// fill reads the messages. Those that cannot be read here come from the other replicas, a while later.
func (a *attempt) fill(p *replica, r *engine.Result) {
	if a.machine.Fill(r); r.Whole() {
		a.filled(p, r, nil)
		return
	}
	p.node.exec(func() {
		a.machine.Mend(r, func(err error) { a.filled(p, r, err) })
		p.drive()
	})
}

// filled ends the attempt. Messages that are there can be out of reach only if too many replicas are: then the client is
// told to try again later.
func (a *attempt) filled(p *replica, r *engine.Result, err error) {
	a.over = true
	if err != nil {
		p.node.w.oracle.notFilled(p, err)
		a.respond(func() { a.call.end(answer{outcome: check.Info}) })
		return
	}
	reply := r.Reply
	a.respond(func() { a.call.end(refusal(&reply)) })
}

// release undoes a receive nobody waits for, as engine.Service does.
func (a *attempt) release(p *replica, r *engine.Result) {
	undo := &cmq.Request{Kind: cmq.KindRelease, Shard: a.call.req.Shard}
	for i := range r.Reply.Messages {
		undo.Handles = append(undo.Handles, r.Reply.Messages[i].Handle)
	}
	n := p.node
	n.w.stats.hit("receives undone")
	n.after(0, func() {
		p.m.Submit(p.r.Time(n.now()), undo, nil)
		p.drive()
	})
}

// refusal turns a reply into an answer: what the API refuses was not done.
func refusal(reply *cmq.Reply) answer {
	if reply.Err != nil {
		return answer{reply: reply, outcome: check.Fail}
	}
	return answer{reply: reply, outcome: check.OK}
}

func isNotLeader(err error) bool {
	var nl *cmq.NotLeaderError
	return errors.As(err, &nl)
}
