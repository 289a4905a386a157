package sim

import (
	"time"

	"github.com/opencmq/cmq/internal/check"
	"github.com/opencmq/cmq/internal/cmq"
)

// A topic of a run has subscriptions that deliver to queues on any set. What is published is mostly wanted by some of them,
// sometimes by none; one subscription ends on the way. The movers bring the messages to the queues, and the checker wants
// that each has just those that it asked for, once. The dead-letter queue of a subscription, where it has one, is the queue itself: what
// is overdue must get there like the rest, by another way.
type topic struct {
	w             *world
	id            cmq.TopicID
	place         *queue // a stand-in that says where the topic is; it has no shard
	subscriptions []*subscription
	leaves        *subscription // the one that ends; nil: none does
}

// subscription is one that delivers to a queue.
type subscription struct {
	check.Subscription
	id cmq.SubscriptionID
	to *queue
	on bool // its set knows it

	patience time.Duration // after which a message goes to the dead-letter queue; 0: there is none
}

// makeTopics makes one topic that keeps two of three subscriptions, and one that loses its only one.
func (w *world) makeTopics(s stream, add func(name string) *queue) {
	w.newTopic(s, "news", add, []check.Subscription{
		{Name: "green", Tags: []string{"green"}}, {Name: "only red", Tags: []string{"red"}}, {Name: "red and blue", Tags: []string{"red", "blue"}},
	})
	w.newTopic(s, "brief", add, []check.Subscription{{Name: "reader"}})
}

// newTopic makes a topic of which the first subscription may end.
func (w *world) newTopic(s stream, name string, add func(name string) *queue, subscriptions []check.Subscription) {
	id := cmq.QueueID(700 + 100*len(w.topics))
	t := &topic{w: w, id: cmq.TopicID(id), place: &queue{w: w, name: name, set: cmq.SetID(1 + s.IntN(w.knobs.sets))}}
	for _, of := range subscriptions {
		id++
		sub := &subscription{Subscription: of, id: cmq.SubscriptionID(id), to: add(of.Name)}
		sub.Queue = sub.to.name
		if s.chance(50) {
			sub.patience = s.between(20*time.Millisecond, time.Second).Truncate(time.Millisecond)
		}
		t.subscriptions = append(t.subscriptions, sub)
	}
	if s.chance(60) {
		t.leaves = t.subscriptions[0]
	}
	w.topics = append(w.topics, t)
}

// subscribed reports whether all subscriptions are known to their sets.
func (w *world) subscribed() bool {
	for _, t := range w.topics {
		for _, s := range t.subscriptions {
			if !s.on {
				return false
			}
		}
	}
	return true
}

// outbox finds the subscription to a queue whose shard it is; nil if it is that of something else.
func (w *world) outbox(shard cmq.ShardID) *subscription {
	for _, t := range w.topics {
		for _, s := range t.subscriptions {
			if s.id.Shard() == shard && s.to.push == nil {
				return s
			}
		}
	}
	return nil
}

// subscribe tells the set of the topic of its subscriptions, one after the other.
func (a *actor) subscribe(t *topic, rest []*subscription) {
	if len(rest) == 0 {
		a.w.opened()
		return
	}
	s := rest[0]
	req := &cmq.Request{
		Kind: cmq.KindOpenShard, Shard: s.id.Shard(), Version: 1, Attributes: s.attributes(),
		Subscriber: &cmq.Subscriber{Topic: t.id.Shard(), Filter: cmq.FilterTags, Tags: s.Tags, Forward: true},
	}
	var opened *check.Op
	if o := s.to.push; o != nil {
		req.Attributes, req.Subscriber = s.to.attrs, o.sub.Subscriber(o.topic)
		opened = a.w.history.Invoke(&check.Op{Client: a.number, Kind: check.Set, Queue: s.to.name, Call: a.w.now, Settings: s.to.settings()})
	}
	op := a.invoke(&check.Op{Kind: check.Subscribe, Subscription: &s.Subscription})
	a.call(a.q.set, req, 5*time.Second, func(ans answer) {
		a.finish(op, ans)
		if ans.outcome == check.OK {
			s.on, rest = true, rest[1:]
			if opened != nil {
				opened.Finish(a.w.now, check.OK)
				s.to.open = true
			}
		}
		a.subscribe(t, rest)
	})
}

