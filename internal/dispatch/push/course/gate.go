package course

import (
	"container/heap"
	"time"

	"golang.org/x/time/rate"

	"github.com/opencmq/cmq/internal/cmq"
)

// Numbers of the gate.
const (
	// DefaultConcurrency is how many tries one subscription may have at once if it does not say.
	DefaultConcurrency = 16
	// OpenAfter is how many failures in a row open the circuit.
	OpenAfter = 5
	// probeEvery is how often a message that was not tried yet is tried while the circuit is open.
	probeEvery = 30 * time.Second
	// enoughRetries is with how many messages in retry none is added while the circuit is open: they come back every few
	// seconds by themselves.
	enoughRetries = 64

	// strangeTime is how long messages may come back whose retries the leader before this one has arranged, and
	// strangeEvery how often one is asked for meanwhile: nothing tells when they are due.
	strangeTime  = 520 * time.Second
	strangeEvery = time.Second
	// strangeRetries takes the place of enoughRetries in that time.
	strangeRetries = 512

	// lostAfter is how long a message may come back too late before it is taken for gone.
	lostAfter = 5 * time.Second
	// lookAgain is the pause before it is looked for again.
	lookAgain = 100 * time.Millisecond
)

// gate says how many messages of one subscription may be received now. It belongs to one course, and is told
// the time.
type gate struct {
	most     int // tries at once; at least 1
	ordered  bool
	limit    *rate.Limiter // nil: none
	perSec   int           // of limit
	window   int           // tries at once at the moment, at most most
	inFlight int
	failures int // in a row
	open     bool
	lastNew  time.Time // when a message was last received that was not due
	strange  time.Time // messages arranged by an earlier leader may come back before this
	shared   bool      // they may at any time, because there are others who arrange them

	due     dueHeap
	waiting map[cmq.MsgID]time.Time // messages in retry, and when they are due
}

// due is a message in retry. An entry whose time is not the one in waiting is out of date.
type due struct {
	at time.Time
	id cmq.MsgID
}

// dueHeap implements heap.Interface, the earliest first.
type dueHeap []due

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h dueHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(x any)        { *h = append(*h, x.(due)) }
func (h *dueHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

func newGate() *gate { return &gate{window: 1, waiting: make(map[cmq.MsgID]time.Time)} }

// share takes over whether others deliver for the subscription too. When they have gone, what they arranged still comes back.
func (g *gate) share(shared bool, now time.Time) {
	if g.shared && !shared {
		g.strange = now.Add(strangeTime)
	}
	g.shared = shared
}

// set takes over what the subscription says.
func (g *gate) set(s *cmq.Subscription) {
	g.most, g.ordered = s.Push.Concurrency, s.InOrder()
	if g.most <= 0 {
		g.most = DefaultConcurrency
	}
	if g.ordered {
		g.most = 1
	}
	if g.perSec != s.Push.Rate {
		g.perSec, g.limit = s.Push.Rate, nil
		if g.perSec > 0 {
			g.limit = rate.NewLimiter(rate.Limit(g.perSec), max(1, g.perSec/10))
		}
	}
	g.window = min(g.window, g.most)
}

// permit is what the gate lets through: up to n messages, for which the receive may wait. With n 0 nothing may be received
// before the time, if there is one, or before something changes.
type permit struct {
	n     int
	wait  bool
	until time.Time // zero: until something changes
}

// next says what may be received now.
func (g *gate) next(now time.Time) permit {
	p := g.allowed(now)
	if p.n == 0 || g.limit == nil {
		return p
	}
	tokens := g.limit.TokensAt(now)
	if tokens < 1 {
		missing := time.Duration((1 - tokens) / float64(g.perSec) * float64(time.Second))
		return permit{until: now.Add(missing + time.Millisecond)}
	}
	p.n = min(p.n, int(tokens))
	return p
}

// allowed is next without the rate.
func (g *gate) allowed(now time.Time) permit {
	g.drop()
	switch {
	case g.ordered && g.inFlight > 0, g.inFlight >= g.most:
		return permit{}
	case g.ordered && len(g.due) > 0 && g.due[0].at.After(now):
		return permit{until: g.due[0].at}
	case !g.open && g.inFlight < g.window:
		return permit{n: g.window - g.inFlight, wait: true}
	case !g.open:
		return permit{}
	}
	if n := g.ready(now); n > 0 {
		return permit{n: min(n, g.most-g.inFlight)}
	}
	probe := g.probe(now)
	if !probe.IsZero() && !probe.After(now) {
		return permit{n: 1, wait: len(g.due) == 0 && !g.expectsStrange(now)}
	}
	if len(g.due) > 0 && (probe.IsZero() || g.due[0].at.Before(probe)) {
		probe = g.due[0].at
	}
	return permit{until: probe}
}

// probe is when a message that is not known to be due may be tried while the circuit is open; zero: none is needed.
func (g *gate) probe(now time.Time) time.Time {
	every, enough := probeEvery, enoughRetries
	switch {
	case now.Before(g.strange):
		every, enough = strangeEvery, strangeRetries
	case g.shared:
		every = strangeEvery
	}
	if len(g.waiting) >= enough {
		return time.Time{}
	}
	return g.lastNew.Add(every)
}

// expectsStrange reports whether messages may come back whose retries somebody else has arranged.
func (g *gate) expectsStrange(now time.Time) bool { return g.shared || now.Before(g.strange) }

// drop removes what is out of date from the head of the heap.
func (g *gate) drop() {
	for len(g.due) > 0 {
		if at, ok := g.waiting[g.due[0].id]; ok && at.Equal(g.due[0].at) {
			return
		}
		heap.Pop(&g.due)
	}
}

// ready counts the messages that are due, as far as more than a few make no difference.
func (g *gate) ready(now time.Time) (n int) {
	for _, d := range g.due[:min(len(g.due), 2*DefaultConcurrency)] {
		if at, ok := g.waiting[d.id]; ok && at.Equal(d.at) && !d.at.After(now) {
			n++
		}
	}
	return n
}

// began notes that a message was received and is being tried, and reports whether it was in retry.
func (g *gate) began(id cmq.MsgID, now time.Time) bool {
	_, known := g.waiting[id]
	delete(g.waiting, id)
	if !known {
		g.lastNew = now
	}
	g.inFlight++
	if g.limit != nil {
		g.limit.AllowN(now, 1)
	}
	return known
}

// missing notes that what is due was not received. If a message came that is not due, the rest is gone, with its
// retention or a clear, because what comes back is handed out first; else it is looked for a little while longer. It is also
// looked for where others arrange retries: then what came may be one of theirs.
func (g *gate) missing(now time.Time, gone bool) {
	gone = gone && !g.shared
	for len(g.due) > 0 && !g.due[0].at.After(now) && (gone || now.Sub(g.due[0].at) > lostAfter) {
		delete(g.waiting, g.due[0].id)
		g.drop()
	}
	if !gone {
		g.lastNew = now
	}
}

// taken notes a success, and reports whether that closed the circuit.
func (g *gate) taken() (closed bool) {
	g.inFlight--
	g.failures = 0
	if g.open {
		g.open, g.window = false, 1
		return true
	}
	g.window = min(g.window+1, g.most)
	return false
}

// failed notes a failure, and reports whether that opened the circuit.
func (g *gate) failed() (opened bool) {
	g.inFlight--
	g.failures++
	if g.open || g.failures < OpenAfter {
		return false
	}
	g.open, g.window = true, 1
	return true
}

// later notes that the message comes back.
func (g *gate) later(id cmq.MsgID, at time.Time) {
	g.waiting[id] = at
	heap.Push(&g.due, due{at, id})
}
