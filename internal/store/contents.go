package store

import (
	"path/filepath"
	"slices"

	"github.com/opencmq/cmq/internal/store/archive"
	"github.com/opencmq/cmq/internal/store/checkpoint"
	"github.com/opencmq/cmq/internal/store/reflog"
	"github.com/opencmq/cmq/internal/store/segment"
	"github.com/opencmq/cmq/internal/vfs"
)

// Contents is what the root says of a directory, for those who look at it.
type Contents struct {
	Sequence uint64 // number of the root
	Next     uint64 // the next file's number
	First    uint64 // number of the log's first segment
	Images   []ImageFile
	Segments []segment.Info // that left the log
	Files    []archive.Info
	Dead     []string // files that count for nothing and may be there still
}

// ImageFile is an image with the files of references that belong to it.
type ImageFile struct {
	checkpoint.Info
	Refs []reflog.File
}

// Contents is what the root in force says.
func (s *Store) Contents() Contents {
	m := s.manifest()
	c := Contents{
		Sequence: m.sequence, Next: m.next, First: m.first,
		Segments: slices.Clone(m.segments), Files: slices.Clone(m.files), Dead: slices.Clone(m.dead),
	}
	for _, i := range m.images {
		c.Images = append(c.Images, ImageFile{Info: i.Info, Refs: i.refs})
	}
	return c
}

// OpenFiles is how many files of the archive are kept open at most.
func (s *Store) OpenFiles() int { return min(s.opt.OpenFiles, len(s.shelf.pieces())) }

// ReadContents reads the root of a directory and nothing else. The errors are those of Open about the root.
func ReadContents(fsys vfs.FS, dir string, id checkpoint.Identity) (Contents, error) {
	s := &Store{fs: fsys, dir: dir, opt: Options{Options: segment.Options{Cluster: id.Cluster, Set: id.Set, Replica: id.Replica}}}
	m, err := s.readManifest()
	if err != nil {
		return Contents{}, err
	}
	s.man = m
	return s.Contents(), nil
}

// Owner reads whose directory it is from its root, however damaged the rest of that is. *segment.DamageError if it cannot be
// known.
func Owner(fsys vfs.FS, dir string) (checkpoint.Identity, error) {
	path := filepath.Join(dir, manifestName)
	p, err := vfs.ReadFile(fsys, path)
	if err != nil {
		return checkpoint.Identity{}, err
	}
	if len(p) < manifestHead || string(p[:8]) != manifestMagic {
		return checkpoint.Identity{}, &segment.DamageError{File: path, Why: "it does not begin with the mark of a manifest", Fix: fixReplace}
	}
	return checkpoint.Identity{Set: le.Uint16(p[12:]), Cluster: le.Uint64(p[16:]), Replica: le.Uint64(p[24:])}, nil
}

// Strangers lists the names in the directory that count for nothing. Foreign are those of nobody: neither the root nor the log knows
// what interrupted work leaves. Leftovers are names of interrupted work, which the next Open removes. The store itself must
// have been opened on a vfs.Shadow of fsys, which would have removed them.
func (s *Store) Strangers(fsys vfs.FS) (foreign, leftovers []string, err error) {
	names, err := fsys.ReadDir(s.dir)
	if err != nil {
		return nil, nil, err
	}
	known := s.knownNames()
	for _, name := range names {
		switch {
		case known[name] || s.ofLog(name) || isBallast(name):
		case s.leftover(name) || filepath.Ext(name) == partSuffix || filepath.Ext(name) == lostSuffix:
			leftovers = append(leftovers, name)
		default:
			foreign = append(foreign, name)
		}
	}
	return foreign, leftovers, nil
}
