package broker

import (
	"cmp"
	"slices"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/command"
	"github.com/opencmq/cmq/internal/core/topic"
	"github.com/opencmq/cmq/internal/mutant"
)

// A topic has no state of its own: it is the shards of its subscriptions, which are queues that nobody sends to. What is
// published is stored once, and the shard of every subscription that wants it gets a position that refers to it.
//
//	publish ──► slots of the entry ◄──┬── position of subscription 1
//	                                  └── position of subscription 3 (2 does not want it)

// subscriber is what makes a shard that of a subscription. It is never changed, only replaced.
type subscriber struct {
	cmq.Subscriber
	filter *topic.Filter
}

func newSubscriber(s *cmq.Subscriber) *subscriber {
	if s == nil {
		return nil
	}
	return &subscriber{*s, topic.NewFilter(s)}
}

// subscriber is what makes the shard that of a subscription, nil if it is a queue's.
func (s *shard) subscriber() *cmq.Subscriber {
	if s.sub == nil {
		return nil
	}
	return &s.sub.Subscriber
}

// forwards reports whether what the shard gets waits for another queue at once.
func (s *shard) forwards() bool { return s.sub != nil && s.sub.Forward }

// change takes over what the subscription asks for now. Its topic, and whether it forwards, stay; a queue does not become a
// subscription.
func (s *shard) change(to *cmq.Subscriber) {
	if s.sub == nil || to == nil {
		return
	}
	c := *to
	c.Topic, c.Forward = s.sub.Topic, s.sub.Forward
	s.sub = newSubscriber(&c)
}

// subscription is the shard of one.
type subscription struct {
	id    cmq.ShardID
	shard *shard
}

// subscriptions are the subscriptions of one topic, by id.
type subscriptions []subscription

func (t subscriptions) find(id cmq.ShardID) (i int, found bool) {
	return slices.BinarySearchFunc(t, id, func(s subscription, id cmq.ShardID) int { return cmp.Compare(s.id, id) })
}

// subscribe lists the shard with its topic, if it has one.
func (b *Broker) subscribe(id cmq.ShardID, s *shard) {
	if s.sub == nil {
		return
	}
	t := b.topics[s.sub.Topic]
	i, _ := t.find(id)
	b.topics[s.sub.Topic] = slices.Insert(t, i, subscription{id, s})
}

func (b *Broker) unsubscribe(id cmq.ShardID, s *shard) {
	if s.sub == nil || mutant.On(mutant.UnsubscribeLeavesReferences) {
		return
	}
	t := b.topics[s.sub.Topic]
	if i, found := t.find(id); found {
		t = slices.Delete(t, i, i+1)
	}
	if b.topics[s.sub.Topic] = t; len(t) == 0 {
		delete(b.topics, s.sub.Topic)
	}
}

// publish gives the messages to every subscription that wants them. If none does, they are stored nowhere.
func (b *Broker) publish(op *command.Op, r *Result, out *Output) {
	t := b.topics[op.Shard]
	if len(t) == 0 {
		r.Err = cmq.ErrNoSubscription
		return
	}
	r.Err = cmq.ErrNoMatch
	for _, s := range t {
		wanted := s.shard.sub.filter.Match(&op.Publication)
		if wanted {
			r.Err = nil
		}
		if wanted || mutant.On(mutant.FilterAfterStore) {
			b.place(s.id, s.shard, op, out)
		}
	}
	if r.Err == nil {
		r.FirstSlot, r.N = op.First, op.N
	}
}

func (b *Broker) place(id cmq.ShardID, s *shard, op *command.Op, out *Output) {
	b.touch(id, s, out, func() {
		place := s.Publish
		if s.forwards() {
			place = s.Forward
		}
		out.place(id, 0, place(op.N), op.First, op.N)
	})
}

// Subscriber is what makes the shard that of a subscription; nil: it is a queue's, or not there. It must not be changed.
func (b *Broker) Subscriber(id cmq.ShardID) *cmq.Subscriber {
	if s := b.shards[id]; s != nil {
		return s.subscriber()
	}
	return nil
}
