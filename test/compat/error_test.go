package compat

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

const (
	policy    = `deadLetterPolicy={"deadLetterQueue":"dead","policy":0,"maxReceiveCount":3}`
	rangeText = "(10350)parameter %s value or length is out of range"
)

// TestErrors provokes the documented errors of the queue API that can be provoked from outside.
func TestErrors(t *testing.T) {
	onBoth(t, func(t *testing.T, addresses []string) {
		c := newClient(t, shapes()[0], addresses)
		c.ok("CreateQueue", "queueName=q")
		c.ok("CreateQueue", "queueName=large", "maxMsgSize=1048576")
		c.ok("CreateQueue", "queueName=back", "rewindSeconds=600")
		c.ok("CreateQueue", "queueName=dead")
		c.ok("CreateQueue", "queueName=source", policy)
		commonErrors(c)
		queueErrors(c)
		policyErrors(c)
		messageErrors(c)
		handleErrors(c)
		inFlightErrors(c)
		transportErrors(c)
	})
}

func commonErrors(c *client) {
	c.refused(4000, "(10280)action is not existed", "")
	c.refused(4000, "(10430)action name DoNothing is not existed", "DoNothing")
	c.refused(4100, "(10270)secret id is not existed", "ListQueue", "SecretId=AKIDnobody")
	c.refused(4100, "(10030)authentication failed", "ListQueue", fmt.Sprintf("Timestamp=%d", time.Now().Unix()-7300))
	c.refused(4100, "(10030)authentication failed", "ListQueue", fmt.Sprintf("Timestamp=%d", time.Now().Unix()+7300))
	c.refused(4000, "(10360)parameter Timestamp error type", "ListQueue", "Timestamp=now")
	c.refused(4000, "(10360)parameter Nonce error type", "ListQueue", "Nonce=-1")
	c.refused(4000, "(10390)lacked of required parameter SecretId", "ListQueue", "SecretId=")
	c.ok("listqueue")
}

func queueErrors(c *client) {
	c.refused(4000, "(10390)lacked of required parameter queueName", "CreateQueue")
	for _, name := range []string{"", "9", "-a", "a.b", "a b", "é", strings.Repeat("a", 65)} {
		c.refused(4000, "(10020)queue name format error", "CreateQueue", "queueName="+name)
	}
	c.refused(4000, "(10330)parameter queueName is NOT a repeatable parameter", "CreateQueue", "queueName.1=n")
	c.refused(4460, "(10210)queue is already existed", "CreateQueue", "queueName=q")
	for name, values := range map[string][]string{
		"maxMsgHeapNum": {"999999", "1000000001", "-1"}, "pollingWaitSeconds": {"31", "-1"}, "visibilityTimeout": {"0", "43201"}, "maxMsgSize": {"1023", "1048577"},
		"msgRetentionSeconds": {"59", "1296001"}, "rewindSeconds": {"-1", "1296001"}, "maxInFlight": {"0", "10000001"},
	} {
		for _, value := range values {
			c.refused(4000, fmt.Sprintf(rangeText, name), "CreateQueue", "queueName=n", name+"="+value)
			c.refused(4000, fmt.Sprintf(rangeText, name), "SetQueueAttributes", "queueName=q", name+"="+value)
		}
		c.refused(4000, "(10360)parameter "+name+" error type", "CreateQueue", "queueName=n", name+"=1.5")
	}
	c.refused(4000, "(10700)rewindSeconds cannot be greater than msgRetentionSeconds", "CreateQueue", "queueName=n", "msgRetentionSeconds=60", "rewindSeconds=61")
	c.refused(4000, "(10700)rewindSeconds cannot be greater than msgRetentionSeconds", "SetQueueAttributes", "queueName=back", "msgRetentionSeconds=599")
	c.refused(4000, fmt.Sprintf(rangeText, "limit"), "ListQueue", "limit=51")
	c.refused(4000, fmt.Sprintf(rangeText, "offset"), "ListQueue", "offset=-1")
	for _, action := range []string{"GetQueueAttributes", "SetQueueAttributes", "DeleteQueue", "ClearQueue", "QueryQueueRoute"} {
		c.refused(4440, "(10100)queue is not existed, or deleted", action, "queueName=none")
		c.refused(4000, "(10390)lacked of required parameter queueName", action)
		c.refused(4000, "(10020)queue name format error", action, "queueName=a.b")
	}
	c.refused(6050, "(10670)your queue cannot be rewinded", "RewindQueue", "queueName=q", fmt.Sprintf("startConsumeTime=%d", time.Now().Unix()))
	for _, at := range []int64{0, time.Now().Unix() - 700, time.Now().Unix() + 100, time.Now().UnixMilli()} {
		c.refused(4000, "(10680)invalid rewind time, you can get the vaild range of that via GetQueueAttributes", "RewindQueue", "queueName=back", fmt.Sprintf("startConsumeTime=%d", at))
	}
	c.refused(4000, "(10390)lacked of required parameter startConsumeTime", "RewindQueue", "queueName=back")
	c.refused(4440, "(10100)queue is not existed, or deleted", "RewindQueue", "queueName=none", "startConsumeTime=1")
}

