package client_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/opencmq/cmq/client"
	"github.com/opencmq/cmq/client/internal/tcptest"
)

// item reads a confirmation item: id and state.
func item(t *testing.T, data string) (id, state uint64) {
	b := []byte(data)
	for len(b) > 0 {
		number, _, n := protowire.ConsumeTag(b)
		require.Positive(t, n)
		v, m := protowire.ConsumeVarint(b[n:])
		require.Positive(t, m)
		b = b[n+m:]
		if number == 1 {
			id = v
		} else {
			state = v
		}
	}
	return id, state
}

// undecided is an answer to a confirmation with one message that could not be confirmed.
func undecided(id uint64) tcptest.Answer {
	one := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), id)
	one = protowire.AppendVarint(protowire.AppendTag(one, 2, protowire.VarintType), 3)
	one = protowire.AppendVarint(protowire.AppendTag(one, 3, protowire.VarintType), 10770)
	one = protowire.AppendString(protowire.AppendTag(one, 4, protowire.BytesType), "message id is invalid")
	body := protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), one)
	return tcptest.Answer{Result: 10760, Error: "transaction confirmation partially failed", Raw: protowire.AppendBytes(protowire.AppendTag(nil, 222, protowire.BytesType), body)}
}

func TestPreparedMessages(t *testing.T) {
	tcpBubble(t, nil, func(t *testing.T, n *tcptest.Network, c *client.Client) {
		var last tcptest.Request
		next := tcptest.Answer{IDs: []uint64{7}}
		n.Start("a:1", answering(&last, &next))
		q, ctx := c.Queue("orders"), t.Context()
		id, err := q.SendPrepared(ctx, "x", 5*time.Second)
		require.NoError(t, err)
		require.Equal(t, "7", id)
		require.EqualValues(t, 1021, last.Cmd)
		require.Equal(t, []uint64{1, 5}, append(last.Numbers(4), last.Numbers(5)...))
		_, err = q.SendPrepared(ctx, "x", time.Hour)
		require.NoError(t, err)
		require.Equal(t, []uint64{3_600_000}, last.Numbers(5))
		next.IDs = []uint64{7, 8}
		_, err = q.BatchSendPrepared(ctx, []string{"x", "y"}, 0)
		require.NoError(t, err)
		require.Equal(t, []uint64{1}, append(last.Numbers(4), last.Numbers(5)...), "the queue's own interval")

		next = tcptest.Answer{}
		require.NoError(t, q.Confirm(ctx, client.Decision{ID: "7", State: client.Commit}, client.Decision{ID: "8", State: client.Rollback}, client.Decision{ID: "9"}))
		require.EqualValues(t, 1041, last.Cmd)
		require.Equal(t, "orders", last.Text(1))
		items := last.Texts(2)
		require.Len(t, items, 2, "what is undecided is left out")
		id7, state7 := item(t, items[0])
		id8, state8 := item(t, items[1])
		require.Equal(t, []uint64{7, 1, 8, 2}, []uint64{id7, state7, id8, state8})
		last = tcptest.Request{}
		require.NoError(t, q.Confirm(ctx, client.Decision{ID: "9"}))
		require.Zero(t, last.Cmd, "nothing to say")

		next = undecided(8)
		err = q.Confirm(ctx, client.Decision{ID: "7", State: client.Commit}, client.Decision{ID: "8", State: client.Rollback})
		var failed *client.ConfirmError
		require.ErrorAs(t, err, &failed)
		require.Equal(t, "8", failed.Failed[0].ID)
		require.ErrorContains(t, err, "message id is invalid")
		next = tcptest.Answer{Result: 10790, Error: "transaction message is not supported"}
		require.ErrorContains(t, q.Confirm(ctx, client.Decision{ID: "7", State: client.Commit}), "not supported")
		require.ErrorContains(t, q.Confirm(ctx, client.Decision{ID: "x"}), "not a number")
	})
}

// The server asks what became of messages; the checker of the queue answers, or not at all.
func TestCheckers(t *testing.T) {
	check := func(ctx context.Context, queue, id string) client.State {
		switch id {
		case "1":
			return client.Commit
		case "2":
			return client.Rollback
		case "3":
			return client.Undecided
		}
		panic("no such message")
	}
	tcpBubble(t, []client.Option{client.WithChecker("orders", check)}, func(t *testing.T, n *tcptest.Network, c *client.Client) {
		confirmed := make(map[uint64]uint64)
		n.Start("a:1", func(s *tcptest.Session, r *tcptest.Request) {
			switch r.Cmd {
			case 1021:
				for id := range uint64(4) {
					s.Write(tcptest.Query("orders", id+1))
				}
				s.Write(tcptest.Query("nobody's", 1))
				s.Answer(r, tcptest.Answer{IDs: []uint64{1}})
			case 1041:
				id, state := item(t, r.Text(2))
				confirmed[id] = state
				s.Answer(r, tcptest.Answer{})
			}
		})
		_, err := c.Queue("orders").SendPrepared(t.Context(), "x", 0)
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, map[uint64]uint64{1: 1, 2: 2}, confirmed)
	})
}

// Checkers that hang do not take all goroutines, and Close does not wait for them for ever.
func TestCheckersAreBounded(t *testing.T) {
	var running atomic.Int32
	check := func(ctx context.Context, queue, id string) client.State {
		running.Add(1)
		<-ctx.Done()
		return client.Undecided
	}
	tcpBubble(t, []client.Option{client.WithChecker("orders", check)}, func(t *testing.T, n *tcptest.Network, c *client.Client) {
		n.Start("a:1", func(s *tcptest.Session, r *tcptest.Request) {
			for id := range uint64(1000) {
				s.Write(tcptest.Query("orders", id))
			}
			s.Answer(r, tcptest.Answer{IDs: []uint64{1}})
		})
		_, err := c.Queue("orders").Send(t.Context(), "x")
		require.NoError(t, err, "calls go on meanwhile")
		synctest.Wait()
		require.EqualValues(t, 64, running.Load())
	})
	require.Equal(t, "commit rollback undecided", fmt.Sprint(client.Commit, " ", client.Rollback, " ", client.Undecided))
}
