package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/cmq"
)

// agentRig has a topic with a subscription of the agent "plant", in the fake's numbers subsc-00000002.
func agentRig(t *testing.T, more ...string) *rig {
	r := newRig(t)
	r.ok("CreateTopic", "topicName=news")
	r.ok("Subscribe", append([]string{"topicName=news", "subscriptionName=s", "protocol=http", "endpoint=http://10.0.0.7/", "agent=plant"}, more...)...)
	return r
}

const ofPlant = "subscriptionId=subsc-00000002"

// ask is the question of an agent for its subscriptions.
func (r *rig) ask(more ...string) string {
	return r.do("ListSubscriptionByAgent", append([]string{"agent=plant", "instance=7"}, more...)...)
}

var version = regexp.MustCompile(`"version":"([0-9a-z]+)"`)

// TestAgentIsToldEverythingItNeeds: what it needs to deliver, and nothing when nothing has changed.
func TestAgentIsToldEverythingItNeeds(t *testing.T) {
	r := agentRig(t)
	const plain = `{"subscriptionId":"subsc-00000002","subscriptionName":"s","topicName":"news","topicOwner":"alice","protocol":"http","endpoint":"http://10.0.0.7/",` +
		`"notifyStrategy":"EXPONENTIAL_DECAY_RETRY","notifyContentFormat":"JSON"}`
	answer := func(version, list string) string {
		return `{"code":0,"message":"","requestId":"1","version":"` + version + `","agents":1` + list + `}`
	}
	first := r.ask()
	v1 := version.FindStringSubmatch(first)[1]
	r.want(first, answer(v1, `,"subscriptionList":[`+plain+`]`))
	r.want(r.ask("version="+v1), answer(v1, ""))
	r.want(r.ask("version=other"), first)

	r.ok("CreateQueue", "queueName=Dead")
	r.ok("Subscribe", "topicName=news", "subscriptionName=full", "protocol=function", "endpoint=http://10.0.0.8/", "agent=PLANT", "notifyStrategy=BACKOFF_RETRY", "notifyContentFormat=CLOUDEVENTS",
		"pushSecret=0123456789abcdef", "rateLimit=25", "concurrency=8", "ordered=1", "paused=1", "deadLetterQueueName=dead", "ca="+testCA)
	r.ok("Subscribe", "topicName=news", "subscriptionName=ours", "protocol=http", "endpoint=http://10.0.0.7/")
	r.ok("Subscribe", "topicName=news", "subscriptionName=theirs", "protocol=http", "endpoint=http://10.0.0.7/", "agent=office")
	second := r.ask("version=" + v1)
	v2 := version.FindStringSubmatch(second)[1]
	r.want(second, answer(v2, `,"subscriptionList":[`+plain+`,{"subscriptionId":"subsc-00000004","subscriptionName":"full","topicName":"news","topicOwner":"alice","protocol":"function","endpoint":"http://10.0.0.8/",`+
		`"notifyStrategy":"BACKOFF_RETRY","notifyContentFormat":"CLOUDEVENTS","pushSecret":"0123456789abcdef","pushSigned":true,"rateLimit":25,"concurrency":8,"ordered":true,"paused":true,"deadLetterQueueName":"Dead","ca":`+
		string(appendString(nil, testCA))+`}]`))
	if v1 == v2 {
		t.Error("another list has the same version")
	}
	r.want(r.ask("SecretId=AKIDbob"), answer(version.FindStringSubmatch(r.ask("SecretId=AKIDbob"))[1], `,"subscriptionList":[]`))

	r.want(r.do("ListSubscriptionByAgent", "agent=plant", "instance=18446744073709551615", "version="+v2), strings.Replace(answer(v2, ""), `"agents":1`, `"agents":2`, 1))
	r.want(r.ask("leaving=true", "version="+v2), answer(v2, ""))
	shown := r.do("GetSubscriptionAttributes", "topicName=news", "subscriptionName=s")
	if !strings.HasSuffix(shown, `,"agent":"plant","agents":1}`) {
		t.Error(shown)
	}
}

