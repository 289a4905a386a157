package store

import (
	"cmp"
	"fmt"
	"hash/crc32"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/store/reflog"
	"github.com/opencmq/cmq/internal/store/segment"
	"github.com/opencmq/cmq/internal/vfs"
)

// moment is what a store holds at some moment.
type moment struct {
	base  uint64   // the log never had entries up to here
	terms []uint64 // of the entries behind base
	hs    segment.HardState
	sure  uint64 // commit index that is surely on the disk
	image Image  // the newest
	live  alive
	sent  uint64 // messages of entries up to here lived once
}

func (m *moment) last() uint64 { return m.base + uint64(len(m.terms)) }

func (m *moment) clone() *moment {
	c := *m
	c.terms, c.live = slices.Clone(m.terms), maps.Clone(m.live)
	return &c
}

// is tells in what an open store is not as it was at the moment.
func (m *moment) is(s *Store) error {
	log := s.Log()
	if log.LastIndex() != m.last() {
		return fmt.Errorf("the log ends at %d, not %d", log.LastIndex(), m.last())
	}
	img, err := s.LatestImage()
	if err != nil {
		return err
	}
	if img.Index != m.image.Index || img.Term != m.image.Term || string(img.Data()) != string(m.image.Data()) || !slices.Equal(img.Refs, m.image.Refs) {
		return fmt.Errorf("the newest image is of entry %d and not that of entry %d", img.Index, m.image.Index)
	}
	for _, f := range img.Refs {
		p, err := vfs.ReadFile(s.fs, s.path(f.Name))
		if err != nil || int64(len(p)) != f.Size || crc32.Checksum(p, castagnoli) != f.CRC {
			return fmt.Errorf("file %s of image %d: %d bytes, %v", f.Name, img.Index, len(p), err)
		}
	}
	hs := log.HardState()
	if hs.Term != m.hs.Term || hs.Vote != m.hs.Vote || hs.Commit < max(m.sure, img.Index) || hs.Commit > max(m.hs.Commit, img.Index) {
		return fmt.Errorf("hard state %+v, not %+v with a commit index from %d", hs, m.hs, m.sure)
	}
	if log.FirstIndex() > img.Index+1 {
		return fmt.Errorf("the log begins at %d, the image is of entry %d", log.FirstIndex(), img.Index)
	}
	for i := max(log.FirstIndex(), m.base+1); i <= m.last(); i++ {
		e, err := log.Entry(i)
		if want := testEntry(m.terms[i-m.base-1], i); err != nil || e.Term != want.Term || string(e.Data) != string(want.Data) {
			return fmt.Errorf("entry %d of term %d: term %d, %v", i, want.Term, e.Term, err)
		}
	}
	for ref := range m.live {
		if msg, err := s.Message(ref); err != nil || string(msg.Body) != string(testBody(ref)) {
			return fmt.Errorf("message %v: %w", ref, cmp.Or(err, fmt.Errorf("it is %q", msg.Body)))
		}
	}
	return nil
}

// author writes the script: whatever a replica does with its store, in random order, with a model of what must be there.
type author struct {
	t    *testing.T
	rng  *rand.Rand
	disk *vfs.Disk
	s    *Store
	now  *moment // acknowledged
	next *moment // what the operation under way makes of it, if it is done already
	refs int     // number of the newest file of references
	done Report  // sums of what Maintain did

	replaced, installed int
}

// crashOptions makes segments small. Salts must not come again, so each opening draws others.
func crashOptions(rng *rand.Rand) Options {
	o := testOptions()
	o.SegmentSize = 8 << 10
	var seed [32]byte
	le.PutUint64(seed[:], rng.Uint64())
	o.Rand = rand.NewChaCha8(seed)
	return o
}

func newAuthor(t *testing.T) *author {
	a := &author{t: t, rng: rand.New(rand.NewPCG(3, 14)), disk: newTestDisk(1)}
	s, err := Create(a.disk.Mount(), "set", crashOptions(a.rng), testImage(10))
	require.NoError(t, err)
	a.s = s
	a.now = &moment{base: 10, hs: s.Log().HardState(), sure: 10, image: testImage(10), live: alive{}, sent: 10}
	a.next = a.now
	return a
}

