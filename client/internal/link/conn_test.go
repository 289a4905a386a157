package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/client/internal/tcptest"
	"github.com/opencmq/cmq/client/internal/wire"
)

// world is a network and a pool on it.
type world struct {
	*tcptest.Network
	pool *Pool
	to   []*Target
}

// newWorld makes a pool for addresses; close ends it, inside the bubble.
func newWorld(addrs ...string) *world {
	w := &world{Network: tcptest.NewNetwork()}
	w.pool = NewPool(Options{Dial: w.Dial, Timeout: 3 * time.Second,
		Credentials: func(net.Conn) wire.Credentials { return wire.Credentials{SecretID: "id"} }})
	for _, a := range addrs {
		w.to = append(w.to, w.pool.Target(a))
	}
	return w
}

func (w *world) close() {
	w.pool.Close()
	w.Network.Close()
}

// do makes one call, as package client does.
func (w *world) do(ctx context.Context, r wire.Request, timeout time.Duration) (*Call, error) {
	c, err := w.pool.Get(ctx, w.to, timeout)
	if err != nil {
		return nil, err
	}
	call := NewCall()
	call.Request = r
	return call, c.Do(ctx, call, timeout)
}

func send(body string) wire.Request { return wire.Request{Cmd: wire.Send, Name: "q", Body: body} }

// confirm answers every send with the number in its body.
func confirm(s *tcptest.Session, r *tcptest.Request) {
	var id uint64
	fmt.Sscan(r.Text(2), &id)
	s.Answer(r, tcptest.Answer{IDs: []uint64{id}})
}

// bubble runs f in a synctest bubble with a pool for addresses.
func bubble(t *testing.T, addrs []string, f func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(addrs...)
		defer w.close()
		f(t, w)
	})
}

func TestManyCallsOnOneConnection(t *testing.T) {
	bubble(t, []string{"a"}, func(t *testing.T, w *world) {
		w.Start("a", confirm)
		var callers sync.WaitGroup
		for i := range 500 {
			callers.Go(func() {
				call, err := w.do(t.Context(), send(fmt.Sprint(i+1)), time.Second)
				if err != nil || len(call.Answer.IDs) != 1 || call.Answer.IDs[0] != uint64(i+1) {
					t.Errorf("call %d: %v, %v", i+1, call, err)
				}
			})
		}
		callers.Wait()
		require.Equal(t, 1, w.Dials("a"))
	})
}

// Answers may come in any order, after those of later requests too.
func TestAnswersOutOfOrder(t *testing.T) {
	bubble(t, []string{"a"}, func(t *testing.T, w *world) {
		var held []*tcptest.Request
		w.Start("a", func(s *tcptest.Session, r *tcptest.Request) {
			if held = append(held, r); len(held) == 3 {
				for _, i := range []int{2, 0, 1} {
					confirm(s, held[i])
				}
			}
		})
		var callers sync.WaitGroup
		for i := range 3 {
			callers.Go(func() {
				call, err := w.do(t.Context(), send(fmt.Sprint(i+1)), time.Second)
				if err != nil || call.Answer.IDs[0] != uint64(i+1) {
					t.Errorf("call %d: %v, %v", i+1, call, err)
				}
			})
		}
		callers.Wait()
	})
}

// Frames split into bytes, glued to each other, and of calls that nobody made.
func TestStrangeButLegalStreams(t *testing.T) {
	bubble(t, []string{"a"}, func(t *testing.T, w *world) {
		w.Start("a", func(s *tcptest.Session, r *tcptest.Request) {
			stream := tcptest.Frame(4711, 1021, tcptest.Answer{IDs: []uint64{1}}) // nobody has this seqno
			stream = append(stream, tcptest.Frame(0, 1040, tcptest.Answer{})...)
			stream = append(stream, tcptest.Frame(r.Seq, 1021, tcptest.Answer{IDs: []uint64{7}})...)
			stream = append(stream, tcptest.Frame(r.Seq, 1021, tcptest.Answer{IDs: []uint64{8}})...) // a second answer
			for _, b := range stream {
				s.Write([]byte{b})
			}
		})
		for range 3 {
			call, err := w.do(t.Context(), send("x"), time.Second)
			require.NoError(t, err)
			require.Equal(t, []uint64{7}, call.Answer.IDs)
		}
		require.Equal(t, 1, w.Dials("a"))
	})
}

