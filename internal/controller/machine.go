package controller

import (
	"fmt"
	"log/slog"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/meta"
	"github.com/opencmq/cmq/internal/set"
	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/store/reflog"
)

// maxWaiting is how many requests may wait to be cut into an entry: some seconds' worth for a slow disk.
const maxWaiting = 4096

// MachineConfig says what a Machine needs.
type MachineConfig struct {
	Node  cmq.NodeID
	Board *Board
	// Bootstrap makes the cluster if it is not made yet; the first leader proposes it. Nil: never.
	Bootstrap *meta.Bootstrap
	// Read calls done when the state shows everything that was committed before, or with an error
	// (set.Replica's Read). Nil: queries take their turn in the log.
	Read func(done func(error))
	// Leader tells who leads, for those who ask here instead; 0: not known. May be nil.
	Leader func() cmq.NodeID
	Logger *slog.Logger
}

// Machine is the replicated state machine of set 0 (see set.Machine, whose rules apply) and the queue of
// requests at its leader. All methods are called by the one goroutine that drives the set.
type Machine struct {
	cfg   MachineConfig
	state *meta.State
	image *meta.Table // that was started

	leading bool
	term    uint64   // in which this replica leads or led
	number  uint64   // of the entry cut last
	waiting []waiter // not cut yet
	bytes   int      // their size
	flying  []flight // cut and not applied yet, oldest first
}

// waiter is a request that waits for its answer. Its command is nil if it is a query.
type waiter struct {
	command []byte
	query   query
	done    func(*cmq.Reply, error)
}

// flight is the requests of one entry.
type flight struct {
	term, number uint64
	waiters      []waiter
}

// NewMachine is a machine with the empty state, which Restore and Apply bring up to date.
func NewMachine(cfg MachineConfig) *Machine {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Machine{cfg: cfg, state: meta.New()}
}

// Submit takes a KindMeta request, whose Payload is an encoded meta.Command or a query. done is called once,
// by this goroutine, possibly before Submit returns; it must not block. Errors given to done:
// *cmq.NotLeaderError, cmq.ErrDropped, cmq.ErrBusy (the request was not carried out),
// cmq.ErrUnknownOutcome, and meta.ErrFormat for a payload this program does not understand.
func (m *Machine) Submit(req *cmq.Request, done func(*cmq.Reply, error)) {
	w, err := newWaiter(req, done)
	switch {
	case err != nil:
		done(nil, err)
	case !m.leading && w.query.kind == queryTable && w.query.have == 0 && m.state.Bootstrapped():
		// A node that knows nothing yet must learn where the leader is before it can ask it.
		done(m.answerQuery(w.query), nil)
	case !m.leading:
		done(nil, m.notLeader())
	case w.command == nil && m.cfg.Read != nil:
		m.read(w)
	case len(m.waiting) >= maxWaiting:
		done(nil, cmq.ErrBusy)
	default:
		m.enqueue(w)
	}
}

func newWaiter(req *cmq.Request, done func(*cmq.Reply, error)) (waiter, error) {
	if req.Kind != cmq.KindMeta {
		return waiter{}, fmt.Errorf("%w: the controller takes no request of kind %d", meta.ErrFormat, req.Kind)
	}
	if isQuery(req.Payload) {
		q, err := decodeQuery(req.Payload)
		return waiter{query: q, done: done}, err
	}
	// What cannot be decoded must not get into the log, where it would stop every replica.
	_, err := meta.Decode(req.Payload)
	return waiter{command: req.Payload, done: done}, err
}

func (m *Machine) enqueue(w waiter) {
	m.waiting = append(m.waiting, w)
	m.bytes += w.size()
}

// size is about what the request takes in an entry; a query alone needs an entry too.
func (w *waiter) size() int { return len(w.command) + 8 }

func (m *Machine) notLeader() error {
	err := &cmq.NotLeaderError{Set: cmq.ControllerSet}
	if m.cfg.Leader != nil {
		err.Leader = m.cfg.Leader()
	}
	return err
}

func (m *Machine) read(w waiter) {
	m.cfg.Read(func(err error) {
		if err != nil {
			w.done(nil, err)
			return
		}
		w.done(m.answerQuery(w.query), nil)
	})
}

func (m *Machine) answerQuery(q query) *cmq.Reply {
	r := &cmq.Reply{Number: m.state.Version()}
	if q.kind == queryTable && q.have != r.Number {
		r.Payload = m.state.Encode()
	}
	return r
}

// Lead opens the machine for requests.
func (m *Machine) Lead(term uint64) {
	m.leading, m.term = true, term
	if m.cfg.Bootstrap != nil && !m.state.Bootstrapped() {
		m.enqueue(waiter{command: meta.Encode(m.cfg.Bootstrap), done: m.bootstrapped})
	}
	m.cfg.Board.setLeading(true)
}

func (m *Machine) bootstrapped(r *cmq.Reply, err error) {
	switch {
	case err != nil:
		m.cfg.Logger.Debug("bootstrap is left to the next leader", "err", err)
	case r.Err != nil:
		m.cfg.Logger.Error("bootstrap was refused: check the configured nodes, sets and first key", "err", r.Err)
	}
}

// Follow closes the machine. Requests that were not cut are refused; those that were get their answer when
// their entry, or one of a later term, is applied.
func (m *Machine) Follow() {
	m.leading = false
	m.cfg.Board.setLeading(false)
	waiting := m.waiting
	m.waiting, m.bytes = nil, 0
	for i := range waiting {
		waiting[i].done(nil, m.notLeader())
	}
}

// Close answers everybody who still waits. It is called after the last call of the set's driver.
func (m *Machine) Close() {
	m.Follow()
	m.endFlights(func(flight) bool { return true }, cmq.ErrUnknownOutcome)
}

