package meta

import (
	"fmt"

	"github.com/opencmq/cmq/internal/cmq"
)

// Command is one change of the metadata: Bootstrap, PutNode, CreateQueue, SetQueue, DeleteQueue, Unbind,
// CreateTopic, SetTopic, DeleteTopic, Subscribe, SetSubscription, Unsubscribe, Done, PutKey or DeleteKey.
type Command interface {
	kind() kind
	append(b []byte) []byte
}

// Bootstrap makes the cluster. Only the first one counts; it may be repeated without effect.
type Bootstrap struct {
	Cluster    uint64 // id of the cluster, not 0
	MaxQueues  int    // queues one owner may have; 0: the published limit
	MaxSources int    // queues that may share one dead-letter queue; 0: the published limit
	Nodes      []cmq.Node
	Sets       []cmq.Set // the controller's and the data sets
	Key        cmq.AccessKey

	MaxTopics        int // topics one owner may have; 0: the published limit
	MaxSubscriptions int // subscriptions one topic may have; 0: the published limit
}

// PutNode adds a node or changes its addresses.
type PutNode struct{ Node cmq.Node }

// CreateQueue makes a queue. Attributes that Settings leaves out get the published defaults.
type CreateQueue struct {
	Owner    string
	Name     string
	Settings cmq.QueueSettings
	Shards   int // 1..cmq.MaxShards
}

// SetQueue changes the attributes that Settings gives.
type SetQueue struct {
	Owner    string
	Name     string
	Settings cmq.QueueSettings
}

// DeleteQueue deletes a queue and leaves a task to drop each of its shards.
type DeleteQueue struct{ Owner, Name string }

// Unbind takes away the queue's dead-letter policy.
type Unbind struct{ Owner, Name string }

// CreateTopic makes a topic. Attributes that Settings leaves out get the published defaults.
type CreateTopic struct {
	Owner    string
	Name     string
	Settings cmq.TopicSettings
}

// SetTopic changes the attributes that Settings gives.
type SetTopic struct {
	Owner    string
	Name     string
	Settings cmq.TopicSettings
}

// DeleteTopic deletes a topic without subscriptions. It has no shard, so nothing is left to do.
type DeleteTopic struct{ Owner, Name string }

// Subscribe makes a subscription. Settings must have a protocol and an endpoint.
type Subscribe struct {
	Owner    string
	Topic    string
	Name     string
	Settings cmq.SubscriptionSettings
}

// SetSubscription changes what Settings gives.
type SetSubscription struct {
	Owner    string
	Topic    string
	Name     string
	Settings cmq.SubscriptionSettings
}

// Unsubscribe deletes a subscription and leaves a task to drop its shard.
type Unsubscribe struct{ Owner, Topic, Name string }

// Done reports that the shard's set has carried out the shard's task up to Version.
type Done struct {
	Shard   cmq.ShardID
	Version uint64
}

// PutKey adds an access key or replaces the one with the same id.
type PutKey struct{ Key cmq.AccessKey }

// DeleteKey removes an access key.
type DeleteKey struct{ ID string }

// kind is the number of a command's type in its encoding. Numbers are never reused.
type kind uint8

const (
	kindBootstrap   kind = 1
	kindPutNode     kind = 2
	kindCreateQueue kind = 3
	kindSetQueue    kind = 4
	kindDeleteQueue kind = 5
	kindUnbind      kind = 6
	kindDone        kind = 7
	kindPutKey      kind = 8
	kindDeleteKey   kind = 9

	kindCreateTopic     kind = 10
	kindSetTopic        kind = 11
	kindDeleteTopic     kind = 12
	kindSubscribe       kind = 13
	kindSetSubscription kind = 14
	kindUnsubscribe     kind = 15
)

// commandVersion is the version of the encoding written. A replica that meets a newer one must stop.
const commandVersion = 4

// MaxCommand is the largest encoded command in bytes: a Bootstrap of a large cluster fits.
const MaxCommand = 256 << 10

// Encode gives the bytes of one command.
//
//	+-------------+----------+----------------------------------+
//	| version (1) | kind (1) | fields in the order of the type  |
//	+-------------+----------+----------------------------------+
//
// Integrity is the business of what carries it: Batch and the peer frames have checksums.
func Encode(c Command) []byte {
	return c.append([]byte{commandVersion, byte(c.kind())})
}

// Decode reads what Encode wrote. Errors wrap ErrFormat.
func Decode(data []byte) (Command, error) {
	if len(data) > MaxCommand {
		return nil, fmt.Errorf("%w: command of %d bytes, more than %d", ErrFormat, len(data), MaxCommand)
	}
	r := &reader{data: data}
	if v := r.byte(); v != commandVersion && r.err == nil {
		return nil, fmt.Errorf("%w: command of version %d, this program knows %d", ErrFormat, v, commandVersion)
	}
	c := r.command(kind(r.byte()))
	if err := r.end(); err != nil {
		return nil, err
	}
	return c, nil
}

