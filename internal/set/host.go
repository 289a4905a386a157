package set

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencmq/cmq/internal/clock"
	"github.com/opencmq/cmq/internal/cmq"
)

// TickInterval is the time between two ticks of raft's clock: with 12 ticks a silent leader is replaced within
// 0.6 to 1.2 s.
const TickInterval = 50 * time.Millisecond

// maxInbox is how many messages of peers may wait for the loop; more are dropped, raft sends them again.
const maxInbox = 4096

// HostConfig says what a Host needs beside the Replica.
type HostConfig struct {
	Clock clock.Clock
	// Send hands messages to the connections; it must not block.
	Send func(Envelope)
	// Failed is called once when the replica had to stop: its disk failed or its data is damaged.
	Failed func(error)
}

// Host runs one Replica: one goroutine drives it, one appends to its store, one makes images and maintains the files;
// another checks them now and then, and short-lived ones read what other replicas ask for.
type Host struct {
	cfg HostConfig
	r   *Replica

	mu     sync.Mutex
	inbox  []input
	spare  []input // empty; becomes the inbox when that is taken
	peers  int     // messages of peers in inbox
	flying bool    // an entry of ours is on its way: the loop will turn without being told
	closed bool
	wake   chan struct{}

	disk    chan *Job
	chores  chan *Job
	status  atomic.Pointer[Status]
	changed atomic.Pointer[chan struct{}] // closed at the next change of leader
	stop    context.CancelFunc
	stopped <-chan struct{}
	done    sync.WaitGroup
	dropped atomic.Uint64
}

// input is one thing the loop has to work on.
type input struct {
	from  cmq.NodeID
	msg   Message
	call  func(now Now)
	timed Timed
}

// Timed is a call that wants to know the cluster time, in milliseconds. It is an interface so that a request can be the call
// itself: there is one for each request, and a function would have to be made for it.
type Timed interface{ Run(now int64) }

// TimedFunc is a function as Timed.
type TimedFunc func(now int64)

// Run calls the function.
func (f TimedFunc) Run(now int64) { f(now) }

// keptInbox is the longest inbox whose memory is kept: a turn has about as many inputs as one entry has operations.
const keptInbox = 4096

// NewHost starts the goroutines. The Replica belongs to the Host from now on.
func NewHost(r *Replica, cfg HostConfig) *Host {
	ctx, stop := context.WithCancel(context.Background())
	h := &Host{cfg: cfg, r: r, wake: make(chan struct{}, 1), disk: make(chan *Job, 64), chores: make(chan *Job, 16), stop: stop, stopped: ctx.Done()}
	r.pause = h.pauser(ctx)
	ch := make(chan struct{})
	h.changed.Store(&ch)
	h.publish(h.now(), true)
	h.done.Add(3)
	go h.loop(ctx)
	go h.work(ctx, h.disk)
	go h.work(ctx, h.chores)
	return h
}

func (h *Host) now() Now {
	return Now{Mono: h.cfg.Clock.Mono(), Wall: h.cfg.Clock.Now().UnixMilli()}
}

// Status is the newest published state of the replica.
func (h *Host) Status() Status { return *h.status.Load() }

// Leader is the node that led when the state was published last, 0 if none was known. It is cheaper than Status.
func (h *Host) Leader() cmq.NodeID { return h.status.Load().Leader }

// Dropped is how many messages of peers were dropped because the loop was behind.
func (h *Host) Dropped() uint64 { return h.dropped.Load() }

// Changed returns a channel that is closed at the next change of leader.
func (h *Host) Changed() <-chan struct{} { return *h.changed.Load() }

// Deliver takes a message of another replica; it never blocks.
func (h *Host) Deliver(from cmq.NodeID, m Message) {
	h.mu.Lock()
	if h.closed || h.peers >= maxInbox {
		h.mu.Unlock()
		h.dropped.Add(1)
		return
	}
	h.peers++
	h.inbox = append(h.inbox, input{from: from, msg: m})
	h.mu.Unlock()
	h.signal()
}

// Exec runs call on the loop. It reports false, and does not run it, when the host is stopping.
func (h *Host) Exec(call func(now Now)) bool { return h.enqueue(input{call: call}, true) }

// ExecTimed is Exec.
func (h *Host) ExecTimed(call Timed) bool { return h.enqueue(input{timed: call}, true) }

// ExecForNextEntry is ExecTimed for a call that can have no effect before the next entry is cut: while one is on its way the
// loop is not woken for it, so that all requests of that time cost one turn.
func (h *Host) ExecForNextEntry(call Timed) bool { return h.enqueue(input{timed: call}, false) }

func (h *Host) enqueue(in input, wake bool) bool {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return false
	}
	h.inbox = append(h.inbox, in)
	wake = wake || !h.flying
	h.mu.Unlock()
	if wake {
		h.signal()
	}
	return true
}

// PeerDown says that another node's process was seen to die.
func (h *Host) PeerDown(id cmq.NodeID) {
	h.Exec(func(now Now) { h.r.PeerDown(now, id) })
}

// Read runs a linearizable read on the loop: done is called when the machine shows all that was committed before.
func (h *Host) Read(done func(now Now, err error)) bool {
	return h.Exec(func(Now) { h.r.Read(done) })
}

// Replica is the replica the host drives; only calls made through Exec may touch it.
func (h *Host) Replica() *Replica { return h.r }

func (h *Host) signal() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// Stop hands over leadership if another node can take it, until ctx ends, and stops the goroutines. The store stays
// open.
func (h *Host) Stop(ctx context.Context) {
	h.handOver(ctx)
	h.stop()
	h.done.Wait()
}

