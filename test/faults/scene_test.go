//go:build linux

package faults

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/client"
	"github.com/opencmq/cmq/test/cluster"
)

// scene is three nodes on disks of their own with a queue, some messages in it, senders that never stop, and what they know.
type scene struct {
	*cluster.Cluster
	t         *testing.T
	disks     []*Disk
	queue     *client.Queue
	l         *cluster.Ledger
	load      *cluster.Load
	set       uint64 // of the queue
	leader    int    // index of the node that led it in the beginning
	processes []int  // ids
	sent      int
}

// newScene starts one. No client receives: see receive and drain.
func newScene(t *testing.T, o DiskOptions, config string) *scene {
	t.Helper()
	c, disks := onDisks(t, o, config)
	s := &scene{Cluster: c, t: t, disks: disks, l: cluster.NewLedger()}
	c.CreateQueue(t.Context(), "scene")
	s.queue = c.Client(0, true).Queue("scene")
	lock := 30 * time.Second // longer than faults last, so that what is locked before can be deleted behind
	require.NoError(t, s.queue.SetAttributes(t.Context(), client.Settings{VisibilityTimeout: &lock}))
	backlog(t.Context(), t, s.l, s.queue, "backlog", 2000)
	id, err := s.queue.Send(t.Context(), cluster.Body("first", 100))
	require.NoError(t, err)
	s.set = cluster.SetOf(t, id)
	s.load = c.Load(t.Context(), "scene", s.l, cluster.LoadOptions{Senders: 6, Every: 10 * time.Millisecond})
	moreConfirms(t, s.l, 50)
	s.leader = c.Leader(s.set).ID - 1
	for _, n := range c.Nodes {
		s.processes = append(s.processes, n.Pid())
	}
	return s
}

// send sends one message.
func (s *scene) send(ctx context.Context) error {
	s.sent++
	return s.l.Send(ctx, s.queue, []string{fmt.Sprint("one-", s.sent)}, 1024)
}

// refused waits until all sends are refused with the code of a full disk: many, one after the other, by whoever leads.
func (s *scene) refused() {
	s.t.Helper()
	run := 0
	require.NoError(s.t, cluster.Eventually(30*time.Second, func() error {
		err := s.send(s.t.Context())
		if run++; !errors.Is(err, client.ErrDiskFull) {
			run = 0
		}
		if run < 60 {
			return fmt.Errorf("%d sends in a row were refused as by a full disk; the last one: %v", run, err)
		}
		return nil
	}))
}

// receive receives and deletes n messages.
func (s *scene) receive(n int) {
	s.t.Helper()
	want := s.l.Totals().Deleted + n
	require.NoError(s.t, cluster.Eventually(time.Minute, func() error {
		err := s.l.Receive(s.t.Context(), s.queue, 0, nil)
		if have := s.l.Totals().Deleted; have < want {
			return errors.Join(fmt.Errorf("%d more messages were to be received and deleted", want-have), err)
		}
		return nil
	}))
}

// lock receives n messages without deleting them.
func (s *scene) lock(n int) (locked []client.Message) {
	s.t.Helper()
	require.NoError(s.t, cluster.Eventually(time.Minute, func() error {
		messages, err := s.l.Look(s.t.Context(), s.queue, 0)
		if locked = append(locked, messages...); len(locked) < n {
			return errors.Join(fmt.Errorf("only %d messages of %d were received", len(locked), n), err)
		}
		return nil
	}))
	return locked
}

// resumed waits for a send that is confirmed and says how long that took.
func (s *scene) resumed() time.Duration {
	s.t.Helper()
	start := time.Now()
	require.NoError(s.t, cluster.Eventually(time.Minute, func() error {
		ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
		defer cancel()
		return s.send(ctx)
	}))
	return time.Since(start)
}

// ledByOther asks the nodes but this one who leads the queue's set; it is no error if that is another one.
func (s *scene) ledByOther(than *cluster.Node) error {
	for _, n := range s.Nodes {
		if n == than {
			continue
		}
		m, err := n.Metrics()
		if err != nil {
			return err
		}
		if id := int(m.Of("cmq_set_leader", s.set)); id == 0 || id == than.ID {
			return fmt.Errorf("node %d says that node %d leads", n.ID, id)
		}
	}
	return nil
}

// stillRun fails the test if a process has ended meanwhile.
func (s *scene) stillRun() {
	s.t.Helper()
	for i, n := range s.Nodes {
		select {
		case <-n.Exited():
			require.Fail(s.t, "a process has ended", "node %d:\n%s", n.ID, n.Log())
		default:
			require.Equal(s.t, s.processes[i], n.Pid())
		}
	}
}

// drain ends the senders and receives what is there; nothing may be missing or wrong.
func (s *scene) drain() cluster.Totals {
	s.t.Helper()
	s.load.Stop()
	err := s.Drain(s.t.Context(), "scene", s.l, 2*time.Minute)
	require.Empty(s.t, s.l.Wrong())
	require.NoError(s.t, err)
	noPanics(s.t, s.Cluster)
	return s.l.Totals()
}
