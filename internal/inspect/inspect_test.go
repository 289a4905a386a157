package inspect

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/command"
	"github.com/opencmq/cmq/internal/datadir"
	"github.com/opencmq/cmq/internal/inspect/inspecttest"
	"github.com/opencmq/cmq/internal/vfs"
)

func node(t *testing.T, dir string) *Node {
	t.Helper()
	nodes, err := Find(vfs.OS(), dir)
	require.NoError(t, err)
	require.Len(t, nodes, 1)
	return nodes[0]
}

// open opens set 1.
func open(t *testing.T, w *inspecttest.World) *Set {
	t.Helper()
	n := node(t, w.Dir)
	s := n.Open(n.Sets[1])
	t.Cleanup(s.Close)
	return s
}

// busy makes a directory with everything in it: several segments, an archive of both forms, references, two images, and a log
// behind them.
func busy(t *testing.T) *inspecttest.World {
	w := inspecttest.New(t)
	for range 140 {
		w.Send(w.Work, 4, 200)
	}
	for range 30 {
		w.Send(w.Other, 10, 300)
	}
	w.SendLater(w.Other, 7, 100, time.Hour)
	for range 29 {
		w.Delete(w.Other, 10)
	}
	w.Image()
	w.Send(w.Other, 3, 50)
	w.Image()
	w.Send(w.Work, 2, 40)
	return w
}

