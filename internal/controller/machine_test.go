package controller

import (
	"bytes"
	"errors"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/meta"
)

const owner = "1001"

func plan() *meta.Bootstrap {
	limits := cmq.DefaultLimits()
	key := cmq.AccessKey{ID: "AKID", Secret: "s", Owner: owner, Enabled: true}
	return Plan(77, []cmq.Node{{ID: 1, Peer: "a"}, {ID: 2, Peer: "b"}, {ID: 3, Peer: "c"}}, key, &limits)
}

// group drives the machines of one set the simplest way there is: an entry is committed when the leader cuts
// it, and every machine applies it at once.
type group struct {
	machines []*Machine
	log      []logged
	term     uint64
	now      int64
}

type logged struct {
	term uint64
	data []byte
}

func newGroup(n int, tweak func(i int, cfg *MachineConfig)) *group {
	g := &group{now: 1_700_000_000_000}
	for i := range n {
		cfg := MachineConfig{Node: cmq.NodeID(i + 1), Board: NewBoard(), Bootstrap: plan()}
		if tweak != nil {
			tweak(i, &cfg)
		}
		g.machines = append(g.machines, NewMachine(cfg))
	}
	return g
}

// elect makes machine i the leader of a new term.
func (g *group) elect(i int) {
	for j, m := range g.machines {
		if j != i && m.leading {
			m.Follow()
		}
	}
	g.term++
	g.commit(g.term, nil)
	g.machines[i].Lead(g.term)
}

func (g *group) commit(term uint64, data []byte) {
	g.log = append(g.log, logged{term, data})
	for _, m := range g.machines {
		m.Apply(uint64(len(g.log)), term, data)
	}
}

// run commits everything that waits at machine i.
func (g *group) run(i int) {
	for g.machines[i].Waiting() > 0 {
		g.now++
		g.commit(g.term, g.machines[i].Cut(g.now, 1<<20))
	}
}

// answer is what a request was answered.
type answer struct {
	reply *cmq.Reply
	err   error
	count int
}

func submit(m *Machine, payload []byte) *answer {
	a := &answer{}
	m.Submit(&cmq.Request{Kind: cmq.KindMeta, Payload: payload}, func(r *cmq.Reply, err error) {
		a.reply, a.err = r, err
		a.count++
	})
	return a
}

func createPayload(name string) []byte {
	return meta.Encode(&meta.CreateQueue{Owner: owner, Name: name, Shards: 1})
}

func TestFirstLeaderBootstraps(t *testing.T) {
	g := newGroup(3, nil)
	g.elect(0)
	require.Positive(t, g.machines[0].Waiting())
	g.run(0)
	for _, m := range g.machines {
		table := m.cfg.Board.Table()
		require.Equal(t, uint64(77), table.Cluster())
		require.Len(t, table.Sets(), 4)
		require.Equal(t, []cmq.NodeID{1, 2, 3}, table.Set(0).Replicas)
		require.Equal(t, []cmq.NodeID{2, 3, 1}, table.Set(2).Replicas)
		require.Equal(t, "s", table.Key("AKID").Secret)
	}
	g.elect(1)
	require.Zero(t, g.machines[1].Waiting(), "the cluster is there")
}

func TestPlanBySize(t *testing.T) {
	limits := cmq.DefaultLimits()
	for nodes, data := range map[int]int{1: 1, 2: 2, 3: 3, 5: 5} {
		var list []cmq.Node
		for i := range nodes {
			list = append(list, cmq.Node{ID: cmq.NodeID(i + 1)})
		}
		b := Plan(1, list, cmq.AccessKey{}, &limits)
		require.Len(t, b.Sets, data+1)
		for _, s := range b.Sets {
			require.Len(t, s.Replicas, min(3, nodes))
		}
		require.Nil(t, meta.New().Apply(b, 1).Err)
	}
}

func TestOneEntryCarriesAllThatWait(t *testing.T) {
	g := newGroup(3, nil)
	g.elect(0)
	g.run(0)
	entries := len(g.log)
	first, second, twice := submit(g.machines[0], createPayload("a")), submit(g.machines[0], createPayload("b")), submit(g.machines[0], createPayload("A"))
	sync := submit(g.machines[0], query{kind: querySync}.encode())
	require.Zero(t, first.count)
	g.run(0)
	require.Len(t, g.log, entries+1)
	for _, a := range []*answer{first, second, twice, sync} {
		require.NoError(t, a.err)
		require.Equal(t, 1, a.count)
	}
	q, err := meta.DecodeQueue(first.reply.Payload)
	require.NoError(t, err)
	require.Equal(t, q.ID, first.reply.Queue)
	require.Equal(t, q, g.machines[2].cfg.Board.Table().Queue(owner, "a"))
	require.Equal(t, g.now, q.Created.UnixMilli(), "the batch's time")
	require.Equal(t, first.reply.Number, second.reply.Number, "both are shown by one table")
	require.Equal(t, cmq.ErrQueueExists, twice.reply.Err)
	require.Equal(t, second.reply.Number, sync.reply.Number)
	require.Equal(t, g.machines[0].Digest(), g.machines[1].Digest())
	require.Equal(t, g.machines[0].Digest(), g.machines[2].Digest())
	require.Equal(t, g.now, g.machines[1].Time())
	require.Zero(t, g.machines[0].Wake())
}

