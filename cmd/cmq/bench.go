package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
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
	tcp         bool
	connections int
	protocol    string // set by connect: http or tcp
}

func (a *app) benchCommand() *cobra.Command {
	var o benchOptions
	cmd := &cobra.Command{
		Use: "bench", Short: "measure rates and latencies", Args: exactly(),
		Long: `Measures a running service. Without flags: sends and receives at the same time for 10 s, 64 messages of 1 KB
outstanding on each side.

Modes: send; receive (fills the queues first, then receives and deletes; ends early when they are empty); both.
--outstanding is the number of messages under way on each side; there are outstanding/batch requests at a time. Over HTTP
each has its connection. Over TCP, with endpoints tcp://HOST:PORT or with --tcp, they share --connections to each
address; --batch 1 measures pipelined requests of one message.
Without --rate the loop is closed: the next request goes when one is answered. With --rate it is open: requests have their planned times, and latency counts from the planned time, so that a stall of the service
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
	f.BoolVar(&o.tcp, "tcp", false, "messages go over TCP, to the addresses that the service names for each queue")
	f.IntVar(&o.connections, "connections", 4, "TCP connections to each address")
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
	case o.connections < 1 || o.connections > 1024:
		return usagef("--connections is from 1 to 1024")
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
	defer l.close()
	if err := l.connect(t); err != nil {
		return err
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

// connect makes a client for each endpoint that messages go to: those of TCP if there are any, else those of HTTP. With
// --tcp it is one, which sends them where the service says.
func (l *load) connect(t target) error {
	tcp, http := t.byProtocol()
	if len(http) > 0 {
		c, err := t.client(http)
		if err != nil {
			return err
		}
		l.manager = c
	}
	groups := oneByOne(tcp)
	if l.options.tcp {
		groups = [][]string{t.endpoints}
	}
	if l.options.protocol = "tcp"; len(groups) == 0 {
		l.options.protocol, groups = "http", oneByOne(http)
	}
	for _, g := range groups {
		c, err := t.client(g, l.over(g[0])...)
		if err != nil {
			return err
		}
		l.clients = append(l.clients, c)
	}
	return nil
}

func oneByOne(endpoints []string) (groups [][]string) {
	for _, e := range endpoints {
		groups = append(groups, []string{e})
	}
	return groups
}

// over is how a client for an endpoint is made. Nothing is repeated: what is measured is requests.
func (l *load) over(endpoint string) []client.Option {
	once := client.WithRetries(0)
	switch {
	case l.options.protocol == "tcp":
		return []client.Option{once, client.WithTCP(), client.WithConnections(l.options.connections)}
	case strings.HasPrefix(endpoint, "https:"):
		return []client.Option{once}
	}
	return []client.Option{once, client.WithTransport(client.NewLeanTransport())}
}

func (l *load) close() {
	if l.manager != nil {
		l.manager.Close()
	}
	for _, c := range l.clients {
		c.Close()
	}
}

// makeQueues gives the names of the queues; created says whether they are ours to delete.
func (l *load) makeQueues(ctx context.Context) (names []string, created bool, err error) {
	base := l.options.queue
	if base == "" && l.manager == nil {
		return nil, false, usagef("queues are made over HTTP: add --endpoint http://HOST:PORT, or name existing ones with --queue")
	}
	if base == "" {
		base, created = "bench-"+strconv.FormatInt(time.Now().UnixMilli(), 36), true
	}
	for i := range l.options.queues {
		name := base
		if l.options.queues > 1 {
			name = fmt.Sprintf("%s-%d", base, i+1)
		}
		if names = append(names, name); l.manager == nil {
			continue // it is there, because the user has named it
		}
		size := max(l.options.size, 65536)
		_, err := l.manager.CreateQueue(ctx, name, client.Settings{MaxMsgSize: &size})
		if err != nil && (created || !errors.Is(err, client.ErrQueueExists)) {
			return names[:i], created, err
		}
	}
	return names, created, nil
}

// dropQueues tidies up, also after Ctrl-C.
func (l *load) dropQueues(names []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, name := range names {
		if err := l.manager.DeleteQueue(ctx, name); err != nil {
			fmt.Fprintf(l.progress, "cmq: queue %s is left: %v\n", name, err)
		}
	}
}