// do changes the model, then the store, and then acknowledges.
func (a *author) do(change func(m *moment), act func() error) {
	a.next = a.now.clone()
	change(a.next)
	require.NoError(a.t, act())
	a.now = a.next
}

// step is one operation of the script.
func (a *author) step() {
	switch n := a.rng.IntN(100); {
	case n < 52:
		a.append()
	case n < 57:
		a.replace()
	case n < 61:
		a.vote()
	case n < 66:
		a.mark()
	case n < 80:
		a.checkpoint()
	case n < 94:
		a.maintain()
	case n < 98:
		a.reopen()
	default:
		a.install()
	}
}

// append adds some entries, and commits some of those before.
func (a *author) append() {
	first, n, term := a.now.last()+1, 1+a.rng.Uint64N(3), a.now.hs.Term
	hs := a.commit(a.rng.Uint64N(4))
	a.do(func(m *moment) {
		for range n {
			m.terms = append(m.terms, term)
		}
		m.hs, m.sure = hs, hs.Commit
	}, func() error { return a.s.Log().Append(testEntries(term, first, first+n), hs, true) })
	a.enqueue()
}

// commit is the hard state with up to n more entries committed.
func (a *author) commit(n uint64) segment.HardState {
	hs := a.now.hs
	hs.Commit = min(hs.Commit+n, a.now.last())
	return hs
}

// enqueue lets messages of committed entries live, and others die.
func (a *author) enqueue() {
	m := a.now.clone()
	for ; m.sent < m.sure; m.sent++ {
		m.live[at(m.sent+1, uint16(a.rng.IntN(slots)))] = true
	}
	for _, ref := range a.sorted() {
		if a.rng.IntN(20) == 0 {
			delete(m.live, ref)
		}
	}
	a.now, a.next = m, m
}

func (a *author) sorted() []Ref {
	return slices.SortedFunc(maps.Keys(a.now.live), func(x, y Ref) int {
		return cmp.Or(cmp.Compare(x.Index, y.Index), cmp.Compare(x.Slot, y.Slot))
	})
}

// replace puts entries of a new leader in the place of some that were not committed.
func (a *author) replace() {
	m := a.now
	if m.last() == m.hs.Commit {
		return
	}
	a.replaced++
	first := m.hs.Commit + 1 + a.rng.Uint64N(m.last()-m.hs.Commit)
	n, hs := 1+a.rng.Uint64N(3), m.hs
	hs.Term, hs.Vote = hs.Term+1, 0
	a.do(func(m *moment) {
		m.terms = m.terms[:first-m.base-1]
		for range n {
			m.terms = append(m.terms, hs.Term)
		}
		m.hs, m.sure = hs, hs.Commit
	}, func() error { return a.s.Log().Append(testEntries(hs.Term, first, first+n), hs, true) })
}

func (a *author) vote() {
	hs := a.now.hs
	hs.Term, hs.Vote = hs.Term+1, 1+a.rng.Uint64N(3)
	a.do(func(m *moment) { m.hs = hs }, func() error { return a.s.Log().Append(nil, hs, false) })
}

// mark moves the commit index without a sync.
func (a *author) mark() {
	hs := a.commit(2)
	a.do(func(m *moment) { m.hs = hs }, func() error { return a.s.Log().Append(nil, hs, false) })
}

// checkpoint saves an image of the last committed entry, now and then with another file of references.
func (a *author) checkpoint() {
	index := a.now.sure
	img := testImage(index)
	img.Term = a.now.term(index)
	img.Refs = slices.Clone(a.now.image.Refs)
	if a.rng.IntN(3) == 0 {
		a.refs++
		body := []byte(fmt.Sprintf("references %d, which no other file has", a.refs))
		f := reflog.File{Name: fmt.Sprintf("refs-%010d.chunk", a.refs), Size: int64(len(body)), CRC: crc32.Checksum(body, castagnoli)}
		a.do(func(*moment) {}, func() error { return vfs.WriteFile(a.s.fs, a.s.path(f.Name), body) })
		if img.Refs = append(img.Refs, f); len(img.Refs) > 3 {
			img.Refs = img.Refs[1:]
		}
	}
	a.do(func(m *moment) { m.image = img }, func() error { return a.s.SaveImage(img) })
}

