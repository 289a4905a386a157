package link

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/client/internal/tcptest"
	"github.com/opencmq/cmq/client/internal/wire"
)

func TestAuthentication(t *testing.T) {
	for name, c := range map[string]struct {
		result int32
		ok     bool
	}{"accepted": {0, true}, "known already": {307, true}, "wrong key": {10030, false}, "unknown id": {10270, false}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, []string{"a"}, func(t *testing.T, w *world) {
				w.Auth = true
				w.Start("a", func(s *tcptest.Session, r *tcptest.Request) {
					if r.Cmd == 1020 {
						s.Answer(r, tcptest.Answer{Result: c.result, Error: name})
						return
					}
					confirm(s, r)
				})
				_, err := w.do(t.Context(), send("1"), time.Minute)
				if c.ok {
					require.NoError(t, err)
					return
				}
				var refused *Refused
				require.ErrorAs(t, err, &refused)
				require.Equal(t, Refused{Addr: "a", Code: c.result, Text: name}, *refused)
			})
		})
	}
}

// The first address of the list is used while it answers, the next one when it does not, and the first again later.
func TestAddressesInOrder(t *testing.T) {
	bubble(t, []string{"a", "b"}, func(t *testing.T, w *world) {
		served := func(name string) func(*tcptest.Session, *tcptest.Request) {
			return func(s *tcptest.Session, r *tcptest.Request) { s.Answer(r, tcptest.Answer{Error: name}) }
		}
		by := func() string {
			call, err := w.do(t.Context(), send("x"), 10*time.Second)
			require.NoError(t, err)
			return call.Answer.Error
		}
		w.Start("a", served("a"))
		w.Start("b", served("b"))
		require.Equal(t, "a", by())
		require.Zero(t, w.Dials("b"), "the second is not dialled while the first is there")
		w.Stop("a")
		synctest.Wait()
		require.Equal(t, "b", by())
		for range 100 {
			require.Equal(t, "b", by())
			tcptest.Pass(50 * time.Millisecond)
		}
		require.Less(t, w.Dials("a"), 16, "attempts become rare")
		w.Start("a", served("a"))
		tcptest.Pass(longestPause)
		by()
		tcptest.Pass(longestPause)
		require.Equal(t, "a", by())
	})
}

// An address that swallows everything costs a quarter of a second, not the time-out.
func TestBlackHoleIsPassedOver(t *testing.T) {
	bubble(t, []string{"hole", "b"}, func(t *testing.T, w *world) {
		w.Auth = true
		w.Start("hole", func(*tcptest.Session, *tcptest.Request) {})
		w.Start("b", func(s *tcptest.Session, r *tcptest.Request) { s.Answer(r, tcptest.Answer{}) })
		begun := time.Now()
		_, err := w.do(t.Context(), send("x"), 10*time.Second)
		require.NoError(t, err)
		require.Equal(t, stagger, time.Since(begun))
	})
}

func TestNobodyThere(t *testing.T) {
	bubble(t, []string{"a", "b"}, func(t *testing.T, w *world) {
		for range 3 {
			begun := time.Now()
			_, err := w.do(t.Context(), send("x"), 10*time.Second)
			var failed *Error
			require.ErrorAs(t, err, &failed)
			require.False(t, failed.Sent)
			require.ErrorContains(t, err, "connection refused")
			require.LessOrEqual(t, time.Since(begun), longestPause)
		}
		w.to = nil
		_, err := w.do(t.Context(), send("x"), time.Second)
		require.ErrorContains(t, err, "no address")
	})
}

// Whoever waits for a connection may stop waiting; the attempt goes on for the others.
func TestWaitingForAConnectionEnds(t *testing.T) {
	bubble(t, []string{"hole"}, func(t *testing.T, w *world) {
		w.Auth = true
		w.Start("hole", func(*tcptest.Session, *tcptest.Request) {})
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := w.do(ctx, send("x"), time.Minute)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		_, err = w.do(t.Context(), send("x"), 200*time.Millisecond)
		require.ErrorIs(t, err, ErrTimeout)
		require.Equal(t, 1, w.Dials("hole"))
	})
}

// Calls take turns on several connections to the same address.
func TestConnectionsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tcptest.NewNetwork()
		p := NewPool(Options{Dial: n.Dial, Timeout: time.Second, Connections: 3, Credentials: func(net.Conn) wire.Credentials { return wire.Credentials{} }})
		n.Start("a", confirm)
		to := []*Target{p.Target("a")}
		seen := make(map[*Conn]int)
		for range 30 {
			c, err := p.Get(t.Context(), to, time.Second)
			require.NoError(t, err)
			seen[c]++
		}
		require.Len(t, seen, 3)
		for _, times := range seen {
			require.Equal(t, 10, times)
		}
		p.Close()
		n.Close()
	})
}
