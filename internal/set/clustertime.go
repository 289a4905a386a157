package set

import (
	"slices"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
)

// Now is one reading of the driver's clocks.
type Now struct {
	Mono time.Duration // monotonic, from any base; never stored or sent
	Wall int64         // Unix milliseconds
}

// maxSlew is how fast cluster time may run ahead of or behind the leader's monotonic clock while it is drawn
// towards the median wall clock: 500 ppm, so that a lock of 30 s is at most 15 ms short (rule T of
// reliability.md).
const maxSlew = 500

// clusterTime keeps one replica's estimate of cluster time.
//
// A leader advances it with its monotonic clock, slewed towards the median of the replicas' wall clocks. A follower
// keeps the last value heard and its own monotonic clock at that moment; messages only travel forward in
// time, so the estimate can be late but never early. A replica is warm once it has heard or led in this process's
// lifetime; only when no replica of a quorum is warm do wall clocks decide.
type clusterTime struct {
	warm  bool
	base  time.Duration // cluster time since the Unix epoch, at mono
	mono  time.Duration
	slew  int64  // parts per million
	term  uint64 // of the leader whose time it is, the own one too
	peers map[cmq.NodeID]peerClock
}

// peerClock is what one message told about its sender's clocks.
type peerClock struct {
	mono time.Duration // ours, when it was heard
	wall int64
	time int64 // 0: the sender was not warm
}

func millis(ms int64) time.Duration { return time.Duration(ms) * time.Millisecond }

// at is the estimate in milliseconds, 0 while there is none.
func (c *clusterTime) at(now Now) int64 {
	if !c.warm {
		return 0
	}
	return c.exact(now).Milliseconds()
}

func (c *clusterTime) exact(now Now) time.Duration {
	elapsed := max(now.Mono-c.mono, 0)
	return c.base + elapsed + elapsed/1_000_000*time.Duration(c.slew)
}

// heard takes over the value of the leader of a term. What an older one said does not count any more.
func (c *clusterTime) heard(ms int64, term uint64, now Now) {
	if term >= c.term {
		c.warm, c.base, c.mono, c.slew, c.term = true, millis(ms), now.Mono, 0, term
	}
}

// forget makes a replica cold that has entries of a leader that it did not hear: its own estimate may be early by that one's.
func (c *clusterTime) forget(term uint64) {
	if c.term < term {
		c.warm = false
	}
}

func (c *clusterTime) peer(id cmq.NodeID, m *Message, now Now) {
	if c.peers == nil {
		c.peers = make(map[cmq.NodeID]peerClock)
	}
	p := peerClock{mono: now.Mono, wall: m.Wall}
	if m.Warm {
		p.time = m.Time
	}
	c.peers[id] = p
}

// start fixes the value the leader of a new term begins with; floor is the time of the newest batch applied. It reports
// false while a cold leader has not yet heard from a quorum of the voters.
func (c *clusterTime) start(now Now, term uint64, self cmq.NodeID, voters []uint64, floor int64) bool {
	if !c.warm && !c.warmUp(now, self, voters) {
		return false
	}
	at := max(c.exact(now), millis(floor))
	c.base, c.mono, c.term = at, now.Mono, term
	return true
}

func (c *clusterTime) warmUp(now Now, self cmq.NodeID, voters []uint64) bool {
	walls := []int64{now.Wall}
	var best int64
	for _, v := range voters {
		p, ok := c.peers[cmq.NodeID(v)]
		if cmq.NodeID(v) == self || !ok {
			continue
		}
		elapsed := (now.Mono - p.mono).Milliseconds()
		walls = append(walls, p.wall+elapsed)
		if p.time != 0 {
			best = max(best, p.time+elapsed)
		}
	}
	if len(walls) <= len(voters)/2 {
		return false
	}
	if best == 0 {
		slices.Sort(walls)
		best = walls[(len(walls)-1)/2]
	}
	c.warm, c.base, c.mono = true, millis(best), now.Mono
	return true
}

// steer chooses the slew for the time until the next call: towards the median of the wall clocks heard of.
func (c *clusterTime) steer(now Now) {
	walls := append(make([]int64, 0, 8), now.Wall)
	for _, p := range c.sortedPeers() {
		if age := now.Mono - p.mono; age < 10*time.Second {
			walls = append(walls, p.wall+age.Milliseconds())
		}
	}
	slices.Sort(walls)
	at := c.exact(now)
	switch offset := millis(walls[(len(walls)-1)/2]) - at; {
	case offset > time.Millisecond:
		c.slew = maxSlew
	case offset < -time.Millisecond:
		c.slew = -maxSlew
	default:
		c.slew = 0
	}
	c.base, c.mono = at, now.Mono
}

func (c *clusterTime) sortedPeers() []peerClock {
	ids := make([]cmq.NodeID, 0, len(c.peers))
	for id := range c.peers {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	out := make([]peerClock, 0, len(ids))
	for _, id := range ids {
		out = append(out, c.peers[id])
	}
	return out
}
