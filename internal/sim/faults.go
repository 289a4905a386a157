package sim

import (
	"slices"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/vfs"
)

// fault strikes again and again at moments of its own, with choices of its own: leaving one kind out does not change
// when the others strike.
type fault struct {
	w      *world
	name   string
	rng    stream
	lo, hi time.Duration // pause between two strikes
	strike func(f *fault)
	group  string // of faults that are switched on together; "": the ordinary ones

	old      *keepsake
	patience int // how often it may yet look whether its moment has come
}

// storageGroup is the group of faults that damage what was stored. The name stands for all of them in Config.Faults.
const storageGroup = "storage"

// kinds lists all faults. The times are chosen so that each strikes a few times in the 20 seconds of a run.
func kinds() []fault {
	const s, ms = time.Second, time.Millisecond
	return append([]fault{
		{name: "crash", lo: 1 * s, hi: 7 * s, strike: (*fault).crash},
		{name: "powercut", lo: 4 * s, hi: 14 * s, strike: (*fault).powerCut},
		{name: "pause", lo: 1 * s, hi: 6 * s, strike: (*fault).pause},
		{name: "cut", lo: 1 * s, hi: 8 * s, strike: (*fault).cut},
		{name: "away", lo: 8 * s, hi: 20 * s, strike: (*fault).away},
		{name: "oneway", lo: 1 * s, hi: 8 * s, strike: (*fault).oneWay},
		{name: "loss", lo: 1 * s, hi: 5 * s, strike: (*fault).loss},
		{name: "duplicate", lo: 1 * s, hi: 5 * s, strike: (*fault).duplicate},
		{name: "reorder", lo: 1 * s, hi: 5 * s, strike: (*fault).reorder},
		{name: "delay", lo: 1 * s, hi: 5 * s, strike: (*fault).delay},
		{name: "clock", lo: 1 * s, hi: 4 * s, strike: (*fault).clock},
		{name: "slowdisk", lo: 1 * s, hi: 5 * s, strike: (*fault).slowDisk},
		{name: "syncerror", lo: 1 * s, hi: 6 * s, strike: (*fault).syncError},
		{name: "fulldisk", lo: 3 * s, hi: 12 * s, strike: (*fault).fullDisk},
		{name: "transfer", lo: 300 * ms, hi: 3 * s, strike: (*fault).transfer},
		{name: "lostreply", lo: 1 * s, hi: 5 * s, strike: (*fault).lostReply},
	}, storageKinds()...)
}

// FaultNames lists the kinds of faults, with the names of groups.
func FaultNames() []string {
	var names []string
	for _, k := range kinds() {
		names = append(names, k.name)
	}
	return append(names, storageGroup)
}

// allowed tells whether faults of the kind may strike in this run.
func (k *fault) allowed(cfg *Config) bool {
	if cfg.Faults == nil {
		return k.group == "" || cfg.Nodes >= 3 // what one of fewer loses, nobody may have
	}
	return slices.Contains(cfg.Faults, k.name) || k.group != "" && slices.Contains(cfg.Faults, k.group)
}

// makeFaults chooses the faults of the seed: each kind that is allowed with a chance of one half.
func (w *world) makeFaults() {
	for _, k := range kinds() {
		f := k
		f.w, f.rng = w, newStream(w.cfg.Seed, "fault "+k.name)
		if on := f.rng.chance(50); !on || !k.allowed(&w.cfg) {
			continue
		}
		w.faults = append(w.faults, &f)
	}
}

// firstStrike is when the first strike comes at the latest, so that short runs see every fault they chose.
const firstStrike = 3 * time.Second

// plan plans the next strike.
func (f *fault) plan() {
	pause := f.rng.between(f.lo, f.hi)
	if f.w.stats.faults[f.name] == 0 {
		pause = f.rng.between(firstStrike/10, firstStrike)
	}
	f.w.after(pause, func() {
		if f.w.phase != loading {
			return
		}
		if f.group == "" {
			f.struck()
		}
		f.patience = woundTries
		f.strike(f)
		f.plan()
	})
}

