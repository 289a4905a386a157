package httpapi

import "context"

func (c *call) listTopic(ctx context.Context) error {
	search, offset, limit, err := c.paging()
	if err != nil {
		return err
	}
	total, topics, err := c.backend().ListTopics(ctx, c.owner, search, offset, limit)
	if err != nil {
		return err
	}
	c.envelope(nil)
	c.number("totalCount", int64(total))
	c.key("topicList")
	c.out = append(c.out, '[')
	for i, t := range topics {
		if i > 0 {
			c.out = append(c.out, ',')
		}
		c.out = appendString(append(c.out, `{"topicId":`...), t.ID.String())
		c.out = appendString(append(c.out, `,"topicName":`...), t.Name)
		c.out = append(c.out, '}')
	}
	c.out = append(c.out, ']')
	return nil
}
