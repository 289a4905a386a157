//go:build linux

package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/test/cluster"
)

// smallFiles makes nodes whose files are small, so that segments are sealed and recycled, and images made, all the time.
const smallFiles = "storage:\n  segment_bytes: 1048576\n  cache_bytes: 1048576\n"

// onDisks starts three nodes, each with its data on a disk of its own.
func onDisks(t *testing.T, o DiskOptions, config string) (*cluster.Cluster, []*Disk) {
	t.Helper()
	Privileged(t)
	var disks []*Disk
	for range 3 {
		disks = append(disks, NewDisk(t, o))
	}
	c := cluster.Start(t, cluster.Options{Binary: cmq, Dir: func(id int) string { return disks[id-1].Path + "/data" }, Config: config})
	return c, disks
}

// whole waits until a node that was started again is ready and its replicas are normal ones.
func whole(t *testing.T, c *cluster.Cluster, n *cluster.Node) {
	t.Helper()
	c.WaitReady(n)
	require.NoError(t, cluster.Eventually(time.Minute, func() error {
		m, err := n.Metrics()
		if err == nil && m.Sum("cmq_set_state") != 0 {
			err = fmt.Errorf("node %d is being filled or in repair", n.ID)
		}
		return err
	}))
}

// moreConfirms waits until some more messages are confirmed.
func moreConfirms(t *testing.T, l *cluster.Ledger, n int) {
	t.Helper()
	want := l.Totals().Confirmed + n
	require.NoError(t, cluster.Eventually(time.Minute, func() error {
		if have := l.Totals().Confirmed; have < want {
			return fmt.Errorf("%d messages confirmed, waiting for %d", have, want)
		}
		return nil
	}))
}

// powerCuts cuts the power of the nodes that pick names, again and again under load, and judges at the end. Every fourth
// time it is cut again while the nodes are starting. Their processes are stopped first: they have no power either.
func powerCuts(t *testing.T, cuts int, what string, pick func() []int) {
	c, disks := onDisks(t, DiskOptions{}, smallFiles)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c.CreateQueue(ctx, "load")
	l, start := cluster.NewLedger(), time.Now()
	load := c.Load(ctx, "load", l, cluster.LoadOptions{Senders: 6, Receivers: 6, Every: 10 * time.Millisecond, Leave: 10})
	cut := func(victims []int) {
		for _, i := range victims {
			Stop(t, c.Nodes[i].Pid())
		}
		for _, i := range victims {
			disks[i].Cut()
		}
		for _, i := range victims {
			c.Kill(c.Nodes[i])
			disks[i].Restore()
		}
		for _, i := range victims {
			c.Start(c.Nodes[i])
		}
	}
	for n := 0; n < cuts; n++ {
		moreConfirms(t, l, 20+rand.IntN(2000))
		victims := pick()
		cut(victims)
		if n%4 == 3 && n+1 < cuts {
			n++
			<-time.After(rand.N(150 * time.Millisecond))
			cut(victims)
		}
		for _, i := range victims {
			whole(t, c, c.Nodes[i])
		}
		if n%50 >= 48 {
			t.Logf("%d power cuts, %+v", n+1, l.Totals())
		}
	}
	took := time.Since(start)
	moreConfirms(t, l, 20)
	load.Stop()
	err := c.Drain(ctx, "load", l, 2*time.Minute)
	s := l.Totals()
	t.Logf("%d power cuts of %s in %v: %d messages confirmed, %d lost; %d deletes confirmed, %d returned; %d delivered twice, %d damaged, %d sends without an answer",
		cuts, what, took.Round(time.Second), s.Confirmed, l.Missing(), s.Deleted, s.Returned, s.Duplicates, s.Damaged, s.Unknown)
	require.Empty(t, l.Wrong())
	require.NoError(t, err)
	noPanics(t, c)
}

// noPanics looks for panics in the logs. A read that the disk refused may end a process that way too.
func noPanics(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	for _, n := range c.Nodes {
		for line := range strings.Lines(n.Log()) {
			if strings.HasPrefix(line, "panic:") && !strings.Contains(line, "input/output error") {
				t.Errorf("node %d: %s", n.ID, line)
			}
		}
	}
}

// One node after the other, by chance, loses its power under load.
func TestPowerCutsOfOneNode(t *testing.T) {
	powerCuts(t, cluster.Size(t, "CMQ_POWERCUTS", 3), "one node", func() []int { return []int{rand.IntN(3)} })
}

// All nodes lose their power at once under load.
func TestPowerCutsOfAllNodes(t *testing.T) {
	powerCuts(t, cluster.Size(t, "CMQ_POWERCUTS_ALL", 2), "all nodes", func() []int { return rand.Perm(3) })
}
