package httpapi

import (
	"context"

	"github.com/opencmq/cmq/internal/cmq"
)

func (c *call) setQueueAttributes(ctx context.Context) error {
	name, err := c.queue("queueName")
	if err != nil {
		return err
	}
	settings, err := c.settings()
	if err != nil {
		return err
	}
	queue, err := c.backend().SetQueueAttributes(ctx, c.owner, name, settings)
	if err != nil {
		return err
	}
	c.envelope(nil)
	a := &queue.Attributes
	c.number("maxMsgHeapNum", a.MaxMsgHeapNum)
	c.seconds("pollingWaitSeconds", a.PollingWait)
	c.seconds("visibilityTimeout", a.VisibilityTimeout)
	c.number("maxMsgSize", int64(a.MaxMsgSize))
	c.seconds("msgRetentionSeconds", a.MsgRetention)
	c.seconds("rewindSeconds", a.Rewind)
	c.number("maxInFlight", int64(a.MaxInFlight))
	c.transactionPolicy(queue)
	c.deadLetterPolicy(queue)
	return nil
}

// transactionPolicy writes how the queue treats prepared messages, if it takes any.
func (c *call) transactionPolicy(queue *cmq.Queue) {
	if p := &queue.Attributes.Transaction; p.On {
		c.number("transaction", 1)
		c.seconds("firstQueryInterval", p.FirstQueryInterval)
		c.number("maxQueryCount", int64(p.MaxQueryCount))
	}
}

// deadLetterPolicy writes the policy, if the queue has one, as a string that holds JSON.
func (c *call) deadLetterPolicy(queue *cmq.Queue) {
	if queue.Attributes.DeadLetter.Queue != 0 {
		c.text("deadLetterPolicy", string(appendDeadLetterPolicy(nil, queue)))
	}
}
