package node

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/access"
	"github.com/opencmq/cmq/internal/cmq"
)

// producer is a connection that hands on what it is asked.
type producer struct {
	ctx   context.Context
	asked chan cmq.MsgID
}

func (p *producer) Ask(_ string, id cmq.MsgID) bool {
	select {
	case p.asked <- id:
		return true
	case <-p.ctx.Done():
		return false
	}
}

func (p *producer) Address() string { return "elsewhere" }

func (p *producer) next(t *testing.T) cmq.MsgID {
	select {
	case id := <-p.asked:
		return id
	case <-p.ctx.Done():
		t.Fatal("nobody asked")
		return 0
	}
}

// leaderOf is the place of the node that leads the queue's set.
func (c *cluster) leaderOf(ctx context.Context, queue string) int {
	return c.awaitLeader(ctx, func(n *Node) (cmq.SetID, bool) {
		q := n.meta.Table().Queue("1", queue)
		if q == nil { // the news has not come to this node
			return 0, false
		}
		return q.Shards[0].Set, true
	})
}

// awaitLeader gives the place of the node that says that it leads the set, which set finds in what the node knows.
func (c *cluster) awaitLeader(ctx context.Context, set func(*Node) (cmq.SetID, bool)) int {
	for ctx.Err() == nil {
		for i, n := range c.nodes {
			if n == nil {
				continue
			}
			if id, ok := set(n); ok && n.leader(id) == n.opt.ID {
				return i
			}
			n.pause(nil, time.Millisecond)
		}
	}
	c.t.Fatal("no leader")
	return 0
}

// TestTransactionsAcrossNodesAndLeaders: who sent a prepared message is asked about it, wherever it is connected and
// whoever leads, and its answer counts.
func TestTransactionsAcrossNodesAndLeaders(t *testing.T) {
	c := startCluster(t, 3)
	ctx := timeout(t)
	c.ready(ctx)
	on, one := true, int64(1)
	_, err := c.nodes[0].router.CreateQueue(ctx, "1", "orders", cmq.QueueSettings{Transaction: &on, FirstQueryInterval: &one})
	require.NoError(t, err)
	leader := c.leaderOf(ctx, "orders")
	home := (leader + 1) % 3 // of the producer
	n := c.nodes[home]
	producers := access.NewProducers(n.opt.ID, n.router, n.log)
	defer producers.Close()
	conn := &producer{ctx, make(chan cmq.MsgID)}
	number := producers.Number()
	ids, err := n.router.Prepare(ctx, "1", "orders", [][]byte{[]byte("a"), []byte("b"), []byte("c")}, 0, number)
	require.NoError(t, err)
	producers.Enter("1", "orders", number, conn)
	asked := map[cmq.MsgID]bool{}
	for len(asked) < len(ids) { // it may be asked again before it was asked about all
		asked[conn.next(t)] = true
	}
	require.Equal(t, map[cmq.MsgID]bool{ids[0]: true, ids[1]: true, ids[2]: true}, asked)

	c.stop(leader)
	again := conn.next(t)
	require.Contains(t, ids, again)
	last := c.nodes[(leader+2)%3].router
	errs, err := last.Confirm(ctx, "1", "orders", []cmq.Decision{{ID: ids[0], Commit: true}, {ID: ids[1]}})
	require.NoError(t, err)
	require.Equal(t, []*cmq.Error{nil, nil}, errs)
	wait := 10 * time.Second
	got, err := last.Receive(ctx, "1", "orders", 16, &wait, 0)
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.Equal(t, "a", string(got[0].Body))
	for conn.next(t) != ids[2] { // queries for the others may have been on their way
	}
	_, st, err := last.QueueAttributes(ctx, "1", "orders")
	require.NoError(t, err)
	require.EqualValues(t, 1, st.Prepared)
	list, err := last.Prepared(ctx, "1", "orders", false, 0, 10)
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, []any{ids[2], 1, cmq.Origin{Node: n.opt.ID, Conn: number}}, []any{list[0].ID, list[0].Bytes, list[0].Origin})
	require.WithinDuration(t, time.Now(), list[0].Sent, time.Minute)
	require.Positive(t, list[0].Queries)
}
