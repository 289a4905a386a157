package httpapi

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/opencmq/cmq/internal/auth"
)

// habit is what one published client does with a request (http-api.md 7): everything that reaches the wire or
// the signature and is not the same for all.
type habit struct {
	name        string
	method      string
	path        string // on the wire
	signedPath  string
	signedHost  func(address string) string
	hostHeader  func(address string) string
	headers     string
	blank       string // how a blank is encoded
	base        int    // of lists
	sha256      bool
	extra       []string // sent with every request
	receiveHint bool     // UserpollingWaitSeconds with receives
	skipAt      bool     // values beginning with '@' are not signed
}

func same(address string) string { return address }

// habits of the published clients, from the fact sheet; the name says which and, if it matters, how configured.
func habits() []habit {
	py := habit{name: "PY", method: "POST", path: "/v2/index.php", signedPath: "/v2/index.php", signedHost: same, hostHeader: same, blank: "+", base: 1, receiveHint: true, skipAt: true,
		headers: "Accept-Encoding: identity\r\nConnection: Keep-Alive\r\n", extra: []string{"RequestClient=SDK_Python_1.3", "SignatureMethod=HmacSHA1", "Nonce=9223372036854775807"}}
	pyGet := py
	pyGet.name, pyGet.method, pyGet.skipAt = "PY, GET", "GET", false
	py256 := py
	py256.name, py256.sha256 = "PY, sha256", true
	py256.extra = []string{"RequestClient=SDK_Python_1.3", "SignatureMethod=HmacSHA256"}
	java := habit{name: "JAVA 1.1", method: "POST", path: "/", signedPath: "/", signedHost: same, hostHeader: same, blank: "+", base: 1,
		headers: "Content-Type: */*;charset=utf-8\r\nUser-Agent: okhttp/3.10.0\r\n", extra: []string{"RequestClient=SDK_JAVA_1.3", "SignatureMethod=HmacSHA1", "Token=t"}}
	javaOld := java
	javaOld.name, javaOld.path, javaOld.signedPath, javaOld.receiveHint = "JAVA 1.0.3", "/v2/index.php", "/v2/index.php", true
	javaOld.extra = []string{"RequestClient=SDK_JAVA_1.3"}
	javaSlash := java
	javaSlash.name, javaSlash.path, javaSlash.signedPath = "JAVA 1.1, endpoint with a slash", "//", "/"
	javaUpper := java
	javaUpper.name = "JAVA 1.1, upper-case endpoint"
	javaUpper.signedHost = func(string) string { return "Cmq.Example.COM" }
	javaUpper.hostHeader = func(string) string { return "cmq.example.com" }
	javaPort := java
	javaPort.name = "JAVA 1.1, default port in the endpoint"
	javaPort.signedHost = func(string) string { return "cmq.example.com:80" }
	javaPort.hostHeader = func(string) string { return "cmq.example.com" }
	php := habit{name: "PHP", method: "POST", path: "/v2/index.php", signedPath: "/v2/index.php", signedHost: same, hostHeader: same, blank: "+", base: 1, receiveHint: true, skipAt: true,
		headers: "Content-Type: application/x-www-form-urlencoded\r\n", extra: []string{"RequestClient=SDK_PHP_1.3", "Nonce=65535", "SignatureMethod=HmacSHA1"}}
	phpSlash := php
	phpSlash.name, phpSlash.path, phpSlash.signedPath = "PHP, endpoint with a slash", "//v2/index.php", "/v2/index.php"
	cpp := habit{name: "CPP", method: "POST", path: "/v2/index.php", signedPath: "/v2/index.php", signedHost: same, hostHeader: same, blank: "%20", base: 1, sha256: true, receiveHint: true,
		headers: "Accept-Encoding: UTF-8\r\nConnection: Keep-Alive\r\nContent-Type: application/x-www-form-urlencoded\r\n", extra: []string{"RequestClient=SDK_CPP_1.3", "SignatureMethod=HmacSHA256"}}
	golang := habit{name: "GO", method: "POST", path: "/", signedPath: "/", signedHost: same, hostHeader: same, blank: "+", base: 0,
		headers: "Content-Type: application/x-www-form-urlencoded\r\nUser-Agent: Go-http-client/1.1\r\nAccept-Encoding: gzip\r\n", extra: []string{"RequestClient=SDK_GO_1.2.0", "SignatureMethod=HmacSHA1", "clientRequestId=77", "Nonce=4294967295"}}
	node := habit{name: "cmq-sdk of npm", method: "POST", path: "/v2/index.php", signedPath: "/v2/index.php", blank: "+", base: 0, sha256: true,
		signedHost: func(string) string { return "cmq-queue-gz.api.tencentyun.com" }, hostHeader: func(string) string { return "cmq-queue-gz.api.tencentyun.com" },
		headers: "Accept: application/json\r\nAccept-Encoding: gzip, deflate, br\r\nContent-Type: application/x-www-form-urlencoded\r\n", extra: []string{"SignatureMethod=HmacSHA256", "Region=gz", "Nonce=0"}}
	return []habit{py, pyGet, py256, java, javaOld, javaSlash, javaUpper, javaPort, php, phpSlash, cpp, golang, node}
}

