package doctor

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/access/adminapi"
	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/datadir"
	"github.com/opencmq/cmq/internal/inspect"
	"github.com/opencmq/cmq/internal/inspect/inspecttest"
	"github.com/opencmq/cmq/internal/vfs"
)

// little is marks that any disk of a test fulfils.
var little = datadir.Marks{Soft: 2, Hard: 1}

func check(t *testing.T, w *inspecttest.World) Report {
	t.Helper()
	before := inspecttest.Everything(t, w.Dir)
	reports, err := Directory(vfs.OS(), w.Dir, little)
	require.NoError(t, err)
	require.Len(t, reports, 1)
	require.Equal(t, before, inspecttest.Everything(t, w.Dir), "nothing is changed")
	for _, f := range reports[0].Findings {
		require.NotEmpty(t, f.Means, f)
		require.NotEmpty(t, f.Do, f)
	}
	return reports[0]
}

// full makes a directory with an archive, images and a log behind them.
func full(t *testing.T, replicas ...cmq.NodeID) *inspecttest.World {
	w := inspecttest.New(t, replicas...)
	for range 80 {
		w.Send(w.Work, 2, 400)
	}
	w.Send(w.Other, 10, 300)
	w.Delete(w.Other, 9)
	w.Image()
	w.Send(w.Work, 1, 30)
	w.Image()
	w.Send(w.Work, 1, 30)
	return w
}

func TestHealthyDirectory(t *testing.T) {
	for name, end := range map[string]func(*inspecttest.World){"stopped": (*inspecttest.World).Close, "killed": (*inspecttest.World).Kill} {
		t.Run(name, func(t *testing.T) {
			w := full(t)
			end(w)
			r := check(t, w)
			require.Empty(t, r.Findings)
			require.Empty(t, r.Unchecked)
			require.NotEmpty(t, r.Checked)
		})
	}
}

// Every file of a replica, damaged in its middle, is found; and so is every one that is gone.
func TestEveryFileCounts(t *testing.T) {
	w := full(t, 1, 2, 3)
	w.Kill()
	names, err := vfs.OS().ReadDir(w.SetDir(1))
	require.NoError(t, err)
	kinds := map[string]bool{}
	for _, name := range names {
		path := w.Path(name)
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		if len(data) == 0 || name == "LOCK" {
			continue
		}
		kinds[filepath.Ext(name)] = true
		restore := func() { require.NoError(t, os.WriteFile(path, data, 0o600)) }
		t.Run("gone "+name, func(t *testing.T) {
			defer restore()
			require.NoError(t, os.Remove(path))
			mustName(t, check(t, w), name)
		})
		if name == "hardstate" { // one of its two slots may always be torn
			continue
		}
		t.Run("damaged "+name, func(t *testing.T) {
			defer restore()
			offset := int64(len(data) / 2)
			if filepath.Ext(name) == ".seg" && data[len(data)-1] == 0 && data[offset] == 0 {
				offset = 20 // the end of a log may be torn; its identity may not
			}
			for data[offset] == 0 { // where there is something
				offset--
			}
			inspecttest.Flip(t, path, offset)
			mustName(t, check(t, w), name)
		})
	}
	for _, ext := range []string{"", ".seg", ".image", ".chunk"} {
		require.True(t, kinds[ext], ext)
	}
	require.Empty(t, check(t, w).Findings, "restored")
}

// mustName wants a finding about a file, or about the log if its last segment is gone.
func mustName(t *testing.T, r Report, name string) {
	t.Helper()
	ok := slices.ContainsFunc(r.Findings, func(f Finding) bool {
		return strings.Contains(f.Subject, name) || strings.Contains(f.What, "lost its end")
	})
	require.True(t, ok, "%+v", r.Findings)
}

func TestDamageIsNamedByFileAndOffset(t *testing.T) {
	w := inspecttest.New(t, 1, 2, 3)
	w.Send(w.Work, 1, 500)
	w.Send(w.Work, 1, 500)
	w.Kill()
	inspecttest.Flip(t, w.Path("0000000001.seg"), 5000)
	r := check(t, w)
	var offsets []string
	for _, f := range r.Findings {
		require.Equal(t, Error, f.Level)
		require.Contains(t, f.Do, "it takes what is lost from the other replicas")
		if _, at, ok := strings.Cut(f.Subject, " at offset "); ok {
			offsets = append(offsets, at)
		}
	}
	require.NotEmpty(t, offsets)
}

