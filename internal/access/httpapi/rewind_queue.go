package httpapi

import (
	"context"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// latestTime is the end of the year 9999. Times beyond are no more valid than this one, but would overflow.
const latestTime = 253_402_300_799

func (c *call) rewindQueue(ctx context.Context) error {
	name, err := c.queue("queueName")
	if err != nil {
		return err
	}
	start, given, err := c.decimal("startConsumeTime")
	if err != nil {
		return err
	}
	if !given {
		return cmq.ErrParameterMissing("startConsumeTime")
	}
	// Whether the time is in the queue's window only the Backend knows; its answer is 10680 for all that are not.
	from := time.Unix(min(max(start, 0), latestTime), 0)
	if err := c.backend().RewindQueue(ctx, c.owner, name, from); err != nil {
		return err
	}
	c.envelope(nil)
	return nil
}
