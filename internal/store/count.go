package store

import (
	"errors"
	"slices"

	"github.com/opencmq/cmq/internal/store/reflog"
)

// How much lives in a file is told by its weight, which comes with every image and costs little, and by its count, for which all
// references to the file are walked over. A message that several queues refer to weighs as often as they are, but counts once;
// so of a file that topics share, only the count tells whether it is worth to be written anew.
//
// A file is counted when it has joined the archive, or after a start; and again when so much weight has gone that it may be
// sparse by now. What went need not have died, but no more can have:
//
//	weight  ├──────────────────────┤          then  ├───────────────┤ lost
//	count   ├────────────┤                    now   ├─────┤ at least …
//	                                                ├────────────┤ at most

// tally is what the newest count of a file found. Only maintenance looks at it.
type tally struct {
	live   int64 // bytes of messages
	weight int64 // that it had then
}

// countBatch is how many files are counted with one walk: the set of what lives in them takes some tens of megabytes.
const countBatch = 16

// isSparse reports whether so many bytes of living messages are too few for the file.
func (p *piece) isSparse(live int64) bool { return live*100 < p.payload()*sparse }

// unsure reports whether the file, which has this weight now, may be sparse without having been found to be.
func (p *piece) unsure(weight int64) bool {
	c := p.counted
	return c == nil || !p.isSparse(c.live) && p.isSparse(c.live-max(c.weight-weight, 0))
}

// count counts the files of the archive of which it cannot be told otherwise whether they are sparse.
func (s *Store) count(w *scale, live Live) error {
	var unsure []*piece
	for _, p := range s.shelf.pieces() {
		if p.hi <= w.upto && p.unsure(int64(w.of(p))) {
			unsure = append(unsure, p)
		}
	}
	for batch := range slices.Chunk(unsure, countBatch) {
		if err := countTogether(batch, w, live); err != nil {
			return err
		}
	}
	return nil
}

func countTogether(pieces []*piece, w *scale, live Live) error {
	found, seen := make([]int64, len(pieces)), RefSet{}
	lo, hi := bounds(pieces)
	err := live.Each(lo, hi, func(run Run) error {
		if !covers(pieces, run.Index) {
			return nil
		}
		bytes := int64(run.Bytes) * int64(seen.fresh(run)) / int64(run.N)
		for i, p := range pieces {
			if p.lo <= run.Index && run.Index < p.hi {
				found[i] += bytes
			}
		}
		return nil
	})
	var partial *reflog.PartialError
	if err != nil && !errors.As(err, &partial) {
		return err
	}
	for i, p := range pieces {
		if partial != nil && p.touches(partial.Stretches) {
			continue // more may live in it; it is counted again when references may have been repaired
		}
		p.counted = &tally{live: found[i], weight: int64(w.of(p))}
	}
	return nil
}

// alive is about how many bytes of living messages a file has that weighs so much.
func (p *piece) alive(weight uint64) int64 {
	if p.counted == nil {
		return int64(weight)
	}
	return p.counted.live
}
