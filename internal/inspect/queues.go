package inspect

import (
	"cmp"
	"slices"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/command"
	"github.com/opencmq/cmq/internal/core/meta"
	"github.com/opencmq/cmq/internal/store/segment"
)

// Queue is one shard of a queue, or the shard of a subscription, on this node: what is in it and what it takes.
type Queue struct {
	Name     string      `json:"name"` // as Names.Of gives it; its id if the metadata does not know it
	Owner    string      `json:"owner,omitempty"`
	ID       cmq.QueueID `json:"id"`              // or the number of the subscription
	Topic    cmq.TopicID `json:"topic,omitempty"` // of the subscription; 0: it is a queue
	Shard    cmq.ShardID `json:"shard"`
	Set      cmq.SetID   `json:"set"`
	Applied  uint64      `json:"applied"` // index of the set's last entry that is counted
	Active   int64       `json:"active"`
	Inactive int64       `json:"inactive"`
	Delayed  int64       `json:"delayed"`
	Rewind   int64       `json:"rewindable"`
	Messages uint64      `json:"messages"` // that may still be asked for, deleted ones that can be rewound among them
	Live     int64       `json:"live"`     // their bytes
	// Dead is the bytes of the queue's messages in segments that nobody needs any more. What is dead in files of messages is no
	// queue's, for these do not say whose it was.
	Dead int64 `json:"dead"`
}

// Queues lists what is in the queues of a set, by set and shard. name gives names of queues.
func (s *Set) Queues(names *Names) ([]Queue, *Census, error) {
	if !s.isData() {
		return nil, nil, nil
	}
	c, err := s.Census()
	if err != nil {
		return nil, nil, err
	}
	stored, err := s.stored()
	if err != nil {
		return nil, nil, err
	}
	var list []Queue
	broker := s.machine.Broker()
	add := func(id cmq.ShardID) bool {
		share := c.Shards[id]
		q := Queue{
			Name: names.Of(id), Owner: names.owner(id), ID: id.Queue(), Shard: id, Set: s.ID, Applied: c.Applied,
			Messages: share.Messages, Live: share.Bytes, Dead: max(stored[id]-share.InSegments, 0),
		}
		if sub := broker.Subscriber(id); sub != nil {
			q.Topic = cmq.TopicID(sub.Topic.Queue())
			if _, known := names.subscription(id); known == nil {
				q.Name = cmq.SubscriptionID(id.Queue()).String()
			}
		}
		if st, ok := broker.Status(id, broker.Time()); ok {
			q.Active, q.Inactive, q.Delayed, q.Rewind = st.Active, st.Inactive, st.Delayed, st.Rewindable
		}
		list = append(list, q)
		return true
	}
	broker.Shards(add)
	for id := range stored {
		if !broker.Has(id) {
			add(id)
		}
	}
	slices.SortFunc(list, func(a, b Queue) int { return cmp.Compare(a.Shard, b.Shard) })
	return list, c, nil
}

// stored adds up the bytes of messages in all segments and files of messages, by shard, as far as it is known whose they are: those
// in segments, from the operations of their entries.
func (s *Set) stored() (map[cmq.ShardID]int64, error) {
	sums := map[cmq.ShardID]int64{}
	segs, err := s.listSegments()
	if err != nil {
		return nil, err
	}
	for i := range segs {
		seg := &segs[i]
		if seg.head == nil || seg.Place == "unused" {
			continue
		}
		s.readSegment(seg, false, func(r segment.Record) error {
			if r.Kind == segment.EntryRecord && r.Type == 0 && len(r.Data) > 0 {
				addStored(sums, r.Data)
			}
			return nil
		})
	}
	return sums, nil
}

func addStored(sums map[cmq.ShardID]int64, data []byte) {
	b, err := command.Parse(data)
	if err != nil {
		return // the entry's own row says so
	}
	var op command.Op
	for ops := b.Ops(); ops.Next(&op); {
		if op.N > 0 && (op.Kind == command.Send || op.Kind == command.Transfer) {
			sums[op.Shard] += int64(b.BodyBytes(op.First, op.N))
		}
	}
}

// Names are the names of queues and subscriptions, as far as the metadata of a node knows them.
type Names struct{ table *meta.Table }

// Names reads the metadata of the node: the names of queues and subscriptions. A node without a replica of the controller's set knows none, and
// the ids of queues are shown. The error says why the metadata cannot be read.
func (n *Node) Names() (*Names, error) {
	for _, d := range n.Sets {
		if d.ID != cmq.ControllerSet {
			continue
		}
		s := n.Open(d)
		defer s.Close()
		err := s.Load()
		if s.meta == nil {
			return &Names{}, err
		}
		return &Names{s.meta.Table()}, err
	}
	return &Names{}, nil
}

func (n *Names) queue(id cmq.ShardID) *cmq.Queue {
	if n == nil || n.table == nil {
		return nil
	}
	return n.table.QueueByID(id.Queue())
}

// Sets are the sets that the metadata knows, and where their replicas are.
func (n *Names) Sets() []*cmq.Set {
	if n == nil || n.table == nil {
		return nil
	}
	return n.table.Sets()
}

// subscription is the one that the shard belongs to, and its topic; nil: it is a queue's, or not known.
func (n *Names) subscription(id cmq.ShardID) (*cmq.Topic, *cmq.Subscription) {
	if n == nil || n.table == nil {
		return nil, nil
	}
	sub := n.table.SubscriptionByShard(id)
	if sub == nil {
		return nil, nil
	}
	return n.table.TopicByID(sub.Topic), sub
}

// Of is the name of the queue that a shard belongs to, or "topic/subscription"; its id as if it were a queue's if the
// metadata knows neither. What is published names the topic.
func (n *Names) Of(id cmq.ShardID) string {
	if q := n.queue(id); q != nil {
		return q.Name
	}
	if topic, sub := n.subscription(id); sub != nil {
		return topic.Name + "/" + sub.Name
	}
	if n != nil && n.table != nil {
		if topic := n.table.TopicByID(cmq.TopicID(id.Queue())); topic != nil {
			return topic.Name
		}
	}
	return id.Queue().String()
}

func (n *Names) owner(id cmq.ShardID) string {
	if q := n.queue(id); q != nil {
		return q.Owner
	}
	if _, sub := n.subscription(id); sub != nil {
		return sub.Owner
	}
	return ""
}
