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
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/opencmq/cmq/internal/mutant"
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
	// Each calls f for the live messages stored in the entries [lo, hi), queue by queue, in the order of the queue.
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
	fs   vfs.FS
	dir  string
	opt  Options
	lock io.Closer
	log  *segment.Log

	shelf  shelf
	adding *archive.Writer
	damage []Damage // found by Open
	remade bool     // Open made the root anew
	alone  *alone   // of Open; nil: there are other replicas

	ballast sync.Mutex // held while its files change

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
	s.opt.Room = s.DropBallast
	s.fs = Readable(fsys, opt.Logger)
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

// Open opens the directory of a replica. fs.ErrNotExist if there is none (or its creation was not finished);
// *segment.DamageError, *segment.ForeignError, *segment.VersionError or vfs.ErrLocked if it must not be used. Those
// change nothing. Damage that can be healed from other replicas is no error: see Damage and Log.Holes.
func Open(fsys vfs.FS, dir string, opt Options) (*Store, error) {
	p, err := Prepare(fsys, dir, opt)
	if err != nil {
		return nil, err
	}
	return p.Open()
}

// Prepared is a directory that was read and may be used. Nothing was changed in it yet.
type Prepared struct {
	s    *Store
	log  *segment.Prepared
	root *segment.DamageError // why the root must be made anew; nil: it is good
}

// Prepare is the first part of Open, which returns all its refusals. So a node can look at all its directories before it touches any.
func Prepare(fsys vfs.FS, dir string, opt Options) (*Prepared, error) {
	if _, err := fsys.Stat(dir); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	lock, err := fsys.Lock(filepath.Join(dir, lockName))
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return newStore(fsys, dir, opt, lock).prepare()
}

// LastIndex is the index of the log's newest entry, as far as it is known. Behind the first image there is one as soon as a replica has
// led or followed.
func (p *Prepared) LastIndex() uint64 { return p.log.LastIndex() }

// Close gives the directory free, instead of Open.
func (p *Prepared) Close() error { return errors.Join(p.log.Close(), p.s.lock.Close()) }

// Open is the second part of the function Open. Afterwards the Prepared is used up.
func (p *Prepared) Open() (*Store, error) {
	s := p.s
	err := s.open(p)
	if err == nil {
		return s, nil
	}
	if s.log != nil {
		err = errors.Join(err, s.log.Close())
	}
	s.shelf.close()
	return nil, errors.Join(fmt.Errorf("open store in %s: %w", s.dir, err), s.lock.Close())
}

// prepare reads what the manifest names, or gives the lock back.
func (s *Store) prepare() (*Prepared, error) {
	p := &Prepared{s: s}
	m, err := s.readManifest()
	if err == nil {
		err = p.prepareLog(m)
	}
	if errors.As(err, &p.root) && p.root.File == s.path(manifestName) {
		if m, err = s.gather(); err == nil {
			err = p.prepareLog(m)
		}
	} else {
		p.root = nil
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open store in %s: %w", s.dir, err), s.lock.Close())
	}
	return p, nil
}

func (s *Store) open(p *Prepared) (err error) {
	// What the root says must be durable before the side file says it too, and before other files go.
	if err := s.fs.SyncDir(s.dir); err != nil {
		return err
	}
	if s.log, err = p.log.Open(); err != nil {
		return err
	}
	if p.root != nil {
		if err := s.replaceRoot(p.root); err != nil {
			return err
		}
	}
	if err := s.noteRoot(); err != nil { // the process ended in between
		return err
	}
	if err := s.fits(); err != nil {
		return err
	}
	s.openArchive()
	if s.alone != nil {
		if err := s.alone.goOn(); err != nil {
			return err
		}
		s.alone = nil
	}
	return s.removeLeftovers()
}

// prepareLog prepares the log with which the root m says that it begins. An error is of the log, unless it names the root.
func (p *Prepared) prepareLog(m manifest) (err error) {
	s := p.s
	s.man, s.next, s.damage = m, max(m.next, 1), nil
	if err := s.checkImages(); err != nil {
		return err
	}
	opt := s.opt.Options
	opt.First, opt.Root = m.first, uint32(m.sequence)
	if newest := m.newest(); newest != nil {
		opt.VerifyFrom = newest.Index + 1
	}
	opt.CheckRoot = s.checkRoot
	if s.opt.Alone {
		a, err := s.judgeAlone()
		if err != nil {
			return err
		}
		s.alone, opt.Judge = a, a.judge
	}
	p.log, err = segment.Prepare(s.fs, s.dir, opt)
	return err
}

func (s *Store) readManifest() (manifest, error) {
	path := s.path(manifestName)
	p, err := vfs.ReadFile(s.fs, path)
	if errors.Is(err, fs.ErrNotExist) {
		return manifest{}, s.withoutManifest(err)
	}
	if err != nil {
		return manifest{}, err
	}
	return decodeManifest(path, p, identityOf(&s.opt))
}