// References that the only replica has lost are named by queue and position. The node goes on freeing disk beside them, keeps the
// messages they led to, and has all of them again when the file is put back. If it is one byte, it needs nobody.
func TestLostReferencesOfTheOnlyReplica(t *testing.T) {
	for name, row := range map[string]struct {
		hurt      func(path string, size int64)
		means, do string
		level     Level
		what      string
	}{
		"a byte": {func(path string, size int64) { inspecttest.Flip(t, path, size-1) }, "", "one byte is wrong", Warning, "checksum"},
		"more": {func(path string, size int64) {
			for at := size - 9; at < size; at++ {
				inspecttest.Flip(t, path, at)
			}
		}, "deleted then, counted as quarantined", "queue work goes on without them", Error, `; it led to positions \d+ to \d+ of queue work$`},
		"cut off": {func(path string, size int64) { require.NoError(t, os.Truncate(path, size-9)) },
			"They are not lost yet", ".chunk.lost beside it", Error, `; it led to positions \d+ to \d+ of queue work$`},
	} {
		t.Run(name, func(t *testing.T) {
			lostReferences(t, row.hurt, func(f Finding) {
				require.Equal(t, row.level, f.Level)
				require.Regexp(t, row.what, f.What)
				require.Contains(t, f.Means, row.means)
				require.Contains(t, f.Do, row.do)
				if row.level == Error {
					require.Contains(t, f.Do, "put "+filepath.Base(strings.Fields(f.Subject)[0])+" back from a backup")
				}
			})
		})
	}
}

func lostReferences(t *testing.T, hurt func(path string, size int64), look func(Finding)) {
	w := full(t)
	for range 30 {
		w.SendLater(w.Other, 1, 200, time.Hour)
	}
	w.Image()
	chunks, err := filepath.Glob(w.Path("*.chunk"))
	require.NoError(t, err)
	require.NotEmpty(t, chunks)
	kept := map[string][]byte{}
	for _, path := range chunks {
		kept[path], err = os.ReadFile(path)
		require.NoError(t, err)
		hurt(path, int64(len(kept[path])))
	}
	for range 5 {
		w.Send(w.Other, 100, 900)
		w.Delete(w.Other, 101) // with the one that is left
		w.Send(w.Other, 1, 900)
		w.Image()
	}
	segments, err := filepath.Glob(w.Path("*.seg"))
	require.NoError(t, err)
	require.Less(t, len(segments), 12, "what is dead has gone")
	w.Close()
	r := check(t, w)
	damaged := 0
	for _, f := range r.Findings {
		if filepath.Ext(strings.Fields(f.Subject)[0]) != ".chunk" {
			continue
		}
		if damaged++; !strings.HasPrefix(f.What, "the file has") {
			look(f)
		}
	}
	require.NotZero(t, damaged, "%+v", r.Findings)
	for path, data := range kept {
		if _, err := os.Stat(path); err == nil {
			require.NoError(t, os.WriteFile(path, data, 0o600))
		}
	}
	require.Empty(t, check(t, w).Findings)
}

func TestWrongStateIsFound(t *testing.T) {
	w := inspecttest.New(t, 1, 2, 3)
	w.Send(w.Work, 1, 500)
	w.Fence()
	w.Close()
	r := check(t, w)
	require.Len(t, r.Findings, 1)
	require.Equal(t, Error, r.Findings[0].Level)
	require.Contains(t, r.Findings[0].Subject, "set-001/hardstate")
	require.Contains(t, r.Findings[0].What, "not to be that of most replicas")
	require.Contains(t, r.Findings[0].Do, "takes the state of the others")
	require.Contains(t, r.Findings[0].Means, "memory or processor")
}

