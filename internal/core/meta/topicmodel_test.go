package meta

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/opencmq/cmq/internal/cmq"
)

// Limits of the model: low enough to be met.
const (
	maxModelTopics        = 4
	maxModelSubscriptions = 3
)

type modelTopic struct {
	id          cmq.TopicID
	owner, name string
	set         cmq.SetID
	filter      cmq.FilterType
	size        int64
	retention   int64
	version     uint64
	created     int64
	modified    int64
	subs        []*modelSubscription
}

type modelSubscription struct {
	id       cmq.SubscriptionID
	name     string
	protocol cmq.Protocol
	endpoint string
	strategy cmq.Strategy
	tags     []string
	keys     []string
	ordered  bool
	agent    string
	dlq      *modelQueue
	version  uint64
	told     uint64 // version the shard's set is known to have
	want     uint64 // version the shard's set must have
	created  int64
	modified int64
}

// filter is what the shard is to know of the subscription.
func (s *modelSubscription) filter() []any {
	return []any{s.tags, s.keys, s.protocol == cmq.ProtocolQueue}
}

// keeps is for how many seconds the shard keeps messages.
func (s *modelSubscription) keeps(topic *modelTopic) int64 {
	if s.dlq != nil {
		return topic.retention + 86400
	}
	return topic.retention
}

// inShard is everything that the shard depends on, as text.
func (s *modelSubscription) inShard() string {
	inOrder := s.ordered || s.strategy == cmq.BackoffRetry
	if s.dlq == nil {
		return fmt.Sprint(s.filter(), inOrder)
	}
	return fmt.Sprint(s.filter(), inOrder, s.dlq.id, s.strategy)
}

// isDead reports whether anything goes to the queue as dead letters.
func (m *model) isDead(q *modelQueue) bool {
	for _, topic := range m.topics {
		for _, sub := range topic.subs {
			if sub.dlq == q {
				return true
			}
		}
	}
	return len(m.sources(q)) > 0
}

func (m *model) topic(owner, name string) *modelTopic {
	for _, topic := range m.topics {
		if topic.owner == owner && strings.EqualFold(topic.name, name) {
			return topic
		}
	}
	return nil
}

func (t *modelTopic) sub(name string) *modelSubscription {
	for _, sub := range t.subs {
		if strings.EqualFold(sub.name, name) {
			return sub
		}
	}
	return nil
}

func (m *model) createTopic(c *CreateTopic, now int64) *cmq.Error {
	count := 0
	for _, topic := range m.topics {
		if topic.owner == c.Owner {
			count++
		}
	}
	switch {
	case m.topic(c.Owner, c.Name) != nil:
		return cmq.ErrTopicExists
	case count >= maxModelTopics:
		return cmq.ErrTopicLimit
	}
	topic := &modelTopic{owner: c.Owner, name: c.Name, set: m.emptiest(), filter: 1, size: 65536, retention: 86400, version: 1, created: now, modified: now}
	if c.Settings.Filter != nil {
		topic.filter = *c.Settings.Filter
	}
	topic.change(&c.Settings)
	m.created++
	topic.id = cmq.TopicID(m.created)
	m.topics = append(m.topics, topic)
	return nil
}

func (t *modelTopic) change(s *cmq.TopicSettings) {
	if s.MaxMsgSize != nil {
		t.size = *s.MaxMsgSize
	}
	if s.MsgRetentionSeconds != nil {
		t.retention = *s.MsgRetentionSeconds
	}
}

func (m *model) setTopic(c *SetTopic, now int64) *cmq.Error {
	topic := m.topic(c.Owner, c.Name)
	if topic == nil {
		return cmq.ErrTopicNotExist
	}
	size, retention := topic.size, topic.retention
	topic.change(&c.Settings)
	topic.modified = now
	if size != topic.size || retention != topic.retention {
		topic.version++
	}
	for _, sub := range topic.subs {
		if retention != topic.retention {
			sub.version++
			sub.want = sub.version
		}
	}
	return nil
}

func (m *model) deleteTopic(owner, name string) *cmq.Error {
	topic := m.topic(owner, name)
	switch {
	case topic == nil:
		return cmq.ErrTopicNotExist
	case len(topic.subs) > 0:
		return cmq.ErrTopicInUse
	}
	m.topics = slices.DeleteFunc(m.topics, func(o *modelTopic) bool { return o == topic })
	return nil
}