func policyErrors(c *client) {
	for text, message := range map[string]string{
		"dead":                                  "(10710)deadLetterPolicy must be a json string",
		"[1]":                                   "(10710)deadLetterPolicy must be a json string",
		`{"policy":0}`:                          "(10760)the deadLetterPolicy must has deadLetterQueue member, only be a string",
		`{"deadLetterQueue":1,"policy":0}`:      "(10760)the deadLetterPolicy must has deadLetterQueue member, only be a string",
		`{"deadLetterQueue":"dead"}`:            "(10770)the deadLetterPolicy must has policy member , only set 0 or 1",
		`{"deadLetterQueue":"dead","policy":2}`: "(10770)the deadLetterPolicy must has policy member , only set 0 or 1",
		`{"deadLetterQueue":"dead","policy":0}`: "(10720)deadLetterPolicy params error,please check it",
		`{"deadLetterQueue":"dead","policy":0,"maxReceiveCount":1001}`:     "(10720)deadLetterPolicy params error,please check it",
		`{"deadLetterQueue":"dead","policy":1,"maxTimeToLive":299}`:        "(10720)deadLetterPolicy params error,please check it",
		`{"deadLetterQueue":"none","policy":0,"maxReceiveCount":1}`:        "(10730)deadLetter queue not exist",
		`{"deadLetterQueue":"source","policy":0,"maxReceiveCount":1}`:      "(10740)deadLetter queue is not allowed to nest",
		`{"deadLetterQueue":"dead","policy":1,"maxTimeToLive":4294967296}`: "(10720)deadLetterPolicy params error,please check it",
	} {
		c.refused(4000, message, "CreateQueue", "queueName=n", "deadLetterPolicy="+text)
		c.refused(4000, message, "SetQueueAttributes", "queueName=q", "deadLetterPolicy="+text)
	}
	c.refused(4000, "(10740)deadLetter queue is not allowed to nest", "SetQueueAttributes", "queueName=dead", `deadLetterPolicy={"deadLetterQueue":"q","policy":0,"maxReceiveCount":3}`)
	c.refused(4000, "(10750)it is not allowed to be deleted when the queue is dead letter queue", "DeleteQueue", "queueName=dead")
	for i := range 5 {
		c.ok("CreateQueue", fmt.Sprintf("queueName=source%d", i), policy)
	}
	c.refused(4000, "(10780)the deadLetter Queue bind too many times", "CreateQueue", "queueName=n", policy)
	if a := c.ok("ListDeadLetterSourceQueues", "deadLetterQueueName=dead", "limit=2"); *a.TotalCount != 6 || len(a.QueueList) != 2 || a.QueueList[0].QueueName != "source" {
		c.t.Errorf("sources: %s", a.raw)
	}
	for i := range 5 {
		c.ok("UnbindDeadLetterQueue", fmt.Sprintf("queueName=source%d", i))
	}
	c.refused(4000, "(10730)deadLetter queue not exist", "UnbindDeadLetterQueue", "queueName=source0")
	c.refused(4000, "(10020)queue name format error", "UnbindDeadLetterQueue", "queueName=-")
	if a := c.ok("GetQueueAttributes", "queueName=source"); a.attributes["deadLetterPolicy"] != `{"deadLetterQueue":"dead","policy":0,"maxReceiveCount":3,"maxTimeToLive":0}` {
		c.t.Errorf("policy: %s", a.raw)
	}
}

