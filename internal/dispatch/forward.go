package dispatch

import (
	"errors"

	"github.com/opencmq/cmq/internal/cmq"
)

// What is published for a subscription that delivers to a queue waits on the dead list of the subscription's shard and is
// carried like a dead letter, in order, each message once. Other than that it is an ordinary message: it does not say where
// it came from, and a queue that is full or that takes only smaller messages does not get it. Then it is tried again until
// it fits or its retention ends, and those behind it wait.
//
// A queue on the topic's own set gets a reference to the stored message instead of a copy, in one step. Queues on another set
// share a copy there.

// forward carries what it can of the head of an outbox.
func (m *Mover) forward(j job, to Destination, list *cmq.Reply) (more bool, err error) {
	if fit := fitting(list.Messages, to.MaxMsgSize); len(fit) < len(list.Messages) {
		list.Messages, list.Upto = fit, 0
	}
	if len(list.Messages) == 0 {
		return false, errTooLarge
	}
	if to.Set == j.set {
		m.leave(j.key(), j.shard)
		_, err := m.arrive(to.Set, move(j.shard, to.Shard, list.Number, list.Messages))
		return true, err
	}
	v := m.offer(j.key(), to.Set, &offer{shard: j.shard, to: to.Shard, list: list, answered: make(chan verdict, 1)})
	if v.err != nil {
		return false, v.err
	}
	return true, m.forget(j, v.next)
}

var errTooLarge = errors.New("the queue does not take messages that long")

// fitting is the first messages, up to one that the queue does not take or that is too much for one transfer.
func fitting(messages []cmq.Message, limit int) []cmq.Message {
	size := 0
	for i := range messages {
		n := len(messages[i].Body)
		if size += n; n > limit || i > 0 && size > moveBytes {
			return messages[:i]
		}
	}
	return messages
}

// move is the request that makes messages those of a queue on the same set.
func move(from, to cmq.ShardID, number uint64, messages []cmq.Message) *cmq.Request {
	req := &cmq.Request{Kind: cmq.KindMove, Shard: to, From: from, Number: number}
	for i := range messages {
		req.IDs, req.Sizes = append(req.IDs, messages[i].ID), append(req.Sizes, uint32(len(messages[i].Body)))
	}
	return req
}
