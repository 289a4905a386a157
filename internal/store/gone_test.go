package store

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/store/segment"
	"github.com/opencmq/cmq/internal/vfs"
)

// goneOptions make segments of sixteen steps.
func goneOptions() Options {
	o := testOptions()
	o.SegmentSize = 16 * minGoneStep
	return o
}

// withDeadFiles is a store with segments in the archive of which no message lives any more once Maintain is told so.
func withDeadFiles(t *testing.T, fsys vfs.FS, dir string) *Store {
	t.Helper()
	s, err := Create(fsys, dir, goneOptions(), testImage(10))
	require.NoError(t, err)
	mustAppend(t, s, 11, 600)
	require.NoError(t, s.SaveImage(testImage(598)))
	require.NoError(t, s.SaveImage(testImage(599)))
	all := alive{}
	for _, e := range testEntries(1, 11, 600) {
		for slot := range uint16(slots) {
			all[at(e.Index, slot)] = true
		}
	}
	r, err := s.Maintain(all, 1<<60, noThrottle)
	require.NoError(t, err)
	require.Greater(t, r.Left, 2)
	require.Zero(t, r.Dropped)
	return s
}

// last is a message that lives on in these tests, in the log.
func last() alive { return alive{at(599, 2): true} }

func TestDeadFilesGoBitByBit(t *testing.T) {
	disk := newTestDisk(1)
	s := withDeadFiles(t, disk.Mount(), "set")
	dead := filesWith(disk, ".seg")[:3]
	var told []int
	sizes := map[string][]int64{}
	synced := false
	disk.OnOp(func(op vfs.Op) error {
		switch {
		case op.Kind == vfs.OpRename && strings.HasSuffix(op.To, goneSuffix):
			synced = false
		case op.Kind == vfs.OpSyncDir:
			synced = true
		case op.Kind == vfs.OpResize && strings.HasSuffix(op.Name, goneSuffix):
			require.True(t, synced, "a file is made shorter that may have its old name after a crash")
			name := strings.TrimSuffix(op.Name, goneSuffix)
			sizes[name] = append(sizes[name], op.Off)
		}
		return nil
	})
	r, err := s.Maintain(last(), 1<<60, func(bytes int) error {
		s.mu.Lock() // nobody is kept from it
		defer s.mu.Unlock()
		told = append(told, bytes)
		return nil
	})
	require.NoError(t, err)
	require.GreaterOrEqual(t, r.Dropped, len(dead))
	disk.OnOp(nil)
	require.Len(t, sizes, r.Dropped)
	for _, name := range dead {
		require.Len(t, sizes[name], 15, name)
		for i, size := range sizes[name] {
			require.Equal(t, int64(15-i)*minGoneStep, size, name)
		}
		require.Equal(t, int64(-1), disk.Size(name))
	}
	require.GreaterOrEqual(t, len(told), 16*len(dead))
	require.Empty(t, filesWith(disk, goneSuffix))
	require.Zero(t, s.gone.less(0))
	last().mustHave(t, s)
}

// TestSmallDeadFilesGoAtOnce: there is nothing to be spread out.
func TestSmallDeadFilesGoAtOnce(t *testing.T) {
	disk := newTestDisk(1)
	s, err := Create(disk.Mount(), "set", goneOptions(), testImage(10))
	require.NoError(t, err)
	mustAppend(t, s, 11, 14)
	disk.OnOp(func(op vfs.Op) error {
		require.NotEqual(t, vfs.OpResize, op.Kind)
		return nil
	})
	for i := range uint64(3) {
		require.NoError(t, s.SaveImage(testImage(11+i)))
	}
	require.Len(t, filesWith(disk, ".image"), keptImages)
}

