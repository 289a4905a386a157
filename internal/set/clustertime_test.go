package set

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/opencmq/cmq/internal/cmq"
)

const epoch = int64(1_700_000_000_000)

func nowAt(mono time.Duration, wall int64) Now { return Now{Mono: mono, Wall: wall} }

func TestFollowerIsLateButNeverEarly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		leader := clusterTime{}
		require.True(t, leader.start(nowAt(0, epoch), 1, 1, []uint64{1}, 0))
		var follower clusterTime
		// The follower's clock runs at the leader's rate, from another base.
		base := time.Duration(rapid.Int64Range(0, 1e12).Draw(t, "base"))
		at := time.Duration(0)
		for range rapid.IntRange(1, 20).Draw(t, "messages") {
			at += time.Duration(rapid.Int64Range(1, int64(100*time.Millisecond)).Draw(t, "gap"))
			delay := time.Duration(rapid.Int64Range(0, int64(time.Second)).Draw(t, "delay"))
			said := leader.at(nowAt(at, epoch))
			at += delay
			follower.heard(said, 1, nowAt(base+at, 0))
			later := time.Duration(rapid.Int64Range(0, int64(10*time.Second)).Draw(t, "later"))
			estimate, truth := follower.at(nowAt(base+at+later, 0)), leader.at(nowAt(at+later, epoch))
			require.LessOrEqual(t, estimate, truth)
			require.GreaterOrEqual(t, estimate, truth-delay.Milliseconds()-2)
		}
	})
}

func TestNewLeaderGoesOnWhereTheOldOneWas(t *testing.T) {
	var c clusterTime
	c.heard(epoch+5000, 2, nowAt(time.Minute, epoch+24*3600_000)) // its wall clock is a day ahead
	now := nowAt(time.Minute+2*time.Second, epoch+24*3600_000)
	require.True(t, c.start(now, 3, 2, []uint64{1, 2, 3}, 0))
	require.Equal(t, epoch+7000, c.at(now))
}

func TestColdLeaderWaitsForAQuorumAndTakesTheMedian(t *testing.T) {
	var c clusterTime
	now := nowAt(time.Second, epoch+3600_000)
	require.False(t, c.start(now, 3, 1, []uint64{1, 2, 3}, 0))
	c.peer(2, &Message{Wall: epoch}, now)
	c.peer(3, &Message{Wall: epoch + 10}, now)
	require.True(t, c.start(now, 3, 1, []uint64{1, 2, 3}, 0))
	require.Equal(t, epoch+10, c.at(now))
}

func TestColdLeaderBelievesAWarmReplicaMoreThanWallClocks(t *testing.T) {
	var c clusterTime
	now := nowAt(time.Second, epoch+3600_000)
	c.peer(2, &Message{Wall: epoch + 7200_000, Time: epoch + 42, Warm: true}, now)
	require.True(t, c.start(now, 3, 1, []uint64{1, 2, 3}, 0))
	require.Equal(t, epoch+42, c.at(now))
}

func TestTimeNeverGoesBelowTheNewestBatch(t *testing.T) {
	var c clusterTime
	now := nowAt(time.Second, epoch)
	require.True(t, c.start(now, 3, 1, []uint64{1}, epoch+500))
	require.Equal(t, epoch+500, c.at(now))
}

func TestSlewIsBounded(t *testing.T) {
	for name, wall := range map[string]int64{"ahead": epoch + 3600_000, "behind": epoch - 3600_000} {
		t.Run(name, func(t *testing.T) {
			var c clusterTime
			require.True(t, c.start(nowAt(0, epoch), 3, 1, []uint64{1}, 0))
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

// TestTimeIsThatOfTheNewestLeader: one that began late is behind what its predecessor would say, and locks are kept by the newest.
func TestTimeIsThatOfTheNewestLeader(t *testing.T) {
	var c clusterTime
	now := nowAt(time.Minute, 0)
	c.heard(epoch+100, 4, now)
	c.heard(epoch, 5, now)
	require.Equal(t, epoch, c.at(now))
	c.heard(epoch+100, 4, now)
	require.Equal(t, epoch, c.at(now))
	c.forget(5)
	require.Equal(t, epoch, c.at(now))
	c.forget(6) // entries of a leader that was never heard are here
	require.Zero(t, c.at(now))
}

func TestReplicaInRepairHearsTheTime(t *testing.T) {
	c := newTrio(t)
	l := c.elect(1)
	c.fillUp(l, 100)
	c.tick(2)
	c.crash(2)
	c.lose = func(_ cmq.NodeID, e Envelope) bool { return e.Answer != nil }
	c.bootDamaged(2, span{lo: 30, hi: 35})
	c.tick(5)
	m := c.members[2]
	require.NotNil(t, m.r.repair)
	require.Equal(t, l.r.term, m.r.clock.term)
	require.NotZero(t, m.r.clock.at(c.clock()))
	m.r.clock.term-- // as if it had heard only an older one
	c.lose = func(_ cmq.NodeID, e Envelope) bool { return e.Raft != nil }
	for m.r.repair != nil {
		c.tick(1)
	}
	require.Zero(t, m.r.clock.at(c.clock()))
	c.lose = nil
	c.tick(60)
	require.NotZero(t, m.r.clock.at(c.clock()))
}
