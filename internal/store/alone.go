package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencmq/cmq/internal/store/archive"
	"github.com/opencmq/cmq/internal/store/segment"
)

// The only replica of a set has nobody to ask. It goes on by itself if nothing is lost but messages in files that are there, which whoever
// receives them will find out one by one:
//
//   - An entry that the newest image has the effect of is needed for its messages only. If it is lost, the log begins anew behind the
//     image, and what is left of its segment is in the archive.
//   - Of an entry behind the image, the operations are needed. If they are whole by checksums of their own (Options.Usable), the entry is
//     taken as it is.
//
// Everything else is refused, before anything is changed: a file that is missing may be put back, and without the operations of an
// entry there is no state after it. Where there is nothing to put back, the operator says so by an empty file with the name of the
// lost one and ".lost" behind it. Then its messages are lost, and the log ends before the first entry that is.

// lostSuffix ends the names of files by which the operator gives a file up.
const lostSuffix = ".lost"

// alone is what the only replica of a set knows before its log is opened.
type alone struct {
	s      *Store
	base   uint64                   // entry of the newest image that can be read
	usable map[uint64]segment.Entry // behind it, and damaged
	cut    uint64                   // the log ends before this entry; 0: where it ends
	begin  bool                     // the log begins anew behind the image
}

// fix tells the operator what to do about a file.
func (a *alone) fix(file string) string {
	return fmt.Sprintf("this is the only replica of its set, so nobody can give it back: restore the file, or the whole data directory, from a backup of this moment; "+
		"or, to go on without what was in it, make an empty file %s%s; nothing was changed", file, lostSuffix)
}

// fixRestore is what to do where no single file can be given up.
const fixRestore = "this is the only replica of its set, so nobody can give it back: restore the whole data directory from a backup; nothing was changed"

// refuse is the error about a file, nil if the operator has given it up.
func (a *alone) refuse(file string, offset int64, why string) error {
	if _, err := a.s.fs.Stat(file + lostSuffix); err == nil {
		return nil
	}
	return &segment.DamageError{File: file, Offset: offset, Why: why, Fix: a.fix(file)}
}

// judgeAlone looks at all but the log, and makes the log's judge.
func (s *Store) judgeAlone() (*alone, error) {
	img, err := s.LatestImage()
	if errors.Is(err, ErrNoImage) {
		return nil, s.withoutImage()
	}
	a := &alone{s: s, base: img.Index, usable: map[uint64]segment.Entry{}}
	if err != nil {
		return nil, err
	}
	return a, a.judgeArchive()
}

func (s *Store) withoutImage() error {
	why := "there is no image of the state"
	for _, d := range s.Damage() {
		if d.Kind == KindImage {
			why = fmt.Sprintf("no image of the state can be read (%s: %s)", d.File, d.Why)
		}
	}
	return &segment.DamageError{File: s.dir, Why: why,
		Fix: fixRestore}
}

// judgeArchive refuses files of the archive of which nothing can be read.
func (a *alone) judgeArchive() error {
	s := a.s
	var refused error
	look := func(file string, err error, close func() error) error {
		err = errors.Join(err, close())
		var damage *segment.DamageError
		switch {
		case errors.Is(err, fs.ErrNotExist):
			refused = errors.Join(refused, a.refuse(file, 0, "the file is missing"))
		case errors.As(err, &damage):
			refused = errors.Join(refused, a.refuse(file, damage.Offset, damage.Why))
		default:
			return err
		}
		return nil
	}
	for _, info := range s.man.segments {
		f := segment.OpenSealed(s.fs, s.dir, s.opt.Options, info)
		if err := look(s.path(info.Name()), f.Check(), f.Close); err != nil {
			return err
		}
	}
	for _, info := range s.man.files {
		f := archive.Open(s.fs, s.dir, s.archiveID(), info)
		if err := look(s.path(info.Name()), f.Check(), f.Close); err != nil {
			return err
		}
	}
	return refused
}

// awaited tells whether the only replica's file is lost as a whole, and its operator has not given it up.
func (s *Store) awaited(p *piece) bool {
	if !s.opt.Alone || p.check() == nil {
		return false
	}
	return s.MayBePutBack(p.name)
}

// MayComeBack tells whether a message that cannot be read may be in a file that is lost as a whole, and that the operator of the only
// replica may put back. It is no reason to wait if there are other replicas.
func (s *Store) MayComeBack(ref Ref) bool {
	found := false
	s.shelf.covering(ref.Index, func(p *piece) bool {
		found = s.awaited(p)
		return !found
	})
	return found
}

