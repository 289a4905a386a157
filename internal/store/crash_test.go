package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/opencmq/cmq/internal/store/segment"
	"github.com/opencmq/cmq/internal/vfs"
)

// life is a store's scripted life and what must be found after a crash at each of its moments.
type life struct {
	disk    *vfs.Disk
	s       *Store
	created bool
	old     bool   // entries and images of the first generation may be found
	last    uint64 // durable entries of the first generation
	maybe   uint64 // entries that may be there too
	image   uint64 // newest durable image
	newer   uint64 // image that may be there too
	fresh   bool   // the second generation may be found
	hs      segment.HardState
}

const installed = 1000 // image of the second generation

func (f *life) run() (err error) {
	defer func() {
		if err != nil && f.s != nil {
			_ = f.s.Close()
		}
	}()
	f.image, f.newer, f.last, f.maybe, f.old = 10, 10, 10, 10, true
	if f.s, err = Create(f.disk.Mount(), "set", testOptions(), testImage(10)); err != nil {
		return err
	}
	f.created = true
	f.hs = segment.HardState{Term: 1, Commit: 10}
	for i := uint64(11); i < 60; i += 4 {
		f.maybe = i + 3
		hs := segment.HardState{Term: 1, Commit: i - 1}
		if err := f.s.Log().Append(testEntries(1, i, i+4), hs, true); err != nil {
			return err
		}
		f.last, f.hs = i+3, hs
	}
	for _, index := range []uint64{30, 40, 50} {
		f.newer = index
		if err := f.s.SaveImage(testImage(index)); err != nil {
			return err
		}
		f.image = index
	}
	if err := f.s.DropBefore(41); err != nil {
		return err
	}
	return f.install()
}

func (f *life) install() error {
	st, err := f.s.Stage(0, 0)
	if err != nil {
		return err
	}
	if err := st.Append(testEntries(1, 900, 950)); err != nil {
		return err
	}
	if err := st.Append(testEntries(1, 950, 1010)); err != nil {
		return err
	}
	if err := st.Finish(testImage(installed), segment.HardState{Term: 2, Vote: 3}); err != nil {
		return err
	}
	f.fresh = true
	if err := f.s.Install(st); err != nil {
		return err
	}
	f.old = false
	return f.s.Close()
}

// check opens the store after a crash and compares.
func (f *life) check() error {
	s, err := Open(f.disk.Mount(), "set", testOptions())
	if errors.Is(err, ErrNotExist) && !f.created {
		s, err = Create(f.disk.Mount(), "set", testOptions(), testImage(10))
	}
	if err != nil {
		return err
	}
	defer s.Close()
	img, err := s.LatestImage()
	if err != nil {
		return err
	}
	log := s.Log()
	hs := log.HardState()
	if img.Index == installed {
		if !f.fresh || log.FirstIndex() != 900 || log.LastIndex() != 1009 || hs.Term != 2 || hs.Vote != 3 || hs.Commit != installed {
			return fmt.Errorf("second generation: %d to %d, %+v", log.FirstIndex(), log.LastIndex(), hs)
		}
	} else {
		if !f.old || img.Index != f.image && img.Index != f.newer || log.LastIndex() != f.last && log.LastIndex() != f.maybe || hs.Term != 1 || hs.Commit < f.hs.Commit {
			return fmt.Errorf("first generation: image %d, log to %d, %+v", img.Index, log.LastIndex(), hs)
		}
	}
	if !bytes.Equal(img.Data, testImage(img.Index).Data) || log.FirstIndex() > img.Index+1 {
		return fmt.Errorf("image %d, log from %d", img.Index, log.FirstIndex())
	}
	for i := log.FirstIndex(); i <= log.LastIndex(); i++ {
		e, err := log.Entry(i)
		if err != nil {
			return err
		}
		if !bytes.Equal(e.Data, testEntries(1, i, i+1)[0].Data) {
			return fmt.Errorf("entry %d is wrong", i)
		}
	}
	return nil
}

func crashAt(disk *vfs.Disk, n int, mode vfs.CrashMode) (count *int) {
	count = new(int)
	disk.OnOp(func(op vfs.Op) error {
		if op.Kind.Changes() {
			if *count++; *count == n {
				disk.Crash(mode)
				return vfs.ErrCrashed
			}
		}
		return nil
	})
	return count
}

// crashSeeds is how many ways each crash is tried. CMQ_CRASH_SEEDS=64 is the full evidence run.
func crashSeeds(t *testing.T) uint64 {
	if v := os.Getenv("CMQ_CRASH_SEEDS"); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		must(t, err)
		return n
	}
	return 1
}

// TestCrashAtEveryOperation cuts the power at every operation of a store's life, and at one of the recovery.
func TestCrashAtEveryOperation(t *testing.T) {
	whole := &life{disk: newTestDisk(0)}
	total := crashAt(whole.disk, -1, 0)
	must(t, whole.run())
	for _, mode := range vfs.CrashModes() {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			for n := 1; n <= *total; n++ {
				for seed := range crashSeeds(t) {
					rng := rand.New(rand.NewPCG(seed, uint64(n)))
					f := &life{disk: newTestDisk(seed)}
					crashAt(f.disk, n, mode)
					if err := f.run(); err != nil && !errors.Is(err, vfs.ErrCrashed) {
						t.Fatalf("operation %d: %v", n, err)
					}
					again := rng.IntN(30)
					crashAt(f.disk, again, vfs.CrashModes()[rng.IntN(5)])
					if err := f.check(); err != nil && !errors.Is(err, vfs.ErrCrashed) {
						t.Fatalf("operation %d, seed %d: %v", n, seed, err)
					}
					f.disk.OnOp(nil)
					f.disk.Crash(vfs.KillProcess)
					for _, end := range []vfs.CrashMode{vfs.LoseAll, vfs.KillProcess} {
						if err := f.check(); err != nil {
							t.Fatalf("operation %d, seed %d, again at %d: %v", n, seed, again, err)
						}
						f.disk.Crash(end)
					}
				}
			}
		})
	}
}

