package node

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/dispatch/push"
)

const (
	// trialLimit bounds one trial: the 15 s an endpoint has, and some for its host to have room.
	trialLimit = 20 * time.Second
	// mostTrials is how many trials a node makes at once. They are made by people who look.
	mostTrials = 16
)

// startTrial delivers a message of no one to a subscription of a set that this node leads. Nothing of it is in the log.
func (n *Node) startTrial(h *hosted, req *cmq.Request, done func(*cmq.Reply, error)) cmq.Pending {
	if leader := n.leader(h.id); leader != n.opt.ID {
		done(nil, &cmq.NotLeaderError{Set: h.id, Leader: leader})
		return cmq.Answered{}
	}
	if n.ctx.Err() != nil {
		done(nil, cmq.ErrStopping)
		return cmq.Answered{}
	}
	select {
	case n.trials <- struct{}{}:
	default:
		done(&cmq.Reply{Err: cmq.ErrFrequency}, nil)
		return cmq.Answered{}
	}
	ctx, cancel := context.WithTimeout(n.ctx, trialLimit)
	n.wg.Go(func() {
		defer cancel()
		defer func() { <-n.trials }()
		done(n.trial(ctx, req))
	})
	return canceling(cancel)
}

// canceling is a cmq.Pending.
type canceling context.CancelFunc

// Cancel implements cmq.Pending.
func (c canceling) Cancel() { c() }

func (n *Node) trial(ctx context.Context, req *cmq.Request) (*cmq.Reply, error) {
	if len(req.Bodies) != 1 {
		return &cmq.Reply{Err: cmq.ErrParameters}, nil
	}
	if err := n.meta.Sync(ctx); err != nil { // it may have been made or changed just now
		return nil, err
	}
	table := n.meta.Table()
	s := table.SubscriptionByShard(req.Shard)
	if s == nil {
		return &cmq.Reply{Err: cmq.ErrSubscriptionNotExist}, nil
	}
	topic := table.TopicByID(s.Topic)
	if topic == nil {
		return &cmq.Reply{Err: cmq.ErrTopicNotExist}, nil
	}
	payload, err := json.Marshal(n.pusher.Trial(ctx, push.Outlet{Set: topic.Set, Topic: topic, Subscription: s}, req.Bodies[0]))
	if err != nil {
		return nil, fmt.Errorf("what came of a trial has no JSON form: %w", err)
	}
	return &cmq.Reply{Payload: payload}, nil
}
