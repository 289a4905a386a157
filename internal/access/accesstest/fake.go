// Package accesstest has a small complete Backend in memory, for tests of doors. It keeps every message for
// ever and walks over all of them at each call; only its answers resemble the real server's.
package accesstest

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/clock"
	"github.com/opencmq/cmq/internal/cmq"
)

var _ access.Backend = (*Fake)(nil)

// Fake is a Backend in memory. The exported fields are set before it is used.
type Fake struct {
	Clock  clock.Clock
	Limits cmq.Limits
	Routes []string // what QueueRoute answers

	// Fail, if it is not nil, may make a call fail before anything is done.
	Fail func(action access.Action) error

	// Released gets what Release is given, if it is not nil.
	Released chan []cmq.Handle

	// Waiting gets the name of the queue when a poll begins to wait, if it is not nil; Cancelled when the poll's
	// context ended before a message came.
	Waiting   chan string
	Cancelled chan string

	// Received runs after a poll has taken messages and before Receive returns, if it is not nil.
	Received func()

	mu      sync.Mutex
	queues  []*queue // in order of creation
	topics  []*topic // in order of creation
	lastID  uint64
	agents  map[string]map[uint64]bool // cmq.AgentGroup → members that are there
	changed chan struct{}              // closed and replaced when messages arrive
}

type queue struct {
	cmq.Queue
	messages []*message // in order of sending
	sessions map[uint64]*session
}

// session remembers everything it has sent.
type session struct {
	epoch uint64
	sent  map[uint64][]cmq.MsgID
}

type message struct {
	cmq.Message
	due      time.Time // not delivered before
	prepared bool      // not delivered, whatever due says
	queries  int
	ask      time.Time // about a prepared one
	interval time.Duration
	origin   cmq.Origin
	locked   bool // until NextVisible
	deleted  bool
}

// New makes a Fake with the published limits and no queues.
func New(c clock.Clock) *Fake {
	return &Fake{Clock: c, Limits: cmq.DefaultLimits(), Routes: []string{"127.0.0.1:7671"}, changed: make(chan struct{}), agents: make(map[string]map[uint64]bool)}
}

func (f *Fake) enter(action access.Action) error {
	f.mu.Lock()
	if f.Fail != nil {
		return f.Fail(action)
	}
	return nil
}

func (f *Fake) find(owner, name string) (*queue, error) {
	for _, q := range f.queues {
		if q.Owner == owner && cmq.FoldName(q.Name) == cmq.FoldName(name) {
			return q, nil
		}
	}
	return nil, cmq.ErrQueueNotExist
}

// CreateQueue makes a queue.
func (f *Fake) CreateQueue(_ context.Context, owner, name string, s cmq.QueueSettings) (cmq.QueueID, error) {
	err := f.enter(access.CreateQueue)
	defer f.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if _, err := f.find(owner, name); err == nil {
		return 0, cmq.ErrQueueExists
	}
	if len(f.queues) >= f.Limits.QueuesPerOwner {
		return 0, cmq.ErrQueueLimit
	}
	f.lastID++
	now := f.Clock.Now()
	q := &queue{Queue: cmq.Queue{ID: cmq.QueueID(f.lastID), Name: name, Owner: owner, Attributes: cmq.DefaultQueueAttributes(), Created: now}}
	if err := f.set(q, s); err != nil {
		return 0, err
	}
	f.queues = append(f.queues, q)
	return q.ID, nil
}

func (f *Fake) set(q *queue, s cmq.QueueSettings) error {
	var dead cmq.QueueID
	if s.DeadLetter != nil {
		target, err := f.find(q.Owner, s.DeadLetter.Queue)
		switch {
		case err != nil:
			return cmq.ErrDeadLetterNotExist
		case target.Attributes.DeadLetter.Queue != 0 || target.ID == q.ID || len(f.sources(q.ID)) > 0:
			return cmq.ErrDeadLetterNest
		case q.Attributes.DeadLetter.Queue != target.ID && len(f.sources(target.ID)) >= f.Limits.SourcesPerDeadLetterQueue:
			return cmq.ErrDeadLetterBinds
		}
		dead = target.ID
		q.DeadLetterName = target.Name
	}
	a, refusal := s.Apply(q.Attributes, dead)
	if refusal != nil {
		return refusal
	}
	q.Attributes, q.Modified = a, f.Clock.Now()
	return nil
}

func (f *Fake) sources(dead cmq.QueueID) (list []*cmq.Queue) {
	for _, q := range f.queues {
		if q.Attributes.DeadLetter.Queue == dead {
			list = append(list, &q.Queue)
		}
	}
	return list
}

// ListQueues lists queues.
func (f *Fake) ListQueues(_ context.Context, owner, search string, offset, limit int) (int, []*cmq.Queue, error) {
	err := f.enter(access.ListQueue)
	defer f.mu.Unlock()
	if err != nil {
		return 0, nil, err
	}
	var all []*cmq.Queue
	for _, q := range f.queues {
		if q.Owner == owner {
			all = append(all, &q.Queue)
		}
	}
	total, page := page(all, queueName, search, offset, limit)
	return total, page, nil
}

