package compat

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestTopicShapes goes through the life of topics as each client would.
func TestTopicShapes(t *testing.T) {
	onBoth(t, func(t *testing.T, addresses []string) {
		for i, s := range shapes() {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				c := newClient(t, s, addresses)
				tagLife(c, fmt.Sprintf("Tags-%d_x", i))
				keyLife(c, fmt.Sprintf("Keys-%d_x", i))
			})
		}
	})
}

// subscribe makes a subscription that delivers to a queue, in the words that most clients use unasked.
func (c *client) subscribe(topic, name, queue string, items ...string) string {
	c.t.Helper()
	protocol := "protocol=queue"
	if c.shape.method256 {
		protocol = "protocol=Queue"
	}
	return c.ok("Subscribe", append(items, "topicName="+topic, "subscriptionName="+name, protocol, "endpoint="+queue,
		"notifyStrategy=EXPONENTIAL_DECAY_RETRY", "notifyContentFormat=JSON")...).SubscriptionID
}

// bodies receives and deletes messages until there are so many, and gives their bodies sorted.
func (c *client) bodies(queue string, count int) (bodies []string) {
	c.t.Helper()
	for len(bodies) < count {
		a := c.call("BatchReceiveMessage", "queueName="+queue, "numOfMsg=16", "pollingWaitSeconds=10")
		if *a.Code != 0 {
			c.t.Fatalf("%d of %d messages, then %s", len(bodies), count, a.raw)
		}
		var handles []string
		for _, m := range a.MsgInfoList {
			bodies, handles = append(bodies, m.Body), append(handles, m.Handle)
		}
		c.ok("BatchDeleteMessage", append(c.list("receiptHandle", handles...), "queueName="+queue)...)
	}
	c.refused(7000, "(10200)no message", "ReceiveMessage", "queueName="+queue, "pollingWaitSeconds=0")
	slices.Sort(bodies)
	return bodies
}

