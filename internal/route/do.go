package route

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// NoLeaderError says that no leader of a set was found in time. The request was surely not carried out.
type NoLeaderError struct {
	Set  cmq.SetID
	Last error // what the last node said
}

func (e *NoLeaderError) Error() string {
	return fmt.Sprintf("set %d: no leader found: %v", e.Set, e.Last)
}
func (e *NoLeaderError) Unwrap() error { return e.Last }

// Do carries out req at the leader of set and returns its reply, in which Err is a refusal. Errors are that
// of ctx, *NoLeaderError, cmq.ErrBusy, cmq.ErrUnknownOutcome, or what went wrong at the leader.
//
// A receive that waits keeps its deadline when the leader changes. req is not changed.
func (r *Router) Do(ctx context.Context, set cmq.SetID, req *cmq.Request) (*cmq.Reply, error) {
	return r.search(set, req).run(ctx)
}

// search is one request on its way to the leader.
type search struct {
	r     *Router
	set   cmq.SetID
	req   cmq.Request
	began time.Time

	node    cmq.NodeID   // asked last
	hint    cmq.NodeID   // said to lead, not asked yet; 0: none
	asked   []cmq.NodeID // in this round; begins in few
	few     [4]cmq.NodeID
	rounds  int
	spent   time.Duration // looking for the leader
	unclear bool          // an earlier attempt may have been carried out

	opening *outcome // of a first attempt that was made without waiting (start.go)
}

// outcome is the answer of one node.
type outcome struct {
	reply *cmq.Reply
	err   error
}

func (r *Router) search(set cmq.SetID, req *cmq.Request) *search {
	s := &search{req: *req}
	s.begin(r, set)
	return s
}

// begin makes a search of one that has only its request.
func (s *search) begin(r *Router, set cmq.SetID) {
	s.r, s.set, s.began = r, set, time.Now()
	s.asked = s.few[:0]
}

