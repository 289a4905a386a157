package sim

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/engine"
	"github.com/opencmq/cmq/internal/set"
	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/store/reflog"
	"github.com/opencmq/cmq/internal/vfs"
)

// epoch is the wall clock at true time 0, in Unix milliseconds.
const epoch = int64(1_800_000_000_000)

// node is one server process with its disk and its clocks. The disk outlives the process; everything else ends with
// incarnation.
type node struct {
	w    *world
	id   cmq.NodeID
	disk *vfs.Disk
	rng  stream // latencies of the disk

	up          bool
	incarnation int
	booted      time.Duration
	replicas    []*replica
	attempts    []*attempt // calls of clients that may still be open here

	paused bool
	held   []func() // what happens to a paused process, until it goes on

	ppm     int64         // how much too fast the monotonic clock runs
	nextPPM int64         // from the next start on
	offset  time.Duration // of the wall clock

	slow     int // factor on the latency of the disk
	full     bool
	failing  bool // a sync error is or was injected
	trip     int  // crash at the trip-th operation on the disk from now; 0: none
	tripMode vfs.CrashMode
	tripSync bool // only syncs count for trip
	tripped  bool

	recoveryCrash int  // the next start crashes at this operation on the disk; 0: it does not
	abandoned     bool // stays down for ever

	wound     *wound // damage that is not healed yet
	lying     bool   // the disk confirms writes that it does not do
	detained  bool   // is not started for now
	memories  map[cmq.SetID]memory
	hampering int // faults at work that refuse the process something
	hampered  int // the incarnation that met one of them last
}

// replica is one replica of a set on a node that is up.
type replica struct {
	node    *node
	set     cmq.SetID
	r       *set.Replica
	m       *machine
	fs      vfs.FS
	st      *store.Store
	disk    line
	care    line          // of jobs of class Maintenance
	wakeAt  time.Duration // the wake-up that is planned, by the monotonic clock
	wasWarm bool
	stray   bool // it goes astray with one of the next entries
	fenced  bool // its disk was seen to know that the state is wrong

	pushing  bool // it led when that was last looked at
	couriers []*courier
}

func newNode(w *world, id cmq.NodeID) *node {
	n := &node{w: w, id: id, rng: newStream(w.cfg.Seed, fmt.Sprint("disk ", id)), slow: 1, memories: map[cmq.SetID]memory{}}
	n.disk = vfs.NewDisk(newStream(w.cfg.Seed, fmt.Sprint("crash ", id)).Rand)
	return n
}

// logger is the world's, with the node's number.
func (n *node) logger() *slog.Logger { return n.w.logger.With("node", n.id) }

// now reads the node's clocks.
func (n *node) now() set.Now {
	up := n.w.now - n.booted
	mono := time.Hour + up + up/1_000_000*time.Duration(n.ppm)
	return set.Now{Mono: mono, Wall: epoch + (n.w.now + n.offset).Milliseconds()}
}

// exec lets something happen to the process: at once, or after a pause; never if the process is dead.
func (n *node) exec(f func()) {
	switch {
	case !n.up:
	case n.paused:
		n.held = append(n.held, f)
	default:
		f()
	}
}

// after plans something of the process's own; it dies with the process.
func (n *node) after(d time.Duration, f func()) {
	inc := n.incarnation
	n.w.agenda.push(n.w.now+d, func() {
		if n.incarnation == inc {
			n.exec(f)
		}
	})
}

func (n *node) pause() { n.paused = true }

// resume lets a paused process see everything that happened meanwhile, in one burst.
func (n *node) resume() {
	if !n.paused {
		return
	}
	n.paused = false
	held := n.held
	n.held = nil
	inc := n.incarnation
	for _, f := range held {
		if n.incarnation != inc {
			return
		}
		n.exec(f)
	}
}

// start starts the process on whatever the disk holds.
func (n *node) start() {
	if n.up || n.abandoned || n.detained {
		return
	}
	n.up, n.tripped, n.paused, n.held = true, false, false, nil
	n.incarnation++
	if n.hampering > 0 {
		n.hampered = n.incarnation
	}
	n.booted, n.ppm = n.w.now, n.nextPPM
	n.w.trace.say(n.w.now, "node %d starts", n.id)
	n.w.trace.mix(1, uint64(n.id))
	if n.recoveryCrash > 0 {
		n.armCrash(n.recoveryCrash, false, n.tripMode)
		n.recoveryCrash = 0
	}
	fs := n.disk.Mount()
	for id := cmq.SetID(1); id <= cmq.SetID(n.w.knobs.sets); id++ {
		if err := n.open(fs, id); err != nil {
			n.notOpened(id, err)
			return
		}
	}
	n.tick()
}

