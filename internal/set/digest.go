package set

import (
	"fmt"
	"slices"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/mutant"
)

const (
	// digestEvery is at which indexes replicas compare their states without being asked.
	digestEvery = 1000
	// digestPause is after what time the leader has them compared at one more index, if there were fewer entries: a wrong state
	// is found within seconds also where little happens.
	digestPause = 2 * time.Second
	// sumsKept is of how many of its latest entries a replica knows the sums: when the leader's choice arrives it is behind
	// that index, or ahead by what was committed meanwhile.
	sumsKept = 1024
	// digestsKept is for how many indexes the sums of all are remembered: a replica that far behind the others is not
	// compared until it has caught up.
	digestsKept = 64
	// digestRepeat is how often the newest sum is told again, because messages get lost.
	digestRepeat = 2 * time.Second
	// digestDoubt is how old a sum may be that is still under way when all are asked again, because all differ.
	digestDoubt = digestRepeat / 2
)

// digests compares the states of the replicas. Machines are deterministic, so at equal index they must have equal sums. The
// one whose sum is not that of a majority of the voters is fenced: it does not take part until it has the state of
// another. If there is no majority although everybody's sum is known, all are told again: a replica that has been started
// since, or was filled, may have another state than the one whose sum it told. If there is none then either, nobody knows who
// is right, and all stop.
type digests struct {
	recent [sumsKept]Digest                 // own sums of the latest entries, by index modulo its length
	sums   map[uint64]map[cmq.NodeID]uint64 // of the indexes that are compared; the own sum too, once that entry is applied
	own    uint64                           // newest of them with an own sum
	told   time.Duration
	chosen time.Duration // when the leader last chose an index
	mixed  uint64        // newest index at which others differ, already logged
	split  time.Duration // since when no majority agrees; 0: one does, as far as is known
	fenced uint64        // how often this replica was the wrong one
}

// applied notes the own sum of an entry, and that its index has come if it is one that is compared.
func (d *digests) applied(r *Replica, index uint64) {
	sum := r.machine.Digest()
	d.recent[index%sumsKept] = Digest{index, sum}
	if _, asked := d.sums[index]; asked || index%digestEvery == 0 {
		d.take(r, index, sum)
	}
}

// take notes the own sum of an index that is compared; it is told at the next tick.
func (d *digests) take(r *Replica, index, sum uint64) {
	d.note(index, r.id, sum)
	if index > d.own {
		d.own, d.told = index, 0
	}
}

// sum is the own sum after an entry, if it is known: of one of the latest, or of the state as it is.
func (d *digests) sum(r *Replica, index uint64) (uint64, bool) {
	if s := d.recent[index%sumsKept]; s.Index == index && index > 0 {
		return s.Sum, true
	}
	if index == r.applied && index > 0 {
		return r.machine.Digest(), true
	}
	return 0, false
}

func (d *digests) note(index uint64, from cmq.NodeID, sum uint64) {
	if d.sums == nil {
		d.sums = make(map[uint64]map[cmq.NodeID]uint64)
	}
	at := d.sums[index]
	if at == nil {
		at = make(map[cmq.NodeID]uint64)
		d.sums[index] = at
	}
	at[from] = sum
	if len(d.sums) > digestsKept {
		lowest := index
		for i := range d.sums {
			lowest = min(lowest, i)
		}
		delete(d.sums, lowest)
	}
}

// tick chooses an index if it is time, and tells the others the newest own sum, at once and then now and again until theirs
// are known.
func (d *digests) tick(r *Replica, now Now) {
	d.choose(r, now)
	if d.own == 0 || d.told != 0 && (now.Mono-d.told < digestRepeat || len(d.sums[d.own]) > len(r.others())) {
		return
	}
	again := d.told != 0
	d.told = now.Mono
	for _, id := range r.others() {
		d.tell(r, now, id, d.own)
	}
	d.compare(r, now, d.own, again)
}

