package httpapi

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/opencmq/cmq/internal/access"
)

// prepareTopics makes what the rows of TestTopicErrors use: topics of both kinds with subscriptions, and one without.
func prepareTopics(r *rig) {
	r.ok("CreateQueue", "queueName=q")
	r.ok("CreateTopic", "topicName=tags")
	r.ok("CreateTopic", "topicName=large", "maxMsgSize=1048576")
	r.ok("CreateTopic", "topicName=keys", "filterType=2")
	r.ok("CreateTopic", "topicName=alone")
	r.ok("Subscribe", "topicName=tags", "subscriptionName=s", "protocol=queue", "endpoint=q", "filterTag.1=red")
	r.ok("Subscribe", "topicName=large", "subscriptionName=s", "protocol=queue", "endpoint=q")
	r.ok("Subscribe", "topicName=keys", "subscriptionName=s", "protocol=queue", "endpoint=q", "bindingKey.1=a.*")
}

// numberedItems are n entries of a list parameter.
func numberedItems(name string, n int) (items []string) {
	for i := range n {
		items = append(items, fmt.Sprintf("%s.%d=x", name, i+1))
	}
	return items
}

const (
	noTopic        = "(10600)topic is not existed, or deleted"
	noSubscription = "(10560)subscription is not existed"
	badTopicName   = "(10590)topic name format error"
	badName        = "(10580)subscription name format error"
	outOfRange     = " value or length is out of range"
)

type errorRow struct {
	name   string
	action string
	items  []string
	code   string
	text   string
}

// TestTopicErrors provokes every error documented for topics and subscriptions, and compares whole answers. Rows are
// requests that are fine but for one thing.
func TestTopicErrors(t *testing.T) {
	rows := topicRows()
	rows = append(rows, publishRows()...)
	rows = append(rows, subscribeRows()...)
	for _, c := range append(rows, endpointRows()...) {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			prepareTopics(r)
			r.want(r.do(c.action, c.items...), refusal(c.code, c.text))
		})
	}
}

