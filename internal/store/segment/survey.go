package segment

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencmq/cmq/internal/vfs"
)

// Agreed is an entry that the set is known to have agreed on.
type Agreed struct{ Index, Term uint64 }

// Survey is what the segments of a directory and the side file say of themselves, for a caller whose root is lost.
type Survey struct {
	First uint64 // number of the log's first segment
	Root  uint32 // the newest root that the side file knows
	// Apart are the segments with lower numbers, as far as it is certain that their entries are those the set agreed on.
	Apart []Info
	// Empty are the names of segments that were made ahead and never begun, and do not belong to the log.
	Empty []string
}

// LookAround makes a survey of a directory and changes nothing. The log must have the entries from index from on, if it can. images
// are entries the set is known to have agreed on. *ForeignError or *VersionError if a segment is not this replica's; one that
// cannot be read is not: Open finds out what is lost.
func LookAround(fsys vfs.FS, dir string, opt Options, from uint64, images []Agreed) (Survey, error) {
	v := &surveying{fs: fsys, dir: dir, id: opt.identity(), facts: slices.Clone(images)}
	defer v.close()
	if err := v.list(); err != nil {
		return Survey{}, err
	}
	var out Survey
	kept := slot{first: 1}
	switch sl, err := openSlots(fsys, dir, v.id); {
	case err == nil:
		kept = sl.last
		if err := sl.close(); err != nil {
			return Survey{}, err
		}
	case !errors.As(err, new(*DamageError)) && !errors.Is(err, fs.ErrNotExist):
		return Survey{}, err
	}
	out.Root, out.First = kept.root, kept.first
	if len(v.segs) == 0 {
		return out, nil
	}
	first := v.first(from)
	out.First = v.segs[first].head.number
	return out, v.apart(first, &out)
}

// surveying is the work of LookAround.
type surveying struct {
	fs    vfs.FS
	dir   string
	id    identity
	segs  []*segment // all there are, ascending; file is nil if the header cannot be read
	facts []Agreed
}

func (v *surveying) close() {
	for _, s := range v.segs {
		if s.file != nil {
			s.file.Close() // it was only read
		}
	}
}

func (v *surveying) list() error {
	names, err := v.fs.ReadDir(v.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		number, ok := fileNumber(name)
		if !ok {
			continue
		}
		s, err := v.open(filepath.Join(v.dir, name), number)
		if err != nil {
			return err
		}
		v.segs = append(v.segs, s)
	}
	return nil
}

func (v *surveying) open(path string, number uint64) (*segment, error) {
	f, err := v.fs.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	s := &segment{path: path, file: f, end: headerSize}
	err = s.readHead(number, v.id)
	if err == nil {
		return s, nil
	}
	if err := errors.Join(err, f.Close()); !errors.As(err, new(*DamageError)) {
		return nil, err
	}
	return &segment{path: path, head: header{number: number, id: v.id}}, nil
}

// first finds the segment with which the log begins. From the newest one back it follows who was written behind whom; of those that
// belong together it takes the last that has everything from index from on.
func (v *surveying) first(from uint64) int {
	low := len(v.segs) - 1
	for low > 0 && v.behind(low) {
		low--
	}
	first := low
	for i := low; i < len(v.segs); i++ {
		if s := v.segs[i]; s.begun && s.begin.first <= from {
			first = i
		}
	}
	return first
}

// behind tells whether the i-th segment continues the one before, as far as can be known of a damaged one.
func (v *surveying) behind(i int) bool {
	s, older := v.segs[i], v.segs[i-1]
	switch {
	case older.head.number+1 != s.head.number:
		return false
	case !s.begun || older.file == nil:
		return true
	}
	return s.begin.prevSalt == older.head.salt && s.begin.prevEnd != 0
}

// apart lists the segments before first, from the newest back.
func (v *surveying) apart(first int, out *Survey) error {
	whole, limit := true, ^uint64(0) // every segment from here to the log is there; entries from limit on were replaced
	for i := first - 1; i >= 0; i-- {
		s := v.segs[i]
		var next *segment
		if v.behind(i+1) && v.segs[i+1].begun {
			next = v.segs[i+1]
			limit = min(limit, next.begin.first)
		} else {
			whole, limit = false, ^uint64(0)
		}
		if s.file == nil {
			continue
		}
		if !s.begun {
			if _, zero, err := s.scanner(s.size).rest(beginAt); err != nil {
				return err
			} else if zero {
				out.Empty = append(out.Empty, filepath.Base(s.path))
			}
			continue
		}
		marks, err := s.survey(next)
		if err != nil {
			return err
		}
		s.table.limit(limit, 0)
		info := s.info()
		if !whole {
			info.Last = v.certain(s, marks)
		}
		if info.Last < info.First {
			continue
		}
		if !s.table.lost(info.Last) {
			v.facts = append(v.facts, Agreed{info.Last, s.table.term(info.Last)})
		}
		out.Apart = append(out.Apart, info)
		s.table = table{}
	}
	slices.Reverse(out.Apart)
	return nil
}

// survey reads the table of a segment that is not the log's any more, and the highest commit index that it or the one behind it
// knows.
func (s *segment) survey(next *segment) (committed uint64, err error) {
	committed = s.begin.hs.Commit
	if next != nil {
		s.end = next.begin.prevEnd
		committed = max(committed, next.begin.hs.Commit)
	} else if err := s.findEnd(); err != nil {
		return 0, err
	}
	ok := false
	if s.size >= s.end {
		if ok, err = s.readFooter(); err != nil {
			return 0, err
		}
	}
	if !ok && next == nil {
		s.end = s.size // a bad spot hides the end
	}
	probe := *s
	c, err := probe.salvage(min(s.end, s.size), true)
	if err != nil {
		return 0, err
	}
	if c != nil {
		committed = max(committed, c.hs.Commit)
	}
	if !ok {
		s.table = probe.table
	}
	return committed, nil
}

// certain is the last entry of a segment that the set agreed on for certain: because it is known to be committed, or because the set
// agreed on an entry of the same term at that place or behind it. The leader of a term writes each place once, and whoever has one of
// its entries has those before.
func (v *surveying) certain(s *segment, committed uint64) uint64 {
	for i := s.table.last(); i >= s.table.first; i-- {
		if i <= committed {
			return i
		}
		term := s.table.term(i)
		if term != 0 && slices.ContainsFunc(v.facts, func(a Agreed) bool { return a.Index >= i && a.Term == term }) {
			return i
		}
	}
	return s.table.first - 1
}
