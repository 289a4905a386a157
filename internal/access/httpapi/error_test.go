package httpapi

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/cmq"
)

const (
	dlq0 = `{"deadLetterQueue":"dead","policy":0,"maxReceiveCount":3}`
	big  = 1 << 20
)

// prepare makes the queues that the rows of TestErrors use.
func prepare(r *rig) {
	r.ok("CreateQueue", "queueName=q")
	r.ok("CreateQueue", "queueName=large", "maxMsgSize=1048576")
	r.ok("CreateQueue", "queueName=back", "rewindSeconds=600")
	r.ok("CreateQueue", "queueName=dead")
	r.ok("CreateQueue", "queueName=source", "deadLetterPolicy="+dlq0)
}

// TestErrors provokes every error documented for queues and messages, and compares whole answers. Rows are
// requests that are fine but for one thing.
func TestErrors(t *testing.T) {
	repeated := func(n int) (items []string) {
		for i := range n {
			items = append(items, fmt.Sprintf("msgBody.%d=x", i+1))
		}
		return items
	}
	for _, c := range []struct {
		name   string
		action string
		items  []string
		code   string
		text   string
	}{
		{"unknown action", "CreateTopics", nil, "4000", "(10430)action name CreateTopics is not existed"},
		{"unknown action, odd name", "a\"\n", nil, "4000", `(10430)action name a\"\n is not existed`},
		{"empty action", "", nil, "4000", "(10280)action is not existed"},
		{"unknown key", "ListQueue", []string{"SecretId=AKIDnobody"}, "4100", "(10270)secret id is not existed"},
		{"key switched off", "ListQueue", []string{"SecretId=AKIDoff"}, "4100", "(10080)secret id status error"},
		{"clock fast", "ListQueue", []string{"Timestamp=1700007201"}, "4100", "(10030)authentication failed"},
		{"clock slow", "ListQueue", []string{"Timestamp=1699992799"}, "4100", "(10030)authentication failed"},
		{"time stamp not a number", "ListQueue", []string{"Timestamp=now"}, "4000", "(10360)parameter Timestamp error type"},
		{"nonce not a number", "ListQueue", []string{"Nonce=0x1"}, "4000", "(10360)parameter Nonce error type"},
		{"empty secret id", "ListQueue", []string{"SecretId="}, "4000", "(10390)lacked of required parameter SecretId"},

		{"create: no name", "CreateQueue", nil, "4000", "(10390)lacked of required parameter queueName"},
		{"create: empty name", "CreateQueue", []string{"queueName="}, "4000", "(10020)queue name format error"},
		{"create: digit first", "CreateQueue", []string{"queueName=1q"}, "4000", "(10020)queue name format error"},
		{"create: 65 characters", "CreateQueue", []string{"queueName=" + strings.Repeat("q", 65)}, "4000", "(10020)queue name format error"},
		{"create: dot", "CreateQueue", []string{"queueName=a.b"}, "4000", "(10020)queue name format error"},
		{"create: path", "CreateQueue", []string{"queueName=../q"}, "4000", "(10020)queue name format error"},
		{"create: NUL", "CreateQueue", []string{"queueName=q\x00"}, "4000", "(10020)queue name format error"},
		{"create: emoji", "CreateQueue", []string{"queueName=q😀"}, "4000", "(10020)queue name format error"},
		{"create: name as list", "CreateQueue", []string{"queueName.1=q"}, "4000", "(10330)parameter queueName is NOT a repeatable parameter"},
		{"create: exists", "CreateQueue", []string{"queueName=q"}, "4460", "(10210)queue is already existed"},
		{"create: exists in other case", "CreateQueue", []string{"queueName=Q"}, "4460", "(10210)queue is already existed"},
		{"create: heap too small", "CreateQueue", []string{"queueName=n", "maxMsgHeapNum=999999"}, "4000", "(10350)parameter maxMsgHeapNum value or length is out of range"},
		{"create: heap too large", "CreateQueue", []string{"queueName=n", "maxMsgHeapNum=1000000001"}, "4000", "(10350)parameter maxMsgHeapNum value or length is out of range"},
		{"create: polling too long", "CreateQueue", []string{"queueName=n", "pollingWaitSeconds=31"}, "4000", "(10350)parameter pollingWaitSeconds value or length is out of range"},
		{"create: polling negative", "CreateQueue", []string{"queueName=n", "pollingWaitSeconds=-1"}, "4000", "(10350)parameter pollingWaitSeconds value or length is out of range"},
		{"create: visibility 0", "CreateQueue", []string{"queueName=n", "visibilityTimeout=0"}, "4000", "(10350)parameter visibilityTimeout value or length is out of range"},
		{"create: visibility too long", "CreateQueue", []string{"queueName=n", "visibilityTimeout=43201"}, "4000", "(10350)parameter visibilityTimeout value or length is out of range"},
		{"create: size too small", "CreateQueue", []string{"queueName=n", "maxMsgSize=1023"}, "4000", "(10350)parameter maxMsgSize value or length is out of range"},
		{"create: size too large", "CreateQueue", []string{"queueName=n", "maxMsgSize=1048577"}, "4000", "(10350)parameter maxMsgSize value or length is out of range"},
		{"create: retention too short", "CreateQueue", []string{"queueName=n", "msgRetentionSeconds=59"}, "4000", "(10350)parameter msgRetentionSeconds value or length is out of range"},
		{"create: retention too long", "CreateQueue", []string{"queueName=n", "msgRetentionSeconds=1296001"}, "4000", "(10350)parameter msgRetentionSeconds value or length is out of range"},
		{"create: rewind too long", "CreateQueue", []string{"queueName=n", "rewindSeconds=1296001"}, "4000", "(10350)parameter rewindSeconds value or length is out of range"},
		{"create: rewind beyond retention", "CreateQueue", []string{"queueName=n", "msgRetentionSeconds=60", "rewindSeconds=61"}, "4000", "(10700)rewindSeconds cannot be greater than msgRetentionSeconds"},
		{"create: rewind beyond default retention", "CreateQueue", []string{"queueName=n", "rewindSeconds=345601"}, "4000", "(10700)rewindSeconds cannot be greater than msgRetentionSeconds"},
		{"create: trace not a switch", "CreateQueue", []string{"queueName=n", "trace=yes"}, "4000", "(10360)parameter trace error type"},
		{"create: transaction 2", "CreateQueue", []string{"queueName=n", "transaction=2"}, "4000", "(10350)parameter transaction value or length is out of range"},
		{"create: query interval 0", "CreateQueue", []string{"queueName=n", "firstQueryInterval=0"}, "4000", "(10350)parameter firstQueryInterval value or length is out of range"},
		{"create: query count 101", "CreateQueue", []string{"queueName=n", "maxQueryCount=101"}, "4000", "(10350)parameter maxQueryCount value or length is out of range"},

		{"policy: text", "CreateQueue", []string{"queueName=n", "deadLetterPolicy=dead"}, "4000", "(10710)deadLetterPolicy must be a json string"},
		{"policy: array", "CreateQueue", []string{"queueName=n", "deadLetterPolicy=[]"}, "4000", "(10710)deadLetterPolicy must be a json string"},
		{"policy: cut off", "CreateQueue", []string{"queueName=n", `deadLetterPolicy={"policy":0`}, "4000", "(10710)deadLetterPolicy must be a json string"},
		{"policy: cut off value", "CreateQueue", []string{"queueName=n", `deadLetterPolicy={"policy":`}, "4000", "(10710)deadLetterPolicy must be a json string"},
		{"policy: trailing text", "CreateQueue", []string{"queueName=n", "deadLetterPolicy=" + dlq0 + "x"}, "4000", "(10710)deadLetterPolicy must be a json string"},
		{"policy: name without quotes", "CreateQueue", []string{"queueName=n", `deadLetterPolicy={policy:0}`}, "4000", "(10710)deadLetterPolicy must be a json string"},
		{"policy: deep", "CreateQueue", []string{"queueName=n", "deadLetterPolicy=" + strings.Repeat(`{"a":`, 20000)}, "4000", "(10710)deadLetterPolicy must be a json string"},
		{"policy: member twice", "CreateQueue", []string{"queueName=n", `deadLetterPolicy={"policy":0,"policy":1}`}, "4000", "(10720)deadLetterPolicy params error,please check it"},
		{"policy: no queue", "CreateQueue", []string{"queueName=n", `deadLetterPolicy={"policy":0,"maxReceiveCount":3}`}, "4000", "(10760)the deadLetterPolicy must has deadLetterQueue member, only be a string"},
		{"policy: queue a number", "CreateQueue", []string{"queueName=n", `deadLetterPolicy={"deadLetterQueue":1,"policy":0}`}, "4000", "(10760)the deadLetterPolicy must has deadLetterQueue member, only be a string"},
		{"policy: member in other case", "CreateQueue", []string{"queueName=n", `deadLetterPolicy={"DeadLetterQueue":"dead","policy":0}`}, "4000", "(10760)the deadLetterPolicy must has deadLetterQueue member, only be a string"},
		{"policy: no policy", "CreateQueue", []string{"queueName=n", `deadLetterPolicy={"deadLetterQueue":"dead"}`}, "4000", "(10770)the deadLetterPolicy must has policy member , only set 0 or 1"},
		{"policy: policy 2", "CreateQueue", []string{"queueName=n", `deadLetterPolicy={"deadLetterQueue":"dead","policy":2}`}, "4000", "(10770)the deadLetterPolicy must has policy member , only set 0 or 1"},
		{"policy: policy as text", "CreateQueue", []string{"queueName=n", `deadLetterPolicy={"deadLetterQueue":"dead","policy":"0"}`}, "4000", "(10770)the deadLetterPolicy must has policy member , only set 0 or 1"},
		{"policy: no count", "CreateQueue", []string{"queueName=n", `deadLetterPolicy={"deadLetterQueue":"dead","policy":0,"maxTimeToLive":300}`}, "4000", "(10720)deadLetterPolicy params error,please check it"},
		{"policy: count 0", "CreateQueue", []string{"queueName=n", `deadLetterPolicy={"deadLetterQueue":"dead","policy":0,"maxReceiveCount":0}`}, "4000", "(10720)deadLetterPolicy params error,please check it"},
		{"policy: count 1001", "CreateQueue", []string{"queueName=n", `deadLetterPolicy={"deadLetterQueue":"dead","policy":0,"maxReceiveCount":1001}`}, "4000", "(10720)deadLetterPolicy params error,please check it"},
		{"policy: time 299", "CreateQueue", []string{"queueName=n", `deadLetterPolicy={"deadLetterQueue":"dead","policy":1,"maxTimeToLive":299}`}, "4000", "(10720)deadLetterPolicy params error,please check it"},
		{"policy: time not below retention", "CreateQueue", []string{"queueName=n", "msgRetentionSeconds=300", `deadLetterPolicy={"deadLetterQueue":"dead","policy":1,"maxTimeToLive":300}`}, "4000", "(10720)deadLetterPolicy params error,please check it"},
		{"policy: queue does not exist", "CreateQueue", []string{"queueName=n", `deadLetterPolicy={"deadLetterQueue":"nothing","policy":0,"maxReceiveCount":3}`}, "4000", "(10730)deadLetter queue not exist"},
		{"policy: queue has no possible name", "CreateQueue", []string{"queueName=n", `deadLetterPolicy={"deadLetterQueue":"../x","policy":0,"maxReceiveCount":3}`}, "4000", "(10730)deadLetter queue not exist"},
		{"policy: nesting", "CreateQueue", []string{"queueName=n", `deadLetterPolicy={"deadLetterQueue":"source","policy":0,"maxReceiveCount":3}`}, "4000", "(10740)deadLetter queue is not allowed to nest"},
		{"policy: itself", "SetQueueAttributes", []string{"queueName=q", `deadLetterPolicy={"deadLetterQueue":"q","policy":0,"maxReceiveCount":3}`}, "4000", "(10740)deadLetter queue is not allowed to nest"},

		{"list: limit 51", "ListQueue", []string{"limit=51"}, "4000", "(10350)parameter limit value or length is out of range"},
		{"list: limit text", "ListQueue", []string{"limit=all"}, "4000", "(10360)parameter limit error type"},
		{"list: offset negative", "ListQueue", []string{"offset=-1"}, "4000", "(10350)parameter offset value or length is out of range"},
		{"list: search as list", "ListQueue", []string{"searchWord.0=x"}, "4000", "(10330)parameter searchWord is NOT a repeatable parameter"},
		{"sources: no name", "ListDeadLetterSourceQueues", nil, "4000", "(10390)lacked of required parameter deadLetterQueueName"},
		{"sources: bad name", "ListDeadLetterSourceQueues", []string{"deadLetterQueueName=-"}, "4000", "(10020)queue name format error"},
		{"sources: no queue", "ListDeadLetterSourceQueues", []string{"deadLetterQueueName=none"}, "4440", "(10100)queue is not existed, or deleted"},
		{"sources: limit", "ListDeadLetterSourceQueues", []string{"deadLetterQueueName=dead", "limit=x"}, "4000", "(10360)parameter limit error type"},

		{"get: no queue", "GetQueueAttributes", []string{"queueName=none"}, "4440", "(10100)queue is not existed, or deleted"},
		{"get: another's queue", "GetQueueAttributes", []string{"queueName=q", "SecretId=AKIDbob"}, "4440", "(10100)queue is not existed, or deleted"},
		{"get: bad name", "GetQueueAttributes", []string{"queueName=a b"}, "4000", "(10020)queue name format error"},
		{"set: no queue", "SetQueueAttributes", []string{"queueName=none"}, "4440", "(10100)queue is not existed, or deleted"},
		{"set: no name", "SetQueueAttributes", nil, "4000", "(10390)lacked of required parameter queueName"},
		{"set: range", "SetQueueAttributes", []string{"queueName=q", "visibilityTimeout=99999"}, "4000", "(10350)parameter visibilityTimeout value or length is out of range"},
		{"set: policy", "SetQueueAttributes", []string{"queueName=q", "deadLetterPolicy=1"}, "4000", "(10710)deadLetterPolicy must be a json string"},
		{"set: rewind beyond retention", "SetQueueAttributes", []string{"queueName=q", "rewindSeconds=345601"}, "4000", "(10700)rewindSeconds cannot be greater than msgRetentionSeconds"},
		{"delete: no queue", "DeleteQueue", []string{"queueName=none"}, "4440", "(10100)queue is not existed, or deleted"},
		{"delete: dead-letter queue", "DeleteQueue", []string{"queueName=dead"}, "4000", "(10750)it is not allowed to be deleted when the queue is dead letter queue"},
		{"clear: no queue", "ClearQueue", []string{"queueName=none"}, "4440", "(10100)queue is not existed, or deleted"},
		{"clear: no name", "ClearQueue", nil, "4000", "(10390)lacked of required parameter queueName"},
		{"unbind: bad name", "UnbindDeadLetterQueue", []string{"queueName=0"}, "4000", "(10020)queue name format error"},
		{"unbind: not bound", "UnbindDeadLetterQueue", []string{"queueName=q"}, "4000", "(10730)deadLetter queue not exist"},
		{"route: no queue", "QueryQueueRoute", []string{"queueName=none"}, "4440", "(10100)queue is not existed, or deleted"},
		{"route: no name", "QueryQueueRoute", nil, "4000", "(10390)lacked of required parameter queueName"},
		{"rewind: off", "RewindQueue", []string{"queueName=q", "startConsumeTime=1700000000"}, "6050", "(10670)your queue cannot be rewinded"},
		{"rewind: no queue", "RewindQueue", []string{"queueName=none", "startConsumeTime=1700000000"}, "4440", "(10100)queue is not existed, or deleted"},
		{"rewind: no time", "RewindQueue", []string{"queueName=back"}, "4000", "(10390)lacked of required parameter startConsumeTime"},
		{"rewind: no name", "RewindQueue", []string{"startConsumeTime=1700000000"}, "4000", "(10390)lacked of required parameter queueName"},
		{"rewind: text", "RewindQueue", []string{"queueName=back", "startConsumeTime=yesterday"}, "4000", "(10360)parameter startConsumeTime error type"},
		{"rewind: before the window", "RewindQueue", []string{"queueName=back", "startConsumeTime=1699999399"}, "4000", "(10680)invalid rewind time, you can get the vaild range of that via GetQueueAttributes"},
		{"rewind: future", "RewindQueue", []string{"queueName=back", "startConsumeTime=1700000001"}, "4000", "(10680)invalid rewind time, you can get the vaild range of that via GetQueueAttributes"},
		{"rewind: milliseconds", "RewindQueue", []string{"queueName=back", "startConsumeTime=1700000000000"}, "4000", "(10680)invalid rewind time, you can get the vaild range of that via GetQueueAttributes"},
		{"rewind: negative", "RewindQueue", []string{"queueName=back", "startConsumeTime=-1"}, "4000", "(10680)invalid rewind time, you can get the vaild range of that via GetQueueAttributes"},
		{"rewind: huge", "RewindQueue", []string{"queueName=back", "startConsumeTime=9223372036854775808"}, "4000", "(10680)invalid rewind time, you can get the vaild range of that via GetQueueAttributes"},

		{"send: no queue", "SendMessage", []string{"queueName=none", "msgBody=x"}, "4440", "(10100)queue is not existed, or deleted"},
		{"send: no name", "SendMessage", []string{"msgBody=x"}, "4000", "(10390)lacked of required parameter queueName"},
		{"send: no body", "SendMessage", []string{"queueName=q"}, "4000", "(10390)lacked of required parameter msgBody"},
		{"send: empty body", "SendMessage", []string{"queueName=q", "msgBody="}, "4000", "(10120)message body can't be empty"},
		{"send: body as list", "SendMessage", []string{"queueName=q", "msgBody.1=x"}, "4000", "(10330)parameter msgBody is NOT a repeatable parameter"},
		{"send: beyond the queue's size", "SendMessage", []string{"queueName=q", "msgBody=" + strings.Repeat("x", 65537)}, "4400", "(10230)exceed maximum message size"},
		{"send: beyond every size", "SendMessage", []string{"queueName=large", "msgBody=" + strings.Repeat("x", big+1)}, "4400", "(10230)exceed maximum message size"},
		{"send: delay negative", "SendMessage", []string{"queueName=q", "msgBody=x", "delaySeconds=-1"}, "4000", "(10692)delay seconds is out of range"},
		{"send: delay too long", "SendMessage", []string{"queueName=q", "msgBody=x", "delaySeconds=6048001"}, "4000", "(10692)delay seconds is out of range"},
		{"send: delay text", "SendMessage", []string{"queueName=q", "msgBody=x", "delaySeconds=1.0"}, "4000", "(10360)parameter delaySeconds error type"},
		{"batch send: none", "BatchSendMessage", []string{"queueName=q"}, "4000", "(10390)lacked of required parameter msgBody"},
		{"batch send: 17", "BatchSendMessage", append(repeated(17), "queueName=q"), "4000", "(10370)msgBody parameter batch size is out of range"},
		{"batch send: gap", "BatchSendMessage", []string{"queueName=q", "msgBody.1=x", "msgBody.3=x"}, "4000", "(10380)msgBody parameter is not consequent"},
		{"batch send: from 2", "BatchSendMessage", []string{"queueName=q", "msgBody.2=x", "msgBody.3=x"}, "4000", "(10380)msgBody parameter is not consequent"},
		{"batch send: one empty", "BatchSendMessage", []string{"queueName=q", "msgBody.1=x", "msgBody.2="}, "4000", "(10120)message body can't be empty"},
		{"batch send: one large", "BatchSendMessage", []string{"queueName=q", "msgBody.1=x", "msgBody.2=" + strings.Repeat("x", 65537)}, "4400", "(10230)exceed maximum message size"},
		{"batch send: total", "BatchSendMessage", []string{"queueName=large", "msgBody.1=x", "msgBody.2=" + strings.Repeat("x", big)}, "4470", "(10300)total message size exceed 1MB"},
		{"batch send: no queue", "BatchSendMessage", []string{"queueName=none", "msgBody.0=x"}, "4440", "(10100)queue is not existed, or deleted"},
		{"batch send: delay", "BatchSendMessage", []string{"queueName=q", "msgBody.1=x", "delaySeconds=6048001"}, "4000", "(10692)delay seconds is out of range"},

		{"receive: nothing there", "ReceiveMessage", []string{"queueName=q"}, "7000", "(10200)no message"},
		{"receive: no queue", "ReceiveMessage", []string{"queueName=none"}, "4440", "(10100)queue is not existed, or deleted"},
		{"receive: no name", "ReceiveMessage", nil, "4000", "(10390)lacked of required parameter queueName"},
		{"receive: wait negative", "ReceiveMessage", []string{"queueName=q", "pollingWaitSeconds=-1"}, "4000", "(10350)parameter pollingWaitSeconds value or length is out of range"},
		{"receive: wait text", "ReceiveMessage", []string{"queueName=q", "pollingWaitSeconds="}, "4000", "(10360)parameter pollingWaitSeconds error type"},
		{"batch receive: nothing there", "BatchReceiveMessage", []string{"queueName=q", "numOfMsg=16"}, "7000", "(10200)no message"},
		{"batch receive: no number", "BatchReceiveMessage", []string{"queueName=q"}, "4000", "(10390)lacked of required parameter numOfMsg"},
		{"batch receive: 0", "BatchReceiveMessage", []string{"queueName=q", "numOfMsg=0"}, "4000", "(10350)parameter numOfMsg value or length is out of range"},
		{"batch receive: 17", "BatchReceiveMessage", []string{"queueName=q", "numOfMsg=17"}, "4000", "(10350)parameter numOfMsg value or length is out of range"},
		{"batch receive: no queue", "BatchReceiveMessage", []string{"queueName=none", "numOfMsg=1"}, "4440", "(10100)queue is not existed, or deleted"},

		{"delete message: no handle", "DeleteMessage", []string{"queueName=q"}, "4000", "(10390)lacked of required parameter receiptHandle"},
		{"delete message: empty", "DeleteMessage", []string{"queueName=q", "receiptHandle="}, "4000", "(10470)receiptHandle error"},
		{"delete message: text", "DeleteMessage", []string{"queueName=q", "receiptHandle=abc"}, "4000", "(10470)receiptHandle error"},
		{"delete message: negative", "DeleteMessage", []string{"queueName=q", "receiptHandle=-1"}, "4000", "(10470)receiptHandle error"},
		{"delete message: 65 bits", "DeleteMessage", []string{"queueName=q", "receiptHandle=18446744073709551616"}, "4000", "(10470)receiptHandle error"},
		{"delete message: leading zero", "DeleteMessage", []string{"queueName=q", "receiptHandle=01"}, "4000", "(10470)receiptHandle error"},
		{"delete message: 64 KiB", "DeleteMessage", []string{"queueName=q", "receiptHandle=" + strings.Repeat("1", 65536)}, "4000", "(10470)receiptHandle error"},
		{"delete message: invalid", "DeleteMessage", []string{"queueName=q", "receiptHandle=1"}, "4430", "(10260)receipt handle is invalid"},
		{"delete message: invalid, 64 bits", "DeleteMessage", []string{"queueName=q", "receiptHandle=18446744073709551615"}, "4430", "(10260)receipt handle is invalid"},
		{"delete message: no queue", "DeleteMessage", []string{"queueName=none", "receiptHandle=1"}, "4440", "(10100)queue is not existed, or deleted"},
		{"batch delete: none", "BatchDeleteMessage", []string{"queueName=q"}, "4000", "(10390)lacked of required parameter receiptHandle"},
		{"batch delete: gap", "BatchDeleteMessage", []string{"queueName=q", "receiptHandle.0=1", "receiptHandle.2=1"}, "4000", "(10380)receiptHandle parameter is not consequent"},
		{"receive: visibility 0", "ReceiveMessage", []string{"queueName=q", "visibilityTimeout=0"}, "4000", "(10350)parameter visibilityTimeout value or length is out of range"},
		{"receive: visibility too long", "BatchReceiveMessage", []string{"queueName=q", "numOfMsg=1", "visibilityTimeout=43201"}, "4000", "(10350)parameter visibilityTimeout value or length is out of range"},
		{"change: no handle", "ChangeMessageVisibility", []string{"queueName=q", "visibilityTimeout=1"}, "4000", "(10390)lacked of required parameter receiptHandle"},
		{"change: bad handle", "ChangeMessageVisibility", []string{"queueName=q", "receiptHandle=x", "visibilityTimeout=1"}, "4000", "(10470)receiptHandle error"},
		{"change: invalid", "ChangeMessageVisibility", []string{"queueName=q", "receiptHandle=1", "visibilityTimeout=1"}, "4430", "(10260)receipt handle is invalid"},
		{"change: no timeout", "ChangeMessageVisibility", []string{"queueName=q", "receiptHandle=1"}, "4000", "(10390)lacked of required parameter visibilityTimeout"},
		{"change: timeout negative", "ChangeMessageVisibility", []string{"queueName=q", "receiptHandle=1", "visibilityTimeout=-1"}, "4000", "(10350)parameter visibilityTimeout value or length is out of range"},
		{"change: timeout too long", "BatchChangeMessageVisibility", []string{"queueName=q", "receiptHandle.1=1", "visibilityTimeout=43201"}, "4000", "(10350)parameter visibilityTimeout value or length is out of range"},
		{"change: timeout text", "BatchChangeMessageVisibility", []string{"queueName=q", "receiptHandle.1=1", "visibilityTimeout=long"}, "4000", "(10360)parameter visibilityTimeout error type"},
		{"change: no queue", "ChangeMessageVisibility", []string{"queueName=none", "receiptHandle=1", "visibilityTimeout=1"}, "4440", "(10100)queue is not existed, or deleted"},
		{"batch change: no name", "BatchChangeMessageVisibility", []string{"receiptHandle.1=1", "visibilityTimeout=1"}, "4000", "(10390)lacked of required parameter queueName"},
		{"batch change: none", "BatchChangeMessageVisibility", []string{"queueName=q", "visibilityTimeout=1"}, "4000", "(10390)lacked of required parameter receiptHandle"},
		{"batch delete: no queue", "BatchDeleteMessage", []string{"queueName=none", "receiptHandle.1=1"}, "4440", "(10100)queue is not existed, or deleted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			prepare(r)
			r.want(r.do(c.action, c.items...), refusal(c.code, c.text))
		})
	}
}