// run asks until there is an answer.
func (s *search) run(ctx context.Context) (*cmq.Reply, error) {
	for {
		reply, err := s.ask(ctx)
		if err == nil {
			return s.settled(reply)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err = s.learn(err); err != nil {
			return nil, err
		}
		if err = s.turn(ctx); err != nil {
			return nil, err
		}
	}
}

// ask puts the request to the most promising node that was not asked in this round.
func (s *search) ask(ctx context.Context) (*cmq.Reply, error) {
	if o := s.opening; o != nil {
		s.opening = nil
		return o.reply, o.err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.next() == 0 {
		return nil, &cmq.NotLeaderError{Set: s.set}
	}
	if !waits(&s.req) {
		defer func(began time.Time) { s.spent += time.Since(began) }(time.Now())
	}
	ch := make(chan outcome, 1)
	asked := s.start(new(attempt), func(reply *cmq.Reply, err error) { ch <- outcome{reply, err} })
	var o outcome
	select {
	case o = <-ch:
	case <-ctx.Done():
		asked.Cancel()
		o = <-ch
	}
	return o.reply, o.err
}

// next chooses the node to ask.
func (s *search) next() cmq.NodeID {
	s.node = s.choose()
	if s.node != 0 {
		s.asked = append(s.asked, s.node)
	}
	return s.node
}

// start puts the request to the chosen node.
func (s *search) start(a *attempt, done func(*cmq.Reply, error)) cmq.Pending {
	a.r, a.set, a.node, a.req, a.done = s.r, s.set, s.node, &s.req, done
	if again := s.rounds > 0 || len(s.asked) > 1; again && waits(&s.req) {
		left := s.req
		left.Wait = max(0, s.req.Wait-time.Since(s.began))
		a.req = &left
	}
	return a.start()
}

// waits tells requests whose time at the leader is not time lost in looking for one.
func waits(req *cmq.Request) bool {
	return (req.Kind == cmq.KindReceive || req.Kind == cmq.KindQueries) && req.Wait > 0
}

// Waiting times between two rounds over all replicas.
const (
	roundMin = 5 * time.Millisecond
	roundMax = 200 * time.Millisecond
)

// choose picks the next node: the one another node named, the one our replica knows, the one that led last,
// our own, any other. 0: all were asked in this round.
func (s *search) choose() cmq.NodeID {
	r := s.r
	if n := s.hint; n != 0 {
		s.hint = 0
		return n
	}
	replicas := r.replicas(s.set)
	for _, n := range []cmq.NodeID{r.cfg.Leader(s.set), cmq.NodeID(r.leaders[s.set&cmq.MaxSetID].Load()), r.cfg.Node} {
		if slices.Contains(replicas, n) && !slices.Contains(s.asked, n) {
			return n
		}
	}
	first := int(r.turn.Add(1) % uint64(max(1, len(replicas))))
	for i := range replicas {
		if n := replicas[(first+i)%len(replicas)]; !slices.Contains(s.asked, n) {
			return n
		}
	}
	return 0
}

func (r *Router) replicas(set cmq.SetID) []cmq.NodeID {
	if s := r.cfg.Meta.Table().Set(set); s != nil {
		return s.Replicas
	}
	if set == cmq.ControllerSet {
		return r.cfg.Controllers
	}
	return nil
}

// learn draws the conclusion from a failed attempt: nil means that the search goes on.
func (s *search) learn(err error) error {
	var not *cmq.NotLeaderError
	switch {
	case errors.As(err, &not):
		if not.Leader != 0 && not.Leader != s.node && !slices.Contains(s.asked, not.Leader) {
			s.hint = not.Leader
		}
	case errors.Is(err, cmq.ErrUnknownOutcome):
		if !repeatable(&s.req) {
			return err
		}
		s.unclear = true
	case errors.Is(err, cmq.ErrDropped), errors.Is(err, cmq.ErrStopping):
	default:
		return err
	}
	s.r.leaders[s.set&cmq.MaxSetID].CompareAndSwap(uint64(s.node), 0)
	if s.spent >= s.r.cfg.LeaderWait {
		return s.noLeader(err)
	}
	return nil
}

func (s *search) noLeader(err error) error {
	if s.unclear {
		return fmt.Errorf("set %d: no leader found: %w", s.set, cmq.ErrUnknownOutcome)
	}
	return &NoLeaderError{s.set, err}
}

// turn waits before the next round, if every replica was asked in this one.
func (s *search) turn(ctx context.Context) error {
	if s.hint != 0 || s.unasked() {
		return nil
	}
	d := roundMax
	if s.rounds < 6 {
		d = roundMin << s.rounds
	}
	d = d/2 + rand.N(d/2)
	s.rounds++
	s.asked = s.asked[:0]
	s.spent += d
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *search) unasked() bool {
	return slices.ContainsFunc(s.r.replicas(s.set), func(n cmq.NodeID) bool { return !slices.Contains(s.asked, n) })
}

// repeatable tells the kinds of requests that may be repeated when nobody knows whether they were carried
// out, and even if the first attempt is carried out after the second:
//
//   - Status, DeadList and Prepared only read; Open, Set and Drop look at versions and ids that never come back;
//     Transfer, Move, Spread and Forget have numbers; a handle works once, so a late Release or Delete finds nothing.
//   - Attend says the same as the next one will.
//   - A late Decide finds nothing either. Queries that were counted unseen are repeated when their interval is over.
//   - A late Relock moves the end of a lock that is still held by the one who asked for it.
//   - A Receive that was carried out unseen has hidden its messages until their locks end, as one whose reply
//     the client did not get.
//
// A Send of a session is stored once, however often it is put. Any other, a Prepare or a Publish would double messages, an
// OpenSession fence off the session that the first attempt opened, a late Clear or Rewind undo what came after its answer, and a Meta
// command may be refused because of itself.
func repeatable(req *cmq.Request) bool {
	switch req.Kind {
	case cmq.KindSend:
		return req.Session.ID != 0
	case cmq.KindReceive, cmq.KindDelete, cmq.KindRelease, cmq.KindRelock, cmq.KindStatus, cmq.KindOpenShard, cmq.KindSetShard,
		cmq.KindDropShard, cmq.KindDeadList, cmq.KindTransfer, cmq.KindMove, cmq.KindSpread, cmq.KindForget, cmq.KindDecide, cmq.KindQueries, cmq.KindPrepared,
		cmq.KindAttend:
		return true
	}
	return false
}

// settled looks at a reply in the light of earlier attempts: a delete that was repeated may have found its
// handles invalid because the first attempt had deleted them, a relock because the first had ended the locks, and a
// decision that it was made already.
func (s *search) settled(reply *cmq.Reply) (*cmq.Reply, error) {
	once := s.req.Kind == cmq.KindDelete || s.req.Kind == cmq.KindDecide || s.req.Kind == cmq.KindRelock && s.req.Lock <= 0
	if s.unclear && once && slices.ContainsFunc(reply.Errors, func(e *cmq.Error) bool { return e != nil }) {
		return nil, fmt.Errorf("set %d: the request was repeated: %w", s.set, cmq.ErrUnknownOutcome)
	}
	return reply, nil
}
