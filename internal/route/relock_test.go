package route_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
)

func TestRelockFindsTheShards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, q := withQueue(t, 3)
		r := c.router(2)
		for range 3 {
			_, err := r.Send(t.Context(), "me", "q", bodies("x"), 0)
			require.NoError(t, err)
		}
		var all []cmq.Message
		for range 3 {
			got, err := r.Receive(t.Context(), "me", "q", 1, nil, 7*time.Second)
			require.NoError(t, err)
			require.Equal(t, time.Now().Add(7*time.Second), got[0].NextVisible)
			all = append(all, got...)
		}
		hs := append(handles(all), 1<<63, cmq.NewHandle(9, 1))
		errs, err := r.Relock(t.Context(), "me", "q", hs, time.Minute)
		require.NoError(t, err)
		require.Equal(t, []*cmq.Error{nil, nil, nil, cmq.ErrHandleInvalid, cmq.ErrHandleInvalid}, errs)
		for _, s := range q.Shards {
			for _, m := range c.shards[s.ID].locked {
				require.Equal(t, time.Now().Add(time.Minute), m.NextVisible)
			}
		}
		errs, err = r.Relock(t.Context(), "me", "q", hs[:1], 0)
		require.NoError(t, err)
		require.Nil(t, errs[0])
		again, err := r.Receive(t.Context(), "me", "q", 1, nil, 0)
		require.NoError(t, err)
		require.Equal(t, all[0].ID, again[0].ID)
	})
}

// TestRelockRepeatedAfterALostAnswer: a lock that is extended twice is extended; of one that was ended and then has an
// invalid handle nobody knows who ended it.
func TestRelockRepeatedAfterALostAnswer(t *testing.T) {
	for _, lock := range []time.Duration{time.Minute, 0} {
		c, _ := withQueue(t, 1)
		r := c.router(1)
		_, err := r.Send(t.Context(), "me", "q", bodies("x"), 0)
		require.NoError(t, err)
		got, err := r.Receive(t.Context(), "me", "q", 1, nil, 0)
		require.NoError(t, err)
		lost := false
		c.after = func(_ cmq.NodeID, req *cmq.Request) error {
			if req.Kind == cmq.KindRelock && !lost {
				lost = true
				return cmq.ErrUnknownOutcome
			}
			return nil
		}
		errs, err := r.Relock(t.Context(), "me", "q", handles(got), lock)
		if lock == 0 {
			require.ErrorIs(t, err, cmq.ErrUnknownOutcome)
			continue
		}
		require.NoError(t, err)
		require.Nil(t, errs[0])
	}
}