func (m *moment) term(index uint64) uint64 {
	if index <= m.base {
		return m.image.Term
	}
	return m.terms[index-m.base-1]
}

func (a *author) maintain() {
	keep := uint64(1 << 60)
	if a.rng.IntN(4) == 0 {
		keep = a.now.base + 1 + a.rng.Uint64N(uint64(len(a.now.terms)+1))
	}
	a.do(func(*moment) {}, func() error {
		r, err := a.s.Maintain(a.now.live, keep, noThrottle)
		a.done.Left, a.done.Dropped, a.done.Rewritten = a.done.Left+r.Left, a.done.Dropped+r.Dropped, a.done.Rewritten+r.Rewritten
		return err
	})
}

func (a *author) reopen() {
	a.do(func(m *moment) { m.sure = m.hs.Commit }, func() error {
		if err := a.s.Close(); err != nil {
			return err
		}
		s, err := Open(a.disk.Mount(), "set", crashOptions(a.rng))
		a.s = s
		return err
	})
}

// install takes an image of another replica, far ahead, with messages that only that one had.
func (a *author) install() {
	a.installed++
	img := testImage(a.now.last() + 50 + a.rng.Uint64N(50))
	img.Term, img.Refs = a.now.hs.Term+1, a.now.image.Refs
	live := alive{}
	for _, ref := range a.sorted() {
		if a.rng.IntN(3) > 0 {
			live[ref] = true
		}
	}
	var fetched []Message
	for i := img.Index - 20; i <= img.Index; i += 3 {
		ref := at(i, uint16(i%slots))
		live[ref] = true
		fetched = append(fetched, Message{Ref: ref, Body: testBody(ref)})
	}
	for _, ref := range a.sorted() { // some that are here and only in the log that goes
		if live[ref] && !a.s.Has(ref, a.now.sure) {
			fetched = append(fetched, Message{Ref: ref, Body: testBody(ref)})
		}
	}
	data := img.Data()
	var st *Staging
	a.do(func(*moment) {}, func() (err error) {
		if st, err = a.s.Stage(img.Index, img.Term, ImageSum(data)); err != nil {
			return err
		}
		if err = st.AddImage(0, data); err != nil {
			return err
		}
		if _, err = st.Keep(data, img.Refs); err != nil {
			return err
		}
		slices.SortFunc(fetched, func(x, y Message) int {
			return cmp.Or(cmp.Compare(x.Index, y.Index), cmp.Compare(x.Slot, y.Slot))
		})
		if err = a.s.Add(fetched); err != nil {
			return err
		}
		return a.s.Flush()
	})
	hs := segment.HardState{Term: img.Term, Vote: 0, Commit: img.Index}
	a.do(func(m *moment) {
		*m = moment{base: img.Index, hs: hs, sure: img.Index, image: img, live: live, sent: img.Index}
	}, func() error {
		if err := st.Finish(img, hs); err != nil {
			return err
		}
		return a.s.Install(st, a.now.sure)
	})
}

// crash is a state of the disk before one of its operations, and what may be found after it.
type crash struct {
	disk      *vfs.Disk
	op        vfs.Op
	now, next *moment
}

