package sim

import (
	"bytes"
	crand "crypto/rand"
	"strings"
	"testing"
	"time"
)

// simulate runs one seed and fails the test if it broke a promise.
func simulate(t *testing.T, c Config) *Result {
	t.Helper()
	r := Run(c)
	for _, v := range r.Violations {
		t.Errorf("%s\n  %s", c.Replay(), v)
	}
	return r
}

// A short look at everything: different seeds from those of the command's default, both modes, several sizes.
func TestClusterKeepsItsPromises(t *testing.T) {
	sum := NewSummary()
	for seed := range uint64(60) {
		c := Config{Seed: 500_000 + seed, Steps: 4000}
		if seed%5 == 0 { // an old copy is put back only after a while
			c.Steps = 2 * DefaultSteps
		}
		switch {
		case seed%10 == 8:
			c.Nodes = 1
		case seed%10 == 9:
			c.Nodes = 5
		case seed%4 == 3:
			c.Mode = Liveness
		}
		sum.add(c, simulate(t, c))
	}
	for _, k := range kinds() {
		if k.allowed(&Config{Nodes: 3}) && sum.Faults[k.name] == 0 {
			t.Errorf("fault %s never struck", k.name)
		}
	}
	for _, name := range []string{
		"leaders", "starts from an image", "starts with a shortened log", "dead-letter transfers", "rewinds", "locks changed", "queries", "undecided to the end", "sends repeated", "publishes",
		"publishes that nobody wants", "publishes without a subscription", "subscriptions ended", "forwarded by copy", "forwarded by reference", "messages spread as one", "overdue in an outbox", "too long in an outbox", "lost messages",
		"pushed", "push retries", "circuits opened", "locks kept", "subscriptions changed",
		"duplicated messages", "reordered messages", "lost replies", "receives undone",
	} {
		if sum.Hits[name] == 0 {
			t.Errorf("never came about: %s", name)
		}
	}
	if sum.OK*100 < 60*(sum.OK+sum.Fail+sum.Info) {
		t.Errorf("only %d operations of %d were confirmed", sum.OK, sum.OK+sum.Fail+sum.Info)
	}
}

// Without faults nothing fails and nothing is in doubt but receives that were taken back.
func TestNoFaultsNoFailures(t *testing.T) {
	for seed := range uint64(5) {
		c := Config{Seed: seed, Steps: 4000, Faults: []string{}}
		r := simulate(t, c)
		if len(r.Vacuous) > 0 || len(r.Faults) > 0 {
			t.Errorf("seed %d: %v, faults %v", seed, r.Vacuous, r.Faults)
		}
	}
}

func TestOneSeedIsOneRun(t *testing.T) {
	for seed := range uint64(5) {
		c := Config{Seed: 700 + seed, Steps: 5000}
		var first, second bytes.Buffer
		c.Trace = &first
		a := Run(c)
		c.Trace = &second
		b := Run(c)
		if a.Hash != b.Hash || a.Events != b.Events {
			t.Errorf("seed %d: hash %x after %d events, then %x after %d", c.Seed, a.Hash, a.Events, b.Hash, b.Events)
		}
		if first.String() != second.String() {
			t.Errorf("seed %d: two traces", c.Seed)
		}
	}
}

func TestTwoSeedsAreTwoRuns(t *testing.T) {
	a, b := Run(Config{Seed: 1, Steps: 500}), Run(Config{Seed: 2, Steps: 500})
	if a.Hash == b.Hash {
		t.Error("seeds 1 and 2 are the same run")
	}
}

// Leaving out one kind of fault must not change when the others strike first. Those that damage what is stored wait for a moment at
// which that may be done.
func TestFaultsAreIndependent(t *testing.T) {
	strikes := func(faults []string) map[string]string {
		var trace bytes.Buffer
		Run(Config{Seed: 12, Steps: 9000, Faults: faults, Trace: &trace})
		first := map[string]string{}
		for line := range strings.Lines(trace.String()) {
			if at, rest, ok := strings.Cut(line, "FAULT "); ok {
				name, what, _ := strings.Cut(rest, ":")
				if first[name] == "" {
					first[name] = at + what
				}
			}
		}
		return first
	}
	var ordinary []string
	for _, k := range kinds() {
		if k.group == "" {
			ordinary = append(ordinary, k.name)
		}
	}
	all := strikes(ordinary)
	if len(all) < 4 {
		t.Fatalf("only %d kinds of faults struck; choose another seed", len(all))
	}
	tried := 0
	for left := range all {
		if tried++; tried > 3 {
			break
		}
		var others []string
		for _, name := range ordinary {
			if name != left {
				others = append(others, name)
			}
		}
		for name, what := range strikes(others) {
			if name == left || all[name] != "" && what != all[name] {
				t.Errorf("without %s, %s struck with %q instead of %q", left, name, what, all[name])
			}
		}
	}
}

func TestRandomnessIsPutBack(t *testing.T) {
	before := crand.Reader
	Run(Config{Seed: 1, Steps: 200})
	if crand.Reader != before {
		t.Error("crypto/rand.Reader is still the simulation's")
	}
}

func TestAgendaIsInOrder(t *testing.T) {
	var a agenda
	s := newStream(1, "agenda")
	var got []time.Duration
	for range 500 {
		at := time.Duration(s.IntN(50))
		a.push(at, func() { got = append(got, at) })
	}
	var last item
	for {
		it, ok := a.pop()
		if !ok {
			break
		}
		if it.at < last.at || it.at == last.at && it.seq < last.seq {
			t.Fatalf("%v/%d came after %v/%d", it.at, it.seq, last.at, last.seq)
		}
		last = it
		it.run()
	}
	if len(got) != 500 {
		t.Errorf("%d of 500 events", len(got))
	}
}

func TestReplayLineNamesEverything(t *testing.T) {
	c := Config{Seed: 0x1f, Steps: 77, Nodes: 5, Mode: Liveness, Faults: []string{"cut", "crash"}}
	const want = "cmq sim --seed 0x1f --mode liveness --steps 77 --nodes 5 --faults cut,crash"
	if got := c.Replay(); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if got := (Config{Faults: []string{}}).Replay(); !strings.HasSuffix(got, "--faults none") {
		t.Error(got)
	}
}

// A panic of the code under test is a violation with a place, not the end of the simulator.
func TestPanicIsAViolation(t *testing.T) {
	w := newWorld(Config{Seed: 1})
	w.agenda.push(0, func() { panic("as a test") })
	w.run()
	if len(w.broken) != 1 || !strings.HasPrefix(w.broken[0], "panic: as a test") {
		t.Errorf("%v", w.broken)
	}
}
