package main

import (
	"fmt"
	"os"
	"time"
)

// overloadMain is "bench overload": the peak, a quarter of it for what is usual, three times the peak for long, and a quarter again:
// does it still do its work meanwhile, in bounded memory, and how soon is all as before?
//
// The clients have bounded windows, as real ones do: what arrives while a window is full is given up. What is offered and
// outstanding is printed.
func (l *Load) overloadMain(long time.Duration, window int) {
	r := l.peakRun(1000)
	peak := r.ProduceRate
	o := newOpenLoop(l, window, peak/4, true)
	check(l.Peer.Setup())
	check(o.start())
	defer o.end()
	time.Sleep(2 * time.Second)
	usual, _ := o.second()
	for range 2 {
		h, _ := o.second()
		usual = max(usual, h)
	}
	rss := usageOf(pidsIn(l.PidDir)).RSS
	fmt.Printf("%s: peak %.0f/s, for each confirmed %.1f µs of the processor in nodes and %.1f in clients; at a quarter of it p99 %.1f ms, memory of all nodes %d MiB\n",
		l.Name, peak, r.BrokerCPU, r.ClientCPU, usual/1e3, rss>>20)

	o.setRate(3 * peak)
	stopProfile, err := l.begin()
	check(err)
	a0, c0, f0, d0, t0 := o.arrived.Load(), o.confirmed.Load(), o.failed.Load(), o.dropped.Load(), time.Now()
	b0, s0 := usageOf(pidsIn(l.PidDir)), usageOf([]int{os.Getpid()})
	most := int64(0)
	for time.Since(t0) < long {
		time.Sleep(500 * time.Millisecond)
		most = max(most, usageOf(pidsIn(l.PidDir)).RSS)
	}
	secs := time.Since(t0).Seconds()
	stopProfile()
	b1, s1 := usageOf(pidsIn(l.PidDir)), usageOf([]int{os.Getpid()})
	confirmed := float64(o.confirmed.Load() - c0)
	good := confirmed / secs
	fmt.Printf("overload for %.0f s with windows for %d: offered %.0f/s (%.1f x peak), confirmed %.0f/s, %.0f %% of the peak; refused or failed %.0f/s, given up by clients %.0f/s; memory of all nodes up to %d MiB; for each confirmed %.1f µs of the processor in nodes and %.1f in clients, cores used %.2f and %.2f\n",
		secs, o.conns*o.window, float64(o.arrived.Load()-a0)/secs, float64(o.arrived.Load()-a0)/secs/peak, good, 100*good/peak,
		float64(o.failed.Load()-f0)/secs, float64(o.dropped.Load()-d0)/secs, most>>20, (b1.CPU-b0.CPU)/confirmed*1e6, (s1.CPU-s0.CPU)/confirmed*1e6, (b1.CPU-b0.CPU)/secs, (s1.CPU-s0.CPU)/secs)

	o.setRate(peak / 4)
	fmt.Printf("afterwards: %s\n", o.recovery(usual))
}

// second is the 99th percentile of one second, in µs, and how many failed or were given up.
func (o *openLoop) second() (p99 float64, bad int64) {
	h := new(Hist)
	o.latency.Store(h)
	bad = o.failed.Load() + o.dropped.Load()
	time.Sleep(time.Second)
	return h.Quantile(.99), o.failed.Load() + o.dropped.Load() - bad
}

// recovery is how long it takes until for three seconds nothing fails and the 99th percentile is at most twice the usual one.
func (o *openLoop) recovery(usual float64) string {
	const patience = 60
	good := 0
	for s := 1; s <= patience; s++ {
		p99, bad := o.second()
		if good++; bad > 0 || p99 > 2*usual {
			good = 0
		}
		if good == 3 {
			return fmt.Sprintf("as usual again after %d s (p99 %.1f ms)", s-3, p99/1e3)
		}
	}
	return fmt.Sprintf("not as usual again in %d s", patience)
}
