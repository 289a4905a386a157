// Package sms delivers messages as text messages, through a gateway that the operator names. Gateways speak HTTP, each in a
// form of its own; so the call is a template.
package sms

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/opencmq/cmq/internal/dispatch/push"
	"github.com/opencmq/cmq/internal/dispatch/push/web"
)

// Gateway says how it is called. In URL and Body, {to} stands for the telephone number, {text} for the body of the message and
// {id} for its id: in a URL and a form url-encoded, in JSON as what stands between the quotes of a string, in anything
// else as it is.
type Gateway struct {
	URL           string
	Body          string // empty: the call has none, and is a GET
	ContentType   string // of Body
	Authorization string // header of that name; empty: none
}

// Target calls one gateway.
type Target struct {
	gateway Gateway
	client  *web.Client
}

// New makes the target. The client must be allowed to reach the gateway.
func New(g Gateway, c *web.Client) (*Target, error) {
	if !strings.Contains(g.URL+g.Body, "{to}") || !strings.Contains(g.URL+g.Body, "{text}") {
		return nil, errors.New("neither the URL nor the body of calls to the SMS gateway says where {to} and {text} belong")
	}
	host, _, _ := strings.Cut(g.URL, "?")
	if strings.Contains(host, "{to}@") {
		return nil, errors.New("the URL of the SMS gateway has {to} before its host")
	}
	if err := c.Check(fill(g.URL, url.QueryEscape, "1", "x", "1")); err != nil {
		return nil, fmt.Errorf("SMS gateway: %w", err)
	}
	return &Target{gateway: g, client: c}, nil
}

// Deliver implements push.Target. The endpoint is a telephone number: digits, with a plus sign before them or not.
func (t *Target) Deliver(ctx context.Context, d *push.Delivery) error {
	to := d.Subscription.Endpoint
	if digits := strings.TrimPrefix(to, "+"); len(digits) < 3 || len(digits) > 20 || strings.ContainsFunc(digits, func(r rune) bool { return r < '0' || r > '9' }) {
		return &push.Failure{Reason: push.Invalid, Err: errors.New("the endpoint is not a telephone number")}
	}
	text, id := strings.ToValidUTF8(string(d.Message.Body), "\ufffd"), d.Message.ID.String()
	r := &web.Request{Endpoint: fill(t.gateway.URL, url.QueryEscape, to, text, id), Header: http.Header{}}
	if t.gateway.Body == "" {
		r.Method = http.MethodGet
	} else {
		r.Body = []byte(fill(t.gateway.Body, t.escape(), to, text, id))
		r.Header.Set("Content-Type", t.gateway.ContentType)
	}
	if t.gateway.Authorization != "" {
		r.Header.Set("Authorization", t.gateway.Authorization)
	}
	if d.Record != nil {
		d.Record.Sent = "text message to " + to + ", through the gateway of the operator"
	}
	return t.client.Do(ctx, r)
}

// escape is how values are written into the body.
func (t *Target) escape() func(string) string {
	switch kind, _, _ := strings.Cut(t.gateway.ContentType, ";"); strings.TrimSpace(kind) {
	case "application/json":
		return inJSON
	case "application/x-www-form-urlencoded":
		return url.QueryEscape
	}
	return func(s string) string { return s }
}

// inJSON is what stands between the quotes of a JSON string.
func inJSON(s string) string {
	quoted, err := json.Marshal(s)
	if err != nil {
		panic("BUG: a string has no JSON form: " + err.Error())
	}
	return string(quoted[1 : len(quoted)-1])
}

// fill puts the values into the template, each once: what they contain is not looked at again.
func fill(template string, escape func(string) string, to, text, id string) string {
	return strings.NewReplacer("{to}", escape(to), "{text}", escape(text), "{id}", escape(id)).Replace(template)
}
