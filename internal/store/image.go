package store

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/opencmq/cmq/internal/mutant"
	"github.com/opencmq/cmq/internal/store/checkpoint"
	"github.com/opencmq/cmq/internal/store/segment"
)

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
