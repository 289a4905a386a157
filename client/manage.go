package client

import (
	"context"
	"encoding/json"
	"strconv"
	"time"
)

// DeadLetterPolicy moves messages that are not deleted in time to another queue.
type DeadLetterPolicy struct {
	Queue           string // name of the dead-letter queue
	ByAge           bool   // false: after MaxReceiveCount receives; true: MaxTimeToLive after the send
	MaxReceiveCount int    // 1..1000
	MaxTimeToLive   time.Duration
}

// Settings are the attributes of a queue that can be set. A nil field is left as it is (Set) or gets the
// service's default (Create). Durations are rounded up to whole seconds.
type Settings struct {
	MaxMsgHeapNum     *int64         // messages not deleted yet
	PollingWait       *time.Duration // how long a receive waits that does not say so itself
	VisibilityTimeout *time.Duration // how long a received message is locked
	MaxMsgSize        *int           // bytes
	MsgRetention      *time.Duration // a message goes this long after its send, received or not
	Rewind            *time.Duration // deleted messages can be rewound this long after their send
	MaxInFlight       *int           // messages locked at a time; 1 to 10,000,000. An extension of cmq
	DeadLetter        *DeadLetterPolicy

	// Whether the queue takes prepared messages, see Queue.SendPrepared. An extension of cmq.
	Transactional *bool
	FirstQuery    *time.Duration // after this time without a decision the producer is asked, and again after it; 1 s to 1 h
	MaxQueryCount *int           // how often in all; 1 to 100
}

// Attributes is the state of a queue.
type Attributes struct {
	MaxMsgHeapNum     int64
	PollingWait       time.Duration
	VisibilityTimeout time.Duration
	MaxMsgSize        int
	MsgRetention      time.Duration
	Rewind            time.Duration
	MaxInFlight       int               // see Settings; 0: the service does not say
	DeadLetter        *DeadLetterPolicy // nil: none
	Created           time.Time
	Modified          time.Time
	ActiveMsgNum      int64     // can be received now
	InactiveMsgNum    int64     // locked
	DelayMsgNum       int64     // not due yet
	RewindMsgNum      int64     // deleted, can be rewound
	MinMsgTime        time.Time // send time of the oldest message not deleted; the current time if there is none

	Transactional   bool          // the queue takes prepared messages; else the next two are zero
	FirstQuery      time.Duration // see Settings
	MaxQueryCount   int
	PreparedMsgNum  int64 // neither committed nor rolled back
	UndecidedMsgNum int64 // of those, asked about as often as may be: somebody must decide about them
}

// QueueInfo is one line of a list of queues.
type QueueInfo struct {
	ID   string `json:"queueId"`
	Name string `json:"queueName"`
}

// QueueList is one page of a list.
type QueueList struct {
	Total  int         `json:"totalCount"` // queues that match, on all pages
	Queues []QueueInfo `json:"queueList"`
}

// ListOptions choose a page. The zero value is the first page of all queues, in the service's page size (20).
type ListOptions struct {
	Search string // part of the name
	Offset int
	Limit  int // at most 50; 0: the service's default
}

// CreateQueue makes a queue and returns its id. ErrQueueExists: there is one with this name.
func (c *Client) CreateQueue(ctx context.Context, name string, s Settings) (string, error) {
	var out struct {
		QueueID string `json:"queueId"`
	}
	err := c.call(ctx, "CreateQueue", s.params(name), onlyUnsent, &out)
	return out.QueueID, err
}

// ListQueues gives one page of the account's queues.
func (c *Client) ListQueues(ctx context.Context, o ListOptions) (QueueList, error) {
	var out QueueList
	err := c.call(ctx, "ListQueue", o.params(nil), always, &out)
	return out, err
}

// DeleteQueue deletes a queue with all its messages.
func (c *Client) DeleteQueue(ctx context.Context, name string) error {
	return c.call(ctx, "DeleteQueue", []Param{{"queueName", name}}, onlyUnsent, nil)
}

