package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// options are the sizes of a measurement.
type options struct {
	bin      string
	nodes    int
	messages int
	size     int
	queues   int
	settle   time.Duration
	profiles string
}

// subjects are what can be measured.
var subjects = map[string]func(o *options) error{
	"backlog": backlog, "sparse": sparse, "queues": manyQueues, "rejoin": rejoin, "delayed": delayed, "locked": locked,
}

// errBound says that a stated bound was broken; which one was printed.
var errBound = errors.New("a bound was broken")

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	var names []string
	for name := range subjects {
		names = append(names, name)
	}
	slices.Sort(names)
	if len(args) == 0 || subjects[args[0]] == nil {
		return fmt.Errorf("which subject? one of %s; see test/bench/README.md", strings.Join(names, ", "))
	}
	var o options
	f := flag.NewFlagSet(args[0], flag.ContinueOnError)
	f.StringVar(&o.bin, "bin", "", "the cmq binary; default: it is built")
	f.IntVar(&o.nodes, "nodes", 1, "nodes of the cluster")
	f.IntVar(&o.messages, "messages", 1_000_000, "messages")
	f.IntVar(&o.size, "size", 1024, "bytes of a message")
	f.IntVar(&o.queues, "queues", 100_000, "queues")
	f.DurationVar(&o.settle, "settle", 2*time.Minute, "how long a node is left alone before it counts as idle: images are made and merged, and memory is given back")
	f.StringVar(&o.profiles, "profiles", "", "directory for profiles of memory and processor, taken where the subject is measured; default: none")
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	if o.bin == "" {
		dir, err := os.MkdirTemp("", "cmq-bench-bin-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		o.bin = filepath.Join(dir, "cmq")
		build := exec.Command("go", "build", "-o", o.bin, "./cmd/cmq")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return fmt.Errorf("building cmq, from the root of the repository: %w", err)
		}
	}
	return subjects[args[0]](&o)
}

// bound prints whether a bound was kept.
func bound(kept bool, format string, args ...any) error {
	verdict := "kept  "
	var err error
	if !kept {
		verdict, err = "BROKEN", errBound
	}
	fmt.Printf("%s  %s\n", verdict, fmt.Sprintf(format, args...))
	return err
}