// TestFlippedBytes flips bytes of every file of a closed store: all is there, or damage is reported.
func TestFlippedBytes(t *testing.T) {
	f := &life{disk: newTestDisk(0)}
	s, err := Create(f.disk.Mount(), "set", testOptions(), testImage(10))
	must(t, err)
	for i := uint64(11); i < 40; i++ {
		must(t, s.Log().Append(testEntries(1, i, i+1), segment.HardState{Term: 1, Commit: i}, true))
	}
	must(t, s.SaveImage(testImage(30)))
	must(t, s.Close())
	f.disk.Crash(vfs.LoseAll)
	fsys := f.disk.Mount()
	for _, name := range f.disk.Files() {
		info, err := fsys.Stat(name)
		must(t, err)
		step := int64(1)
		if info.Size > 1000 {
			step = 37 // package segment tries them all
		}
		for off := int64(0); off < info.Size; off += step {
			c := &life{disk: f.disk.Clone(nil), created: true, old: true, image: 30, newer: 10, last: 39, maybe: 39, hs: segment.HardState{Term: 1, Commit: 39}}
			must(t, c.disk.Flip(name, off, uint(off%8)))
			err := c.check()
			var d *segment.DamageError
			if err != nil && !errors.As(err, &d) {
				t.Fatalf("flip in %s at %d: %v", name, off, err)
			}
		}
	}
}

func TestDirectoriesThatMustNotBeUsed(t *testing.T) {
	make := func(t *testing.T) *vfs.Disk {
		disk := newTestDisk(1)
		s, err := Create(disk.Mount(), "set", testOptions(), testImage(10))
		must(t, err)
		must(t, s.Close())
		return disk
	}
	open := func(disk *vfs.Disk) error {
		_, err := Open(disk.Mount(), "set", testOptions())
		return err
	}
	t.Run("CURRENT is missing", func(t *testing.T) {
		disk := make(t)
		must(t, disk.Mount().Remove("set/CURRENT"))
		wantDamage(t, open(disk), "CURRENT")
		_, err := Create(disk.Mount(), "set", testOptions(), testImage(10))
		wantDamage(t, err, "CURRENT")
	})
	t.Run("the generation is missing", func(t *testing.T) {
		disk := make(t)
		must(t, disk.Mount().Rename("set/gen-000001", "set/gen-000002"))
		wantDamage(t, open(disk), "gen-000001")
	})
	t.Run("the image is missing", func(t *testing.T) {
		disk := make(t)
		must(t, disk.Mount().Remove("set/gen-000001/00000000000000000010.image"))
		wantDamage(t, open(disk), "gen-000001")
	})
	t.Run("the image is of another entry", func(t *testing.T) {
		disk := make(t)
		must(t, disk.Mount().Rename("set/gen-000001/00000000000000000010.image", "set/gen-000001/00000000000000000011.image"))
		wantDamage(t, open(disk), "11.image")
	})
	t.Run("another set", func(t *testing.T) {
		disk := make(t)
		opt := testOptions()
		opt.Set++
		_, err := Open(disk.Mount(), "set", opt)
		var f *segment.ForeignError
		if !errors.As(err, &f) {
			t.Fatal(err)
		}
	})
	t.Run("unknown files are kept", func(t *testing.T) {
		disk := make(t)
		must(t, vfs.WriteFile(disk.Mount(), "set/notes.txt", []byte("hello")))
		must(t, vfs.WriteFile(disk.Mount(), "set/gen-000001/notes.txt", []byte("hello")))
		must(t, open(disk))
		if n := len(disk.Files()); n != 7 {
			t.Fatalf("files %v", disk.Files())
		}
	})
}

// TestFallBackOnTheOlderImage: a rotten image is put aside, the one before and the log replace it.
func TestFallBackOnTheOlderImage(t *testing.T) {
	disk := newTestDisk(1)
	s, err := Create(disk.Mount(), "set", testOptions(), testImage(10))
	must(t, err)
	must(t, s.Log().Append(testEntries(1, 11, 20), segment.HardState{Term: 1, Commit: 19}, true))
	must(t, s.SaveImage(testImage(15)))
	must(t, s.Close())
	must(t, disk.Flip("set/gen-000001/00000000000000000015.image", 90, 3))
	for range 2 {
		s, err = Open(disk.Mount(), "set", testOptions())
		must(t, err)
		if s.NewestIndex() != 10 {
			t.Fatalf("image %d", s.NewestIndex())
		}
		must(t, s.Close())
	}
}

// TestImageOnAFullDisk: an image that finds no room is no harm.
func TestImageOnAFullDisk(t *testing.T) {
	disk := newTestDisk(1)
	s, err := Create(disk.Mount(), "set", testOptions(), testImage(10))
	must(t, err)
	must(t, s.Log().Append(testEntries(1, 11, 20), segment.HardState{Term: 1, Commit: 19}, true))
	disk.SetBudget(disk.Used() + 50)
	if err := s.SaveImage(testImage(15)); err == nil {
		t.Fatal("an image without room")
	}
	disk.SetBudget(-1)
	if img, err := s.LatestImage(); err != nil || img.Index != 10 || disk.Used() > 40<<10 {
		t.Fatalf("image %d, %v, %d bytes", img.Index, err, disk.Used())
	}
	must(t, s.SaveImage(testImage(15)))
}
