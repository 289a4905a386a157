package route

import (
	"context"
	"errors"
	"sync"

	"github.com/opencmq/cmq/internal/cmq"
)

// tellAtOnce is how many shards of a topic's subscriptions are asked or told at the same time: enough that hundreds take
// no longer than some, and few enough to leave room for messages.
const tellAtOnce = 16

// findTopic looks the topic up, and once more in a fresh table if it is not in this one.
func (r *Router) findTopic(ctx context.Context, owner, name string) (*cmq.Topic, error) {
	if t := r.cfg.Meta.Table().Topic(owner, name); t != nil {
		return t, nil
	}
	return r.findTopicFresh(ctx, owner, name)
}

// findTopicFresh looks the topic up as of now.
func (r *Router) findTopicFresh(ctx context.Context, owner, name string) (*cmq.Topic, error) {
	if err := r.sync(ctx); err != nil {
		return nil, err
	}
	if t := r.cfg.Meta.Table().Topic(owner, name); t != nil {
		return t, nil
	}
	return nil, cmq.ErrTopicNotExist
}

// CreateTopic makes a topic. It has no shard, so nobody has to be told.
func (r *Router) CreateTopic(ctx context.Context, owner, name string, settings cmq.TopicSettings) (cmq.TopicID, error) {
	t, err := r.cfg.Meta.CreateTopic(ctx, owner, name, settings)
	if err != nil {
		return 0, err
	}
	return t.ID, nil
}

// SetTopicAttributes changes what settings gives. An error from a shard means that the change is made and will get there
// later.
func (r *Router) SetTopicAttributes(ctx context.Context, owner, name string, settings cmq.TopicSettings) error {
	t, err := r.cfg.Meta.SetTopic(ctx, owner, name, settings)
	if err != nil || settings.MsgRetentionSeconds == nil {
		return err
	}
	return r.eachSubscription(t, func(s *cmq.Subscription) error {
		err := r.setSubscription(ctx, t, s)
		if errors.Is(err, cmq.ErrSubscriptionNotExist) {
			return nil // it has ended meanwhile
		}
		return err
	})
}

// eachSubscription calls do for every subscription of the topic, some at a time, and gives the first error.
func (r *Router) eachSubscription(t *cmq.Topic, do func(*cmq.Subscription) error) error {
	var wg sync.WaitGroup
	var once sync.Once
	var first error
	turn := make(chan struct{}, tellAtOnce)
	for _, s := range r.cfg.Meta.Table().Subscriptions(t.ID) {
		turn <- struct{}{}
		wg.Go(func() {
			defer func() { <-turn }()
			if err := do(s); err != nil {
				once.Do(func() { first = err })
			}
		})
	}
	wg.Wait()
	return first
}

// DeleteTopic deletes a topic without subscriptions.
func (r *Router) DeleteTopic(ctx context.Context, owner, name string) error {
	return r.cfg.Meta.DeleteTopic(ctx, owner, name)
}

// ListTopics gives the owner's topics whose name contains search, as ListQueues gives queues.
func (r *Router) ListTopics(ctx context.Context, owner, search string, offset, limit int) (int, []*cmq.Topic, error) {
	if err := r.sync(ctx); err != nil {
		return 0, nil, err
	}
	total, list := page(r.cfg.Meta.Table().Topics(owner), search, offset, limit, func(t *cmq.Topic) string { return t.Name })
	return total, list, nil
}

// TopicAttributes gives the topic as of now, and how many messages its subscriptions have still to deliver, each counted
// once for each subscription.
func (r *Router) TopicAttributes(ctx context.Context, owner, name string) (*cmq.Topic, int64, error) {
	t, err := r.findTopicFresh(ctx, owner, name)
	if err != nil {
		return nil, 0, err
	}
	var mu sync.Mutex
	var sum int64
	err = r.eachSubscription(t, func(s *cmq.Subscription) error {
		n, err := r.backlog(ctx, t, s)
		mu.Lock()
		defer mu.Unlock()
		sum += n
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	return t, sum, nil
}

// TopicRoute gives the TCP addresses of the nodes with a replica of the topic's set, the one that led it last in front.
func (r *Router) TopicRoute(ctx context.Context, owner, name string) ([]string, error) {
	t, err := r.findTopic(ctx, owner, name)
	if err != nil {
		return nil, err
	}
	return r.addresses(t.Set), nil
}
