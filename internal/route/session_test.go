package route_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
)

// TestSessionSendIsRepeated: an answer that is lost costs nothing but time, and nothing is stored twice.
func TestSessionSendIsRepeated(t *testing.T) {
	c, q := withQueue(t, 3)
	r := c.router(2)
	epoch, err := r.OpenSession(t.Context(), "me", "q", 7)
	require.NoError(t, err)
	lost := 0
	c.after = func(_ cmq.NodeID, req *cmq.Request) error {
		if lost++; req.Kind == cmq.KindSend && lost%2 == 1 {
			return cmq.ErrUnknownOutcome
		}
		return nil
	}
	var all []cmq.MsgID
	for number := range uint64(4) {
		session := cmq.Session{ID: 7, Epoch: epoch, Number: number + 1}
		ids, err := r.SendOnce(t.Context(), "me", "q", bodies("x"), 0, session)
		require.NoError(t, err)
		again, err := r.SendOnce(t.Context(), "me", "q", bodies("x"), 0, session)
		require.NoError(t, err)
		require.Equal(t, ids, again)
		all = append(all, ids...)
	}
	require.Len(t, c.shards[q.Shards[7%3].ID].active, 4, "all in the shard of the session")
	require.Len(t, all, 4)

	started := make(chan []cmq.MsgID, 1)
	r.StartSendOnce("me", "q", bodies("x"), 0, cmq.Session{ID: 7, Epoch: epoch, Number: 2}, func(ids []cmq.MsgID, err error) {
		if err != nil {
			t.Error(err)
		}
		started <- ids
	})
	require.Equal(t, all[1:2], <-started)
}

func TestSessionThatIsNoMore(t *testing.T) {
	c, _ := withQueue(t, 1)
	r := c.router(1)
	epoch, err := r.OpenSession(t.Context(), "me", "q", 7)
	require.NoError(t, err)
	_, err = r.OpenSession(t.Context(), "me", "q", 7)
	require.NoError(t, err)
	_, err = r.SendOnce(t.Context(), "me", "q", bodies("x"), 0, cmq.Session{ID: 7, Epoch: epoch, Number: 1})
	require.ErrorIs(t, err, cmq.ErrSession)
	_, err = r.OpenSession(t.Context(), "me", "q", 0)
	require.ErrorIs(t, err, cmq.ErrParameters)
	_, err = r.OpenSession(t.Context(), "me", "none", 7)
	require.ErrorIs(t, err, cmq.ErrQueueNotExist)
	c.after = func(cmq.NodeID, *cmq.Request) error { return cmq.ErrUnknownOutcome }
	_, err = r.OpenSession(t.Context(), "me", "q", 7)
	require.ErrorIs(t, err, cmq.ErrUnknownOutcome, "a second one would fence off the first")
}

// TestFullShardOfASession: another shard knows nothing of the session, so it is not asked.
func TestFullShardOfASession(t *testing.T) {
	c, q := withQueue(t, 2)
	r := c.router(1)
	epoch, err := r.OpenSession(t.Context(), "me", "q", 8)
	require.NoError(t, err)
	c.shards[q.Shards[0].ID].attrs.MaxMsgHeapNum = 1
	_, err = r.SendOnce(t.Context(), "me", "q", bodies("x", "y"), 0, cmq.Session{ID: 8, Epoch: epoch, Number: 1})
	require.ErrorIs(t, err, cmq.ErrHeapFull)
	require.Empty(t, c.shards[q.Shards[1].ID].active)
}
