package client_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/client"
	"github.com/opencmq/cmq/client/internal/tcptest"
)

// sends is a server that keeps the bodies of each send request and answers when it may.
type sends struct {
	mu      sync.Mutex
	batches [][]string
	next    uint64
	gated   bool          // answers wait for release
	gate    chan struct{} // of the bubble; nil: answers at once
	answer  func(bodies []string) *tcptest.Answer
}

// start makes the gate, which must belong to the bubble.
func (b *sends) start() func(*tcptest.Session, *tcptest.Request) {
	if b.gated {
		b.gate = make(chan struct{})
	}
	return b.handle
}

// release lets all requests be answered.
func (b *sends) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.gate)
	b.gate = nil
}

func (b *sends) handle(s *tcptest.Session, r *tcptest.Request) {
	bodies := r.Texts(2)
	b.mu.Lock()
	b.batches = append(b.batches, bodies)
	a := &tcptest.Answer{}
	for range bodies {
		b.next++
		a.IDs = append(a.IDs, b.next)
	}
	if b.answer != nil {
		if other := b.answer(bodies); other != nil {
			a = other
		}
	}
	gate := b.gate
	b.mu.Unlock()
	if gate == nil {
		s.Answer(r, *a)
		return
	}
	go func() {
		<-gate
		s.Answer(r, *a)
	}()
}

func (b *sends) sizes() (sizes []int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, batch := range b.batches {
		sizes = append(sizes, len(batch))
	}
	return sizes
}

// producing runs f in a bubble with a producer on a server that keeps batches.
func producing(t *testing.T, o client.ProducerOptions, server *sends, f func(t *testing.T, p *client.Producer)) {
	tcpBubble(t, []client.Option{client.WithRetries(0)}, func(t *testing.T, n *tcptest.Network, c *client.Client) {
		n.Start("a:1", server.start())
		p := c.Queue("q").NewProducer(o)
		f(t, p)
		require.NoError(t, p.Close(context.Background()))
	})
}

func accept(t *testing.T, p *client.Producer, bodies ...string) (futures []client.Future) {
	for _, b := range bodies {
		f, err := p.SendAsync(t.Context(), b)
		require.NoError(t, err)
		futures = append(futures, f)
	}
	return futures
}

func numbered(n int) (bodies []string) {
	for i := range n {
		bodies = append(bodies, fmt.Sprint(i))
	}
	return bodies
}

// The first message goes at once; what arrives while all requests are under way goes together.
func TestProducerBatchesWhileItWaits(t *testing.T) {
	server := &sends{gated: true}
	producing(t, client.ProducerOptions{InFlight: 1}, server, func(t *testing.T, p *client.Producer) {
		futures := accept(t, p, "0")
		synctest.Wait()
		futures = append(futures, accept(t, p, numbered(20)...)...)
		synctest.Wait()
		require.Equal(t, []int{1}, server.sizes())
		server.release()
		for i, f := range futures {
			id, err := f.Wait(t.Context())
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint(i+1), id, "one request at a time keeps the order")
		}
		require.Equal(t, []int{1, 16, 4}, server.sizes())
	})
}

func TestProducerLingers(t *testing.T) {
	server := &sends{}
	producing(t, client.ProducerOptions{Linger: 10 * time.Millisecond, Batch: 4}, server, func(t *testing.T, p *client.Producer) {
		begun := time.Now()
		futures := accept(t, p, "a", "b")
		_, err := futures[1].Wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, 10*time.Millisecond, time.Since(begun))
		accept(t, p, "c", "d", "e", "f")
		synctest.Wait()
		require.Equal(t, []int{2, 4}, server.sizes(), "a full batch does not linger")
		require.Equal(t, 10*time.Millisecond, time.Since(begun))
		accept(t, p, "g")
		require.NoError(t, p.Flush(t.Context()))
		require.Equal(t, []int{2, 4, 1}, server.sizes(), "a flush does not linger")
		require.Equal(t, 10*time.Millisecond, time.Since(begun))
	})
}

// Only messages with the same delay share a request, and their bodies have a limit together.
func TestProducerBatchLimits(t *testing.T) {
	server := &sends{}
	producing(t, client.ProducerOptions{Linger: time.Hour, BatchBytes: 10}, server, func(t *testing.T, p *client.Producer) {
		for _, m := range []struct {
			body  string
			delay time.Duration
		}{{"1", 0}, {"2", 0}, {"3", time.Second}, {"4", time.Second}, {"5", 0}, {"123456789", 0}, {"6", 0}, {"more than ten bytes", 0}, {"7", 0}} {
			_, err := p.SendDelayedAsync(t.Context(), m.body, m.delay)
			require.NoError(t, err)
		}
		require.NoError(t, p.Flush(t.Context()))
		require.ElementsMatch(t, [][]string{{"1", "2"}, {"3", "4"}, {"5", "123456789"}, {"6"}, {"more than ten bytes"}, {"7"}}, server.batches)
	})
}

