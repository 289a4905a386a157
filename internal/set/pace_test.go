package set

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
)

// always is a disk that takes as long for each write.
func always(d time.Duration) func() time.Duration { return func() time.Duration { return d } }

// onDisks is a set that node 1 leads, whose disks take their time.
func onDisks(t *testing.T, own, others time.Duration) (*trio, *member) {
	c := newTrio(t)
	l := c.elect(1)
	c.disks = map[cmq.NodeID]func() time.Duration{1: always(own), 2: always(others), 3: always(others)}
	return c, l
}

// load has an entry proposed whenever one can be, for that long or until the leader leads no more, and gives how long it was.
func (c *trio) load(l *member, long time.Duration) time.Duration {
	const step = time.Millisecond
	start := c.now
	for c.now-start < long && l.m.leading {
		c.now += step
		if len(l.m.queue) == 0 {
			l.m.queue = append(l.m.queue, "x")
		}
		for _, id := range c.voters {
			if m := c.members[id]; c.now%TickInterval == 0 {
				m.r.Tick(c.clock())
			}
		}
		c.work()
	}
	return c.now - start
}

func TestLeaderWhoseDiskBecomesSlowHandsOverAfterTwoSeconds(t *testing.T) {
	rows := map[string]struct {
		before, own, others time.Duration
		hands               bool
	}{
		"slow by 200 ms":         {2 * time.Millisecond, 200 * time.Millisecond, 2 * time.Millisecond, true},
		"slow by 900 ms":         {2 * time.Millisecond, 900 * time.Millisecond, 2 * time.Millisecond, true},
		"six times as slow":      {10 * time.Millisecond, 60 * time.Millisecond, 10 * time.Millisecond, true},
		"a little slower":        {10 * time.Millisecond, 45 * time.Millisecond, 10 * time.Millisecond, false},
		"slow, but fast enough":  {1 * time.Millisecond, 5 * time.Millisecond, 1 * time.Millisecond, false},
		"as slow as all of them": {200 * time.Millisecond, 200 * time.Millisecond, 200 * time.Millisecond, false},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			c, l := onDisks(t, row.before, row.others)
			require.Equal(t, 5*time.Second, c.load(l, 5*time.Second))
			require.InDelta(t, row.before, l.r.Report(c.clock()).Sync, float64(2*time.Millisecond))
			c.disks[1] = always(row.own)
			led := c.load(l, 5*time.Second)
			require.Equal(t, row.hands, !l.m.leading)
			if row.hands {
				require.GreaterOrEqual(t, led, slowFor, "it is watched for two seconds")
				require.LessOrEqual(t, led, slowFor+2*TickInterval)
			}
		})
	}
}

// The rule counts time, not writes: also of a set that has written hardly anything.
func TestLeaderThatWasSlowFromTheBeginningHandsOver(t *testing.T) {
	c, l := onDisks(t, 200*time.Millisecond, 2*time.Millisecond)
	led := c.load(l, 10*time.Second)
	require.False(t, l.m.leading)
	require.LessOrEqual(t, led, slowFor+(syncsLeast+1)*200*time.Millisecond, "the others' disks are known after a few writes")
}

func TestDiskThatHesitatesNowAndThenIsNotSlow(t *testing.T) {
	c, l := onDisks(t, 2*time.Millisecond, 2*time.Millisecond)
	n := 0
	c.disks[1] = func() time.Duration {
		if n++; n%3 == 0 {
			return 300 * time.Millisecond
		}
		return 2 * time.Millisecond
	}
	require.Equal(t, 20*time.Second, c.load(l, 20*time.Second))
}

func TestDiskThatAnswersQuicklyNowAndThenIsSlow(t *testing.T) {
	c, l := onDisks(t, 2*time.Millisecond, 2*time.Millisecond)
	c.load(l, 3*time.Second)
	n := 0
	c.disks[1] = func() time.Duration {
		if n++; n%3 == 0 {
			return 2 * time.Millisecond
		}
		return 200 * time.Millisecond
	}
	led := c.load(l, 5*time.Second)
	require.False(t, l.m.leading)
	require.LessOrEqual(t, led, slowFor+4*TickInterval)
}

// A leader that writes seldom and was slow a few times is let alone.
func TestSlowWritesOfAMomentAreTooFewToTell(t *testing.T) {
	c, l := onDisks(t, 2*time.Millisecond, 2*time.Millisecond)
	c.load(l, 3*time.Second)
	c.disks[1] = always(300 * time.Millisecond)
	for range 2 {
		c.load(l, 350*time.Millisecond)
	}
	l.m.queue = nil
	c.disks[1] = always(2 * time.Millisecond)
	c.tick(100)
	require.True(t, l.m.leading)
}

func TestSlowDiskIsNotHandedTheLeadership(t *testing.T) {
	c, l := onDisks(t, 20*time.Millisecond, 20*time.Millisecond)
	c.load(l, 3*time.Second)
	c.disks[1], c.disks[2] = always(300*time.Millisecond), always(250*time.Millisecond)
	c.load(l, 4*time.Second)
	require.False(t, l.m.leading)
	require.Equal(t, cmq.NodeID(3), c.leader().id)
}

// With nobody to hand over to, the leader goes on, and tries again later.
func TestSlowLeaderThatCannotHandOverTriesAgain(t *testing.T) {
	c, l := onDisks(t, 2*time.Millisecond, 2*time.Millisecond)
	c.load(l, 3*time.Second)
	c.crash(2)
	c.disks[1], c.disks[3] = always(200*time.Millisecond), always(190*time.Millisecond)
	require.Equal(t, 6*time.Second, c.load(l, 6*time.Second))
	c.disks[3] = always(2 * time.Millisecond)
	c.load(l, slowRest+slowFor)
	require.False(t, l.m.leading)
}

func TestMedianIsOfTheLastTwoSeconds(t *testing.T) {
	var p pace
	at := func(ms int) time.Duration { return time.Duration(ms) * time.Millisecond }
	for i := range syncsLeast - 1 {
		p.note(at(i), at(1))
		require.Zero(t, p.median)
	}
	for i := range 2 * syncsKept {
		p.note(at(10+i), at(1))
	}
	require.Equal(t, at(1), p.median)
	p.note(at(5000), at(50))
	require.Equal(t, at(1), p.median, "the latest five")
	p.note(at(5001), at(50))
	p.note(at(5002), at(50))
	require.Equal(t, at(50), p.median)
}
