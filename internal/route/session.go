package route

import (
	"context"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// OpenSession begins a producer session at the queue, or takes over the one with this id, and gives its epoch. An unknown
// outcome may have fenced off the session as it was: it is best opened again.
func (r *Router) OpenSession(ctx context.Context, owner, name string, id uint64) (epoch uint64, err error) {
	err = r.onQueue(ctx, nil, owner, name, func(q *cmq.Queue) error {
		req := &cmq.Request{Kind: cmq.KindOpenSession, Session: cmq.Session{ID: id}}
		if id == 0 || len(q.Shards) == 0 {
			return cmq.ErrParameters
		}
		reply, err := r.onShard(ctx, nil, q, r.takers(q, req)[0], req)
		if err == nil {
			epoch = reply.Number
		}
		return err
	})
	return epoch, err
}

// SendOnce is Send in a session: a request that is put again, with the same number, is stored once and answered with the
// same ids, whatever happened to the leader meanwhile. All of a session's messages go to one shard. It refuses like Send,
// and with ErrSession and ErrRequestOld, which leave the outcome unknown.
func (r *Router) SendOnce(ctx context.Context, owner, name string, bodies [][]byte, delay time.Duration, session cmq.Session) ([]cmq.MsgID, error) {
	return r.store(ctx, nil, owner, name, &cmq.Request{Kind: cmq.KindSend, Bodies: bodies, Delay: delay, Session: session})
}