// survive crashes in one way, perhaps again while the store is opened, and checks what is there.
func (c *crash) survive(mode vfs.CrashMode, seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, c.op.N))
	disk := c.disk.Fork(rng)
	disk.Crash(mode)
	if rng.IntN(4) == 0 {
		n := 1 + rng.IntN(12)
		disk.OnOp(func(op vfs.Op) error {
			if op.Kind.Changes() {
				if n--; n == 0 {
					disk.Crash(vfs.KeepSectors)
					return vfs.ErrCrashed
				}
			}
			return nil
		})
		if s, err := Open(disk.Mount(), "set", crashOptions(rng)); err == nil {
			_ = s.Close()
		}
		disk.OnOp(nil)
		disk.Crash(vfs.KillProcess)
	}
	if _, err := c.open(disk, rng); err != nil {
		return err
	}
	if rng.IntN(8) > 0 {
		return nil
	}
	// What it shows is durable, and it goes on from there.
	disk.Crash(vfs.LoseAll)
	s, err := c.open(disk, rng)
	if err != nil {
		return fmt.Errorf("after a power cut: %w", err)
	}
	last, hs := s.Log().LastIndex(), s.Log().HardState()
	if err := s.Log().Append(testEntries(hs.Term, last+1, last+30), hs, true); err != nil {
		return err
	}
	img := testImage(hs.Commit)
	if img.Term, err = s.Log().Term(hs.Commit); err != nil {
		return err
	}
	if err := s.SaveImage(img); err != nil {
		return err
	}
	_, err = s.Maintain(c.now.live, 1<<60, noThrottle)
	return err
}

func (c *crash) open(disk *vfs.Disk, rng *rand.Rand) (*Store, error) {
	s, err := Open(disk.Mount(), "set", crashOptions(rng))
	if err != nil {
		return nil, err
	}
	if log := s.Log(); len(log.Holes()) > 0 || log.Amnesia() || log.Short() || len(s.Damage()) > 0 {
		return nil, fmt.Errorf("a crash is taken for damage: holes %v, vote in doubt %v, end in doubt %v, %v", log.Holes(), log.Amnesia(), log.Short(), s.Damage())
	}
	err = c.now.is(s)
	if err != nil && c.now != c.next {
		if other := c.next.is(s); other != nil {
			return s, fmt.Errorf("neither what it was (%w), nor what it was to be: %w", err, other)
		}
		err = nil
	}
	return s, err
}

// exhaustive gives the numbers of the full run where CMQ_EXHAUSTIVE is set (make exhaustive), else those of the small one.
func exhaustive(small, full int) int {
	if on, _ := strconv.ParseBool(os.Getenv("CMQ_EXHAUSTIVE")); on {
		return full
	}
	return small
}

// TestCrashAtEveryWrite runs a script of all that is done with a store. Before every operation that changes the disk the power is cut, in
// many ways: random subsets of what was not synced survive, sector by sector. Nothing that was acknowledged may be missing then, or be
// taken for damaged, and nothing may be half done.
func TestCrashAtEveryWrite(t *testing.T) {
	operations, ways := exhaustive(120, 2000), exhaustive(3, 64)
	crashes := make(chan crash)
	failed := make(chan error, 1)
	var tried sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		tried.Go(func() {
			for c := range crashes {
				for way := range ways {
					mode := vfs.KeepSectors
					if way%4 == 3 { // the other ways to crash have their turns too
						mode = vfs.CrashModes()[way/4%len(vfs.CrashModes())]
					}
					if err := c.survive(mode, uint64(way)); err != nil {
						select {
						case failed <- fmt.Errorf("%v before operation %d (%v of %s at %d), way %d: %w", mode, c.op.N, c.op.Kind, c.op.Name, c.op.Off, way, err):
						default:
						}
					}
				}
			}
		})
	}
	a := newAuthor(t)
	writes := 0
	a.disk.OnOp(func(op vfs.Op) error {
		if op.Kind.Changes() {
			writes++
			crashes <- crash{a.disk.Fork(rand.New(rand.NewPCG(0, 0))), op, a.now, a.next}
		}
		return nil
	})
	for range operations {
		a.step()
		if len(failed) > 0 {
			break
		}
	}
	close(crashes)
	tried.Wait()
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
	t.Logf("%d writes, %d ways each; conflicts %d, images installed %d, segments that left the log %d, files rewritten %d, dropped %d, of references %d",
		writes, ways, a.replaced, a.installed, a.done.Left, a.done.Rewritten, a.done.Dropped, a.refs)
	for what, n := range map[string]int{
		"conflicts": a.replaced, "installs": a.installed, "segments leave the log": a.done.Left, "files are rewritten": a.done.Rewritten,
		"files are dropped": a.done.Dropped, "files of references": a.refs,
	} {
		require.Positive(t, n, what)
	}
}
