package sim

import (
	"time"

	"github.com/opencmq/cmq/internal/check"
	"github.com/opencmq/cmq/internal/cmq"
)

// knobs are sizes and rates of one seed. Small ones make rare things common: a new segment every few entries, an image
// and a snapshot all the time, a queue that is always full.
type knobs struct {
	sets        int
	disk        time.Duration // latency of a fast disk write
	imageBytes  int
	segmentSize int64
	cacheBytes  int64
	tailBytes   int64 // of references that stay in the image; 0: the default, which no run fills
	maxBody     int
	think       time.Duration // average pause of a client
	producers   int           // for each queue
	consumers   int
	clears      bool // queues are cleared now and then, which hides losses
	tidy        bool // nearly everything is deleted soon, so that the log's beginning can be dropped
}

func newKnobs(cfg Config) knobs {
	s := newStream(cfg.Seed, "knobs")
	k := knobs{
		sets:        1 + s.IntN(2),
		disk:        pick(s, []time.Duration{50 * time.Microsecond, 300 * time.Microsecond, 2 * time.Millisecond}),
		imageBytes:  pick(s, []int{1 << 10, 4 << 10, 16 << 10, 1 << 20}),
		segmentSize: pick(s, []int64{4 << 10, 16 << 10, 64 << 10}),
		cacheBytes:  pick(s, []int64{1, 4 << 10, 1 << 20}),
		maxBody:     pick(s, []int{16, 300, 3000}),
		think:       pick(s, []time.Duration{60 * time.Millisecond, 150 * time.Millisecond, 400 * time.Millisecond}),
		producers:   1 + s.IntN(2),
		consumers:   1 + s.IntN(3),
		clears:      s.chance(25),
		tidy:        s.chance(50),
	}
	k.tailBytes = pick(s, []int64{0, 1})
	if k.tidy {
		k.imageBytes, k.segmentSize = min(k.imageBytes, 4<<10), min(k.segmentSize, 16<<10)
		k.think = min(k.think, 150*time.Millisecond)
	}
	return k
}

// Limits of what clients ask for; the end of a run waits that long.
const (
	maxLock  = 1500 * time.Millisecond
	maxDelay = 1500 * time.Millisecond
	minLock  = 100 * time.Millisecond
)

// queue is one queue of the run.
type queue struct {
	w       *world
	name    string
	id      cmq.QueueID
	shard   cmq.ShardID
	set     cmq.SetID
	attrs   cmq.ShardAttributes
	version uint64
	dead    *queue  // its dead-letter queue
	delays  bool    // half of its messages are delayed
	load    bool    // has producers
	fed     bool    // by a subscription
	push    *outlet // it is that of a subscription which pushes
	open    bool
	idle    bool // a subscription that pushes has nothing left

	handles []cmq.Handle        // given out lately, for clients that use old ones
	sent    map[cmq.MsgID]int64 // when what was received from it was sent
	drained bool

	prepared  []cmq.MsgID // ever
	confirmed []cmq.MsgID // of these, those decided about at the end
	decided   bool        // about all of them, at the end
}

// plain are the attributes all queues begin with.
func plain() cmq.ShardAttributes {
	return cmq.ShardAttributes{
		MaxMsgHeapNum: 1_000_000, VisibilityTimeout: time.Second, MsgRetention: time.Hour, MaxInFlight: cmq.DefaultMaxInFlight,
	}
}

// makeQueues chooses the queues of the seed: always a plain one, each other kind in half of the seeds.
func (w *world) makeQueues() {
	s := newStream(w.cfg.Seed, "queues")
	add := func(name string) *queue {
		q := &queue{w: w, name: name, id: cmq.QueueID(len(w.queues) + 1), attrs: plain(), load: true, version: 1}
		q.shard = q.id.Shard(0)
		q.set = cmq.SetID(1 + s.IntN(w.knobs.sets))
		w.queues = append(w.queues, q)
		return q
	}
	deadFor := func(q *queue) {
		q.dead = add(q.name + " dead")
		q.dead.load = false
		q.attrs.DeadLetter.Queue = q.dead.id
	}
	q := add("plain")
	if s.chance(30) {
		q.attrs.MaxInFlight = 3
	}
	if s.chance(30) {
		q.attrs.MaxMsgHeapNum = 20
	}
	if s.chance(50) {
		add("delayed").delays = true
	}
	if s.chance(50) {
		q := add("rewound")
		q.attrs.Rewind = pick(s, []time.Duration{2 * time.Second, time.Hour})
		if w.knobs.tidy {
			q.attrs.Rewind = time.Second
		}
		q.delays = s.chance(30)
	}
	if s.chance(50) {
		q := add("sold")
		q.attrs.Transaction = cmq.TransactionPolicy{
			On: true, FirstQueryInterval: s.between(50*time.Millisecond, time.Second).Truncate(time.Millisecond), MaxQueryCount: 1 + s.IntN(4),
		}
		if s.chance(30) {
			q.attrs.Rewind = time.Hour
		}
	}
	if s.chance(50) {
		q := add("worn")
		deadFor(q)
		q.attrs.DeadLetter.Policy, q.attrs.DeadLetter.MaxReceiveCount = cmq.PolicyReceives, 1+s.IntN(3)
	}
	if s.chance(30) {
		q := add("aged")
		deadFor(q)
		q.attrs.DeadLetter.Policy, q.attrs.DeadLetter.MaxTimeToLive = cmq.PolicyAge, s.between(time.Second, 3*time.Second)
	}
	if s.chance(30) {
		q := add("short")
		q.attrs.MsgRetention = s.between(2*time.Second, 5*time.Second)
	}
	if s.chance(50) {
		w.makeTopics(s, func(name string) *queue {
			q := add(name)
			q.load, q.fed = false, true
			return q
		})
	}
	w.makePushes(add)
}

func (w *world) queueByID(id cmq.QueueID) *queue {
	if id == 0 || int(id) > len(w.queues) {
		return nil
	}
	return w.queues[id-1]
}

// settings are the attributes as the checker wants them.
func (q *queue) settings() *check.Settings {
	s := &check.Settings{Retention: q.attrs.MsgRetention, Rewind: q.attrs.Rewind, Fed: q.fed}
	if q.push != nil {
		s.Schedule = q.push.schedule()
	}
	if q.dead == nil {
		return s
	}
	s.DeadLetter = q.dead.name
	if q.attrs.DeadLetter.Policy == cmq.PolicyAge {
		s.MaxAge = q.attrs.DeadLetter.MaxTimeToLive
	} else {
		s.MaxReceives = q.attrs.DeadLetter.MaxReceiveCount
	}
	return s
}
