package link

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencmq/cmq/client/internal/wire"
)

// Call is one request and its answer. It is made by NewCall, and may be used again when Do has returned, or when Done was
// called.
type Call struct {
	Request wire.Request
	Answer  wire.Answer

	// Done is called once for a call that was begun with Start, by the reader of the connection or another goroutine of
	// it. Until it returns no other answer of the connection is looked at, so it must not wait; it may start calls.
	Done func(call *Call, err error)

	done     chan struct{} // gets one value when err and Answer are set, if somebody waits in Do
	started  bool          // nobody waits: Done is called instead
	watch    *watch        // of the context of a started call under way; nil: it has no end
	err      error
	end      uint64        // where its frame ends in the stream of the connection
	begun    time.Duration // since the connection was made
	deadline time.Duration // since the connection was made
}

// NewCall makes an empty one.
func NewCall() *Call { return &Call{done: make(chan struct{}, 1)} }

// finish hands the call, with err and Answer set, to whom it concerns. It must not be touched afterwards.
func (call *Call) finish() {
	if !call.started {
		call.done <- struct{}{}
		return
	}
	call.Done(call, call.err)
}

// Error says that a call got no answer.
type Error struct {
	Addr string
	Sent bool // false: the request certainly was not carried out
	Err  error
}

// Error names the address.
func (e *Error) Error() string { return fmt.Sprintf("%s: %v", e.Addr, e.Err) }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Refused is a server's answer to the credentials.
type Refused struct {
	Addr string
	Code int32 // module code
	Text string
}

// Error gives code and text.
func (e *Refused) Error() string {
	return fmt.Sprintf("%s does not let the client in: %s (module %d)", e.Addr, e.Text, e.Code)
}

// Causes that an Error wraps.
var (
	ErrTimeout       = fmt.Errorf("no answer in time: %w", context.DeadlineExceeded)
	ErrClosed        = errors.New("the client is closed")
	ErrNotAuthorized = errors.New("the server does not know this connection any more (306)")
	ErrSilent        = errors.New("nothing was heard from the server")
	ErrEnded         = errors.New("the server closed the connection")
)
