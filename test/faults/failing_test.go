//go:build linux

package faults

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/test/cluster"
)

// A sync fails, and what the kernel kept in memory says nothing about the disk: the process ends at once, the next one does not
// trust what it reads until it has written it again, and when the power fails after that, nothing is lost.
func TestFailedSyncs(t *testing.T) {
	s := newScene(t, DiskOptions{Device: true}, smallFiles)
	var ends []time.Duration
	for n := range cluster.Size(t, "CMQ_FAILED_SYNCS", 3) {
		moreConfirms(t, s.l, 50+rand.IntN(500))
		i := rand.IntN(3)
		node := s.Nodes[i]
		fault := Failing(t, node.Pid(), "fdatasync,fsync", "EIO", "1")
		start := time.Now()
		select {
		case <-node.Exited():
		case <-time.After(30 * time.Second):
			require.Fail(t, "the process lives on after a sync failed")
		}
		ends = append(ends, time.Since(start))
		fault.End()
		require.Equal(t, 1, node.Ended())
		require.Contains(t, node.Log(), "input/output error")
		s.Start(node)
		if n%2 == 0 {
			whole(t, s.Cluster, node)
			moreConfirms(t, s.l, 50)
		} else {
			<-time.After(rand.N(300 * time.Millisecond)) // somewhere in its recovery
		}
		cutPower(t, s.Cluster, s.disks, []int{i})
		s.Kill(node)
		s.disks[i].Restore()
		s.Start(node)
		whole(t, s.Cluster, node)
	}
	got := s.drain()
	slices.Sort(ends)
	t.Logf("a sync failed %d times: the process ended after %v at most, traced; power cut after each restart; %d confirmed, 0 lost; %d deleted, 0 returned",
		len(ends), ends[len(ends)-1].Round(10*time.Millisecond), got.Confirmed, got.Deleted)
}

// The file system of a node becomes read-only under it: the process ends and says so; started again it refuses with the file,
// without a panic; writable again it serves.
func TestReadOnlyNode(t *testing.T) {
	s := newScene(t, DiskOptions{}, smallFiles)
	i := s.leader
	node := s.Nodes[i]
	s.disks[i].Abort()
	select {
	case <-node.Exited():
	case <-time.After(30 * time.Second):
		require.Fail(t, "the process lives on though it cannot write")
	}
	require.Equal(t, 1, node.Ended())
	require.Regexp(t, "read-only file system|input/output error", node.Log(), "a sync that waits when the file system gives up gets the latter")
	for range 3 {
		before := len(node.Log())
		s.Start(node)
		require.Equal(t, 1, node.Ended())
		said := node.Log()[before:]
		require.Contains(t, said, "read-only file system")
		require.Contains(t, said, s.disks[i].Path, "no file is named")
		require.NotContains(t, said, "goroutine ", "a panic")
	}
	moreConfirms(t, s.l, 50)
	s.disks[i].Restore()
	s.Start(node)
	whole(t, s.Cluster, node)
	got := s.drain()
	t.Logf("file system of the leader read-only: it ended and refused to start with the file's name; then it served again; %d confirmed, 0 lost", got.Confirmed)
}

// There are no inodes any more: as if the disk were full.
func TestNoInodesOnNodes(t *testing.T) {
	for _, where := range []string{"leader", "all"} {
		t.Run(where, func(t *testing.T) {
			s := newScene(t, DiskOptions{Size: smallDisk, Inodes: 2048}, smallFiles)
			nodes := map[string][]int{"leader": {s.leader}, "all": {0, 1, 2}}[where]
			var free []func()
			for _, i := range nodes {
				free = append(free, s.disks[i].FillInodes(150))
			}
			s.refused()
			s.receive(200)
			for _, f := range free {
				f()
			}
			took := s.resumed()
			s.stillRun()
			got := s.drain()
			t.Logf("no inodes on the disks of %s: sends refused, receives and deletes went on; sends resumed after %v; %d confirmed, 0 lost", where, took.Round(10*time.Millisecond), got.Confirmed)
		})
	}
}

// A process may open no more files: connections that are there go on, new ones wait, the log waits with its next file; with
// descriptors again everything goes on, in the same process.
func TestNoDescriptorsForNodes(t *testing.T) {
	s := newScene(t, DiskOptions{}, smallFiles)
	var restore []func()
	for _, n := range s.Nodes {
		restore = append(restore, Descriptors(t, n.Pid(), 0))
	}
	require.NoError(t, cluster.Eventually(time.Minute, func() error { // for as long as it takes to need files
		for _, n := range s.Nodes {
			if strings.Contains(n.Log(), "too many open files") {
				return nil
			}
		}
		return errors.New("no node has needed a file yet")
	}))
	s.stillRun()
	<-time.After(3 * time.Second)
	s.stillRun()
	for _, r := range restore {
		r()
	}
	took := s.resumed()
	for _, n := range s.Nodes {
		whole(t, s.Cluster, n)
	}
	s.stillRun()
	got := s.drain()
	t.Logf("no descriptors for the nodes: their processes went on; sends were confirmed %v after there were some again; %d confirmed, 0 lost", took.Round(10*time.Millisecond), got.Confirmed)
}
