package compat

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sort"
	"strings"
	"testing"
	"time"
)

// shape is how one published client makes a request. It is written from the description of the clients and
// shares no code with the server.
type shape struct {
	name        string
	method      string
	path        string
	contentType string // "" sends none
	requester   string // RequestClient; "" sends none
	method256   bool   // HMAC-SHA256
	methodName  string // SignatureMethod; "" sends none
	base        int    // first number of a list
	blank       string
	dropsAt     bool // leaves values that begin with '@' out of a POST's signature
	hint        bool // UserpollingWaitSeconds
	requestID   bool // clientRequestId
	token       string
	full        bool // sends every queue attribute, zeros included
}

func shapes() []shape {
	form := "application/x-www-form-urlencoded"
	return []shape{
		{name: "Python", method: "POST", path: "/v2/index.php", requester: "SDK_Python_1.3", methodName: "HmacSHA1", base: 1, blank: "+", dropsAt: true, hint: true, full: true},
		{name: "Python, GET", method: "GET", path: "/v2/index.php", requester: "SDK_Python_1.3", methodName: "HmacSHA1", base: 1, blank: "+", hint: true, full: true},
		{name: "Python, sha256", method: "POST", path: "/v2/index.php", requester: "SDK_Python_1.3", methodName: "HmacSHA256", method256: true, base: 1, blank: "+", dropsAt: true, hint: true, full: true},
		{name: "Java 1.0.3", method: "POST", path: "/v2/index.php", contentType: "*/*;charset=utf-8", requester: "SDK_JAVA_1.3", base: 1, blank: "+", hint: true},
		{name: "Java 1.1", method: "POST", path: "/", contentType: "*/*;charset=utf-8", requester: "SDK_JAVA_1.3", methodName: "HmacSHA1", base: 1, blank: "+", token: "t"},
		{name: "Java 1.1, sha256", method: "POST", path: "/", contentType: "*/*;charset=utf-8", requester: "SDK_JAVA_1.3", methodName: "HmacSHA256", method256: true, base: 1, blank: "+"},
		{name: "Java TCP, name server, sha256", method: "GET", path: "/v2/index.php", methodName: "HmacSHA256", method256: true, base: 1, blank: "+"},
		{name: "Java TCP, management, sha256", method: "POST", path: "/v2/index.php", contentType: form, methodName: "sha256", method256: true, base: 1, blank: "+"},
		{name: "PHP", method: "POST", path: "/v2/index.php", contentType: form, requester: "SDK_PHP_1.3", methodName: "HmacSHA1", base: 1, blank: "+", dropsAt: true, hint: true, full: true},
		{name: "C++", method: "POST", path: "/v2/index.php", contentType: form, requester: "SDK_CPP_1.3", methodName: "HmacSHA256", method256: true, base: 1, blank: "%20", hint: true},
		{name: "Go", method: "POST", path: "/", contentType: form, requester: "SDK_GO_1.2.0", methodName: "HmacSHA1", base: 0, blank: "+", requestID: true},
	}
}

// client is a shape pointed at the nodes of a cluster, which it uses in turn.
type client struct {
	t         testing.TB
	shape     shape
	addresses []string
	next      int
	http      *http.Client
}

func newClient(t testing.TB, s shape, addresses []string) *client {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &client{t: t, shape: s, addresses: addresses, http: &http.Client{Transport: transport, Timeout: 45 * time.Second}}
}

// answer is the union of all answers, with the types that the strictest clients insist on.
type answer struct {
	Code            *int    `json:"code"`
	Message         *string `json:"message"`
	RequestID       *string `json:"requestId"`
	ClientRequestID *uint64 `json:"clientRequestId"`
	QueueID         string  `json:"queueId"`
	TotalCount      *int    `json:"totalCount"`
	QueueList       []struct {
		QueueID   string `json:"queueId"`
		QueueName string `json:"queueName"`
	} `json:"queueList"`
	TopicID   string `json:"topicId"`
	TopicList []struct {
		TopicID   string `json:"topicId"`
		TopicName string `json:"topicName"`
	} `json:"topicList"`
	SubscriptionID   string `json:"subscriptionId"`
	SubscriptionList []struct {
		ID       string `json:"subscriptionId"`
		Name     string `json:"subscriptionName"`
		Protocol string `json:"protocol"`
		Endpoint string `json:"endpoint"`
	} `json:"subscriptionList"`
	MsgID   string `json:"msgId"`
	MsgList []struct {
		MsgID string `json:"msgId"`
	} `json:"msgList"`
	message
	MsgInfoList []message `json:"msgInfoList"`
	ErrorList   []struct {
		Code          int    `json:"code"`
		Message       string `json:"message"`
		ReceiptHandle string `json:"receiptHandle"`
	} `json:"errorList"`
	Addr       []string `json:"addr"`
	attributes map[string]any
	raw        string
}

