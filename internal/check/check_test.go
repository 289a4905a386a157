package check

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

const (
	ms    = time.Millisecond
	epoch = int64(1_800_000_000_000) // cluster time at true time 0 in these histories
)

// story writes a history by hand. Every operation takes 2 ms from the given time on.
type story struct {
	History
	handle cmq.Handle
	slot   uint64
}

func newStory(s Settings) *story {
	st := &story{}
	if s.Retention == 0 {
		s.Retention = time.Hour
	}
	st.add(&Op{Kind: Set, Queue: "q", Call: 0, Settings: &s}, OK)
	st.add(&Op{Kind: Set, Queue: "dead", Call: 0, Settings: &Settings{Retention: time.Hour}}, OK)
	return st
}

func (st *story) add(op *Op, o Outcome) *Op {
	st.Invoke(op).Finish(op.Call+2*ms, o)
	return op
}

func (st *story) send(at time.Duration, bodies ...string) *Op {
	op := st.add(&Op{Kind: Send, Queue: "q", Call: at, Bodies: bodies}, OK)
	for range bodies {
		st.slot++
		op.IDs = append(op.IDs, cmq.MsgID(st.slot))
	}
	return op
}

// receive delivers the body for 100 ms; the batch is stamped 1 ms after the call.
func (st *story) receive(at time.Duration, send *Op, place, count int) *Op {
	st.handle++
	now := epoch + at.Milliseconds() + 1
	return st.add(&Op{Kind: Receive, Queue: "q", Call: at, Lock: 100 * ms, Max: 1, Messages: []Delivery{{
		ID: send.IDs[place], Handle: st.handle, Body: send.Bodies[place], Count: count,
		Enqueued: epoch + send.Call.Milliseconds() + 1, Until: now + 100,
	}}}, OK)
}

func (st *story) delete(at time.Duration, receive *Op) *Op {
	return st.add(&Op{Kind: Delete, Queue: receive.Queue, Call: at, Handles: []cmq.Handle{receive.Messages[0].Handle}, Done: []bool{true}}, OK)
}

func (st *story) prepare(at time.Duration, bodies ...string) *Op {
	op := st.send(at, bodies...)
	op.Kind = Prepare
	return op
}

// again puts a send of a session once more.
func (st *story) again(at time.Duration, send *Op, o Outcome) *Op {
	send.Session = true
	op := st.add(&Op{Kind: Resend, Queue: "q", Call: at, Bodies: send.Bodies, Session: true}, o)
	op.IDs = send.IDs
	return op
}

func (st *story) decide(at time.Duration, prepare *Op, commit bool) *Op {
	op := st.add(&Op{Kind: Decide, Queue: "q", Call: at}, OK)
	for _, id := range prepare.IDs {
		op.Decisions, op.Done = append(op.Decisions, Decision{id, commit}), append(op.Done, true)
	}
	return op
}

func (st *story) relock(at time.Duration, receive *Op, lock time.Duration) *Op {
	return st.add(&Op{Kind: Relock, Queue: receive.Queue, Call: at, Handles: []cmq.Handle{receive.Messages[0].Handle}, Lock: lock, Done: []bool{true}}, OK)
}

func (st *story) drain(at time.Duration, send *Op, place, count int) *Op {
	op := st.receive(at, send, place, count)
	op.Phase = PhaseDrain
	st.delete(at+3*ms, op).Phase = PhaseDrain
	return op
}

// dry is the empty receive with which the drain of a queue ends.
func (st *story) dry(at time.Duration, queue string) {
	st.add(&Op{Kind: Receive, Queue: queue, Phase: PhaseDrain, Call: at, Lock: 100 * ms, Max: 1}, OK)
}

func (st *story) status(at time.Duration, active int64) *Op {
	return st.add(&Op{Kind: Status, Queue: "q", Phase: PhaseQuiet, Call: at, Counts: &Counts{Active: active}}, OK)
}

func (st *story) rewind(at time.Duration, to time.Duration) *Op {
	return st.add(&Op{Kind: Rewind, Queue: "q", Call: at, To: epoch + to.Milliseconds()}, OK)
}

func TestBadHistoriesAreCaught(t *testing.T) {
	for _, row := range badHistories() {
		t.Run(row.rule+" "+row.name, func(t *testing.T) {
			report := Check(&row.story().History)
			for _, v := range report.Violations {
				if v.Rule == row.rule {
					return
				}
			}
			t.Errorf("not caught; found %v", report.Violations)
		})
	}
}

