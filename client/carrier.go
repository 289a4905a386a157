package client

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/opencmq/cmq/client/internal/wire"
)

// carrier takes the message actions to the service, over one of the two protocols.
type carrier interface {
	send(ctx context.Context, queue, body string, o *sendOptions) (string, error)
	batchSend(ctx context.Context, queue string, bodies []string, o *sendOptions) ([]string, error)
	receive(ctx context.Context, queue string, o ReceiveOptions) ([]Message, error)
	delete(ctx context.Context, queue, handle string) error
	batchDelete(ctx context.Context, queue string, handles []string) error
	changeVisibility(ctx context.Context, queue string, handles []string, d time.Duration) error
	publish(ctx context.Context, topic, body string, o *PublishOptions) (string, error)
	batchPublish(ctx context.Context, topic string, bodies []string, o *PublishOptions) ([]string, error)
	openSession(ctx context.Context, queue string, id uint64) (epoch uint64, err error)
	confirm(ctx context.Context, queue string, decisions []Decision) error
	most() int       // messages of one receive, and handles of one request
	fewer()          // a request with more than MaxBatch was refused for that
	address() string // host:port, for traces
}

// sendOptions is what may be said about a send.
type sendOptions struct {
	delay      time.Duration
	prepared   bool
	firstQuery time.Duration
	session    *wire.Session // nil: none
}

// httpCarrier speaks HTTP.
type httpCarrier struct{ c *Client }

func (h httpCarrier) address() string {
	return h.c.addresses[int(h.c.current.Load())%len(h.c.addresses)].Host
}

func (h httpCarrier) send(ctx context.Context, queue, body string, o *sendOptions) (string, error) {
	if o.prepared {
		return "", &NeedsEndpointError{Action: "SendPrepared", Scheme: "tcp"}
	}
	params := []Param{{"queueName", queue}, {"msgBody", body}}
	return oneID("SendMessage")(h.store(ctx, "SendMessage", params, o))
}

func (h httpCarrier) batchSend(ctx context.Context, queue string, bodies []string, o *sendOptions) ([]string, error) {
	if o.prepared {
		return nil, &NeedsEndpointError{Action: "SendPrepared", Scheme: "tcp"}
	}
	params := make([]Param, 1, len(bodies)+10)
	params[0] = Param{"queueName", queue}
	params = withList(params, "msgBody", bodies)
	return allIDs("BatchSendMessage", len(bodies))(h.store(ctx, "BatchSendMessage", params, o))
}

// store sends. In a session that may be repeated after anything.
func (h httpCarrier) store(ctx context.Context, action string, params []Param, o *sendOptions) (*reply, error) {
	params = withDelay(params, o.delay)
	if s := o.session; s != nil {
		number := func(n uint64) string { return strconv.FormatUint(n, 10) }
		params = append(params, Param{"sessionId", number(s.ID)}, Param{"sessionEpoch", number(s.Epoch)},
			Param{"sessionNumber", number(s.Number)}, Param{"sessionAcked", number(s.Acked)})
	}
	return h.c.messageIf(ctx, action, params, 0, safetyOf(o.session != nil))
}

func (h httpCarrier) receive(ctx context.Context, queue string, o ReceiveOptions) ([]Message, error) {
	params, action := []Param{{"queueName", queue}}, "ReceiveMessage"
	if o.Max > 0 {
		action = "BatchReceiveMessage"
		params = append(params, Param{"numOfMsg", strconv.Itoa(o.Max)})
	}
	if o.Visibility > 0 {
		params = append(params, Param{"visibilityTimeout", seconds(o.Visibility)})
	}
	r, err := h.c.message(ctx, action, withWait(params, o.Wait), patience(o.Wait))
	if err == nil && o.Max == 0 && len(r.messages) != 1 {
		err = errors.New("ReceiveMessage: answer has no receiptHandle")
	}
	return r.messages, err
}

