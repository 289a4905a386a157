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
		{&s.FirstQueryInterval, "firstQueryInterval", l.FirstQueryInterval},
		{&s.MaxQueryCount, "maxQueryCount", l.MaxQueryCount},
		{&s.MaxInFlight, "maxInFlight", l.MaxInFlight},
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
	if s.Transaction, err = c.transaction(); err != nil {
		return s, err
	}
	s.Trace, err = c.boolean("trace")
	return s, err
}

// transaction reads whether the queue is to be transactional: 0 or 1, nil if it is not given.
func (c *call) transaction() (*bool, error) {
	given, err := c.integer("transaction", cmq.Range{Min: 0, Max: 1})
	if err != nil || given == nil {
		return nil, err
	}
	on := *given == 1
	return &on, nil
}