func topicRows() []errorRow {
	return []errorRow{
		{"create: no name", "CreateTopic", nil, "4000", "(10390)lacked of required parameter topicName"},
		{"create: empty name", "CreateTopic", []string{"topicName="}, "4000", badTopicName},
		{"create: digit first", "CreateTopic", []string{"topicName=1t"}, "4000", badTopicName},
		{"create: blank", "CreateTopic", []string{"topicName=a b"}, "4000", badTopicName},
		{"create: 65 characters", "CreateTopic", []string{"topicName=" + strings.Repeat("t", 65)}, "4000", badTopicName},
		{"create: name as list", "CreateTopic", []string{"topicName.1=t"}, "4000", "(10330)parameter topicName is NOT a repeatable parameter"},
		{"create: exists", "CreateTopic", []string{"topicName=tags"}, "4460", "(10550)topic is already existed"},
		{"create: exists in other case", "CreateTopic", []string{"topicName=TAGS"}, "4460", "(10550)topic is already existed"},
		{"create: size too small", "CreateTopic", []string{"topicName=n", "maxMsgSize=1023"}, "4000", "(10350)parameter maxMsgSize" + outOfRange},
		{"create: size too large", "CreateTopic", []string{"topicName=n", "maxMsgSize=1048577"}, "4000", "(10350)parameter maxMsgSize" + outOfRange},
		{"create: size text", "CreateTopic", []string{"topicName=n", "maxMsgSize=64k"}, "4000", "(10360)parameter maxMsgSize error type"},
		{"create: filter 0", "CreateTopic", []string{"topicName=n", "filterType=0"}, "4000", "(10350)parameter filterType" + outOfRange},
		{"create: filter 3", "CreateTopic", []string{"topicName=n", "filterType=3"}, "4000", "(10350)parameter filterType" + outOfRange},
		{"create: filter text", "CreateTopic", []string{"topicName=n", "filterType=tags"}, "4000", "(10360)parameter filterType error type"},
		{"create: retention too short", "CreateTopic", []string{"topicName=n", "msgRetentionSeconds=59"}, "4000", "(10350)parameter msgRetentionSeconds" + outOfRange},
		{"create: retention too long", "CreateTopic", []string{"topicName=n", "msgRetentionSeconds=86401"}, "4000", "(10350)parameter msgRetentionSeconds" + outOfRange},
		{"create: trace not a switch", "CreateTopic", []string{"topicName=n", "trace=yes"}, "4000", "(10360)parameter trace error type"},
		{"list: limit 51", "ListTopic", []string{"limit=51"}, "4000", "(10350)parameter limit" + outOfRange},
		{"list: offset negative", "ListTopic", []string{"offset=-1"}, "4000", "(10350)parameter offset" + outOfRange},
		{"list: limit text", "ListTopic", []string{"limit=all"}, "4000", "(10360)parameter limit error type"},
		{"get: no topic", "GetTopicAttributes", []string{"topicName=none"}, "4440", noTopic},
		{"get: no name", "GetTopicAttributes", nil, "4000", "(10390)lacked of required parameter topicName"},
		{"get: another's topic", "GetTopicAttributes", []string{"topicName=tags", "SecretId=AKIDbob"}, "4440", noTopic},
		{"get: a queue", "GetTopicAttributes", []string{"topicName=q"}, "4440", noTopic},
		{"set: no topic", "SetTopicAttributes", []string{"topicName=none"}, "4440", noTopic},
		{"set: bad name", "SetTopicAttributes", []string{"topicName=-"}, "4000", badTopicName},
		{"set: range", "SetTopicAttributes", []string{"topicName=tags", "maxMsgSize=1"}, "4000", "(10350)parameter maxMsgSize" + outOfRange},
		{"delete: no topic", "DeleteTopic", []string{"topicName=none"}, "4440", noTopic},
		{"delete: bad name", "DeleteTopic", []string{"topicName=../t"}, "4000", badTopicName},
		{"delete: has subscriptions", "DeleteTopic", []string{"topicName=tags"}, "4000", "(10540)there exists subscriptions under this topic, please unsubscribe all of them before DeleteTopic"},
		{"route: no topic", "QueryTopicRoute", []string{"topicName=none"}, "4440", noTopic},
		{"route: no name", "QueryTopicRoute", nil, "4000", "(10390)lacked of required parameter topicName"},
	}
}

