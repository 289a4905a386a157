package client

import (
	"context"
	"math/rand/v2"
	"strconv"
	"time"
)

// Agent is one process of an agent: it takes what subscriptions with Push.Agent have and delivers it from within a network
// that the service does not reach. The program cmq has one that delivers to URLs (cmq agent); this is for others, which
// deliver in another way. All processes with the same name and account share the work.
//
//	a := c.Agent("plant")
//	all, err := a.Subscriptions(ctx, "")                    // again every few seconds: it says that the agent is there
//	messages, err := a.Receive(ctx, all.List[0].ID, client.ReceiveOptions{Wait: 20 * time.Second})
//	err = a.Delete(ctx, all.List[0].ID, messages[0].Handle) // it was delivered
//	err = a.ChangeVisibility(ctx, all.List[0].ID, messages[0].Handle, 20*time.Second) // it was not: the next try is due then
//
// A message that is neither deleted nor given back comes again when its lock ends. It is an extension of cmq.
type Agent struct {
	c        *Client
	name     string
	instance string
}

// Agent makes the handle. Nothing is sent yet.
func (c *Client) Agent(name string) *Agent {
	return &Agent{c: c, name: name, instance: strconv.FormatUint(rand.Uint64()|1, 10)}
}

// AgentSubscription is a subscription as an agent sees it.
type AgentSubscription struct {
	Subscription
	ID         string
	Name       string
	Topic      string
	TopicOwner string // account
}

// AgentSubscriptions are all subscriptions of an agent.
type AgentSubscriptions struct {
	Version string              // changes with List
	Changed bool                // Version is not the one that was known
	List    []AgentSubscription // if Changed
	Agents  int                 // processes of this agent that are connected, this one included; -1: not known
}

// Subscriptions gives the subscriptions that name this agent, and tells the service that it is connected: it counts as that
// for 15 s. known is the Version of the last answer, or empty.
func (a *Agent) Subscriptions(ctx context.Context, known string) (*AgentSubscriptions, error) {
	var w struct {
		Version string             `json:"version"`
		Agents  *int               `json:"agents"`
		List    *[]wireAgentSupply `json:"subscriptionList"`
	}
	params := a.params(Param{"instance", a.instance}, Param{"version", known})
	if err := a.c.call(ctx, "ListSubscriptionByAgent", params, always, &w); err != nil {
		return nil, err
	}
	out := &AgentSubscriptions{Version: w.Version, Agents: -1}
	if w.Agents != nil {
		out.Agents = *w.Agents
	}
	if w.List != nil {
		out.Changed = true
		for i := range *w.List {
			out.List = append(out.List, (*w.List)[i].subscription())
		}
	}
	return out, nil
}

// wireAgentSupply is a subscription in the answer.
type wireAgentSupply struct {
	ID         string  `json:"subscriptionId"`
	Name       string  `json:"subscriptionName"`
	Topic      string  `json:"topicName"`
	TopicOwner string  `json:"topicOwner"`
	Protocol   string  `json:"protocol"`
	Endpoint   string  `json:"endpoint"`
	Strategy   string  `json:"notifyStrategy"`
	Format     string  `json:"notifyContentFormat"`
	Secret     *string `json:"pushSecret"`
	Rate       *int    `json:"rateLimit"`
	Concurrent *int    `json:"concurrency"`
	Ordered    *bool   `json:"ordered"`
	Paused     *bool   `json:"paused"`
	DeadLetter *string `json:"deadLetterQueueName"`
	CA         *string `json:"ca"`
}

func (w *wireAgentSupply) subscription() AgentSubscription {
	return AgentSubscription{ID: w.ID, Name: w.Name, Topic: w.Topic, TopicOwner: w.TopicOwner, Subscription: Subscription{
		Protocol: w.Protocol, Endpoint: w.Endpoint, NotifyStrategy: w.Strategy, NotifyContentFormat: w.Format,
		Push: PushSettings{Secret: w.Secret, Rate: w.Rate, Concurrency: w.Concurrent, Ordered: w.Ordered, Paused: w.Paused, DeadLetter: w.DeadLetter, CA: w.CA},
	}}
}

