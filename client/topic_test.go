package client_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/client"
)

// unsigned gives the parameters of a form that are not common to all requests, as they were written.
func unsigned(form string) string {
	var own []string
	for p := range strings.SplitSeq(form, "&") {
		switch name, _, _ := strings.Cut(p, "="); name {
		case "Nonce", "RequestClient", "SecretId", "Signature", "SignatureMethod", "Timestamp":
		default:
			own = append(own, p)
		}
	}
	return strings.Join(own, "&")
}

// topicService checks the signature of each request and keeps its own parameters byte for byte.
func topicService(t *testing.T, last *string, next *string) *client.Client {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		form, err := url.ParseQuery(string(data))
		if err == nil {
			err = verified(r, form)
		}
		if err != nil {
			t.Error(err)
		}
		*last = unsigned(string(data))
		io.WriteString(w, *next)
	}))
	t.Cleanup(srv.Close)
	return newClient(t, srv.URL, client.WithRetries(0))
}

const done = `{"code":0,"message":"","requestId":"1"}`

func TestTopicRequests(t *testing.T) {
	var last, next string
	c := topicService(t, &last, &next)
	topic, ctx := c.Topic("news"), t.Context()
	require.Equal(t, "news", topic.Name())
	var err error
	is := func(want string) {
		t.Helper()
		require.NoError(t, err)
		require.Equal(t, want, last)
	}

	next = `{"code":0,"message":"","requestId":"1","topicId":"topic-abc"}`
	id, err := c.CreateTopic(ctx, "news", client.TopicSettings{})
	is("Action=CreateTopic&topicName=news")
	require.Equal(t, "topic-abc", id)
	_, err = c.CreateTopic(ctx, "news", client.TopicSettings{MaxMsgSize: 2048, Filter: client.ByKey})
	is("Action=CreateTopic&filterType=2&maxMsgSize=2048&topicName=news")

	_, err = c.CreateTopic(ctx, "news", client.TopicSettings{MsgRetention: time.Hour})
	is("Action=CreateTopic&msgRetentionSeconds=3600&topicName=news")

	next = `{"code":0,"message":"","requestId":"1","msgId":"7"}`
	id, err = topic.Publish(ctx, "a & b", client.PublishOptions{})
	is("Action=PublishMessage&msgBody=a+%26+b&topicName=news")
	require.Equal(t, "7", id)
	_, err = topic.Publish(ctx, "@all", client.PublishOptions{Tags: []string{"red", "blue"}})
	is("Action=PublishMessage&msgBody=%40all&msgTag.1=red&msgTag.2=blue&topicName=news")
	_, err = topic.Publish(ctx, "x", client.PublishOptions{RoutingKey: "a.b"})
	is("Action=PublishMessage&msgBody=x&routingKey=a.b&topicName=news")
	next = `{"code":0,"message":"","requestId":"1","msgList":[{"msgId":"8"},{"msgId":"9"}]}`
	ids, err := topic.BatchPublish(ctx, []string{"x", "y"}, client.PublishOptions{Tags: []string{"red"}})
	is("Action=BatchPublishMessage&msgBody.1=x&msgBody.2=y&msgTag.1=red&topicName=news")
	require.Equal(t, []string{"8", "9"}, ids)

	next = `{"code":0,"message":"","requestId":"1","subscriptionId":"subsc-abc"}`
	id, err = topic.Subscribe(ctx, "s", client.Subscription{Protocol: client.ToQueue, Endpoint: "orders"})
	is("Action=Subscribe&endpoint=orders&protocol=queue&subscriptionName=s&topicName=news")
	require.Equal(t, "subsc-abc", id)
	_, err = topic.Subscribe(ctx, "s", client.Subscription{Protocol: client.ToHTTP, Endpoint: "http://h/p?q=1", NotifyStrategy: client.BackoffRetry,
		NotifyContentFormat: client.FormatSimplified, FilterTags: []string{"red", "blue"}, BindingKeys: []string{"a.*", "#"}})
	is("Action=Subscribe&bindingKey.1=a.*&bindingKey.2=%23&endpoint=http%3A%2F%2Fh%2Fp%3Fq%3D1&filterTag.1=red&filterTag.2=blue" +
		"&notifyContentFormat=SIMPLIFIED&notifyStrategy=BACKOFF_RETRY&protocol=http&subscriptionName=s&topicName=news")

	_, err = topic.Subscribe(ctx, "s", client.Subscription{Protocol: client.ToHTTP, Endpoint: "http://h", NotifyContentFormat: client.FormatCloudEvents, Push: client.PushSettings{
		Secret: new("0123456789abcdef"), Rate: new(5), Concurrency: new(2), Ordered: new(true), Paused: new(false), DeadLetter: new("dead"), CA: new("-----BEGIN")}})
	is("Action=Subscribe&ca=-----BEGIN&concurrency=2&deadLetterQueueName=dead&endpoint=http%3A%2F%2Fh&notifyContentFormat=CLOUDEVENTS&ordered=true&paused=false" +
		"&protocol=http&pushSecret=0123456789abcdef&rateLimit=5&subscriptionName=s&topicName=news")

	next = done
	err = topic.SetSubscription(ctx, "s", client.Subscription{Push: client.PushSettings{Secret: new(""), DeadLetter: new("")}})
	is("Action=SetSubscriptionAttributes&deadLetterQueueName=&pushSecret=&subscriptionName=s&topicName=news")
	err = topic.SetSubscription(ctx, "s", client.Subscription{Protocol: client.ToQueue, Endpoint: "not sent", NotifyStrategy: client.ExponentialRetry, FilterTags: []string{"red"}})
	is("Action=SetSubscriptionAttributes&filterTag.1=red&notifyStrategy=EXPONENTIAL_DECAY_RETRY&subscriptionName=s&topicName=news")
	err = topic.ClearFilterTags(ctx, "s")
	is("Action=ClearSubscriptionFilterTags&subscriptionName=s&topicName=news")
	err = topic.Unsubscribe(ctx, "s")
	is("Action=Unsubscribe&subscriptionName=s&topicName=news")
	err = topic.SetMaxMsgSize(ctx, 4096)
	is("Action=SetTopicAttributes&maxMsgSize=4096&topicName=news")
	err = topic.SetAttributes(ctx, client.TopicSettings{MaxMsgSize: 4096, MsgRetention: 1500 * time.Millisecond, Filter: client.ByKey})
	is("Action=SetTopicAttributes&maxMsgSize=4096&msgRetentionSeconds=2&topicName=news")
	err = c.DeleteTopic(ctx, "news")
	is("Action=DeleteTopic&topicName=news")

	next = `{"code":0,"message":"","requestId":"1","totalCount":21,"topicList":[{"topicId":"topic-abc","topicName":"news"}]}`
	topics, err := c.ListTopics(ctx, client.ListOptions{Search: "ne", Offset: 20, Limit: 50})
	is("Action=ListTopic&limit=50&offset=20&searchWord=ne")
	require.Equal(t, client.TopicList{Total: 21, Topics: []client.TopicInfo{{ID: "topic-abc", Name: "news"}}}, topics)

	next = `{"code":0,"message":"","requestId":"1","totalCount":1,"subscriptionList":[{"subscriptionId":"subsc-abc","subscriptionName":"s","protocol":"queue","endpoint":"orders"}]}`
	subs, err := topic.Subscriptions(ctx, client.ListOptions{})
	is("Action=ListSubscriptionByTopic&topicName=news")
	require.Equal(t, client.SubscriptionList{Total: 1, Subscriptions: []client.SubscriptionInfo{{ID: "subsc-abc", Name: "s", Protocol: "queue", Endpoint: "orders"}}}, subs)

	next = `{"code":0,"message":"","requestId":"1","msgCount":1,"maxMsgSize":2,"msgRetentionSeconds":3,"createTime":4,"lastModifyTime":5,"filterType":2}`
	attrs, err := topic.Attributes(ctx)
	is("Action=GetTopicAttributes&topicName=news")
	require.Equal(t, &client.TopicAttributes{MsgCount: 1, MaxMsgSize: 2, MsgRetention: 3 * time.Second, Created: time.Unix(4, 0), Modified: time.Unix(5, 0), Filter: client.ByKey}, attrs)

	next = `{"code":0,"message":"","requestId":"1","topicOwner":"1","msgCount":9,"protocol":"http","protocal":"http","endpoint":"http://h","notifyStrategy":"BACKOFF_RETRY","notifyContentFormat":"JSON","createTime":4,"lastModifyTime":5,"filterTag":["red"],"filterTags":["red"],"bindingKey":["a.*"],"bindindKey":["a.*"]}`
	sub, err := topic.Subscription(ctx, "s")
	is("Action=GetSubscriptionAttributes&subscriptionName=s&topicName=news")
	require.Equal(t, &client.SubscriptionAttributes{Subscription: client.Subscription{Protocol: "http", Endpoint: "http://h", NotifyStrategy: "BACKOFF_RETRY", NotifyContentFormat: "JSON",
		FilterTags: []string{"red"}, BindingKeys: []string{"a.*"}}, MsgCount: 9, Created: time.Unix(4, 0), Modified: time.Unix(5, 0)}, sub)

	next = `{"code":0,"message":"","requestId":"1","topicOwner":"1","msgCount":0,"protocol":"http","protocal":"http","endpoint":"http://h","notifyStrategy":"BACKOFF_RETRY","notifyContentFormat":"JSON","createTime":4,"lastModifyTime":5,"filterTag":[],"filterTags":[],"bindingKey":[],"bindindKey":[],` +
		`"pushSigned":true,"rateLimit":5,"concurrency":2,"ordered":true,"paused":true,"deadLetterQueueName":"dead","ca":"PEM"}`
	sub, err = topic.Subscription(ctx, "s")
	is("Action=GetSubscriptionAttributes&subscriptionName=s&topicName=news")
	require.True(t, sub.Signed)
	require.Equal(t, client.PushSettings{Rate: new(5), Concurrency: new(2), Ordered: new(true), Paused: new(true), DeadLetter: new("dead"), CA: new("PEM")}, sub.Push)

	next = `{"code":0,"message":"","requestId":"1","addr":["127.0.0.1:7671"]}`
	addrs, err := topic.Route(ctx)
	is("Action=QueryTopicRoute&topicName=news")
	require.Equal(t, []string{"127.0.0.1:7671"}, addrs)

	for answer, want := range map[string]error{
		`{"code":4460,"message":"(10550)topic is already existed","requestId":"1"}`:                                                                       client.ErrTopicExists,
		`{"code":4440,"message":"(10600)topic is not existed, or deleted","requestId":"1"}`:                                                               client.ErrTopicNotExist,
		`{"code":6030,"message":"(10650)topic has no subscription, please create a subscription before publishing message","requestId":"1"}`:              client.ErrNobody,
		`{"code":6030,"message":"(10730)no bindingKey or filterTag matches the routingKey or msgTag","requestId":"1"}`:                                    client.ErrNoMatch,
		`{"code":4000,"message":"(10540)there exists subscriptions under this topic, please unsubscribe all of them before DeleteTopic","requestId":"1"}`: client.ErrTopicInUse,
		`{"code":4000,"message":"(10630)illegal endpoint","requestId":"1"}`:                                                                               client.ErrEndpoint,
		`{"code":4490,"message":"(10470)subscribtion is already existed","requestId":"1"}`:                                                                client.ErrSubscribed,
		`{"code":4000,"message":"(10560)subscription is not existed","requestId":"1"}`:                                                                    client.ErrNotSubscribed,
	} {
		next = answer
		_, err = topic.Publish(ctx, "x", client.PublishOptions{})
		require.ErrorIs(t, err, want)
		require.Equal(t, client.NotStored, client.OutcomeOf(err))
	}
}

