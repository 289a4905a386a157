package accesstest

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/cmq"
)

// matches tells whether the subscription gets a message.
func (s *subscription) matches(by cmq.FilterType, p *cmq.Publication) bool {
	if by == cmq.FilterTags {
		return len(s.Tags) == 0 || slices.ContainsFunc(p.Tags, func(tag string) bool { return slices.Contains(s.Tags, tag) })
	}
	words := strings.Split(p.RoutingKey, ".")
	return slices.ContainsFunc(s.Keys, func(key string) bool { return bound(strings.Split(key, "."), words) })
}

// bound matches word by word: "*" is one word that is not empty, "#" any number of words.
func bound(key, words []string) bool {
	switch {
	case len(key) == 0:
		return len(words) == 0
	case key[0] == "#":
		return bound(key[1:], words) || len(words) > 0 && bound(key, words[1:])
	}
	return len(words) > 0 && (key[0] == words[0] || key[0] == "*" && words[0] != "") && bound(key[1:], words[1:])
}

func (t *topic) find(name string) (*subscription, error) {
	for _, s := range t.subscriptions {
		if cmq.FoldName(s.Name) == cmq.FoldName(name) {
			return s, nil
		}
	}
	return nil, cmq.ErrSubscriptionNotExist
}

func (f *Fake) onSubscription(action access.Action, owner, topicName, name string, do func(*topic, *subscription) error) error {
	return f.onTopic(action, owner, topicName, func(t *topic) error {
		s, err := t.find(name)
		if err != nil {
			return err
		}
		return do(t, s)
	})
}

// Subscribe makes a subscription.
func (f *Fake) Subscribe(_ context.Context, owner, topicName, name string, settings cmq.SubscriptionSettings) (id cmq.SubscriptionID, err error) {
	err = f.onTopic(access.Subscribe, owner, topicName, func(t *topic) error {
		if _, err := t.find(name); err == nil {
			return cmq.ErrSubscriptionExists
		}
		if len(t.subscriptions) >= f.Limits.SubscriptionsPerTopic {
			return cmq.ErrSubscriptionLimit
		}
		s := &subscription{Subscription: cmq.Subscription{ID: cmq.SubscriptionID(f.lastID + 1), Topic: t.ID, Name: name, Owner: owner,
			Strategy: cmq.ExponentialRetry, Format: settings.Protocol.DefaultFormat(), Created: f.Clock.Now()}}
		if err := f.setSubscription(t, s, settings); err != nil {
			return err
		}
		f.lastID++
		t.subscriptions = append(t.subscriptions, s)
		id = s.ID
		return nil
	})
	return id, err
}

func (f *Fake) setSubscription(t *topic, s *subscription, c cmq.SubscriptionSettings) error {
	var dead cmq.QueueID
	if c.DeadLetter != nil && *c.DeadLetter != "" {
		q, err := f.find(s.Owner, *c.DeadLetter)
		if err != nil {
			return cmq.ErrDeadLetterNotExist
		}
		dead = q.ID
	}
	changed := s.Subscription
	c.Apply(&changed, dead)
	switch {
	case t.Filter == cmq.FilterKeys && len(changed.Keys) == 0:
		return cmq.ErrBindingKey
	case changed.ByAgent() && !changed.Protocol.Agents():
		return cmq.ErrParameterRange("agent")
	}
	changed.Modified = f.Clock.Now()
	s.Subscription = changed
	return nil
}

// ListSubscriptions lists the subscriptions of a topic.
func (f *Fake) ListSubscriptions(_ context.Context, owner, topicName, search string, offset, limit int) (total int, list []*cmq.Subscription, err error) {
	err = f.onTopic(access.ListSubscriptionByTopic, owner, topicName, func(t *topic) error {
		var all []*cmq.Subscription
		for _, s := range t.subscriptions {
			all = append(all, &s.Subscription)
		}
		total, list = page(all, func(s *cmq.Subscription) string { return s.Name }, search, offset, limit)
		return nil
	})
	return total, list, err
}

// SubscriptionAttributes gives a subscription and how much it has waiting.
func (f *Fake) SubscriptionAttributes(_ context.Context, owner, topicName, name string) (copied *cmq.Subscription, messages int64, err error) {
	err = f.onSubscription(access.GetSubscriptionAttributes, owner, topicName, name, func(_ *topic, s *subscription) error {
		value := s.Subscription
		value.Push.DeadLetterName = f.nameOf(s.Push.DeadLetter)
		value.Push.Agents = f.connected(owner, s.Push.Agent)
		copied, messages = &value, f.backlog(s)
		return nil
	})
	return copied, messages, err
}

func (f *Fake) nameOf(id cmq.QueueID) string {
	for _, q := range f.queues {
		if q.ID == id {
			return q.Name
		}
	}
	return ""
}

// SetSubscriptionAttributes changes a subscription.
func (f *Fake) SetSubscriptionAttributes(_ context.Context, owner, topicName, name string, c cmq.SubscriptionSettings) error {
	return f.onSubscription(access.SetSubscriptionAttributes, owner, topicName, name, func(t *topic, s *subscription) error {
		return f.setSubscription(t, s, c)
	})
}

// ClearFilterTags removes the tags of a subscription.
func (f *Fake) ClearFilterTags(_ context.Context, owner, topicName, name string) error {
	return f.onSubscription(access.ClearSubscriptionFilterTags, owner, topicName, name, func(_ *topic, s *subscription) error {
		s.Tags, s.Modified = nil, f.Clock.Now()
		return nil
	})
}

// TestSubscription delivers to a queue that is there, and to endpoints whose URL does not contain "bad".
func (f *Fake) TestSubscription(_ context.Context, owner, topicName, name string, body []byte) (trial *cmq.Trial, err error) {
	err = f.onSubscription(access.TestSubscription, owner, topicName, name, func(_ *topic, s *subscription) error {
		trial = &cmq.Trial{Taken: true, Status: 200, Took: 3 * time.Millisecond, Sent: "POST / HTTP/1.1\n\n" + string(body)}
		if strings.Contains(s.Endpoint, "bad") {
			trial.Taken, trial.Reason, trial.Status, trial.Advice = false, "status", 302, "Redirects are not followed."
		}
		return nil
	})
	return trial, err
}

// Unsubscribe removes a subscription.
func (f *Fake) Unsubscribe(_ context.Context, owner, topicName, name string) error {
	return f.onSubscription(access.Unsubscribe, owner, topicName, name, func(t *topic, s *subscription) error {
		t.subscriptions = slices.DeleteFunc(t.subscriptions, func(other *subscription) bool { return other == s })
		return nil
	})
}
