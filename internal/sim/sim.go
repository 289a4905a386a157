package sim

import (
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"github.com/opencmq/cmq/internal/check"
	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/store"
)

// Mode says what is demanded at the end of a run.
type Mode string

// The modes.
const (
	// Safety heals everything, drains every queue and judges the whole history.
	Safety Mode = "safety"
	// Liveness leaves all faults as they are but for a majority of nodes, which must then serve within a few seconds.
	// Faults that always heal hide cluster states from which nothing goes on any more.
	Liveness Mode = "liveness"
)

// Config says what to simulate. The zero value of a field means its default.
type Config struct {
	Seed    uint64
	Steps   int      // events until the faults end; DefaultSteps
	Nodes   int      // 3
	Mode    Mode     // Safety
	Faults  []string // may strike, each in half of the seeds; nil: all
	Trace   io.Writer
	Verbose bool      // the trace shows every message between nodes, and all that replicas log
	History io.Writer // gets the history as JSON lines
}

// DefaultSteps are about 20 simulated seconds.
const DefaultSteps = 15_000

// maxRest is how many events there may be behind the faults, for each one before. A run has about one; what makes many times
// more goes in circles.
const maxRest = 40

// Result is the outcome of one seed.
type Result struct {
	Seed       uint64         `json:"seed"`
	Violations []string       `json:"violations,omitempty"`
	Vacuous    []string       `json:"vacuous,omitempty"` // why this run proves little
	Hash       uint64         `json:"hash"`              // of everything that happened
	Events     int            `json:"events"`
	Simulated  time.Duration  `json:"simulated"`
	OK         int            `json:"ok"`
	Fail       int            `json:"fail"`
	Info       int            `json:"info"`
	Faults     map[string]int `json:"faults"` // how often each fault struck
	Hits       map[string]int `json:"hits"`   // what else came about, by name
	Messages   int            `json:"messages"`
	Deliveries int            `json:"deliveries"`
}

// phase is where a run stands.
type phase int

const (
	starting phase = iota
	loading        // clients and faults are at work
	settling       // healed, clients stop, locks and delays end
	draining
	finished
)

// world is one simulated cluster with everything around it.
type world struct {
	cfg     Config
	knobs   knobs
	agenda  agenda
	now     time.Duration
	phase   phase
	events  int
	trace   *tracer
	logger  *slog.Logger
	nodes   []*node
	net     *network
	oracle  *oracle
	history check.History
	queues  []*queue
	topics  []*topic
	movers  movers
	faults  []*fault
	stats   stats
	lost    map[store.Ref]bool // messages that were taken from every replica

	replies   stream // which answers get lost
	lostReply int    // percent
	broken    []string
	limit     time.Duration // the end must be reached by then
	ended     time.Duration // when the faults ended
}

// stats counts what came about.
type stats struct{ faults, hits map[string]int }

func (s *stats) hit(name string) { s.hits[name]++ }

// Run simulates one seed. Only one simulation may run in a process at a time.
func Run(cfg Config) *Result {
	defer replaceCryptoRand(cfg.Seed)()
	w := newWorld(cfg)
	w.run()
	return w.result()
}

func (c Config) withDefaults() Config {
	if c.Steps == 0 {
		c.Steps = DefaultSteps
	}
	if c.Nodes == 0 {
		c.Nodes = 3
	}
	if c.Mode == "" {
		c.Mode = Safety
	}
	return c
}

func newWorld(cfg Config) *world {
	cfg = cfg.withDefaults()
	w := &world{
		cfg: cfg, trace: newTracer(cfg.Trace), replies: newStream(cfg.Seed, "replies"),
		stats: stats{faults: map[string]int{}, hits: map[string]int{}}, lost: map[store.Ref]bool{},
	}
	w.logger = w.newLogger()
	w.movers = movers{w: w, active: map[moverKey]bool{}, offers: map[courierKey][]*offer{}}
	w.knobs = newKnobs(cfg)
	w.net = newNetwork(w)
	w.oracle = newOracle(w)
	for id := 1; id <= cfg.Nodes; id++ {
		w.nodes = append(w.nodes, newNode(w, cmq.NodeID(id)))
	}
	return w
}

// node finds a node by number; nil if there is none.
func (w *world) node(id cmq.NodeID) *node {
	if id == 0 || int(id) > len(w.nodes) {
		return nil
	}
	return w.nodes[id-1]
}

