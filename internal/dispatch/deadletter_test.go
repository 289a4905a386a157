package dispatch

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
)

const (
	source = cmq.ShardID(11 << 7)
	target = cmq.ShardID(22 << 7)
)

// sets is both ends of the move, as small as can be: a dead list and a queue that takes each number once.
type sets struct {
	mu      sync.Mutex
	outbox  bool     // of a subscription; otherwise dead letters of a queue
	dead    []string // numbers from base on
	base    uint64
	arrived []string
	sources []cmq.Source
	next    uint64
	set     cmq.SetID                 // of the queue if it is above 2
	room    int                       // of a bounded queue; 0: any
	overdue int                       // of the messages of an outbox
	none    bool                      // there is no dead-letter queue
	size    int                       // of the longest message that the queue takes; 0: 10
	news    chan struct{}             // nil: there are none
	fail    func(kind cmq.Kind) error // asked before each request
	after   func(kind cmq.Kind) error // asked after each request: the answer is lost
	calls   int
}

func (s *sets) do(_ context.Context, _ cmq.SetID, req *cmq.Request) (*cmq.Reply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.fail != nil {
		if err := s.fail(req.Kind); err != nil {
			return nil, err
		}
	}
	reply := s.carryOut(req)
	if s.after != nil {
		if err := s.after(req.Kind); err != nil {
			return nil, err
		}
	}
	return reply, nil
}

func (s *sets) carryOut(req *cmq.Request) *cmq.Reply {
	switch req.Kind {
	case cmq.KindDeadList:
		r := &cmq.Reply{Queue: 22, Number: s.base, Base: s.base}
		if s.none {
			r.Queue = 0
		}
		r.Overdue = min(s.overdue, len(s.dead))
		for i := range min(len(s.dead), req.Max) {
			number := s.base + uint64(i)
			r.Messages = append(r.Messages, cmq.Message{ID: cmq.MsgID(number), Body: []byte(s.dead[i]), Enqueued: time.Unix(int64(number), 0), DequeueCount: int(number)})
		}
		return r
	case cmq.KindMove:
		for i := range req.IDs {
			if s.base == req.Number+uint64(i) && len(s.dead) > 0 && int(req.Sizes[i]) == len(s.dead[0]) {
				s.arrived, s.dead, s.base = append(s.arrived, s.dead[0]), s.dead[1:], s.base+1
			}
		}
		return &cmq.Reply{Number: s.base}
	case cmq.KindTransfer:
		s.next = max(s.next, req.Base)
		for i, b := range req.Bodies {
			if req.Number+uint64(i) == s.next {
				s.arrived = append(s.arrived, string(b))
				if len(req.Sources) > 0 {
					s.sources = append(s.sources, req.Sources[i])
				}
				s.next++
			}
		}
		return &cmq.Reply{Number: s.next}
	case cmq.KindSpread:
		next, err := s.share(&req.Shares[0], req.Bodies)
		return &cmq.Reply{Numbers: []uint64{next}, Errors: []*cmq.Error{err}}
	case cmq.KindForget:
		for s.base < req.Number && len(s.dead) > 0 {
			s.dead, s.base, s.overdue = s.dead[1:], s.base+1, max(s.overdue-1, 0)
		}
		return &cmq.Reply{}
	}
	return &cmq.Reply{Err: cmq.ErrParameters}
}

// share takes what there is room for.
func (s *sets) share(share *cmq.Share, bodies [][]byte) (uint64, *cmq.Error) {
	s.next = max(s.next, share.Base)
	before := s.next
	for i, place := range share.Places {
		switch full := s.room > 0 && len(s.arrived) >= s.room; {
		case share.Number+uint64(i) != s.next:
		case full && s.next == before:
			return s.next, cmq.ErrHeapFull
		case !full:
			s.arrived, s.next = append(s.arrived, string(bodies[place])), s.next+1
		}
	}
	return s.next, nil
}

// topic is whose outbox it is, if it is one.
func (s *sets) topic() cmq.ShardID {
	if s.outbox {
		return 33 << 7
	}
	return 0
}

