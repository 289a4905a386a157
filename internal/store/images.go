package store

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/opencmq/cmq/internal/store/checkpoint"
	"github.com/opencmq/cmq/internal/store/segment"
)

// ErrNotDurable says that an image is of an entry that the log has not on the disk yet.
var ErrNotDurable = errors.New("the image is ahead of the durable log")

// ErrNeeded says that entries were to be dropped that no image replaces.
var ErrNeeded = errors.New("the entries are still needed: no image is as new")

func (s *Store) logger() *slog.Logger {
	if s.opt.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.opt.Logger
}

// Log is the current log. After Install it is another one, and the old one returns segment.ErrClosed.
func (s *Store) Log() *segment.Log { return s.log.Load() }

// SaveImage makes an image durable. It must be of an entry that is durable in the log (ErrNotDurable otherwise). An
// older image than the newest is ignored. Any other error leaves the store as it was: the images before still count.
func (s *Store) SaveImage(img Image) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if img.Index < s.newest {
		return nil
	}
	if durable := s.Log().DurableIndex(); img.Index > durable {
		return fmt.Errorf("%w: image of entry %d, log up to %d", ErrNotDurable, img.Index, durable)
	}
	if err := checkpoint.Save(s.fs, s.path(genName(s.generation)), identityOf(&s.opt), img); err != nil {
		return err
	}
	s.newest = img.Index
	return nil
}

// LatestImage reads the newest image from the disk.
func (s *Store) LatestImage() (Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	img, _, err := checkpoint.Load(s.fs, s.path(genName(s.generation)), identityOf(&s.opt))
	return img, err
}

// NewestIndex is the index of the newest image.
func (s *Store) NewestIndex() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newest
}

// DropBefore drops whole segments of entries before index. Which entries are still needed is the caller's business;
// the store only refuses (ErrNeeded) to drop what is behind the newest image. Whoever wants to be able to fall back
// on the image before the newest keeps the entries behind that one.
func (s *Store) DropBefore(index uint64) error {
	if newest := s.NewestIndex(); index > newest+1 {
		return fmt.Errorf("%w: drop before %d, newest image of entry %d", ErrNeeded, index, newest)
	}
	return s.Log().DropBefore(index)
}

// Free is the number of bytes that can still be allocated on the disk.
func (s *Store) Free() (uint64, error) {
	space, err := s.fs.Space(s.dir)
	return space.Free, err
}

// Close closes the log in order and gives the directory free.
func (s *Store) Close() error {
	return errors.Join(s.Log().Close(), s.lock.Close())
}
