package store

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"maps"
	"slices"

	"github.com/opencmq/cmq/internal/store/archive"
	"github.com/opencmq/cmq/internal/store/checkpoint"
	"github.com/opencmq/cmq/internal/store/reflog"
	"github.com/opencmq/cmq/internal/store/segment"
	"github.com/opencmq/cmq/internal/vfs"
)

// manifest is the root of the directory: which files count. It is replaced as a whole, so that a crash leaves the old one or the
// new one and never a mixture.
//
//	0   magic     "cmqroot\n"
//	8   version   u32
//	12  set       u16, then 2 zero bytes
//	16  cluster   u64
//	24  replica   u64
//	32  sequence  u64   grows by one with every manifest; the log's side file knows it too, so that an old copy shows
//	40  next      u64   files with this number or a higher one were made later and count for nothing
//	48  first     u64   number of the log's first segment
//	56  images    u32, segments u32, files u32, dead u32   how many follow
//	72  images:   number u64, index u64, term u64, time i64, size u64, sum u32, refs u32, refs × { name (u16 length, bytes), size u64, crc u32 }
//	    segments that left the log: number u64, first u64, last u64, end u64, size u64, salt u32
//	    archive files: number u64, lo u64, hi u64, messages u64, bytes u64, size u64, sum u32
//	    names (u16 length, bytes) of files that are dead and may not be removed yet
//	..  crc32c    u32   of everything before
type manifest struct {
	sequence uint64
	next     uint64
	first    uint64
	images   []image // oldest first; the newest is the last, at most two
	segments []segment.Info
	files    []archive.Info
	dead     []string
}

// image is an image file with the files of references that belong to it.
type image struct {
	checkpoint.Info
	refs []reflog.File
}

const (
	manifestName    = "MANIFEST"
	manifestMagic   = "cmqroot\n"
	manifestVersion = 1
	manifestHead    = 72
)