// after plans something outside of all nodes.
func (w *world) after(d time.Duration, f func()) { w.agenda.push(w.now+d, f) }

// loseReply tells whether an answer to a client gets lost.
func (w *world) loseReply() bool {
	if w.lostReply > 0 && w.replies.chance(w.lostReply) {
		w.stats.hit("lost replies")
		return true
	}
	return false
}

// maxBroken keeps the report of a broken run readable.
const maxBroken = 20

func (w *world) violation(rule, format string, args ...any) {
	text := rule + ": " + fmt.Sprintf(format, args...)
	w.trace.say(w.now, "VIOLATION %s", text)
	if len(w.broken) < maxBroken {
		w.broken = append(w.broken, text)
	}
}

// run works through the agenda until the run is finished or the first violation.
func (w *world) run() {
	defer func() {
		if p := recover(); p != nil {
			w.violation("panic", "%v\n%s", p, shortStack())
		}
	}()
	w.begin()
	for w.phase != finished && len(w.broken) == 0 {
		it, ok := w.agenda.pop()
		if !ok {
			w.violation("liveness", "nothing happens any more")
			return
		}
		w.now = it.at
		w.events++
		it.run()
		if w.phase == loading && w.events >= w.cfg.Steps {
			w.endOfFaults()
		}
		if w.events == (1+maxRest)*w.cfg.Steps {
			w.violation("liveness", "%d events since the faults ended at %v: something goes in circles: %s", maxRest*w.cfg.Steps, w.ended, w.whatWaits())
		}
		if w.phase > loading && w.now > w.limit {
			w.violation("liveness", "the end was not reached by %v, long after the faults: %s", w.limit, w.whatWaits())
		}
	}
	if len(w.broken) == 0 {
		w.judge()
	}
}

// judge lets the checker look at the history.
func (w *world) judge() {
	if w.cfg.Mode == Safety {
		for _, v := range check.Check(&w.history).Violations {
			w.violation(v.Rule, "%s", v.Text)
		}
	}
}

// shortStack is the part of a panic's stack that lies in this program.
func shortStack() string {
	lines := strings.Split(string(debug.Stack()), "\n")
	var keep []string
	for i := 0; i+1 < len(lines); i++ {
		if strings.HasPrefix(lines[i+1], "\t") && strings.Contains(lines[i+1], "/internal/") && !strings.Contains(lines[i], "sim.(*world).run") {
			keep = append(keep, "  "+lines[i]+" "+strings.TrimSpace(lines[i+1]))
		}
		if len(keep) == 12 {
			break
		}
	}
	return strings.Join(keep, "\n")
}

func (w *world) result() *Result {
	if w.cfg.History != nil {
		if err := w.history.Write(w.cfg.History); err != nil {
			w.violation("simulator", "the history cannot be written: %v", err)
		}
	}
	r := &Result{
		Seed: w.cfg.Seed, Violations: w.broken, Hash: w.trace.hash, Events: w.events, Simulated: w.now,
		Faults: w.stats.faults, Hits: w.stats.hits,
	}
	for _, op := range w.history.Ops {
		if op.Kind == check.Deliver { // what an endpoint does is not an operation on the cluster
			continue
		}
		switch op.Outcome {
		case check.OK:
			r.OK++
		case check.Fail:
			r.Fail++
		default:
			r.Info++
		}
		r.Messages += len(op.IDs)
		r.Deliveries += len(op.Messages)
	}
	if ops := r.OK + r.Fail + r.Info; r.OK*100 < ops*60 && w.cfg.Mode == Safety {
		r.Vacuous = append(r.Vacuous, "less than 60 % of the operations confirmed")
	}
	for _, f := range w.faults {
		if w.stats.faults[f.name] == 0 {
			r.Vacuous = append(r.Vacuous, "fault never struck: "+f.name)
		}
	}
	return r
}

// Replay is the command line that repeats the run.
func (c Config) Replay() string {
	c = c.withDefaults()
	s := fmt.Sprintf("cmq sim --seed %#x --mode %s --steps %d --nodes %d", c.Seed, c.Mode, c.Steps, c.Nodes)
	if c.Faults != nil {
		list := strings.Join(c.Faults, ",")
		if list == "" {
			list = "none"
		}
		s += " --faults " + list
	}
	return s
}

func sprint(a ...any) string { return fmt.Sprint(a...) }
