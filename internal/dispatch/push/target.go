package push

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// Target delivers to one kind of endpoint. Deliver is called from many goroutines. It returns nil when the endpoint has
// taken the message, and else a *Failure; it ends by itself in reasonable time, and early when ctx ends.
type Target interface {
	Deliver(ctx context.Context, d *Delivery) error
}

// Delivery is one try to bring one message to the endpoint of one subscription. What it points at is not changed.
type Delivery struct {
	Request      uint64 // drawn anew for each try
	Topic        *cmq.Topic
	Subscription *cmq.Subscription
	Message      *cmq.Message // as the subscription's shard handed it out
	Record       *Record      // filled in by the target; nil: nobody wants to know
}

// Tags are those the message was published with.
func (d *Delivery) Tags() []string {
	if d.Message.Publication == nil {
		return nil
	}
	return d.Message.Publication.Tags
}

// Reason says in one word why a try failed, as the owner of the subscription may know it.
type Reason string

// The reasons. What a name resolves to in the server's network, and what answers there, is not the subscriber's
// business: Refused and Unreachable say no more than that.
const (
	Invalid     Reason = "invalid"     // the endpoint is none: it has another form than its protocol needs
	Refused     Reason = "refused"     // deliveries to this address are not allowed here
	Unresolved  Reason = "unresolved"  // the name of its host has no address
	Unreachable Reason = "unreachable" // no connection, or it broke
	Certificate Reason = "certificate" // the endpoint did not prove who it is
	TimedOut    Reason = "time-out"    // no answer in time
	Answered    Reason = "status"      // an answer, but not a good one
)

// Failure is why a try failed.
type Failure struct {
	Reason Reason
	Status int           // of an endpoint that speaks HTTP; 0: there is none
	After  time.Duration // the endpoint asks not to be tried again before that has passed; 0: it does not
	Err    error         // for the operator; nil if Reason says all
}

// Error is for the operator: it may name addresses, but no secrets.
func (f *Failure) Error() string {
	if f.Err != nil {
		return f.Public() + ": " + f.Err.Error()
	}
	return f.Public()
}

// Unwrap gives what happened.
func (f *Failure) Unwrap() error { return f.Err }

// Public is for the owner of the subscription.
func (f *Failure) Public() string {
	if f.Status != 0 {
		return string(f.Reason) + " " + strconv.Itoa(f.Status)
	}
	return string(f.Reason)
}

// failureOf makes a *Failure of any error.
func failureOf(err error) *Failure {
	var f *Failure
	if errors.As(err, &f) {
		return f
	}
	return &Failure{Reason: Unreachable, Err: err}
}
