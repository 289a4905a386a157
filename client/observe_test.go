package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/client"
	"github.com/opencmq/cmq/client/internal/tcptest"
)

// notes is an Observer that keeps what it is told.
type notes struct {
	mu  sync.Mutex
	ops []string
}

type mark struct{}

func (n *notes) Start(ctx context.Context, op client.Operation) context.Context {
	if (op.Kind == client.OpProcess) != (op.Message != nil) || op.Message != nil && (op.Message.ID != op.MessageID || op.Message.Body != "y") {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.ops = append(n.ops, fmt.Sprintf("%s begins with message %+v", op.Kind, op.Message))
	}
	return context.WithValue(ctx, mark{}, op.Kind)
}

func (n *notes) End(ctx context.Context, op client.Operation, took time.Duration, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if ctx.Value(mark{}) != op.Kind {
		n.ops = append(n.ops, "not the context of Start")
	}
	n.ops = append(n.ops, fmt.Sprint(op.Kind, " ", op.Destination, " ", op.MessageID, " ", op.Count, " ", client.ErrorType(err)))
}

func TestObserver(t *testing.T) {
	o := &notes{}
	tcpBubble(t, []client.Option{client.WithObserver(o)}, func(t *testing.T, n *tcptest.Network, c *client.Client) {
		queue := tcptest.NewQueue()
		n.Start("a:1", queue.Handle)
		q := c.Queue("orders")
		p := q.NewProducer(client.ProducerOptions{})
		_, err := p.Send(t.Context(), "x")
		require.NoError(t, err)
		require.NoError(t, p.Close(t.Context()))
		_, err = q.BatchReceive(t.Context(), 16, 0)
		require.NoError(t, err)
		_, err = q.Receive(t.Context(), 0)
		require.ErrorIs(t, err, client.ErrNoMessage)
		require.ErrorIs(t, q.Delete(t.Context(), "9"), client.ErrHandleInvalid)
		require.Equal(t, []string{"send orders 1 1 ", "create orders  1 ", "receive orders 1 1 ", "receive orders  0 ", "settle orders  1 10260"}, sortedPair(o.ops))

		o.ops = nil
		queue.Put("y")
		ctx, stop := context.WithCancel(t.Context())
		require.NoError(t, q.Consume(ctx, func(ctx context.Context, m *client.Message) error {
			if ctx.Value(mark{}) != client.OpProcess {
				t.Error("the handler does not run with the context of Start")
			}
			stop()
			return nil
		}, client.ConsumerOptions{}))
		require.Contains(t, o.ops, "process orders 3 1 ")
		require.NotContains(t, fmt.Sprint(o.ops), "begins with")
	})
}

// sortedPair puts the two notes of a Producer, which come in any order, into one.
func sortedPair(ops []string) []string {
	if len(ops) > 1 && ops[0] < ops[1] {
		ops[0], ops[1] = ops[1], ops[0]
	}
	return ops
}

func TestAttributesOfOperations(t *testing.T) {
	op := client.Operation{Kind: client.OpSend, Destination: "orders", MessageID: "5", Count: 3, Server: "a:1"}
	require.Equal(t, map[string]any{"messaging.system": "cmq", "messaging.operation.name": "send", "messaging.operation.type": "send", "messaging.destination.name": "orders",
		"messaging.message.id": "5", "messaging.batch.message_count": 3, "server.address": "a:1", "error.type": "other"}, maps.Collect(op.Attributes(io.EOF)))
	require.Equal(t, map[string]any{"messaging.system": "cmq", "messaging.operation.name": "settle", "messaging.operation.type": "settle", "messaging.destination.name": "q"},
		maps.Collect(client.Operation{Kind: client.OpSettle, Destination: "q", Count: 1}.Attributes(nil)))
	for want, err := range map[string]error{
		"": nil, "10100": client.ErrQueueNotExist, "canceled": &client.TransportError{Err: context.Canceled}, "timeout": &client.TransportError{Err: context.DeadlineExceeded},
		"unreachable": &client.TransportError{Err: io.EOF}, "no_answer": &client.TransportError{Sent: true, Err: io.EOF}, "other": errors.New("x"),
	} {
		require.Equal(t, want, client.ErrorType(err))
	}
}