// choose has the states compared at the index that the leader has got to.
func (d *digests) choose(r *Replica, now Now) {
	if !r.leading || r.applied <= d.own || now.Mono-d.chosen < digestPause {
		return
	}
	d.chosen = now.Mono
	if sum, ok := d.sum(r, r.applied); ok {
		d.take(r, r.applied, sum)
	}
}

func (d *digests) tell(r *Replica, now Now, to cmq.NodeID, index uint64) {
	r.envelopes = append(r.envelopes, r.envelope(now, to, Message{Digest: &Digest{Index: index, Sum: d.sums[index][r.id]}}))
}

// heard takes the sum of another replica, and finds the own one of that index. One that tells an older sum than the newest
// does not know ours of that index; it is told again.
func (d *digests) heard(r *Replica, now Now, from cmq.NodeID, m Digest) {
	const far = digestsKept * digestEvery
	if m.Index == 0 || m.Index+far < r.applied || m.Index > r.applied+far {
		return
	}
	_, known := d.sums[m.Index][from]
	d.note(m.Index, from, m.Sum)
	if sum, ok := d.sum(r, m.Index); ok {
		d.take(r, m.Index, sum)
	}
	if _, ok := d.sums[m.Index][r.id]; ok && !known && m.Index < d.own {
		d.tell(r, now, from, m.Index)
	}
	d.compare(r, now, m.Index, false)
}

// compare judges the sums of one index. late: those that are missing should be here by now.
func (d *digests) compare(r *Replica, now Now, index uint64, late bool) {
	at := d.sums[index]
	own, ok := at[r.id]
	if !ok || r.rn == nil || mutant.On(mutant.StatesNotCompared) {
		return
	}
	voters := r.conf.GetVoters()
	count := make(map[uint64]int)
	var agree []cmq.NodeID // with the majority
	known := 0
	for _, v := range voters {
		if sum, ok := at[cmq.NodeID(v)]; ok {
			known++
			count[sum]++
		}
	}
	if len(count) < 2 && count[own] == known {
		if known == len(voters) {
			d.split = 0
		}
		return
	}
	for _, v := range voters {
		if sum, ok := at[cmq.NodeID(v)]; ok && 2*count[sum] > len(voters) {
			agree = append(agree, cmq.NodeID(v))
		}
	}
	if len(agree) > 0 {
		d.split = 0
	}
	switch {
	case slices.Contains(agree, r.id):
		if index > d.mixed {
			d.mixed = index
			r.log.Error("another replica's state differs from the majority's; it will be filled again", "index", index)
		}
	case len(agree) > 0 && at[agree[0]] != own:
		r.fence(now, index, agree)
	case known == len(voters) && (d.split == 0 || now.Mono < d.split+digestDoubt):
		d.askAgain(r, now, index)
	case known == len(voters):
		r.fail(fmt.Errorf("the states of all replicas differ at index %d and none has a majority: the set stops, because nobody can tell which is right; "+
			"keep the data directories and restore one that is known to be good on every node", index))
	case late && index > d.mixed:
		d.mixed = index
		r.log.Error("the states of replicas differ; waiting for a majority to tell which is right", "index", index)
	}
}

// askAgain forgets what the others told. They tell it again when digestRepeat has passed, as this replica does, if it still
// holds.
func (d *digests) askAgain(r *Replica, now Now, index uint64) {
	if d.split == 0 {
		d.split = now.Mono
		r.log.Error("the states of all replicas differ and none has a majority; asking all again", "index", index)
	}
	for _, at := range d.sums {
		for _, id := range r.others() {
			delete(at, id)
		}
	}
	d.told = now.Mono
}

// forget drops what was noted before the state was replaced by another's.
func (d *digests) forget(self cmq.NodeID) {
	for _, at := range d.sums {
		delete(at, self)
	}
	d.recent, d.own = [sumsKept]Digest{}, 0
}