// Callers wait while the producer is full, by number or by bytes.
func TestProducerBackPressure(t *testing.T) {
	for name, o := range map[string]client.ProducerOptions{"number": {MaxMessages: 3, InFlight: 1}, "bytes": {MaxBytes: 3, InFlight: 1}} {
		t.Run(name, func(t *testing.T) {
			server := &sends{gated: true}
			producing(t, o, server, func(t *testing.T, p *client.Producer) {
				accept(t, p, "a", "b", "c")
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_, err := p.SendAsync(ctx, "d")
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.Equal(t, client.NotStored, client.OutcomeOf(err))
				accepted := make(chan struct{})
				go func() {
					defer close(accepted)
					accept(t, p, "e")
				}()
				synctest.Wait()
				select {
				case <-accepted:
					t.Fatal("accepted although it is full")
				default:
				}
				server.release()
				<-accepted
			})
			require.NotContains(t, fmt.Sprint(server.batches), "d")
		})
	}
	producing(t, client.ProducerOptions{MaxBytes: 3}, &sends{}, func(t *testing.T, p *client.Producer) {
		accept(t, p, "longer than all that may be kept") // goes alone
	})
}

// What certainly was not stored is sent again until it is, or RetryFor is over; what may be stored only if that is
// wanted.
func TestProducerRepeats(t *testing.T) {
	busy, broken := &tcptest.Answer{Result: 10250, Error: "qps throttling"}, &tcptest.Answer{Result: 10090, Error: "send message failed"}
	full := &tcptest.Answer{Result: 10240, Error: "reach maximum retention number of message"}
	fails := func(times int, with *tcptest.Answer) *sends {
		return &sends{answer: func([]string) *tcptest.Answer {
			if times--; times >= 0 {
				return with
			}
			return nil
		}}
	}
	for name, c := range map[string]struct {
		server   *sends
		o        client.ProducerOptions
		outcome  client.Outcome
		attempts int
	}{
		"too much to do":      {fails(3, busy), client.ProducerOptions{}, client.Stored, 4},
		"full":                {fails(5, full), client.ProducerOptions{}, client.Stored, 6},
		"too often":           {fails(1000, busy), client.ProducerOptions{RetryFor: time.Second}, client.NotStored, 6},
		"tried once":          {fails(1000, busy), client.ProducerOptions{RetryFor: -1}, client.NotStored, 1},
		"unknown":             {fails(1, broken), client.ProducerOptions{}, client.Unknown, 1},
		"unknown is repeated": {fails(2, broken), client.ProducerOptions{RepeatUnknown: true}, client.Stored, 3},
		"unknown to the end":  {fails(1000, broken), client.ProducerOptions{RepeatUnknown: true, RetryFor: time.Second}, client.Unknown, 6},
	} {
		t.Run(name, func(t *testing.T) {
			producing(t, c.o, c.server, func(t *testing.T, p *client.Producer) {
				_, err := p.Send(t.Context(), "x")
				require.Equal(t, c.outcome, client.OutcomeOf(err), "%v", err)
				require.InDelta(t, c.attempts, len(c.server.sizes()), 1)
				if c.attempts == 1 {
					require.Len(t, c.server.sizes(), 1)
				}
			})
		})
	}
	// Once it may have been stored a later refusal does not make it certain that it was not.
	unknown := true
	server := &sends{answer: func([]string) *tcptest.Answer {
		if unknown {
			unknown = false
			return broken
		}
		return &tcptest.Answer{Result: 10100, Error: "queue is not existed, or deleted"}
	}}
	producing(t, client.ProducerOptions{RepeatUnknown: true}, server, func(t *testing.T, p *client.Producer) {
		_, err := p.Send(t.Context(), "x")
		require.ErrorIs(t, err, client.ErrQueueNotExist)
		require.Equal(t, client.Unknown, client.OutcomeOf(err))
	})
}

