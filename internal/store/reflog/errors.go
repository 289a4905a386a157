package reflog

import (
	"errors"
	"fmt"
	"math"
)

// DamageError says that references that were once synced cannot be read, and which. It is a type of this package, not
// segment's: what is lost is named by what a peer can be asked for, and the peer's answer goes to Repair.
type DamageError struct {
	File   string
	Offset int64
	Why    string

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

var errImage = errors.New("the image of the references is damaged, of another version or of other files")

func isDamage(err error) bool {
	var d *DamageError
	return errors.As(err, &d)
}
