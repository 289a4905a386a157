package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/opencmq/cmq/internal/store/archive"
	"github.com/opencmq/cmq/internal/store/segment"
	"github.com/opencmq/cmq/internal/vfs"
)

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
