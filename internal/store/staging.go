package store

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"strings"

	"github.com/opencmq/cmq/internal/store/checkpoint"
	"github.com/opencmq/cmq/internal/store/reflog"
	"github.com/opencmq/cmq/internal/store/segment"
	"github.com/opencmq/cmq/internal/vfs"
)

// Staging is an image with its references on the way from another replica. It is written part by part beside what is in use, and
// counts for nothing until Install; what is there already outlives a restart. It belongs to one goroutine.
type Staging struct {
	s           *Store
	index, term uint64
	sum         uint32
	files       map[string]vfs.File // open parts
	done        Image
	info        checkpoint.Info
	hs          segment.HardState
}

// Stage begins, or goes on with, the staging of the image of this entry whose bytes have this sum (ImageSum): there may be several of one
// entry, with different files. Parts of other images are removed; parts of references stay if their names come up again.
func (s *Store) Stage(index, term uint64, sum uint32) (*Staging, error) {
	st := &Staging{s: s, index: index, term: term, sum: sum, files: map[string]vfs.File{}}
	names, err := s.fs.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("stage: %w", err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, partSuffix) && strings.HasPrefix(name, "image-") && name != st.imageName() {
			if err := s.fs.Remove(s.path(name)); err != nil {
				return nil, fmt.Errorf("stage: %w", err)
			}
		}
	}
	return st, nil
}

func (st *Staging) imageName() string {
	return fmt.Sprintf("image-%d-%d-%08x%s", st.index, st.term, st.sum, partSuffix)
}

// ImageSum is the checksum by which an image is known while it is fetched.
func ImageSum(data []byte) uint32 { return crc32.Checksum(data, castagnoli) }

func refPart(f reflog.File) string {
	return fmt.Sprintf("%s-%d-%08x%s", strings.TrimSuffix(f.Name, refSuffix), f.Size, f.CRC, partSuffix)
}

// refSuffix ends the names of files of references.
const refSuffix = ".chunk"

// ImageHas is how many bytes of the image are there.
func (st *Staging) ImageHas() (int64, error) { return st.has(st.imageName()) }

// RefHas is how many bytes of a file of references are there; all of them if this replica has that very file already.
func (st *Staging) RefHas(f reflog.File) (int64, error) {
	if ok, err := st.local(f); ok || err != nil {
		return f.Size, err
	}
	return st.has(refPart(f))
}

// local tells whether the file is one that an image here refers to. Same name, length and checksum is the same file.
func (st *Staging) local(f reflog.File) (bool, error) {
	m := st.s.manifest()
	for _, i := range m.images {
		for _, have := range i.refs {
			if have == f {
				return true, nil
			}
		}
	}
	return false, nil
}

