package cmq

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// TopicID is the number of one incarnation of a topic. It is drawn from the same counter as QueueID, so that the shard
// ids made of either never clash.
type TopicID uint64

// String gives the form used in API answers: "topic-" and eight or more base-36 digits.
func (t TopicID) String() string {
	return fmt.Sprintf("topic-%08s", strconv.FormatUint(uint64(t), 36))
}

// Shard is the place that stands for the topic on its set: what is published names it. It holds nothing itself; the
// messages are in the shards of the subscriptions.
func (t TopicID) Shard() ShardID { return QueueID(t).Shard(0) }

// SubscriptionID is the number of one incarnation of a subscription, drawn from the same counter as QueueID.
type SubscriptionID uint64

// String gives the form used in API answers: "subsc-" and eight or more base-36 digits.
func (s SubscriptionID) String() string {
	return fmt.Sprintf("subsc-%08s", strconv.FormatUint(uint64(s), 36))
}

// ParseSubscriptionID reads the form that String gives.
func ParseSubscriptionID(text string) (SubscriptionID, bool) {
	digits, ok := strings.CutPrefix(text, "subsc-")
	n, err := strconv.ParseUint(digits, 36, 64)
	return SubscriptionID(n), ok && err == nil && n != 0 && SubscriptionID(n).String() == text
}

// Shard is the internal queue of the subscription. It lives on the set of its topic.
func (s SubscriptionID) Shard() ShardID { return QueueID(s).Shard(0) }

// FilterType says by what a topic chooses subscriptions. The numbers are those of the API.
type FilterType int

// The filters of topics (http-api.md 4.1).
const (
	FilterTags FilterType = 1 // tags of the message against tags of the subscription
	FilterKeys FilterType = 2 // routing key of the message against binding keys of the subscription
)

// DefaultTopicRetention is how long a message published to a topic is kept at most, delivered or not (http-api.md 5).
const DefaultTopicRetention = 86400 * time.Second

// Topic is one topic as the controller knows it. Values are immutable once published.
type Topic struct {
	ID           TopicID
	Name         string // as spelled at creation; compared without case, among topics only
	Owner        string // account
	Set          SetID  // where its messages and those of its subscriptions are
	Filter       FilterType
	MaxMsgSize   int // bytes
	MsgRetention time.Duration
	Trace        bool
	Version      uint64 // grows with every change of an attribute
	Created      time.Time
	Modified     time.Time
}

// TopicSettings are the attributes a client gives when it creates or changes a topic. Nil means not given: the default
// at creation, no change later.
type TopicSettings struct {
	MaxMsgSize          *int64 // bytes
	MsgRetentionSeconds *int64
	Filter              *FilterType // at creation only
	Trace               *bool
}

// Protocol says how a subscription delivers.
type Protocol string

// The protocols. The API compares them without case; they are kept as written here.
const (
	ProtocolHTTP     Protocol = "http"     // Endpoint is a URL, http:// or https://
	ProtocolQueue    Protocol = "queue"    // Endpoint is the name of a queue of the same account
	ProtocolMail     Protocol = "mail"     // ours: Endpoint is an e-mail address
	ProtocolSMS      Protocol = "sms"      // ours: Endpoint is a telephone number
	ProtocolFunction Protocol = "function" // ours: Endpoint is the URL of a function
)

// Agents reports whether agents deliver with the protocol: to URLs. A queue is the cluster's own, and a message that an agent
// brought back to it could go in circles; mails and text messages have servers that the cluster's operator names.
func (p Protocol) Agents() bool { return p == ProtocolHTTP || p == ProtocolFunction }

// Strategy says when a failed delivery is tried again (http-api.md 4.4).
type Strategy string

// The strategies of the API.
const (
	BackoffRetry     Strategy = "BACKOFF_RETRY"
	ExponentialRetry Strategy = "EXPONENTIAL_DECAY_RETRY"
)

// Format says what a delivery looks like.
type Format string

// The formats; CloudEvents is ours.
const (
	FormatJSON        Format = "JSON"
	FormatSimplified  Format = "SIMPLIFIED"
	FormatCloudEvents Format = "CLOUDEVENTS" // version 1.0, HTTP binary content mode
)

// Subscription is one subscription of a topic. Values are immutable once published.
type Subscription struct {
	ID       SubscriptionID
	Topic    TopicID
	Name     string // unique within the topic, compared without case
	Owner    string // account
	Protocol Protocol
	Endpoint string
	Strategy Strategy
	Format   Format
	Tags     []string // for FilterTags; none: every message
	Keys     []string // for FilterKeys
	Push     PushAttributes
	Version  uint64 // grows with every change
	Created  time.Time
	Modified time.Time
}

// PushAttributes are what subscriptions have beyond the published service. The zero value is the published behaviour.
type PushAttributes struct {
	Secret      string  // signs each HTTP delivery with HMAC-SHA256; empty: not signed
	Rate        int     // deliveries a second at most; 0: any
	Concurrency int     // deliveries at once at most; 0: the server's default
	Ordered     bool    // one at a time, in order of publishing, a failing one holds up the rest
	Paused      bool    // nothing is delivered, messages wait until their retention ends
	DeadLetter  QueueID // where deliveries go that have exhausted their retries; 0: they are dropped
	CA          string  // PEM certificates that alone are trusted for this https endpoint; empty: the system's
	Agent       string  // name of the agent that delivers from within its own network; empty: the server does

	// DeadLetterName is the name of DeadLetter, filled in (in a copy) by whoever reads a subscription for a door.
	DeadLetterName string
	// Agents is how many agents of the name Agent are connected, filled in likewise; less than 0: not known.
	Agents int
}

// ByAgent reports whether the subscription is delivered by an agent, and not by the cluster.
func (s *Subscription) ByAgent() bool { return s.Push.Agent != "" }

// Supply is a subscription of an agent with the topic it belongs to.
type Supply struct {
	Topic        *Topic
	Subscription *Subscription
}

// AgentGroup names all processes of one agent, as Request.Payload of KindAttend.
func AgentGroup(owner, agent string) string { return owner + "/" + FoldName(agent) }

// Presence is what an agent says of itself whenever it asks for its subscriptions.
type Presence struct {
	Member uint64        // chosen at random by each process; not 0
	Stay   time.Duration // it counts as connected for so long; 0: it leaves
}

// SubscriptionSettings are what a client gives when it subscribes or changes a subscription. Nil means not given.
type SubscriptionSettings struct {
	Protocol    *Protocol // needed when subscribing, cannot be changed later
	Endpoint    *string   // needed when subscribing
	Strategy    *Strategy
	Format      *Format
	Tags        *[]string
	Keys        *[]string
	Secret      *string
	Rate        *int64
	Concurrency *int64
	Ordered     *bool
	Paused      *bool
	DeadLetter  *string // name of a queue of the same account; "": none
	CA          *string
	Agent       *string
}

// Subscriber is what a shard's replicated state needs to know if the shard is that of a subscription.
type Subscriber struct {
	Topic  ShardID // as TopicID.Shard gives it
	Filter FilterType
	Tags   []string
	Keys   []string
	// Forward says that messages are due for delivery to a queue from the moment they are here: they are handed out by
	// KindDeadList with numbers, one for each, so that each arrives once. They cannot be received.
	Forward bool
}

// Publication is a message with what a topic chooses subscriptions by.
type Publication struct {
	Tags       []string // at most 5
	RoutingKey string
}
