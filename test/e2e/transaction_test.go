package e2e

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/client"
	"github.com/opencmq/cmq/test/cluster"
)

// Prepared messages of the SDK: committed ones are received, rolled back ones are not, and about those without a decision
// the checker is asked, also that of another program when the one that sent them has ended.
func TestPreparedMessages(t *testing.T) {
	c := cluster.Start(t, cluster.Options{Binary: binary})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	_, err := c.SDK(false).CreateQueue(ctx, "tx", client.Settings{Transactional: new(true), FirstQuery: new(time.Second)})
	require.NoError(t, err)
	var asked atomic.Int32
	check := client.WithChecker("tx", func(_ context.Context, queue, id string) client.State {
		if asked.Add(1) == 1 {
			return client.Undecided // it does not know yet
		}
		return client.Commit
	})
	first, err := client.New("tcp://"+c.Nodes[0].TCP, cluster.SecretID, cluster.SecretKey, check)
	require.NoError(t, err)
	second := c.SDK(true, check)
	q := second.Queue("tx")
	ids, err := q.BatchSendPrepared(ctx, []string{"committed", "rolled back"}, time.Minute)
	require.NoError(t, err)
	_, err = q.Receive(ctx, 0)
	require.ErrorIs(t, err, client.ErrNoMessage)
	require.NoError(t, q.Confirm(ctx, client.Decision{ID: ids[0], State: client.Commit}, client.Decision{ID: ids[1], State: client.Rollback}))
	m, err := q.Receive(ctx, 5*time.Second)
	require.NoError(t, err)
	require.Equal(t, "committed", m.Body)
	require.NoError(t, q.Delete(ctx, m.Handle))
	require.ErrorIs(t, q.Confirm(ctx, client.Decision{ID: ids[0], State: client.Commit}), client.ErrNotPrepared, "it is decided")

	_, err = first.Queue("tx").SendPrepared(ctx, "of a program that ended", 0)
	require.NoError(t, err)
	require.NoError(t, first.Close())
	require.NoError(t, cluster.Eventually(time.Minute, func() error {
		m, err = q.Receive(ctx, time.Second)
		return err
	}))
	require.Equal(t, "of a program that ended", m.Body)
	require.NoError(t, q.Delete(ctx, m.Handle))
	require.GreaterOrEqual(t, asked.Load(), int32(2))
	a, err := q.Attributes(ctx)
	require.NoError(t, err)
	require.True(t, a.Transactional)
	require.Equal(t, time.Second, a.FirstQuery)
	require.Zero(t, a.PreparedMsgNum+a.ActiveMsgNum+a.InactiveMsgNum)
	plain := c.SDK(true)
	_, err = plain.CreateQueue(ctx, "plain", client.Settings{})
	require.NoError(t, err)
	_, err = plain.Queue("plain").SendPrepared(ctx, "x", 0)
	require.ErrorIs(t, err, client.ErrTransaction)
}
