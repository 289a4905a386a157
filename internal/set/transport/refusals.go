package transport

import (
	"log/slog"
	"net"
	"sync"
	"time"
)

// refusals keeps strangers from filling the log: one line per source address and minute. The table is
// bounded; when it is full of recent addresses, newcomers share one entry.
type refusals struct {
	mu   sync.Mutex
	last map[string]time.Time
}

const (
	refusalPause = time.Minute
	maxRefusals  = 256
	otherSources = "others"
)

func (r *refusals) log(logger *slog.Logger, addr net.Addr, what string, err error) {
	source := host(addr)
	if r.due(source, time.Now()) {
		logger.Warn(what, "source", source, "err", err)
	}
}

func host(addr net.Addr) string {
	if addr == nil {
		return otherSources
	}
	h, _, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	return h
}

// due reports whether a line about source may be logged now, and notes that it is.
func (r *refusals) due(source string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.last[source]; !known && len(r.last) >= maxRefusals {
		r.forgetLocked(now)
		if len(r.last) >= maxRefusals {
			source = otherSources
		}
	}
	if last, known := r.last[source]; known && now.Sub(last) < refusalPause {
		return false
	}
	r.last[source] = now
	return true
}

func (r *refusals) forgetLocked(now time.Time) {
	for source, last := range r.last {
		if now.Sub(last) >= refusalPause {
			delete(r.last, source)
		}
	}
}
