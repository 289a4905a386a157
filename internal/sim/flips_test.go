package sim

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/check"
	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/vfs"
)

// scene is a cluster of three that has stopped: its disks, with files of every kind, and the messages that its queue holds.
type scene struct {
	cfg   Config
	disks []*vfs.Disk
	want  map[cmq.MsgID]string
	floor uint64 // no replica's log has entries below it
}

// quiet is a world without faults and load, in which everything is small: no client acts but those of the test.
func quiet(cfg Config) *world {
	w := newWorld(cfg)
	w.knobs = knobs{
		sets: 1, disk: 50 * time.Microsecond, imageBytes: 4 << 10, segmentSize: 4 << 10, cacheBytes: 1, tailBytes: 1,
		maxBody: 64, think: 50 * time.Millisecond,
	}
	w.oracle = newOracle(w)
	q := &queue{w: w, name: "plain", id: 1, set: 1, attrs: plain(), version: 1}
	q.shard = q.id.Shard(0)
	w.queues = []*queue{q}
	w.phase = settling
	w.limit = 1 << 60
	return w
}

// until lets things happen until done says so.
func (w *world) until(t *testing.T, limit time.Duration, what string, done func() bool) {
	t.Helper()
	for end := w.now + limit; !done(); {
		it, ok := w.agenda.pop()
		require.True(t, ok, "nothing happens any more, but not %s", what)
		w.now = it.at
		it.run()
		require.Empty(t, w.broken)
		require.Less(t, w.now, end, "not %s: %s", what, w.whatWaits())
	}
}

// must calls the cluster until it gets a good answer.
func (w *world) must(t *testing.T, a *actor, req *cmq.Request) (reply *cmq.Reply) {
	t.Helper()
	for reply == nil {
		over := false
		a.call(1, req, 3*time.Second, func(ans answer) {
			if over = true; ans.outcome == check.OK {
				reply = ans.reply
			}
		})
		w.until(t, time.Minute, "an answer", func() bool { return over })
	}
	return reply
}

// newScene sends, delays, receives and deletes, so that the replicas have images, references, archived segments and rewritten ones.
func newScene(t *testing.T) *scene {
	s := &scene{cfg: Config{Seed: 4, Faults: []string{}}, want: map[cmq.MsgID]string{}}
	defer replaceCryptoRand(s.cfg.Seed)()
	w := quiet(s.cfg)
	for _, n := range w.nodes {
		require.NoError(t, n.create())
		n.start()
	}
	a := w.newActor(w.queues[0], 0)
	shard := w.queues[0].shard
	w.must(t, a, &cmq.Request{Kind: cmq.KindOpenShard, Shard: shard, Attributes: plain(), Version: 1})
	for i := range 150 {
		body := fmt.Sprintf("message %d, of which there is no other", i)
		req := &cmq.Request{Kind: cmq.KindSend, Shard: shard, Bodies: [][]byte{[]byte(body)}}
		if i%10 == 9 {
			req.Delay = time.Duration(6000+i) * time.Millisecond
		}
		s.want[w.must(t, a, req).IDs[0]] = body
	}
	var handles []cmq.Handle
	for i := range 4 {
		for j, m := range w.must(t, a, &cmq.Request{Kind: cmq.KindReceive, Shard: shard, Max: 16, Lock: time.Second}).Messages {
			if (i+j)%3 > 0 {
				handles = append(handles, m.Handle)
				delete(s.want, m.ID)
			}
		}
	}
	w.must(t, a, &cmq.Request{Kind: cmq.KindDelete, Shard: shard, Handles: handles})
	end := w.now + 3*time.Second // images are made, files leave the log and are made smaller
	w.until(t, time.Minute, "at rest", func() bool { return w.now > end && w.oracle.caughtUp() })
	kinds := map[string]bool{}
	for _, n := range w.nodes {
		s.floor = max(s.floor, n.replica(1).st.Log().FirstIndex())
		n.kill(vfs.LoseAll, "the scene is set")
		s.disks = append(s.disks, n.disk)
		for _, name := range n.files(func(string) bool { return true }) {
			kinds[path.Ext(name)] = true
		}
	}
	for _, kind := range []string{".seg", ".arc", ".image", ".chunk", "" /* MANIFEST, hardstate */} {
		require.True(t, kinds[kind], "no file of kind %q: %v", kind, s.disks[0].Files())
	}
	return s
}

