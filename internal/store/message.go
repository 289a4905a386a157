package store

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/opencmq/cmq/internal/store/archive"
	"github.com/opencmq/cmq/internal/store/segment"
)

// readTries is how often a read is begun again whose file was closed under it.
const readTries = 8

// Message reads a message and checks it, from the log or the archive. ErrGone if no file has it; *segment.DamageError if
// those that should have it are damaged; or the disk's error. The entry must be committed.
func (s *Store) Message(ref Ref) (Message, error) {
	var m Message
	var err error
	for range readTries {
		if m, err = s.message(ref); !closedUnder(err) {
			break
		}
	}
	return m, err
}

func (s *Store) message(ref Ref) (Message, error) {
	m, err := s.fromLog(ref)
	if err == nil || !mayBeElsewhere(err) {
		return m, err
	}
	failed := err
	found := false
	s.shelf.covering(ref.Index, func(p *piece) bool {
		s.shelf.touch(p)
		m, err = p.get(ref, &s.near)
		switch {
		case err == nil:
			found = true
			return false
		case !mayBeElsewhere(failed): // a file before could not be asked just now, and whatever this one says, that may have it
		case errors.Is(err, fs.ErrNotExist): // the whole file is missing
			failed = &segment.DamageError{File: s.path(p.name), Why: "the file is missing", Fix: fixReplace}
		case !errors.Is(err, archive.ErrNotFound) && !errors.Is(err, segment.ErrUnavailable):
			failed = err
		}
		return !closedUnder(err)
	})
	switch {
	case found:
		return m, nil
	case errors.Is(failed, segment.ErrCompacted) || errors.Is(failed, segment.ErrUnavailable):
		return Message{}, fmt.Errorf("slot %d of entry %d: %w", ref.Slot, ref.Index, ErrGone)
	}
	return Message{}, failed
}

// anySegment stands for the name of a segment of the log.
const anySegment = "*.seg"

// fromLog reads a message from the log: through the cache, or only the piece of the entry that is the message.
func (s *Store) fromLog(ref Ref) (Message, error) {
	data, err := s.log.Cached(ref.Index)
	if err != nil {
		return Message{}, err
	}
	if data != nil {
		return extract(s.opt.Message, data, ref, anySegment)
	}
	m, err := s.near.message(ref, s.opt.Message, anySegment, func() (segment.Payload, error) { return s.log.Payload(ref.Index) })
	if closedUnder(err) {
		err = segment.ErrCompacted // it has left the log
	}
	return m, err
}

// mayBeElsewhere tells whether a message that the log does not give may be in the archive: because the log has let go of it, or
// because a good copy was fetched.
func mayBeElsewhere(err error) bool {
	var damage *segment.DamageError
	return errors.Is(err, segment.ErrCompacted) || errors.Is(err, segment.ErrUnavailable) || errors.As(err, &damage)
}

// Has reports whether a file should have the message of an entry up to committed, by the tables only.
// Behind committed the log may still have other entries than the set agreed on, so only the archive counts.
func (s *Store) Has(ref Ref, committed uint64) bool {
	if ref.Index <= committed && ref.Index >= s.log.FirstIndex() && ref.Index <= s.log.LastIndex() {
		return true
	}
	has := false
	s.shelf.covering(ref.Index, func(p *piece) bool {
		s.shelf.touch(p)
		if !s.lost(p.key) {
			has, _ = p.has(ref) // a file that cannot be read has nothing
		}
		return !has
	})
	return has
}

func (s *Store) lost(key uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.loss[key]
}

// fetchedFile is how large a file of fetched messages becomes.
const fetchedFile = 32 << 20

// Add keeps messages that were fetched from another replica. They are found, and durable, after the next Flush at the
// latest. Messages that are there already must not be added.
func (s *Store) Add(messages []Message) error {
	for i := range messages {
		if s.adding != nil && s.adding.Full(len(messages[i].Body), fetchedFile) {
			if err := s.Flush(); err != nil {
				return err
			}
		}
		if s.adding == nil {
			w, err := archive.Create(s.fs, s.dir, s.archiveID(), s.number())
			if err != nil {
				return err
			}
			s.adding = w
		}
		if err := s.adding.Add(messages[i]); err != nil {
			s.adding.Abort()
			s.adding = nil
			return err
		}
	}
	return nil
}

// Flush makes everything that was added durable and shows it to readers.
func (s *Store) Flush() error {
	w := s.adding
	s.adding = nil
	if w == nil {
		return nil
	}
	info, err := w.Finish()
	if err != nil {
		return err
	}
	return s.exchange(nil, []archive.Info{info})
}

// exchange puts new files into the archive and takes pieces out, as one change, and removes the files of the latter.
func (s *Store) exchange(out []*piece, in []archive.Info) error {
	gone := map[uint64]bool{}
	var dead, made []string
	for _, p := range out {
		gone[p.key] = true
		dead = append(dead, p.name)
	}
	for i := range in {
		made = append(made, in[i].Name())
	}
	err := s.change(made, dead, func(m *manifest) {
		m.segments = without(m.segments, func(i segment.Info) bool { return gone[pieceKey(i.Name(), i.Number)] })
		m.files = append(without(m.files, func(i archive.Info) bool { return gone[pieceKey(i.Name(), i.Number)] }), in...)
	})
	if err != nil {
		return err
	}
	var add []*piece
	for _, info := range in {
		add = append(add, newFilePiece(archive.Open(s.fs, s.dir, s.archiveID(), info)))
	}
	s.shelf.replace(add, out)
	return s.discard(out)
}

// discard closes and removes files that do not count any more.
func (s *Store) discard(out []*piece) error {
	var err error
	for _, p := range out {
		err = errors.Join(err, p.close())
		s.mu.Lock()
		delete(s.loss, p.key)
		s.mu.Unlock()
	}
	s.sweep()
	return err
}

func without[T any](list []T, drop func(T) bool) []T {
	var kept []T
	for _, v := range list {
		if !drop(v) {
			kept = append(kept, v)
		}
	}
	return kept
}
