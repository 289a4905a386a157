package main

import (
	"fmt"
	"maps"
	"strconv"
	"time"
)

// scaling is one line of "bench scale": what is different from one queue, bodies of 1 KB and four connections.
type scaling struct {
	name  string
	opt   options
	size  int // of bodies; 0: 1024
	conns int // 0: 4
}

func scalings() []scaling {
	list := []scaling{
		{name: "3 queues on 1 set", opt: options{"queues": "3", "sets": "1"}},
		{name: "3 queues on 3 sets", opt: options{"queues": "3"}},
	}
	for _, n := range []int{1, 10, 1000} {
		list = append(list, scaling{name: fmt.Sprintf("%d queues", n), opt: options{"queues": strconv.Itoa(n)}})
	}
	for _, size := range []int{100, 1 << 10, 16 << 10, 256 << 10, 1 << 20} {
		list = append(list, scaling{name: fmt.Sprintf("bodies of %d B", size), size: size})
	}
	for _, n := range []int{1, 10, 1000} {
		list = append(list, scaling{name: fmt.Sprintf("%d connections", n), conns: n})
	}
	return list
}

// outstandingBytes bounds what is outstanding of large bodies.
const outstandingBytes = 32 << 20

// scaleMain is "bench scale": produce, and both at once, with one thing changed at a time. Up to 1000 messages are
// outstanding on each side, fewer of large ones.
func (l *Load) scaleMain(peer string, c Config, out string) {
	fmt.Println("| what | outstanding | work | produce/s | consume/s | MB/s produced | confirm p50 ms | p99 ms | CPU nodes µs | client µs | memory of all nodes MiB | failed |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|---|---|---|")
	for _, s := range scalings() {
		check(l.scale(peer, c, s, out))
	}
}

func (l *Load) scale(peer string, c Config, s scaling, out string) error {
	c.Opt = maps.Clone(c.Opt)
	maps.Copy(c.Opt, s.opt)
	p, err := openPeer(peer, c)
	if err != nil {
		return err
	}
	defer p.Close()
	one := &Load{Name: l.Name, Peer: p, Size: s.size, Conns: s.conns, Warm: l.Warm, Dur: l.Dur, PidDir: l.PidDir}
	if one.Size == 0 {
		one.Size = 1 << 10
	}
	if one.Conns == 0 {
		one.Conns = 4
	}
	if one.Conns >= 1000 {
		one.Warm += 4 * time.Second // until all are connected
	}
	outstanding := min(1000, outstandingBytes/one.Size)
	for _, work := range []string{"produce", "both"} {
		if err := p.Setup(); err != nil {
			return err
		}
		r, err := one.Run(work, outstanding, 1)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		fmt.Printf("| %s | %d | %s | %.0f | %.0f | %.1f | %.2f | %.2f | %.1f | %.1f | %.0f | %d |\n", s.name, outstanding, work, r.ProduceRate, r.ConsumeRate,
			r.ProduceRate*float64(one.Size)/1e6, r.P50/1e3, r.P99/1e3, r.BrokerCPU, r.ClientCPU, r.BrokerRSS, r.Failed)
		if err := r.appendTo(out, s.name); err != nil {
			return err
		}
	}
	return p.Setup() // leaves no backlog to the next
}
