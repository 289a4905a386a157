package route

import (
	"context"
	"errors"

	"github.com/opencmq/cmq/internal/cmq"
)

// findSubscription looks the subscription up as of now.
func (r *Router) findSubscription(ctx context.Context, owner, topic, name string) (*cmq.Topic, *cmq.Subscription, error) {
	t, err := r.findTopicFresh(ctx, owner, topic)
	if err != nil {
		return nil, nil, err
	}
	s := r.cfg.Meta.Table().Subscription(t.ID, name)
	if s == nil {
		return nil, nil, cmq.ErrSubscriptionNotExist
	}
	return t, s, nil
}

// tellSubscription lets the set of the topic know what the metadata decided about a subscription, and the controller
// that it does. What is not reported is repeated by the controller. A set that has dropped the shard knows that the
// subscription is deleted, which our table may not.
func (r *Router) tellSubscription(ctx context.Context, kind cmq.Kind, t *cmq.Topic, s *cmq.Subscription) error {
	_, err := refused(r.Do(ctx, t.Set, &cmq.Request{
		Kind: kind, Shard: s.ID.Shard(), Attributes: s.ShardAttributes(t), Subscriber: s.Subscriber(t), Version: s.Version,
	}))
	switch {
	case errors.Is(err, cmq.ErrQueueNotExist):
		return cmq.ErrSubscriptionNotExist
	case err != nil:
		return err
	}
	if err := r.cfg.Meta.Done(ctx, s.ID.Shard(), s.Version); err != nil {
		r.log.Info("shard is ready, the controller does not know", "subscription", s.Name, "set", uint64(t.Set), "err", err)
	}
	return nil
}

// setSubscription tells the shard what has changed. A shard that is not open is opened with it.
func (r *Router) setSubscription(ctx context.Context, t *cmq.Topic, s *cmq.Subscription) error {
	err := r.tellSubscription(ctx, cmq.KindSetShard, t, s)
	if errors.Is(err, cmq.ErrSubscriptionNotExist) {
		err = r.tellSubscription(ctx, cmq.KindOpenShard, t, s)
	}
	return err
}

// Subscribe makes a subscription. When it returns, what is published reaches it: unlike a queue, whose shard is opened by
// the first message if need be, it must be known where the topic is before. An error from there means that the
// subscription is made and will be known later.
func (r *Router) Subscribe(ctx context.Context, owner, topic, name string, settings cmq.SubscriptionSettings) (cmq.SubscriptionID, error) {
	t, s, err := r.cfg.Meta.Subscribe(ctx, owner, topic, name, settings)
	if err != nil {
		return 0, err
	}
	return s.ID, r.tellSubscription(ctx, cmq.KindOpenShard, t, s)
}

// SetSubscriptionAttributes changes what settings gives. When it returns, what is published is filtered by it. An error
// from the shard means that the change is made and will get there later.
func (r *Router) SetSubscriptionAttributes(ctx context.Context, owner, topic, name string, settings cmq.SubscriptionSettings) error {
	t, s, err := r.cfg.Meta.SetSubscription(ctx, owner, topic, name, settings)
	if err != nil {
		return err
	}
	return r.setSubscription(ctx, t, s)
}

// ClearFilterTags removes the filter tags, so that the subscription gets every message.
func (r *Router) ClearFilterTags(ctx context.Context, owner, topic, name string) error {
	return r.SetSubscriptionAttributes(ctx, owner, topic, name, cmq.SubscriptionSettings{Tags: new([]string)})
}

// Unsubscribe deletes a subscription: first its name, then what it had still to deliver. An error from the shard means
// that this is done later, and that it may be given messages until then, which go with the rest.
func (r *Router) Unsubscribe(ctx context.Context, owner, topic, name string) error {
	t, s, err := r.cfg.Meta.Unsubscribe(ctx, owner, topic, name)
	if err != nil {
		return err
	}
	err = r.tellSubscription(ctx, cmq.KindDropShard, t, s)
	if errors.Is(err, cmq.ErrSubscriptionNotExist) {
		return nil
	}
	return err
}

// ListSubscriptions gives the topic's subscriptions whose name contains search, as ListQueues gives queues.
func (r *Router) ListSubscriptions(ctx context.Context, owner, topic, search string, offset, limit int) (int, []*cmq.Subscription, error) {
	t, err := r.findTopicFresh(ctx, owner, topic)
	if err != nil {
		return 0, nil, err
	}
	total, list := page(r.cfg.Meta.Table().Subscriptions(t.ID), search, offset, limit, func(s *cmq.Subscription) string { return s.Name })
	for i, s := range list {
		list[i] = r.namedSubscription(s)
	}
	return total, list, nil
}

// SubscriptionAttributes gives the subscription as of now, how many agents there are for it if it is one of an agent's, and
// how many messages it has still to deliver.
func (r *Router) SubscriptionAttributes(ctx context.Context, owner, topic, name string) (*cmq.Subscription, int64, error) {
	t, s, err := r.findSubscription(ctx, owner, topic, name)
	if err != nil {
		return nil, 0, err
	}
	n, err := r.backlog(ctx, t, s)
	if err != nil {
		return nil, 0, err
	}
	named := r.namedSubscription(s)
	if named.ByAgent() {
		named.Push.Agents = r.attend(ctx, owner, named.Push.Agent, cmq.Presence{})
	}
	return named, n, nil
}

// namedSubscription gives a copy of the subscription with the name of the queue it gives up to.
func (r *Router) namedSubscription(s *cmq.Subscription) *cmq.Subscription {
	c := *s
	c.Push.DeadLetterName = r.queueName(s.Push.DeadLetter)
	return &c
}

// backlog is how many messages the subscription has still to deliver: none for a shard that is not open, because the set
// does not know of the subscription yet.
func (r *Router) backlog(ctx context.Context, t *cmq.Topic, s *cmq.Subscription) (int64, error) {
	reply, err := refused(r.Do(ctx, t.Set, &cmq.Request{Kind: cmq.KindStatus, Shard: s.ID.Shard()}))
	switch {
	case errors.Is(err, cmq.ErrQueueNotExist):
		return 0, nil
	case err != nil:
		return 0, err
	}
	return reply.Status.Active + reply.Status.Inactive + reply.Status.Delayed, nil
}
