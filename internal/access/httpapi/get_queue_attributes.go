package httpapi

import "context"

func (c *call) getQueueAttributes(ctx context.Context) error {
	name, err := c.queue("queueName")
	if err != nil {
		return err
	}
	queue, status, err := c.backend().QueueAttributes(ctx, c.owner, name)
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
	c.unix("createTime", queue.Created)
	c.unix("lastModifyTime", queue.Modified)
	c.number("activeMsgNum", status.Active)
	c.number("inactiveMsgNum", status.Inactive)
	c.number("delayMsgNum", status.Delayed)
	c.seconds("rewindSeconds", a.Rewind)
	c.number("rewindMsgNum", status.Rewindable) // two clients insist on this spelling
	c.number("rewindmsgNum", status.Rewindable) // the others and the documentation on this one
	c.unix("minMsgTime", status.MinMsgTime)
	c.number("maxInFlight", int64(a.MaxInFlight))
	c.transactionPolicy(queue)
	if a.Transaction.On || status.Prepared > 0 {
		c.number("preparedMsgNum", status.Prepared)
		c.number("undecidedMsgNum", status.Undecided)
	}
	c.deadLetterPolicy(queue)
	return nil
}