// The extensions of cmq over HTTP.
func TestVisibilityRequests(t *testing.T) {
	var last, next string
	c := topicService(t, &last, &next)
	q, ctx := c.Queue("q"), t.Context()
	next = done
	require.NoError(t, q.ChangeVisibility(ctx, "5", 1500*time.Millisecond))
	require.Equal(t, "Action=ChangeMessageVisibility&queueName=q&receiptHandle=5&visibilityTimeout=2", last)
	require.NoError(t, q.BatchChangeVisibility(ctx, []string{"5", "6"}, 0))
	require.Equal(t, "Action=BatchChangeMessageVisibility&queueName=q&receiptHandle.1=5&receiptHandle.2=6&visibilityTimeout=0", last)
	next = `{"code":0,"message":"","requestId":"1","msgInfoList":[{"msgBody":"x","msgId":"5","receiptHandle":"6"}]}`
	_, err := q.ReceiveWith(ctx, client.ReceiveOptions{Max: 3, Wait: time.Second, Visibility: time.Minute})
	require.NoError(t, err)
	require.Equal(t, "Action=BatchReceiveMessage&numOfMsg=3&pollingWaitSeconds=1&queueName=q&visibilityTimeout=60", last)
	next = `{"code":6010,"message":"(10820)change message visibility partially failed","requestId":"1","errorList":[{"code":4430,"message":"(10260)receipt handle is invalid","receiptHandle":"6"}]}`
	err = q.BatchChangeVisibility(ctx, []string{"5", "6"}, 0)
	require.ErrorIs(t, err, client.ErrHandleInvalid)
	next = `{"code":4000,"message":"(10430)action name ChangeMessageVisibility is not existed","requestId":"1"}`
	require.True(t, client.Unsupported(q.ChangeVisibility(ctx, "5", 0)))
}