// TestBackendErrors: refusals that need a particular state of the queue.
func TestBackendErrors(t *testing.T) {
	r := newRig(t)
	r.fake.Limits.QueuesPerOwner = 8
	r.ok("CreateQueue", "queueName=dead")
	for i := range 6 {
		r.ok("CreateQueue", fmt.Sprintf("queueName=s%d", i), "deadLetterPolicy="+dlq0)
	}
	r.want(r.do("CreateQueue", "queueName=s7", "deadLetterPolicy="+dlq0), refusal("4000", "(10780)the deadLetter Queue bind too many times"))
	r.ok("CreateQueue", "queueName=q")
	r.want(r.do("CreateQueue", "queueName=more"), refusal("4450", "(10220)number of queues has reached the limit"))
	r.ok("SetQueueAttributes", "queueName=q", "maxInFlight=1")
	r.ok("BatchSendMessage", "queueName=q", "msgBody.0=a", "msgBody.1=b")
	r.ok("ReceiveMessage", "queueName=q")
	r.want(r.do("ReceiveMessage", "queueName=q"), refusal("6070", "(10690)too many unacked(inactive) messages or delayed messages"))

	for _, c := range []struct {
		err    error
		answer string
	}{
		{cmq.ErrHeapFull, refusal("4410", "(10240)reach maximum retention number of message")},
		{cmq.ErrDiskFull, refusal("6080", "(10800)the disks of the server are full, please try later")},
		{cmq.ErrQueueNameBusy, refusal("6040", "(10660)it will take some time to release resources of previous queue before you create a new one with the same name, please try later")},
		{cmq.ErrThrottled, refusal("4420", "(10250)qps throttling")},
		{cmq.ErrFrequency, refusal("4480", "(10460)exceed interface frequency limit, please slow down")},
		{cmq.ErrPermission, refusal("4000", "(10461)no cam authentication")},
		{fmt.Errorf("route: %w", cmq.ErrBusy), refusal("4420", "(10250)qps throttling")},
		{cmq.ErrUnknownOutcome, refusal("6000", "(10090)send message failed")},
		{errors.New("disk on fire"), refusal("6000", "(10090)send message failed")},
	} {
		r.fake.Fail = func(access.Action) error { return c.err }
		r.want(r.do("SendMessage", "queueName=q", "msgBody=x"), c.answer)
	}
	for action, text := range map[string]string{
		"CreateQueue": "(10050)server internal error", "ListQueue": "(10190)list queue failed", "GetQueueAttributes": "(10160)get queue attributes failed",
		"SetQueueAttributes": "(10170)set queue attributes failed", "DeleteQueue": "(10180)delete queue failed", "RewindQueue": "(10050)server internal error",
		"ClearQueue": "(10050)server internal error", "QueryQueueRoute": "(10050)server internal error", "ListDeadLetterSourceQueues": "(10190)list queue failed",
		"UnbindDeadLetterQueue": "(10170)set queue attributes failed", "SendMessage": "(10090)send message failed", "BatchSendMessage": "(10090)send message failed",
		"ReceiveMessage": "(10130)recieve message failed", "BatchReceiveMessage": "(10130)recieve message failed", "DeleteMessage": "(10140)delete message failed", "BatchDeleteMessage": "(10140)delete message failed",
		"ChangeMessageVisibility": "(10810)change message visibility failed", "BatchChangeMessageVisibility": "(10810)change message visibility failed",
	} {
		r.want(r.do(action, "queueName=q", "deadLetterQueueName=q", "startConsumeTime=1", "numOfMsg=1", "visibilityTimeout=1", bodyFor(action), handleFor(action)), refusal("6000", text))
	}
}

