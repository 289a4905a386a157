package client_test

import (
	"context"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/client"
	"github.com/opencmq/cmq/client/internal/tcptest"
)

// once counts calls of done and keeps the last error.
type once struct {
	mu  sync.Mutex
	n   int
	err error
	at  time.Time
}

func (o *once) done(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.n++
	o.err, o.at = err, time.Now()
}

func (o *once) sent(_ string, err error) { o.done(err) }

func (o *once) received(_ []client.Message, err error) { o.done(err) }

// only gives the error of the one call that there was.
func (o *once) only(t *testing.T) error {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	require.Equal(t, 1, o.n, "done is called once")
	return o.err
}

// Messages go round without a goroutine that waits: each done starts what comes next.
func TestStartedCalls(t *testing.T) {
	o := &notes{}
	tcpBubble(t, []client.Option{client.WithObserver(o)}, func(t *testing.T, n *tcptest.Network, c *client.Client) {
		queue := tcptest.NewQueue()
		n.Start("a:1", queue.Handle)
		const messages = 300
		q, ctx := c.Queue("q"), t.Context()
		var received sync.Map
		var deletes, ends atomic.Int32
		for range messages {
			q.StartSend(ctx, "x", func(id string, err error) {
				assert.NoError(t, err)
				q.StartReceive(ctx, client.ReceiveOptions{Wait: time.Second}, func(ms []client.Message, err error) {
					assert.NoError(t, err)
					assert.Len(t, ms, 1)
					assert.Equal(t, "x", ms[0].Body)
					_, twice := received.LoadOrStore(ms[0].ID, true)
					assert.False(t, twice)
					q.StartDelete(ctx, ms[0].Handle, func(err error) {
						assert.NoError(t, err)
						deletes.Add(1)
					})
				})
			})
		}
		tcptest.Pass(5 * time.Second)
		require.EqualValues(t, messages, deletes.Load())
		q.StartReceive(ctx, client.ReceiveOptions{Max: 16, Wait: 3 * time.Second}, func(_ []client.Message, err error) {
			assert.ErrorIs(t, err, client.ErrNoMessage)
			ends.Add(1)
		})
		q.StartDelete(ctx, "999", func(err error) {
			assert.ErrorIs(t, err, client.ErrHandleInvalid)
			ends.Add(1)
		})
		q.StartDelete(ctx, "abc", func(err error) {
			assert.ErrorContains(t, err, `"abc" is not a number`)
			ends.Add(1)
		})
		tcptest.Pass(5 * time.Second)
		require.EqualValues(t, 3, ends.Load())
		require.Equal(t, 1, n.Dials("a:1"))
		o.mu.Lock()
		defer o.mu.Unlock()
		require.Len(t, o.ops, 3*messages+3)
		require.Contains(t, o.ops, "send q 1 1 ")
		require.Contains(t, o.ops, "receive q  0 ")
		require.Contains(t, o.ops, "settle q  1 10260")
	})
}

// done is never called within Start, whatever keeps the request from leaving, so callers may hold locks that it takes.
func TestDoneIsNotCalledWithinStart(t *testing.T) {
	ended, end := context.WithCancel(context.Background())
	end()
	for name, ctx := range map[string]context.Context{"ended": ended, "living": context.Background()} {
		t.Run(name, func(t *testing.T) {
			tcpBubble(t, nil, func(t *testing.T, n *tcptest.Network, c *client.Client) {
				var mu sync.Mutex
				calls := 0
				done := func() { mu.Lock(); calls++; mu.Unlock() }
				start := func() {
					mu.Lock()
					defer mu.Unlock()
					c.Queue("q").StartSend(ctx, "x", func(string, error) { done() })
					c.Queue("q").StartReceive(ctx, client.ReceiveOptions{}, func([]client.Message, error) { done() })
					c.Queue("q").StartDelete(ctx, "abc", func(error) { done() })
				}
				start() // there is nobody
				n.Start("a:1", tcptest.NewQueue().Handle)
				tcptest.Pass(5 * time.Second)
				start()
				tcptest.Pass(5 * time.Second)
				c.Close()
				start()
				synctest.Wait()
				require.Equal(t, 9, calls)
			})
		})
	}
}