// wake is a world with the disks of the scene, damaged. damage lists the messages that no replica has any more. The nodes are not started.
func (s *scene) wake(damage func(disks []*vfs.Disk) []cmq.MsgID) *world {
	w := quiet(s.cfg)
	var disks []*vfs.Disk
	for _, d := range s.disks {
		disks = append(disks, d.Fork(rand.New(rand.NewPCG(1, 1))))
	}
	for _, id := range damage(disks) {
		w.lost[store.Ref{Index: id.Index(), Slot: id.Slot()}] = true
	}
	for i, n := range w.nodes {
		n.disk = disks[i]
		n.wound = &wound{since: w.now}
	}
	return w
}

// play starts the nodes of the scene on damaged disks, waits until they are whole, and drains the queue. damage lists the messages that no
// replica has any more.
func (s *scene) play(t *testing.T, damage func(disks []*vfs.Disk) []cmq.MsgID) (got map[cmq.MsgID]string, w *world) {
	t.Helper()
	defer replaceCryptoRand(s.cfg.Seed)()
	w = s.wake(damage)
	for _, n := range w.nodes {
		n.start()
	}
	w.untilWhole(t)
	got = w.emptied(t)
	w.atRest(t)
	return got, w
}

// untilWhole waits until every replica has read all its files again and lacks nothing.
func (w *world) untilWhole(t *testing.T) {
	t.Helper()
	next := time.Duration(0)
	w.until(t, time.Minute, "whole", func() bool {
		if w.now < next {
			return false
		}
		next = w.now + time.Second
		return w.wholeAndRead()
	})
}

// emptied receives and deletes everything the queue has.
func (w *world) emptied(t *testing.T) (got map[cmq.MsgID]string) {
	t.Helper()
	a := w.newActor(w.queues[0], 0)
	shard := w.queues[0].shard
	got = map[cmq.MsgID]string{}
	for {
		r := w.must(t, a, &cmq.Request{Kind: cmq.KindReceive, Shard: shard, Max: 16, Lock: 30 * time.Second, Wait: 500 * time.Millisecond})
		if len(r.Messages) == 0 {
			status := w.must(t, a, &cmq.Request{Kind: cmq.KindStatus, Shard: shard})
			if c := status.Status; c.Active+c.Inactive+c.Delayed == 0 {
				return got
			}
			continue
		}
		var handles []cmq.Handle
		for _, m := range r.Messages {
			require.NotContains(t, got, m.ID)
			got[m.ID] = string(m.Body)
			handles = append(handles, m.Handle)
		}
		w.must(t, a, &cmq.Request{Kind: cmq.KindDelete, Shard: shard, Handles: handles})
	}
}

// atRest waits until the replicas are level, and looks whether they are alike and nobody complained.
func (w *world) atRest(t *testing.T) {
	t.Helper()
	w.until(t, time.Minute, "level", w.oracle.caughtUp)
	w.oracle.settled()
	require.Empty(t, w.broken)
	require.Zero(t, w.stats.hits["starts refused for damage"], "nobody had to do anything by hand")
}

// quarantined is how many messages all nodes together have given up.
func (w *world) quarantined() (n uint64) {
	for _, x := range w.nodes {
		if x.up {
			n += x.replica(1).m.Stats().Quarantined.Load()
		}
	}
	return n
}

// wholeAndRead tells whether every replica has read all its files again since it started, and lacks nothing.
func (w *world) wholeAndRead() bool {
	for _, n := range w.nodes {
		if !n.up || len(n.replicas) == 0 || n.replica(1).r.Status(n.now()).Scrub.Passes == 0 || w.missing(n) != "" {
			return false
		}
	}
	return true
}

// exhaustive tells whether the full run is wanted (make exhaustive).
func exhaustive() bool {
	on, _ := strconv.ParseBool(os.Getenv("CMQ_EXHAUSTIVE"))
	return on
}

// used is where what a file says ends: behind it is room that was never written.
func used(p []byte) int {
	return len(bytes.TrimRight(p, "\x00"))
}