func bodyFor(action string) string {
	if action == "SendMessage" {
		return "msgBody=x"
	}
	return "msgBody.1=x"
}

func handleFor(action string) string {
	if action == "DeleteMessage" || action == "ChangeMessageVisibility" {
		return "receiptHandle=1"
	}
	return "receiptHandle.1=1"
}

// TestPanic: a bug answers 6000 and leaves the door usable.
func TestPanic(t *testing.T) {
	r := newRig(t)
	r.ok("CreateQueue", "queueName=q")
	r.door.config.Backend = broken{r.fake}
	r.want(r.do("ReceiveMessage", "queueName=q"), refusal("6000", "(10050)server internal error"))
	r.door.config.Backend = r.fake
	r.ok("ListQueue")
}

// broken is a backend with a bug.
type broken struct{ Backend }

func (broken) StartReceive(string, string, int, *time.Duration, time.Duration, func([]cmq.Message, error)) cmq.Pending {
	panic("BUG: planted")
}

// TestCommonParameters: what is checked before the signature.
func TestCommonParameters(t *testing.T) {
	r := newRig(t)
	for _, name := range []string{"Timestamp", "Nonce", "SecretId", "Signature"} {
		v := sign("POST", testHost, "/", fields("Action=ListQueue"))
		v.Del(name)
		r.want(r.post(v.Encode()), refusal("4000", "(10390)lacked of required parameter "+name))
	}
	r.want(r.post(""), refusal("4000", "(10280)action is not existed"))
	r.want(r.post("Action=ListQueue&appId=1"), refusal("4000", "(10390)lacked of required parameter Timestamp"))
	v := sign("POST", testHost, "/", fields("Action=ListQueue"))
	v.Set("Action", "DeleteQueue")
	r.want(r.post(v.Encode()), refusal("4100", "(10030)authentication failed"))
	v = sign("POST", testHost, "/", fields("Action=Nonsense"))
	v.Set("Signature", "")
	r.want(r.post(v.Encode()), refusal("4100", "(10030)authentication failed"))

	lab := newRig(t, func(c *Config) { c.AppIDOwner = "alice" })
	lab.want(lab.post("Action=ListQueue&appId=1"), `{"code":0,"message":"","requestId":"1","totalCount":0,"queueList":[]}`)
}

