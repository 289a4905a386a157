package set

import (
	"slices"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// hearsay is how long counts what a peer told of its disk. A peer that is silent for longer is not waited for.
const hearsay = 10 * time.Second

// disks is what is known of the disks of the set.
type disks struct {
	own   Space
	told  Space // what the machine was told last, in this time of leading or an earlier one
	peers map[cmq.NodeID]peerDisk
	pace  pace // of the own disk
	drag  drag // of this leader's disk, measured by the others'
}

// peerDisk is what a peer told of its disk.
type peerDisk struct {
	at    time.Duration
	space Space
	sync  time.Duration
}

// SetSpace says how full this replica's disk is.
func (r *Replica) SetSpace(level Space) {
	r.disks.own = level
	r.storage.store.Tight(level != SpaceOK)
}

// heard notes what a message tells of its sender's disk.
func (d *disks) heard(from cmq.NodeID, m *Message, now Now) {
	if d.peers == nil {
		d.peers = make(map[cmq.NodeID]peerDisk)
	}
	d.peers[from] = peerDisk{at: now.Mono, space: m.Space, sync: time.Duration(m.Sync) * time.Microsecond}
}

// synced notes a synced write of the own disk that has just ended.
func (d *disks) synced(r *Replica, now Now) {
	took := now.Mono - r.diskSince
	d.pace.note(now.Mono, took)
	if limit, ok := d.limit(r, now); ok && r.leading {
		d.drag.note(r.diskSince, now.Mono, took > limit)
	}
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
		d.drag = drag{}
		return
	}
	if level := d.worst(r, now); level != d.told {
		d.told = level
		r.machine.SetSpace(level)
	}
	limit, ok := d.limit(r, now)
	if !ok || !d.drag.lasts(now.Mono, r.writing(now) > limit) || !d.drag.try(now.Mono) {
		return
	}
	handed := r.Transfer(now)
	r.log.Warn("this disk has been much slower than the others' for a while", "sync", d.pace.median, "limit", limit, "since", now.Mono-d.drag.began, "handing_over", handed)
}

// limit is how long a write of the leader may take that is not slow: slowFactor times what the others take. It is not known
// while theirs is not.
func (d *disks) limit(r *Replica, now Now) (time.Duration, bool) {
	var others []time.Duration
	for _, id := range r.others() {
		if p, ok := d.peers[id]; ok && now.Mono-p.at <= hearsay && p.sync > 0 {
			others = append(others, p.sync)
		}
	}
	if len(others) == 0 {
		return 0, false
	}
	slices.Sort(others)
	return max(slowFactor*others[(len(others)-1)/2], slowFloor), true
}

// fit tells whether a node's disk is fit for a leader as far as known: it is fast enough, or twice as fast as this one when
// this one is slow.
func (d *disks) fit(r *Replica, now Now, id cmq.NodeID) bool {
	own := max(d.pace.median, r.writing(now))
	limit, known := d.limit(r, now)
	p, ok := d.peers[id]
	return !ok || p.sync <= slowFloor || 2*p.sync <= own || !known || own <= limit
}
