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
	c.texts("addr", addresses)
	return nil
}

func (c *call) queryTopicRoute(ctx context.Context) error {
	name, err := c.topic()
	if err != nil {
		return err
	}
	addresses, err := c.backend().TopicRoute(ctx, c.owner, name)
	if err != nil {
		return err
	}
	c.envelope(nil)
	c.texts("addr", addresses)
	return nil
}
