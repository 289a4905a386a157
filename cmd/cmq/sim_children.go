package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"

	"github.com/opencmq/cmq/internal/sim"
)

// A simulation replaces the process's source of randomness, and a deliberate bug is chosen for a whole process. So seeds
// that are to run side by side, and bugs, get processes of their own: this program, called again.

// simChunk is how many seeds one process gets at a time.
const simChunk = 25

// arguments are the command line of a child process for some of the seeds.
func (o *simOptions) arguments(first uint64, seeds int) []string {
	args := []string{
		"sim", "--json", "--parallel", "1", "--seed", strconv.FormatUint(first, 10), "--seeds", strconv.Itoa(seeds),
		"--steps", strconv.Itoa(o.steps), "--nodes", strconv.Itoa(o.nodes), "--mode", o.mode,
	}
	if o.faults != nil {
		list := strings.Join(o.faults, ",")
		if list == "" {
			list = "none"
		}
		args = append(args, "--faults", list)
	}
	if o.first {
		args = append(args, "--fail-fast")
	}
	return args
}

// child runs this program and reads the summary it prints. A child that dies is an error.
func (a *app) child(args []string, environ []string) (*sim.Summary, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, args...)
	var out, errs bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = environ, &out, &errs
	failed := cmd.Run()
	s := sim.NewSummary()
	if err := json.NewDecoder(&out).Decode(s); err != nil || s.Seeds == 0 {
		return nil, fmt.Errorf("a simulation ended early (%v): cmq %s\n%s", failed, strings.Join(args, " "), lastLines(errs.String(), 20))
	}
	return s, nil
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(len(lines)-n, 0):], "\n")
}

// simulateInChildren shares the seeds among processes, chunk by chunk.
func (a *app) simulateInChildren(o simOptions) (*sim.Summary, error) {
	var (
		mu       sync.Mutex
		wg       sync.WaitGroup
		total    = sim.NewSummary()
		next     uint64
		firstErr error
	)
	take := func() (first uint64, seeds int) {
		mu.Lock()
		defer mu.Unlock()
		if firstErr != nil || o.first && len(total.Failed) > 0 || next >= uint64(o.seeds) {
			return 0, 0
		}
		first, seeds = o.start+next, min(simChunk, o.seeds-int(next))
		next += uint64(seeds)
		return first, seeds
	}
	work := func() {
		defer wg.Done()
		for first, seeds := take(); seeds > 0; first, seeds = take() {
			s, err := a.child(o.arguments(first, seeds), a.environ)
			mu.Lock()
			if err != nil {
				firstErr = err
			} else {
				total.Merge(s)
			}
			mu.Unlock()
		}
	}
	for range o.parallel {
		wg.Add(1)
		go work()
	}
	wg.Wait()
	return total, firstErr
}

// caught is how the simulation found one deliberate bug.
type caught struct {
	Mutant string `json:"mutant"`
	Seed   uint64 `json:"seed,omitempty"`
	Check  string `json:"check,omitempty"`
	Caught bool   `json:"caught"`
	what   string
}

// tryMutants switches on every deliberate bug in turn. A catch counts only if the same seed passes without the bug.
func (a *app) tryMutants(o simOptions) error {
	if !sim.MutantsBuilt {
		return usagef("this program has no deliberate bugs in it; build one that has:  go build -tags mutants -o cmq-mutants ./cmd/cmq")
	}
	if o.mode == "" {
		o.mode = string(sim.Safety)
	}
	var (
		list    []caught
		rows    [][]string
		missing []string
	)
	for _, m := range sim.Mutants() {
		c := a.catch(o, m)
		list = append(list, c)
		if !c.Caught {
			missing = append(missing, m.Name)
			rows = append(rows, []string{m.Name, "not caught", m.Sentence})
			continue
		}
		rows = append(rows, []string{m.Name, strconv.FormatUint(c.Seed, 10), c.what})
	}
	if err := a.show(list, []string{"mutant", "caught at seed", "by"}, rows); err != nil {
		return err
	}
	if len(missing) > 0 {
		return fmt.Errorf("not caught within %d seeds: %s", o.seeds, strings.Join(missing, ", "))
	}
	return nil
}

// catch looks for the first seed that fails with the bug and passes without it.
func (a *app) catch(o simOptions, m sim.Mutant) caught {
	o.first = true
	end := o.start + uint64(o.seeds)
	for first := o.start; first < end; {
		seed, what := a.firstFailure(o, m.Name, first, int(end-first))
		if what == "" {
			break
		}
		if s, err := a.child(o.arguments(seed, 1), a.withMutant("")); err == nil && len(s.Failed) == 0 {
			check, _, _ := strings.Cut(what, ":")
			return caught{Mutant: m.Name, Seed: seed, Check: check, Caught: true, what: oneLine(what, 100)}
		}
		first = seed + 1
	}
	return caught{Mutant: m.Name}
}

// firstFailure runs seeds with a bug, one chunk after the other, until one fails. A process that dies of the bug has found
// it too; the seeds of its chunk are then tried one by one.
func (a *app) firstFailure(o simOptions, mutant string, first uint64, seeds int) (seed uint64, what string) {
	for seeds > 0 {
		n := min(simChunk, seeds)
		s, err := a.child(o.arguments(first, n), a.withMutant(mutant))
		if err != nil && n > 1 {
			for i := range uint64(n) {
				if s, err := a.child(o.arguments(first+i, 1), a.withMutant(mutant)); err != nil {
					return first + i, "crash: " + err.Error()
				} else if len(s.Failed) > 0 {
					return first + i, s.Failed[0].Violations[0]
				}
			}
		} else if err != nil {
			return first, "crash: " + err.Error()
		} else if len(s.Failed) > 0 {
			return s.Failed[0].Seed, s.Failed[0].Violations[0]
		}
		first += uint64(n)
		seeds -= n
	}
	return 0, ""
}

// withMutant is the environment with one deliberate bug chosen, or none.
func (a *app) withMutant(name string) []string {
	var environ []string
	for _, e := range a.environ {
		if !strings.HasPrefix(e, sim.MutantVariable+"=") {
			environ = append(environ, e)
		}
	}
	if name != "" {
		environ = append(environ, sim.MutantVariable+"="+name)
	}
	return environ
}
