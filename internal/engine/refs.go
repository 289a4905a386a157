package engine

import (
	"math"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/broker"
	"github.com/opencmq/cmq/internal/store/reflog"
)

// Runs implements set.References.
func (m *Machine) Runs(key reflog.Key, lo, hi uint64, limit int) (runs []reflog.Run, err error) {
	return m.refs.Load().Readable(key, lo, hi, limit)
}

// WreckRefs implements set.References.
func (m *Machine) WreckRefs(key reflog.Key, lo, hi uint64, limit int) []byte {
	return m.refs.Load().Wreck(key, lo, hi, limit)
}

// VerifyRefs implements set.References.
func (m *Machine) VerifyRefs(throttle func(bytes int) error, report func(key reflog.Key, lo, hi uint64)) error {
	return m.refs.Load().Verify(throttle, func(d *reflog.DamageError) {
		m.cfg.Logger.Warn("references are damaged", "set", m.cfg.Set, "err", d)
		if d.Key == d.Last {
			report(d.Key, d.Lo, d.Hi)
			return
		}
		for _, k := range m.lanesBetween(d.Key, d.Last) {
			lo, hi := uint64(0), uint64(math.MaxUint64)
			if k == d.Key {
				lo = d.Lo
			}
			if k == d.Last {
				hi = d.Hi
			}
			report(k, lo, hi)
		}
	})
}

// lanesBetween lists the lanes from first to last that have anything.
func (m *Machine) lanesBetween(first, last reflog.Key) (keys []reflog.Key) {
	m.cfg.Exec(func() {
		m.b.Shards(func(id cmq.ShardID) bool {
			shard := uint64(id)
			if shard < first.Shard || shard > last.Shard {
				return shard < first.Shard
			}
			from := int64(0)
			if shard == first.Shard {
				from = first.Lane
			}
			m.b.LanesFrom(id, from, func(l broker.LaneInfo) bool {
				if shard == last.Shard && l.Lane > last.Lane {
					return false
				}
				keys = append(keys, reflog.Key{Shard: shard, Lane: l.Lane})
				return true
			})
			return true
		})
	})
	return keys
}

// RepairRefs implements set.References.
func (m *Machine) RepairRefs(key reflog.Key, lo, hi uint64, runs []reflog.Run) {
	m.refs.Load().Repair(key, lo, hi, runs)
}

// SalvageRefs implements set.References.
func (m *Machine) SalvageRefs(key reflog.Key, lo, hi uint64, runs []reflog.Run, wrecks [][]byte) error {
	return m.refs.Load().Salvage(key, lo, hi, runs, wrecks)
}
