package route

import (
	"context"
	"errors"

	"github.com/opencmq/cmq/internal/cmq"
)

// Publish stores all bodies once, for every subscription of the topic that matches, or none.
func (r *Router) Publish(ctx context.Context, owner, topic string, bodies [][]byte, publication cmq.Publication) ([]cmq.MsgID, error) {
	return r.publish(ctx, nil, owner, topic, &cmq.Request{Kind: cmq.KindPublish, Bodies: bodies, Publication: &publication})
}

// publish goes on from an opening. A topic that has no subscription may be one that is gone, with a namesake our table
// does not know yet.
func (r *Router) publish(ctx context.Context, o *opening, owner, name string, req *cmq.Request) ([]cmq.MsgID, error) {
	t, err := r.findTopic(ctx, owner, name)
	if err != nil {
		return nil, err
	}
	ids, err := r.publishTo(ctx, o, t, req)
	if !errors.Is(err, cmq.ErrNoSubscription) {
		return ids, err
	}
	now, err := r.findTopicFresh(ctx, owner, name)
	switch {
	case err != nil:
		return nil, err
	case now.ID == t.ID:
		return nil, cmq.ErrNoSubscription
	}
	return r.publishTo(ctx, nil, now, req)
}

func (r *Router) publishTo(ctx context.Context, o *opening, t *cmq.Topic, req *cmq.Request) ([]cmq.MsgID, error) {
	if err := unpublishable(t, req); err != nil {
		return nil, err
	}
	one := *req
	one.Shard = t.ID.Shard()
	s := o.search(cmq.Shard{ID: one.Shard})
	if s == nil {
		s = r.search(t.Set, &one)
	}
	reply, err := refused(s.run(ctx))
	if err != nil {
		return nil, err
	}
	return reply.IDs, nil
}

// unpublishable says what is wrong with the request for this topic.
func unpublishable(t *cmq.Topic, req *cmq.Request) error {
	if t.Filter == cmq.FilterKeys && req.Publication.RoutingKey == "" {
		return cmq.ErrRoutingKey
	}
	for _, body := range req.Bodies {
		if len(body) > t.MaxMsgSize {
			return cmq.ErrMsgSize
		}
	}
	return nil
}

// StartPublish is Publish without waiting, see cmq.Pending.
func (r *Router) StartPublish(owner, topic string, bodies [][]byte, publication cmq.Publication, done func([]cmq.MsgID, error)) cmq.Pending {
	f := &publishing{flight: flight{r: r, owner: owner, name: topic}, done: done}
	f.call = f
	req := &f.first.req
	req.Kind, req.Bodies, req.Publication = cmq.KindPublish, bodies, &publication
	t := r.cfg.Meta.Table().Topic(owner, topic)
	if t == nil || unpublishable(t, req) != nil {
		return f.await(nil)
	}
	return f.try(nil, []cmq.Shard{{ID: t.ID.Shard(), Set: t.Set}})
}

// publishing is a started Publish.
type publishing struct {
	flight
	done func([]cmq.MsgID, error)
}

func (f *publishing) goOn(ctx context.Context, o *opening) {
	if ids, err := f.r.publish(ctx, o, f.owner, f.name, &f.first.req); f.end() {
		f.done(ids, err)
	}
}

func (f *publishing) answer(reply *cmq.Reply) { f.done(reply.IDs, nil) }
func (f *publishing) fail(err error)          { f.done(nil, err) }
