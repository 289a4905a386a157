package sim

import (
	"math/rand/v2"
	"path"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/vfs"
)

// chunks are the files of references on a disk.
func chunks(d *vfs.Disk) []string {
	return slices.DeleteFunc(d.Files(), func(name string) bool { return path.Ext(name) != ".chunk" })
}

// ruin makes noise of the references on a disk, but for the beginning of the file.
func ruin(t *testing.T, rng *rand.Rand, d *vfs.Disk) {
	for _, name := range chunks(d) {
		require.NoError(t, d.Corrupt(name, 80, int(d.Size(name))-80, func(p []byte) {
			for i := range p {
				p[i] ^= byte(1 + rng.IntN(255))
			}
		}))
	}
}

// TestReferencesDamagedEverywhereAtDifferentPlaces: the same file is damaged on all replicas, by a byte or by a stretch of its own on each, and
// everything is there again.
func TestReferencesDamagedEverywhereAtDifferentPlaces(t *testing.T) {
	s := newScene(t)
	for _, length := range []int{1, 50} {
		rng := rand.New(rand.NewPCG(uint64(length), 3))
		got, w := s.play(t, func(disks []*vfs.Disk) []cmq.MsgID {
			for i, d := range disks {
				require.NotEmpty(t, chunks(d))
				for _, name := range chunks(d) {
					at := 80 + int64(i)*100 + rng.Int64N(20)
					require.Greater(t, d.Size(name), at+int64(length))
					require.NoError(t, d.Corrupt(name, at, length, func(p []byte) {
						for i := range p {
							p[i] ^= byte(1 + rng.IntN(255))
						}
					}))
				}
			}
			return nil
		})
		require.Equal(t, s.want, got)
		require.Zero(t, w.quarantined())
	}
}

// TestReferencesLostEverywhere: the file is missing on all replicas, or noise on all. What it led to is given up, each message when it would be
// received; everything else is delivered, and the replicas become whole.
func TestReferencesLostEverywhere(t *testing.T) {
	s := newScene(t)
	for name, damage := range map[string]func(d *vfs.Disk){
		"missing": func(d *vfs.Disk) {
			for _, name := range chunks(d) {
				require.NoError(t, d.Vanish(name))
			}
		},
		"noise": func(d *vfs.Disk) { ruin(t, rand.New(rand.NewPCG(uint64(d.Size(chunks(d)[0])), rand.Uint64())), d) },
	} {
		t.Run(name, func(t *testing.T) {
			defer replaceCryptoRand(s.cfg.Seed)()
			w := s.wake(func(disks []*vfs.Disk) []cmq.MsgID {
				for _, d := range disks {
					damage(d)
				}
				return nil
			})
			for _, n := range w.nodes {
				n.start()
			}
			s.givesUp(t, w)
		})
	}
}

// givesUp drains the queue: what comes is right, what does not is counted, and some of each.
func (s *scene) givesUp(t *testing.T, w *world) {
	t.Helper()
	got := w.emptied(t)
	for id, body := range got {
		require.Equal(t, s.want[id], body)
	}
	require.NotEmpty(t, got)
	require.Less(t, len(got), len(s.want))
	require.Equal(t, uint64(len(s.want)-len(got)), w.quarantined())
	w.untilWhole(t)
	w.atRest(t)
}

// TestReferencesOfAnAbsentReplicaAreWaitedFor: two replicas have lost their references, and the third, which is down, may have them.
func TestReferencesOfAnAbsentReplicaAreWaitedFor(t *testing.T) {
	s := newScene(t)
	defer replaceCryptoRand(s.cfg.Seed)()
	w := s.wake(func(disks []*vfs.Disk) []cmq.MsgID {
		for _, d := range disks[:2] {
			for _, name := range chunks(d) {
				require.NoError(t, d.Vanish(name))
			}
		}
		return nil
	})
	for _, n := range w.nodes[:2] {
		n.start()
	}
	a := w.newActor(w.queues[0], 0)
	end := w.now + 40*time.Second
	for w.now < end {
		over := false
		a.call(1, &cmq.Request{Kind: cmq.KindReceive, Shard: w.queues[0].shard, Max: 16, Lock: time.Second}, 3*time.Second, func(answer) { over = true })
		w.until(t, time.Minute, "an answer", func() bool { return over })
	}
	require.Zero(t, w.quarantined())
	w.nodes[2].start()
	require.Equal(t, s.want, w.emptied(t))
	require.Zero(t, w.quarantined())
	w.untilWhole(t)
	w.atRest(t)
}
