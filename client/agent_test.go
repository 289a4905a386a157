package client_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/client"
)

// TestAgentAtTheDoor: everything an agent does, with the server's own door.
func TestAgentAtTheDoor(t *testing.T) {
	c := newClient(t, doors(t))
	ctx := t.Context()
	_, err := c.CreateQueue(ctx, "dead", client.Settings{})
	require.NoError(t, err)
	_, err = c.CreateTopic(ctx, "news", client.TopicSettings{})
	require.NoError(t, err)
	topic := c.Topic("news")
	hook := client.Subscription{Protocol: client.ToHTTP, Endpoint: "http://10.0.0.7/", NotifyStrategy: client.BackoffRetry, NotifyContentFormat: client.FormatSimplified,
		Push: client.PushSettings{Secret: new("0123456789abcdef"), Rate: new(5), Concurrency: new(2), DeadLetter: new("dead"), Agent: new("plant")}}
	id, err := topic.Subscribe(ctx, "hook", hook)
	require.NoError(t, err)
	_, err = topic.Subscribe(ctx, "queue", client.Subscription{Protocol: client.ToQueue, Endpoint: "dead", Push: client.PushSettings{Agent: new("plant")}})
	require.Error(t, err, "a queue is the cluster's own")
	at, err := topic.Subscription(ctx, "hook")
	require.NoError(t, err)
	require.Equal(t, new("plant"), at.Push.Agent)
	require.Equal(t, new(0), at.Agents)

	a, other := c.Agent("Plant"), c.Agent("plant")
	all, err := a.Subscriptions(ctx, "")
	require.NoError(t, err)
	hook.Push.Agent = nil
	require.Equal(t, &client.AgentSubscriptions{Version: all.Version, Changed: true, Agents: 1, List: []client.AgentSubscription{
		{ID: id, Name: "hook", Topic: "news", TopicOwner: "me", Subscription: hook}}}, all)
	again, err := other.Subscriptions(ctx, all.Version)
	require.NoError(t, err)
	require.Equal(t, &client.AgentSubscriptions{Version: all.Version, Agents: 2}, again)
	require.NoError(t, other.Leave(ctx))
	at, err = topic.Subscription(ctx, "hook")
	require.NoError(t, err)
	require.Equal(t, new(1), at.Agents)

	_, err = a.Receive(ctx, id, client.ReceiveOptions{})
	require.ErrorIs(t, err, client.ErrNoMessage)
	before := time.Now().Add(-time.Second)
	msgID, err := topic.Publish(ctx, "\x00\xff<é>", client.PublishOptions{Tags: []string{"a", "b"}})
	require.NoError(t, err)
	messages, err := a.Receive(ctx, id, client.ReceiveOptions{Max: 16, Wait: 20 * time.Second, Visibility: 30 * time.Second})
	require.NoError(t, err)
	require.Len(t, messages, 1)
	m := messages[0]
	require.Equal(t, []any{msgID, []byte("\x00\xff<é>"), 1, []string{"a", "b"}, ""}, []any{m.ID, m.Body, m.DequeueCount, m.Tags, m.RoutingKey})
	require.True(t, m.Published.After(before))
	require.InDelta(t, 30, m.NextVisible.Sub(m.Published).Seconds(), 5)
	_, err = topic.Publish(ctx, "next", client.PublishOptions{})
	require.NoError(t, err)
	_, err = other.Receive(ctx, id, client.ReceiveOptions{})
	require.ErrorIs(t, err, client.ErrTooMany, "it delivers in order")

	require.NoError(t, a.ChangeVisibility(ctx, id, m.Handle, 0))
	messages, err = other.Receive(ctx, id, client.ReceiveOptions{})
	require.NoError(t, err)
	require.Equal(t, 2, messages[0].DequeueCount)
	require.ErrorIs(t, a.Delete(ctx, id, m.Handle), client.ErrHandleInvalid)
	require.NoError(t, other.Delete(ctx, id, messages[0].Handle))
	require.NoError(t, topic.SetSubscription(ctx, "hook", client.Subscription{Push: client.PushSettings{Agent: new("")}}))
	_, err = a.Receive(ctx, id, client.ReceiveOptions{})
	require.ErrorIs(t, err, client.ErrNotSubscribed)
	all, err = a.Subscriptions(ctx, all.Version)
	require.NoError(t, err)
	require.True(t, all.Changed)
	require.Empty(t, all.List)
}
