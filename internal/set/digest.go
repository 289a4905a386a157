package set

import (
	"fmt"
	"slices"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

const (
	// digestEvery is at which indexes replicas compare their states.
	digestEvery = 1000
	// digestsKept is for how many of those indexes sums are remembered: a replica that far behind the others is not
	// compared until it has caught up.
	digestsKept = 64
	// digestRepeat is how often the newest sum is told again, because messages get lost.
	digestRepeat = 2 * time.Second
)

// digests compares the states of the replicas. Machines are deterministic, so at equal index they must have equal sums. The
// one whose sum is not that of a majority of the voters is fenced: it does not take part until it has the state of
// another. If there is no majority although everybody's sum is known, nobody knows who is right, and all stop.
type digests struct {
	sums  map[uint64]map[cmq.NodeID]uint64 // by index; the own sum too
	own   uint64                           // newest index with an own sum
	told  time.Duration
	mixed uint64 // newest index at which others differ, already logged
}

// applied notes the own sum when its index has come.
func (d *digests) applied(r *Replica, index uint64) {
	if index%digestEvery != 0 {
		return
	}
	d.own = index
	d.note(index, r.id, r.machine.Digest())
	d.told = 0
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

// tick tells the others the newest own sum, at once and then now and again until theirs are known.
func (d *digests) tick(r *Replica, now Now) {
	if d.own == 0 || d.told != 0 && (now.Mono-d.told < digestRepeat || len(d.sums[d.own]) > len(r.others())) {
		return
	}
	again := d.told != 0
	d.told = now.Mono
	for _, id := range r.others() {
		r.envelopes = append(r.envelopes, r.envelope(now, id, Message{Digest: &Digest{Index: d.own, Sum: d.sums[d.own][r.id]}}))
	}
	d.compare(r, now, d.own, again)
}

// heard takes the sum of another replica. One that tells an older sum than the newest does not know ours of that index; it
// is told again.
func (d *digests) heard(r *Replica, now Now, from cmq.NodeID, m Digest) {
	if m.Index%digestEvery != 0 || m.Index+digestsKept*digestEvery < d.own || m.Index > d.own+digestsKept*digestEvery {
		return
	}
	_, known := d.sums[m.Index][from]
	d.note(m.Index, from, m.Sum)
	if sum, ok := d.sums[m.Index][r.id]; ok && !known && m.Index < d.own {
		r.envelopes = append(r.envelopes, r.envelope(now, from, Message{Digest: &Digest{Index: m.Index, Sum: sum}}))
	}
	d.compare(r, now, m.Index, false)
}

// compare judges the sums of one index. late: those that are missing should be here by now.
func (d *digests) compare(r *Replica, now Now, index uint64, late bool) {
	at := d.sums[index]
	own, ok := at[r.id]
	if !ok || r.rn == nil {
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
		return
	}
	for _, v := range voters {
		if sum, ok := at[cmq.NodeID(v)]; ok && 2*count[sum] > len(voters) {
			agree = append(agree, cmq.NodeID(v))
		}
	}
	switch {
	case slices.Contains(agree, r.id):
		if index > d.mixed {
			d.mixed = index
			r.log.Error("another replica's state differs from the majority's; it will be filled again", "index", index)
		}
	case len(agree) > 0 && at[agree[0]] != own:
		r.fence(now, index, agree)
	case known == len(voters):
		r.fail(fmt.Errorf("the states of all replicas differ at index %d and none has a majority: the set stops, because nobody can tell which is right; "+
			"keep the data directories and restore one that is known to be good on every node", index))
	case late && index > d.mixed:
		d.mixed = index
		r.log.Error("the states of replicas differ; waiting for a majority to tell which is right", "index", index)
	}
}

// forget drops what was noted before the state was replaced by another's.
func (d *digests) forget(self cmq.NodeID) {
	for _, at := range d.sums {
		delete(at, self)
	}
	d.own = 0
}
