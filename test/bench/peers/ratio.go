package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
)

// ratioMain is "bench ratio": for each number of outstanding messages the medians of every peer in a file of results of
// produce, and its rate as a share of that of one of them.
func ratioMain(args []string) {
	fs := flag.NewFlagSet("ratio", flag.ExitOnError)
	in := fs.String("in", "results.jsonl", "results file")
	to := fs.String("to", "http-empty", "the peer whose rate is 1")
	fs.Parse(args)
	order, runs, err := produced(*in)
	check(err)
	fmt.Println("| outst. | peer | runs | produce/s (min–max) | × " + *to + " | CPU client µs | CPU servers µs | confirm p50 ms | failed |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|")
	for _, k := range order {
		rates := figures(runs[k], func(r Result) float64 { return r.ProduceRate })
		share := "–"
		if whole := median(figures(runs[resultKey{*to, k.Work, k.C}], func(r Result) float64 { return r.ProduceRate })); whole > 0 {
			share = fmt.Sprintf("%.2f", median(rates)/whole)
		}
		fmt.Printf("| %d | %s | %d | %.0f (%.0f–%.0f) | %s | %.1f | %.1f | %.2f | %.0f |\n", k.C, k.Peer, len(rates),
			median(rates), slices.Min(rates), slices.Max(rates), share,
			median(figures(runs[k], func(r Result) float64 { return r.ClientCPU })),
			median(figures(runs[k], func(r Result) float64 { return r.BrokerCPU })),
			median(figures(runs[k], func(r Result) float64 { return r.P50 / 1e3 })),
			slices.Max(figures(runs[k], func(r Result) float64 { return float64(r.Failed) })))
	}
}

// produced reads the runs of produce in a file of results; order is that in which they are first met.
func produced(file string) (order []resultKey, runs map[resultKey][]Result, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	runs = make(map[resultKey][]Result)
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r Result
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", file, err)
		}
		if r.Work != "produce" {
			continue
		}
		k := resultKey{r.Peer, r.Work, r.Outstanding}
		if runs[k] == nil {
			order = append(order, k)
		}
		runs[k] = append(runs[k], r)
	}
	return order, runs, lines.Err()
}

// figures is one figure of each run.
func figures(runs []Result, of func(Result) float64) []float64 {
	v := make([]float64, len(runs))
	for i, r := range runs {
		v[i] = of(r)
	}
	return v
}
