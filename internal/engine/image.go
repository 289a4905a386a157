package engine

import (
	"encoding/binary"
	"errors"
	"iter"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/broker"
	"github.com/opencmq/cmq/internal/core/queue"
	"github.com/opencmq/cmq/internal/mutant"
	"github.com/opencmq/cmq/internal/set"
	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/store/reflog"
)

// An image, numbers little endian:
//
//	0  version                   1   2
//	1  length of broker's part   8
//	9  image of the broker
//	…  image of the references, which names the files beside the image
//
// The file that holds it has the checksum.
const (
	imageVersion = 2
	imageHeader  = 9
)

var errImage = errors.New("the image of the queues is damaged, or of a version this program does not know")

var (
	_ set.Machine    = (*Machine)(nil)
	_ set.References = (*Machine)(nil)
)

// StartImage implements set.Machine.
func (m *Machine) StartImage() {
	refs := m.refs.Load()
	m.image = &imageJob{m: m, refs: refs, frozen: refs.Freeze(), snapshot: m.b.Snapshot()}
}

// StepImage implements set.Machine.
func (m *Machine) StepImage(limit int) (done bool) { return m.image.snapshot.Step(limit) }

// TakeImage implements set.Machine.
func (m *Machine) TakeImage() set.ImageJob {
	j := m.image
	m.image = nil
	return j
}

// Restore implements set.Machine. Entries that are out may be in the image.
func (m *Machine) Restore(_ uint64, image []byte, files []reflog.File) error {
	m.abandon()
	m.image = nil
	if len(image) == 0 {
		m.empty()
		return nil
	}
	state, rest, err := splitImage(image)
	if err != nil {
		return err
	}
	b, err := broker.Decode(m.cfg.Set, state, m.cfg.options())
	if err != nil {
		return err
	}
	refs, err := reflog.Open(m.cfg.FS, m.cfg.Dir, m.cfg.Refs, rest, files)
	if err != nil {
		return err
	}
	m.b = b
	m.refs.Store(refs)
	return nil
}

// splitImage finds the two parts of an image.
func splitImage(image []byte) (state, refs []byte, err error) {
	if len(image) < imageHeader || image[0] != imageVersion {
		return nil, nil, errImage
	}
	n, rest := binary.LittleEndian.Uint64(image[1:]), image[imageHeader:]
	if n > uint64(len(rest)) {
		return nil, nil, errImage
	}
	return rest[:n], rest[n:], nil
}

// imageJob is an image on its way to the disk.
type imageJob struct {
	m        *Machine
	refs     *reflog.Log
	frozen   *reflog.Frozen
	snapshot *broker.Snapshot
}

// Run implements set.ImageJob.
func (j *imageJob) Run(throttle func(bytes int) error) (parts [][]byte, files []reflog.File, live store.Live, err error) {
	state := imageState{set: j.m.cfg.Set, parts: j.snapshot.Parts()}
	refs, files, err := j.frozen.Merge(needed{state}, throttle)
	if err != nil {
		return nil, nil, nil, err
	}
	size := 0
	for _, part := range state.parts {
		size += len(part)
	}
	parts = append(parts, binary.LittleEndian.AppendUint64([]byte{imageVersion}, uint64(size)))
	parts = append(append(parts, state.parts...), refs)
	return parts, files, &frozenLive{state, j.frozen, throttle}, nil
}

// Done implements set.ImageJob.
func (j *imageJob) Done(err error) {
	if j.m.refs.Load() != j.refs {
		return // replaced meanwhile
	}
	if err != nil {
		j.refs.Abandon(j.frozen)
	} else {
		j.refs.Install(j.frozen)
	}
}

// imageState is the broker's part of an image.
type imageState struct {
	set   cmq.SetID
	parts [][]byte
}

// needed tells the references which positions can still be asked for: those of messages, and those that tell how far
// retention and rewind window have come.
type needed struct{ imageState }

