package queue

import (
	"math"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/command"
	"github.com/tidwall/btree"
)

// half is one prepared message: stored, and without a position until it is committed. Its id says where it is stored.
type half struct {
	id       cmq.MsgID
	bytes    uint32
	count    uint32 // queries so far
	interval int64  // between them, milliseconds; 0: the queue's
	next     int64  // see phase
	phase    phase
	origin   cmq.Origin
}

// phase says what is due at a prepared message's next.
type phase uint8

const (
	toAsk     phase = iota // a query, as soon as there is somebody to ask
	lastWait               // the wait for the answer to the last query ends
	undecided              // nothing any more; next is 0
)

// moment is a prepared message in the order in which something is due.
type moment struct {
	at int64
	id cmq.MsgID
}

func (m moment) before(o moment) bool { return m.at < o.at || m.at == o.at && m.id < o.id }

// prepared is the messages that are not decided. A shard has one only while there are any: most queues never do.
//
// Invariant: asks has those in phase toAsk, waits those in lastWait, and undecided is the number of the others.
type prepared struct {
	all       *btree.BTreeG[half]
	asks      *btree.BTreeG[moment]
	waits     *btree.BTreeG[moment]
	undecided uint64
}

func newPrepared() *prepared {
	o := btree.Options{NoLocks: true}
	return &prepared{
		all:   btree.NewBTreeGOptions(func(a, b half) bool { return a.id < b.id }, o),
		asks:  btree.NewBTreeGOptions(moment.before, o),
		waits: btree.NewBTreeGOptions(moment.before, o),
	}
}

func (p *prepared) len() int {
	if p == nil {
		return 0
	}
	return p.all.Len()
}

func (p *prepared) put(h half) {
	p.all.Set(h)
	switch h.phase {
	case toAsk:
		p.asks.Set(moment{h.next, h.id})
	case lastWait:
		p.waits.Set(moment{h.next, h.id})
	default:
		p.undecided++
	}
}

func (p *prepared) take(id cmq.MsgID) (h half, ok bool) {
	if p == nil {
		return h, false
	}
	if h, ok = p.all.Delete(half{id: id}); !ok {
		return h, false
	}
	switch h.phase {
	case toAsk:
		p.asks.Delete(moment{h.next, id})
	case lastWait:
		p.waits.Delete(moment{h.next, id})
	default:
		p.undecided--
	}
	return h, true
}

// settle ends up to n waits that are over at now.
func (p *prepared) settle(now int64, n int) {
	if p == nil {
		return
	}
	for ; n > 0; n-- {
		w, ok := p.waits.Min()
		if !ok || w.at > now {
			return
		}
		h, _ := p.take(w.id)
		h.phase, h.next = undecided, 0
		p.put(h)
	}
}

// Prepare stores messages that nobody receives before they are committed, with ids from id on and so many bytes. It
// stores all of them or none, with ErrTransaction if the queue takes no such messages and ErrHeapFull as Send does.
func (s *Shard) Prepare(now int64, id cmq.MsgID, bytes []uint32, interval int64, origin cmq.Origin) *cmq.Error {
	switch {
	case !s.attributes.Value().Transaction.On:
		return cmq.ErrTransaction
	case s.full(len(bytes)):
		return cmq.ErrHeapFull
	}
	for i, n := range bytes {
		if s.prepared == nil {
			s.prepared = newPrepared()
		}
		h := half{id: id + cmq.MsgID(i), bytes: n, interval: max(interval, 0), origin: origin}
		h.next = until(now, s.interval(&h))
		s.prepared.put(h)
	}
	return nil
}

// interval is how long to wait before the message's next query.
func (s *Shard) interval(h *half) int64 {
	if h.interval > 0 {
		return h.interval
	}
	return max(s.attributes.Value().Transaction.FirstQueryInterval.Milliseconds(), 1)
}

// Decide ends the prepared message: committed, it gets the next position of the main lane, as if it had been sent now.
// The error is ErrNotPrepared if there is none with this id, be it that it was decided before.
func (s *Shard) Decide(id cmq.MsgID, commit bool) (seq uint64, bytes uint32, err *cmq.Error) {
	h, ok := s.prepared.take(id)
	if !ok {
		return 0, 0, cmq.ErrNotPrepared
	}
	if s.prepared.len() == 0 {
		s.prepared = nil
	}
	if commit {
		seq = s.place(0, 1)
	}
	return seq, h.bytes, nil
}

// Ask counts a query for each of the messages that is due for one at now, and appends it to out.
func (s *Shard) Ask(now int64, ids []cmq.MsgID, out []cmq.Query) []cmq.Query {
	for _, id := range ids {
		h, ok := s.half(id)
		if !ok || h.phase != toAsk || h.next > now {
			continue
		}
		s.prepared.take(id)
		if h.count++; int64(h.count) >= int64(s.attributes.Value().Transaction.MaxQueryCount) {
			h.phase = lastWait
		}
		h.next = until(now, s.interval(&h))
		s.prepared.put(h)
		out = append(out, cmq.Query{ID: id, Count: int(h.count), Origin: h.origin})
	}
	return out
}

