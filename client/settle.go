package client

import (
	"context"
	"errors"
	"time"
)

// settle is one of the goroutines that tell the service what became of messages. It takes what is there, up to
// Batch, in one request.
func (c *Consumer) settle() {
	for d := range c.done {
		some := append(make([]*delivery, 0, MaxBatch), d)
		for more := true; more && len(some) < c.o.Batch; {
			select {
			case d, ok := <-c.done:
				if more = ok; ok {
					some = append(some, d)
				}
			default:
				more = false
			}
		}
		c.settleSome(some)
		for _, d := range some {
			c.locks.remove(d)
		}
		c.give(len(some))
	}
}

// settleSome deletes what was handled and gives the rest back.
func (c *Consumer) settleSome(some []*delivery) {
	var handled []*delivery
	back := make(map[time.Duration][]*delivery) // by how long they stay away
	for _, d := range some {
		switch {
		case d.err == nil:
			handled = append(handled, d)
		case errors.Is(d.err, ErrLockLost) || !c.locks.canChange():
		case errors.Is(d.err, ErrStopping):
			back[0] = append(back[0], d)
		default:
			if away := c.o.RetryDelay(d.m, d.err); away >= 0 {
				away = time.Duration(wholeSeconds(away)) * time.Second
				back[away] = append(back[away], d)
			}
		}
	}
	if len(handled) > 0 {
		c.try("delete", handled, func(ctx context.Context, handles []string) error {
			if len(handles) == 1 {
				return c.q.Delete(ctx, handles[0])
			}
			return c.q.BatchDelete(ctx, handles)
		})
	}
	for away, some := range back {
		c.try("give back", some, func(ctx context.Context, handles []string) error {
			return c.q.BatchChangeVisibility(ctx, handles, away)
		})
	}
}

// try makes a request about some messages until it is answered or the last of their locks is over.
func (c *Consumer) try(what string, some []*delivery, request func(ctx context.Context, handles []string) error) {
	handles := make([]string, len(some))
	var until time.Time
	for i, d := range some {
		handles[i] = d.m.Handle
		if end := c.locks.end(d); end.After(until) {
			until = end
		}
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(c.base), until)
	defer cancel()
	for attempt, unknown := 0, false; ; attempt++ {
		err := request(ctx, handles)
		if err == nil {
			return
		}
		again := Temporary(err)
		if !again || !pause(ctx, attempt) {
			c.unsettled(what, handles, err, unknown)
			return
		}
		unknown = unknown || OutcomeOf(err) == Unknown
	}
}

// unsettled logs what could not be told to the service. After an attempt without an answer a refused handle is what is
// to be expected: that attempt was carried out.
func (c *Consumer) unsettled(what string, handles []string, err error, unknown bool) {
	refused := len(handles)
	var batch *BatchError
	if errors.As(err, &batch) {
		refused = len(batch.Failed)
	}
	if unknown && errors.Is(err, ErrHandleInvalid) {
		return
	}
	if Unsupported(err) {
		c.locks.mu.Lock()
		c.locks.cannot = true
		c.locks.mu.Unlock()
		return
	}
	c.q.c.log.Warn("the service does not know what became of messages; they come again", "queue", c.q.name, "messages", refused, "tried", what, "error", err)
}
