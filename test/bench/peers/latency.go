package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// Step is the latency of confirmed sends at one share of the peak, in microseconds.
type Step struct {
	Share          float64 // of the peak
	Offered, Rate  float64 // messages a second: arrived, confirmed
	P50, P99, P999 float64
	Failed         int64
}

// latencyMain is "bench latency": the peak in closed loop with 1000 outstanding, then an open loop at a tenth of it to nine.
func (l *Load) latencyMain(svg, out string) {
	peak := l.peak(1000)
	fmt.Printf("%s: peak %.0f/s, with 1000 outstanding\n\n| load | offered/s | confirmed/s | p50 ms | p99 ms | p99.9 ms | failed |\n|---|---|---|---|---|---|---|\n", l.Name, peak)
	var steps []Step
	for share := 1; share <= 9; share++ {
		check(l.Peer.Setup()) // an empty queue for each
		s := l.step(float64(share)/10, peak)
		steps = append(steps, s)
		fmt.Printf("| %.0f %% | %.0f | %.0f | %.2f | %.2f | %.2f | %d |\n", 100*s.Share, s.Offered, s.Rate, s.P50/1e3, s.P99/1e3, s.P999/1e3, s.Failed)
	}
	b, err := json.Marshal(struct {
		Peer  string
		Peak  float64
		Steps []Step
	}{l.Name, peak, steps})
	check(err)
	check(appendLine(out, b))
	if svg != "" {
		check(os.WriteFile(svg, latencyPlot(l.Name, peak, steps), 0o644))
	}
}

// peak is how many sends a second are confirmed with so many outstanding.
func (l *Load) peak(outstanding int) float64 { return l.peakRun(outstanding).ProduceRate }

func (l *Load) peakRun(outstanding int) Result {
	check(l.Peer.Setup())
	r, err := l.Run("produce", outstanding, 1)
	check(err)
	if r.ProduceRate == 0 {
		fatal("nothing was confirmed")
	}
	return r
}

func (l *Load) step(share, peak float64) Step {
	o := newOpenLoop(l, 2000, share*peak, false)
	check(o.start())
	time.Sleep(l.Warm)
	o.latency.Store(new(Hist))
	a0, c0, f0, t0 := o.arrived.Load(), o.confirmed.Load(), o.failed.Load(), time.Now()
	time.Sleep(l.Dur)
	h, secs := o.latency.Load(), time.Since(t0).Seconds()
	s := Step{
		Share: share, Offered: float64(o.arrived.Load()-a0) / secs, Rate: float64(o.confirmed.Load()-c0) / secs,
		Failed: o.failed.Load() - f0,
	}
	o.end()
	s.P50, s.P99, s.P999 = h.Quantile(.5), h.Quantile(.99), h.Quantile(.999)
	return s
}

func appendLine(file string, line []byte) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(append(line, '\n'))
	return err
}
