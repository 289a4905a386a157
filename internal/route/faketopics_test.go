package route_test

import (
	"context"
	"slices"
	"strings"

	"github.com/opencmq/cmq/internal/cmq"
)

func (t *table) Topic(owner, name string) *cmq.Topic {
	i := slices.IndexFunc(t.topics, func(o *cmq.Topic) bool { return o.Owner == owner && strings.EqualFold(o.Name, name) })
	if i < 0 {
		return nil
	}
	return t.topics[i]
}

func (t *table) Topics(owner string) (list []*cmq.Topic) {
	for _, topic := range t.topics {
		if topic.Owner == owner {
			list = append(list, topic)
		}
	}
	return list
}

func (t *table) Subscription(topic cmq.TopicID, name string) *cmq.Subscription {
	for _, s := range t.Subscriptions(topic) {
		if strings.EqualFold(s.Name, name) {
			return s
		}
	}
	return nil
}

func (t *table) Subscriptions(topic cmq.TopicID) (list []*cmq.Subscription) {
	for _, s := range t.subs {
		if s.Topic == topic {
			list = append(list, s)
		}
	}
	return list
}

func (t *table) TopicByID(id cmq.TopicID) *cmq.Topic {
	i := slices.IndexFunc(t.topics, func(o *cmq.Topic) bool { return o.ID == id })
	if i < 0 {
		return nil
	}
	return t.topics[i]
}

func (t *table) SubscriptionByShard(shard cmq.ShardID) *cmq.Subscription {
	i := slices.IndexFunc(t.subs, func(o *cmq.Subscription) bool { return o.ID.Shard() == shard })
	if i < 0 {
		return nil
	}
	return t.subs[i]
}

func (t *table) AllSubscriptions() []*cmq.Subscription { return t.subs }

// CreateTopic puts the topic on set 2.
func (n *node) CreateTopic(_ context.Context, owner, name string, settings cmq.TopicSettings) (*cmq.Topic, error) {
	c := n.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.meta.Topic(owner, name) != nil {
		return nil, cmq.ErrTopicExists
	}
	c.nextID++
	topic := &cmq.Topic{ID: cmq.TopicID(c.nextID), Owner: owner, Name: name, Set: 2, Filter: cmq.FilterTags, MaxMsgSize: 1024, MsgRetention: cmq.DefaultTopicRetention, Version: 1}
	settings.Apply(topic)
	c.change(func(t *table) { t.topics = append(t.topics, topic) })
	return topic, nil
}

// SetTopic gives all subscriptions a new version if the retention is another one.
func (n *node) SetTopic(_ context.Context, owner, name string, settings cmq.TopicSettings) (*cmq.Topic, error) {
	c := n.c
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.meta.Topic(owner, name)
	if old == nil {
		return nil, cmq.ErrTopicNotExist
	}
	topic := *old
	topic.Version++
	settings.Apply(&topic)
	c.change(func(t *table) {
		t.topics[slices.Index(t.topics, old)] = &topic
		for i, s := range t.subs {
			if s.Topic == topic.ID && topic.MsgRetention != old.MsgRetention {
				renewed := *s
				renewed.Version++
				t.subs[i] = &renewed
			}
		}
	})
	return &topic, nil
}

func (n *node) DeleteTopic(_ context.Context, owner, name string) error {
	c := n.c
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.meta.Topic(owner, name)
	switch {
	case old == nil:
		return cmq.ErrTopicNotExist
	case len(c.meta.Subscriptions(old.ID)) > 0:
		return cmq.ErrTopicInUse
	}
	c.change(func(t *table) { t.topics = slices.DeleteFunc(t.topics, func(o *cmq.Topic) bool { return o == old }) })
	return nil
}

