package accesstest

import (
	"context"
	"slices"
	"time"

	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/clock"
	"github.com/opencmq/cmq/internal/cmq"
)

// Send stores messages.
func (f *Fake) Send(_ context.Context, owner, name string, bodies [][]byte, delay time.Duration) ([]cmq.MsgID, error) {
	return f.store(owner, name, bodies, func(_ *queue, m *message) { m.due = m.due.Add(delay) }, nil)
}

// OpenSession begins a session.
func (f *Fake) OpenSession(_ context.Context, owner, name string, id uint64) (epoch uint64, err error) {
	err = f.on(access.SendMessage, owner, name, func(q *queue) error {
		if q.sessions == nil {
			q.sessions = make(map[uint64]*session)
		}
		f.lastID++
		epoch = f.lastID
		q.sessions[id] = &session{epoch: epoch, sent: make(map[uint64][]cmq.MsgID)}
		return nil
	})
	return epoch, err
}

// SendOnce stores messages, each request of a session once.
func (f *Fake) SendOnce(ctx context.Context, owner, name string, bodies [][]byte, delay time.Duration, of cmq.Session) (ids []cmq.MsgID, err error) {
	var known *session
	err = f.on(access.SendMessage, owner, name, func(q *queue) error {
		if known = q.sessions[of.ID]; known == nil || known.epoch != of.Epoch {
			return cmq.ErrSession
		}
		ids = known.sent[of.Number]
		return nil
	})
	if err != nil || ids != nil {
		return ids, err
	}
	ids, err = f.Send(ctx, owner, name, bodies, delay)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		known.sent[of.Number] = ids
	}
	return ids, err
}

func (f *Fake) store(owner, name string, bodies [][]byte, set func(*queue, *message), check func(*queue) error) (ids []cmq.MsgID, err error) {
	err = f.on(access.SendMessage, owner, name, func(q *queue) error {
		if check != nil {
			if err := check(q); err != nil {
				return err
			}
		}
		for _, body := range bodies {
			if len(body) > q.Attributes.MaxMsgSize {
				return cmq.ErrMsgSize
			}
		}
		s := f.status(q)
		if s.Active+s.Inactive+s.Delayed+s.Prepared+int64(len(bodies)) > q.Attributes.MaxMsgHeapNum {
			return cmq.ErrHeapFull
		}
		for _, body := range bodies {
			f.lastID++
			m := &message{due: s.Now, Message: cmq.Message{ID: cmq.NewMsgID(1, f.lastID, 0), Body: body, Enqueued: s.Now}}
			set(q, m)
			q.messages = append(q.messages, m)
			ids = append(ids, m.ID)
		}
		f.wake()
		return nil
	})
	return ids, err
}

// Prepare stores messages that are not delivered.
func (f *Fake) Prepare(_ context.Context, owner, name string, bodies [][]byte, interval time.Duration, conn uint64) ([]cmq.MsgID, error) {
	return f.store(owner, name, bodies, func(q *queue, m *message) {
		if m.interval = interval; interval == 0 {
			m.interval = q.Attributes.Transaction.FirstQueryInterval
		}
		m.prepared, m.origin, m.ask = true, cmq.Origin{Node: Node, Conn: conn}, m.due.Add(m.interval)
	}, func(q *queue) error {
		if !q.Attributes.Transaction.On {
			return cmq.ErrTransaction
		}
		return nil
	})
}

// Node is the node all prepared messages come in at.
const Node cmq.NodeID = 1

// Confirm decides about prepared messages.
func (f *Fake) Confirm(_ context.Context, owner, name string, decisions []cmq.Decision) (errs []*cmq.Error, err error) {
	err = f.on(access.SendMessage, owner, name, func(q *queue) error {
		errs = make([]*cmq.Error, len(decisions))
		for i, d := range decisions {
			at := slices.IndexFunc(q.messages, func(m *message) bool { return m.prepared && m.ID == d.ID })
			switch {
			case at < 0 && !q.Attributes.Transaction.On:
				errs[i] = cmq.ErrTransaction
			case at < 0:
				errs[i] = cmq.ErrNotPrepared
			case d.Commit:
				m := q.messages[at]
				m.prepared, m.Enqueued = false, f.Clock.Now()
				q.messages = append(slices.Delete(q.messages, at, at+1), m)
			default:
				q.messages = slices.Delete(q.messages, at, at+1)
			}
		}
		f.wake()
		return nil
	})
	return errs, err
}

// Prepared lists prepared messages.
func (f *Fake) Prepared(_ context.Context, owner, name string, undecided bool, after cmq.MsgID, most int) (list []cmq.Prepared, err error) {
	err = f.on(access.ListPreparedMessages, owner, name, func(q *queue) error {
		for _, m := range q.messages {
			over := m.queries >= q.Attributes.Transaction.MaxQueryCount && !m.ask.After(f.Clock.Now())
			if !m.prepared || m.ID <= after || undecided && !over || len(list) == most {
				continue
			}
			p := cmq.Prepared{ID: m.ID, Bytes: len(m.Body), Sent: m.Enqueued, Queries: m.queries, Origin: m.origin}
			if !over {
				p.Next = m.ask
			}
			list = append(list, p)
		}
		return nil
	})
	return list, err
}

