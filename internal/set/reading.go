package set

import (
	"encoding/binary"

	"go.etcd.io/raft/v3"

	"github.com/opencmq/cmq/internal/cmq"
)

// readQueue answers linearizable reads: one round of heartbeats confirms that this replica still leads, for all
// reads that wait; then they are answered once everything committed by then is applied.
type readQueue struct {
	waiting  []readCall // no round started
	asked    []readCall // round running
	confirmd []readCall // round done at index
	round    uint64     // number of the running round; each try has a fresh one (raft #397)
	index    uint64
	ticks    int
}

type readCall func(now Now, err error)

// Read calls done on the driver's goroutine when the machine shows everything that was committed before the
// call, or with an error (*cmq.NotLeaderError) when this replica cannot tell.
func (r *Replica) Read(done func(now Now, err error)) {
	if !r.leading {
		done(Now{}, &cmq.NotLeaderError{Set: r.set, Leader: r.leader})
		return
	}
	r.reads.waiting = append(r.reads.waiting, done)
}

// issue starts a round if reads wait and none is running.
func (q *readQueue) issue(r *Replica) {
	if len(q.waiting) == 0 || len(q.asked) > 0 || !r.leading {
		return
	}
	q.asked, q.waiting = q.waiting, nil
	q.ask(r)
}

func (q *readQueue) ask(r *Replica) {
	q.round++
	q.ticks = 0
	r.rn.ReadIndex(binary.BigEndian.AppendUint64(nil, q.round))
}

// retry asks again when a round got lost.
func (q *readQueue) retry(r *Replica) {
	if len(q.asked) == 0 {
		return
	}
	if q.ticks++; q.ticks >= 4 {
		q.ask(r)
	}
}

func (q *readQueue) confirmed(rs *raft.ReadState) {
	if len(rs.RequestCtx) != 8 || binary.BigEndian.Uint64(rs.RequestCtx) != q.round || len(q.asked) == 0 {
		return
	}
	q.confirmd = append(q.confirmd, q.asked...)
	q.asked, q.index = nil, max(q.index, rs.Index)
}

// answer calls the reads whose index is applied.
func (q *readQueue) answer(r *Replica, now Now) {
	if len(q.confirmd) == 0 || r.applied < q.index {
		return
	}
	calls := q.confirmd
	q.confirmd, q.index = nil, 0
	for _, done := range calls {
		done(now, nil)
	}
}

func (q *readQueue) fail(err error) {
	calls := append(append(q.confirmd, q.asked...), q.waiting...)
	q.confirmd, q.asked, q.waiting, q.index = nil, nil, nil, 0
	for _, done := range calls {
		done(Now{}, err)
	}
}