// Attributes reads the queue's settings and counters.
func (q *Queue) Attributes(ctx context.Context) (*Attributes, error) {
	var out wireAttributes
	if err := q.c.call(ctx, "GetQueueAttributes", []Param{{"queueName", q.name}}, always, &out); err != nil {
		return nil, err
	}
	return out.attributes(), nil
}

// SetAttributes changes the fields of s that are not nil.
func (q *Queue) SetAttributes(ctx context.Context, s Settings) error {
	return q.c.call(ctx, "SetQueueAttributes", s.params(q.name), always, nil)
}

// Rewind makes every message sent at or after start active again that was deleted and is kept for rewinding.
func (q *Queue) Rewind(ctx context.Context, start time.Time) error {
	at := strconv.FormatInt(start.Unix(), 10)
	return q.c.call(ctx, "RewindQueue", []Param{{"queueName", q.name}, {"startConsumeTime", at}}, onlyUnsent, nil)
}

// Clear deletes every message of the queue, those that could be rewound too.
func (q *Queue) Clear(ctx context.Context) error {
	return q.c.call(ctx, "ClearQueue", []Param{{"queueName", q.name}}, onlyUnsent, nil)
}

// DeadLetterSources lists the queues whose dead-letter queue this is.
func (q *Queue) DeadLetterSources(ctx context.Context, o ListOptions) (QueueList, error) {
	var out QueueList
	err := q.c.call(ctx, "ListDeadLetterSourceQueues", o.params([]Param{{"deadLetterQueueName", q.name}}), always, &out)
	return out, err
}

// UnbindDeadLetter takes the dead-letter policy away from this queue.
func (q *Queue) UnbindDeadLetter(ctx context.Context) error {
	return q.c.call(ctx, "UnbindDeadLetterQueue", []Param{{"queueName", q.name}}, onlyUnsent, nil)
}

// Route gives the addresses ("host:port") of the TCP protocol for this queue.
func (q *Queue) Route(ctx context.Context) ([]string, error) {
	var out struct {
		Addr []string `json:"addr"`
	}
	err := q.c.call(ctx, "QueryQueueRoute", []Param{{"queueName", q.name}}, always, &out)
	return out.Addr, err
}

func (o ListOptions) params(p []Param) []Param {
	if o.Search != "" {
		p = append(p, Param{"searchWord", o.Search})
	}
	if o.Offset != 0 {
		p = append(p, Param{"offset", strconv.Itoa(o.Offset)})
	}
	if o.Limit != 0 {
		p = append(p, Param{"limit", strconv.Itoa(o.Limit)})
	}
	return p
}

func (s Settings) params(name string) []Param {
	p := []Param{{"queueName", name}}
	duration := func(key string, d *time.Duration) {
		if d != nil {
			p = append(p, Param{key, seconds(*d)})
		}
	}
	if s.MaxMsgHeapNum != nil {
		p = append(p, Param{"maxMsgHeapNum", strconv.FormatInt(*s.MaxMsgHeapNum, 10)})
	}
	if s.MaxMsgSize != nil {
		p = append(p, Param{"maxMsgSize", strconv.Itoa(*s.MaxMsgSize)})
	}
	duration("pollingWaitSeconds", s.PollingWait)
	duration("visibilityTimeout", s.VisibilityTimeout)
	duration("msgRetentionSeconds", s.MsgRetention)
	duration("rewindSeconds", s.Rewind)
	if s.MaxInFlight != nil {
		p = append(p, Param{"maxInFlight", strconv.Itoa(*s.MaxInFlight)})
	}
	if s.DeadLetter != nil {
		p = append(p, Param{"deadLetterPolicy", s.DeadLetter.wire()})
	}
	if s.Transactional != nil {
		p = append(p, Param{"transaction", map[bool]string{false: "0", true: "1"}[*s.Transactional]})
	}
	duration("firstQueryInterval", s.FirstQuery)
	if s.MaxQueryCount != nil {
		p = append(p, Param{"maxQueryCount", strconv.Itoa(*s.MaxQueryCount)})
	}
	return p
}

