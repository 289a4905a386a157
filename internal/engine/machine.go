package engine

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/broker"
	"github.com/opencmq/cmq/internal/core/command"
	"github.com/opencmq/cmq/internal/set"
	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/store/reflog"
	"github.com/opencmq/cmq/internal/vfs"
)

// Config says what a Machine needs.
type Config struct {
	Set    cmq.SetID
	Node   cmq.NodeID
	Logger *slog.Logger

	// FS and Dir are where the files of references are, and Refs how they are kept.
	FS   vfs.FS
	Dir  string
	Refs reflog.Options

	// Messages reads messages from this replica's files and gives them, or why they cannot be given, to got, in any
	// order; i is the place in refs. Neighbours that lie in one entry are best read together. store.ErrGone says that
	// no file has the message. It is called from any goroutine.
	Messages func(refs []store.Ref, got func(i int, msg store.Message, err error))
	// Fetch asks the other replicas for messages that this one cannot read, and keeps those it gets. done is called on the loop
	// with what came; the error is set.ErrLost if no replica has the rest, another if that could not be found out now.
	Fetch func(refs []store.Ref, done func(got []store.Message, err error))
	// RepairRefs has references of positions [lo, hi), which are damaged here, repaired with what the other replicas have: through the
	// machine's RepairRefs or SalvageRefs. done is called on the loop; with set.ErrLost if what is not readable then is lost. Nil: there is
	// nobody who could.
	RepairRefs func(key reflog.Key, lo, hi uint64, done func(error))
	// Go runs work on another goroutine and then on the loop, never before it returns; or not at all if the loop ends
	// before.
	Go func(work, then func())
	// Exec runs call on the loop and waits for it; false if the loop has ended.
	Exec func(call func()) bool

	// Read calls back on the loop when everything committed before the call is applied, or with an error.
	Read func(done func(err error))
	// OnDead is told on the leader that a shard has messages waiting for its dead-letter queue, or that an outbox of a topic has
	// some for its queue (topic 0: it is none). All outboxes that one entry put messages into are told of in a row. It must not block.
	OnDead func(shard, topic cmq.ShardID)
	// Wall is the local wall clock in milliseconds; only the mutant RetentionByWallClock asks for it.
	Wall func() int64
}

func (c *Config) options() broker.Options { return broker.Options{Replica: uint64(c.Node)} }

// Machine is the state machine of one data set and its leader's side. All methods belong to the goroutine that
// drives the set's replica, unless they say otherwise.
type Machine struct {
	cfg   Config
	b     *broker.Broker
	refs  atomic.Pointer[reflog.Log] // replaced by Restore only
	out   broker.Output
	stats Stats
	space set.Space
	image *imageJob  // being made
	mends []*mend    // results that wait for other replicas
	said  []lostRefs // those it was logged of that messages are deleted

	leading bool
	term    uint64
	now     int64 // cluster time of the newest input on the leader
	builder *command.Builder
	entry   []byte // what Cut gave last
	number  uint64 // of the newest entry cut
	queue   callQueue
	pending []cut
	shards  map[cmq.ShardID]*shard
	alarms  alarms
}

// New makes the machine of an empty set.
func New(cfg Config) *Machine {
	if cfg.FS != nil {
		cfg.FS = store.Readable(cfg.FS, cfg.Logger)
	}
	m := &Machine{cfg: cfg, builder: command.NewBuilder(), shards: make(map[cmq.ShardID]*shard)}
	m.empty()
	return m
}

// empty makes the machine that of an empty set.
func (m *Machine) empty() {
	m.b = broker.New(m.cfg.Set, m.cfg.options())
	m.refs.Store(reflog.New(m.cfg.FS, m.cfg.Dir, m.cfg.Refs))
}

// Stats counts what the machine has done; the counters may be read at any time.
func (m *Machine) Stats() *Stats { return &m.stats }

// Broker is the replicated state, for the simulator's and the operator's eyes; it must not be changed.
func (m *Machine) Broker() *broker.Broker { return m.b }

// Lead implements set.Machine.
func (m *Machine) Lead(term uint64) {
	m.leading, m.term = true, term
	// What this replica took for the time when it led before may have been ahead of what was agreed on since.
	m.now = m.b.Time()
	m.forgetLocks()
	m.revealPrepared()
	m.b.Shards(func(id cmq.ShardID) bool {
		s := m.shard(id)
		m.housekeep(s)
		m.announceDead(s)
		m.watchUndecided(s)
		return true
	})
}

// Follow implements set.Machine.
func (m *Machine) Follow() {
	m.leading = false
	waiting := m.queue.calls
	m.queue = callQueue{}
	shards := m.shards
	m.shards = make(map[cmq.ShardID]*shard)
	m.alarms.clear()
	m.stats.Undecided.Store(0)
	err := &cmq.NotLeaderError{Set: m.cfg.Set}
	for _, c := range waiting {
		c.finish(nil, err)
	}
	for _, id := range sortedShards(shards) {
		for _, c := range shards[id].calls() {
			c.finish(nil, err)
		}
	}
}

// Close implements set.Machine: entries that are out may or may not be stored.
func (m *Machine) Close() {
	m.Follow()
	m.abandon()
	for len(m.mends) > 0 {
		m.mends[0].end(cmq.ErrStopping)
	}
}

// abandon ends the calls of entries that are out: what became of them will not be seen here.
func (m *Machine) abandon() {
	pending := m.pending
	m.pending = nil
	for i := range pending {
		for _, c := range pending[i].calls {
			c.finish(nil, cmq.ErrUnknownOutcome)
		}
	}
}

// Time implements set.Machine.
func (m *Machine) Time() int64 { return m.b.Time() }

