package broker

import (
	"testing"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/command"
)

func TestRules(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*cmq.ShardAttributes)
		run    func(s *script)
	}{
		{"received in the order of sends", nil, func(s *script) {
			s.send(2, 0)
			s.send(1, 0)
			s.receive(2, 0, 1)
			s.receive(2, 2)
			s.receive(2)
		}},
		{"locked until the timeout and not a millisecond longer", nil, func(s *script) {
			s.send(1, 0)
			h := s.receive(1, 0)
			s.counts(0, 1, 0, 0)
			s.at(29.999).receive(1)
			s.counts(0, 1, 0, 0)
			s.at(30).counts(1, 0, 0, 0)
			again := s.receive(1, 0)
			if again[0] == h[0] {
				s.t.Fatal("handle given twice")
			}
		}},
		{"delete just before the lock ends", nil, func(s *script) {
			s.send(1, 0)
			h := s.receive(1, 0)
			s.at(29.999).deleted(h[0])
			s.at(60).receive(1)
			s.counts(0, 0, 0, 0)
		}},
		{"delete just as the lock ends", nil, func(s *script) {
			s.send(1, 0)
			h := s.receive(1, 0)
			s.invalid(s.at(30).delete(h[0]))
			s.counts(1, 0, 0, 0)
		}},
		{"delete twice", nil, func(s *script) {
			s.send(1, 0)
			h := s.receive(1, 0)
			s.deleted(h[0])
			s.invalid(s.delete(h[0]))
		}},
		{"an old handle does not delete the newer delivery", nil, func(s *script) {
			s.send(1, 0)
			old := s.receive(1, 0)
			young := s.at(31).receive(1, 0)
			s.invalid(s.delete(old[0]))
			s.counts(0, 1, 0, 0)
			s.deleted(young[0])
		}},
		{"handles of other shards and impossible ones", nil, func(s *script) {
			s.send(1, 0)
			h := s.receive(1, 0)[0]
			s.invalid(s.delete(cmq.NewHandle(4, 1)))
			s.invalid(s.delete(h | 1<<63))
			s.invalid(s.delete(0))
			s.deleted(h)
		}},
		{"count and first delivery", nil, func(s *script) {
			s.send(1, 0)
			s.receive(1, 0)
			d := s.at(40).op(command.Op{Kind: command.Receive, Max: 1, Lock: 5000}).Deliveries[0]
			if d.Count != 2 || d.First != start || d.Deadline != start+45_000 {
				s.t.Fatalf("%+v", d)
			}
		}},
		{"the lock is the queue's at the time of the receive", nil, func(s *script) {
			s.send(1, 0)
			s.receive(1, 0)
			s.set(func(a *cmq.ShardAttributes) { a.VisibilityTimeout = time.Second })
			s.at(29).receive(1)
			s.at(30).receive(1, 0)
			s.at(31).receive(1, 0)
		}},
		{"returned messages come before new ones", nil, func(s *script) {
			s.send(3, 0)
			s.receive(2, 0, 1)
			s.at(30).receive(3, 0, 1, 2)
		}},
		{"a released message is back at once and was not received", nil, func(s *script) {
			s.send(2, 0)
			h := s.receive(1, 0)
			if err := s.release(h[0]); err != nil {
				s.t.Fatal(err)
			}
			s.counts(2, 0, 0, 0)
			d := s.at(5).op(command.Op{Kind: command.Receive, Max: 1}).Deliveries[0]
			if d.Seq != 0 || d.Count != 1 || d.First != start+5000 {
				s.t.Fatalf("%+v", d)
			}
			s.invalid(s.release(h[0]))
			s.invalid(s.delete(h[0]))
		}},
		{"a lock is extended, again and again", nil, func(s *script) {
			s.send(1, 0)
			h := s.receive(1, 0)[0]
			s.refused(s.at(29).relock(h, time.Minute), nil)
			s.at(88.999).receive(1)
			s.refused(s.relock(h, time.Second), nil)
			s.at(89.998).receive(1)
			s.deleted(h)
		}},
		{"a lock is shortened", nil, func(s *script) {
			s.send(1, 0)
			h := s.receive(1, 0)[0]
			s.refused(s.at(1).relock(h, 2*time.Second), nil)
			s.at(2.999).receive(1)
			s.invalid(s.at(3).relock(h, time.Minute))
			d := s.op(command.Op{Kind: command.Receive, Max: 1}).Deliveries[0]
			if d.Count != 2 {
				s.t.Fatalf("%+v", d)
			}
			s.invalid(s.relock(h, time.Minute))
		}},
		{"a lock that is moved to and fro ends once", nil, func(s *script) {
			s.send(1, 0)
			h := s.receive(1, 0)[0]
			for range 3 {
				s.refused(s.relock(h, time.Minute), nil)
				s.refused(s.relock(h, 30*time.Second), nil)
			}
			s.at(30).counts(1, 0, 0, 0)
			s.receive(2, 0)
		}},
		{"given back at once, and the delivery counts", nil, func(s *script) {
			s.send(2, 0)
			h := s.receive(1, 0)[0]
			s.refused(s.relock(h, 0), nil)
			s.counts(2, 0, 0, 0)
			s.invalid(s.delete(h))
			d := s.op(command.Op{Kind: command.Receive, Max: 1}).Deliveries[0]
			if d.Seq != 0 || d.Count != 2 || d.First != start {
				s.t.Fatalf("%+v", d)
			}
		}},
		{"given back for the last time", dies(cmq.PolicyReceives, 1), func(s *script) {
			s.send(1, 0)
			s.refused(s.relock(s.receive(1, 0)[0], 0), nil)
			s.receive(1)
			if s.b.shards[s.id].Dead() != 1 {
				s.t.Fatal("not dead")
			}
		}},
		{"delayed to the millisecond", nil, func(s *script) {
			s.send(1, 12*time.Second)
			s.counts(0, 0, 1, 0)
			s.at(11.999).receive(1)
			s.at(12).counts(1, 0, 0, 0)
			s.receive(1, 0)
		}},
		{"delayed by more than a minute: late by less than 100 ms, never early", nil, func(s *script) {
			s.at(0.001).send(1, 100*time.Second)
			s.at(100.001).receive(1)
			s.at(100.1).receive(1, 0)
		}},
		{"delayed by 90 days", nil, func(s *script) {
			const day = 24 * 3600
			s.at(0.5).send(1, 90*day*time.Second)
			s.at(90*day+0.5).counts(0, 0, 1, 0)
			s.at(90*day+1).receive(1, 0)
		}},
		{"due messages come before new ones, the earliest due first", nil, func(s *script) {
			s.send(1, 2*time.Second) // position 0 of its lane: the first message of the shard
			s.send(1, time.Second)   // position 1
			s.send(1, 0)             // position 0 of the main lane
			s.at(2).receive(3, 1, 0, 0)
		}},
		{"retention ends a message that waits", nil, func(s *script) {
			s.send(3, 0)
			s.expire(command.Mark{Low: 2})
			s.counts(1, 0, 0, 0)
			s.receive(3, 2)
		}},
		{"retention ends a locked message", nil, func(s *script) {
			s.send(2, 0)
			h := s.receive(2, 0, 1)
			s.expire(command.Mark{Low: 1})
			s.counts(0, 1, 0, 0)
			s.invalid(s.delete(h[0]))
			s.deleted(h[1])
			s.at(60).receive(1)
		}},
		{"retention ends a returned message", nil, func(s *script) {
			s.send(2, 0)
			s.receive(2, 0, 1)
			s.at(30).expire(command.Mark{Low: 1})
			s.receive(2, 1)
		}},
		{"retention ends a delayed message", nil, func(s *script) {
			s.send(2, 10*time.Second)
			s.expire(command.Mark{Lane: start + 10_000, Low: 1})
			s.counts(0, 0, 1, 0)
			s.at(10).receive(2, 1)
		}},
		{"retention ends a rewindable message", rewindable, func(s *script) {
			s.send(2, 0)
			s.deleted(s.receive(2, 0, 1)...)
			s.counts(0, 0, 0, 2)
			s.expire(command.Mark{Low: 1})
			s.counts(0, 0, 0, 1)
			s.rewind(0)
			s.receive(2, 1)
		}},
		{"retention ends a dead message", dies(cmq.PolicyReceives, 1), func(s *script) {
			s.send(2, 0)
			s.receive(2, 0, 1)
			s.at(30).expire(command.Mark{Low: 1})
			s.counts(0, 1, 0, 0)
			if n, at := s.b.DeadHead(s.id, 9); n != 1 || len(at) != 1 || at[0].Seq != 1 || at[0].Count == 0 {
				s.t.Fatal(n, at)
			}
		}},
		{"the heap limit counts active, inactive and delayed", func(a *cmq.ShardAttributes) { a.MaxMsgHeapNum = 3 }, func(s *script) {
			s.send(1, 0)
			h := s.receive(1, 0)
			s.send(1, 0)
			s.refused(s.op(command.Op{Kind: command.Send, Bodies: bodies(2)}).Err, cmq.ErrHeapFull)
			s.send(1, time.Second)
			s.refused(s.op(command.Op{Kind: command.Send, Bodies: bodies(1)}).Err, cmq.ErrHeapFull)
			s.counts(1, 1, 1, 0)
			s.deleted(h[0])
			s.send(1, 0)
		}},
		{"the cap of messages in flight", func(a *cmq.ShardAttributes) { a.MaxInFlight = 2 }, func(s *script) {
			s.send(4, 0)
			h := s.receive(4, 0, 1)
			s.refused(s.op(command.Op{Kind: command.Receive, Max: 1}).Err, cmq.ErrTooMany)
			s.deleted(h[0])
			s.receive(4, 2)
			s.at(30).receive(4, 1, 2)
		}},
		{"at the cap an empty shard is just empty", func(a *cmq.ShardAttributes) { a.MaxInFlight = 1 }, func(s *script) {
			s.send(1, 0)
			s.receive(1, 0)
			s.receive(1)
		}},
		{"clear ends everything", rewindable, func(s *script) {
			s.send(3, 0)
			s.send(1, time.Second)
			h := s.receive(2, 0, 1)
			s.deleted(h[0])
			s.counts(1, 1, 1, 1)
			s.op(command.Op{Kind: command.Clear})
			s.counts(0, 0, 0, 0)
			s.invalid(s.delete(h[1]))
			s.rewind(0)
			s.at(60).receive(9)
			s.send(1, 0)
			s.receive(9, 3)
		}},
		{"rewind revives the deleted, as if new", rewindable, func(s *script) {
			s.send(3, 0)
			s.deleted(s.receive(3, 0, 1, 2)...)
			s.at(5).rewind(1)
			s.counts(2, 0, 0, 1)
			d := s.op(command.Op{Kind: command.Receive, Max: 9}).Deliveries
			if len(d) != 2 || d[0].Seq != 1 || d[0].Count != 1 || d[0].First != s.now {
				s.t.Fatalf("%+v", d)
			}
		}},
		{"rewind does not move forward", rewindable, func(s *script) {
			s.send(3, 0)
			s.rewind(2)
			s.receive(9, 0, 1, 2)
		}},
		{"rewind leaves locked messages locked", rewindable, func(s *script) {
			s.send(3, 0)
			h := s.receive(3, 0, 1, 2)
			s.deleted(h[0], h[2])
			s.rewind(0)
			s.counts(2, 1, 0, 0)
			s.receive(9, 0, 2)
			s.deleted(h[1])
			s.counts(0, 2, 0, 1)
			s.receive(9)
		}},
		{"a delete after a rewind stays, the next rewind revives it", rewindable, func(s *script) {
			s.send(2, 0)
			h := s.receive(2, 0, 1)
			s.rewind(0)
			s.counts(0, 2, 0, 0)
			s.deleted(h[1])
			s.counts(0, 1, 0, 1)
			s.receive(9)
			s.rewind(0)
			s.receive(9, 1)
		}},
		{"rewind not behind the window's floor", rewindable, func(s *script) {
			s.send(3, 0)
			s.deleted(s.receive(3, 0, 1, 2)...)
			s.expire(command.Mark{Floor: 2})
			s.counts(0, 0, 0, 1)
			s.rewind(0)
			s.receive(9, 2)
		}},
		{"a lock outlives the window's floor", rewindable, func(s *script) {
			s.send(2, 0)
			h := s.receive(2, 0, 1)
			s.expire(command.Mark{Floor: 1})
			s.counts(0, 2, 0, 0)
			s.deleted(h[0])
			s.counts(0, 1, 0, 0)
			s.deleted(h[1])
			s.counts(0, 0, 0, 1)
		}},
		{"rewind of delayed messages that were due", rewindable, func(s *script) {
			s.send(2, time.Second)
			s.deleted(s.at(1).receive(2, 0, 1)...)
			s.counts(0, 0, 0, 2)
			s.op(command.Op{Kind: command.Rewind, To: []command.LaneSeq{{Lane: start + 1000, Seq: 1}}})
			s.counts(1, 0, 0, 1)
			s.receive(2, 1)
		}},
		{"nothing to rewind without rewindSeconds", nil, func(s *script) {
			s.refused(s.rewind(0), cmq.ErrNotRewindable)
		}},
		{"rewindSeconds to 0 drops at once, and back does not bring back", rewindable, func(s *script) {
			s.send(3, 0)
			s.deleted(s.receive(2, 0, 1)...)
			s.set(func(a *cmq.ShardAttributes) { a.Rewind = 0 })
			s.counts(1, 0, 0, 0)
			s.set(rewindable)
			s.counts(1, 0, 0, 0)
			s.rewind(0)
			s.deleted(s.receive(9, 2)...)
			s.counts(0, 0, 0, 1)
		}},
		{"what was deleted ahead of a rewound cursor without rewindSeconds stays deleted", rewindable, func(s *script) {
			s.send(3, 0)
			h := s.receive(3, 0, 1, 2)
			s.deleted(h[0])
			s.rewind(0)
			s.set(func(a *cmq.ShardAttributes) { a.Rewind = 0 })
			s.deleted(h[2])
			s.set(rewindable)
			s.counts(1, 1, 0, 0)
			s.rewind(0)
			s.counts(1, 1, 0, 0)
			s.deleted(h[1])
			s.counts(1, 0, 0, 1)
			s.deleted(s.receive(9, 0)...)
			s.counts(0, 0, 0, 2)
			s.rewind(0)
			s.receive(9, 0, 1)
		}},
		{"policy 0: dead when the last lock ends", dies(cmq.PolicyReceives, 2), func(s *script) {
			s.send(1, 0)
			s.receive(1, 0)
			s.at(30).receive(1, 0)
			s.at(60).counts(0, 1, 0, 0)
			if !s.b.Dying(s.id, s.now) || s.b.Ready(s.id, s.now) != 0 {
				s.t.Fatal("the message should be about to die")
			}
			s.expire(command.Mark{})
			if n, at := s.b.DeadHead(s.id, 9); n != 0 || len(at) != 1 || s.b.Dying(s.id, s.now) {
				s.t.Fatal(n, at)
			}
			s.receive(1)
			s.op(command.Op{Kind: command.Forget, Number: 1})
			s.counts(0, 0, 0, 0)
		}},
		{"policy 0: deleted during the last lock", dies(cmq.PolicyReceives, 1), func(s *script) {
			s.send(1, 0)
			s.deleted(s.receive(1, 0)...)
			s.at(60).counts(0, 0, 0, 0)
		}},
		{"policy 0: a release does not count", dies(cmq.PolicyReceives, 1), func(s *script) {
			s.send(1, 0)
			if err := s.release(s.receive(1, 0)[0]); err != nil {
				s.t.Fatal(err)
			}
			s.receive(1, 0)
			s.at(30).counts(0, 1, 0, 0)
			s.receive(1)
		}},
		{"policy 1: what waits dies by age, what is locked when its lock ends", dies(cmq.PolicyAge, 0), func(s *script) {
			s.send(4, 0)
			h := s.at(50).receive(2, 0, 1)
			s.at(60).expire(command.Mark{Age: 3})
			s.counts(1, 3, 0, 0)
			s.deleted(h[0])
			s.at(80).counts(1, 2, 0, 0)
			s.receive(9, 3)
			if n, at := s.b.DeadHead(s.id, 9); n != 0 || len(at) != 2 || at[0].Seq != 2 || at[1].Seq != 1 {
				s.t.Fatal(n, at)
			}
		}},
		{"policy 1: a returned message dies by age", dies(cmq.PolicyAge, 0), func(s *script) {
			s.send(2, 0)
			s.receive(2, 0, 1)
			s.at(30).expire(command.Mark{Age: 1})
			s.counts(1, 1, 0, 0)
			s.receive(9, 1)
		}},
		{"policy 1: a longer time to live spares what is locked", dies(cmq.PolicyAge, 0), func(s *script) {
			s.send(1, 0)
			s.receive(1, 0)
			s.expire(command.Mark{Age: 1})
			s.set(func(a *cmq.ShardAttributes) { a.DeadLetter.MaxTimeToLive = time.Hour })
			s.at(30).receive(1, 0)
		}},
		{"policy 1: a million die as one run", dies(cmq.PolicyAge, 0), func(s *script) {
			for range 250 {
				s.send(4000, 0)
			}
			s.expire(command.Mark{Age: 1_000_000})
			s.counts(0, 1_000_000, 0, 0)
			if size := len(s.b.Encode()); size > 200 {
				s.t.Fatalf("the image has %d bytes", size)
			}
			s.op(command.Op{Kind: command.Forget, Number: 999_999})
			if n, at := s.b.DeadHead(s.id, 9); n != 999_999 || len(at) != 1 || at[0].Seq != 999_999 {
				s.t.Fatal(n, at)
			}
		}},
		{"numbers of dead messages past their retention stay unused", dies(cmq.PolicyReceives, 1), func(s *script) {
			s.send(3, 0)
			for _, lock := range []int64{2000, 1000, 3000} { // position 1 dies first, then 0, then 2
				s.op(command.Op{Kind: command.Receive, Max: 1, Lock: lock})
			}
			s.at(2).expire(command.Mark{Low: 1})
			s.at(3).expire(command.Mark{})
			if n, at := s.b.DeadHead(s.id, 9); n != 0 || len(at) != 1 || at[0].Seq != 1 {
				s.t.Fatal(n, at)
			}
			s.op(command.Op{Kind: command.Forget, Number: 1})
			if n, at := s.b.DeadHead(s.id, 9); n != 2 || len(at) != 1 || at[0].Seq != 2 {
				s.t.Fatal(n, at)
			}
		}},
		{"without the policy the dead come back, counts kept", dies(cmq.PolicyReceives, 1), func(s *script) {
			s.send(1, 0)
			s.receive(1, 0)
			s.at(30).receive(1)
			s.set(func(a *cmq.ShardAttributes) { a.DeadLetter = cmq.DeadLetterPolicy{} })
			s.counts(1, 0, 0, 0)
			if d := s.op(command.Op{Kind: command.Receive, Max: 1}).Deliveries; len(d) != 1 || d[0].Count != 2 || d[0].First != start {
				s.t.Fatalf("%+v", d)
			}
			if n, at := s.b.DeadHead(s.id, 9); n != 1 || at != nil {
				s.t.Fatal(n, at)
			}
		}},
		{"prepared, committed, received", asks, func(s *script) {
			id := s.prepare(2)
			s.receive(2)
			s.counts(0, 0, 0, 0)
			s.send(1, 0)
			s.refused(s.decide(id[1], true), nil)
			s.prepared(1, 0)
			s.receive(9, 0, 1) // in the order in which they became visible
			s.refused(s.decide(id[0], true), nil)
			if p := s.out.Placed; len(p) != 1 || cmq.NewMsgID(7, p[0].Index, p[0].Slot) != id[0] || p[0].Bytes != 2 || p[0].Seq != 2 {
				s.t.Fatalf("placed %+v", p)
			}
			s.receive(9, 2)
			s.prepared(0, 0)
		}},
		{"rolled back, and never to be had again", func(a *cmq.ShardAttributes) { asks(a); rewindable(a) }, func(s *script) {
			id := s.prepare(1)[0]
			s.refused(s.decide(id, false), nil)
			s.refused(s.decide(id, true), cmq.ErrNotPrepared)
			s.refused(s.decide(id, false), cmq.ErrNotPrepared)
			s.refused(s.rewind(0), nil)
			s.receive(9)
			s.counts(0, 0, 0, 0)
		}},
		{"committed twice is there once", asks, func(s *script) {
			id := s.prepare(1)[0]
			s.refused(s.decide(id, true), nil)
			s.refused(s.decide(id, true), cmq.ErrNotPrepared)
			s.refused(s.decide(id, false), cmq.ErrNotPrepared)
			s.receive(9, 0)
		}},
		{"ids nobody was given", asks, func(s *script) {
			id := s.prepare(1)[0]
			for _, other := range []cmq.MsgID{0, id + 1, id - 1, 1<<64 - 1} {
				s.refused(s.decide(other, true), cmq.ErrNotPrepared)
			}
			s.prepared(1, 0)
		}},
		{"asked about at intervals, three times, then parked", asks, func(s *script) {
			id := s.prepare(1)[0]
			s.at(9.999).asked(0, id)
			s.at(10).asked(1, id, id)
			s.at(19.999).asked(0, id)
			s.at(25).asked(1, id) // late, when there was somebody to ask
			s.at(34.999).asked(0, id)
			s.at(35).asked(1, id)
			s.at(44.999).prepared(1, 0)
			s.at(45).prepared(1, 1)
			s.at(1e6).asked(0, id)
			s.prepared(1, 1)
			s.refused(s.decide(id, true), nil)
			s.prepared(0, 0)
			s.receive(1, 0)
		}},
		{"an interval of its own", asks, func(s *script) {
			s.op(command.Op{Kind: command.Prepare, Interval: 500, Bodies: bodies(1)})
			if at := s.b.NextAsk(s.id); at != start+500 {
				s.t.Fatal(at)
			}
		}},
		{"prepared messages take room", func(a *cmq.ShardAttributes) { asks(a); a.MaxMsgHeapNum = 2 }, func(s *script) {
			id := s.prepare(1)[0]
			s.send(1, 0)
			s.refused(s.op(command.Op{Kind: command.Send, Bodies: bodies(1)}).Err, cmq.ErrHeapFull)
			s.refused(s.op(command.Op{Kind: command.Prepare, Bodies: bodies(1)}).Err, cmq.ErrHeapFull)
			s.refused(s.decide(id, true), nil)
			s.receive(9, 0, 1)
		}},
		{"an ordinary queue takes no prepared messages", nil, func(s *script) {
			s.refused(s.op(command.Op{Kind: command.Prepare, Bodies: bodies(1)}).Err, cmq.ErrTransaction)
			s.refused(s.decide(1, true), cmq.ErrNotPrepared)
		}},
		{"what is prepared stays when the queue becomes an ordinary one", asks, func(s *script) {
			id := s.prepare(1)[0]
			s.set(func(a *cmq.ShardAttributes) { a.Transaction.On = false })
			s.at(10).asked(1, id)
			s.refused(s.decide(id, true), nil)
			s.receive(1, 0)
		}},
		{"retention does not end what is not decided, and begins with the commit", asks, func(s *script) {
			s.send(1, 0)
			id := s.prepare(1)[0]
			s.expire(command.Mark{Low: 1 << 40})
			s.prepared(1, 0)
			s.refused(s.decide(id, true), nil)
			s.receive(9, 1)
		}},
		{"a clear ends what is prepared", asks, func(s *script) {
			id := s.prepare(1)[0]
			s.op(command.Op{Kind: command.Clear})
			s.prepared(0, 0)
			s.refused(s.decide(id, true), cmq.ErrNotPrepared)
		}},
		{"a session's send is stored once", nil, func(s *script) {
			e := s.session(9)
			one := s.stored(0, 9, e, 1, 0)
			two := s.stored(0, 9, e, 2, 0)
			s.stored(one, 9, e, 1, 0)
			s.reopened()
			s.stored(two, 9, e, 2, 0)
			s.stored(one, 9, e, 1, 0)
			s.receive(9, 0, 1)
			s.counts(0, 2, 0, 0)
		}},
		{"a repetition is answered even when the message is deleted or the queue is full", func(a *cmq.ShardAttributes) { a.MaxMsgHeapNum = 1 }, func(s *script) {
			e := s.session(9)
			one := s.stored(0, 9, e, 1, 0)
			_, err := s.sendOnce(9, e, 2, 0)
			s.refused(err, cmq.ErrHeapFull)
			s.stored(one, 9, e, 1, 0)
			s.deleted(s.receive(1, 0)...)
			s.stored(one, 9, e, 1, 0)
			s.op(command.Op{Kind: command.Clear})
			s.stored(one, 9, e, 1, 0)
			if two := s.stored(0, 9, e, 2, 0); two == one {
				s.t.Fatal("what was refused was not stored")
			}
		}},
		{"requests of a session may overtake each other", nil, func(s *script) {
			e := s.session(9)
			three := s.stored(0, 9, e, 3, 0)
			one := s.stored(0, 9, e, 1, 0)
			two := s.stored(0, 9, e, 2, 0)
			s.reopened()
			s.stored(three, 9, e, 3, 0)
			s.stored(two, 9, e, 2, 0)
			s.stored(one, 9, e, 1, 0)
		}},
		{"an answer is kept for 1,024 requests, or until it is acknowledged", nil, func(s *script) {
			e := s.session(9)
			one := s.stored(0, 9, e, 1, 0)
			s.stored(0, 9, e, 1024, 0)
			s.stored(one, 9, e, 1, 0)
			s.stored(0, 9, e, 1025, 0)
			_, err := s.sendOnce(9, e, 1, 0)
			s.refused(err, cmq.ErrRequestOld)
			s.stored(0, 9, e, 2, 0)
			s.stored(0, 9, e, 1026, 1026)
			_, err = s.sendOnce(9, e, 1025, 0)
			s.refused(err, cmq.ErrRequestOld)
			_, err = s.sendOnce(9, e, 0, 0)
			s.refused(err, cmq.ErrRequestOld)
		}},
		{"a session is its epoch's", nil, func(s *script) {
			_, err := s.sendOnce(9, 0, 1, 0)
			s.refused(err, cmq.ErrSession)
			e := s.session(9)
			one := s.stored(0, 9, e, 1, 0)
			young := s.session(9)
			_, err = s.sendOnce(9, e, 1, 0)
			s.refused(err, cmq.ErrSession)
			if other := s.stored(0, 9, young, 1, 0); other == one {
				s.t.Fatal("the sessions have one memory")
			}
			_, err = s.sendOnce(8, young, 1, 0)
			s.refused(err, cmq.ErrSession)
		}},
		{"the session used longest ago makes room, and its requests are never taken for new", nil, func(s *script) {
			first := s.session(1)
			s.stored(0, 1, first, 1, 0)
			second := s.session(2)
			for id := uint64(3); id <= 1024; id++ {
				s.session(id)
			}
			one := s.stored(0, 1, first, 2, 0) // used again, so the second goes
			s.session(1025)
			s.reopened()
			_, err := s.sendOnce(2, second, 1, 0)
			s.refused(err, cmq.ErrSession)
			s.stored(one, 1, first, 2, 0)
			again := s.session(2)
			_, err = s.sendOnce(2, second, 1, 0)
			s.refused(err, cmq.ErrSession)
			s.stored(0, 2, again, 1, 0)
		}},
		{"everything about it is in the image", asks, func(s *script) {
			id := s.prepare(3)
			s.at(10).asked(1, id[0])
			s.at(20).asked(1, id[0])
			s.at(30).asked(1, id[0])
			s.reopened()
			s.at(40).prepared(3, 1)
			s.asked(2, id...)
			s.reopened()
			s.prepared(3, 1)
			s.at(50).asked(2, id...)
			s.reopened()
			s.refused(s.decide(id[0], true), nil)
			s.prepared(2, 0)
			s.refused(s.decide(id[2], false), nil)
			s.reopened()
			s.prepared(1, 0)
		}},
		{"an older version of the attributes changes nothing", nil, func(s *script) {
			s.set(rewindable)
			s.op(command.Op{Kind: command.Set, Version: 2})
			s.op(command.Op{Kind: command.Open, Version: 9})
			if a, v, ok := s.b.Attributes(s.id); !ok || v != 2 || a.Rewind != time.Hour {
				s.t.Fatal(a, v)
			}
		}},
		{"time does not go back", nil, func(s *script) {
			s.send(1, 0)
			s.at(40).receive(1, 0)
			s.at(0).receive(1)
			if s.b.Time() != start+40_000 {
				s.t.Fatal(s.b.Time())
			}
			s.at(70).receive(1, 0)
		}},
		{"wake times", nil, func(s *script) {
			s.send(2, 0)
			s.send(1, 40*time.Second)
			s.receive(1, 0)
			s.at(10).receive(1, 1)
			for _, w := range [][2]int64{{10, 30}, {30, 40}, {39, 40}, {40, 0}} {
				want := start + w[1]*1000
				if w[1] == 0 {
					want = 0
				}
				if got := s.b.NextWake(s.id, start+w[0]*1000); got != want {
					s.t.Fatalf("after %d s: %d, want %d", w[0], got-start, want-start)
				}
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(newScript(t, c.change)) })
	}
}

