package dispatch

import (
	"sync"
	"time"

	"github.com/opencmq/cmq/internal/clock"
	"github.com/opencmq/cmq/internal/cmq"
)

// Attendance remembers which members of which groups are there: the processes of agents, each of which says so every few
// seconds. It is the memory of the node that leads set 0, and in no log: a leader that is new learns all of it within the
// time for which a member counts, and says until then that it does not know.
type Attendance struct {
	clock clock.Clock

	mu     sync.Mutex
	since  time.Duration                       // when everybody has been heard who is there; times are those of clock.Mono
	groups map[string]map[uint64]time.Duration // group → member → until when it counts
}

// MaxStay is the longest time for which a member counts, and the time after which a new leader knows who is there.
const MaxStay = 15 * time.Second

// mostMembers bounds what is remembered, of all groups together. Nobody has so many agents; a client that makes up members
// ends there.
const mostMembers = 10_000

// NewAttendance makes an empty one.
func NewAttendance(c clock.Clock) *Attendance {
	a := &Attendance{clock: c}
	a.Begin()
	return a
}

// Begin forgets everything: this node begins to lead.
func (a *Attendance) Begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.since, a.groups = a.clock.Mono()+MaxStay, make(map[string]map[uint64]time.Duration)
}

// Attend carries out a request of KindAttend.
func (a *Attendance) Attend(req *cmq.Request) *cmq.Reply {
	now := a.clock.Mono()
	group := string(req.Payload)
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case req.Number == 0:
	case req.Lock <= 0:
		a.leaveLocked(group, req.Number)
	default:
		a.enterLocked(group, req.Number, now, min(req.Lock, MaxStay))
	}
	reply := &cmq.Reply{Number: uint64(a.countLocked(group, now))}
	if now >= a.since {
		reply.Base = 1
	}
	return reply
}

// Count gives how many members of the group are there, and whether that is known.
func (a *Attendance) Count(group string) (n int, known bool) {
	reply := a.Attend(&cmq.Request{Payload: []byte(group)})
	return int(reply.Number), reply.Base == 1
}

// Members gives how many there are of all groups.
func (a *Attendance) Members() (n int) {
	now := a.clock.Mono()
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sizeLocked(now)
}

func (a *Attendance) enterLocked(group string, member uint64, now, stay time.Duration) {
	if _, known := a.groups[group][member]; !known && a.sizeLocked(now) >= mostMembers {
		return
	}
	if a.groups[group] == nil {
		a.groups[group] = make(map[uint64]time.Duration)
	}
	a.groups[group][member] = now + stay
}

func (a *Attendance) leaveLocked(group string, member uint64) {
	delete(a.groups[group], member)
	if len(a.groups[group]) == 0 {
		delete(a.groups, group)
	}
}

// countLocked counts who is there, and forgets who is not any more.
func (a *Attendance) countLocked(group string, now time.Duration) int {
	for member, until := range a.groups[group] {
		if now >= until {
			a.leaveLocked(group, member)
		}
	}
	return len(a.groups[group])
}

// sizeLocked is countLocked of all groups.
func (a *Attendance) sizeLocked(now time.Duration) (n int) {
	for group := range a.groups {
		n += a.countLocked(group, now)
	}
	return n
}
