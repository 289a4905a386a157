package inspect

import (
	"github.com/opencmq/cmq/internal/cmq"
)

// Overview is what a replica's directory holds, at a glance: what its root and the heads and indexes of its files say. The
// bytes of messages are not read.
type Overview struct {
	Set          cmq.SetID    `json:"set"`
	Dir          string       `json:"dir"`
	State        string       `json:"state"` // ok, damaged, missing, foreign, newer, unfinished, unreadable
	Voters       []cmq.NodeID `json:"voters"`
	Root         uint64       `json:"root"` // sequence number of MANIFEST; 0: it cannot be read
	Term         uint64       `json:"term"`
	Vote         cmq.NodeID   `json:"vote"`
	First        uint64       `json:"first"` // raft indexes in the log
	Last         uint64       `json:"last"`
	Committed    uint64       `json:"committed"` // known to be agreed on; more may be
	Image        uint64       `json:"image"`     // index of the newest image that can be read
	ImageTime    int64        `json:"imageTime"` // cluster time of its entry, Unix milliseconds
	Images       int          `json:"images"`
	LogFiles     int          `json:"logFiles"`
	LogBytes     int64        `json:"logBytes"`
	ArchiveFiles int          `json:"archiveFiles"`
	ArchiveBytes int64        `json:"archiveBytes"`
	RefBytes     int64        `json:"referenceBytes"`
	Problems     []Problem    `json:"problems,omitempty"`
}

// Overview sums up the directory.
func (s *Set) Overview() Overview {
	out := Overview{
		Set: s.ID, Dir: s.Dir, Voters: s.Voters, Root: s.Contents.Sequence, Images: len(s.Contents.Images),
		Image: s.image.Index, ImageTime: s.image.Time, Problems: s.Problems,
	}
	if s.store != nil {
		log := s.store.Log()
		hs := log.HardState()
		out.Term, out.Vote, out.Committed = hs.Term, cmq.NodeID(hs.Vote), max(hs.Commit, s.image.Index)
		out.First, out.Last = log.FirstIndex(), log.LastIndex()
	}
	s.countFiles(&out)
	out.State = stateOK
	if len(out.Problems) > 0 {
		out.State = string(worst(out.Problems))
	}
	return out
}

// countFiles adds up the files as they lie on the disk.
func (s *Set) countFiles(out *Overview) {
	segs, err := s.listSegments()
	if err != nil {
		out.Problems = append(out.Problems, problemOf(err, s.Dir))
	}
	for i := range segs {
		if segs[i].Place == "log" && segs[i].State != StateMissing {
			out.LogFiles++
			out.LogBytes += segs[i].Size
		}
	}
	for _, info := range s.Contents.Segments {
		out.ArchiveFiles++
		out.ArchiveBytes += info.Size
	}
	for _, info := range s.Contents.Files {
		out.ArchiveFiles++
		out.ArchiveBytes += info.Size
	}
	seen := map[string]bool{}
	for _, img := range s.Contents.Images {
		for _, f := range img.Refs {
			if !seen[f.Name] {
				seen[f.Name] = true
				out.RefBytes += f.Size
			}
		}
	}
}

// worst is the kind of problem that says most about the whole directory.
func worst(problems []Problem) Kind {
	for _, k := range []Kind{Foreign, Newer, Unfinished, Missing, Damaged, Unreadable} {
		for _, p := range problems {
			if p.Kind == k {
				return k
			}
		}
	}
	return Torn
}
