package link

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/client/internal/tcptest"
)

// stalled is a server that reads a frame each time that next is given, and as many callers that have come one after the
// other. The first frame is read already.
type stalled struct {
	c       *Conn
	next    chan struct{}
	seen    []string
	callers sync.WaitGroup
	errs    []error
}

func stall(t *testing.T, w *world, ctxs []context.Context, timeout time.Duration) *stalled {
	s := &stalled{next: make(chan struct{}), errs: make([]error, len(ctxs))}
	w.Start("a", func(session *tcptest.Session, r *tcptest.Request) {
		s.seen = append(s.seen, strings.TrimRight(r.Text(2), "x"))
		<-s.next
		session.Answer(r, tcptest.Answer{IDs: []uint64{1}})
	})
	var err error
	s.c, err = w.pool.Get(t.Context(), w.to, time.Second)
	require.NoError(t, err)
	pad := strings.Repeat("x", 1<<20)
	for i, ctx := range ctxs {
		s.callers.Go(func() {
			call := NewCall()
			call.Request = send(fmt.Sprintf("%03d%s", i, pad))
			s.errs[i] = s.c.Do(ctx, call, timeout)
		})
		synctest.Wait()
	}
	return s
}

// waiting lists who waits for room.
func (s *stalled) waiting() (list []*waiter) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	for w := s.c.room.first; w != nil; w = w.next {
		list = append(list, w)
	}
	return list
}

func repeated(ctx context.Context, n int) []context.Context {
	list := make([]context.Context, n)
	for i := range list {
		list[i] = ctx
	}
	return list
}

// TestRoomIsGivenInOrder: who comes first is sent first, and who finds no room yet is left asleep.
func TestRoomIsGivenInOrder(t *testing.T) {
	bubble(t, []string{"a"}, func(t *testing.T, w *world) {
		const n = 60
		s := stall(t, w, repeated(t.Context(), n), time.Hour)
		all := s.waiting()
		require.Greater(t, len(all), n/2)
		for len(s.waiting()) == len(all) {
			s.next <- struct{}{}
			synctest.Wait()
		}
		left := s.waiting()
		require.Greater(t, len(left), len(all)-maxPending>>20-2)
		require.Equal(t, all[len(all)-len(left):], left, "the others have not moved")
		require.Zero(t, s.c.room.promised)
		close(s.next)
		s.callers.Wait()
		for i := range n {
			require.NoError(t, s.errs[i])
			at := slices.Index(s.seen, fmt.Sprintf("%03d", i))
			require.InDelta(t, i, at, maxPending>>20+1, "those that are let in together may append in any order")
		}
	})
}

// TestRoomOfThoseWhoGiveUp is another's: a place that is not used is given on, whatever the reason.
func TestRoomOfThoseWhoGiveUp(t *testing.T) {
	bubble(t, []string{"a"}, func(t *testing.T, w *world) {
		gone, cancel := context.WithCancel(t.Context())
		ctxs := repeated(gone, 40)
		ctxs[39] = t.Context()
		s := stall(t, w, ctxs, time.Hour)
		before := s.waiting()
		cancel()
		synctest.Wait()
		require.Equal(t, before[len(before)-1:], s.waiting())
		close(s.next)
		s.callers.Wait()
		require.NoError(t, s.errs[39])
		require.Equal(t, "039", s.seen[len(s.seen)-1])
	})
}

// TestPlaceThatIsNotUsed: one that was let in and gives up at the same moment lets the next in.
func TestPlaceThatIsNotUsed(t *testing.T) {
	c := new(Conn)
	first, second := &waiter{size: maxPending, in: make(chan struct{})}, &waiter{size: 1, in: make(chan struct{})}
	c.room.add(first)
	c.room.add(second)
	c.letInLocked()
	require.True(t, first.isIn)
	require.False(t, second.isIn)
	c.leaveRoomLocked(first, true)
	require.True(t, second.isIn)
	<-second.in
	c.leaveRoomLocked(second, false)
	require.Equal(t, room{}, c.room)
}

// TestRoomOfARetiredConnection: none of those that wait is left behind.
func TestRoomOfARetiredConnection(t *testing.T) {
	bubble(t, []string{"a"}, func(t *testing.T, w *world) {
		s := stall(t, w, repeated(t.Context(), 40), time.Hour)
		waiting := len(s.waiting())
		began := time.Now()
		s.c.retire()
		close(s.next)
		s.callers.Wait()
		require.Zero(t, time.Since(began))
		refused := 0
		for _, err := range s.errs {
			if err != nil {
				require.ErrorIs(t, err, ErrNotAuthorized)
				refused++
			}
		}
		require.Equal(t, waiting, refused)
	})
}