// After a frame that cannot be read the connection is given up, and the outcome of what was sent is unknown.
func TestDamagedStreams(t *testing.T) {
	for name, c := range map[string]struct {
		bytes string
		cause string
	}{
		"wrong marker": {"HTTP/1.1 400 Bad Request\r\n", "two zero bytes"},
		"over the cap": {"\x00\x00\xff\xff\xff\x7f", "a frame of 2147483647 bytes"},
		"too short":    {"\x00\x00\x02\x00\x00\x00", "a frame of 2 bytes"},
		"no seqno":     {"\x00\x00\x06\x00\x00\x00", "without seqno"},
		"half a field": {"\x00\x00\x0b\x00\x00\x00\x08\x02\x10\xfd\xfd", "cut off"},
		"a body cut":   {"\x00\x00\x0e\x00\x00\x00\x08\x02\x10\xfd\x07\xd2\x01\x09", "cut off"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, []string{"a"}, func(t *testing.T, w *world) {
				w.Start("a", func(s *tcptest.Session, r *tcptest.Request) {
					if s.N == 1 {
						s.Write([]byte(c.bytes))
						return
					}
					confirm(s, r)
				})
				_, err := w.do(t.Context(), send("1"), time.Second)
				var failed *Error
				require.ErrorAs(t, err, &failed)
				require.True(t, failed.Sent)
				require.ErrorContains(t, err, c.cause)
				call, err := w.do(t.Context(), send("2"), time.Second)
				require.NoError(t, err)
				require.Equal(t, []uint64{2}, call.Answer.IDs)
				require.Equal(t, 2, w.Dials("a"))
			})
		})
	}
}

func TestServerClosesConnection(t *testing.T) {
	bubble(t, []string{"a"}, func(t *testing.T, w *world) {
		w.Start("a", func(s *tcptest.Session, r *tcptest.Request) {
			if r.Text(2) == "0" {
				s.Conn.Close()
				return
			}
			confirm(s, r)
		})
		_, err := w.do(t.Context(), send("0"), time.Minute)
		require.ErrorIs(t, err, ErrEnded, "it does not run into its time-out")
		_, err = w.do(t.Context(), send("1"), time.Minute)
		require.NoError(t, err)
	})
}

// A call times out by itself, its late answer is dropped, and the connection lives on because others were answered.
func TestTimeoutAndLateAnswer(t *testing.T) {
	bubble(t, []string{"a"}, func(t *testing.T, w *world) {
		var held *tcptest.Request
		w.Start("a", func(s *tcptest.Session, r *tcptest.Request) {
			switch r.Text(2) {
			case "0":
				held = r
			default:
				confirm(s, r)
				if held != nil && r.Text(2) == "2" {
					confirm(s, held)
				}
			}
		})
		_, err := w.do(t.Context(), send("1"), time.Second)
		require.NoError(t, err)
		begun, others := time.Now(), make(chan struct{})
		go func() {
			defer close(others)
			<-time.After(500 * time.Millisecond)
			if _, err := w.do(t.Context(), send("1"), time.Second); err != nil {
				t.Error(err)
			}
		}()
		_, err = w.do(t.Context(), send("0"), time.Second)
		<-others
		var failed *Error
		require.ErrorAs(t, err, &failed)
		require.ErrorIs(t, err, ErrTimeout)
		require.True(t, failed.Sent)
		require.GreaterOrEqual(t, time.Since(begun), time.Second)
		require.LessOrEqual(t, time.Since(begun), time.Second+pulse)
		for range 2 {
			_, err = w.do(t.Context(), send("2"), time.Second)
			require.NoError(t, err)
		}
		require.Equal(t, 1, w.Dials("a"))
	})
}

// When a call times out and nothing at all was heard since it was made, the connection is not trusted any more.
func TestDeafConnectionIsReplaced(t *testing.T) {
	bubble(t, []string{"a"}, func(t *testing.T, w *world) {
		w.Start("a", func(s *tcptest.Session, r *tcptest.Request) {
			if s.N > 1 {
				confirm(s, r)
			}
		})
		_, err := w.do(t.Context(), send("1"), time.Second)
		require.ErrorIs(t, err, ErrSilent)
		_, err = w.do(t.Context(), send("1"), time.Second)
		require.NoError(t, err)
		require.Equal(t, 2, w.Dials("a"))
	})
}