func messageErrors(c *client) {
	c.refused(4440, "(10100)queue is not existed, or deleted", "SendMessage", "queueName=none", "msgBody=x")
	c.refused(4000, "(10390)lacked of required parameter msgBody", "SendMessage", "queueName=q")
	c.refused(4000, "(10120)message body can't be empty", "SendMessage", "queueName=q", "msgBody=")
	c.refused(4400, "(10230)exceed maximum message size", "SendMessage", "queueName=q", "msgBody="+strings.Repeat("x", 65537))
	c.refused(4400, "(10230)exceed maximum message size", "SendMessage", "queueName=large", "msgBody="+strings.Repeat("x", 1<<20+1))
	c.ok("SendMessage", "queueName=large", "msgBody="+strings.Repeat("%", 1<<20))
	c.refused(4000, "(10692)delay seconds is out of range", "SendMessage", "queueName=q", "msgBody=x", "delaySeconds=6048001")
	c.refused(4000, "(10692)delay seconds is out of range", "SendMessage", "queueName=q", "msgBody=x", "delaySeconds=-1")
	c.refused(4000, "(10360)parameter delaySeconds error type", "SendMessage", "queueName=q", "msgBody=x", "delaySeconds=x")
	c.refused(4000, "(10390)lacked of required parameter msgBody", "BatchSendMessage", "queueName=q")
	c.refused(4000, "(10370)msgBody parameter batch size is out of range", "BatchSendMessage", append(c.list("msgBody", strings.Split(strings.Repeat("x", 17), "")...), "queueName=q")...)
	c.refused(4000, "(10380)msgBody parameter is not consequent", "BatchSendMessage", "queueName=q", "msgBody.0=x", "msgBody.2=x")
	c.refused(4000, "(10310)error: parameter msgBody.x key format error", "BatchSendMessage", "queueName=q", "msgBody.x=x")
	c.refused(4000, "(10120)message body can't be empty", "BatchSendMessage", "queueName=q", "msgBody.1=x", "msgBody.2=")
	c.refused(4470, "(10300)total message size exceed 1MB", "BatchSendMessage", "queueName=large", "msgBody.1=x", "msgBody.2="+strings.Repeat("x", 1<<20))
	c.refused(7000, "(10200)no message", "ReceiveMessage", "queueName=q", "pollingWaitSeconds=0")
	c.refused(7000, "(10200)no message", "BatchReceiveMessage", "queueName=q", "numOfMsg=1")
	c.refused(4000, fmt.Sprintf(rangeText, "numOfMsg"), "BatchReceiveMessage", "queueName=q", "numOfMsg=17")
	c.refused(4000, fmt.Sprintf(rangeText, "numOfMsg"), "BatchReceiveMessage", "queueName=q", "numOfMsg=0")
	c.refused(4000, "(10390)lacked of required parameter numOfMsg", "BatchReceiveMessage", "queueName=q")
	c.refused(4000, fmt.Sprintf(rangeText, "pollingWaitSeconds"), "ReceiveMessage", "queueName=q", "pollingWaitSeconds=-1")
	c.refused(4440, "(10100)queue is not existed, or deleted", "ReceiveMessage", "queueName=none", "pollingWaitSeconds=30000")
	c.refused(4000, "(10470)receiptHandle error", "DeleteMessage", "queueName=q", "receiptHandle=x")
	c.refused(4430, "(10260)receipt handle is invalid", "DeleteMessage", "queueName=q", "receiptHandle=1")
	c.refused(4430, "(10260)receipt handle is invalid", "DeleteMessage", "queueName=q", "receiptHandle=18446744073709551615")
	c.refused(4440, "(10100)queue is not existed, or deleted", "DeleteMessage", "queueName=none", "receiptHandle=1")
	c.refused(4000, "(10390)lacked of required parameter receiptHandle", "BatchDeleteMessage", "queueName=q")
	c.refused(6020, "(10290)batch delete message failed", "BatchDeleteMessage", "queueName=q", "receiptHandle.1=1", "receiptHandle.2=x")
}

