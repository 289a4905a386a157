package web

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/dispatch/push"
)

// userAgent is what the published service calls itself.
const userAgent = "Qcloud Notification Service Agent"

// Endpoints delivers to subscriptions with the protocol http.
//
//	POST /cgi HTTP/1.1
//	Host: test.com
//	User-Agent: Qcloud Notification Service Agent
//	Content-Length: 5
//	Content-Type: text/plain
//	x-cmq-message-id: 6942316962
//	x-cmq-message-tag: a, b             left out if there are none
//	x-cmq-push-…                        if the subscription has a secret, see sign
//	x-cmq-request-id: 2394928734
//
//	the body; for JSON an object that holds it; for CLOUDEVENTS with further headers, see cloudEvent
type Endpoints struct{ client *Client }

// NewEndpoints makes the target.
func NewEndpoints(c *Client) *Endpoints { return &Endpoints{client: c} }

// Deliver implements push.Target.
func (e *Endpoints) Deliver(ctx context.Context, d *push.Delivery) error {
	return e.client.Do(ctx, request(d, time.Now()))
}

// request makes the request of one try. Names of headers are lower case, as the published ones are.
func request(d *push.Delivery, now time.Time) *Request {
	h := headers(d)
	body := d.Message.Body
	switch d.Subscription.Format {
	case cmq.FormatJSON:
		body = object(d)
	case cmq.FormatCloudEvents:
		cloudEvent(h, d)
	}
	if secret := d.Subscription.Push.Secret; secret != "" {
		sign(h, secret, now, body)
	}
	return &Request{Endpoint: d.Subscription.Endpoint, CA: d.Subscription.Push.CA, Header: h, Body: body, Record: d.Record}
}

// headers are those that every delivery has.
func headers(d *push.Delivery) http.Header {
	h := http.Header{
		"User-Agent":       {userAgent},
		"Content-Type":     {"text/plain"},
		"x-cmq-request-id": {strconv.FormatUint(d.Request, 10)},
		"x-cmq-message-id": {d.Message.ID.String()},
	}
	if tags := d.Tags(); len(tags) > 0 {
		h["x-cmq-message-tag"] = []string{clean(strings.Join(tags, ", "))}
	}
	return h
}

// clean replaces what no header may hold.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

// object is the JSON form of a message. The order of its members is the published one. Bytes of the body that are no
// UTF-8 become U+FFFD, because JSON cannot carry them.
func object(d *push.Delivery) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(struct {
		TopicOwner       json.RawMessage
		TopicName        string `json:"topicName"`
		SubscriptionName string `json:"subscriptionName"`
		MsgID            string `json:"msgId"`
		MsgBody          string `json:"msgBody"`
		PublishTime      int64  `json:"publishTime"`
	}{number(d.Topic.Owner), d.Topic.Name, d.Subscription.Name, d.Message.ID.String(), string(d.Message.Body), d.Message.Enqueued.Unix()})
	if err != nil {
		panic("BUG: a message has no JSON form: " + err.Error())
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// number is an account as a JSON number, which accounts of the API are, or else as a string.
func number(account string) json.RawMessage {
	if n, err := strconv.ParseUint(account, 10, 64); err == nil {
		return json.RawMessage(strconv.FormatUint(n, 10))
	}
	quoted, err := json.Marshal(account)
	if err != nil {
		panic("BUG: a string has no JSON form: " + err.Error())
	}
	return quoted
}

// cloudEvent adds what makes the request a CloudEvent 1.0 in the binary content mode of its HTTP binding: attributes in
// headers, the body as it is. Tags and the routing key are extension attributes.
func cloudEvent(h http.Header, d *push.Delivery) {
	h["Content-Type"] = []string{"application/octet-stream"}
	if utf8.Valid(d.Message.Body) {
		h["Content-Type"] = []string{"text/plain; charset=utf-8"}
	}
	set := func(name, value string) {
		if value != "" {
			h["ce-"+name] = []string{percent(value)}
		}
	}
	set("specversion", "1.0")
	set("id", d.Message.ID.String())
	set("source", "/accounts/"+d.Topic.Owner+"/topics/"+d.Topic.Name)
	set("type", "cmq.message.published")
	set("time", d.Message.Enqueued.UTC().Format(time.RFC3339))
	set("cmqsubscription", d.Subscription.Name)
	set("cmqtags", strings.Join(d.Tags(), ","))
	if p := d.Message.Publication; p != nil {
		set("cmqroutingkey", p.RoutingKey)
	}
}

// percent writes a value the way the binding wants it: what is not a printable character of ASCII, the blank, the double
// quote and the percent sign are percent-encoded as UTF-8.
func percent(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for _, c := range []byte(strings.ToValidUTF8(s, "\ufffd")) {
		if c <= ' ' || c > '~' || c == '"' || c == '%' {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
