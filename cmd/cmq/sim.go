package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/opencmq/cmq/internal/config"
	"github.com/opencmq/cmq/internal/sim"
)

// simOptions are the flags of cmq sim.
type simOptions struct {
	seed    string
	seeds   int
	steps   int
	nodes   int
	mode    string
	faults  []string
	trace   bool
	verbose bool
	first   bool // end with the first seed that fails
	history string
}

func (a *app) simCommand() *cobra.Command {
	var o simOptions
	cmd := &cobra.Command{
		Use: "sim", Short: "simulate clusters with faults, and judge what clients saw", Args: exactly(),
		Long: "Simulates whole clusters in one thread: the real code on simulated disks, networks and clocks that fail. All that\n" +
			"happens follows from the seed. A seed that breaks a promise ends the command with 1 and prints the line that\n" +
			"repeats it.",
	}
	f := cmd.Flags()
	f.StringVar(&o.seed, "seed", "1", "first seed, decimal or 0x…")
	f.IntVar(&o.seeds, "seeds", 1, "number of seeds, counted up from the first")
	f.IntVar(&o.steps, "steps", sim.DefaultSteps, "events until the faults end")
	f.IntVar(&o.nodes, "nodes", 3, "nodes of the cluster")
	f.StringVar(&o.mode, "mode", "", "safety: everything heals and the history is judged; liveness: a majority heals and must serve; default: each seed in turn the one and the other")
	f.StringSliceVar(&o.faults, "faults", nil, "faults that may strike; default: all ("+strings.Join(sim.FaultNames(), ", ")+")")
	f.BoolVar(&o.trace, "trace", false, "print what happens to stderr")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "with --trace: every message between nodes too")
	f.BoolVar(&o.first, "fail-fast", false, "end with the first seed that breaks a promise")
	f.StringVar(&o.history, "history", "", "write what clients did and saw to this file, as JSON lines")
	cmd.RunE = func(*cobra.Command, []string) error { return a.simulate(o) }
	return cmd
}

func (o *simOptions) check() (first uint64, err error) {
	if first, err = strconv.ParseUint(o.seed, 0, 64); err != nil {
		return 0, usagef("--seed %q is not a number of 64 bits", o.seed)
	}
	if o.seeds < 1 || o.steps < 1 || o.nodes < 1 || o.nodes > 7 {
		return 0, usagef("--seeds and --steps are at least 1, --nodes is from 1 to 7")
	}
	if m := sim.Mode(o.mode); m != "" && m != sim.Safety && m != sim.Liveness {
		return 0, usagef("--mode is %s or %s", sim.Safety, sim.Liveness)
	}
	for _, name := range o.faults {
		if all := sim.FaultNames(); !slices.Contains(all, name) {
			text := "there is no fault " + strconv.Quote(name)
			if near := config.Nearest(name, all); near != "" {
				text += fmt.Sprintf("; did you mean %q?", near)
			}
			return 0, usageError{text}
		}
	}
	return first, nil
}

// config is the simulation of one seed.
func (o *simOptions) config(seed uint64) sim.Config {
	c := sim.Config{Seed: seed, Steps: o.steps, Nodes: o.nodes, Mode: sim.Mode(o.mode), Faults: o.faults, Verbose: o.verbose}
	if c.Mode == "" {
		c.Mode = []sim.Mode{sim.Safety, sim.Liveness}[seed%2]
	}
	return c
}

// replay is the command line that repeats a run.
func (o *simOptions) replay(c sim.Config) string {
	line := fmt.Sprintf("cmq sim --seed %#x --mode %s --steps %d --nodes %d", c.Seed, c.Mode, c.Steps, c.Nodes)
	if o.faults != nil {
		line += " --faults " + strings.Join(o.faults, ",")
	}
	return line
}

// simSummary is what -o json prints at the end.
type simSummary struct {
	Seeds     int               `json:"seeds"`
	Failed    []simFailure      `json:"failed"`
	Vacuous   map[string]string `json:"vacuous,omitempty"` // seed → why it proves little
	Events    int               `json:"events"`
	Simulated float64           `json:"simulatedSeconds"`
	Seconds   float64           `json:"seconds"`
	Messages  int               `json:"messages"`
	Faults    map[string]int    `json:"faults"`
	Hits      map[string]int    `json:"hits"`
}

type simFailure struct {
	Seed       uint64   `json:"seed"`
	Replay     string   `json:"replay"`
	Violations []string `json:"violations"`
}

func (a *app) simulate(o simOptions) error {
	first, err := o.check()
	if err != nil {
		return err
	}
	s := simSummary{Failed: []simFailure{}, Vacuous: make(map[string]string), Faults: make(map[string]int), Hits: make(map[string]int)}
	start := time.Now()
	for i := range uint64(o.seeds) {
		c := o.config(first + i)
		r, err := a.simulateOne(o, c)
		if err != nil {
			return err
		}
		s.add(r)
		if len(r.Violations) > 0 {
			s.Failed = append(s.Failed, simFailure{c.Seed, o.replay(c), r.Violations})
			fmt.Fprintf(a.stderr, "%s\n  %s\n", o.replay(c), strings.Join(r.Violations, "\n  "))
			if o.first {
				break
			}
		}
	}
	s.Seconds = time.Since(start).Seconds()
	if err := a.show(s, nil, s.rows()); err != nil {
		return err
	}
	if len(s.Failed) > 0 {
		return fmt.Errorf("%d of %d seeds broke a promise; the first is repeated by: %s", len(s.Failed), s.Seeds, s.Failed[0].Replay)
	}
	return nil
}

func (a *app) simulateOne(o simOptions, c sim.Config) (*sim.Result, error) {
	if o.trace {
		c.Trace = a.stderr
	}
	if o.history == "" {
		return sim.Run(c), nil
	}
	f, err := os.Create(o.history)
	if err != nil {
		return nil, err
	}
	c.History = f
	r := sim.Run(c)
	return r, f.Close()
}

func (s *simSummary) add(r *sim.Result) {
	s.Seeds++
	s.Events += r.Events
	s.Simulated += r.Simulated.Seconds()
	s.Messages += r.Messages
	for name, n := range r.Faults {
		s.Faults[name] += n
	}
	for name, n := range r.Hits {
		s.Hits[name] += n
	}
	if len(r.Vacuous) > 0 {
		s.Vacuous[strconv.FormatUint(r.Seed, 10)] = strings.Join(r.Vacuous, "; ")
	}
}

func (s *simSummary) rows() [][]string {
	faults := 0
	for _, n := range s.Faults {
		faults += n
	}
	return [][]string{
		{"seeds", fmt.Sprintf("%d, %d failed, %d prove little", s.Seeds, len(s.Failed), len(s.Vacuous))},
		{"simulated", fmt.Sprintf("%.0f s in %.1f s, %d events", s.Simulated, s.Seconds, s.Events)},
		{"faults", strconv.Itoa(faults)},
		{"messages", strconv.Itoa(s.Messages)},
	}
}
