package cmq

// Range is a closed range of whole numbers, as the API documents its parameters.
type Range struct{ Min, Max int64 }

// Holds reports whether Min <= v <= Max.
func (r Range) Holds(v int64) bool { return r.Min <= v && v <= r.Max }

// Limits are the bounds of the API (http-api.md 5). There is one value in a running server; all doors and the
// controller use it. Times are seconds and sizes bytes, because that is what the API's users write.
type Limits struct {
	QueuesPerOwner            int // ErrQueueLimit beyond
	SourcesPerDeadLetterQueue int // queues that may name one dead-letter queue; ErrDeadLetterBinds beyond

	TopicsPerOwner        int // ErrTopicLimit beyond
	SubscriptionsPerTopic int // ErrSubscriptionLimit beyond
	Tags                  int // of a message or subscription
	TagLength             int // characters
	BindingKeys           int // of a subscription
	KeyLength             int // bytes of a routing or binding key
	KeyDots               int // in a routing or binding key
	EndpointLength        int // bytes
	CALength              int // bytes of certificates of a subscription

	BatchEntries   int // messages or handles in one batch call
	ReceiveEntries int // messages of one receive through a door whose protocol has no limit of its own
	BatchBytes     int // sum of the bodies of one batch
	RequestBytes   int // one HTTP request's body or query, still url-encoded
	Parameters     int // in one HTTP request

	MaxMsgHeapNum       Range
	PollingWaitSeconds  Range
	VisibilityTimeout   Range // of a queue or a receive; a lock may also be changed to end at once
	MaxMsgSize          Range
	MsgRetentionSeconds Range
	RewindSeconds       Range
	DelaySeconds        Range
	MaxReceiveCount     Range
	MaxTimeToLive       Range
	FirstQueryInterval  Range
	MaxQueryCount       Range
	MaxInFlight         Range
	TopicRetention      Range // seconds
	ListLimit           Range
	SubscriptionList    Range // limit of ListSubscriptionByTopic
	SubscriptionOffset  Range // its offset
	DefaultListLimit    int64

	PushSecret      Range // bytes of a secret that signs deliveries
	PushRate        Range // deliveries a second to one endpoint
	PushConcurrency Range // deliveries at once to one endpoint
}

// DefaultLimits are the published limits. Where editions differ they are what http-api.md 8 resolves to:
// bodies up to 1 MiB (9), a batch up to 1 MiB (10), delays up to 70 days (11), rewind up to the longest
// retention (14). The request may be 4 MiB because a url-encoded body of 1 MiB can be three times as long.
func DefaultLimits() Limits {
	return Limits{
		QueuesPerOwner:            1000,
		SourcesPerDeadLetterQueue: 6,
		TopicsPerOwner:            1000,
		SubscriptionsPerTopic:     500,
		Tags:                      5,
		TagLength:                 16,
		BindingKeys:               5,
		KeyLength:                 64,
		KeyDots:                   15,
		EndpointLength:            500,
		CALength:                  16 << 10,
		BatchEntries:              16,
		ReceiveEntries:            256,
		BatchBytes:                1 << 20,
		RequestBytes:              4 << 20,
		Parameters:                256,
		MaxMsgHeapNum:             Range{1_000_000, 1_000_000_000},
		PollingWaitSeconds:        Range{0, 30},
		VisibilityTimeout:         Range{1, 43200},
		MaxMsgSize:                Range{1024, 1 << 20},
		MsgRetentionSeconds:       Range{60, 1_296_000},
		RewindSeconds:             Range{0, 1_296_000},
		DelaySeconds:              Range{0, 6_048_000},
		MaxReceiveCount:           Range{1, 1000},
		MaxTimeToLive:             Range{300, 43200},
		FirstQueryInterval:        Range{1, 3600},
		MaxQueryCount:             Range{1, 100},
		MaxInFlight:               Range{1, 10_000_000},
		TopicRetention:            Range{60, 86400},
		ListLimit:                 Range{0, 50},
		SubscriptionList:          Range{0, 100},
		SubscriptionOffset:        Range{0, 1000},
		DefaultListLimit:          20,
		PushSecret:                Range{16, 256},
		PushRate:                  Range{0, 100_000},
		PushConcurrency:           Range{0, 1000},
	}
}

// RelaxedLimits are for tests that want a full heap, an expired message or a full dead-letter queue without
// sending a million messages or waiting for minutes. Only lower bounds and the number of queues differ.
func RelaxedLimits() Limits {
	l := DefaultLimits()
	l.QueuesPerOwner = 1_000_000
	l.MaxMsgHeapNum.Min = 1
	l.MaxMsgSize.Min = 1
	l.MsgRetentionSeconds.Min = 1
	l.TopicRetention.Min = 1
	l.MaxTimeToLive.Min = 1
	return l
}