func TestPositionsAreNamed(t *testing.T) {
	a, b := cmq.QueueID(1).Shard(0), cmq.QueueID(2).Shard(0)
	const due = 1893553445000
	for want, p := range map[string]inspect.Positions{
		"positions 3 to 9 of queue queue-00000001":                                                                 {Shard: a, LastShard: a, Lo: 3, Hi: 10},
		"positions 3 to the end of the messages of queue queue-00000001 that fall due at 2030-01-02T03:04:05Z":     {Shard: a, LastShard: a, Lane: due, LastLane: due, Lo: 3, Hi: math.MaxUint64},
		"delayed messages of queue queue-00000001 that fall due from 2030-01-02T03:04:05Z to 2030-01-02T03:04:06Z": {Shard: a, LastShard: a, Lane: due, LastLane: due + 1000},
		"delayed messages of the queues from queue-00000001 to queue-00000002":                                     {Shard: a, LastShard: b, Lane: due, LastLane: due},
		"delayed messages of the queues from queue-00000001 on":                                                    {Shard: a, LastShard: math.MaxUint64, Lane: due, LastLane: math.MaxInt64, Hi: math.MaxUint64},
	} {
		got, _ := (&replica{}).positions(&p)
		require.Equal(t, want, got)
	}
}

func TestFindingsOfDirectories(t *testing.T) {
	for name, c := range map[string]struct {
		replicas []cmq.NodeID
		harm     func(w *inspecttest.World) error
		level    Level
		subject  string
		what, do string
	}{
		"only replica, cut": {nil, func(w *inspecttest.World) error { return os.Truncate(w.Path("0000000001.seg"), 4200) }, Error, "set-001/0000000001.seg at offset 4200", "shorter than the", "make an empty file"},
		"root is gone":      {nil, func(w *inspecttest.World) error { return os.Remove(w.Path("MANIFEST")) }, Warning, "set-001/MANIFEST", "the file is missing", "the node makes it again from the other files"},
		"side file of a log that was closed is gone": {nil, func(w *inspecttest.World) error { return os.Remove(w.Path("hardstate")) }, Warning, "set-001/hardstate", "the file is missing", "the node makes it again"},
		"identity is gone":                           {nil, func(w *inspecttest.World) error { return os.Remove(filepath.Join(w.Dir, "identity.json")) }, Error, "identity.json", "is missing", "Restore the file"},
		"identity is nonsense": {nil, func(w *inspecttest.World) error {
			return os.WriteFile(filepath.Join(w.Dir, "identity.json"), []byte("?"), 0o600)
		}, Error, "identity.json", "cannot be read", "Restore the file"},
		"another's identity": {nil, func(w *inspecttest.World) error {
			return os.WriteFile(filepath.Join(w.Dir, "identity.json"), []byte(`{"cluster":"elsewhere","node":1}`), 0o600)
		}, Error, "set-001/MANIFEST", "it belongs to cluster", "Put the right directory back"},
		"strange file of a node": {nil, func(w *inspecttest.World) error {
			return os.WriteFile(filepath.Join(w.Dir, "notes.txt"), []byte("?"), 0o600)
		}, Warning, "", "these are not a node's: notes.txt", "Move them away"},
		"strange file of a set": {nil, func(w *inspecttest.World) error { return os.WriteFile(w.Path("copy.bak"), []byte("?"), 0o600) },
			Warning, "set-001", "copy.bak", "Move them away"},
		"replica is gone": {[]cmq.NodeID{1, 2, 3}, func(w *inspecttest.World) error { return os.RemoveAll(w.SetDir(1)) },
			Error, "set-001", "the directory of set 1 is missing", "on one node at a time"},
		"only replica is gone": {nil, func(w *inspecttest.World) error { return os.RemoveAll(w.SetDir(1)) },
			Error, "set-001", "the directory of set 1 is missing", "before the node starts"},
	} {
		t.Run(name, func(t *testing.T) {
			w := inspecttest.New(t, c.replicas...)
			w.Close()
			require.NoError(t, c.harm(w))
			r := check(t, w)
			i := slices.IndexFunc(r.Findings, func(f Finding) bool {
				return f.Level == c.level && strings.HasSuffix(f.Subject, filepath.FromSlash(c.subject)) && strings.Contains(f.What, c.what) && strings.Contains(f.Do, c.do)
			})
			require.GreaterOrEqual(t, i, 0, "%+v", r.Findings)
		})
	}
}

