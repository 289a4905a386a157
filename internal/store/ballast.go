package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// The ballast is room that is kept for when there is none: a few preallocated files without content. A full disk must still
// take the entries that delete messages and elect leaders, and then an image of the state, or nothing that is dead could ever
// be let go of. Who needs room for one of these gives up a file; the background job makes the missing ones
// again while there is more room on the disk than anybody needs.
//
// Nothing depends on a file being there, so nothing about them is synced, and the root does not name them.
const (
	ballastPrefix = "ballast-"
	// ballastFiles is how many there are, each of one ballastFiles-th of a segment: together with the segment made ahead this is
	// room for two segments.
	ballastFiles = 4
)

func ballastName(i int) string { return fmt.Sprintf("%s%d", ballastPrefix, i) }

func isBallast(name string) bool { return strings.HasPrefix(name, ballastPrefix) }

// KeepBallast makes the files of the ballast that are missing. An error leaves those that could be made; lack of room is
// one.
func (s *Store) KeepBallast() error {
	s.ballast.Lock()
	defer s.ballast.Unlock()
	size := s.fileLimit() / ballastFiles
	for i := range ballastFiles {
		name := s.path(ballastName(i))
		if info, err := s.fs.Stat(name); err == nil && info.Size == size {
			continue
		}
		if err := s.preallocate(name, size); err != nil {
			return fmt.Errorf("keep room for a full disk: %w", err)
		}
	}
	return nil
}

func (s *Store) preallocate(name string, size int64) error {
	f, err := s.fs.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Preallocate(size), f.Close()); err != nil {
		_ = s.fs.Remove(name) // what it got is given back
		return err
	}
	return nil
}

// DropBallast gives one file of the ballast back to the disk and reports whether there was one. Any goroutine may call it.
func (s *Store) DropBallast() bool {
	s.ballast.Lock()
	defer s.ballast.Unlock()
	for i := ballastFiles - 1; i >= 0; i-- {
		err := s.fs.Remove(s.path(ballastName(i)))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = s.fs.SyncDir(s.dir) // file systems give blocks to others only when it is durable that they are free
		}
		if err != nil {
			s.logger().Error("the room kept for a full disk cannot be used", "error", err)
			return false
		}
		s.logger().Warn("the disk is full; a part of the room that is kept for that is used", "dir", s.dir, "parts_left", i)
		return true
	}
	return false
}
