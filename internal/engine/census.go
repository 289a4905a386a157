package engine

import (
	"errors"
	"math"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/store/reflog"
)

// errCensus ends an image that was only made to be counted.
var errCensus = errors.New("the image was made for a census")

// Census calls f for every message that the state, as it is, still needs: queue by queue, in the order of the queue,
// what is prepared first, which has no position. What cannot be found because references are damaged is left out and given to
// lost in the end. It makes an image for that, with files of references in Config.FS, and forgets it: it is for those who look
// at a replica that does not run.
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
	err = l.frozen.Each(all, 0, math.MaxUint64, free, f)
	var partial *reflog.PartialError
	if !errors.As(err, &partial) {
		return err
	}
	for _, d := range partial.Damage {
		lost(d)
	}
	return nil
}

// References are the messages' places, for the operator's eyes.
func (m *Machine) References() *reflog.Log { return m.refs.Load() }
