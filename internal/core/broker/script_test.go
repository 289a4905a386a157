package broker

import (
	"testing"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/command"
)

// script runs one named situation against a shard. Positions and handles read as the order of sends and
// receives, because a fresh main lane counts from 0 and handles from 1.
type script struct {
	*rig
	id  cmq.ShardID
	now int64
	n   int // version of attributes
}

const start = int64(1_700_000_000_000)

func newScript(t *testing.T, change func(*cmq.ShardAttributes)) *script {
	q := cmq.DefaultQueueAttributes()
	a := q.ShardAttributes()
	if change != nil {
		change(&a)
	}
	s := &script{rig: newRig(t), id: cmq.QueueID(9).Shard(3), now: start, n: 1}
	s.op(command.Op{Kind: command.Open, Version: 1, Attributes: a})
	return s
}

func (s *script) op(op command.Op) Result {
	s.t.Helper()
	op.Shard = s.id
	return s.one(s.now, op)
}

func (s *script) at(seconds float64) *script {
	s.now = start + int64(seconds*1000)
	return s
}

func (s *script) send(n int, delay time.Duration) {
	s.t.Helper()
	if r := s.op(command.Op{Kind: command.Send, Delay: delay.Milliseconds(), Bodies: bodies(n)}); r.Err != nil || r.N != n {
		s.t.Fatalf("send: %+v", r)
	}
}

// receive wants exactly these positions of whatever lane and gives their handles.
func (s *script) receive(max int, want ...uint64) []cmq.Handle {
	s.t.Helper()
	r := s.op(command.Op{Kind: command.Receive, Max: max})
	if r.Err != nil || len(r.Deliveries) != len(want) {
		s.t.Fatalf("receive at %d: %+v, want %v", s.now, r, want)
	}
	var handles []cmq.Handle
	for i, d := range r.Deliveries {
		if d.Seq != want[i] {
			s.t.Fatalf("received %v, want %v", r.Deliveries, want)
		}
		handles = append(handles, d.Handle)
	}
	return handles
}

func (s *script) delete(h cmq.Handle) *cmq.Error {
	s.t.Helper()
	return s.op(command.Op{Kind: command.Delete, Handles: []cmq.Handle{h}}).Errors[0]
}

