package engine

import (
	"slices"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/store"
)

// maxListed is how many prepared messages one answer lists: their records are read for it.
const maxListed = 64

// listPrepared answers an operator's question for the prepared messages of a shard.
func (m *Machine) listPrepared(c *Call) {
	m.cfg.Read(func(err error) {
		switch {
		case err != nil:
			c.finish(nil, err)
		case !m.b.Has(c.req.Shard):
			c.refuse(cmq.ErrQueueNotExist)
		default:
			list := m.b.ListPrepared(c.req.Shard, m.now, cmq.MsgID(c.req.Number), c.req.Undecided, min(c.req.Max, maxListed))
			c.finish(&Result{Reply: cmq.Reply{Prepared: list}, held: len(list) > 0}, nil)
		}
	})
}

// readHeld completes a list of prepared messages with what only their records know. One that was decided meanwhile, or
// cannot be read here, is listed without.
func (m *Machine) readHeld(r *Result) {
	r.held = false
	list := r.Reply.Prepared
	refs := make([]store.Ref, len(list))
	for i := range list {
		refs[i] = store.Ref{Index: list[i].ID.Index(), Slot: list[i].ID.Slot()}
	}
	m.cfg.Messages(refs, func(i int, msg store.Message, err error) {
		if err == nil {
			list[i].Sent = at(msg.Time)
		}
	})
}

// Undecided is how many prepared messages of a shard nobody is asked about any more.
type Undecided struct {
	Shard    cmq.ShardID
	Messages int64
}

// Undecided lists up to max shards with such messages, those with the most first, as this replica knows them while it
// leads.
func (m *Machine) Undecided(max int) (list []Undecided) {
	for _, id := range sortedShards(m.shards) {
		if n := m.shards[id].undecided(); n > 0 {
			list = append(list, Undecided{id, n})
		}
	}
	slices.SortStableFunc(list, func(a, b Undecided) int { return int(b.Messages - a.Messages) })
	return list[:min(max, len(list))]
}
