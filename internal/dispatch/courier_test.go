package dispatch

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
)

// The cluster of these tests has one topic on set 1 whose outboxes deliver to queues of their own on set 2.
const (
	newsSet   = cmq.SetID(1)
	queuesSet = cmq.SetID(2)
	newsTopic = cmq.ShardID(33 << 7)
	commits   = 2 * time.Millisecond // how long an entry takes
)

// news is that cluster, as small as can be.
type news struct {
	mu       sync.Mutex
	mover    *Mover
	outboxes map[cmq.ShardID]*box
	index    uint64 // of the newest message
	spreads  int
	bodies   []cmq.MsgID // that were written on set 2
	slow     map[cmq.ShardID]time.Duration
}

// box is an outbox and its queue.
type box struct {
	wants func(i uint64) bool
	base  uint64
	list  []cmq.MsgID
	next  uint64
	came  []cmq.MsgID
	room  int // of the queue; 0: any
}

func newNews(outboxes int, wants func(outbox int, i uint64) bool) *news {
	n := &news{outboxes: map[cmq.ShardID]*box{}, slow: map[cmq.ShardID]time.Duration{}}
	for i := range outboxes {
		n.outboxes[shardOf(i)] = &box{wants: func(k uint64) bool { return wants(i, k) }}
	}
	n.mover = NewMover(n.do, func(_ context.Context, _ cmq.QueueID, of cmq.ShardID) (Destination, bool) {
		return Destination{Set: queuesSet, Shard: of + 1, MaxMsgSize: 1 << 20}, true
	}, nil, slog.New(slog.DiscardHandler))
	return n
}

func shardOf(outbox int) cmq.ShardID { return cmq.ShardID((100 + outbox) << 7) }

// publish puts messages into the outboxes that want them, and tells the mover as an engine does: nothing is listed meanwhile.
func (n *news) publish(messages int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var told []cmq.ShardID
	for range messages {
		n.index++
		for shard, b := range n.outboxes {
			if b.wants(n.index) {
				b.list = append(b.list, cmq.NewMsgID(newsSet, n.index, 0))
				told = append(told, shard)
			}
		}
	}
	for _, shard := range told {
		n.mover.Notify(newsSet, shard, newsTopic)
	}
}

func (n *news) do(ctx context.Context, _ cmq.SetID, req *cmq.Request) (*cmq.Reply, error) {
	n.mu.Lock()
	wait := n.slow[req.Shard]
	n.mu.Unlock()
	if req.Kind != cmq.KindDeadList {
		wait = commits
	}
	select {
	case <-time.After(wait):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	b := n.outboxes[req.Shard]
	switch req.Kind {
	case cmq.KindDeadList:
		r := &cmq.Reply{Base: b.base, Number: b.base}
		for _, id := range b.list[:min(len(b.list), req.Max)] {
			r.Messages = append(r.Messages, cmq.Message{ID: id, Body: fmt.Append(nil, id)})
		}
		if len(r.Messages) == len(b.list) {
			r.Upto = cmq.NewMsgID(newsSet, n.index, cmq.MaxSlots-1)
		}
		return r, nil
	case cmq.KindSpread:
		return n.spread(req), nil
	case cmq.KindForget:
		for b.base < req.Number {
			b.base, b.list = b.base+1, b.list[1:]
		}
		return &cmq.Reply{}, nil
	}
	return nil, fmt.Errorf("kind %d", req.Kind)
}

func (n *news) spread(req *cmq.Request) *cmq.Reply {
	n.spreads++
	n.bodies = append(n.bodies, req.IDs...)
	r := &cmq.Reply{}
	for _, s := range req.Shares {
		b, err := n.outboxes[s.From], (*cmq.Error)(nil)
		if s.Shard != s.From+1 || s.Number > max(b.next, s.Base) {
			err = cmq.ErrParameters
		}
		before := max(b.next, s.Base)
		b.next = before
		for i, place := range s.Places {
			if s.Number+uint64(i) == b.next && (b.room == 0 || len(b.came) < b.room) {
				b.came, b.next = append(b.came, req.IDs[place]), b.next+1
			}
		}
		if b.next == before && s.Number+uint64(len(s.Places)) > b.next && err == nil {
			err = cmq.ErrHeapFull
		}
		r.Errors, r.Numbers = append(r.Errors, err), append(r.Numbers, b.next)
	}
	return r
}

// arrived checks that each queue of the outboxes but some has what its outbox wanted, once and in order.
func (n *news) arrived(t *testing.T, but ...cmq.ShardID) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	for shard, b := range n.outboxes {
		if slices.Contains(but, shard) {
			continue
		}
		var want []cmq.MsgID
		for i := uint64(1); i <= n.index; i++ {
			if b.wants(i) {
				want = append(want, cmq.NewMsgID(newsSet, i, 0))
			}
		}
		require.Equal(t, want, b.came, "outbox %d", shard)
	}
}

func everything(int, uint64) bool { return true }