func (c *client) same(what string, got, want []string) {
	c.t.Helper()
	slices.Sort(want)
	if !slices.Equal(got, want) {
		c.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

const (
	nobody  = "(10650)topic has no subscription, please create a subscription before publishing message"
	noMatch = "(10730)no bindingKey or filterTag matches the routingKey or msgTag"
)

func tagLife(c *client, name string) {
	topic, all, red := "topicName="+name, name+"-all", name+"-red"
	c.ok("CreateQueue", "queueName="+all)
	c.ok("CreateQueue", "queueName="+red)
	if a := c.ok("CreateTopic", topic, "maxMsgSize=65536", "filterType=1"); !strings.HasPrefix(a.TopicID, "topic-") {
		c.t.Errorf("no topicId: %s", a.raw)
	}
	c.refused(4460, "(10550)topic is already existed", "CreateTopic", "topicName="+strings.ToLower(name))
	if a := c.ok("ListTopic", "searchWord="+name, "offset=0", "limit=50"); *a.TotalCount != 1 || len(a.TopicList) != 1 || a.TopicList[0].TopicName != name {
		c.t.Errorf("list: %s", a.raw)
	}
	c.refused(6030, nobody, "PublishMessage", topic, "msgBody=x", "routingKey=")
	if id := c.subscribe(name, "red", red, c.list("filterTag", "red", "@at")...); !strings.HasPrefix(id, "subsc-") {
		c.t.Errorf("subscriptionId is %q", id)
	}
	c.refused(6030, noMatch, "PublishMessage", topic, "msgBody=x", "routingKey=red")
	c.subscribe(name, "all", all, c.list("bindingKey", "no.effect")...)

	for _, body := range []string{"hello world & =+%", "@all 你好 😀"} {
		if a := c.ok("PublishMessage", append(c.list("msgTag", "blue", "@at"), topic, "msgBody="+body, "routingKey=")...); a.MsgID == "" {
			c.t.Errorf("no msgId: %s", a.raw)
		}
	}
	if a := c.ok("BatchPublishMessage", append(c.list("msgBody", "a", "@b", "c"), topic, "routingKey=")...); len(a.MsgList) != 3 {
		c.t.Errorf("batch: %s", a.raw)
	}
	c.same("red", c.bodies(red, 2), []string{"hello world & =+%", "@all 你好 😀"})
	c.same("all", c.bodies(all, 5), []string{"hello world & =+%", "@all 你好 😀", "a", "@b", "c"})

	topicAttributes(c, name)
	subscriptionAttributes(c, name, red)
	c.refused(4000, "(10540)there exists subscriptions under this topic, please unsubscribe all of them before DeleteTopic", "DeleteTopic", topic)
	c.ok("Unsubscribe", topic, "subscriptionName=all")
	c.ok("Unsubscribe", topic, "subscriptionName=RED")
	c.ok("DeleteTopic", topic)
	c.refused(4440, "(10600)topic is not existed, or deleted", "GetTopicAttributes", topic)
	c.ok("DeleteQueue", "queueName="+all)
	c.ok("DeleteQueue", "queueName="+red)
}

func topicAttributes(c *client, name string) {
	topic := "topicName=" + name
	c.ok("SetTopicAttributes", topic, "maxMsgSize=1024")
	a := c.ok("GetTopicAttributes", topic)
	for field, want := range map[string]float64{"msgCount": 0, "maxMsgSize": 1024, "msgRetentionSeconds": 86400, "filterType": 1} {
		if got, ok := a.attributes[field].(float64); !ok || got != want {
			c.t.Errorf("%s: %v, want %v", field, a.attributes[field], want)
		}
	}
	for _, field := range []string{"createTime", "lastModifyTime"} {
		if got, _ := a.attributes[field].(float64); got < 1e9 || got > 2e9 {
			c.t.Errorf("%s: %v", field, got)
		}
	}
	for range c.addresses { // a node that was asked about it knows the new size
		c.ok("GetTopicAttributes", topic)
	}
	c.refused(4400, "(10230)exceed maximum message size", "PublishMessage", topic, "msgBody="+strings.Repeat("x", 1025))
	if a := c.ok("QueryTopicRoute", topic); len(a.Addr) == 0 || strings.Count(a.Addr[0], ":") != 1 {
		c.t.Errorf("route: %s", a.raw)
	}
}

func subscriptionAttributes(c *client, topicName, queue string) {
	of := []string{"topicName=" + topicName, "subscriptionName=red"}
	a := c.ok("ListSubscriptionByTopic", of[0], "searchWord=re", "offset=0", "limit=100")
	if *a.TotalCount != 1 || len(a.SubscriptionList) != 1 || a.SubscriptionList[0].Name != "red" || a.SubscriptionList[0].Protocol != "queue" || a.SubscriptionList[0].Endpoint != queue {
		c.t.Errorf("list: %s", a.raw)
	}
	c.ok("SetSubscriptionAttributes", append(c.list("filterTag", "green", "@g"), of[0], of[1], "notifyStrategy=BACKOFF_RETRY", "notifyContentFormat=")...)
	a = c.ok("GetSubscriptionAttributes", of...)
	for field, want := range map[string]string{"protocol": "queue", "protocal": "queue", "endpoint": queue, "notifyStrategy": "BACKOFF_RETRY", "notifyContentFormat": "SIMPLIFIED",
		"filterTag": "[green @g]", "filterTags": "[green @g]", "bindingKey": "[]", "bindindKey": "[]", "msgCount": "0"} {
		if got := fmt.Sprint(a.attributes[field]); got != want {
			c.t.Errorf("%s: %v, want %v", field, got, want)
		}
	}
	c.ok("ClearSUbscriptionFIlterTags", of...)
	if a = c.ok("GetSubscriptionAttributes", of...); fmt.Sprint(a.attributes["filterTag"]) != "[]" {
		c.t.Errorf("not cleared: %s", a.raw)
	}
}

func keyLife(c *client, name string) {
	topic := "topicName=" + name
	c.ok("CreateQueue", "queueName="+name)
	c.ok("CreateTopic", topic, "filterType=2")
	c.refused(4000, "(10710)parameters lack of bindingKey", "Subscribe", topic, "subscriptionName=s", "protocol=queue", "endpoint="+name)
	c.subscribe(name, "two", name, c.list("bindingKey", "1.*.0", "route.#")...)
	spelling := "bindingKey"
	if strings.HasPrefix(c.shape.name, "PHP") {
		spelling = "bindindKey"
	}
	c.subscribe(name, "hash", name, c.list(spelling, "1.#.0")...)
	for key, copies := range map[string]int{"1.x.0": 2, "1.0": 1, "1.2.3.4.4.2.2.0": 1, "route": 1, "route.a.b": 1, "1..0": 1, "1.x.y": 0, "Route.a": 0} {
		if copies == 0 {
			c.refused(6030, noMatch, "PublishMessage", topic, "msgBody="+key, "routingKey="+key)
			continue
		}
		c.ok("BatchPublishMessage", append(c.list("msgBody", key), topic, "routingKey="+key)...)
		c.same(key, c.bodies(name, copies), slices.Repeat([]string{key}, copies))
	}
	c.refused(4000, "(10700)parameters lack of routingKey", "PublishMessage", topic, "msgBody=x", "routingKey=")
	c.ok("Unsubscribe", topic, "subscriptionName=two")
	c.ok("Unsubscribe", topic, "subscriptionName=hash")
	c.ok("DeleteTopic", topic)
	c.ok("DeleteQueue", "queueName="+name)
}

// TestTopicErrors provokes the documented errors of topics and subscriptions that can be provoked from outside.
func TestTopicErrors(t *testing.T) {
	onBoth(t, func(t *testing.T, addresses []string) {
		c := newClient(t, shapes()[0], addresses)
		c.ok("CreateQueue", "queueName=q")
		c.ok("CreateTopic", "topicName=tags")
		c.ok("CreateTopic", "topicName=large", "maxMsgSize=1048576")
		c.ok("CreateTopic", "topicName=keys", "filterType=2")
		c.ok("CreateTopic", "topicName=alone")
		c.subscribe("tags", "s", "q", "filterTag.1=red")
		c.subscribe("large", "s", "q")
		c.subscribe("keys", "s", "q", "bindingKey.1=a.*")
		topicErrors(c)
		publishErrors(c)
		subscribeErrors(c)
	})
}

func topicErrors(c *client) {
	c.refused(4000, "(10390)lacked of required parameter topicName", "CreateTopic")
	for _, name := range []string{"", "9", "-a", "a.b", "a b", "é", strings.Repeat("a", 65)} {
		c.refused(4000, "(10590)topic name format error", "CreateTopic", "topicName="+name)
	}
	c.refused(4460, "(10550)topic is already existed", "CreateTopic", "topicName=TAGS")
	for name, values := range map[string][]string{"maxMsgSize": {"1023", "1048577"}, "filterType": {"0", "3"}, "msgRetentionSeconds": {"59", "86401"}} {
		for _, value := range values {
			c.refused(4000, fmt.Sprintf(rangeText, name), "CreateTopic", "topicName=n", name+"="+value)
		}
		c.refused(4000, "(10360)parameter "+name+" error type", "CreateTopic", "topicName=n", name+"=many")
	}
	c.refused(4000, fmt.Sprintf(rangeText, "limit"), "ListTopic", "limit=51")
	for _, action := range []string{"GetTopicAttributes", "SetTopicAttributes", "DeleteTopic", "QueryTopicRoute", "ListSubscriptionByTopic"} {
		c.refused(4440, "(10600)topic is not existed, or deleted", action, "topicName=none")
		c.refused(4440, "(10600)topic is not existed, or deleted", action, "topicName=q")
		c.refused(4000, "(10390)lacked of required parameter topicName", action)
		c.refused(4000, "(10590)topic name format error", action, "topicName=a.b")
	}
	c.refused(4000, "(10540)there exists subscriptions under this topic, please unsubscribe all of them before DeleteTopic", "DeleteTopic", "topicName=tags")
}

func publishErrors(c *client) {
	six := []string{"msgTag.1=a", "msgTag.2=b", "msgTag.3=c", "msgTag.4=d", "msgTag.5=e", "msgTag.6=f"}
	for action, body := range map[string]string{"PublishMessage": "msgBody", "BatchPublishMessage": "msgBody.1"} {
		try := func(code int, text, topic string, items ...string) {
			c.t.Helper()
			c.refused(code, text, action, append([]string{body + "=x", "topicName=" + topic}, items...)...)
		}
		c.refused(4000, "(10390)lacked of required parameter msgBody", action, "topicName=tags")
		try(4000, "(10120)message body can't be empty", "tags", body+"=")
		try(4440, "(10600)topic is not existed, or deleted", "none")
		try(4400, "(10230)exceed maximum message size", "tags", "msgTag.1=red", body+"="+strings.Repeat("x", 65537))
		try(4400, "(10230)exceed maximum message size", "large", body+"="+strings.Repeat("x", 1<<20+1))
		try(4000, "(10720)too many msgTag", "tags", six...)
		try(4000, fmt.Sprintf(rangeText, "msgTag"), "tags", "msgTag.1="+strings.Repeat("é", 17))
		try(4000, fmt.Sprintf(rangeText, "msgTag"), "tags", "msgTag.1=a\r\nb")
		try(4000, "(10691)too many delimeters", "keys", "routingKey="+strings.Repeat(".", 16))
		try(4000, fmt.Sprintf(rangeText, "routingKey"), "keys", "routingKey="+strings.Repeat("x", 65))
		try(4000, "(10700)parameters lack of routingKey", "keys", "routingKey=")
		try(6030, nobody, "alone")
		try(6030, noMatch, "tags")
		try(6030, noMatch, "tags", "msgTag.1=Red")
		try(6030, noMatch, "keys", "routingKey=a")
	}
	c.refused(4000, "(10370)msgBody parameter batch size is out of range", "BatchPublishMessage", append(c.list("msgBody", strings.Split(strings.Repeat("x", 17), "")...), "topicName=large")...)
	c.refused(4470, "(10300)total message size exceed 1MB", "BatchPublishMessage", "topicName=large", "msgBody.1=x", "msgBody.2="+strings.Repeat("x", 1<<20))
	c.ok("PublishMessage", "topicName=large", "msgBody="+strings.Repeat("%", 1<<16))
}

func subscribeErrors(c *client) {
	try := func(code int, text string, items ...string) {
		c.t.Helper()
		c.refused(code, text, "Subscribe", append([]string{"topicName=tags", "subscriptionName=n", "protocol=queue", "endpoint=q"}, items...)...)
	}
	try(4440, "(10600)topic is not existed, or deleted", "topicName=none")
	try(4490, "(10470)subscribtion is already existed", "subscriptionName=S")
	try(4000, "(10580)subscription name format error", "subscriptionName=s s")
	try(4000, "(10510)undefined protocol", "protocol=amqp")
	try(4000, "(10500)endpoint format error", "endpoint=http://h/")
	try(4000, "(10500)endpoint format error", "endpoint=a b")
	try(4000, "(10500)endpoint format error", "protocol=http")
	try(4510, "(10570)url connot contain any blank characters", "protocol=http", "endpoint=http://h/a b")
	try(4000, fmt.Sprintf(rangeText, "endpoint"), "protocol=http", "endpoint=http://h/"+strings.Repeat("x", 492))
	for _, address := range c.addresses { // the cluster's own, whatever it allows
		try(4000, "(10630)illegal endpoint", "protocol=http", "endpoint=http://"+address+"/")
	}
	try(4000, "(10630)illegal endpoint", "protocol=http", "endpoint=http://169.254.169.254/latest")
	try(4000, "(10520)undefined notify retry stragety", "notifyStrategy=NEVER")
	try(4000, "(10530)undefined notify content format", "notifyContentFormat=XML")
	try(4000, "(10490)number of filterTag exceed limit", "filterTag.1=a", "filterTag.2=b", "filterTag.3=c", "filterTag.4=d", "filterTag.5=e", "filterTag.6=f")
	try(4000, "(10680)too many bindingKey", "bindingKey.1=a", "bindingKey.2=b", "bindingKey.3=c", "bindingKey.4=d", "bindingKey.5=e", "bindingKey.6=f")
	try(4000, "(10691)too many delimeters", "bindingKey.1="+strings.Repeat(".", 16))
	try(4000, fmt.Sprintf(rangeText, "bindingKey"), "bindingKey.1=order*")
	try(4000, "(10710)parameters lack of bindingKey", "topicName=keys")
	try(4000, "(10730)deadLetter queue not exist", "deadLetterQueueName=none")
	for _, action := range []string{"GetSubscriptionAttributes", "SetSubscriptionAttributes", "ClearSubscriptionFilterTags", "Unsubscribe"} {
		c.refused(4440, "(10600)topic is not existed, or deleted", action, "topicName=none", "subscriptionName=s")
		c.refused(4000, "(10560)subscription is not existed", action, "topicName=tags", "subscriptionName=none")
		c.refused(4000, "(10390)lacked of required parameter subscriptionName", action, "topicName=tags")
		c.refused(4000, "(10580)subscription name format error", action, "topicName=tags", "subscriptionName=9")
	}
}

// wirePublishes publishes over TCP at every node's door, whoever leads the topic.
func wirePublishes(t *testing.T, c *client, doors []string, q string) {
	c.ok("CreateTopic", "topicName=wired")
	c.ok("CreateTopic", "topicName=wired-keys", "filterType=2")
	if a := c.ok("QueryTopicRoute", "topicName=wired"); len(a.Addr) != len(doors) {
		t.Errorf("doors %v: %s", doors, a.raw)
	}
	dialWire(t, doors[0]).call(wirePublish, 208, protobuf(1, "wired", 2, "x")).is(t, 10650, "topic has no subscription, please create a subscription before publishing message")
	c.subscribe("wired", "s", q, "filterTag.1=red")
	c.subscribe("wired-keys", "s", q, "bindingKey.1=a.#")
	for _, door := range doors {
		w := dialWire(t, door)
		one := w.call(wirePublish, 208, protobuf(1, "WIRED", 2, "tagged", 3, "blue", 3, "red"))
		one.is(t, 0, "")
		two := w.call(wireBatchPublish, 209, protobuf(1, "wired-keys", 2, "x", 2, "y", 4, "a"))
		two.is(t, 0, "")
		if len(one.ids) != 1 || len(two.ids) != 2 {
			t.Fatalf("%+v, %+v", one, two)
		}
		got := make(map[uint64]string)
		for len(got) < 3 {
			m := w.receive(q, 10).messages[0]
			got[m.id] = m.body
			w.delete(q, m.handle).is(t, 0, "")
		}
		if got[one.ids[0]] != "tagged" || got[two.ids[0]] != "x" || got[two.ids[1]] != "y" {
			t.Errorf("published as %v and %v, received %v", one.ids, two.ids, got)
		}
		w.receive(q, 0).is(t, 10200, "no message")
		w.call(wirePublish, 208, protobuf(1, "wired", 2, "x", 3, "green")).is(t, 10730, "no bindingKey or filterTag matches the routingKey or msgTag")
		w.call(wirePublish, 208, protobuf(1, "wired-keys", 2, "x")).is(t, 10700, "parameters lack of routingKey")
		w.call(wirePublish, 208, protobuf(1, "jt", 2, "x")).is(t, 10600, "topic is not existed, or deleted")
	}
}
