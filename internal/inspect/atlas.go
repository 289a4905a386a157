package inspect

import (
	"cmp"
	"slices"
	"sort"

	"github.com/opencmq/cmq/internal/store/archive"
)

// atlas says in which file a message lies.
type atlas struct {
	regions []region // ascending by lo
	ends    []uint64 // highest hi up to each region
}

// region is the entries [lo, hi) whose messages a file has: all of them, or those in its index.
type region struct {
	lo, hi uint64
	name   string
	file   *archive.File // nil: all
}

// atlas reads which entries each file has.
func (s *Set) atlas() (*atlas, error) {
	a := &atlas{}
	segs, err := s.Segments(true)
	if err != nil {
		return nil, err
	}
	for i := range segs {
		seg := &segs[i]
		lo, hi := seg.First, seg.Last+1
		if seg.Place == "archive" {
			for _, info := range s.Contents.Segments {
				if info.Number == seg.Number {
					lo, hi = info.First, info.Last+1
				}
			}
		}
		if seg.Place != "unused" && seg.State != StateMissing && lo < hi {
			a.regions = append(a.regions, region{lo: lo, hi: hi, name: seg.File})
		}
	}
	for _, info := range s.Contents.Files {
		f := archive.Open(s.shadow, s.Dir, s.archiveID(), info)
		a.regions = append(a.regions, region{lo: info.Lo, hi: info.Hi, name: info.Name(), file: f})
	}
	slices.SortStableFunc(a.regions, func(x, y region) int { return cmp.Compare(x.lo, y.lo) })
	end := uint64(0)
	for _, r := range a.regions {
		end = max(end, r.hi)
		a.ends = append(a.ends, end)
	}
	return a, nil
}

// find names the file of a message, "" if none has it. Of several segments with an entry it is the newest, which replaced it.
func (a *atlas) find(index uint64, slot uint16) string {
	n := sort.Search(len(a.regions), func(i int) bool { return a.regions[i].lo > index })
	for i := n - 1; i >= 0 && a.ends[i] > index; i-- {
		r := &a.regions[i]
		if index >= r.hi {
			continue
		}
		if r.file == nil {
			return r.name
		}
		if has, err := r.file.Has(archive.Ref{Index: index, Slot: slot}); has || err != nil { // what cannot be read may be there
			return r.name
		}
	}
	return ""
}

func (a *atlas) close() {
	for _, r := range a.regions {
		if r.file != nil {
			r.file.Close()
		}
	}
}