func (s *subscription) attributes() cmq.ShardAttributes {
	a := cmq.ShardAttributes{MsgRetention: time.Hour, VisibilityTimeout: time.Second}
	if s.patience > 0 {
		a.DeadLetter = cmq.DeadLetterPolicy{Queue: s.to.shard.Queue(), Policy: cmq.PolicyEither, MaxReceiveCount: 4, MaxTimeToLive: s.patience}
	}
	return a
}

// begin lets publishers loose, and whoever ends a subscription. It gives the number of the last client.
func (t *topic) begin(number int) int {
	for range t.w.knobs.producers {
		number++
		a := t.w.newActor(t.place, number)
		a.pausing(func() { a.publish(t) })
	}
	if t.leaves != nil {
		number++
		a := t.w.newActor(t.place, number)
		a.w.after(a.rng.between(100*time.Millisecond, time.Second), func() { a.unsubscribe(t) })
	}
	return number
}

// publish publishes one message or a few.
func (a *actor) publish(t *topic) {
	tags := pick(a.rng, [][]string{{"red"}, {"red", "blue"}, {"blue"}, {"green"}, {"black"}, nil})
	op := &check.Op{Kind: check.Publish, Tags: tags}
	req := &cmq.Request{Kind: cmq.KindPublish, Shard: t.id.Shard(), Publication: &cmq.Publication{Tags: tags}}
	for range 1 + a.rng.IntN(3) {
		b := a.body()
		op.Bodies, req.Bodies = append(op.Bodies, b), append(req.Bodies, []byte(b))
	}
	a.invoke(op)
	a.call(a.q.set, req, time.Second, func(ans answer) {
		switch {
		case ans.outcome == check.OK:
			op.IDs = ans.reply.IDs
			a.w.stats.hit("publishes")
		case ans.reply != nil && ans.reply.Err == cmq.ErrNoSubscription:
			op.Refused = check.NoSubscription
			a.w.stats.hit("publishes without a subscription")
		case ans.reply != nil && ans.reply.Err == cmq.ErrNoMatch:
			op.Refused = check.NoMatch
			a.w.stats.hit("publishes that nobody wants")
		}
		a.finish(op, ans)
		a.pausing(func() { a.publish(t) })
	})
}

// unsubscribe ends a subscription, with what it has not delivered.
func (a *actor) unsubscribe(t *topic) {
	if a.w.phase != loading {
		return
	}
	op := a.invoke(&check.Op{Kind: check.Unsubscribe, Subscription: &t.leaves.Subscription})
	a.call(a.q.set, &cmq.Request{Kind: cmq.KindDropShard, Shard: t.leaves.id.Shard()}, time.Second, func(ans answer) {
		a.finish(op, ans)
		if ans.outcome == check.OK {
			a.w.stats.hit("subscriptions ended")
		}
	})
}

// forward brings the head of an outbox to the subscription's queue, as package dispatch does: by reference within the set, to
// another with what other outboxes of the topic have for it.
func (m *mover) forward(s *subscription, list *cmq.Reply) {
	if s.to.set != m.set {
		m.v.offer(&offer{m, s, list})
		return
	}
	req := &cmq.Request{Kind: cmq.KindMove, Shard: s.to.shard, From: m.key.shard, Number: list.Number}
	for i := range list.Messages {
		req.IDs = append(req.IDs, list.Messages[i].ID)
		req.Sizes = append(req.Sizes, uint32(len(list.Messages[i].Body)))
	}
	m.client.call(s.to.set, req, moveTimeout, func(a answer) {
		if a.outcome != check.OK {
			m.wait()
			return
		}
		m.v.w.stats.hit("forwarded by reference")
		m.list()
	})
}
