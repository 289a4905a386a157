//go:build linux

package faults

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/opencmq/cmq/client"
	"github.com/opencmq/cmq/test/cluster"
)

// smallDisk has its marks at 6.4 MiB and 0.4 MiB.
const smallDisk = 128 << 20

// Disks get full: that of the leader, that of a follower, all. Sends are refused with a code of their own, receives and deletes
// go on; with nothing left at all, deletes still do, and another leader can be elected. With room again everything goes on,
// by itself.
func TestFullDisks(t *testing.T) {
	for _, where := range []string{"the leader", "a follower", "all nodes"} {
		t.Run(where, func(t *testing.T) {
			var resumed []time.Duration
			s := newScene(t, DiskOptions{Size: smallDisk}, smallFiles)
			for range cluster.Size(t, "CMQ_FULL_DISKS", 1) {
				resumed = append(resumed, s.fillDisks(map[string][]int{
					"the leader": {s.Leader(s.set).ID - 1}, "a follower": {s.Leader(s.set).ID % 3}, "all nodes": {0, 1, 2},
				}[where]))
			}
			got := s.drain()
			t.Logf("disk of %s full %d times: sends refused (%d in all), receives and deletes went on; sends resumed after %v at most; %d confirmed, 0 lost; %d deleted, 0 returned",
				where, len(resumed), got.Refused, slices.Max(resumed).Round(10*time.Millisecond), got.Confirmed, got.Deleted)
		})
	}
}

// fillDisks fills the disks of these nodes, first to below the soft mark, then whole, gives the room back and says after how long
// a send was confirmed.
func (s *scene) fillDisks(nodes []int) time.Duration {
	s.t.Helper()
	moreConfirms(s.t, s.l, 50)
	var free []func()
	fill := func(leave int64) {
		for _, i := range nodes {
			if s.disks[i].Free() > leave {
				free = append(free, s.disks[i].Fill(leave))
			}
		}
	}
	fill(5 << 20) // enough for what comes before the first look and for the receives
	s.refused()
	s.receive(300)
	locked := s.lock(200)
	fill(0)
	require.NoError(s.t, cluster.Eventually(30*time.Second, func() error {
		messages, err := s.l.Look(s.t.Context(), s.queue, 0)
		if locked = append(locked, messages...); !errors.Is(err, client.ErrDiskFull) {
			return fmt.Errorf("a receive was not refused as by a full disk: %v", err)
		}
		return nil
	}))
	for len(locked) > 0 { // deletes fit always
		n := min(len(locked), 10)
		require.NoError(s.t, cluster.Eventually(30*time.Second, func() error { return s.l.Delete(s.t.Context(), s.queue, locked[:n]) }))
		locked = locked[n:]
	}
	old := s.Leader(s.set)
	s.Signal(old, unix.SIGSTOP)
	require.NoError(s.t, cluster.Eventually(30*time.Second, func() error { return s.ledByOther(old) }), "nobody else was elected")
	s.Signal(old, unix.SIGCONT)
	s.refused()
	for _, f := range free {
		f()
	}
	took := s.resumed()
	s.stillRun()
	return took
}

// All disks are full to the last byte, by something else. Deletes fit, and what they leave dead is given back, which needs room
// itself: for an image of the state, and for the next files of the log.
func TestFullDisksEmptyThemselves(t *testing.T) {
	s := newScene(t, DiskOptions{Size: smallDisk}, smallFiles)
	s.load.StopSending()
	backlog(t.Context(), t, s.l, s.queue, "more", 6000)
	locked := s.lock(5000)
	var free []func()
	for _, d := range s.disks {
		free = append(free, d.Fill(0))
	}
	before := s.disks[0].Free()
	for len(locked) > 0 {
		n := min(len(locked), 10)
		require.NoError(t, cluster.Eventually(30*time.Second, func() error { return s.l.Delete(t.Context(), s.queue, locked[:n]) }), "%d to go", len(locked))
		locked = locked[n:]
	}
	for i, d := range s.disks {
		require.NoError(t, cluster.Eventually(time.Minute, func() error {
			if now := d.Free(); now < before+3<<20 {
				return fmt.Errorf("%d bytes are free on the disk of node %d after the deletes, and were %d before", now, i+1, before)
			}
			return nil
		}))
	}
	s.stillRun()
	for _, f := range free {
		f()
	}
	s.resumed()
	s.drain()
}
