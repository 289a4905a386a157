package queue

import (
	"cmp"
	"slices"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/command"
	"github.com/opencmq/cmq/internal/mutant"
)

// Limits of producer sessions.
const (
	// window is how many requests of a session may be without an answer: the answers to so many are kept.
	window = 1024
	// maxSessions is how many sessions a shard keeps. The one that was used longest ago makes room: with 16 bytes for each
	// answer a producer has not acknowledged, a shard holds at most 16 MiB, and mostly a thousandth of that.
	maxSessions = 1024
)

// sessions are the producer sessions of a shard: what has been stored for whom, so that a send that is repeated is stored
// once. A shard has them only once somebody has opened one.
//
// Epochs are never used twice, so a request of a session that was pushed out or taken over is recognised for ever, and is
// never taken for a new one.
type sessions struct {
	list   []session // by id
	opened uint64    // ever: epoch of the newest
	uses   uint64    // ever
}

type session struct {
	id    uint64
	epoch uint64
	used  uint64 // when, in uses
	low   uint64 // the answers to requests below it are forgotten
	done  []sent // requests from low on, by number
}

// sent is a request that was carried out: its messages are in n slots of the entry.
type sent struct {
	number uint64
	index  uint64
	slot   uint16
	n      uint16
}

func (t *sessions) find(id uint64) (int, bool) {
	return slices.BinarySearchFunc(t.list, id, func(s session, id uint64) int { return cmp.Compare(s.id, id) })
}

// OpenSession opens a session, or takes over the one with this id, and gives its epoch. Requests with an older epoch are
// refused from now on.
func (s *Shard) OpenSession(id uint64) (epoch uint64) {
	if s.sessions == nil {
		s.sessions = new(sessions)
	}
	t := s.sessions
	i, found := t.find(id)
	if !found {
		if len(t.list) >= maxSessions {
			t.evict()
			i, _ = t.find(id)
		}
		t.list = slices.Insert(t.list, i, session{id: id})
	}
	t.opened++
	t.uses++
	t.list[i] = session{id: id, epoch: t.opened, used: t.uses, low: 1}
	return t.opened
}

// evict forgets the session that was used longest ago.
func (t *sessions) evict() {
	oldest := 0
	for i := range t.list {
		if t.list[i].used < t.list[oldest].used {
			oldest = i
		}
	}
	t.list = slices.Delete(t.list, oldest, oldest+1)
}

// Sent says what became of a send: its messages are in N slots of the entry from Slot on.
type Sent struct {
	Index uint64
	Slot  uint16
	N     int
}

// Answered looks a request up. known says that it was carried out, and how; the error is ErrSession if there is no such
// session, and ErrRequestOld if the answer to the request may have been forgotten.
func (s *Shard) Answered(of cmq.Session) (answer Sent, known bool, err *cmq.Error) {
	e := s.session(of)
	if e == nil {
		return Sent{}, false, cmq.ErrSession
	}
	s.sessions.uses++
	e.used = s.sessions.uses
	e.raise(min(of.Acked, of.Number))
	if of.Number >= window {
		e.raise(of.Number - window + 1)
	}
	if of.Number < e.low {
		return Sent{}, false, cmq.ErrRequestOld
	}
	at, known := e.find(of.Number)
	if known {
		d := &e.done[at]
		answer = Sent{d.index, d.slot, int(d.n)}
	}
	return answer, known, nil
}

// session finds the session if it is still that of the epoch.
func (s *Shard) session(of cmq.Session) *session {
	if s.sessions == nil {
		return nil
	}
	i, found := s.sessions.find(of.ID)
	if !found || s.sessions.list[i].epoch != of.Epoch {
		return nil
	}
	return &s.sessions.list[i]
}

// Answer keeps what became of a request that Answered did not know.
func (s *Shard) Answer(of cmq.Session, a Sent) {
	e := s.session(of)
	at, _ := e.find(of.Number)
	if at < len(e.done) {
		e.done = slices.Clone(e.done) // a frozen copy may share it, and bears appending only
	}
	e.done = slices.Insert(e.done, at, sent{of.Number, a.Index, a.Slot, uint16(a.N)})
}

func (e *session) find(number uint64) (int, bool) {
	return slices.BinarySearchFunc(e.done, number, func(d sent, number uint64) int { return cmp.Compare(d.number, number) })
}

// raise forgets the answers to requests below low.
func (e *session) raise(low uint64) {
	if low <= e.low {
		return
	}
	e.low = low
	if at, _ := e.find(low); at == len(e.done) {
		e.done = nil
	} else {
		e.done = e.done[at:]
	}
}

// weight is how many things the image lists.
func (t *sessions) weight() (n int) {
	if t == nil {
		return 0
	}
	for i := range t.list {
		n += 1 + len(t.list[i].done)
	}
	return n
}

// freeze makes a copy for an image.
func (t *sessions) freeze() *sessions {
	if t == nil {
		return nil
	}
	return &sessions{list: slices.Clone(t.list), opened: t.opened, uses: t.uses}
}

// numbers sum up the sessions.
func (t *sessions) numbers() (opened, uses uint64) {
	if t == nil {
		return 0, 0
	}
	return t.opened, t.uses
}

// appendSessions appends what the image says of the sessions.
func (s *Shard) appendSessions(b []byte) []byte {
	t := s.sessions
	if t == nil || mutant.On(mutant.SessionsNotInImage) {
		return appendNumbers(b, 0)
	}
	b = appendNumbers(b, t.opened, t.uses, uint64(len(t.list)))
	last := uint64(0)
	for i := range t.list {
		e := &t.list[i]
		b = appendNumbers(b, e.id-last, e.epoch, e.used, e.low, uint64(len(e.done)))
		last = e.id
		number := uint64(0)
		for _, d := range e.done {
			b = appendNumbers(b, d.number-number, d.index, uint64(d.slot), uint64(d.n))
			number = d.number
		}
	}
	return b
}

func (s *Shard) readSessions(r *command.Reader) {
	opened := r.Uvarint()
	if opened == 0 {
		return
	}
	t := &sessions{opened: opened, uses: r.Uvarint()}
	last := uint64(0)
	for n := r.Count(5); n > 0; n-- {
		e := session{id: last + r.Uvarint(), epoch: r.Uvarint(), used: r.Uvarint(), low: r.Uvarint()}
		e.readDone(r)
		if len(t.list) > 0 && e.id <= last || len(t.list) == maxSessions || e.epoch == 0 || e.epoch > t.opened || e.used > t.uses || e.low == 0 {
			r.Fail()
			return
		}
		t.list = append(t.list, e)
		last = e.id
	}
	s.sessions = t
}

func (e *session) readDone(r *command.Reader) {
	last := e.low - 1
	number := uint64(0)
	for n := r.Count(4); n > 0; n-- {
		number += r.Uvarint()
		d := sent{number: number, index: r.Uvarint(), slot: readUint16(r), n: readUint16(r)}
		if d.number <= last || len(e.done) == window {
			r.Fail()
			return
		}
		e.done = append(e.done, d)
		last = d.number
	}
}

func readUint16(r *command.Reader) uint16 {
	v := r.Uvarint()
	if v > 1<<16-1 {
		r.Fail()
	}
	return uint16(v)
}
