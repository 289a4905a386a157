package accesstest

import (
	"context"
	"slices"

	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/cmq"
)

type topic struct {
	cmq.Topic
	subscriptions []*subscription // in order of creation
}

type subscription struct {
	cmq.Subscription
	waiting int64 // messages nobody delivers: to anything but a queue, to a queue that is not there or does not take them
	kept    queue // those of them that an agent delivers
}

func (f *Fake) findTopic(owner, name string) (*topic, error) {
	for _, t := range f.topics {
		if t.Owner == owner && cmq.FoldName(t.Name) == cmq.FoldName(name) {
			return t, nil
		}
	}
	return nil, cmq.ErrTopicNotExist
}

func (f *Fake) onTopic(action access.Action, owner, name string, do func(*topic) error) error {
	err := f.enter(action)
	defer f.mu.Unlock()
	if err != nil {
		return err
	}
	t, err := f.findTopic(owner, name)
	if err != nil {
		return err
	}
	return do(t)
}

// CreateTopic makes a topic.
func (f *Fake) CreateTopic(_ context.Context, owner, name string, s cmq.TopicSettings) (cmq.TopicID, error) {
	err := f.enter(access.CreateTopic)
	defer f.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if _, err := f.findTopic(owner, name); err == nil {
		return 0, cmq.ErrTopicExists
	}
	if len(f.topics) >= f.Limits.TopicsPerOwner {
		return 0, cmq.ErrTopicLimit
	}
	f.lastID++
	t := &topic{Topic: cmq.Topic{ID: cmq.TopicID(f.lastID), Name: name, Owner: owner, Filter: cmq.FilterTags,
		MaxMsgSize: 65536, MsgRetention: cmq.DefaultTopicRetention, Created: f.Clock.Now()}}
	if s.Filter != nil {
		t.Filter = *s.Filter
	}
	f.setTopic(t, s)
	f.topics = append(f.topics, t)
	return t.ID, nil
}

func (f *Fake) setTopic(t *topic, s cmq.TopicSettings) {
	s.Apply(&t.Topic)
	t.Modified = f.Clock.Now()
}

// ListTopics lists topics.
func (f *Fake) ListTopics(_ context.Context, owner, search string, offset, limit int) (int, []*cmq.Topic, error) {
	err := f.enter(access.ListTopic)
	defer f.mu.Unlock()
	if err != nil {
		return 0, nil, err
	}
	var all []*cmq.Topic
	for _, t := range f.topics {
		if t.Owner == owner {
			all = append(all, &t.Topic)
		}
	}
	total, page := page(all, func(t *cmq.Topic) string { return t.Name }, search, offset, limit)
	return total, page, nil
}

// TopicAttributes gives a topic and what its subscriptions have waiting.
func (f *Fake) TopicAttributes(_ context.Context, owner, name string) (copied *cmq.Topic, messages int64, err error) {
	err = f.onTopic(access.GetTopicAttributes, owner, name, func(t *topic) error {
		value := t.Topic
		copied = &value
		for _, s := range t.subscriptions {
			messages += f.backlog(s)
		}
		return nil
	})
	return copied, messages, err
}

// SetTopicAttributes changes a topic.
func (f *Fake) SetTopicAttributes(_ context.Context, owner, name string, s cmq.TopicSettings) error {
	return f.onTopic(access.SetTopicAttributes, owner, name, func(t *topic) error {
		f.setTopic(t, s)
		return nil
	})
}

// DeleteTopic removes a topic.
func (f *Fake) DeleteTopic(_ context.Context, owner, name string) error {
	return f.onTopic(access.DeleteTopic, owner, name, func(t *topic) error {
		if len(t.subscriptions) > 0 {
			return cmq.ErrTopicInUse
		}
		f.topics = slices.DeleteFunc(f.topics, func(other *topic) bool { return other == t })
		return nil
	})
}

// TopicRoute gives Routes.
func (f *Fake) TopicRoute(_ context.Context, owner, name string) ([]string, error) {
	return f.Routes, f.onTopic(access.QueryTopicRoute, owner, name, func(*topic) error { return nil })
}

// Publish gives messages to the queues of all subscriptions that match.
func (f *Fake) Publish(_ context.Context, owner, name string, bodies [][]byte, p cmq.Publication) (ids []cmq.MsgID, err error) {
	err = f.onTopic(access.PublishMessage, owner, name, func(t *topic) error {
		for _, body := range bodies {
			if len(body) > t.MaxMsgSize {
				return cmq.ErrMsgSize
			}
		}
		to, err := t.match(&p)
		if err != nil {
			return err
		}
		for _, body := range bodies {
			f.lastID++
			id := cmq.NewMsgID(1, f.lastID, 0)
			ids = append(ids, id)
			for _, s := range to {
				f.deliver(s, id, body, &p)
			}
		}
		f.wake()
		return nil
	})
	return ids, err
}

func (f *Fake) deliver(s *subscription, id cmq.MsgID, body []byte, p *cmq.Publication) {
	if s.ByAgent() {
		now := f.Clock.Now()
		s.kept.messages = append(s.kept.messages, &message{due: now, Message: cmq.Message{ID: id, Body: body, Enqueued: now, Publication: p}})
		return
	}
	q, err := f.find(s.Owner, s.Endpoint)
	if s.Protocol != cmq.ProtocolQueue || err != nil || len(body) > q.Attributes.MaxMsgSize {
		s.waiting++
		return
	}
	now := f.Clock.Now()
	q.messages = append(q.messages, &message{due: now, Message: cmq.Message{ID: id, Body: body, Enqueued: now}})
}

// match gives the subscriptions that get a message.
func (t *topic) match(p *cmq.Publication) (to []*subscription, err error) {
	switch {
	case t.Filter == cmq.FilterKeys && p.RoutingKey == "":
		return nil, cmq.ErrRoutingKey
	case len(t.subscriptions) == 0:
		return nil, cmq.ErrNoSubscription
	}
	for _, s := range t.subscriptions {
		if s.matches(t.Filter, p) {
			to = append(to, s)
		}
	}
	if len(to) == 0 {
		return nil, cmq.ErrNoMatch
	}
	return to, nil
}