func TestMethods(t *testing.T) {
	r := newRig(t)
	for _, method := range []string{"PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "HEAD", "FOO"} {
		for _, body := range []string{"", "Action=ListQueue"} {
			request := httptest.NewRequest(method, "/v2/index.php?Action=ListQueue", strings.NewReader(body))
			r.want(r.serve(request), refusal("4000", "(10410)unexpected http "+method+" only GET or POST is supported"))
		}
	}
}

// TestForms: what the form may look like, and the errors when it does not.
func TestForms(t *testing.T) {
	r := newRig(t)
	good := sign("POST", testHost, "/", fields("Action=ListQueue")).Encode()
	list := `{"code":0,"message":"","requestId":"1","totalCount":0,"queueList":[]}`
	for _, c := range []struct{ name, body, want string }{
		{"as it should be", good, list},
		{"empty pairs", "&&" + good + "&", list},
		{"percent at the end", good + "&a=%", refusal("4000", "(10420)cannot parse body, or request size is more than 1MB")},
		{"percent, no number", good + "&a=%zz", refusal("4000", "(10420)cannot parse body, or request size is more than 1MB")},
		{"percent in a name", good + "&%f=1", refusal("4000", "(10420)cannot parse body, or request size is more than 1MB")},
		{"no name", good + "&=1", refusal("4000", "(10310)error: parameter  key format error")},
		{"action twice", good + "&Action=ListQueue", refusal("4000", "(10330)parameter Action is NOT a repeatable parameter")},
		{"unknown twice", good + "&x=1&x=1", refusal("4000", "(10330)parameter x is NOT a repeatable parameter")},
		{"list entry twice", good + "&msgBody.1=1&msgBody.1=2", refusal("4000", "(10330)parameter msgBody.1 is NOT a repeatable parameter")},
		{"same to the signature", good + "&msgBody.1=1&msgBody_1=2", refusal("4000", "(10310)error: parameter msgBody_1 key format error")},
		{"too many", good + strings.Repeat("&x=1", 300), refusal("4000", "(10110)request parameters error")},
		{"ten thousand", good + strings.Repeat("&x=1", 10000), refusal("4000", "(10110)request parameters error")},
		{"too large", good + "&x=" + strings.Repeat("x", 4<<20), refusal("4000", "(10420)cannot parse body, or request size is more than 1MB")},
		{"not a form", "\x00\xff\n{}", refusal("4000", "(10280)action is not existed")},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := *r
			r.t = t
			r.want(r.post(c.body), c.want)
		})
	}
	v := sign("POST", testHost, "/", fields("Action=ListQueue", "unknown=1", "un_known=2", "UserpollingWaitSeconds=30000", "Region=gz", "RequestClient=x", "Token=t"))
	r.want(r.post(v.Encode()), list)
}

