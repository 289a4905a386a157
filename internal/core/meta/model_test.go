package meta

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/opencmq/cmq/internal/cmq"
)

// model is the metadata written down as naively as can be: lists that are searched from one end to the other.
type model struct {
	queues   []*modelQueue
	topics   []*modelTopic
	created  int         // queues, topics and subscriptions, all of which draw from one counter
	dropping []cmq.Shard // with Epoch as the version of the task
	limit    int
}

type modelQueue struct {
	id          cmq.QueueID
	owner, name string
	retention   int64
	rewind      int64
	lock        int64
	inFlight    int64
	dlq         *modelQueue
	policy      int
	count, age  int64
	created     int64
	version     uint64
	sets        []cmq.SetID
	told        []uint64 // version each shard's set is known to have
	want        uint64   // version each shard's set must have
	transaction bool
}

func (m *model) find(owner, name string) *modelQueue {
	for _, q := range m.queues {
		if q.owner == owner && strings.EqualFold(q.name, name) {
			return q
		}
	}
	return nil
}

func (m *model) sources(dlq *modelQueue) (list []*modelQueue) {
	for _, q := range m.queues {
		if q.dlq == dlq {
			list = append(list, q)
		}
	}
	return list
}

// apply merges the settings into a copy of q, with all rules.
func (m *model) apply(q modelQueue, self *modelQueue, s *cmq.QueueSettings) (modelQueue, *cmq.Error) {
	if d := s.DeadLetter; d != nil {
		target := m.find(q.owner, d.Queue)
		switch {
		case target == nil:
			return q, cmq.ErrDeadLetterNotExist
		case target == self, target.dlq != nil, self != nil && m.isDead(self):
			return q, cmq.ErrDeadLetterNest
		case target.transaction:
			return q, cmq.ErrDeadLetterParams
		}
		bound := m.sources(target)
		if !slices.Contains(bound, self) && len(bound) >= 6 {
			return q, cmq.ErrDeadLetterBinds
		}
		q.dlq, q.policy, q.count, q.age = target, d.Policy, 0, 0
		if d.Policy == cmq.PolicyAge {
			q.age = d.MaxTimeToLive
		} else {
			q.count = d.MaxReceiveCount
		}
	}
	if s.MsgRetentionSeconds != nil {
		q.retention = *s.MsgRetentionSeconds
	}
	if s.RewindSeconds != nil {
		q.rewind = *s.RewindSeconds
	}
	if s.VisibilityTimeout != nil {
		q.lock = *s.VisibilityTimeout
	}
	if s.MaxInFlight != nil {
		q.inFlight = *s.MaxInFlight
	}
	if s.Transaction != nil {
		q.transaction = *s.Transaction
	}
	switch {
	case q.rewind > q.retention:
		return q, cmq.ErrRewindRetention
	case q.dlq != nil && q.policy == cmq.PolicyAge && q.age >= q.retention:
		return q, cmq.ErrDeadLetterParams
	case q.transaction && self != nil && m.isDead(self):
		return q, cmq.ErrNotAllowed
	}
	return q, nil
}

func (m *model) load(set cmq.SetID) (n int) {
	for _, q := range m.queues {
		for _, s := range q.sets {
			if s == set {
				n++
			}
		}
	}
	for _, topic := range m.topics {
		if topic.set == set {
			n += 1 + len(topic.subs)
		}
	}
	for _, s := range m.dropping {
		if s.Set == set {
			n++
		}
	}
	return n
}

func (m *model) create(c *CreateQueue, now int64) *cmq.Error {
	count := 0
	for _, q := range m.queues {
		if q.owner == c.Owner {
			count++
		}
	}
	switch {
	case m.find(c.Owner, c.Name) != nil:
		return cmq.ErrQueueExists
	case count >= m.limit:
		return cmq.ErrQueueLimit
	}
	q, err := m.apply(modelQueue{owner: c.Owner, name: c.Name, retention: 345600, lock: 30, inFlight: cmq.DefaultMaxInFlight, created: now, version: 1, want: 1}, nil, &c.Settings)
	if err != nil {
		return err
	}
	m.created++
	q.id = cmq.QueueID(m.created)
	m.queues = append(m.queues, &q)
	for range c.Shards {
		q.sets, q.told = append(q.sets, m.emptiest()), append(q.told, 0)
	}
	return nil
}

func (m *model) emptiest() cmq.SetID {
	best := cmq.SetID(1)
	for set := cmq.SetID(2); set <= 3; set++ {
		if m.load(set) < m.load(best) {
			best = set
		}
	}
	return best
}

func (m *model) set(owner, name string, s *cmq.QueueSettings) *cmq.Error {
	q := m.find(owner, name)
	if q == nil {
		return cmq.ErrQueueNotExist
	}
	changed, err := m.apply(*q, q, s)
	if err != nil {
		return err
	}
	m.replace(q, changed)
	return nil
}

