package client

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Queue is the handle of one queue. Making one sends nothing and does not create the queue.
type Queue struct {
	c    *Client
	name string
}

// Queue gives the handle of the queue with this name.
func (c *Client) Queue(name string) *Queue { return &Queue{c: c, name: name} }

// Name is the name the handle was made with.
func (q *Queue) Name() string { return q.name }

// Send stores one message and returns its id. When it returns without an error, the message is on disk.
func (q *Queue) Send(ctx context.Context, body string) (string, error) {
	return q.SendDelayed(ctx, body, 0)
}

// SendDelayed is Send of a message that cannot be received before delay (whole seconds) is over.
func (q *Queue) SendDelayed(ctx context.Context, body string, delay time.Duration) (string, error) {
	params := []Param{{"queueName", q.name}, {"msgBody", body}}
	r, err := q.c.message(ctx, "SendMessage", withDelay(params, delay), 0)
	if err != nil {
		return "", err
	}
	if len(r.ids) != 1 {
		return "", errors.New("SendMessage: answer has no msgId")
	}
	return r.ids[0], nil
}

// BatchSend stores 1 to MaxBatch messages, all or none, and returns their ids in the same order.
func (q *Queue) BatchSend(ctx context.Context, bodies []string, delay time.Duration) ([]string, error) {
	params := make([]Param, 1, len(bodies)+10)
	params[0] = Param{"queueName", q.name}
	for i, b := range bodies {
		params = append(params, Param{indexed("msgBody", i), b})
	}
	r, err := q.c.message(ctx, "BatchSendMessage", withDelay(params, delay), 0)
	if err != nil {
		return nil, err
	}
	if len(r.ids) != len(bodies) {
		return nil, fmt.Errorf("BatchSendMessage: %d ids for %d messages", len(r.ids), len(bodies))
	}
	return r.ids, nil
}

// Receive takes one message and locks it. If there is none it waits up to wait (0: not at all, QueueWait: as the
// queue is set) and then returns ErrNoMessage.
func (q *Queue) Receive(ctx context.Context, wait time.Duration) (*Message, error) {
	r, err := q.c.message(ctx, "ReceiveMessage", withWait([]Param{{"queueName", q.name}}, wait), patience(wait))
	if err != nil {
		return nil, err
	}
	if len(r.messages) != 1 {
		return nil, errors.New("ReceiveMessage: answer has no receiptHandle")
	}
	return &r.messages[0], nil
}

// BatchReceive takes 1 to max messages, at most MaxBatch; it does not wait for more once it has one. For wait see Receive.
func (q *Queue) BatchReceive(ctx context.Context, max int, wait time.Duration) ([]Message, error) {
	params := []Param{{"queueName", q.name}, {"numOfMsg", strconv.Itoa(max)}}
	r, err := q.c.message(ctx, "BatchReceiveMessage", withWait(params, wait), patience(wait))
	return r.messages, err
}

// Delete ends a delivery: the message is gone for good. ErrHandleInvalid means that the lock had ended or the
// message was deleted before.
func (q *Queue) Delete(ctx context.Context, handle string) error {
	_, err := q.c.message(ctx, "DeleteMessage", []Param{{"queueName", q.name}, {"receiptHandle", handle}}, 0)
	return err
}

// BatchDelete deletes by 1 to MaxBatch handles. A *BatchError lists the refused ones; the others are deleted.
func (q *Queue) BatchDelete(ctx context.Context, handles []string) error {
	params := make([]Param, 1, len(handles)+1)
	params[0] = Param{"queueName", q.name}
	for i, h := range handles {
		params = append(params, Param{indexed("receiptHandle", i), h})
	}
	r, err := q.c.message(ctx, "BatchDeleteMessage", params, 0)
	var refused *Error
	if errors.As(err, &refused) && len(r.failed) > 0 {
		return &BatchError{Refusal: refused, Failed: r.failed}
	}
	return err
}

func withDelay(params []Param, delay time.Duration) []Param {
	if delay == 0 {
		return params
	}
	return append(params, Param{"delaySeconds", seconds(delay)})
}

func withWait(params []Param, wait time.Duration) []Param {
	if wait < 0 {
		return params
	}
	return append(params, Param{"pollingWaitSeconds", seconds(wait)})
}

// patience is how much longer than usual the answer may take.
func patience(wait time.Duration) time.Duration {
	if wait < 0 || wait > maxWait {
		return maxWait
	}
	return wait
}

// seconds rounds up: a wait or delay is never shorter than asked for.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

// indexed names one element of a list parameter; lists are counted from 1.
func indexed(name string, i int) string { return name + "." + strconv.Itoa(i+1) }
