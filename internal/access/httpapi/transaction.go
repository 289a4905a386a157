package httpapi

import (
	"context"
	"math"
	"strconv"

	"github.com/opencmq/cmq/internal/cmq"
)

// listPreparedMessages lists messages that are not decided, for those who have to decide about them when no producer
// answers. It is an action of ours, as all here: the published service has transactions over TCP only.
func (c *call) listPreparedMessages(ctx context.Context) error {
	name, err := c.queue("queueName")
	if err != nil {
		return err
	}
	undecided, err := c.boolean("undecided")
	if err != nil {
		return err
	}
	after, err := c.integerOr("afterMsgId", cmq.Range{Min: 0, Max: math.MaxInt64}, 0)
	if err != nil {
		return err
	}
	l := &c.door.config.Limits
	limit, err := c.integerOr("limit", l.ListLimit, l.DefaultListLimit)
	if err != nil {
		return err
	}
	list, err := c.backend().Prepared(ctx, c.owner, name, undecided != nil && *undecided, cmq.MsgID(after), int(limit))
	if err != nil {
		return err
	}
	c.envelope(nil)
	c.key("messageList")
	c.out = append(c.out, '[')
	for i := range list {
		if i > 0 {
			c.out = append(c.out, ',')
		}
		c.appendPrepared(&list[i])
	}
	c.out = append(c.out, ']')
	return nil
}

// appendPrepared writes one line of the list. Times that are not known, or not to come, are 0.
func (c *call) appendPrepared(p *cmq.Prepared) {
	c.out = appendQuotedUint(append(c.out, `{"msgId":`...), uint64(p.ID))
	c.number("msgSize", int64(p.Bytes))
	c.unix("prepareTime", p.Sent)
	c.number("queryCount", int64(p.Queries))
	c.unix("nextQueryTime", p.Next)
	undecided := int64(0)
	if p.Next.IsZero() {
		undecided = 1
	}
	c.number("undecided", undecided)
	c.number("producerNode", int64(p.Origin.Node))
	if from := c.door.config.Producers; from != nil {
		if address := from.Address(p.Origin); address != "" {
			c.text("producerAddress", address)
		}
	}
	c.out = append(c.out, '}')
}

// The states of a decision, as command 1041 of the TCP protocol has them.
const (
	stateCommit   = 1
	stateRollback = 2
)

// confirmTransaction commits or rolls back the listed messages, all the same way. A malformed id fails like an unknown
// one, without the others.
func (c *call) confirmTransaction(ctx context.Context) error {
	name, err := c.queue("queueName")
	if err != nil {
		return err
	}
	state, err := c.integer("state", cmq.Range{Min: stateCommit, Max: stateRollback})
	if err != nil {
		return err
	}
	if state == nil {
		return cmq.ErrParameterMissing("state")
	}
	texts, err := c.list("msgId")
	if err != nil {
		return err
	}
	refusals := make([]*cmq.Error, len(texts))
	places := make([]int, 0, len(texts)) // of the ids that are well-formed, in texts
	decisions := make([]cmq.Decision, 0, len(texts))
	for i, text := range texts {
		id, err := strconv.ParseUint(string(text), 10, 64)
		if err != nil {
			refusals[i] = cmq.ErrNotPrepared
			continue
		}
		places = append(places, i)
		decisions = append(decisions, cmq.Decision{ID: cmq.MsgID(id), Commit: *state == stateCommit})
	}
	errs, err := c.backend().Confirm(ctx, c.owner, name, decisions)
	if err != nil {
		return err
	}
	for i, refusal := range errs {
		refusals[places[i]] = refusal
	}
	c.partialReply("msgId", texts, refusals, cmq.ErrConfirmPart, cmq.ErrConfirm)
	return nil
}