func TestEveryRuleHasTwoBadHistories(t *testing.T) {
	seen := map[string]int{}
	for _, row := range badHistories() {
		seen[row.rule]++
	}
	for _, rule := range []string{"I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "I10", "I11", "I12", "I14", "I24", "T1", "T2", "T3", "S1", "P1", "P2", "D1", "D2", "D3", "D4", "D5"} {
		if seen[rule] < 2 {
			t.Errorf("%s has %d bad histories", rule, seen[rule])
		}
	}
}

func TestGoodHistoriesPass(t *testing.T) {
	for _, row := range goodHistories() {
		t.Run(row.name, func(t *testing.T) {
			if report := Check(&row.story().History); len(report.Violations) > 0 {
				t.Errorf("false alarm: %v", report.Violations)
			}
		})
	}
}

func TestHistoryOnPaper(t *testing.T) {
	st := newStory(Settings{Rewind: time.Minute, DeadLetter: "dead", MaxReceives: 3, MaxAge: time.Second})
	s := st.send(10*ms, "a", "b")
	r := st.receive(20*ms, s, 0, 1)
	st.delete(30*ms, r)
	st.status(40*ms, 1)
	st.rewind(50*ms, 0)
	st.decide(55*ms, st.prepare(52*ms, "p"), true)
	st.relock(57*ms, r, time.Second)
	st.add(&Op{Kind: Receive, Queue: "q", Call: 60 * ms, Max: 1, Lock: time.Second}, Info)
	st.add(&Op{Kind: Send, Queue: "q", Call: 70 * ms, Bodies: []string{"c"}, Delay: time.Second, Client: 4}, Fail)
	st.add(&Op{Kind: Subscribe, Queue: "t", Call: 80 * ms, Subscription: &Subscription{Name: "s", Queue: "q", Tags: []string{"a"}}}, OK)
	st.add(&Op{Kind: Publish, Queue: "t", Call: 90 * ms, Bodies: []string{"d"}, Tags: []string{"b"}, Refused: NoMatch}, Fail)
	st.add(&Op{Kind: Set, Queue: "shop", Call: 95 * ms, Settings: &Settings{Fed: true, Schedule: fast()}}, OK)
	st.add(&Op{
		Kind: Deliver, Queue: "shop", Call: 100 * ms, IDs: []cmq.MsgID{3}, Handles: []cmq.Handle{4}, Bodies: []string{"d"}, Try: 2, After: ms, Heard: 110 * ms,
	}, Fail)
	st.Jumps = []Jump{{At: 65 * ms, Ahead: time.Second}}
	var paper bytes.Buffer
	if err := st.Write(&paper); err != nil {
		t.Fatal(err)
	}
	got, err := Read(&paper)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Ops) != len(st.Ops) || !reflect.DeepEqual(got.Jumps, st.Jumps) {
		t.Fatalf("read %d operations and %v", len(got.Ops), got.Jumps)
	}
	for i := range got.Ops {
		if !reflect.DeepEqual(got.Ops[i], st.Ops[i]) {
			t.Errorf("operation %d:\n got %+v\nwant %+v", i, got.Ops[i], st.Ops[i])
		}
	}
}

func TestReadRefusesAnswersWithoutQuestion(t *testing.T) {
	for _, text := range []string{`{"type":"ok","at":1,"op":{"op":1}}`, `{"type":"invoke","at":1}`, `{"type":"what","at":1,"op":{"op":1}}`, `{`} {
		if _, err := Read(bytes.NewBufferString(text)); err == nil {
			t.Errorf("%s was read", text)
		}
	}
}

func TestManyViolationsAreCut(t *testing.T) {
	st := newStory(Settings{})
	for i := range 3 * maxPerRule {
		st.send(time.Duration(i+1)*10*ms, fmt.Sprint("m", i))
	}
	st.dry(time.Second, "q")
	report := Check(&st.History)
	if len(report.Violations) != maxPerRule || report.Truncated != 2*maxPerRule {
		t.Errorf("%d violations, %d cut", len(report.Violations), report.Truncated)
	}
}

// A history of a long run must be judged in seconds: 200,000 messages are.
func BenchmarkCheck(b *testing.B) {
	st := newStory(Settings{})
	for i := range 200_000 {
		at := time.Duration(i+1) * 10 * ms
		s := st.send(at, fmt.Sprint("m", i))
		st.delete(at+6*ms, st.receive(at+3*ms, s, 0, 1))
	}
	for b.Loop() {
		if r := Check(&st.History); len(r.Violations) > 0 {
			b.Fatal(r.Violations[0])
		}
	}
}
