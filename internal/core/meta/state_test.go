package meta

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
)

const (
	owner = "1001"
	start = int64(1_700_000_000_000)
)

// cluster is a bootstrapped state with three data sets.
func cluster(t testing.TB) *State {
	s := New()
	require.Nil(t, s.Apply(threeNodes(), start).Err)
	return s
}

func threeNodes() *Bootstrap {
	all := []cmq.NodeID{1, 2, 3}
	return &Bootstrap{
		Cluster: 77,
		Nodes:   []cmq.Node{{ID: 1, HTTP: "a:1", TCP: "a:2", Peer: "a:3", Admin: "a:4"}, {ID: 2}, {ID: 3}},
		Sets: []cmq.Set{
			{ID: 0, Replicas: all}, {ID: 1, Replicas: all}, {ID: 2, Replicas: all}, {ID: 3, Replicas: all},
		},
		Key: cmq.AccessKey{ID: "AKID", Secret: "s", Owner: owner, Enabled: true},
	}
}

func ptr[T any](v T) *T { return &v }

func create(t testing.TB, s *State, name string, settings cmq.QueueSettings) *cmq.Queue {
	r := s.Apply(&CreateQueue{Owner: owner, Name: name, Settings: settings, Shards: 1}, start)
	require.Nil(t, r.Err)
	return r.Queue
}

func deadLetter(queue string) cmq.QueueSettings {
	return cmq.QueueSettings{DeadLetter: &cmq.DeadLetterSettings{Queue: queue, MaxReceiveCount: 3}}
}

func byAge(queue string, seconds int64) cmq.QueueSettings {
	return cmq.QueueSettings{DeadLetter: &cmq.DeadLetterSettings{Queue: queue, Policy: cmq.PolicyAge, MaxTimeToLive: seconds}}
}

func TestBootstrapCountsOnce(t *testing.T) {
	s := cluster(t)
	before := s.Encode()
	other := threeNodes()
	other.Cluster = 78
	require.Nil(t, s.Apply(other, start).Err)
	require.Equal(t, before, s.Encode())
	table := s.Table()
	require.Equal(t, uint64(77), table.Cluster())
	require.Equal(t, "a:3", table.Node(1).Peer)
	require.Equal(t, "s", table.Key("AKID").Secret)
	require.Len(t, table.Sets(), 4)
	require.Len(t, table.Nodes(), 3)
	require.Len(t, table.Keys(), 1)
	require.Nil(t, table.Set(9))
	require.Nil(t, table.Node(9))
	require.Nil(t, table.Key("none"))
}

func TestBootstrapRefusesNonsense(t *testing.T) {
	rows := map[string]func(*Bootstrap){
		"no cluster id":          func(b *Bootstrap) { b.Cluster = 0 },
		"node without id":        func(b *Bootstrap) { b.Nodes[1].ID = 0 },
		"node twice":             func(b *Bootstrap) { b.Nodes[1].ID = 1 },
		"set twice":              func(b *Bootstrap) { b.Sets[1].ID = 2 },
		"set without replicas":   func(b *Bootstrap) { b.Sets[1].Replicas = nil },
		"replica on unknown one": func(b *Bootstrap) { b.Sets[1].Replicas = []cmq.NodeID{4} },
		"key without secret":     func(b *Bootstrap) { b.Key.Secret = "" },
		"negative limit":         func(b *Bootstrap) { b.MaxQueues = -1 },
	}
	for name, spoil := range rows {
		t.Run(name, func(t *testing.T) {
			s, b := New(), threeNodes()
			spoil(b)
			require.Equal(t, cmq.ErrParameters, s.Apply(b, start).Err)
			require.False(t, s.Bootstrapped())
		})
	}
}

func TestCreatePlacesOnTheEmptiestSet(t *testing.T) {
	s := cluster(t)
	var sets []cmq.SetID
	for _, name := range []string{"a", "b", "c", "d"} {
		sets = append(sets, create(t, s, name, cmq.QueueSettings{}).Shards[0].Set)
	}
	require.Equal(t, []cmq.SetID{1, 2, 3, 1}, sets)

	wide := s.Apply(&CreateQueue{Owner: owner, Name: "wide", Shards: 5}, start).Queue
	sets = nil
	for i, shard := range wide.Shards {
		require.Equal(t, wide.ID.Shard(uint8(i)), shard.ID)
		sets = append(sets, shard.Set)
	}
	require.Equal(t, []cmq.SetID{2, 3, 1, 2, 3}, sets)
}

