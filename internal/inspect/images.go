package inspect

import (
	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/store/checkpoint"
)

// Image is a state of the set's machine on the disk.
type Image struct {
	File     string    `json:"file"`
	Number   uint64    `json:"number"`
	Index    uint64    `json:"index"` // of the last entry that is in it
	Term     uint64    `json:"term"`
	Time     int64     `json:"time"` // cluster time at that entry, Unix milliseconds
	Size     int64     `json:"size"`
	Refs     int       `json:"referenceFiles"`
	RefBytes int64     `json:"referenceBytes"`
	State    string    `json:"state"` // ok, damaged, missing, foreign
	Problems []Problem `json:"problems,omitempty"`
}

// stateOK says that every byte that was read is as it was written.
const stateOK = "ok"

// Images lists the images that count, the newest first, and checks them.
func (s *Set) Images() []Image {
	var list []Image
	for i := len(s.Contents.Images) - 1; i >= 0; i-- {
		info := &s.Contents.Images[i]
		out := Image{File: info.Name(), Number: info.Number, Index: info.Index, Term: info.Term, Time: info.Time, Size: info.Size, Refs: len(info.Refs)}
		for _, f := range info.Refs {
			out.RefBytes += f.Size
		}
		err := checkpoint.Verify(s.shadow, s.Dir, s.Owner, info.Info, func(int) error { return nil })
		if err != nil && !s.replaced(out.File) {
			out.Problems = append(out.Problems, problemOf(err, s.path(out.File)))
		}
		out.State = stateOf(out.Problems)
		list = append(list, out)
	}
	return list
}

// stateOf is the state of a file with these problems.
func stateOf(problems []Problem) string {
	state := stateOK
	for _, p := range problems {
		switch p.Kind {
		case Missing:
			return StateMissing
		case Foreign:
			return StateForeign
		case Torn:
		default:
			state = StateBad
		}
	}
	return state
}

// replaced tells whether a running node has taken a file away since its root was read.
func (s *Set) replaced(name string) bool {
	if !s.Running {
		return false
	}
	c, err := readContents(s)
	return err == nil && c.Sequence != s.Contents.Sequence && !names(c)[name]
}

// isData tells whether the set has messages.
func (s *Set) isData() bool { return s.ID != cmq.ControllerSet }
