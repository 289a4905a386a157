package reflog

import (
	"slices"
)

// This is the map as it was when it lay in memory whole; what is on the disk has to say the same.

// oldLane is the runs of one lane, oldest first. Those before head are dropped.
type oldLane struct {
	runs []Run
	head int
}

// oldLog is the map of all lanes of one set.
type oldLog struct {
	shards map[uint64]map[int64]*oldLane
	runs   int
}

// newOld makes an empty map.
func newOld() *oldLog { return &oldLog{shards: make(map[uint64]map[int64]*oldLane)} }

// Add notes that n messages sent at time got the positions from seq on and are stored at (index, slot...). Positions
// of a lane must be added in order.
func (l *oldLog) Add(k Key, seq, index uint64, slot uint16, n int, time int64, bytes uint32) {
	lanes := l.shards[k.Shard]
	if lanes == nil {
		lanes = make(map[int64]*oldLane)
		l.shards[k.Shard] = lanes
	}
	ln := lanes[k.Lane]
	if ln == nil {
		ln = &oldLane{}
		lanes[k.Lane] = ln
	}
	if last := len(ln.runs) - 1; last >= ln.head {
		r := &ln.runs[last]
		if r.Index == index && r.Time == time && r.Slot+r.N == slot && r.Seq+uint64(r.N) == seq {
			r.N += uint16(n)
			r.Bytes += bytes
			return
		}
	}
	ln.runs = append(ln.runs, Run{Seq: seq, Index: index, Time: time, Slot: slot, N: uint16(n), Bytes: bytes})
	l.runs++
}

func (l *oldLog) lane(k Key) *oldLane { return l.shards[k.Shard][k.Lane] }

// live is the runs not dropped.
func (ln *oldLane) live() []Run {
	if ln == nil {
		return nil
	}
	return ln.runs[ln.head:]
}

// find is the position in live of the run that holds seq, or of the first run after it.
func find(runs []Run, seq uint64) int {
	i, _ := slices.BinarySearchFunc(runs, seq, func(r Run, seq uint64) int {
		switch {
		case r.Seq+uint64(r.N) <= seq:
			return -1
		case r.Seq > seq:
			return 1
		default:
			return 0
		}
	})
	return i
}

// Resolve says where the message at a position is stored; false if the position is not held.
func (l *oldLog) Resolve(k Key, seq uint64) (Ref, bool) {
	runs := l.lane(k).live()
	i := find(runs, seq)
	if i == len(runs) || runs[i].Seq > seq {
		return Ref{}, false
	}
	r := runs[i]
	return Ref{Index: r.Index, Slot: r.Slot + uint16(seq-r.Seq), Time: r.Time, Bytes: r.Bytes / uint32(r.N)}, true
}

// SeqAt is the first position whose message was sent at time or later, or end if there is none.
func (l *oldLog) SeqAt(k Key, time int64, end uint64) uint64 {
	runs := l.lane(k).live()
	i, _ := slices.BinarySearchFunc(runs, time, func(r Run, t int64) int {
		if r.Time < t {
			return -1
		}
		return 1
	})
	if i == len(runs) {
		return end
	}
	return runs[i].Seq
}

// TimeAt is the send time of the first message at or after a position; false if there is none.
func (l *oldLog) TimeAt(k Key, seq uint64) (int64, bool) {
	runs := l.lane(k).live()
	i := find(runs, seq)
	if i == len(runs) {
		return 0, false
	}
	return runs[i].Time, true
}

// DropBelow forgets whole runs whose positions are all below seq.
func (l *oldLog) DropBelow(k Key, seq uint64) {
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
		ln.runs = append([]Run(nil), ln.runs[ln.head:]...)
		ln.head = 0
	}
}

func (l *oldLog) dropLane(k Key) {
	lanes := l.shards[k.Shard]
	delete(lanes, k.Lane)
	if len(lanes) == 0 {
		delete(l.shards, k.Shard)
	}
}

// DropShard forgets all lanes of a shard.
func (l *oldLog) DropShard(shard uint64) {
	for _, ln := range l.shards[shard] {
		l.runs -= len(ln.live())
	}
	delete(l.shards, shard)
}

func sortedKeys[K uint64 | int64, V any, M ~map[K]V](m M) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