func TestContextEndsACall(t *testing.T) {
	bubble(t, []string{"a"}, func(t *testing.T, w *world) {
		w.Start("a", func(s *tcptest.Session, r *tcptest.Request) {
			if r.Text(2) != "0" {
				confirm(s, r)
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		begun := time.Now()
		_, err := w.do(ctx, send("0"), time.Minute)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 50*time.Millisecond, time.Since(begun))
		_, err = w.do(t.Context(), send("1"), time.Minute)
		require.NoError(t, err)
		require.Equal(t, 1, w.Dials("a"))
	})
}

// A receive whose context ends is taken back. What it was given in the meantime is not lost.
func TestReceiveIsTakenBack(t *testing.T) {
	bubble(t, []string{"a"}, func(t *testing.T, w *world) {
		answers := map[uint64]tcptest.Answer{
			1: {Result: 10200},
			2: {Messages: []tcptest.Message{{ID: 5, Handle: 6}}},
		}
		polls := make(map[uint64]*tcptest.Request)
		w.Start("a", func(s *tcptest.Session, r *tcptest.Request) {
			switch r.Cmd {
			case int32(wire.Receive):
				polls[uint64(r.Seq)] = r
			case int32(wire.StopWaiting):
				seq, _ := r.Number(1)
				lock, _ := polls[seq].Number(3)
				if a, ok := answers[lock]; ok {
					s.Answer(polls[seq], a)
				}
			}
		})
		receive := func(lock int64) (*Call, error) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			return w.do(ctx, wire.Request{Cmd: wire.Receive, Name: "q", Wait: 30, Lock: lock}, time.Minute)
		}
		call, err := receive(1)
		require.NoError(t, err)
		require.EqualValues(t, 10200, call.Answer.Result)
		call, err = receive(2)
		require.NoError(t, err)
		require.EqualValues(t, 5, call.Answer.Messages[0].ID)
		begun := time.Now()
		_, err = receive(3) // a server that does not know the command
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second+farewell, time.Since(begun))
	})
}

// 306 in the middle: the request was not looked at, calls before it are still answered, and new ones go over a new
// connection.
func TestNotAuthorizedInTheMiddle(t *testing.T) {
	bubble(t, []string{"a"}, func(t *testing.T, w *world) {
		var answerFirst func()
		w.Start("a", func(s *tcptest.Session, r *tcptest.Request) {
			switch {
			case s.N == 1 && r.Text(2) == "1":
				answerFirst = func() { confirm(s, r) }
			case s.N == 1:
				s.Answer(r, tcptest.Answer{Result: 306, Error: "who are you?"})
			case r.Text(2) == "3":
				confirm(s, r)
			}
		})
		first := make(chan error, 1)
		go func() {
			call, err := w.do(t.Context(), send("1"), time.Minute)
			if err == nil && call.Answer.IDs[0] != 1 {
				err = errors.New("wrong answer")
			}
			first <- err
		}()
		synctest.Wait()
		old, err := w.pool.Get(t.Context(), w.to, time.Second)
		require.NoError(t, err)
		_, err = w.do(t.Context(), send("2"), time.Minute)
		var failed *Error
		require.ErrorAs(t, err, &failed)
		require.ErrorIs(t, err, ErrNotAuthorized)
		require.False(t, failed.Sent)
		require.False(t, old.Usable())
		_, err = w.do(t.Context(), send("3"), time.Minute)
		require.NoError(t, err)
		require.Equal(t, 2, w.Dials("a"))
		select {
		case <-old.Ended():
			t.Fatal("the old connection was closed while a call was under way")
		default:
		}
		answerFirst()
		require.NoError(t, <-first)
		<-old.Ended()
	})
}

// A silent connection sends a heartbeat every three seconds, like the published SDK, also while polls wait.
func TestHeartbeats(t *testing.T) {
	bubble(t, []string{"a"}, func(t *testing.T, w *world) {
		var beats atomic.Int32
		w.Start("a", func(s *tcptest.Session, r *tcptest.Request) {
			switch r.Cmd {
			case int32(wire.Heartbeat):
				beats.Add(1)
			case int32(wire.Receive):
				<-time.After(30 * time.Second)
				s.Answer(r, tcptest.Answer{Result: 10200})
			default:
				confirm(s, r)
			}
		})
		_, err := w.do(t.Context(), send("1"), time.Second)
		require.NoError(t, err)
		tcptest.Pass(time.Minute)
		synctest.Wait()
		require.InDelta(t, 20, beats.Load(), 2)
		require.Equal(t, 1, w.Dials("a"), "a server that does not answer heartbeats is not gone")
	})
}

