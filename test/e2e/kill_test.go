package e2e

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/test/cluster"
)

// Clients on all three nodes send, receive and delete while one node is killed and started again. Every confirmed
// message is seen, none after its confirmed delete, and in the end the queue is empty.
func TestNodeKilledUnderLoad(t *testing.T) {
	total := cluster.Size(t, "CMQ_E2E_MESSAGES", 1500)
	c := cluster.Start(t, cluster.Options{Binary: binary})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	c.CreateQueue(ctx, "load")
	l := cluster.NewLedger()
	start := time.Now()

	var senders, receivers sync.WaitGroup
	var sent atomic.Int64
	third, twoThirds := make(chan struct{}), make(chan struct{})
	const workers, batch = 6, 8
	for w := range workers {
		q := c.Client(w, false).Queue("load")
		senders.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				done := sent.Add(batch) - batch
				if done >= int64(total) {
					return
				}
				for _, mark := range []struct {
					at int64
					ch chan struct{}
				}{{int64(total) / 3, third}, {int64(total) * 2 / 3, twoThirds}} {
					if done <= mark.at && mark.at < done+batch {
						close(mark.ch)
					}
				}
				keys := make([]string, batch)
				for try := 0; ctx.Err() == nil; try++ {
					for i := range keys {
						keys[i] = fmt.Sprintf("%d-%d-%d-%d", w, n, i, try)
					}
					if l.Send(ctx, q, keys, 1024) == nil {
						break
					}
					cluster.Pause(ctx)
				}
			}
		})
	}
	receiving, stop := context.WithCancel(ctx)
	defer stop()
	for w := range workers {
		q := c.Client(w, false).Queue("load")
		receivers.Go(func() {
			for receiving.Err() == nil {
				if l.Receive(receiving, q, time.Second, nil) != nil {
					cluster.Pause(receiving)
				}
			}
		})
	}

	victim := c.Nodes[1]
	<-third
	c.Kill(victim)
	killed := time.Now()
	select {
	case <-twoThirds:
	case <-time.After(20 * time.Second): // its own clients may wait for it, so do not wait for them for ever
	}
	c.Start(victim)
	c.WaitReady(victim)
	t.Logf("node %d was away for %v", victim.ID, time.Since(killed).Round(time.Millisecond))
	senders.Wait()

	q := c.Client(0, true).Queue("load")
	require.NoError(t, cluster.Eventually(2*time.Minute, func() error {
		if n := l.Missing(); n > 0 {
			return fmt.Errorf("%d confirmed messages were not seen", n)
		}
		a, err := q.Attributes(ctx)
		if err == nil && a.ActiveMsgNum+a.InactiveMsgNum+a.DelayMsgNum != 0 {
			err = fmt.Errorf("the queue still counts %d active, %d inactive, %d delayed", a.ActiveMsgNum, a.InactiveMsgNum, a.DelayMsgNum)
		}
		return err
	}))
	stop()
	receivers.Wait()
	totals := l.Totals()
	require.Empty(t, l.Wrong())
	require.GreaterOrEqual(t, totals.Confirmed, total)
	t.Logf("%d confirmed and all seen, %d sends without an answer, in %v", totals.Confirmed, totals.Unknown, time.Since(start).Round(time.Millisecond))
}

// The leader of the queue's set is killed under load. How long until the next confirm, for a client that goes to the
// other nodes? Nothing that was confirmed is lost.
func TestFailOver(t *testing.T) {
	runs := cluster.Size(t, "CMQ_E2E_FAILOVERS", 2)
	c := cluster.Start(t, cluster.Options{Binary: binary})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	c.CreateQueue(ctx, "failover")
	l := cluster.NewLedger()

	var load sync.WaitGroup
	var last atomic.Int64 // when the newest confirmed send was begun, Unix nanoseconds
	sending, stop := context.WithCancel(ctx)
	defer stop()
	for w := range 16 {
		q := c.Client(w, true).Queue("failover")
		load.Go(func() {
			for n := 0; sending.Err() == nil; n++ {
				begun := time.Now().UnixNano()
				if l.Send(sending, q, []string{fmt.Sprintf("%d-%d", w, n)}, 1024) != nil {
					cluster.Pause(sending)
					continue
				}
				for old := last.Load(); begun > old && !last.CompareAndSwap(old, begun); old = last.Load() {
				}
			}
		})
	}
	probe, err := c.Client(0, true).Queue("failover").Send(ctx, cluster.Body("probe", 100))
	require.NoError(t, err)
	set := cluster.SetOf(t, probe)

	var gaps []time.Duration
	for range runs {
		victim := c.Leader(set)
		confirmed := l.Totals().Confirmed
		require.NoError(t, cluster.Eventually(time.Minute, func() error { // under load, not before it
			if n := l.Totals().Confirmed; n < confirmed+100 {
				return fmt.Errorf("only %d confirms", n-confirmed)
			}
			return nil
		}))
		killed := time.Now()
		c.Kill(victim)
		gap := time.Duration(0)
		for gap == 0 {
			select {
			case <-l.Changed():
			case <-ctx.Done():
				t.Fatal("no confirm after the leader was killed")
			}
			if last.Load() > killed.UnixNano() {
				gap = time.Since(killed)
			}
		}
		gaps = append(gaps, gap)
		c.Start(victim)
		c.WaitReady(victim)
	}
	stop()
	load.Wait()

	drain, done := context.WithTimeout(ctx, 5*time.Minute)
	defer done()
	var receivers sync.WaitGroup
	for w := range 3 {
		q := c.Client(w, true).Queue("failover")
		receivers.Go(func() {
			for drain.Err() == nil && l.Missing() > 0 {
				if l.Receive(drain, q, time.Second, nil) != nil {
					cluster.Pause(drain)
				}
			}
		})
	}
	receivers.Wait()
	totals := l.Totals()
	require.Zero(t, l.Missing(), "confirmed messages were lost")
	require.Empty(t, l.Wrong())
	slices.Sort(gaps)
	t.Logf("%d times the leader was killed: next confirm after p50 %v, max %v; %d confirmed, none lost, %d sends without an answer",
		runs, gaps[len(gaps)/2].Round(time.Millisecond), gaps[len(gaps)-1].Round(time.Millisecond), totals.Confirmed, totals.Unknown)
	require.Less(t, gaps[len(gaps)-1], 5*time.Second, "time to recover (requirement R47)")
}
