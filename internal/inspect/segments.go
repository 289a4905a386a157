package inspect

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/opencmq/cmq/internal/store/segment"
)

// Segment is a segment file.
type Segment struct {
	File     string    `json:"file"`
	Number   uint64    `json:"number"`
	Place    string    `json:"place"` // log, archive, or unused: it is removed when the node starts
	State    string    `json:"state"` // see the constants
	First    uint64    `json:"first"` // indexes of its entries; Last is First-1 if there are none
	Last     uint64    `json:"last"`
	Entries  uint64    `json:"entries"`        // those in the file; more than first to last if some were replaced
	Size     int64     `json:"size"`           // bytes of the file
	Used     int64     `json:"used"`           // up to where something was written
	Synced   int64     `json:"synced"`         // up to where it was on the disk for certain
	Live     *int64    `json:"live,omitempty"` // bytes of messages that are still needed; nil: not known
	Dead     *int64    `json:"dead,omitempty"` // used bytes without them
	Problems []Problem `json:"problems,omitempty"`

	head *segment.View // without its file; nil if the head cannot be read
	end  int64         // what the next segment says of its end
}

// States of a segment.
const (
	StateActive  = "active" // the log's last: it is being written to, or was when the node ended
	StateClosed  = "closed" // the log's last, and the node was stopped in order
	StateSealed  = "sealed" // nothing more is written to it
	StateSpare   = "spare"  // made ahead, nothing is in it
	StateBad     = "damaged"
	StateMissing = "missing"
	StateForeign = "foreign"
)

// Segments lists the segment files of the directory and those that should be there. Unless quick, every byte is read and checked;
// quick reads the index at the end of those that have one.
func (s *Set) Segments(quick bool) ([]Segment, error) {
	list, err := s.listSegments()
	if err != nil {
		return nil, err
	}
	for i := range list {
		if list[i].head != nil {
			s.readSegment(&list[i], quick, func(segment.Record) error { return nil })
		}
	}
	return list, nil
}

// listSegments reads the heads of all segment files.
func (s *Set) listSegments() ([]Segment, error) {
	names, err := s.fs.ReadDir(s.Dir)
	if err != nil {
		return nil, err
	}
	var list []Segment
	for _, name := range names {
		number, ok := segment.FileNumber(name)
		if !ok {
			continue
		}
		seg := Segment{File: name, Number: number, Place: s.placeOf(number)}
		if s.readHead(&seg) {
			list = append(list, seg)
		}
	}
	list = s.addMissing(list)
	for i := range list {
		seg := &list[i]
		if i+1 < len(list) && list[i+1].head != nil && list[i+1].Number == seg.Number+1 {
			seg.end = list[i+1].head.PreviousEnd
		}
		for _, info := range s.Contents.Segments {
			if info.Number == seg.Number {
				seg.end = info.End
			}
		}
	}
	return list, nil
}

// readHead reads the first block; false if the file went away meanwhile.
func (s *Set) readHead(seg *Segment) bool {
	v, err := segment.OpenView(s.fs, s.path(seg.File))
	if v == nil {
		if errors.Is(err, fs.ErrNotExist) && s.Running {
			return false
		}
		seg.wrong(problemOf(err, s.path(seg.File)))
		return true
	}
	defer v.Close()
	seg.Size = v.Size
	if err != nil {
		seg.wrong(problemOf(err, s.path(seg.File)))
		return true
	}
	seg.head = v
	if want := s.Owner.String(); v.Owner != want && s.Owner.Cluster != 0 {
		seg.wrong(Problem{File: s.path(seg.File), What: fmt.Sprintf("it belongs to %s, but this is the directory of %s", v.Owner, want), Kind: Foreign,
			Fix: "put the right file or directory back, or remove this replica from the set and add a new one"})
	}
	return true
}

func (s *Set) placeOf(number uint64) string {
	switch {
	case s.Contents.First == 0 || number >= s.Contents.First:
		return "log"
	case slices.ContainsFunc(s.Contents.Segments, func(i segment.Info) bool { return i.Number == number }):
		return "archive"
	}
	return "unused"
}

