// Package store is the directory of one replica of one set: a log (package segment), images of the state machine (package
// checkpoint), files of references that belong to the images (written by package reflog), and the archive: what the log
// has let go of and messages still need, as segments or as files with living messages only (package archive). One file, the
// manifest, says which of them count.
//
// It holds no consensus and no state machine; package set and its callers use it. See DESIGN.md.
//
// # Files
//
//	LOCK                  locked while a process uses the directory
//	CREATING              there while Create is at work
//	MANIFEST              the root                                        (manifest.go)
//	MANIFEST.bad          a root that could not be trusted, for whoever wants to look into it
//	hardstate             term and vote                                   (package segment)
//	0000000007.seg        a segment, of the log or archived               (package segment)
//	0000000009.arc        messages                                        (package archive)
//	0000000012.image      a state of the machine                          (package checkpoint)
//	refs-….chunk          references of an image                          (package reflog)
//	ballast-2             room kept for a full disk                       (ballast.go)
//	*.lost                the operator's word that the file of that name need not be waited for (alone.go)
//	*.gone.tmp            dead, and being removed bit by bit              (gone.go)
//	*.tmp, *.part         being written or fetched; count for nothing
//
// # Who may call what
//
// Log, Message, Has and the other questions: any goroutine. Stage, Install and what changes the log: the goroutine that
// appends. SaveImage, Maintain, Scrub, Rewrite, Add and Flush: one background goroutine at a time, beside the others;
// what they have to do to the log they give to Options.Serial.
package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/opencmq/cmq/internal/store/archive"
	"github.com/opencmq/cmq/internal/store/checkpoint"
	"github.com/opencmq/cmq/internal/store/reflog"
	"github.com/opencmq/cmq/internal/store/segment"
	"github.com/opencmq/cmq/internal/vfs"
)

// Errors that callers tell apart.
var (
	// ErrNotExist says that there is no store in the directory, or one whose creation was not finished.
	ErrNotExist = fs.ErrNotExist
	// ErrGone says that no file holds the message: it is dead, or was lost.
	ErrGone = errors.New("the message is in no file of this replica")
	// ErrNotDurable says that an image is of an entry that the log has not on the disk yet.
	ErrNotDurable = errors.New("the image is ahead of the durable log")
	// ErrNoImage says that no image can be read: the replica must be filled from its peers.
	ErrNoImage = errors.New("no image of the state can be read")
)

// Ref is where a message was stored first.
type Ref = archive.Ref

// Message is one stored message.
type Message = archive.Message

// Run is N messages in consecutive slots of one entry, of Bytes together.
type Run struct {
	Index   uint64
	Slot, N uint16
	Bytes   uint32
}

// Live says which stored messages are still needed. One goroutine at a time uses it.
type Live interface {
	// Weigh calls f for stretches of the log that together hold every live message: about so many bytes of them are in the
	// entries [lo, hi).
	Weigh(f func(lo, hi, bytes uint64)) error
	// Each calls f for the live messages stored in the entries [lo, hi), queue by queue, in the order of the queue; for one
	// that several queues refer to as often.
	// If references are damaged, it does so for all others, and the error is a *reflog.PartialError in the end.
	Each(lo, hi uint64, f func(Run) error) error
}

// Options are those of the log and of the archive.
type Options struct {
	segment.Options

	// Message finds a message in the data of an entry and checks it. Nil: the set stores no messages.
	Message func(entry segment.Payload, slot uint16) (Message, error)
	// Serial runs f on the goroutine that appends to the log and waits for it; nil: f is called directly.
	Serial func(f func() error) error
	// Alone says that the set has no other replica: Open refuses to go on without what is lost, unless only messages are damaged or
	// the operator says so (alone.go).
	Alone bool
	// Usable tells whether the data of an ordinary entry (type 0) that is not what was written can be applied all the same: only
	// messages in it are damaged. Nil: it never can.
	Usable func(data []byte) bool
	// OpenFiles is how many archive files are kept open; 128 if 0.
	OpenFiles int
}

// Image is a state of the machine. Refs are the files of references that belong to it.
type Image struct {
	checkpoint.Image
	Refs []reflog.File
}

// Store is an open directory.
type Store struct {
	fs    vfs.FS       // of files, whose bytes can always be read
	files *vfs.Watched // knows who reads
	dir   string
	opt   Options
	lock  io.Closer
	log   *segment.Log

	shelf  shelf
	near   near
	adding *archive.Writer
	damage []Damage // found by Open
	remade bool     // Open made the root anew
	alone  *alone   // of Open; nil: there are other replicas

	ballast sync.Mutex // held while its files change
	gone    gone

	mu   sync.Mutex
	man  manifest
	next uint64 // number of the next file
	pins map[uint64]int
	// parted are images that do not count any more and whose files may be there still: the manifest calls them dead.
	parted []image
	dead   map[string]bool // files that do not count any more and may be there still
	loss   map[uint64]bool // archive pieces that are missing or not what they should be, by key

	newestIndex atomic.Uint64
}