// handleErrors: a handle is good for the receive that gave it, in that queue and as long as the queue lives.
func handleErrors(c *client) {
	const invalid = "(10260)receipt handle is invalid"
	receive := func(queue string) string {
		c.ok("SendMessage", "queueName="+queue, "msgBody=x")
		return "receiptHandle=" + c.ok("ReceiveMessage", "queueName="+queue).message.Handle
	}
	for _, queue := range []string{"here", "there"} {
		c.ok("CreateQueue", "queueName="+queue)
	}
	here, there := receive("here"), receive("there")
	c.refused(4430, invalid, "DeleteMessage", "queueName=here", there)
	c.refused(4430, invalid, "DeleteMessage", "queueName=there", here)
	c.ok("DeleteQueue", "queueName=here")
	c.ok("CreateQueue", "queueName=here")
	again := receive("here")
	c.refused(4430, invalid, "DeleteMessage", "queueName=here", here)
	c.ok("DeleteMessage", "queueName=here", again)
	c.refused(4430, invalid, "DeleteMessage", "queueName=here", again)
	c.ok("ClearQueue", "queueName=there")
	receive("there")
	c.refused(4430, invalid, "DeleteMessage", "queueName=there", there)
}

// transportErrors are those of requests that no client makes.
func transportErrors(c *client) {
	form := c.sign(c.addresses[0], c.parameters("ListQueue", nil))
	for _, r := range []struct{ name, method, body, text string }{
		{"changed after signing", "POST", strings.Replace(form, "Action=ListQueue", "Action=listqueue", 1), "(10030)authentication failed"},
		{"other method", "PUT", form, "(10410)unexpected http PUT only GET or POST is supported"},
		{"parameter twice", "POST", form + "&Action=ListQueue", "(10330)parameter Action is NOT a repeatable parameter"},
		{"broken escape", "POST", form + "&x=%4", "(10420)cannot parse body, or request size is more than 1MB"},
		{"too large", "POST", form + "&x=" + strings.Repeat("x", 5<<20), "(10420)cannot parse body, or request size is more than 1MB"},
	} {
		request, err := http.NewRequest(r.method, "http://"+c.addresses[0]+"/v2/index.php", strings.NewReader(r.body))
		if err != nil {
			c.t.Fatal(err)
		}
		if a := c.send(r.name, request); *a.Message != r.text {
			c.t.Errorf("%s: %s", r.name, a.raw)
		}
	}
}

// inFlightErrors: no more messages are locked than the queue's maxInFlight, which may be changed at any time.
func inFlightErrors(c *client) {
	const tooMany = "(10690)too many unacked(inactive) messages or delayed messages"
	c.ok("CreateQueue", "queueName=few", "maxInFlight=2")
	c.ok("BatchSendMessage", append(c.list("msgBody", "a", "b", "c", "d"), "queueName=few")...)
	first := c.ok("BatchReceiveMessage", "queueName=few", "numOfMsg=16").MsgInfoList
	if len(first) != 2 {
		c.t.Fatalf("%d messages, 2 may be locked", len(first))
	}
	c.refused(6070, tooMany, "ReceiveMessage", "queueName=few")
	c.ok("DeleteMessage", "queueName=few", "receiptHandle="+first[0].Handle)
	if m := c.ok("ReceiveMessage", "queueName=few").message; m.Body != "c" {
		c.t.Errorf("after a delete: %+v", m)
	}
	if a := c.ok("SetQueueAttributes", "queueName=few", "maxInFlight=3"); a.attributes["maxInFlight"] != 3.0 {
		c.t.Errorf("set: %s", a.raw)
	}
	if m := c.ok("ReceiveMessage", "queueName=few").message; m.Body != "d" {
		c.t.Errorf("with a higher bound: %+v", m)
	}
	c.ok("SetQueueAttributes", "queueName=few", "maxInFlight=1")
	if a := c.ok("GetQueueAttributes", "queueName=few"); a.attributes["maxInFlight"] != 1.0 || a.attributes["inactiveMsgNum"] != 3.0 {
		c.t.Errorf("with a lower bound: %s", a.raw)
	}
	c.ok("SendMessage", "queueName=few", "msgBody=e")
	c.refused(6070, tooMany, "ReceiveMessage", "queueName=few")
}