func publishRows() []errorRow {
	const noMatch = "(10730)no bindingKey or filterTag matches the routingKey or msgTag"
	publish := func(topic string, more ...string) []string {
		return append([]string{"topicName=" + topic, "msgBody=x"}, more...)
	}
	batch := func(topic string, more ...string) []string {
		return append([]string{"topicName=" + topic, "msgBody.1=x"}, more...)
	}
	return []errorRow{
		{"publish: no name", "PublishMessage", []string{"msgBody=x"}, "4000", "(10390)lacked of required parameter topicName"},
		{"publish: bad name", "PublishMessage", publish("a.b"), "4000", badTopicName},
		{"publish: no topic", "PublishMessage", publish("none"), "4440", noTopic},
		{"publish: no body", "PublishMessage", []string{"topicName=tags"}, "4000", "(10390)lacked of required parameter msgBody"},
		{"publish: empty body", "PublishMessage", []string{"topicName=tags", "msgBody="}, "4000", "(10120)message body can't be empty"},
		{"publish: beyond the topic's size", "PublishMessage", []string{"topicName=tags", "msgTag.1=red", "msgBody=" + strings.Repeat("x", 65537)}, "4400", "(10230)exceed maximum message size"},
		{"publish: beyond every size", "PublishMessage", []string{"topicName=large", "msgBody=" + strings.Repeat("x", big+1)}, "4400", "(10230)exceed maximum message size"},
		{"publish: no subscription", "PublishMessage", publish("alone"), "6030", "(10650)topic has no subscription, please create a subscription before publishing message"},
		{"publish: no tag", "PublishMessage", publish("tags"), "6030", noMatch},
		{"publish: other tag", "PublishMessage", publish("tags", "msgTag.1=Red"), "6030", noMatch},
		{"publish: other key", "PublishMessage", publish("keys", "routingKey=b.c"), "6030", noMatch},
		{"publish: no key", "PublishMessage", publish("keys"), "4000", "(10700)parameters lack of routingKey"},
		{"publish: empty key", "PublishMessage", publish("keys", "routingKey="), "4000", "(10700)parameters lack of routingKey"},
		{"publish: 6 tags", "PublishMessage", publish("tags", numberedItems("msgTag", 6)...), "4000", "(10720)too many msgTag"},
		{"publish: 100 tags", "PublishMessage", publish("tags", numberedItems("msgTag", 100)...), "4000", "(10720)too many msgTag"},
		{"publish: tag of 17 characters", "PublishMessage", publish("tags", "msgTag.1="+strings.Repeat("é", 17)), "4000", "(10350)parameter msgTag" + outOfRange},
		{"publish: empty tag", "PublishMessage", publish("tags", "msgTag.1="), "4000", "(10350)parameter msgTag" + outOfRange},
		{"publish: tag that ends a header", "PublishMessage", publish("tags", "msgTag.1=a\r\nb"), "4000", "(10350)parameter msgTag" + outOfRange},
		{"publish: tag that is no text", "PublishMessage", publish("tags", "msgTag.1=\xff"), "4000", "(10350)parameter msgTag" + outOfRange},
		{"publish: gap in tags", "PublishMessage", publish("tags", "msgTag.1=red", "msgTag.3=red"), "4000", "(10380)msgTag parameter is not consequent"},
		{"publish: tag without number", "PublishMessage", publish("tags", "msgTag=red"), "4000", "(10310)error: parameter msgTag key format error"},
		{"publish: 16 dots", "PublishMessage", publish("keys", "routingKey="+strings.Repeat(".", 16)), "4000", "(10691)too many delimeters"},
		{"publish: key of 65 bytes", "PublishMessage", publish("keys", "routingKey="+strings.Repeat("é", 32)+"x"), "4000", "(10350)parameter routingKey" + outOfRange},
		{"publish: key with NUL", "PublishMessage", publish("keys", "routingKey=a\x00b"), "4000", "(10350)parameter routingKey" + outOfRange},
		{"publish: long key on tags", "PublishMessage", publish("tags", "msgTag.1=red", "routingKey="+strings.Repeat("x", 65)), "4000", "(10350)parameter routingKey" + outOfRange},
		{"publish: key as list", "PublishMessage", publish("keys", "routingKey.1=a"), "4000", "(10330)parameter routingKey is NOT a repeatable parameter"},
		{"batch publish: none", "BatchPublishMessage", []string{"topicName=tags"}, "4000", "(10390)lacked of required parameter msgBody"},
		{"batch publish: 17", "BatchPublishMessage", append(numberedItems("msgBody", 17), "topicName=tags"), "4000", "(10370)msgBody parameter batch size is out of range"},
		{"batch publish: gap", "BatchPublishMessage", batch("tags", "msgBody.3=x"), "4000", "(10380)msgBody parameter is not consequent"},
		{"batch publish: one empty", "BatchPublishMessage", batch("tags", "msgBody.2="), "4000", "(10120)message body can't be empty"},
		{"batch publish: one large", "BatchPublishMessage", batch("tags", "msgTag.1=red", "msgBody.2="+strings.Repeat("x", 65537)), "4400", "(10230)exceed maximum message size"},
		{"batch publish: total", "BatchPublishMessage", batch("large", "msgBody.2="+strings.Repeat("x", big)), "4470", "(10300)total message size exceed 1MB"},
		{"batch publish: no topic", "BatchPublishMessage", batch("none"), "4440", noTopic},
		{"batch publish: no subscription", "BatchPublishMessage", batch("alone"), "6030", "(10650)topic has no subscription, please create a subscription before publishing message"},
		{"batch publish: no match", "BatchPublishMessage", batch("keys", "routingKey=a"), "6030", noMatch},
		{"batch publish: 6 tags", "BatchPublishMessage", batch("tags", numberedItems("msgTag", 6)...), "4000", "(10720)too many msgTag"},
	}
}

