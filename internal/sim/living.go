package sim

import (
	"fmt"
	"math"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/broker"
	corequeue "github.com/opencmq/cmq/internal/core/queue"
	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/store/reflog"
)

// unreadable says which message the replica's own files cannot give although its state may still ask for it; nothing if they give all. What
// the state needs is worked out anew from the state as it is, not taken from what maintenance was told.
func (p *replica) unreadable() (what string) {
	err := broker.WalkImage(p.set, [][]byte{p.m.Broker().Encode()}, func(id cmq.ShardID, s *corequeue.Shard) (err error) {
		s.Held(func(msg cmq.MsgID, _ uint32) bool {
			err = p.readable(store.Ref{Index: msg.Index(), Slot: msg.Slot()})
			return err == nil
		})
		if err != nil {
			return err
		}
		s.Live(func(lane int64, lo, hi uint64) bool {
			err = p.readableSpan(reflog.Key{Shard: uint64(id), Lane: lane}, lo, hi)
			return err == nil
		})
		return err
	})
	if err != nil {
		return err.Error()
	}
	return ""
}

// readableSpan checks that the positions [lo, hi) of a lane have references, and these messages.
func (p *replica) readableSpan(key reflog.Key, lo, hi uint64) error {
	runs, err := p.m.Runs(key, lo, hi, math.MaxInt)
	if err != nil {
		return err
	}
	next := lo
	for _, r := range runs {
		if r.Seq > next {
			break
		}
		for i := range r.N {
			if err := p.readable(store.Ref{Index: r.Index, Slot: r.Slot + i}); err != nil {
				return err
			}
		}
		next = r.Seq + uint64(r.N)
	}
	if next < hi {
		return fmt.Errorf("position %d of lane %d of shard %d is live and has no reference", next, key.Lane, key.Shard)
	}
	return nil
}

func (p *replica) readable(ref store.Ref) error {
	if _, err := p.st.Message(ref); err != nil && !p.node.w.lost[ref] {
		return fmt.Errorf("message %d of entry %d is live and cannot be read here: %w", ref.Slot, ref.Index, err)
	}
	return nil
}
