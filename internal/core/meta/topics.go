package meta

import "github.com/opencmq/cmq/internal/cmq"

// addTopic puts a new topic into the table and every index that is derived from it. A topic counts as one shard in the
// load of its set, so that topics which nobody has subscribed to yet do not all go to one.
func (t *tables) addTopic(topic *cmq.Topic) {
	t.topics.Set(topic.ID, topic)
	t.topicNames.Set(nameKey(topic.Owner, topic.Name), topic.ID)
	t.topicsOf.Set(topic.Owner, with(t.topicsOf, topic.Owner, topic.ID))
	t.addLoad(topic.Set, 1)
}

// removeTopic undoes addTopic.
func (t *tables) removeTopic(topic *cmq.Topic) {
	t.topics.Delete(topic.ID)
	t.topicNames.Delete(nameKey(topic.Owner, topic.Name))
	without(t.topicsOf, topic.Owner, topic.ID)
	t.addLoad(topic.Set, -1)
}

func (t *tables) findTopic(owner, name string) *cmq.Topic {
	if !cmq.ValidName(name) {
		return nil
	}
	id, ok := t.topicNames.Get(nameKey(owner, name))
	if !ok {
		return nil
	}
	topic, _ := t.topics.Get(id)
	return topic
}

func (s *State) createTopic(c *CreateTopic) Result {
	topic, err := s.planTopic(c)
	if err != nil {
		return Result{Err: err}
	}
	s.nextQueue++
	s.addTopic(topic)
	s.changed()
	return Result{Topic: topic}
}

// planTopic makes all checks and the topic, and changes nothing.
func (s *State) planTopic(c *CreateTopic) (*cmq.Topic, *cmq.Error) {
	switch {
	case !cmq.ValidName(c.Name):
		return nil, cmq.ErrTopicName
	case !validOwner(c.Owner):
		return nil, cmq.ErrParameters
	case s.findTopic(c.Owner, c.Name) != nil:
		return nil, cmq.ErrTopicExists
	case lenOf(s.topicsOf, c.Owner) >= s.maxTopics:
		return nil, cmq.ErrTopicLimit
	}
	if err := checkTopicSettings(&c.Settings); err != nil {
		return nil, err
	}
	place := s.place(s.nextQueue, 1)
	if place == nil {
		return nil, cmq.ErrInternal
	}
	topic := &cmq.Topic{
		ID: cmq.TopicID(s.nextQueue), Name: c.Name, Owner: c.Owner, Set: place[0].Set, Filter: cmq.FilterTags,
		MaxMsgSize: cmq.DefaultQueueAttributes().MaxMsgSize, MsgRetention: cmq.DefaultTopicRetention,
		Version: 1, Created: s.nowTime(), Modified: s.nowTime(),
	}
	if c.Settings.Filter != nil {
		topic.Filter = *c.Settings.Filter
	}
	c.Settings.Apply(topic)
	return topic, nil
}

// setTopic changes a topic. Its retention is that of all its subscriptions.
func (s *State) setTopic(c *SetTopic) Result {
	old := s.findTopic(c.Owner, c.Name)
	if old == nil {
		return Result{Err: cmq.ErrTopicNotExist}
	}
	if err := checkTopicSettings(&c.Settings); err != nil {
		return Result{Err: err}
	}
	topic := *old
	c.Settings.Apply(&topic)
	if topic != *old {
		topic.Version++
	}
	topic.Modified = s.nowTime()
	s.topics.Set(topic.ID, &topic)
	if topic.MsgRetention != old.MsgRetention {
		s.changeSubscriptions(&topic)
	}
	s.changed()
	return Result{Topic: &topic}
}

// changeSubscriptions gives all subscriptions of the topic a new version, and leaves tasks to tell their shards.
func (s *State) changeSubscriptions(topic *cmq.Topic) {
	ids, ok := s.subscribed.Get(topic.ID)
	if !ok {
		return
	}
	ids.Scan(func(id cmq.SubscriptionID) bool {
		old, _ := s.subscriptions.Get(id)
		sub := *old
		sub.Version++
		s.subscriptions.Set(id, &sub)
		s.changeShard(cmq.Shard{ID: id.Shard(), Set: topic.Set}, sub.Version)
		return true
	})
}

func (s *State) deleteTopic(c *DeleteTopic) Result {
	topic := s.findTopic(c.Owner, c.Name)
	switch {
	case topic == nil:
		return Result{Err: cmq.ErrTopicNotExist}
	case lenOf(s.subscribed, topic.ID) > 0:
		return Result{Err: cmq.ErrTopicInUse}
	}
	s.removeTopic(topic)
	s.changed()
	return Result{Topic: topic}
}
