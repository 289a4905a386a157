package sim

import "testing"

// A replica that ends otherwise than the others is found and gets their state, whatever else happens to it.
func TestStatesThatWentAstrayAreReplaced(t *testing.T) {
	sum := NewSummary()
	for seed := range uint64(8) {
		c := Config{Seed: 600_000 + seed, Faults: []string{"astray", "crash", "away", "cut"}}
		sum.add(c, simulate(t, c))
	}
	for _, name := range []string{"replicas gone astray", "replicas fenced", "fenced replicas killed", "nodes healed", "snapshots installed"} {
		if sum.Hits[name] == 0 {
			t.Errorf("never came about: %s", name)
		}
	}
}