func (m *model) replace(q *modelQueue, changed modelQueue) {
	same := q.retention == changed.retention && q.rewind == changed.rewind && q.lock == changed.lock && q.inFlight == changed.inFlight && q.transaction == changed.transaction &&
		q.dlq == changed.dlq && q.policy == changed.policy && q.count == changed.count && q.age == changed.age
	if !same {
		changed.version++
		changed.want = changed.version
	}
	*q = changed
}

func (m *model) unbind(owner, name string) *cmq.Error {
	q := m.find(owner, name)
	switch {
	case q == nil:
		return cmq.ErrQueueNotExist
	case q.dlq == nil:
		return cmq.ErrDeadLetterNotExist
	}
	changed := *q
	changed.dlq, changed.policy, changed.count, changed.age = nil, 0, 0, 0
	m.replace(q, changed)
	return nil
}

func (m *model) delete(owner, name string) *cmq.Error {
	q := m.find(owner, name)
	switch {
	case q == nil:
		return cmq.ErrQueueNotExist
	case m.isDead(q):
		return cmq.ErrDeadLetterInUse
	}
	m.queues = slices.DeleteFunc(m.queues, func(o *modelQueue) bool { return o == q })
	for i, set := range q.sets {
		m.dropping = append(m.dropping, cmq.Shard{ID: q.id.Shard(uint8(i)), Set: set, Epoch: q.version + 1})
	}
	return nil
}

func (m *model) done(shard cmq.ShardID, version uint64) {
	m.dropping = slices.DeleteFunc(m.dropping, func(s cmq.Shard) bool { return s.ID == shard && version >= s.Epoch })
	for _, q := range m.queues {
		if i := int(shard.Ordinal()); q.id == shard.Queue() && i < len(q.told) {
			q.told[i] = max(q.told[i], version)
		}
	}
	for _, topic := range m.topics {
		for _, sub := range topic.subs {
			if sub.id.Shard() == shard {
				sub.told = max(sub.told, version)
			}
		}
	}
}

// tasks is what remains to be told, as text.
func (m *model) tasks() (list []string) {
	for _, s := range m.dropping {
		list = append(list, fmt.Sprintf("drop %d of set %d, version %d", s.ID, s.Set, s.Epoch))
	}
	for _, q := range m.queues {
		for i, told := range q.told {
			kind := "set"
			if told == 0 {
				kind = "open"
			}
			if told < q.want {
				list = append(list, fmt.Sprintf("%s %d of set %d, version %d", kind, q.id.Shard(uint8(i)), q.sets[i], q.want))
			}
		}
	}
	for _, topic := range m.topics {
		for _, sub := range topic.subs {
			kind := "set"
			if sub.told == 0 {
				kind = "open"
			}
			if sub.told < sub.want {
				list = append(list, fmt.Sprintf("%s %d of set %d, version %d, retention %d, %v", kind, sub.id.Shard(), topic.set, sub.want, sub.keeps(topic), sub.filter()))
			}
		}
	}
	slices.Sort(list)
	return list
}

// describe is what can be seen of the owner's queues, in the order of the list, as text.
func (m *model) describe(owner string) (list []string) {
	queues := slices.Clone(m.queues)
	slices.SortFunc(queues, func(a, b *modelQueue) int {
		if a.created != b.created {
			return int(a.created - b.created)
		}
		return strings.Compare(strings.ToLower(a.name), strings.ToLower(b.name))
	})
	for _, q := range queues {
		if q.owner != owner {
			continue
		}
		dlq := cmq.QueueID(0)
		if q.dlq != nil {
			dlq = q.dlq.id
		}
		list = append(list, fmt.Sprint(q.name, q.id, q.version, q.retention, q.rewind, q.lock, q.inFlight, dlq, q.policy, q.count, q.age, len(m.sources(q)), q.sets, q.transaction))
	}
	return list
}

func describeTable(t *Table, owner string) (list []string) {
	for _, q := range t.Queues(owner) {
		a := &q.Attributes
		var sets []cmq.SetID
		for _, s := range q.Shards {
			sets = append(sets, s.Set)
		}
		d := &a.DeadLetter
		list = append(list, fmt.Sprint(q.Name, q.ID, q.Version, int64(a.MsgRetention/time.Second), int64(a.Rewind/time.Second),
			int64(a.VisibilityTimeout/time.Second), a.MaxInFlight, d.Queue, d.Policy, d.MaxReceiveCount, int64(d.MaxTimeToLive/time.Second),
			len(t.Sources(q.ID)), sets, a.Transaction.On))
	}
	return list
}

func describeTasks(t *Table) (list []string) {
	for _, task := range t.Tasks() {
		line := fmt.Sprintf("%v %d of set %d, version %d", task.Kind, task.Shard, task.Set, task.Version)
		if s := task.Subscriber; s != nil {
			line += fmt.Sprintf(", retention %d, %v", int64(task.Attributes.MsgRetention/time.Second), []any{s.Tags, s.Keys, s.Forward})
		}
		list = append(list, line)
	}
	slices.Sort(list)
	return list
}

