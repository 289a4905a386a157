package httpapi

import "context"

// getSubscriptionAttributes answers some fields under two names, because published clients do not agree on one.
func (c *call) getSubscriptionAttributes(ctx context.Context) error {
	topic, name, err := c.subscription()
	if err != nil {
		return err
	}
	s, messages, err := c.backend().SubscriptionAttributes(ctx, c.owner, topic, name)
	if err != nil {
		return err
	}
	c.envelope(nil)
	c.text("topicOwner", s.Owner)
	c.number("msgCount", messages)
	c.text("protocol", string(s.Protocol))
	c.text("protocal", string(s.Protocol))
	c.text("endpoint", s.Endpoint)
	c.text("notifyStrategy", string(s.Strategy))
	c.text("notifyContentFormat", string(s.Format))
	c.unix("createTime", s.Created)
	c.unix("lastModifyTime", s.Modified)
	c.texts("filterTag", s.Tags)
	c.texts("filterTags", s.Tags)
	c.texts("bindingKey", s.Keys)
	c.texts("bindindKey", s.Keys)
	c.pushAttributes(&s.Push)
	return nil
}
