package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/broker"
	"github.com/opencmq/cmq/internal/core/command"
	"github.com/opencmq/cmq/internal/store/reflog"
)

// maxQueued is how many bytes of requests may wait for an entry; beyond it requests are refused as busy.
const maxQueued = 64 << 20

// Config says what a Machine needs.
type Config struct {
	Set    cmq.SetID
	Node   cmq.NodeID
	Logger *slog.Logger

	// Bodies returns the data of the raft entry with this index. It is called from any goroutine.
	Bodies func(index uint64) ([]byte, error)
	// Read calls back on the loop when everything committed before the call is applied, or with an error.
	Read func(done func(err error))
	// OnDead is told on the leader that a shard has messages waiting for its dead-letter queue. It must not block.
	OnDead func(shard cmq.ShardID)
}

func (c *Config) options() broker.Options { return broker.Options{Replica: uint64(c.Node)} }

// Machine is the state machine of one data set and its leader's side. All methods but Fill belong to the goroutine
// that drives the set's replica.
type Machine struct {
	cfg   Config
	b     *broker.Broker
	refs  *reflog.Log
	out   broker.Output
	time  int64 // of the newest batch applied
	stats Stats

	leading bool
	term    uint64
	now     int64 // cluster time of the newest input on the leader
	builder *command.Builder
	number  uint64 // of the newest entry cut
	queue   []*Call
	queued  int // bytes in queue
	pending []cut
	shards  map[cmq.ShardID]*shard
	alarms  alarms
}

// New makes the machine of an empty set.
func New(cfg Config) *Machine {
	return &Machine{
		cfg: cfg, b: broker.New(cfg.Set, cfg.options()), refs: reflog.New(),
		builder: command.NewBuilder(), shards: make(map[cmq.ShardID]*shard),
	}
}

// Stats counts what the machine has done; the counters may be read at any time.
func (m *Machine) Stats() *Stats { return &m.stats }

// Broker is the replicated state, for the simulator's and the operator's eyes; it must not be changed.
func (m *Machine) Broker() *broker.Broker { return m.b }

// Lead implements set.Machine.
func (m *Machine) Lead(term uint64) {
	m.leading, m.term = true, term
	// What this replica took for the time when it led before may have been ahead of what was agreed on since.
	m.now = m.time
	m.forgetLocks()
	m.b.Shards(func(id cmq.ShardID) bool {
		s := m.shard(id)
		m.housekeep(s)
		m.announceDead(s)
		return true
	})
}

// Follow implements set.Machine.
func (m *Machine) Follow() {
	m.leading = false
	waiting := m.queue
	m.queue, m.queued = nil, 0
	shards := m.shards
	m.shards = make(map[cmq.ShardID]*shard)
	m.alarms.clear()
	err := &cmq.NotLeaderError{Set: m.cfg.Set}
	for _, c := range waiting {
		c.finish(nil, err)
	}
	for _, id := range sortedShards(shards) {
		for _, c := range shards[id].parked {
			c.finish(nil, err)
		}
	}
}

// Close implements set.Machine: entries that are out may or may not be stored.
func (m *Machine) Close() {
	m.Follow()
	m.abandon()
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
func (m *Machine) Time() int64 { return m.time }

// Waiting implements set.Machine.
func (m *Machine) Waiting() int { return m.queued }

// Wake implements set.Machine.
func (m *Machine) Wake() int64 { return m.alarms.next() }

// Due implements set.Machine.
func (m *Machine) Due(now int64) {
	m.now = max(m.now, now)
	m.alarms.due(m.now)
}

// Cut implements set.Machine.
func (m *Machine) Cut(now int64, limit int) []byte {
	m.now = max(m.now, now)
	m.number++
	m.builder.Reset(uint64(m.cfg.Node), m.number)
	var calls []*Call
	n := 0
	for ; n < len(m.queue); n++ {
		c := m.queue[n]
		if n > 0 && m.builder.Size()+c.size > limit {
			break
		}
		added, full := m.add(c)
		if full {
			break
		}
		m.queued -= c.size
		if added {
			calls = append(calls, c)
		}
	}
	m.queue = append(m.queue[:0], m.queue[n:]...)
	if m.builder.Ops() == 0 {
		return nil
	}
	m.pending = append(m.pending, cut{number: m.number, term: m.term, calls: calls})
	return m.builder.Finish(m.now)
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
	op, refusal := m.operation(c, s)
	if refusal != nil {
		c.refuse(refusal)
		return false, false
	}
	if !m.builder.Fits(&op) {
		return false, true
	}
	if op.Kind != command.Expire {
		m.addMarks(s)
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
	m.time = max(m.time, batch.Time)
	for _, p := range m.out.Placed {
		m.refs.Add(reflog.Key{Shard: uint64(p.Shard), Lane: p.Lane}, p.Seq, index, p.Slot, p.N, m.time)
	}
	for _, id := range m.out.Dropped {
		m.refs.DropShard(uint64(id))
	}
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
	for _, id := range m.out.Touched {
		s := m.shard(id)
		m.feed(s)
		m.housekeep(s)
		m.announceDead(s)
	}
	for _, id := range m.out.Dropped {
		m.dropView(id)
	}
}

// imageVersion is the first byte of an image: version, time (8 bytes), length of the broker's part (8 bytes), broker,
// reflog.
const imageVersion = 1

// Image implements set.Machine.
func (m *Machine) Image() []byte {
	m.trimRefs()
	state := m.b.Encode()
	b := make([]byte, 0, len(state)+16*m.refs.Runs()+64)
	b = append(b, imageVersion)
	b = binary.LittleEndian.AppendUint64(b, uint64(m.time))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(state)))
	b = append(b, state...)
	return m.refs.AppendImage(b)
}

// Restore implements set.Machine. Empty data is the image of an empty set. Entries that are out may be in the image.
func (m *Machine) Restore(index uint64, data []byte) error {
	m.abandon()
	if len(data) == 0 {
		m.b, m.refs, m.time = broker.New(m.cfg.Set, m.cfg.options()), reflog.New(), 0
		return nil
	}
	if len(data) < 17 || data[0] != imageVersion {
		return errors.New("the image of the queues is of a version this program does not know, or damaged")
	}
	n := binary.LittleEndian.Uint64(data[9:])
	if n > uint64(len(data)-17) {
		return errors.New("the image of the queues is cut off")
	}
	b, err := broker.Decode(m.cfg.Set, data[17:17+n], m.cfg.options())
	if err != nil {
		return err
	}
	refs, err := reflog.ParseImage(data[17+n:])
	if err != nil {
		return err
	}
	m.b, m.refs, m.time = b, refs, int64(binary.LittleEndian.Uint64(data[1:]))
	return nil
}

// Floor implements set.Machine.
func (m *Machine) Floor() uint64 {
	if lowest, ok := m.refs.Lowest(); ok {
		return lowest
	}
	return 1<<64 - 1
}

// trimRefs forgets the references no command can ask for any more.
func (m *Machine) trimRefs() {
	m.refs.Shards(func(shard uint64) {
		lanes := make(map[int64]bool)
		m.b.Lanes(cmq.ShardID(shard), func(l broker.LaneInfo) bool {
			lanes[l.Lane] = true
			m.refs.DropBelow(reflog.Key{Shard: shard, Lane: l.Lane}, l.Needed)
			return true
		})
		m.refs.Retain(shard, func(due int64) bool { return lanes[due] })
	})
}

func at(ms int64) time.Time { return time.UnixMilli(ms) }
