package client_test

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/client"
	"github.com/opencmq/cmq/client/internal/tcptest"
)

// consuming is a bubble with a queue on a server, and a consumer that runs until stop.
type consuming struct {
	*tcptest.Queue
	n    *tcptest.Network
	q    *client.Queue
	log  *strings.Builder
	stop context.CancelFunc
	done chan error
}

func consume(t *testing.T, h client.Handler, o client.ConsumerOptions, set func(*tcptest.Queue), f func(t *testing.T, c *consuming)) {
	log := &strings.Builder{}
	logger := client.WithLogger(slog.New(slog.NewTextHandler(&lockedWriter{w: log}, nil)))
	tcpBubble(t, []client.Option{logger}, func(t *testing.T, n *tcptest.Network, cl *client.Client) {
		c := &consuming{Queue: tcptest.NewQueue(), n: n, q: cl.Queue("q"), log: log, done: make(chan error, 1)}
		if set != nil {
			set(c.Queue)
		}
		n.Start("a:1", c.Handle)
		var ctx context.Context
		ctx, c.stop = context.WithCancel(context.Background())
		go func() { c.done <- c.q.Consume(ctx, h, o) }()
		defer func() {
			c.stop()
			<-c.done
		}()
		f(t, c)
	})
}

type lockedWriter struct {
	mu sync.Mutex
	w  *strings.Builder
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// end stops the consumer and gives what Run returned.
func (c *consuming) end() error {
	c.stop()
	err := <-c.done
	c.done <- err
	return err
}

func TestConsumerHandlesAndDeletes(t *testing.T) {
	var running, most, handled atomic.Int32
	h := func(ctx context.Context, m *client.Message) error {
		most.Store(max(most.Load(), running.Add(1)))
		<-time.After(10 * time.Millisecond)
		running.Add(-1)
		handled.Add(1)
		return nil
	}
	consume(t, h, client.ConsumerOptions{Concurrency: 5}, nil, func(t *testing.T, c *consuming) {
		c.Put(numbered(100)...)
		tcptest.Pass(time.Second)
		require.EqualValues(t, 100, handled.Load())
		require.EqualValues(t, 5, most.Load())
		require.Empty(t, c.Bodies())
		require.NoError(t, c.end())
	})
}

// With a larger Batch the requests are about more messages than the published service takes, but not over HTTP.
func TestConsumerWithLargeBatches(t *testing.T) {
	asked, deleted := new(atomic.Int64), new(atomic.Int64)
	h := func(context.Context, *client.Message) error { return nil }
	put := func(q *tcptest.Queue) {
		asked.Store(0)
		deleted.Store(0)
		q.Refuse = func(r *tcptest.Request) *tcptest.Answer {
			switch r.Cmd {
			case 1024:
				n, _ := r.Number(2)
				asked.Store(max(asked.Load(), int64(n)))
			case 1026:
				deleted.Store(max(deleted.Load(), int64(len(r.Numbers(2)))))
			}
			return nil
		}
		q.Put(numbered(1000)...)
	}
	consume(t, h, client.ConsumerOptions{Batch: 1000, Concurrency: 300, Prefetch: 300, Settlers: 1}, put, func(t *testing.T, c *consuming) {
		tcptest.Pass(time.Second)
		require.Empty(t, c.Bodies())
		require.EqualValues(t, client.MaxWide, asked.Load())
		require.Greater(t, deleted.Load(), int64(client.MaxBatch))
		require.LessOrEqual(t, deleted.Load(), int64(client.MaxWide))
		require.NoError(t, c.end())
	})
}

// No more messages are held than handlers and Prefetch have room for.
func TestConsumerHoldsNoMoreThanItMay(t *testing.T) {
	release := new(chan struct{})
	h := func(ctx context.Context, m *client.Message) error { <-*release; return nil }
	consume(t, h, client.ConsumerOptions{Concurrency: 3, Prefetch: 4}, func(*tcptest.Queue) { *release = make(chan struct{}) }, func(t *testing.T, c *consuming) {
		c.Put(numbered(50)...)
		tcptest.Pass(time.Minute)
		_, _, locked := c.Counts()
		require.Equal(t, 7, locked, "and their locks are kept, however long it takes")
		close(*release)
		tcptest.Pass(time.Second)
		require.Empty(t, c.Bodies())
	})
}

// A message whose handler fails, or panics, comes again after the delay.
func TestConsumerGivesBack(t *testing.T) {
	for name, fail := range map[string]func() error{"error": func() error { return errors.New("not now") }, "panic": func() error { panic("not now") }} {
		t.Run(name, func(t *testing.T) {
			var at []time.Duration
			var begun time.Time
			h := func(ctx context.Context, m *client.Message) error {
				at = append(at, time.Since(begun))
				if m.DequeueCount < 4 {
					return fail()
				}
				return nil
			}
			consume(t, h, client.ConsumerOptions{}, nil, func(t *testing.T, c *consuming) {
				begun = time.Now()
				c.Put("x")
				tcptest.Pass(time.Minute)
				require.Equal(t, []time.Duration{0, time.Second, 3 * time.Second, 7 * time.Second}, at)
				require.Empty(t, c.Bodies())
				require.Contains(t, c.log.String(), "not now")
			})
		})
	}
	var count atomic.Int32
	h := func(ctx context.Context, m *client.Message) error { count.Add(1); return errors.New("no") }
	o := client.ConsumerOptions{Visibility: 10 * time.Second, RetryDelay: func(*client.Message, error) time.Duration { return -1 }}
	consume(t, h, o, nil, func(t *testing.T, c *consuming) {
		c.Put("x")
		tcptest.Pass(10*time.Second - time.Millisecond)
		require.EqualValues(t, 1, count.Load())
		tcptest.Pass(time.Second)
		require.EqualValues(t, 2, count.Load(), "it came when its lock ended")
	})
}

// A lock is prolonged for as long as its handler works, so that nobody else gets the message.
func TestConsumerKeepsLocks(t *testing.T) {
	var handled atomic.Int32
	h := func(ctx context.Context, m *client.Message) error {
		handled.Add(1)
		select {
		case <-time.After(time.Minute):
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	consume(t, h, client.ConsumerOptions{Visibility: 5 * time.Second, Concurrency: 20}, nil, func(t *testing.T, c *consuming) {
		c.Put(numbered(20)...)
		tcptest.Pass(59 * time.Second)
		require.EqualValues(t, 20, handled.Load())
		tcptest.Pass(2 * time.Second)
		require.Empty(t, c.Bodies())
		require.EqualValues(t, 20, handled.Load())
	})
}

// Where locks cannot be prolonged a handler's context ends before the lock does.
func TestConsumerEndsHandlersWithTheirLocks(t *testing.T) {
	for name, c := range map[string]struct {
		o   client.ConsumerOptions
		set func(*tcptest.Queue)
	}{
		"not wanted":        {client.ConsumerOptions{Visibility: 5 * time.Second, NoExtend: true}, nil},
		"not known":         {client.ConsumerOptions{Visibility: 5 * time.Second}, func(q *tcptest.Queue) { q.NoExtensions = true }},
		"refused each time": {client.ConsumerOptions{Visibility: 5 * time.Second}, refuseChanges(10810)},
	} {
		t.Run(name, func(t *testing.T) {
			log := &handling{running: make(map[string]bool)}
			h := func(ctx context.Context, m *client.Message) error {
				defer log.begin(t, m)()
				<-ctx.Done()
				if !errors.Is(context.Cause(ctx), client.ErrLockLost) {
					t.Errorf("cause %v", context.Cause(ctx))
				}
				return ctx.Err()
			}
			consume(t, h, c.o, c.set, func(t *testing.T, c *consuming) {
				c.Put("x")
				tcptest.Pass(24 * time.Second)
				require.Equal(t, 5, log.count(), "once for each lock")
			})
		})
	}
}

// refuseChanges lets every change of visibility end with a result.
func refuseChanges(result int32) func(q *tcptest.Queue) {
	return func(q *tcptest.Queue) {
		q.Refuse = func(r *tcptest.Request) *tcptest.Answer {
			if r.Cmd == 10001 {
				return &tcptest.Answer{Result: result, Error: "no"}
			}
			return nil
		}
	}
}

// handling notes which messages handlers work on, and that no two work on one.
type handling struct {
	mu      sync.Mutex
	running map[string]bool
	begun   int
}

func (h *handling) begin(t *testing.T, m *client.Message) (end func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.begun++
	if h.running[m.ID] {
		t.Errorf("two handlers work on message %s at %v", m.ID, time.Now())
	}
	h.running[m.ID] = true
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.running[m.ID] = false
	}
}

func (h *handling) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.begun
}

func TestConsumerHandlerTimeout(t *testing.T) {
	var causes []error
	h := func(ctx context.Context, m *client.Message) error {
		begun := time.Now()
		<-ctx.Done()
		if took := time.Since(begun); took != 7*time.Second {
			t.Errorf("%v", took)
		}
		causes = append(causes, context.Cause(ctx))
		return ctx.Err()
	}
	consume(t, h, client.ConsumerOptions{Visibility: 5 * time.Second, HandlerTimeout: 7 * time.Second}, nil, func(t *testing.T, c *consuming) {
		c.Put("x")
		tcptest.Pass(20 * time.Second)
		require.Equal(t, []error{client.ErrHandlerTimeout, client.ErrHandlerTimeout}, causes, "it is given back and comes again")
	})
}

// When the consumer stops, handlers finish, and what waits for one is given back at once.
func TestConsumerStops(t *testing.T) {
	var handled atomic.Int32
	h := func(ctx context.Context, m *client.Message) error {
		select {
		case <-time.After(10 * time.Second):
			handled.Add(1)
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	consume(t, h, client.ConsumerOptions{Concurrency: 2, Prefetch: 3}, nil, func(t *testing.T, c *consuming) {
		c.Put(numbered(10)...)
		tcptest.Pass(time.Second)
		_, ready, locked := c.Counts()
		require.Equal(t, []int{5, 5}, []int{ready, locked})
		begun := time.Now()
		require.NoError(t, c.end())
		require.Equal(t, 9*time.Second, time.Since(begun))
		require.EqualValues(t, 2, handled.Load())
		_, ready, locked = c.Counts()
		require.Equal(t, []int{8, 0}, []int{ready, locked})
	})
	handled.Store(0)
	consume(t, h, client.ConsumerOptions{StopTimeout: 3 * time.Second}, nil, func(t *testing.T, c *consuming) {
		c.Put("x")
		tcptest.Pass(time.Second)
		begun := time.Now()
		require.NoError(t, c.end())
		require.Equal(t, 3*time.Second, time.Since(begun))
		require.Zero(t, handled.Load())
		_, ready, _ := c.Counts()
		require.Equal(t, 1, ready, "given back")
	})
	// Idle: the receive that waits is taken back.
	consume(t, h, client.ConsumerOptions{}, nil, func(t *testing.T, c *consuming) {
		tcptest.Pass(time.Second)
		require.Equal(t, 1, c.Waiting())
		begun := time.Now()
		require.NoError(t, c.end())
		require.Zero(t, time.Since(begun))
		require.Zero(t, c.Waiting())
	})
}

// At a service without ChangeVisibility what waits is handled too when the consumer stops.
func TestConsumerStopsWhereNothingCanBeGivenBack(t *testing.T) {
	var handled atomic.Int32
	h := func(ctx context.Context, m *client.Message) error {
		<-time.After(10 * time.Second)
		handled.Add(1)
		return nil
	}
	o := client.ConsumerOptions{Concurrency: 1, Prefetch: 1, Visibility: 60 * time.Second}
	consume(t, h, o, func(q *tcptest.Queue) { q.NoExtensions = true }, func(t *testing.T, c *consuming) {
		c.Put("a", "b", "c", "d")
		tcptest.Pass(45 * time.Second) // the first attempt to prolong says that it cannot be done
		require.NoError(t, c.end())
		stored, _, locked := c.Counts()
		require.Equal(t, 4, stored)
		require.Zero(t, locked)
	})
}

// The answer to a delete is lost: it is asked again, and the message is not handled twice.
func TestConsumerRepeatsDeletes(t *testing.T) {
	var handled atomic.Int32
	h := func(ctx context.Context, m *client.Message) error { handled.Add(1); return nil }
	lost := 0
	consume(t, h, client.ConsumerOptions{}, func(q *tcptest.Queue) {
		q.Drop = func(r *tcptest.Request) bool {
			if r.Cmd == 1025 && lost < 3 {
				lost++
				return true
			}
			return false
		}
	}, func(t *testing.T, c *consuming) {
		c.Put("x")
		tcptest.Pass(5 * time.Minute)
		require.Empty(t, c.Bodies())
		require.EqualValues(t, 1, handled.Load())
		require.NotContains(t, c.log.String(), "they come again")
	})
}

// A service that is away, or has too much to do, is asked again, less and less often.
func TestConsumerGoesOnAfterFailures(t *testing.T) {
	var handled atomic.Int32
	h := func(ctx context.Context, m *client.Message) error { handled.Add(1); return nil }
	consume(t, h, client.ConsumerOptions{}, nil, func(t *testing.T, c *consuming) {
		tcptest.Pass(time.Second)
		c.n.Stop("a:1")
		c.Put("x")
		tcptest.Pass(time.Minute)
		require.Less(t, c.n.Dials("a:1"), 200)
		c.n.Start("a:1", c.Handle)
		tcptest.Pass(5 * time.Second)
		require.EqualValues(t, 1, handled.Load())
	})
	var taken atomic.Bool
	consume(t, h, client.ConsumerOptions{}, func(q *tcptest.Queue) {
		q.Refuse = func(r *tcptest.Request) *tcptest.Answer {
			if r.Cmd == 1024 && !taken.Load() {
				return &tcptest.Answer{Result: 10690, Error: "too many unacked(inactive) messages or delayed messages"}
			}
			return nil
		}
	}, func(t *testing.T, c *consuming) {
		c.Put("x")
		tcptest.Pass(10 * time.Second)
		taken.Store(true)
		tcptest.Pass(5 * time.Second)
		require.EqualValues(t, 2, handled.Load())
	})
}

// A refusal that time does not change ends the consumer.
func TestConsumerEndsWithItsQueue(t *testing.T) {
	h := func(ctx context.Context, m *client.Message) error { return nil }
	consume(t, h, client.ConsumerOptions{Polls: 3}, func(q *tcptest.Queue) {
		q.Refuse = func(r *tcptest.Request) *tcptest.Answer {
			return &tcptest.Answer{Result: 10100, Error: "queue is not existed, or deleted"}
		}
	}, func(t *testing.T, c *consuming) {
		err := <-c.done
		require.ErrorIs(t, err, client.ErrQueueNotExist)
		c.done <- err
	})
}

// With locks too short to wait under them the consumer asks again and again, but not in a tight loop.
func TestConsumerWithShortLocks(t *testing.T) {
	var handled atomic.Int32
	h := func(ctx context.Context, m *client.Message) error { handled.Add(1); return nil }
	consume(t, h, client.ConsumerOptions{Visibility: time.Second}, nil, func(t *testing.T, c *consuming) {
		tcptest.Pass(time.Minute)
		require.Less(t, c.Polls(), 100)
		c.Put("x")
		tcptest.Pass(2 * time.Second)
		require.EqualValues(t, 1, handled.Load())
	})
}

// Several consumers, servers that come and go, answers that are lost, locks that cannot be prolonged in time, handlers of
// all lengths: everything is handled, and no message by two handlers at once.
func TestNoTwoHandlersWorkOnOneMessage(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) { trouble(t, seed) })
	}
}

