package sim

import (
	"os"
	"strconv"
	"testing"
)

func TestDev(t *testing.T) {
	first, _ := strconv.Atoi(os.Getenv("SEED"))
	n, _ := strconv.Atoi(os.Getenv("SEEDS"))
	for seed := first; seed < first+max(n, 1); seed++ {
		cfg := Config{Seed: uint64(seed)}
		if os.Getenv("TRACE") != "" {
			cfg.Trace = os.Stdout
			cfg.Verbose = os.Getenv("TRACE") == "2"
		}
		if os.Getenv("FAULTS") == "none" {
			cfg.Faults = []string{}
		}
		cfg.Mode = Mode(os.Getenv("MODE"))
		cfg.Nodes, _ = strconv.Atoi(os.Getenv("NODES"))
		r := Run(cfg)
		t.Logf("seed %d hash %x events %d simulated %v ok %d fail %d info %d messages %d deliveries %d faults %v hits %v vacuous %v", seed, r.Hash, r.Events, r.Simulated, r.OK, r.Fail, r.Info, r.Messages, r.Deliveries, r.Faults, r.Hits, r.Vacuous)
		for _, v := range r.Violations {
			t.Errorf("seed %d: %s", seed, v)
		}
	}
}
