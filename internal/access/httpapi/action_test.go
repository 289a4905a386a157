package httpapi

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// TestAnswers checks the successful answer of every action to the byte (http-api.md 7.3).
func TestAnswers(t *testing.T) {
	r := newRig(t)
	r.want(r.do("CreateQueue", "queueName=orders", "rewindSeconds=600"), `{"code":0,"message":"","requestId":"1","queueId":"queue-00000001"}`)
	r.want(r.do("ListQueue", "searchWord=nothing"), `{"code":0,"message":"","requestId":"1","totalCount":0,"queueList":[]}`)
	r.ok("CreateQueue", "queueName=dead")
	r.want(r.do("ListQueue"), `{"code":0,"message":"","requestId":"1","totalCount":2,"queueList":[{"queueId":"queue-00000001","queueName":"orders"},{"queueId":"queue-00000002","queueName":"dead"}]}`)
	r.want(r.do("ListQueue", "offset=1", "limit=1"), `{"code":0,"message":"","requestId":"1","totalCount":2,"queueList":[{"queueId":"queue-00000002","queueName":"dead"}]}`)
	r.want(r.do("ListQueue", "limit=0", "searchWord="), `{"code":0,"message":"","requestId":"1","totalCount":2,"queueList":[]}`)
	r.want(r.do("GetQueueAttributes", "queueName=ORDERS"), `{"code":0,"message":"","requestId":"1","maxMsgHeapNum":100000000,"pollingWaitSeconds":0,"visibilityTimeout":30,"maxMsgSize":65536,"msgRetentionSeconds":345600,"createTime":1700000000,"lastModifyTime":1700000000,"activeMsgNum":0,"inactiveMsgNum":0,"delayMsgNum":0,"rewindSeconds":600,"rewindMsgNum":0,"rewindmsgNum":0,"minMsgTime":1700000000,"maxInFlight":120000}`)

	r.want(r.do("SendMessage", "queueName=orders", "msgBody=x"), `{"code":0,"message":"","requestId":"1","msgId":"4503599627382784"}`)
	r.want(r.do("BatchSendMessage", "queueName=orders", "msgBody.1=y", "msgBody.2=z", "delaySeconds=5"), `{"code":0,"message":"","requestId":"1","msgList":[{"msgId":"4503599627386880"},{"msgId":"4503599627390976"}]}`)
	r.clock.Advance(time.Second)
	r.want(r.do("ReceiveMessage", "queueName=orders"), `{"code":0,"message":"","requestId":"1","msgBody":"x","msgId":"4503599627382784","receiptHandle":"6","enqueueTime":1700000000,"firstDequeueTime":1700000001,"nextVisibleTime":1700000031,"dequeueCount":1}`)
	r.want(r.do("GetQueueAttributes", "queueName=orders"), `{"code":0,"message":"","requestId":"1","maxMsgHeapNum":100000000,"pollingWaitSeconds":0,"visibilityTimeout":30,"maxMsgSize":65536,"msgRetentionSeconds":345600,"createTime":1700000000,"lastModifyTime":1700000000,"activeMsgNum":0,"inactiveMsgNum":1,"delayMsgNum":2,"rewindSeconds":600,"rewindMsgNum":0,"rewindmsgNum":0,"minMsgTime":1700000000,"maxInFlight":120000}`)
	r.want(r.do("DeleteMessage", "queueName=orders", "receiptHandle=6"), success)
	r.want(r.do("RewindQueue", "queueName=orders", "startConsumeTime=1700000000"), success)
	r.clock.Advance(5 * time.Second)
	r.want(r.do("BatchReceiveMessage", "queueName=orders", "numOfMsg=16"), `{"code":0,"message":"","requestId":"1","msgInfoList":[`+
		`{"msgBody":"x","msgId":"4503599627382784","receiptHandle":"7","enqueueTime":1700000000,"firstDequeueTime":1700000006,"nextVisibleTime":1700000036,"dequeueCount":1},`+
		`{"msgBody":"y","msgId":"4503599627386880","receiptHandle":"8","enqueueTime":1700000000,"firstDequeueTime":1700000006,"nextVisibleTime":1700000036,"dequeueCount":1},`+
		`{"msgBody":"z","msgId":"4503599627390976","receiptHandle":"9","enqueueTime":1700000000,"firstDequeueTime":1700000006,"nextVisibleTime":1700000036,"dequeueCount":1}]}`)
	r.want(r.do("BatchDeleteMessage", "queueName=orders", "receiptHandle.0=7", "receiptHandle.1=8"), success)
	r.want(r.do("BatchDeleteMessage", "queueName=orders", "receiptHandle.1=9", "receiptHandle.2=8", "receiptHandle.3=x"),
		`{"code":6010,"message":"(10150)delete message partially failed","requestId":"1","errorList":[{"code":4430,"message":"(10260)receipt handle is invalid","receiptHandle":"8"},{"code":4000,"message":"(10470)receiptHandle error","receiptHandle":"x"}]}`)
	r.want(r.do("BatchDeleteMessage", "queueName=orders", "receiptHandle.1=9"),
		`{"code":6020,"message":"(10290)batch delete message failed","requestId":"1","errorList":[{"code":4430,"message":"(10260)receipt handle is invalid","receiptHandle":"9"}]}`)
	r.want(r.do("BatchDeleteMessage", "queueName=orders", "receiptHandle.1=", `receiptHandle.2="\`),
		`{"code":6020,"message":"(10290)batch delete message failed","requestId":"1","errorList":[{"code":4000,"message":"(10470)receiptHandle error","receiptHandle":""},{"code":4000,"message":"(10470)receiptHandle error","receiptHandle":"\"\\"}]}`)

	r.ok("SendMessage", "queueName=orders", "msgBody=locked")
	r.want(r.do("ReceiveMessage", "queueName=orders", "visibilityTimeout=2"), `{"code":0,"message":"","requestId":"1","msgBody":"locked","msgId":"4503599627411456","receiptHandle":"11","enqueueTime":1700000006,"firstDequeueTime":1700000006,"nextVisibleTime":1700000008,"dequeueCount":1}`)
	r.want(r.do("ChangeMessageVisibility", "queueName=orders", "receiptHandle=11", "visibilityTimeout=60"), success)
	r.want(r.do("BatchChangeMessageVisibility", "queueName=orders", "receiptHandle.1=11", "visibilityTimeout=0"), success)
	r.want(r.do("BatchChangeMessageVisibility", "queueName=orders", "receiptHandle.1=11", "visibilityTimeout=0"),
		`{"code":6020,"message":"(10830)batch change message visibility failed","requestId":"1","errorList":[{"code":4430,"message":"(10260)receipt handle is invalid","receiptHandle":"11"}]}`)
	r.want(r.do("BatchReceiveMessage", "queueName=orders", "numOfMsg=16", "visibilityTimeout=1"), `{"code":0,"message":"","requestId":"1","msgInfoList":[{"msgBody":"locked","msgId":"4503599627411456","receiptHandle":"12","enqueueTime":1700000006,"firstDequeueTime":1700000006,"nextVisibleTime":1700000007,"dequeueCount":2}]}`)
	r.want(r.do("BatchChangeMessageVisibility", "queueName=orders", "receiptHandle.1=12", "receiptHandle.2=x", "visibilityTimeout=43200"),
		`{"code":6010,"message":"(10820)change message visibility partially failed","requestId":"1","errorList":[{"code":4000,"message":"(10470)receiptHandle error","receiptHandle":"x"}]}`)
	r.ok("DeleteMessage", "queueName=orders", "receiptHandle=12")

	r.want(r.do("SetQueueAttributes", "queueName=orders", "maxMsgHeapNum=2000000", "pollingWaitSeconds=1", "visibilityTimeout=2", "maxMsgSize=4096", "msgRetentionSeconds=500", "rewindSeconds=400", "maxInFlight=10000000",
		`deadLetterPolicy={"deadLetterQueue":"Dead","policy":0,"maxReceiveCount":3}`),
		`{"code":0,"message":"","requestId":"1","maxMsgHeapNum":2000000,"pollingWaitSeconds":1,"visibilityTimeout":2,"maxMsgSize":4096,"msgRetentionSeconds":500,"rewindSeconds":400,"maxInFlight":10000000,"deadLetterPolicy":"{\"deadLetterQueue\":\"dead\",\"policy\":0,\"maxReceiveCount\":3,\"maxTimeToLive\":0}"}`)
	r.want(r.do("SetQueueAttributes", "queueName=orders", "rewindSeconds=0", `deadLetterPolicy={"deadLetterQueue":"dead","policy":1,"maxTimeToLive":300}`),
		`{"code":0,"message":"","requestId":"1","maxMsgHeapNum":2000000,"pollingWaitSeconds":1,"visibilityTimeout":2,"maxMsgSize":4096,"msgRetentionSeconds":500,"rewindSeconds":0,"maxInFlight":10000000,"deadLetterPolicy":"{\"deadLetterQueue\":\"dead\",\"policy\":1,\"maxReceiveCount\":0,\"maxTimeToLive\":300}"}`)
	r.want(r.do("GetQueueAttributes", "queueName=orders"), `{"code":0,"message":"","requestId":"1","maxMsgHeapNum":2000000,"pollingWaitSeconds":1,"visibilityTimeout":2,"maxMsgSize":4096,"msgRetentionSeconds":500,"createTime":1700000000,"lastModifyTime":1700000006,"activeMsgNum":0,"inactiveMsgNum":0,"delayMsgNum":0,"rewindSeconds":0,"rewindMsgNum":0,"rewindmsgNum":0,"minMsgTime":1700000006,"maxInFlight":10000000,"deadLetterPolicy":"{\"deadLetterQueue\":\"dead\",\"policy\":1,\"maxReceiveCount\":0,\"maxTimeToLive\":300}"}`)
	r.want(r.do("ListDeadLetterSourceQueues", "deadLetterQueueName=dead"), `{"code":0,"message":"","requestId":"1","totalCount":1,"queueList":[{"queueId":"queue-00000001","queueName":"orders"}]}`)
	r.want(r.do("UnbindDeadLetterQueue", "queueName=orders"), success)
	r.want(r.do("ListDeadLetterSourceQueues", "deadLetterQueueName=dead", "limit=50"), `{"code":0,"message":"","requestId":"1","totalCount":0,"queueList":[]}`)

	r.want(r.do("SetQueueAttributes", "queueName=dead", "transaction=1", "firstQueryInterval=7"), `{"code":0,"message":"","requestId":"1","maxMsgHeapNum":100000000,"pollingWaitSeconds":0,"visibilityTimeout":30,"maxMsgSize":65536,"msgRetentionSeconds":345600,"rewindSeconds":0,"maxInFlight":120000,"transaction":1,"firstQueryInterval":7,"maxQueryCount":15}`)
	if _, err := r.fake.Prepare(t.Context(), "alice", "dead", [][]byte{[]byte("half")}, 0, 1); err != nil {
		t.Fatal(err)
	}
	r.want(r.do("ReceiveMessage", "queueName=dead"), refusal("7000", "(10200)no message"))
	r.want(r.do("GetQueueAttributes", "queueName=dead"), `{"code":0,"message":"","requestId":"1","maxMsgHeapNum":100000000,"pollingWaitSeconds":0,"visibilityTimeout":30,"maxMsgSize":65536,"msgRetentionSeconds":345600,"createTime":1700000000,"lastModifyTime":1700000006,"activeMsgNum":0,"inactiveMsgNum":0,"delayMsgNum":0,"rewindSeconds":0,"rewindMsgNum":0,"rewindmsgNum":0,"minMsgTime":1700000006,"maxInFlight":120000,"transaction":1,"firstQueryInterval":7,"maxQueryCount":15,"preparedMsgNum":1,"undecidedMsgNum":0}`)
	r.ok("SetQueueAttributes", "queueName=dead", "transaction=0")
	r.ok("ClearQueue", "queueName=dead")

	r.want(r.do("QueryQueueRoute", "queueName=orders"), `{"code":0,"message":"","requestId":"1","addr":["127.0.0.1:7671"]}`)
	r.fake.Routes = []string{"a:1", "b:2"}
	r.want(r.do("QueryQueueRoute", "queueName=orders"), `{"code":0,"message":"","requestId":"1","addr":["a:1","b:2"]}`)
	r.want(r.do("ClearQueue", "queueName=orders"), success)
	r.want(r.do("DeleteQueue", "queueName=orders"), success)
}

func TestDeadLetter(t *testing.T) {
	r := newRig(t)
	r.ok("CreateQueue", "queueName=dead")
	r.ok("BatchSendMessage", "queueName=dead", "msgBody.1=x", "msgBody.2=y")
	if err := r.fake.Die("alice", "dead", cmq.Source{Queue: 9, Enqueued: time.UnixMilli(1600000000_999), DequeueCount: 3}); err != nil {
		t.Fatal(err)
	}
	const source = `,"originalQueueId":"queue-00000009","originalEnqueueTime":1600000000,"originalDequeueCount":3}`
	for _, got := range []string{r.ok("ReceiveMessage", "queueName=dead"), strings.TrimSuffix(r.ok("BatchReceiveMessage", "queueName=dead", "numOfMsg=2"), "]}")} {
		if !strings.HasSuffix(got, `"dequeueCount":1`+source) {
			t.Error(got)
		}
	}
}

func TestPreparedMessages(t *testing.T) {
	r := newRig(t)
	r.ok("CreateQueue", "queueName=orders", "transaction=1", "firstQueryInterval=7", "maxQueryCount=1")
	ids, err := r.fake.Prepare(t.Context(), "alice", "orders", [][]byte{[]byte("a"), []byte("bb"), []byte("ccc")}, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	entry := func(i int, queries, next, undecided string) string {
		return fmt.Sprintf(`{"msgId":"%d","msgSize":%d,"prepareTime":1700000000,"queryCount":%s,"nextQueryTime":%s,"undecided":%s,"producerNode":1}`, ids[i], i+1, queries, next, undecided)
	}
	list := func(entries ...string) string {
		return `{"code":0,"message":"","requestId":"1","messageList":[` + strings.Join(entries, ",") + `]}`
	}
	r.want(r.do("ListPreparedMessages", "queueName=orders"), list(entry(0, "0", "1700000007", "0"), entry(1, "0", "1700000007", "0"), entry(2, "0", "1700000007", "0")))
	r.want(r.do("ListPreparedMessages", "queueName=orders", fmt.Sprint("afterMsgId=", ids[0]), "limit=1"), list(entry(1, "0", "1700000007", "0")))
	r.want(r.do("ListPreparedMessages", "queueName=orders", "undecided=1"), list())
	r.clock.Advance(7 * time.Second)
	if _, err := r.fake.Queries(t.Context(), "alice", "orders", 1, time.Hour); err != nil {
		t.Fatal(err)
	}
	r.clock.Advance(7 * time.Second)
	r.want(r.do("ListPreparedMessages", "queueName=orders", "undecided=1"), list(entry(0, "1", "0", "1")))

	r.want(r.do("ConfirmTransaction", "queueName=orders", fmt.Sprint("msgId.1=", ids[0]), fmt.Sprint("msgId.2=", ids[1]), "state=1"), success)
	r.want(r.do("ConfirmTransaction", "queueName=orders", fmt.Sprint("msgId.1=", ids[0]), fmt.Sprint("msgId.2=", ids[2]), "msgId.3=x", "state=2"),
		fmt.Sprintf(`{"code":6040,"message":"(10760)transaction confirmation partially failed","requestId":"1","errorList":[{"code":4490,"message":"(10770)message id is invalid","msgId":"%d"},{"code":4490,"message":"(10770)message id is invalid","msgId":"x"}]}`, ids[0]))
	r.want(r.do("ConfirmTransaction", "queueName=orders", fmt.Sprint("msgId.0=", ids[0]), "state=2"),
		fmt.Sprintf(`{"code":6040,"message":"(10750)transaction confirmation failed","requestId":"1","errorList":[{"code":4490,"message":"(10770)message id is invalid","msgId":"%d"}]}`, ids[0]))
	for wrong, refused := range map[string]string{
		"":                     "(10390)lacked of required parameter state",
		"state=0&msgId.1=1":    "(10350)parameter state value or length is out of range",
		"state=3&msgId.1=1":    "(10350)parameter state value or length is out of range",
		"state=commit&msgId=1": "(10360)parameter state error type",
		"state=1":              "(10390)lacked of required parameter msgId",
	} {
		r.want(r.do("ConfirmTransaction", append([]string{"queueName=orders"}, strings.Split(wrong, "&")...)...), refusal("4000", refused))
	}
	for wrong, refused := range map[string]string{
		"undecided=maybe": "(10360)parameter undecided error type",
		"afterMsgId=-1":   "(10350)parameter afterMsgId value or length is out of range",
		"limit=51":        "(10350)parameter limit value or length is out of range",
	} {
		r.want(r.do("ListPreparedMessages", "queueName=orders", wrong), refusal("4000", refused))
	}
	if body := r.ok("ReceiveMessage", "queueName=orders"); !strings.Contains(body, `"msgBody":"a"`) {
		t.Error(body)
	}
}

// TestSession: a request that is repeated is stored once.
func TestSession(t *testing.T) {
	r := newRig(t)
	r.ok("CreateQueue", "queueName=q")
	const id = "sessionId=18446744073709551615"
	r.want(r.do("OpenSession", "queueName=q", id), `{"code":0,"message":"","requestId":"1","sessionEpoch":2}`)
	r.want(r.do("OpenSession", "queueName=q", id), `{"code":0,"message":"","requestId":"1","sessionEpoch":3}`)
	once := []string{"queueName=q", "msgBody=x", id, "sessionEpoch=3", "sessionNumber=1", "sessionAcked=1"}
	first := r.ok("SendMessage", once...)
	r.want(r.ok("SendMessage", once...), first)
	batch := []string{"queueName=q", "msgBody.1=y", "msgBody.2=z", id, "sessionEpoch=3", "sessionNumber=2"}
	first = r.ok("BatchSendMessage", batch...)
	r.want(r.ok("BatchSendMessage", batch...), first)
	if list := r.ok("BatchReceiveMessage", "queueName=q", "numOfMsg=16"); strings.Count(list, "msgBody") != 3 {
		t.Error(list)
	}
	r.want(r.do("SendMessage", "queueName=q", "msgBody=x", id, "sessionEpoch=2", "sessionNumber=3"),
		refusal("6000", "(10840)the producer session does not exist any more, the outcome of its requests is unknown"))
	for wrong, refused := range map[string]string{
		"sessionId=0":                    "(10350)parameter sessionId value or length is out of range",
		"sessionId=":                     "(10360)parameter sessionId error type",
		"sessionId=x":                    "(10360)parameter sessionId error type",
		"sessionId=18446744073709551616": "(10350)parameter sessionId value or length is out of range",
		"sessionId=1":                    "(10390)lacked of required parameter sessionEpoch",
		"sessionId=1&sessionEpoch=2":     "(10390)lacked of required parameter sessionNumber",
		"sessionId=1&sessionEpoch=2&sessionNumber=0":                 "(10350)parameter sessionNumber value or length is out of range",
		"sessionId=1&sessionEpoch=2&sessionNumber=1&sessionAcked=-1": "(10360)parameter sessionAcked error type",
		"sessionId.1=1": "(10330)parameter sessionId is NOT a repeatable parameter",
	} {
		r.want(r.do("SendMessage", append([]string{"queueName=q", "msgBody=x"}, strings.Split(wrong, "&")...)...), refusal("4000", refused))
	}
	r.want(r.do("OpenSession", "queueName=q"), refusal("4000", "(10390)lacked of required parameter sessionId"))
	r.want(r.do("OpenSession", "queueName=none", id), refusal("4440", "(10100)queue is not existed, or deleted"))
}

// TestActionInAnyCase: a published client sends the name of an action in the wrong case.
func TestActionInAnyCase(t *testing.T) {
	r := newRig(t)
	r.ok("CREATEQUEUE", "queueName=q")
	r.ok("sendmessage", "queueName=q", "msgBody=x")
	r.ok("reCeiveMessage", "queueName=q")
}

func TestClientRequestID(t *testing.T) {
	r := newRig(t)
	for given, echoed := range map[string]string{"7": `,"clientRequestId":7`, "18446744073709551615": `,"clientRequestId":18446744073709551615`,
		"18446744073709551616": "", "-1": "", "x": "", "": "", "1.0": ""} {
		r.want(r.do("ListQueue", "clientRequestId="+given), `{"code":0,"message":"","requestId":"1"`+echoed+`,"totalCount":0,"queueList":[]}`)
		r.want(r.do("DeleteQueue", "queueName=q", "clientRequestId="+given), `{"code":4440,"message":"(10100)queue is not existed, or deleted","requestId":"1"`+echoed+`}`)
	}
}

// TestBodiesSurvive: what is stored is what was sent, and what cannot be JSON is replaced on the way out.
func TestBodiesSurvive(t *testing.T) {
	r := newRig(t)
	r.ok("CreateQueue", "queueName=q")
	for body, quoted := range map[string]string{
		"hello world & =+%":        `"hello world & =+%"`,
		"a=b&c=d%26+":              `"a=b&c=d%26+"`,
		"你好 \U0001F600":            "\"你好 \U0001F600\"",
		"\"\\/\b\f\n\r\t\x00\x1f":  `"\"\\/\b\f\n\r\t\u0000\u001f"`,
		"\x7f<>\u2028":             "\"\x7f<>\u2028\"",
		"a\xff\xc3(\xed\xa0\x80":   "\"a\uFFFD\uFFFD(\uFFFD\uFFFD\uFFFD\"",
		"@all":                     `"@all"`,
		" ":                        `" "`,
		strings.Repeat("x", 65536): `"` + strings.Repeat("x", 65536) + `"`,
	} {
		r.ok("SendMessage", "queueName=q", "msgBody="+body)
		answer := r.ok("ReceiveMessage", "queueName=q")
		if !strings.Contains(answer, `"msgBody":`+quoted+`,"msgId"`) {
			r.t.Errorf("%q came back as %.200s", body, answer)
		}
		r.ok("DeleteMessage", "queueName=q", "receiptHandle="+field(t, answer, "receiptHandle"))
	}
}
