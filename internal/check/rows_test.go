package check

import (
	"slices"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

type badHistory struct {
	rule, name string
	story      func() *story
}

// bad begins a history with one confirmed message in a queue without any policy.
func bad(rule, name string, f func(st *story, s *Op)) badHistory {
	return badWith(rule, name, Settings{}, f)
}

func badWith(rule, name string, settings Settings, f func(st *story, s *Op)) badHistory {
	return badHistory{rule, name, func() *story {
		st := newStory(settings)
		f(st, st.send(10*ms, "a"))
		return st
	}}
}

func badHistories() []badHistory {
	return slices.Concat(badContents(), badLocks(), badTimes(), badTransactions(), badTopics(), badPushes())
}

func badContents() []badHistory {
	return []badHistory{
		bad("I1", "never seen again", func(st *story, s *Op) {
			st.dry(time.Second, "q")
		}),
		bad("I1", "received, not deleted, gone", func(st *story, s *Op) {
			st.receive(20*ms, s, 0, 1)
			st.drain(time.Second, st.send(30*ms, "b"), 0, 1)
			st.dry(2*time.Second, "q")
		}),
		bad("I1", "second message of a batch", func(st *story, s *Op) {
			b := st.send(20*ms, "b", "c")
			st.drain(time.Second, s, 0, 1)
			st.drain(1100*ms, b, 0, 1)
			st.dry(2*time.Second, "q")
		}),
		bad("I2", "body nobody sent", func(st *story, s *Op) {
			st.receive(20*ms, s, 0, 1).Messages[0].Body = "A"
		}),
		bad("I2", "another queue's message", func(st *story, s *Op) {
			st.receive(20*ms, s, 0, 1).Queue = "dead"
		}),
		bad("I2", "body under a second id", func(st *story, s *Op) {
			st.receive(20*ms, s, 0, 1).Messages[0].ID = 77
		}),
		bad("I2", "more than asked for", func(st *story, s *Op) {
			r := st.receive(20*ms, s, 0, 1)
			other := st.receive(20*ms, st.send(12*ms, "b"), 0, 1)
			r.Messages = append(r.Messages, other.Messages...)
			other.Messages = nil
		}),
		bad("I3", "refused send is received", func(st *story, s *Op) {
			st.receive(20*ms, s, 0, 1)
			s.Outcome = Fail
		}),
		bad("I3", "refused batch is received in part", func(st *story, s *Op) {
			b := st.send(20*ms, "b", "c")
			st.receive(30*ms, b, 1, 1)
			b.Outcome = Fail
		}),
		bad("I4", "id given twice", func(st *story, s *Op) {
			st.send(20*ms, "b").IDs[0] = s.IDs[0]
		}),
		bad("I4", "id smaller than an older one", func(st *story, s *Op) {
			s.IDs[0] = 9
			st.send(20*ms, "b").IDs[0] = 8
		}),
		bad("I4", "an id too few", func(st *story, s *Op) {
			b := st.send(20*ms, "b", "c")
			b.IDs = b.IDs[:1]
		}),
		badWith("I9", "deleted here, delivered as dead letter too", Settings{DeadLetter: "dead", MaxReceives: 2}, func(st *story, s *Op) {
			st.delete(30*ms, st.receive(20*ms, s, 0, 1))
			st.receive(40*ms, s, 0, 1).Queue = "dead"
		}),
		badWith("I9", "still delivered after it came out as dead letter", Settings{DeadLetter: "dead", MaxReceives: 5}, func(st *story, s *Op) {
			st.receive(20*ms, s, 0, 1).Queue = "dead"
			st.receive(300*ms, s, 0, 1)
		}),
	}
}

func badLocks() []badHistory {
	return []badHistory{
		bad("I5", "second consumer within the lock", func(st *story, s *Op) {
			st.receive(20*ms, s, 0, 1)
			st.receive(60*ms, s, 0, 2)
		}),
		bad("I5", "early by cluster time only", func(st *story, s *Op) {
			first := st.receive(20*ms, s, 0, 1)
			second := st.receive(125*ms, s, 0, 2)
			second.Messages[0].Until = first.Messages[0].Until - 1 + second.Lock.Milliseconds()
		}),
		bad("I5", "a rewind does not open locks", func(st *story, s *Op) {
			st.receive(20*ms, s, 0, 1)
			st.rewind(30*ms, 0)
			st.receive(60*ms, s, 0, 1)
		}),
		bad("I5", "an extended lock ends when it would have without", func(st *story, s *Op) {
			st.relock(60*ms, st.receive(20*ms, s, 0, 1), 500*ms)
			st.receive(130*ms, s, 0, 2)
		}),
		bad("I5", "a lock extended after it was shortened ends as if not", func(st *story, s *Op) {
			r := st.receive(20*ms, s, 0, 1)
			st.relock(30*ms, r, 50*ms)
			st.relock(60*ms, r, 500*ms)
			st.receive(130*ms, s, 0, 2)
		}),
		bad("I6", "a delete within the extended lock is refused", func(st *story, s *Op) {
			r := st.receive(20*ms, s, 0, 1)
			st.relock(60*ms, r, 500*ms)
			st.delete(300*ms, r).Done[0] = false
		}),
		bad("I6", "a lock that is held cannot be extended", func(st *story, s *Op) {
			st.relock(60*ms, st.receive(20*ms, s, 0, 1), 500*ms).Done[0] = false
		}),
		bad("I6", "old handle extends a lock", func(st *story, s *Op) {
			st.add(&Op{Kind: Relock, Queue: "q", Call: 30 * ms, Handles: []cmq.Handle{99}, Lock: time.Second, Done: []bool{true}}, OK)
		}),
		bad("I6", "old handle deletes", func(st *story, s *Op) {
			old := st.receive(20*ms, s, 0, 1)
			st.receive(130*ms, s, 0, 2)
			st.delete(140*ms, old)
		}),
		bad("I6", "handle nobody was given", func(st *story, s *Op) {
			st.add(&Op{Kind: Delete, Queue: "q", Call: 30 * ms, Handles: []cmq.Handle{99}, Done: []bool{true}}, OK)
		}),
		bad("I6", "good handle refused", func(st *story, s *Op) {
			st.delete(30*ms, st.receive(20*ms, s, 0, 1)).Done[0] = false
		}),
		bad("I6", "handle given out twice", func(st *story, s *Op) {
			first := st.receive(20*ms, s, 0, 1)
			st.receive(130*ms, s, 0, 2).Messages[0].Handle = first.Messages[0].Handle
		}),
		bad("I7", "delivered after the delete", func(st *story, s *Op) {
			st.delete(30*ms, st.receive(20*ms, s, 0, 1))
			st.receive(200*ms, s, 0, 2)
		}),
		bad("I7", "seen in the drain", func(st *story, s *Op) {
			st.delete(30*ms, st.receive(20*ms, s, 0, 1))
			st.drain(time.Second, s, 0, 2)
		}),
		badWith("I7", "revived by a rewind to a later time", Settings{Rewind: time.Minute}, func(st *story, s *Op) {
			st.delete(30*ms, st.receive(20*ms, s, 0, 1))
			st.rewind(40*ms, 15*ms)
			st.receive(200*ms, s, 0, 1)
		}),
		bad("I8", "count stands still", func(st *story, s *Op) {
			st.receive(20*ms, s, 0, 1)
			st.receive(130*ms, s, 0, 1)
		}),
		bad("I8", "count jumps", func(st *story, s *Op) {
			st.receive(20*ms, s, 0, 1)
			st.receive(130*ms, s, 0, 3)
		}),
		bad("I8", "first delivery is not the first", func(st *story, s *Op) {
			st.receive(20*ms, s, 0, 2)
		}),
		badWith("I8", "more often than the policy allows", Settings{DeadLetter: "dead", MaxReceives: 1}, func(st *story, s *Op) {
			st.receive(20*ms, s, 0, 1)
			st.receive(130*ms, s, 0, 2)
		}),
	}
}

func badTransactions() []badHistory {
	return []badHistory{
		bad("T1", "delivered before anybody committed it", func(st *story, s *Op) {
			p := st.prepare(20*ms, "p")
			st.receive(30*ms, p, 0, 1)
			st.decide(40*ms, p, true)
		}),
		bad("T1", "in the drain, never committed", func(st *story, s *Op) {
			st.drain(time.Second, st.prepare(20*ms, "p"), 0, 1)
		}),
		bad("T1", "a commit that was refused does not count", func(st *story, s *Op) {
			p := st.prepare(20*ms, "p")
			st.decide(30*ms, p, true).Done[0] = false
			st.receive(40*ms, p, 0, 1)
		}),
		bad("T2", "delivered after the rollback", func(st *story, s *Op) {
			p := st.prepare(20*ms, "p")
			st.decide(30*ms, p, false)
			st.receive(40*ms, p, 0, 1)
		}),
		bad("T2", "rolled back and committed", func(st *story, s *Op) {
			p := st.prepare(20*ms, "p")
			st.decide(30*ms, p, false)
			st.decide(40*ms, p, true)
		}),
		bad("T2", "committed twice", func(st *story, s *Op) {
			p := st.prepare(20*ms, "p")
			st.decide(30*ms, p, true)
			st.decide(40*ms, p, true)
		}),
		bad("T2", "decided without being prepared", func(st *story, s *Op) {
			st.decide(30*ms, &Op{IDs: []cmq.MsgID{99}}, true)
		}),
		bad("T3", "unknown when it is to be committed", func(st *story, s *Op) {
			st.decide(30*ms, st.prepare(20*ms, "p"), true).Done[0] = false
		}),
		bad("T3", "unknown to two", func(st *story, s *Op) {
			p := st.prepare(20*ms, "p")
			st.decide(30*ms, p, true).Done[0] = false
			st.decide(40*ms, p, false).Done[0] = false
		}),
		bad("S1", "another id for the repetition", func(st *story, s *Op) {
			st.again(20*ms, s, OK).IDs = []cmq.MsgID{77}
		}),
		bad("S1", "delivered under both ids", func(st *story, s *Op) {
			st.again(20*ms, s, Info)
			st.receive(30*ms, s, 0, 1)
			st.receive(40*ms, s, 0, 1).Messages[0].ID = 77
		}),
		bad("I1", "the repetition was confirmed, and the message is lost", func(st *story, s *Op) {
			st.again(20*ms, s, OK)
			s.Outcome, s.Return, s.IDs = Info, Never, nil
			st.dry(time.Second, "q")
		}),
		bad("I1", "committed and never seen", func(st *story, s *Op) {
			st.decide(30*ms, st.prepare(20*ms, "p"), true)
			st.drain(time.Second, s, 0, 1)
			st.dry(2*time.Second, "q")
		}),
		badWith("I1", "committed late, its retention is not over", Settings{Retention: time.Minute}, func(st *story, s *Op) {
			st.decide(50*time.Second, st.prepare(20*ms, "p"), true)
			st.dry(100*time.Second, "q")
		}),
	}
}

func badTimes() []badHistory {
	return []badHistory{
		bad("I10", "received before the delay is over", func(st *story, s *Op) {
			s.Delay = 100 * ms
			st.receive(50*ms, s, 0, 1)
		}),
		bad("I10", "early by cluster time only", func(st *story, s *Op) {
			s.Delay = 100 * ms
			st.receive(112*ms, s, 0, 1).Messages[0].Enqueued += 10
		}),
		bad("I11", "still locked at rest", func(st *story, s *Op) {
			st.status(time.Second, 0).Counts.Inactive = 1
		}),
		bad("I11", "still delayed at rest", func(st *story, s *Op) {
			st.status(time.Second, 0).Counts.Delayed = 1
		}),
		badWith("I12", "deleted message does not come back", Settings{Rewind: time.Minute}, func(st *story, s *Op) {
			st.delete(30*ms, st.receive(20*ms, s, 0, 1))
			st.rewind(50*ms, 0)
			st.dry(time.Second, "q")
		}),
		badWith("I12", "off by one: the message sent exactly then", Settings{Rewind: time.Minute}, func(st *story, s *Op) {
			st.delete(30*ms, st.receive(20*ms, s, 0, 1))
			st.rewind(50*ms, 11*ms)
			st.dry(time.Second, "q")
		}),
		bad("I14", "more active than there is", func(st *story, s *Op) {
			st.status(900*ms, 2)
			st.drain(time.Second, s, 0, 1)
			st.dry(2*time.Second, "q")
		}),
		bad("I14", "negative", func(st *story, s *Op) {
			op := st.status(20*ms, 0)
			op.Phase, op.Counts.Inactive = PhaseLoad, -1
		}),
		badWith("I24", "delivered long after the retention", Settings{Retention: time.Minute}, func(st *story, s *Op) {
			st.receive(3*time.Minute, s, 0, 1)
		}),
		badWith("I24", "in the drain long after the retention", Settings{Retention: time.Minute}, func(st *story, s *Op) {
			st.drain(2*time.Minute, s, 0, 1)
		}),
		badWith("I1", "retention is not over yet", Settings{Retention: time.Minute}, func(st *story, s *Op) {
			st.dry(59*time.Second, "q")
		}),
	}
}

type goodHistory struct {
	name  string
	story func() *story
}

func good(name string, settings Settings, f func(st *story, s *Op)) goodHistory {
	b := badWith("", name, settings, f)
	return goodHistory{name, b.story}
}

func goodHistories() []goodHistory {
	return []goodHistory{
		good("received, deleted, drained empty", Settings{}, func(st *story, s *Op) {
			st.delete(30*ms, st.receive(20*ms, s, 0, 1))
			st.status(900*ms, 0)
			st.dry(time.Second, "q")
		}),
		good("lock ends, delivered again, old handle refused", Settings{}, func(st *story, s *Op) {
			old := st.receive(20*ms, s, 0, 1)
			st.receive(125*ms, s, 0, 2)
			st.delete(140*ms, old).Done[0] = false
			st.drain(time.Second, s, 0, 3)
			st.dry(2*time.Second, "q")
		}),
		good("committed, rolled back, and undecided for ever", Settings{}, func(st *story, s *Op) {
			st.delete(15*ms, st.receive(12*ms, s, 0, 1))
			p := st.prepare(20*ms, "a1", "a2")
			st.decide(30*ms, st.prepare(22*ms, "b"), false)
			st.prepare(24*ms, "c")
			st.decide(32*ms, p, true)
			st.decide(34*ms, p, false).Done = []bool{false, false}
			st.delete(43*ms, st.receive(40*ms, p, 1, 1))
			st.status(900*ms, 1)
			st.drain(time.Second, p, 0, 1)
			st.dry(2*time.Second, "q")
		}),
		good("answers of a prepare and of a commit lost", Settings{}, func(st *story, s *Op) {
			p := st.prepare(20*ms, "p")
			d := st.decide(30*ms, p, true)
			d.Outcome, d.Return, d.Done = Info, Never, nil
			st.decide(40*ms, p, false).Done[0] = false
			st.drain(time.Second, p, 0, 1)
			st.drain(1100*ms, s, 0, 1)
			p.Outcome, p.Return, p.IDs = Info, Never, nil
			st.dry(2*time.Second, "q")
		}),
		good("a clear ends what is undecided", Settings{}, func(st *story, s *Op) {
			p := st.prepare(20*ms, "p")
			st.add(&Op{Kind: Clear, Queue: "q", Call: 25 * ms}, OK)
			st.decide(40*ms, p, true).Done[0] = false
			st.dry(2*time.Second, "q")
		}),
		good("repeated after its answer was lost, and once more", Settings{}, func(st *story, s *Op) {
			st.again(20*ms, s, OK)
			st.again(30*ms, s, Info)
			st.again(40*ms, s, OK)
			s.Outcome, s.Return, s.IDs = Info, Never, nil
			st.drain(time.Second, &Op{Bodies: []string{"a"}, IDs: []cmq.MsgID{1}, Call: 20 * ms}, 0, 1)
			st.dry(2*time.Second, "q")
		}),
		good("a lock given back at once and one shortened, delivered again early", Settings{}, func(st *story, s *Op) {
			r := st.receive(20*ms, s, 0, 1)
			st.relock(30*ms, r, 0)
			again := st.receive(40*ms, s, 0, 2)
			st.delete(50*ms, r).Done[0] = false
			st.relock(60*ms, r, time.Second).Done[0] = false
			st.relock(70*ms, again, 20*ms)
			st.drain(time.Second, s, 0, 3)
			st.dry(2*time.Second, "q")
		}),
		good("a lock that may have been shortened", Settings{}, func(st *story, s *Op) {
			r := st.receive(20*ms, s, 0, 1)
			st.add(&Op{Kind: Relock, Queue: "q", Call: 30 * ms, Handles: []cmq.Handle{r.Messages[0].Handle}, Lock: 10 * ms}, Info)
			st.relock(35*ms, r, time.Second)
			st.receive(60*ms, s, 0, 2)
			st.drain(2*time.Second, s, 0, 3)
			st.dry(3*time.Second, "q")
		}),
		good("a long lock kept by extending it", Settings{}, func(st *story, s *Op) {
			r := st.receive(20*ms, s, 0, 1)
			st.relock(100*ms, r, 100*ms)
			st.relock(180*ms, r, 100*ms)
			st.delete(250*ms, r)
			st.dry(time.Second, "q")
		}),
		good("answer of a receive lost", Settings{}, func(st *story, s *Op) {
			st.add(&Op{Kind: Receive, Queue: "q", Call: 20 * ms, Max: 1, Lock: 100 * ms}, Info)
			st.drain(time.Second, s, 0, 2)
			st.dry(2*time.Second, "q")
		}),
		good("answer of a delete lost, it happened", Settings{}, func(st *story, s *Op) {
			r := st.receive(20*ms, s, 0, 1)
			st.delete(30*ms, r).Finish(0, Info)
			st.Ops[len(st.Ops)-1].Return = Never
			st.delete(40*ms, r).Done[0] = false
			st.dry(time.Second, "q")
		}),
		good("answer of a send lost, it happened", Settings{}, func(st *story, s *Op) {
			lost := st.send(20*ms, "b")
			st.drain(time.Second, s, 0, 1)
			st.drain(1100*ms, lost, 0, 1)
			lost.Outcome, lost.Return, lost.IDs = Info, Never, nil
			st.status(900*ms, 2)
			st.dry(2*time.Second, "q")
		}),
		good("released at once and received again", Settings{}, func(st *story, s *Op) {
			r := st.receive(20*ms, s, 0, 1)
			st.add(&Op{Kind: Release, Queue: "q", Call: 25 * ms, Handles: []cmq.Handle{r.Messages[0].Handle}, Done: []bool{true}}, OK)
			st.drain(40*ms, s, 0, 1)
			st.dry(2*time.Second, "q")
		}),
		good("rewound, count begins again", Settings{Rewind: time.Minute}, func(st *story, s *Op) {
			st.delete(30*ms, st.receive(20*ms, s, 0, 1))
			st.rewind(40*ms, 11*ms)
			st.drain(time.Second, s, 0, 1)
			st.dry(2*time.Second, "q")
		}),
		good("rewind to after the message", Settings{Rewind: time.Minute}, func(st *story, s *Op) {
			st.delete(30*ms, st.receive(20*ms, s, 0, 1))
			st.rewind(40*ms, 20*ms)
			st.dry(2*time.Second, "q")
		}),
		good("rewind before the window", Settings{Rewind: 20 * ms}, func(st *story, s *Op) {
			st.delete(30*ms, st.receive(20*ms, s, 0, 1))
			st.rewind(40*ms, 0)
			st.dry(2*time.Second, "q")
		}),
		good("two deletes at a time, one of them finds nothing", Settings{}, func(st *story, s *Op) {
			r := st.receive(20*ms, s, 0, 1)
			st.delete(30*ms, r).Done[0] = false
			st.delete(31*ms, r)
			st.dry(time.Second, "q")
		}),
		good("cleared", Settings{}, func(st *story, s *Op) {
			r := st.receive(20*ms, s, 0, 1)
			st.add(&Op{Kind: Clear, Queue: "q", Call: 30 * ms}, Info)
			st.delete(40*ms, r).Done[0] = false
			st.dry(time.Second, "q")
		}),
		good("expired", Settings{Retention: time.Minute}, func(st *story, s *Op) {
			st.dry(61*time.Second, "q")
		}),
		good("dead letter", Settings{DeadLetter: "dead", MaxReceives: 2}, func(st *story, s *Op) {
			st.receive(20*ms, s, 0, 1)
			st.receive(130*ms, s, 0, 2)
			st.dry(time.Second, "q")
			st.drain(2*time.Second, s, 0, 1).Queue = "dead"
			st.Ops[len(st.Ops)-1].Queue = "dead"
			st.dry(3*time.Second, "dead")
		}),
		good("lock cut short by a jump of cluster time", Settings{}, func(st *story, s *Op) {
			st.receive(20*ms, s, 0, 1)
			st.Jumps = []Jump{{At: 30 * ms, Ahead: 80 * ms}}
			st.receive(50*ms, s, 0, 2).Messages[0].Until += 80
		}),
		good("lock of unknown length", Settings{}, func(st *story, s *Op) {
			st.receive(20*ms, s, 0, 1).Lock = 0
			st.receive(30*ms, s, 0, 2)
		}),
	}
}