func (s *sets) mover(known func() bool) *Mover {
	target := func(context.Context, cmq.QueueID, cmq.ShardID) (Destination, bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return Destination{Set: max(s.set, 2), Shard: target, MaxMsgSize: cmp.Or(s.size, 10)}, known()
	}
	return NewMover(s.do, target, func() <-chan struct{} { return s.news }, slog.New(slog.DiscardHandler))
}

func always() bool { return true }

func many(n int) (out []string) {
	for i := range n {
		out = append(out, string(rune('a'+i%26)))
	}
	return out
}

func TestMovesEverythingInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sets{dead: many(100), base: 5, next: 5}
		m := s.mover(always)
		defer m.Close()
		m.Notify(1, source, s.topic())
		synctest.Wait()
		require.Equal(t, many(100), s.arrived)
		require.Empty(t, s.dead)
		for i, from := range s.sources {
			require.Equal(t, cmq.Source{Queue: source.Queue(), Enqueued: time.Unix(int64(5+i), 0), DequeueCount: 5 + i}, from)
		}
	})
}

func TestWhatWasPublishedDidNotDieAnywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sets{outbox: true, dead: many(40)}
		m := s.mover(always)
		defer m.Close()
		m.Notify(1, source, s.topic())
		synctest.Wait()
		require.Equal(t, many(40), s.arrived)
		require.Empty(t, s.sources)
	})
}

func TestEachMessageArrivesOnceWhateverFails(t *testing.T) {
	for _, kind := range []cmq.Kind{cmq.KindDeadList, cmq.KindTransfer, cmq.KindForget} {
		for _, lostAnswer := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				s := &sets{dead: many(40)}
				failures := 3
				broken := func(k cmq.Kind) error {
					if k == kind && failures > 0 {
						failures--
						return cmq.ErrUnknownOutcome
					}
					return nil
				}
				if lostAnswer {
					s.after = broken
				} else {
					s.fail = broken
				}
				m := s.mover(always)
				m.Notify(1, source, s.topic())
				synctest.Wait()
				for range 4 { // the pauses between the tries
					m.wait(t)
				}
				m.Close()
				require.Zero(t, failures)
				require.Equal(t, many(40), s.arrived)
				require.Empty(t, s.dead)
			})
		}
	}
}

// wait lets the bubble's time go on until the mover has nothing to do.
func (m *Mover) wait(t *testing.T) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		m.wg.Wait()
		close(done)
	}()
	<-done
}

func TestNoticeDuringAMoveIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sets{dead: many(1)}
		m := s.mover(always)
		again := true
		s.after = func(k cmq.Kind) error {
			if k == cmq.KindForget && again {
				again = false
				s.dead = append(s.dead, "late")
				m.Notify(1, source, s.topic())
			}
			return nil
		}
		m.Notify(1, source, s.topic())
		m.wait(t)
		m.Close()
		require.Equal(t, []string{"a", "late"}, s.arrived)
	})
}

func TestUnknownTargetIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sets{dead: many(3)}
		tries := 0
		m := s.mover(func() bool { tries++; return tries > 4 })
		m.Notify(1, source, s.topic())
		m.wait(t)
		m.Close()
		require.Equal(t, many(3), s.arrived)
	})
}

func TestSourceGoneEndsTheMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sets{dead: many(3), fail: func(cmq.Kind) error { return cmq.ErrQueueNotExist }}
		m := s.mover(always)
		m.Notify(1, source, s.topic())
		m.wait(t)
		m.Close()
		require.Equal(t, 1, s.calls)
	})
}

func TestCloseInterrupts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sets{dead: many(3), fail: func(cmq.Kind) error { return errors.New("no leader") }}
		m := s.mover(always)
		m.Notify(1, source, s.topic())
		synctest.Wait()
		m.Close()
		m.Notify(1, source, s.topic())
		require.NotEmpty(t, s.dead)
	})
}

func TestTransferStaysSmall(t *testing.T) {
	big := make([]byte, 700<<10)
	req := transfer(source, target, &cmq.Reply{Messages: []cmq.Message{{Body: big}, {Body: big}, {Body: big}}, Number: 7, Base: 7})
	require.Len(t, req.Bodies, 1)
	require.EqualValues(t, 7, req.Number)
}