// subscribing are the items of a request that makes a subscription, with more that replace or add to them.
func subscribing(topic string, more ...string) []string {
	return append([]string{"topicName=" + topic, "subscriptionName=n", "protocol=queue", "endpoint=q"}, more...)
}

func subscribeRows() []errorRow {
	set := func(more ...string) []string {
		return append([]string{"topicName=tags", "subscriptionName=s"}, more...)
	}
	rows := []errorRow{
		{"subscribe: no topic name", "Subscribe", []string{"subscriptionName=n", "protocol=queue", "endpoint=q"}, "4000", "(10390)lacked of required parameter topicName"},
		{"subscribe: bad topic name", "Subscribe", subscribing("t.t"), "4000", badTopicName},
		{"subscribe: no topic", "Subscribe", subscribing("none"), "4440", noTopic},
		{"subscribe: no name", "Subscribe", []string{"topicName=tags", "protocol=queue", "endpoint=q"}, "4000", "(10390)lacked of required parameter subscriptionName"},
		{"subscribe: bad name", "Subscribe", subscribing("tags", "subscriptionName=9"), "4000", badName},
		{"subscribe: 65 characters", "Subscribe", subscribing("tags", "subscriptionName="+strings.Repeat("s", 65)), "4000", badName},
		{"subscribe: exists", "Subscribe", subscribing("tags", "subscriptionName=S"), "4490", "(10470)subscribtion is already existed"},
		{"subscribe: no protocol", "Subscribe", []string{"topicName=tags", "subscriptionName=n", "endpoint=q"}, "4000", "(10390)lacked of required parameter protocol"},
		{"subscribe: no endpoint", "Subscribe", []string{"topicName=tags", "subscriptionName=n", "protocol=queue"}, "4000", "(10390)lacked of required parameter endpoint"},
		{"subscribe: empty protocol", "Subscribe", subscribing("tags", "protocol="), "4000", "(10510)undefined protocol"},
		{"subscribe: https is no protocol", "Subscribe", subscribing("tags", "protocol=https", "endpoint=https://h/"), "4000", "(10510)undefined protocol"},
		{"subscribe: unknown protocol", "Subscribe", subscribing("tags", "protocol=amqp"), "4000", "(10510)undefined protocol"},
		{"subscribe: strategy", "Subscribe", subscribing("tags", "notifyStrategy=NEVER"), "4000", "(10520)undefined notify retry stragety"},
		{"subscribe: format", "Subscribe", subscribing("tags", "notifyContentFormat=XML"), "4000", "(10530)undefined notify content format"},
		{"subscribe: 6 tags", "Subscribe", subscribing("tags", numberedItems("filterTag", 6)...), "4000", "(10490)number of filterTag exceed limit"},
		{"subscribe: tag of 17 characters", "Subscribe", subscribing("tags", "filterTag.1="+strings.Repeat("x", 17)), "4000", "(10350)parameter filterTag" + outOfRange},
		{"subscribe: empty tag", "Subscribe", subscribing("tags", "filterTag.0="), "4000", "(10350)parameter filterTag" + outOfRange},
		{"subscribe: gap in tags", "Subscribe", subscribing("tags", "filterTag.2=a"), "4000", "(10380)filterTag parameter is not consequent"},
		{"subscribe: 6 keys", "Subscribe", subscribing("keys", numberedItems("bindingKey", 6)...), "4000", "(10680)too many bindingKey"},
		{"subscribe: 6 keys in PHP's spelling", "Subscribe", subscribing("keys", numberedItems("bindindKey", 6)...), "4000", "(10680)too many bindingKey"},
		{"subscribe: no key", "Subscribe", subscribing("keys"), "4000", "(10710)parameters lack of bindingKey"},
		{"subscribe: empty key", "Subscribe", subscribing("keys", "bindingKey.1="), "4000", "(10350)parameter bindingKey" + outOfRange},
		{"subscribe: key of 65 bytes", "Subscribe", subscribing("keys", "bindingKey.1="+strings.Repeat("x", 65)), "4000", "(10350)parameter bindingKey" + outOfRange},
		{"subscribe: 16 dots", "Subscribe", subscribing("keys", "bindingKey.1="+strings.Repeat("a.", 16)), "4000", "(10691)too many delimeters"},
		{"subscribe: part of a word as wildcard", "Subscribe", subscribing("keys", "bindingKey.1=order*"), "4000", "(10350)parameter bindingKey" + outOfRange},
		{"subscribe: two wildcards in a word", "Subscribe", subscribing("keys", "bindingKey.1=a.##"), "4000", "(10350)parameter bindingKey" + outOfRange},
		{"subscribe: short secret", "Subscribe", subscribing("tags", "pushSecret=short"), "4000", "(10350)parameter pushSecret" + outOfRange},
		{"subscribe: long secret", "Subscribe", subscribing("tags", "pushSecret="+strings.Repeat("x", 257)), "4000", "(10350)parameter pushSecret" + outOfRange},
		{"subscribe: rate text", "Subscribe", subscribing("tags", "rateLimit=fast"), "4000", "(10360)parameter rateLimit error type"},
		{"subscribe: rate with a fraction", "Subscribe", subscribing("tags", "rateLimit=0.5"), "4000", "(10360)parameter rateLimit error type"},
		{"subscribe: rate negative", "Subscribe", subscribing("tags", "rateLimit=-1"), "4000", "(10350)parameter rateLimit" + outOfRange},
		{"subscribe: rate too high", "Subscribe", subscribing("tags", "rateLimit="+strings.Repeat("9", 400)), "4000", "(10350)parameter rateLimit" + outOfRange},
		{"subscribe: concurrency", "Subscribe", subscribing("tags", "concurrency=1001"), "4000", "(10350)parameter concurrency" + outOfRange},
		{"subscribe: ordered", "Subscribe", subscribing("tags", "ordered=maybe"), "4000", "(10360)parameter ordered error type"},
		{"subscribe: paused", "Subscribe", subscribing("tags", "paused="), "4000", "(10360)parameter paused error type"},
		{"subscribe: dead-letter queue that is no name", "Subscribe", subscribing("tags", "deadLetterQueueName=a.b"), "4000", "(10020)queue name format error"},
		{"subscribe: dead-letter queue that is not there", "Subscribe", subscribing("tags", "deadLetterQueueName=none"), "4000", "(10730)deadLetter queue not exist"},
		{"subscribe: certificate that is none", "Subscribe", subscribing("tags", "ca=x"), "4000", "(10350)parameter ca" + outOfRange},
		{"subscribe: certificate that is broken", "Subscribe", subscribing("tags", "ca="+strings.Replace(testCA, "MII", "XXX", 1)), "4000", "(10350)parameter ca" + outOfRange},
		{"subscribe: certificate and more", "Subscribe", subscribing("tags", "ca="+testCA+"x"), "4000", "(10350)parameter ca" + outOfRange},
		{"subscribe: too many certificates", "Subscribe", subscribing("tags", "ca="+strings.Repeat(testCA, 30)), "4000", "(10350)parameter ca" + outOfRange},
		{"subscribe: agent", "Subscribe", subscribing("tags", "agent=a b"), "4000", "(10350)parameter agent" + outOfRange},

		{"set: no strategy of that name", "SetSubscriptionAttributes", set("notifyStrategy=backoff"), "4000", "(10520)undefined notify retry stragety"},
		{"set: no format of that name", "SetSubscriptionAttributes", set("notifyContentFormat=json"), "4000", "(10530)undefined notify content format"},
		{"set: 6 tags", "SetSubscriptionAttributes", set(numberedItems("filterTag", 6)...), "4000", "(10490)number of filterTag exceed limit"},
		{"set: 6 keys", "SetSubscriptionAttributes", set(numberedItems("bindingKey", 6)...), "4000", "(10680)too many bindingKey"},
		{"list: no topic", "ListSubscriptionByTopic", []string{"topicName=none"}, "4440", noTopic},
		{"list: no name", "ListSubscriptionByTopic", nil, "4000", "(10390)lacked of required parameter topicName"},
		{"list: limit 101", "ListSubscriptionByTopic", []string{"topicName=tags", "limit=101"}, "4000", "(10350)parameter limit" + outOfRange},
		{"list: offset 1001", "ListSubscriptionByTopic", []string{"topicName=tags", "offset=1001"}, "4000", "(10350)parameter offset" + outOfRange},
	}
	for _, action := range []string{"GetSubscriptionAttributes", "SetSubscriptionAttributes", "ClearSubscriptionFilterTags", "Unsubscribe"} {
		rows = append(rows,
			errorRow{action + ": no topic", action, []string{"topicName=none", "subscriptionName=s"}, "4440", noTopic},
			errorRow{action + ": no subscription", action, []string{"topicName=tags", "subscriptionName=none"}, "4000", noSubscription},
			errorRow{action + ": no topic name", action, []string{"subscriptionName=s"}, "4000", "(10390)lacked of required parameter topicName"},
			errorRow{action + ": no name", action, []string{"topicName=tags"}, "4000", "(10390)lacked of required parameter subscriptionName"},
			errorRow{action + ": bad topic name", action, []string{"topicName=0", "subscriptionName=s"}, "4000", badTopicName},
			errorRow{action + ": bad name", action, []string{"topicName=tags", "subscriptionName=s s"}, "4000", badName},
			errorRow{action + ": another's", action, []string{"topicName=tags", "subscriptionName=s", "SecretId=AKIDbob"}, "4440", noTopic})
	}
	return rows
}

