package engine

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/store/reflog"
)

func TestRunsAreGivenUpToALimit(t *testing.T) {
	r := newRig(t)
	r.open(nil)
	for i := range 5 {
		r.send(fmt.Sprint(i), "x")
	}
	key := reflog.Key{Shard: uint64(testShard)}
	runs, err := r.m.Runs(key, 3, 9, 2)
	require.NoError(t, err)
	require.Len(t, runs, 2)
	require.Equal(t, uint64(3), runs[0].Seq)
	runs, err = r.m.Runs(key, 3, 9, 100)
	require.NoError(t, err)
	require.Equal(t, uint64(9), runs[len(runs)-1].Seq+uint64(runs[len(runs)-1].N))
}

func TestLanesBetween(t *testing.T) {
	r := newRig(t)
	var shards []cmq.ShardID
	for q := range cmq.QueueID(4) {
		id := (q + 1).Shard(0)
		shards = append(shards, id)
		a := cmq.DefaultQueueAttributes()
		r.do(&cmq.Request{Kind: cmq.KindOpenShard, Shard: id, Attributes: a.ShardAttributes(), Version: 1})
		for d := range time.Duration(3) {
			r.do(&cmq.Request{Kind: cmq.KindSend, Shard: id, Bodies: [][]byte{[]byte("x")}, Delay: d * time.Second})
		}
	}
	key := func(shard, lane int) reflog.Key {
		k := reflog.Key{Shard: uint64(shards[shard])}
		if lane > 0 {
			k.Lane = start + int64(lane)*1000
		}
		return k
	}
	require.Equal(t, []reflog.Key{key(1, 1), key(1, 2), key(2, 0), key(2, 1), key(2, 2), key(3, 0), key(3, 1)}, r.m.lanesBetween(key(1, 1), key(3, 1)))
	require.Equal(t, []reflog.Key{key(1, 1), key(1, 2)}, r.m.lanesBetween(key(1, 1), reflog.Key{Shard: key(1, 0).Shard, Lane: math.MaxInt64}))
}

// TestDamagedReferencesAreRepairedOnTheWay: what finds them damaged asks for them, and goes on.
func TestDamagedReferencesAreRepairedOnTheWay(t *testing.T) {
	damage := &reflog.DamageError{Key: reflog.Key{Shard: 1}, Last: reflog.Key{Shard: 1}, Lo: 2, Hi: 3}
	for _, heals := range []bool{true, false} {
		r := newRig(t)
		var asked []uint64
		r.m.cfg.RepairRefs = func(key reflog.Key, lo, hi uint64, done func(error)) {
			asked = append(asked, key.Shard, lo, hi)
			if heals {
				done(nil)
			} else {
				done(errSilent)
			}
		}
		var got error
		r.m.load(lookup{wants: []want{{what: func(*reflog.Log, *want) error { return damage }}}}, func(err error) { got = err })
		r.rest()
		require.Equal(t, []uint64{1, 2, 3}, asked)
		require.Equal(t, heals, got == nil)
	}
	r := newRig(t)
	other := errors.New("too many open files")
	r.m.load(lookup{wants: []want{{what: func(*reflog.Log, *want) error { return other }}}}, func(err error) { require.Equal(t, other, err) })
	r.rest()
}
