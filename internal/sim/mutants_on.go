//go:build mutants

package sim

// MutantsBuilt tells that this binary has the deliberate bugs.
const MutantsBuilt = true
