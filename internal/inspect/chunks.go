package inspect

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/store/reflog"
)

// RefFile is a file of references, which say where the messages of a queue lie.
type RefFile struct {
	File     string    `json:"file"`
	Images   []uint64  `json:"images"` // indexes of the images that need it
	Size     int64     `json:"size"`
	Chunks   int       `json:"chunks"` // pieces of it that the newest image needs
	Runs     int       `json:"runs"`   // of messages that lie side by side, in those
	State    string    `json:"state"`  // ok, damaged, missing
	Problems []Problem `json:"problems,omitempty"`
}

// Chunk is one piece of the directory of the references, as of the newest image.
type Chunk struct {
	File   string      `json:"file"` // empty: it lies in the image
	Offset int64       `json:"offset"`
	Size   int64       `json:"size"`
	Level  int         `json:"level"` // 0: of messages without delay; else the level of delayed ones, the oldest is 1
	Shard  cmq.ShardID `json:"shard"` // a block of delayed messages may hold several: the first
	Queue  string      `json:"queue"`
	Lane   int64       `json:"lane"` // when they fall due, Unix milliseconds; 0: they were sent without delay
	Lo     uint64      `json:"lo"`   // positions [lo, hi) in the lane; hi is 0 if there are several lanes
	Hi     uint64      `json:"hi"`
	First  uint64      `json:"first"` // raft indexes of the messages
	Last   uint64      `json:"last"`
	Runs   int         `json:"runs"`
	Bytes  uint64      `json:"bytes"` // of the messages; 0: not known
	State  string      `json:"state"` // ok, damaged, lost
}

// Chunks lists the files of references and their pieces and checks them. name gives the name of a shard's queue.
func (s *Set) Chunks(name func(cmq.ShardID) string) ([]RefFile, []Chunk, error) {
	if !s.isData() {
		return nil, nil, nil
	}
	if s.store == nil || s.image.Index == 0 {
		return nil, nil, fmt.Errorf("set %d: %w", s.ID, errNoState)
	}
	refs, err := s.references()
	if err != nil {
		return nil, nil, err
	}
	bad, err := s.badReferences(refs)
	if err != nil {
		return nil, nil, err
	}
	files := s.refFiles(bad)
	var chunks []Chunk
	refs.Pieces(func(p reflog.Piece) bool {
		shard := cmq.ShardID(p.Key.Shard)
		c := Chunk{
			File: p.File, Offset: p.Offset, Size: p.Size, Level: p.Level, Shard: shard, Queue: name(shard), Lane: p.Key.Lane,
			Lo: p.Lo, Hi: p.Hi, First: p.First, Last: p.Last, Runs: p.Runs, Bytes: p.Bytes, State: stateOK,
		}
		if p.Hole {
			c.State = "lost"
		}
		for _, b := range bad {
			if b.File == s.path(p.File) && b.Offset == p.Offset {
				c.State = StateBad
			}
		}
		for i := range files {
			if files[i].File == p.File {
				files[i].Chunks++
				files[i].Runs += p.Runs
			}
		}
		chunks = append(chunks, c)
		return true
	})
	return files, chunks, nil
}

// references opens the references of the newest image, without what came after it.
func (s *Set) references() (*reflog.Log, error) {
	if len(s.image.Data()) == 0 {
		return reflog.New(s.shadow, s.Dir, reflog.Options{}), nil
	}
	m := s.newMachine()
	if err := m.Restore(s.image.Index, s.image.Data(), s.image.Refs); err != nil {
		return nil, fmt.Errorf("set %d: image at index %d: %w", s.ID, s.image.Index, err)
	}
	return m.References(), nil
}

func (s *Set) badReferences(refs *reflog.Log) (bad []Problem, err error) {
	err = refs.Verify(nil, func(d *reflog.DamageError) {
		p := problemOf(d, d.File)
		if d.Why == "the file is missing" {
			p.Kind = Missing
		}
		if p.Positions != nil {
			p.remedy(refs, d)
		}
		bad = append(bad, p)
	})
	return bad, err
}

// remedy finds out what the node can do about damaged references by itself.
func (p *Problem) remedy(refs *reflog.Log, d *reflog.DamageError) {
	err := refs.Salvage(d.Key, d.Lo, d.Lo+1, nil, nil)
	var left *reflog.DamageError
	switch {
	case err == nil:
		p.Alone, p.Fix = true, "one byte is wrong, and the checksum tells which, so it puts it right when it has read the file"
	case errors.As(err, &left):
		p.Whole = left.Whole
	}
}

// refFiles lists the files of all images.
func (s *Set) refFiles(bad []Problem) []RefFile {
	var files []RefFile
	for _, img := range s.Contents.Images {
		for _, f := range img.Refs {
			i := slices.IndexFunc(files, func(o RefFile) bool { return o.File == f.Name })
			if i < 0 {
				i = len(files)
				files = append(files, s.refFile(f, bad))
			}
			files[i].Images = append(files[i].Images, img.Index)
		}
	}
	slices.SortFunc(files, func(a, b RefFile) int { return cmp.Compare(a.File, b.File) })
	return files
}

func (s *Set) refFile(f reflog.File, bad []Problem) RefFile {
	out := RefFile{File: f.Name, Size: f.Size}
	for _, p := range bad {
		if p.File == s.path(f.Name) {
			out.Problems = append(out.Problems, p)
		}
	}
	if len(out.Problems) == 0 { // the references of the older image may be in files that the newest does not need
		switch info, err := s.shadow.Stat(s.path(f.Name)); {
		case err != nil:
			out.Problems = append(out.Problems, problemOf(err, s.path(f.Name)))
		case info.Size != f.Size:
			out.Problems = append(out.Problems, Problem{File: s.path(f.Name), Offset: info.Size, Kind: Damaged,
				What: fmt.Sprintf("the file has %d bytes, it was written with %d", info.Size, f.Size)})
		}
	}
	if s.replaced(f.Name) {
		out.Problems = nil
	}
	out.State = stateOf(out.Problems)
	return out
}
