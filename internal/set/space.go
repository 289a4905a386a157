package set

import (
	"slices"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

const (
	// hearsay is how long counts what a peer told of its disk. A peer that is silent for longer is not waited for.
	hearsay = 10 * time.Second
	// slowFactor and slowFor say when a leader's disk is so much slower than the others' that one of those should lead;
	// slowFloor is what is fast enough in any case.
	slowFactor = 5
	slowFor    = 2 * time.Second
	slowFloor  = 5 * time.Millisecond
	// slowRest is how long a leader that could hand over to nobody waits before it tries again.
	slowRest = 10 * time.Second
	// syncsKept is of how many synced writes the median is taken: a second's worth under load.
	syncsKept = 31
)

// disks is what is known of the disks of the set.
type disks struct {
	own    Space
	told   Space // what the machine was told last
	peers  map[cmq.NodeID]peerDisk
	syncs  [syncsKept]time.Duration // the latest own synced writes
	n      int                      // how many there have been
	median time.Duration            // of them; 0: too few
	slow   time.Duration            // since when this leader is the slow one; 0: it is not
}

// peerDisk is what a peer told of its disk.
type peerDisk struct {
	at    time.Duration
	space Space
	sync  time.Duration
}

// SetSpace says how full this replica's disk is.
func (r *Replica) SetSpace(level Space) { r.disks.own = level }

// heard notes what a message tells of its sender's disk.
func (d *disks) heard(from cmq.NodeID, m *Message, now Now) {
	if d.peers == nil {
		d.peers = make(map[cmq.NodeID]peerDisk)
	}
	d.peers[from] = peerDisk{at: now.Mono, space: m.Space, sync: time.Duration(m.Sync) * time.Microsecond}
}

// synced notes how long a synced write took.
func (d *disks) synced(took time.Duration) {
	d.syncs[d.n%syncsKept] = took
	d.n++
	if d.n < syncsKept {
		return
	}
	sorted := d.syncs
	slices.Sort(sorted[:])
	d.median = sorted[syncsKept/2]
}

// worst is the level of the fullest disk that was heard of lately.
func (d *disks) worst(r *Replica, now Now) Space {
	level := d.own
	for _, id := range r.others() {
		if p, ok := d.peers[id]; ok && now.Mono-p.at <= hearsay {
			level = max(level, p.space)
		}
	}
	return level
}

// tick tells the leader's machine how much room there is, and hands over if the leader's disk is the slow one.
func (d *disks) tick(r *Replica, now Now) {
	if !r.leading {
		d.slow = 0
		return
	}
	if level := d.worst(r, now); level != d.told {
		d.told = level
		r.machine.SetSpace(level)
	}
	switch {
	case !d.slowest(r, now):
		d.slow = 0
	case d.slow == 0:
		d.slow = now.Mono
	case now.Mono-d.slow >= slowFor:
		r.log.Warn("this disk is much slower than the others'; handing over leadership", "sync", d.median)
		d.slow = now.Mono + slowRest
		r.Transfer()
	}
}

// slowest tells whether the own disk takes slowFactor times as long as the others'.
func (d *disks) slowest(r *Replica, now Now) bool {
	var others []time.Duration
	for _, id := range r.others() {
		if p, ok := d.peers[id]; ok && now.Mono-p.at <= hearsay && p.sync > 0 {
			others = append(others, p.sync)
		}
	}
	if len(others) == 0 || d.median <= slowFloor {
		return false
	}
	slices.Sort(others)
	return d.median > slowFactor*others[(len(others)-1)/2]
}

// fast tells whether a node's disk is fit for a leader as far as known.
func (d *disks) fast(id cmq.NodeID) bool {
	p, ok := d.peers[id]
	return !ok || p.sync <= slowFloor || d.median == 0 || p.sync*2 <= d.median || d.slow == 0
}
