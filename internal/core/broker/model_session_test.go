package broker

import "github.com/opencmq/cmq/internal/cmq"

// The reference model's producer sessions.

type modelSession struct {
	epoch uint64
	low   uint64 // requests below it are forgotten
	done  map[uint64]modelSent
}

type modelSent struct {
	index uint64
	first uint16
	n     int
}

// repeated answers a send that was carried out before, or may have been.
func (s *modelShard) repeated(of cmq.Session, r *Result) bool {
	e := s.sessions[of.ID]
	if e == nil || e.epoch != of.Epoch {
		r.Err = cmq.ErrSession
		return true
	}
	e.low = max(e.low, min(of.Acked, of.Number))
	if of.Number > 1023 {
		e.low = max(e.low, of.Number-1023)
	}
	if of.Number < e.low {
		r.Err = cmq.ErrRequestOld
		return true
	}
	d, known := e.done[of.Number]
	if known {
		r.Index, r.FirstSlot, r.N = d.index, d.first, d.n
	}
	return known
}