func TestCreateRefusals(t *testing.T) {
	s := cluster(t)
	create(t, s, "Orders", cmq.QueueSettings{})
	create(t, s, "dead", cmq.QueueSettings{})
	create(t, s, "source", deadLetter("dead"))
	rows := []struct {
		name    string
		command CreateQueue
		err     *cmq.Error
	}{
		{"same name in other case", CreateQueue{Name: "oRDERS"}, cmq.ErrQueueExists},
		{"bad name", CreateQueue{Name: "1a"}, cmq.ErrQueueName},
		{"no shards", CreateQueue{Name: "x", Shards: -1}, cmq.ErrParameters},
		{"too many shards", CreateQueue{Name: "x", Shards: 129}, cmq.ErrParameters},
		{"rewind beyond default retention", CreateQueue{Name: "x", Settings: cmq.QueueSettings{RewindSeconds: ptr(int64(345601))}}, cmq.ErrRewindRetention},
		{"retention overflows", CreateQueue{Name: "x", Settings: cmq.QueueSettings{MsgRetentionSeconds: ptr(int64(1) << 60)}}, cmq.ErrParameterRange("")},
		{"no such dead-letter queue", CreateQueue{Name: "x", Settings: deadLetter("none")}, cmq.ErrDeadLetterNotExist},
		{"itself", CreateQueue{Name: "x", Settings: deadLetter("x")}, cmq.ErrDeadLetterNotExist},
		{"dead-letter queue has a policy", CreateQueue{Name: "x", Settings: deadLetter("source")}, cmq.ErrDeadLetterNest},
		{"no name of the dead-letter queue", CreateQueue{Name: "x", Settings: deadLetter("")}, cmq.ErrDeadLetterQueue},
		{"age not below retention", CreateQueue{Name: "x", Settings: byAge("dead", 345600)}, cmq.ErrDeadLetterParams},
		{"unknown policy", CreateQueue{Name: "x", Settings: cmq.QueueSettings{DeadLetter: &cmq.DeadLetterSettings{Queue: "dead", Policy: 2}}}, cmq.ErrDeadLetterPolicy},
		{"no receive count", CreateQueue{Name: "x", Settings: cmq.QueueSettings{DeadLetter: &cmq.DeadLetterSettings{Queue: "dead"}}}, cmq.ErrDeadLetterParams},
	}
	before := s.Digest()
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			c := row.command
			c.Owner, c.Shards = owner, orDefault(c.Shards, 1)
			require.ErrorIs(t, s.Apply(&c, start).Err, row.err)
			require.Equal(t, before, s.Digest(), "a refusal changes nothing")
		})
	}
	require.Equal(t, cmq.ErrParameters, s.Apply(&CreateQueue{Owner: "a\x00b", Name: "x", Shards: 1}, start).Err)
	require.Equal(t, cmq.ErrInternal, createWithoutSets())
}

// createWithoutSets tries to create a queue where there is no data set.
func createWithoutSets() *cmq.Error {
	s := New()
	s.maxQueues = 1
	return s.Apply(&CreateQueue{Owner: owner, Name: "x", Shards: 1}, start).Err
}

func TestLimitOfQueues(t *testing.T) {
	s, b := New(), threeNodes()
	b.MaxQueues = 2
	require.Nil(t, s.Apply(b, start).Err)
	create(t, s, "a", cmq.QueueSettings{})
	create(t, s, "b", cmq.QueueSettings{})
	third := &CreateQueue{Owner: owner, Name: "c", Shards: 1}
	require.Equal(t, cmq.ErrQueueLimit, s.Apply(third, start).Err)
	require.Nil(t, s.Apply(&CreateQueue{Owner: "other", Name: "c", Shards: 1}, start).Err)
	require.Nil(t, s.Apply(&DeleteQueue{owner, "a"}, start).Err)
	require.Nil(t, s.Apply(third, start).Err)
}

func TestDeadLetterRules(t *testing.T) {
	s := cluster(t)
	dead := create(t, s, "dead", cmq.QueueSettings{})
	for _, name := range []string{"s1", "s2", "s3", "s4", "s5", "s6"} {
		create(t, s, name, deadLetter("DEAD"))
	}
	create(t, s, "free", cmq.QueueSettings{})
	create(t, s, "dead2", cmq.QueueSettings{})
	set := func(name string, settings cmq.QueueSettings) *cmq.Error {
		return s.Apply(&SetQueue{owner, name, settings}, start).Err
	}
	require.Equal(t, cmq.ErrDeadLetterBinds, set("free", deadLetter("dead")))
	require.Nil(t, set("s6", byAge("dead", 300)), "a queue that is bound already may change its policy")
	require.Equal(t, cmq.ErrDeadLetterParams, set("s6", cmq.QueueSettings{MsgRetentionSeconds: ptr(int64(300))}))
	require.Equal(t, cmq.ErrDeadLetterNest, set("dead", deadLetter("free")), "is somebody's dead-letter queue")
	require.Equal(t, cmq.ErrDeadLetterNest, set("free", deadLetter("s1")), "names a queue with a policy")
	require.Equal(t, cmq.ErrDeadLetterNest, set("free", deadLetter("free")), "itself")
	require.Equal(t, cmq.ErrDeadLetterInUse, s.Apply(&DeleteQueue{owner, "dead"}, start).Err)
	require.Len(t, s.Table().Sources(dead.ID), 6)

	require.Nil(t, set("s1", deadLetter("dead2")), "to another one")
	require.Nil(t, set("free", deadLetter("dead")), "a place became free")
	r := s.Apply(&Unbind{owner, "free"}, start)
	require.Nil(t, r.Err)
	require.Zero(t, r.Queue.Attributes.DeadLetter)
	require.Equal(t, cmq.ErrDeadLetterNotExist, s.Apply(&Unbind{owner, "free"}, start).Err)
	require.Equal(t, cmq.ErrQueueNotExist, s.Apply(&Unbind{owner, "none"}, start).Err)
	for _, name := range []string{"s2", "s3", "s4", "s5", "s6"} {
		require.Nil(t, s.Apply(&DeleteQueue{owner, name}, start).Err)
	}
	require.Empty(t, s.Table().Sources(dead.ID))
	require.Nil(t, s.Apply(&DeleteQueue{owner, "dead"}, start).Err)
}

