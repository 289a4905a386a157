package httpapi

import (
	"context"
	"encoding/base64"
	"errors"
	"hash/fnv"
	"strconv"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// Actions of agents (docs/api.md). All of them are ours.

// agentStay is for how long an agent counts as connected after it has asked for its subscriptions: a few times the pause
// between two questions.
const agentStay = 15 * time.Second

// agentName gives the required name of an agent.
func (c *call) agentName() (string, error) { return c.name("agent", cmq.ErrParameterRange("agent")) }

// listSubscriptionByAgent gives an agent everything it needs to deliver, the secrets of signatures included: they are the
// account's own. With the version of a list that is still the newest it gives only that.
func (c *call) listSubscriptionByAgent(ctx context.Context) error {
	agent, err := c.agentName()
	if err != nil {
		return err
	}
	presence, err := c.presence()
	if err != nil {
		return err
	}
	known, err := c.find("version")
	if err != nil {
		return err
	}
	list, connected, err := c.backend().AgentSupplies(ctx, c.owner, agent, presence)
	if err != nil {
		return err
	}
	c.envelope(nil)
	version := supplyVersion(list)
	c.text("version", version)
	if connected >= 0 {
		c.number("agents", int64(connected))
	}
	if string(known) == version {
		return nil
	}
	c.key("subscriptionList")
	c.out = append(c.out, '[')
	for i := range list {
		if i > 0 {
			c.out = append(c.out, ',')
		}
		c.appendSupply(&list[i])
	}
	c.out = append(c.out, ']')
	return nil
}

// presence reads which process of the agent asks, and whether it leaves.
func (c *call) presence() (cmq.Presence, error) {
	text, err := c.required("instance")
	if err != nil {
		return cmq.Presence{}, err
	}
	member, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil || member == 0 {
		return cmq.Presence{}, cmq.ErrParameterRange("instance")
	}
	leaving, err := c.boolean("leaving")
	if err != nil {
		return cmq.Presence{}, err
	}
	if leaving != nil && *leaving {
		return cmq.Presence{Member: member}, nil
	}
	return cmq.Presence{Member: member, Stay: agentStay}, nil
}

// supplyVersion changes with whatever appendSupply writes.
func supplyVersion(list []cmq.Supply) string {
	h := fnv.New64a()
	for _, s := range list {
		for _, n := range []uint64{uint64(s.Topic.ID), s.Topic.Version, uint64(s.Subscription.ID), s.Subscription.Version} {
			h.Write(strconv.AppendUint(nil, n, 36))
			h.Write([]byte{' '})
		}
		h.Write([]byte(s.Subscription.Push.DeadLetterName + "\n"))
	}
	return strconv.FormatUint(h.Sum64(), 36)
}

func (c *call) appendSupply(s *cmq.Supply) {
	c.out = appendString(append(c.out, `{"subscriptionId":`...), s.Subscription.ID.String())
	c.text("subscriptionName", s.Subscription.Name)
	c.text("topicName", s.Topic.Name)
	c.text("topicOwner", s.Topic.Owner)
	c.text("protocol", string(s.Subscription.Protocol))
	c.text("endpoint", s.Subscription.Endpoint)
	c.text("notifyStrategy", string(s.Subscription.Strategy))
	c.text("notifyContentFormat", string(s.Subscription.Format))
	push := s.Subscription.Push
	if push.Secret != "" {
		c.text("pushSecret", push.Secret)
	}
	push.Agent = "" // which the agent knows
	c.pushAttributes(&push)
	c.out = append(c.out, '}')
}

// subscriptionID gives the subscription that the request is about, by its number: a name may stand for another one by the
// time the handle of a message comes back.
func (c *call) subscriptionID() (cmq.SubscriptionID, error) {
	text, err := c.required("subscriptionId")
	if err != nil {
		return 0, err
	}
	id, ok := cmq.ParseSubscriptionID(string(text))
	if !ok {
		return 0, cmq.ErrParameterRange("subscriptionId")
	}
	return id, nil
}

// supply gives the names that every request for messages of a subscription has.
func (c *call) supply() (agent string, id cmq.SubscriptionID, err error) {
	if agent, err = c.agentName(); err != nil {
		return "", 0, err
	}
	id, err = c.subscriptionID()
	return agent, id, err
}

func (c *call) receiveSubscriptionMessage() error {
	agent, id, err := c.supply()
	if err != nil {
		return err
	}
	limits := &c.door.config.Limits
	most, err := c.integerOr("numOfMsg", cmq.Range{Min: 1, Max: int64(limits.BatchEntries)}, 1)
	if err != nil {
		return err
	}
	messages, err := c.poll(func(e ends, wait *time.Duration, lock time.Duration) ([]cmq.Message, error) {
		req := &cmq.Request{Kind: cmq.KindReceive, Max: int(most), Lock: lock}
		if wait != nil {
			req.Wait = *wait
		}
		return c.supplied(e, agent, id, req)
	})
	if err != nil {
		return err
	}
	c.envelope(nil)
	c.key("msgInfoList")
	for i := range messages {
		c.out = append(c.out, "[,"[min(i, 1)])
		c.appendPublished(&messages[i])
	}
	c.out = append(c.out, ']')
	return c.deliverOr(messages, func(ctx context.Context, handles []cmq.Handle) error {
		_, err := c.backend().AgentCall(ctx, c.owner, agent, id, &cmq.Request{Kind: cmq.KindRelease, Handles: handles})
		return err
	})
}

// supplied gives what an agent's receive brings. There are few agents: the Backend waits.
func (c *call) supplied(e ends, agent string, id cmq.SubscriptionID, req *cmq.Request) ([]cmq.Message, error) {
	polls := c.door.config.Polls
	bound, forget := polls.Bound(c.r.Context())
	defer forget()
	ctx, cancel := context.WithTimeout(bound, e.after)
	defer cancel()
	reply, err := c.backend().AgentCall(ctx, c.owner, agent, id, req)
	switch {
	case err == nil:
		return reply.Messages, nil
	case polls.Ended() && c.r.Context().Err() == nil && errors.Is(err, context.Canceled):
		return nil, cmq.ErrNoMessage
	}
	return nil, err
}

// appendPublished writes a message of a topic: its body byte for byte, and its times to the millisecond.
func (c *call) appendPublished(m *cmq.Message) {
	c.out = appendQuotedUint(append(c.out, `{"msgId":`...), uint64(m.ID))
	c.key("receiptHandle")
	c.out = appendQuotedUint(c.out, uint64(m.Handle))
	c.key("msgBodyBase64")
	c.out = append(base64.StdEncoding.AppendEncode(append(c.out, '"'), m.Body), '"')
	c.number("publishTimeMs", max(0, m.Enqueued.UnixMilli()))
	c.number("nextVisibleTimeMs", max(0, m.NextVisible.UnixMilli()))
	c.number("dequeueCount", int64(m.DequeueCount))
	if p := m.Publication; p != nil {
		c.texts("msgTag", p.Tags)
		c.text("routingKey", p.RoutingKey)
	}
	c.out = append(c.out, '}')
}

func (c *call) deleteSubscriptionMessage(ctx context.Context) error {
	agent, id, err := c.supply()
	if err != nil {
		return err
	}
	return c.onHandle(func(handles []cmq.Handle) ([]*cmq.Error, error) {
		return settled(c.backend().AgentCall(ctx, c.owner, agent, id, &cmq.Request{Kind: cmq.KindDelete, Handles: handles}))
	})
}

// longestRelock is that of a retry: an endpoint may ask for the rest of the day in which a message is delivered.
const longestRelock = 24 * time.Hour

// changeSubscriptionMessageVisibility takes milliseconds, because the schedule of retries does not go by seconds.
func (c *call) changeSubscriptionMessageVisibility(ctx context.Context) error {
	agent, id, err := c.supply()
	if err != nil {
		return err
	}
	const name = "visibilityTimeoutMs"
	lock, err := c.integer(name, cmq.Range{Min: 0, Max: longestRelock.Milliseconds()})
	if err != nil {
		return err
	}
	if lock == nil {
		return cmq.ErrParameterMissing(name)
	}
	return c.onHandle(func(handles []cmq.Handle) ([]*cmq.Error, error) {
		req := &cmq.Request{Kind: cmq.KindRelock, Handles: handles, Lock: time.Duration(*lock) * time.Millisecond}
		return settled(c.backend().AgentCall(ctx, c.owner, agent, id, req))
	})
}

func settled(reply *cmq.Reply, err error) ([]*cmq.Error, error) {
	if err != nil {
		return nil, err
	}
	return reply.Errors, nil
}
