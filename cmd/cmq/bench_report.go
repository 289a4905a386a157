package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

// benchResult is one measured run, as -o json prints it. Latencies are microseconds of requests.
type benchResult struct {
	Mode        string  `json:"mode"`
	Protocol    string  `json:"protocol"` // http or tcp
	Size        int     `json:"size"`
	Outstanding int     `json:"outstanding"`
	Batch       int     `json:"batch"`
	Queues      int     `json:"queues"`
	Endpoints   int     `json:"endpoints"`
	Rate        float64 `json:"rate,omitempty"` // open loop: messages a second that were planned
	Seconds     float64 `json:"seconds"`

	Sent         int64   `json:"sent"`
	Received     int64   `json:"received"` // received and deleted
	Late         int64   `json:"late"`     // open loop: planned, but not answered within the measured time
	SentRate     float64 `json:"sentPerSecond"`
	ReceivedRate float64 `json:"receivedPerSecond"`

	SendLatency    *latency `json:"sendMicros,omitempty"`
	ReceiveLatency *latency `json:"receiveMicros,omitempty"`
	DeleteLatency  *latency `json:"deleteMicros,omitempty"`
	EndToEnd       *latency `json:"sendToReceiveMicros,omitempty"` // of messages

	// Processor time per message; a message sent and a message received count as one each.
	ClientCPU float64         `json:"clientCpuMicrosPerMessage"`
	ServerCPU float64         `json:"serverCpuMicrosPerMessage,omitempty"` // all of --pid together
	PidCPU    map[int]float64 `json:"pidCpuMicrosPerMessage,omitempty"`

	Errors map[string]int `json:"errors,omitempty"`
}

// latency is a distribution in microseconds.
type latency struct {
	Count int64 `json:"count"`
	Min   int64 `json:"min"`
	P50   int64 `json:"p50"`
	P90   int64 `json:"p90"`
	P99   int64 `json:"p99"`
	P999  int64 `json:"p999"`
	Max   int64 `json:"max"`
}

func latencyOf(h *hdrhistogram.Histogram) *latency {
	if h.TotalCount() == 0 {
		return nil
	}
	return &latency{h.TotalCount(), h.Min(), h.ValueAtQuantile(50), h.ValueAtQuantile(90), h.ValueAtQuantile(99), h.ValueAtQuantile(99.9), h.Max()}
}

func (l *latency) String() string {
	return fmt.Sprintf("p50 %d  p90 %d  p99 %d  p99.9 %d  max %d µs", l.P50, l.P90, l.P99, l.P999, l.Max)
}

// rows are the lines of the table.
func (r *benchResult) rows() [][]string {
	rows := [][]string{{"mode", fmt.Sprintf("%s over %s, %d B, %d outstanding, batch %d, %d queue(s), %d endpoint(s), %.1f s", r.Mode, r.Protocol, r.Size, r.Outstanding, r.Batch, r.Queues, r.Endpoints, r.Seconds)}}
	add := func(name, value string) { rows = append(rows, []string{name, value}) }
	if r.Sent > 0 {
		add("sent", fmt.Sprintf("%.0f/s (%d)", r.SentRate, r.Sent))
	}
	if r.Received > 0 {
		add("received + deleted", fmt.Sprintf("%.0f/s (%d)", r.ReceivedRate, r.Received))
	}
	if r.Rate > 0 {
		add("planned", fmt.Sprintf("%.0f/s, %d not answered in time", r.Rate, r.Late))
	}
	for _, x := range []struct {
		name string
		l    *latency
	}{{"send", r.SendLatency}, {"receive", r.ReceiveLatency}, {"delete", r.DeleteLatency}, {"send to receive", r.EndToEnd}} {
		if x.l != nil {
			add(x.name, x.l.String())
		}
	}
	add("CPU of the client", fmt.Sprintf("%.1f µs/message", r.ClientCPU))
	if r.PidCPU != nil {
		parts := make([]string, 0, len(r.PidCPU))
		for _, pid := range slices.Sorted(maps.Keys(r.PidCPU)) {
			parts = append(parts, fmt.Sprintf("%d: %.1f", pid, r.PidCPU[pid]))
		}
		add("CPU of the servers", fmt.Sprintf("%.1f µs/message (%s)", r.ServerCPU, strings.Join(parts, ", ")))
	}
	for _, text := range slices.Sorted(maps.Keys(r.Errors)) {
		add("errors", strconv.Itoa(r.Errors[text])+" × "+text)
	}
	return rows
}

// usage is processor time used so far.
type usage struct {
	self time.Duration
	pids map[int]time.Duration
}

// usageOf reads the processor time of this process and of pids; one that has ended is left out.
func usageOf(pids []int) usage {
	u := usage{pids: make(map[int]time.Duration)}
	var ru unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &ru) == nil {
		u.self = time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
	}
	for _, pid := range pids {
		if data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
			if d, ok := cpuOfStat(string(data)); ok {
				u.pids[pid] = d
			}
		}
	}
	return u
}

// cpuOfStat takes utime and stime, fields 14 and 15 of /proc/PID/stat, in ticks of 10 ms. The second field is
// the program's name in parentheses and may hold anything, so counting starts after the last one.
func cpuOfStat(stat string) (time.Duration, bool) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, false
	}
	user, errU := strconv.ParseInt(fields[11], 10, 64)
	system, errS := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, errU == nil && errS == nil
}

// since fills the figures per message and per second of r.
func (u usage) since(before usage, r *benchResult) {
	r.SentRate, r.ReceivedRate = float64(r.Sent)/r.Seconds, float64(r.Received)/r.Seconds
	messages := float64(r.Sent + r.Received)
	if messages == 0 {
		return
	}
	micros := func(d time.Duration) float64 { return float64(d) / 1e3 / messages }
	r.ClientCPU = micros(u.self - before.self)
	for pid, d := range u.pids {
		if was, ok := before.pids[pid]; ok {
			if r.PidCPU == nil {
				r.PidCPU = make(map[int]float64)
			}
			r.PidCPU[pid] = micros(d - was)
			r.ServerCPU += micros(d - was)
		}
	}
}
