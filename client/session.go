package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"

	"github.com/opencmq/cmq/client/internal/wire"
)

// maxUnanswered is how many requests of a session may be under way: the service keeps the answers to 1,024, and those that
// overtake each other need some room.
const maxUnanswered = 512

// session is a producer session: its requests have numbers, by which the service knows one that it has carried out.
//
// A number is used for one request and all its repetitions. When the session is lost, because the service has forgotten it,
// a new one is opened for later requests; nobody knows then what became of those under way.
type session struct {
	q *Queue

	opening chan struct{} // has room for the one who opens

	mu      sync.Mutex
	id      uint64              // random
	epoch   uint64              // 0: not open
	last    uint64              // the newest number
	pending map[uint64]struct{} // numbers without an answer
}

func newSession(q *Queue) *session {
	return &session{q: q, opening: make(chan struct{}, 1), pending: make(map[uint64]struct{})}
}

// next gives the stamp of a new request. It opens the session if need be, which one caller does for all.
func (s *session) next(ctx context.Context) (*wire.Session, error) {
	select {
	case s.opening <- struct{}{}:
		defer func() { <-s.opening }()
	case <-ctx.Done():
		return nil, ErrClosed
	}
	s.mu.Lock()
	open := s.epoch != 0
	s.mu.Unlock()
	if !open {
		id := max(rand.Uint64(), 1) // 0 is none
		epoch, err := s.q.c.carrier.openSession(ctx, s.q.name, id)
		if err != nil {
			return nil, &TransportError{Endpoint: "tcp", Action: "SendMessage", Err: err} // the send was not made
		}
		s.mu.Lock()
		s.id, s.epoch, s.last = id, epoch, 0
		clear(s.pending)
		s.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	s.pending[s.last] = struct{}{}
	return &wire.Session{ID: s.id, Epoch: s.epoch, Number: s.last, Acked: s.ackedLocked()}, nil
}

// ackedLocked is the lowest number without an answer: the answers to all below have come.
func (s *session) ackedLocked() uint64 {
	lowest := s.last
	for n := range s.pending {
		lowest = min(lowest, n)
	}
	return lowest
}

// done notes that a request is repeated no more.
func (s *session) done(of *wire.Session, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if of.ID != s.id {
		return
	}
	delete(s.pending, of.Number)
	if sessionLost(err) {
		s.epoch = 0
	}
}

// sessionLost reports whether the service has forgotten the session, or what it stored for the request.
func sessionLost(err error) bool {
	return errors.Is(err, ErrSession) || errors.Is(err, ErrRequestOld)
}
