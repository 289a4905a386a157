//go:build linux

package faults

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/client"
	"github.com/opencmq/cmq/test/cluster"
)

// eager makes the scrubber read all files again and again.
const eager = smallFiles + "  scrub_rate: 268435456\n  scrub_pause: 1s\n"

// spans are the parts of a file, [lo, hi), in which every byte counts. What is preallocated and what fills a block up is
// never read, and in a segment that was made ahead all but its identity is written anew when it is used; see internal/store/segment for
// the places.
func spans(name string, data []byte) [][2]int64 {
	size := int64(len(data))
	switch {
	case strings.HasSuffix(name, ".seg"):
		written := int64(len(bytes.TrimRight(data, "\x00")))
		if written <= 512 {
			return [][2]int64{{0, 64}}
		}
		return [][2]int64{{0, 64}, {512, 512 + 64}, {4096, max(written, 4096)}}
	case name == "hardstate":
		return [][2]int64{{0, 64}, {4096, 4096 + 64}}
	}
	return [][2]int64{{0, size}}
}

// filling tells whether a byte of a segment is one of those that fill a record up to a multiple of 8: they are under no checksum
// and mean nothing.
func filling(data []byte, at int64) bool {
	const head = 32
	for off := int64(4096); off+head <= at; {
		end := off + head + int64(binary.LittleEndian.Uint32(data[off:]))
		next := (end + 7) &^ 7
		if at < next {
			return at >= end
		}
		off = next
	}
	return false
}

// flipBytes changes n bytes of a node's files, each file as likely as any other. Left out are the files without a second
// copy or a checksum, which say whose directory it is; those without content; and, while the node runs, what it reads only when it
// starts.
func flipBytes(t *testing.T, dir string, n int, running bool) (flips []Flip) {
	t.Helper()
	for len(flips) < n {
		var files []string
		require.NoError(t, filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // the node has removed it just now
			}
			base := filepath.Base(name)
			if err == nil && e.Type().IsRegular() && filepath.Dir(name) != dir && !slices.Contains([]string{"LOCK", "MANIFEST.bad"}, base) &&
				!strings.HasPrefix(base, "ballast-") && !strings.HasSuffix(name, ".tmp") && !strings.HasSuffix(name, ".part") && !(running && base == "hardstate") {
				files = append(files, name)
			}
			return err
		}))
		name := files[rand.IntN(len(files))]
		data, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) || err == nil && len(data) == 0 {
			continue
		}
		require.NoError(t, err)
		var places []int64
		for _, s := range spans(filepath.Base(name), data) {
			if s[0] < s[1] {
				places = append(places, s[0]+rand.Int64N(s[1]-s[0]))
			}
		}
		at := places[len(places)-1] // the content, and now and then a head
		if rand.IntN(4) == 0 {
			at = places[rand.IntN(len(places))]
		}
		if strings.HasSuffix(name, ".seg") && filling(data, at) {
			continue
		}
		f, err := TryFlip(name, at, byte(1<<rand.IntN(8)))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		require.NoError(t, err)
		flips = append(flips, f)
	}
	return flips
}

// healed waits until none of the changed bytes counts any more: written anew, gone with its file, or in a file that the store has
// disowned, which happens to one that nobody can vouch for when the root was hit, too.
func healed(t *testing.T, c *cluster.Cluster, n *cluster.Node, flips []Flip) time.Duration {
	t.Helper()
	start := time.Now()
	require.NoError(t, cluster.Eventually(2*time.Minute, func() error {
		select {
		case <-n.Exited():
			return cluster.Final(fmt.Errorf("the node has ended:\n%s", n.Log()))
		default:
		}
		var left []string
		log := n.Log()
		for _, f := range flips {
			if f.There() && !regexp.MustCompile(`does not belong to the store is left alone.*`+regexp.QuoteMeta(f.File)).MatchString(log) {
				left = append(left, fmt.Sprintf("%s at %d: %#x instead of %#x", f.File, f.Offset, f.Now, f.Was))
			}
		}
		if len(left) > 0 {
			return fmt.Errorf("%d of %d changed bytes are still there: %v", len(left), len(flips), left)
		}
		return nil
	}))
	whole(t, c, n)
	return time.Since(start)
}

// Bytes of one of three nodes change, half of them while it runs and half while it is stopped, under load and while others
// look at a backlog: all are found and put right, and nobody gets one.
func TestFlippedBytes(t *testing.T) {
	Privileged(t)
	total := cluster.Size(t, "CMQ_FLIPS", 10)
	const queues, round = 3, 10
	c := cluster.Start(t, cluster.Options{Binary: cmq, Config: eager})
	ctx, cancel := context.WithCancel(t.Context())
	ledgers := map[string]*cluster.Ledger{"load": cluster.NewLedger()}
	var lookers sync.WaitGroup
	defer lookers.Wait()
	defer cancel()
	for i := range queues {
		name, l := fmt.Sprint("backlog", i), cluster.NewLedger()
		ledgers[name] = l
		c.CreateQueue(ctx, name)
		q := c.Client(i, true).Queue(name)
		backlog(ctx, t, l, q, name, 3000)
		lookers.Go(func() {
			for ctx.Err() == nil {
				if _, err := l.Look(ctx, q, time.Second); err != nil {
					cluster.Pause(ctx)
				}
			}
		})
	}
	c.CreateQueue(ctx, "load")
	busy := c.Load(ctx, "load", ledgers["load"], cluster.LoadOptions{Senders: 3, Receivers: 3, Every: 20 * time.Millisecond, Leave: 10})
	victim, start := c.Nodes[rand.IntN(len(c.Nodes))], time.Now()
	var worst time.Duration
	for done := 0; done < total; done += round {
		n := min(round, total-done)
		worst = max(worst, healed(t, c, victim, flipBytes(t, victim.Dir, n/2, true)))
		c.Kill(victim)
		flips := flipBytes(t, victim.Dir, n-n/2, false)
		c.Start(victim)
		worst = max(worst, healed(t, c, victim, flips))
	}
	took := time.Since(start)
	busy.Stop()
	cancel()
	lookers.Wait()
	var drained error
	var wrong []string
	var confirmed, lost, deliveries, damaged int
	for name, l := range ledgers {
		drained = errors.Join(drained, c.Drain(t.Context(), name, l, time.Minute))
		s := l.Totals()
		confirmed, lost, deliveries, damaged = confirmed+s.Confirmed, lost+l.Missing(), deliveries+s.Deliveries, damaged+s.Damaged
		wrong = append(wrong, l.Wrong()...)
	}
	t.Logf("%d bytes of one node changed in %v, half while it was stopped: all repaired, after %v at most; %d messages confirmed, %d lost; %d deliveries, %d damaged",
		total, took.Round(time.Second), worst.Round(time.Millisecond), confirmed, lost, deliveries, damaged)
	require.Empty(t, wrong)
	require.NoError(t, drained)
	noPanics(t, c)
}

// backlog sends n messages of 1 KiB.
func backlog(ctx context.Context, t *testing.T, l *cluster.Ledger, q *client.Queue, name string, n int) {
	t.Helper()
	for i := 0; i < n; i += client.MaxBatch {
		keys := make([]string, client.MaxBatch)
		for k := range keys {
			keys[k] = fmt.Sprintf("%s-%d", name, i+k)
		}
		require.NoError(t, cluster.Eventually(time.Minute, func() error { return l.Send(ctx, q, keys, 1024) }))
	}
}