// TestRequestSizes: exactly the limit is allowed, with and without a known length.
func TestRequestSizes(t *testing.T) {
	r := newRig(t)
	good := sign("POST", testHost, "/", fields("Action=ListQueue")).Encode()
	limit := r.door.config.Limits.RequestBytes
	for _, size := range []int{smallBody - 1, smallBody, smallBody + 1, limit, limit + 1, 2 * limit} {
		for _, known := range []bool{true, false} {
			request := httptest.NewRequest("POST", "/", strings.NewReader(good+strings.Repeat("&", size-len(good))))
			request.Host = testHost
			if !known {
				request.ContentLength = -1
			}
			want := `{"code":0,"message":"","requestId":"1","totalCount":0,"queueList":[]}`
			if size > limit {
				want = refusal("4000", "(10420)cannot parse body, or request size is more than 1MB")
			}
			r.want(r.serve(request), want)
		}
	}
	if n := r.door.bodyMemory.Load(); n != 0 {
		t.Errorf("%d bytes counted after all requests", n)
	}
}

func TestBodyMemory(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxBodyMemory = 1 << 20 })
	r.want(r.post("x="+strings.Repeat("x", 2<<20)), refusal("4420", "(10250)qps throttling"))
	r.want(r.post("x="+strings.Repeat("x", 100<<10)), refusal("4000", "(10280)action is not existed"))
}