func TestCutKeepsToTheLimit(t *testing.T) {
	g := newGroup(1, nil)
	g.elect(0)
	g.run(0)
	m := g.machines[0]
	for _, name := range []string{"a", "b", "c"} {
		submit(m, createPayload(name))
	}
	size := len(createPayload("a")) + 8
	require.Equal(t, 3*size, m.Waiting())
	g.commit(g.term, m.Cut(g.now, 2*size))
	require.Len(t, m.cfg.Board.Table().Queues(owner), 2)
	require.Equal(t, size, m.Waiting())
	g.commit(g.term, m.Cut(g.now, 1)) // one always fits
	require.Len(t, m.cfg.Board.Table().Queues(owner), 3)
	require.Nil(t, m.Cut(g.now, 1<<20))
}

func TestWhoDoesNotLeadRefuses(t *testing.T) {
	g := newGroup(1, func(_ int, cfg *MachineConfig) { cfg.Leader = func() cmq.NodeID { return 3 } })
	m := g.machines[0]
	a := submit(m, createPayload("a"))
	var no *cmq.NotLeaderError
	require.ErrorAs(t, a.err, &no)
	require.Equal(t, cmq.NodeID(3), no.Leader)

	g.elect(0)
	g.run(0)
	a = submit(m, createPayload("a"))
	m.Follow()
	require.ErrorAs(t, a.err, &no, "it was not cut yet")
	require.Zero(t, m.Waiting())
	require.False(t, m.cfg.Board.Leading())
}

func TestWhatWasCutIsAnsweredByTheLog(t *testing.T) {
	g := newGroup(3, nil)
	g.elect(0)
	g.run(0)
	old := g.machines[0]
	kept, lost := submit(old, createPayload("kept")), &answer{}
	keptEntry, oldTerm := old.Cut(g.now, 1<<20), g.term
	lost = submit(old, createPayload("lost"))
	old.Cut(g.now, 1<<20)
	old.Follow()
	require.Zero(t, kept.count+lost.count, "nobody can tell yet")

	g.commit(oldTerm, keptEntry)
	require.NoError(t, kept.err)
	require.Equal(t, 1, kept.count)
	require.Zero(t, lost.count)
	g.elect(1)
	require.Equal(t, cmq.ErrDropped, lost.err)
	require.Equal(t, 1, lost.count)
}

func TestEntryLostWithinATermIsDropped(t *testing.T) {
	g := newGroup(1, nil)
	g.elect(0)
	g.run(0)
	m := g.machines[0]
	lost := submit(m, createPayload("lost"))
	m.Cut(g.now, 1<<20)
	kept := submit(m, createPayload("kept"))
	g.run(0)
	require.Equal(t, cmq.ErrDropped, lost.err)
	require.NoError(t, kept.err)
	require.Equal(t, 1, kept.count)
}

func TestEntriesOfOthersAreNotMine(t *testing.T) {
	g := newGroup(2, nil)
	g.elect(0)
	g.run(0)
	a := submit(g.machines[0], createPayload("a"))
	mine := g.machines[0].Cut(g.now, 1<<20)
	batch, err := meta.ParseBatch(mine)
	require.NoError(t, err)
	g.commit(g.term, meta.EncodeBatch(2, batch.Number, g.now, [][]byte{createPayload("b")}))
	require.Zero(t, a.count)
	g.commit(g.term, mine)
	require.Equal(t, 1, a.count)
}

func TestSnapshotLeavesOutcomesUnknown(t *testing.T) {
	g := newGroup(3, nil)
	g.elect(0)
	g.run(0)
	behind := NewMachine(MachineConfig{Node: 1, Board: NewBoard()})
	behind.Lead(9)
	a := submit(behind, createPayload("x"))
	behind.Cut(g.now, 1<<20)
	b := submit(behind, createPayload("y"))
	require.NoError(t, behind.Restore(7, image(t, g.machines[1]), nil))
	require.Equal(t, cmq.ErrUnknownOutcome, a.err)
	require.Equal(t, g.machines[1].Digest(), behind.Digest())
	require.Equal(t, uint64(77), behind.cfg.Board.Table().Cluster())
	behind.Close()
	var no *cmq.NotLeaderError
	require.ErrorAs(t, b.err, &no)

	damaged := image(t, g.machines[1])
	damaged[len(damaged)/2] ^= 1
	require.ErrorIs(t, behind.Restore(8, damaged, nil), meta.ErrFormat)
	require.Equal(t, g.machines[1].Digest(), behind.Digest(), "a bad image changes nothing")
	require.NoError(t, behind.Restore(9, nil, nil))
	require.False(t, behind.state.Bootstrapped(), "no data is the image of an empty set")
}

