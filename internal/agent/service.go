package agent

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/opencmq/cmq/client"
	"github.com/opencmq/cmq/internal/cmq"
)

// do is push.Do over the door of a node. Sets are the cluster's business.
func (a *Agent) do(ctx context.Context, _ cmq.SetID, req *cmq.Request) (*cmq.Reply, error) {
	id := cmq.SubscriptionID(req.Shard.Queue()).String()
	switch req.Kind {
	case cmq.KindStatus:
		// How many messages are in retry nobody tells an agent. There may be some, as after a change of leader.
		return &cmq.Reply{Status: cmq.ShardStatus{Inactive: 1}}, nil
	case cmq.KindReceive:
		return a.receive(ctx, id, req)
	case cmq.KindDelete:
		return a.settle(req, func(handle string) error { return a.cfg.Service.Delete(ctx, id, handle) })
	case cmq.KindRelock:
		return a.settle(req, func(handle string) error { return a.cfg.Service.ChangeVisibility(ctx, id, handle, req.Lock) })
	}
	panic(fmt.Sprintf("BUG: push asks an agent for a request of kind %d", req.Kind))
}

func (a *Agent) receive(ctx context.Context, id string, req *cmq.Request) (*cmq.Reply, error) {
	list, err := a.cfg.Service.Receive(ctx, id, client.ReceiveOptions{Max: req.Max, Wait: req.Wait, Visibility: req.Lock})
	if errors.Is(err, client.ErrNoMessage) {
		return new(cmq.Reply), nil
	}
	if err != nil {
		return nil, translate(err)
	}
	reply := &cmq.Reply{Messages: make([]cmq.Message, len(list))}
	for i := range list {
		if reply.Messages[i], err = message(&list[i]); err != nil {
			return nil, err
		}
	}
	return reply, nil
}

func message(m *client.PublishedMessage) (cmq.Message, error) {
	id, err := strconv.ParseUint(m.ID, 10, 64)
	if err != nil {
		return cmq.Message{}, fmt.Errorf("the cluster sent a message with an id that is no number: %w", err)
	}
	handle, err := strconv.ParseUint(m.Handle, 10, 64)
	if err != nil {
		return cmq.Message{}, fmt.Errorf("the cluster sent a message with a handle that is no number: %w", err)
	}
	return cmq.Message{
		ID: cmq.MsgID(id), Handle: cmq.Handle(handle), Body: m.Body, Enqueued: m.Published, NextVisible: m.NextVisible, DequeueCount: m.DequeueCount,
		Publication: &cmq.Publication{Tags: m.Tags, RoutingKey: m.RoutingKey},
	}, nil
}

// settle makes a request about the one handle that push names.
func (a *Agent) settle(req *cmq.Request, one func(handle string) error) (*cmq.Reply, error) {
	err := one(req.Handles[0].String())
	if errors.Is(err, client.ErrHandleInvalid) {
		return &cmq.Reply{Errors: []*cmq.Error{cmq.ErrHandleInvalid}}, nil
	}
	if err != nil {
		return nil, translate(err)
	}
	return &cmq.Reply{Errors: []*cmq.Error{nil}}, nil
}

// translate gives the errors that push tells apart.
func translate(err error) error {
	switch {
	case errors.Is(err, client.ErrTooMany):
		return cmq.ErrTooMany
	case errors.Is(err, client.ErrNotSubscribed), errors.Is(err, client.ErrTopicNotExist):
		return cmq.ErrQueueNotExist
	case client.OutcomeOf(err) == client.Unknown:
		return fmt.Errorf("%w: %w", cmq.ErrUnknownOutcome, err)
	}
	return err
}