func TestContentEncoding(t *testing.T) {
	r := newRig(t)
	request := httptest.NewRequest("POST", "/", strings.NewReader("\x1f\x8b"))
	request.Header.Set("Content-Encoding", "gzip")
	r.want(r.serve(request), refusal("4000", "(10420)cannot parse body, or request size is more than 1MB"))
}

// TestQueryAndBody: a POST may carry parameters in both, but no name twice; a GET only in the query.
func TestQueryAndBody(t *testing.T) {
	r := newRig(t)
	list := `{"code":0,"message":"","requestId":"1","totalCount":0,"queueList":[]}`
	send := func(method, query, body string) string {
		request := httptest.NewRequest(method, "/?"+query, strings.NewReader(body))
		request.Host = testHost
		return r.serve(request)
	}
	get := sign("GET", testHost, "/", fields("Action=ListQueue")).Encode()
	post := sign("POST", testHost, "/", fields("Action=ListQueue"))
	r.want(send("GET", get, ""), list)
	r.want(send("GET", get, "Action=DeleteQueue&%%%"), list)
	r.want(send("POST", post.Encode(), ""), list)
	split := url.Values{"Action": post["Action"]}
	post.Del("Action")
	r.want(send("POST", split.Encode(), post.Encode()), list)
	r.want(send("POST", split.Encode(), post.Encode()+"&Action=ListQueue"), refusal("4000", "(10330)parameter Action is NOT a repeatable parameter"))
	r.want(send("GET", get+"&x=%z", ""), refusal("4000", "(10420)cannot parse uri, or request size is more than 1MB"))
}