type message struct {
	Body             string `json:"msgBody"`
	ID               string `json:"msgId"`
	Handle           string `json:"receiptHandle"`
	EnqueueTime      int64  `json:"enqueueTime"`
	FirstDequeueTime int64  `json:"firstDequeueTime"`
	NextVisibleTime  int64  `json:"nextVisibleTime"`
	DequeueCount     int    `json:"dequeueCount"`
}

// call sends one request and checks what holds for every answer.
func (c *client) call(action string, items ...string) *answer {
	c.t.Helper()
	a := c.send(action, c.request(action, items))
	if c.shape.requestID && (a.ClientRequestID == nil || *a.ClientRequestID != 77) {
		c.t.Errorf("%s: clientRequestId is not echoed: %s", action, a.raw)
	}
	return a
}

func (c *client) send(action string, request *http.Request) *answer {
	c.t.Helper()
	response, err := c.http.Do(request)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	a := &answer{raw: string(text)}
	if err := json.Unmarshal(text, a); err != nil {
		c.t.Fatalf("%s: %v: %s", action, err, text)
	}
	json.Unmarshal(text, &a.attributes)
	if response.StatusCode != 200 || a.Code == nil || a.Message == nil || a.RequestID == nil || *a.RequestID == "" || strings.Trim(*a.RequestID, "0123456789") != "" {
		c.t.Errorf("%s: status %d, %s", action, response.StatusCode, text)
	}
	return a
}

func (c *client) request(action string, items []string) *http.Request {
	address := c.addresses[c.next%len(c.addresses)]
	c.next++
	form := c.sign(address, c.parameters(action, items))
	target := "http://" + address + c.shape.path
	var body io.Reader
	if c.shape.method == "GET" {
		target += "?" + form
	} else {
		body = strings.NewReader(form)
	}
	request, err := http.NewRequest(c.shape.method, target, body)
	if err != nil {
		c.t.Fatal(err)
	}
	if c.shape.contentType != "" {
		request.Header.Set("Content-Type", c.shape.contentType)
	}
	return request
}

func (c *client) parameters(action string, items []string) map[string]string {
	p := map[string]string{"Action": action, "SecretId": secretID,
		"Timestamp": fmt.Sprint(time.Now().Unix()), "Nonce": fmt.Sprint(rand.Int32())}
	for name, value := range map[string]string{"RequestClient": c.shape.requester, "SignatureMethod": c.shape.methodName, "Token": c.shape.token} {
		if value != "" {
			p[name] = value
		}
	}
	if c.shape.requestID {
		p["clientRequestId"] = "77"
	}
	if c.shape.hint && strings.Contains(action, "Receive") {
		p["UserpollingWaitSeconds"] = "3"
	}
	for _, item := range items {
		name, value, _ := strings.Cut(item, "=")
		p[name] = value
	}
	return p
}

// sign gives the encoded form, its signature included.
func (c *client) sign(host string, p map[string]string) string {
	names := make([]string, 0, len(p))
	for name := range p {
		names = append(names, name)
	}
	sort.Strings(names)
	var signed, sent []string
	for _, name := range names {
		if !c.shape.dropsAt || !strings.HasPrefix(p[name], "@") {
			signed = append(signed, strings.ReplaceAll(name, "_", ".")+"="+p[name])
		}
		sent = append(sent, name+"="+c.escape(p[name]))
	}
	algorithm := func() hash.Hash { return sha1.New() }
	if c.shape.method256 {
		algorithm = func() hash.Hash { return sha256.New() }
	}
	mac := hmac.New(algorithm, []byte(secretKey))
	io.WriteString(mac, c.shape.method+host+c.shape.path+"?"+strings.Join(signed, "&"))
	signature := base64.StdEncoding.EncodeToString(mac.Sum(nil))
	rand.Shuffle(len(sent), func(i, j int) { sent[i], sent[j] = sent[j], sent[i] })
	return strings.Join(append(sent, "Signature="+c.escape(signature)), "&")
}

func (c *client) escape(value string) string {
	return strings.ReplaceAll(url.QueryEscape(value), "+", c.shape.blank)
}

