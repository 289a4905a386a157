package check

import (
	"slices"

	"github.com/opencmq/cmq/internal/cmq"
)

// A publish is judged as if it had been a send to the queue of every subscription that wanted it. So each queue must get its
// own copy, and all rules of queues hold: none is lost, none comes that was not wanted, none comes twice. What such a queue
// has is known by its queue too, since the same message is in several of them.
//
// Beyond that it must be refused, and with the right answer, exactly if nobody wants it:
//
//	P1 a publish that somebody wants is not refused     P2 a publish that nobody wants is

// scope is the part of the key of a message that the queue is: its own name, or that of the queue whose dead letters it has.
func (c *checker) scope(queue string) string { return c.fed[queue] }

type messageKey struct {
	scope string
	id    cmq.MsgID
}

type bodyKey struct{ scope, body string }

// subscription is one with its end.
type subscription struct {
	*Subscription
	end *Op // the Unsubscribe, not failed; nil: there is none
}

// surely reports whether the subscription was there all the time of the operation, and perhaps whether it may have been at
// some of it.
func (s *subscription) surely(op *Op) bool { return s.end == nil || s.end.Call > op.Return }

func (s *subscription) perhaps(op *Op) bool { return s.end == nil || s.end.Return >= op.Call }

func (s *subscription) wants(op *Op) bool {
	return len(s.Tags) == 0 || slices.ContainsFunc(s.Tags, func(tag string) bool { return slices.Contains(op.Tags, tag) })
}

// indexTopics finds queues that are fed, and subscriptions.
func (c *checker) indexTopics() {
	c.fed, c.subscriptions = map[string]string{}, map[string][]*subscription{}
	for _, op := range c.h.Ops {
		switch {
		case op.Kind == Set && op.Settings.Fed:
			c.fed[op.Queue] = op.Queue
			if dead := op.Settings.DeadLetter; dead != "" {
				c.fed[dead] = op.Queue
			}
		case op.Kind == Subscribe && op.Outcome == OK:
			c.subscriptions[op.Queue] = append(c.subscriptions[op.Queue], &subscription{Subscription: op.Subscription})
		case op.Kind == Unsubscribe && op.Outcome != Fail:
			for _, s := range c.subscriptions[op.Queue] {
				if s.Name == op.Subscription.Name && s.end == nil {
					s.end = op
				}
			}
		}
	}
}

// indexPublish makes sends of a publish.
func (c *checker) indexPublish(op *Op) {
	for _, s := range c.subscriptions[op.Queue] {
		if !s.wants(op) || !s.perhaps(op) {
			continue
		}
		send := &Op{ID: op.ID, Client: op.Client, Kind: Send, Queue: s.Queue, Phase: op.Phase, Call: op.Call, Return: op.Return, Outcome: op.Outcome, Bodies: op.Bodies}
		switch {
		case op.Outcome == OK && s.end != nil: // what it has not delivered ends with it
			send.Outcome, send.Return = Info, Never
		case op.Outcome == OK:
			send.IDs = op.IDs
		}
		c.indexSend(send)
	}
}

// publishes checks which of them were refused.
func (c *checker) publishes() {
	for _, op := range c.h.Ops {
		if op.Kind == Publish && op.Outcome != Info {
			c.publish(op)
		}
	}
}

func (c *checker) publish(op *Op) {
	var there, wanted *subscription // for sure
	mayBeThere, mayBeWanted := false, false
	for _, s := range c.subscriptions[op.Queue] {
		mayBeThere = mayBeThere || s.perhaps(op)
		mayBeWanted = mayBeWanted || s.perhaps(op) && s.wants(op)
		if s.surely(op) {
			there = s
			if s.wants(op) {
				wanted = s
			}
		}
	}
	switch {
	case op.Outcome == OK && !mayBeWanted:
		c.broken("P2", "%s: publish %d with tags %v was confirmed, and no subscription wanted it", op.Queue, op.ID, op.Tags)
	case op.Refused == NoSubscription && there != nil:
		c.broken("P1", "%s: publish %d was told that there is no subscription, and there was %s", op.Queue, op.ID, there.Name)
	case op.Refused == NoMatch && wanted != nil:
		c.broken("P1", "%s: publish %d with tags %v was told that nobody wants it, and %s did", op.Queue, op.ID, op.Tags, wanted.Name)
	case op.Refused == NoMatch && !mayBeThere:
		c.broken("P2", "%s: publish %d was told that nobody wants it, and there was no subscription at all", op.Queue, op.ID)
	}
}
