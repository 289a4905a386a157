package link

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/client/internal/tcptest"
	"github.com/opencmq/cmq/client/internal/wire"
)

type key struct{} // of a value in a context

// started makes a call whose outcome goes to a channel.
func started(r wire.Request) (*Call, chan error) {
	call, outcome := NewCall(), make(chan error, 2)
	call.Request = r
	call.Done = func(_ *Call, err error) { outcome <- err }
	return call, outcome
}

// Start takes no more than may wait, and when the connection ends it is known of each call whether it had left.
func TestStartDoesNotWait(t *testing.T) {
	bubble(t, []string{"a"}, func(t *testing.T, w *world) {
		frozen := make(chan struct{})
		defer close(frozen)
		w.Start("a", func(s *tcptest.Session, r *tcptest.Request) { <-frozen }) // reads nothing more
		require.Nil(t, w.pool.Ready(w.to))
		c, err := w.pool.Get(t.Context(), w.to, time.Second)
		require.NoError(t, err)
		require.Same(t, c, w.pool.Ready(w.to))
		var outcomes []chan error
		for {
			call, outcome := started(send(strings.Repeat("x", 1<<20)))
			if !c.Start(t.Context(), call, time.Minute) {
				require.Empty(t, outcome)
				break
			}
			outcomes = append(outcomes, outcome)
			synctest.Wait()
		}
		require.Len(t, outcomes, 2+maxPending>>20, "one was read, one is being written, the others wait")
		c.Close()
		for i, outcome := range outcomes {
			require.Len(t, outcome, 1, "Close has waited for it")
			var failed *Error
			require.ErrorAs(t, <-outcome, &failed)
			require.ErrorIs(t, failed, ErrClosed)
			require.Equal(t, i == 0, failed.Sent)
		}
		late, outcome := started(send("x"))
		require.False(t, c.Start(t.Context(), late, time.Minute))
		require.Empty(t, outcome)
	})
}

// A call is given up by its number. Its object may belong to another call by then, which goes on.
func TestGivingUpACallThatWasAnswered(t *testing.T) {
	bubble(t, []string{"a"}, func(t *testing.T, w *world) {
		var held *tcptest.Request
		w.Start("a", func(s *tcptest.Session, r *tcptest.Request) {
			switch r.Text(2) {
			case "held":
				held = r
			case "go":
				s.Answer(held, tcptest.Answer{IDs: []uint64{2}})
				confirm(s, r)
			default:
				confirm(s, r)
			}
		})
		c, err := w.pool.Get(t.Context(), w.to, time.Second)
		require.NoError(t, err)
		call, outcome := started(send("1"))
		require.True(t, c.Start(t.Context(), call, time.Minute))
		require.NoError(t, <-outcome)
		first := call.Request.Seq
		call.Request = send("held")
		require.True(t, c.Start(t.Context(), call, time.Minute))
		c.drop([]int64{first}, context.Canceled)
		synctest.Wait()
		require.Empty(t, outcome)
		_, err = w.do(t.Context(), send("go"), time.Minute)
		require.NoError(t, err)
		require.NoError(t, <-outcome)
		require.Equal(t, []uint64{2}, call.Answer.IDs)
	})
}

// One end is watched for all calls with a context, and not longer than there are any.
func TestEndsOfContextsAreWatchedTogether(t *testing.T) {
	bubble(t, []string{"a"}, func(t *testing.T, w *world) {
		w.Start("a", func(s *tcptest.Session, r *tcptest.Request) {
			if r.Cmd == int32(wire.Send) && r.Text(2) != "held" {
				confirm(s, r)
			}
		})
		c, err := w.pool.Get(t.Context(), w.to, time.Second)
		require.NoError(t, err)
		watched := func() (n int) {
			c.mu.Lock()
			defer c.mu.Unlock()
			for _, w := range c.watches {
				n += w.calls
			}
			return 100*len(c.watches) + n
		}
		start := func(ctx context.Context, r wire.Request) chan error {
			call, outcome := started(r)
			require.True(t, c.Start(ctx, call, 10*time.Second))
			return outcome
		}
		ctx, cancel := context.WithCancel(t.Context())
		other, cancelOther := context.WithCancel(t.Context())
		defer cancelOther()
		var outcomes []chan error
		for range 3 {
			outcomes = append(outcomes, start(context.WithValue(ctx, key{}, 1), send("held")), start(ctx, send("1")))
		}
		receive := start(ctx, wire.Request{Cmd: wire.Receive, Name: "q", Wait: 30})
		apart, free := start(other, send("held")), start(context.Background(), send("held"))
		synctest.Wait()
		require.Equal(t, 205, watched())
		begun := time.Now()
		cancel()
		for i, outcome := range outcomes {
			if i%2 == 0 {
				require.ErrorIs(t, <-outcome, context.Canceled)
			} else {
				require.NoError(t, <-outcome)
			}
		}
		require.Zero(t, time.Since(begun))
		require.ErrorIs(t, <-receive, context.Canceled)
		require.Equal(t, farewell, time.Since(begun), "the server did not end the wait")
		require.Empty(t, apart)
		require.Empty(t, free)
		require.Equal(t, 101, watched())
		c.Close()
		require.ErrorIs(t, <-apart, ErrClosed)
		require.ErrorIs(t, <-free, ErrClosed)
		require.Zero(t, watched())
	})
}

// The last call of a connection that takes no more ends it also when it is given up.
func TestGivingUpTheLastCallOfARetiredConnection(t *testing.T) {
	bubble(t, []string{"a"}, func(t *testing.T, w *world) {
		w.Start("a", func(s *tcptest.Session, r *tcptest.Request) {
			if r.Text(2) == "unknown" {
				s.Answer(r, tcptest.Answer{Result: wire.NotAuthorized})
			}
		})
		c, err := w.pool.Get(t.Context(), w.to, time.Second)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		last, outcome := started(send("held"))
		require.True(t, c.Start(ctx, last, time.Minute))
		_, err = w.do(t.Context(), send("unknown"), time.Minute)
		require.ErrorIs(t, err, ErrNotAuthorized)
		require.False(t, c.Usable())
		synctest.Wait()
		require.Empty(t, outcome)
		cancel()
		err = <-outcome
		var failed *Error
		require.True(t, errors.As(err, &failed) && failed.Sent)
		require.ErrorIs(t, err, context.Canceled)
		<-c.Ended()
	})
}
