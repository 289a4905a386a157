// Package store is the directory of one replica of one set: a log (package segment) and images of the state machine
// (package checkpoint), and the rule that the two always fit: the log has every entry behind the newest image.
//
// It holds no consensus and no state machine; package set and its callers use it. See DESIGN.md.
//
// # Files
//
//	LOCK            locked while a process uses the directory
//	CREATING        there while Create is at work
//	CURRENT         names the generation that counts, with a checksum
//	gen-000001/     a generation: *.seg and hardstate (package segment), *.image (package checkpoint)
//
// A replica that fell too far behind gets image and log from a peer. They are staged as a new generation while the
// old one goes on being used, and Install switches with one rename: after a crash there is the old one or the new.
package store

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/opencmq/cmq/internal/store/checkpoint"
	"github.com/opencmq/cmq/internal/store/segment"
	"github.com/opencmq/cmq/internal/vfs"
)

// ErrNotExist says that there is no store in the directory, or one whose creation was not finished.
var ErrNotExist = fs.ErrNotExist

// Options are those of the log.
type Options = segment.Options

// Image is a state of the machine.
type Image = checkpoint.Image

// Store is an open directory. Log, LatestImage and NewestIndex may be called by any goroutine; the others belong to
// the goroutine that appends to the log, except SaveImage, which may run beside it.
type Store struct {
	fs   vfs.FS
	dir  string
	opt  Options
	lock io.Closer
	log  atomic.Pointer[segment.Log]

	mu         sync.Mutex // what Install changes, against SaveImage and readers
	generation uint64
	newest     uint64 // index of the newest image
}

const (
	lockName     = "LOCK"
	creatingName = "CREATING"
	currentName  = "CURRENT"
	genPrefix    = "gen-"

	fixReplace = "restore the directory if there is a copy of exactly this moment, else remove this replica from its set and add a new one"
)

func genName(n uint64) string { return fmt.Sprintf("%s%06d", genPrefix, n) }

func genNumber(name string) (n uint64, ok bool) {
	_, err := fmt.Sscanf(name, genPrefix+"%d", &n)
	return n, err == nil && genName(n) == name
}

func identityOf(opt *Options) checkpoint.Identity {
	return checkpoint.Identity{Cluster: opt.Cluster, Set: opt.Set, Replica: opt.Replica}
}

// Create makes the directory of a new replica, which starts from the image boot; its log is empty and goes on behind
// it. The error is fs.ErrExist if there is a store, vfs.ErrLocked if somebody uses it. After a crash in Create, Open
// finds nothing (fs.ErrNotExist) and Create can be called again.
func Create(fsys vfs.FS, dir string, opt Options, boot Image) (*Store, error) {
	if err := vfs.MakeDirs(fsys, dir); err != nil {
		return nil, fmt.Errorf("create store: %w", err)
	}
	s, err := lockStore(fsys, dir, opt)
	if err != nil {
		return nil, err
	}
	if err := s.create(boot); err != nil {
		return nil, errors.Join(fmt.Errorf("create store in %s: %w", dir, err), s.lock.Close())
	}
	return s.opened()
}

func lockStore(fsys vfs.FS, dir string, opt Options) (*Store, error) {
	lock, err := fsys.Lock(filepath.Join(dir, lockName))
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return &Store{fs: fsys, dir: dir, opt: opt, lock: lock}, nil
}

func (s *Store) path(name string) string { return filepath.Join(s.dir, name) }