// TestAgentsMessages: byte for byte, with what the topic chose them by.
func TestAgentsMessages(t *testing.T) {
	r := agentRig(t)
	body := "\x00\xff\"é"
	r.ok("PublishMessage", "topicName=news", "msgBody="+body, "msgTag.1=a", "msgTag.2=b")
	r.ok("PublishMessage", "topicName=news", "msgBody=two", "routingKey=x.y")
	receive := func(more ...string) string {
		return r.do("ReceiveSubscriptionMessage", append([]string{"agent=Plant", ofPlant}, more...)...)
	}
	one := receive("pollingWaitSeconds=0")
	r.want(one, `{"code":0,"message":"","requestId":"1","msgInfoList":[{"msgId":"`+msgID(3)+`","receiptHandle":"`+handle(5)+`","msgBodyBase64":"AP8iw6k=","publishTimeMs":1700000000000,"nextVisibleTimeMs":1700000030000,"dequeueCount":1,"msgTag":["a","b"],"routingKey":""}]}`)
	r.want(receive("pollingWaitSeconds=0", "numOfMsg=16", "visibilityTimeout=5"), `{"code":0,"message":"","requestId":"1","msgInfoList":[{"msgId":"`+msgID(4)+`","receiptHandle":"`+handle(6)+`","msgBodyBase64":"dHdv","publishTimeMs":1700000000000,"nextVisibleTimeMs":1700000005000,"dequeueCount":1,"msgTag":[],"routingKey":"x.y"}]}`)
	r.want(receive("pollingWaitSeconds=0"), refusal("7000", "(10200)no message"))

	settle := func(action string, n uint64, more ...string) string {
		return r.do(action, append([]string{"agent=plant", ofPlant, "receiptHandle=" + handle(n)}, more...)...)
	}
	r.want(settle("ChangeSubscriptionMessageVisibility", 6, "visibilityTimeoutMs=1500"), success)
	r.clock.Advance(1499 * time.Millisecond)
	r.want(receive("pollingWaitSeconds=0"), refusal("7000", "(10200)no message"))
	r.clock.Advance(time.Millisecond)
	if again := receive("pollingWaitSeconds=0"); !strings.Contains(again, `"dequeueCount":2`) || !strings.Contains(again, "dHdv") {
		t.Error(again)
	}
	r.want(settle("ChangeSubscriptionMessageVisibility", 5, "visibilityTimeoutMs=86400000"), success)
	r.want(settle("DeleteSubscriptionMessage", 5), success)
	r.want(settle("DeleteSubscriptionMessage", 5), refusal("4430", "(10260)receipt handle is invalid"))
	r.want(settle("ChangeSubscriptionMessageVisibility", 5, "visibilityTimeoutMs=0"), refusal("4430", "(10260)receipt handle is invalid"))
}

func msgID(n uint64) string  { return cmq.NewMsgID(1, n, 0).String() }
func handle(n uint64) string { return cmq.NewHandle(0, n).String() }

func TestAgentsErrors(t *testing.T) {
	r := agentRig(t, "ordered=true")
	r.ok("Subscribe", "topicName=news", "subscriptionName=ours", "protocol=http", "endpoint=http://10.0.0.7/")
	outOf := func(name string) string {
		return refusal("4000", "(10350)parameter "+name+" value or length is out of range")
	}
	missing := func(name string) string { return refusal("4000", "(10390)lacked of required parameter "+name) }
	notThere := refusal("4000", "(10560)subscription is not existed")
	plant := func(more ...string) []string { return append([]string{"agent=plant", ofPlant}, more...) }
	for _, row := range []struct {
		action string
		items  []string
		want   string
	}{
		{"ListSubscriptionByAgent", []string{"instance=1"}, missing("agent")},
		{"ListSubscriptionByAgent", []string{"agent=a b", "instance=1"}, outOf("agent")},
		{"ListSubscriptionByAgent", []string{"agent=", "instance=1"}, outOf("agent")},
		{"ListSubscriptionByAgent", []string{"agent=" + strings.Repeat("a", 65), "instance=1"}, outOf("agent")},
		{"ListSubscriptionByAgent", []string{"agent=plant"}, missing("instance")},
		{"ListSubscriptionByAgent", []string{"agent=plant", "instance=0"}, outOf("instance")},
		{"ListSubscriptionByAgent", []string{"agent=plant", "instance=-1"}, outOf("instance")},
		{"ListSubscriptionByAgent", []string{"agent=plant", "instance=18446744073709551616"}, outOf("instance")},
		{"ListSubscriptionByAgent", []string{"agent=plant", "instance=1", "leaving=maybe"}, refusal("4000", "(10360)parameter leaving error type")},
		{"ReceiveSubscriptionMessage", []string{ofPlant}, missing("agent")},
		{"ReceiveSubscriptionMessage", []string{"agent=plant"}, missing("subscriptionId")},
		{"ReceiveSubscriptionMessage", []string{"agent=plant", "subscriptionId=subsc-2"}, outOf("subscriptionId")},
		{"ReceiveSubscriptionMessage", []string{"agent=plant", "subscriptionId=topic-00000001"}, outOf("subscriptionId")},
		{"ReceiveSubscriptionMessage", []string{"agent=plant", "subscriptionId=subsc-zzzzzzzzzzzzzzzz"}, outOf("subscriptionId")},
		{"ReceiveSubscriptionMessage", []string{"agent=plant", "subscriptionId=subsc-00000099"}, notThere},
		{"ReceiveSubscriptionMessage", []string{"agent=plant", "subscriptionId=subsc-00000003"}, notThere},
		{"ReceiveSubscriptionMessage", []string{"agent=office", ofPlant}, notThere},
		{"ReceiveSubscriptionMessage", plant("SecretId=AKIDbob"), notThere},
		{"ReceiveSubscriptionMessage", plant("SecretId=AKIDoff"), refusal("4100", "(10080)secret id status error")},
		{"ReceiveSubscriptionMessage", plant("numOfMsg=0"), outOf("numOfMsg")},
		{"ReceiveSubscriptionMessage", plant("numOfMsg=17"), outOf("numOfMsg")},
		{"ReceiveSubscriptionMessage", plant("pollingWaitSeconds=-1"), outOf("pollingWaitSeconds")},
		{"ReceiveSubscriptionMessage", plant("visibilityTimeout=0"), outOf("visibilityTimeout")},
		{"DeleteSubscriptionMessage", plant(), missing("receiptHandle")},
		{"DeleteSubscriptionMessage", plant("receiptHandle=x"), refusal("4000", "(10470)receiptHandle error")},
		{"DeleteSubscriptionMessage", plant("receiptHandle=1"), refusal("4430", "(10260)receipt handle is invalid")},
		{"DeleteSubscriptionMessage", plant("receiptHandle=1", "SecretId=AKIDbob"), notThere},
		{"ChangeSubscriptionMessageVisibility", plant("receiptHandle=1"), missing("visibilityTimeoutMs")},
		{"ChangeSubscriptionMessageVisibility", plant("receiptHandle=1", "visibilityTimeoutMs=86400001"), outOf("visibilityTimeoutMs")},
		{"ChangeSubscriptionMessageVisibility", plant("receiptHandle=1", "visibilityTimeoutMs=1.5"), refusal("4000", "(10360)parameter visibilityTimeoutMs error type")},
		{"Subscribe", []string{"topicName=news", "subscriptionName=q", "protocol=queue", "endpoint=q", "agent=plant"}, outOf("agent")},
	} {
		t.Run(row.action+fmt.Sprint(row.items), func(t *testing.T) {
			r.t = t
			r.want(r.do(row.action, row.items...), row.want)
		})
	}
	r.t = t
	r.ok("BatchPublishMessage", "topicName=news", "msgBody.1=a", "msgBody.2=b")
	r.ok("ReceiveSubscriptionMessage", plant("pollingWaitSeconds=0", "numOfMsg=2")...)
	r.want(r.do("ReceiveSubscriptionMessage", plant("pollingWaitSeconds=0")...), refusal("6070", "(10690)too many unacked(inactive) messages or delayed messages"))
}