func (s *Shard) half(id cmq.MsgID) (half, bool) {
	if s.prepared == nil {
		return half{}, false
	}
	return s.prepared.all.Get(half{id: id})
}

// Asks visits the prepared messages that are due for a query at now, the longest due first, until yield returns false.
func (s *Shard) Asks(now int64, yield func(id cmq.MsgID, origin cmq.Origin) bool) {
	if s.prepared == nil {
		return
	}
	s.prepared.asks.Scan(func(m moment) bool {
		h, _ := s.half(m.id)
		return m.at <= now && yield(m.id, h.origin)
	})
}

// NextAsk is when the first prepared message is, or was, due for a query; 0: none will be.
func (s *Shard) NextAsk() int64 {
	if s.prepared == nil {
		return 0
	}
	m, _ := s.prepared.asks.Min()
	return m.at
}

// NextUndecided is the first moment after now at which a prepared message becomes undecided if nobody answers; 0: none
// will.
func (s *Shard) NextUndecided(now int64) (at int64) {
	if s.prepared == nil || now == math.MaxInt64 {
		return 0
	}
	s.prepared.waits.Ascend(moment{at: now + 1}, func(m moment) bool {
		at = m.at
		return false
	})
	return at
}

// HeldCount counts the prepared messages.
func (s *Shard) HeldCount() int64 { return int64(s.prepared.len()) }

// Prepared counts the prepared messages, and those of them that nobody will be asked about any more, at now.
func (s *Shard) Prepared(now int64) (all, undecided int64) {
	if s.prepared == nil {
		return 0, 0
	}
	undecided = int64(s.prepared.undecided)
	s.prepared.waits.Scan(func(m moment) bool {
		if m.at <= now {
			undecided++
		}
		return m.at <= now
	})
	return int64(s.prepared.all.Len()), undecided
}

// over reports whether nobody is asked about the message any more at now.
func (h *half) over(now int64) bool {
	return h.phase == undecided || h.phase == lastWait && h.next <= now
}

// List appends to out the prepared messages with ids above after, ascending, up to max of them, as they are at now;
// only those nobody is asked about any more if undecided says so. Sent is left empty: when is not known here. It costs
// as much as what it passes.
func (s *Shard) List(now int64, after cmq.MsgID, undecided bool, max int, out []cmq.Prepared) []cmq.Prepared {
	if s.prepared == nil || after == math.MaxUint64 {
		return out
	}
	s.prepared.all.Ascend(half{id: after + 1}, func(h half) bool {
		if len(out) == max {
			return false
		}
		over := h.over(now)
		if undecided && !over {
			return true
		}
		p := cmq.Prepared{ID: h.id, Bytes: int(h.bytes), Queries: int(h.count), Origin: h.origin}
		if !over {
			p.Next = time.UnixMilli(h.next)
		}
		out = append(out, p)
		return true
	})
	return out
}

// Held visits the ids of the prepared messages, ascending, with their sizes in bytes, until yield returns false. They
// are live, but have no positions that Live could give.
func (s *Shard) Held(yield func(id cmq.MsgID, bytes uint32) bool) {
	if s.prepared != nil {
		s.prepared.all.Scan(func(h half) bool { return yield(h.id, h.bytes) })
	}
}

// freeze makes a copy for an image.
func (p *prepared) freeze() *prepared {
	if p == nil {
		return nil
	}
	return &prepared{all: p.all.Copy()}
}

// appendPrepared appends what the image says of the prepared messages.
func (s *Shard) appendPrepared(b []byte) []byte {
	b = appendNumbers(b, uint64(s.prepared.len()))
	if s.prepared == nil {
		return b
	}
	last := cmq.MsgID(0)
	s.prepared.all.Scan(func(h half) bool {
		b = appendNumbers(b, uint64(h.id-last), uint64(h.bytes), uint64(h.count), uint64(h.interval), uint64(h.next),
			uint64(h.phase), uint64(h.origin.Node), h.origin.Conn)
		last = h.id
		return true
	})
	return b
}

func (s *Shard) readPrepared(r *command.Reader) {
	last := cmq.MsgID(0)
	for n := r.Count(8); n > 0; n-- {
		h := half{
			id: last + cmq.MsgID(r.Uvarint()), bytes: readCount(r), count: readCount(r), interval: r.Int(), next: r.Int(),
			phase: phase(min(r.Uvarint(), 255)), origin: cmq.Origin{Node: cmq.NodeID(r.Uvarint()), Conn: r.Uvarint()},
		}
		if h.id <= last || h.interval < 0 || h.phase > undecided || h.next < 0 || (h.next == 0) != (h.phase == undecided) {
			r.Fail()
			return
		}
		if s.prepared == nil {
			s.prepared = newPrepared()
		}
		s.prepared.put(h)
		last = h.id
	}
}
