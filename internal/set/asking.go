package set

import (
	"slices"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

const (
	// chunkBytes is about how much one answer carries.
	chunkBytes = 1 << 20
	// askPatience is how long an answer may take, from a peer whose disk is busy; then another is asked.
	askPatience = time.Second
	// askPause is how long to wait when nobody could answer.
	askPause = 500 * time.Millisecond
	// maxQuick is how many questions that somebody waits for are out at a time.
	maxQuick = 8
)

// asker asks the other replicas for what this one lacks. One question for much data is out at a time, so that a replica
// being filled takes no more than one answer's memory of anybody and the rate is easy to hold; the few that a receive waits
// for do not queue behind it. A peer that is silent or does not have it is left for the next; who goes through all of
// them in vain waits a little and begins again, as long as the question has patience.
type asker struct {
	lastID uint64        // of a question; the upper half is Config.Life
	open   []*question   // in the order given
	free   time.Duration // when the next question for much data may go
}

// question is an Ask on its way to somebody who knows.
type question struct {
	Ask
	quick  bool         // small, and somebody waits for it
	only   cmq.NodeID   // 0: whoever has it
	first  cmq.NodeID   // who is asked first, 0: anybody
	rounds int          // how often everybody is asked; 0: for ever
	peers  []cmq.NodeID // still to be asked in this round
	never  int          // how many of this round's peers are whole and do not have it
	round  int
	to     cmq.NodeID    // who has it now
	since  time.Duration // when that one was asked, or until when to wait
	// done takes the answer; nil if there is none. sure: everybody who was to be asked is whole and does not have it.
	done func(now Now, from cmq.NodeID, a *Answer, sure bool)
	// partly, if not nil, is told of answers by which somebody does not have it: there may be something in them all the same.
	partly func(from cmq.NodeID, a *Answer)
}

// ask opens a question. It goes out with the next Ready.
func (r *Replica) ask(q *question) *question {
	r.asker.lastID++
	q.ID = r.asker.lastID
	q.round = -1
	r.asker.open = append(r.asker.open, q)
	return q
}

// cancel closes a question whose answer nobody wants any more; nil is none.
func (k *asker) cancel(q *question) {
	k.open = slices.DeleteFunc(k.open, func(o *question) bool { return o == q })
}

// run sends the questions whose turn it is. It is called by each Ready.
func (k *asker) run(r *Replica, now Now) {
	bulk, quick := 0, 0
	for _, q := range slices.Clone(k.open) {
		if !slices.Contains(k.open, q) {
			continue // closed by what another one brought about
		}
		if q.quick {
			quick++
		} else {
			bulk++
		}
		if q.quick && quick > maxQuick || !q.quick && bulk > 1 {
			continue
		}
		k.send(r, now, q)
	}
}

// send brings one question forward.
func (k *asker) send(r *Replica, now Now, q *question) {
	if q.to != 0 && now.Mono < q.since+askPatience || q.to == 0 && now.Mono < q.since || !q.quick && now.Mono < k.free {
		return
	}
	if len(q.peers) == 0 && !k.nextRound(r, now, q) {
		return
	}
	q.to, q.since = q.peers[0], now.Mono
	q.peers = q.peers[1:]
	ask := q.Ask
	r.envelopes = append(r.envelopes, r.envelope(now, q.to, Message{Ask: &ask}))
}

// nextRound begins to ask everybody again. It reports false if there is nobody, it is too early or patience has ended.
func (k *asker) nextRound(r *Replica, now Now, q *question) bool {
	q.to = 0
	all := r.others()
	if q.round >= 0 {
		sure := q.never > 0 && q.never == len(q.order(all))
		if q.rounds > 0 && (q.round+1 >= q.rounds || sure) {
			k.cancel(q)
			q.done(now, 0, nil, sure)
			return false
		}
	}
	q.round++
	q.never = 0
	if q.peers = q.order(all); len(q.peers) == 0 {
		q.since = now.Mono + askPause
		return false
	}
	if q.round > 0 {
		q.since = now.Mono + askPause
		return false
	}
	return true
}

// order is whom to ask in a round: the one who is asked first, then the others, beginning at another each time.
func (q *question) order(all []cmq.NodeID) []cmq.NodeID {
	if q.only != 0 {
		return []cmq.NodeID{q.only}
	}
	if len(all) == 0 {
		return nil
	}
	n := (uint32(q.ID) + uint32(max(q.round, 0))) % uint32(len(all))
	out := slices.Concat(all[n:], all[:n])
	if i := slices.Index(out, q.first); i > 0 {
		out = slices.Concat(out[i:i+1], out[:i], out[i+1:])
	}
	return out
}

// answered takes an answer of a peer.
func (k *asker) answered(r *Replica, now Now, from cmq.NodeID, a *Answer) {
	i := slices.IndexFunc(k.open, func(q *question) bool { return q.ID == a.ID && q.to == from && q.Kind == a.Kind })
	if i < 0 {
		return // it came too late
	}
	q := k.open[i]
	if a.Verdict != Here {
		if a.Verdict == Never {
			q.never++
		}
		if q.partly != nil {
			q.partly(from, a)
		}
		q.to, q.since = 0, now.Mono
		return
	}
	k.cancel(q)
	if !q.quick {
		k.pace(r, now, answerBytes(a))
	}
	q.done(now, from, a, false)
}

// pace holds the next question for much data back as long as this answer may take at the rate allowed.
func (k *asker) pace(r *Replica, now Now, bytes int) {
	k.free = max(k.free, now.Mono) + time.Duration(bytes)*time.Second/time.Duration(r.cfg.FetchRate)
}

func answerBytes(a *Answer) int {
	n := len(a.Data) + 32*len(a.Runs)
	for _, e := range a.Entries {
		n += len(e.Data)
	}
	for i := range a.Messages {
		n += len(a.Messages[i].Body)
	}
	return n
}

// wake is when run may have something to do though nothing arrives; 0 for never.
func (k *asker) wake(now Now) time.Duration {
	var at time.Duration
	bulk := false
	for _, q := range k.open {
		if !q.quick && bulk {
			continue
		}
		t := q.since
		if q.to != 0 {
			t += askPatience
		}
		if !q.quick {
			bulk = true
			t = max(t, k.free)
		}
		if at == 0 || t < at {
			at = t
		}
	}
	return at
}

// others are the other replicas of the set.
func (r *Replica) others() []cmq.NodeID {
	var out []cmq.NodeID
	for _, list := range [][]uint64{r.conf.GetVoters(), r.conf.GetVotersOutgoing(), r.conf.GetLearners()} {
		for _, id := range list {
			if id := cmq.NodeID(id); id != r.id && !slices.Contains(out, id) {
				out = append(out, id)
			}
		}
	}
	if r.conf == nil {
		for _, id := range r.cfg.Replicas {
			if id != r.id {
				out = append(out, id)
			}
		}
	}
	slices.Sort(out)
	return out
}