func TestFind(t *testing.T) {
	w := inspecttest.New(t)
	w.Close()
	n := node(t, w.Dir)
	require.Equal(t, datadir.Identity{Cluster: inspecttest.Cluster, Node: 1}, n.Identity)
	require.NoError(t, n.Unknown)
	require.Zero(t, n.PID)
	require.Equal(t, []SetDir{{0, w.SetDir(0)}, {1, w.SetDir(1)}}, n.Sets)
	require.Empty(t, n.Strange)

	one := node(t, w.SetDir(1))
	require.Equal(t, n.Identity, one.Identity)
	require.Equal(t, []SetDir{{1, w.SetDir(1)}}, one.Sets)

	above := t.TempDir()
	require.NoError(t, os.Rename(w.Dir, filepath.Join(above, "node1")))
	require.Equal(t, filepath.Join(above, "node1"), node(t, above).Dir)

	_, err := Find(vfs.OS(), t.TempDir())
	require.ErrorIs(t, err, ErrNoData)
	_, err = Find(vfs.OS(), filepath.Join(above, "node1", "identity.json"))
	require.ErrorContains(t, err, "is a file; give the data directory")
	_, err = Find(vfs.OS(), filepath.Join(above, "absent"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestDirectoryInUse(t *testing.T) {
	w := inspecttest.New(t)
	w.Close()
	lock, err := datadir.Claim(vfs.OS(), w.Dir, datadir.Identity{Cluster: inspecttest.Cluster, Node: 1})
	require.NoError(t, err)
	defer lock.Close()
	require.Equal(t, os.Getpid(), node(t, w.Dir).PID)
}

func TestOverview(t *testing.T) {
	w := busy(t)
	w.Kill()
	o := open(t, w).Overview()
	require.Equal(t, "ok", o.State, o.Problems)
	require.Equal(t, w.Index(), o.Last)
	require.Equal(t, w.Index()-1, o.Image)
	require.Equal(t, 2, o.Images)
	require.Equal(t, []cmq.NodeID{1}, o.Voters)
	require.EqualValues(t, 1, o.Vote)
	require.Positive(t, o.ArchiveFiles)
	require.Positive(t, o.RefBytes)
	require.Positive(t, o.LogBytes)
	require.GreaterOrEqual(t, o.Committed, o.Image)
}

// A directory can be looked into while its node runs: no lock is taken or lost by it, nothing is written, and the node goes on.
func TestDirectoryOfARunningNode(t *testing.T) {
	w := busy(t)
	defer w.Close()
	lock, err := datadir.Claim(vfs.OS(), w.Dir, datadir.Identity{Cluster: inspecttest.Cluster, Node: 1})
	require.NoError(t, err)
	defer lock.Close()
	before := inspecttest.Everything(t, w.Dir)
	n := node(t, w.Dir)
	s := n.Open(n.Sets[1])
	require.True(t, s.Running)
	require.Empty(t, s.Problems)
	require.NoError(t, s.Load())
	s.Close()
	require.Equal(t, before, inspecttest.Everything(t, w.Dir))

	_, err = vfs.OS().Lock(w.Path("LOCK"))
	require.ErrorIs(t, err, vfs.ErrLocked, "the store's lock is still the store's")
	_, err = datadir.Claim(vfs.OS(), w.Dir, datadir.Identity{Cluster: inspecttest.Cluster, Node: 1})
	require.ErrorIs(t, err, vfs.ErrLocked, "and the node's the node's")
	w.Send(w.Work, 2, 40)
	w.Image()
	require.Equal(t, w.Index(), open(t, w).Overview().Last)
}

// going is a file system on which a segment is being removed bit by bit by the node when it is opened for the second time.
type going struct {
	vfs.FS
	name  string
	opens int
}

func (g *going) OpenFile(name string, flag int, perm os.FileMode) (vfs.File, error) {
	f, err := g.FS.OpenFile(name, flag, perm)
	if err != nil || filepath.Base(name) != g.name {
		return f, err
	}
	if g.opens++; g.opens == 2 {
		err = errors.Join(os.Truncate(name, 12<<10), os.Remove(name))
	}
	return f, err
}

// What a running node removes while it is read is not damaged.
func TestSegmentThatGoesWhileItIsRead(t *testing.T) {
	for _, running := range []bool{true, false} {
		w := busy(t)
		n := node(t, w.Dir)
		s := n.Open(n.Sets[1])
		list, err := s.Segments(true)
		require.NoError(t, err)
		s.Running, s.fs = running, &going{FS: s.fs, name: list[0].File}
		list, err = s.Segments(false)
		require.NoError(t, err)
		require.Equal(t, running, len(list[0].Problems) == 0, "%+v", list[0].Problems)
		s.Close()
	}
}

// What is done about what is lost depends on whether the set has other replicas.
func TestFixOfTheOnlyReplica(t *testing.T) {
	for want, replicas := range map[string][]cmq.NodeID{"the only replica of its set": {1}, "other replicas of the set": {1, 2, 3}} {
		w := inspecttest.New(t, replicas...)
		for range 100 {
			w.Send(w.Work, 4, 200)
		}
		w.Image()
		w.Send(w.Work, 2, 40)
		w.Kill()
		name, whole := writtenLast(t, w)

		// A message behind the newest image: the only replica starts without it.
		end := len(bytes.TrimRight(whole, "\x00"))
		done := false
		for off := end - 1; off > end-400 && !done; off -= 9 {
			inspecttest.Flip(t, name, int64(off))
			s := open(t, w)
			done = len(s.Problems) > 0 && (len(replicas) > 1 || s.Refused() == nil)
			for _, p := range s.Problems {
				require.Contains(t, p.Fix, want, "%v", p)
				require.True(t, !done || len(replicas) > 1 || strings.Contains(p.Fix, "the node starts"), "%v", p)
			}
			require.NoError(t, os.WriteFile(name, whole, 0o600))
		}
		require.True(t, done, "no byte is one of a message")

		require.NoError(t, os.Remove(name))
		s := open(t, w)
		require.NotEmpty(t, s.Problems)
		for _, p := range s.Problems {
			require.Contains(t, p.Fix, want, "%v", p)
		}
	}
}

// What is shown of a directory depends on nothing but its bytes, and leaves them as they are.
func TestNothingIsChanged(t *testing.T) {
	ends := map[string]func(*inspecttest.World){
		"stopped": (*inspecttest.World).Close,
		"killed":  (*inspecttest.World).Kill,
		"damaged": func(w *inspecttest.World) {
			w.Kill()
			for _, name := range files(t, w.SetDir(1)) {
				info, err := os.Stat(w.Path(name))
				require.NoError(t, err)
				if info.Size() > 0 {
					inspecttest.Flip(t, w.Path(name), info.Size()/2)
				}
			}
		},
		"torn": func(w *inspecttest.World) {
			w.Kill()
			name := lastSegment(t, w)
			require.NoError(t, os.Truncate(w.Path(name), 5000))
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			w := busy(t)
			end(w)
			before := inspecttest.Everything(t, w.Dir)
			n := node(t, w.Dir)
			names, _ := n.Names()
			for _, d := range n.Sets {
				s := n.Open(d)
				s.Overview()
				for _, quick := range []bool{true, false} {
					_, err := s.Segments(quick)
					require.NoError(t, err)
					s.Archive(quick, nil)
				}
				_, err := s.Entries(Range{Count: 1000, Body: true}, names.Of)
				require.NoError(t, err)
				s.Images()
				s.Chunks(names.Of)
				s.Queues(names)
				s.Close()
			}
			require.Equal(t, before, inspecttest.Everything(t, w.Dir))
		})
	}
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	names, err := vfs.OS().ReadDir(dir)
	require.NoError(t, err)
	return names
}

func lastSegment(t *testing.T, w *inspecttest.World) (last string) {
	for _, name := range files(t, w.SetDir(1)) {
		if filepath.Ext(name) == ".seg" {
			last = name
		}
	}
	return last
}

// writtenLast is the newest segment that has an entry, and not just a header.
func writtenLast(t *testing.T, w *inspecttest.World) (path string, data []byte) {
	for _, name := range files(t, w.SetDir(1)) {
		p, err := os.ReadFile(w.Path(name))
		require.NoError(t, err)
		if filepath.Ext(name) == ".seg" && len(bytes.TrimRight(p, "\x00")) > 500 {
			path, data = w.Path(name), p
		}
	}
	return path, data
}

func TestSegments(t *testing.T) {
	w := inspecttest.New(t)
	for range 12 {
		w.Send(w.Work, 10, 1000)
	}
	w.Kill()
	s := open(t, w)
	list, err := s.Segments(false)
	require.NoError(t, err)
	quick, err := s.Segments(true)
	require.NoError(t, err)
	next := uint64(2)
	for i, g := range list {
		require.Equal(t, "log", g.Place)
		require.Empty(t, g.Problems)
		if g.State == StateSpare {
			require.Equal(t, len(list)-1, i)
			continue
		}
		require.Equal(t, next, g.First)
		require.Equal(t, g.Entries, g.Last-g.First+1)
		next = g.Last + 1
		want := StateSealed
		if g.Last == w.Index() {
			want = StateActive
		} else {
			require.Equal(t, g.Size, g.Used)
		}
		require.Equal(t, want, g.State, g.File)
		require.Equal(t, [4]any{g.State, g.First, g.Last, g.Entries}, [4]any{quick[i].State, quick[i].First, quick[i].Last, quick[i].Entries})
	}
	require.Equal(t, w.Index()+1, next)
	require.Greater(t, len(list), 4)

	c, err := s.Census()
	require.NoError(t, err)
	s.Weigh(c, list)
	live := int64(0)
	for _, g := range list {
		live += *g.Live
		require.Equal(t, g.Used, *g.Live+*g.Dead)
	}
	require.EqualValues(t, 12*10*1000, live)
}

func TestSegmentOfAStoppedNodeIsClosed(t *testing.T) {
	w := inspecttest.New(t)
	w.Close()
	list, err := open(t, w).Segments(false)
	require.NoError(t, err)
	require.Equal(t, StateClosed, list[0].State)
}

// Each case changes the second of several segments, or the last.
func TestDamagedSegments(t *testing.T) {
	const second = "0000000002.seg"
	for name, c := range map[string]struct {
		harm  func(t *testing.T, w *inspecttest.World)
		file  string
		state string
		at    int64
		what  string
	}{
		"header": {func(t *testing.T, w *inspecttest.World) { inspecttest.Flip(t, w.Path(second), 20) }, second, StateBad, 0, "the header's checksum is wrong"},
		"begin block": {func(t *testing.T, w *inspecttest.World) { inspecttest.Flip(t, w.Path(second), 520) }, second, StateBad, 512,
			"the begin block cannot be read"},
		"room behind the begin block": {func(t *testing.T, w *inspecttest.World) { inspecttest.Flip(t, w.Path(second), 1000) }, second, StateBad, 576,
			"there is something behind the begin block"},
		"body of a message": {func(t *testing.T, w *inspecttest.World) { inspecttest.Flip(t, w.Path(second), 9000) }, second, StateBad, 4096, "the checksum of a record is wrong"},
		"footer": {func(t *testing.T, w *inspecttest.World) {
			info, err := os.Stat(w.Path(second))
			require.NoError(t, err)
			inspecttest.Flip(t, w.Path(second), info.Size()-80)
		}, second, StateBad, -1, "the checksum of a record is wrong"},
		"missing": {func(t *testing.T, w *inspecttest.World) { require.NoError(t, os.Remove(w.Path(second))) }, second, StateMissing, 0, "the file is missing"},
		"short": {func(t *testing.T, w *inspecttest.World) { require.NoError(t, os.Truncate(w.Path(second), 100)) }, second, StateBad, 100,
			"the file is too short to be a segment"},
		"another's name": {func(t *testing.T, w *inspecttest.World) {
			require.NoError(t, os.Rename(w.Path("0000000003.seg"), w.Path(second)))
		}, second, StateBad, 0, "this is segment 3 under the name of another"},
	} {
		t.Run(name, func(t *testing.T) {
			w := inspecttest.New(t)
			for range 12 {
				w.Send(w.Work, 10, 1000)
			}
			w.Kill()
			c.harm(t, w)
			list, err := open(t, w).Segments(false)
			require.NoError(t, err)
			i := slices.IndexFunc(list, func(g Segment) bool { return g.File == c.file })
			require.GreaterOrEqual(t, i, 0)
			g := list[i]
			require.Equal(t, c.state, g.State)
			require.NotEmpty(t, g.Problems)
			require.Equal(t, w.Path(c.file), g.Problems[0].File)
			require.Equal(t, c.what, g.Problems[0].What)
			if c.at >= 0 {
				require.Equal(t, c.at, g.Problems[0].Offset)
			}
			require.Equal(t, "0000000001.seg", list[0].File)
			require.Empty(t, list[0].Problems, "others are shown all the same")
			require.EqualValues(t, w.Index(), list[len(list)-2].Last)
		})
	}
}

// What a crash leaves behind the last promise is not called damage.
func TestTornTailIsNoDamage(t *testing.T) {
	w := inspecttest.New(t)
	w.Send(w.Work, 1, 100)
	w.Kill()
	list, err := open(t, w).Segments(false)
	require.NoError(t, err)
	f, err := os.OpenFile(w.Path(list[0].File), os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("half a record"), list[0].Used+16)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	torn, err := open(t, w).Segments(false)
	require.NoError(t, err)
	require.Equal(t, StateActive, torn[0].State)
	require.Equal(t, list[0].Used, torn[0].Used)
	require.Len(t, torn[0].Problems, 1)
	require.Equal(t, Torn, torn[0].Problems[0].Kind)
	require.Equal(t, list[0].Used, torn[0].Problems[0].Offset)
}

func TestEntries(t *testing.T) {
	w := inspecttest.New(t)
	w.Send(w.Work, 2, 30)
	w.SendLater(w.Other, 1, 25, time.Minute)
	w.Delete(w.Work, 1)
	w.Kill()
	n := node(t, w.Dir)
	names, err := n.Names()
	require.NoError(t, err)
	s := open(t, w)
	list, err := s.Entries(Range{Count: 100}, names.Of)
	require.NoError(t, err)
	var got []string
	for _, e := range list {
		require.Nil(t, e.Problem)
		require.Equal(t, "0000000001.seg", e.File)
		require.Equal(t, inspecttest.Start+1000*int64(e.Index-1), e.Time)
		got = append(got, e.Summary)
	}
	require.Equal(t, []string{"open work", "open other", "send 2 × 30 B to work", "send 1 × 25 B to other", "receive 1 of work", "delete 1 of work"}, got)
	require.Equal(t, Operation{Kind: "send", Shard: w.Other, Queue: "other", Count: 1, Delay: 60_000,
		Bodies: []Body{{Slot: 0, Length: 25, OK: true, ID: cmq.NewMsgID(1, 5, 0).String()}}}, list[3].Ops[0])

	some, err := s.Entries(Range{From: 4, Count: 1, Body: true}, names.Of)
	require.NoError(t, err)
	require.Len(t, some, 1)
	require.Equal(t, "message 1 of entry 4 .........", some[0].Ops[0].Bodies[1].Text)
	none, err := s.Entries(Range{From: 100, Count: 10}, names.Of)
	require.NoError(t, err)
	require.Empty(t, none)

	m := n.Open(n.Sets[0])
	defer m.Close()
	list, err = m.Entries(Range{Count: 10}, names.Of)
	require.NoError(t, err)
	got = nil
	for _, e := range list {
		got = append(got, e.Kind+": "+e.Summary)
	}
	require.Equal(t, []string{"metadata: bootstrap with 3 nodes and 2 sets", "metadata: create queue work", "metadata: create queue other", "metadata: create topic news", "metadata: subscribe news/reader"}, got)
}

func TestNamesOfShards(t *testing.T) {
	w := inspecttest.New(t)
	w.Kill()
	names, err := node(t, w.Dir).Names()
	require.NoError(t, err)
	require.Equal(t, "work", names.Of(w.Work))
	require.Equal(t, "news", names.Of(cmq.TopicID(3).Shard()))
	reader := cmq.SubscriptionID(4).Shard()
	require.Equal(t, "news/reader", names.Of(reader))
	require.Equal(t, "1", names.owner(reader))
	require.Equal(t, cmq.QueueID(99).String(), names.Of(cmq.QueueID(99).Shard(0)))
	require.Empty(t, names.owner(cmq.QueueID(99).Shard(0)))
}

func TestLostEntryIsShownWithItsPlace(t *testing.T) {
	w := inspecttest.New(t)
	for range 3 {
		w.Send(w.Work, 1, 500)
	}
	w.Kill()
	list, err := open(t, w).Entries(Range{From: 5, Count: 1}, func(cmq.ShardID) string { return "q" })
	require.NoError(t, err)
	inspecttest.Flip(t, w.Path(list[0].File), list[0].Offset+200)
	s := open(t, w)
	require.NotEmpty(t, s.Problems)
	list, err = s.Entries(Range{From: 4, Count: 3}, func(cmq.ShardID) string { return "q" })
	require.NoError(t, err)
	require.Equal(t, []string{"operations", "lost", "operations"}, []string{list[0].Kind, list[1].Kind, list[2].Kind})
	require.EqualValues(t, 5, list[1].Index)
	require.Equal(t, "the checksum of a record is wrong", list[1].Problem.What)
	require.Greater(t, list[1].Problem.Offset, list[0].Offset)
	require.Less(t, list[1].Problem.Offset, list[2].Offset)
}

func TestQueues(t *testing.T) {
	w := busy(t)
	w.Kill()
	n := node(t, w.Dir)
	names, err := n.Names()
	require.NoError(t, err)
	list, census, err := open(t, w).Queues(names)
	require.NoError(t, err)
	require.NoError(t, census.Partial)
	require.Empty(t, census.Lost)
	require.Zero(t, census.Nowhere)
	require.Equal(t, w.Index(), census.Applied)
	require.Len(t, list, 2)
	work, other := list[0], list[1]
	require.Equal(t, "work", work.Name)
	require.EqualValues(t, 562, work.Messages)
	require.EqualValues(t, 562, work.Active)
	require.EqualValues(t, 560*200+2*40, work.Live)
	require.Equal(t, "other", other.Name)
	require.EqualValues(t, 10+7+3, other.Messages)
	require.EqualValues(t, 13, other.Active)
	require.EqualValues(t, 7, other.Delayed)
	require.EqualValues(t, 10*300+7*100+3*50, other.Live)
	sum := int64(0)
	for _, live := range census.Files {
		sum += live
	}
	require.Equal(t, work.Live+other.Live, sum)
}

// A message that several subscriptions want takes room once, and each of them needs it.
func TestSubscriptionsAreShownAmongQueues(t *testing.T) {
	w := inspecttest.New(t)
	topic, reader, stranger := cmq.TopicID(3), cmq.SubscriptionID(4), cmq.SubscriptionID(9)
	for _, s := range []cmq.SubscriptionID{reader, stranger} {
		w.Apply(command.Op{
			Kind: command.Open, Shard: s.Shard(), Version: 1, Attributes: cmq.ShardAttributes{MsgRetention: time.Hour, VisibilityTimeout: time.Minute},
			Subscriber: &cmq.Subscriber{Topic: topic.Shard(), Filter: cmq.FilterTags},
		})
	}
	w.Apply(command.Op{Kind: command.Publish, Shard: topic.Shard(), Bodies: [][]byte{make([]byte, 5000), make([]byte, 5000)}})
	w.Kill()
	names, err := node(t, w.Dir).Names()
	require.NoError(t, err)
	s := open(t, w)
	list, census, err := s.Queues(names)
	require.NoError(t, err)
	require.Len(t, list, 4)
	for i, want := range []string{"news/reader", stranger.String()} {
		q := list[2+i]
		require.Equal(t, want, q.Name)
		require.Equal(t, topic, q.Topic)
		require.EqualValues(t, 2, q.Active)
		require.EqualValues(t, 2, q.Messages)
		require.GreaterOrEqual(t, q.Live, int64(10_000))
	}
	require.Zero(t, list[0].Topic)
	segments, err := s.Segments(false)
	require.NoError(t, err)
	s.Weigh(census, segments)
	require.Equal(t, segments[0].Used, *segments[0].Live+*segments[0].Dead)
	require.LessOrEqual(t, *segments[0].Live, segments[0].Used)
}

// What is deleted is dead until its segment goes.
func TestDeadBytesOfAQueue(t *testing.T) {
	w := inspecttest.New(t)
	w.Send(w.Work, 4, 100) // can be rewound
	w.Send(w.Other, 5, 200)
	w.Delete(w.Work, 1)
	w.Delete(w.Other, 2)
	w.Close()
	list, _, err := open(t, w).Queues(nil)
	require.NoError(t, err)
	require.Equal(t, "queue-00000001", list[0].Name, "without metadata")
	require.Equal(t, [4]int64{400, 0, 3, 1}, [4]int64{list[0].Live, list[0].Dead, list[0].Active, list[0].Rewind})
	require.Equal(t, [4]int64{600, 400, 3, 0}, [4]int64{list[1].Live, list[1].Dead, list[1].Active, list[1].Rewind})
}

func TestImages(t *testing.T) {
	w := busy(t)
	w.Kill()
	list := open(t, w).Images()
	require.Len(t, list, 2)
	require.Equal(t, w.Index()-1, list[0].Index)
	require.Equal(t, w.Index()-2, list[1].Index)
	for _, i := range list {
		require.Equal(t, "ok", i.State)
		require.Positive(t, i.Refs)
		require.Positive(t, i.Time)
	}
	inspecttest.Flip(t, w.Path(list[0].File), list[0].Size-5)
	require.NoError(t, os.Remove(w.Path(list[1].File)))
	list = open(t, w).Images()
	require.Equal(t, []string{StateBad, StateMissing}, []string{list[0].State, list[1].State})
	require.Equal(t, "the checksum is wrong", list[0].Problems[0].What)
}

func TestArchive(t *testing.T) {
	w := busy(t)
	w.Kill()
	s := open(t, w)
	c, err := s.Census()
	require.NoError(t, err)
	list := s.Archive(false, c)
	forms := map[string]int{}
	for _, f := range list {
		require.Equal(t, "ok", f.State, f.Problems)
		require.Positive(t, *f.Live, f.File)
		forms[f.Form]++
	}
	require.Positive(t, forms["segment"])
	require.Positive(t, forms["messages"])
	for _, f := range list {
		t.Run(f.File, func(t *testing.T) {
			inspecttest.Flip(t, w.Path(f.File), 5000)
			defer inspecttest.Flip(t, w.Path(f.File), 5000)
			s := open(t, w)
			for _, g := range s.Archive(false, nil) {
				if g.File != f.File {
					require.Equal(t, "ok", g.State, g.Problems)
					continue
				}
				require.Equal(t, StateBad, g.State)
				require.Equal(t, w.Path(f.File), g.Problems[0].File)
				require.LessOrEqual(t, g.Problems[0].Offset, int64(5000))
			}
		})
	}
}

func TestChunks(t *testing.T) {
	w := busy(t)
	w.Kill()
	s := open(t, w)
	names := func(id cmq.ShardID) string { return id.Queue().String() }
	files, chunks, err := s.Chunks(names)
	require.NoError(t, err)
	require.NotEmpty(t, files)
	lanes := map[int]bool{}
	for _, c := range chunks {
		require.Equal(t, "ok", c.State)
		lanes[c.Level] = true
	}
	require.True(t, lanes[0] && lanes[1], "chunks of main lanes and blocks of delayed ones")
	for _, f := range files {
		require.Equal(t, "ok", f.State, f.Problems)
	}
	inspecttest.Flip(t, w.Path(files[0].File), files[0].Size-3)
	files, chunks, err = open(t, w).Chunks(names)
	require.NoError(t, err)
	require.Equal(t, StateBad, files[0].State)
	require.NotEmpty(t, files[0].Problems)
	require.True(t, slices.ContainsFunc(chunks, func(c Chunk) bool { return c.State == StateBad && c.Offset == files[0].Problems[0].Offset }))
}

func TestProblemsOfTheDirectory(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(w *inspecttest.World) error
		kind Kind
		file string
		what string
	}{
		"root is gone": {func(w *inspecttest.World) error { return os.Remove(w.Path("MANIFEST")) }, Missing, "MANIFEST", "the file is missing, but there is "},
		"another's root": {func(w *inspecttest.World) error {
			return copyFile(filepath.Join(w.SetDir(0), "MANIFEST"), w.Path("MANIFEST"))
		}, Foreign, "MANIFEST", "it belongs to cluster"},
		"nothing in it": {func(w *inspecttest.World) error {
			return errors.Join(os.RemoveAll(w.SetDir(1)), os.Mkdir(w.SetDir(1), 0o700))
		}, Unfinished, "", "there is no replica in it"},
		"no side file":    {func(w *inspecttest.World) error { return os.Remove(w.Path("hardstate")) }, Damaged, "hardstate", "term and vote are in doubt"},
		"no image":        {func(w *inspecttest.World) error { return os.Remove(w.Path("0000000001.image")) }, Missing, "0000000001.image", "the file is missing"},
		"the log is gone": {func(w *inspecttest.World) error { return os.Remove(w.Path("0000000001.seg")) }, Damaged, "", "the log has lost its end"},
		"another identity": {func(w *inspecttest.World) error {
			return os.WriteFile(filepath.Join(w.Dir, "identity.json"), []byte(`{"cluster":"test","node":2}`), 0o600)
		}, Foreign, "MANIFEST", "it belongs to cluster"},
	} {
		t.Run(name, func(t *testing.T) {
			w := inspecttest.New(t)
			w.Kill()
			require.NoError(t, c.harm(w))
			s := open(t, w)
			require.True(t, slices.ContainsFunc(s.Problems, func(p Problem) bool {
				return p.Kind == c.kind && p.File == filepath.Clean(w.Path(c.file)) && len(p.What) >= len(c.what) && p.What[:len(c.what)] == c.what
			}), "%v", s.Problems)
			require.Equal(t, string(worst(s.Problems)), s.Overview().State)
		})
	}
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o600)
}
