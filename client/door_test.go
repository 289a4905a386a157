package client_test

import (
	"context"
	"log/slog"
	"net"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/client"
	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/access/accesstest"
	"github.com/opencmq/cmq/internal/access/httpapi"
	"github.com/opencmq/cmq/internal/access/tcpapi"
	"github.com/opencmq/cmq/internal/clock"
	"github.com/opencmq/cmq/internal/cmq"
)

type testKeys struct{}

func (testKeys) Key(id string) (*cmq.AccessKey, bool) {
	return &cmq.AccessKey{ID: id, Secret: testKey, Owner: "me", Enabled: true}, id == testID
}

// doors runs both doors of the server on loopback addresses, before a service in memory, and gives the HTTP endpoint.
func doors(t *testing.T) string {
	fake := accesstest.New(clock.Real())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	fake.Routes = []string{listener.Addr().String()}
	log := slog.New(slog.DiscardHandler)
	producers := access.NewProducers(accesstest.Node, fake, log)
	tcp := tcpapi.New(tcpapi.Config{Backend: fake, Keys: testKeys{}, Producers: producers, Logger: log})
	served := make(chan error, 1)
	go func() { served <- tcp.Serve(listener) }()
	srv := httptest.NewServer(httpapi.New(httpapi.Config{Backend: fake, Keys: testKeys{}, Logger: log}))
	t.Cleanup(func() {
		srv.Close()
		listener.Close()
		require.ErrorIs(t, <-served, tcpapi.ErrClosed)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		tcp.Shutdown(ctx)
		producers.Close()
	})
	return srv.URL
}

// TestTopicsAtTheDoor: everything about topics, with the server's own doors, over HTTP and over TCP.
func TestTopicsAtTheDoor(t *testing.T) {
	for name, opts := range map[string][]client.Option{"HTTP": nil, "TCP": {client.WithTCP()}} {
		t.Run(name, func(t *testing.T) { topicLife(t, newClient(t, doors(t), opts...)) })
	}
}

func topicLife(t *testing.T, c *client.Client) {
	ctx := t.Context()
	for _, name := range []string{"all", "red", "failed"} {
		_, err := c.CreateQueue(ctx, name, client.Settings{})
		require.NoError(t, err)
	}
	_, err := c.CreateTopic(ctx, "news", client.TopicSettings{MaxMsgSize: 2048, MsgRetention: time.Hour})
	require.NoError(t, err)
	_, err = c.CreateTopic(ctx, "news", client.TopicSettings{})
	require.ErrorIs(t, err, client.ErrTopicExists)
	topic := c.Topic("news")
	_, err = topic.Publish(ctx, "x", client.PublishOptions{})
	require.ErrorIs(t, err, client.ErrNobody)

	_, err = topic.Subscribe(ctx, "red", client.Subscription{Protocol: client.ToQueue, Endpoint: "red", FilterTags: []string{"red", "@"}})
	require.NoError(t, err)
	_, err = topic.Subscribe(ctx, "RED", client.Subscription{Protocol: client.ToQueue, Endpoint: "red"})
	require.ErrorIs(t, err, client.ErrSubscribed)
	_, err = topic.Publish(ctx, "x", client.PublishOptions{})
	require.ErrorIs(t, err, client.ErrNoMatch)
	require.Equal(t, client.NotStored, client.OutcomeOf(err))
	_, err = topic.Subscribe(ctx, "all", client.Subscription{Protocol: client.ToQueue, Endpoint: "all"})
	require.NoError(t, err)

	id, err := topic.Publish(ctx, "@one", client.PublishOptions{Tags: []string{"@", "blue"}})
	require.NoError(t, err)
	ids, err := topic.BatchPublish(ctx, []string{"two", "three"}, client.PublishOptions{RoutingKey: "not.looked.at"})
	require.NoError(t, err)
	_, err = topic.Publish(ctx, string(make([]byte, 2049)), client.PublishOptions{})
	require.ErrorIs(t, err, client.ErrMsgSize)
	_, err = c.Topic("none").Publish(ctx, "x", client.PublishOptions{})
	require.ErrorIs(t, err, client.ErrTopicNotExist)
	for queue, want := range map[string][]string{"red": {id}, "all": append([]string{id}, ids...)} {
		for _, msgID := range want {
			m, err := c.Queue(queue).Receive(ctx, 0)
			require.NoError(t, err)
			require.Equal(t, msgID, m.ID)
		}
		_, err := c.Queue(queue).Receive(ctx, 0)
		require.ErrorIs(t, err, client.ErrNoMessage)
	}

	require.NoError(t, topic.SetAttributes(ctx, client.TopicSettings{MaxMsgSize: 4096}))
	attrs, err := topic.Attributes(ctx)
	require.NoError(t, err)
	require.Equal(t, []any{4096, time.Hour, client.ByTags, int64(0)}, []any{attrs.MaxMsgSize, attrs.MsgRetention, attrs.Filter, attrs.MsgCount})
	subscriptionLife(t, topic)
	require.ErrorIs(t, c.DeleteTopic(ctx, "news"), client.ErrTopicInUse)
	list, err := topic.Subscriptions(ctx, client.ListOptions{Limit: 100})
	require.NoError(t, err)
	for _, s := range list.Subscriptions {
		require.NoError(t, topic.Unsubscribe(ctx, s.Name))
	}
	require.ErrorIs(t, topic.Unsubscribe(ctx, "red"), client.ErrNotSubscribed)
	require.NoError(t, c.DeleteTopic(ctx, "news"))
	topics, err := c.ListTopics(ctx, client.ListOptions{})
	require.NoError(t, err)
	require.Zero(t, topics.Total)
}

