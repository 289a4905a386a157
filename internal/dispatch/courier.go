package dispatch

import (
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// What the outboxes of one topic have for queues of another set goes there together, so that a message which many of them have
// is written there once:
//
//	outbox 1 ── list ──► offer ──┐
//	outbox 2 ── list ──► offer ──┼──► courier ── spread ──► set of the queues
//	outbox 3 ── list …           │        │
//	                     forget, list … ◄─┘ an answer for each
//
// Before it goes, a courier waits for the outboxes of its topic that are just being looked at: most likely they have the same
// messages. It waits for linger at most, and for one that is late not again before that has offered something. A queue that is
// full or gone is no concern of the courier: its outbox gets that for an answer, and comes again when it thinks fit.

// linger is how long a courier waits for outboxes that are being looked at. To forget a batch and to list the next one takes as
// long as a commit does.
const linger = 20 * time.Millisecond

// topicKey names a topic on the set that it is published to.
type topicKey struct {
	set   cmq.SetID
	topic cmq.ShardID
}

// topic is what the mover knows of the outboxes of a topic; Mover.mu guards it.
type topic struct {
	looked   map[cmq.ShardID]bool // outboxes that are being looked at
	couriers map[cmq.SetID]*courier
}

// courier carries what outboxes of one topic have for queues of one set.
type courier struct {
	m      *Mover
	key    topicKey
	to     cmq.SetID
	offers []*offer // oldest first; Mover.mu guards it
	bodies map[cmq.MsgID][]byte
	wake   chan struct{} // something has changed that it waits for
}

// offer is what one outbox has for a queue, waiting for a courier.
type offer struct {
	shard    cmq.ShardID // of the outbox
	to       cmq.ShardID
	list     *cmq.Reply
	answered chan verdict
}

// verdict is what became of an offer.
type verdict struct {
	next uint64 // number wanted next
	err  error
}

// look notes that the outbox is being looked at.
func (m *Mover) look(key topicKey, shard cmq.ShardID) {
	if key.topic == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.topicOf(key).looked[shard] = true
}

// leave notes that the outbox has nothing to offer now.
func (m *Mover) leave(key topicKey, shard cmq.ShardID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t := m.topics[key]; t != nil {
		t.gone(shard)
		m.tidy(key, t)
	}
}

// topicOf finds or makes what is known of the topic.
func (m *Mover) topicOf(key topicKey) *topic {
	t := m.topics[key]
	if t == nil {
		t = &topic{looked: make(map[cmq.ShardID]bool), couriers: make(map[cmq.SetID]*courier)}
		m.topics[key] = t
	}
	return t
}

// tidy forgets a topic of which nothing is known.
func (m *Mover) tidy(key topicKey, t *topic) {
	if len(t.looked)+len(t.couriers) == 0 {
		delete(m.topics, key)
	}
}

// gone notes that nobody has to wait for the outbox.
func (t *topic) gone(shard cmq.ShardID) {
	delete(t.looked, shard)
	for _, c := range t.couriers {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

// offer gives the courier to a set what an outbox has, and waits for what becomes of it.
func (m *Mover) offer(key topicKey, to cmq.SetID, o *offer) verdict {
	m.mu.Lock()
	t := m.topicOf(key)
	c := t.couriers[to]
	if c == nil {
		c = &courier{m: m, key: key, to: to, bodies: make(map[cmq.MsgID][]byte), wake: make(chan struct{}, 1)}
		t.couriers[to] = c
		m.wg.Add(1) // the caller is waited for, so Close still waits
		go c.run()
	}
	c.take(o)
	t.gone(o.shard)
	m.mu.Unlock()
	select {
	case v := <-o.answered:
		return v
	case <-m.ctx.Done():
		return verdict{err: m.ctx.Err()}
	}
}

// take takes an offer. Many have the same messages, which need memory once.
func (c *courier) take(o *offer) {
	for i := range o.list.Messages {
		msg := &o.list.Messages[i]
		if body, known := c.bodies[msg.ID]; known {
			msg.Body = body
		} else {
			c.bodies[msg.ID] = msg.Body
		}
	}
	c.offers = append(c.offers, o)
}

// run carries offers until there are none.
func (c *courier) run() {
	defer c.m.wg.Done()
	for {
		offers := c.gather()
		if len(offers) == 0 {
			return
		}
		l := pack(offers)
		c.giveBack(l.rest)
		reply, err := c.m.arrive(c.to, l.request())
		c.answer(l, reply, err)
	}
}

// gather waits until those have offered something who are expected to, and takes all offers. If there are none, the courier has
// ended.
func (c *courier) gather() []*offer {
	late := time.NewTimer(linger)
	defer late.Stop()
	for {
		if offers, done := c.ready(); done {
			return offers
		}
		select {
		case <-c.wake:
		case <-late.C:
			c.waitNoLonger()
		case <-c.m.ctx.Done():
			return nil
		}
	}
}

// ready takes the offers if nobody is waited for.
func (c *courier) ready() (offers []*offer, done bool) {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	t := c.m.topics[c.key]
	if len(c.offers) == 0 {
		delete(t.couriers, c.to)
		c.m.tidy(c.key, t)
		return nil, true
	}
	if len(t.looked) > 0 {
		return nil, false
	}
	offers, c.offers = c.offers, nil
	clear(c.bodies)
	return offers, true
}

// waitNoLonger forgets those that are late: they are waited for when they have come.
func (c *courier) waitNoLonger() {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	clear(c.m.topics[c.key].looked)
}

// giveBack puts offers, which go with the next request, before those that came meanwhile.
func (c *courier) giveBack(rest []*offer) {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	came := c.offers
	c.offers = nil
	for _, o := range append(rest, came...) {
		c.take(o)
	}
}

// answer tells each outbox what became of its share. Those that go on are waited for from now on, before the first of them
// comes with its next offer.
func (c *courier) answer(l *load, reply *cmq.Reply, err error) {
	verdicts := make([]verdict, len(l.parts))
	for i := range l.parts {
		v := &verdicts[i]
		switch {
		case err != nil:
			v.err = err
		case reply.Errors[i] == cmq.ErrQueueNotExist:
			v.err = errNoTarget // that says nothing of the source
		case reply.Errors[i] != nil:
			v.err = reply.Errors[i]
		default:
			v.next = reply.Numbers[i]
			c.m.look(c.key, l.parts[i].offer.shard)
		}
	}
	for i := range l.parts {
		l.parts[i].offer.answered <- verdicts[i]
	}
}
