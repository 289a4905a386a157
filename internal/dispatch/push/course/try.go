package course

import (
	"errors"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/dispatch/push/retry"
	"github.com/opencmq/cmq/internal/mutant"
)

// Try is one try to deliver one message. While it is under way its lock is kept; when it has ended, what came of it is
// written down as often as it takes, as long as the lock holds.
type Try struct {
	Message      *cmq.Message
	Subscription *cmq.Subscription // as it was when the try began

	course   *Course
	received time.Time
	locked   time.Time // the lock holds until then, unless clocks disagree
	known    bool      // this course arranged it
	verdict  Verdict
	pause    time.Duration // before an outcome is written again
	unclear  bool          // it may be written
}

// Keep is the request that extends the lock, due every KeepEvery from the beginning.
func (t *Try) Keep() *cmq.Request {
	if mutant.On(mutant.DeliveredBeforeDone) {
		return t.remove()
	}
	return t.relock(LockTime)
}

// Kept takes the reply to Keep, which was asked at the given time.
func (t *Try) Kept(asked time.Time, reply *cmq.Reply, err error) {
	if carriedOut(reply, err) {
		t.locked = asked.Add(LockTime)
	}
}

// carriedOut reports whether a request with one handle was.
func carriedOut(reply *cmq.Reply, err error) bool {
	return err == nil && len(reply.Errors) == 1 && reply.Errors[0] == nil
}

func (t *Try) relock(lock time.Duration) *cmq.Request {
	return &cmq.Request{Kind: cmq.KindRelock, Shard: t.course.shard, Handles: []cmq.Handle{t.Message.Handle}, Lock: lock}
}

func (t *Try) remove() *cmq.Request {
	return &cmq.Request{Kind: cmq.KindDelete, Shard: t.course.shard, Handles: []cmq.Handle{t.Message.Handle}}
}

// Outcome is how a try ended.
type Outcome struct {
	Taken  bool          // the endpoint has taken the message
	After  time.Duration // else: it asks not to be tried again before that has passed; 0: it does not
	Random float64       // drawn anew, at least 0 and less than 1
}

// Fate is what becomes of a message after a try.
type Fate int

// The fates.
const (
	Undecided Fate = iota // the try has not ended
	Delivered             // the message is deleted
	Again                 // it comes back when the next try is due
	Dead                  // it was tried as often as it may be, or its time is over, and goes to the dead-letter queue of the subscription
	Dropped               // the same, and there is no such queue
)

// Verdict is what is to be written down of a try.
type Verdict struct {
	Fate  Fate
	Wait  time.Duration // until the next try
	Write *cmq.Request
}

// Ended takes the outcome, and says what is to be written down of it. The reply goes to Written.
func (t *Try) Ended(now time.Time, o Outcome) Verdict {
	t.verdict = t.judge(now, o)
	return t.verdict
}

func (t *Try) judge(now time.Time, o Outcome) Verdict {
	if o.Taken {
		return Verdict{Fate: Delivered, Write: t.remove()}
	}
	s, took := t.Subscription, now.Sub(t.received)
	f := retry.Failure{Strategy: s.Strategy, Try: t.number(), Age: t.age() + took, Took: took, After: o.After, Random: o.Random}
	wait, again := f.Next()
	switch {
	case again:
		return Verdict{Fate: Again, Wait: wait, Write: t.relock(wait)}
	case s.Push.DeadLetter != 0: // the lock ends, and the message dies of that or of its age
		return Verdict{Fate: Dead, Write: t.relock(0)}
	}
	return Verdict{Fate: Dropped, Write: t.remove()}
}

// number is which try of its message this is. The set counts: tries of other leaders are among them.
func (t *Try) number() int {
	if mutant.On(mutant.RetryForgetsCount) && !t.known {
		return 1
	}
	return t.Message.DequeueCount
}

// age is that of the message when it was received, by the time of its set alone: this node's clock may be wrong.
func (t *Try) age() time.Duration {
	return t.Message.NextVisible.Add(-LockTime).Sub(t.Message.Enqueued)
}

// Written takes the reply to what Ended said. If it is not written, and the lock holds, it is to be asked again after the
// pause; with pause 0 the try is over.
func (t *Try) Written(now time.Time, reply *cmq.Reply, err error) (pause time.Duration, end End) {
	switch {
	case carriedOut(reply, err):
		if t.verdict.Fate == Again {
			t.course.gate.later(t.Message.ID, now.Add(t.verdict.Wait))
		}
		return 0, t.over(false)
	case errors.Is(err, cmq.ErrQueueNotExist): // the subscription is gone, and all it had
		return 0, t.over(false)
	case err == nil, !now.Before(t.locked):
		return 0, t.over(!t.unclear)
	}
	t.unclear = t.unclear || errors.Is(err, cmq.ErrUnknownOutcome)
	pause = t.pause
	t.pause = min(2*t.pause, lastRetry)
	return pause, End{}
}

// Cut is the end of a try that has no outcome, or whose outcome is not written down, because the node ends. The lock ends by
// itself.
func (t *Try) Cut() End { return t.over(!t.unclear) }

// End is what the end of a try changed.
type End struct {
	// Lost: the message was taken, but somebody else has its lock by now, or nobody could be asked in time, and no attempt to
	// write that down may have succeeded. It will be delivered again.
	Lost   bool
	Opened bool // the circuit
	Closed bool
}

// over ends the try for the gate.
func (t *Try) over(unwritten bool) (e End) {
	if t.verdict.Fate == Delivered {
		e.Lost, e.Closed = unwritten, t.course.gate.taken()
		return e
	}
	e.Opened = t.course.gate.failed()
	return e
}