func (m *model) subscribe(c *Subscribe, now int64) *cmq.Error {
	topic := m.topic(c.Owner, c.Topic)
	switch {
	case topic == nil:
		return cmq.ErrTopicNotExist
	case topic.sub(c.Name) != nil:
		return cmq.ErrSubscriptionExists
	case len(topic.subs) >= maxModelSubscriptions:
		return cmq.ErrSubscriptionLimit
	}
	sub := &modelSubscription{
		name: c.Name, protocol: *c.Settings.Protocol, endpoint: *c.Settings.Endpoint, strategy: cmq.ExponentialRetry,
		version: 1, want: 1, created: now, modified: now,
	}
	if err := m.changeSubscription(topic, sub, &c.Settings); err != nil {
		return err
	}
	m.created++
	sub.id = cmq.SubscriptionID(m.created)
	topic.subs = append(topic.subs, sub)
	return nil
}

func (m *model) changeSubscription(topic *modelTopic, sub *modelSubscription, s *cmq.SubscriptionSettings) *cmq.Error {
	if s.DeadLetter != nil {
		sub.dlq = nil
		if *s.DeadLetter != "" {
			target := m.find(topic.owner, *s.DeadLetter)
			switch {
			case target == nil:
				return cmq.ErrDeadLetterNotExist
			case target.dlq != nil:
				return cmq.ErrDeadLetterNest
			case target.transaction:
				return cmq.ErrDeadLetterParams
			}
			sub.dlq = target
		}
	}
	if s.Endpoint != nil {
		sub.endpoint = *s.Endpoint
	}
	if s.Strategy != nil {
		sub.strategy = *s.Strategy
	}
	if s.Tags != nil {
		sub.tags = *s.Tags
	}
	if s.Keys != nil {
		sub.keys = *s.Keys
	}
	if s.Ordered != nil {
		sub.ordered = *s.Ordered
	}
	if s.Agent != nil {
		sub.agent = *s.Agent
	}
	if topic.filter == cmq.FilterKeys && len(sub.keys) == 0 {
		return cmq.ErrBindingKey
	}
	if sub.agent != "" && sub.protocol == cmq.ProtocolQueue {
		return cmq.ErrParameterRange("agent")
	}
	return nil
}

func (m *model) setSubscription(c *SetSubscription, now int64) *cmq.Error {
	topic := m.topic(c.Owner, c.Topic)
	if topic == nil {
		return cmq.ErrTopicNotExist
	}
	sub := topic.sub(c.Name)
	if sub == nil {
		return cmq.ErrSubscriptionNotExist
	}
	changed := *sub
	if err := m.changeSubscription(topic, &changed, &c.Settings); err != nil {
		return err
	}
	if fmt.Sprint(changed) != fmt.Sprint(*sub) {
		changed.version++
	}
	if changed.inShard() != sub.inShard() {
		changed.want = changed.version
	}
	changed.modified = now
	*sub = changed
	return nil
}

func (m *model) unsubscribe(owner, topicName, name string) *cmq.Error {
	topic := m.topic(owner, topicName)
	if topic == nil {
		return cmq.ErrTopicNotExist
	}
	sub := topic.sub(name)
	if sub == nil {
		return cmq.ErrSubscriptionNotExist
	}
	topic.subs = slices.DeleteFunc(topic.subs, func(o *modelSubscription) bool { return o == sub })
	m.dropping = append(m.dropping, cmq.Shard{ID: sub.id.Shard(), Set: topic.set, Epoch: sub.version + 1})
	return nil
}

// describeTopics is what can be seen of the owner's topics and their subscriptions, in the order of the lists, as text.
func (m *model) describeTopics(owner string) (list []string) {
	topics := slices.Clone(m.topics)
	slices.SortFunc(topics, func(a, b *modelTopic) int {
		return cmp.Or(cmp.Compare(a.created, b.created), cmp.Compare(strings.ToLower(a.name), strings.ToLower(b.name)))
	})
	for _, topic := range topics {
		if topic.owner != owner {
			continue
		}
		list = append(list, fmt.Sprint(topic.id, topic.name, topic.set, topic.filter, topic.size, topic.retention, topic.version, topic.created, topic.modified))
		subs := slices.Clone(topic.subs)
		slices.SortFunc(subs, func(a, b *modelSubscription) int {
			return cmp.Or(cmp.Compare(a.created, b.created), cmp.Compare(strings.ToLower(a.name), strings.ToLower(b.name)))
		})
		for _, s := range subs {
			dlq := cmq.QueueID(0)
			if s.dlq != nil {
				dlq = s.dlq.id
			}
			list = append(list, fmt.Sprint(s.id, topic.id, s.name, s.protocol, s.endpoint, s.strategy, s.tags, s.keys, s.ordered, s.agent, dlq, s.version, s.created, s.modified))
		}
	}
	return list
}

