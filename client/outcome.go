package client

import (
	"errors"
	"fmt"
)

// Outcome says what is known about a request that returned an error: whether the service has carried it out. For a
// send that is whether the message is stored.
type Outcome int

// The outcomes.
const (
	Unknown   Outcome = iota // it may have been carried out, or may still be
	NotStored                // it certainly was not; the same request may be made again
	Stored                   // it certainly was
)

// String is the outcome in words.
func (o Outcome) String() string {
	switch o {
	case NotStored:
		return "not stored"
	case Stored:
		return "stored"
	}
	return "unknown"
}

// OutcomeOf classifies the error of a send, or of any other request that changes something:
//
//	nil                                              Stored
//	*Error with Code 6000 (the server failed)        Unknown
//	*Error, any other refusal                        NotStored
//	*TransportError with Sent                        Unknown
//	*TransportError without Sent                     NotStored
//	*NeedsEndpointError, ErrClosed                   NotStored
//	*DeliveryError (of a Producer)                   its Outcome
//	*BatchError (some of several handles refused)    Unknown; Failed lists those that were not carried out
//	anything else                                    Unknown
func OutcomeOf(err error) Outcome {
	if err == nil {
		return Stored
	}
	var (
		batch   *BatchError
		refused *Error
		broken  *TransportError
		needs   *NeedsEndpointError
		several *DeliveryError
	)
	switch {
	case errors.As(err, &several):
		return several.Outcome
	case errors.As(err, &batch):
		return Unknown
	case errors.As(err, &broken):
		if broken.Sent {
			return Unknown
		}
		return NotStored
	case errors.As(err, &refused):
		if refused.Code == codeServerFailed {
			return Unknown
		}
		return NotStored
	case errors.As(err, &needs), errors.Is(err, ErrClosed):
		return NotStored
	}
	return Unknown
}

// codeServerFailed is the code of all refusals that are not the caller's fault. Where the service knows that nothing
// was done it uses another one.
const codeServerFailed = 6000

// Temporary reports whether the same request may succeed later without anybody changing it: the service could not be
// reached or failed, had too much to do, or was full. A request of a producer session that is lost is not of that kind.
func Temporary(err error) bool {
	var (
		broken  *TransportError
		refused *Error
		needs   *NeedsEndpointError
	)
	if errors.Is(err, ErrClosed) || errors.As(err, &needs) {
		return false
	}
	if errors.As(err, &refused) {
		for _, t := range []*Error{ErrThrottled, ErrFrequency, ErrDiskFull, ErrHeapFull, ErrTooMany} {
			if refused.Is(t) {
				return true
			}
		}
		return refused.Code == codeServerFailed && !sessionLost(refused)
	}
	return errors.As(err, &broken)
}

// Unsupported reports whether the service refused an action because it does not know it. Extensions of cmq end so at
// other services of the protocol.
func Unsupported(err error) bool {
	var refused *Error
	return errors.As(err, &refused) && (refused.Module == 10430 || refused.Module == 10280)
}

// ErrClosed is returned after Close of the Client, Producer or Consumer.
var ErrClosed = errors.New("closed")

// DeliveryError is the end of several attempts of a Producer, or of the patience of its caller.
type DeliveryError struct {
	Attempts int     // 0: the caller did not wait
	Outcome  Outcome // of all attempts together
	Err      error   // of the last one
}

// Error says how often it was tried and what is known.
func (e *DeliveryError) Error() string {
	if e.Attempts == 0 {
		return fmt.Sprintf("the outcome was not awaited: %v", e.Err)
	}
	return fmt.Sprintf("%d attempts, %s: %v", e.Attempts, e.Outcome, e.Err)
}

// Unwrap gives the last error.
func (e *DeliveryError) Unwrap() error { return e.Err }

// NeedsEndpointError says that an action exists only on the protocol of which the Client has no endpoint. Nothing was
// sent.
type NeedsEndpointError struct {
	Action string
	Scheme string // "http" or "tcp"
}

// Error says what to add.
func (e *NeedsEndpointError) Error() string {
	if e.Scheme == "tcp" {
		return fmt.Sprintf("%s exists only over TCP: make the client for a tcp://HOST:PORT endpoint, or WithTCP", e.Action)
	}
	return fmt.Sprintf("%s exists only over HTTP: make the client WithEndpoints(\"http://HOST:PORT\") beside the tcp:// one", e.Action)
}
