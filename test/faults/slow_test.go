//go:build linux

package faults

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/test/cluster"
)

// The disk of the leader hangs, every write and every sync. Another one leads before long, and nothing is lost when the
// disk answers again.
func TestHungDisks(t *testing.T) {
	for _, lasts := range []time.Duration{2 * time.Second, time.Duration(cluster.Size(t, "CMQ_HUNG_SECONDS", 5)) * time.Second} {
		t.Run(fmt.Sprint(lasts), func(t *testing.T) {
			s := newScene(t, DiskOptions{}, smallFiles)
			ctx, cancel := context.WithCancel(t.Context())
			g, wait := s.watchGaps(ctx, t)
			defer wait()
			defer cancel()
			var worst []time.Duration
			for range cluster.Size(t, "CMQ_HUNG_DISKS", 1) {
				moreConfirms(t, s.l, 200)
				old := s.Leader(s.set)
				g.take()
				d := s.disks[old.ID-1]
				d.Freeze()
				thaw := time.After(lasts)
				led := cluster.Eventually(20*time.Second, func() error { return s.ledByOther(old) })
				<-thaw
				d.Thaw()
				require.NoError(t, led)
				moreConfirms(t, s.l, 200)
				whole(t, s.Cluster, old)
				worst = append(worst, g.take())
			}
			cancel()
			wait()
			s.stillRun()
			got := s.drain()
			slices.Sort(worst)
			t.Logf("disk of the leader hung for %v %d times: another one led; longest time without a confirm p50 %v, max %v; %d confirmed, 0 lost; %d sends without an answer",
				lasts, len(worst), worst[len(worst)/2].Round(10*time.Millisecond), worst[len(worst)-1].Round(10*time.Millisecond), got.Confirmed, got.Unknown)
		})
	}
}

// The disk of the leader becomes slow: it hands over. The disk of a follower becomes slow: nobody waits for it.
func TestSlowDisks(t *testing.T) {
	const by = 200 * time.Millisecond
	s := newScene(t, DiskOptions{Device: true}, smallFiles)
	old := s.Leader(s.set)
	slow := s.disks[old.ID-1].Device
	slow.Slow(0, by)
	start := time.Now()
	require.NoError(t, cluster.Eventually(time.Minute, func() error { return s.ledByOther(old) }))
	handed := time.Since(start)

	// Now its disk is that of a follower. If each entry waited for it, a second would confirm the entries of five syncs.
	moreConfirms(t, s.l, 100)
	before := s.l.Totals().Confirmed
	flushes := slow.Stats().Flushes
	<-time.After(5 * time.Second)
	confirmed, flushed := s.l.Totals().Confirmed-before, slow.Stats().Flushes-flushes
	require.NoError(t, s.ledByOther(old))
	require.Greater(t, confirmed, 500, "confirmed while the slow disk flushed %d times", flushed)
	slow.Slow(0, 0)
	whole(t, s.Cluster, old)
	s.stillRun()
	got := s.drain()
	t.Logf("disk of the leader slow by %v: handed over after %v; then, as a follower's, %d messages confirmed in 5 s in which it synced %d times; %d confirmed, 0 lost",
		by, handed.Round(10*time.Millisecond), confirmed, flushed, got.Confirmed)
}
