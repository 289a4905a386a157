package client

import (
	"context"
	"strconv"
	"time"
)

// Words that subscriptions are made of, as the protocol spells them.
const (
	ToQueue    = "queue"    // Protocol: Endpoint is the name of a queue
	ToHTTP     = "http"     // Protocol: Endpoint is a URL, http:// or https://
	ToFunction = "function" // Protocol: Endpoint is the URL of a function. An extension of cmq

	BackoffRetry     = "BACKOFF_RETRY"           // NotifyStrategy: three more attempts, 19 to 29 s apart
	ExponentialRetry = "EXPONENTIAL_DECAY_RETRY" // NotifyStrategy: 1, 2, 4 … up to 512 s apart, for a day

	FormatJSON        = "JSON"        // NotifyContentFormat: the body in a JSON object that describes the message
	FormatSimplified  = "SIMPLIFIED"  // NotifyContentFormat: the body as it is; what a queue gets always
	FormatCloudEvents = "CLOUDEVENTS" // NotifyContentFormat: CloudEvents 1.0, the body as it is. An extension of cmq
)

// Subscription says where the messages of a topic go. Empty fields of a new one stand for the service's defaults.
type Subscription struct {
	Protocol            string   // ToQueue, ToHTTP …
	Endpoint            string   // at most 500 characters
	NotifyStrategy      string   // "": ExponentialRetry
	NotifyContentFormat string   // "": FormatJSON to HTTP, FormatSimplified to a queue
	FilterTags          []string // at most 5, each of at most 16 characters; none: every message
	BindingKeys         []string // at most 5; * stands for one word, # for any number of words. Needed for a topic ByKey

	Push PushSettings
}

// PushSettings are what subscriptions have beyond the published service. A nil field is left as it is (SetSubscription) or
// gets the service's default (Subscribe), which behaves as published. What is read from the service has those set that
// differ from the default.
type PushSettings struct {
	Secret      *string // 16 to 256 bytes that sign each delivery, see VerifyPush; "": not signed. It is never read back
	Rate        *int    // deliveries a second at most, up to 100,000; 0: any
	Concurrency *int    // deliveries at once at most, up to 1000; 0: the service's own
	Ordered     *bool   // one delivery at a time, in order of publishing; one that fails holds up the rest
	Paused      *bool   // nothing is delivered, messages wait until their retention ends
	DeadLetter  *string // queue of the same account for what exhausted its retries; "": it is dropped
	CA          *string // PEM certificates that alone are trusted for an https endpoint; "": the service's own
	Agent       *string // name of the agent that delivers from within its own network, see Agent; "": the service does
}

// SubscriptionAttributes is the state of a subscription.
type SubscriptionAttributes struct {
	Subscription
	MsgCount int64 // messages still to be delivered
	Signed   bool  // there is a Push.Secret
	Agents   *int  // how many agents with the name Push.Agent are connected; nil: there is no such name, or it is not known
	Created  time.Time
	Modified time.Time
}

// SubscriptionInfo is one line of a list of subscriptions.
type SubscriptionInfo struct {
	ID       string `json:"subscriptionId"`
	Name     string `json:"subscriptionName"`
	Protocol string `json:"protocol"`
	Endpoint string `json:"endpoint"`
}

// SubscriptionList is one page of a list.
type SubscriptionList struct {
	Total         int                `json:"totalCount"` // subscriptions that match, on all pages
	Subscriptions []SubscriptionInfo `json:"subscriptionList"`
}

// Subscribe makes a subscription with a name that is unique within the topic, and returns its id. ErrSubscribed: there
// is one with this name. ErrEndpoint: the service does not deliver to this URL, for example because it is in its own
// network.
func (t *Topic) Subscribe(ctx context.Context, name string, s Subscription) (string, error) {
	params := t.params(Param{"subscriptionName", name}, Param{"protocol", s.Protocol}, Param{"endpoint", s.Endpoint})
	var out struct {
		ID string `json:"subscriptionId"`
	}
	err := t.c.call(ctx, "Subscribe", s.params(params), onlyUnsent, &out)
	return out.ID, err
}

// params adds what can be changed later.
func (s *Subscription) params(p []Param) []Param {
	if s.NotifyStrategy != "" {
		p = append(p, Param{"notifyStrategy", s.NotifyStrategy})
	}
	if s.NotifyContentFormat != "" {
		p = append(p, Param{"notifyContentFormat", s.NotifyContentFormat})
	}
	return s.Push.params(withList(withList(p, "filterTag", s.FilterTags), "bindingKey", s.BindingKeys))
}

func (s *PushSettings) params(p []Param) []Param {
	p = withText(p, "pushSecret", s.Secret)
	p = withNumber(p, "rateLimit", s.Rate)
	p = withNumber(p, "concurrency", s.Concurrency)
	p = withSwitch(p, "ordered", s.Ordered)
	p = withSwitch(p, "paused", s.Paused)
	p = withText(p, "deadLetterQueueName", s.DeadLetter)
	p = withText(p, "ca", s.CA)
	return withText(p, "agent", s.Agent)
}

func withText(p []Param, name string, value *string) []Param {
	if value != nil {
		p = append(p, Param{name, *value})
	}
	return p
}

func withNumber(p []Param, name string, value *int) []Param {
	if value != nil {
		p = append(p, Param{name, strconv.Itoa(*value)})
	}
	return p
}