// Leave tells the service that this process delivers no more.
func (a *Agent) Leave(ctx context.Context) error {
	return a.c.call(ctx, "ListSubscriptionByAgent", a.params(Param{"instance", a.instance}, Param{"leaving", "true"}), always, nil)
}

// PublishedMessage is a message of a topic as a subscription has it.
type PublishedMessage struct {
	ID           string
	Handle       string // proof of this delivery, wanted by Delete and ChangeVisibility
	Body         []byte
	Published    time.Time // by the service's clock, as NextVisible
	NextVisible  time.Time // when the lock ends
	DequeueCount int       // receives so far, this one included: the number of the try
	Tags         []string
	RoutingKey   string
}

// Receive takes 1 to o.Max messages of a subscription and locks them: for o.Visibility, or for 30 s. If there is none it
// waits up to o.Wait and returns ErrNoMessage. ErrNotSubscribed: the subscription is not this agent's, or not any more.
// ErrTooMany: it delivers in order, and the message before is not settled.
func (a *Agent) Receive(ctx context.Context, subscriptionID string, o ReceiveOptions) ([]PublishedMessage, error) {
	wait := time.Duration(wholeSeconds(max(o.Wait, 0))) * time.Second
	params := a.params(Param{"subscriptionId", subscriptionID}, Param{"numOfMsg", strconv.Itoa(max(o.Max, 1))},
		Param{"pollingWaitSeconds", strconv.Itoa(int(wait / time.Second))})
	if o.Visibility > 0 {
		params = append(params, Param{"visibilityTimeout", strconv.Itoa(int(wholeSeconds(o.Visibility)))})
	}
	var w struct {
		List []struct {
			ID         string   `json:"msgId"`
			Handle     string   `json:"receiptHandle"`
			Body       []byte   `json:"msgBodyBase64"`
			Published  int64    `json:"publishTimeMs"`
			Visible    int64    `json:"nextVisibleTimeMs"`
			Count      int      `json:"dequeueCount"`
			Tags       []string `json:"msgTag"`
			RoutingKey string   `json:"routingKey"`
		} `json:"msgInfoList"`
	}
	if err := a.c.callFor(ctx, "ReceiveSubscriptionMessage", params, wait, onlyUnsent, &w); err != nil {
		return nil, err
	}
	messages := make([]PublishedMessage, len(w.List))
	for i, m := range w.List {
		messages[i] = PublishedMessage{ID: m.ID, Handle: m.Handle, Body: m.Body, Published: time.UnixMilli(m.Published), NextVisible: time.UnixMilli(m.Visible),
			DequeueCount: m.Count, Tags: m.Tags, RoutingKey: m.RoutingKey}
	}
	return messages, nil
}

// Delete ends a delivery: the subscription has the message no more. ErrHandleInvalid means that the lock had ended or the
// message was deleted before.
func (a *Agent) Delete(ctx context.Context, subscriptionID, handle string) error {
	params := a.params(Param{"subscriptionId", subscriptionID}, Param{"receiptHandle", handle})
	return a.c.call(ctx, "DeleteSubscriptionMessage", params, onlyUnsent, nil)
}

// ChangeVisibility lets the lock of a message end d from now (whole milliseconds, at most a day); 0: at once. After as many
// receives as the subscription's strategy has tries, a message goes to the dead-letter queue, if there is one, instead.
func (a *Agent) ChangeVisibility(ctx context.Context, subscriptionID, handle string, d time.Duration) error {
	params := a.params(Param{"subscriptionId", subscriptionID}, Param{"receiptHandle", handle},
		Param{"visibilityTimeoutMs", strconv.FormatInt(d.Milliseconds(), 10)})
	return a.c.call(ctx, "ChangeSubscriptionMessageVisibility", params, onlyUnsent, nil)
}

func (a *Agent) params(more ...Param) []Param {
	return append([]Param{{"agent", a.name}}, more...)
}
