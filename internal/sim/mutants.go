package sim

import "github.com/opencmq/cmq/internal/mutant"

// Mutant is a deliberate bug that the simulation must find. It is switched on for a whole process by the environment
// variable CMQ_MUTANT, in binaries built with the tag "mutants".
type Mutant struct {
	Name     string
	Sentence string
}

// MutantVariable is the environment variable that names the bug of a process.
const MutantVariable = "CMQ_MUTANT"

// Mutants lists all of them.
func Mutants() []Mutant {
	var list []Mutant
	for _, name := range mutant.Names() {
		list = append(list, Mutant{Name: name, Sentence: mutant.Parse(name).Sentence()})
	}
	return list
}
