package meta

import (
	"encoding/binary"

	"github.com/opencmq/cmq/internal/cmq"
)

// subscriptionKey is where the index of names has the subscription: id of the topic (8 bytes, big endian), name in lower
// case.
func subscriptionKey(topic cmq.TopicID, name string) string {
	return string(binary.BigEndian.AppendUint64(nil, uint64(topic))) + cmq.FoldName(name)
}

// addSubscription puts a new subscription into the table and every index that is derived from it.
func (t *tables) addSubscription(topic *cmq.Topic, sub *cmq.Subscription) {
	t.subscriptions.Set(sub.ID, sub)
	t.subscriptionNames.Set(subscriptionKey(topic.ID, sub.Name), sub.ID)
	t.subscribed.Set(topic.ID, with(t.subscribed, topic.ID, sub.ID))
	t.mourn(sub)
	t.addLoad(topic.Set, 1)
}

// removeSubscription takes the subscription out of everything but load, which counts its shard until it is dropped.
func (t *tables) removeSubscription(sub *cmq.Subscription) {
	t.subscriptions.Delete(sub.ID)
	t.subscriptionNames.Delete(subscriptionKey(sub.Topic, sub.Name))
	without(t.subscribed, sub.Topic, sub.ID)
	t.unmourn(sub)
}

// mourn notes which queue takes what the subscription gives up, if one does.
func (t *tables) mourn(sub *cmq.Subscription) {
	if dlq := sub.Push.DeadLetter; dlq != 0 {
		t.mourners.Set(dlq, with(t.mourners, dlq, sub.ID))
	}
}

// unmourn undoes mourn.
func (t *tables) unmourn(sub *cmq.Subscription) { without(t.mourners, sub.Push.DeadLetter, sub.ID) }

func (t *tables) findSubscription(topic cmq.TopicID, name string) *cmq.Subscription {
	if !cmq.ValidName(name) {
		return nil
	}
	id, ok := t.subscriptionNames.Get(subscriptionKey(topic, name))
	if !ok {
		return nil
	}
	sub, _ := t.subscriptions.Get(id)
	return sub
}

// subscription finds a subscription by the names that a command has.
func (s *State) subscription(owner, topicName, name string) (*cmq.Topic, *cmq.Subscription, *cmq.Error) {
	topic := s.findTopic(owner, topicName)
	if topic == nil {
		return nil, nil, cmq.ErrTopicNotExist
	}
	sub := s.findSubscription(topic.ID, name)
	if sub == nil {
		return nil, nil, cmq.ErrSubscriptionNotExist
	}
	return topic, sub, nil
}

func (s *State) subscribe(c *Subscribe) Result {
	topic := s.findTopic(c.Owner, c.Topic)
	if topic == nil {
		return Result{Err: cmq.ErrTopicNotExist}
	}
	sub, err := s.planSubscription(topic, c)
	if err != nil {
		return Result{Err: err}
	}
	s.nextQueue++
	s.addSubscription(topic, sub)
	s.tasks.Set(sub.ID.Shard(), task{Kind: OpenShard, Set: topic.Set, Version: sub.Version})
	s.changed()
	return Result{Topic: topic, Subscription: sub}
}

// planSubscription makes all checks and the subscription, and changes nothing.
func (s *State) planSubscription(topic *cmq.Topic, c *Subscribe) (*cmq.Subscription, *cmq.Error) {
	switch {
	case !cmq.ValidName(c.Name):
		return nil, cmq.ErrSubscriptionName
	case s.findSubscription(topic.ID, c.Name) != nil:
		return nil, cmq.ErrSubscriptionExists
	case lenOf(s.subscribed, topic.ID) >= s.maxSubscriptions:
		return nil, cmq.ErrSubscriptionLimit
	case c.Settings.Protocol == nil || *c.Settings.Protocol == "":
		return nil, cmq.ErrProtocol
	case c.Settings.Endpoint == nil || *c.Settings.Endpoint == "":
		return nil, cmq.ErrEndpointFormat
	}
	return s.changeSubscription(topic, &cmq.Subscription{
		ID: cmq.SubscriptionID(s.nextQueue), Topic: topic.ID, Name: c.Name, Owner: topic.Owner,
		Protocol: *c.Settings.Protocol, Strategy: cmq.ExponentialRetry, Format: c.Settings.Protocol.DefaultFormat(),
		Version: 1, Created: s.nowTime(), Modified: s.nowTime(),
	}, &c.Settings)
}