// One message that the service refuses does not take the others of its batch with it.
func TestProducerSplitsRefusedBatches(t *testing.T) {
	server := &sends{answer: func(bodies []string) *tcptest.Answer {
		for _, b := range bodies {
			if b == "bad" {
				return &tcptest.Answer{Result: 10230, Error: "exceed maximum message size"}
			}
		}
		return nil
	}}
	producing(t, client.ProducerOptions{Linger: time.Millisecond}, server, func(t *testing.T, p *client.Producer) {
		futures := accept(t, p, "1", "bad", "3")
		for i, f := range futures {
			id, err := f.Wait(t.Context())
			if i == 1 {
				require.ErrorIs(t, err, client.ErrMsgSize)
				continue
			}
			require.NoError(t, err)
			require.NotEmpty(t, id)
		}
		require.Equal(t, []int{3, 1, 1, 1}, server.sizes())
	})
}

// Flush waits for what was accepted before it, not for what came later.
func TestProducerFlush(t *testing.T) {
	server := &sends{gated: true}
	producing(t, client.ProducerOptions{InFlight: 1}, server, func(t *testing.T, p *client.Producer) {
		require.NoError(t, p.Flush(t.Context()), "nothing is there")
		accept(t, p, numbered(40)...)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, p.Flush(ctx), context.DeadlineExceeded)
		flushed := make(chan struct{})
		go func() {
			defer close(flushed)
			if err := p.Flush(t.Context()); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		late := accept(t, p, numbered(40)...)
		server.release()
		<-flushed
		synctest.Wait()
		_, err := late[39].Wait(t.Context())
		require.NoError(t, err)
	})
}

func TestProducerClose(t *testing.T) {
	server := &sends{gated: true}
	tcpBubble(t, nil, func(t *testing.T, n *tcptest.Network, c *client.Client) {
		n.Start("a:1", server.start())
		p := c.Queue("q").NewProducer(client.ProducerOptions{InFlight: 1, MaxMessages: 20})
		first := accept(t, p, "0")
		synctest.Wait()
		rest := accept(t, p, numbered(19)...)
		blocked := make(chan error, 1)
		go func() {
			_, err := p.SendAsync(t.Context(), "x")
			blocked <- err
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, p.Close(ctx), context.DeadlineExceeded)
		require.ErrorIs(t, <-blocked, client.ErrClosed)
		_, err := p.SendAsync(t.Context(), "x")
		require.ErrorIs(t, err, client.ErrClosed)
		_, err = first[0].Wait(t.Context())
		require.Equal(t, client.Unknown, client.OutcomeOf(err), "its request was under way")
		for _, f := range rest {
			_, err = f.Wait(t.Context())
			require.ErrorIs(t, err, client.ErrClosed)
			require.Equal(t, client.NotStored, client.OutcomeOf(err))
		}
		server.release()
	})
}

// Whoever stops waiting does not take the message back, and may ask again.
func TestFutureIsAwaitedTwice(t *testing.T) {
	server := &sends{gated: true}
	producing(t, client.ProducerOptions{}, server, func(t *testing.T, p *client.Producer) {
		f := accept(t, p, "x")[0]
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := f.Wait(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, client.Unknown, client.OutcomeOf(err))
		server.release()
		<-f.Done()
		id, err := f.Wait(ctx)
		require.NoError(t, err, "what is known is told although the context has ended")
		require.Equal(t, "1", id)
	})
}

// Many callers, a small producer: every message is sent once.
func TestProducerUnderLoad(t *testing.T) {
	server := &sends{}
	producing(t, client.ProducerOptions{InFlight: 4, MaxMessages: 50}, server, func(t *testing.T, p *client.Producer) {
		var callers sync.WaitGroup
		for w := range 20 {
			callers.Go(func() {
				for i := range 50 {
					if _, err := p.Send(t.Context(), fmt.Sprintf("%d-%d", w, i)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		callers.Wait()
		seen := make(map[string]int)
		for _, b := range server.batches {
			for _, body := range b {
				seen[body]++
			}
		}
		require.Len(t, seen, 1000)
		for body, times := range seen {
			require.Equal(t, 1, times, body)
		}
	})
}

func TestTopicProducer(t *testing.T) {
	tcpBubble(t, nil, func(t *testing.T, n *tcptest.Network, c *client.Client) {
		var last tcptest.Request
		n.Start("a:1", answering(&last, &tcptest.Answer{IDs: []uint64{1, 2}}))
		p := c.Topic("news").NewProducer(client.ProducerOptions{Linger: time.Millisecond}, client.PublishOptions{Tags: []string{"red"}})
		futures := accept(t, p, "a", "b")
		_, err := futures[0].Wait(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 1028, last.Cmd)
		require.Equal(t, []string{"red"}, last.Texts(3))
		require.NoError(t, p.Close(t.Context()))
	})
}
