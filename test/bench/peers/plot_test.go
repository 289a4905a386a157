package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestLatencyPlot(t *testing.T) {
	for name, steps := range map[string][]Step{
		"none":   nil,
		"one":    {{Share: .1, P50: 900, P99: 900, P999: 900}},
		"zero":   {{Share: .1}},
		"climbs": {{Share: .1, P50: 800, P99: 2000, P999: 9000}, {Share: .9, P50: 4e4, P99: 3e5, P999: 2.5e6}},
	} {
		t.Run(name, func(t *testing.T) {
			svg := latencyPlot("cmq", 54321, steps)
			dots := 0
			for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
				token, err := d.Token()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatalf("the plot is no XML: %v\n%s", err, svg)
				}
				if e, ok := token.(xml.StartElement); ok && e.Name.Local == "circle" {
					dots++
				}
			}
			if want := len(steps) * len(curves); dots != want {
				t.Errorf("%d dots, want %d", dots, want)
			}
			if strings.Contains(string(svg), "NaN") || strings.Contains(string(svg), "Inf") {
				t.Errorf("the plot has a place that is no number:\n%s", svg)
			}
		})
	}
}

func TestWritten(t *testing.T) {
	// 100 produced and 50 consumed; 3,300 bytes for each of the 150 on three replicas are 1,650 for each produced and replica.
	r := Result{Size: 1000, Produced: 100, Consumed: 50, BrokerWrite: 3300}
	if got := r.written(); got != 1.65 {
		t.Errorf("written: %v times the body, want 1.65", got)
	}
	if got := (Result{Size: 1000, Consumed: 50, BrokerWrite: 3300}).written(); got != 0 {
		t.Errorf("written without anything produced: %v, want 0", got)
	}
}
