package check

import (
	"fmt"
	"sort"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// Violation is one broken rule.
type Violation struct {
	Rule string `json:"rule"` // "I5"
	Text string `json:"text"`
}

// String is "I5: text".
func (v Violation) String() string { return v.Rule + ": " + v.Text }

// Report is what Check found.
type Report struct {
	Violations []Violation
	Truncated  int // violations beyond maxPerRule of a rule

	OK, Fail, Info int
	Messages       int // different messages seen or confirmed
	Deliveries     int
}

// maxPerRule keeps a thoroughly broken history readable.
const maxPerRule = 10

// scanSlack is how long after the end of the retention a message may still be seen: the leader looks for old
// messages every few seconds.
const scanSlack = 30 * time.Second

// Eps is how much shorter than asked a lock or delay of length d may look by true time: cluster time runs at most
// 500 ppm fast, monotonic clocks differ by some 200 ppm, and times are cut to milliseconds.
func Eps(d time.Duration) time.Duration { return time.Millisecond + d/1000 }

// Check judges a history.
func Check(h *History) *Report {
	c := &checker{h: h, report: &Report{}, perRule: map[string]int{}}
	c.index()
	c.sends()
	c.publishes()
	for _, m := range c.order {
		c.identity(m)
		c.transaction(m)
		c.locks(m)
		c.counts(m)
		c.delay(m)
		c.places(m)
		c.rewinds(m)
		c.loss(m)
	}
	c.handles()
	c.pushes()
	c.quiet()
	return c.report
}

type checker struct {
	h       *History
	report  *Report
	perRule map[string]int

	queues   map[string]*queue
	names    []string // of the queues, in the order in which they were first met
	byID     map[messageKey]*message
	order    []*message // in the order in which they were first met
	byBody   map[bodyKey]*sent
	byHandle map[handleKey]*delivery

	fed           map[string]string          // queues that a subscription feeds, and where their dead letters go: the former
	subscriptions map[string][]*subscription // by topic
}

// sent is one body of a Send.
type sent struct {
	op *Op
	id cmq.MsgID // of the first delivery or of the answer
}

type handleKey struct {
	queue  string
	handle cmq.Handle
}

// queue is what the rules need to know of one queue.
type queue struct {
	name         string
	settings     []*Op // Sets not failed, by call
	rewinds      []*Op // not failed
	clears       []*Op // not failed
	infoReceives []time.Duration
	infoPrepares int
	statuses     []*Op
	drained      int           // messages received in the drain
	drainEnd     time.Duration // return of the last operation of the drain; 0: no drain
	minID, maxID cmq.MsgID     // seen in the drain
}

// message is everything known about one message.
type message struct {
	id         cmq.MsgID
	op         *Op // the confirmed Send or Prepare, nil if none is known; a Send may have been confirmed by a Resend
	decisions  []decided
	body       string
	deliveries []*delivery // by queue, then by handle
}

// delivery is one message of one Receive with what was done with its handle.
type delivery struct {
	*Delivery
	op       *Op
	deleted  *Op   // first Delete that was carried out
	maybe    *Op   // a Delete of unknown outcome
	released *Op   // a Release not failed
	relocks  []*Op // not failed, this handle not refused
}

func (c *checker) broken(rule, format string, args ...any) {
	if c.perRule[rule]++; c.perRule[rule] > maxPerRule {
		c.report.Truncated++
		return
	}
	c.report.Violations = append(c.report.Violations, Violation{rule, fmt.Sprintf(format, args...)})
}

func (c *checker) queue(name string) *queue {
	q := c.queues[name]
	if q == nil {
		q = &queue{name: name}
		c.queues[name] = q
		c.names = append(c.names, name)
	}
	return q
}

// index sorts the operations by queue, message and handle.
func (c *checker) index() {
	c.queues, c.byID = map[string]*queue{}, map[messageKey]*message{}
	c.byBody, c.byHandle = map[bodyKey]*sent{}, map[handleKey]*delivery{}
	c.indexTopics()
	for _, op := range c.h.Ops {
		if op.Kind != Deliver {
			c.count(op)
		}
		switch op.Kind {
		case Publish:
			c.indexPublish(op)
		case Subscribe, Unsubscribe, Deliver:
		default:
			c.indexOp(op, c.queue(op.Queue))
		}
	}
	for _, op := range c.h.Ops {
		switch op.Kind {
		case Delete, Release, Relock:
			c.indexHandles(op)
		case Decide:
			c.indexDecisions(op)
		}
	}
	for _, q := range c.queues {
		sort.Slice(q.infoReceives, func(i, j int) bool { return q.infoReceives[i] < q.infoReceives[j] })
	}
	for _, m := range c.order {
		sort.Slice(m.deliveries, func(i, j int) bool {
			a, b := m.deliveries[i], m.deliveries[j]
			return a.op.Queue < b.op.Queue || a.op.Queue == b.op.Queue && a.Handle < b.Handle
		})
	}
}

func (c *checker) count(op *Op) {
	switch op.Outcome {
	case OK:
		c.report.OK++
	case Fail:
		c.report.Fail++
	default:
		c.report.Info++
	}
}

func (c *checker) indexOp(op *Op, q *queue) {
	if op.Phase == PhaseDrain && op.Outcome == OK {
		q.drainEnd = max(q.drainEnd, op.Return)
	}
	if op.Kind == Resend {
		c.indexResend(op)
		return
	}
	if op.Kind == Send || op.Kind == Prepare {
		if op.Kind == Prepare && op.Outcome == Info {
			q.infoPrepares++
		}
		c.indexSend(op)
		return
	}
	if op.Outcome == Fail {
		return
	}
	switch op.Kind {
	case Receive:
		if op.Outcome == Info {
			q.infoReceives = append(q.infoReceives, op.Call)
		}
		c.indexReceive(op, q)
	case Rewind:
		q.rewinds = append(q.rewinds, op)
	case Clear:
		q.clears = append(q.clears, op)
	case Set:
		q.settings = append(q.settings, op)
	case Status:
		if op.Outcome == OK {
			q.statuses = append(q.statuses, op)
		}
	}
}

func (c *checker) indexSend(op *Op) {
	for i, body := range op.Bodies {
		s := &sent{op: op}
		if op.Outcome == OK && i < len(op.IDs) {
			s.id = op.IDs[i]
			if m := c.message(op.Queue, s.id); m.op != nil {
				c.broken("I4", "id %d was given to two messages, %.16q and %.16q", s.id, m.body, body)
			} else {
				m.op, m.body = op, body
			}
		}
		c.byBody[bodyKey{c.scope(op.Queue), body}] = s
	}
	if op.Outcome == OK && len(op.IDs) != len(op.Bodies) {
		c.broken("I4", "send %d of %d messages was answered with %d ids", op.ID, len(op.Bodies), len(op.IDs))
	}
}

// indexResend takes the answer to a send that was put again. It may be the first answer there is.
func (c *checker) indexResend(op *Op) {
	for i, body := range op.Bodies {
		s := c.byBody[bodyKey{c.scope(op.Queue), body}]
		if s == nil || op.Outcome != OK || i >= len(op.IDs) {
			continue
		}
		switch id := op.IDs[i]; {
		case s.id == 0:
			s.id = id
			if m := c.message(op.Queue, id); m.op == nil {
				m.op, m.body = s.op, body // it was stored at some time since then
			}
		case s.id != id:
			c.broken("S1", "%s: send %d of %.16q was answered with id %d, its repetition %d with %d", op.Queue, s.op.ID, body, s.id, op.ID, id)
		}
	}
}

// message finds, or makes, the message that a queue gave this id.
func (c *checker) message(queue string, id cmq.MsgID) *message {
	key := messageKey{c.scope(queue), id}
	m := c.byID[key]
	if m == nil {
		m = &message{id: id}
		c.byID[key] = m
		c.order = append(c.order, m)
		c.report.Messages++
	}
	return m
}

func (c *checker) indexReceive(op *Op, q *queue) {
	if op.Max > 0 && len(op.Messages) > op.Max {
		c.broken("I2", "receive %d asked for %d messages and got %d", op.ID, op.Max, len(op.Messages))
	}
	for i := range op.Messages {
		d := &delivery{Delivery: &op.Messages[i], op: op}
		c.report.Deliveries++
		key := handleKey{op.Queue, d.Handle}
		if other := c.byHandle[key]; other != nil {
			c.broken("I6", "%s: handle %d was given out twice, for messages %d and %d", op.Queue, d.Handle, other.ID, d.ID)
		}
		c.byHandle[key] = d
		m := c.message(op.Queue, d.ID)
		again := m.drainedFrom(op.Queue)
		m.deliveries = append(m.deliveries, d)
		if op.Phase == PhaseDrain && !again {
			if q.drained == 0 || d.ID < q.minID {
				q.minID = d.ID
			}
			q.maxID = max(q.maxID, d.ID)
			q.drained++
		}
	}
}

// drainedFrom tells whether the drain has found the message in this queue.
func (m *message) drainedFrom(queue string) bool {
	for _, d := range m.deliveries {
		if d.op.Phase == PhaseDrain && d.op.Queue == queue {
			return true
		}
	}
	return false
}

// indexHandles notes at the deliveries what was done with their handles.
func (c *checker) indexHandles(op *Op) {
	if op.Outcome == Fail {
		return
	}
	for i, h := range op.Handles {
		d := c.byHandle[handleKey{op.Queue, h}]
		done := op.Outcome == OK && i < len(op.Done) && op.Done[i]
		switch {
		case d == nil && done && op.Kind != Release:
			c.broken("I6", "%s: %s %d: handle %d, which nobody was given, was accepted", op.Queue, op.Kind, op.ID, h)
		case d == nil:
		case op.Kind == Release:
			d.released = op
		case op.Kind == Relock:
			if done || op.Outcome == Info {
				d.relocks = append(d.relocks, op)
			}
		case op.Outcome == Info:
			d.maybe = op
		case done && d.deleted == nil:
			d.deleted = op
		}
	}
}

// ahead is how far cluster time jumped ahead between two moments.
func (c *checker) ahead(from, to time.Duration) time.Duration {
	var sum time.Duration
	for _, j := range c.h.Jumps {
		if j.At >= from && j.At <= to {
			sum += j.Ahead
		}
	}
	return sum
}

// retention is the shortest and the longest retention the queue ever had.
func (q *queue) retention() (shortest, longest time.Duration) {
	for i, s := range q.settings {
		r := s.Settings.Retention
		if i == 0 || r < shortest {
			shortest = r
		}
		longest = max(longest, r)
	}
	return shortest, longest
}

// clearedSince tells whether a Clear may have happened after t.
func (q *queue) clearedSince(t time.Duration) bool {
	for _, op := range q.clears {
		if op.Return >= t {
			return true
		}
	}
	return false
}

// rewoundSince tells whether a Rewind that covers the send time may have happened after t.
func (q *queue) rewoundSince(t time.Duration, enqueued int64) bool {
	for _, op := range q.rewinds {
		if op.Return >= t && op.To <= enqueued {
			return true
		}
	}
	return false
}

// deadLetters tells whether the queue ever had a dead-letter policy.
func (q *queue) deadLetters() bool {
	for _, s := range q.settings {
		if s.Settings.DeadLetter != "" {
			return true
		}
	}
	return false
}
