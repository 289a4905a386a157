package httpapi

import (
	"context"
	"math"

	"github.com/opencmq/cmq/internal/cmq"
)

func (c *call) listQueue(ctx context.Context) error {
	search, offset, limit, err := c.paging()
	if err != nil {
		return err
	}
	total, queues, err := c.backend().ListQueues(ctx, c.owner, search, offset, limit)
	if err != nil {
		return err
	}
	c.queueList(total, queues)
	return nil
}

func (c *call) listDeadLetterSourceQueues(ctx context.Context) error {
	name, err := c.queue("deadLetterQueueName")
	if err != nil {
		return err
	}
	search, offset, limit, err := c.paging()
	if err != nil {
		return err
	}
	total, queues, err := c.backend().DeadLetterSources(ctx, c.owner, name, search, offset, limit)
	if err != nil {
		return err
	}
	c.queueList(total, queues)
	return nil
}

// paging reads the parameters of lists of queues and topics.
func (c *call) paging() (search string, offset, limit int, err error) {
	return c.page(cmq.Range{Min: 0, Max: math.MaxInt32}, c.door.config.Limits.ListLimit)
}

// page reads the parameters of a list. Each may be given without the others.
func (c *call) page(offsets, limits cmq.Range) (search string, offset, limit int, err error) {
	word, err := c.find("searchWord")
	if err != nil {
		return "", 0, 0, err
	}
	from, err := c.integerOr("offset", offsets, 0)
	if err != nil {
		return "", 0, 0, err
	}
	count, err := c.integerOr("limit", limits, c.door.config.Limits.DefaultListLimit)
	return string(word), int(from), int(count), err
}

func (c *call) queueList(total int, queues []*cmq.Queue) {
	c.envelope(nil)
	c.number("totalCount", int64(total))
	c.key("queueList")
	c.out = append(c.out, '[')
	for i, q := range queues {
		if i > 0 {
			c.out = append(c.out, ',')
		}
		c.out = append(c.out, `{"queueId":`...)
		c.out = appendString(c.out, q.ID.String())
		c.out = append(c.out, `,"queueName":`...)
		c.out = appendString(c.out, q.Name)
		c.out = append(c.out, '}')
	}
	c.out = append(c.out, ']')
}