// struck counts a strike. Those that damage what is stored are counted when the damage is done.
func (f *fault) struck() { f.w.stats.faults[f.name]++ }

func (f *fault) say(format string, args ...any) {
	f.w.trace.mix(9, uint64(f.w.now), uint64(len(f.name)))
	f.w.trace.say(f.w.now, "FAULT "+f.name+": "+format, args...)
}

func (f *fault) node() *node { return pick(f.rng, f.w.nodes) }

// later undoes a fault, unless the run has healed everything by then.
func (f *fault) later(d time.Duration, undo func()) {
	f.w.after(d, func() {
		if f.w.phase == loading {
			undo()
		}
	})
}

// crash ends a node: the process only or the power too, now, in the middle of one of its next disk operations, or
// between a write and its sync; in some cases again while it recovers.
func (f *fault) crash() {
	n, mode := f.node(), pick(f.rng, vfs.CrashModes())
	k, again, when := 1+f.rng.IntN(12), f.rng.IntN(10), f.rng.IntN(3)
	f.say("node %d, %v, %s", n.id, mode, [...]string{"now", "at operation " + sprint(k), "before a sync"}[when])
	if again < 3 {
		n.recoveryCrash = 1 + f.rng.IntN(8)
	}
	if !n.up {
		return
	}
	n.tripMode = mode
	switch when {
	case 0:
		n.kill(mode, "crash")
		if mode == vfs.KillProcess {
			n.noticed()
		}
	case 1:
		n.armCrash(k, false, mode)
	case 2:
		n.armCrash(1+k/4, true, pick(f.rng, []vfs.CrashMode{vfs.KeepSectors, vfs.Torn, vfs.Torn}))
	}
}

// powerCut takes the power from all nodes within a moment.
func (f *fault) powerCut() {
	f.say("all nodes")
	for _, n := range f.w.nodes {
		mode := pick(f.rng, vfs.CrashModes()[1:])
		f.w.after(f.rng.mostly(0, 20*time.Millisecond), func() { n.kill(mode, "power cut") })
	}
}

func (f *fault) pause() {
	n, d := f.node(), f.rng.mostly(50*time.Millisecond, 4*time.Second)
	f.say("node %d for %v", n.id, d)
	inc := n.incarnation
	n.pause()
	f.w.after(d, func() {
		if n.incarnation == inc {
			n.resume()
		}
	})
}

// cut separates one side from the other: a node alone, a node from one other, or everybody from everybody.
func (f *fault) cut() {
	w := f.w
	var pairs []pair
	shape, a, b := f.rng.IntN(4), f.node(), f.node()
	for _, x := range w.nodes {
		for _, y := range w.nodes {
			if x == y {
				continue
			}
			switch {
			case shape == 0, shape <= 2 && (x == a || y == a), shape == 3 && (x == a && y == b || x == b && y == a):
				pairs = append(pairs, pair{x.id, y.id})
			}
		}
	}
	f.sever(pairs, f.brief())
}

// away separates one node for so long that the others drop the log it needs, and fill it with a snapshot afterwards. In
// half of the cases it is heard a moment longer than it hears: a leader's last entries are then stored without it.
func (f *fault) away() {
	n, d := f.node(), f.rng.between(4*time.Second, 9*time.Second)
	if f.rng.chance(50) { // the leader, if there is one
		id := cmq.SetID(1 + f.rng.IntN(f.w.knobs.sets))
		for _, x := range f.w.nodes {
			if x.up && x.replica(id).r.Leading() {
				n = x
			}
		}
	}
	var in, out []pair
	for _, x := range f.w.nodes {
		if x != n {
			in, out = append(in, pair{x.id, n.id}), append(out, pair{n.id, x.id})
		}
	}
	f.sever(in, d)
	longer := time.Duration(f.rng.IntN(2)) * f.rng.between(10*time.Millisecond, 300*time.Millisecond)
	f.later(longer, func() { f.sever(out, d-longer) })
}

