package inspect

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/store/reflog"
	"github.com/opencmq/cmq/internal/store/segment"
)

// Problem is something wrong at a place of a file.
type Problem struct {
	File   string `json:"file"`
	Offset int64  `json:"offset"`
	What   string `json:"what"`
	Fix    string `json:"fix,omitempty"`
	Kind   Kind   `json:"kind"`
	// Alone: the node heals it by itself, without the other replicas of the set.
	Alone bool `json:"healsAlone,omitempty"`
	// Whole: the file as a whole is missing, of another length or another one, so the only replica of a set waits until it is put back.
	Whole bool `json:"whole,omitempty"`
	// Positions that nothing leads to any more, if it is references that cannot be read; nil: nothing in use.
	Positions *Positions `json:"positions,omitempty"`
}

// Positions are those from Lo of the first lane up to Hi of the last one; as a rule it is the same one.
type Positions struct {
	Shard     cmq.ShardID `json:"shard"`
	Lane      int64       `json:"lane"` // when they fall due, Unix milliseconds; 0: they were sent without delay
	LastShard cmq.ShardID `json:"last_shard"`
	LastLane  int64       `json:"last_lane"`
	Lo        uint64      `json:"lo"`
	Hi        uint64      `json:"hi"` // math.MaxUint64: to the end
}

// positionsOf says which positions a damage of references is about.
func positionsOf(d *reflog.DamageError) *Positions {
	if d.Lo == d.Hi && d.Key == d.Last {
		return nil
	}
	return &Positions{Shard: cmq.ShardID(d.Key.Shard), Lane: d.Key.Lane, LastShard: cmq.ShardID(d.Last.Shard), LastLane: d.Last.Lane, Lo: d.Lo, Hi: d.Hi}
}

// Kind says what sort of problem it is.
type Kind string

// The kinds of problems.
const (
	Damaged    Kind = "damaged"    // bytes are not those that were written
	Missing    Kind = "missing"    // a file that counts is not there
	Foreign    Kind = "foreign"    // it belongs to another cluster, node or set
	Newer      Kind = "newer"      // a newer program wrote it
	Unfinished Kind = "unfinished" // the making of the directory was not finished
	Unreadable Kind = "unreadable" // the system does not let it be read
	Wrong      Kind = "wrong"      // what is there is as it was written, and not what most replicas have
	Torn       Kind = "torn"       // a write that was not finished and confirmed nothing; the node cuts it off
)

func (p Problem) String() string {
	if p.Offset == 0 { // as a rule it is about the whole file
		return fmt.Sprintf("%s: %s", p.File, p.What)
	}
	return fmt.Sprintf("%s at offset %d: %s", p.File, p.Offset, p.What)
}

// ofDamage is what the store says of a damaged file.
func (s *Set) ofDamage(d store.Damage) Problem {
	p := Problem{
		File: d.File, Offset: d.Offset, What: d.Why, Fix: fixOf[d.Kind], Kind: Damaged,
		Alone: d.Kind == store.KindManifest || d.Kind == store.KindImage,
	}
	if _, err := s.fs.Stat(d.File); errors.Is(err, fs.ErrNotExist) {
		p.Kind = Missing
	}
	return p
}

// What is done about what is lost.
const (
	fixFilled   = "the other replicas of the set fill this one when the node starts; without any, restore the directory from a backup"
	fixWithout  = "this is the only replica of its set: the node starts and does without the messages that are damaged; only a backup can give them back"
	fixRestored = "this is the only replica of its set, so nobody can give it back: restore the directory from a backup"
	fixAsked    = "the node asks the other replicas of the set when it starts, and does not vote before; what the only replica of a set can do, cmq doctor says"
)

// fixOf says how a running node heals each kind of file.
var fixOf = map[store.Kind]string{
	store.KindLog:      fixAsked,
	store.KindArchive:  "the messages in it are fetched from the other replicas of the set; without any they are lost",
	store.KindImage:    "the image before it is used, and the next one replaces it",
	store.KindRefs:     "the references in it are fetched from the other replicas of the set, or put together from what all have of them",
	store.KindManifest: "the node makes it again from the other files",
}

// problemOf says what an error of the store is about; file is where it was met if the error does not say.
func problemOf(err error, file string) Problem {
	var (
		damage  *segment.DamageError
		refs    *reflog.DamageError
		foreign *segment.ForeignError
		newer   *segment.VersionError
	)
	switch {
	case errors.As(err, &damage):
		return Problem{File: damage.File, Offset: damage.Offset, What: damage.Why, Fix: damage.Fix, Kind: Damaged}
	case errors.As(err, &refs):
		return Problem{File: refs.File, Offset: refs.Offset, What: refs.Why, Kind: Damaged, Positions: positionsOf(refs),
			Fix: "the node fetches the references from the other replicas of the set"}
	case errors.As(err, &foreign):
		return Problem{File: foreign.File, What: fmt.Sprintf("it belongs to %s, but this is the directory of %s", foreign.Have, foreign.Want), Kind: Foreign,
			Fix: "put the right directory back, or remove this replica from the set and add a new one"}
	case errors.As(err, &newer):
		return Problem{File: newer.File, What: fmt.Sprintf("it has format version %d, this program knows up to %d", newer.Version, newer.Known), Kind: Newer,
			Fix: "use the newer program"}
	case errors.Is(err, store.ErrNoImage):
		return Problem{File: file, What: "no image of the state can be read", Kind: Damaged, Fix: fixFilled}
	case errors.Is(err, fs.ErrNotExist):
		return Problem{File: file, What: "the file is missing", Kind: Missing}
	}
	var path *os.PathError
	if errors.As(err, &path) {
		file = path.Path
	}
	return Problem{File: file, What: err.Error(), Kind: Unreadable}
}