func describeTopics(t *Table, owner string) (list []string) {
	for _, topic := range t.Topics(owner) {
		list = append(list, fmt.Sprint(topic.ID, topic.Name, topic.Set, topic.Filter, int64(topic.MaxMsgSize), int64(topic.MsgRetention/time.Second),
			topic.Version, topic.Created.UnixMilli(), topic.Modified.UnixMilli()))
		for _, s := range t.Subscriptions(topic.ID) {
			list = append(list, fmt.Sprint(s.ID, s.Topic, s.Name, s.Protocol, s.Endpoint, s.Strategy, s.Tags, s.Keys, s.Push.Ordered, s.Push.Agent, s.Push.DeadLetter,
				s.Version, s.Created.UnixMilli(), s.Modified.UnixMilli()))
		}
	}
	return list
}

func drawTopicSettings(t *rapid.T) (s cmq.TopicSettings) {
	if rapid.Bool().Draw(t, "size?") {
		s.MaxMsgSize = ptr(rapid.SampledFrom([]int64{1024, 65536}).Draw(t, "size"))
	}
	if rapid.Bool().Draw(t, "retention?") {
		s.MsgRetentionSeconds = ptr(rapid.SampledFrom([]int64{60, 86400}).Draw(t, "retention"))
	}
	return s
}

func drawSubscriptionSettings(t *rapid.T, queues *rapid.Generator[string]) (s cmq.SubscriptionSettings) {
	maybe := func(label string) bool { return rapid.IntRange(0, 2).Draw(t, label+"?") == 0 }
	if maybe("endpoint") {
		s.Endpoint = ptr(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "endpoint"))
	}
	if maybe("strategy") {
		s.Strategy = ptr(rapid.SampledFrom([]cmq.Strategy{cmq.BackoffRetry, cmq.ExponentialRetry}).Draw(t, "strategy"))
	}
	if maybe("tags") {
		s.Tags = ptr(rapid.SampledFrom([][]string{nil, {"x"}, {"x", "y"}}).Draw(t, "tags"))
	}
	if maybe("keys") {
		s.Keys = ptr(rapid.SampledFrom([][]string{nil, {"#"}, {"a.*", "b"}}).Draw(t, "keys"))
	}
	if maybe("ordered") {
		s.Ordered = ptr(rapid.Bool().Draw(t, "ordered"))
	}
	if maybe("agent") {
		s.Agent = ptr(rapid.SampledFrom([]string{"", "plant", "office"}).Draw(t, "agent"))
	}
	if maybe("dead letter") {
		s.DeadLetter = ptr("")
		if rapid.Bool().Draw(t, "bound") {
			s.DeadLetter = ptr(queues.Draw(t, "dead letter"))
		}
	}
	return s
}

// topicActions adds what can be done with topics and subscriptions.
func topicActions(actions map[string]func(*rapid.T), m *model, step func(*rapid.T, Command, *cmq.Error), owners, queues *rapid.Generator[string], now *int64) {
	names := rapid.SampledFrom([]string{"a", "A", "b", "c", "d"})
	actions["create topic"] = func(t *rapid.T) {
		c := &CreateTopic{owners.Draw(t, "owner"), names.Draw(t, "name"), drawTopicSettings(t)}
		if rapid.Bool().Draw(t, "keys") {
			c.Settings.Filter = ptr(cmq.FilterKeys)
		}
		step(t, c, m.createTopic(c, *now))
	}
	actions["set topic"] = func(t *rapid.T) {
		c := &SetTopic{owners.Draw(t, "owner"), names.Draw(t, "name"), drawTopicSettings(t)}
		step(t, c, m.setTopic(c, *now))
	}
	actions["delete topic"] = func(t *rapid.T) {
		c := &DeleteTopic{owners.Draw(t, "owner"), names.Draw(t, "name")}
		step(t, c, m.deleteTopic(c.Owner, c.Name))
	}
	actions["subscribe"] = func(t *rapid.T) {
		c := &Subscribe{owners.Draw(t, "owner"), names.Draw(t, "topic"), names.Draw(t, "name"), drawSubscriptionSettings(t, queues)}
		c.Settings.Protocol = ptr(rapid.SampledFrom([]cmq.Protocol{cmq.ProtocolHTTP, cmq.ProtocolQueue}).Draw(t, "protocol"))
		c.Settings.Endpoint = ptr("a")
		step(t, c, m.subscribe(c, *now))
	}
	actions["set subscription"] = func(t *rapid.T) {
		c := &SetSubscription{owners.Draw(t, "owner"), names.Draw(t, "topic"), names.Draw(t, "name"), drawSubscriptionSettings(t, queues)}
		step(t, c, m.setSubscription(c, *now))
	}
	actions["unsubscribe"] = func(t *rapid.T) {
		c := &Unsubscribe{owners.Draw(t, "owner"), names.Draw(t, "topic"), names.Draw(t, "name")}
		step(t, c, m.unsubscribe(c.Owner, c.Topic, c.Name))
	}
}
