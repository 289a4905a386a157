package queue

import (
	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/mutant"
)

// remember keeps what StaleHandleAccepted needs of a delivery whose lock has ended.
func (s *Shard) remember(f flight) {
	if !mutant.On(mutant.StaleHandleAccepted) {
		return
	}
	if s.past == nil {
		s.past = make(map[uint64]run)
	}
	s.past[f.counter] = run{lane: f.lane, seq: f.seq, n: 1}
}

// newer finds the handle of the delivery that came after the one with an ended handle, as only
// StaleHandleAccepted wants it; otherwise it gives h back.
func (s *Shard) newer(h cmq.Handle) cmq.Handle {
	if !mutant.On(mutant.StaleHandleAccepted) {
		return h
	}
	if old, ok := s.past[uint64(h)&(1<<56-1)]; ok {
		s.flights.each(func(f *flight) {
			if f.lane == old.lane && f.seq == old.seq {
				h = cmq.NewHandle(s.ordinal, f.counter)
			}
		})
	}
	return h
}
