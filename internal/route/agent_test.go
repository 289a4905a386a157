package route_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
)

// toAgent is a subscription that an agent delivers.
func toAgent(agent string) cmq.SubscriptionSettings {
	s := toURL()
	s.Agent = &agent
	return s
}

func TestAgentGetsItsSubscriptions(t *testing.T) {
	c, dead := withQueue(t, 1)
	ctx := t.Context()
	r := c.router(1)
	for _, owner := range []string{"me", "you"} {
		_, err := r.CreateTopic(ctx, owner, "news", cmq.TopicSettings{})
		require.NoError(t, err)
	}
	subscribe := func(owner, name string, s cmq.SubscriptionSettings) cmq.SubscriptionID {
		id, err := r.Subscribe(ctx, owner, "news", name, s)
		require.NoError(t, err)
		return id
	}
	withDead := toAgent("Plant")
	withDead.DeadLetter = &dead.Name
	first := subscribe("me", "first", withDead)
	subscribe("me", "ours", toURL())
	subscribe("me", "elsewhere", toAgent("office"))
	subscribe("you", "theirs", toAgent("plant"))
	for _, id := range members {
		c.nodes[id].fresh = false
		list, connected, err := c.router(id).AgentSupplies(ctx, "me", "pLANT", cmq.Presence{Member: uint64(id), Stay: time.Minute})
		require.NoError(t, err)
		require.Equal(t, int(id), connected, "each node's agent is one more")
		require.Len(t, list, 1)
		require.Equal(t, first, list[0].Subscription.ID)
		require.Equal(t, "news", list[0].Topic.Name)
		require.Equal(t, "q", list[0].Subscription.Push.DeadLetterName)
	}
	s, _, err := c.router(2).SubscriptionAttributes(ctx, "me", "news", "first")
	require.NoError(t, err)
	require.Equal(t, 3, s.Push.Agents)
	s, _, err = c.router(2).SubscriptionAttributes(ctx, "me", "news", "elsewhere")
	require.NoError(t, err)
	require.Zero(t, s.Push.Agents)
	_, connected, err := c.router(3).AgentSupplies(ctx, "me", "plant", cmq.Presence{Member: 3})
	require.NoError(t, err)
	require.Equal(t, 2, connected, "it has left")
}

// TestWhoIsThereIsNotWaitedFor: an agent works whatever is known of the others.
func TestWhoIsThereIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster()
		r, ctx := c.router(1), t.Context()
		_, err := r.CreateTopic(ctx, "me", "news", cmq.TopicSettings{})
		require.NoError(t, err)
		_, err = r.Subscribe(ctx, "me", "news", "s", toAgent("plant"))
		require.NoError(t, err)
		for _, fails := range []error{errors.New("an older program does not know this kind"), &cmq.NotLeaderError{}} {
			c.before = func(_ cmq.NodeID, req *cmq.Request) error {
				if req.Kind == cmq.KindAttend {
					return fails
				}
				return nil
			}
			began := time.Now()
			list, connected, err := r.AgentSupplies(ctx, "me", "plant", cmq.Presence{Member: 1, Stay: time.Minute})
			require.NoError(t, err)
			require.Len(t, list, 1)
			require.Equal(t, -1, connected)
			require.LessOrEqual(t, time.Since(began), 2*time.Second)
		}
		c.before = nil
		c.newLeader = true
		_, connected, err := r.AgentSupplies(ctx, "me", "plant", cmq.Presence{Member: 1, Stay: time.Minute})
		require.NoError(t, err)
		require.Equal(t, -1, connected, "the leader does not know yet")
	})
}

func TestAgentReceivesAndSettles(t *testing.T) {
	c := newCluster()
	ctx := t.Context()
	_, err := c.router(1).CreateTopic(ctx, "me", "news", cmq.TopicSettings{})
	require.NoError(t, err)
	id, err := c.router(1).Subscribe(ctx, "me", "news", "s", toAgent("plant"))
	require.NoError(t, err)
	_, err = c.router(3).Publish(ctx, "me", "news", [][]byte{[]byte("a"), []byte("b"), []byte("c")}, cmq.Publication{})
	require.NoError(t, err)
	receive := &cmq.Request{Kind: cmq.KindReceive, Max: 1, Lock: 30 * time.Second, Wait: time.Second}
	for i, kind := range []cmq.Kind{cmq.KindDelete, cmq.KindRelock, cmq.KindRelease} {
		r := c.router(members[i])
		reply, err := r.AgentCall(ctx, "me", "PLANT", id, receive)
		require.NoError(t, err)
		require.Len(t, reply.Messages, 1)
		require.Zero(t, receive.Shard, "the request is the caller's")
		handles := []cmq.Handle{reply.Messages[0].Handle}
		reply, err = r.AgentCall(ctx, "me", "plant", id, &cmq.Request{Kind: kind, Handles: handles, Lock: time.Minute})
		require.NoError(t, err)
		if kind != cmq.KindRelease {
			require.Equal(t, []*cmq.Error{nil}, reply.Errors)
		}
	}
	for name, call := range map[string]func() (*cmq.Reply, error){
		"another agent":        func() (*cmq.Reply, error) { return c.router(2).AgentCall(ctx, "me", "office", id, receive) },
		"another account":      func() (*cmq.Reply, error) { return c.router(2).AgentCall(ctx, "you", "plant", id, receive) },
		"another subscription": func() (*cmq.Reply, error) { return c.router(2).AgentCall(ctx, "me", "plant", id+100, receive) },
	} {
		_, err := call()
		require.ErrorIs(t, err, cmq.ErrSubscriptionNotExist, name)
	}

	reply, err := c.router(2).AgentCall(ctx, "me", "plant", id, receive)
	require.NoError(t, err)
	require.NoError(t, c.router(1).SetSubscriptionAttributes(ctx, "me", "news", "s", cmq.SubscriptionSettings{Agent: ptr("office")}))
	_, err = c.router(2).AgentCall(ctx, "me", "plant", id, receive)
	require.ErrorIs(t, err, cmq.ErrSubscriptionNotExist, "it is another's now")
	reply, err = c.router(2).AgentCall(ctx, "me", "plant", id, &cmq.Request{Kind: cmq.KindDelete, Handles: []cmq.Handle{reply.Messages[0].Handle}})
	require.NoError(t, err)
	require.Equal(t, []*cmq.Error{nil}, reply.Errors, "what it has delivered it may say")
	_, err = c.router(2).AgentCall(ctx, "you", "office", id, &cmq.Request{Kind: cmq.KindDelete})
	require.ErrorIs(t, err, cmq.ErrSubscriptionNotExist, "but not another account")

	require.NoError(t, c.router(1).Unsubscribe(ctx, "me", "news", "s"))
	c.nodes[3].fresh = false
	_, err = c.router(3).AgentCall(ctx, "me", "office", id, receive)
	require.ErrorIs(t, err, cmq.ErrSubscriptionNotExist)
}

// TestAgentOfANodeBehind: a subscription that this node has not heard of yet is looked up.
func TestAgentOfANodeBehind(t *testing.T) {
	c := newCluster()
	ctx := t.Context()
	c.nodes[3].fresh = false
	_, err := c.router(1).CreateTopic(ctx, "me", "news", cmq.TopicSettings{})
	require.NoError(t, err)
	id, err := c.router(1).Subscribe(ctx, "me", "news", "s", toAgent("plant"))
	require.NoError(t, err)
	reply, err := c.router(3).AgentCall(ctx, "me", "plant", id, &cmq.Request{Kind: cmq.KindReceive, Max: 1})
	require.NoError(t, err)
	require.Empty(t, reply.Messages)
}
