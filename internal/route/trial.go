package route

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/opencmq/cmq/internal/cmq"
)

// TestSubscription delivers the body to the subscription's endpoint at once, from the node that delivers what is published
// too, and says what came of it. Nothing is stored. Of a subscription that delivers to a queue it says whether the queue is
// there, and nothing is sent. ErrFrequency: that node makes as many tests already as it may.
func (r *Router) TestSubscription(ctx context.Context, owner, topic, name string, body []byte) (*cmq.Trial, error) {
	t, s, err := r.findSubscription(ctx, owner, topic, name)
	if err != nil {
		return nil, err
	}
	switch {
	case s.Protocol == cmq.ProtocolQueue:
		return r.queueTrial(s), nil
	case s.Push.Agent != "":
		return &cmq.Trial{Reason: "agent", Advice: "What this subscription gets is delivered by the agent " + s.Push.Agent +
			" in a network of its own, which the service cannot reach. Publish a message, and look at the agent's log."}, nil
	}
	reply, err := refused(r.Do(ctx, t.Set, &cmq.Request{Kind: cmq.KindTrial, Shard: s.ID.Shard(), Bodies: [][]byte{body}}))
	if err != nil {
		return nil, err
	}
	trial := new(cmq.Trial)
	if err := json.Unmarshal(reply.Payload, trial); err != nil {
		return nil, fmt.Errorf("what came of the test of subscription %s cannot be read: %w", s.Name, err)
	}
	return trial, nil
}

// queueTrial looks for the queue.
func (r *Router) queueTrial(s *cmq.Subscription) *cmq.Trial {
	if r.cfg.Meta.Table().Queue(s.Owner, s.Endpoint) != nil {
		return &cmq.Trial{Taken: true}
	}
	return &cmq.Trial{Reason: "no queue", Advice: "There is no queue " + s.Endpoint + ". Make it: what is published waits for it in the subscription."}
}
