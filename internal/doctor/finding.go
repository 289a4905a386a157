package doctor

import (
	"cmp"
	"slices"
)

// Finding is one thing that is not as it should be.
type Finding struct {
	Level   Level  `json:"level"`
	Subject string `json:"subject"` // node, set or file, with the offset
	What    string `json:"what"`    // what was seen
	Means   string `json:"means"`   // what follows from it
	Do      string `json:"do"`      // what the operator should do
}

// Level says how bad it is.
type Level string

// The levels, the worst first.
const (
	Error   Level = "error"   // something does not work, or data is at risk
	Warning Level = "warning" // it works, and will not for long, or not as well as it should
)

// Report is what a look at a directory or a node has found.
type Report struct {
	Subject  string    `json:"subject"`
	Checked  []string  `json:"checked"`  // what was looked at
	Findings []Finding `json:"findings"` // the worst first
	// Unchecked says what could not be looked at, and why: the absence of findings means nothing then.
	Unchecked []string `json:"unchecked,omitempty"`
}

// add appends findings that are not there yet.
func (r *Report) add(list ...Finding) {
	for _, f := range list {
		if !slices.Contains(r.Findings, f) {
			r.Findings = append(r.Findings, f)
		}
	}
}

// finish puts the worst first.
func (r *Report) finish() {
	if r.Findings == nil {
		r.Findings = []Finding{}
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return cmp.Compare(a.Level, b.Level) }) // "error" < "warning"
}
