package client

import (
	"context"
	"errors"
	"iter"
	"strconv"
	"time"
)

// Names of attributes and metrics, as the semantic conventions of OpenTelemetry for messaging have them. This package
// does not import OpenTelemetry; an Observer of few lines connects the two.
const (
	AttrSystem        = "messaging.system" // always "cmq"
	AttrOperationName = "messaging.operation.name"
	AttrOperationType = "messaging.operation.type"
	AttrDestination   = "messaging.destination.name"
	AttrMessageID     = "messaging.message.id"
	AttrBatchCount    = "messaging.batch.message_count"
	AttrErrorType     = "error.type"
	AttrServerAddress = "server.address"

	MetricDuration = "messaging.client.operation.duration" // seconds; every operation but process
	MetricSent     = "messaging.client.sent.messages"      // of operations of type send
	MetricConsumed = "messaging.client.consumed.messages"  // of operations of type receive
	MetricProcess  = "messaging.process.duration"          // seconds; of operations of type process
)

// OpKind is the type of an operation.
type OpKind string

// The types of operations. OpCreate is a message accepted by a Producer, whose batch is sent later by an OpSend.
const (
	OpCreate  OpKind = "create"
	OpSend    OpKind = "send"
	OpReceive OpKind = "receive"
	OpProcess OpKind = "process" // a Consumer's handler
	OpSettle  OpKind = "settle"  // delete, change of visibility, confirmation
)

// Operation is what an Observer is told about.
type Operation struct {
	Kind        OpKind
	Destination string // name of the queue or topic
	MessageID   string // of operations on one message, where it is known; "" otherwise
	Count       int    // messages; known at the end of an OpReceive
	Server      string // host and port, the likely one if there are several

	// Message is what the handler of an OpProcess gets; else nil. It must not be changed.
	Message *Message
}

// Attributes gives the attributes of the operation by their names, those that have a value, and AttrErrorType if err is
// not nil.
func (o Operation) Attributes(err error) iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		for _, a := range []struct {
			name  string
			value any
			given bool
		}{
			{AttrSystem, "cmq", true},
			{AttrOperationName, string(o.Kind), true},
			{AttrOperationType, string(o.Kind), true},
			{AttrDestination, o.Destination, true},
			{AttrMessageID, o.MessageID, o.MessageID != ""},
			{AttrBatchCount, o.Count, o.Count > 1},
			{AttrServerAddress, o.Server, o.Server != ""},
			{AttrErrorType, ErrorType(err), err != nil},
		} {
			if a.given && !yield(a.name, a.value) {
				return
			}
		}
	}
}

// ErrorType is a short name for an error, with few different values: the module code of a refusal, "timeout",
// "canceled", "unreachable", "no_answer" or "other". It is empty without an error.
func ErrorType(err error) string {
	var (
		refused *Error
		broken  *TransportError
	)
	switch {
	case err == nil:
		return ""
	case errors.As(err, &refused):
		return strconv.Itoa(refused.Module)
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.As(err, &broken) && !broken.Sent:
		return "unreachable"
	case errors.As(err, &broken):
		return "no_answer"
	}
	return "other"
}

// Observer is told about operations, for traces and metrics. Its methods are called by the goroutine that makes the
// operation and should be quick. End of a started operation (StartSend …) is called by the goroutine that calls its done, and
// must not wait either.
//
// Messages of CMQ have a body and nothing beside it, so this package carries no trace context by itself. A program that
// wants one trace from the producer to the handler puts the context (traceparent) into its bodies, and the Start of an
// OpProcess takes it out of the Message; see the example of WithObserver. Without that, MessageID links the two.
type Observer interface {
	// Start is called before an operation. The operation, and a Consumer's handler, run with the context it returns,
	// which is ctx or made from it.
	Start(ctx context.Context, op Operation) context.Context

	// End is called after it with the context that Start returned. ErrNoMessage is not an error here: a receive that
	// found nothing ends with Count 0 and nil.
	End(ctx context.Context, op Operation, took time.Duration, err error)
}

// observation is an operation under way, or nothing if nobody observes.
type observation struct {
	observer Observer
	op       Operation
	begun    time.Time
}

func (q *Queue) begin(ctx context.Context, kind OpKind, count int) (context.Context, observation) {
	return q.c.observe(ctx, kind, q.name, count)
}

func (c *Client) observe(ctx context.Context, kind OpKind, name string, count int) (context.Context, observation) {
	return c.start(ctx, Operation{Kind: kind, Destination: name, Count: count})
}

func (c *Client) start(ctx context.Context, op Operation) (context.Context, observation) {
	if c.observer == nil {
		return ctx, observation{}
	}
	op.Server = c.carrier.address()
	o := observation{c.observer, op, time.Now()}
	return c.observer.Start(ctx, o.op), o
}

func (o *observation) end(ctx context.Context, err error) {
	if o.observer != nil {
		o.observer.End(ctx, o.op, time.Since(o.begun), err)
	}
}

func (o *observation) endMessage(ctx context.Context, id string, err error) {
	o.op.MessageID = id
	o.end(ctx, err)
}

func (o *observation) received(ctx context.Context, messages []Message, err error) {
	if o.observer == nil {
		return
	}
	if o.op.Count = len(messages); len(messages) == 1 {
		o.op.MessageID = messages[0].ID
	}
	if errors.Is(err, ErrNoMessage) {
		err = nil
	}
	o.end(ctx, err)
}