func TestSetQueueMergesAndCounts(t *testing.T) {
	s := cluster(t)
	q := create(t, s, "q", cmq.QueueSettings{RewindSeconds: ptr(int64(100))})
	r := s.Apply(&SetQueue{owner, "Q", cmq.QueueSettings{PollingWaitSeconds: ptr(int64(9))}}, start+5000)
	require.Nil(t, r.Err)
	require.Equal(t, 9*time.Second, r.Queue.Attributes.PollingWait)
	require.Equal(t, 100*time.Second, r.Queue.Attributes.Rewind)
	require.Equal(t, q.Version+1, r.Queue.Version)
	require.Equal(t, time.UnixMilli(start).UTC(), r.Queue.Created)
	require.Equal(t, time.UnixMilli(start+5000).UTC(), r.Queue.Modified)
	require.Equal(t, cmq.ErrRewindRetention,
		s.Apply(&SetQueue{owner, "q", cmq.QueueSettings{MsgRetentionSeconds: ptr(int64(99))}}, start).Err)
	require.Equal(t, cmq.ErrQueueNotExist, s.Apply(&SetQueue{owner, "none", cmq.QueueSettings{}}, start).Err)

	same := s.Apply(&SetQueue{owner, "q", cmq.QueueSettings{PollingWaitSeconds: ptr(int64(9))}}, start+6000)
	require.Equal(t, r.Queue.Version, same.Queue.Version)
	require.Equal(t, time.UnixMilli(start+6000).UTC(), same.Queue.Modified)
}

// A queue's only shard goes through all tasks; the comments tell what the shard's set has heard.
func TestTasksSurviveUntilDone(t *testing.T) {
	s := cluster(t)
	q := create(t, s, "q", cmq.QueueSettings{})
	shard := q.Shards[0].ID
	lock := func(seconds int64) *cmq.Queue {
		return s.Apply(&SetQueue{owner, "q", cmq.QueueSettings{VisibilityTimeout: &seconds}}, start).Queue
	}
	task := func(kind TaskKind, version uint64) {
		t.Helper()
		tasks := s.Table().Tasks()
		require.Len(t, tasks, 1)
		require.Equal(t, kind, tasks[0].Kind)
		require.Equal(t, version, tasks[0].Version)
		require.Equal(t, shard, tasks[0].Shard)
		require.Equal(t, q.Shards[0].Set, tasks[0].Set)
	}
	done := func(version uint64) { require.Nil(t, s.Apply(&Done{shard, version}, start).Err) }

	task(OpenShard, 1)
	lock(40)
	task(OpenShard, 2)
	require.Equal(t, 40*time.Second, s.Table().Tasks()[0].Attributes.VisibilityTimeout)
	done(1) // opened with version 1, which is not enough any more
	task(SetShard, 2)
	done(1)
	task(SetShard, 2)
	lock(50)
	done(2)
	task(SetShard, 3)
	done(3)
	require.Empty(t, s.Table().Tasks())
	s.Apply(&SetQueue{owner, "q", cmq.QueueSettings{PollingWaitSeconds: ptr(int64(5))}}, start)
	require.Empty(t, s.Table().Tasks(), "the shards do not care how long a poll waits")

	gone := s.Apply(&DeleteQueue{owner, "q"}, start).Queue
	task(DropShard, gone.Version)
	require.Len(t, s.Table().Graves(), 1)
	done(gone.Version - 1) // late news of a change
	task(DropShard, gone.Version)
	done(gone.Version)
	require.Empty(t, s.Table().Tasks())
	require.Empty(t, s.Table().Graves())
	done(gone.Version)
}