func withSwitch(p []Param, name string, value *bool) []Param {
	if value != nil {
		p = append(p, Param{name, strconv.FormatBool(*value)})
	}
	return p
}

// SubscriptionTest is what came of a test of a subscription.
type SubscriptionTest struct {
	Taken  bool
	Reason string        // why it was not taken: "refused", "unresolved", "unreachable", "certificate", "time-out", "status" …
	Status int           // of the answer over HTTP; 0: there was none
	Took   time.Duration // in whole milliseconds
	Sent   string        // what was sent, without credentials; empty: nothing was
	Advice string        // what to do when it was not taken
}

// longestTest is how long a test may take beside any other request.
const longestTest = 20 * time.Second

// Test delivers a message to the subscription's endpoint at once and says what came of it; an empty body is one that says it is a
// test. Nothing is stored or tried again. An endpoint that does not take it is no error. Of a subscription that delivers
// to a queue it tells whether there is the queue. ErrFrequency: there are too many tests just now. An extension of cmq.
func (t *Topic) Test(ctx context.Context, name, body string) (*SubscriptionTest, error) {
	params := t.params(Param{"subscriptionName", name})
	if body != "" {
		params = append(params, Param{"msgBody", body})
	}
	var w struct {
		Taken            bool   `json:"taken"`
		Reason           string `json:"reason"`
		Status           int    `json:"status"`
		TookMilliseconds int64  `json:"tookMilliseconds"`
		Sent             string `json:"sent"`
		Advice           string `json:"advice"`
	}
	if err := t.c.callFor(ctx, "TestSubscription", params, longestTest, onlyUnsent, &w); err != nil {
		return nil, err
	}
	return &SubscriptionTest{Taken: w.Taken, Reason: w.Reason, Status: w.Status, Took: time.Duration(w.TookMilliseconds) * time.Millisecond, Sent: w.Sent, Advice: w.Advice}, nil
}

// Unsubscribe removes a subscription. Messages that wait for it are dropped. ErrNotSubscribed: there is none.
func (t *Topic) Unsubscribe(ctx context.Context, name string) error {
	return t.c.call(ctx, "Unsubscribe", t.params(Param{"subscriptionName", name}), onlyUnsent, nil)
}

// Subscriptions gives one page of the topic's subscriptions. The page may have up to 100.
func (t *Topic) Subscriptions(ctx context.Context, o ListOptions) (SubscriptionList, error) {
	var out SubscriptionList
	err := t.c.call(ctx, "ListSubscriptionByTopic", o.params(t.params()), always, &out)
	return out, err
}

// Subscription reads one subscription. ErrNotSubscribed: there is none.
func (t *Topic) Subscription(ctx context.Context, name string) (*SubscriptionAttributes, error) {
	var w struct {
		MsgCount            int64    `json:"msgCount"`
		Protocol            string   `json:"protocol"`
		Endpoint            string   `json:"endpoint"`
		NotifyStrategy      string   `json:"notifyStrategy"`
		NotifyContentFormat string   `json:"notifyContentFormat"`
		CreateTime          int64    `json:"createTime"`
		LastModifyTime      int64    `json:"lastModifyTime"`
		FilterTag           []string `json:"filterTag"`
		BindingKey          []string `json:"bindingKey"`
		PushSigned          bool     `json:"pushSigned"`
		RateLimit           *int     `json:"rateLimit"`
		Concurrency         *int     `json:"concurrency"`
		Ordered             *bool    `json:"ordered"`
		Paused              *bool    `json:"paused"`
		DeadLetterQueueName *string  `json:"deadLetterQueueName"`
		CA                  *string  `json:"ca"`
		Agent               *string  `json:"agent"`
		Agents              *int     `json:"agents"`
	}
	if err := t.c.call(ctx, "GetSubscriptionAttributes", t.params(Param{"subscriptionName", name}), always, &w); err != nil {
		return nil, err
	}
	return &SubscriptionAttributes{
		Subscription: Subscription{Protocol: w.Protocol, Endpoint: w.Endpoint, NotifyStrategy: w.NotifyStrategy, NotifyContentFormat: w.NotifyContentFormat,
			FilterTags: w.FilterTag, BindingKeys: w.BindingKey,
			Push: PushSettings{Rate: w.RateLimit, Concurrency: w.Concurrency, Ordered: w.Ordered, Paused: w.Paused, DeadLetter: w.DeadLetterQueueName, CA: w.CA, Agent: w.Agent}},
		MsgCount: w.MsgCount, Signed: w.PushSigned, Agents: w.Agents, Created: time.Unix(w.CreateTime, 0), Modified: time.Unix(w.LastModifyTime, 0)}, nil
}

// SetSubscription changes the fields of s that are not empty, and those of s.Push that are not nil; Protocol and Endpoint cannot be changed and are not
// looked at. A given list replaces the old one. To have no tags any more use ClearFilterTags.
func (t *Topic) SetSubscription(ctx context.Context, name string, s Subscription) error {
	return t.c.call(ctx, "SetSubscriptionAttributes", s.params(t.params(Param{"subscriptionName", name})), always, nil)
}

// ClearFilterTags removes all filter tags of a subscription, which then gets every message.
func (t *Topic) ClearFilterTags(ctx context.Context, name string) error {
	return t.c.call(ctx, "ClearSubscriptionFilterTags", t.params(Param{"subscriptionName", name}), always, nil)
}
