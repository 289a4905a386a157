package set

import (
	"slices"
	"time"
)

const (
	// slowFactor and slowFor say when a leader's disk is so much slower than the others' that one of those should lead;
	// slowFloor is what is fast enough in any case.
	slowFactor = 5
	slowFor    = 2 * time.Second
	slowFloor  = 5 * time.Millisecond
	// slowLeast is how many slow writes it takes in any case, so that two hiccups of a leader with little to write are none.
	slowLeast = 3
	// slowRest is how long a leader waits that has tried to hand over, before it tries again.
	slowRest = 10 * time.Second
	// syncsKept is of how many synced writes the median is taken at most, and syncsLeast at least: under load the latest ones
	// tell it within a moment, and a disk that is written to seldom is not judged by how it was long ago.
	syncsKept  = 31
	syncsLeast = 5
)

// pace is how long a disk takes for synced writes.
type pace struct {
	syncs  [syncsKept]synced // the latest, a ring
	n      int               // how many there have been
	median time.Duration     // of those of the last slowFor, or of the latest syncsLeast; 0: there have been fewer
}

// synced is one write.
type synced struct{ ended, took time.Duration }

// note takes a write that has just ended.
func (p *pace) note(ended, took time.Duration) {
	p.syncs[p.n%syncsKept] = synced{ended, took}
	p.n++
	if p.n < syncsLeast {
		return
	}
	var took31 [syncsKept]time.Duration
	latest := took31[:0]
	for i := 1; i <= min(p.n, syncsKept); i++ {
		if s := p.syncs[(p.n-i)%syncsKept]; i <= syncsLeast || ended-s.ended <= slowFor {
			latest = append(latest, s.took)
		}
	}
	slices.Sort(latest)
	p.median = latest[len(latest)/2]
}

// drag tells since when most writes have been slow. A slow write adds one and a fast one takes one away, so a disk that
// answers quickly now and then stays slow, and one that hesitates now and then stays fast.
type drag struct {
	score int           // at most slowMost
	began time.Duration // when the write began with which the score left 0
	ended time.Duration // when the newest slow one ended
	tried time.Duration // when handing over was tried last; 0: never
}

// slowMost bounds the score: after so many fast writes in a row a disk is fast again, whatever it was.
const slowMost = 8

func (d *drag) note(began, ended time.Duration, slow bool) {
	switch {
	case slow && d.score == 0:
		d.score, d.began, d.ended = 1, began, ended
	case slow:
		d.score, d.ended = min(d.score+1, slowMost), ended
	case d.score > 0:
		d.score--
	}
}

// lasts reports whether writes have been slow for slowFor; out tells that the one that is out is slow already.
func (d *drag) lasts(now time.Duration, out bool) bool {
	score, ended := d.score, d.ended
	if out {
		score, ended = score+1, now
	}
	return d.score > 0 && score >= slowLeast && ended-d.began >= slowFor
}

// try reports whether to try handing over now.
func (d *drag) try(now time.Duration) bool {
	if d.tried != 0 && now-d.tried < slowRest {
		return false
	}
	d.tried = now
	return true
}