// The Client repeats what certainly was not carried out, as it does for those who wait.
func TestStartedCallsAreRepeated(t *testing.T) {
	var calls atomic.Int32
	refuse := func(times int32, how func(s *tcptest.Session, r *tcptest.Request)) func(*tcptest.Session, *tcptest.Request) {
		return func(s *tcptest.Session, r *tcptest.Request) {
			if r.Cmd != 1021 {
				return // a heartbeat
			}
			if calls.Add(1) <= times {
				how(s, r)
				return
			}
			s.Answer(r, tcptest.Answer{IDs: []uint64{1}})
		}
	}
	answer := func(result int32) func(*tcptest.Session, *tcptest.Request) {
		return func(s *tcptest.Session, r *tcptest.Request) {
			s.Answer(r, tcptest.Answer{Result: result, Error: "why"})
		}
	}
	hangUp := func(s *tcptest.Session, r *tcptest.Request) { s.Conn.Close() }
	silent := func(s *tcptest.Session, r *tcptest.Request) {}
	for name, row := range map[string]struct {
		handle  func(*tcptest.Session, *tcptest.Request)
		calls   int32
		outcome client.Outcome
		cause   error
	}{
		"throttled twice":    {refuse(2, answer(10250)), 3, client.Stored, nil},
		"always throttled":   {refuse(9, answer(10250)), 1 + client.DefaultRetries, client.NotStored, client.ErrThrottled},
		"not authorized":     {refuse(1, answer(306)), 2, client.Stored, nil},
		"queue is not there": {refuse(9, answer(10100)), 1, client.NotStored, client.ErrQueueNotExist},
		"connection lost":    {refuse(1, hangUp), 1, client.Unknown, nil},
		"no answer":          {refuse(1, silent), 1, client.Unknown, nil},
		"no id":              {refuse(9, answer(0)), 1, client.Unknown, nil},
	} {
		t.Run(name, func(t *testing.T) {
			tcpBubble(t, []client.Option{client.WithTimeout(2 * time.Second)}, func(t *testing.T, n *tcptest.Network, c *client.Client) {
				n.Start("a:1", tcptest.NewQueue().Handle)
				_, err := c.Queue("q").Send(t.Context(), "so that there is a connection")
				require.NoError(t, err)
				n.Stop("a:1")
				synctest.Wait()
				n.Start("a:1", row.handle)
				for range 2 { // without a connection, and with one
					calls.Store(0)
					var o once
					c.Queue("q").StartSend(t.Context(), "x", o.sent)
					tcptest.Pass(5 * time.Second)
					err = o.only(t)
					require.Equal(t, row.outcome, client.OutcomeOf(err), "%v", err)
					require.EqualValues(t, row.calls, calls.Load())
					if row.cause != nil {
						require.ErrorIs(t, err, row.cause)
					}
				}
			})
		})
	}
}

// A receive whose context ends is taken back, and done is called soon whatever the server does.
func TestStartedCallsEndWithTheirContext(t *testing.T) {
	tcpBubble(t, nil, func(t *testing.T, n *tcptest.Network, c *client.Client) {
		queue := tcptest.NewQueue()
		n.Start("a:1", queue.Handle)
		q := c.Queue("q")
		_, err := q.Receive(t.Context(), 0)
		require.ErrorIs(t, err, client.ErrNoMessage)
		ctx, cancel := context.WithCancel(t.Context())
		var o once
		q.StartReceive(ctx, client.ReceiveOptions{Wait: 30 * time.Second}, o.received)
		synctest.Wait()
		require.Equal(t, 1, queue.Waiting())
		begun := time.Now()
		cancel()
		synctest.Wait()
		require.ErrorIs(t, o.only(t), context.Canceled)
		require.Equal(t, client.NotStored, client.OutcomeOf(o.err))
		require.Zero(t, o.at.Sub(begun), "it was taken back at once")
		queue.Put("later")
		tcptest.Pass(time.Second)
		_, ready, locked := queue.Counts()
		require.Equal(t, 1, ready)
		require.Zero(t, locked)
	})
	tcpBubble(t, nil, func(t *testing.T, n *tcptest.Network, c *client.Client) {
		var held atomic.Pointer[tcptest.Request]
		var session atomic.Pointer[tcptest.Session]
		n.Start("a:1", func(s *tcptest.Session, r *tcptest.Request) {
			if r.Text(2) == "now" {
				s.Answer(r, tcptest.Answer{IDs: []uint64{1}})
				return
			}
			held.CompareAndSwap(nil, r) // the end of waiting is not understood
			session.Store(s)
		})
		q := c.Queue("q")
		_, err := q.Send(t.Context(), "now")
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		var sent, received, after once
		q.StartReceive(ctx, client.ReceiveOptions{Wait: 30 * time.Second}, received.received)
		synctest.Wait()
		q.StartSend(ctx, "never", sent.sent)
		tcptest.Pass(3 * time.Second)
		for _, o := range []*once{&sent, &received} {
			require.ErrorIs(t, o.only(t), context.DeadlineExceeded)
			require.Equal(t, client.Unknown, client.OutcomeOf(o.err))
		}
		require.Equal(t, time.Second, sent.at.Sub(begun))
		require.LessOrEqual(t, received.at.Sub(begun), 1200*time.Millisecond)
		session.Load().Answer(held.Load(), tcptest.Answer{Messages: []tcptest.Message{{ID: 1, Handle: 2}}})
		q.StartSend(t.Context(), "now", after.sent) // may use the same call again
		synctest.Wait()
		require.NoError(t, after.only(t))
		received.only(t)
	})
}