// TestEveryFlippedByteIsHealed flips one bit of one byte of one file of one stopped replica: of each byte in the full run, of some in the
// small one. Nobody is served anything wrong, and the replica becomes whole by itself: the byte is what it was, or its file was written
// anew or is no longer needed, as what it said is in memory until the next image.
func TestEveryFlippedByteIsHealed(t *testing.T) {
	s := newScene(t)
	rng := rand.New(rand.NewPCG(1, 2))
	victim := 1
	d := s.disks[victim]
	names := slices.DeleteFunc(d.Files(), func(name string) bool { return strings.HasSuffix(name, "LOCK") })
	tried := map[string]int{}
	for _, name := range names {
		p, err := vfs.ReadFile(d.Mount(), name)
		require.NoError(t, err)
		end, step := used(p), 1
		if !exhaustive() {
			step = max(end/6, 1)
		}
		for off := rng.IntN(step); off < end; off += 1 + rng.IntN(2*step-1) {
			if path.Base(name) == "hardstate" && off%4096 >= 64 {
				continue // between the slots is nothing
			}
			bit := uint(rng.IntN(8))
			what := fmt.Sprintf("%s, bit %d of byte %d", name, bit, off)
			var w *world
			ok := t.Run("", func(t *testing.T) {
				defer func() {
					if t.Failed() {
						t.Log(what)
					}
				}()
				var got map[cmq.MsgID]string
				got, w = s.play(t, func(disks []*vfs.Disk) []cmq.MsgID {
					require.NoError(t, disks[victim].Flip(name, int64(off), bit))
					return nil
				})
				require.Equal(t, s.want, got)
				n := w.nodes[victim]
				now, err := vfs.ReadFile(n.disk.Mount(), name)
				noticed := n.replica(1).r.Status(n.now()).Scrub.Damaged > 0
				if err == nil && !noticed && stays(now, flipped(p, off, bit), off) {
					t.Error("it is still there, and nobody noticed")
				}
			})
			if !ok {
				t.Fatal("see above")
			}
			tried[path.Ext(name)]++
		}
	}
	t.Logf("bytes flipped, by kind of file: %v", tried)
}

// stays tells whether a file is the damaged one still. It need not be if the byte is the same: a file that was written anew may by chance have
// the same byte there, but not with the same bytes before it.
func stays(now, damaged []byte, off int) bool {
	before := max(off-64, 0)
	return off < len(now) && bytes.Equal(now[before:off+1], damaged[before:off+1]) && used(now) == used(damaged)
}

func flipped(p []byte, off int, bit uint) []byte {
	p = bytes.Clone(p)
	p[off] ^= 1 << bit
	return p
}

// TestWhatIsGoodSomewhereIsKept damages every message on some of the replicas, drawn anew for each. Those that are damaged on all are gone
// afterwards, and no others.
func TestWhatIsGoodSomewhereIsKept(t *testing.T) {
	s := newScene(t)
	rounds := 4
	if exhaustive() {
		rounds = 400
	}
	lost := 0
	for round := range rounds {
		rng := rand.New(rand.NewPCG(uint64(round), 9))
		want := maps.Clone(s.want)
		got, w := s.play(t, func(disks []*vfs.Disk) (gone []cmq.MsgID) {
			for _, id := range slices.Sorted(maps.Keys(s.want)) {
				where := rng.IntN(8) // a bit for each replica
				if where == 7 && id.Index() >= s.floor {
					continue // the entry would be lost, and it is nobody's to say that it never was
				}
				all := true
				for i, disk := range disks {
					if where>>i&1 == 1 {
						spoilBody(t, rng, disk, s.want[id])
					} else {
						all = false
					}
				}
				if all {
					delete(want, id)
					gone = append(gone, id)
				}
			}
			lost += len(gone)
			return gone
		})
		require.Equal(t, want, got, "round %d", round)
		require.Equal(t, uint64(len(s.want)-len(want)), w.quarantined(), "round %d", round)
	}
	require.Positive(t, lost)
}

// spoilBody flips a bit of a message wherever the disk has it.
func spoilBody(t *testing.T, rng *rand.Rand, disk *vfs.Disk, body string) {
	t.Helper()
	found := false
	for _, name := range disk.Files() {
		if ext := path.Ext(name); ext != ".seg" && ext != ".arc" {
			continue
		}
		p, err := vfs.ReadFile(disk.Mount(), name)
		require.NoError(t, err)
		for from := 0; ; {
			i := bytes.Index(p[from:], []byte(body))
			if i < 0 {
				break
			}
			found = true
			require.NoError(t, disk.Flip(name, int64(from+i+rng.IntN(len(body))), uint(rng.IntN(8))))
			from += i + len(body)
		}
	}
	require.True(t, found, "%q is on no disk", body)
}