// withoutManifest tells an unfinished Create from a lost file.
func (s *Store) withoutManifest(notExist error) error {
	if _, err := s.fs.Stat(s.path(creatingName)); err == nil {
		return notExist
	}
	names, err := s.fs.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name != lockName && !strings.HasSuffix(name, vfs.TempSuffix) {
			return &segment.DamageError{File: s.path(manifestName), Why: "the file is missing, but there is " + name, Fix: fixReplace}
		}
	}
	return notExist
}

// checkImages notes images that are missing or not what they should be. What an image of somebody else or of a newer program says
// is final.
func (s *Store) checkImages() error {
	for i := range s.man.images {
		img := &s.man.images[i]
		_, err := s.fs.Stat(s.path(img.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			s.damage = append(s.damage, Damage{File: s.path(img.Name()), Kind: KindImage, Number: img.Number, Why: "the file is missing"})
			continue
		}
		if err != nil {
			return err
		}
		for _, f := range img.refs {
			if info, err := s.fs.Stat(s.path(f.Name)); err != nil || info.Size != f.Size {
				s.damage = append(s.damage, Damage{File: s.path(f.Name), Kind: KindRefs, Why: whyNot(err, info.Size, f.Size)})
			}
		}
	}
	return nil
}

func whyNot(err error, have, want int64) string {
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("the file has %d bytes, it was written with %d", have, want)
}

// checkRoot finds an old copy of the manifest, or of the log's side file: whichever knows less.
func (s *Store) checkRoot(known uint32) error {
	have := uint32(s.man.sequence)
	ahead := int32(have - known)
	switch {
	case ahead == 0 || ahead == 1:
		return nil
	case ahead < 0:
		return &segment.DamageError{File: s.path(manifestName), Fix: fixReplace,
			Why: fmt.Sprintf("it is an older copy: number %d, but number %d was written", have, known)}
	default:
		return &segment.DamageError{File: s.path(segment.SideFile), Fix: fixReplace,
			Why: fmt.Sprintf("it is an older copy: it knows manifest number %d, but there is number %d", known, have)}
	}
}

// fits checks that the log continues the images, and brings the commit mark up to them.
func (s *Store) fits() error {
	m, log := &s.man, s.log
	var fit []image
	for i := range m.images {
		img := &m.images[i]
		why := ""
		switch term, err := log.Term(img.Index); {
		case log.FirstIndex() > img.Index+1:
			why = fmt.Sprintf("the image is of entry %d, but the log begins at %d", img.Index, log.FirstIndex())
		case err == nil && term != img.Term:
			why = fmt.Sprintf("the image is of entry %d of term %d, but in the log that has term %d", img.Index, img.Term, term)
		}
		if why == "" {
			fit = append(fit, *img)
		} else { // it is of use only with the log behind it, whose beginning is lost
			s.noteDamage(Damage{File: s.path(img.Name()), Kind: KindImage, Number: img.Number, Why: why})
			s.parted = append(s.parted, *img)
		}
	}
	m.images = fit
	newest := m.newest()
	if newest == nil {
		return nil
	}
	s.newestIndex.Store(newest.Index)
	if hs := log.HardState(); hs.Commit < newest.Index && len(log.Holes()) == 0 { // the mark was not synced; the image proves it
		hs.Commit = newest.Index
		return log.Append(nil, hs, false)
	}
	return nil
}

// openArchive makes the readers of the archive. A file that is missing or has another length is noted as lost, and its
// messages are fetched from the other replicas.
func (s *Store) openArchive() {
	m := &s.man
	for _, info := range m.segments {
		s.shelf.add(newSegmentPiece(segment.OpenSealed(s.fs, s.dir, s.opt.Options, info), s.opt.Message))
		s.checkPiece(info.Name(), info.Number, info.First, info.Last+1, info.Size)
	}
	for _, info := range m.files {
		s.shelf.add(newFilePiece(archive.Open(s.fs, s.dir, s.archiveID(), info)))
		s.checkPiece(info.Name(), info.Number, info.Lo, info.Hi, info.Size)
	}
	s.shelf.limit = s.opt.OpenFiles
}

func (s *Store) checkPiece(name string, number, lo, hi uint64, size int64) {
	info, err := s.fs.Stat(s.path(name))
	if err == nil && info.Size >= size {
		return
	}
	key := pieceKey(name, number)
	s.loss[key] = true
	s.damage = append(s.damage, Damage{File: s.path(name), Kind: KindArchive, Number: key, Lo: lo, Hi: hi, Why: whyNot(err, info.Size, size)})
}

// pieceKey tells segments and archive files of one number apart.
func pieceKey(name string, number uint64) uint64 {
	if strings.HasSuffix(name, archive.Suffix) {
		return number<<1 | 1
	}
	return number << 1
}

// Log is the log.
func (s *Store) Log() *segment.Log { return s.log }

// NewestIndex is the index of the newest image.
func (s *Store) NewestIndex() uint64 { return s.newestIndex.Load() }

// LatestImage reads the newest image that can be read. ErrNoImage if there is none; what is wrong with those that cannot
// be read is logged and part of Damage. Damage of the newest is no loss: the log has everything behind the older.
func (s *Store) LatestImage() (Image, error) {
	m := s.manifest()
	for i := len(m.images) - 1; i >= 0; i-- {
		img, err := s.readImage(&m.images[i])
		var damage *segment.DamageError
		switch {
		case err == nil:
			return img, nil
		case !errors.As(err, &damage) && !errors.Is(err, fs.ErrNotExist):
			return Image{}, err
		}
		s.logger().Warn("an image cannot be read; trying the one before", "error", err)
		s.noteDamage(Damage{File: s.path(m.images[i].Name()), Kind: KindImage, Number: m.images[i].Number, Why: err.Error()})
	}
	return Image{}, fmt.Errorf("%s: %w", s.dir, ErrNoImage)
}

func (s *Store) readImage(i *image) (Image, error) {
	img, err := checkpoint.Load(s.fs, s.dir, identityOf(&s.opt), i.Info)
	return Image{Image: img, Refs: i.refs}, segment.Disowned(err)
}

// SaveImage makes an image durable and the newest, and removes what only the images before the last two needed. An error
// means that there is no such image; a full disk, for one, is harmless.
func (s *Store) SaveImage(img Image) error {
	if durable := s.log.DurableIndex(); img.Index > durable {
		return fmt.Errorf("%w: image of entry %d, log up to %d", ErrNotDurable, img.Index, durable)
	}
	if mutant.On(mutant.CheckpointNotAtomic) && img.Index < s.log.DurableIndex() {
		img.Index++
	}
	info, err := s.save(&img)
	if err != nil {
		return err
	}
	return s.changeImages([]string{info.Name()}, nil, func(m *manifest) {
		// One of a later entry cannot be read, or the state would be that. It keeps neither this one out nor the log short.
		m.images = without(m.images, func(i image) bool { return i.Index > img.Index })
		m.images = append(m.images, image{Info: info, refs: img.Refs})
	})
}

// save makes an image durable, with the names of its files of references.
func (s *Store) save(img *Image) (checkpoint.Info, error) {
	file := img.Image
	file.Files = appendRefs(nil, img.Refs)
	return checkpoint.Save(s.fs, s.dir, identityOf(&s.opt), s.number(), &file)
}

// keptImages is how many images are kept: the newest, and one to fall back on.
const keptImages = 2

// changeImages changes the manifest and then removes the files of images that do not count any more.
func (s *Store) changeImages(made, dead []string, edit func(m *manifest)) error {
	parted := s.parted
	err := s.change(made, dead, func(m *manifest) {
		before := slices.Clone(m.images)
		edit(m)
		before = append(before, m.images...)
		if n := len(m.images) - keptImages; n > 0 {
			m.images = m.images[n:]
		}
		s.parted = append(slices.Clone(s.parted), without(before, func(i image) bool {
			return slices.ContainsFunc(m.images, func(k image) bool { return k.Number == i.Number })
		})...)
	})
	if err != nil {
		s.mu.Lock()
		s.parted = parted
		s.mu.Unlock()
		return err
	}
	m := s.manifest()
	s.newestIndex.Store(m.newest().Index)
	s.removeParted()
	return nil
}

// filesOnlyOf lists the files of some images that others do not have.
func filesOnlyOf(images, others []image) []string {
	kept := map[string]bool{}
	var names []string
	see := func(name string, add bool) {
		if add && !kept[name] {
			names = append(names, name)
		}
		kept[name] = true
	}
	for i, list := range [][]image{others, images} {
		for _, img := range list {
			see(img.Name(), i == 1)
			for _, f := range img.refs {
				see(f.Name, i == 1)
			}
		}
	}
	return names
}

// removeParted removes the files of images that do not count any more and that nobody fetches.
func (s *Store) removeParted() {
	s.mu.Lock()
	gone := without(s.parted, func(i image) bool { return s.pins[i.Number] > 0 })
	s.parted = without(s.parted, func(i image) bool { return s.pins[i.Number] == 0 })
	for _, name := range filesOnlyOf(gone, append(slices.Clone(s.man.images), s.parted...)) {
		s.dead[name] = true
	}
	s.mu.Unlock()
	s.sweep()
}

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
