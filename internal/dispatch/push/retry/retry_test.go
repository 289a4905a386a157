package retry

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
)

var published = time.Unix(1_700_000_000, 0)

// follow gives the moments of all tries after publishing, if each fails after it took so long.
func follow(s cmq.Strategy, random float64, after, took time.Duration) (at []time.Duration) {
	now := published
	for try := 1; ; try++ {
		at = append(at, now.Sub(published))
		now = now.Add(took)
		f := Failure{Strategy: s, Try: try, Age: now.Sub(published), Took: took, Random: random, After: after}
		wait, again := f.Next()
		if !again {
			return at
		}
		now = now.Add(wait)
	}
}

func TestExponentialSchedule(t *testing.T) {
	at := follow(cmq.ExponentialRetry, 0.5, 0, 0)
	require.Len(t, at, 177)
	for i, want := range []int{0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 1023, 1535, 2047} {
		require.Equal(t, time.Duration(want)*time.Second, at[i], "try %d", i+1)
	}
	require.Equal(t, 86015*time.Second, at[176])
}

// TestAllRetriesFitADayThoughNoneIsAnswered: each try takes its 15 s.
func TestAllRetriesFitADayThoughNoneIsAnswered(t *testing.T) {
	at := follow(cmq.ExponentialRetry, 0, 0, 15*time.Second)
	require.Len(t, at, 177)
	for i, want := range []int{0, 16, 32, 48, 64, 80, 112, 176, 304, 560, 1072} {
		require.Equal(t, time.Duration(want)*time.Second, at[i], "try %d", i+1)
	}
	require.Equal(t, []time.Duration{0, 34 * time.Second, 68 * time.Second, 102 * time.Second}, follow(cmq.BackoffRetry, 0, 0, 15*time.Second))
}

func TestBackoffSchedule(t *testing.T) {
	require.Equal(t, []time.Duration{0, 19 * time.Second, 38 * time.Second, 57 * time.Second}, follow(cmq.BackoffRetry, 0, 0, 0))
	require.Equal(t, []time.Duration{0, 24 * time.Second, 48 * time.Second, 72 * time.Second}, follow(cmq.BackoffRetry, 0.5, 0, 0))
	require.Less(t, Interval(cmq.BackoffRetry, 1, 0.999999), 29*time.Second)
}

func TestNext(t *testing.T) {
	rows := map[string]struct {
		f     Failure
		wait  time.Duration
		again bool
	}{
		"the endpoint asks for longer":         {Failure{Strategy: cmq.ExponentialRetry, Try: 1, After: time.Minute}, time.Minute, true},
		"the endpoint asks for less":           {Failure{Strategy: cmq.ExponentialRetry, Try: 8, After: time.Minute}, 128 * time.Second, true},
		"it asks for a week":                   {Failure{Strategy: cmq.ExponentialRetry, Try: 1, After: 7 * Day}, Day, true},
		"it asks for a week, an hour is left":  {Failure{Strategy: cmq.ExponentialRetry, Try: 1, Age: Day - time.Hour, After: 7 * Day}, time.Hour, true},
		"the wait ends with the day":           {Failure{Strategy: cmq.ExponentialRetry, Try: 10, Age: Day - 512*time.Second}, 512 * time.Second, true},
		"the wait would end after the day":     {Failure{Strategy: cmq.ExponentialRetry, Try: 10, Age: Day - 512*time.Second + 1}, 0, false},
		"the day is over":                      {Failure{Strategy: cmq.ExponentialRetry, Try: 1, Age: Day + time.Hour}, 0, false},
		"backoff across the end of the day":    {Failure{Strategy: cmq.BackoffRetry, Try: 1, Age: Day - 10*time.Second}, 0, false},
		"last try of backoff":                  {Failure{Strategy: cmq.BackoffRetry, Try: 4, After: time.Minute}, 0, false},
		"last but one try of backoff":          {Failure{Strategy: cmq.BackoffRetry, Try: 3}, 19 * time.Second, true},
		"last try of the exponential one":      {Failure{Strategy: cmq.ExponentialRetry, Try: 177}, 0, false},
		"a count beyond what the strategy has": {Failure{Strategy: cmq.ExponentialRetry, Try: 1000}, 0, false},
		"a message of which time went back":    {Failure{Strategy: cmq.ExponentialRetry, Try: 1, Age: -time.Hour}, time.Second, true},
	}
	for name, row := range rows {
		wait, again := row.f.Next()
		require.Equal(t, row.again, again, name)
		require.Equal(t, row.wait, wait, name)
	}
}

// TestWhatIsAskedForNeverShortensTheSchedule: whatever the endpoint asks for, no try is earlier than without.
func TestWhatIsAskedForNeverShortensTheSchedule(t *testing.T) {
	plain := follow(cmq.ExponentialRetry, 0, 0, 0)
	for _, after := range []time.Duration{-time.Hour, time.Second, 100 * time.Second, time.Hour, 30 * time.Hour} {
		asked := follow(cmq.ExponentialRetry, 0, after, 0)
		require.LessOrEqual(t, asked[len(asked)-1], Day)
		for i := range asked {
			require.GreaterOrEqual(t, asked[i], plain[i])
		}
	}
}