// MayBePutBack tells whether the operator of the only replica may put a file back that is lost as a whole. It is no reason to wait if there are
// other replicas.
func (s *Store) MayBePutBack(file string) bool {
	if !s.opt.Alone {
		return false
	}
	_, err := s.fs.Stat(s.path(filepath.Base(file) + lostSuffix))
	return err != nil
}

// judge decides about the log.
func (a *alone) judge(f *segment.Findings) error {
	var refused error
	for _, d := range f.Lost {
		refused = errors.Join(refused, a.refuse(d.File, d.Offset, d.Why))
	}
	if f.First > a.base+1 {
		refused = errors.Join(refused, &segment.DamageError{File: a.s.dir, Fix: fixRestore,
			Why: fmt.Sprintf("entries %d to %d of the log are missing, which the newest image that can be read does not have", a.base+1, f.First-1)})
	}
	if refused != nil || len(f.Holes)+len(f.Lost) == 0 {
		return refused
	}
	a.begin = true
	damaged, err := f.Damaged()
	if err != nil {
		return err
	}
	for _, e := range damaged {
		if e.Index > a.base && (e.Intact || a.mayApply(e.Entry)) { // who is alone never replaces an entry
			a.usable[e.Index] = e.Entry
		}
	}
	for _, h := range f.Holes {
		refused = errors.Join(refused, a.judgeHole(h))
	}
	return refused
}

// mayApply tells whether only messages of the entry are damaged.
func (a *alone) mayApply(e segment.Entry) bool {
	return e.Type == 0 && a.s.opt.Usable != nil && a.s.opt.Usable(e.Data)
}

// judgeHole refuses to do without entries that nothing else has the effect of.
func (a *alone) judgeHole(h segment.Hole) error {
	var lost []string
	from := uint64(0)
	for i := max(h.Lo, a.base+1); i <= h.Hi; i++ {
		_, ok := a.usable[i]
		switch gone := i < h.Hi && !ok; {
		case gone && from == 0:
			from = i
		case !gone && from != 0:
			lost, from = append(lost, fmt.Sprintf("%d to %d", from, i-1)), 0
		}
		if from != 0 && (a.cut == 0 || from < a.cut) {
			a.cut = from
		}
	}
	if len(lost) == 0 {
		return nil
	}
	return a.refuse(h.File, h.Offset, fmt.Sprintf("%s. By this entries %s of the log are lost, with what was confirmed in them, and all that follows cannot be used; the newest image is of entry %d",
		h.Why, strings.Join(lost[:min(len(lost), mostNamed)], ", "), a.base))
}

// mostNamed is how many stretches of lost entries an error names.
const mostNamed = 8

// goOn makes the log whole again, as judge has found that it can be.
func (a *alone) goOn() error {
	s, log := a.s, a.s.log
	if a.begin {
		for _, h := range log.Holes() {
			s.logger().Error("the log of the only replica is damaged: it begins anew behind the newest image; what cannot be read of messages is reported when they are received",
				"file", h.File, "offset", h.Offset, "why", h.Why, "from_index", h.Lo, "to_index", h.Hi-1)
		}
		if err := a.beginAgain(); err != nil {
			return err
		}
	}
	if log.Amnesia() || log.Short() { // nobody else votes, and what may be missing at the end was judged
		return log.Certain()
	}
	return nil
}

// beginAgain begins the log anew behind the image, with what it has there; what was before is in the archive.
func (a *alone) beginAgain() error {
	s := a.s
	m := s.manifest()
	i := slices.IndexFunc(m.images, func(i image) bool { return i.Index == a.base })
	if i < 0 {
		panic(fmt.Sprintf("BUG: the image of entry %d does not count", a.base))
	}
	end := s.log.LastIndex() + 1
	if a.cut != 0 {
		end = a.cut
	}
	var tail []segment.Entry
	for at := a.base + 1; at < end; at++ {
		e, ok := a.usable[at]
		if !ok {
			one, err := s.log.Entries(at, at+1, 0)
			if err != nil {
				return fmt.Errorf("begin the log anew behind the image of entry %d: %w", a.base, err)
			}
			e = one[0]
		}
		tail = append(tail, e)
	}
	hs := s.log.HardState()
	hs.Commit = min(max(hs.Commit, a.base), end-1)
	return s.beginBehind(m.images[i], nil, hs, tail, a.base)
}
