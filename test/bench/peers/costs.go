package main

import (
	"encoding/json"
	"fmt"
)

// replicas is how many copies every system keeps here.
const replicas = 3

// appendTo appends the result to a file of results, under another name if there is one.
func (r Result) appendTo(file, name string) error {
	if name != "" {
		r.Peer += ": " + name
	}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return appendLine(file, b)
}

// costs prints what a message costs, medians of the runs: processor time in µs, and bytes that were given to the disk for each
// message produced and each replica, as a multiple of its body.
func costs(order []resultKey, runs map[resultKey][]Result) {
	fmt.Println("| peer | work | outst. | produce/s | consume/s | CPU client µs | CPU nodes µs | CPU all µs | written, × body | memory of all nodes MiB |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|---|")
	for _, k := range order {
		med := func(f func(Result) float64) float64 {
			var v []float64
			for _, r := range runs[k] {
				v = append(v, f(r))
			}
			return median(v)
		}
		written := "–"
		if w := med(Result.written); w > 0 {
			written = fmt.Sprintf("%.2f", w)
		}
		client, nodes := med(func(r Result) float64 { return r.ClientCPU }), med(func(r Result) float64 { return r.BrokerCPU })
		fmt.Printf("| %s | %s | %d | %.0f | %.0f | %.1f | %.1f | %.1f | %s | %.0f |\n", k.Peer, k.Work, k.C,
			med(func(r Result) float64 { return r.ProduceRate }), med(func(r Result) float64 { return r.ConsumeRate }),
			client, nodes, client+nodes, written, med(func(r Result) float64 { return r.BrokerRSS }))
	}
}

// written is the bytes a replica writes for each message that is produced, as a multiple of its body.
func (r Result) written() float64 {
	if r.Produced == 0 || r.Size == 0 {
		return 0
	}
	return r.BrokerWrite * float64(r.Produced+r.Consumed) / float64(r.Produced) / replicas / float64(r.Size)
}