// changeSubscription gives the subscription after the settings, with all the rules about them.
func (s *State) changeSubscription(topic *cmq.Topic, old *cmq.Subscription, settings *cmq.SubscriptionSettings) (*cmq.Subscription, *cmq.Error) {
	if err := checkSubscriptionSettings(settings); err != nil {
		return nil, err
	}
	if settings.Protocol != nil && *settings.Protocol != old.Protocol {
		return nil, cmq.ErrProtocol
	}
	dlq, err := s.deadLetterOf(topic.Owner, settings)
	if err != nil {
		return nil, err
	}
	sub := *old
	settings.Apply(&sub, dlq)
	switch {
	case topic.Filter == cmq.FilterKeys && len(sub.Keys) == 0:
		return nil, cmq.ErrBindingKey
	case sub.ByAgent() && !sub.Protocol.Agents():
		return nil, cmq.ErrParameterRange("agent")
	}
	return &sub, nil
}

// deadLetterOf finds the queue that the settings name for what is given up; 0: they name none.
func (s *State) deadLetterOf(owner string, settings *cmq.SubscriptionSettings) (cmq.QueueID, *cmq.Error) {
	if settings.DeadLetter == nil || *settings.DeadLetter == "" {
		return 0, nil
	}
	target := s.find(owner, *settings.DeadLetter)
	if target == nil {
		return 0, cmq.ErrDeadLetterNotExist
	}
	return target.ID, mayTakeDead(target)
}

func (s *State) setSubscription(c *SetSubscription) Result {
	topic, old, err := s.subscription(c.Owner, c.Topic, c.Name)
	if err != nil {
		return Result{Err: err}
	}
	sub, err := s.changeSubscription(topic, old, &c.Settings)
	if err != nil {
		return Result{Err: err}
	}
	if !sameSubscription(sub, old) {
		sub.Version++
	}
	sub.Modified = s.nowTime()
	s.subscriptions.Set(sub.ID, sub)
	if old.Push.DeadLetter != sub.Push.DeadLetter {
		s.unmourn(old)
		s.mourn(sub)
	}
	if old.ShardAttributes(topic) != sub.ShardAttributes(topic) || !old.Subscriber(topic).Equal(sub.Subscriber(topic)) {
		s.changeShard(cmq.Shard{ID: sub.ID.Shard(), Set: topic.Set}, sub.Version)
	}
	s.changed()
	return Result{Topic: topic, Subscription: sub}
}

// sameSubscription compares every field, by its encoding.
func sameSubscription(a, b *cmq.Subscription) bool {
	return string(appendSubscription(nil, a)) == string(appendSubscription(nil, b))
}

func (s *State) unsubscribe(c *Unsubscribe) Result {
	topic, sub, err := s.subscription(c.Owner, c.Topic, c.Name)
	if err != nil {
		return Result{Err: err}
	}
	gone := *sub
	gone.Version++
	s.removeSubscription(sub)
	id := cmq.QueueID(sub.ID)
	s.graves.Set(id, &Grave{Queue: id, Topic: topic.ID, Owner: sub.Owner, Name: sub.Name, Deleted: s.nowTime(), Shards: 1})
	s.tasks.Set(sub.ID.Shard(), task{Kind: DropShard, Set: topic.Set, Version: gone.Version})
	s.changed()
	return Result{Topic: topic, Subscription: &gone}
}
