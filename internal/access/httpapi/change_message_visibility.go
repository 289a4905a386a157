package httpapi

import (
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// changeMessageVisibility lets a lock end visibilityTimeout seconds from now, or at once if that is 0. It is an action
// of ours, under a name the published service does not have.
func (c *call) changeMessageVisibility() error {
	name, err := c.queue("queueName")
	if err != nil {
		return err
	}
	return c.onHandle(func(handles []cmq.Handle) ([]*cmq.Error, error) {
		lock, err := c.newLock()
		if err != nil {
			return nil, err
		}
		return c.relock(name, handles, lock)
	})
}

// batchChangeMessageVisibility does it to several, all with the same visibilityTimeout.
func (c *call) batchChangeMessageVisibility() error {
	name, err := c.queue("queueName")
	if err != nil {
		return err
	}
	lock, err := c.newLock()
	if err != nil {
		return err
	}
	return c.onHandles(cmq.ErrRelockPart, cmq.ErrRelockBatch, func(handles []cmq.Handle) ([]*cmq.Error, error) { return c.relock(name, handles, lock) })
}

func (c *call) relock(name string, handles []cmq.Handle, lock time.Duration) ([]*cmq.Error, error) {
	return await(c, c.ends(), func(done func([]*cmq.Error, error)) cmq.Pending {
		return c.backend().StartRelock(c.owner, name, handles, lock, done)
	})
}

func (c *call) newLock() (time.Duration, error) {
	seconds, err := c.integer("visibilityTimeout", cmq.Range{Min: 0, Max: c.door.config.Limits.VisibilityTimeout.Max})
	if err != nil {
		return 0, err
	}
	if seconds == nil {
		return 0, cmq.ErrParameterMissing("visibilityTimeout")
	}
	return time.Duration(*seconds) * time.Second, nil
}