// handOver asks until another node leads: the one that was asked may have gone itself, and one that stands needs this node's
// vote. It ends when nobody could be asked for an election timeout.
func (h *Host) handOver(ctx context.Context) {
	tick := time.NewTicker(TickInterval)
	defer tick.Stop()
	for vain := 0; vain <= h.r.cfg.ElectionTicks; vain++ {
		changed := h.Changed()
		type answer struct{ asked, possible bool }
		answers := make(chan answer, 1)
		if !h.Exec(func(now Now) { answers <- answer{h.r.transferring(now), h.r.canTransfer() || h.r.succeeding()} }) {
			return
		}
		select {
		case a := <-answers:
			if !a.possible {
				return
			}
			if a.asked {
				vain = 0
			}
		case <-ctx.Done():
			return
		}
		select {
		case <-changed:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (h *Host) loop(ctx context.Context) {
	defer h.done.Done()
	ticker := time.NewTicker(TickInterval)
	defer ticker.Stop()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		var ticked bool
		select {
		case <-ctx.Done():
			h.close()
			return
		case <-h.wake:
		case <-timer.C:
		case <-ticker.C:
			ticked = true
		}
		now := h.now()
		if ticked {
			h.r.Tick(now)
		}
		h.drain(now)
		out := h.r.Ready(h.now())
		h.carryOut(ctx, out)
		h.publish(now, ticked)
		h.settle()
		if out.Failed != nil {
			h.close()
			h.cfg.Failed(out.Failed)
			return
		}
		if out.Wake != 0 {
			timer.Reset(max(out.Wake-h.cfg.Clock.Mono(), 0))
		} else {
			timer.Reset(time.Hour)
		}
	}
}

func (h *Host) drain(now Now) {
	h.mu.Lock()
	inputs := h.inbox
	h.inbox, h.spare, h.peers = h.spare, nil, 0
	h.mu.Unlock()
	for i := range inputs {
		if in := &inputs[i]; !in.run(h.r, now) {
			h.r.Step(now, in.from, in.msg)
		}
	}
	if cap(inputs) > keptInbox {
		return
	}
	clear(inputs)
	h.mu.Lock()
	h.spare = inputs[:0]
	h.mu.Unlock()
}

// run makes the call, if the input is one.
func (in *input) run(r *Replica, now Now) bool {
	switch {
	case in.call != nil:
		in.call(now)
	case in.timed != nil:
		in.timed.Run(r.Time(now))
	default:
		return false
	}
	return true
}

// close refuses further inputs and ends those the machine still holds.
func (h *Host) close() {
	h.mu.Lock()
	h.closed = true
	inputs := h.inbox
	h.inbox = nil
	h.mu.Unlock()
	now := h.now()
	for i := range inputs {
		inputs[i].run(h.r, now) // messages of peers are of no use any more
	}
	h.r.Close()
}

func (h *Host) carryOut(ctx context.Context, out Output) {
	for i := range out.Envelopes {
		h.cfg.Send(out.Envelopes[i])
	}
	for _, j := range out.Jobs {
		switch j.Class {
		case Reader, Scrub:
			h.done.Add(1)
			go func() {
				defer h.done.Done()
				h.finish(j)
			}()
		case Maintenance:
			give(ctx, h.chores, j)
		case Disk:
			give(ctx, h.disk, j)
		}
	}
}

func give(ctx context.Context, to chan<- *Job, j *Job) {
	select {
	case to <- j:
	case <-ctx.Done():
	}
}

// work runs jobs, one after the other.
func (h *Host) work(ctx context.Context, jobs <-chan *Job) {
	defer h.done.Done()
	for {
		select {
		case <-ctx.Done():
			return
		case j := <-jobs:
			h.finish(j)
		}
	}
}

// pauser makes what lets background jobs wait, until the host stops.
func (h *Host) pauser(ctx context.Context) func(time.Duration) error {
	return func(d time.Duration) error {
		if d <= 0 {
			return ctx.Err()
		}
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return errStop
		}
	}
}

// Serial runs f on the goroutine that appends to the log and waits for it: what a background job has to do there
// (store.Options.Serial).
func (h *Host) Serial(f func() error) error {
	done := make(chan error, 1)
	j := &Job{Class: Disk, run: func() error { done <- f(); return nil }, done: func(Now, error) {}}
	select {
	case h.disk <- j:
	case <-h.stopped:
		return errStop
	}
	select {
	case err := <-done:
		return err
	case <-h.stopped:
		return errStop
	}
}

func (h *Host) finish(j *Job) {
	j.Run()
	h.Exec(func(now Now) { h.r.Done(now, j) })
}

// settle notes whether an entry is on its way. If that one has just come, calls may have been left in the inbox.
func (h *Host) settle() {
	h.mu.Lock()
	h.flying = h.r.Flying()
	left := len(h.inbox) > 0 && !h.flying
	h.mu.Unlock()
	if left {
		h.signal()
	}
}

// publish shows the replica's state to others: at each tick, and at once when the leader changes.
func (h *Host) publish(now Now, ticked bool) {
	old := h.status.Load()
	if old != nil && !ticked && old.Leader == h.r.Leader() && old.Leading == h.r.Leading() {
		return
	}
	s := h.r.Status(now)
	h.status.Store(&s)
	if old != nil && (old.Leader != s.Leader || old.Leading != s.Leading) {
		ch := make(chan struct{})
		close(*h.changed.Swap(&ch))
	}
}