// endpointRows are endpoints that no subscription can have.
func endpointRows() (rows []errorRow) {
	const (
		format = "(10500)endpoint format error"
		blank  = "(10570)url connot contain any blank characters"
	)
	for _, c := range []struct{ protocol, endpoint, code, text string }{
		{"http", "", "4000", format},
		{"http", "q", "4000", format},
		{"http", "example.com/hook", "4000", format},
		{"http", "ftp://example.com/", "4000", format},
		{"http", "http:/example.com", "4000", format},
		{"http", "http://", "4000", format},
		{"http", "http:///path", "4000", format},
		{"http", "http://:80/", "4000", format},
		{"http", "http://h:0/", "4000", format},
		{"http", "http://h:65536/", "4000", format},
		{"http", "http://h:port/", "4000", format},
		{"http", "http://h/%zz", "4000", format},
		{"http", "http://h/#part", "4000", format},
		{"http", "http://[::1", "4000", format},
		{"http", "http://h\\@elsewhere/", "4000", format},
		{"http", "http://h/\x00", "4000", format},
		{"http", "http://h/a b", "4510", blank},
		{"http", " http://h/", "4510", blank},
		{"http", "http://h/\r\nHost: elsewhere", "4510", blank},
		{"http", "http://h/\u3000", "4510", blank},
		{"http", "http://h/" + strings.Repeat("x", 492), "4000", "(10350)parameter endpoint" + outOfRange},
		{"queue", "", "4000", format},
		{"queue", "http://h/", "4000", format},
		{"queue", "a b", "4000", format},
		{"queue", strings.Repeat("q", 65), "4000", format},
		{"mail", "nobody", "4000", format},
		{"mail", "A <a@example.com>", "4000", format},
		{"mail", "a@example.com\r\nBcc: b@example.com", "4000", format},
		{"sms", "12", "4000", format},
		{"sms", "+49 151 1", "4000", format},
		{"sms", "++4915112345", "4000", format},
		{"sms", "1234567890123456", "4000", format},
		{"function", "http://h/a b", "4510", blank},
		{"function", "name", "4000", format},
	} {
		rows = append(rows, errorRow{fmt.Sprintf("endpoint: %s %.30q", c.protocol, c.endpoint), "Subscribe", subscribing("tags", "protocol="+c.protocol, "endpoint="+c.endpoint), c.code, c.text})
	}
	return rows
}