func (r *reader) command(k kind) Command {
	switch k {
	case kindBootstrap:
		return r.bootstrap()
	case kindPutNode:
		return &PutNode{Node: r.node()}
	case kindCreateQueue:
		return &CreateQueue{Owner: r.string(), Name: r.string(), Settings: r.settings(), Shards: r.intRange()}
	case kindSetQueue:
		return &SetQueue{Owner: r.string(), Name: r.string(), Settings: r.settings()}
	case kindDeleteQueue:
		return &DeleteQueue{Owner: r.string(), Name: r.string()}
	case kindUnbind:
		return &Unbind{Owner: r.string(), Name: r.string()}
	case kindDone:
		return &Done{Shard: cmq.ShardID(r.uint()), Version: r.uint()}
	case kindPutKey:
		return &PutKey{Key: r.key()}
	case kindDeleteKey:
		return &DeleteKey{ID: r.string()}
	case kindCreateTopic:
		return &CreateTopic{Owner: r.string(), Name: r.string(), Settings: r.topicSettings()}
	case kindSetTopic:
		return &SetTopic{Owner: r.string(), Name: r.string(), Settings: r.topicSettings()}
	case kindDeleteTopic:
		return &DeleteTopic{Owner: r.string(), Name: r.string()}
	case kindSubscribe:
		return &Subscribe{Owner: r.string(), Topic: r.string(), Name: r.string(), Settings: r.subscriptionSettings()}
	case kindSetSubscription:
		return &SetSubscription{Owner: r.string(), Topic: r.string(), Name: r.string(), Settings: r.subscriptionSettings()}
	case kindUnsubscribe:
		return &Unsubscribe{Owner: r.string(), Topic: r.string(), Name: r.string()}
	}
	r.fail(fmt.Sprintf("unknown command %d", k))
	return nil
}

func (c *Bootstrap) kind() kind   { return kindBootstrap }
func (c *PutNode) kind() kind     { return kindPutNode }
func (c *CreateQueue) kind() kind { return kindCreateQueue }
func (c *SetQueue) kind() kind    { return kindSetQueue }
func (c *DeleteQueue) kind() kind { return kindDeleteQueue }
func (c *Unbind) kind() kind      { return kindUnbind }
func (c *Done) kind() kind        { return kindDone }
func (c *PutKey) kind() kind      { return kindPutKey }
func (c *DeleteKey) kind() kind   { return kindDeleteKey }

func (c *CreateTopic) kind() kind     { return kindCreateTopic }
func (c *SetTopic) kind() kind        { return kindSetTopic }
func (c *DeleteTopic) kind() kind     { return kindDeleteTopic }
func (c *Subscribe) kind() kind       { return kindSubscribe }
func (c *SetSubscription) kind() kind { return kindSetSubscription }
func (c *Unsubscribe) kind() kind     { return kindUnsubscribe }

func (c *Bootstrap) append(b []byte) []byte {
	b = appendUint(b, c.Cluster)
	b = appendInt(b, int64(c.MaxQueues))
	b = appendInt(b, int64(c.MaxSources))
	b = appendUint(b, uint64(len(c.Nodes)))
	for i := range c.Nodes {
		b = appendNode(b, &c.Nodes[i])
	}
	b = appendUint(b, uint64(len(c.Sets)))
	for i := range c.Sets {
		b = appendSet(b, &c.Sets[i])
	}
	b = appendKey(b, &c.Key)
	return appendInt(appendInt(b, int64(c.MaxTopics)), int64(c.MaxSubscriptions))
}

func (r *reader) bootstrap() *Bootstrap {
	c := &Bootstrap{Cluster: r.uint(), MaxQueues: r.intRange(), MaxSources: r.intRange()}
	for n := r.count("number of nodes"); n > 0; n-- {
		c.Nodes = append(c.Nodes, r.node())
	}
	for n := r.count("number of sets"); n > 0; n-- {
		c.Sets = append(c.Sets, r.set())
	}
	c.Key = r.key()
	c.MaxTopics, c.MaxSubscriptions = r.intRange(), r.intRange()
	return c
}

func (c *PutNode) append(b []byte) []byte { return appendNode(b, &c.Node) }

func (c *CreateQueue) append(b []byte) []byte {
	b = appendString(appendString(b, c.Owner), c.Name)
	return appendInt(appendSettings(b, &c.Settings), int64(c.Shards))
}

func (c *SetQueue) append(b []byte) []byte {
	return appendSettings(appendString(appendString(b, c.Owner), c.Name), &c.Settings)
}

func (c *DeleteQueue) append(b []byte) []byte { return appendString(appendString(b, c.Owner), c.Name) }

func (c *Unbind) append(b []byte) []byte { return appendString(appendString(b, c.Owner), c.Name) }

func (c *Done) append(b []byte) []byte { return appendUint(appendUint(b, uint64(c.Shard)), c.Version) }

func (c *PutKey) append(b []byte) []byte { return appendKey(b, &c.Key) }

func (c *DeleteKey) append(b []byte) []byte { return appendString(b, c.ID) }

func (c *CreateTopic) append(b []byte) []byte {
	return appendTopicSettings(appendString(appendString(b, c.Owner), c.Name), &c.Settings)
}

func (c *SetTopic) append(b []byte) []byte {
	return appendTopicSettings(appendString(appendString(b, c.Owner), c.Name), &c.Settings)
}

func (c *DeleteTopic) append(b []byte) []byte { return appendString(appendString(b, c.Owner), c.Name) }

func (c *Subscribe) append(b []byte) []byte {
	b = appendString(appendString(appendString(b, c.Owner), c.Topic), c.Name)
	return appendSubscriptionSettings(b, &c.Settings)
}

func (c *SetSubscription) append(b []byte) []byte {
	b = appendString(appendString(appendString(b, c.Owner), c.Topic), c.Name)
	return appendSubscriptionSettings(b, &c.Settings)
}

func (c *Unsubscribe) append(b []byte) []byte {
	return appendString(appendString(appendString(b, c.Owner), c.Topic), c.Name)
}
