//go:build !mutants

package engine

// forgetLocks is a planted bug, see mutants_on.go.
func (m *Machine) forgetLocks() {}

// revealPrepared is a planted bug, see mutants_on.go.
func (m *Machine) revealPrepared() {}

// deleteUnreplicated is a planted bug, see mutants_on.go.
func (m *Machine) deleteUnreplicated(*Call) bool { return false }