// TestNumbers: what counts as a number, on a parameter with the range 1 to 43200.
func TestNumbers(t *testing.T) {
	r := newRig(t)
	r.ok("CreateQueue", "queueName=q")
	for text, module := range map[string]string{
		"1": "", "43200": "", "0030": "", "2": "", "43199": "",
		"0": "10350", "43201": "10350", "-1": "10350", "-0": "10350", "2147483648": "10350", "4294967297": "10350", "9223372036854775808": "10350", "18446744073709551617": "10350", "-9223372036854775809": "10350",
		strings.Repeat("9", 10000): "10350",
		"":                         "10360", " 1": "10360", "1 ": "10360", "+1": "10360", "1.0": "10360", "0x1": "10360", "１": "10360", "1e3": "10360", "NaN": "10360", "-": "10360", "--1": "10360", "1_0": "10360", "true": "10360", "null": "10360",
	} {
		answer := r.do("SetQueueAttributes", "queueName=q", "visibilityTimeout="+text)
		if module == "" && !strings.HasPrefix(answer, `{"code":0,`) || module != "" && !strings.HasPrefix(answer, `{"code":4000,"message":"(`+module+`)parameter visibilityTimeout `) {
			t.Errorf("%.30q: %s", text, answer)
		}
	}
}

func TestEdgesOfRanges(t *testing.T) {
	r := newRig(t)
	r.ok("CreateQueue", "queueName=q")
	for name, edges := range map[string][2]string{
		"maxMsgHeapNum": {"1000000", "1000000000"}, "pollingWaitSeconds": {"0", "30"}, "visibilityTimeout": {"1", "43200"},
		"maxMsgSize": {"1024", "1048576"}, "msgRetentionSeconds": {"60", "1296000"}, "rewindSeconds": {"0", "345600"},
		"firstQueryInterval": {"1", "3600"}, "maxQueryCount": {"1", "100"}, "maxInFlight": {"1", "10000000"}, "trace": {"false", "true"}, "transaction": {"0", "1"},
	} {
		for i, edge := range edges {
			r.ok("CreateQueue", fmt.Sprintf("queueName=%s-%d", name, i), name+"="+edge)
			r.ok("SetQueueAttributes", "queueName=q", name+"="+edge, "rewindSeconds=0")
		}
	}
	r.ok("CreateQueue", "queueName="+strings.Repeat("q", 64))
	r.ok("CreateQueue", "queueName=a_b-C9", "deadLetterPolicy=")
	for _, delay := range []string{"0", "6048000"} {
		r.ok("SendMessage", "queueName=q", "msgBody=x", "delaySeconds="+delay)
	}
	r.ok("CreateQueue", "queueName=large", "maxMsgSize=1048576")
	r.ok("SendMessage", "queueName=large", "msgBody="+strings.Repeat("%", big))
	r.ok("BatchSendMessage", "queueName=large", "msgBody.1="+strings.Repeat("x", big-1), "msgBody.2=x")
	r.clock.Advance(time.Second)
	r.ok("BatchReceiveMessage", "queueName=large", "numOfMsg=1")
}

