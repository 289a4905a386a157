package main

import (
	"bytes"
	"fmt"
	"math"
)

// The size of the plot and of its margins, in pixels.
const (
	plotWidth, plotHeight            = 720, 420
	plotLeft, plotRight              = 70, 90
	plotTop, plotBottom              = 50, 55
	plotInnerWidth, plotInnerHeight  = plotWidth - plotLeft - plotRight, plotHeight - plotTop - plotBottom
	plotFont                         = `font-family="sans-serif" font-size="12"`
	plotGrid, plotFrame, plotCaption = "#e0e0e0", "#444444", "#222222"
)

// curve is one line of a plot.
type curve struct {
	name, colour string
	of           func(Step) float64 // µs
}

var curves = []curve{
	{"p99.9", "#c0392b", func(s Step) float64 { return s.P999 }},
	{"p99", "#d68910", func(s Step) float64 { return s.P99 }},
	{"p50", "#1f618d", func(s Step) float64 { return s.P50 }},
}

// latencyPlot draws latency, in milliseconds and on a logarithmic scale, over the share of the peak, as an SVG.
func latencyPlot(name string, peak float64, steps []Step) []byte {
	lo, hi := decades(steps)
	x := func(share float64) float64 { return plotLeft + share*plotInnerWidth }
	y := func(us float64) float64 {
		return plotTop + plotInnerHeight*(1-(math.Log10(max(us, 1)/1e3)-lo)/(hi-lo))
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d">`+"\n", plotWidth, plotHeight, plotWidth, plotHeight)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", plotWidth, plotHeight)
	label(&b, plotLeft, 24, "start", plotCaption, fmt.Sprintf("%s: send to confirm (fdatasync on a majority of three nodes), open loop, peak %.0f/s", name, peak))
	for e := lo; e <= hi; e++ {
		at := y(1e3 * math.Pow(10, e))
		line(&b, plotLeft, at, plotLeft+plotInnerWidth, at, plotGrid)
		label(&b, plotLeft-8, at+4, "end", plotCaption, fmt.Sprintf("%g ms", math.Pow(10, e)))
	}
	for share := 0.1; share < 0.95; share += 0.1 {
		line(&b, x(share), plotTop, x(share), plotTop+plotInnerHeight, plotGrid)
		label(&b, x(share), plotTop+plotInnerHeight+18, "middle", plotCaption, fmt.Sprintf("%.0f %%", 100*share))
	}
	label(&b, plotLeft+plotInnerWidth/2, plotHeight-12, "middle", plotCaption, "load, as a share of the peak")
	fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%d" height="%d" fill="none" stroke="%s"/>`+"\n", plotLeft, plotTop, plotInnerWidth, plotInnerHeight, plotFrame)
	for _, c := range curves {
		c.draw(&b, steps, x, y)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// draw draws the curve with a dot for each step and its name at the end.
func (c *curve) draw(b *bytes.Buffer, steps []Step, x, y func(float64) float64) {
	if len(steps) == 0 {
		return
	}
	fmt.Fprintf(b, `<polyline fill="none" stroke="%s" stroke-width="2" points="`, c.colour)
	for _, s := range steps {
		fmt.Fprintf(b, "%.1f,%.1f ", x(s.Share), y(c.of(s)))
	}
	b.WriteString(`"/>` + "\n")
	for _, s := range steps {
		fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"><title>%.0f %%: %.2f ms</title></circle>`+"\n", x(s.Share), y(c.of(s)), c.colour, 100*s.Share, c.of(s)/1e3)
	}
	last := steps[len(steps)-1]
	label(b, x(last.Share)+10, y(c.of(last))+4, "start", c.colour, c.name)
}

// decades are the powers of ten, of milliseconds, that all values lie between.
func decades(steps []Step) (lo, hi float64) {
	lo, hi = math.Inf(1), math.Inf(-1)
	for _, s := range steps {
		for _, c := range curves {
			ms := math.Log10(max(c.of(s), 1) / 1e3)
			lo, hi = min(lo, math.Floor(ms)), max(hi, math.Ceil(ms))
		}
	}
	if len(steps) == 0 {
		return 0, 1
	}
	return lo, max(hi, lo+1)
}

func line(b *bytes.Buffer, x1, y1, x2, y2 float64, colour string) {
	fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>`+"\n", x1, y1, x2, y2, colour)
}

func label(b *bytes.Buffer, x, y float64, anchor, colour, text string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s" %s>%s</text>`+"\n", x, y, anchor, colour, plotFont, text)
}