// Queries waits for a prepared message to come due for a query.
func (f *Fake) Queries(ctx context.Context, owner, name string, most int, wait time.Duration) ([]cmq.Query, error) {
	end := f.Clock.NewTimer(wait)
	defer end.Stop()
	for {
		var list []cmq.Query
		var next time.Time
		var changed chan struct{}
		err := f.on(access.SendMessage, owner, name, func(q *queue) error {
			list, next = f.due(q, most)
			changed = f.changed
			return nil
		})
		if err != nil || len(list) > 0 {
			return list, err
		}
		var due <-chan time.Time
		if !next.IsZero() {
			timer := f.Clock.NewTimer(next.Sub(f.Clock.Now()))
			defer timer.Stop()
			due = timer.C()
		}
		select {
		case <-changed:
		case <-due:
		case <-end.C():
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// due counts and lists the queries that are due, or says when the next one is.
func (f *Fake) due(q *queue, most int) (list []cmq.Query, next time.Time) {
	now := f.Clock.Now()
	for _, m := range q.messages {
		switch {
		case !m.prepared || m.queries >= q.Attributes.Transaction.MaxQueryCount || len(list) == most:
		case m.ask.After(now):
			if next.IsZero() || m.ask.Before(next) {
				next = m.ask
			}
		default:
			m.queries++
			m.ask = now.Add(m.interval)
			list = append(list, cmq.Query{ID: m.ID, Count: m.queries, Origin: m.origin})
		}
	}
	return list, next
}

// Die makes dead letters of the messages in the queue.
func (f *Fake) Die(owner, name string, source cmq.Source) error {
	return f.on(access.SendMessage, owner, name, func(q *queue) error {
		for _, m := range q.messages {
			m.Source = &source
		}
		return nil
	})
}

func (f *Fake) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// Receive takes messages, waiting for the first.
func (f *Fake) Receive(ctx context.Context, owner, name string, max int, wait *time.Duration, lock time.Duration) ([]cmq.Message, error) {
	var end clock.Timer
	for {
		var taken []cmq.Message
		var attribute time.Duration
		err := f.on(access.ReceiveMessage, owner, name, func(q *queue) (err error) {
			attribute = q.Attributes.PollingWait
			taken, err = f.take(q, max, lock)
			return err
		})
		f.mu.Lock()
		changed := f.changed
		f.mu.Unlock()
		if wait == nil {
			wait = &attribute
		}
		if err != nil || len(taken) > 0 || *wait == 0 {
			if len(taken) > 0 && f.Received != nil {
				f.Received()
			}
			return taken, err
		}
		if end == nil {
			end = f.Clock.NewTimer(*wait)
			defer end.Stop()
			notify(f.Waiting, name)
		}
		select {
		case <-changed:
		case <-end.C():
			return nil, cmq.ErrNoMessage
		case <-ctx.Done():
			notify(f.Cancelled, name)
			return nil, ctx.Err()
		}
	}
}

func notify(to chan string, name string) {
	if to != nil {
		to <- name
	}
}

func (f *Fake) take(q *queue, max int, lock time.Duration) (taken []cmq.Message, err error) {
	s := f.status(q)
	if lock == 0 {
		lock = q.Attributes.VisibilityTimeout
	}
	room := q.Attributes.MaxInFlight - int(s.Inactive)
	if room <= 0 && s.Active > 0 {
		return nil, cmq.ErrTooMany
	}
	max = min(max, room)
	for _, m := range q.messages {
		if len(taken) >= max {
			break
		}
		if m.deleted || m.prepared || m.due.After(s.Now) || m.locked && m.NextVisible.After(s.Now) {
			continue
		}
		f.lastID++
		if m.DequeueCount++; m.DequeueCount == 1 {
			m.FirstDequeue = s.Now
		}
		m.locked, m.Handle, m.NextVisible = true, cmq.NewHandle(0, f.lastID), s.Now.Add(lock)
		taken = append(taken, m.Message)
	}
	return taken, nil
}

// locked finds the message with a valid handle.
func (f *Fake) locked(q *queue, handle cmq.Handle) *message {
	for _, m := range q.messages {
		if m.locked && !m.deleted && m.Handle == handle && m.NextVisible.After(f.Clock.Now()) {
			return m
		}
	}
	return nil
}

// Delete deletes messages.
func (f *Fake) Delete(_ context.Context, owner, name string, handles []cmq.Handle) (errs []*cmq.Error, err error) {
	err = f.on(access.DeleteMessage, owner, name, func(q *queue) error {
		errs = make([]*cmq.Error, len(handles))
		for i, handle := range handles {
			if m := f.locked(q, handle); m != nil {
				m.deleted = true
			} else {
				errs[i] = cmq.ErrHandleInvalid
			}
		}
		return nil
	})
	return errs, err
}

// Relock changes when locks end.
func (f *Fake) Relock(_ context.Context, owner, name string, handles []cmq.Handle, lock time.Duration) (errs []*cmq.Error, err error) {
	err = f.on(access.ChangeMessageVisibility, owner, name, func(q *queue) error {
		errs = make([]*cmq.Error, len(handles))
		for i, handle := range handles {
			if m := f.locked(q, handle); m != nil {
				m.NextVisible = f.Clock.Now().Add(lock)
			} else {
				errs[i] = cmq.ErrHandleInvalid
			}
		}
		f.wake()
		return nil
	})
	return errs, err
}

// Release undoes receives.
func (f *Fake) Release(_ context.Context, owner, name string, handles []cmq.Handle) error {
	err := f.on(access.ReceiveMessage, owner, name, func(q *queue) error {
		for _, handle := range handles {
			if m := f.locked(q, handle); m != nil {
				m.locked = false
				m.DequeueCount--
			}
		}
		f.wake()
		return nil
	})
	if f.Released != nil {
		f.Released <- handles
	}
	return err
}