// TestLists: numbering of list parameters, and that their order is by number, not by text.
func TestLists(t *testing.T) {
	r := newRig(t)
	r.ok("CreateQueue", "queueName=q")
	for _, base := range []int{0, 1} {
		items := []string{"queueName=q"}
		for i := range 16 {
			items = append(items, fmt.Sprintf("msgBody.%d=%d", base+i, i))
		}
		r.ok("BatchSendMessage", items...)
		answer := r.ok("BatchReceiveMessage", "queueName=q", "numOfMsg=16")
		for i, part := range strings.Split(answer, `{"msgBody":`)[1:] {
			if !strings.HasPrefix(part, fmt.Sprintf(`"%d",`, i)) {
				t.Errorf("message %d begins %.20s", i, part)
			}
		}
	}
	for name, module := range map[string]string{
		"msgBody": "10310", "msgBody.": "10310", "msgBody.x": "10310", "msgBody.01": "10310", "msgBody.-1": "10310", "msgBody.1.1": "10310", "msgBody. 1": "10310",
		"msgBody.3": "10380", "msgBody.18446744073709551616": "10380", "msgBodies.2": "", "msgbody.2": "", "xmsgBody.2": "",
	} {
		answer := r.do("BatchSendMessage", "queueName=q", "msgBody.1=x", name+"=y")
		want := `{"code":4000,"message":"(` + module + `)`
		if module == "" {
			want = `{"code":0,`
		}
		if !strings.HasPrefix(answer, want) {
			t.Errorf("%s: %s", name, answer)
		}
	}
}
