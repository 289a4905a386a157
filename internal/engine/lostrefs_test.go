package engine

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/set"
	"github.com/opencmq/cmq/internal/store/reflog"
	"github.com/opencmq/cmq/internal/vfs"
)

// chunked is a rig whose queue has so many messages whose references are in one file, which is returned; no more than the file knows of them.
func chunked(t *testing.T, n int, change func(*cmq.ShardAttributes)) (r *rig, file string) {
	r = newRig(t)
	r.m.cfg.Refs.TailBytes = 1
	r.m.empty()
	r.m.Lead(r.term)
	r.open(change)
	for i := range n {
		r.send(fmt.Sprint(i))
	}
	_, files := r.image()
	require.Len(t, files, 1)
	r.restart()
	return r, path.Join(r.m.cfg.Dir, files[0].Name)
}

// change writes over the end of a file, and returns what was there.
func (r *rig) change(file string, n int) (was []byte) {
	was, err := vfs.ReadFile(r.fs, file)
	require.NoError(r.t, err)
	f, err := r.fs.OpenFile(file, os.O_RDWR, 0)
	require.NoError(r.t, err)
	_, err = f.WriteAt(bytes.Repeat([]byte{0xa5}, n), int64(len(was)-n))
	require.NoError(r.t, err)
	require.NoError(r.t, f.Close())
	now, err := vfs.ReadFile(r.fs, file)
	require.NoError(r.t, err)
	require.NotEqual(r.t, was, now)
	return was
}

// repairs has what is damaged repaired from what is left of it here; what cannot be ends with an error.
func (r *rig) repairs(otherwise error) {
	r.m.cfg.RepairRefs = func(key reflog.Key, lo, hi uint64, done func(error)) {
		r.elsewhere = append(r.elsewhere, func() {
			if r.m.SalvageRefs(key, lo, hi, nil, nil) != nil {
				done(otherwise)
				return
			}
			done(nil)
		})
	}
}

// drain receives and deletes everything.
func (r *rig) drain() (got []string) {
	for range 100 {
		msgs := r.receive(16)
		got = append(got, bodies(msgs)...)
		for _, m := range msgs {
			require.Nil(r.t, r.delete(m.Handle)[0])
		}
		if s := r.status(); s.Active+s.Inactive == 0 {
			return got
		}
	}
	r.t.Fatal("the queue does not get empty")
	return nil
}

func numbers(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprint(i))
	}
	return list
}

// TestOneWrongByteOfReferencesLosesNothing, although nobody else has them.
func TestOneWrongByteOfReferencesLosesNothing(t *testing.T) {
	r, file := chunked(t, 100, nil)
	r.change(file, 1)
	r.repairs(set.ErrLost)
	require.Equal(t, numbers(100), r.drain())
	require.Zero(t, r.m.Stats().Quarantined.Load())
}

// TestMessagesWithoutReferencesAreQuarantined: nothing leads to them, on no replica. They are deleted as they come, and what is behind them is
// delivered. It is logged once.
func TestMessagesWithoutReferencesAreQuarantined(t *testing.T) {
	r, file := chunked(t, 100, nil)
	var logged bytes.Buffer
	r.m.cfg.Logger = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelError}))
	r.change(file, 100)
	r.repairs(set.ErrLost)
	r.send("behind", "them")
	require.Equal(t, []string{"behind", "them"}, r.drain())
	require.EqualValues(t, 100, r.m.Stats().Quarantined.Load())
	require.Equal(t, 1, bytes.Count(logged.Bytes(), []byte("\n")), logged.String())
	require.Contains(t, logged.String(), "from=0 to=100")
	_, files := r.image()
	require.Empty(t, files, "nothing is left of it")
}

// TestReferencesThatMayComeBackAreWaitedFor: as long as somebody who may have them does not answer, nothing is deleted.
func TestReferencesThatMayComeBackAreWaitedFor(t *testing.T) {
	r, file := chunked(t, 100, nil)
	was := r.change(file, 100)
	r.repairs(set.ErrUnsure)
	a, _ := r.submit(&cmq.Request{Kind: cmq.KindReceive, Max: 16})
	r.settle()
	require.ErrorAs(t, a.err, new(*reflog.DamageError))
	require.Zero(t, r.m.Stats().Quarantined.Load())
	require.EqualValues(t, 16, r.status().Inactive)
	f, err := r.fs.OpenFile(file, os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(was, 0)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	r.pass(time.Minute)
	require.ElementsMatch(t, numbers(100), r.drain())
}

// TestDeadLettersWithoutReferencesAreForgotten, each when it is the first.
func TestDeadLettersWithoutReferencesAreForgotten(t *testing.T) {
	r, file := chunked(t, 70, func(a *cmq.ShardAttributes) {
		a.DeadLetter = cmq.DeadLetterPolicy{Queue: 9, Policy: cmq.PolicyReceives, MaxReceiveCount: 1}
	})
	require.Len(t, r.receive(3), 3)
	r.pass(31 * time.Second)
	r.receive(1) // the three are dead by now
	r.restart()
	r.change(file, 100)
	r.repairs(set.ErrLost)
	for range 3 {
		require.Empty(t, r.do(&cmq.Request{Kind: cmq.KindDeadList, Max: 10}).Messages)
		r.settle()
	}
	require.EqualValues(t, 3, r.m.Stats().Quarantined.Load())
}