// list numbers values the client's way.
func (c *client) list(name string, values ...string) (items []string) {
	for i, value := range values {
		items = append(items, fmt.Sprintf("%s.%d=%s", name, c.shape.base+i, value))
	}
	return items
}

// ok is call for what must succeed.
func (c *client) ok(action string, items ...string) *answer {
	c.t.Helper()
	a := c.call(action, items...)
	if *a.Code != 0 || *a.Message != "" {
		c.t.Fatalf("%s %v: %s", action, items, a.raw)
	}
	return a
}

// refused is call for what must not succeed.
func (c *client) refused(code int, text, action string, items ...string) *answer {
	c.t.Helper()
	a := c.call(action, items...)
	if *a.Code != code || *a.Message != text {
		c.t.Errorf("%s %.200v: %s, want %d %s", action, items, a.raw, code, text)
	}
	return a
}

// TestShapes goes through the life of a queue as each client would.
func TestShapes(t *testing.T) {
	onBoth(t, func(t *testing.T, addresses []string) {
		for i, s := range shapes() {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				life(newClient(t, s, addresses), fmt.Sprintf("Shape-%d_x", i))
			})
		}
	})
}

func life(c *client, name string) {
	q := "queueName=" + name
	create := []string{q}
	if c.shape.full {
		create = append(create, "pollingWaitSeconds=0", "visibilityTimeout=30", "maxMsgSize=65536", "msgRetentionSeconds=345600", "rewindSeconds=0")
	}
	if a := c.ok("CreateQueue", create...); a.QueueID == "" {
		c.t.Errorf("no queueId: %s", a.raw)
	}
	c.refused(4460, "(10210)queue is already existed", "CreateQueue", "queueName="+strings.ToUpper(name))
	if a := c.ok("ListQueue", "searchWord="+name, "offset=0", "limit=50"); *a.TotalCount != 1 || len(a.QueueList) != 1 || a.QueueList[0].QueueName != name {
		c.t.Errorf("list: %s", a.raw)
	}
	if a := c.ok("SetQueueAttributes", q, "rewindSeconds=3600"); a.attributes["rewindSeconds"] != 3600.0 || a.attributes["visibilityTimeout"] != 30.0 {
		c.t.Errorf("set: %s", a.raw)
	}
	singles(c, q)
	batches(c, q)
	attributes(c, q)
	waiting(c, q)
	c.ok("DeleteQueue", q)
	c.refused(4440, "(10100)queue is not existed, or deleted", "GetQueueAttributes", q)
}

// singles sends, receives and deletes one message after the other, with bodies that have been trouble.
func singles(c *client, q string) {
	for _, body := range []string{"hello world & =+%", "你好 😀", "@all", "a_b=c_d&e%20", "+", "\"\\\n\t\x00", strings.Repeat("é", 20000)} {
		if c.shape.method == "GET" && len(body) > 2000 {
			continue // clients do not send such URLs
		}
		id := c.ok("SendMessage", q, "msgBody="+body, "delaySeconds=0").MsgID
		a := c.ok("ReceiveMessage", q, "pollingWaitSeconds=3")
		m := a.message
		now := time.Now().Unix()
		if m.Body != body || a.MsgID != id || m.DequeueCount != 1 || m.FirstDequeueTime < m.EnqueueTime || m.EnqueueTime < now-60 || m.EnqueueTime > now+60 ||
			m.NextVisibleTime < m.FirstDequeueTime+29 || m.NextVisibleTime > m.FirstDequeueTime+31 {
			c.t.Errorf("sent %.40q as %s, received %.300s", body, id, a.raw)
		}
		c.ok("DeleteMessage", q, "receiptHandle="+m.Handle)
		c.refused(4430, "(10260)receipt handle is invalid", "DeleteMessage", q, "receiptHandle="+m.Handle)
	}
	c.refused(7000, "(10200)no message", "ReceiveMessage", q, "pollingWaitSeconds=0")
}