// TestPowerCutsWhileDeadFilesGo cuts the power at every operation of it, and lets the root be lost as well: what is left of a dead
// file is never taken for damage.
func TestPowerCutsWhileDeadFilesGo(t *testing.T) {
	type cut struct {
		disk *vfs.Disk
		op   vfs.Op
	}
	disk := newTestDisk(1)
	s := withDeadFiles(t, disk.Mount(), "set")
	var cuts []cut
	resized := 0
	disk.OnOp(func(op vfs.Op) error {
		if op.Kind.Changes() {
			cuts = append(cuts, cut{disk.Fork(rand.New(rand.NewPCG(0, 0))), op})
		}
		if op.Kind == vfs.OpResize && strings.HasSuffix(op.Name, goneSuffix) {
			resized++
		}
		return nil
	})
	_, err := s.Maintain(last(), 1<<60, noThrottle)
	require.NoError(t, err)
	require.Greater(t, resized, 30)
	for _, c := range cuts {
		for way := range uint64(exhaustive(8, 64)) {
			rng := rand.New(rand.NewPCG(way, c.op.N))
			mode := vfs.CrashModes()[way%uint64(len(vfs.CrashModes()))]
			where := fmt.Sprintf("%v before operation %d (%v of %s at %d), way %d", mode, c.op.N, c.op.Kind, c.op.Name, c.op.Off, way)
			disk := c.disk.Fork(rng)
			disk.Crash(mode)
			opt, rootless := goneOptions(), way >= 5
			opt.Rand, opt.Alone = rand.NewChaCha8([32]byte{byte(way), 7}), way%2 == 0
			if rootless {
				require.NoError(t, disk.Vanish("/set/"+manifestName), where)
			}
			s, err := Open(disk.Mount(), "set", opt)
			require.NoError(t, err, where)
			require.Empty(t, s.Log().Holes(), where)
			require.False(t, s.Log().Amnesia() || s.Log().Short(), where)
			for _, d := range s.Damage() {
				require.True(t, rootless && d.Kind == KindManifest, "%s: %+v", where, d)
			}
			require.NoError(t, s.Scrub(noThrottle, func(d Damage) { t.Errorf("%s: %+v", where, d) }))
			last().mustHave(t, s)
			_, err = s.Maintain(last(), 1<<60, noThrottle)
			require.NoError(t, err, where)
			require.Empty(t, filesWith(disk, goneSuffix), where)
			require.LessOrEqual(t, len(filesWith(disk, ".seg")), 3, where)
			last().mustHave(t, s)
			require.NoError(t, s.Close(), where)
		}
	}
}

// TestRemovingGoesOnWhereItStopped, in the same process and in the next one.
func TestRemovingGoesOnWhereItStopped(t *testing.T) {
	disk := newTestDisk(1)
	s := withDeadFiles(t, disk.Mount(), "set")
	stop := errors.New("stop")
	stopAt := func(n int) func(int) error {
		return func(int) error {
			if n--; n == 0 {
				return stop
			}
			return nil
		}
	}
	_, err := s.Maintain(last(), 1<<60, stopAt(5))
	require.ErrorIs(t, err, stop)
	left := filesWith(disk, goneSuffix)
	require.Greater(t, len(left), 2)
	require.Equal(t, int64(12*minGoneStep), disk.Size(left[0]))
	waiting := int64(0)
	for _, name := range left {
		waiting += disk.Size(name)
	}
	require.Equal(t, waiting, s.gone.less(0))
	_, err = s.Maintain(last(), 1<<60, stopAt(5)) // it is the turn of the next one
	require.ErrorIs(t, err, stop)
	require.NoError(t, s.Close())

	s, err = Open(disk.Mount(), "set", goneOptions())
	require.NoError(t, err)
	require.Less(t, s.gone.less(0), waiting)
	require.Greater(t, s.gone.less(0), waiting-5*minGoneStep)
	foreign, leftovers, err := s.Strangers(disk.Mount())
	require.NoError(t, err)
	require.Empty(t, foreign)
	require.Len(t, leftovers, len(left))
	_, err = s.Maintain(last(), 1<<60, noThrottle)
	require.NoError(t, err)
	require.Empty(t, filesWith(disk, goneSuffix))
	require.Zero(t, s.gone.less(0))
}

