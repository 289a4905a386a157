package dispatch

import (
	"context"
	"fmt"
	"log/slog"
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

// TestForwardOfWhatIsTooLong: it waits, and those behind it.
func TestForwardOfWhatIsTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sets{outbox: true, dead: []string{"a", "b", strings.Repeat("x", 11), "c"}}
		m := s.mover(always)
		m.Notify(sourceSet, source, s.topic())
		<-time.After(time.Minute)
		synctest.Wait()
		require.Equal(t, []string{"a", "b"}, s.arrived)
		s.mu.Lock()
		s.dead, s.base = s.dead[1:], s.base+1 // its retention has ended
		s.mu.Unlock()
		m.wait(t)
		m.Close()
		require.Equal(t, []string{"a", "b", "c"}, s.arrived)
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
			}, slog.New(slog.DiscardHandler))
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