func (s *script) deleted(hs ...cmq.Handle) {
	s.t.Helper()
	for _, h := range hs {
		if err := s.delete(h); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *script) release(h cmq.Handle) *cmq.Error {
	s.t.Helper()
	return s.op(command.Op{Kind: command.Release, Handles: []cmq.Handle{h}}).Errors[0]
}

func (s *script) relock(h cmq.Handle, lock time.Duration) *cmq.Error {
	s.t.Helper()
	return s.op(command.Op{Kind: command.Relock, Lock: lock.Milliseconds(), Handles: []cmq.Handle{h}}).Errors[0]
}

// prepare gives the ids of n prepared messages.
func (s *script) prepare(n int) (ids []cmq.MsgID) {
	s.t.Helper()
	r := s.op(command.Op{Kind: command.Prepare, Origin: cmq.Origin{Node: 2, Conn: 7}, Bodies: bodies(n)})
	if r.Err != nil || r.N != n {
		s.t.Fatalf("prepare: %+v", r)
	}
	for i := range n {
		ids = append(ids, cmq.NewMsgID(7, s.b.Index(), r.FirstSlot+uint16(i)))
	}
	return ids
}

func (s *script) decide(id cmq.MsgID, commit bool) *cmq.Error {
	s.t.Helper()
	return s.op(command.Op{Kind: command.Decide, Decisions: []cmq.Decision{{ID: id, Commit: commit}}}).Errors[0]
}

// asked wants that so many of the messages are asked about.
func (s *script) asked(want int, ids ...cmq.MsgID) {
	s.t.Helper()
	if got := s.op(command.Op{Kind: command.Ask, IDs: ids}).Queries; len(got) != want {
		s.t.Fatalf("asked %v at %d, want %d", got, s.now, want)
	}
}

func (s *script) prepared(all, undecided int64) {
	s.t.Helper()
	if a, u := s.b.Prepared(s.id, s.now); a != all || u != undecided {
		s.t.Fatalf("%d prepared, %d undecided, want %d, %d", a, u, all, undecided)
	}
}

func (s *script) session(id uint64) (epoch uint64) {
	s.t.Helper()
	r := s.op(command.Op{Kind: command.OpenSession, Session: cmq.Session{ID: id}})
	if r.Err != nil || r.Number == 0 {
		s.t.Fatalf("%+v", r)
	}
	return r.Number
}

// sendOnce gives the id of the message.
func (s *script) sendOnce(id, epoch, number, acked uint64) (cmq.MsgID, *cmq.Error) {
	s.t.Helper()
	r := s.op(command.Op{Kind: command.Send, Session: cmq.Session{ID: id, Epoch: epoch, Number: number, Acked: acked}, Bodies: bodies(1)})
	if r.Index == 0 {
		r.Index = s.b.Index()
	}
	return cmq.NewMsgID(7, r.Index, r.FirstSlot), r.Err
}

// stored wants that the send is carried out now, or was under this id.
func (s *script) stored(want cmq.MsgID, id, epoch, number, acked uint64) cmq.MsgID {
	s.t.Helper()
	got, err := s.sendOnce(id, epoch, number, acked)
	if err != nil || want != 0 && got != want {
		s.t.Fatalf("id %d, %v; want %d", got, err, want)
	}
	return got
}

// reopened goes on with what an image keeps.
func (s *script) reopened() {
	s.t.Helper()
	b, err := Decode(7, s.b.Encode(), Options{})
	if err != nil {
		s.t.Fatal(err)
	}
	s.b = b
}

func (s *script) rewind(to uint64) *cmq.Error {
	s.t.Helper()
	return s.op(command.Op{Kind: command.Rewind, To: []command.LaneSeq{{Seq: to}}}).Err
}

func (s *script) expire(m command.Mark) {
	s.t.Helper()
	s.op(command.Op{Kind: command.Expire, Marks: []command.Mark{m}})
}

func (s *script) set(change func(*cmq.ShardAttributes)) {
	s.t.Helper()
	a, _, _ := s.b.Attributes(s.id)
	change(&a)
	s.n++
	s.op(command.Op{Kind: command.Set, Version: uint64(s.n), Attributes: a})
}

// counts wants these counters, in the order active, inactive, delayed, rewindable.
func (s *script) counts(want ...int64) {
	s.t.Helper()
	st, ok := s.b.Status(s.id, s.now)
	if got := counts(st); !ok || got != [4]int64(want) {
		s.t.Fatalf("active, inactive, delayed, rewindable = %v, want %v", got, want)
	}
}

func (s *script) invalid(err *cmq.Error) {
	s.t.Helper()
	s.refused(err, cmq.ErrHandleInvalid)
}

func (s *script) refused(err, want *cmq.Error) {
	s.t.Helper()
	if err != want {
		s.t.Fatalf("error %v, want %v", err, want)
	}
}

// asks makes the queue transactional: a query every 10 s, three at most.
func asks(a *cmq.ShardAttributes) {
	a.Transaction = cmq.TransactionPolicy{On: true, FirstQueryInterval: 10 * time.Second, MaxQueryCount: 3}
}

func rewindable(a *cmq.ShardAttributes) { a.Rewind = time.Hour }

func dies(policy, receives int) func(*cmq.ShardAttributes) {
	return func(a *cmq.ShardAttributes) {
		a.DeadLetter = cmq.DeadLetterPolicy{
			Queue: 77, Policy: policy, MaxReceiveCount: receives, MaxTimeToLive: time.Minute,
		}
	}
}
