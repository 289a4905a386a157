package broker

import (
	"encoding/binary"
	"slices"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/tidwall/btree"
)

// Snapshot is the image of the state at one moment, written while batches go on being applied: Step writes shard
// after shard, and a shard that is about to change before its turn is written first. So the state is never
// held twice, and no batch waits for more than the shards it touches.
//
// A shard with a long list of messages in flight or of lanes is not written on the way but frozen, which is quick,
// and written by Parts, for which the owner of the Broker need not wait.
type Snapshot struct {
	b      *Broker
	number uint64
	head   head
	order  *btree.Set[cmq.ShardID] // of that moment
	next   cmq.ShardID             // all shards below it are in pieces
	done   bool
	heavy  int

	ahead  map[cmq.ShardID]piece // written before their turn
	pieces []piece               // in order
	open   bool                  // the last piece takes more shards
	last   cmq.ShardID           // of the last piece
}

// piece is a part of the image: bytes, or one shard to be written later.
type piece struct {
	data   []byte
	frozen *shard
}

// pieceSize is how many bytes of small shards are kept together.
const pieceSize = 256 << 10

// heavy is how long a list a shard may have and be written on the way: that takes about 50 µs.
const heavy = 1024

// Snapshot begins an image of the state as it is now. There is one at a time: it ends one that is not done.
func (b *Broker) Snapshot() *Snapshot {
	b.snapshots++
	s := &Snapshot{b: b, number: b.snapshots, head: b.head(), order: b.order.Copy(), ahead: make(map[cmq.ShardID]piece), heavy: heavy}
	s.head.dropped = b.dropped.Copy()
	b.snapshot = s
	return s
}

// save lets the snapshot have the shard as it is, which is about to change.
func (b *Broker) save(id cmq.ShardID, s *shard) {
	n := b.snapshot
	if n == nil || s.saved == n.number {
		return
	}
	s.saved = n.number
	if s.Weight() > n.heavy {
		n.ahead[id] = piece{frozen: s.freeze()}
	} else {
		n.ahead[id] = piece{data: s.appendImage(nil)}
	}
}

func (s *shard) freeze() *shard {
	arrivals := slices.Clone(s.from())
	return &shard{Shard: s.Freeze(), version: s.version, sub: s.sub, arrivals: &arrivals}
}

// Step goes on with the image: it writes shards until about limit bytes are written, and reports whether the image is
// done.
func (s *Snapshot) Step(limit int) (done bool) {
	if s.done {
		return true
	}
	done = true
	s.order.Ascend(s.next, func(id cmq.ShardID) bool {
		if limit <= 0 {
			s.next, done = id, false
			return false
		}
		limit -= s.take(id)
		return true
	})
	if s.done = done; done && s.b.snapshot == s {
		s.b.snapshot = nil
	}
	return done
}

// take puts the next shard into the image and gives its cost in bytes.
func (s *Snapshot) take(id cmq.ShardID) int {
	gap := uint64(id - s.last)
	s.last = id
	if p, ok := s.ahead[id]; ok {
		delete(s.ahead, id)
		if p.frozen != nil {
			s.freeze(gap, p.frozen)
			return 64
		}
		data := s.small(gap)
		*data = append(*data, p.data...)
		return 64 + len(p.data)/16
	}
	sh := s.b.shards[id]
	sh.saved = s.number
	if w := sh.Weight(); w > s.heavy {
		s.freeze(gap, sh.freeze())
		return w
	}
	data := s.small(gap)
	before := len(*data)
	*data = sh.appendImage(*data)
	return len(*data) - before
}

// freeze appends a shard that is to be written later.
func (s *Snapshot) freeze(gap uint64, sh *shard) {
	s.pieces = append(s.pieces, piece{data: binary.AppendUvarint(nil, gap), frozen: sh})
	s.open = false
}

// small gives the piece to which the next shard can be appended, with the shard's id in it.
func (s *Snapshot) small(gap uint64) *[]byte {
	if !s.open || len(s.pieces[len(s.pieces)-1].data) >= pieceSize {
		s.pieces = append(s.pieces, piece{})
		s.open = true
	}
	data := &s.pieces[len(s.pieces)-1].data
	*data = binary.AppendUvarint(*data, gap)
	return data
}

// Parts is the image, to be joined in this order, once Step has reported that it is done. It may be called
// once, by any goroutine. No shard lies in two parts.
func (s *Snapshot) Parts() [][]byte {
	if !s.done {
		panic("BUG: parts of a snapshot that is not done")
	}
	parts := [][]byte{s.head.append(nil)}
	for i := range s.pieces {
		p := &s.pieces[i]
		if p.frozen != nil {
			p.data = p.frozen.appendImage(p.data)
			p.frozen = nil
		}
		parts = append(parts, p.data)
	}
	s.pieces, s.head.dropped = nil, nil
	return parts
}