func TestLeftoversAreNoFinding(t *testing.T) {
	w := inspecttest.New(t)
	w.Close()
	for _, name := range []string{"MANIFEST.tmp", "0000000099.arc", "image-9-1.part", "0000000001.seg.lost"} {
		require.NoError(t, os.WriteFile(w.Path(name), []byte("?"), 0o600))
	}
	r := check(t, w)
	require.Empty(t, r.Findings)
	require.True(t, slices.ContainsFunc(r.Checked, func(s string) bool {
		return strings.Contains(s, "0000000001.seg.lost, 0000000099.arc, MANIFEST.tmp, image-9-1.part")
	}), r.Checked)
}

func TestDirectoryInUseIsNotChecked(t *testing.T) {
	w := inspecttest.New(t)
	w.Close()
	lock, err := datadir.Claim(vfs.OS(), w.Dir, datadir.Identity{Cluster: inspecttest.Cluster, Node: 1})
	require.NoError(t, err)
	defer lock.Close()
	r := check(t, w)
	require.Empty(t, r.Findings)
	require.Len(t, r.Unchecked, 1)
	require.Contains(t, r.Unchecked[0], "cmq doctor --admin")
	_, err = Directory(vfs.OS(), t.TempDir(), little)
	require.ErrorIs(t, err, inspect.ErrNoData)
}

func TestSpace(t *testing.T) {
	well := room{total: 1000 << 30, free: 500 << 30, soft: 2 << 30, hard: 128 << 20, inodes: 1 << 20, freeInodes: 1 << 19}
	for name, c := range map[string]struct {
		change func(*room)
		level  Level
		means  string
	}{
		"room":               {func(*room) {}, "", ""},
		"no limit of inodes": {func(r *room) { r.inodes, r.freeInodes = 0, 0 }, "", ""},
		"nearly full":        {func(r *room) { r.free = 3 << 30 }, Warning, "Soon sends are refused"},
		"below soft":         {func(r *room) { r.free = 1 << 30 }, Error, "receives and deletes go on"},
		"below hard":         {func(r *room) { r.free = 1 << 20 }, Error, "sends and receives are refused"},
		"few inodes":         {func(r *room) { r.freeInodes = 400 }, Warning, "Soon sends are refused"},
		"inodes below soft":  {func(r *room) { r.freeInodes = 100 }, Error, "sends are refused"},
		"inodes below hard":  {func(r *room) { r.freeInodes = 10 }, Error, "sends and receives are refused"},
	} {
		t.Run(name, func(t *testing.T) {
			r := well
			c.change(&r)
			one(t, judgeSpace("d", r), c.level, "", c.means)
		})
	}
}

// one wants exactly one finding of a level, or none if it is empty.
func one(t *testing.T, list []Finding, level Level, what, means string) {
	t.Helper()
	if level == "" {
		require.Empty(t, list)
		return
	}
	require.Len(t, list, 1)
	require.Equal(t, level, list[0].Level)
	require.Contains(t, list[0].What, what)
	require.Contains(t, list[0].Means, means)
	require.NotEmpty(t, list[0].Do)
}

func ptr(n int64) *int64 { return &n }

// wellState is a node of three of which nothing bad can be said.
func wellState() *adminapi.State {
	other := func(id cmq.NodeID) adminapi.Replica {
		return adminapi.Replica{Node: id, Heard: ptr(40), ClockOffset: ptr(-3), Sync: time.Millisecond, Active: true, Match: 100, State: "replicate"}
	}
	return &adminapi.State{
		Node: 1, Cluster: "c", Version: "v1",
		Process:  adminapi.Process{Descriptors: 100, Limit: 1000, Need: 500},
		Disk:     adminapi.Disk{Dir: "d", Total: 100 << 30, Free: 50 << 30, Soft: 2 << 30, Hard: 128 << 20},
		Metadata: adminapi.Metadata{Version: 3, Queues: 1},
		Sets: []adminapi.Set{{
			Set: 1, Voters: []cmq.NodeID{1, 2, 3}, Leader: 1, Leading: true, Last: 100, Committed: 100, Applied: 100, Image: 50,
			Sync: 2 * time.Millisecond, ClockOffset: ptr(2), Replicas: []adminapi.Replica{other(2), other(3)},
		}},
	}
}

