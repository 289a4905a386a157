//go:build !mutants

package sim

// MutantsBuilt tells that this binary has none of the deliberate bugs.
const MutantsBuilt = false
