package cmq

import "time"

// QueueSettings are the attributes a client gives when it creates or changes a queue. Nil means not given:
// the default at creation, no change later. The door has checked every range; what depends on other
// attributes or other queues is checked where the queue is changed, with Apply.
type QueueSettings struct {
	MaxMsgHeapNum       *int64 // messages
	PollingWaitSeconds  *int64
	VisibilityTimeout   *int64 // seconds
	MaxMsgSize          *int64 // bytes
	MsgRetentionSeconds *int64
	RewindSeconds       *int64
	Transaction         *bool
	FirstQueryInterval  *int64 // seconds
	MaxQueryCount       *int64
	Trace               *bool
	MaxInFlight         *int64 // messages locked at a time, in each shard
	DeadLetter          *DeadLetterSettings
}

// DeadLetterSettings is a dead-letter policy as a client gives it: the queue by name.
type DeadLetterSettings struct {
	Queue           string
	Policy          int   // PolicyReceives or PolicyAge
	MaxReceiveCount int64 // counts for PolicyReceives
	MaxTimeToLive   int64 // seconds; counts for PolicyAge
}

// Apply gives the attributes a queue has after the change. deadLetter is the queue s.DeadLetter names and is
// not used without one. It refuses with ErrRewindRetention when messages would be rewindable for longer than
// they are kept, and with ErrDeadLetterParams when they would expire before they are dead.
func (s *QueueSettings) Apply(a QueueAttributes, deadLetter QueueID) (QueueAttributes, *Error) {
	set(&a.MaxMsgHeapNum, s.MaxMsgHeapNum)
	setSeconds(&a.PollingWait, s.PollingWaitSeconds)
	setSeconds(&a.VisibilityTimeout, s.VisibilityTimeout)
	setSeconds(&a.MsgRetention, s.MsgRetentionSeconds)
	setSeconds(&a.Rewind, s.RewindSeconds)
	if s.MaxMsgSize != nil {
		a.MaxMsgSize = int(*s.MaxMsgSize)
	}
	set(&a.Transaction.On, s.Transaction)
	setSeconds(&a.Transaction.FirstQueryInterval, s.FirstQueryInterval)
	if s.MaxQueryCount != nil {
		a.Transaction.MaxQueryCount = int(*s.MaxQueryCount)
	}
	if s.Trace != nil {
		a.Trace = *s.Trace
	}
	if s.MaxInFlight != nil {
		a.MaxInFlight = int(*s.MaxInFlight)
	}
	if d := s.DeadLetter; d != nil {
		a.DeadLetter = d.policy(deadLetter)
	}
	switch {
	case a.Rewind > a.MsgRetention:
		return a, ErrRewindRetention
	case a.DeadLetter.Queue != 0 && a.DeadLetter.Policy == PolicyAge && a.DeadLetter.MaxTimeToLive >= a.MsgRetention:
		return a, ErrDeadLetterParams
	}
	return a, nil
}

func (d *DeadLetterSettings) policy(queue QueueID) DeadLetterPolicy {
	p := DeadLetterPolicy{Queue: queue, Policy: d.Policy}
	if d.Policy == PolicyAge {
		p.MaxTimeToLive = time.Duration(d.MaxTimeToLive) * time.Second
	} else {
		p.MaxReceiveCount = int(d.MaxReceiveCount)
	}
	return p
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

func setSeconds(to *time.Duration, from *int64) {
	if from != nil {
		*to = time.Duration(*from) * time.Second
	}
}