func TestTestOfASubscription(t *testing.T) {
	var last, next string
	topic, ctx := topicService(t, &last, &next).Topic("news"), t.Context()
	next = `{"code":0,"message":"","requestId":"1","taken":false,"reason":"status","status":302,"tookMilliseconds":7,"sent":"POST / HTTP/1.1\n\nhi","advice":"Redirects are not followed."}`
	got, err := topic.Test(ctx, "hook", "hi")
	require.NoError(t, err)
	require.Equal(t, &client.SubscriptionTest{Reason: "status", Status: 302, Took: 7 * time.Millisecond, Sent: "POST / HTTP/1.1\n\nhi", Advice: "Redirects are not followed."}, got)
	require.Equal(t, "Action=TestSubscription&msgBody=hi&subscriptionName=hook&topicName=news", last)
	next = `{"code":0,"message":"","requestId":"1","taken":true,"reason":"","status":200,"tookMilliseconds":0,"sent":"x","advice":""}`
	got, err = topic.Test(ctx, "hook", "")
	require.NoError(t, err)
	require.True(t, got.Taken)
	require.Equal(t, "Action=TestSubscription&subscriptionName=hook&topicName=news", last)
	next = `{"code":4480,"message":"(10460)exceed interface frequency limit, please slow down","requestId":"1"}`
	_, err = topic.Test(ctx, "hook", "")
	require.ErrorIs(t, err, client.ErrFrequency)
}