// begunReads is a file system on which the next read of a body in some file ends only when it is let go. As in the kernel, closing the file
// meanwhile does not end them, and they give what is in the file by then.
type begunReads struct {
	vfs.FS
	of    atomic.Pointer[string]
	begun chan struct{}
	goOn  chan struct{}
}

func (b *begunReads) OpenFile(name string, flag int, perm os.FileMode) (vfs.File, error) {
	f, err := b.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &begunFile{File: f, b: b, name: name}, nil
}

type begunFile struct {
	vfs.File
	b    *begunReads
	name string
}

func (f *begunFile) ReadAt(p []byte, off int64) (int, error) {
	if of := f.b.of.Load(); of == nil || filepath.Base(f.name) != *of || len(p) != bodySize {
		return f.File.ReadAt(p, off)
	}
	kernel, err := f.b.FS.OpenFile(f.name, os.O_RDONLY, 0)
	if err != nil {
		return 0, err
	}
	defer kernel.Close()
	f.b.of.Store(nil)
	f.b.begun <- struct{}{}
	<-f.b.goOn
	return kernel.ReadAt(p, off)
}

// TestDeadFileThatIsReadStaysWhole: who has begun to read it gets what was in it, though it was closed and has gone meanwhile.
func TestDeadFileThatIsReadStaysWhole(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "set")
	b := &begunReads{FS: vfs.OS(), begun: make(chan struct{}), goOn: make(chan struct{})}
	s := withDeadFiles(t, b, dir)
	ref := Ref{}
	s.shelf.covering(100, func(p *piece) bool {
		ref = at(100, 3)
		require.NotNil(t, p.segment)
		_, err := p.get(at(100, 0), &s.near) // its table is in memory from now on
		require.NoError(t, err)
		b.of.Store(&p.name)
		return false
	})
	type result struct {
		m   Message
		err error
	}
	read := make(chan result)
	go func() {
		m, err := s.Message(ref)
		read <- result{m, err}
	}()
	<-b.begun
	steps := 0
	r, err := s.Maintain(last(), 1<<60, func(int) error { steps++; return nil })
	require.NoError(t, err)
	require.Positive(t, r.Dropped)
	require.Positive(t, steps, "those that nobody reads went bit by bit")
	names, err := vfs.OS().ReadDir(dir)
	require.NoError(t, err)
	require.NotContains(t, strings.Join(names, " "), goneSuffix)
	close(b.goOn)
	got := <-read
	require.NoError(t, got.err)
	require.Equal(t, testBody(ref), got.m.Body)
	require.NoError(t, s.Close())
}

// TestDeadFileWithAnotherNameStaysWhole: it is in somebody's backup.
func TestDeadFileWithAnotherNameStaysWhole(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "set")
	s := withDeadFiles(t, vfs.OS(), dir)
	name := s.shelf.pieces()[1].name
	backup := filepath.Join(filepath.Dir(dir), "backup")
	require.NoError(t, os.Link(filepath.Join(dir, name), backup))
	before, err := os.ReadFile(backup)
	require.NoError(t, err)
	_, err = s.Maintain(last(), 1<<60, noThrottle)
	require.NoError(t, err)
	require.NoFileExists(t, filepath.Join(dir, name))
	after, err := os.ReadFile(backup)
	require.NoError(t, err)
	require.Equal(t, before, after)
	require.NoError(t, s.Close())
}