func trouble(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 7))
	n, queue := tcptest.NewNetwork(), tcptest.NewQueue()
	dropped := rand.New(rand.NewPCG(seed, 8))
	queue.Drop = func(r *tcptest.Request) bool { return r.Cmd != 1040 && dropped.IntN(20) == 0 }
	var mu sync.Mutex // Drop is called by several connections
	handle := func(s *tcptest.Session, r *tcptest.Request) {
		mu.Lock()
		defer mu.Unlock()
		queue.Handle(s, r)
	}
	n.Start("a:1", handle)
	n.Start("b:1", handle)
	defer n.Close()
	log := &handling{running: make(map[string]bool)}
	handled := make(map[string]bool)
	ctx, stop := context.WithCancel(context.Background())
	var consumers sync.WaitGroup
	defer consumers.Wait()
	defer stop()
	for i := range 3 {
		c, err := client.New("tcp://a:1", testID, testKey, client.WithEndpoints("tcp://b:1"), client.WithDialer(n.Dial), client.WithTimeout(2*time.Second))
		require.NoError(t, err)
		lengths := rand.New(rand.NewPCG(seed, uint64(100+i)))
		h := func(ctx context.Context, m *client.Message) error {
			defer log.begin(t, m)()
			log.mu.Lock()
			length := time.Duration(lengths.IntN(8000)) * time.Millisecond
			log.mu.Unlock()
			select {
			case <-time.After(length):
				log.mu.Lock()
				handled[m.Body] = true
				log.mu.Unlock()
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		consumers.Go(func() {
			o := client.ConsumerOptions{Concurrency: 4, Visibility: 4 * time.Second, NoExtend: i == 2, RetryDelay: func(*client.Message, error) time.Duration { return time.Second }}
			if err := c.Queue("q").Consume(ctx, h, o); err != nil {
				t.Error(err)
			}
			c.Close()
		})
	}
	queue.Put(numbered(60)...)
	for range 30 {
		away := [][]string{{"a:1"}, {"b:1"}, {"a:1", "b:1"}}[rnd.IntN(3)]
		tcptest.Pass(time.Duration(rnd.IntN(3000)) * time.Millisecond)
		for _, addr := range away {
			n.Stop(addr)
		}
		tcptest.Pass(time.Duration(rnd.IntN(6000)) * time.Millisecond)
		for _, addr := range away {
			n.Start(addr, handle)
		}
	}
	for waited := 0; len(queue.Bodies()) > 0 && waited < 600; waited++ {
		tcptest.Pass(time.Second)
	}
	require.Empty(t, queue.Bodies(), "seed %d", seed)
	stop()
	consumers.Wait()
	require.Len(t, handled, 60, "seed %d", seed)
}
