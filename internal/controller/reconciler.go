package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/opencmq/cmq/internal/clock"
	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/meta"
)

const (
	// grace is how long a task is left to the one who caused it: route tells the shards itself.
	grace = time.Second
	// lookPeriod is the least time between two looks at all tasks, however fast the table changes.
	lookPeriod = 100 * time.Millisecond
	// attemptTimeout bounds one task: longer than a set is without a leader after a failure.
	attemptTimeout = 5 * time.Second
	// maxTasksAtOnce is how many tasks a set's worker takes between two looks.
	maxTasksAtOnce = 64
	// minBackoff and maxBackoff bound the pause after a failed task, which doubles each time.
	minBackoff = 200 * time.Millisecond
	maxBackoff = 10 * time.Second
)

// ReconcilerConfig says what a Reconciler needs.
type ReconcilerConfig struct {
	Board  *Board
	Meta   *Meta
	Do     Do           // to the shards' sets
	Clock  clock.Clock  // clock.Real if nil
	Logger *slog.Logger // none if nil
}

// Reconciler carries out the tasks in the table while this node's replica leads set 0: it tells the shard's set
// and reports Done. Telling twice does no harm, because shards know the version they have; so nothing is lost
// or broken when two nodes believe to lead for a moment.
//
// One goroutine looks for tasks; each set has at most one worker at a time, so that a set without a leader does
// not hold up the others.
type Reconciler struct {
	cfg      ReconcilerConfig
	seen     map[cmq.ShardID]sighting
	sets     map[cmq.SetID]*lane
	finished chan outcome
	workers  sync.WaitGroup
}

// sighting is since when a task has been there, in the clock's Mono.
type sighting struct {
	kind    meta.TaskKind
	version uint64
	since   time.Duration
}

// lane is the state of one set's worker.
type lane struct {
	busy     bool
	failures int           // in a row
	after    time.Duration // no worker before this
}

// outcome is a worker's last word.
type outcome struct {
	set cmq.SetID
	err error
}

// never is later than every time.
const never = time.Duration(math.MaxInt64)

// NewReconciler makes a Reconciler; Run runs it.
func NewReconciler(cfg ReconcilerConfig) *Reconciler {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.Real()
	}
	return &Reconciler{
		cfg:      cfg,
		seen:     map[cmq.ShardID]sighting{},
		sets:     map[cmq.SetID]*lane{},
		finished: make(chan outcome),
	}
}

// Run works until the context ends, and returns when its goroutines have ended.
func (r *Reconciler) Run(ctx context.Context) {
	defer r.workers.Wait()
	timer := r.cfg.Clock.NewTimer(0)
	defer timer.Stop()
	var due, last time.Duration
	for {
		news := r.cfg.Board.Changed()
		now := r.cfg.Clock.Mono()
		if now >= due {
			last, due = now, r.look(ctx, now)
		}
		timer.Reset(due - now)
		select {
		case <-ctx.Done():
			return
		case <-timer.C():
		case <-news:
			due = min(due, last+lookPeriod)
		case o := <-r.finished:
			r.settle(o)
			due = min(due, last+lookPeriod)
		}
	}
}

// look starts workers for what is due and returns when to look again if nothing happens before.
func (r *Reconciler) look(ctx context.Context, now time.Duration) time.Duration {
	if !r.cfg.Board.Leading() {
		clear(r.seen)
		return never
	}
	next := never
	ready := map[cmq.SetID][]meta.Task{}
	seen := make(map[cmq.ShardID]sighting, len(r.seen))
	for _, t := range r.cfg.Board.Table().Tasks() {
		s, ok := r.seen[t.Shard]
		if !ok || s.kind != t.Kind || s.version != t.Version {
			s = sighting{t.Kind, t.Version, now}
		}
		seen[t.Shard] = s
		switch l := r.lane(t.Set); {
		case l.busy: // its outcome makes us look again
		case s.since+grace > now || l.after > now:
			next = min(next, max(s.since+grace, l.after))
		case len(ready[t.Set]) < maxTasksAtOnce:
			ready[t.Set] = append(ready[t.Set], t)
		}
	}
	r.seen = seen
	for set, tasks := range ready {
		r.lane(set).busy = true
		r.workers.Go(func() { r.work(ctx, set, tasks) })
	}
	return next
}

func (r *Reconciler) lane(set cmq.SetID) *lane {
	l := r.sets[set]
	if l == nil {
		l = &lane{}
		r.sets[set] = l
	}
	return l
}

// settle notes how a worker ended.
func (r *Reconciler) settle(o outcome) {
	l := r.lane(o.set)
	l.busy = false
	if o.err == nil {
		l.failures, l.after = 0, 0
		return
	}
	pause := min(minBackoff<<min(l.failures, 10), maxBackoff)
	l.failures++
	l.after = r.cfg.Clock.Mono() + pause
	r.cfg.Logger.Warn("task on a shard failed; it will be tried again", "set", o.set, "pause", pause, "err", o.err)
}

// work carries out tasks of one set until one fails. A task that the set refuses does not hold up the others.
func (r *Reconciler) work(ctx context.Context, set cmq.SetID, tasks []meta.Task) {
	o := outcome{set: set}
	for i := range tasks {
		err := r.attempt(ctx, &tasks[i])
		if err == nil {
			continue
		}
		o.err = err
		if refusal := (*cmq.Error)(nil); !errors.As(err, &refusal) {
			break
		}
	}
	select {
	case r.finished <- o:
	case <-ctx.Done():
	}
}

func (r *Reconciler) attempt(ctx context.Context, t *meta.Task) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := r.cfg.Clock.AfterFunc(attemptTimeout, cancel)
	defer stop.Stop()
	if err := r.carryOut(ctx, t); err != nil {
		return fmt.Errorf("%v shard %d, version %d: %w", t.Kind, t.Shard, t.Version, err)
	}
	return nil
}

// carryOut tells the shard's set, then the controller. A shard may have been opened with an older version
// before, so that a newer one is set as well; both do nothing where they come too late.
func (r *Reconciler) carryOut(ctx context.Context, t *meta.Task) error {
	req := cmq.Request{Shard: t.Shard, Attributes: t.Attributes, Subscriber: t.Subscriber, Version: t.Version}
	switch t.Kind {
	case meta.OpenShard:
		if err := r.tell(ctx, t.Set, cmq.KindOpenShard, req); err != nil {
			return err
		}
		if t.Version > 1 {
			if err := r.tell(ctx, t.Set, cmq.KindSetShard, req); err != nil {
				return err
			}
		}
	case meta.SetShard:
		if err := r.tell(ctx, t.Set, cmq.KindSetShard, req); err != nil {
			return err
		}
	case meta.DropShard:
		if err := r.tell(ctx, t.Set, cmq.KindDropShard, req); err != nil {
			return err
		}
	}
	return r.cfg.Meta.Done(ctx, t.Shard, t.Version)
}

// tell sends a request and takes a refusal for a failure, except that a shard which is to be dropped may be
// gone already.
func (r *Reconciler) tell(ctx context.Context, set cmq.SetID, kind cmq.Kind, req cmq.Request) error {
	req.Kind = kind
	reply, err := r.cfg.Do(ctx, set, &req)
	switch {
	case err != nil:
		return err
	case reply.Err == nil, kind == cmq.KindDropShard && reply.Err.Is(cmq.ErrQueueNotExist):
		return nil
	}
	return reply.Err
}
