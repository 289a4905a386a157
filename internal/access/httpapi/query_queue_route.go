package httpapi

import "context"

func (c *call) queryQueueRoute(ctx context.Context) error {
	name, err := c.queue("queueName")
	if err != nil {
		return err
	}
	addresses, err := c.backend().QueueRoute(ctx, c.owner, name)
	if err != nil {
		return err
	}
	c.envelope(nil)
	c.key("addr")
	c.out = append(c.out, '[')
	for i, address := range addresses {
		if i > 0 {
			c.out = append(c.out, ',')
		}
		c.out = appendString(c.out, address)
	}
	c.out = append(c.out, ']')
	return nil
}