// TestFullDiskGetsDeadFilesAtOnce, whether it was full before they died, becomes so in between, or is found to be when room is needed.
func TestFullDiskGetsDeadFilesAtOnce(t *testing.T) {
	never := func(int) error {
		t.Error("a full disk waits")
		return nil
	}
	t.Run("before", func(t *testing.T) {
		disk := newTestDisk(1)
		s := withDeadFiles(t, disk.Mount(), "set")
		s.Tight(true)
		_, err := s.Maintain(last(), 1<<60, never)
		require.NoError(t, err)
		require.Empty(t, filesWith(disk, goneSuffix))
	})
	t.Run("in between", func(t *testing.T) {
		disk := newTestDisk(1)
		s := withDeadFiles(t, disk.Mount(), "set")
		waited := 0
		_, err := s.Maintain(last(), 1<<60, func(int) error {
			if waited++; waited == 3 {
				s.Tight(true)
			}
			return nil
		})
		require.NoError(t, err)
		require.Equal(t, 3, waited)
		require.Empty(t, filesWith(disk, goneSuffix))
	})
	t.Run("when room is needed", func(t *testing.T) {
		disk := newTestDisk(1)
		s := withDeadFiles(t, disk.Mount(), "set")
		require.NoError(t, s.KeepBallast())
		stop := errors.New("stop")
		_, err := s.Maintain(last(), 1<<60, func(int) error { return stop })
		require.ErrorIs(t, err, stop)
		gone := filesWith(disk, goneSuffix)
		require.NotEmpty(t, gone)
		disk.SetBudget(disk.Used())
		for i := uint64(600); len(filesWith(disk, goneSuffix)) > 0; i++ {
			require.NoError(t, s.Log().Append(testEntries(1, i, i+1), segment.HardState{Term: 1, Commit: i - 1}, true))
		}
		require.Zero(t, s.gone.less(0))
		require.Len(t, filesWith(disk, ballastName(0)), 1)
		require.Len(t, filesWith(disk, ballastName(ballastFiles-1)), 1, "the ballast is not touched while there is something dead")
		require.True(t, s.MakeRoom())
		require.Empty(t, filesWith(disk, ballastName(ballastFiles-1)))
	})
}

// TestWhatCannotBeRemovedIsTriedAgain, after all others.
func TestWhatCannotBeRemovedIsTriedAgain(t *testing.T) {
	disk := newTestDisk(1)
	s := withDeadFiles(t, disk.Mount(), "set")
	first := true
	disk.OnOp(func(op vfs.Op) error {
		if first && strings.HasSuffix(op.Name, goneSuffix) && op.Kind == vfs.OpRemove {
			first = false
			return errors.New("not now")
		}
		return nil
	})
	_, err := s.Maintain(alive{}, 1<<60, noThrottle)
	require.NoError(t, err)
	require.False(t, first)
	_, err = s.Maintain(alive{}, 1<<60, noThrottle)
	require.NoError(t, err)
	require.Empty(t, filesWith(disk, goneSuffix))
	require.Zero(t, s.gone.less(0))
}

// TestPaceOfRemoving: few dead files go gently; however many there are, they take little longer, so they cannot pile up.
func TestPaceOfRemoving(t *testing.T) {
	const step, segment, rate = 1 << 20, 64 << 20, 64 << 20 // of package set: bytes written a second
	seconds := func(files int) float64 {
		worth := 0
		for waiting := int64(files) * segment; waiting > 0; waiting -= step {
			worth += stepWorth(step, waiting, segment)
		}
		return float64(worth) / rate
	}
	require.Equal(t, 256<<10, stepWorth(step, segment, segment), "4 ms")
	require.InDelta(t, 0.25, seconds(1), 0.01)
	require.InDelta(t, 1, seconds(goneUsual), 0.01)
	for files := goneUsual; files <= 4096; files *= 2 {
		require.LessOrEqual(t, seconds(files), 1.01+math.Log(float64(files)/goneUsual), "%d segments", files)
	}
	// A set that writes 500 MB a second, of which nothing lives on: what is dead at the next image is no more than before.
	const written = 500 << 20
	files, most := 4, 0
	for range 100 {
		files = max(goneUsual, int(math.Ceil((0.5+seconds(files))*written/segment)))
		most = max(most, files)
	}
	require.Equal(t, most, files, "it has settled")
	require.Less(t, most, 32)
}
