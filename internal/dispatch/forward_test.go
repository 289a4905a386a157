package dispatch

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
)

// sourceSet is the set of the subscription.
const sourceSet = cmq.SetID(1)

func TestForwardToAnotherSetAndToTheOwn(t *testing.T) {
	for _, set := range []cmq.SetID{2, 7} { // the mover is told that the source is on set 7
		for _, kind := range []cmq.Kind{0, cmq.KindSpread, cmq.KindMove, cmq.KindForget} {
			synctest.Test(t, func(t *testing.T) {
				s := &sets{outbox: true, dead: many(40), base: 5, next: 5, set: set}
				lost := 2
				s.after = func(k cmq.Kind) error {
					if k == kind && lost > 0 {
						lost--
						return cmq.ErrUnknownOutcome
					}
					return nil
				}
				m := s.mover(always)
				m.Notify(7, source, s.topic())
				m.wait(t)
				m.Close()
				require.Equal(t, many(40), s.arrived)
				require.Empty(t, s.dead)
				require.Empty(t, s.sources, "it is a message as any other")
			})
		}
	}
}

func TestForwardWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sets{outbox: true, dead: many(40), room: 5}
		m := s.mover(always)
		m.Notify(sourceSet, source, s.topic())
		<-time.After(time.Minute)
		synctest.Wait()
		require.Equal(t, many(40)[:5], s.arrived, "as many as there is room for")
		s.mu.Lock()
		s.room = 0
		s.mu.Unlock()
		m.wait(t)
		m.Close()
		require.Equal(t, many(40), s.arrived)
	})
}

// came is what has arrived so far.
func (s *sets) came() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.arrived)
}

// left is how much has not.
func (s *sets) left() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.dead)
}

// TestForwardOfWhatIsTooLong: it waits, and those behind it, but not for long.
func TestForwardOfWhatIsTooLong(t *testing.T) {
	long := strings.Repeat("x", 11)
	for _, set := range []cmq.SetID{2, 7} {
		for _, none := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				s := &sets{outbox: true, dead: []string{"a", "b", long, long, "c"}, set: set, none: none}
				m := s.mover(always)
				m.Notify(7, source, s.topic())
				<-time.After(patience - time.Second)
				synctest.Wait()
				require.Equal(t, []string{"a", "b"}, s.came())
				<-time.After(2 * lastRetry)
				synctest.Wait()
				require.Equal(t, 2, s.left(), "each has its time")
				m.wait(t)
				m.Close()
				if none {
					require.Equal(t, []string{"a", "b", "c"}, s.arrived)
					require.Empty(t, s.sources)
					return
				}
				require.Equal(t, []string{"a", "b", long, long, "c"}, s.arrived, "here the dead-letter queue is the queue")
				require.Len(t, s.sources, 2, "dead letters tell where they died")
			})
		}
	}
}

// TestQueueThatTakesLongerOnesByNow gets what it did not take, and at once.
func TestQueueThatTakesLongerOnesByNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sets{outbox: true, dead: []string{strings.Repeat("x", 11), "c"}, news: make(chan struct{})}
		m := s.mover(always)
		defer m.Close()
		m.Notify(sourceSet, source, s.topic())
		<-time.After(patience - time.Second)
		require.Empty(t, s.came())
		s.mu.Lock()
		s.size = 11
		s.mu.Unlock()
		close(s.news)
		<-time.After(2 * firstRetry)
		synctest.Wait()
		require.Equal(t, []string{strings.Repeat("x", 11), "c"}, s.came())
	})
}

// TestDeliveriesGoOnAtOnce when a paused subscription is resumed, or the queue is made that was missing; other news do not keep
// the mover busy.
func TestDeliveriesGoOnAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		paused := true
		s := &sets{outbox: true, dead: many(3), news: make(chan struct{})}
		m := s.mover(func() bool { return !paused })
		defer m.Close()
		m.Notify(sourceSet, source, s.topic())
		<-time.After(time.Minute)
		synctest.Wait()
		s.mu.Lock()
		before := s.calls
		close(s.news) // and it stays so: news all the time
		s.mu.Unlock()
		<-time.After(time.Second)
		synctest.Wait()
		s.mu.Lock()
		require.LessOrEqual(t, s.calls-before, int(time.Second/firstRetry)+1)
		paused = false
		s.mu.Unlock()
		<-time.After(2 * firstRetry)
		synctest.Wait()
		require.Equal(t, many(3), s.came())
	})
}

// TestWhatIsOverdueGoesToTheDeadLetterQueue, which is told where it was; the rest goes to the queue.
func TestWhatIsOverdueGoesToTheDeadLetterQueue(t *testing.T) {
	for _, set := range []cmq.SetID{2, 7} {
		synctest.Test(t, func(t *testing.T) {
			s := &sets{outbox: true, dead: many(5), overdue: 3, set: set}
			asked := []cmq.QueueID{}
			m := NewMover(s.do, func(_ context.Context, queue cmq.QueueID, _ cmq.ShardID) (Destination, bool) {
				asked = append(asked, queue)
				return Destination{Set: set, Shard: target, MaxMsgSize: 10}, true
			}, nil, slog.New(slog.DiscardHandler))
			m.Notify(7, source, s.topic())
			m.wait(t)
			m.Close()
			require.Equal(t, many(5), s.arrived)
			require.Equal(t, []cmq.QueueID{22, 0}, asked)
			require.Len(t, s.sources, 3)
			require.Equal(t, source.Queue(), s.sources[0].Queue)
			require.Empty(t, s.dead)
		})
	}
}

// TestQueueThatIsGoneIsNotTheSource: somebody may make it anew.
func TestQueueThatIsGoneIsNotTheSource(t *testing.T) {
	for _, set := range []cmq.SetID{2, 7} {
		synctest.Test(t, func(t *testing.T) {
			gone := 3
			s := &sets{outbox: true, dead: many(3), set: set}
			s.fail = func(k cmq.Kind) error {
				if (k == cmq.KindSpread || k == cmq.KindMove) && gone > 0 {
					gone--
					return cmq.ErrQueueNotExist
				}
				return nil
			}
			m := s.mover(always)
			m.Notify(7, source, s.topic())
			m.wait(t)
			m.Close()
			require.Equal(t, many(3), s.arrived)
		})
	}
}

func TestFitting(t *testing.T) {
	list := func(sizes ...int) (messages []cmq.Message) {
		for _, n := range sizes {
			messages = append(messages, cmq.Message{Body: make([]byte, n)})
		}
		return messages
	}
	for _, row := range []struct {
		sizes []int
		want  int
	}{
		{nil, 0},
		{[]int{10, 0, 10}, 3},
		{[]int{11, 1}, 0},
		{[]int{1, 11, 1}, 1},
	} {
		require.Len(t, fitting(list(row.sizes...), 10), row.want, fmt.Sprint(row.sizes))
	}
	require.Len(t, fitting(list(700<<10, 700<<10), 1<<20), 1, "one transfer stays small")
}
