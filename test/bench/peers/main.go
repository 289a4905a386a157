// Command bench drives message queues with the same workloads, for comparison
// side by side on one machine. See README.md.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

type options map[string]string

func (o options) String() string { return "" }
func (o options) Set(s string) error {
	k, v, _ := strings.Cut(s, "=")
	o[k] = v
	return nil
}

func main() {
	if len(os.Args) < 2 {
		fatal("usage: bench suite|latency|scale|polls|overload|fill|drain|depth|probe|failover|table|ratio|limits|memory|naive-node|http-empty [flags]")
	}
	cmd, args := os.Args[1], os.Args[2:]
	switch cmd {
	case "naive-node":
		naiveMain(args)
		return
	case "limits":
		limitsMain(args)
		return
	case "memory":
		memoryMain(args)
		return
	case "http-server":
		httpServer()
		return
	case "http-empty":
		emptyMain(args)
		return
	case "ratio":
		ratioMain(args)
		return
	case "table":
		tableMain(args)
		return
	}
	// A generator keeps little and makes much garbage: by default it would collect all the time, and take the processor from the
	// nodes on the same machine. This is for the client of every system alike.
	debug.SetGCPercent(400)
	fs := flag.NewFlagSet(cmd, flag.ExitOnError)
	var (
		peer    = fs.String("peer", "", "cmq, rabbit, nats, naive, empty")
		name    = fs.String("name", "", "name in the results (default: the peer)")
		addrs   = fs.String("addrs", "", "client endpoints, comma separated, node 1 first")
		queue   = fs.String("queue", "mq", "queue name")
		pids    = fs.String("piddir", "", "folder with n1.pid, n2.pid, … of the brokers")
		out     = fs.String("out", "results.jsonl", "results file, appended to")
		works   = fs.String("work", "produce,consume,both", "workloads")
		outs    = fs.String("outstanding", "1,64,1000", "messages in flight")
		conns   = fs.Int("conns", 4, "connections on each side")
		reps    = fs.Int("reps", 3, "repeats")
		rep0    = fs.Int("rep0", 1, "number of the first repeat")
		dur     = fs.Duration("dur", 15*time.Second, "measured time of a run")
		warm    = fs.Duration("warm", 2*time.Second, "warm-up before it")
		size    = fs.Int("size", 1024, "body size")
		backlog = fs.Int64("backlog", 200000, "least messages in the queue before a consume run of 15 s with more than 1 outstanding; a shorter one has less")
		n       = fs.Int64("n", 100000, "fill: messages")
		setup   = fs.Bool("setup", true, "fill, failover: make the queue anew first")
		spread  = fs.Bool("spread", false, "spread connections over the nodes, not all to the leader")
		timeout = fs.Duration("timeout", 10*time.Second, "publish timeout")
		profile = fs.String("cpuprofile", "", "file for a profile of this client's processor, over the measured time of the last run")
		ready   = fs.String("ready", "", "file to be made when the measured time of a run begins")
		prime   = fs.Int64("prime", 0, "suite: messages sent and cleared before anything is measured")
		svg     = fs.String("svg", "", "latency: file for the plot")
		long    = fs.Duration("long", time.Minute, "overload: how long it lasts")
		window  = fs.Int("window", 512, "overload: messages outstanding on each connection at most")
		polls   = fs.Int("polls", 10_000, "polls: how many wait")
		opt     = options{}
	)
	fs.Var(opt, "o", "peer's own setting, key=value")
	fs.Parse(args)
	if *name == "" {
		*name = *peer
	}
	config := Config{Addrs: strings.Split(*addrs, ","), Queue: *queue, Spread: *spread, Timeout: *timeout, Opt: opt}
	p, err := openPeer(*peer, config)
	check(err)
	defer p.Close()
	l := &Load{Name: *name, Peer: p, Size: *size, Conns: *conns, Warm: *warm, Dur: *dur, PidDir: *pids, Profile: *profile, Ready: *ready}
	switch cmd {
	case "latency":
		l.latencyMain(*svg, *out)
	case "overload":
		l.overloadMain(*long, *window)
	case "scale":
		l.scaleMain(*peer, config, *out)
	case "polls":
		q, ok := p.(*cmqPeer)
		if !ok {
			fatal("only cmq has long polls here")
		}
		q.pollsMain(*polls, *conns, pidsIn(*pids))
	case "suite":
		if *prime > 0 {
			check(p.Setup())
			_, err := l.Fill(*prime, 1000)
			check(err)
		}
		for rep := *rep0; rep < *rep0+*reps; rep++ {
			for _, o := range strings.Split(*outs, ",") {
				c, err := strconv.Atoi(o)
				check(err)
				fresh := false
				for _, w := range strings.Split(*works, ",") {
					if w != "consume" || !fresh { // consume drains what produce left
						check(p.Setup())
						fresh = true
					}
					if w == "consume" {
						need := int64(float64(*backlog) * min(1, dur.Seconds()/15))
						if c == 1 {
							need /= 5
						}
						if d, err := p.Depth(); err == nil && d < need {
							_, err := l.Fill(need-d, 1000)
							check(err)
						}
						time.Sleep(time.Second)
					}
					r, err := l.Run(w, c, rep)
					if err != nil {
						fmt.Fprintln(os.Stderr, *name, w, c, err)
						continue
					}
					check(r.appendTo(*out, ""))
					fmt.Printf("%s %s c=%d rep %d: produce %.0f/s consume %.0f/s, p50 %.0f p99 %.0f µs, recv+ack p50 %.0f, e2e p50 %.0f, CPU broker %.1f client %.1f µs/msg, write %.0f disk %.0f B/msg, RSS %.0f MiB, busy %.2f steal %.2f, failed %d, left %d\n",
						*name, w, c, rep, r.ProduceRate, r.ConsumeRate, r.P50, r.P99, r.R50, r.E50, r.BrokerCPU, r.ClientCPU, r.BrokerWrite, r.DiskWrite, r.BrokerRSS, r.BusyFrac, r.StealFrac, r.Failed, r.DepthEnd)
				}
			}
		}
	case "fill":
		if *setup {
			check(p.Setup())
		}
		d, err := l.Fill(*n, 1000)
		check(err)
		u := usageOf(pidsIn(*pids))
		depth, _ := p.Depth()
		fmt.Printf("%s filled %d in %.1f s (%.0f/s); depth %d; brokers' RSS %.0f MiB\n", *name, *n, d.Seconds(), float64(*n)/d.Seconds(), depth, float64(u.RSS)/(1<<20))
	case "drain":
		r, err := l.Run("consume", 1000, 1)
		check(err)
		fmt.Printf("%s drained %d in %.1f s (%.0f/s), left %d\n", *name, r.Consumed, r.Secs, r.ConsumeRate, r.DepthEnd)
	case "depth":
		d, err := p.Depth()
		check(err)
		fmt.Println(d)
	case "probe":
		// Waits until one message can be published and one received.
		t0 := time.Now()
		pub, rec, err := l.Probe(10 * time.Minute)
		check(err)
		fmt.Printf("%s first confirmed publish after %.2f s, first message received after %.2f s (probe started %s)\n", *name, pub.Seconds(), rec.Seconds(), t0.Format("15:04:05.000"))
	case "failover":
		if *setup {
			check(p.Setup())
		}
		r, err := l.Failover(64, 5*time.Second, *dur)
		check(err)
		fmt.Println(r)
		f, err := os.OpenFile(*out, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		check(err)
		defer f.Close()
		b, _ := json.Marshal(r)
		f.Write(append(b, '\n'))
	default:
		fatal("no command " + cmd)
	}
}

func check(err error) {
	if err != nil {
		fatal(err.Error())
	}
}

func fatal(s string) {
	fmt.Fprintln(os.Stderr, s)
	os.Exit(1)
}
