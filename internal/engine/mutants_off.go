//go:build !mutants

package engine

// forgetLocks is a planted bug, see mutants_on.go.
func (m *Machine) forgetLocks() {}

// deleteUnreplicated is a planted bug, see mutants_on.go.
func (m *Machine) deleteUnreplicated(*Call) bool { return false }
