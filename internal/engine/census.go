package engine

import (
	"errors"
	"iter"
	"math"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/store/reflog"
)

// errCensus ends an image that was only made to be counted.
var errCensus = errors.New("the image was made for a census")

// Census calls f for every message that the state, as it is, still needs: queue by queue, in the order of the queue,
// what is prepared first, which has no position. What
// cannot be found because references are damaged is given to lost, and the rest of its shard is left out. It makes an image for that,
// with files of references in Config.FS, and forgets it: it is for those who look at a replica that does not run.
func (m *Machine) Census(f func(key reflog.Key, r reflog.Run) error, lost func(*reflog.DamageError)) error {
	m.StartImage()
	for !m.StepImage(math.MaxInt32) {
	}
	job := m.TakeImage().(*imageJob)
	defer job.Done(errCensus)
	free := func(int) error { return nil }
	_, _, live, err := job.Run(free)
	if err != nil {
		return err
	}
	l := live.(*frozenLive)
	all := imageLive{l.imageState, func(shard cmq.ShardID, id cmq.MsgID, bytes uint32) error {
		return f(reflog.Key{Shard: uint64(shard)}, reflog.Run{Index: id.Index(), Slot: id.Slot(), N: 1, Bytes: bytes})
	}}
	return l.frozen.Each(lenient{all, lost}, 0, math.MaxUint64, free, f)
}

// lenient goes on with the next shard where references are damaged.
type lenient struct {
	imageLive
	lost func(*reflog.DamageError)
}

// Shards implements reflog.Live.
func (l lenient) Shards(f func(shard uint64, spans iter.Seq[reflog.Span]) error) error {
	return l.imageLive.Shards(func(shard uint64, spans iter.Seq[reflog.Span]) error {
		err := f(shard, spans)
		var damage *reflog.DamageError
		if errors.As(err, &damage) {
			l.lost(damage)
			return nil
		}
		return err
	})
}

// References are the messages' places, for the operator's eyes.
func (m *Machine) References() *reflog.Log { return m.refs.Load() }
