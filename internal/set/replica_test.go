package set

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/store/checkpoint"
	"github.com/opencmq/cmq/internal/store/reflog"
	"github.com/opencmq/cmq/internal/store/segment"
	"github.com/opencmq/cmq/internal/vfs"
)

// list is a state machine whose state is the list of all entries; each entry is a message too, which stays alive unless its
// text begins with "dead".
type list struct {
	entries []string
	indexes []uint64
	index   uint64
	queue   []string
	leading bool
	closed  bool
	now     int64
	space   Space
	bent    uint64         // what makes the state of this replica wrong
	dark    reflog.Stretch // where references to messages are damaged
	coding  []byte
	slices  int
}

func (l *list) Apply(index, _ uint64, data []byte) {
	if l.index != 0 && index != l.index+1 {
		panic(fmt.Sprintf("entry %d applied after %d", index, l.index))
	}
	l.index = index
	if data != nil {
		l.entries, l.indexes = append(l.entries, string(data)), append(l.indexes, index)
	}
}
func (l *list) Lead(uint64) { l.leading = true }
func (l *list) Follow()     { l.leading, l.queue = false, nil }
func (l *list) Close()      { l.closed = true }
func (l *list) Waiting() int {
	n := 0
	for _, q := range l.queue {
		n += len(q)
	}
	return n
}
func (l *list) Cut(now int64, _ int) []byte {
	l.now = now
	if len(l.queue) == 0 {
		return nil
	}
	q := l.queue[0]
	l.queue = l.queue[1:]
	return []byte(q)
}
func (l *list) Wake() int64      { return 0 }
func (l *list) Due(int64)        {}
func (l *list) Time() int64      { return 0 }
func (l *list) SetSpace(s Space) { l.space = s }
func (l *list) Digest() uint64 {
	sum := l.bent
	for i, e := range l.entries {
		sum = (sum^maphash.String(hashSeed, e))*0x9E3779B97F4A7C15 + l.indexes[i]
	}
	return sum
}

var hashSeed = maphash.MakeSeed()

func (l *list) encode() []byte {
	var b []byte
	for i, e := range l.entries {
		b = binary.AppendUvarint(b, l.indexes[i])
		b = binary.AppendUvarint(b, uint64(len(e)))
		b = append(b, e...)
	}
	return b
}

func (l *list) StartImage()        { l.coding, l.slices = l.encode(), 0 }
func (l *list) StepImage(int) bool { l.slices++; return l.slices == 3 }
func (l *list) TakeImage() ImageJob {
	if l.dark != (reflog.Stretch{}) {
		return &listImage{data: l.coding, live: darkLive{l.living(), l.dark}}
	}
	return &listImage{data: l.coding, live: l.living()}
}

func (l *list) Restore(index uint64, image []byte, _ []reflog.File) error {
	l.entries, l.indexes, l.index, l.coding, l.bent = nil, nil, index, nil, 0
	for len(image) > 0 {
		at, k := binary.Uvarint(image)
		image = image[k:]
		n, k := binary.Uvarint(image)
		l.entries, l.indexes = append(l.entries, string(image[k:k+int(n)])), append(l.indexes, at)
		image = image[k+int(n):]
	}
	return nil
}

func (l *list) Live(image []byte, _ []reflog.File) (store.Live, error) {
	var other list
	err := other.Restore(1, image, nil)
	return other.living(), err
}

func (l *list) living() listLive {
	live := listLive{}
	for i, e := range l.entries {
		if !strings.HasPrefix(e, "dead") {
			live = append(live, store.Run{Index: l.indexes[i], N: 1, Bytes: uint32(len(e))})
		}
	}
	return live
}

// listImage is the background's part of an image.
type listImage struct {
	data []byte
	live store.Live
}

func (j *listImage) Run(throttle func(int) error) ([][]byte, []reflog.File, store.Live, error) {
	half := len(j.data) / 2
	return [][]byte{j.data[:half], j.data[half:]}, nil, j.live, throttle(len(j.data))
}
func (j *listImage) Done(error) {}

// listLive is one message per entry.
type listLive []store.Run

