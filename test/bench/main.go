package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are the sizes of a measurement.
type options struct {
	bin      string
	nodes    int
	messages int
	size     int
	queues   int
	rate     int
	seconds  int
	every    time.Duration
	settle   time.Duration
	limit    time.Duration
	profiles string

	report   report
	clusters clusters
}

// subjects are what can be measured.
var subjects = map[string]func(o *options) error{
	"backlog": backlog, "sparse": sparse, "queues": manyQueues, "rejoin": rejoin, "delayed": delayed, "locked": locked, "publish": publish, "mixed": mixed,
}

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
	f.IntVar(&o.rate, "rate", 20_000, "messages that fall due, or whose lock ends, in a second")
	f.IntVar(&o.seconds, "seconds", 20, "for how many seconds they do")
	f.DurationVar(&o.every, "every", 50*time.Millisecond, "from one publish of a stream to the next")
	f.DurationVar(&o.limit, "limit", 2*time.Hour, "after this time the measurement is given up and its data removed")
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
	begin := time.Now()
	defer o.watch(begin)()
	err := subjects[args[0]](&o)
	o.report.print(strings.Join(args, " "), time.Since(begin))
	return err
}

// watch removes what the measurement has made when it is given up: after its limit, or by a signal. The function it
// returns ends the watch.
func (o *options) watch(begin time.Time) func() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, o.limit)
	done := make(chan struct{})
	go func() {
		select {
		case <-done:
		case <-ctx.Done():
			o.clusters.closeAll()
			o.report.print("given up", time.Since(begin))
			fmt.Fprintln(os.Stderr, "bench: given up: interrupted, or longer than -limit")
			os.Exit(1)
		}
	}()
	return func() {
		close(done)
		cancel()
		stop()
	}
}
