package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/sim"
)

func TestSim(t *testing.T) {
	history := filepath.Join(t.TempDir(), "history")
	code, out, errs := call(t, "", "", "sim", "--seed", "0x32", "--steps", "2000", "--mode", "safety", "--history", history)
	require.Equal(t, exitOK, code, errs)
	require.Contains(t, out, "seeds       1, 0 failed, 1 simulated twice")
	lines, err := os.ReadFile(history)
	require.NoError(t, err)
	require.Contains(t, string(lines), `"type":"invoke"`)

	code, out, _ = call(t, "", "", "sim", "--seeds", "2", "--steps", "500", "--faults", "none", "--json")
	require.Equal(t, exitOK, code)
	s := sim.NewSummary()
	require.NoError(t, json.Unmarshal([]byte(out), s))
	require.Equal(t, 2, s.Seeds)
	require.Empty(t, s.Faults)

	_, _, errs = call(t, "", "", "sim", "--seed", "3", "--steps", "300", "--trace")
	require.Contains(t, errs, "node 1 starts")
}

func TestSimUsage(t *testing.T) {
	for _, row := range []struct{ says, flag, value string }{
		{"is not a number", "--seed", "x"},
		{"at least 1", "--seeds", "-1"},
		{"from 1 to 7", "--nodes", "9"},
		{"safety or liveness", "--mode", "fast"},
		{`did you mean "crash"`, "--faults", "crush"},
	} {
		code, _, errs := call(t, "", "", "sim", row.flag, row.value)
		require.Equal(t, exitUsage, code)
		require.Contains(t, errs, row.says)
	}
	if !sim.MutantsBuilt {
		code, _, errs := call(t, "", "", "sim", "--mutants")
		require.Equal(t, exitUsage, code)
		require.Contains(t, errs, "-tags mutants")
	}
}

func TestSimChildGetsTheSameSimulation(t *testing.T) {
	o := simOptions{steps: 77, nodes: 5, mode: "liveness", faults: []string{"cut", "crash"}, first: true}
	require.Equal(t, []string{"sim", "--json", "--parallel", "1", "--seed", "9", "--seeds", "3", "--steps", "77", "--nodes", "5",
		"--mode", "liveness", "--faults", "cut,crash", "--fail-fast"}, o.arguments(9, 3))
	o.faults = []string{}
	require.Contains(t, o.arguments(9, 3), "none")
	a := &app{environ: []string{"A=b", sim.MutantVariable + "=ApplyOrder"}}
	require.Equal(t, []string{"A=b"}, a.withMutant(""))
	require.Equal(t, []string{"A=b", sim.MutantVariable + "=TornTailKept"}, a.withMutant("TornTailKept"))
}
