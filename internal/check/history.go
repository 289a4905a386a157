package check

import (
	"math"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// Kind says what an operation asked.
type Kind string

// The operations a history knows.
const (
	Send    Kind = "send"    // Bodies, Delay → IDs
	Resend  Kind = "resend"  // Bodies → IDs: a Send of a session, put again
	Prepare Kind = "prepare" // Bodies → IDs: nobody may see them before they are committed
	Decide  Kind = "decide"  // Decisions → Done
	Receive Kind = "receive" // Max, Lock → Messages
	Delete  Kind = "delete"  // Handles → Done
	Release Kind = "release" // Handles → Done
	Relock  Kind = "relock"  // Handles, Lock (from now; 0: at once) → Done
	Rewind  Kind = "rewind"  // To
	Clear   Kind = "clear"
	Set     Kind = "set"    // Settings; the first one creates the queue
	Status  Kind = "status" // → Counts

	// Operations on a topic, whose name is in Queue.
	Subscribe   Kind = "subscribe"   // Subscription
	Unsubscribe Kind = "unsubscribe" // Subscription, of which only the name counts
	Publish     Kind = "publish"     // Bodies, Tags → IDs, or Refused

	// Deliver is what the endpoint of a subscription writes down of one try: IDs, Handles, Bodies (one of each), Try. OK says
	// that it has taken the message, Fail that it has not.
	Deliver Kind = "deliver"
)

// Outcome says what is known about an operation.
type Outcome string

// The outcomes.
const (
	OK   Outcome = "ok"   // it happened between call and return
	Fail Outcome = "fail" // it did not happen and never will
	Info Outcome = "info" // it may have happened, or may happen at any later time
)

// Phase says in which part of the run an operation was called.
type Phase string

// The parts of a run.
const (
	PhaseLoad  Phase = ""      // anything goes
	PhaseQuiet Phase = "quiet" // all is healed, locks and delays are over, nobody sends
	PhaseDrain Phase = "drain" // every queue is received and deleted until it is empty
)

// Never is the return time of an operation whose outcome is Info.
const Never = time.Duration(math.MaxInt64)

// Op is one operation. Call and Return are true time since the start of the run. Times named "ms" are cluster
// time as the answers show it, in Unix milliseconds.
type Op struct {
	ID      int           `json:"op"`
	Client  int           `json:"client"`
	Kind    Kind          `json:"kind"`
	Queue   string        `json:"queue"`
	Phase   Phase         `json:"phase,omitempty"`
	Call    time.Duration `json:"call"`
	Return  time.Duration `json:"-"` // Never while open and for Info
	Outcome Outcome       `json:"-"`

	Bodies    []string      `json:"bodies,omitempty"`
	Session   bool          `json:"session,omitempty"` // of a producer session: stored once, however often it is put
	Delay     time.Duration `json:"delay,omitempty"`
	Max       int           `json:"max,omitempty"`
	Lock      time.Duration `json:"lock,omitempty"` // 0: the queue's own, then locks are not judged
	Handles   []cmq.Handle  `json:"handles,omitempty"`
	To        int64         `json:"to,omitempty"` // ms
	Settings  *Settings     `json:"settings,omitempty"`
	Decisions []Decision    `json:"decisions,omitempty"`

	Tags         []string      `json:"tags,omitempty"`
	Subscription *Subscription `json:"subscription,omitempty"`
	Refused      string        `json:"refused,omitempty"` // of a Publish: NoSubscription or NoMatch

	Try   int           `json:"try,omitempty"`   // of a Deliver: its number, as the endpoint was told
	After time.Duration `json:"after,omitempty"` // of a Deliver: how long the endpoint asked to be left alone
	Heard time.Duration `json:"heard,omitempty"` // of a Deliver: when who pushes got the answer; 0: never

	IDs      []cmq.MsgID `json:"ids,omitempty"`
	Messages []Delivery  `json:"messages,omitempty"`
	Done     []bool      `json:"done,omitempty"` // per handle or decision: carried out, not refused
	Counts   *Counts     `json:"counts,omitempty"`
}

// Delivery is one message of a Receive.
type Delivery struct {
	ID       cmq.MsgID  `json:"id"`
	Handle   cmq.Handle `json:"handle"` // grows with every delivery of a queue
	Body     string     `json:"body"`
	Count    int        `json:"count"`    // dequeue count
	Enqueued int64      `json:"enqueued"` // ms
	Until    int64      `json:"until"`    // ms: end of the lock
}

// Why a Publish is refused.
const (
	NoSubscription = "no subscription"
	NoMatch        = "no match"
)

// Subscription delivers to a queue what is published with one of its tags; without tags, everything. A queue is that of one
// subscription, and nobody sends to it (Settings.Fed). If it pushes, the queue is its own (Settings.Schedule).
type Subscription struct {
	Name  string   `json:"name"`
	Queue string   `json:"queue"`
	Tags  []string `json:"tags,omitempty"`
}

// Decision commits a prepared message or rolls it back.
type Decision struct {
	ID     cmq.MsgID `json:"id"`
	Commit bool      `json:"commit"`
}

// Settings are the attributes of a queue that the rules depend on.
type Settings struct {
	Retention   time.Duration `json:"retention"`
	Rewind      time.Duration `json:"rewind,omitempty"`
	Fed         bool          `json:"fed,omitempty"`          // a subscription delivers to it, and nobody else
	DeadLetter  string        `json:"dead_letter,omitempty"`  // name of the dead-letter queue
	MaxReceives int           `json:"max_receives,omitempty"` // policy 0
	MaxAge      time.Duration `json:"max_age,omitempty"`      // policy 1
	Schedule    *Schedule     `json:"schedule,omitempty"`     // it is that of a subscription which pushes
}

// Counts is the answer to a Status.
type Counts struct {
	Active     int64 `json:"active"`
	Inactive   int64 `json:"inactive"`
	Delayed    int64 `json:"delayed"`
	Rewindable int64 `json:"rewindable"`
	Prepared   int64 `json:"prepared,omitempty"`
}

// Jump is a moment at which cluster time legitimately went ahead of true time: all replicas had been down and
// wall clocks had to decide. Locks and delays that last over it may end that much early.
type Jump struct {
	At    time.Duration `json:"at"`
	Ahead time.Duration `json:"ahead"`
}

// History is what happened, in the order of the calls.
type History struct {
	Ops   []*Op
	Jumps []Jump
}

// Invoke adds an operation that is about to begin and gives it its number.
func (h *History) Invoke(op *Op) *Op {
	op.ID = len(h.Ops)
	op.Return, op.Outcome = Never, Info
	h.Ops = append(h.Ops, op)
	return op
}

// Finish ends an operation. An Info keeps the return time Never.
func (op *Op) Finish(at time.Duration, o Outcome) {
	op.Outcome = o
	if o != Info {
		op.Return = at
	}
}