var (
	le         = binary.LittleEndian
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

func (m *manifest) clone() manifest {
	c := *m
	c.images = slices.Clone(m.images)
	c.segments = slices.Clone(m.segments)
	c.files = slices.Clone(m.files)
	c.dead = slices.Clone(m.dead)
	return c
}

func (m *manifest) encode(id checkpoint.Identity) []byte {
	p := make([]byte, manifestHead)
	copy(p, manifestMagic)
	le.PutUint32(p[8:], manifestVersion)
	le.PutUint16(p[12:], id.Set)
	le.PutUint64(p[16:], id.Cluster)
	le.PutUint64(p[24:], id.Replica)
	le.PutUint64(p[32:], m.sequence)
	le.PutUint64(p[40:], m.next)
	le.PutUint64(p[48:], m.first)
	le.PutUint32(p[56:], uint32(len(m.images)))
	le.PutUint32(p[60:], uint32(len(m.segments)))
	le.PutUint32(p[64:], uint32(len(m.files)))
	le.PutUint32(p[68:], uint32(len(m.dead)))
	for _, i := range m.images {
		p = appendU64(p, i.Number, i.Index, i.Term, uint64(i.Time), uint64(i.Size))
		p = le.AppendUint32(p, i.Sum)
		p = appendRefs(p, i.refs)
	}
	for _, s := range m.segments {
		p = appendU64(p, s.Number, s.First, s.Last, uint64(s.End), uint64(s.Size))
		p = le.AppendUint32(p, s.Salt)
	}
	for _, f := range m.files {
		p = appendU64(p, f.Number, f.Lo, f.Hi, f.Messages, uint64(f.Bytes), uint64(f.Size))
		p = le.AppendUint32(p, f.Sum)
	}
	for _, name := range m.dead {
		p = appendName(p, name)
	}
	return le.AppendUint32(p, crc32.Checksum(p, castagnoli))
}

func appendRefs(p []byte, refs []reflog.File) []byte {
	p = le.AppendUint32(p, uint32(len(refs)))
	for _, f := range refs {
		p = appendU64(appendName(p, f.Name), uint64(f.Size))
		p = le.AppendUint32(p, f.CRC)
	}
	return p
}

func appendU64(p []byte, values ...uint64) []byte {
	for _, v := range values {
		p = le.AppendUint64(p, v)
	}
	return p
}

func appendName(p []byte, name string) []byte {
	return append(le.AppendUint16(p, uint16(len(name))), name...)
}

// decodeManifest reads the file's bytes. *segment.DamageError, *segment.VersionError, *segment.ForeignError.
func decodeManifest(path string, p []byte, id checkpoint.Identity) (manifest, error) {
	bad := func(why string) (manifest, error) {
		return manifest{}, &segment.DamageError{File: path, Why: why, Fix: fixReplace}
	}
	if len(p) < manifestHead+4 || string(p[:8]) != manifestMagic {
		return bad("it does not begin with the mark of a manifest")
	}
	if crc32.Checksum(p[:len(p)-4], castagnoli) != le.Uint32(p[len(p)-4:]) {
		return bad("the checksum is wrong")
	}
	if v := le.Uint32(p[8:]); v != manifestVersion {
		return manifest{}, &segment.VersionError{File: path, Version: v, Known: manifestVersion}
	}
	have := checkpoint.Identity{Set: le.Uint16(p[12:]), Cluster: le.Uint64(p[16:]), Replica: le.Uint64(p[24:])}
	if have != id {
		return manifest{}, &segment.ForeignError{File: path, Have: have.String(), Want: id.String()}
	}
	m := manifest{sequence: le.Uint64(p[32:]), next: le.Uint64(p[40:]), first: le.Uint64(p[48:])}
	r := fields{p: p[manifestHead : len(p)-4]}
	for range r.count(p[56:]) {
		m.images = append(m.images, r.image())
	}
	for range r.count(p[60:]) {
		m.segments = append(m.segments, segment.Info{
			Number: r.u64(), First: r.u64(), Last: r.u64(), End: int64(r.u64()), Size: int64(r.u64()), Salt: r.u32()})
	}
	for range r.count(p[64:]) {
		m.files = append(m.files, archive.Info{
			Number: r.u64(), Lo: r.u64(), Hi: r.u64(), Messages: r.u64(), Bytes: int64(r.u64()), Size: int64(r.u64()), Sum: r.u32()})
	}
	for range r.count(p[68:]) {
		m.dead = append(m.dead, r.name())
	}
	if r.bad || len(r.p) > 0 || m.first == 0 {
		return bad("it contradicts itself")
	}
	return m, nil
}

// fields takes values off the front of p. Once there are too few bytes it is bad and gives zeros.
type fields struct {
	p   []byte
	bad bool
}

func (r *fields) take(n int) []byte {
	if len(r.p) < n {
		r.bad, r.p = true, nil
		return make([]byte, n)
	}
	p := r.p[:n]
	r.p = r.p[n:]
	return p
}

// count is a number of things of at least two bytes each.
func (r *fields) count(p []byte) uint32 {
	n := le.Uint32(p)
	if uint64(n) > uint64(len(r.p)/2) {
		r.bad = true
		return 0
	}
	return n
}

func (r *fields) u64() uint64  { return le.Uint64(r.take(8)) }
func (r *fields) u32() uint32  { return le.Uint32(r.take(4)) }
func (r *fields) name() string { return string(r.take(int(le.Uint16(r.take(2))))) }

func (r *fields) image() image {
	i := image{Info: checkpoint.Info{
		Number: r.u64(), Index: r.u64(), Term: r.u64(), Time: int64(r.u64()), Size: int64(r.u64()), Sum: r.u32()}}
	i.refs = r.refs()
	return i
}

func (r *fields) refs() (list []reflog.File) {
	for range r.u32() {
		if r.bad {
			break
		}
		list = append(list, reflog.File{Name: r.name(), Size: int64(r.u64()), CRC: r.u32()})
	}
	return list
}

// change replaces the manifest by one with these changes, durably, and only then lets others see them. made are the files that
// it names first: after an error they count for nothing and are removed. dead are files that do not count any more: sweep
// removes them, which the caller calls when nobody reads them, or the next Open.
func (s *Store) change(made, dead []string, edit func(m *manifest)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.man.clone()
	edit(&m)
	m.sequence++
	m.next = s.next
	m.dead = s.deadNames(&m, dead)
	err := s.noteRoot() // never more than one manifest ahead of the side file, or this one looked like another directory's
	if err == nil {
		err = vfs.WriteFile(s.fs, s.path(manifestName), m.encode(identityOf(&s.opt)))
	}
	if err != nil {
		s.takeBack(made)
		return err
	}
	s.man = m
	s.damage = slices.DeleteFunc(s.damage, func(d Damage) bool { return d.Kind == KindManifest })
	for _, name := range dead {
		s.dead[name] = true
	}
	if err := s.noteRoot(); err != nil { // the manifest is in force: this is no reason to believe that it is not
		s.logger().Warn("the side file of the log does not know the newest manifest yet", "dir", s.dir, "error", err)
	}
	return nil
}

// noteRoot lets the log's side file know the manifest in force.
func (s *Store) noteRoot() error {
	if s.log == nil || s.log.Root() == uint32(s.man.sequence) {
		return nil
	}
	return s.log.NoteRoot(s.man.sequence)
}

// deadNames lists the files that may be there and count for nothing under the manifest m.
func (s *Store) deadNames(m *manifest, dead []string) []string {
	known := m.names()
	var names []string
	for _, list := range [][]string{slices.Sorted(maps.Keys(s.dead)), dead, filesOnlyOf(s.parted, m.images)} {
		for _, name := range list {
			if !known[name] {
				known[name] = true
				names = append(names, name)
			}
		}
	}
	return names
}

// takeBack removes the files of a change that failed. If the new manifest may be in force after all, the next one calls
// them dead first.
func (s *Store) takeBack(made []string) {
	if now, err := s.readManifest(); err != nil || now.sequence != s.man.sequence {
		for _, name := range made {
			s.dead[name] = true
		}
		return
	}
	for _, name := range append(made, manifestName+vfs.TempSuffix) {
		if err := s.fs.Remove(s.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.dead[name] = true
		}
	}
}

// sweep removes files that the manifest in force calls dead; large ones only lose their names, unless the disk is full, and
// Maintain removes them. What cannot be removed stays dead, and is tried again.
func (s *Store) sweep() {
	s.buryDead()
	if s.gone.tight.Load() {
		s.dropGone()
	}
}

func (s *Store) buryDead() {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.man.names()
	for _, name := range slices.Sorted(maps.Keys(s.dead)) {
		if !known[name] {
			if err := s.bury(name); err != nil {
				s.logger().Warn("a dead file cannot be removed yet", "file", s.path(name), "error", err)
				continue
			}
			s.damage = slices.DeleteFunc(s.damage, func(d Damage) bool { return d.File == s.path(name) })
		}
		delete(s.dead, name)
	}
}

// names are the files that the manifest names as needed.
func (m *manifest) names() map[string]bool {
	names := map[string]bool{}
	for _, i := range m.images {
		names[i.Name()] = true
		for _, f := range i.refs {
			names[f.Name] = true
		}
	}
	for _, i := range m.segments {
		names[i.Name()] = true
	}
	for _, i := range m.files {
		names[i.Name()] = true
	}
	return names
}

// number gives a number that no file has or had.
func (s *Store) number() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	return s.next - 1
}

// manifest is the one in force; it must not be changed.
func (s *Store) manifest() manifest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.man
}

// newest is the newest image, nil if there is none.
func (m *manifest) newest() *image {
	if len(m.images) == 0 {
		return nil
	}
	return &m.images[len(m.images)-1]
}

// floor is the index behind the older image: what lies below it is in both images.
func (m *manifest) floor() uint64 {
	if len(m.images) == 0 {
		return 0
	}
	return m.images[0].Index + 1
}
