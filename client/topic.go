package client

import (
	"context"
	"strconv"
	"time"
)

// Topic is the handle of one topic: what is published to it goes to all its subscriptions whose filter matches. Making
// a handle sends nothing and does not create the topic.
type Topic struct {
	c    *Client
	name string
}

// Topic gives the handle of the topic with this name.
func (c *Client) Topic(name string) *Topic { return &Topic{c: c, name: name} }

// Name is the name the handle was made with.
func (t *Topic) Name() string { return t.name }

// Filter says by what a topic chooses subscriptions. It cannot be changed later.
type Filter int

// The filters of topics.
const (
	ByTags Filter = 1 // a subscription's FilterTags against the Tags of a message
	ByKey  Filter = 2 // a subscription's BindingKeys against the RoutingKey of a message
)

// TopicSettings are the attributes of a topic that can be set. Zero values stand for the service's defaults when it is
// created, and change nothing later.
type TopicSettings struct {
	MaxMsgSize   int           // bytes, 1024 to 1 MiB; default 64 KiB
	MsgRetention time.Duration // 1 minute to 1 day, rounded up to whole seconds; default 1 day. An extension of cmq
	Filter       Filter        // default ByTags; cannot be changed later
}

// TopicAttributes is the state of a topic.
type TopicAttributes struct {
	MaxMsgSize   int           // bytes
	MsgRetention time.Duration // a message goes this long after it was published, delivered or not
	Filter       Filter
	MsgCount     int64 // messages not delivered to all subscriptions yet
	Created      time.Time
	Modified     time.Time
}

// TopicInfo is one line of a list of topics.
type TopicInfo struct {
	ID   string `json:"topicId"`
	Name string `json:"topicName"`
}

// TopicList is one page of a list.
type TopicList struct {
	Total  int         `json:"totalCount"` // topics that match, on all pages
	Topics []TopicInfo `json:"topicList"`
}

// CreateTopic makes a topic and returns its id. ErrTopicExists: there is one with this name. Topics are managed over
// HTTP.
func (c *Client) CreateTopic(ctx context.Context, name string, s TopicSettings) (string, error) {
	params := s.params([]Param{{"topicName", name}})
	if s.Filter > 0 {
		params = append(params, Param{"filterType", strconv.Itoa(int(s.Filter))})
	}
	var out struct {
		TopicID string `json:"topicId"`
	}
	err := c.call(ctx, "CreateTopic", params, onlyUnsent, &out)
	return out.TopicID, err
}

// params adds what can be changed later.
func (s *TopicSettings) params(p []Param) []Param {
	if s.MaxMsgSize > 0 {
		p = append(p, Param{"maxMsgSize", strconv.Itoa(s.MaxMsgSize)})
	}
	if s.MsgRetention > 0 {
		p = append(p, Param{"msgRetentionSeconds", seconds(s.MsgRetention)})
	}
	return p
}

// ListTopics gives one page of the account's topics.
func (c *Client) ListTopics(ctx context.Context, o ListOptions) (TopicList, error) {
	var out TopicList
	err := c.call(ctx, "ListTopic", o.params(nil), always, &out)
	return out, err
}

// DeleteTopic deletes a topic that has no subscriptions. ErrTopicInUse: it has.
func (c *Client) DeleteTopic(ctx context.Context, name string) error {
	return c.call(ctx, "DeleteTopic", []Param{{"topicName", name}}, onlyUnsent, nil)
}

// Attributes reads the topic's settings and counters.
func (t *Topic) Attributes(ctx context.Context) (*TopicAttributes, error) {
	var w struct {
		MsgCount            int64 `json:"msgCount"`
		MaxMsgSize          int   `json:"maxMsgSize"`
		MsgRetentionSeconds int64 `json:"msgRetentionSeconds"`
		CreateTime          int64 `json:"createTime"`
		LastModifyTime      int64 `json:"lastModifyTime"`
		FilterType          int   `json:"filterType"`
	}
	if err := t.c.call(ctx, "GetTopicAttributes", t.params(), always, &w); err != nil {
		return nil, err
	}
	return &TopicAttributes{MaxMsgSize: w.MaxMsgSize, MsgRetention: time.Duration(w.MsgRetentionSeconds) * time.Second, Filter: Filter(w.FilterType),
		MsgCount: w.MsgCount, Created: time.Unix(w.CreateTime, 0), Modified: time.Unix(w.LastModifyTime, 0)}, nil
}

// SetMaxMsgSize changes how many bytes a message may have, from 1024 to 1 MiB.
func (t *Topic) SetMaxMsgSize(ctx context.Context, bytes int) error {
	return t.c.call(ctx, "SetTopicAttributes", t.params(Param{"maxMsgSize", strconv.Itoa(bytes)}), always, nil)
}

// SetAttributes changes what s gives, except the filter.
func (t *Topic) SetAttributes(ctx context.Context, s TopicSettings) error {
	return t.c.call(ctx, "SetTopicAttributes", s.params(t.params()), always, nil)
}

// Route gives the addresses ("host:port") of the TCP protocol for this topic.
func (t *Topic) Route(ctx context.Context) ([]string, error) {
	var out struct {
		Addr []string `json:"addr"`
	}
	err := t.c.call(ctx, "QueryTopicRoute", t.params(), always, &out)
	return out.Addr, err
}

func (t *Topic) params(more ...Param) []Param {
	return append([]Param{{"topicName", t.name}}, more...)
}

// PublishOptions are what a topic chooses subscriptions by. Of a topic that filters ByTags the key is not looked at, and
// the other way round.
type PublishOptions struct {
	Tags       []string // at most 5, each of at most 16 characters
	RoutingKey string   // at most 64 bytes and 15 dots, as in "order.paid.eu"
}

func (o *PublishOptions) params(p []Param) []Param {
	p = withList(p, "msgTag", o.Tags)
	if o.RoutingKey != "" {
		p = append(p, Param{"routingKey", o.RoutingKey})
	}
	return p
}

// Publish stores one message for all subscriptions that match and returns its id.
//
// Refusals: ErrTopicNotExist; ErrNobody if there is no subscription; ErrNoMatch if none matches. In both cases the
// message is not stored.
func (t *Topic) Publish(ctx context.Context, body string, o PublishOptions) (string, error) {
	ctx, op := t.c.observe(ctx, OpSend, t.name, 1)
	id, err := t.c.carrier.publish(ctx, t.name, body, &o)
	op.endMessage(ctx, id, err)
	return id, err
}

// BatchPublish stores 1 to MaxBatch messages with the same tags or key, all or none, and returns their ids in the same
// order.
func (t *Topic) BatchPublish(ctx context.Context, bodies []string, o PublishOptions) ([]string, error) {
	ctx, op := t.c.observe(ctx, OpSend, t.name, len(bodies))
	ids, err := t.c.carrier.batchPublish(ctx, t.name, bodies, &o)
	op.end(ctx, err)
	return ids, err
}
