package route

import (
	"errors"
	"sync"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// polls are the long polls that wait at other nodes, by set. A leader that was replaced because it hangs does
// not answer them, and its connection is given up only after seconds; LeaderChanged brings them home before.
type polls struct {
	mu   sync.Mutex
	open map[cmq.SetID]map[*attempt]struct{}
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
	var left []*attempt
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
			p.recall()
		}
	})
}

func (p *polls) enter(poll *attempt) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open == nil {
		p.open = make(map[cmq.SetID]map[*attempt]struct{})
	}
	if p.open[poll.set] == nil {
		p.open[poll.set] = make(map[*attempt]struct{})
	}
	p.open[poll.set][poll] = struct{}{}
}

// begun keeps what ends the poll.
func (p *polls) begun(poll *attempt, at cmq.Pending) {
	p.mu.Lock()
	defer p.mu.Unlock()
	poll.at = at
}

func (p *polls) at(poll *attempt) cmq.Pending {
	p.mu.Lock()
	defer p.mu.Unlock()
	return poll.at
}

func (p *polls) leave(poll *attempt) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open[poll.set], poll)
}
