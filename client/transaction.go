package client

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/opencmq/cmq/client/internal/link"
	"github.com/opencmq/cmq/client/internal/wire"
)

// State is what becomes of a prepared message.
type State int

// The states. The zero value decides nothing.
const (
	Undecided State = iota // the service asks again later
	Commit                 // consumers can receive it from now on
	Rollback               // it is gone
)

// String is the state in one word.
func (s State) String() string {
	switch s {
	case Commit:
		return "commit"
	case Rollback:
		return "rollback"
	}
	return "undecided"
}

// Decision is what becomes of one prepared message.
type Decision struct {
	ID    string // message id
	State State
}

// Checker tells what became of the local transaction that belongs to a prepared message. The service asks when it has
// had no decision for a while: because the producer crashed, or its confirmation was lost. Undecided lets it ask again
// later, up to the queue's MaxQueryCount. ctx ends when the Client is closed.
type Checker func(ctx context.Context, queue, msgID string) State

// WithChecker answers the service's questions about prepared messages of a queue. It is asked on a connection over
// which this Client has sent prepared messages to the queue; whoever prepares messages should have a checker that
// knows the outcome after a restart of the program too.
func WithChecker(queue string, check Checker) Option {
	return func(c *Client) error {
		if c.settings.checkers == nil {
			c.settings.checkers = make(map[string]Checker)
		}
		c.settings.checkers[queue] = check
		return nil
	}
}

// SendPrepared stores one message that nobody can receive before it is committed with Confirm. firstQuery is when the
// service asks the Checker if it has not heard from Confirm by then, in whole seconds; 0: as the queue is set. The
// queue must be Transactional, see Settings, or the refusal is ErrTransaction. Only over TCP.
func (q *Queue) SendPrepared(ctx context.Context, body string, firstQuery time.Duration) (string, error) {
	return q.send(ctx, body, &sendOptions{prepared: true, firstQuery: firstQuery})
}

// BatchSendPrepared is SendPrepared of 1 to MaxBatch messages, all or none.
func (q *Queue) BatchSendPrepared(ctx context.Context, bodies []string, firstQuery time.Duration) ([]string, error) {
	return q.batchSend(ctx, bodies, &sendOptions{prepared: true, firstQuery: firstQuery})
}

// Confirm commits or rolls back prepared messages; those that are Undecided are left out. A *ConfirmError lists messages
// that could not be confirmed, with ErrNotPrepared those that are not there or were decided before. Repeating a Confirm
// does no harm: after one of unknown outcome ErrNotPrepared is what to expect. Over HTTP, where it is an extension of cmq,
// commits go first, and a *TransportError or other refusal leaves the rest undecided.
//
// Anybody may confirm, not only who sent: see PreparedMessages.
func (q *Queue) Confirm(ctx context.Context, decisions ...Decision) error {
	ctx, op := q.begin(ctx, OpSettle, len(decisions))
	err := q.c.carrier.confirm(ctx, q.name, decisions)
	op.end(ctx, err)
	return err
}

// ConfirmError is returned by Confirm when some messages could not be confirmed. The others were.
type ConfirmError struct {
	Failed []UnconfirmedMessage
}

// UnconfirmedMessage says why one message was not confirmed.
type UnconfirmedMessage struct {
	ID  string
	Err *Error
}

// Error says how many and why the first.
func (e *ConfirmError) Error() string {
	return fmt.Sprintf("%d messages not confirmed, the first (%s): %v", len(e.Failed), e.Failed[0].ID, e.Failed[0].Err)
}

// Unwrap gives the refusals of the single messages.
func (e *ConfirmError) Unwrap() (errs []error) {
	for _, f := range e.Failed {
		errs = append(errs, f.Err)
	}
	return errs
}

// wire is the number of a decided state in the protocol.
func (s State) wire() (state wire.State, decided bool) {
	switch s {
	case Commit:
		return wire.Commit, true
	case Rollback:
		return wire.Rollback, true
	}
	return 0, false
}

func (t *tcpCarrier) confirm(ctx context.Context, queue string, decisions []Decision) error {
	call := t.call(wire.Confirm, queue)
	defer t.put(call)
	for _, d := range decisions {
		id, err := strconv.ParseUint(d.ID, 10, 64)
		if err != nil {
			return fmt.Errorf("message id %q is not a number", d.ID)
		}
		if state, decided := d.State.wire(); decided {
			call.Request.Decisions = append(call.Request.Decisions, wire.Decision{ID: id, State: state})
		}
	}
	if len(call.Request.Decisions) == 0 {
		return nil
	}
	err := t.do(ctx, "Confirm", call, 0, onlyUnsent)
	var refused *Error
	if err != nil && !errors.As(err, &refused) {
		return err
	}
	failed := &ConfirmError{}
	for _, d := range call.Answer.Decisions {
		if d.Code != 0 {
			failed.Failed = append(failed.Failed, UnconfirmedMessage{strconv.FormatUint(d.ID, 10), refusal("Confirm", d.Code, d.Text)})
		}
	}
	if len(failed.Failed) > 0 {
		return failed
	}
	return err
}

// maxChecks is how many questions are answered at once. More are not: the service asks again.
const maxChecks = 64

// checks answers the service's questions.
type checks struct {
	t      *tcpCarrier
	ctx    context.Context // ends with close
	cancel context.CancelFunc

	mu      sync.Mutex
	running int
	closed  bool
	work    sync.WaitGroup
}

func (k *checks) init(t *tcpCarrier) {
	k.t = t
	k.ctx, k.cancel = context.WithCancel(context.Background())
}

func (k *checks) close() {
	k.mu.Lock()
	k.closed = true
	k.mu.Unlock()
	k.cancel()
	k.work.Wait()
}

// asked runs on the reader of a connection: it starts the checker and does not wait for it.
func (k *checks) asked(conn *link.Conn, queue string, id uint64) {
	check := k.t.c.settings.checkers[queue]
	if check == nil {
		k.t.c.log.Warn("the service asks about a prepared message, but there is no checker for its queue", "queue", queue, "msg_id", id)
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed || k.running == maxChecks {
		return
	}
	k.running++
	k.work.Go(func() {
		defer k.leave()
		k.answer(conn, check, queue, id)
	})
}

func (k *checks) leave() {
	k.mu.Lock()
	k.running--
	k.mu.Unlock()
}

// answer asks the checker and confirms on the connection that the question came over. A checker that panics decides
// nothing.
func (k *checks) answer(conn *link.Conn, check Checker, queue string, id uint64) {
	defer func() {
		if r := recover(); r != nil {
			k.t.c.log.Error("a checker panicked; the service will ask again", "queue", queue, "msg_id", id, "panic", r)
		}
	}()
	state, decided := check(k.ctx, queue, strconv.FormatUint(id, 10)).wire()
	if !decided {
		return
	}
	call := k.t.call(wire.Confirm, queue)
	defer k.t.put(call)
	call.Request.Decisions = append(call.Request.Decisions, wire.Decision{ID: id, State: state})
	if err := conn.Do(k.ctx, call, k.t.c.timeout); err != nil {
		k.t.c.log.Warn("a confirmation was not answered; the service will ask again", "queue", queue, "msg_id", id, "error", err)
	}
}
