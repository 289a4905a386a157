package dispatch

import (
	"context"
	"errors"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// What is published for a subscription that delivers to a queue waits on the dead list of the subscription's shard and is
// carried like a dead letter, in order, each message once. Other than that it is an ordinary message: it does not say where
// it came from, and a queue that is full or that takes only smaller messages does not get it. Where there is no room it is tried
// again until there is, or its retention ends, and those behind it wait. One that is too long waits for the queue to take
// longer ones, but only for patience: it cannot become shorter, and must not hold up the others for a day.
//
// A queue on the topic's own set gets a reference to the stored message instead of a copy, in one step. Queues on another set
// share a copy there.

// forward carries what it can of the head of an outbox.
func (m *Mover) forward(j *job, to Destination, list *cmq.Reply) (more bool, err error) {
	fit := fitting(list.Messages, to.MaxMsgSize)
	if len(fit) == 0 {
		return m.refused(j, list)
	}
	if len(fit) < len(list.Messages) {
		list.Messages, list.Upto = fit, 0
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

// patience is for how long a message that is too long for its queue holds up those behind it: as long as the tries of
// BACKOFF_RETRY, the strategy that keeps order, take at most. Another leader begins anew.
const patience = 3 * 29 * time.Second

// refused gives up the head of an outbox, which is too long for its queue, if that has been so for long enough.
func (m *Mover) refused(j *job, list *cmq.Reply) (more bool, err error) {
	if j.since.IsZero() || j.refused != list.Number {
		j.refused, j.since = list.Number, time.Now()
	}
	if time.Since(j.since) < patience {
		return false, errTooLarge
	}
	list.Messages = list.Messages[:1]
	if err := m.giveUp(j, list); err != nil {
		return false, err
	}
	m.log.Warn("a message is longer than the queue of a subscription takes, and was given up", "set", j.set, "subscription", j.shard.Queue(),
		"msg_id", list.Messages[0].ID, "bytes", len(list.Messages[0].Body), "dead_letter_queue", list.Queue)
	return true, nil
}

// giveUp brings the message to the dead-letter queue, or drops it if there is none.
func (m *Mover) giveUp(j *job, list *cmq.Reply) error {
	if list.Queue == 0 {
		return m.forget(j, list.Number+1)
	}
	ctx, cancel := context.WithTimeout(m.ctx, callLimit)
	defer cancel()
	to, ok := m.target(ctx, list.Queue, j.shard)
	if !ok {
		return errNoTarget
	}
	_, err := m.carry(j, to, list)
	return err
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
