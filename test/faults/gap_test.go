//go:build linux

package faults

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/opencmq/cmq/test/cluster"
)

// patience is how long a prober waits for one answer.
const patience = 250 * time.Millisecond

// gaps is clients that send one message after the other and do not wait long for an answer, one client at each node, and
// the longest time in which none of their sends was confirmed.
type gaps struct {
	mu      sync.Mutex
	last    time.Time // of the newest confirm
	longest time.Duration
}

// watchGaps starts the clients. They end with ctx, and wait tells when they have.
func (s *scene) watchGaps(ctx context.Context, t *testing.T) (g *gaps, wait func()) {
	t.Helper()
	g = &gaps{last: time.Now()}
	var clients sync.WaitGroup
	for i := range s.Nodes {
		q := s.Client(i, true).Queue("scene")
		clients.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				short, cancel := context.WithTimeout(ctx, patience)
				err := s.l.Send(short, q, []string{fmt.Sprintf("gap-%d-%d", i, n)}, 256)
				cancel()
				if err != nil {
					cluster.Pause(ctx)
					continue
				}
				g.confirmed()
			}
		})
	}
	return g, clients.Wait
}

func (g *gaps) confirmed() {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	g.longest = max(g.longest, now.Sub(g.last))
	g.last = now
}

// take returns the longest gap so far, the one that goes on included, and begins anew.
func (g *gaps) take() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	longest := max(g.longest, now.Sub(g.last))
	g.longest, g.last = 0, now
	return longest
}
