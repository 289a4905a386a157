package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/opencmq/cmq/client"
)

// benchOptions are the flags of cmq bench.
type benchOptions struct {
	mode        string
	size        int
	outstanding int
	batch       int
	queues      int
	queue       string
	duration    time.Duration
	warmup      time.Duration
	rate        float64
	prefill     int
	keep        bool
	pids        []int
}

func (a *app) benchCommand() *cobra.Command {
	var o benchOptions
	cmd := &cobra.Command{
		Use: "bench", Short: "measure rates and latencies", Args: exactly(),
		Long: `Measures a running service. Without flags: sends and receives at the same time for 10 s, 64 messages of 1 KB
outstanding on each side.

Modes: send; receive (fills the queues first, then receives and deletes; ends early when they are empty); both.
--outstanding is the number of messages under way on each side; they are spread over outstanding/batch connections.
Without --rate the loop is closed: each connection sends its next request when the last is answered. With --rate it
is open: requests have their planned times, and latency counts from the planned time, so that a stall of the service
shows in all the requests that should have been made during it. A request that was planned but never made is counted
as late.`,
	}
	f := cmd.Flags()
	f.StringVar(&o.mode, "mode", "both", "send, receive or both")
	f.IntVar(&o.size, "size", 1024, "bytes of a message")
	f.IntVar(&o.outstanding, "outstanding", 64, "messages under way, on each side")
	f.IntVar(&o.batch, "batch", 16, "messages of one request, 1 to 16; 1 uses the actions for single messages")
	f.IntVar(&o.queues, "queues", 1, "number of queues")
	f.StringVar(&o.queue, "queue", "", "use queues of this name (with -1, -2, … if there are more); default: new ones, deleted at the end")
	f.DurationVar(&o.duration, "duration", 10*time.Second, "measured time")
	f.DurationVar(&o.warmup, "warmup", time.Second, "time before it that is not measured")
	f.Float64Var(&o.rate, "rate", 0, "messages a second to send (open loop); 0: as many as go (closed loop)")
	f.IntVar(&o.prefill, "prefill", 500_000, "messages to store before a receive run; 0 drains what is in --queue")
	f.BoolVar(&o.keep, "keep", false, "do not delete the queues at the end")
	f.IntSliceVar(&o.pids, "pid", nil, "server processes on this machine whose processor time is shown")
	a.targetFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.check(); err != nil {
			return err
		}
		return a.bench(cmd.Context(), o)
	}
	return cmd
}

func (o *benchOptions) check() error {
	switch {
	case o.mode != "send" && o.mode != "receive" && o.mode != "both":
		return usagef("--mode is send, receive or both")
	case o.size < benchHead || o.size > 1<<20:
		return usagef("--size is from %d to %d", benchHead, 1<<20)
	case o.batch < 1 || o.batch > client.MaxBatch:
		return usagef("--batch is from 1 to %d", client.MaxBatch)
	case o.outstanding < 1 || o.outstanding > 100_000:
		return usagef("--outstanding is from 1 to 100000")
	case o.queues < 1 || o.queues > 1000:
		return usagef("--queues is from 1 to 1000")
	case o.duration <= 0 || o.warmup < 0:
		return usagef("--duration is more than 0s, --warmup 0s or more")
	case o.rate < 0 || o.rate > 0 && o.mode == "receive":
		return usagef("--rate is 0 or more, and goes with sending")
	case o.prefill < 0 || o.prefill == 0 && o.queue == "":
		return usagef("--prefill is at least 1; 0 drains what is in the queue named by --queue")
	}
	o.batch = min(o.batch, o.outstanding)
	return nil
}

// bench makes the queues, runs the load and shows the result.
func (a *app) bench(ctx context.Context, o benchOptions) error {
	ctx, stop := interrupted(ctx)
	defer stop()
	t, err := a.resolve()
	if err != nil {
		return err
	}
	l := &load{options: o, progress: a.stderr, redraw: isTerminal(a.stderr), body: newBody(o.size), errs: make(map[string]int)}
	transport := client.NewLeanTransport()
	for _, e := range t.endpoints {
		opts := []client.Option{client.WithRetries(0)}
		if len(e) < 6 || e[:6] != "https:" {
			opts = append(opts, client.WithTransport(transport))
		}
		c, err := client.New(e, t.secretID, t.secretKey, opts...)
		if err != nil {
			return usageError{err.Error()}
		}
		defer c.Close()
		l.clients = append(l.clients, c)
	}
	names, created, err := l.makeQueues(ctx)
	if created && !o.keep {
		defer l.dropQueues(names)
	}
	if err != nil {
		return err
	}
	r, err := l.run(ctx, names)
	if err != nil {
		return err
	}
	return a.show(r, nil, r.rows())
}

// makeQueues gives the names of the queues; created says whether they are ours to delete.
func (l *load) makeQueues(ctx context.Context) (names []string, created bool, err error) {
	base := l.options.queue
	if base == "" {
		base, created = "bench-"+strconv.FormatInt(time.Now().UnixMilli(), 36), true
	}
	for i := range l.options.queues {
		name := base
		if l.options.queues > 1 {
			name = fmt.Sprintf("%s-%d", base, i+1)
		}
		size := max(l.options.size, 65536)
		_, err := l.clients[0].CreateQueue(ctx, name, client.Settings{MaxMsgSize: &size})
		if err != nil && (created || !errors.Is(err, client.ErrQueueExists)) {
			return names, created, err
		}
		names = append(names, name)
	}
	return names, created, nil
}

// dropQueues tidies up, also after Ctrl-C.
func (l *load) dropQueues(names []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, name := range names {
		if err := l.clients[0].DeleteQueue(ctx, name); err != nil {
			fmt.Fprintf(l.progress, "cmq: queue %s is left: %v\n", name, err)
		}
	}
}
