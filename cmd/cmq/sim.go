package main

import (
	"fmt"
	"os"
	"runtime"
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
	seed     string
	seeds    int
	steps    int
	nodes    int
	mode     string
	faults   []string
	parallel int
	mutants  bool
	json     bool
	trace    bool
	verbose  bool
	first    bool // end with the first seed that fails
	history  string

	start uint64 // seed as a number
}

func (a *app) simCommand() *cobra.Command {
	var o simOptions
	cmd := &cobra.Command{
		Use: "sim", Short: "simulate clusters with faults, and judge what clients saw", Args: exactly(),
		Long: "Simulates whole clusters in one thread: the real code on simulated disks, networks and clocks that fail. All that\n" +
			"happens follows from the seed. A seed that breaks a promise ends the command with 1 and prints the line that\n" +
			"repeats it; add --trace to see what happened.",
	}
	f := cmd.Flags()
	f.StringVar(&o.seed, "seed", "1", "first seed, decimal or 0x…")
	f.IntVar(&o.seeds, "seeds", 0, "number of seeds, counted up from the first (default 1, with --mutants 200)")
	f.IntVar(&o.steps, "steps", sim.DefaultSteps, "events until the faults end")
	f.IntVar(&o.nodes, "nodes", 3, "nodes of the cluster")
	f.StringVar(&o.mode, "mode", "", "safety: everything heals and the history is judged; liveness: a majority heals and must serve; default: each seed in turn the one and the other")
	f.StringSliceVar(&o.faults, "faults", nil, "faults that may strike, all or none (default all: "+strings.Join(sim.FaultNames(), ", ")+")")
	f.IntVar(&o.parallel, "parallel", runtime.NumCPU(), "processes that share the seeds")
	f.BoolVar(&o.mutants, "mutants", false, "switch on each deliberate bug in turn; every one must be caught (needs a binary built with -tags mutants)")
	f.BoolVar(&o.json, "json", false, "the same as -o json")
	f.BoolVar(&o.trace, "trace", false, "print what happens, and what the nodes log, to stderr")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "with --trace: every message between nodes too")
	f.BoolVar(&o.first, "fail-fast", false, "end with the first seed that breaks a promise")
	f.StringVar(&o.history, "history", "", "write what clients did and saw to this file, as JSON lines")
	cmd.RunE = func(*cobra.Command, []string) error {
		if o.json {
			a.output = "json"
		}
		if err := o.check(); err != nil {
			return err
		}
		if o.mutants {
			return a.tryMutants(o)
		}
		return a.simulate(o)
	}
	return cmd
}

func (o *simOptions) check() (err error) {
	if o.start, err = strconv.ParseUint(o.seed, 0, 64); err != nil {
		return usagef("--seed %q is not a number of 64 bits", o.seed)
	}
	if o.seeds == 0 {
		o.seeds = 1
		if o.mutants {
			o.seeds = 200
		}
	}
	if o.seeds < 1 || o.steps < 1 || o.nodes < 1 || o.nodes > 7 || o.parallel < 1 {
		return usagef("--seeds, --steps and --parallel are at least 1, --nodes is from 1 to 7")
	}
	if m := sim.Mode(o.mode); m != "" && m != sim.Safety && m != sim.Liveness {
		return usagef("--mode is %s or %s", sim.Safety, sim.Liveness)
	}
	switch {
	case slices.Equal(o.faults, []string{"all"}):
		o.faults = nil
	case slices.Equal(o.faults, []string{"none"}):
		o.faults = []string{}
	}
	return o.checkFaults()
}

func (o *simOptions) checkFaults() error {
	all := sim.FaultNames()
	for _, name := range o.faults {
		if slices.Contains(all, name) {
			continue
		}
		text := "there is no fault " + strconv.Quote(name)
		if near := config.Nearest(name, all); near != "" {
			text += fmt.Sprintf("; did you mean %q?", near)
		}
		return usageError{text}
	}
	return nil
}

// config is the simulation of one seed.
func (o *simOptions) config(seed uint64) sim.Config {
	c := sim.Config{Seed: seed, Steps: o.steps, Nodes: o.nodes, Mode: sim.Mode(o.mode), Faults: o.faults, Verbose: o.verbose}
	if c.Mode == "" {
		c.Mode = []sim.Mode{sim.Safety, sim.Liveness}[seed%2]
	}
	return c
}

func (a *app) simulate(o simOptions) error {
	start := time.Now()
	run := a.simulateHere
	if o.parallel > 1 && o.seeds >= simChunk && !o.trace && o.history == "" {
		run = a.simulateInChildren
	}
	s, err := run(o)
	if err != nil {
		return err
	}
	s.Seconds = time.Since(start).Seconds()
	for _, f := range s.Failed {
		fmt.Fprintf(a.stderr, "%s\n  %s\n", f.Replay, strings.Join(f.Violations, "\n  "))
	}
	if err := a.show(s, nil, s.Rows()); err != nil {
		return err
	}
	if len(s.Failed) > 0 {
		return fmt.Errorf("%d of %d seeds broke a promise; the first is repeated by: %s", len(s.Failed), s.Seeds, s.Failed[0].Replay)
	}
	return nil
}

// simulateHere simulates the seeds in this process.
func (a *app) simulateHere(o simOptions) (*sim.Summary, error) {
	s := sim.NewSummary()
	for i := range uint64(o.seeds) {
		c := o.config(o.start + i)
		if o.trace {
			c.Trace = a.stderr
		}
		r, err := runWithHistory(s, c, o.history)
		if err != nil {
			return nil, err
		}
		if o.first && len(r.Violations) > 0 {
			break
		}
	}
	return s, nil
}

func runWithHistory(s *sim.Summary, c sim.Config, name string) (*sim.Result, error) {
	if name == "" {
		return s.Run(c), nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	c.History = f
	r := s.Run(c)
	return r, f.Close()
}
