package sim

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"
)

// tracer keeps a hash of everything that happens, and writes it down for people if asked to. Two runs of a seed are
// the same run if their hashes are equal.
type tracer struct {
	hash  uint64
	out   io.Writer
	lines uint64
}

const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

func newTracer(out io.Writer) *tracer { return &tracer{hash: fnvOffset, out: out} }

// mix adds numbers to the hash.
func (t *tracer) mix(values ...uint64) {
	h := t.hash
	for _, v := range values {
		for range 8 {
			h = (h ^ v&0xff) * fnvPrime
			v >>= 8
		}
	}
	t.hash = h
}

// hashBytes is a hash of data alone.
func hashBytes(data []byte) uint64 {
	h := uint64(fnvOffset)
	for len(data) >= 8 {
		v := uint64(data[0]) | uint64(data[1])<<8 | uint64(data[2])<<16 | uint64(data[3])<<24 |
			uint64(data[4])<<32 | uint64(data[5])<<40 | uint64(data[6])<<48 | uint64(data[7])<<56
		h = (h ^ v) * fnvPrime
		h ^= h >> 29
		data = data[8:]
	}
	for _, b := range data {
		h = (h ^ uint64(b)) * fnvPrime
	}
	return h
}

// on reports whether say writes anything; callers need not make the arguments otherwise.
func (t *tracer) on() bool { return t.out != nil }

// say writes one line. A trace that cannot be written is no reason to end the run.
func (t *tracer) say(at time.Duration, format string, args ...any) {
	if t.out == nil {
		return
	}
	t.lines++
	fmt.Fprintf(t.out, "%11.6f  %s\n", at.Seconds(), fmt.Sprintf(format, args...))
}

// logLines writes what the replicas log into the trace, with the simulated time.
type logLines struct{ w *world }

func (l logLines) Write(p []byte) (int, error) {
	l.w.trace.say(l.w.now, "LOG %s", strings.TrimSpace(string(p)))
	return len(p), nil
}

// newLogger is the logger of the replicas: silent without a trace, with everything if that is verbose.
func (w *world) newLogger() *slog.Logger {
	if !w.trace.on() {
		return silent
	}
	level := slog.LevelInfo
	if w.cfg.Verbose {
		level = slog.LevelDebug
	}
	noTime := func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	return slog.New(slog.NewTextHandler(logLines{w}, &slog.HandlerOptions{Level: level, ReplaceAttr: noTime}))
}
