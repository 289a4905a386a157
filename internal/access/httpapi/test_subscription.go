package httpapi

import (
	"context"
	"fmt"
)

// testSubscription delivers a message that nobody published and answers what came of it. That the endpoint did not take it
// is no failure of the action.
func (c *call) testSubscription(ctx context.Context) error {
	topic, name, err := c.subscription()
	if err != nil {
		return err
	}
	body, err := c.find("msgBody")
	if err != nil {
		return err
	}
	if body != nil {
		err = c.checkBody(body)
	} else {
		body = fmt.Appendf(nil, "This is a test of subscription %s of topic %s. Nobody has published it.", name, topic)
	}
	if err != nil {
		return err
	}
	t, err := c.backend().TestSubscription(ctx, c.owner, topic, name, body)
	if err != nil {
		return err
	}
	c.envelope(nil)
	c.truth("taken", t.Taken)
	c.text("reason", t.Reason)
	c.number("status", int64(t.Status))
	c.number("tookMilliseconds", t.Took.Milliseconds())
	c.text("sent", t.Sent)
	c.text("advice", t.Advice)
	return nil
}
