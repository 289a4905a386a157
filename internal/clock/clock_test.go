package clock_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/clock"
)

var start = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func TestRealClockRunsWithTheMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clock.Real()
		wall, mono := c.Now(), c.Mono()
		timer := c.NewTimer(3 * time.Second)
		<-timer.C()
		require.Equal(t, 3*time.Second, c.Mono()-mono)
		require.Equal(t, 3*time.Second, c.Now().Sub(wall))

		called := make(chan struct{})
		f := c.AfterFunc(time.Second, func() { close(called) })
		<-called
		require.False(t, f.Stop())
		require.False(t, timer.Reset(time.Hour))
		require.True(t, timer.Stop())
	})
}

func TestManualClockStandsStill(t *testing.T) {
	m := clock.NewManual(start)
	require.Equal(t, start, m.Now())
	require.Zero(t, m.Mono())
	m.Advance(90 * time.Second)
	require.Equal(t, start.Add(90*time.Second), m.Now())
	require.Equal(t, 90*time.Second, m.Mono())
	m.Advance(-time.Second)
	require.Equal(t, 90*time.Second, m.Mono(), "monotonic means it never goes back")
}

func TestWallJumpDoesNotFireTimers(t *testing.T) {
	m := clock.NewManual(start)
	timer := m.NewTimer(time.Second)
	m.SetWall(start.Add(time.Hour))
	m.Advance(999 * time.Millisecond)
	require.Empty(t, timer.C())
	m.Advance(time.Millisecond)
	require.Equal(t, start.Add(time.Hour+time.Second), <-timer.C())
}

func TestTimersFireInOrderOfDueTime(t *testing.T) {
	m := clock.NewManual(start)
	var fired []time.Duration
	note := func() { fired = append(fired, m.Mono()) }
	m.AfterFunc(3*time.Second, note)
	m.AfterFunc(time.Second, func() {
		note()
		m.AfterFunc(time.Second, note) // started by a timer, due within the same Advance
	})
	next, ok := m.Next()
	require.True(t, ok)
	require.Equal(t, time.Second, next)
	m.Advance(3 * time.Second)
	require.Equal(t, []time.Duration{time.Second, 2 * time.Second, 3 * time.Second}, fired)
	_, ok = m.Next()
	require.False(t, ok)
}

func TestStopAndResetLeaveNothingBehind(t *testing.T) {
	m := clock.NewManual(start)
	timer := m.NewTimer(time.Second)
	m.Advance(time.Second)
	require.False(t, timer.Stop(), "it had fired")
	require.Empty(t, timer.C(), "Stop takes back what was not read")

	require.False(t, timer.Reset(time.Second))
	require.True(t, timer.Reset(2*time.Second))
	m.Advance(time.Second)
	require.Empty(t, timer.C())
	m.Advance(time.Second)
	require.Len(t, timer.C(), 1)

	require.False(t, timer.Reset(0))
	require.True(t, timer.Stop())
}

func TestAwaitTimers(t *testing.T) {
	m := clock.NewManual(start)
	done := make(chan time.Time)
	go func() { done <- <-m.NewTimer(time.Minute).C() }()
	m.AwaitTimers(1)
	m.Advance(time.Minute)
	require.Equal(t, start.Add(time.Minute), <-done)
}
