package client

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Error is a refusal by the service.
type Error struct {
	Code      int    // the JSON field "code"
	Module    int    // the number in parentheses at the start of "message"; 0 if there was none
	Message   string // "message" without that number
	RequestID string // empty in the Err values below
	Action    string // the action that was refused; empty in the Err values below
}

// Error gives action, text, both numbers and the request id.
func (e *Error) Error() string {
	s := fmt.Sprintf("%s (code %d, module %d", e.Message, e.Code, e.Module)
	if e.RequestID != "" {
		s += ", request " + e.RequestID
	}
	s += ")"
	if e.Action != "" {
		s = e.Action + ": " + s
	}
	return s
}

// Is reports whether target is the same refusal: code and module are equal.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && t.Module == e.Module
}

// Refusals that programs often tell apart; compare with errors.Is.
var (
	ErrNoMessage     = &Error{Code: 7000, Module: 10200, Message: "no message"}
	ErrQueueNotExist = &Error{Code: 4440, Module: 10100, Message: "queue is not existed, or deleted"}
	ErrQueueExists   = &Error{Code: 4460, Module: 10210, Message: "queue is already existed"}
	ErrHandleInvalid = &Error{Code: 4430, Module: 10260, Message: "receipt handle is invalid"}
	ErrHeapFull      = &Error{Code: 4410, Module: 10240, Message: "reach maximum retention number of message"}
	ErrTopicNotExist = &Error{Code: 4440, Module: 10600, Message: "topic is not existed, or deleted"}
	ErrTopicExists   = &Error{Code: 4460, Module: 10550, Message: "topic is already existed"}
	ErrTopicInUse    = &Error{Code: 4000, Module: 10540, Message: "there exists subscriptions under this topic, please unsubscribe all of them before DeleteTopic"}
	ErrSubscribed    = &Error{Code: 4490, Module: 10470, Message: "subscribtion is already existed"}
	ErrNotSubscribed = &Error{Code: 4000, Module: 10560, Message: "subscription is not existed"}
	ErrEndpoint      = &Error{Code: 4000, Module: 10630, Message: "illegal endpoint"}
	ErrNobody        = &Error{Code: 6030, Module: 10650, Message: "topic has no subscription, please create a subscription before publishing message"}
	ErrNotPrepared   = &Error{Code: 4490, Module: 10770, Message: "message id is invalid"}
	ErrTransaction   = &Error{Code: 4490, Module: 10790, Message: "transaction message is not supported"}
	ErrSession       = &Error{Code: 6000, Module: 10840, Message: "the producer session does not exist any more, the outcome of its requests is unknown"}
	ErrRequestOld    = &Error{Code: 6000, Module: 10850, Message: "the request is too old for its producer session, its outcome is unknown"}
	ErrNoMatch       = &Error{Code: 6030, Module: 10730, Message: "no bindingKey or filterTag matches the routingKey or msgTag"}
	ErrMsgSize       = &Error{Code: 4400, Module: 10230, Message: "exceed maximum message size"}
	ErrTooMany       = &Error{Code: 6070, Module: 10690, Message: "too many unacked(inactive) messages or delayed messages"}
	ErrDiskFull      = &Error{Code: 6080, Module: 10800, Message: "the disks of the server are full, please try later"}
	ErrSignature     = &Error{Code: 4100, Module: 10030, Message: "authentication failed"}
	ErrKeyUnknown    = &Error{Code: 4100, Module: 10270, Message: "secret id is not existed"}
	ErrThrottled     = &Error{Code: 4420, Module: 10250, Message: "qps throttling"}
	ErrFrequency     = &Error{Code: 4480, Module: 10460, Message: "exceed interface frequency limit, please slow down"}
)

// newError splits "(10200)no message" into number and text.
func newError(action string, code int, message, requestID string) *Error {
	e := &Error{Code: code, Message: message, RequestID: requestID, Action: action}
	if rest, ok := strings.CutPrefix(message, "("); ok {
		if num, text, ok := strings.Cut(rest, ")"); ok {
			if n, err := strconv.Atoi(num); err == nil {
				e.Module, e.Message = n, strings.TrimSpace(text)
			}
		}
	}
	return e
}

// HandleError says why one receipt handle of a batch was refused.
type HandleError struct {
	Handle string
	Err    *Error
}

// BatchError is returned by Queue.BatchDelete when some or all handles were refused. The messages of handles
// that are not listed have been deleted.
type BatchError struct {
	Refusal *Error // of the call as a whole: partially failed or all failed
	Failed  []HandleError
}

// Error says how many were refused and why the first was.
func (e *BatchError) Error() string {
	if len(e.Failed) == 0 {
		return e.Refusal.Error()
	}
	return fmt.Sprintf("%s; %d refused, the first (handle %s): %s", e.Refusal.Error(), len(e.Failed), e.Failed[0].Handle, e.Failed[0].Err.Message)
}

// Unwrap gives the refusal of the whole call and those of the single handles.
func (e *BatchError) Unwrap() []error {
	errs := []error{e.Refusal}
	for _, f := range e.Failed {
		errs = append(errs, f.Err)
	}
	return errs
}

// TransportError says that no answer of the service was received.
type TransportError struct {
	Endpoint string
	Action   string
	Sent     bool // false: the request certainly was not carried out
	Err      error
}

// Error names the endpoint and says what is known about the request.
func (e *TransportError) Error() string {
	if e.Sent {
		return fmt.Sprintf("%s: no answer from %s (the request may have been carried out): %v", e.Action, e.Endpoint, e.Err)
	}
	return fmt.Sprintf("%s: %s cannot be reached: %v", e.Action, e.Endpoint, e.Err)
}

// Unwrap gives the cause, for example context.DeadlineExceeded.
func (e *TransportError) Unwrap() error { return e.Err }

// notSent marks an error of a Transport that happened before anything was written.
type notSent struct{ error }

func (e notSent) Unwrap() error { return e.error }

// NotSent marks err, returned by a Transport, as one that happened before any byte of the request left.
func NotSent(err error) error { return notSent{err} }

func wasSent(err error) bool {
	var n notSent
	return !errors.As(err, &n)
}
