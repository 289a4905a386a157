package accesstest

import (
	"context"
	"sync"
	"time"

	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/cmq"
)

var _ access.Starter = (*Fake)(nil)

// started is a call of the Fake in a goroutine.
type started[T any] struct {
	mu       sync.Mutex
	answered bool
	cancel   context.CancelFunc
	done     func(T, error)
}

// start runs call; late gets what comes when the caller has cancelled.
func start[T any](call func(context.Context) (T, error), done func(T, error), late func(T)) cmq.Pending {
	ctx, cancel := context.WithCancel(context.Background())
	s := &started[T]{cancel: cancel, done: done}
	go func() {
		defer cancel()
		if value, err := call(ctx); s.settle() {
			done(value, err)
		} else if err == nil {
			late(value)
		}
	}()
	return s
}

func (s *started[T]) settle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := !s.answered
	s.answered = true
	return first
}

// Cancel implements cmq.Pending.
func (s *started[T]) Cancel() {
	s.cancel()
	if s.settle() {
		var nothing T
		s.done(nothing, context.Canceled)
	}
}

// StartSend is Send.
func (f *Fake) StartSend(owner, name string, bodies [][]byte, delay time.Duration, done func([]cmq.MsgID, error)) cmq.Pending {
	return start(func(ctx context.Context) ([]cmq.MsgID, error) { return f.Send(ctx, owner, name, bodies, delay) }, done, func([]cmq.MsgID) {})
}

// StartOpenSession is OpenSession.
func (f *Fake) StartOpenSession(owner, name string, id uint64, done func(uint64, error)) cmq.Pending {
	return start(func(ctx context.Context) (uint64, error) { return f.OpenSession(ctx, owner, name, id) }, done, func(uint64) {})
}

// StartSendOnce is SendOnce.
func (f *Fake) StartSendOnce(owner, name string, bodies [][]byte, delay time.Duration, session cmq.Session, done func([]cmq.MsgID, error)) cmq.Pending {
	return start(func(ctx context.Context) ([]cmq.MsgID, error) {
		return f.SendOnce(ctx, owner, name, bodies, delay, session)
	}, done, func([]cmq.MsgID) {})
}

// StartReceive is Receive.
func (f *Fake) StartReceive(owner, name string, max int, wait *time.Duration, lock time.Duration, done func([]cmq.Message, error)) cmq.Pending {
	return start(func(ctx context.Context) ([]cmq.Message, error) { return f.Receive(ctx, owner, name, max, wait, lock) }, done,
		func(messages []cmq.Message) {
			var handles []cmq.Handle
			for i := range messages {
				handles = append(handles, messages[i].Handle)
			}
			f.Release(context.Background(), owner, name, handles)
		})
}

// StartDelete is Delete.
func (f *Fake) StartDelete(owner, name string, handles []cmq.Handle, done func([]*cmq.Error, error)) cmq.Pending {
	return start(func(ctx context.Context) ([]*cmq.Error, error) { return f.Delete(ctx, owner, name, handles) }, done, func([]*cmq.Error) {})
}

// StartRelock is Relock.
func (f *Fake) StartRelock(owner, name string, handles []cmq.Handle, lock time.Duration, done func([]*cmq.Error, error)) cmq.Pending {
	return start(func(ctx context.Context) ([]*cmq.Error, error) { return f.Relock(ctx, owner, name, handles, lock) }, done, func([]*cmq.Error) {})
}

// StartPrepare is Prepare.
func (f *Fake) StartPrepare(owner, name string, bodies [][]byte, interval time.Duration, conn uint64, done func([]cmq.MsgID, error)) cmq.Pending {
	return start(func(ctx context.Context) ([]cmq.MsgID, error) {
		return f.Prepare(ctx, owner, name, bodies, interval, conn)
	}, done, func([]cmq.MsgID) {})
}

// StartConfirm is Confirm.
func (f *Fake) StartConfirm(owner, name string, decisions []cmq.Decision, done func([]*cmq.Error, error)) cmq.Pending {
	return start(func(ctx context.Context) ([]*cmq.Error, error) { return f.Confirm(ctx, owner, name, decisions) }, done, func([]*cmq.Error) {})
}

// StartRelease is Release.
func (f *Fake) StartRelease(owner, name string, handles []cmq.Handle, done func(error)) cmq.Pending {
	return start(func(ctx context.Context) (struct{}, error) { return struct{}{}, f.Release(ctx, owner, name, handles) },
		func(_ struct{}, err error) { done(err) }, func(struct{}) {})
}

// StartPublish is Publish.
func (f *Fake) StartPublish(owner, topic string, bodies [][]byte, publication cmq.Publication, done func([]cmq.MsgID, error)) cmq.Pending {
	return start(func(ctx context.Context) ([]cmq.MsgID, error) {
		return f.Publish(ctx, owner, topic, bodies, publication)
	}, done, func([]cmq.MsgID) {})
}
