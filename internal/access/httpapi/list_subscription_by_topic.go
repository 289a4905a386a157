package httpapi

import "context"

func (c *call) listSubscriptionByTopic(ctx context.Context) error {
	topic, err := c.topic()
	if err != nil {
		return err
	}
	l := &c.door.config.Limits
	search, offset, limit, err := c.page(l.SubscriptionOffset, l.SubscriptionList)
	if err != nil {
		return err
	}
	total, subscriptions, err := c.backend().ListSubscriptions(ctx, c.owner, topic, search, offset, limit)
	if err != nil {
		return err
	}
	c.envelope(nil)
	c.number("totalCount", int64(total))
	c.key("subscriptionList")
	c.out = append(c.out, '[')
	for i, s := range subscriptions {
		if i > 0 {
			c.out = append(c.out, ',')
		}
		c.out = appendString(append(c.out, `{"subscriptionId":`...), s.ID.String())
		c.out = appendString(append(c.out, `,"subscriptionName":`...), s.Name)
		c.out = appendString(append(c.out, `,"protocol":`...), string(s.Protocol))
		c.out = appendString(append(c.out, `,"endpoint":`...), s.Endpoint)
		c.out = append(c.out, '}')
	}
	c.out = append(c.out, ']')
	return nil
}