// TestAgentsFailures: what is the server's fault, as with queues.
func TestAgentsFailures(t *testing.T) {
	r := agentRig(t)
	r.fake.Fail = func(access.Action) error { return errors.New("disk on fire") }
	for action, want := range map[string]string{
		"ListSubscriptionByAgent":             refusal("6000", "(10050)server internal error"),
		"ReceiveSubscriptionMessage":          refusal("6000", "(10130)recieve message failed"),
		"DeleteSubscriptionMessage":           refusal("6000", "(10140)delete message failed"),
		"ChangeSubscriptionMessageVisibility": refusal("6000", "(10810)change message visibility failed"),
	} {
		r.want(r.do(action, "agent=plant", ofPlant, "instance=7", "receiptHandle=1", "visibilityTimeoutMs=1"), want)
	}
}

// TestAgentThatHasGone: a poll ends with its client, and what it got all the same is given back and does not count as a try.
func TestAgentThatHasGone(t *testing.T) {
	r := agentRig(t)
	r.fake.Released = make(chan []cmq.Handle, 1)
	r.fake.Waiting, r.fake.Cancelled = make(chan string, 1), make(chan string, 1)
	ctx, cancel := context.WithCancel(t.Context())
	form := sign("POST", testHost, "/", fields("Action=ReceiveSubscriptionMessage", "agent=plant", ofPlant, "pollingWaitSeconds=20"))
	request := httptest.NewRequestWithContext(ctx, "POST", "/", strings.NewReader(form.Encode()))
	request.Host = testHost
	served := make(chan struct{})
	go func() {
		defer close(served)
		r.door.ServeHTTP(httptest.NewRecorder(), request)
	}()
	if name := <-r.fake.Waiting; name != "subsc-00000002" {
		t.Error(name)
	}
	cancel()
	<-r.fake.Cancelled
	<-served

	r.ok("PublishMessage", "topicName=news", "msgBody=x")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	request = httptest.NewRequestWithContext(gone, "POST", "/", strings.NewReader(form.Encode()))
	request.Host = testHost
	r.door.ServeHTTP(httptest.NewRecorder(), request)
	if handles := <-r.fake.Released; len(handles) != 1 {
		t.Error(handles)
	}
	if answer := r.ok("ReceiveSubscriptionMessage", "agent=plant", ofPlant); !strings.Contains(answer, `"dequeueCount":1`) {
		t.Error(answer)
	}
}
