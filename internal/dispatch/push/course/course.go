// Package course decides how one subscription is delivered: when messages are received and how many, how long a try keeps
// its lock, what is written down of its outcome, and when the message is tried again. It is told the time and what has
// happened, and says what to do; it has no goroutine, no clock and no network. Package push carries out what it says, and
// so does the simulator.
//
//	Course.Next  ──► ask the shard for messages, or wait       Course.Answered ◄── the reply
//	Try.Keep     ──► extend the lock of a try under way        Try.Kept        ◄── the reply
//	Try.Ended    ──► the endpoint has answered: what to write  Try.Written     ◄── the reply; written, or again after a pause
//
// What a Course remembers is only for the sake of speed: what has to happen, how often it was tried and when it is due
// again is in the replicated state, and a Course that begins anew at another leader goes on from there.
package course

import (
	"errors"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// Times of a delivery.
const (
	// LockTime is for how long a message is locked for a try: the 15 s an endpoint has, and as much again to tell the
	// outcome. A try that takes longer has its lock extended.
	LockTime = 30 * time.Second
	// KeepEvery is how often the lock of a try under way is extended.
	KeepEvery = LockTime / 2
	// PollTime is how long one receive waits for a message.
	PollTime = 20 * time.Second

	// heldUp is the pause when an earlier message holds up the rest, arranged by a leader before this one.
	heldUp = 250 * time.Millisecond
	// mostReceived bounds the messages of one receive, and with them the memory of their bodies.
	mostReceived = 16

	firstRetry = 50 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// Course is the state of one subscription's delivery while this node leads its set. It is not safe for concurrent use; its
// tries belong to it.
type Course struct {
	shard        cmq.ShardID
	subscription *cmq.Subscription
	gate         *gate

	looked bool      // whether something was locked when the course began
	asked  permit    // what the receive under way is for
	rest   time.Time // nothing is asked before
	retry  time.Duration
}

// New makes the Course of a subscription whose set this node leads from now on.
func New(s *cmq.Subscription) *Course {
	c := &Course{shard: s.ID.Shard(), gate: newGate(), retry: firstRetry}
	c.Change(s)
	return c
}

// Change takes over what the subscription says by now. Tries under way go on as they began.
func (c *Course) Change(s *cmq.Subscription) {
	c.subscription = s
	c.gate.set(s)
}

// Share takes over whether others deliver for the subscription too, and arrange retries that this Course does not know of.
func (c *Course) Share(shared bool, now time.Time) { c.gate.share(shared, now) }

// Open reports whether the circuit is open: the endpoint fails, and only what is due is tried.
func (c *Course) Open() bool { return c.gate.open }

// Step is what to do next: ask the shard, or wait.
type Step struct {
	Ask   *cmq.Request // nil: wait
	Until time.Time    // how long to wait at most; zero: until a try is over or the subscription changes
}

// Next says what to do now. What it asks is answered to Answered before it is called again; a wait may end early.
func (c *Course) Next(now time.Time) Step {
	if !c.looked {
		return Step{Ask: &cmq.Request{Kind: cmq.KindStatus, Shard: c.shard}}
	}
	if now.Before(c.rest) {
		return Step{Until: c.rest}
	}
	c.asked = c.gate.next(now)
	if c.asked.n == 0 {
		return Step{Until: c.asked.until}
	}
	req := &cmq.Request{Kind: cmq.KindReceive, Shard: c.shard, Max: min(c.asked.n, mostReceived), Lock: LockTime}
	if c.asked.wait {
		req.Wait = PollTime
	}
	return Step{Ask: req}
}

// Answered takes the reply to what Next asked, or why there is none, and gives the tries that begin now. A refusal comes
// as err.
func (c *Course) Answered(now time.Time, reply *cmq.Reply, err error) []*Try {
	switch {
	case !c.looked:
		c.looked = true
		if err != nil || reply.Status.Inactive > 0 { // in retry, or being tried elsewhere
			c.gate.strange = now.Add(strangeTime)
		}
	case errors.Is(err, cmq.ErrTooMany):
		c.rest = now.Add(heldUp)
	case err != nil:
		c.rest = now.Add(c.retry)
		c.retry = min(2*c.retry, lastRetry)
	default:
		c.retry = firstRetry
		return c.received(now, reply.Messages)
	}
	return nil
}

func (c *Course) received(now time.Time, messages []cmq.Message) (tries []*Try) {
	fresh := false
	for i := range messages {
		known := c.gate.began(messages[i].ID, now)
		fresh = fresh || !known
		tries = append(tries, &Try{Message: &messages[i], Subscription: c.subscription, course: c, received: now, locked: now.Add(LockTime), pause: firstRetry, known: known})
	}
	if len(messages) == 0 || fresh {
		c.gate.missing(now, fresh)
	}
	if len(messages) == 0 && !c.asked.wait {
		c.rest = now.Add(lookAgain)
	}
	return tries
}