func batches(c *client, q string) {
	bodies := make([]string, 16)
	for i := range bodies {
		bodies[i] = fmt.Sprintf("%d", i)
	}
	bodies[3] = "@three"
	if a := c.ok("BatchSendMessage", append(c.list("msgBody", bodies...), q, "delaySeconds=0")...); len(a.MsgList) != 16 {
		c.t.Fatalf("batch send: %s", a.raw)
	}
	var handles []string
	for len(handles) < 16 {
		a := c.ok("BatchReceiveMessage", q, "numOfMsg=16", "pollingWaitSeconds=3")
		for _, m := range a.MsgInfoList {
			if m.Body != bodies[len(handles)] {
				c.t.Errorf("message %d is %q", len(handles), m.Body)
			}
			handles = append(handles, m.Handle)
		}
	}
	c.ok("BatchDeleteMessage", append(c.list("receiptHandle", handles[:8]...), q)...)
	some := c.refused(6010, "(10150)delete message partially failed", "BatchDeleteMessage", append(c.list("receiptHandle", handles[7:9]...), q)...)
	if len(some.ErrorList) != 1 || some.ErrorList[0].Code != 4430 || some.ErrorList[0].Message != "(10260)receipt handle is invalid" || some.ErrorList[0].ReceiptHandle != handles[7] {
		c.t.Errorf("partly deleted: %s", some.raw)
	}
	none := c.refused(6020, "(10290)batch delete message failed", "BatchDeleteMessage", append(c.list("receiptHandle", handles[:2]...), q)...)
	if len(none.ErrorList) != 2 {
		c.t.Errorf("not deleted: %s", none.raw)
	}
	c.ok("BatchDeleteMessage", append(c.list("receiptHandle", handles[9:]...), q)...)
}

func attributes(c *client, q string) {
	a := c.ok("GetQueueAttributes", q)
	for name, want := range map[string]float64{"maxMsgHeapNum": 1e8, "pollingWaitSeconds": 0, "visibilityTimeout": 30, "maxMsgSize": 65536, "msgRetentionSeconds": 345600,
		"activeMsgNum": 0, "inactiveMsgNum": 0, "delayMsgNum": 0, "rewindSeconds": 3600, "maxInFlight": 120000} {
		if got, ok := a.attributes[name].(float64); !ok || got != want {
			c.t.Errorf("%s: %v, want %v", name, a.attributes[name], want)
		}
	}
	deleted, _ := a.attributes["rewindMsgNum"].(float64)
	if deleted < 16 || a.attributes["rewindmsgNum"] != deleted {
		c.t.Errorf("rewindable: %s", a.raw)
	}
	for _, name := range []string{"createTime", "lastModifyTime", "minMsgTime"} {
		if got, _ := a.attributes[name].(float64); got < 1e9 || got > 2e9 {
			c.t.Errorf("%s: %v", name, got)
		}
	}
	c.ok("RewindQueue", q, fmt.Sprintf("startConsumeTime=%d", time.Now().Unix()-600))
	if m := c.ok("ReceiveMessage", q, "pollingWaitSeconds=3").message; m.DequeueCount != 1 || m.Body != "hello world & =+%" {
		c.t.Errorf("first after rewind: %+v", m)
	}
	c.ok("ClearQueue", q)
	c.refused(7000, "(10200)no message", "ReceiveMessage", q)
	if a := c.ok("QueryQueueRoute", q); len(a.Addr) == 0 || strings.Count(a.Addr[0], ":") != 1 {
		c.t.Errorf("route: %s", a.raw)
	}
}

// waiting: a delayed message comes when it is due, a wait in vain ends in time, a lock ends.
func waiting(c *client, q string) {
	c.ok("SetQueueAttributes", q, "pollingWaitSeconds=20", "visibilityTimeout=1")
	start := time.Now()
	c.refused(7000, "(10200)no message", "ReceiveMessage", q, "pollingWaitSeconds=1")
	if took := time.Since(start); took < 900*time.Millisecond || took > 3*time.Second {
		c.t.Errorf("a wait of 1 s took %v", took)
	}
	start = time.Now()
	c.ok("SendMessage", q, "msgBody=later", "delaySeconds=1")
	first := c.ok("ReceiveMessage", q) // waits as the queue says
	if took := time.Since(start); took < 900*time.Millisecond || took > 5*time.Second {
		c.t.Errorf("a delay of 1 s took %v", took)
	}
	c.ok("SetQueueAttributes", q, "visibilityTimeout=600") // the next lock is not over before its message is deleted
	second := c.ok("ReceiveMessage", q)
	if second.DequeueCount != 2 || second.MsgID != first.MsgID || second.Handle == first.Handle || second.FirstDequeueTime != first.FirstDequeueTime {
		c.t.Errorf("after the lock: %s, before: %s", second.raw, first.raw)
	}
	c.ok("SendMessage", q, "msgBody=much later", "delaySeconds=3600")
	c.refused(7000, "(10200)no message", "ReceiveMessage", q, "pollingWaitSeconds=0")
	c.refused(4430, "(10260)receipt handle is invalid", "DeleteMessage", q, "receiptHandle="+first.Handle)
	c.ok("DeleteMessage", q, "receiptHandle="+second.Handle)
}