func (n *node) open(fs vfs.FS, id cmq.SetID) error {
	p := &replica{node: n, set: id, fs: fs}
	st, err := openStore(n, fs, id)
	if errors.Is(err, store.ErrNotExist) && n.wound != nil {
		n.w.stats.hit("replicas made anew")
		if err = n.createSet(fs, id); err == nil {
			st, err = openStore(n, fs, id)
		}
	}
	if err != nil {
		return err
	}
	p.st = st
	p.m = &machine{p: p, Machine: engine.New(n.w.engineConfig(p))}
	p.r, err = set.NewReplica(set.Config{
		Set: id, Node: n.id, Life: uint32(n.incarnation), Machine: p.m, Store: st, Logger: n.logger(),
		ImageBytes: n.w.knobs.imageBytes, ScrubPause: 30 * time.Second, Replicas: n.w.nodeIDs(),
	})
	if err != nil {
		return err
	}
	n.replicas = append(n.replicas, p)
	n.w.oracle.opened(p)
	return nil
}

// notOpened is a start that failed. That is right if the power was cut meanwhile, or if the disk is full; damage
// is not: everything that may happen to a simulated disk must be recovered from.
func (n *node) notOpened(id cmq.SetID, err error) {
	switch {
	case n.tripped:
		n.fall("crashed while it recovered")
	case n.refusedStart(id, err) || n.excused():
		n.kill(vfs.KillProcess, "cannot start: "+err.Error())
	default:
		n.w.violation("recovery", "node %d cannot open set %d: %v", n.id, id, err)
		n.kill(vfs.KillProcess, "cannot start: "+err.Error())
	}
}

func (n *node) tick() {
	now := n.now()
	for _, p := range n.replicas {
		p.r.Tick(now)
		if !p.drive() {
			return
		}
	}
	n.after(set.TickInterval-set.TickInterval/1_000_000*time.Duration(n.ppm), n.tick)
}

func (n *node) replica(id cmq.SetID) *replica { return n.replicas[id-1] }

// receive takes a message of another node.
func (n *node) receive(id cmq.SetID, from cmq.NodeID, m set.Message) {
	t := n.w.trace
	t.mix(2, uint64(n.w.now), uint64(from), uint64(n.id), uint64(id))
	mixMessage(t, &m)
	if t.on() && n.w.cfg.Verbose {
		t.say(n.w.now, "node %d set %d ← %d: %s", n.id, id, from, describe(&m))
	}
	p := n.replica(id)
	p.r.Step(n.now(), from, m)
	p.drive()
}

// drive lets the replica work off its input and carries out what it wants. It reports whether the node is still up.
func (p *replica) drive() bool {
	n := p.node
	out := p.r.Ready(n.now())
	for i := range out.Envelopes {
		n.w.net.envelope(p, out.Envelopes[i])
	}
	if out.Failed != nil {
		n.failed(p, out.Failed)
		return false
	}
	for _, j := range out.Jobs {
		p.plan(j)
	}
	p.planWake(out.Wake)
	p.wasWarm = p.r.Time(n.now()) != 0
	p.lookForCouriers()
	return p.watchFence()
}

func (p *replica) planWake(at time.Duration) {
	mono := p.node.now().Mono
	if at == 0 || p.wakeAt > mono && p.wakeAt <= at {
		return
	}
	p.wakeAt = at
	// A little later, because the monotonic clock may run slow.
	wait := max(at-mono, 0)
	p.node.after(wait+wait/1000+time.Microsecond, func() { p.drive() })
}

// line is jobs that run one after the other.
type line struct {
	jobs []*set.Job
	busy bool
}

// plan gives a job to the disk: those of one class that change it one after the other, others beside them.
func (p *replica) plan(j *set.Job) {
	n, l := p.node, &p.disk
	switch j.Class {
	case set.Reader, set.Scrub:
		n.after(n.diskLatency(j.Bytes), func() { p.run(j, func() { p.finish(j) }) })
		return
	case set.Maintenance:
		l = &p.care
	}
	l.jobs = append(l.jobs, j)
	p.nextJob(l)
}

// nextJob runs the next job. Its effect on the disk comes at some moment between its begin and its end, so that a crash
// finds it done and not confirmed, or not done.
func (p *replica) nextJob(l *line) {
	if l.busy || len(l.jobs) == 0 {
		return
	}
	l.busy = true
	j := l.jobs[0]
	l.jobs = l.jobs[1:]
	n := p.node
	total := n.diskLatency(j.Bytes)
	part := n.rng.between(0, total)
	n.after(part, func() {
		p.run(j, func() {
			n.after(total-part, func() {
				l.busy = false
				p.finish(j)
				p.nextJob(l)
			})
		})
	})
}

// run does a job's work, which may be where the node crashes.
func (p *replica) run(j *set.Job, then func()) {
	n := p.node
	n.w.trace.mix(3, uint64(n.w.now), uint64(n.id), uint64(p.set), uint64(j.Bytes))
	j.Run()
	if n.tripped {
		n.fall("power cut in the middle of a disk job")
		return
	}
	then()
}

func (p *replica) finish(j *set.Job) {
	p.r.Done(p.node.now(), j)
	p.drive()
}

