package course

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
)

var start = time.Unix(1_700_000_000, 0)

func subscription(change ...func(s *cmq.Subscription)) *cmq.Subscription {
	s := &cmq.Subscription{ID: 7, Name: "s", Strategy: cmq.ExponentialRetry}
	for _, f := range change {
		f(s)
	}
	return s
}

// begun is a course that knows that nothing was locked before.
func begun(t *testing.T, s *cmq.Subscription) *Course {
	c := New(s)
	require.Equal(t, cmq.KindStatus, c.Next(start).Ask.Kind)
	require.Empty(t, c.Answered(start, &cmq.Reply{}, nil))
	return c
}

// try receives one message, which is handed out for the nth time.
func (c *Course) try(t *testing.T, now time.Time, id cmq.MsgID, n int) *Try {
	require.NotNil(t, c.Next(now).Ask)
	m := cmq.Message{ID: id, Handle: cmq.Handle(n), DequeueCount: n, Enqueued: start, NextVisible: now.Add(LockTime)}
	tries := c.Answered(now, &cmq.Reply{Messages: []cmq.Message{m}}, nil)
	require.Len(t, tries, 1)
	return tries[0]
}

var (
	done    = &cmq.Reply{Errors: []*cmq.Error{nil}}
	refused = &cmq.Reply{Errors: []*cmq.Error{cmq.ErrHandleInvalid}}
)

func TestFates(t *testing.T) {
	later := start.Add(time.Minute)
	for name, row := range map[string]struct {
		change func(s *cmq.Subscription)
		try    int
		o      Outcome
		fate   Fate
		write  cmq.Request
	}{
		"taken":                       {nil, 1, Outcome{Taken: true}, Delivered, cmq.Request{Kind: cmq.KindDelete}},
		"first failure":               {nil, 1, Outcome{}, Again, cmq.Request{Kind: cmq.KindRelock, Lock: time.Second}},
		"fifth failure":               {nil, 5, Outcome{}, Again, cmq.Request{Kind: cmq.KindRelock, Lock: 16 * time.Second}},
		"it asks for more":            {nil, 5, Outcome{After: 40 * time.Second}, Again, cmq.Request{Kind: cmq.KindRelock, Lock: 40 * time.Second}},
		"the last":                    {nil, 177, Outcome{}, Dropped, cmq.Request{Kind: cmq.KindDelete}},
		"the last, with dead letters": {func(s *cmq.Subscription) { s.Push.DeadLetter = 9 }, 177, Outcome{}, Dead, cmq.Request{Kind: cmq.KindRelock}},
		"backoff":                     {func(s *cmq.Subscription) { s.Strategy = cmq.BackoffRetry }, 3, Outcome{Random: 0.5}, Again, cmq.Request{Kind: cmq.KindRelock, Lock: 24 * time.Second}},
		"the last of backoff":         {func(s *cmq.Subscription) { s.Strategy = cmq.BackoffRetry }, 4, Outcome{}, Dropped, cmq.Request{Kind: cmq.KindDelete}},
	} {
		t.Run(name, func(t *testing.T) {
			s := subscription()
			if row.change != nil {
				row.change(s)
			}
			v := begun(t, s).try(t, later, 1, row.try).Ended(later, row.o)
			require.Equal(t, row.fate, v.Fate)
			row.write.Shard, row.write.Handles = s.ID.Shard(), []cmq.Handle{cmq.Handle(row.try)}
			require.Equal(t, &row.write, v.Write)
			require.Equal(t, row.fate == Again, v.Wait > 0)
		})
	}
}

// TestAWrongClockDoesNotEndTheDay: how old a message is, its set says; this node's clock may be days ahead or behind.
func TestAWrongClockDoesNotEndTheDay(t *testing.T) {
	for _, off := range []time.Duration{-50 * time.Hour, 50 * time.Hour} {
		c, now := begun(t, subscription()), start.Add(off)
		for _, row := range []struct {
			age  time.Duration
			fate Fate
		}{{time.Hour, Again}, {23*time.Hour + 50*time.Minute, Again}, {24 * time.Hour, Dropped}} {
			require.NotNil(t, c.Next(now).Ask)
			m := cmq.Message{ID: 1, DequeueCount: 10, Enqueued: start, NextVisible: start.Add(row.age + LockTime)}
			try := c.Answered(now, &cmq.Reply{Messages: []cmq.Message{m}}, nil)[0]
			now = now.Add(time.Second)
			require.Equal(t, row.fate, try.Ended(now, Outcome{}).Fate, "%v, clock off by %v", row.age, off)
			try.Written(now, refused, nil)
		}
	}
}

// TestAnOutcomeIsWrittenWhileTheLockHolds: with growing pauses, and no longer.
func TestAnOutcomeIsWrittenWhileTheLockHolds(t *testing.T) {
	c := begun(t, subscription())
	try := c.try(t, start, 1, 1)
	try.Ended(start, Outcome{Taken: true})
	pause, end := try.Written(start, nil, cmq.ErrBusy)
	require.Equal(t, firstRetry, pause)
	require.Zero(t, end)
	pause, _ = try.Written(start, nil, cmq.ErrBusy)
	require.Equal(t, 2*firstRetry, pause)
	pause, end = try.Written(start.Add(LockTime), nil, cmq.ErrBusy)
	require.Zero(t, pause)
	require.Equal(t, End{Lost: true}, end)
}