// TestTopicEdges: the largest that is allowed, and what looks odd but is fine.
func TestTopicEdges(t *testing.T) {
	r := newRig(t)
	r.ok("CreateQueue", "queueName=q", "maxMsgSize=1048576")
	for i, items := range [][]string{{"maxMsgSize=1024", "filterType=1"}, {"maxMsgSize=1048576", "filterType=2"}, {"msgRetentionSeconds=60"}, {"msgRetentionSeconds=86400", "trace=0"}} {
		r.ok("CreateTopic", append(items, fmt.Sprintf("topicName=t%d", i))...)
	}
	for i, items := range [][]string{
		{"filterTag.0=" + strings.Repeat("é", 16), "filterTag.1=b", "filterTag.2=c, d", "filterTag.3=@", "filterTag.4= "},
		{"protocol=QUEUE", "notifyContentFormat=JSON"}, {"notifyStrategy=", "notifyContentFormat=", "bindingKey.1=*"},
		{"protocol=http", "endpoint=http://h/" + strings.Repeat("x", 491)}, {"protocol=hTTP", "endpoint=HTTPS://user:word@[2001:db8::1]:8443/a%20b?q=%0d"},
		{"protocol=mail", "endpoint=a+b@example.com"}, {"protocol=SMS", "endpoint=+4915112345678"}, {"protocol=function", "endpoint=http://gateway:8080/function/resize"},
		{"pushSecret=" + strings.Repeat("x", 256), "rateLimit=100000", "concurrency=1000"}, {"rateLimit=1"}, {"ca=" + testCA + "\n" + testCA},
	} {
		r.ok("Subscribe", subscribing("t0", append(items, fmt.Sprintf("subscriptionName=s%d", i))...)...)
	}
	r.ok("Subscribe", "topicName=t0", "subscriptionName=aliases", "protocal=Queue", "endpoint=q", "filterTags.0=a", "filterTags.1=b")
	if answer := r.ok("GetSubscriptionAttributes", "topicName=t0", "subscriptionName=aliases"); !strings.Contains(answer, `"protocol":"queue"`) || !strings.Contains(answer, `"filterTag":["a","b"]`) {
		t.Errorf("aliases are not read: %s", answer)
	}
	r.ok("Subscribe", subscribing("t1", "subscriptionName=cpp", "bindingKey,1=a.b", "filterTag,1=x")...)
	if answer := r.ok("GetSubscriptionAttributes", "topicName=t1", "subscriptionName=cpp"); !strings.Contains(answer, `"filterTag":["x"]`) || !strings.Contains(answer, `"bindingKey":["a.b"]`) {
		t.Errorf("lists of the C++ client are not read: %s", answer)
	}
	r.ok("BatchPublishMessage", "topicName=t1", "msgBody.1=x", "routingkey=a.b")
	r.want(r.do("BatchPublishMessage", "topicName=t1", "msgBody.1=x", "routingkey=a.c"), refusal("6030", "(10730)no bindingKey or filterTag matches the routingKey or msgTag"))
	r.want(r.do("BatchPublishMessage", "topicName=t1", "msgBody.1=x", "routingkey="), refusal("4000", "(10700)parameters lack of routingKey"))
	r.ok("Unsubscribe", "topicName=t1", "subscriptionName=cpp")
	for i, key := range []string{"#", "*", "a.*.b.#", "..", "a b.ü", strings.Repeat("x", 64), strings.Repeat("a.", 15)} {
		r.ok("Subscribe", subscribing("t1", fmt.Sprintf("subscriptionName=s%d", i), "bindingKey.1="+key)...)
	}
	r.ok("PublishMessage", "topicName=t1", "msgBody="+strings.Repeat("x", big), "routingKey="+strings.Repeat(".", 15))
	r.ok("PublishMessage", "topicName=t1", "msgBody=x", "routingKey=*.#.a*", "msgTag.1=any")
	r.ok("PublishMessage", "topicName=t0", "msgBody=x", "routingKey=ignored", "msgTag.0="+strings.Repeat("é", 16), "msgTag.1=2", "msgTag.2=3", "msgTag.3=4", "msgTag.4=5")
	r.ok("ListSubscriptionByTopic", "topicName=t0", "limit=0", "offset=1000")
	r.ok("SetTopicAttributes", "topicName=t0")
}