func (n *node) diskLatency(bytes int) time.Duration {
	d := n.w.knobs.disk + n.rng.mostly(0, 4*n.w.knobs.disk) + time.Duration(bytes)*2*time.Nanosecond
	return d * time.Duration(n.slow)
}

// failed is a replica that had to stop: the process ends and is started again by whoever watches over it.
func (n *node) failed(p *replica, err error) {
	if !n.excused() {
		n.w.violation("replica stopped", "node %d set %d: %v", n.id, p.set, err)
	}
	n.kill(vfs.KillProcess, "stops: "+err.Error())
}

// armCrash places a crash before the k-th operation on the disk from now that changes anything, or before the k-th
// sync: then something was written that may be torn.
func (n *node) armCrash(k int, syncs bool, mode vfs.CrashMode) {
	n.trip, n.tripSync, n.tripMode = k, syncs, mode
	n.disk.OnOp(func(op vfs.Op) error {
		if n.trip == 0 || !op.Kind.Changes() || n.tripSync && op.Kind != vfs.OpSync {
			return nil
		}
		if n.trip--; n.trip > 0 {
			return nil
		}
		n.disk.OnOp(nil)
		n.disk.Crash(n.tripMode)
		n.tripped = true
		return vfs.ErrCrashed
	})
}

// kill ends the process with what the mode leaves on the disk.
func (n *node) kill(mode vfs.CrashMode, why string) {
	if !n.up {
		return
	}
	n.disk.Crash(mode)
	n.fall(fmt.Sprintf("%s (%v)", why, mode))
}

// fall is the end of the process; the disk has crashed already. Whoever watches over it starts it again.
func (n *node) fall(why string) {
	n.w.trace.say(n.w.now, "node %d falls: %s", n.id, why)
	n.w.trace.mix(4, uint64(n.w.now), uint64(n.id))
	n.remember()
	n.up, n.paused, n.held, n.failing = false, false, nil, false
	n.trip = 0
	n.disk.OnOp(nil)
	n.disk.FailSyncs(0)
	n.incarnation++
	n.replicas = nil
	attempts := n.attempts
	n.attempts = nil
	for _, a := range attempts {
		a.reset()
	}
	n.w.after(n.rng.mostly(50*time.Millisecond, time.Second), n.start)
}

// noticed tells the other nodes that this one's process was seen to die: their connections were reset, and it
// refused to be dialled.
func (n *node) noticed() {
	for _, other := range n.w.nodes {
		if other == n || n.w.net.link(n.id, other.id).cuts > 0 || n.w.net.link(other.id, n.id).cuts > 0 {
			continue
		}
		n.w.agenda.push(n.w.now+n.rng.between(time.Millisecond, 20*time.Millisecond), func() {
			if n.up {
				return
			}
			other.exec(func() {
				for _, p := range other.replicas {
					p.r.PeerDown(other.now(), n.id)
					if !p.drive() {
						return
					}
				}
			})
		})
	}
}

// machine is the state machine of a replica with the oracle looking on.
type machine struct {
	*engine.Machine
	p *replica
}

// Apply implements set.Machine.
func (m *machine) Apply(index, term uint64, data []byte) {
	m.Machine.Apply(index, term, m.p.bend(data))
	m.p.node.w.oracle.applied(m.p, index, term, data)
}

// Restore implements set.Machine.
func (m *machine) Restore(index uint64, image []byte, files []reflog.File) error {
	if err := m.Machine.Restore(index, image, files); err != nil {
		return err
	}
	m.p.node.w.oracle.restored(m.p, index)
	return nil
}

// Lead implements set.Machine.
func (m *machine) Lead(term uint64) {
	m.p.node.w.oracle.leads(m.p, term)
	m.Machine.Lead(term)
}

func (w *world) engineConfig(p *replica) engine.Config {
	n := p.node
	return engine.Config{
		Set: p.set, Node: n.id, Logger: n.logger(),
		FS: p.fs, Dir: directory(p.set), Refs: reflog.Options{Cluster: cluster, Set: uint16(p.set), TailBytes: w.knobs.tailBytes},
		Messages: func(refs []store.Ref, got func(int, store.Message, error)) { p.st.Messages(refs, got) },
		Fetch: func(refs []store.Ref, done func([]store.Message, error)) {
			p.r.FetchMessages(n.now(), refs, done)
		},
		RepairRefs: func(key reflog.Key, lo, hi uint64, done func(error)) { p.r.FetchRefs(key, lo, hi, done) },
		Go: func(work, then func()) {
			n.after(n.diskLatency(64<<10), func() {
				work()
				then()
				p.drive()
			})
		},
		Exec: func(call func()) bool { call(); return true },
		Wall: func() int64 { return n.now().Wall },
		Read: func(done func(error)) {
			p.r.Read(func(_ set.Now, err error) { done(err) })
		},
		OnDead: func(shard, _ cmq.ShardID) { w.movers.notify(p, shard) },
	}
}

var silent = slog.New(slog.DiscardHandler)