func TestOneBodyForManyQueuesOfAnotherSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNews(100, everything)
		defer n.mover.Close()
		n.publish(5)
		<-time.After(time.Second)
		n.arrived(t)
		require.Equal(t, 5, len(n.bodies), "bodies written")
		require.Equal(t, 1, n.spreads)
	})
}

// TestOneBodyWhilePublishingGoesOn: outboxes that want much and little, which are looked at at different moments.
func TestOneBodyWhilePublishingGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNews(60, func(outbox int, i uint64) bool { return i%uint64(1+outbox) == 0 })
		defer n.mover.Close()
		for i := range 60 {
			n.slow[shardOf(i)] = time.Duration(i*30) * time.Microsecond
		}
		for range 2000 {
			n.publish(1)
			<-time.After(300 * time.Microsecond)
		}
		<-time.After(time.Second)
		n.arrived(t)
		require.Equal(t, 2000, len(n.bodies), "bodies written")
	})
}

// TestABacklogIsCarriedOnce: all outboxes have much more than one batch, from the same message on.
func TestABacklogIsCarriedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNews(10, func(outbox int, i uint64) bool { return i%uint64(1+outbox%3) == 0 })
		defer n.mover.Close()
		n.publish(1000)
		<-time.After(10 * time.Second)
		n.arrived(t)
		require.Equal(t, 1000, len(n.bodies), "bodies written")
	})
}

func TestAFullQueueDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNews(20, everything)
		defer n.mover.Close()
		full := shardOf(7)
		n.outboxes[full].room = 1
		for range 50 {
			n.publish(1)
			<-time.After(linger + 4*commits)
			n.arrived(t, full)
		}
		require.Len(t, n.outboxes[full].came, 1)
		n.mu.Lock()
		n.outboxes[full].room = 0
		n.mu.Unlock()
		<-time.After(2 * lastRetry)
		n.arrived(t)
	})
}

// TestALateOutboxDelaysTheOthersOnce: its set cannot read a message for a while.
func TestALateOutboxDelaysTheOthersOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNews(20, everything)
		defer n.mover.Close()
		late := shardOf(7)
		n.slow[late] = 5 * time.Second
		n.publish(1)
		<-time.After(linger + 2*commits)
		n.arrived(t, late)
		for range 50 {
			n.publish(1)
			<-time.After(3 * commits)
			n.arrived(t, late)
		}
		<-time.After(20 * time.Second)
		n.arrived(t)
	})
}

// offerOf is an offer of messages with these ids and bodies of one size.
func offerOf(shard cmq.ShardID, upto cmq.MsgID, size int, ids ...cmq.MsgID) *offer {
	o := &offer{shard: shard, to: shard + 1, list: &cmq.Reply{Upto: upto}}
	for _, id := range ids {
		o.list.Messages = append(o.list.Messages, cmq.Message{ID: id, Body: make([]byte, size)})
	}
	return o
}

func TestPack(t *testing.T) {
	for _, row := range []struct {
		name   string
		offers []*offer
		want   string // messages, then by shard the places, then who waits
	}{
		{"the same", []*offer{offerOf(1, 9, 1, 1, 2), offerOf(2, 9, 1, 1, 2)}, "[1 2] 1:[0 1] 2:[0 1]"},
		{"others", []*offer{offerOf(1, 9, 1, 2, 5), offerOf(2, 9, 1, 1, 5)}, "[1 2 5] 2:[0 2] 1:[1 2]"},
		{"more behind", []*offer{offerOf(1, 0, 1, 1, 2, 3), offerOf(2, 9, 1, 2, 4)}, "[1 2 3] 1:[0 1 2] 2:[1]"},
		{"one lists later", []*offer{offerOf(1, 5, 1, 1), offerOf(2, 9, 1, 1, 6)}, "[1] 1:[0] 2:[0]"},
		{"one has only what the other may get", []*offer{offerOf(2, 9, 1, 6), offerOf(1, 5, 1, 1)}, "[1] 1:[0] wait 2"},
		{"far behind", []*offer{offerOf(1, 0, 1, 1, 2), offerOf(2, 99, 1, 90, 91)}, "[1 2 90 91] 1:[0 1] 2:[2 3]"},
		{"the oldest first", []*offer{offerOf(2, 0, moveBytes, 90), offerOf(1, 0, moveBytes, 1)}, "[90] 2:[0] wait 1"},
		{"too much", []*offer{offerOf(1, 9, moveBytes/2, 1, 2, 3), offerOf(2, 9, moveBytes/2, 1, 3)}, "[1 2] 1:[0 1] 2:[0]"},
		{"larger than all", []*offer{offerOf(1, 9, 2*moveBytes, 1, 2)}, "[1] 1:[0]"},
	} {
		l := pack(row.offers)
		var ids []cmq.MsgID
		for _, m := range l.messages {
			ids = append(ids, m.ID)
		}
		got := fmt.Sprintf("%d", ids)
		for _, s := range l.request().Shares {
			got += fmt.Sprintf(" %d:%v", s.From, s.Places)
		}
		for _, o := range l.rest {
			got += fmt.Sprintf(" wait %d", o.shard)
		}
		require.Equal(t, row.want, got, row.name)
	}
}