// Contexts end at any moment: before a request leaves, while it is under way, when its answer is there.
func TestStartedCallsAndContextsThatEndAtAnyMoment(t *testing.T) {
	n := tcptest.NewNetwork()
	defer n.Close()
	queue := tcptest.NewQueue()
	n.Start("a:1", queue.Handle)
	c, err := client.New("tcp://a:1", testID, testKey, client.WithDialer(n.Dial))
	require.NoError(t, err)
	q := c.Queue("q")
	const callers, each = 8, 200
	var started, ended atomic.Int64
	var work sync.WaitGroup
	for range callers {
		work.Go(func() {
			for i := range each {
				ctx, cancel := context.WithCancel(context.Background())
				var calls atomic.Int32
				over := make(chan error, 8)
				done := func(err error) {
					if calls.Add(1) == 1 {
						ended.Add(1)
					} else {
						t.Error("done was called twice")
					}
					over <- err
				}
				started.Add(1)
				switch i % 3 {
				case 0:
					q.StartSend(ctx, "x", func(_ string, err error) { done(err) })
				case 1:
					q.StartReceive(ctx, client.ReceiveOptions{}, func(_ []client.Message, err error) { done(err) })
				default:
					q.StartDelete(ctx, "1", done)
				}
				for range i % 50 {
					if len(over) > 0 {
						break
					}
				}
				cancel()
				<-over
			}
		})
	}
	work.Wait()
	require.NoError(t, c.Close())
	require.EqualValues(t, callers*each, started.Load())
	require.EqualValues(t, started.Load(), ended.Load())
}

// Close ends what was started: what is under way, what waits for a connection, what waits to be repeated, and what done
// starts then. When it returns every done has been called.
func TestCloseEndsStartedCalls(t *testing.T) {
	tcpBubble(t, nil, func(t *testing.T, n *tcptest.Network, c *client.Client) {
		n.Start("a:1", func(s *tcptest.Session, r *tcptest.Request) {
			if r.Text(2) == "throttled" {
				s.Answer(r, tcptest.Answer{Result: 10250, Error: "qps throttling"})
			}
		})
		q := c.Queue("q")
		waited := make(chan error, 1)
		go func() {
			_, err := q.Send(t.Context(), "waits")
			waited <- err
		}()
		synctest.Wait()
		var under, throttled, next once
		q.StartReceive(t.Context(), client.ReceiveOptions{Wait: 30 * time.Second}, func(_ []client.Message, err error) {
			under.done(err)
			q.StartSend(t.Context(), "x", next.sent)
		})
		q.StartSend(t.Context(), "throttled", throttled.sent)
		synctest.Wait()
		c.Close()
		require.ErrorIs(t, under.only(t), client.ErrClosed)
		require.Equal(t, client.Unknown, client.OutcomeOf(under.err))
		require.ErrorIs(t, throttled.only(t), client.ErrThrottled, "the last that was heard of it")
		require.ErrorIs(t, <-waited, client.ErrClosed)
		synctest.Wait()
		require.ErrorIs(t, next.only(t), client.ErrClosed)
		require.Equal(t, client.NotStored, client.OutcomeOf(next.err))
	})
	tcpBubble(t, []client.Option{client.WithTimeout(time.Hour)}, func(t *testing.T, n *tcptest.Network, c *client.Client) {
		var o once
		n.Start("a:1", func(*tcptest.Session, *tcptest.Request) {})
		n.Start("b:1", func(*tcptest.Session, *tcptest.Request) {})
		n.Auth = true // which nobody gives
		begun := time.Now()
		c.Queue("q").StartSend(t.Context(), "x", o.sent)
		tcptest.Pass(time.Second)
		c.Close()
		require.ErrorIs(t, o.only(t), client.ErrClosed)
		require.Equal(t, client.NotStored, client.OutcomeOf(o.err))
		require.Equal(t, time.Second, time.Since(begun))
	})
}

// Over HTTP a started call is one that waits, elsewhere.
func TestStartedCallsOverHTTP(t *testing.T) {
	arrived := make(chan struct{}, 1)
	gone := make(chan struct{})
	defer close(gone)
	srv := service(t, func(f url.Values) string {
		switch f.Get("Action") {
		case "SendMessage":
			return `{"code":0,"message":"","requestId":"1","msgId":"5"}`
		case "DeleteMessage":
			return `{"code":4430,"message":"(10260)receipt handle is invalid","requestId":"1"}`
		}
		arrived <- struct{}{}
		<-gone
		return `{"code":7000,"message":"(10200)no message","requestId":"1"}`
	})
	c := newClient(t, srv.URL)
	q := c.Queue("q")
	ids, errs := make(chan string, 1), make(chan error, 2)
	q.StartSend(t.Context(), "x", func(id string, err error) {
		ids <- id
		errs <- err
	})
	require.Equal(t, "5", <-ids)
	require.NoError(t, <-errs)
	q.StartDelete(t.Context(), "h", func(err error) { errs <- err })
	require.ErrorIs(t, <-errs, client.ErrHandleInvalid)
	q.StartReceive(t.Context(), client.ReceiveOptions{Wait: 30 * time.Second}, func(_ []client.Message, err error) { errs <- err })
	<-arrived
	require.NoError(t, c.Close())
	require.Len(t, errs, 1, "done was called before Close returned")
	err := <-errs
	require.ErrorIs(t, err, client.ErrClosed)
	require.Equal(t, client.Unknown, client.OutcomeOf(err))
	q.StartSend(t.Context(), "x", func(_ string, err error) { errs <- err })
	require.ErrorIs(t, <-errs, client.ErrClosed)
}