func (st *Staging) has(name string) (int64, error) {
	info, err := st.s.fs.Stat(st.s.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	return info.Size, err
}

// AddImage writes bytes of the image at offset, and AddRef of a file of references.
func (st *Staging) AddImage(offset int64, p []byte) error { return st.write(st.imageName(), offset, p) }

// AddRef is described at AddImage.
func (st *Staging) AddRef(f reflog.File, offset int64, p []byte) error {
	return st.write(refPart(f), offset, p)
}

func (st *Staging) write(name string, offset int64, p []byte) error {
	f := st.files[name]
	if f == nil {
		var err error
		if f, err = st.s.fs.OpenFile(st.s.path(name), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
			return fmt.Errorf("stage: %w", err)
		}
		st.files[name] = f
	}
	if _, err := f.WriteAt(p, offset); err != nil {
		return fmt.Errorf("stage %s: %w", name, err)
	}
	return nil
}

// Image reads the image's bytes as far as they are there, for those who must look into it before it is installed.
func (st *Staging) Image() ([]byte, error) { return vfs.ReadFile(st.s.fs, st.s.path(st.imageName())) }

func notPromised(part string) error {
	return &segment.DamageError{File: part, Why: "these are not the bytes that were promised", Fix: fixMessage}
}

// Keep checks the image, of which these are all bytes, makes the references durable under names of their own, checks them too, and
// returns the files as the image will refer to them here. An error that is a *segment.DamageError means that there are other bytes than
// were promised, for the parts are not synced while they are fetched and a crash may have left anything: they are removed.
func (st *Staging) Keep(image []byte, files []reflog.File) ([]reflog.File, error) {
	if ImageSum(image) != st.sum {
		return nil, errors.Join(notPromised(st.s.path(st.imageName())), st.Abort())
	}
	kept := make([]reflog.File, 0, len(files))
	for _, f := range files {
		if ok, err := st.local(f); err != nil {
			return nil, err
		} else if !ok {
			if f, err = st.keep(f); err != nil {
				return nil, err
			}
		}
		kept = append(kept, f)
	}
	return kept, st.s.fs.SyncDir(st.s.dir)
}

func (st *Staging) keep(f reflog.File) (reflog.File, error) {
	final := f
	final.Name = fmt.Sprintf("%s-%08x%s", strings.TrimSuffix(f.Name, refSuffix), f.CRC, refSuffix)
	part := st.s.path(refPart(f))
	p, err := vfs.ReadFile(st.s.fs, part)
	if errors.Is(err, fs.ErrNotExist) { // it may have got its name before a restart
		if have, statErr := st.s.fs.Stat(st.s.path(final.Name)); statErr == nil && have.Size == f.Size {
			return final, nil
		}
	}
	if err != nil {
		return f, fmt.Errorf("stage: %w", err)
	}
	if int64(len(p)) != f.Size || crc32.Checksum(p, castagnoli) != f.CRC {
		return f, errors.Join(notPromised(part), st.closeParts(), st.s.fs.Remove(part))
	}
	if open := st.files[refPart(f)]; open != nil {
		if err := open.Sync(); err != nil {
			return f, fmt.Errorf("stage: %w", err)
		}
	} else if err := syncFile(st.s.fs, part); err != nil {
		return f, fmt.Errorf("stage: %w", err)
	}
	return final, st.s.fs.Rename(part, st.s.path(final.Name))
}

func syncFile(fsys vfs.FS, path string) error {
	f, err := fsys.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Finish makes the image durable, with the bytes that Keep has checked and the references as it returned them; hs is the hard state of the log behind it (zero: that of the log as it is).
func (st *Staging) Finish(img Image, hs segment.HardState) error {
	if img.Index != st.index || img.Term != st.term {
		panic(fmt.Sprintf("BUG: the staging is of entry %d of term %d, not %d of %d", st.index, st.term, img.Index, img.Term))
	}
	var err error
	if st.info, err = st.s.save(&img); err != nil {
		return err
	}
	if hs == (segment.HardState{}) {
		hs = st.s.log.HardState()
	}
	hs.Commit = max(hs.Commit, img.Index)
	st.done, st.hs = img, hs
	st.done.Parts = nil
	return st.Abort()
}

// Abort removes the image's parts; those of references stay for the next Stage.
func (st *Staging) Abort() error {
	err := st.closeParts()
	if removeErr := st.s.fs.Remove(st.s.path(st.imageName())); !errors.Is(removeErr, fs.ErrNotExist) {
		err = errors.Join(err, removeErr)
	}
	return err
}

// Close lets go of the parts, which stay for the next Stage.
func (st *Staging) Close() error { return st.closeParts() }

func (st *Staging) closeParts() error {
	var err error
	for _, f := range st.files {
		err = errors.Join(err, f.Close())
	}
	clear(st.files)
	return err
}

// Install makes a finished staging the state of this replica. The log goes on behind it: as it is, if it continues the image; with what
// it has behind the image's entry, if it does and lacks entries only up to there; else empty. In the last two cases the segments it had
// become part of the archive as far as their entries were committed: up to committed, the highest that Has was asked with for this
// staging, so that nothing is dropped of which Has has said that it need not be fetched. The log's own hard state may say less, for a
// commit index is not written down as soon as it is known. A crash at any moment leaves the old or the new.
// After an error nobody knows which: the store must be closed and opened again.
func (s *Store) Install(st *Staging, committed uint64) error {
	img := image{Info: st.info, refs: st.done.Refs}
	if img.Number == 0 {
		panic("BUG: install of an unfinished staging")
	}
	committed = max(committed, s.log.HardState().Commit)
	var tail []segment.Entry
	if s.continues(img) {
		if !s.holed(img.Index) {
			return s.installBeside(img)
		}
		// What is lost is only before the image: a log without that, and with everything behind it.
		var err error
		if tail, err = s.log.Entries(img.Index+1, s.log.LastIndex()+1, 1<<62); err != nil {
			return fmt.Errorf("install: %w", err)
		}
		committed = img.Index
	}
	if err := s.beginBehind(img, []string{img.Name()}, st.hs, tail, committed); err != nil {
		return fmt.Errorf("install: %w", err)
	}
	return nil
}

// continues tells whether what the log has behind an image's entry stays. It does if the log has that entry, and also if it has lost
// it, or its term: it was acknowledged, and the set may depend on it. If it was another entry than the image's, then what is behind was never
// confirmed; either its terms show that, or it does no harm until the leader replaces it.
func (s *Store) continues(img image) bool {
	if img.Index+1 < s.log.FirstIndex() || img.Index > s.log.LastIndex() {
		return false
	}
	if term, err := s.log.Term(img.Index); err == nil {
		return term == img.Term
	}
	for i := img.Index + 1; i <= s.log.LastIndex(); i++ {
		if term, err := s.log.Term(i); err == nil {
			return term >= img.Term
		}
	}
	return true
}

// beginBehind makes an image the only one, and a new log the log, which has the entries tail behind it. The segments of the old one become
// part of the archive as far as its entries were committed. made are the files that the root names first.
func (s *Store) beginBehind(img image, made []string, hs segment.HardState, tail []segment.Entry, committed uint64) error {
	fresh, err := s.log.Fresh(img.Index+1, img.Term, hs, tail)
	if err != nil {
		return err
	}
	var join []segment.Info
	for _, i := range fresh.Sealed {
		if i.Last = min(i.Last, committed); i.First <= i.Last && s.opt.Message != nil {
			join = append(join, i)
		}
	}
	// The side file must never know a later term or vote than the log that counts.
	replaced, err := s.segmentsOf(fresh.Number, join)
	if err != nil {
		return err
	}
	err = s.changeImages(made, replaced, func(m *manifest) {
		m.first = fresh.Number
		m.segments = append(m.segments, join...)
		m.images = append(m.images[:0:0], img)
	})
	if err != nil {
		return err
	}
	if err := s.log.Replace(fresh); err != nil {
		return err
	}
	for _, info := range join {
		s.shelf.add(newSegmentPiece(segment.OpenSealed(s.fs, s.dir, s.opt.Options, info), s.opt.Message))
	}
	s.sweep()
	return nil
}

// holed tells whether entries of the log are lost, and all of them up to index.
func (s *Store) holed(index uint64) bool {
	holes := s.log.Holes()
	return len(holes) > 0 && holes[len(holes)-1].Hi <= index+1
}

// installBeside installs an image whose entry the log has: the machine takes it, the log stays.
func (s *Store) installBeside(img image) error {
	return s.changeImages([]string{img.Name()}, nil, func(m *manifest) { m.images = append(m.images[:0:0], img) })
}

// segmentsOf lists the files of the segments of a replaced log, those before first, that do not join the archive.
func (s *Store) segmentsOf(first uint64, joined []segment.Info) ([]string, error) {
	m := s.manifest()
	kept := m.names()
	for _, i := range joined {
		kept[i.Name()] = true
	}
	names, err := s.fs.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	return without(names, func(name string) bool {
		n, ok := segment.FileNumber(name)
		return !ok || n >= first || kept[name]
	}), nil
}

// Pin keeps an image and its references from being removed until release is called; ok is false if there is no image of
// that entry. It returns what another replica must know of it.
func (s *Store) Pin(index uint64) (info Pinned, release func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.man.images) - 1; i >= 0; i-- {
		img := s.man.images[i]
		if img.Index != index {
			continue
		}
		s.pins[img.Number]++
		return Pinned{s: s, image: img}, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.pins[img.Number]--; s.pins[img.Number] == 0 {
				delete(s.pins, img.Number)
			}
		}, true
	}
	return Pinned{}, nil, false
}

// Pinned is an image that another replica fetches.
type Pinned struct {
	s     *Store
	image image
}

// Load reads the whole image.
func (p *Pinned) Load() (Image, error) { return p.s.readImage(&p.image) }

// ReadRef reads bytes of one of the image's files of references: as many as there are up to len(b).
func (p *Pinned) ReadRef(name string, offset int64, b []byte) (int, error) {
	for _, f := range p.image.refs {
		if f.Name != name {
			continue
		}
		file, err := p.s.fs.OpenFile(p.s.path(name), os.O_RDONLY, 0)
		if err != nil {
			return 0, err
		}
		defer file.Close()
		n := int(max(0, min(int64(len(b)), f.Size-offset)))
		return file.ReadAt(b[:n], offset)
	}
	return 0, fs.ErrNotExist
}