// TestEndpointNotAllowed: the server says which URLs it never delivers to, and is asked about those it would deliver to
// itself.
func TestEndpointNotAllowed(t *testing.T) {
	r := newRig(t, func(c *Config) {
		c.Endpoint = func(url string) error {
			if strings.Contains(url, "127.0.0.1") {
				return errors.New("127.0.0.1:7670 is an address of this cluster")
			}
			return nil
		}
	})
	r.ok("CreateTopic", "topicName=t")
	for _, protocol := range []string{"http", "function"} {
		r.want(r.do("Subscribe", subscribing("t", "protocol="+protocol, "endpoint=http://127.0.0.1:7670/")...), refusal("4000", "(10630)illegal endpoint"))
		r.want(r.do("Subscribe", subscribing("t", "protocol="+protocol, "endpoint=http://127.0.0.1:7670/", "agent=")...), refusal("4000", "(10630)illegal endpoint"))
		r.ok("Subscribe", subscribing("t", "subscriptionName=agent-"+protocol, "protocol="+protocol, "endpoint=http://127.0.0.1:7670/", "agent=east")...)
		r.ok("Subscribe", subscribing("t", "subscriptionName=far-"+protocol, "protocol="+protocol, "endpoint=http://192.0.2.1/")...)
	}
	r.ok("Subscribe", subscribing("t", "protocol=mail", "endpoint=a@127.0.0.1")...)
}

