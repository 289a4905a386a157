package httpapi

import (
	"context"
	"strconv"

	"github.com/opencmq/cmq/internal/cmq"
)

// openSession begins a producer session, or takes over the one with this id. It is an action of ours, as are the
// parameters of a send that belongs to a session.
func (c *call) openSession(ctx context.Context) error {
	name, err := c.queue("queueName")
	if err != nil {
		return err
	}
	id, err := c.positive("sessionId")
	if err != nil {
		return err
	}
	epoch, err := c.backend().OpenSession(ctx, c.owner, name, id)
	if err != nil {
		return err
	}
	c.envelope(nil)
	c.key("sessionEpoch")
	c.out = strconv.AppendUint(c.out, epoch, 10)
	return nil
}

// session gives the session a send belongs to; the zero Session if it belongs to none.
func (c *call) session() (s cmq.Session, err error) {
	if text, err := c.find("sessionId"); err != nil || text == nil {
		return s, err
	}
	if s.ID, err = c.positive("sessionId"); err != nil {
		return s, err
	}
	if s.Epoch, err = c.positive("sessionEpoch"); err != nil {
		return s, err
	}
	if s.Number, err = c.positive("sessionNumber"); err != nil {
		return s, err
	}
	s.Acked, _, err = c.unsigned("sessionAcked")
	return s, err
}

// positive gives the value of a required number above 0 of up to 64 bits.
func (c *call) positive(name string) (uint64, error) {
	value, given, err := c.unsigned(name)
	switch {
	case err != nil:
		return 0, err
	case !given:
		return 0, cmq.ErrParameterMissing(name)
	case value == 0:
		return 0, cmq.ErrParameterRange(name)
	}
	return value, nil
}

// unsigned gives the value of an optional number of up to 64 bits. Errors: not decimal 10360, too large 10350.
func (c *call) unsigned(name string) (value uint64, given bool, err error) {
	text, err := c.find(name)
	if err != nil || text == nil {
		return 0, false, err
	}
	for _, digit := range text {
		if digit < '0' || digit > '9' {
			return 0, true, cmq.ErrParameterType(name)
		}
	}
	if len(text) == 0 {
		return 0, true, cmq.ErrParameterType(name)
	}
	if value, err = strconv.ParseUint(string(text), 10, 64); err != nil {
		return 0, true, cmq.ErrParameterRange(name)
	}
	return value, true, nil
}