func (l listLive) Weigh(f func(lo, hi, bytes uint64)) error {
	for _, run := range l {
		f(run.Index, run.Index+1, uint64(run.Bytes))
	}
	return nil
}

func (l listLive) Each(lo, hi uint64, f func(store.Run) error) error {
	for _, run := range l {
		if run.Index >= lo && run.Index < hi {
			if err := f(run); err != nil {
				return err
			}
		}
	}
	return nil
}

// darkLive is a listLive of which a part cannot be found, because references are damaged.
type darkLive struct {
	listLive
	dark reflog.Stretch
}

func (l darkLive) Each(lo, hi uint64, f func(store.Run) error) error {
	err := l.listLive.Each(lo, hi, func(run store.Run) error {
		if l.dark.Lo <= run.Index && run.Index < l.dark.Hi {
			return nil
		}
		return f(run)
	})
	if err == nil && l.dark.Lo < hi && lo < l.dark.Hi {
		err = &reflog.PartialError{Stretches: []reflog.Stretch{l.dark}, Damage: []*reflog.DamageError{{Why: "damaged by the test"}}}
	}
	return err
}

// wholeEntry is the message of an entry: all of it. Long ones end with a checksum.
func wholeEntry(entry segment.Payload, _ uint16) (store.Message, error) {
	body := make([]byte, entry.Size())
	if n, err := entry.ReadAt(body, 0); n < len(body) {
		return store.Message{}, err
	}
	if n := len(body) - 8; n > 100 && sumOf(string(body[:n])) != string(body[n:]) {
		return store.Message{}, errors.New("the checksum is wrong")
	}
	return store.Message{Body: body}, nil
}

func sumOf(text string) string { return fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(text))) }

// member is one node of a test set.
type member struct {
	id   cmq.NodeID
	disk *vfs.Disk
	fs   vfs.FS
	st   *store.Store
	m    *list
	r    *Replica
	jobs []*Job
	life uint32
	up   bool
	err  error

	written time.Duration // when the write that is out will be done; 0: not known yet
}

// trio is a set of three replicas driven by hand: time passes in ticks, messages arrive at once.
type trio struct {
	t       *testing.T
	voters  []cmq.NodeID
	members map[cmq.NodeID]*member
	now     time.Duration
	cut     map[[2]cmq.NodeID]bool
	hold    map[cmq.NodeID]bool                 // disk jobs of the node are not run
	disks   map[cmq.NodeID]func() time.Duration // how long the next write to its log takes; nil: no time
	seen    map[raftpb.MessageType]int
	images  int
	segment map[cmq.NodeID]int64                   // bytes of segments, if not 16 KiB
	lose    func(from cmq.NodeID, e Envelope) bool // messages that get lost; nil: none
	hasty   bool                                   // time goes on even if the set does not come to rest
}

func newTrio(t *testing.T) *trio { return newSet(t, 1, 2, 3) }

// newSet is a set with these replicas.
func newSet(t *testing.T, voters ...cmq.NodeID) *trio {
	c := &trio{t: t, members: map[cmq.NodeID]*member{}, cut: map[[2]cmq.NodeID]bool{}, hold: map[cmq.NodeID]bool{}, seen: map[raftpb.MessageType]int{}, images: 1 << 30}
	conf := &raftpb.ConfState{}
	for _, id := range voters {
		conf.Voters = append(conf.Voters, uint64(id))
	}
	c.voters = voters
	for _, id := range voters {
		m := &member{id: id, disk: vfs.NewDisk(rand.New(rand.NewPCG(1, uint64(id))))}
		st, err := store.Create(m.disk.Mount(), "set", c.options(id), bootImage(conf))
		require.NoError(t, err)
		require.NoError(t, st.Close())
		c.members[id] = m
		c.boot(id)
	}
	return c
}

func (c *trio) options(id cmq.NodeID) store.Options {
	size := int64(16 << 10)
	if n := c.segment[id]; n != 0 {
		size = n
	}
	return store.Options{
		Options: segment.Options{Cluster: 9, Set: 4, Replica: uint64(id), SegmentSize: size, CacheBytes: 4 << 10, ReadCacheBytes: 4 << 10},
		Message: wholeEntry, Alone: len(c.voters) == 1,
	}
}