func TestDroppedShardStaysDropped(t *testing.T) {
	s := newScript(t, nil)
	s.send(1, 0)
	s.op(command.Op{Kind: command.Drop})
	if len(s.out.Dropped) != 1 || s.b.Has(s.id) {
		t.Fatal(s.out.Dropped)
	}
	s.op(command.Op{Kind: command.Drop})
	if len(s.out.Dropped) != 0 {
		t.Fatal("dropped twice")
	}
	s.refused(s.op(command.Op{Kind: command.Open, Version: 2}).Err, cmq.ErrQueueNotExist)
	s.refused(s.op(command.Op{Kind: command.Send, Bodies: bodies(1)}).Err, cmq.ErrQueueNotExist)
	s.id++
	s.op(command.Op{Kind: command.Drop})
	s.refused(s.op(command.Op{Kind: command.Open, Version: 1}).Err, cmq.ErrQueueNotExist)
}

func TestTransferArrivesOnce(t *testing.T) {
	s := newScript(t, func(a *cmq.ShardAttributes) { a.MaxMsgHeapNum = 1 })
	transfer := func(base, number uint64, n int) Result {
		return s.op(command.Op{Kind: command.Transfer, From: 5, Base: base, Number: number, Bodies: bodies(n), IDs: make([]cmq.MsgID, n)})
	}
	for _, c := range []struct {
		base, number uint64
		n            int
		want         uint64
		stored       int
		refused      bool
	}{
		{0, 0, 3, 3, 3, false},
		{0, 0, 3, 3, 0, false},    // again
		{0, 2, 3, 5, 2, false},    // overlapping
		{0, 6, 1, 5, 0, true},     // a gap
		{6, 6, 1, 7, 1, false},    // a gap of numbers that will not come
		{0, 4, 2, 7, 0, false},    // late
		{20, 18, 4, 22, 2, false}, // partly below the base
	} {
		r := transfer(c.base, c.number, c.n)
		if r.Number != c.want || r.N != c.stored || (r.Err != nil) != c.refused {
			t.Fatalf("%+v: %+v", c, r)
		}
		if c.stored > 0 && (len(s.out.Placed) != 1 || int(s.out.Placed[0].Slot) != c.n-c.stored) {
			t.Fatalf("%+v: %+v", c, s.out.Placed)
		}
	}
	s.counts(8, 0, 0, 0)
}