func subscriptionLife(t *testing.T, topic *client.Topic) {
	ctx := t.Context()
	push := client.PushSettings{Secret: new("0123456789abcdef"), Rate: new(5), Concurrency: new(2), Ordered: new(true), Paused: new(true), DeadLetter: new("failed")}
	_, err := topic.Subscribe(ctx, "hook", client.Subscription{Protocol: client.ToHTTP, Endpoint: "http://h/", NotifyStrategy: client.BackoffRetry, NotifyContentFormat: client.FormatCloudEvents, Push: push})
	require.NoError(t, err)
	_, err = topic.Publish(ctx, "waits", client.PublishOptions{})
	require.NoError(t, err)
	s, err := topic.Subscription(ctx, "hook")
	require.NoError(t, err)
	push.Secret = nil
	require.Equal(t, client.Subscription{Protocol: client.ToHTTP, Endpoint: "http://h/", NotifyStrategy: client.BackoffRetry, NotifyContentFormat: client.FormatCloudEvents,
		FilterTags: []string{}, BindingKeys: []string{}, Push: push}, s.Subscription)
	require.True(t, s.Signed)
	require.EqualValues(t, 1, s.MsgCount)

	require.NoError(t, topic.SetSubscription(ctx, "hook", client.Subscription{NotifyContentFormat: client.FormatJSON, FilterTags: []string{"a", "b"},
		Push: client.PushSettings{Secret: new(""), Rate: new(0), Concurrency: new(0), Ordered: new(false), Paused: new(false), DeadLetter: new("")}}))
	s, err = topic.Subscription(ctx, "hook")
	require.NoError(t, err)
	require.False(t, s.Signed)
	require.Equal(t, client.Subscription{Protocol: client.ToHTTP, Endpoint: "http://h/", NotifyStrategy: client.BackoffRetry, NotifyContentFormat: client.FormatJSON,
		FilterTags: []string{"a", "b"}, BindingKeys: []string{}}, s.Subscription)
	require.NoError(t, topic.ClearFilterTags(ctx, "hook"))
	s, err = topic.Subscription(ctx, "hook")
	require.NoError(t, err)
	require.Empty(t, s.FilterTags)
	addrs, err := topic.Route(ctx)
	require.NoError(t, err)
	require.Len(t, addrs, 1)
}
