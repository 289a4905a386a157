// Package reflog maps a position in a queue to where the message is stored: (raft index, slot).
//
// Positions of one lane (the main sequence of a shard, or its messages due at one moment) are given out one after
// the other, and a batch of sends fills consecutive slots of one raft entry, so the map is a list of runs that
// only grows at its end. References are logical: they never name a file, so each replica may lay out its
// files as it likes. The send time of a run is kept with it, because it does not decrease within a lane: that
// turns a moment into a position (retention, rewind). The state machine itself never needs any of this.
//
// The map is derived: an image of the state machine holds it, and replaying the log rebuilds the rest. It belongs to
// the goroutine that applies the log and is not safe for concurrent use.
package reflog

import (
	"slices"
)

// Key names one lane of one shard.
type Key struct {
	Shard uint64
	Lane  int64 // due time in milliseconds, 0 for the main sequence
}

// Ref says where a message is stored and when it was sent.
type Ref struct {
	Index uint64
	Slot  uint16
	Time  int64 // Unix milliseconds, cluster time
}

// run is n messages with consecutive positions, stored in consecutive slots of one entry.
type run struct {
	seq, index uint64
	time       int64
	slot, n    uint16
}

// lane is the runs of one lane, oldest first. Those before head are dropped.
type lane struct {
	runs []run
	head int
}

// Log is the map of all lanes of one set.
type Log struct {
	shards map[uint64]map[int64]*lane
	runs   int
}

// New makes an empty map.
func New() *Log { return &Log{shards: make(map[uint64]map[int64]*lane)} }

// Runs is how many runs are held, a measure of memory (32 bytes each).
func (l *Log) Runs() int { return l.runs }

// Add notes that n messages sent at time got the positions from seq on and are stored at (index, slot...). Positions
// of a lane must be added in order.
func (l *Log) Add(k Key, seq, index uint64, slot uint16, n int, time int64) {
	lanes := l.shards[k.Shard]
	if lanes == nil {
		lanes = make(map[int64]*lane)
		l.shards[k.Shard] = lanes
	}
	ln := lanes[k.Lane]
	if ln == nil {
		ln = &lane{}
		lanes[k.Lane] = ln
	}
	if last := len(ln.runs) - 1; last >= ln.head {
		r := &ln.runs[last]
		if r.index == index && r.slot+r.n == slot && r.seq+uint64(r.n) == seq {
			r.n += uint16(n)
			return
		}
	}
	ln.runs = append(ln.runs, run{seq: seq, index: index, time: time, slot: slot, n: uint16(n)})
	l.runs++
}

func (l *Log) lane(k Key) *lane { return l.shards[k.Shard][k.Lane] }

// live is the runs not dropped.
func (ln *lane) live() []run {
	if ln == nil {
		return nil
	}
	return ln.runs[ln.head:]
}

// find is the position in live of the run that holds seq, or of the first run after it.
func find(runs []run, seq uint64) int {
	i, _ := slices.BinarySearchFunc(runs, seq, func(r run, seq uint64) int {
		switch {
		case r.seq+uint64(r.n) <= seq:
			return -1
		case r.seq > seq:
			return 1
		default:
			return 0
		}
	})
	return i
}

// Resolve says where the message at a position is stored; false if the position is not held.
func (l *Log) Resolve(k Key, seq uint64) (Ref, bool) {
	runs := l.lane(k).live()
	i := find(runs, seq)
	if i == len(runs) || runs[i].seq > seq {
		return Ref{}, false
	}
	r := runs[i]
	return Ref{Index: r.index, Slot: r.slot + uint16(seq-r.seq), Time: r.time}, true
}

// SeqAt is the first position whose message was sent at time or later, or end if there is none.
func (l *Log) SeqAt(k Key, time int64, end uint64) uint64 {
	runs := l.lane(k).live()
	i, _ := slices.BinarySearchFunc(runs, time, func(r run, t int64) int {
		if r.time < t {
			return -1
		}
		return 1
	})
	if i == len(runs) {
		return end
	}
	return runs[i].seq
}

// TimeAt is the send time of the first message at or after a position; false if there is none.
func (l *Log) TimeAt(k Key, seq uint64) (int64, bool) {
	runs := l.lane(k).live()
	i := find(runs, seq)
	if i == len(runs) {
		return 0, false
	}
	return runs[i].time, true
}

// DropBelow forgets whole runs whose positions are all below seq.
func (l *Log) DropBelow(k Key, seq uint64) {
	ln := l.lane(k)
	if ln == nil {
		return
	}
	n := find(ln.live(), seq)
	ln.head += n
	l.runs -= n
	switch {
	case ln.head == len(ln.runs):
		l.dropLane(k)
	case ln.head > 64 && ln.head > len(ln.runs)/2:
		ln.runs = append([]run(nil), ln.runs[ln.head:]...)
		ln.head = 0
	}
}

func (l *Log) dropLane(k Key) {
	lanes := l.shards[k.Shard]
	delete(lanes, k.Lane)
	if len(lanes) == 0 {
		delete(l.shards, k.Shard)
	}
}

// DropShard forgets all lanes of a shard.
func (l *Log) DropShard(shard uint64) {
	for _, ln := range l.shards[shard] {
		l.runs -= len(ln.live())
	}
	delete(l.shards, shard)
}

// Retain forgets the lanes of a shard for which keep returns false.
func (l *Log) Retain(shard uint64, keep func(lane int64) bool) {
	for due, ln := range l.shards[shard] {
		if !keep(due) {
			l.runs -= len(ln.live())
			l.dropLane(Key{shard, due})
		}
	}
}

// Shards calls f for each shard that has lanes, in ascending order.
func (l *Log) Shards(f func(shard uint64)) {
	for _, s := range sortedKeys(l.shards) {
		f(s)
	}
}

// Lowest is the lowest raft index referred to; false if nothing is held.
func (l *Log) Lowest() (uint64, bool) {
	var lowest uint64
	found := false
	for _, lanes := range l.shards {
		for _, ln := range lanes {
			// Indexes rise within a lane.
			if runs := ln.live(); len(runs) > 0 && (!found || runs[0].index < lowest) {
				lowest, found = runs[0].index, true
			}
		}
	}
	return lowest, found
}

func sortedKeys[K uint64 | int64, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
