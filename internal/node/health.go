package node

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencmq/cmq/internal/set"
)

// health is what /livez and /readyz tell.
type health struct {
	mu       sync.Mutex
	draining bool
	failed   error
}

func (h *health) drain() {
	h.mu.Lock()
	h.draining = true
	h.mu.Unlock()
}

func (h *health) fail(err error) {
	h.mu.Lock()
	h.failed = err
	h.mu.Unlock()
}

func (h *health) state() (draining bool, failed error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.draining, h.failed
}

// check is one line of a health report.
type check struct {
	name string
	err  error
}

// liveChecks tell whether this process can still do its work: its loops turn and its disks answer. Other nodes and
// quorums never count, because a restart would not help them.
func (n *Node) liveChecks(ctx context.Context) []check {
	_, failed := n.health.state()
	checks := []check{{"disk", failed}}
	for _, id := range n.setIDs {
		checks = append(checks, check{fmt.Sprintf("set-%d-loop", id), n.turn(ctx, n.sets[id].host)})
	}
	return checks
}

// turn waits until the loop has run something.
func (n *Node) turn(ctx context.Context, h *set.Host) error {
	done := make(chan struct{})
	if !h.Exec(func(set.Now) { close(done) }) {
		return fmt.Errorf("stopped")
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("does not turn")
	}
}

// readyChecks tell whether clients should be sent here.
func (n *Node) readyChecks() []check {
	draining, failed := n.health.state()
	checks := []check{{"disk", failed}, {"draining", nil}, {"metadata", nil}}
	if draining {
		checks[1].err = fmt.Errorf("the node is stopping")
	}
	if len(n.meta.Table().Nodes()) == 0 {
		checks[2].err = fmt.Errorf("the cluster is not bootstrapped, or not heard of")
	}
	for _, id := range n.setIDs {
		c := check{name: fmt.Sprintf("set-%d-leader", id)}
		switch s := n.sets[id].host.Status(); {
		case s.Leader == 0:
			c.err = fmt.Errorf("none known")
		case s.Leader == n.opt.ID && !s.Leading:
			c.err = fmt.Errorf("elected, not yet serving")
		case s.Fetching:
			c.err = fmt.Errorf("known, but this replica is still fetching a snapshot")
		}
		checks = append(checks, c)
	}
	return checks
}

// Ready waits until every set of this node has a leader and requests are served, or ctx ends.
func (n *Node) Ready(ctx context.Context) error {
	for {
		news := []<-chan struct{}{n.board.Changed()}
		for _, id := range n.setIDs {
			news = append(news, n.sets[id].host.Changed())
		}
		missing := failing(n.readyChecks())
		if missing == nil {
			return nil
		}
		if err := anyOf(ctx, news); err != nil {
			return fmt.Errorf("not ready: %s %v", missing.name, missing.err)
		}
	}
}

// anyOf waits for the first of the channels to be closed.
func anyOf(ctx context.Context, news []<-chan struct{}) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	first := make(chan struct{}, len(news))
	for _, ch := range news {
		go func() {
			select {
			case <-ch:
				first <- struct{}{}
			case <-ctx.Done():
			}
		}()
	}
	select {
	case <-first:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func failing(checks []check) *check {
	for i := range checks {
		if checks[i].err != nil {
			return &checks[i]
		}
	}
	return nil
}

// serveHealth answers 200 or 503; ?verbose lists all checks, ?exclude=name leaves one out.
func serveHealth(w http.ResponseWriter, r *http.Request, checks []check) {
	exclude := r.URL.Query()["exclude"]
	_, verbose := r.URL.Query()["verbose"]
	var body strings.Builder
	status := http.StatusOK
	for _, c := range checks {
		switch {
		case slices.Contains(exclude, c.name):
			fmt.Fprintf(&body, "[-] %s excluded\n", c.name)
		case c.err != nil:
			status = http.StatusServiceUnavailable
			fmt.Fprintf(&body, "[!] %s %v\n", c.name, c.err)
		default:
			fmt.Fprintf(&body, "[+] %s ok\n", c.name)
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	if verbose || status != http.StatusOK {
		fmt.Fprint(w, body.String())
		return
	}
	fmt.Fprintln(w, "ok")
}

// liveLimit is how long a loop may take for one turn: longer than any disk stall that is handled by handing over.
const liveLimit = 5 * time.Second