// Waiting is about how many bytes Cut would return.
func (m *Machine) Waiting() int { return m.bytes }

// Cut makes the next entry of requests that wait, in their order: at least one, then as many as fit limit.
func (m *Machine) Cut(now int64, limit int) []byte {
	n, size := 0, 0
	var commands [][]byte
	for ; n < len(m.waiting); n++ {
		w := &m.waiting[n]
		if n > 0 && size+w.size() > limit {
			break
		}
		size += w.size()
		if w.command != nil {
			commands = append(commands, w.command)
		}
	}
	if n == 0 {
		return nil
	}
	m.number++
	m.flying = append(m.flying, flight{term: m.term, number: m.number, waiters: m.waiting[:n:n]})
	m.waiting = m.waiting[n:]
	m.bytes -= size
	return meta.EncodeBatch(uint64(m.cfg.Node), m.number, now, commands)
}

// Wake is 0: nothing happens here by the passing of time.
func (m *Machine) Wake() int64 { return 0 }

// Due does nothing, see Wake.
func (m *Machine) Due(int64) {}

// Time is the time of the newest batch in Unix milliseconds.
func (m *Machine) Time() int64 { return m.state.Time() }

// SetSpace does nothing: the state is small, and whoever makes room on the disks has to go through it.
func (m *Machine) SetSpace(set.Space) {}

// StartImage keeps the state as it is, which costs nothing.
func (m *Machine) StartImage() { m.image = m.state.Freeze() }

// StepImage has nothing to do.
func (m *Machine) StepImage(int) (done bool) { return true }

// TakeImage gives what StartImage kept.
func (m *Machine) TakeImage() set.ImageJob {
	job := imageJob{m.image}
	m.image = nil
	return job
}

// imageJob is a state to be encoded.
type imageJob struct{ state *meta.Table }

// Run encodes the state; nothing is kept beside it.
func (j imageJob) Run(func(bytes int) error) ([][]byte, []reflog.File, store.Live, error) {
	return [][]byte{j.state.Encode()}, nil, nil, nil
}

// Done has nothing to undo.
func (j imageJob) Done(error) {}

// Live is nil: there are no messages.
func (m *Machine) Live([]byte, []reflog.File) (store.Live, error) { return nil, nil }

// Restore replaces the state. Requests in flight may be part of it or not; nobody can tell.
func (m *Machine) Restore(index uint64, image []byte, _ []reflog.File) error {
	state := meta.New()
	if len(image) > 0 {
		var err error
		if state, err = meta.DecodeState(image); err != nil {
			return fmt.Errorf("set %d, image at index %d: %w", cmq.ControllerSet, index, err)
		}
	}
	m.state, m.image = state, nil
	m.endFlights(func(flight) bool { return true }, cmq.ErrUnknownOutcome)
	m.cfg.Board.put(state.Table())
	return nil
}

// Digest is the same on replicas that applied the same entries with the same results.
func (m *Machine) Digest() uint64 { return m.state.Sum() }

// Apply applies one entry, publishes the table and answers those who asked here. An entry that cannot be read
// is a panic: a replica that went on without it would differ from the others for ever.
func (m *Machine) Apply(index, term uint64, data []byte) {
	// Terms in the log never go back: what was cut in an earlier one and is not here by now never will be.
	m.endFlights(func(f flight) bool { return f.term < term }, cmq.ErrDropped)
	if len(data) == 0 {
		return
	}
	batch, err := meta.ParseBatch(data)
	if err != nil {
		panic(fmt.Sprintf("BUG: set %d cannot apply entry %d of term %d: %v", cmq.ControllerSet, index, term, err))
	}
	mine := m.land(term, batch)
	replies := m.applyAll(batch)
	m.cfg.Board.put(m.state.Table())
	m.answer(mine, replies)
}

// applyAll replies with the version of the table that has all of the batch, because that is what is published.
func (m *Machine) applyAll(b *meta.Batch) []*cmq.Reply {
	results := m.state.ApplyBatch(b)
	replies := make([]*cmq.Reply, len(results))
	for i, result := range results {
		r := &cmq.Reply{Err: result.Err, Number: m.state.Version()}
		if q := result.Queue; q != nil {
			r.Queue, r.Payload = q.ID, meta.EncodeQueue(q)
		}
		if result.Topic != nil {
			r.Payload = meta.EncodeTopic(result.Topic, result.Subscription)
		}
		replies[i] = r
	}
	return replies
}

// land takes the entry's requests out of the flights. Entries of one term are in the log in the order they
// were cut, so those with a lower number were lost on the way.
func (m *Machine) land(term uint64, b *meta.Batch) []waiter {
	if b.Proposer != uint64(m.cfg.Node) {
		return nil
	}
	m.endFlights(func(f flight) bool { return f.term == term && f.number < b.Number }, cmq.ErrDropped)
	if len(m.flying) == 0 || m.flying[0].term != term || m.flying[0].number != b.Number {
		return nil
	}
	mine := m.flying[0].waiters
	m.flying = m.flying[1:]
	return mine
}

// answer gives each request its reply: commands in their order, queries from the state after all of them.
func (m *Machine) answer(waiters []waiter, replies []*cmq.Reply) {
	for i := range waiters {
		w := &waiters[i]
		if w.command == nil {
			w.done(m.answerQuery(w.query), nil)
			continue
		}
		w.done(replies[0], nil)
		replies = replies[1:]
	}
}

// endFlights answers the oldest flights as long as over holds.
func (m *Machine) endFlights(over func(flight) bool, err error) {
	for len(m.flying) > 0 && over(m.flying[0]) {
		f := m.flying[0]
		m.flying = m.flying[1:]
		for i := range f.waiters {
			f.waiters[i].done(nil, err)
		}
	}
}
