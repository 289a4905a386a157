package web

import (
	"context"
	"time"

	"github.com/opencmq/cmq/internal/dispatch/push"
)

// Functions triggers functions that are invoked over HTTP, as those of OpenFaaS and Knative: the endpoint is the URL of
// the function, the body is the message's, and what else is known of it is in the headers of a CloudEvent and those of
// any other delivery. The format of the subscription is not looked at. An answer of 2xx, 202 of an asynchronous invocation
// among them, says that the function has taken the message.
type Functions struct{ client *Client }

// NewFunctions makes the target.
func NewFunctions(c *Client) *Functions { return &Functions{client: c} }

// Deliver implements push.Target.
func (f *Functions) Deliver(ctx context.Context, d *push.Delivery) error {
	h := headers(d)
	cloudEvent(h, d)
	if secret := d.Subscription.Push.Secret; secret != "" {
		sign(h, secret, time.Now(), d.Message.Body)
	}
	return f.client.Do(ctx, &Request{Endpoint: d.Subscription.Endpoint, CA: d.Subscription.Push.CA, Header: h, Body: d.Message.Body, Record: d.Record})
}