func (h httpCarrier) delete(ctx context.Context, queue, handle string) error {
	_, err := h.c.message(ctx, "DeleteMessage", []Param{{"queueName", queue}, {"receiptHandle", handle}}, 0)
	return err
}

func (h httpCarrier) batchDelete(ctx context.Context, queue string, handles []string) error {
	params := make([]Param, 1, len(handles)+1)
	params[0] = Param{"queueName", queue}
	return batchFailure(h.c.message(ctx, "BatchDeleteMessage", withList(params, "receiptHandle", handles), 0))
}

func (h httpCarrier) changeVisibility(ctx context.Context, queue string, handles []string, d time.Duration) error {
	params := []Param{{"queueName", queue}, {"visibilityTimeout", seconds(d)}}
	if len(handles) == 1 {
		_, err := h.c.message(ctx, "ChangeMessageVisibility", append(params, Param{"receiptHandle", handles[0]}), 0)
		return err
	}
	return batchFailure(h.c.message(ctx, "BatchChangeMessageVisibility", withList(params, "receiptHandle", handles), 0))
}

func (h httpCarrier) publish(ctx context.Context, topic, body string, o *PublishOptions) (string, error) {
	params := o.params([]Param{{"topicName", topic}, {"msgBody", body}})
	return oneID("PublishMessage")(h.c.message(ctx, "PublishMessage", params, 0))
}

func (h httpCarrier) batchPublish(ctx context.Context, topic string, bodies []string, o *PublishOptions) ([]string, error) {
	params := o.params(withList([]Param{{"topicName", topic}}, "msgBody", bodies))
	return allIDs("BatchPublishMessage", len(bodies))(h.c.message(ctx, "BatchPublishMessage", params, 0))
}

func (h httpCarrier) openSession(ctx context.Context, queue string, id uint64) (uint64, error) {
	var out struct {
		Epoch uint64 `json:"sessionEpoch"`
	}
	params := []Param{{"queueName", queue}, {"sessionId", strconv.FormatUint(id, 10)}}
	err := h.c.call(ctx, "OpenSession", params, always, &out) // the last one counts
	if err == nil && out.Epoch == 0 {
		err = errors.New("OpenSession: answer has no sessionEpoch")
	}
	return out.Epoch, err
}

func (h httpCarrier) most() int { return MaxBatch }
func (h httpCarrier) fewer()    {}

// oneID takes the id out of the answer to a single send.
func oneID(action string) func(*reply, error) (string, error) {
	return func(r *reply, err error) (string, error) {
		if err == nil && len(r.ids) != 1 {
			err = errors.New(action + ": answer has no msgId")
		}
		if err != nil {
			return "", err
		}
		return r.ids[0], nil
	}
}

// allIDs takes n ids out of the answer to a batch.
func allIDs(action string, n int) func(*reply, error) ([]string, error) {
	return func(r *reply, err error) ([]string, error) {
		if err == nil && len(r.ids) != n {
			err = fmt.Errorf("%s: %d ids for %d messages", action, len(r.ids), n)
		}
		if err != nil {
			return nil, err
		}
		return r.ids, nil
	}
}

// batchFailure makes a *BatchError of a refusal that lists handles.
func batchFailure(r *reply, err error) error {
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

func withList(params []Param, name string, values []string) []Param {
	for i, v := range values {
		params = append(params, Param{indexed(name, i), v})
	}
	return params
}

// patience is how much longer than usual the answer may take.
func patience(wait time.Duration) time.Duration {
	if wait < 0 || wait > maxWait {
		return maxWait
	}
	return wait
}

// wholeSeconds rounds up: a wait or delay is never shorter than asked for.
func wholeSeconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

func seconds(d time.Duration) string { return strconv.FormatInt(wholeSeconds(d), 10) }

// indexed names one element of a list parameter; lists are counted from 1.
func indexed(name string, i int) string { return name + "." + strconv.Itoa(i+1) }
