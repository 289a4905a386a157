package cluster

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/opencmq/cmq/client"
)

// LoadOptions say what clients do.
type LoadOptions struct {
	Senders, Receivers int           // clients; they begin with different nodes and go to the others when one is away
	Every              time.Duration // how often one sender sends a batch; 0: as often as it is answered
	Batch, Size        int           // messages in a batch, bytes of a message; 0: 4 and 1024
	Leave              int           // one in so many messages is not deleted when it is received first; 0: none is left
}

// Load is clients that send, receive and delete until they are told to stop.
type Load struct {
	stopSending, stopReceiving context.CancelFunc
	senders, receivers         sync.WaitGroup
}

// loads counts the loads of this process, so that no two have a key in common.
var loads struct {
	sync.Mutex
	n int
}

// Load starts clients on a queue that exists. They end with ctx.
func (c *Cluster) Load(ctx context.Context, queue string, l *Ledger, o LoadOptions) *Load {
	if o.Batch == 0 {
		o.Batch = 4
	}
	if o.Size == 0 {
		o.Size = 1024
	}
	loads.Lock()
	loads.n++
	name := loads.n
	loads.Unlock()
	load := &Load{}
	sending, stopSending := context.WithCancel(ctx)
	receiving, stopReceiving := context.WithCancel(ctx)
	load.stopSending, load.stopReceiving = stopSending, stopReceiving
	for w := range o.Senders {
		q := c.Client(w, true).Queue(queue)
		load.senders.Go(func() { send(sending, l, q, fmt.Sprintf("%d-%d", name, w), &o) })
	}
	leave := func(key string) bool { return o.Leave > 0 && hash(key)%uint64(o.Leave) == 0 }
	for w := range o.Receivers {
		q := c.Client(w, true).Queue(queue)
		load.receivers.Go(func() { Consume(receiving, l, q, leave) })
	}
	return load
}

// send sends batches until ctx ends. Every batch has new keys, also after a failure.
func send(ctx context.Context, l *Ledger, q *client.Queue, name string, o *LoadOptions) {
	var due <-chan time.Time
	if o.Every > 0 {
		tick := time.NewTicker(o.Every)
		defer tick.Stop()
		due = tick.C
	}
	keys := make([]string, o.Batch)
	for n := 0; ctx.Err() == nil; n++ {
		for i := range keys {
			keys[i] = fmt.Sprintf("%s-%d-%d", name, n, i)
		}
		if l.Send(ctx, q, keys, o.Size) != nil {
			Pause(ctx)
		}
		if due != nil {
			select {
			case <-due:
			case <-ctx.Done():
			}
		}
	}
}

// Consume receives and deletes until ctx ends. For leave see Ledger.Receive.
func Consume(ctx context.Context, l *Ledger, q *client.Queue, leave func(key string) bool) {
	for ctx.Err() == nil {
		if l.Receive(ctx, q, time.Second, leave) != nil {
			Pause(ctx)
		}
	}
}

// StopSending ends the senders and waits for their last answers.
func (l *Load) StopSending() {
	l.stopSending()
	l.senders.Wait()
}

// Stop ends all clients and waits for them.
func (l *Load) Stop() {
	l.StopSending()
	l.stopReceiving()
	l.receivers.Wait()
}

// Drain receives and deletes what is in the queue until nothing is missing and the queue says that it is empty. It
// returns what is wrong with that after limit.
func (c *Cluster) Drain(ctx context.Context, queue string, l *Ledger, limit time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var receivers sync.WaitGroup
	for w := range 4 {
		q := c.Client(w, true).Queue(queue)
		receivers.Go(func() { Consume(ctx, l, q, nil) })
	}
	q := c.Client(0, true).Queue(queue)
	err := Eventually(limit, func() error {
		a, err := q.Attributes(ctx)
		if err != nil {
			return err
		}
		if n := l.Missing(); n > 0 || a.ActiveMsgNum+a.InactiveMsgNum+a.DelayMsgNum != 0 {
			return fmt.Errorf("%d confirmed messages did not come, among them %v; the queue counts %d active, %d inactive, %d delayed",
				n, l.Lost(), a.ActiveMsgNum, a.InactiveMsgNum, a.DelayMsgNum)
		}
		return nil
	})
	cancel()
	receivers.Wait()
	return err
}