func TestALockThatIsKeptHoldsLonger(t *testing.T) {
	c := begun(t, subscription())
	try := c.try(t, start, 1, 1)
	require.Equal(t, LockTime, try.Keep().Lock)
	try.Kept(start.Add(KeepEvery), refused, nil) // does not count
	try.Kept(start.Add(KeepEvery), done, nil)
	try.Ended(start.Add(KeepEvery), Outcome{Taken: true})
	pause, _ := try.Written(start.Add(LockTime), nil, cmq.ErrBusy)
	require.NotZero(t, pause)
	pause, _ = try.Written(start.Add(KeepEvery+LockTime), nil, cmq.ErrBusy)
	require.Zero(t, pause)
}

// TestWhatIsCalledLost: only what was taken, and is surely not written.
func TestWhatIsCalledLost(t *testing.T) {
	taken := func() *Try {
		try := begun(t, subscription()).try(t, start, 1, 1)
		try.Ended(start, Outcome{Taken: true})
		return try
	}
	_, end := taken().Written(start, refused, nil)
	require.True(t, end.Lost)
	_, end = taken().Written(start, nil, cmq.ErrQueueNotExist)
	require.False(t, end.Lost)
	unclear := taken()
	unclear.Written(start, nil, cmq.ErrUnknownOutcome)
	_, end = unclear.Written(start, refused, nil)
	require.False(t, end.Lost, "the first attempt may have written it")
	require.True(t, taken().Cut().Lost)
	require.False(t, begun(t, subscription()).try(t, start, 1, 1).Cut().Lost, "nobody has taken it")
}

// TestCircuit: failures in a row open it, then only what is due is asked for; a success closes it.
func TestCircuit(t *testing.T) {
	c, now := begun(t, subscription()), start
	for i := range OpenAfter {
		try := c.try(t, now, cmq.MsgID(i+1), 1)
		try.Ended(now, Outcome{})
		_, end := try.Written(now, done, nil)
		require.Equal(t, i == OpenAfter-1, end.Opened)
	}
	require.True(t, c.Open())
	require.Equal(t, Step{Until: now.Add(time.Second)}, c.Next(now), "the first retry")
	now = now.Add(time.Second)
	require.Equal(t, OpenAfter, c.Next(now).Ask.Max, "all that are due")
	try := c.try(t, now, 1, 2)
	try.Ended(now, Outcome{Taken: true})
	_, end := try.Written(now, done, nil)
	require.True(t, end.Closed)
	require.False(t, c.Open())
}

// TestStrangersOfOthers: where others deliver too, a message of theirs is no sign that one's own have gone, and theirs are asked
// for every second, also for a while after they have gone.
func TestStrangersOfOthers(t *testing.T) {
	for _, shared := range []bool{true, false} {
		c, now := begun(t, subscription()), start
		c.Share(shared, now)
		fail := func(id cmq.MsgID, n int) {
			try := c.try(t, now, id, n)
			try.Ended(now, Outcome{After: time.Hour})
			try.Written(now, done, nil)
		}
		for i := range OpenAfter {
			try := c.try(t, now, cmq.MsgID(i+1), 1)
			try.Ended(now, Outcome{})
			try.Written(now, done, nil)
		}
		now = now.Add(time.Second)
		fail(100, 2) // a stranger comes first
		step := c.Next(now)
		require.Equal(t, shared, step.Ask != nil, "the own ones are due still, if this one was another's retry")
		if !shared {
			require.Equal(t, now.Add(probeEvery), step.Until)
			continue
		}
		for i := range OpenAfter {
			fail(cmq.MsgID(i+1), 2)
		}
		require.Equal(t, now.Add(strangeEvery), c.Next(now).Until)
		c.Share(false, now)
		require.Equal(t, now.Add(strangeEvery), c.Next(now).Until)
		now = now.Add(strangeTime)
		fail(101, 3)
		require.Equal(t, now.Add(probeEvery), c.Next(now).Until)
	}
}

func TestPausesOfReceiving(t *testing.T) {
	c, now := begun(t, subscription()), start
	for _, row := range []struct {
		err   error
		pause time.Duration
	}{
		{cmq.ErrBusy, firstRetry}, {cmq.ErrBusy, 2 * firstRetry}, {cmq.ErrTooMany, heldUp}, {cmq.ErrBusy, 4 * firstRetry},
	} {
		require.NotNil(t, c.Next(now).Ask)
		c.Answered(now, nil, row.err)
		require.Equal(t, Step{Until: now.Add(row.pause)}, c.Next(now))
		now = now.Add(row.pause)
	}
	c.Answered(now, &cmq.Reply{}, nil)
	require.NotNil(t, c.Next(now).Ask)
	c.Answered(now, nil, cmq.ErrBusy)
	require.Equal(t, Step{Until: now.Add(firstRetry)}, c.Next(now), "a reply begins the pauses anew")
}