// call sends one request as the client does and gives the answer.
func (h *habit) call(t *testing.T, c *client, action string, items ...string) string {
	t.Helper()
	items = append(append([]string{"Action=" + action, "Timestamp=1700000000", "Nonce=11886", "SecretId=" + testID}, h.extra...), items...)
	if h.receiveHint && strings.Contains(action, "Receive") {
		items = append(items, "UserpollingWaitSeconds=30000")
	}
	v := fields(items...)
	r := &auth.Request{Method: h.method, Host: h.signedHost(c.host), Path: h.signedPath}
	for name := range v {
		if !h.skipAt || !strings.HasPrefix(v.Get(name), "@") {
			r.Params = append(r.Params, auth.Param{Name: []byte(name), Value: []byte(v.Get(name))})
		}
	}
	auth.Sort(r.Params)
	v.Set("Signature", auth.Sign(r, testSecret, h.sha256))
	var pairs []string
	for name := range v { // in the order of the map, as one client does
		pairs = append(pairs, name+"="+strings.ReplaceAll(url.QueryEscape(v.Get(name)), "+", h.blank))
	}
	form := strings.Join(pairs, "&")
	if h.method == "GET" {
		c.write("GET " + h.path + "?" + form + " HTTP/1.1\r\nHost: " + h.hostHeader(c.host) + "\r\n" + h.headers + "\r\n")
	} else {
		c.write(fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\n%sContent-Length: %d\r\n\r\n%s", h.path, h.hostHeader(c.host), h.headers, len(form), form))
	}
	status, header, body := c.answer()
	if status != 200 || header.Get("Content-Encoding") != "" {
		t.Errorf("%s: status %d, header %v", action, status, header)
	}
	return body
}

// list numbers items the client's way.
func (h *habit) list(name string, values ...string) (items []string) {
	for i, value := range values {
		items = append(items, fmt.Sprintf("%s.%d=%s", name, h.base+i, value))
	}
	return items
}

// TestClients goes through the life of a queue as each published client would.
func TestClients(t *testing.T) {
	for _, h := range habits() {
		t.Run(h.name, func(t *testing.T) {
			_, address := serveRig(t, func(c *Config) { c.Hosts = []string{"Cmq.Example.COM"} })
			c := dial(t, address)
			must := func(answer string) string {
				t.Helper()
				if !strings.HasPrefix(answer, `{"code":0,"message":"","requestId":"1"`) {
					t.Fatal(answer)
				}
				return answer
			}
			// Python and PHP send every attribute, zeros included.
			must(h.call(t, c, "CreateQueue", "queueName=q_1-x", "pollingWaitSeconds=0", "visibilityTimeout=30", "maxMsgSize=65536", "msgRetentionSeconds=345600", "rewindSeconds=0"))
			must(h.call(t, c, "SetQueueAttributes", "queueName=q_1-x", "pollingWaitSeconds=0", "visibilityTimeout=30", "maxMsgSize=65536", "msgRetentionSeconds=345600", "rewindSeconds=600"))
			must(h.call(t, c, "ListQueue", "searchWord=", "offset=0"))
			must(h.call(t, c, "GetQueueAttributes", "queueName=q_1-x"))
			for _, body := range []string{"hello world & =+", "你好", "@all", "a%20b", "a_b=c_d", "+"} {
				must(h.call(t, c, "SendMessage", "queueName=q_1-x", "msgBody="+body, "delaySeconds=0"))
				answer := must(h.call(t, c, "ReceiveMessage", "queueName=q_1-x", "pollingWaitSeconds=3"))
				if got := field(t, answer, "msgBody"); got != body {
					t.Errorf("%q came back as %q", body, got)
				}
				must(h.call(t, c, "DeleteMessage", "queueName=q_1-x", "receiptHandle="+field(t, answer, "receiptHandle")))
			}
			must(h.call(t, c, "BatchSendMessage", append(h.list("msgBody", "@one", "two", "three"), "queueName=q_1-x", "delaySeconds=0")...))
			answer := must(h.call(t, c, "BatchReceiveMessage", "queueName=q_1-x", "numOfMsg=16", "pollingWaitSeconds=3"))
			var handles []string
			for _, part := range strings.Split(answer, `{"msgBody"`)[1:] {
				handles = append(handles, field(t, part, "receiptHandle"))
			}
			must(h.call(t, c, "BatchDeleteMessage", append(h.list("receiptHandle", handles...), "queueName=q_1-x")...))
			if answer := h.call(t, c, "ReceiveMessage", "queueName=q_1-x"); !strings.Contains(answer, `"code":7000,"message":"(10200)no message"`) {
				t.Error(answer)
			}
			must(h.call(t, c, "RewindQueue", "queueName=q_1-x", "startConsumeTime=1700000000"))
			must(h.call(t, c, "QueryQueueRoute", "queueName=q_1-x"))
			must(h.call(t, c, "DeleteQueue", "queueName=q_1-x"))
		})
	}
}
