package broker

import (
	"slices"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/command"
)

// The reference model's prepared messages: a list that is walked for every question.

func (s *modelShard) prepare(now int64, op command.Op, first uint16) *cmq.Error {
	if !s.a.Transaction.On {
		return cmq.ErrTransaction
	}
	if max := s.a.MaxMsgHeapNum; max > 0 && int64(s.heap()+len(op.Bodies)) > max {
		return cmq.ErrHeapFull
	}
	for i, body := range op.Bodies {
		m := &modelHalf{id: cmq.NewMsgID(3, s.index, first+uint16(i)), bytes: uint32(len(body)), interval: op.Interval, origin: op.Origin}
		m.next = now + s.pause(m)
		s.prepared = append(s.prepared, m)
	}
	return nil
}

// pause is the time between two queries.
func (s *modelShard) pause(m *modelHalf) int64 {
	if m.interval > 0 {
		return m.interval
	}
	return max(s.a.Transaction.FirstQueryInterval.Milliseconds(), 1)
}

func (s *modelShard) find(id cmq.MsgID) *modelHalf {
	for _, m := range s.prepared {
		if m.id == id {
			return m
		}
	}
	return nil
}

func (s *modelShard) decide(decisions []cmq.Decision, r *Result) (placed []Placed) {
	for _, d := range decisions {
		m := s.find(d.ID)
		if m == nil {
			r.Errors = append(r.Errors, cmq.ErrNotPrepared)
			continue
		}
		r.Errors = append(r.Errors, nil)
		s.prepared = slices.DeleteFunc(s.prepared, func(o *modelHalf) bool { return o == m })
		if d.Commit {
			p := s.place(0, d.ID.Slot(), 1)[0]
			p.Index, p.Bytes = d.ID.Index(), m.bytes
			placed = append(placed, p)
		}
	}
	return placed
}

func (s *modelShard) ask(now int64, ids []cmq.MsgID) (list []cmq.Query) {
	for _, id := range ids {
		m := s.find(id)
		if m == nil || m.last || m.next > now {
			continue
		}
		m.count++
		m.next, m.last = now+s.pause(m), m.count >= s.a.Transaction.MaxQueryCount
		list = append(list, cmq.Query{ID: id, Count: m.count, Origin: m.origin})
	}
	return list
}

// undecided counts those whose last query nobody has answered in time.
func (s *modelShard) undecided(now int64) (n int64) {
	for _, m := range s.prepared {
		if m.last && m.next <= now {
			n++
		}
	}
	return n
}

// list is what an operator is shown.
func (s *modelShard) list(now int64, after cmq.MsgID, undecided bool, limit int) (list []cmq.Prepared) {
	for _, m := range s.prepared {
		over := m.last && m.next <= now
		if m.id <= after || undecided && !over || len(list) == limit {
			continue
		}
		p := cmq.Prepared{ID: m.id, Bytes: int(m.bytes), Queries: m.count, Origin: m.origin}
		if !over {
			p.Next = time.UnixMilli(m.next)
		}
		list = append(list, p)
	}
	return list
}

// due lists the messages to be asked about at now, the longest due first.
func (s *modelShard) due(now int64) (ids []cmq.MsgID) {
	list := slices.Clone(s.prepared)
	slices.SortStableFunc(list, func(a, b *modelHalf) int { return int(a.next - b.next) })
	for _, m := range list {
		if !m.last && m.next <= now {
			ids = append(ids, m.id)
		}
	}
	return ids
}

// next is when the first message is due for a query (last false), or for the end of the wait for the last answer.
func (s *modelShard) next(last bool, time int64) (at int64) {
	for _, m := range s.prepared {
		if m.last == last && (!last || m.next > time) && (at == 0 || m.next < at) {
			at = m.next
		}
	}
	return at
}
