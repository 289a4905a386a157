package reflog

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
)

// DamageError says that references that were once synced cannot be read, and which. It is a type of this package, not
// segment's: what is lost is named by what a peer can be asked for, and the peer's answer goes to Repair.
type DamageError struct {
	File   string
	Offset int64
	Why    string
	// Whole: the file is missing, of another length, or another one, so that the right one may be put back. Only Salvage looks.
	Whole bool

	// What is lost: positions [Lo, Hi) of the lane Key; Hi is math.MaxUint64 if nobody knows where it ends. Verify alone
	// can also name a block of several lanes: then it is all from position Lo of Key to before Hi of Last, in the order
	// of shards, lanes and positions, and every lane in between that is needed has to be repaired.
	// Lo == Hi and Key == Last: nothing that counts is lost, the next Merge puts it right.
	Key, Last Key
	Lo, Hi    uint64
}

func (e *DamageError) Error() string {
	what := fmt.Sprintf("positions %d to %s of shard %d, lane %d", e.Lo, upTo(e.Hi), e.Key.Shard, e.Key.Lane)
	switch {
	case e.Key != e.Last:
		what = fmt.Sprintf("position %d of shard %d, lane %d, to position %s of shard %d, lane %d",
			e.Lo, e.Key.Shard, e.Key.Lane, upTo(e.Hi), e.Last.Shard, e.Last.Lane)
	case e.Lo == e.Hi:
		what = "nothing in use"
	}
	return fmt.Sprintf("references in %s are damaged at offset %d: %s; lost: %s; they are fetched from a peer", e.File, e.Offset, e.Why, what)
}

func upTo(hi uint64) string {
	if hi == math.MaxUint64 {
		return "the end"
	}
	return fmt.Sprint(hi)
}

// PartialError says that a walk has given all it could read, and where the messages are that it could not give. It wraps the first
// of its *DamageError.
type PartialError struct {
	Stretches []Stretch      // where those messages are in the log, if they are alive at all; ascending, with gaps between them
	Damage    []*DamageError // what could not be read, the first maxNamed of it
	More      int            // how many were found after those
}

// Stretch is the entries [Lo, Hi) of the log.
type Stretch struct{ Lo, Hi uint64 }

// maxNamed is how much damage a PartialError names: a missing file may have had a million chunks.
const maxNamed = 1000

func (e *PartialError) Error() string {
	if more := len(e.Damage) - 1 + e.More; more > 0 {
		return fmt.Sprintf("%v; and so are %d others", e.Damage[0], more)
	}
	return e.Damage[0].Error()
}

func (e *PartialError) Unwrap() error { return e.Damage[0] }

// add notes a damage of references to entries in [lo, hi).
func (e *PartialError) add(d *DamageError, lo, hi uint64) {
	if len(e.Damage) < maxNamed {
		c := *d // a scan tells of all lanes in a block with one error
		e.Damage = append(e.Damage, &c)
	} else {
		e.More++
	}
	i := sort.Search(len(e.Stretches), func(i int) bool { return e.Stretches[i].Hi >= lo })
	j := i
	for ; j < len(e.Stretches) && e.Stretches[j].Lo <= hi; j++ {
		lo, hi = min(lo, e.Stretches[j].Lo), max(hi, e.Stretches[j].Hi)
	}
	e.Stretches = slices.Replace(e.Stretches, i, j, Stretch{lo, hi})
}

var errImage = errors.New("the image of the references is damaged, of another version or of other files")

func isDamage(err error) bool {
	var d *DamageError
	return errors.As(err, &d)
}
