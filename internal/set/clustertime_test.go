package set

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const epoch = int64(1_700_000_000_000)

func nowAt(mono time.Duration, wall int64) Now { return Now{Mono: mono, Wall: wall} }

func TestFollowerIsLateButNeverEarly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		leader := clusterTime{}
		require.True(t, leader.start(nowAt(0, epoch), 1, []uint64{1}, 0))
		var follower clusterTime
		// The follower's clock runs at the leader's rate, from another base.
		base := time.Duration(rapid.Int64Range(0, 1e12).Draw(t, "base"))
		at := time.Duration(0)
		for range rapid.IntRange(1, 20).Draw(t, "messages") {
			at += time.Duration(rapid.Int64Range(1, int64(100*time.Millisecond)).Draw(t, "gap"))
			delay := time.Duration(rapid.Int64Range(0, int64(time.Second)).Draw(t, "delay"))
			said := leader.at(nowAt(at, epoch))
			at += delay
			follower.heard(said, nowAt(base+at, 0))
			later := time.Duration(rapid.Int64Range(0, int64(10*time.Second)).Draw(t, "later"))
			estimate, truth := follower.at(nowAt(base+at+later, 0)), leader.at(nowAt(at+later, epoch))
			require.LessOrEqual(t, estimate, truth)
			require.GreaterOrEqual(t, estimate, truth-delay.Milliseconds()-2)
		}
	})
}

func TestNewLeaderGoesOnWhereTheOldOneWas(t *testing.T) {
	var c clusterTime
	c.heard(epoch+5000, nowAt(time.Minute, epoch+24*3600_000)) // its wall clock is a day ahead
	now := nowAt(time.Minute+2*time.Second, epoch+24*3600_000)
	require.True(t, c.start(now, 2, []uint64{1, 2, 3}, 0))
	require.Equal(t, epoch+7000, c.at(now))
}

func TestColdLeaderWaitsForAQuorumAndTakesTheMedian(t *testing.T) {
	var c clusterTime
	now := nowAt(time.Second, epoch+3600_000)
	require.False(t, c.start(now, 1, []uint64{1, 2, 3}, 0))
	c.peer(2, &Message{Wall: epoch}, now)
	c.peer(3, &Message{Wall: epoch + 10}, now)
	require.True(t, c.start(now, 1, []uint64{1, 2, 3}, 0))
	require.Equal(t, epoch+10, c.at(now))
}

func TestColdLeaderBelievesAWarmReplicaMoreThanWallClocks(t *testing.T) {
	var c clusterTime
	now := nowAt(time.Second, epoch+3600_000)
	c.peer(2, &Message{Wall: epoch + 7200_000, Time: epoch + 42, Warm: true}, now)
	require.True(t, c.start(now, 1, []uint64{1, 2, 3}, 0))
	require.Equal(t, epoch+42, c.at(now))
}

func TestTimeNeverGoesBelowTheNewestBatch(t *testing.T) {
	var c clusterTime
	now := nowAt(time.Second, epoch)
	require.True(t, c.start(now, 1, []uint64{1}, epoch+500))
	require.Equal(t, epoch+500, c.at(now))
}

func TestSlewIsBounded(t *testing.T) {
	for name, wall := range map[string]int64{"ahead": epoch + 3600_000, "behind": epoch - 3600_000} {
		t.Run(name, func(t *testing.T) {
			var c clusterTime
			require.True(t, c.start(nowAt(0, epoch), 1, []uint64{1}, 0))
			mono := time.Duration(0)
			for range 20 * 1000 { // 1000 s in ticks
				mono += 50 * time.Millisecond
				c.steer(nowAt(mono, wall+mono.Milliseconds()))
			}
			drift := c.at(nowAt(mono, 0)) - epoch - mono.Milliseconds()
			require.InDelta(t, 0, drift, 1000*0.5+2, "500 ppm of 1000 s")
			require.NotZero(t, drift)
		})
	}
}
