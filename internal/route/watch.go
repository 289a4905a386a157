package route

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// polls are the long polls that wait at other nodes, by set. A leader that was replaced because it hangs does
// not answer them, and its connection is given up only after seconds; LeaderChanged brings them home before.
type polls struct {
	mu   sync.Mutex
	open map[cmq.SetID]map[*remotePoll]struct{}
}

type remotePoll struct {
	node   cmq.NodeID
	cancel context.CancelCauseFunc
}

// errReplaced is why a poll was taken back.
var errReplaced = errors.New("another node leads the set")

// handOverGrace is how long a replaced leader has to answer its polls itself. In an orderly hand-over it does,
// and no message is locked for a poll that was taken back.
const handOverGrace = 300 * time.Millisecond

// LeaderChanged tells that leader leads the set as far as this node's replica knows. It need not be called, and
// returns at once. Polls that wait at another node then move to the leader.
func (r *Router) LeaderChanged(set cmq.SetID, leader cmq.NodeID) {
	if leader == 0 {
		return
	}
	r.leaders[set&cmq.MaxSetID].Store(uint64(leader))
	var left []*remotePoll
	r.polls.mu.Lock()
	for p := range r.polls.open[set] {
		if p.node != leader {
			left = append(left, p)
		}
	}
	r.polls.mu.Unlock()
	if len(left) == 0 {
		return
	}
	time.AfterFunc(handOverGrace, func() {
		for _, p := range left {
			p.cancel(errReplaced)
		}
	})
}

// pollRemote asks another node and can be called back.
func (r *Router) pollRemote(ctx context.Context, node cmq.NodeID, set cmq.SetID, req *cmq.Request) (*cmq.Reply, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p := &remotePoll{node, cancel}
	r.polls.enter(set, p)
	defer r.polls.leave(set, p)
	reply, err := r.askNode(ctx, node, set, req)
	if err != nil && context.Cause(ctx) == errReplaced {
		return nil, fmt.Errorf("%w: %w", errReplaced, cmq.ErrUnknownOutcome)
	}
	return reply, err
}

func (p *polls) enter(set cmq.SetID, poll *remotePoll) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open == nil {
		p.open = make(map[cmq.SetID]map[*remotePoll]struct{})
	}
	if p.open[set] == nil {
		p.open[set] = make(map[*remotePoll]struct{})
	}
	p.open[set][poll] = struct{}{}
}

func (p *polls) leave(set cmq.SetID, poll *remotePoll) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open[set], poll)
}