// addMissing adds segments that the root or their neighbours say should be there.
func (s *Set) addMissing(list []Segment) []Segment {
	want := map[uint64]bool{}
	for _, info := range s.Contents.Segments {
		want[info.Number] = true
	}
	if n := len(list); s.Contents.First != 0 {
		want[s.Contents.First] = true
		for number := s.Contents.First; n > 0 && number < list[n-1].Number; number++ {
			want[number] = true
		}
	}
	for _, seg := range list {
		delete(want, seg.Number)
	}
	for number := range want {
		info := segment.Info{Number: number}
		seg := Segment{File: info.Name(), Number: number, Place: s.placeOf(number)}
		seg.wrong(Problem{File: s.path(seg.File), What: "the file is missing", Kind: Missing})
		list = append(list, seg)
	}
	slices.SortFunc(list, func(a, b Segment) int { return int(a.Number) - int(b.Number) })
	return list
}

// wrong notes a problem, which decides the state.
func (seg *Segment) wrong(p Problem) {
	seg.Problems = append(seg.Problems, p)
	switch p.Kind {
	case Missing:
		seg.State = StateMissing
	case Foreign:
		seg.State = StateForeign
	case Torn:
	default:
		seg.State = StateBad
	}
}

// readSegment reads the records of a segment whose head can be read, and fills in what they say.
func (s *Set) readSegment(seg *Segment, quick bool, visit func(segment.Record) error) {
	v, err := segment.OpenView(s.fs, s.path(seg.File))
	if v == nil || err != nil {
		if !errors.Is(err, fs.ErrNotExist) || !s.Running {
			seg.wrong(problemOf(err, s.path(seg.File)))
		}
		if v != nil {
			v.Close()
		}
		return
	}
	defer v.Close()
	before := *seg
	indexed := false
	if quick && seg.end > 0 {
		indexed, err = v.Index(seg.end)
	}
	if err == nil && !indexed {
		err = v.Walk(seg.end, func(r segment.Record) error {
			if r.Bad != "" {
				seg.wrong(s.badRecord(seg, r))
			}
			return visit(r)
		})
	}
	if err != nil {
		seg.wrong(problemOf(err, s.path(seg.File)))
	}
	if s.takenAway(seg.File) {
		seg.State, seg.Problems = before.State, before.Problems
	}
	seg.head = v
	seg.First, seg.Last, seg.Entries = v.Low, v.Up-1, v.Entries
	seg.Used, seg.Synced = v.End, v.Synced
	if !v.Begun {
		seg.First, seg.Last = 0, 0
	}
	if seg.State == "" {
		seg.State = seg.stateOf(v)
	}
}

// takenAway tells whether a running node has removed a file meanwhile. It may have begun to make the file shorter while that was read,
// so what was found wrong with it does not count.
func (s *Set) takenAway(name string) bool {
	_, err := s.fs.Stat(s.path(name))
	return s.Running && errors.Is(err, fs.ErrNotExist)
}

func (seg *Segment) stateOf(v *segment.View) string {
	switch {
	case !v.Begun && v.Entries == 0:
		return StateSpare
	case v.Sealed || seg.end > 0:
		return StateSealed
	case v.Closed:
		return StateClosed
	}
	return StateActive
}

// badRecord is a place where no record can be read. Behind what was synced that is what a crash leaves, or what is being written.
func (s *Set) badRecord(seg *Segment, r segment.Record) Problem {
	p := Problem{File: s.path(seg.File), Offset: r.Offset, What: r.Bad, Kind: Damaged}
	if r.Torn && seg.end == 0 {
		p.Kind, p.What = Torn, "a write that was not finished: "+r.Bad
		p.Fix = "nothing: it confirmed nothing, and the node cuts it off when it starts"
		if s.Running {
			p.Fix = "nothing: the node is writing here"
		}
	}
	return p
}