func (n *node) Subscribe(_ context.Context, owner, topic, name string, settings cmq.SubscriptionSettings) (*cmq.Topic, *cmq.Subscription, error) {
	c := n.c
	c.mu.Lock()
	defer c.mu.Unlock()
	of := c.meta.Topic(owner, topic)
	switch {
	case of == nil:
		return nil, nil, cmq.ErrTopicNotExist
	case c.meta.Subscription(of.ID, name) != nil:
		return nil, nil, cmq.ErrSubscriptionExists
	}
	c.nextID++
	s := &cmq.Subscription{ID: cmq.SubscriptionID(c.nextID), Topic: of.ID, Owner: owner, Name: name, Strategy: cmq.ExponentialRetry, Version: 1}
	settings.Apply(s, c.deadLetter(owner, settings))
	c.change(func(t *table) { t.subs = append(t.subs, s) })
	return of, s, nil
}

func (c *cluster) deadLetter(owner string, settings cmq.SubscriptionSettings) cmq.QueueID {
	if settings.DeadLetter == nil {
		return 0
	}
	if q := c.meta.Queue(owner, *settings.DeadLetter); q != nil {
		return q.ID
	}
	return 0
}

func (n *node) SetSubscription(_ context.Context, owner, topic, name string, settings cmq.SubscriptionSettings) (*cmq.Topic, *cmq.Subscription, error) {
	return n.c.alterSubscription(owner, topic, name, func(t *table, i int, s *cmq.Subscription) {
		settings.Apply(s, n.c.deadLetter(owner, settings))
		t.subs[i] = s
	})
}

func (n *node) Unsubscribe(_ context.Context, owner, topic, name string) (*cmq.Topic, *cmq.Subscription, error) {
	return n.c.alterSubscription(owner, topic, name, func(t *table, i int, _ *cmq.Subscription) {
		t.subs = slices.Delete(t.subs, i, i+1)
	})
}

// alterSubscription lets change put a copy of the next version in the place of the old one, or take that out.
func (c *cluster) alterSubscription(owner, topic, name string, change func(t *table, i int, s *cmq.Subscription)) (*cmq.Topic, *cmq.Subscription, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	of := c.meta.Topic(owner, topic)
	if of == nil {
		return nil, nil, cmq.ErrTopicNotExist
	}
	old := c.meta.Subscription(of.ID, name)
	if old == nil {
		return nil, nil, cmq.ErrSubscriptionNotExist
	}
	s := *old
	s.Version++
	c.change(func(t *table) { change(t, slices.Index(t.subs, old), &s) })
	return of, &s, nil
}

// publish puts the messages into every shard of the topic that has no tags, or one of theirs.
func (c *cluster) publish(set cmq.SetID, req *cmq.Request) *cmq.Reply {
	reply := &cmq.Reply{Err: cmq.ErrNoSubscription}
	for _, s := range c.shards {
		if s.sub == nil || s.sub.Topic != req.Shard {
			continue
		}
		wanted := func(tag string) bool { return slices.Contains(s.sub.Tags, tag) }
		if len(s.sub.Tags) > 0 && !slices.ContainsFunc(req.Publication.Tags, wanted) {
			if len(reply.IDs) == 0 {
				reply.Err = cmq.ErrNoMatch
			}
			continue
		}
		reply.Err = nil
		if reply.IDs == nil {
			for range req.Bodies {
				c.nextID++
				reply.IDs = append(reply.IDs, cmq.NewMsgID(set, c.nextID, 0))
			}
		}
		for i, body := range req.Bodies {
			s.active = append(s.active, cmq.Message{ID: reply.IDs[i], Body: body})
		}
	}
	return reply
}

func (c *cluster) attend(set cmq.SetID, req *cmq.Request) *cmq.Reply {
	if set != cmq.ControllerSet {
		panic("which agents are there only set 0 knows")
	}
	group := string(req.Payload)
	if c.agents[group] == nil {
		c.agents[group] = map[uint64]bool{}
	}
	switch {
	case req.Number != 0 && req.Lock > 0:
		c.agents[group][req.Number] = true
	case req.Number != 0:
		delete(c.agents[group], req.Number)
	}
	reply := &cmq.Reply{Number: uint64(len(c.agents[group]))}
	if !c.newLeader {
		reply.Base = 1
	}
	return reply
}
