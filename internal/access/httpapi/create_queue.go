package httpapi

import (
	"context"

	"github.com/opencmq/cmq/internal/cmq"
)

func (c *call) createQueue(ctx context.Context) error {
	name, err := c.queue("queueName")
	if err != nil {
		return err
	}
	settings, err := c.settings()
	if err != nil {
		return err
	}
	// What a new queue gets where nothing is given is known here, so bad combinations need not travel; a policy's
	// queue is not looked up for this, any number but 0 stands for it.
	if _, refusal := settings.Apply(cmq.DefaultQueueAttributes(), 1); refusal != nil {
		return refusal
	}
	id, err := c.backend().CreateQueue(ctx, c.owner, name, settings)
	if err != nil {
		return err
	}
	c.envelope(nil)
	c.text("queueId", id.String())
	return nil
}

// settings reads the attributes that CreateQueue and SetQueueAttributes have in common.
func (c *call) settings() (s cmq.QueueSettings, err error) {
	l := &c.door.config.Limits
	for _, p := range []struct {
		to   **int64
		name string
		in   cmq.Range
	}{
		{&s.MaxMsgHeapNum, "maxMsgHeapNum", l.MaxMsgHeapNum},
		{&s.PollingWaitSeconds, "pollingWaitSeconds", l.PollingWaitSeconds},
		{&s.VisibilityTimeout, "visibilityTimeout", l.VisibilityTimeout},
		{&s.MaxMsgSize, "maxMsgSize", l.MaxMsgSize},
		{&s.MsgRetentionSeconds, "msgRetentionSeconds", l.MsgRetentionSeconds},
		{&s.RewindSeconds, "rewindSeconds", l.RewindSeconds},
	} {
		if *p.to, err = c.integer(p.name, p.in); err != nil {
			return s, err
		}
	}
	policy, err := c.find("deadLetterPolicy")
	if err != nil {
		return s, err
	}
	if len(policy) > 0 {
		if s.DeadLetter, err = parseDeadLetterPolicy(policy, l); err != nil {
			return s, err
		}
	}
	if err = c.refuseTransaction(); err != nil {
		return s, err
	}
	s.Trace, err = c.boolean("trace")
	return s, err
}

// Ranges of the parameters of transactional queues (http-api.md 8, 30). They have no effect on other queues.
func firstQueryInterval() cmq.Range { return cmq.Range{Min: 1, Max: 3600} }
func maxQueryCount() cmq.Range      { return cmq.Range{Min: 1, Max: 100} }

// refuseTransaction accepts "transaction=0" and its companions, and refuses a transactional queue.
func (c *call) refuseTransaction() error {
	transaction, err := c.integerOr("transaction", cmq.Range{Min: 0, Max: 1}, 0)
	if err != nil {
		return err
	}
	if _, err := c.integer("firstQueryInterval", firstQueryInterval()); err != nil {
		return err
	}
	if _, err := c.integer("maxQueryCount", maxQueryCount()); err != nil {
		return err
	}
	if transaction == 1 {
		return cmq.ErrTransaction
	}
	return nil
}