// wirePolicy is the JSON text inside the parameter deadLetterPolicy.
type wirePolicy struct {
	Queue           string `json:"deadLetterQueue"`
	Policy          int    `json:"policy"`
	MaxReceiveCount int    `json:"maxReceiveCount,omitempty"`
	MaxTimeToLive   int64  `json:"maxTimeToLive,omitempty"`
}

func (d *DeadLetterPolicy) wire() string {
	w := wirePolicy{Queue: d.Queue, MaxReceiveCount: d.MaxReceiveCount}
	if d.ByAge {
		w = wirePolicy{Queue: d.Queue, Policy: 1, MaxTimeToLive: int64((d.MaxTimeToLive + time.Second - 1) / time.Second)}
	}
	text, err := json.Marshal(w)
	if err != nil {
		panic("BUG: a struct of strings and numbers cannot be marshalled: " + err.Error())
	}
	return string(text)
}

type wireAttributes struct {
	MaxMsgHeapNum       int64  `json:"maxMsgHeapNum"`
	PollingWaitSeconds  int64  `json:"pollingWaitSeconds"`
	VisibilityTimeout   int64  `json:"visibilityTimeout"`
	MaxMsgSize          int    `json:"maxMsgSize"`
	MsgRetentionSeconds int64  `json:"msgRetentionSeconds"`
	RewindSeconds       int64  `json:"rewindSeconds"`
	MaxInFlight         int    `json:"maxInFlight"`
	DeadLetterPolicy    string `json:"deadLetterPolicy"`
	CreateTime          int64  `json:"createTime"`
	LastModifyTime      int64  `json:"lastModifyTime"`
	ActiveMsgNum        int64  `json:"activeMsgNum"`
	InactiveMsgNum      int64  `json:"inactiveMsgNum"`
	DelayMsgNum         int64  `json:"delayMsgNum"`
	RewindMsgNum        int64  `json:"rewindmsgNum"`
	MinMsgTime          int64  `json:"minMsgTime"`
	Transaction         int    `json:"transaction"`
	FirstQueryInterval  int64  `json:"firstQueryInterval"`
	MaxQueryCount       int    `json:"maxQueryCount"`
	PreparedMsgNum      int64  `json:"preparedMsgNum"`
	UndecidedMsgNum     int64  `json:"undecidedMsgNum"`
}

func (w *wireAttributes) attributes() *Attributes {
	a := &Attributes{
		MaxMsgHeapNum:     w.MaxMsgHeapNum,
		PollingWait:       time.Duration(w.PollingWaitSeconds) * time.Second,
		VisibilityTimeout: time.Duration(w.VisibilityTimeout) * time.Second,
		MaxMsgSize:        w.MaxMsgSize,
		MsgRetention:      time.Duration(w.MsgRetentionSeconds) * time.Second,
		Rewind:            time.Duration(w.RewindSeconds) * time.Second,
		MaxInFlight:       w.MaxInFlight,
		Created:           time.Unix(w.CreateTime, 0),
		Modified:          time.Unix(w.LastModifyTime, 0),
		ActiveMsgNum:      w.ActiveMsgNum,
		InactiveMsgNum:    w.InactiveMsgNum,
		DelayMsgNum:       w.DelayMsgNum,
		RewindMsgNum:      w.RewindMsgNum,
		MinMsgTime:        time.Unix(w.MinMsgTime, 0),
		Transactional:     w.Transaction == 1,
		FirstQuery:        time.Duration(w.FirstQueryInterval) * time.Second,
		MaxQueryCount:     w.MaxQueryCount,
		PreparedMsgNum:    w.PreparedMsgNum,
		UndecidedMsgNum:   w.UndecidedMsgNum,
	}
	var p wirePolicy
	if w.DeadLetterPolicy != "" && json.Unmarshal([]byte(w.DeadLetterPolicy), &p) == nil && p.Queue != "" {
		a.DeadLetter = &DeadLetterPolicy{
			Queue:           p.Queue,
			ByAge:           p.Policy == 1,
			MaxReceiveCount: p.MaxReceiveCount,
			MaxTimeToLive:   time.Duration(p.MaxTimeToLive) * time.Second,
		}
	}
	return a
}
