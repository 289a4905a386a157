package main

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// errBound says that a stated bound was broken; which one the report says.
var errBound = errors.New("a bound was broken")

// report is what a measurement found, line by line: the figure, and the goal it is held against.
type report struct {
	mu    sync.Mutex
	lines []string
}

// bound notes a figure that has a goal, which the text names, and whether that was reached.
func (r *report) bound(kept bool, format string, args ...any) error {
	if kept {
		r.add("kept  ", format, args...)
		return nil
	}
	r.add("BROKEN", format, args...)
	return errBound
}

// figure notes a figure that has no goal.
func (r *report) figure(format string, args ...any) { r.add("      ", format, args...) }

func (r *report) add(verdict, format string, args ...any) {
	line := verdict + "  " + fmt.Sprintf(format, args...)
	fmt.Println(line)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line)
}

// print says everything once more, in one piece.
func (r *report) print(what string, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Printf("\n== %s, %v\n", what, took.Round(time.Second))
	for _, line := range r.lines {
		fmt.Println(line)
	}
}
