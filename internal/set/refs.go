package set

import (
	"errors"
	"maps"
	"slices"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/store/reflog"
)

// laneDamage is positions of a lane whose references cannot be read.
type laneDamage struct {
	key    reflog.Key
	lo, hi uint64
}

// foundRefs asks the others for references that cannot be read here.
func (s *scrubber) foundRefs(r *Replica, lanes []laneDamage) {
	for _, d := range lanes {
		s.stats.Damaged++
		if d.lo == d.hi {
			r.checkpoint.want(1)
			continue
		}
		r.log.Error("references are damaged", "shard", d.key.Shard, "lane", d.key.Lane, "from", d.lo, "to", d.hi)
		r.FetchRefs(d.key, d.lo, d.hi, func(error) {}) // what cannot be had the next pass finds again
	}
}

// FetchRefs has references of positions [lo, hi), which the machine found damaged, repaired: by another replica that can read them, or else
// from what all together have of them. done is called on the driver's goroutine. ErrLost says that there is no more to be had than the machine
// has by now, ErrUnsure that this is not known, because not every replica that may have it could be asked, or because the only replica's file may
// be put back.
func (r *Replica) FetchRefs(key reflog.Key, lo, hi uint64, done func(error)) {
	refs, ok := r.machine.(References)
	if !ok {
		done(ErrUnsure)
		return
	}
	f := &refsFetch{r: r, refs: refs, laneDamage: laneDamage{key, lo, hi}, done: done, wrecks: map[cmq.NodeID][]byte{}}
	if len(r.others()) == 0 {
		f.salvage(true)
		return
	}
	f.ask(lo)
}

// refsFetch is a FetchRefs under way.
type refsFetch struct {
	laneDamage
	r      *Replica
	refs   References
	runs   []reflog.Run // of a replica that has all, so far
	some   []reflog.Run // that others could read
	wrecks map[cmq.NodeID][]byte
	done   func(error)
}

// ask asks for the positions from from on. All that can be damaged is in the newest image here; who has not applied so much may lack some of it
// without knowing.
func (f *refsFetch) ask(from uint64) {
	ask := Ask{Kind: AskRefs, Shard: f.key.Shard, Lane: f.key.Lane, Lo: from, Hi: f.hi, Anchor: f.r.storage.image.Index}
	f.r.ask(&question{Ask: ask, rounds: 2, partly: f.partly, done: func(_ Now, _ cmq.NodeID, a *Answer, sure bool) {
		if a == nil {
			f.salvage(sure)
			return
		}
		f.runs = append(f.runs, a.Runs...)
		if n := len(a.Runs); n >= maxAskedRuns {
			last := a.Runs[n-1]
			f.ask(last.Seq + uint64(last.N))
			return
		}
		f.refs.RepairRefs(f.key, f.lo, f.hi, f.runs)
		f.r.checkpoint.want(1)
		f.done(nil)
	}})
}

// partly keeps what a replica has that cannot read all.
func (f *refsFetch) partly(from cmq.NodeID, a *Answer) {
	if _, again := f.wrecks[from]; again || len(a.Runs) == 0 && len(a.Data) == 0 {
		return
	}
	f.some, f.wrecks[from] = append(f.some, a.Runs...), a.Data
}

// salvage puts together what there is. sure says that every other replica has said what it has.
func (f *refsFetch) salvage(sure bool) {
	runs := append(f.some, f.runs...)
	wrecks := make([][]byte, 0, len(f.wrecks))
	for _, node := range slices.Sorted(maps.Keys(f.wrecks)) {
		wrecks = append(wrecks, f.wrecks[node])
	}
	f.r.jobs = append(f.r.jobs, &Job{
		Class: Reader, Bytes: chunkBytes,
		run:  func() error { return f.refs.SalvageRefs(f.key, f.lo, f.hi, runs, wrecks) },
		done: func(_ Now, err error) { f.salvaged(err, sure) },
	})
}

func (f *refsFetch) salvaged(err error, sure bool) {
	var damage *reflog.DamageError
	switch {
	case err == nil:
		f.r.log.Info("references that no replica could read were put together from what is left of them", "shard", f.key.Shard, "lane", f.key.Lane, "from", f.lo, "to", f.hi)
		f.r.checkpoint.want(1)
		f.done(nil)
	case errors.As(err, &damage) && sure && !(damage.Whole && f.r.storage.store.MayBePutBack(damage.File)):
		f.done(ErrLost)
	default:
		f.done(ErrUnsure)
	}
}
