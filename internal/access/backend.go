package access

import (
	"context"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// Backend carries out the actions of the API for an account (owner). Names have passed cmq.ValidName and numbers
// their ranges in cmq.Limits. A refusal that the client caused is a *cmq.Error (found with errors.As); every
// other error is a failure of the server, which the client sees as "failed". Calls end when ctx does.
//
// All methods that name a queue refuse with ErrQueueNotExist when the owner has no such queue.
type Backend interface {
	Topics
	Agents

	// CreateQueue refuses with ErrQueueExists, ErrQueueLimit, ErrQueueNameBusy, ErrRewindRetention and the
	// dead-letter errors 10730, 10740 and 10780.
	CreateQueue(ctx context.Context, owner, name string, settings cmq.QueueSettings) (cmq.QueueID, error)

	// ListQueues gives the owner's queues whose name contains search (any, if it is empty), in order of
	// creation, then of name: total counts all of them, the list is the part [offset, offset+limit).
	ListQueues(ctx context.Context, owner, search string, offset, limit int) (total int, queues []*cmq.Queue, err error)

	// QueueAttributes gives the queue, its DeadLetterName filled in, and the sum of its shards' counters.
	QueueAttributes(ctx context.Context, owner, name string) (*cmq.Queue, cmq.ShardStatus, error)

	// SetQueueAttributes changes what settings gives and returns the queue after it, its DeadLetterName filled
	// in. It refuses like CreateQueue.
	SetQueueAttributes(ctx context.Context, owner, name string, settings cmq.QueueSettings) (*cmq.Queue, error)

	// DeleteQueue refuses with ErrDeadLetterInUse while the queue is some queue's dead-letter queue.
	DeleteQueue(ctx context.Context, owner, name string) error

	// RewindQueue refuses with ErrNotRewindable and ErrRewindTime.
	RewindQueue(ctx context.Context, owner, name string, from time.Time) error

	ClearQueue(ctx context.Context, owner, name string) error

	// DeadLetterSources lists the queues whose dead-letter queue is the named one; the rest as ListQueues.
	DeadLetterSources(ctx context.Context, owner, name, search string, offset, limit int) (total int, queues []*cmq.Queue, err error)

	// UnbindDeadLetter clears the dead-letter policy of the named (source) queue; it refuses with
	// ErrDeadLetterNotExist if it has none.
	UnbindDeadLetter(ctx context.Context, owner, name string) error

	// QueueRoute gives the "host:port" addresses of the TCP door for the queue.
	QueueRoute(ctx context.Context, owner, name string) ([]string, error)

	// Send stores all bodies or none and gives their ids in order. It may keep the bodies. It refuses with
	// ErrMsgSize if a body exceeds the queue's MaxMsgSize, ErrHeapFull, ErrTooMany and ErrDiskFull.
	Send(ctx context.Context, owner, name string, bodies [][]byte, delay time.Duration) ([]cmq.MsgID, error)

	// OpenSession begins a producer session at the queue, or takes over the one with this id, which is not 0, and gives its
	// epoch.
	OpenSession(ctx context.Context, owner, name string, id uint64) (epoch uint64, err error)

	// SendOnce is Send in a session: a request that is repeated with the same number is stored once and answered with the
	// same ids. It also refuses with ErrSession and ErrRequestOld, after which nobody knows whether it was stored.
	SendOnce(ctx context.Context, owner, name string, bodies [][]byte, delay time.Duration, session cmq.Session) ([]cmq.MsgID, error)

	// Prepare is Send for messages that nobody receives before they are committed. Who sent them is asked about them after
	// interval, or the queue's FirstQueryInterval if that is 0; conn is its connection's number (see Producers). It refuses
	// like Send, and with ErrTransaction if the queue is not transactional.
	Prepare(ctx context.Context, owner, name string, bodies [][]byte, interval time.Duration, conn uint64) ([]cmq.MsgID, error)

	// Confirm commits and rolls back prepared messages. It gives one error per decision, in order: nil, ErrNotPrepared
	// (unknown, or decided before), or ErrTransaction if the queue is not transactional.
	Confirm(ctx context.Context, owner, name string, decisions []cmq.Decision) ([]*cmq.Error, error)

	// Prepared lists up to most prepared messages with ids above after, ascending: all, or only those nobody is asked about
	// any more. Fewer than most: there are no others.
	Prepared(ctx context.Context, owner, name string, undecided bool, after cmq.MsgID, most int) ([]cmq.Prepared, error)

	// Queries waits for at most wait until producers of the queue are to be asked about prepared messages, and gives up to
	// about most such questions, which whoever called passes on; none when the time is up.
	Queries(ctx context.Context, owner, name string, most int, wait time.Duration) ([]cmq.Query, error)

	// Receive gives up to max messages as soon as there is one, after waiting for at most *wait, or the queue's
	// PollingWait if wait is nil, and locks them for lock, or the queue's VisibilityTimeout if that is 0. No message in
	// that time: an empty list, or ErrNoMessage. It refuses with ErrTooMany and ErrDiskFull.
	Receive(ctx context.Context, owner, name string, max int, wait *time.Duration, lock time.Duration) ([]cmq.Message, error)

	// Delete gives one error per handle (there may be none), in order; nil means deleted, otherwise
	// ErrHandleInvalid.
	Delete(ctx context.Context, owner, name string, handles []cmq.Handle) ([]*cmq.Error, error)

	// Relock changes when the locks of deliveries end: lock from now, at once if it is 0; that delivery counts, and the
	// message can be received again. It gives one error per handle, like Delete.
	Relock(ctx context.Context, owner, name string, handles []cmq.Handle, lock time.Duration) ([]*cmq.Error, error)

	// Release undoes receives whose answer nobody got: the messages are active again and the receives do not
	// count. Handles that are not valid (any more) are passed over.
	Release(ctx context.Context, owner, name string, handles []cmq.Handle) error
}

// Starter is what a door with many requests on one connection asks: as Backend, but without a goroutine that waits for
// each answer. done gets it, see cmq.Pending; messages that a cancelled receive gets all the same are released.
type Starter interface {
	StartSend(owner, name string, bodies [][]byte, delay time.Duration, done func([]cmq.MsgID, error)) cmq.Pending
	StartOpenSession(owner, name string, id uint64, done func(epoch uint64, err error)) cmq.Pending
	StartSendOnce(owner, name string, bodies [][]byte, delay time.Duration, session cmq.Session, done func([]cmq.MsgID, error)) cmq.Pending
	StartReceive(owner, name string, max int, wait *time.Duration, lock time.Duration, done func([]cmq.Message, error)) cmq.Pending
	StartDelete(owner, name string, handles []cmq.Handle, done func([]*cmq.Error, error)) cmq.Pending
	StartRelock(owner, name string, handles []cmq.Handle, lock time.Duration, done func([]*cmq.Error, error)) cmq.Pending
	StartPrepare(owner, name string, bodies [][]byte, interval time.Duration, conn uint64, done func([]cmq.MsgID, error)) cmq.Pending
	StartConfirm(owner, name string, decisions []cmq.Decision, done func([]*cmq.Error, error)) cmq.Pending
	StartRelease(owner, name string, handles []cmq.Handle, done func(error)) cmq.Pending
	StartPublish(owner, topic string, bodies [][]byte, publication cmq.Publication, done func([]cmq.MsgID, error)) cmq.Pending
}
