package node

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
)

// TestSessionOutlivesItsLeader: what the old leader stored, the new one does not store again.
func TestSessionOutlivesItsLeader(t *testing.T) {
	c := startCluster(t, 3)
	ctx := timeout(t)
	c.ready(ctx)
	_, err := c.nodes[0].router.CreateQueue(ctx, "1", "orders", cmq.QueueSettings{})
	require.NoError(t, err)
	leader := c.leaderOf(ctx, "orders")
	r := c.nodes[(leader+1)%3].router
	epoch, err := r.OpenSession(ctx, "1", "orders", 7)
	require.NoError(t, err)
	once := func(number uint64) []cmq.MsgID {
		ids, err := r.SendOnce(ctx, "1", "orders", [][]byte{{byte(number)}}, 0, cmq.Session{ID: 7, Epoch: epoch, Number: number})
		require.NoError(t, err)
		return ids
	}
	one, two := once(1), once(2)
	c.stop(leader)
	require.Equal(t, two, once(2))
	require.Equal(t, one, once(1))
	three := once(3)
	got, err := r.Receive(ctx, "1", "orders", 16, zero(), 0)
	require.NoError(t, err)
	require.Len(t, got, 3)
	require.Equal(t, three[0], got[2].ID)
}