// Shards implements reflog.Needed.
func (n needed) Shards(f func(shard uint64, lanes iter.Seq2[int64, uint64]) error) error {
	return broker.WalkImage(n.set, n.parts, func(id cmq.ShardID, s *queue.Shard) error {
		return f(uint64(id), neededLanes(s))
	})
}

func neededLanes(s *queue.Shard) iter.Seq2[int64, uint64] {
	if mutant.On(mutant.ChunkLost) {
		// Half of each lane, so that small runs lose something too.
		return func(yield func(int64, uint64) bool) {
			s.Lanes(func(l queue.LaneInfo) bool { return yield(l.Lane, l.Needed+(l.Tail-l.Needed+1)/2) })
		}
	}
	return s.Needed
}

// imageLive tells which positions have messages that the image still needs. Those that are prepared have no positions;
// held is told of them.
type imageLive struct {
	imageState
	held func(shard cmq.ShardID, id cmq.MsgID, bytes uint32) error
}

// Shards implements reflog.Live.
func (l imageLive) Shards(f func(shard uint64, spans iter.Seq[reflog.Span]) error) error {
	return broker.WalkImage(l.set, l.parts, func(shard cmq.ShardID, s *queue.Shard) (err error) {
		s.Held(func(id cmq.MsgID, bytes uint32) bool {
			err = l.held(shard, id, bytes)
			return err == nil
		})
		if err != nil {
			return err
		}
		return f(uint64(shard), func(yield func(reflog.Span) bool) {
			s.Live(func(lane int64, lo, hi uint64) bool { return yield(reflog.Span{Lane: lane, Lo: lo, Hi: hi}) })
		})
	})
}

// frozenLive is what an image needs of the messages.
type frozenLive struct {
	imageState
	frozen   *reflog.Frozen
	throttle func(bytes int) error
}

// Weigh implements store.Live.
func (l *frozenLive) Weigh(f func(lo, hi, bytes uint64)) error {
	live := imageLive{l.imageState, func(_ cmq.ShardID, id cmq.MsgID, bytes uint32) error {
		if !mutant.On(mutant.PreparedNotLive) {
			f(id.Index(), id.Index()+1, max(uint64(bytes), 1))
		}
		return nil
	}}
	return l.frozen.Weigh(live, l.throttle, f)
}

// Each implements store.Live.
func (l *frozenLive) Each(lo, hi uint64, f func(store.Run) error) error {
	live := imageLive{l.imageState, func(_ cmq.ShardID, id cmq.MsgID, bytes uint32) error {
		if id.Index() < lo || id.Index() >= hi || mutant.On(mutant.PreparedNotLive) {
			return nil
		}
		return f(store.Run{Index: id.Index(), Slot: id.Slot(), N: 1, Bytes: bytes})
	}}
	return l.frozen.Each(live, lo, hi, l.throttle, func(_ reflog.Key, r reflog.Run) error {
		return f(store.Run{Index: r.Index, Slot: r.Slot, N: r.N, Bytes: r.Bytes})
	})
}

// Live implements set.Machine.
func (m *Machine) Live(image []byte, files []reflog.File) (store.Live, error) {
	if len(image) == 0 {
		return nothing{}, nil
	}
	state, rest, err := splitImage(image)
	if err != nil {
		return nil, err
	}
	refs, err := reflog.Open(m.cfg.FS, m.cfg.Dir, m.cfg.Refs, rest, files)
	if err != nil {
		return nil, err
	}
	return &frozenLive{imageState{m.cfg.Set, [][]byte{state}}, refs.Look(), nil}, nil
}

// nothing is what an empty set needs.
type nothing struct{}

// Weigh implements store.Live.
func (nothing) Weigh(func(lo, hi, bytes uint64)) error { return nil }

// Each implements store.Live.
func (nothing) Each(uint64, uint64, func(store.Run) error) error { return nil }