const (
	lockName     = "LOCK"
	creatingName = "CREATING"
	partSuffix   = ".part"

	fixReplace = "restore the directory if there is a copy of exactly this moment; else, if the set has other replicas, move it away, and they fill it again"
)

func identityOf(opt *Options) checkpoint.Identity {
	return checkpoint.Identity{Cluster: opt.Cluster, Set: opt.Set, Replica: opt.Replica}
}

func (s *Store) archiveID() archive.ID {
	return archive.ID{Cluster: s.opt.Cluster, Set: s.opt.Set, Replica: s.opt.Replica}
}

func (s *Store) path(name string) string { return filepath.Join(s.dir, name) }

func newStore(fsys vfs.FS, dir string, opt Options, lock io.Closer) *Store {
	if opt.Serial == nil {
		opt.Serial = func(f func() error) error { return f() }
	}
	if opt.OpenFiles == 0 {
		opt.OpenFiles = 128
	}
	s := &Store{dir: dir, opt: opt, lock: lock, next: 1, pins: map[uint64]int{}, dead: map[string]bool{}, loss: map[uint64]bool{}}
	s.opt.Room = s.MakeRoom
	s.files = vfs.Watch(fsys)
	s.fs = Readable(s.files, opt.Logger)
	return s
}

// Readable is a file system in which what the disk cannot read is damage like any other: wrong bytes, which every format here
// finds out.
func Readable(fsys vfs.FS, logger *slog.Logger) vfs.FS {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return vfs.Patchy(fsys, func(name string, off int64, n int) {
		logger.Error("the disk cannot read a part of a file", "file", name, "offset", off, "bytes", n)
	})
}

// Create makes the directory of a new replica, which starts from the image boot; its log is empty and goes on behind
// it. The error is fs.ErrExist if there is a store, vfs.ErrLocked if somebody uses it. After a crash in Create, Open
// finds nothing (fs.ErrNotExist) and Create can be called again.
func Create(fsys vfs.FS, dir string, opt Options, boot Image) (*Store, error) {
	if err := vfs.MakeDirs(fsys, dir); err != nil {
		return nil, fmt.Errorf("create store: %w", err)
	}
	lock, err := fsys.Lock(filepath.Join(dir, lockName))
	if err != nil {
		return nil, fmt.Errorf("create store: %w", err)
	}
	s := newStore(fsys, dir, opt, lock)
	if err := s.create(boot); err != nil {
		return nil, errors.Join(fmt.Errorf("create store in %s: %w", dir, err), lock.Close())
	}
	p, err := s.prepare()
	if err != nil {
		return nil, err
	}
	return p.Open()
}

func (s *Store) create(boot Image) error {
	switch _, err := s.readManifest(); {
	case err == nil:
		return fs.ErrExist
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := vfs.WriteFile(s.fs, s.path(creatingName)); err != nil {
		return err
	}
	if err := s.removeUnfinished(); err != nil {
		return err
	}
	info, err := s.save(&boot)
	if err != nil {
		return err
	}
	hs := segment.HardState{Term: boot.Term, Commit: boot.Index}
	log, err := segment.Create(s.fs, s.dir, s.opt.Options, boot.Index+1, boot.Term, hs)
	if err != nil {
		return err
	}
	if err := log.Close(); err != nil {
		return err
	}
	err = s.change(nil, nil, func(m *manifest) {
		m.first = log.FirstNumber()
		m.images = []image{{Info: info, refs: boot.Refs}}
	})
	if err != nil {
		return err
	}
	if err := s.fs.Remove(s.path(creatingName)); err != nil {
		return err
	}
	return s.fs.SyncDir(s.dir)
}

// removeUnfinished empties a directory whose creation was not finished.
func (s *Store) removeUnfinished() error {
	names, err := s.fs.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == lockName || name == creatingName {
			continue
		}
		if err := s.fs.Remove(s.path(name)); err != nil {
			return fmt.Errorf("remove what an unfinished creation left: %w", err)
		}
	}
	return s.fs.SyncDir(s.dir)
}

// Log is the log.
func (s *Store) Log() *segment.Log { return s.log }

// NewestIndex is the index of the newest image.
func (s *Store) NewestIndex() uint64 { return s.newestIndex.Load() }

// Size is how many bytes the files of the log and those of the archive take.
func (s *Store) Size() (log, archive int64) {
	for _, p := range s.shelf.pieces() {
		archive += p.size
	}
	return s.log.Size(), archive
}

// Close closes everything and gives the directory free.
func (s *Store) Close() error {
	if s.adding != nil {
		s.adding.Abort()
	}
	return errors.Join(s.log.Close(), s.shelf.close(), s.lock.Close())
}