func (s *Store) create(boot Image) error {
	switch _, err := s.current(); {
	case err == nil:
		return fs.ErrExist
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := vfs.WriteFile(s.fs, s.path(creatingName)); err != nil {
		return err
	}
	if err := s.removeGenerations(0); err != nil {
		return err
	}
	hs := segment.HardState{Term: boot.Term, Commit: boot.Index}
	log, err := s.makeGeneration(1, boot, func(dir string) (*segment.Log, error) {
		return segment.Create(s.fs, dir, s.opt, boot.Index+1, boot.Term, hs)
	})
	if err != nil {
		return err
	}
	if err := log.Close(); err != nil {
		return err
	}
	if err := s.writeCurrent(1); err != nil {
		return err
	}
	return s.remove(creatingName)
}

// makeGeneration makes a durable directory with an image and a log.
func (s *Store) makeGeneration(n uint64, img Image, makeLog func(dir string) (*segment.Log, error)) (*segment.Log, error) {
	dir := s.path(genName(n))
	if err := vfs.MakeDirs(s.fs, dir); err != nil {
		return nil, err
	}
	if err := checkpoint.Save(s.fs, dir, identityOf(&s.opt), img); err != nil {
		return nil, err
	}
	return makeLog(dir)
}

func (s *Store) remove(name string) error {
	if err := s.fs.Remove(s.path(name)); err != nil {
		return err
	}
	return s.fs.SyncDir(s.dir)
}

// Open opens the directory of a replica. fs.ErrNotExist if there is none (or its creation was not finished);
// *segment.DamageError, *segment.ForeignError, *segment.VersionError or vfs.ErrLocked if it must not be used. Those
// change nothing.
func Open(fsys vfs.FS, dir string, opt Options) (*Store, error) {
	if _, err := fsys.Stat(dir); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s, err := lockStore(fsys, dir, opt)
	if err != nil {
		return nil, err
	}
	return s.opened()
}

// opened opens what CURRENT names, or gives the lock back.
func (s *Store) opened() (*Store, error) {
	err := s.open()
	if err == nil {
		return s, nil
	}
	if log := s.log.Load(); log != nil {
		err = errors.Join(err, log.Close())
	}
	return nil, errors.Join(fmt.Errorf("open store in %s: %w", s.dir, err), s.lock.Close())
}

func (s *Store) open() error {
	n, err := s.current()
	if err != nil {
		return err
	}
	img, passed, err := s.openGeneration(n)
	if err != nil {
		return err
	}
	if err := s.fs.SyncDir(s.dir); err != nil { // what CURRENT says must be durable before other generations go
		return err
	}
	s.generation, s.newest = n, img.Index
	if err := s.quarantine(passed); err != nil {
		return err
	}
	return s.removeLeftovers()
}

// openGeneration opens the log of a generation and checks it against the image.
func (s *Store) openGeneration(n uint64) (Image, []*segment.DamageError, error) {
	dir := s.path(genName(n))
	img, passed, err := checkpoint.Load(s.fs, dir, identityOf(&s.opt))
	if errors.Is(err, fs.ErrNotExist) {
		err = &segment.DamageError{File: dir, Why: "there is no image in it", Fix: fixReplace}
	}
	if err != nil {
		return img, nil, err
	}
	log, err := segment.Open(s.fs, dir, s.opt)
	if errors.Is(err, fs.ErrNotExist) {
		err = &segment.DamageError{File: dir, Why: "there is no log in it", Fix: fixReplace}
	}
	if err != nil {
		return img, nil, err
	}
	s.log.Store(log)
	if err := s.fits(dir, log, img); err != nil {
		return img, nil, err
	}
	if hs := log.HardState(); hs.Commit < img.Index { // the mark was not synced; the image proves it
		hs.Commit = img.Index
		err = log.Append(nil, hs, false)
	}
	return img, passed, err
}

// fits checks that the log continues the image.
func (s *Store) fits(dir string, log *segment.Log, img Image) error {
	why := ""
	switch term, err := log.Term(img.Index); {
	case log.FirstIndex() > img.Index+1:
		why = fmt.Sprintf("the image is of entry %d, but the log begins at %d", img.Index, log.FirstIndex())
	case log.LastIndex() < img.Index:
		why = fmt.Sprintf("the image is of entry %d, but the log ends at %d", img.Index, log.LastIndex())
	case err == nil && term != img.Term:
		why = fmt.Sprintf("the image is of entry %d of term %d, but in the log that has term %d", img.Index, img.Term, term)
	}
	if why == "" {
		return nil
	}
	return &segment.DamageError{File: dir, Why: why, Fix: fixReplace}
}

// quarantine puts images aside that could not be read, so that they do not count as one of the two.
func (s *Store) quarantine(passed []*segment.DamageError) error {
	for _, d := range passed {
		s.logger().Warn("an image is damaged; using the one before", "file", d.File, "why", d.Why)
		if err := s.fs.Rename(d.File, d.File+".damaged"); err != nil {
			return err
		}
	}
	return nil
}

// current reads which generation counts. fs.ErrNotExist if there is no store.
func (s *Store) current() (uint64, error) {
	p, err := vfs.ReadFile(s.fs, s.path(currentName))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, s.withoutCurrent(err)
	}
	if err != nil {
		return 0, err
	}
	name, sum, _ := strings.Cut(strings.TrimSuffix(string(p), "\n"), " ")
	n, ok := genNumber(name)
	if !ok || sum != nameSum(name) {
		return 0, &segment.DamageError{File: s.path(currentName), Why: "it does not name a generation with the right checksum",
			Fix: fixReplace}
	}
	return n, nil
}

func nameSum(name string) string {
	return fmt.Sprintf("%08x", crc32.Checksum([]byte(name), crc32.MakeTable(crc32.Castagnoli)))
}

func (s *Store) writeCurrent(n uint64) error {
	name := genName(n)
	return vfs.WriteFile(s.fs, s.path(currentName), []byte(name+" "+nameSum(name)+"\n"))
}

// withoutCurrent tells an unfinished Create from a lost file.
func (s *Store) withoutCurrent(notExist error) error {
	if _, err := s.fs.Stat(s.path(creatingName)); err == nil {
		return notExist
	}
	gens, err := s.generations()
	if err != nil {
		return err
	}
	if len(gens) > 0 {
		return &segment.DamageError{File: s.path(currentName), Why: "the file is missing, but there are generations", Fix: fixReplace}
	}
	return notExist
}

func (s *Store) generations() ([]uint64, error) {
	names, err := s.fs.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	var gens []uint64
	for _, name := range names {
		if n, ok := genNumber(name); ok {
			gens = append(gens, n)
		}
	}
	return gens, nil
}

// removeGenerations removes all generations but one.
func (s *Store) removeGenerations(keep uint64) error {
	gens, err := s.generations()
	if err != nil {
		return err
	}
	for _, n := range gens {
		if n == keep {
			continue
		}
		if err := vfs.RemoveAll(s.fs, s.path(genName(n))); err != nil {
			return fmt.Errorf("remove old generation: %w", err)
		}
	}
	return nil
}

// removeLeftovers removes what interrupted work left: other generations, temporary files, the mark of Create.
func (s *Store) removeLeftovers() error {
	if err := s.removeGenerations(s.generation); err != nil {
		return err
	}
	for _, dir := range []string{s.dir, s.path(genName(s.generation))} {
		names, err := s.fs.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, name := range names {
			ours := strings.HasSuffix(name, ".image"+vfs.TempSuffix) || name == currentName+vfs.TempSuffix || name == creatingName
			if !ours {
				continue
			}
			if err := s.fs.Remove(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	return s.fs.SyncDir(s.dir)
}