func newRand() *rand.Rand { return rand.New(rand.NewPCG(7, 7)) }

func bootImage(conf *raftpb.ConfState) store.Image {
	return store.Image{Image: checkpoint.Image{Index: 1, Term: 1, ConfState: mustMarshal(conf)}}
}

func (c *trio) boot(id cmq.NodeID) {
	m := c.members[id]
	m.fs = m.disk.Mount()
	st, err := store.Open(m.fs, "set", c.options(id))
	require.NoError(c.t, err)
	m.st, m.m, m.jobs, m.up = st, &list{}, nil, true
	m.life++
	m.r, err = NewReplica(Config{Set: 4, Node: id, Life: m.life, Machine: m.m, Store: st, Logger: c.logger(), ImageBytes: c.images, ScrubPause: 30 * time.Second, KeepLag: 1, Replicas: c.voters})
	require.NoError(c.t, err)
}

// logger tells what happens when CMQ_TEST_LOG is set.
func (c *trio) logger() *slog.Logger {
	if os.Getenv("CMQ_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(c.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (c *trio) crash(id cmq.NodeID) {
	c.members[id].up = false
	c.members[id].disk.Crash(vfs.CrashModes()[0])
}

func (c *trio) clock() Now { return Now{Mono: c.now, Wall: epoch + c.now.Milliseconds()} }

// work runs everything until nothing moves.
func (c *trio) work() {
	for n := range 10_000 {
		moved := n > 300 && c.hasty
		if moved {
			return
		}
		for _, id := range c.voters {
			moved = c.turn(c.members[id]) || moved
		}
		if !moved {
			return
		}
	}
	c.t.Fatal("the set never comes to rest")
}

func (c *trio) turn(m *member) bool {
	if !m.up || m.err != nil {
		return false
	}
	out := m.r.Ready(c.clock())
	m.err = out.Failed
	m.jobs = append(m.jobs, out.Jobs...)
	for _, e := range out.Envelopes {
		c.deliver(m.id, e)
	}
	moved := len(out.Envelopes) > 0 || out.Wake != 0 && out.Wake <= c.now
	if c.hold[m.id] {
		return moved
	}
	jobs := m.jobs
	m.jobs = nil
	for _, j := range jobs {
		if c.writing(m, j) {
			m.jobs = append(m.jobs, j)
			continue
		}
		j.Run()
		m.r.Done(c.clock(), j)
		moved = true
	}
	return moved
}

// writing reports whether the job is a write to the log that the disk is not done with.
func (c *trio) writing(m *member, j *Job) bool {
	if c.disks[m.id] == nil || j != m.r.disk {
		return false
	}
	if m.written == 0 {
		m.written = c.now + c.disks[m.id]()
	}
	if c.now < m.written {
		return true
	}
	m.written = 0
	return false
}

func (c *trio) deliver(from cmq.NodeID, e Envelope) {
	if e.Raft != nil {
		c.seen[e.Raft.GetType()]++
	}
	if c.lose != nil && c.lose(from, e) {
		return
	}
	if to := c.members[e.To]; to.up && to.err == nil && !c.cut[[2]cmq.NodeID{from, e.To}] {
		to.r.Step(c.clock(), from, e.Message)
	}
}

func (c *trio) tick(n int) {
	for range n {
		c.now += TickInterval
		for _, id := range c.voters {
			if m := c.members[id]; m.up && m.err == nil {
				m.r.Tick(c.clock())
			}
		}
		c.work()
	}
}

// leader ticks until one leads.
func (c *trio) leader() *member {
	for range 200 {
		for _, m := range c.members {
			if m.up && m.m.leading {
				return m
			}
		}
		c.tick(1)
	}
	c.t.Fatal("nobody leads")
	return nil
}

func (c *trio) elect(id cmq.NodeID) *member {
	c.members[id].r.Campaign()
	c.work()
	l := c.leader()
	require.Equal(c.t, id, l.id)
	return l
}

func (c *trio) propose(m *member, entries ...string) {
	m.m.queue = append(m.m.queue, entries...)
	c.work()
}

func (c *trio) same(entries ...string) {
	for id, m := range c.members {
		if m.up {
			require.Equal(c.t, entries, m.m.entries, "node %d", id)
		}
	}
}

func TestReplicates(t *testing.T) {
	c := newTrio(t)
	l := c.elect(2)
	c.propose(l, "a", "b")
	c.tick(2)
	c.same("a", "b")
	require.Equal(t, cmq.NodeID(2), c.members[1].r.Leader())
	require.InDelta(t, epoch+c.now.Milliseconds(), l.m.now, 200)
}

// TestOneMessageForEachEntry: what a follower is told of one entry's commit it is told with the next entry, if that follows at
// once, and by a message of its own only behind the last one.
func TestOneMessageForEachEntry(t *testing.T) {
	c := newTrio(t)
	l := c.elect(1)
	clear(c.seen)
	var entries []string
	for i := range 10 {
		entries = append(entries, fmt.Sprint(i))
	}
	c.propose(l, entries...)
	require.Equal(t, map[raftpb.MessageType]int{raftpb.MsgApp: 2 * (10 + 1), raftpb.MsgAppResp: 2 * (10 + 1)}, c.seen)
	c.same(entries...)
}

func TestConfirmedEntriesSurviveACrashOfAll(t *testing.T) {
	c := newTrio(t)
	l := c.elect(1)
	c.propose(l, "a", "b")
	require.Equal(t, []string{"a", "b"}, l.m.entries)
	for id := range c.members {
		c.crash(id)
	}
	for id := range c.members {
		c.boot(id)
	}
	c.propose(c.leader(), "c")
	c.tick(2)
	c.same("a", "b", "c")
}

func TestNothingIsConfirmedBeforeAMajorityHasIt(t *testing.T) {
	c := newTrio(t)
	l := c.elect(1)
	c.hold[2], c.hold[3] = true, true
	c.propose(l, "a")
	require.Empty(t, l.m.entries)
	c.hold[2] = false
	c.work()
	require.Equal(t, []string{"a"}, l.m.entries)
}

func TestLeaderDoesNotConfirmBeforeItsOwnDisk(t *testing.T) {
	c := newTrio(t)
	l := c.elect(1)
	c.hold[1] = true
	c.propose(l, "a")
	require.Empty(t, l.m.entries, "raft applies only what is durable here too")
	c.hold[1] = false
	c.work()
	require.Equal(t, []string{"a"}, l.m.entries)
}

func TestCutOffLeaderStopsAndItsEntriesAreDropped(t *testing.T) {
	c := newTrio(t)
	old := c.elect(1)
	c.cut[[2]cmq.NodeID{1, 2}], c.cut[[2]cmq.NodeID{1, 3}], c.cut[[2]cmq.NodeID{2, 1}], c.cut[[2]cmq.NodeID{3, 1}] = true, true, true, true
	c.propose(old, "lost")
	c.tick(60)
	require.False(t, old.m.leading)
	next := c.leader()
	require.NotEqual(t, old.id, next.id)
	c.propose(next, "kept")
	clear(c.cut)
	c.tick(20)
	c.same("kept")
}

func TestDeadLeaderIsReplacedAtOnce(t *testing.T) {
	c := newTrio(t)
	l := c.elect(1)
	c.tick(2)
	c.crash(l.id)
	c.members[2].r.PeerDown(c.clock(), 1)
	c.members[3].r.PeerDown(c.clock(), 1)
	c.work()
	require.Zero(t, c.members[2].r.Leader())
	wake := c.members[2].r.Ready(c.clock()).Wake
	require.NotZero(t, wake)
	c.now = wake
	c.work()
	require.True(t, c.members[2].m.leading)
	require.Less(t, c.now, 300*time.Millisecond)
}

func TestTransfer(t *testing.T) {
	c := newTrio(t)
	l := c.elect(3)
	c.tick(2)
	require.True(t, l.r.Transfer(c.clock()))
	c.work()
	require.False(t, l.m.leading)
	require.NotEqual(t, l.id, c.leader().id)
	require.False(t, l.r.Transfer(c.clock()), "not the leader any more")

	other := c.leader()
	c.tick(2)
	require.True(t, other.r.GiveTo(3))
	c.work()
	require.Equal(t, cmq.NodeID(3), c.leader().id)
}

func TestStallingDiskHandsOver(t *testing.T) {
	c := newTrio(t)
	l := c.elect(1)
	c.tick(2)
	c.hold[1] = true
	c.propose(l, "a")
	c.tick(25)
	require.False(t, l.m.leading)
	c.hold[1] = false
	c.tick(40)
	c.same("a")
}

func TestLongAbsentReplicaGetsASnapshot(t *testing.T) {
	c := newTrio(t)
	c.images = 8 << 10
	for id := range c.members {
		c.members[id].up = false
		require.NoError(t, c.members[id].st.Close())
		c.boot(id)
	}
	l := c.elect(1)
	c.propose(l, "first")
	c.tick(2)
	c.crash(3)
	var want []string
	want = append(want, "first")
	for i := range 400 {
		e := fmt.Sprintf("%d-%0200d", i, i)
		e += sumOf(e)
		want = append(want, e)
		c.propose(l, e)
	}
	require.Greater(t, l.st.Log().FirstIndex(), uint64(10), "the log's beginning is gone")
	c.boot(3)
	c.tick(40)
	c.same(want...)
	require.NotZero(t, c.seen[raftpb.MsgSnap])
	c.propose(l, "after")
	c.tick(2)
	c.same(append(want, "after")...)
	c.crash(3)
	c.boot(3)
	c.tick(20)
	c.same(append(want, "after")...)
}

func TestLostSnapshotMessageIsSentAgain(t *testing.T) {
	c := newTrio(t)
	c.images = 8 << 10
	for id := range c.members {
		c.members[id].up = false
		require.NoError(t, c.members[id].st.Close())
		c.boot(id)
	}
	l := c.elect(1)
	c.propose(l, "first")
	c.tick(2)
	c.crash(3)
	want := []string{"first"}
	for i := range 400 {
		e := fmt.Sprintf("%d-%0200d", i, i)
		e += sumOf(e)
		want = append(want, e)
		c.propose(l, e)
	}
	lost := 0
	c.lose = func(_ cmq.NodeID, e Envelope) bool {
		if e.Raft == nil || e.Raft.GetType() != raftpb.MsgSnap || lost > 0 {
			return false
		}
		lost++
		return true
	}
	c.boot(3)
	c.tick(40 + int(fillPatience/TickInterval))
	require.Equal(t, 1, lost)
	c.same(want...)
}

func TestLeaderWithAFullDiskAsksAgainForAnother(t *testing.T) {
	c := newTrio(t)
	l := c.elect(1)
	c.tick(2)
	lost := 0
	c.lose = func(_ cmq.NodeID, e Envelope) bool {
		if e.Raft == nil || e.Raft.GetType() != raftpb.MsgTimeoutNow || lost > 0 {
			return false
		}
		lost++
		return true
	}
	l.disk.SetBudget(l.disk.Used())
	for i := range 40 {
		c.propose(l, fmt.Sprintf("%d-%02000d", i, i))
	}
	c.tick(60)
	require.Equal(t, 1, lost, "the first request got lost")
	require.False(t, l.m.leading)
	require.True(t, c.members[2].m.leading || c.members[3].m.leading)
}

func TestElectedLeaderTellsItsTimeBeforeItServes(t *testing.T) {
	c := newTrio(t)
	c.elect(1)
	c.tick(2)
	told, silent := 0, 0
	c.lose = func(from cmq.NodeID, e Envelope) bool {
		if from == 2 && e.Raft != nil && e.Raft.GetType() == raftpb.MsgApp {
			if e.Warm && e.Time != 0 {
				told++
			} else {
				silent++
			}
			return true // so that its first entry is not committed
		}
		return false
	}
	require.True(t, c.members[1].r.GiveTo(2))
	c.tick(2)
	require.False(t, c.members[2].m.leading)
	require.NotZero(t, told)
	require.Zero(t, silent)
}

func TestReadWaitsForEverythingCommitted(t *testing.T) {
	c := newTrio(t)
	l := c.elect(1)
	c.propose(l, "a")
	var got error = errors.New("not answered")
	l.r.Read(func(_ Now, err error) { got = err })
	c.work()
	require.NoError(t, got)
	c.members[2].r.Read(func(_ Now, err error) { got = err })
	var nl *cmq.NotLeaderError
	require.ErrorAs(t, got, &nl)
	require.Equal(t, cmq.NodeID(1), nl.Leader)
}

func TestReadIsNotAnsweredByADeposedLeader(t *testing.T) {
	c := newTrio(t)
	l := c.elect(1)
	for _, id := range []cmq.NodeID{2, 3} {
		c.cut[[2]cmq.NodeID{1, id}], c.cut[[2]cmq.NodeID{id, 1}] = true, true
	}
	answers := 0
	var got error
	l.r.Read(func(_ Now, err error) { answers++; got = err })
	c.work()
	require.Zero(t, answers)
	c.tick(60)
	require.Equal(t, 1, answers)
	require.Error(t, got)
}

func TestOlderCopyOfTheDirectoryIsRepaired(t *testing.T) {
	c := newTrio(t)
	l := c.elect(1)
	early := c.members[2].disk.Clone(newRand())
	c.propose(l, "a", "b", "c")
	c.tick(2)
	c.crash(2)
	c.members[2].disk = early // an older copy of the directory was put back
	c.boot(2)
	c.tick(2)
	require.NoError(t, c.members[2].err)
	c.tick(100)
	c.propose(c.leader(), "d")
	c.tick(2)
	c.same("a", "b", "c", "d")
}

func TestWipedReplicaDoesNotVote(t *testing.T) {
	c := newTrio(t)
	blank := c.members[2].disk.Clone(newRand())
	l := c.elect(1)
	c.cut[[2]cmq.NodeID{1, 3}] = true
	c.propose(l, "on 1 and 2 only")
	require.Len(t, l.m.entries, 1)
	c.crash(1)
	c.crash(2)
	clear(c.cut)
	c.members[2].disk = blank // and the directory of 2 is lost
	c.boot(2)
	c.tick(100)
	require.False(t, c.members[3].m.leading, "3 lacks the entry and must not lead with the vote of 2")
	require.False(t, c.members[2].m.leading)
	c.boot(1)
	c.tick(60)
	require.Equal(t, []string{"on 1 and 2 only"}, c.members[3].m.entries)
	require.Equal(t, []string{"on 1 and 2 only"}, c.members[2].m.entries, "filled again by the new leader")
}

func TestWipedReplicaIsFilledAgain(t *testing.T) {
	c := newTrio(t)
	blank := c.members[2].disk.Clone(newRand())
	l := c.elect(1)
	c.propose(l, "a", "b")
	c.tick(2)
	c.crash(2)
	c.members[2].disk = blank
	c.boot(2)
	c.tick(60)
	require.NoError(t, c.members[2].err)
	c.same("a", "b")
	require.False(t, l.m.leading, "another leads, who does not believe that 2 has anything")
	c.propose(c.leader(), "c")
	c.tick(2)
	c.same("a", "b", "c")
}

func TestFullDiskIsWaitedOut(t *testing.T) {
	c := newTrio(t)
	l := c.elect(1)
	for _, m := range c.members {
		m.disk.SetBudget(m.disk.Used())
	}
	var want []string
	for i := range 40 {
		e := fmt.Sprintf("%d-%02000d", i, i)
		e += sumOf(e)
		want = append(want, e)
		c.propose(l, e)
	}
	c.tick(3)
	require.Less(t, len(l.m.entries), 40)
	for _, m := range c.members {
		require.NoError(t, m.err)
		m.disk.SetBudget(-1)
	}
	c.tick(60)
	missing := slices.DeleteFunc(slices.Clone(want), func(e string) bool { return slices.Contains(c.leader().m.entries, e) })
	c.leader().m.queue = missing
	c.tick(5)
	require.ElementsMatch(t, want, c.leader().m.entries)
}

func TestFailingDiskStopsTheReplica(t *testing.T) {
	c := newTrio(t)
	l := c.elect(1)
	c.members[2].disk.FailSyncs(1)
	c.propose(l, "a")
	require.Error(t, c.members[2].err)
	require.Equal(t, []string{"a"}, l.m.entries)
}
