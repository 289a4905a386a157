package store

import (
	"errors"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"

	"github.com/opencmq/cmq/internal/vfs"
)

// A large dead file is not removed at once: a file system that gives 64 MiB back in one transaction, and perhaps tells
// the device so (ext4 with -o discard), lets the sync of the log wait for tens of milliseconds, and a hundred files die together behind an
// image. Such a file first gets a name that counts for nothing, and then is made shorter a little at a time, by the goroutine that
// maintains the files, until what is left of it can be removed.
//
//	the root calls it dead        durable; from here on the next Open removes it, whatever became of it
//	its readers are closed        (discard)
//	0000000007.seg is renamed     0000000007.seg.gone.tmp (bury)
//	the directory is synced       a root that must be made again from the files finds no part of it
//	it is made shorter            unless somebody still reads it, or it has other names: then it is removed whole
//	it is removed
//
// A disk that is getting full gets everything back at once.

// goneSuffix ends the names of dead files that go bit by bit. They are TempSuffix's too: every version takes them for leftovers.
const goneSuffix = ".gone" + vfs.TempSuffix

const (
	// goneSteps is in how many steps a file as long as a segment goes, and minGoneStep the least that is worth one: a block.
	goneSteps   = 64
	minGoneStep = 4 << 10
	// goneWeight is how many bytes may be given back in the time in which maintenance writes one: at 64 MiB/s a step of 1 MiB
	// every 4 ms, with which a sync beside it takes hardly longer than without.
	goneWeight = 4
	// goneUsual is how many dead segments there may be at this pace, those of one image at the top speed of one set. With more, it
	// is as much faster, so that the time it takes to remove them grows only with the logarithm of their number.
	goneUsual = 4
)

// gone is the dead files that are being removed.
type gone struct {
	mu    sync.Mutex
	files []goneFile
	bytes int64 // of files, and what is left of the one that is being made shorter
	named bool  // the new names may not be durable yet

	tight atomic.Bool // the disk is getting full
}

// goneFile is a dead file under its new name, and how long it still is.
type goneFile struct {
	name string
	size int64
}

func (g *gone) put(files ...goneFile) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, f := range files {
		g.files = append(g.files, f)
		g.bytes += f.size
	}
}

// take takes the file that waits longest; it still counts.
func (g *gone) take() (f goneFile, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.files) == 0 {
		return f, false
	}
	f = g.files[0]
	g.files = g.files[1:]
	return f, true
}

// less counts bytes off and returns how many are left of all.
func (g *gone) less(n int64) int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.bytes -= n
	return g.bytes
}

// Tight says whether the disk is getting full: then what is dead is removed as fast as the disk can. Any goroutine may call it.
func (s *Store) Tight(on bool) { s.gone.tight.Store(on) }

func (s *Store) goneStep() int64 { return max(s.fileLimit()/goneSteps, minGoneStep) }

// bury removes a dead file that is small, and gives another one its new name.
func (s *Store) bury(name string) error {
	info, err := s.fs.Stat(s.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	f := goneFile{name + goneSuffix, info.Size}
	if err != nil || info.Size <= s.goneStep() || s.fs.Rename(s.path(name), s.path(f.name)) != nil {
		return s.removeFile(name)
	}
	s.gone.mu.Lock()
	s.gone.named = true
	s.gone.mu.Unlock()
	s.gone.put(f)
	return nil
}

// unearth goes on with a file that was buried before the store was opened.
func (s *Store) unearth(name string) error {
	info, err := s.fs.Stat(s.path(name))
	if err == nil {
		s.gone.put(goneFile{name, info.Size})
	}
	return err
}

func (s *Store) removeFile(name string) error {
	if err := s.fs.Remove(s.path(name)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// removeGone removes what was buried. throttle is told of the bytes written that it is worth; after its error the rest waits for the
// next time, and so does what cannot be removed. One goroutine at a time calls it.
func (s *Store) removeGone(throttle func(bytes int) error) error {
	var stay []goneFile
	defer func() {
		for _, f := range stay {
			s.gone.less(f.size) // it has counted all the time
		}
		s.gone.put(stay...)
	}()
	for {
		f, ok := s.gone.take()
		if !ok {
			return nil
		}
		if err := s.shorten(&f, throttle); err != nil {
			stay = append(stay, f)
			return err
		}
		if err := s.removeFile(f.name); err != nil {
			s.logger().Warn("a dead file cannot be removed yet", "file", s.path(f.name), "error", err)
			stay = append(stay, f)
			continue
		}
		s.gone.less(f.size)
	}
}

// shorten makes a file shorter, step by step, until it may be removed: at once if it must be left whole or the disk is full, or if
// it cannot be done. The error is throttle's.
func (s *Store) shorten(f *goneFile, throttle func(bytes int) error) error {
	if s.gone.tight.Load() || !s.ours(f.name) || s.syncNames() != nil {
		return nil
	}
	file, err := s.fs.OpenFile(s.path(f.name), os.O_RDWR, 0)
	if err != nil {
		return nil
	}
	defer file.Close()
	for step := s.goneStep(); !s.gone.tight.Load(); {
		if err := throttle(stepWorth(step, s.gone.less(0), s.fileLimit())); err != nil {
			return err
		}
		next := (f.size - 1) / step * step // whole blocks
		if next <= 0 || file.Truncate(next) != nil {
			break
		}
		s.gone.less(f.size - next)
		f.size = next
	}
	return nil
}

// stepWorth is how many bytes written a step counts for, with so many bytes waiting.
func stepWorth(step, waiting, segment int64) int {
	usual := goneUsual * segment
	return int(float64(step) / goneWeight * float64(usual) / float64(max(usual, waiting)))
}

// ours tells whether nobody else needs the bytes of a buried file: none of our goroutines, and no other name, as a backup may have
// made it.
func (s *Store) ours(name string) bool {
	info, err := s.fs.Stat(s.path(name))
	return err == nil && info.Links <= 1 && !s.files.InUse(s.path(name))
}

// syncNames makes the new names durable.
func (s *Store) syncNames() error {
	s.gone.mu.Lock()
	named := s.gone.named
	s.gone.named = false
	s.gone.mu.Unlock()
	if !named {
		return nil
	}
	err := s.fs.SyncDir(s.dir)
	if err != nil {
		s.gone.mu.Lock()
		s.gone.named = true
		s.gone.mu.Unlock()
	}
	return err
}

// dropGone gives what was buried back to the disk at once, and reports whether there was anything. Any goroutine may call it.
func (s *Store) dropGone() bool {
	s.gone.mu.Lock()
	files := s.gone.files
	s.gone.files = nil
	for _, f := range files {
		s.gone.bytes -= f.size
	}
	s.gone.mu.Unlock()
	freed := false
	for _, f := range files {
		if err := s.removeFile(f.name); err != nil {
			s.logger().Warn("a dead file cannot be removed yet", "file", s.path(f.name), "error", err)
			s.gone.put(f)
			continue
		}
		freed = true
	}
	return freed && s.fs.SyncDir(s.dir) == nil // see DropBallast
}

// MakeRoom gives the disk what is dead and not removed yet or, if there is nothing, a part of the ballast, and reports whether there
// was any. Any goroutine may call it.
func (s *Store) MakeRoom() bool { return s.dropGone() || s.DropBallast() }