// A server that answers heartbeats and then does not is gone.
func TestSilentServerIsNoticed(t *testing.T) {
	bubble(t, []string{"a"}, func(t *testing.T, w *world) {
		var frozen atomic.Bool
		w.Start("a", func(s *tcptest.Session, r *tcptest.Request) {
			if r.Cmd == int32(wire.Heartbeat) && !frozen.Load() {
				s.Answer(r, tcptest.Answer{})
			}
		})
		got := make(chan error, 1)
		begun := time.Now()
		go func() {
			_, err := w.do(t.Context(), wire.Request{Cmd: wire.Receive, Name: "q", Wait: 60}, time.Hour)
			got <- err
		}()
		tcptest.Pass(30 * time.Second)
		frozen.Store(true)
		require.ErrorIs(t, <-got, ErrSilent)
		require.LessOrEqual(t, time.Since(begun), 30*time.Second+silence+2*heartbeat)
	})
}

// Frames wait in memory of bounded size for a server that does not read, and the calls still time out.
func TestServerThatDoesNotRead(t *testing.T) {
	bubble(t, []string{"a"}, func(t *testing.T, w *world) {
		frozen := make(chan struct{})
		defer close(frozen)
		w.Start("a", func(s *tcptest.Session, r *tcptest.Request) { <-frozen }) // reads nothing more
		body := strings.Repeat("x", 1<<20)
		var callers sync.WaitGroup
		var notSent atomic.Int32
		for range 20 {
			callers.Go(func() {
				_, err := w.do(t.Context(), send(body), time.Second)
				var failed *Error
				if !errors.As(err, &failed) {
					t.Errorf("%v", err)
				} else if !failed.Sent {
					notSent.Add(1)
				}
			})
		}
		synctest.Wait()
		c, err := w.pool.Get(t.Context(), w.to, time.Second)
		require.NoError(t, err)
		c.mu.Lock()
		pending := len(c.out)
		c.mu.Unlock()
		require.LessOrEqual(t, pending, maxPending+len(body)+100)
		callers.Wait()
		require.EqualValues(t, 19, notSent.Load(), "the server can have only the frame that it read")
	})
}

// What was never handed to the socket was not carried out.
func TestCallsOfAClosedConnection(t *testing.T) {
	bubble(t, []string{"a"}, func(t *testing.T, w *world) {
		reading, frozen := make(chan struct{}), make(chan struct{})
		defer close(frozen)
		w.Start("a", func(s *tcptest.Session, r *tcptest.Request) {
			close(reading)
			<-frozen
		})
		outcome := make(chan *Error, 2)
		one := func(body string) {
			_, err := w.do(t.Context(), send(body), time.Minute)
			var failed *Error
			errors.As(err, &failed)
			outcome <- failed
		}
		go one("1")
		<-reading
		go one("2")
		synctest.Wait()
		w.Stop("a")
		a, b := <-outcome, <-outcome
		require.NotNil(t, a)
		require.NotNil(t, b)
		require.NotEqual(t, a.Sent, b.Sent)
	})
}

func TestQueriesAreHandedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := tcptest.NewNetwork()
		asked := make(chan string, 1)
		p := NewPool(Options{Dial: n.Dial, Timeout: time.Second, Credentials: func(net.Conn) wire.Credentials { return wire.Credentials{} },
			OnQuery: func(_ *Conn, queue string, id uint64) { asked <- fmt.Sprint(queue, id) }})
		n.Start("a", func(s *tcptest.Session, r *tcptest.Request) {
			s.Write(tcptest.Query("orders", 17))
			confirm(s, r)
		})
		c, err := p.Get(t.Context(), []*Target{p.Target("a")}, time.Second)
		require.NoError(t, err)
		call := NewCall()
		call.Request = send("1")
		require.NoError(t, c.Do(t.Context(), call, time.Second))
		require.Equal(t, "orders17", <-asked)
		p.Close()
		n.Close()
	})
}

func TestCloseFailsWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a")
		w.Start("a", func(*tcptest.Session, *tcptest.Request) {})
		got := make(chan error, 1)
		go func() {
			_, err := w.do(t.Context(), send("1"), time.Minute)
			got <- err
		}()
		synctest.Wait()
		w.close()
		require.ErrorIs(t, <-got, ErrClosed)
		_, err := w.do(t.Context(), send("1"), time.Minute)
		require.ErrorIs(t, err, ErrClosed)
	})
}
