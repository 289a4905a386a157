package cmq

import (
	"slices"
	"time"
)

// Tries is how often a delivery is tried at most before it is given up: once, and the retries of the strategy
// (http-api.md 4.4). The 176 retries with growing pauses take a day.
func (s Strategy) Tries() int {
	if s == BackoffRetry {
		return 1 + 3
	}
	return 1 + 176
}

// InOrder says that deliveries are made one at a time, so that a failing one holds up those behind it: what the service
// documents of BACKOFF_RETRY, and what PushAttributes.Ordered asks for.
func (s *Subscription) InOrder() bool { return s.Push.Ordered || s.Strategy == BackoffRetry }

// subscriptionLock is how long a message is locked for a delivery that does not say so itself: a delivery takes 15 s at
// most, and as much again for its outcome to be written down.
const subscriptionLock = 30 * time.Second

// deadLetterTime is how much longer than its retention a message is kept that is to go to a dead-letter queue then: that
// queue's set may be out of reach.
const deadLetterTime = 24 * time.Hour

// ShardAttributes is what the subscription's shard needs to know of it as of an ordinary queue. t is its topic. What goes
// to a queue is not received and so never counted out: it is tried until it arrives or its time is over. Then, as when it was
// tried often enough, it goes to the dead-letter queue if there is one.
func (s *Subscription) ShardAttributes(t *Topic) ShardAttributes {
	a := ShardAttributes{
		MaxMsgHeapNum:     DefaultLimits().MaxMsgHeapNum.Max, // a publish is not refused because of one subscription
		VisibilityTimeout: subscriptionLock,
		MsgRetention:      t.MsgRetention,
		MaxInFlight:       DefaultMaxInFlight,
	}
	if s.InOrder() {
		a.MaxInFlight = 1
	}
	if s.Push.DeadLetter != 0 {
		a.DeadLetter = DeadLetterPolicy{
			Queue: s.Push.DeadLetter, Policy: PolicyEither, MaxReceiveCount: s.Strategy.Tries(), MaxTimeToLive: t.MsgRetention,
		}
		a.MsgRetention += deadLetterTime
	}
	return a
}

// Subscriber is what the subscription's shard needs to know beside its attributes. t is its topic.
func (s *Subscription) Subscriber(t *Topic) *Subscriber {
	return &Subscriber{Topic: t.ID.Shard(), Filter: t.Filter, Tags: s.Tags, Keys: s.Keys, Forward: s.Protocol == ProtocolQueue}
}

// Equal reports whether both say the same.
func (s *Subscriber) Equal(o *Subscriber) bool {
	if s == nil || o == nil {
		return s == o
	}
	return s.Topic == o.Topic && s.Filter == o.Filter && s.Forward == o.Forward && slices.Equal(s.Tags, o.Tags) && slices.Equal(s.Keys, o.Keys)
}

// Apply changes what the settings give, except the filter, which is chosen once.
func (s *TopicSettings) Apply(t *Topic) {
	if s.MaxMsgSize != nil {
		t.MaxMsgSize = int(*s.MaxMsgSize)
	}
	setSeconds(&t.MsgRetention, s.MsgRetentionSeconds)
	set(&t.Trace, s.Trace)
}

// Apply changes what the settings give. deadLetter is the queue that s.DeadLetter names and is not used without one. A
// queue gets bodies as they are, whatever format was asked for: official clients ask for JSON with every protocol.
func (s *SubscriptionSettings) Apply(p *Subscription, deadLetter QueueID) {
	set(&p.Protocol, s.Protocol)
	set(&p.Endpoint, s.Endpoint)
	set(&p.Strategy, s.Strategy)
	set(&p.Format, s.Format)
	if s.Tags != nil {
		p.Tags = append([]string(nil), *s.Tags...)
	}
	if s.Keys != nil {
		p.Keys = append([]string(nil), *s.Keys...)
	}
	s.applyPush(&p.Push, deadLetter)
	if p.Protocol == ProtocolQueue {
		p.Format = FormatSimplified
	}
}

func (s *SubscriptionSettings) applyPush(a *PushAttributes, deadLetter QueueID) {
	set(&a.Secret, s.Secret)
	if s.Rate != nil {
		a.Rate = int(*s.Rate)
	}
	if s.Concurrency != nil {
		a.Concurrency = int(*s.Concurrency)
	}
	set(&a.Ordered, s.Ordered)
	set(&a.Paused, s.Paused)
	if s.DeadLetter != nil {
		a.DeadLetter = deadLetter
	}
	set(&a.CA, s.CA)
	set(&a.Agent, s.Agent)
}

// DefaultFormat is what deliveries look like if nothing else is asked for: the service's JSON for a URL, the body alone
// for everything else.
func (p Protocol) DefaultFormat() Format {
	if p == ProtocolHTTP {
		return FormatJSON
	}
	return FormatSimplified
}