// image makes the machine's image the way the set does.
func image(t *testing.T, m *Machine) []byte {
	m.StartImage()
	require.True(t, m.StepImage(1))
	parts, files, live, err := m.TakeImage().Run(nil)
	require.NoError(t, err)
	require.Empty(t, files)
	require.Nil(t, live)
	return bytes.Join(parts, nil)
}

func TestImageIsOfTheMomentItWasStarted(t *testing.T) {
	g := newGroup(1, nil)
	g.elect(0)
	g.run(0)
	m := g.machines[0]
	want := m.state.Encode()
	m.StartImage()
	submit(m, createPayload("a"))
	g.run(0)
	parts, _, _, err := m.TakeImage().Run(nil)
	require.NoError(t, err)
	require.Equal(t, want, bytes.Join(parts, nil))
	require.NotEqual(t, want, m.state.Encode())
}

func TestCloseAnswersEverybody(t *testing.T) {
	g := newGroup(1, nil)
	g.elect(0)
	g.run(0)
	m := g.machines[0]
	cut := submit(m, createPayload("a"))
	m.Cut(g.now, 1<<20)
	waiting := submit(m, createPayload("b"))
	m.Close()
	require.Equal(t, cmq.ErrUnknownOutcome, cut.err)
	require.Error(t, waiting.err)
}

func TestBadPayloadsDoNotGetIntoTheLog(t *testing.T) {
	g := newGroup(1, nil)
	g.elect(0)
	g.run(0)
	m := g.machines[0]
	version := createPayload("a")[0]
	for name, payload := range map[string][]byte{
		"nothing":              nil,
		"newer command":        {version + 1, 7, 0, 0},
		"unknown command":      {version, 77},
		"unknown query":        {1, 0xff},
		"sync with more":       {1, querySync, 0},
		"table without number": {1, queryTable},
		"table with more":      {1, queryTable, 1, 1},
	} {
		a := submit(m, payload)
		require.ErrorIs(t, a.err, meta.ErrFormat, name)
		require.Equal(t, 1, a.count, name)
	}
	var err error
	m.Submit(&cmq.Request{Kind: cmq.KindSend}, func(_ *cmq.Reply, e error) { err = e })
	require.ErrorIs(t, err, meta.ErrFormat)
	require.Zero(t, m.Waiting())
}

func TestTooManyWaiting(t *testing.T) {
	g := newGroup(1, nil)
	g.elect(0)
	for range maxWaiting - 1 { // the bootstrap waits too
		submit(g.machines[0], createPayload("a"))
	}
	require.Equal(t, cmq.ErrBusy, submit(g.machines[0], createPayload("a")).err)
}

func TestUnreadableEntryStopsTheReplica(t *testing.T) {
	g := newGroup(1, nil)
	require.Panics(t, func() { g.machines[0].Apply(1, 1, []byte("no batch")) })
}

func TestQueriesUseReadIndex(t *testing.T) {
	var pending []func(error)
	g := newGroup(1, func(_ int, cfg *MachineConfig) {
		cfg.Read = func(done func(error)) { pending = append(pending, done) }
	})
	g.elect(0)
	g.run(0)
	m := g.machines[0]
	version := m.state.Version()
	sync := submit(m, query{kind: querySync}.encode())
	same := submit(m, query{kind: queryTable, have: version}.encode())
	table := submit(m, query{kind: queryTable, have: version - 1}.encode())
	failed := submit(m, query{kind: querySync}.encode())
	require.Zero(t, m.Waiting(), "no entry is needed")
	require.Len(t, pending, 4)
	for _, done := range pending[:3] {
		done(nil)
	}
	gone := errors.New("gone")
	pending[3](gone)
	require.Equal(t, version, sync.reply.Number)
	require.Empty(t, same.reply.Payload)
	require.Equal(t, m.state.Encode(), table.reply.Payload)
	require.Equal(t, gone, failed.err)
}

func TestRefusedBootstrapIsSaid(t *testing.T) {
	var log bytes.Buffer
	g := newGroup(1, func(_ int, cfg *MachineConfig) {
		cfg.Bootstrap.Cluster = 0
		cfg.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	g.elect(0)
	g.run(0)
	require.Zero(t, g.machines[0].cfg.Board.Table().Version())
	require.Contains(t, log.String(), "bootstrap was refused")
	g.elect(0)
	g.machines[0].Follow()
	require.Contains(t, log.String(), "bootstrap is left to the next leader")
}
