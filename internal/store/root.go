package store

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/opencmq/cmq/internal/store/archive"
	"github.com/opencmq/cmq/internal/store/checkpoint"
	"github.com/opencmq/cmq/internal/store/segment"
	"github.com/opencmq/cmq/internal/vfs"
)

// The root only sums up what the files say of themselves: each says whose it is and what it holds, under a checksum. So a root that
// is damaged, missing or an older copy is made again from them:
//
//   - The images are the two newest that can be read; each names its files of references.
//   - The log is the chain of segments that ends with the newest one, from the older image on.
//   - Every other segment and archive file is in the archive, as far as it is certain that the set agreed on its entries.
//
// Dead files come back by this, and go again with the next maintenance. What cannot be read is left out of the root and left
// alone on the disk, and so is everything else that the root does not name, for it is no witness of what is not needed. What was in it is missing then, like everything that the old root named and that is gone: the log knows its holes,
// Missing names the messages, and the replica asks the others for both.

// badManifest is where a root goes that cannot be trusted.
const badManifest = manifestName + ".bad"

// replaceRoot makes the root durable that was made from the files. A crash before leaves the bad one.
func (s *Store) replaceRoot(why *segment.DamageError) error {
	m := &s.man
	s.logger().Error("the root of the directory cannot be used; a new one was made from what the files say of themselves", "file", why.File,
		"why", why.Why, "images", len(m.images), "log_from_segment", m.first, "segments", len(m.segments), "archive_files", len(m.files))
	s.remade = true
	s.noteDamage(Damage{File: why.File, Offset: why.Offset, Why: why.Why, Kind: KindManifest})
	if err := s.fs.Rename(why.File, s.path(badManifest)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return vfs.WriteFile(s.fs, why.File, m.encode(identityOf(&s.opt)))
}

// gather makes a root from the files of the directory. It changes nothing. A file of somebody else, or of a newer program, is an
// error.
func (s *Store) gather() (manifest, error) {
	m := manifest{next: 1}
	names, err := s.fs.ReadDir(s.dir)
	if err != nil {
		return m, err
	}
	for _, name := range names {
		if err := s.take(&m, name); err != nil {
			return m, err
		}
	}
	m.keepNewest()
	var agreed []segment.Agreed
	for i := range m.images {
		agreed = append(agreed, segment.Agreed{Index: m.images[i].Index, Term: m.images[i].Term})
	}
	found, err := segment.LookAround(s.fs, s.dir, s.opt.Options, m.floor(), agreed)
	if err != nil {
		return m, err
	}
	m.first, m.sequence = max(found.First, 1), uint64(found.Root)+1
	m.dead = found.Empty
	if s.opt.Message != nil {
		m.segments = found.Apart
	}
	return m, nil
}

// take puts an image or an archive file into the root.
func (s *Store) take(m *manifest, name string) error {
	number, ok := numbered(name, checkpoint.Suffix)
	if ok {
		m.next = max(m.next, number+1)
		info, img, err := checkpoint.Identify(s.fs, s.dir, identityOf(&s.opt), number)
		if err != nil {
			return s.unusable(name, err)
		}
		r := fields{p: img.Files}
		m.images = append(m.images, image{Info: info, refs: r.refs()})
		return nil
	}
	if number, ok = numbered(name, archive.Suffix); ok {
		m.next = max(m.next, number+1)
		info, err := archive.Identify(s.fs, s.dir, s.archiveID(), number)
		if err != nil {
			return s.unusable(name, err)
		}
		m.files = append(m.files, info)
	}
	return nil
}

// unusable leaves a damaged file out.
func (s *Store) unusable(name string, err error) error {
	if !errors.As(err, new(*segment.DamageError)) {
		return err
	}
	s.logger().Error("a file cannot be used, and is left alone", "file", s.path(name), "error", err)
	return nil
}

func numbered(name, suffix string) (number uint64, ok bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	if !ok {
		return 0, false
	}
	number, err := strconv.ParseUint(digits, 10, 64)
	return number, err == nil && name == fmt.Sprintf("%010d%s", number, suffix)
}

// keepNewest leaves the newest images in the root.
func (m *manifest) keepNewest() {
	slices.SortFunc(m.images, func(a, b image) int {
		return cmp.Or(cmp.Compare(a.Index, b.Index), cmp.Compare(a.Number, b.Number))
	})
	m.images = m.images[max(0, len(m.images)-keptImages):]
}