// Digest implements set.Machine.
func (m *Machine) Digest() uint64 { return m.b.Sum() }

// Waiting implements set.Machine.
func (m *Machine) Waiting() int { return m.queue.bytes }

// Wake implements set.Machine.
func (m *Machine) Wake() int64 { return m.alarms.next() }

// Due implements set.Machine.
func (m *Machine) Due(now int64) {
	m.now = max(m.now, now)
	m.alarms.due(m.now)
}

// keptEntry is the largest buffer of an entry that is kept for the next: that of any but a very large message.
const keptEntry = 1 << 20

// Cut implements set.Machine.
func (m *Machine) Cut(now int64, limit int) []byte {
	m.now = max(m.now, now)
	m.number++
	m.builder.Reset(uint64(m.cfg.Node), m.number)
	calls := make([]*Call, 0, m.queue.fitting(limit))
	n := 0
	for ; n < len(m.queue.calls); n++ { // the queue may grow meanwhile
		c := m.queue.calls[n]
		if n > 0 && m.builder.Size()+c.size > limit {
			break
		}
		added, full := m.add(c)
		if full {
			break
		}
		if added {
			calls = append(calls, c)
		}
	}
	m.queue.remove(n)
	if m.builder.Ops() == 0 {
		return nil
	}
	m.pending = append(m.pending, cut{number: m.number, term: m.term, calls: calls})
	if cap(m.entry) > keptEntry {
		m.entry = nil
	}
	m.entry = m.builder.Append(m.entry[:0], m.now)
	return m.entry
}

// add puts the call's operation into the entry, behind the housekeeping its shard needs first. It reports whether the
// call is in, and whether the entry is too full for it.
func (m *Machine) add(c *Call) (added, full bool) {
	s := m.shard(c.req.Shard)
	if c.gone && c.req.Kind == cmq.KindReceive {
		m.untake(c)
		c.finish(&Result{}, nil)
		return false, false
	}
	if c.gone && c.req.Kind == cmq.KindQueries {
		m.completeQueries(c, nil)
		m.ask(s)
		return false, false
	}
	op, refusal, later := m.operation(c, s)
	if refusal != nil {
		c.refuse(refusal)
	}
	if refusal != nil || later {
		return false, false
	}
	if !m.builder.Fits(&op) {
		return false, true
	}
	if op.Kind != command.Expire {
		m.addMarksOfShares(&op)
		complete := m.addMarks(s)
		if !complete && op.Kind == command.Receive && m.waits(c) {
			// Nothing is handed out that is past its retention.
			s.putAside(c)
			return false, false
		}
		if !m.builder.Fits(&op) {
			return false, true
		}
	}
	c.op = m.builder.Ops()
	m.builder.Add(op)
	return true, false
}

// Apply implements set.Machine.
func (m *Machine) Apply(index, term uint64, data []byte) {
	m.dropOlder(term)
	if data == nil {
		return
	}
	batch, err := command.Parse(data)
	if err != nil {
		panic(fmt.Sprintf("set %d: the entry at index %d cannot be applied: %v; a newer version of cmq may have written it", m.cfg.Set, index, err))
	}
	if err := m.b.Apply(index, batch, &m.out); err != nil {
		panic(fmt.Sprintf("set %d: the entry at index %d cannot be applied: %v", m.cfg.Set, index, err))
	}
	refs := m.refs.Load()
	for _, p := range m.out.Placed {
		k := reflog.Key{Shard: uint64(p.Shard), Lane: p.Lane}
		if p.Index != 0 {
			refs.Add(k, p.Seq, p.Index, p.Slot, p.N, m.b.Time(), p.Bytes)
			continue
		}
		refs.Add(k, p.Seq, index, p.Slot, p.N, m.b.Time(), batch.BodyBytes(p.Slot, p.N))
	}
	for _, id := range m.out.Dropped {
		refs.DropShard(uint64(id))
	}
	m.stats.Prepared.Store(m.b.Held())
	m.settle(index, term, batch.Header)
	if m.leading {
		m.afterApply()
	}
}

// dropOlder ends the calls of entries that can no longer be committed: an entry of a later term has been.
func (m *Machine) dropOlder(term uint64) {
	for len(m.pending) > 0 && m.pending[0].term < term {
		calls := m.pending[0].calls
		m.pending = m.pending[1:]
		for _, c := range calls {
			c.finish(nil, cmq.ErrDropped)
		}
	}
}

// settle gives the results of an entry to the calls it was made of, if this replica made it.
func (m *Machine) settle(index, term uint64, batch command.Header) {
	if len(m.pending) == 0 || batch.Proposer != uint64(m.cfg.Node) ||
		m.pending[0].number != batch.Number || m.pending[0].term != term {
		return
	}
	calls := m.pending[0].calls
	m.pending = m.pending[1:]
	next := 0
	for i := range m.out.Results {
		if next < len(calls) && calls[next].op == i {
			m.complete(calls[next], index, &m.out.Results[i])
			next++
		}
	}
}

// afterApply lets the leader look again at every shard the entry touched.
func (m *Machine) afterApply() {
	for i := range m.out.Placed {
		s := m.shard(m.out.Placed[i].Shard)
		s.marksAt = min(s.marksAt, m.firstExpiry(s.id, m.b.Time()))
	}
	for _, id := range m.out.Touched {
		s := m.shard(id)
		m.feed(s)
		m.ask(s)
		m.housekeep(s)
		m.announceDead(s)
		m.watchUndecided(s)
	}
	for _, id := range m.out.Dropped {
		m.dropView(id)
	}
}

func at(ms int64) time.Time { return time.UnixMilli(ms) }
