package check

import (
	"testing"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// newTopicStory has a topic t with two subscriptions, each to a queue of its name, of what has this tag.
func newTopicStory() *story {
	st := newStory(Settings{})
	for _, name := range []string{"red", "blue"} {
		st.add(&Op{Kind: Set, Queue: name, Settings: &Settings{Retention: time.Hour, Fed: true}}, OK)
		st.add(&Op{Kind: Subscribe, Queue: "t", Call: 2 * ms, Subscription: &Subscription{Name: name, Queue: name, Tags: []string{name}}}, OK)
	}
	return st
}

func (st *story) publish(at time.Duration, body string, tags ...string) *Op {
	st.slot++
	op := st.add(&Op{Kind: Publish, Queue: "t", Call: at, Bodies: []string{body}, Tags: tags}, OK)
	op.IDs = []cmq.MsgID{cmq.MsgID(st.slot)}
	return op
}

func (st *story) refused(at time.Duration, why string, tags ...string) {
	st.add(&Op{Kind: Publish, Queue: "t", Call: at, Bodies: []string{"refused"}, Tags: tags, Refused: why}, Fail)
}

func (st *story) unsubscribe(at time.Duration, name string, o Outcome) {
	st.add(&Op{Kind: Unsubscribe, Queue: "t", Call: at, Subscription: &Subscription{Name: name}}, o)
}

// empty drains a queue of what was published, and finds it empty.
func (st *story) empty(queue string, published ...*Op) {
	for i, p := range published {
		st.drainFrom(time.Second+time.Duration(i)*10*ms, queue, p)
	}
	st.dry(2*time.Second, queue)
}

func (st *story) drainFrom(at time.Duration, queue string, p *Op) {
	r := st.receive(at, p, 0, 1)
	r.Queue, r.Phase = queue, PhaseDrain
	st.delete(at+3*ms, r).Phase = PhaseDrain
}

func topicStory(f func(st *story)) func() *story {
	return func() *story {
		st := newTopicStory()
		f(st)
		return st
	}
}

func badTopics() []badHistory {
	row := func(rule, name string, f func(st *story)) badHistory { return badHistory{rule, name, topicStory(f)} }
	return []badHistory{
		row("I1", "one of two subscriptions gets nothing", func(st *story) {
			p := st.publish(10*ms, "a", "red", "blue")
			st.empty("red", p)
			st.empty("blue")
		}),
		row("I2", "a subscription gets what it does not want", func(st *story) {
			p := st.publish(10*ms, "a", "red")
			st.empty("red", p)
			st.empty("blue", p)
		}),
		row("I3", "what was refused comes all the same", func(st *story) {
			st.refused(10*ms, NoMatch, "red")
			st.empty("red", &Op{IDs: []cmq.MsgID{9}, Bodies: []string{"refused"}, Call: 10 * ms})
		}),
		row("I7", "a second copy", func(st *story) {
			p := st.publish(10*ms, "a", "red")
			st.empty("red", p, p)
		}),
		row("I2", "published after the end of the subscription", func(st *story) {
			st.unsubscribe(5*ms, "red", OK)
			st.empty("red", st.publish(10*ms, "a", "red", "blue"))
		}),
		row("P1", "no subscription, and there are two", func(st *story) { st.refused(10*ms, NoSubscription, "red") }),
		row("P1", "nobody wants it, and one does", func(st *story) { st.refused(10*ms, NoMatch, "red") }),
		row("P1", "one ends later", func(st *story) {
			st.refused(10*ms, NoMatch, "red")
			st.unsubscribe(20*ms, "red", OK)
		}),
		row("P2", "confirmed, and nobody wants it", func(st *story) { st.publish(10*ms, "a", "green") }),
		row("P2", "confirmed, and the only one who did has left", func(st *story) {
			st.unsubscribe(5*ms, "red", OK)
			st.publish(10*ms, "a", "red")
		}),
		row("P2", "nobody wants it instead of no subscription", func(st *story) {
			st.unsubscribe(5*ms, "red", OK)
			st.unsubscribe(5*ms, "blue", OK)
			st.refused(10*ms, NoMatch, "red")
		}),
	}
}

func TestGoodTopicsPass(t *testing.T) {
	for name, f := range map[string]func(st *story){
		"to each that wants it": func(st *story) {
			a, b := st.publish(10*ms, "a", "red", "blue"), st.publish(20*ms, "b", "blue")
			st.empty("red", a)
			st.empty("blue", a, b)
		},
		"refused when nobody wants it": func(st *story) { st.refused(10*ms, NoMatch, "green") },
		"refused when all have left": func(st *story) {
			st.unsubscribe(5*ms, "red", OK)
			st.unsubscribe(5*ms, "blue", OK)
			st.refused(10*ms, NoSubscription, "red")
		},
		"one that leaves at that time may have it or not": func(st *story) {
			st.unsubscribe(10*ms, "red", OK)
			st.publish(10*ms, "a", "red")
			st.refused(11*ms, NoMatch, "red")
			st.empty("red")
		},
		"one of which nobody knows whether it has left": func(st *story) {
			st.unsubscribe(5*ms, "red", Info)
			p := st.publish(10*ms, "a", "red")
			st.refused(20*ms, NoMatch, "red")
			st.empty("red", p)
		},
	} {
		if report := Check(&topicStory(f)().History); len(report.Violations) > 0 {
			t.Errorf("%s: false alarm: %v", name, report.Violations)
		}
	}
}
