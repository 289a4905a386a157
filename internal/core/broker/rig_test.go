package broker

import (
	"testing"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/command"
)

// rig applies batches to a broker the way a set does: built, parsed, applied.
type rig struct {
	t       testing.TB
	b       *Broker
	out     Output
	builder *command.Builder
}

func newRig(t testing.TB) *rig {
	return &rig{t: t, b: New(7, Options{}), builder: command.NewBuilder()}
}

// build makes one batch of the operations.
func (r *rig) build(now int64, ops ...command.Op) command.Batch {
	r.t.Helper()
	r.builder.Reset(1, r.b.index+1)
	for _, op := range ops {
		r.builder.Add(op)
	}
	batch, err := command.Parse(r.builder.Finish(now))
	if err != nil {
		r.t.Fatal(err)
	}
	return batch
}

// apply applies one batch of the operations and gives its results.
func (r *rig) apply(now int64, ops ...command.Op) []Result {
	r.t.Helper()
	if err := r.b.Apply(r.b.Index()+1, r.build(now, ops...), &r.out); err != nil {
		r.t.Fatal(err)
	}
	return r.out.Results
}

// one applies a batch of one operation.
func (r *rig) one(now int64, op command.Op) Result { return r.apply(now, op)[0] }

// bodies makes n bodies.
func bodies(n int) [][]byte {
	list := make([][]byte, n)
	for i := range list {
		list[i] = []byte{'m', byte(i)}
	}
	return list
}

func counts(st cmq.ShardStatus) [4]int64 {
	return [4]int64{st.Active, st.Inactive, st.Delayed, st.Rewindable}
}