// oneWay cuts some directed links only.
func (f *fault) oneWay() {
	var pairs []pair
	for _, x := range f.w.nodes {
		for _, y := range f.w.nodes {
			if x != y && f.rng.chance(30) {
				pairs = append(pairs, pair{x.id, y.id})
			}
		}
	}
	f.sever(pairs, f.brief())
}

func (f *fault) brief() time.Duration { return f.rng.mostly(100*time.Millisecond, 4*time.Second) }

func (f *fault) sever(pairs []pair, d time.Duration) {
	f.say("%v for %v", pairs, d)
	for _, p := range pairs {
		f.w.net.cut(p.from, p.to)
	}
	f.later(d, func() {
		for _, p := range pairs {
			f.w.net.heal(p.from, p.to)
		}
	})
}

func (f *fault) loss() {
	p, d := 1+f.rng.IntN(25), f.rng.between(200*time.Millisecond, 3*time.Second)
	f.say("%d %% for %v", p, d)
	f.w.net.loss = p
	f.later(d, func() { f.w.net.loss = 0 })
}

func (f *fault) duplicate() {
	p, d := 1+f.rng.IntN(25), f.rng.between(200*time.Millisecond, 3*time.Second)
	f.say("%d %% for %v", p, d)
	f.w.net.duplicate = p
	f.later(d, func() { f.w.net.duplicate = 0 })
}

func (f *fault) reorder() {
	d := f.rng.between(200*time.Millisecond, 3*time.Second)
	f.say("for %v", d)
	f.w.net.reorder = true
	f.later(d, func() { f.w.net.reorder = false })
}

func (f *fault) delay() {
	extra, d := f.rng.mostly(5*time.Millisecond, 400*time.Millisecond), f.rng.between(200*time.Millisecond, 3*time.Second)
	f.say("up to %v for %v", extra, d)
	f.w.net.extra = extra
	f.later(d, func() { f.w.net.extra = 0 })
}

// clock lets a node's wall clock jump, and changes how fast its monotonic clock runs from its next start on.
func (f *fault) clock() {
	n := f.node()
	n.offset = f.rng.between(-2*time.Second, 2*time.Second)
	if f.rng.chance(30) {
		n.offset = f.rng.between(-24*time.Hour, 24*time.Hour)
	}
	n.nextPPM = int64(f.rng.IntN(401)) - 200
	f.say("node %d wall clock off by %v", n.id, n.offset)
}

func (f *fault) slowDisk() {
	n, factor, d := f.node(), 5+f.rng.IntN(200), f.rng.between(200*time.Millisecond, 3*time.Second)
	f.say("node %d, %d times slower for %v", n.id, factor, d)
	n.slow = factor
	f.later(d, func() { n.slow = 1 })
}

func (f *fault) syncError() {
	n := f.node()
	f.say("node %d, next sync", n.id)
	if n.up {
		n.failing = true
		n.disk.FailSyncs(1)
	}
}

func (f *fault) fullDisk() {
	n, room, d := f.node(), f.rng.Int64N(64<<10), f.rng.between(200*time.Millisecond, 2*time.Second)
	f.say("node %d has %d bytes left for %v", n.id, room, d)
	n.full = true
	n.disk.SetBudget(n.disk.Used() + room)
	f.later(d, n.freeDisk)
}

func (n *node) freeDisk() {
	n.full = false
	n.disk.SetBudget(-1)
}

// transfer asks a leader to hand over.
func (f *fault) transfer() {
	id := cmq.SetID(1 + f.rng.IntN(f.w.knobs.sets))
	f.say("set %d", id)
	for _, n := range f.w.nodes {
		n.exec(func() {
			if p := n.replica(id); p.r.Leading() {
				p.r.Transfer(n.now())
				p.drive()
			}
		})
	}
}

func (f *fault) lostReply() {
	p, d := 5+f.rng.IntN(40), f.rng.between(200*time.Millisecond, 3*time.Second)
	f.say("%d %% for %v", p, d)
	f.w.lostReply = p
	f.later(d, func() { f.w.lostReply = 0 })
}