func drawSettings(t *rapid.T, names *rapid.Generator[string]) (s cmq.QueueSettings) {
	maybe := func(label string, values ...int64) *int64 {
		if !rapid.Bool().Draw(t, label+"?") {
			return nil
		}
		return ptr(rapid.SampledFrom(values).Draw(t, label))
	}
	s.MsgRetentionSeconds = maybe("retention", 60, 400, 1000)
	s.RewindSeconds = maybe("rewind", 0, 60, 500)
	s.VisibilityTimeout = maybe("lock", 30, 31)
	s.MaxInFlight = maybe("in flight", 1, 10_000_000)
	if rapid.IntRange(0, 3).Draw(t, "transaction?") == 0 {
		s.Transaction = ptr(rapid.Bool().Draw(t, "transaction"))
	}
	if rapid.Bool().Draw(t, "dead letter?") {
		s.DeadLetter = &cmq.DeadLetterSettings{
			Queue:           names.Draw(t, "dead letter"),
			Policy:          rapid.IntRange(0, 1).Draw(t, "policy"),
			MaxReceiveCount: rapid.Int64Range(1, 2).Draw(t, "count"),
			MaxTimeToLive:   rapid.SampledFrom([]int64{300, 400}).Draw(t, "age"),
		}
	}
	return s
}

// Whatever commands come: the state answers as the model does and shows the same, a second replica is equal, also
// one that was stopped and came back from an image, and published tables stay as they were.
func TestStateAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		boot := threeNodes()
		boot.MaxQueues, boot.MaxTopics, boot.MaxSubscriptions = 9, maxModelTopics, maxModelSubscriptions
		state, replica, m := New(), New(), &model{limit: 9}
		state.Apply(boot, start)
		replica.Apply(boot, start)
		names := rapid.SampledFrom([]string{"a", "A", "b", "c", "d", "e", "f", "g", "h", "i", "j"})
		owners := rapid.SampledFrom([]string{"1", "1", "1", "1", "12"})
		now := start
		published := state.Table()
		image := published.Encode()

		step := func(t *rapid.T, c Command, want *cmq.Error) {
			version := state.Version()
			got, other := state.Apply(c, now), replica.Apply(c, now)
			require.Equal(t, want, got.Err)
			require.Equal(t, got, other)
			require.Equal(t, now, state.Time())
			require.False(t, got.Err != nil && state.Version() != version, "a refusal changes nothing")
		}
		actions := map[string]func(*rapid.T){
			"create": func(t *rapid.T) {
				c := &CreateQueue{owners.Draw(t, "owner"), names.Draw(t, "name"), drawSettings(t, names), rapid.IntRange(1, 3).Draw(t, "shards")}
				step(t, c, m.create(c, now))
			},
			"set": func(t *rapid.T) {
				c := &SetQueue{owners.Draw(t, "owner"), names.Draw(t, "name"), drawSettings(t, names)}
				step(t, c, m.set(c.Owner, c.Name, &c.Settings))
			},
			"unbind": func(t *rapid.T) {
				c := &Unbind{owners.Draw(t, "owner"), names.Draw(t, "name")}
				step(t, c, m.unbind(c.Owner, c.Name))
			},
			"delete": func(t *rapid.T) {
				c := &DeleteQueue{owners.Draw(t, "owner"), names.Draw(t, "name")}
				step(t, c, m.delete(c.Owner, c.Name))
			},
			"done": func(t *rapid.T) {
				tasks := state.Table().Tasks()
				if len(tasks) == 0 {
					return
				}
				task := rapid.SampledFrom(tasks).Draw(t, "task")
				version := task.Version
				if task.Kind != DropShard && rapid.Bool().Draw(t, "old") {
					version = rapid.Uint64Range(1, version).Draw(t, "version")
				}
				m.done(task.Shard, version)
				step(t, &Done{task.Shard, version}, nil)
			},
			"time passes": func(t *rapid.T) { now += rapid.Int64Range(0, 1000).Draw(t, "ms") },
			"publish":     func(*rapid.T) { published = state.Table(); image = published.Encode() },
			"replica restarts": func(t *rapid.T) {
				s, err := DecodeState(replica.Encode())
				require.NoError(t, err)
				replica = s
			},
			"": func(t *rapid.T) {
				require.Equal(t, state.Digest(), replica.Digest())
				require.Equal(t, image, published.Encode())
				table := state.Table()
				require.Equal(t, m.describe("1"), describeTable(table, "1"))
				require.Equal(t, m.describe("12"), describeTable(table, "12"))
				require.Equal(t, m.tasks(), describeTasks(table))
				require.Equal(t, m.describeTopics("1"), describeTopics(table, "1"))
				require.Equal(t, m.describeTopics("12"), describeTopics(table, "12"))
				for _, q := range m.queues {
					require.Equal(t, q.id, table.Queue(q.owner, strings.ToUpper(q.name)).ID)
					require.Equal(t, q.name, table.QueueByID(q.id).Name)
				}
			},
		}
		topicActions(actions, m, step, owners, names, &now)
		t.Repeat(actions)
	})
}
