package store

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/opencmq/cmq/internal/store/archive"
	"github.com/opencmq/cmq/internal/store/checkpoint"
	"github.com/opencmq/cmq/internal/store/segment"
	"github.com/opencmq/cmq/internal/vfs"
)

func (s *Store) logger() *slog.Logger {
	if s.opt.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.opt.Logger
}

// removeLeftovers removes what interrupted work left: files that the manifest calls dead, files that are newer than it, and
// those with the name of something unfinished. Nothing else is removed because the manifest does not know it: it may be the
// manifest that is wrong. Parts of a snapshot stay; its fetch goes on with them. What is large goes bit by bit, with the next maintenance.
func (s *Store) removeLeftovers() error {
	names, err := s.fs.ReadDir(s.dir)
	if err != nil {
		return err
	}
	known := s.knownNames()
	for _, name := range names {
		if of, ok := strings.CutSuffix(name, lostSuffix); ok && known[of] {
			continue // the log is whole by now, but the archive still names the file
		}
		switch {
		case known[name] || s.ofLog(name) || strings.HasSuffix(name, partSuffix) || isBallast(name):
			continue
		case !s.leftover(name):
			s.logger().Warn("a file that does not belong to the store is left alone", "file", s.path(name))
			continue
		}
		remove := s.bury
		if strings.HasSuffix(name, goneSuffix) {
			remove = s.unearth
		}
		if err := remove(name); err != nil {
			return fmt.Errorf("remove what interrupted work left: %w", err)
		}
	}
	return s.fs.SyncDir(s.dir)
}

func (s *Store) knownNames() map[string]bool {
	known := s.man.names()
	known[lockName], known[manifestName], known[badManifest] = true, true, true
	return known
}

// ofLog tells whether the log looks after the name: its segments and their temporary forms, the side file.
func (s *Store) ofLog(name string) bool {
	if name == segment.SideFile || strings.HasSuffix(name, ".seg"+vfs.TempSuffix) {
		return true
	}
	digits, ok := strings.CutSuffix(name, ".seg")
	if !ok {
		return false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return err == nil && n >= s.man.first
}

// leftover tells whether a name that nobody knows is that of interrupted work.
func (s *Store) leftover(name string) bool {
	for _, dead := range s.man.dead {
		if name == dead {
			return true
		}
	}
	if name == creatingName || strings.HasSuffix(name, lostSuffix) || strings.HasSuffix(name, vfs.TempSuffix) {
		return true
	}
	if s.remade { // it knows only what could be read
		return false
	}
	if strings.HasPrefix(name, refPrefix) {
		return s.laterRefs(name)
	}
	for _, suffix := range []string{archive.Suffix, checkpoint.Suffix} {
		digits, ok := strings.CutSuffix(name, suffix)
		n, err := strconv.ParseUint(digits, 10, 64)
		if ok && err == nil && n >= s.man.next {
			return true
		}
	}
	return false
}

// refPrefix begins the names of files of references (package reflog), which are counted up.
const refPrefix = "refs-"

// laterRefs tells whether a file of references is newer than all that images name.
func (s *Store) laterRefs(name string) bool {
	for _, i := range s.man.images {
		for _, f := range i.refs {
			if name <= f.Name {
				return false
			}
		}
	}
	return true
}
