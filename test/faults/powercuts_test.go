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
// time it is cut again while the nodes are starting.
func powerCuts(t *testing.T, o DiskOptions, cuts int, what string, pick func() []int) {
	c, disks := onDisks(t, o, smallFiles)
	if o.Device {
		for _, d := range disks {
			d.Device.Slow(0, 2*time.Millisecond) // as disks are; so there is something to tear most of the time
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c.CreateQueue(ctx, "load")
	l, start := cluster.NewLedger(), time.Now()
	load := c.Load(ctx, "load", l, cluster.LoadOptions{Senders: 6, Receivers: 6, Every: 10 * time.Millisecond, Leave: 10})
	cut := func(victims []int) {
		cutPower(t, c, disks, victims)
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
	s, torn := l.Totals(), ""
	if o.Device {
		sum := tears(disks)
		torn = fmt.Sprintf("; of %d sectors that were not flushed %d were lost", sum.Kept+sum.Dropped+sum.Between, sum.Dropped+sum.Between)
		require.True(t, cuts < 10 || sum.Kept > 0 && sum.Dropped > 0, "nothing was torn: %+v", sum)
	}
	t.Logf("%d power cuts of %s in %v: %d messages confirmed, %d lost; %d deletes confirmed, %d returned; %d delivered twice, %d damaged, %d sends without an answer%s",
		cuts, what, took.Round(time.Second), s.Confirmed, l.Missing(), s.Deleted, s.Returned, s.Duplicates, s.Damaged, s.Unknown, torn)
	require.Empty(t, l.Wrong())
	require.NoError(t, err)
	noPanics(t, c)
}

// cutPower cuts the power of disks and ends what their nodes compute. A disk without Device goes on answering, with errors and
// perhaps not only with those, so the processes are stopped before. A Device is silent, so they may live on for a moment:
// what they still say rests on what was durable.
func cutPower(t *testing.T, c *cluster.Cluster, disks []*Disk, victims []int) {
	t.Helper()
	for _, i := range victims {
		if disks[i].Device == nil {
			Stop(t, c.Nodes[i].Pid())
		}
	}
	for _, i := range victims {
		disks[i].Cut()
	}
	if disks[victims[0]].Device != nil {
		<-time.After(rand.N(20 * time.Millisecond))
	}
	for _, i := range victims {
		c.Doom(c.Nodes[i])
	}
	for _, i := range victims {
		disks[i].Off()
	}
}

// tears sums up what power cuts did to sectors.
func tears(disks []*Disk) (sum Tear) {
	for _, d := range disks {
		sum.Kept += d.Torn.Kept
		sum.Dropped += d.Torn.Dropped
		sum.Between += d.Torn.Between
	}
	return sum
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

func oneNode() []int  { return []int{rand.IntN(3)} }
func allNodes() []int { return rand.Perm(3) }

// One node after the other, by chance, loses its power under load.
func TestPowerCutsOfOneNode(t *testing.T) {
	powerCuts(t, DiskOptions{}, cluster.Size(t, "CMQ_POWERCUTS", 3), "one node", oneNode)
}

// All nodes lose their power at once under load.
func TestPowerCutsOfAllNodes(t *testing.T) {
	powerCuts(t, DiskOptions{}, cluster.Size(t, "CMQ_POWERCUTS_ALL", 2), "all nodes", allNodes)
}

// The same with disks whose cache loses any part of what was not flushed, sector by sector.
func TestTornPowerCutsOfOneNode(t *testing.T) {
	powerCuts(t, DiskOptions{Device: true}, cluster.Size(t, "CMQ_POWERCUTS", 3), "one node, torn", oneNode)
}

func TestTornPowerCutsOfAllNodes(t *testing.T) {
	powerCuts(t, DiskOptions{Device: true}, cluster.Size(t, "CMQ_POWERCUTS_ALL", 2), "all nodes, torn", allNodes)
}