func TestFindingsOfARunningNode(t *testing.T) {
	for name, c := range map[string]struct {
		live, ready string
		change      func(s *adminapi.State, t *adminapi.Set)
		level       Level
		what, means string
	}{
		"well":          {"", "", nil, "", "", ""},
		"loop hangs":    {"[+] disk ok\n[!] set-1-loop does not turn\n", "", nil, Error, "/livez: set-1-loop does not turn", "will not by itself"},
		"no metadata":   {"", "[!] metadata the cluster is not bootstrapped, or not heard of\n", nil, Error, "/readyz: metadata", "answers no request"},
		"disk failed":   {"", "[!] disk write error\n", nil, Error, "/readyz: disk", ""},
		"stopping":      {"", "[!] draining the node is stopping\n", func(s *adminapi.State, _ *adminapi.Set) { s.Stopping = true }, Warning, "stopping", "no new requests"},
		"set hangs":     {"", "", func(_ *adminapi.State, t *adminapi.Set) { t.Hangs = true }, Error, "does not turn", ""},
		"no leader":     {"", "[!] set-1-leader none known\n", func(_ *adminapi.State, t *adminapi.Set) { t.Leader, t.Leading = 0, false }, Error, "has no leader", "no requests"},
		"elected only":  {"", "[!] set-1-leader elected, not yet serving\n", func(_ *adminapi.State, t *adminapi.Set) { t.Leading = false }, Warning, "does not serve yet", ""},
		"filled":        {"", "", func(_ *adminapi.State, t *adminapi.Set) { t.Fetching, t.Leading, t.Leader = true, false, 2 }, Warning, "being filled", ""},
		"behind itself": {"", "", func(_ *adminapi.State, t *adminapi.Set) { t.Committed, t.Leading, t.Leader = 100_000, false, 2 }, Warning, "99900 entries", "could not lead"},
		"in repair": {"", "", func(_ *adminapi.State, t *adminapi.Set) {
			t.Leading, t.Leader, t.Repair = false, 2, &adminapi.Repair{Lost: 3, Vote: true, End: true, Image: true}
		}, Error, "3 entries cannot be read, no image of the state can be read, term and vote are in doubt, the log may have lost its end", "neither votes"},
		"in repair of a wrong state": {"", "", func(_ *adminapi.State, t *adminapi.Set) {
			t.Leading, t.Leader, t.Repair = false, 2, &adminapi.Repair{State: true}
		}, Error, "the state is not that of most replicas", "neither votes"},
		"wrong state":      {"", "", func(_ *adminapi.State, t *adminapi.Set) { t.WrongStates = 2 }, Error, "2 times", "memory or processor"},
		"sends refused":    {"", "", func(_ *adminapi.State, t *adminapi.Set) { t.Full, t.Replicas[0].Full = 1, 1 }, Error, "sends are refused", "fullest disk"},
		"receives refused": {"", "", func(_ *adminapi.State, t *adminapi.Set) { t.Full = 2 }, Error, "sends and receives are refused", ""},
		"damage": {"", "", func(_ *adminapi.State, t *adminapi.Set) {
			t.Scrub.Damaged, t.Damage = 1, []adminapi.Damage{{File: "f.arc", Offset: 7, Kind: "archive", Why: "bad"}}
		}, Error, "damaged archive file: bad", "not what was written"},
		"quarantined": {"", "", func(_ *adminapi.State, t *adminapi.Set) { t.Quarantined = 2 }, Error, "2 messages were deleted", "lost"},
		"undecided": {"", "", func(_ *adminapi.State, t *adminapi.Set) {
			t.Undecided = []adminapi.Undecided{{Owner: "1", Queue: "orders", Messages: 3}}
		}, Warning, "3 messages are undecided", "until somebody decides"},
		"mended":       {"", "", func(_ *adminapi.State, t *adminapi.Set) { t.Mended = 1 }, Warning, "1 message was fetched", "Nothing is lost"},
		"healed":       {"", "", func(_ *adminapi.State, t *adminapi.Set) { t.Scrub.Damaged = 4 }, Warning, "4 damaged places", "Nothing is lost"},
		"only replica": {"", "", func(_ *adminapi.State, t *adminapi.Set) { t.Scrub.Damaged, t.Voters = 4, []cmq.NodeID{1} }, Error, "4 damaged places were found, and this is the only replica", "references"},
		"slow disk":    {"", "", func(_ *adminapi.State, t *adminapi.Set) { t.Sync = 80 * time.Millisecond }, Warning, "80ms", "No confirm"},
		"stalled disk": {"", "", func(_ *adminapi.State, t *adminapi.Set) { t.Writing = 3 * time.Second }, Error, "3s so far", "does not answer"},
		"never heard":  {"", "", func(_ *adminapi.State, t *adminapi.Set) { t.Replicas[1].Heard = nil }, Error, "node 3 does not answer", "one more away"},
		"silent":       {"", "", func(_ *adminapi.State, t *adminapi.Set) { t.Replicas[0].Heard = ptr(6000) }, Error, "node 2 does not answer", ""},
		"lagging": {"", "", func(_ *adminapi.State, t *adminapi.Set) {
			t.Last, t.Committed, t.Applied, t.Replicas[0].Match = 1e6, 1e6, 1e6, 1e6
		}, Warning, "node 3 is 999900 entries behind (replicate)", ""},
		"a follower does not judge others": {"", "", func(_ *adminapi.State, t *adminapi.Set) {
			t.Leading, t.Leader, t.Replicas[1] = false, 2, adminapi.Replica{Node: 3}
		}, "", "", ""},
		"another clock":    {"", "", func(_ *adminapi.State, t *adminapi.Set) { t.Replicas[1].ClockOffset = ptr(-2500) }, Warning, "the clock of node 3 is 2.5s behind this node's", "signatures"},
		"cluster time":     {"", "", func(_ *adminapi.State, t *adminapi.Set) { t.ClockOffset = ptr(60_000) }, Warning, "cluster time is 1m0s ahead of this node's clock", "never goes back"},
		"descriptors used": {"", "", func(s *adminapi.State, _ *adminapi.Set) { s.Process.Descriptors = 900 }, Error, "900 of 1000", "no connection"},
		"descriptors few":  {"", "", func(s *adminapi.State, _ *adminapi.Set) { s.Process.Need = 2000 }, Warning, "up to 2000 descriptors may be needed, 1000 are allowed", ""},
		"disk unknown":     {"", "", func(s *adminapi.State, _ *adminapi.Set) { s.Disk = adminapi.Disk{Error: "no such file"} }, Error, "no such file", "would not be noticed"},
		"disk full":        {"", "", func(s *adminapi.State, _ *adminapi.Set) { s.Disk.Free = 1 << 20 }, Error, "1.0 MiB of 100.0 GiB are free", "Below the hard mark"},
	} {
		t.Run(name, func(t *testing.T) {
			s := wellState()
			if c.change != nil {
				c.change(s, &s.Sets[0])
			}
			one(t, Judge(ParseHealth(c.live), ParseHealth(c.ready), s), c.level, c.what, c.means)
		})
	}
}

func TestNodesAreCompared(t *testing.T) {
	a, b := &asked{state: *wellState()}, &asked{state: *wellState()}
	b.state.Node = 2
	b.state.Sets = slices.Clone(b.state.Sets)
	b.state.Sets[0].Leading = false
	require.Empty(t, compare([]*asked{a, b}))
	b.state.Version = "v2"
	one(t, compare([]*asked{a, b}), Warning, "v1 on node 1; v2 on node 2", "upgraded one by one")
	b.state.Version, b.state.Sets[0].Leading = "v1", true
	one(t, compare([]*asked{a, b}), Warning, "nodes 1, 2 each say that they lead set 1", "only one of them can confirm")
}

func TestAdminAddress(t *testing.T) {
	for in, want := range map[string]string{
		"127.0.0.1:7673": "http://127.0.0.1:7673", "http://h:1": "http://h:1", "https://h:1/": "https://h:1",
		"": "", "http://": "", "ftp://h:1": "", "http://h:1/x": "",
	} {
		got, err := adminURL(in)
		require.Equal(t, want, got)
		require.Equal(t, want == "", err != nil)
	}
}
