package e2e

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/client"
	"github.com/opencmq/cmq/test/cluster"
)

// work is what handlers did with the messages of one queue.
type work struct {
	t *testing.T

	mu        sync.Mutex
	confirmed map[string]bool
	working   map[string]time.Time // when a handler began on the message that it works on
	handled   map[string]int
	stored    map[string]string // the id a message came with first
	twice     int               // messages that came with two ids: they were stored twice
	failed    int               // sends that were not confirmed
	lost      int               // handlers whose lock was lost
	wrong     []string
}

// handle works for a while, as a program does: it stops when its context ends, and counts what it has finished.
func (w *work) handle(ctx context.Context, m *client.Message) error {
	w.begin(m)
	defer w.end(m.Body)
	length := time.Duration(rand.IntN(50)) * time.Millisecond
	if rand.IntN(50) == 0 {
		length = time.Duration(rand.IntN(15)) * time.Second // longer than the lock
	}
	select {
	case <-time.After(length):
		w.mu.Lock()
		w.handled[m.Body]++
		w.mu.Unlock()
		return nil
	case <-ctx.Done():
		w.mu.Lock()
		w.lost++
		w.mu.Unlock()
		return context.Cause(ctx)
	}
}

func (w *work) begin(m *client.Message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	body := m.Body
	if id := w.stored[body]; id != "" && id != m.ID {
		w.twice++
	}
	w.stored[body] = m.ID
	if since, busy := w.working[body]; busy {
		w.wrong = append(w.wrong, fmt.Sprintf("message %s: a second handler began %v after the first, which still works", body, time.Since(since)))
	}
	w.working[body] = time.Now()
}

func (w *work) end(body string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.working, body)
}

// produce sends until ctx ends and notes what is confirmed.
func (w *work) produce(ctx context.Context, q *client.Queue) {
	p := q.NewProducer(client.ProducerOptions{Once: true})
	var waiting sync.WaitGroup
	for n := 0; ctx.Err() == nil; n++ {
		body := fmt.Sprintf("%s-%d", q.Name(), n)
		f, err := p.SendAsync(ctx, body)
		if err != nil {
			break
		}
		waiting.Go(func() {
			_, err := f.Wait(context.Background())
			w.mu.Lock()
			defer w.mu.Unlock()
			if err != nil {
				w.failed++
				return
			}
			w.confirmed[body] = true
		})
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	if err := p.Close(context.Background()); err != nil {
		w.t.Error(err)
	}
	waiting.Wait()
}

// missing counts confirmed messages that no handler has finished.
func (w *work) missing() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for body := range w.confirmed {
		if w.handled[body] == 0 {
			n++
		}
	}
	return n
}

// Three consumers work on a queue, over each protocol, while the leader of its set is killed again and again. Every
// confirmed message is handled, and no handler works on a message while another has its lock. The producers have sessions:
// every send is confirmed in the end, and none is stored twice.
func TestConsumersThroughFailover(t *testing.T) {
	kills, pause := cluster.Size(t, "CMQ_E2E_CONSUMER_KILLS", 2), time.Duration(cluster.Size(t, "CMQ_E2E_CONSUMER_PAUSE", 4))*time.Second
	c := cluster.Start(t, cluster.Options{Binary: binary})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	producing, stopProducing := context.WithCancel(ctx)
	consuming, stopConsuming := context.WithCancel(ctx)
	defer stopConsuming()
	var producers, consumers sync.WaitGroup
	works := make(map[string]*work)
	lock := 8 * time.Second
	var set uint64
	for _, protocol := range []string{"http", "tcp"} {
		sdk := func() *client.Client {
			return c.SDK(protocol == "tcp", client.WithLogger(slog.New(slog.NewTextHandler(t.Output(), nil))))
		}
		_, err := sdk().CreateQueue(ctx, protocol, client.Settings{VisibilityTimeout: &lock})
		require.NoError(t, err)
		probe, err := sdk().Queue(protocol).Send(ctx, "probe")
		require.NoError(t, err)
		set = cluster.SetOf(t, probe)
		w := &work{t: t, confirmed: map[string]bool{"probe": true}, working: make(map[string]time.Time), handled: make(map[string]int), stored: make(map[string]string)}
		works[protocol] = w
		producers.Go(func() { w.produce(producing, sdk().Queue(protocol)) })
		for range 3 {
			q := sdk().Queue(protocol)
			consumers.Go(func() {
				if err := q.Consume(consuming, w.handle, client.ConsumerOptions{Concurrency: 64}); err != nil {
					t.Error(err)
				}
			})
		}
	}
	for range kills {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		victim := c.Leader(set)
		c.Kill(victim)
		c.Start(victim)
		c.WaitReady(victim)
	}
	stopProducing()
	producers.Wait()
	for protocol, w := range works {
		require.NoError(t, cluster.Eventually(2*time.Minute, func() error {
			if n := w.missing(); n > 0 {
				return fmt.Errorf("%d confirmed messages were not handled", n)
			}
			return nil
		}), protocol)
	}
	stopConsuming()
	consumers.Wait()
	for protocol, w := range works {
		require.Empty(t, w.wrong, protocol)
		require.Greater(t, len(w.confirmed), 100)
		again := 0
		for _, times := range w.handled {
			again += times - 1
		}
		t.Logf("%s: %d confirmed, all handled, %d of them more than once; %d sends not confirmed; %d handlers lost their lock", protocol, len(w.confirmed), again, w.failed, w.lost)
		require.Zero(t, w.twice, "messages were stored twice")
		require.Zero(t, w.failed, "sends were not confirmed")
		a, err := c.SDK(false).Queue(protocol).Attributes(ctx)
		require.NoError(t, err)
		if left := a.ActiveMsgNum + a.InactiveMsgNum; left != 0 {
			t.Error(errors.New("the queue is not empty"), left)
		}
	}
}