// TestWhatTheServerDoesNotDeliver is refused, instead of waiting for ever or going another way.
func TestWhatTheServerDoesNotDeliver(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Protocols = nil })
	r.ok("CreateTopic", "topicName=t")
	for protocol, endpoint := range map[string]string{"mail": "a@example.com", "SMS": "+4915112345"} {
		r.want(r.do("Subscribe", subscribing("t", "protocol="+protocol, "endpoint="+endpoint)...), refusal("4000", "(10510)undefined protocol"))
	}
	r.want(r.do("Subscribe", subscribing("t", "agent=east")...), refusal("4000", "(10350)parameter agent value or length is out of range"))
	r.ok("Subscribe", subscribing("t", "subscriptionName=queue", "agent=")...)
	r.ok("Subscribe", subscribing("t", "subscriptionName=http", "protocol=http", "endpoint=http://h/")...)
	r.ok("Subscribe", subscribing("t", "subscriptionName=function", "protocol=Function", "endpoint=http://h/")...)
}

// TestTopicFailures: limits, and what is the server's fault.
func TestTopicFailures(t *testing.T) {
	r := newRig(t)
	r.fake.Limits.TopicsPerOwner, r.fake.Limits.SubscriptionsPerTopic = 1, 1
	r.ok("CreateTopic", "topicName=t")
	r.want(r.do("CreateTopic", "topicName=more"), refusal("4450", "(10610)number of topics has reached the limit"))
	r.ok("Subscribe", subscribing("t")...)
	r.want(r.do("Subscribe", subscribing("t", "subscriptionName=more")...), refusal("4500", "(10480)number of subscription has reached the limit"))
	r.fake.Fail = func(access.Action) error { return errors.New("disk on fire") }
	for a := access.CreateTopic; a < access.ListSubscriptionByAgent; a++ {
		want := refusal("6000", "(10050)server internal error")
		body := "msgBody=x"
		if a == access.PublishMessage || a == access.BatchPublishMessage {
			want = refusal("6000", "(10090)send message failed")
		}
		if a == access.BatchPublishMessage {
			body = "msgBody.1=x"
		}
		r.want(r.do(a.String(), subscribing("t", body)...), want)
	}
}
