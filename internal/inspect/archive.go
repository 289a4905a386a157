package inspect

import (
	"fmt"

	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/store/archive"
	"github.com/opencmq/cmq/internal/store/segment"
)

// Archived is a file of the archive: what the log has let go of and messages still need.
type Archived struct {
	File     string    `json:"file"`
	Form     string    `json:"form"`  // segment: as it left the log; messages: written anew with living messages only
	First    uint64    `json:"first"` // raft indexes of its messages
	Last     uint64    `json:"last"`
	Messages *uint64   `json:"messages,omitempty"` // nil: not known of a segment
	Size     int64     `json:"size"`
	Live     *int64    `json:"live,omitempty"` // bytes of messages that are still needed; nil: not known
	Dead     *int64    `json:"dead,omitempty"` // bytes of the file without them
	State    string    `json:"state"`          // ok, damaged, missing, foreign
	Problems []Problem `json:"problems,omitempty"`
}

// Archive lists the files of the archive. Unless quick, every byte is read and checked. The census may be nil.
func (s *Set) Archive(quick bool, c *Census) []Archived {
	var list []Archived
	for _, info := range s.Contents.Segments {
		out := Archived{File: info.Name(), Form: "segment", First: info.First, Last: info.Last, Size: info.Size}
		r := segment.OpenSealed(s.shadow, s.Dir, s.segmentOptions(), info)
		if quick {
			if _, err := r.Payload(info.First); err != nil {
				out.Problems = append(out.Problems, problemOf(err, s.path(out.File)))
			}
		} else {
			holes, err := r.Verify(func(int) error { return nil })
			for _, h := range holes {
				out.Problems = append(out.Problems, problemOfHole(h))
			}
			if err != nil {
				out.Problems = append(out.Problems, problemOf(err, s.path(out.File)))
			}
		}
		r.Close()
		list = append(list, s.weighed(out, c))
	}
	for _, info := range s.Contents.Files {
		out := Archived{File: info.Name(), Form: "messages", First: info.Lo, Last: info.Hi - 1, Messages: &info.Messages, Size: info.Size}
		f := archive.Open(s.shadow, s.Dir, s.archiveID(), info)
		note := func(err error) { out.Problems = append(out.Problems, problemOf(err, s.path(out.File))) }
		if err := f.Check(); err != nil {
			note(err)
		} else if !quick {
			if err := f.Verify(func(int) error { return nil }, note); err != nil {
				note(err)
			}
		}
		f.Close()
		list = append(list, s.weighed(out, c))
	}
	return list
}

// problemOfHole says what a part of a segment is about that cannot be read.
func problemOfHole(h segment.Hole) Problem {
	p := Problem{File: h.File, Offset: h.Offset, What: h.Why, Kind: Damaged}
	if h.Hi > h.Lo {
		p.What = fmt.Sprintf("%s; lost: entries %d to %d", h.Why, h.Lo, h.Hi-1)
	}
	if h.Why == "the file is missing" {
		p.Kind = Missing
	}
	return p
}

func (s *Set) weighed(out Archived, c *Census) Archived {
	if s.replaced(out.File) {
		out.Problems = nil
	}
	out.State = stateOf(out.Problems)
	if c != nil {
		live := c.Files[out.File]
		dead := max(out.Size-live, 0)
		out.Live, out.Dead = &live, &dead
	}
	return out
}

func (s *Set) segmentOptions() segment.Options {
	return segment.Options{Cluster: s.Owner.Cluster, Set: s.Owner.Set, Replica: s.Owner.Replica}
}

// readContents reads the root as it is on the disk now.
func readContents(s *Set) (store.Contents, error) { return store.ReadContents(s.fs, s.Dir, s.Owner) }

// names are the files that a root needs.
func names(c store.Contents) map[string]bool {
	all := map[string]bool{}
	for _, i := range c.Images {
		all[i.Name()] = true
		for _, f := range i.Refs {
			all[f.Name] = true
		}
	}
	for _, i := range c.Segments {
		all[i.Name()] = true
	}
	for _, i := range c.Files {
		all[i.Name()] = true
	}
	return all
}
