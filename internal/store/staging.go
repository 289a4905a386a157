package store

import (
	"errors"
	"fmt"

	"github.com/opencmq/cmq/internal/store/checkpoint"
	"github.com/opencmq/cmq/internal/store/segment"
	"github.com/opencmq/cmq/internal/vfs"
)

// Staging is a generation in the making: the image and the log entries that a peer sends to a replica that is too far
// behind. It counts for nothing until Install. It belongs to one goroutine.
type Staging struct {
	store    *Store
	number   uint64
	dir      string
	log      *segment.Log
	finished bool
	img      Image
	hs       segment.HardState
}

// Stage begins a new generation whose log begins at firstIndex behind an entry of term prevTerm (0: not known, then
// segment.Log.Term says ErrCompacted of it). If firstIndex is 0, the log begins with the first entry appended or,
// without entries, behind the image. A generation that was staged before and not installed is removed.
func (s *Store) Stage(firstIndex, prevTerm uint64) (*Staging, error) {
	s.mu.Lock()
	number := s.generation + 1
	s.mu.Unlock()
	st := &Staging{store: s, number: number, dir: s.path(genName(number))}
	if err := vfs.RemoveAll(s.fs, st.dir); err != nil {
		return nil, fmt.Errorf("stage: %w", err)
	}
	if err := vfs.MakeDirs(s.fs, st.dir); err != nil {
		return nil, fmt.Errorf("stage: %w", err)
	}
	if firstIndex > 0 {
		return st, st.begin(firstIndex, prevTerm)
	}
	return st, nil
}

func (st *Staging) begin(firstIndex, prevTerm uint64) (err error) {
	hs := segment.HardState{Commit: firstIndex - 1}
	st.log, err = segment.Create(st.store.fs, st.dir, st.store.opt, firstIndex, prevTerm, hs)
	return err
}

// Append adds entries, each behind the one before. They become durable with Finish.
func (st *Staging) Append(entries []segment.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	if st.log == nil {
		if err := st.begin(entries[0].Index, 0); err != nil {
			return err
		}
	}
	return st.log.Append(entries, segment.HardState{}, false)
}

// Finish adds the image and the hard state (zero: that of the current log) and makes all durable. The entries, if
// there are any, must reach the image. The commit index becomes at least the image's.
func (st *Staging) Finish(img Image, hs segment.HardState) error {
	if hs == (segment.HardState{}) {
		hs = st.store.Log().HardState()
	}
	if st.log == nil {
		if err := st.begin(img.Index+1, img.Term); err != nil {
			return err
		}
	}
	if err := st.store.fits(st.dir, st.log, img); err != nil {
		return err
	}
	hs.Commit = max(hs.Commit, img.Index)
	if err := st.log.Append(nil, hs, true); err != nil {
		return err
	}
	if err := st.log.Close(); err != nil {
		return err
	}
	if err := checkpoint.Save(st.store.fs, st.dir, identityOf(&st.store.opt), img); err != nil {
		return err
	}
	st.finished, st.img, st.hs = true, img, hs
	return nil
}

// Abort removes a generation that will not be installed.
func (st *Staging) Abort() error {
	var err error
	if st.log != nil {
		err = st.log.Close()
	}
	return errors.Join(err, vfs.RemoveAll(st.store.fs, st.dir))
}

// Install makes a finished staging the current generation, durably, and removes the old one. A crash at any moment
// leaves one of the two. After an error nobody knows which: the store must be closed and opened again.
func (s *Store) Install(st *Staging) error {
	old := s.Log()
	if !st.finished {
		panic("BUG: install of an unfinished staging")
	}
	if have := old.HardState(); st.hs.Term < have.Term || st.hs.Term == have.Term && have.Vote != 0 && st.hs.Vote != have.Vote {
		panic(fmt.Sprintf("BUG: install takes the hard state from %+v to %+v", have, st.hs))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.writeCurrent(st.number); err != nil {
		return fmt.Errorf("install: %w", err)
	}
	log, err := segment.Open(s.fs, st.dir, s.opt)
	if err != nil {
		return fmt.Errorf("install: %w", err)
	}
	before := s.generation
	s.generation, s.newest = st.number, st.img.Index
	s.log.Store(log)
	if err := old.Close(); err != nil {
		s.logger().Warn("closing the replaced log", "error", err)
	}
	if err := vfs.RemoveAll(s.fs, s.path(genName(before))); err != nil {
		return fmt.Errorf("install: remove the old generation: %w", err)
	}
	return nil
}