// F-M9: the namesake of a deleted queue has nothing of it, and its shards are dropped by exact id.
func TestNamesakeIsAnotherQueue(t *testing.T) {
	s := cluster(t)
	old := create(t, s, "q", cmq.QueueSettings{})
	require.Nil(t, s.Apply(&DeleteQueue{owner, "Q"}, start).Err)
	require.Equal(t, cmq.ErrQueueNotExist, s.Apply(&DeleteQueue{owner, "q"}, start).Err)
	renewed := create(t, s, "q", cmq.QueueSettings{})
	require.NotEqual(t, old.ID, renewed.ID)
	tasks := s.Table().Tasks()
	require.Equal(t, []cmq.ShardID{old.Shards[0].ID, renewed.Shards[0].ID}, []cmq.ShardID{tasks[0].Shard, tasks[1].Shard})
	require.Equal(t, []TaskKind{DropShard, OpenShard}, []TaskKind{tasks[0].Kind, tasks[1].Kind})
	require.Nil(t, s.Apply(&Done{old.Shards[0].ID, tasks[0].Version}, start).Err)
	require.Equal(t, renewed, s.Table().Queue(owner, "q"))
}

func TestQueuesAreListedByCreationThenName(t *testing.T) {
	s := cluster(t)
	at := map[string]int64{"zeta": 0, "beta": 1, "Alpha": 1, "omega": 2}
	for _, name := range []string{"zeta", "beta", "Alpha", "omega"} {
		require.Nil(t, s.Apply(&CreateQueue{Owner: owner, Name: name, Shards: 1}, start+at[name]).Err)
	}
	// Time in the state does not go back with the time of a batch.
	require.Nil(t, s.Apply(&CreateQueue{Owner: owner, Name: "last", Shards: 1}, start-5).Err)
	require.Nil(t, s.Apply(&CreateQueue{Owner: owner + "1", Name: "foreign", Shards: 1}, start).Err)
	var names []string
	for _, q := range s.Table().Queues(owner) {
		names = append(names, q.Name)
	}
	require.Equal(t, []string{"zeta", "Alpha", "beta", "last", "omega"}, names)
	require.Empty(t, s.Table().Queues("nobody"))
}

func TestKeysAndNodes(t *testing.T) {
	s := cluster(t)
	key := cmq.AccessKey{ID: "second", Secret: "x", Owner: "2", Enabled: true}
	require.Nil(t, s.Apply(&PutKey{key}, start).Err)
	version := s.Version()
	require.Nil(t, s.Apply(&PutKey{key}, start).Err)
	require.Equal(t, version, s.Version(), "nothing changed")
	key.Enabled = false
	require.Nil(t, s.Apply(&PutKey{key}, start).Err)
	require.False(t, s.Table().Key("second").Enabled)
	require.Equal(t, cmq.ErrParameters, s.Apply(&PutKey{cmq.AccessKey{ID: "x"}}, start).Err)
	require.Nil(t, s.Apply(&DeleteKey{"second"}, start).Err)
	require.Equal(t, cmq.ErrKeyUnknown, s.Apply(&DeleteKey{"second"}, start).Err)

	node := cmq.Node{ID: 4, Peer: "d:3"}
	require.Nil(t, s.Apply(&PutNode{node}, start).Err)
	version = s.Version()
	require.Nil(t, s.Apply(&PutNode{node}, start).Err)
	require.Equal(t, version, s.Version())
	require.Equal(t, "d:3", s.Table().Node(4).Peer)
	require.Equal(t, cmq.ErrParameters, s.Apply(&PutNode{}, start).Err)
}

func TestPublishedTablesDoNotChange(t *testing.T) {
	s := cluster(t)
	create(t, s, "q", cmq.QueueSettings{})
	table := s.Table()
	require.Same(t, table, s.Table())
	before := table.Encode()
	s.Apply(&SetQueue{owner, "q", cmq.QueueSettings{VisibilityTimeout: ptr(int64(5))}}, start+1)
	create(t, s, "r", deadLetter("q"))
	s.Apply(&PutNode{cmq.Node{ID: 9}}, start)
	s.Apply(&DeleteKey{"AKID"}, start)
	s.Apply(&DeleteQueue{owner, "r"}, start)
	require.Equal(t, before, table.Encode())
	require.NotSame(t, table, s.Table())
	require.Empty(t, table.Sources(table.Queue(owner, "q").ID))
}

func TestUnknownCommandHasNoRule(t *testing.T) {
	require.PanicsWithValue(t, "BUG: command <nil> has no rule", func() { New().Apply(nil, 0) })
}

func TestTaskKindNames(t *testing.T) {
	names := []string{OpenShard.String(), SetShard.String(), DropShard.String(), TaskKind(9).String()}
	require.Equal(t, "open set drop unknown", strings.Join(names, " "))
}