func queueName(q *cmq.Queue) string { return q.Name }

func page[T any](all []T, name func(T) string, search string, offset, limit int) (int, []T) {
	all = slices.DeleteFunc(all, func(v T) bool { return !strings.Contains(cmq.FoldName(name(v)), cmq.FoldName(search)) })
	from := min(offset, len(all))
	return len(all), all[from:min(from+limit, len(all))]
}

// QueueAttributes gives a queue and its counters.
func (f *Fake) QueueAttributes(_ context.Context, owner, name string) (*cmq.Queue, cmq.ShardStatus, error) {
	err := f.enter(access.GetQueueAttributes)
	defer f.mu.Unlock()
	if err != nil {
		return nil, cmq.ShardStatus{}, err
	}
	q, err := f.find(owner, name)
	if err != nil {
		return nil, cmq.ShardStatus{}, err
	}
	copied := q.Queue
	return &copied, f.status(q), nil
}

func (f *Fake) status(q *queue) cmq.ShardStatus {
	now := f.Clock.Now()
	s := cmq.ShardStatus{Now: now, MinMsgTime: now}
	for _, m := range q.messages {
		switch {
		case m.deleted && q.Attributes.Rewind > 0:
			s.Rewindable++
			continue
		case m.deleted:
			continue
		case m.prepared:
			s.Prepared++
			if m.queries >= q.Attributes.Transaction.MaxQueryCount && !m.ask.After(now) {
				s.Undecided++
			}
			continue
		case m.due.After(now):
			s.Delayed++
		case m.locked && m.NextVisible.After(now):
			s.Inactive++
		default:
			s.Active++
		}
		if m.Enqueued.Before(s.MinMsgTime) {
			s.MinMsgTime = m.Enqueued
		}
	}
	return s
}

// SetQueueAttributes changes a queue.
func (f *Fake) SetQueueAttributes(_ context.Context, owner, name string, s cmq.QueueSettings) (*cmq.Queue, error) {
	err := f.enter(access.SetQueueAttributes)
	defer f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	q, err := f.find(owner, name)
	if err != nil {
		return nil, err
	}
	if err := f.set(q, s); err != nil {
		return nil, err
	}
	copied := q.Queue
	return &copied, nil
}

// DeleteQueue removes a queue.
func (f *Fake) DeleteQueue(_ context.Context, owner, name string) error {
	return f.on(access.DeleteQueue, owner, name, func(q *queue) error {
		if len(f.sources(q.ID)) > 0 {
			return cmq.ErrDeadLetterInUse
		}
		f.queues = slices.DeleteFunc(f.queues, func(other *queue) bool { return other == q })
		return nil
	})
}

func (f *Fake) on(action access.Action, owner, name string, do func(*queue) error) error {
	err := f.enter(action)
	defer f.mu.Unlock()
	if err != nil {
		return err
	}
	q, err := f.find(owner, name)
	if err != nil {
		return err
	}
	return do(q)
}

// RewindQueue makes deleted messages active again.
func (f *Fake) RewindQueue(_ context.Context, owner, name string, from time.Time) error {
	return f.on(access.RewindQueue, owner, name, func(q *queue) error {
		s := f.status(q)
		switch {
		case q.Attributes.Rewind == 0:
			return cmq.ErrNotRewindable
		case from.Before(s.Now.Add(-q.Attributes.Rewind)) || from.After(s.MinMsgTime):
			return cmq.ErrRewindTime
		}
		for _, m := range q.messages {
			if m.deleted && !m.Enqueued.Before(from) {
				m.deleted, m.locked, m.DequeueCount = false, false, 0
			}
		}
		f.wake()
		return nil
	})
}

// ClearQueue removes all messages.
func (f *Fake) ClearQueue(_ context.Context, owner, name string) error {
	return f.on(access.ClearQueue, owner, name, func(q *queue) error {
		q.messages = nil
		return nil
	})
}

// DeadLetterSources lists the queues bound to one.
func (f *Fake) DeadLetterSources(_ context.Context, owner, name, search string, offset, limit int) (total int, list []*cmq.Queue, err error) {
	err = f.on(access.ListDeadLetterSourceQueues, owner, name, func(q *queue) error {
		total, list = page(f.sources(q.ID), queueName, search, offset, limit)
		return nil
	})
	return total, list, err
}

// UnbindDeadLetter clears a policy.
func (f *Fake) UnbindDeadLetter(_ context.Context, owner, name string) error {
	return f.on(access.UnbindDeadLetterQueue, owner, name, func(q *queue) error {
		if q.Attributes.DeadLetter.Queue == 0 {
			return cmq.ErrDeadLetterNotExist
		}
		q.Attributes.DeadLetter = cmq.DeadLetterPolicy{}
		return nil
	})
}

// QueueRoute gives Routes.
func (f *Fake) QueueRoute(_ context.Context, owner, name string) ([]string, error) {
	return f.Routes, f.on(access.QueryQueueRoute, owner, name, func(*queue) error { return nil })
}
