//go:build mutants

package mutant

import (
	"os"
	"sync"
)

// Variable is the environment variable that names the bug.
const Variable = "CMQ_MUTANT"

var chosen = sync.OnceValue(func() ID { return Parse(os.Getenv(Variable)) })

// On reports whether the bug is switched on in this process.
func On(id ID) bool { return id != None && chosen() == id }
