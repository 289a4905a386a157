package config

import (
	"fmt"
	"net"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencmq/cmq/internal/dispatch/push/guard"
)

// Validate reports everything that is wrong with the values, not only the first.
func (c *Config) Validate() Problems {
	v := validator{c: c}
	v.node()
	v.listeners()
	v.key()
	v.numbers()
	v.choices(Keys(), reflect.ValueOf(v.c).Elem())
	v.push()
	return v.problems
}

type validator struct {
	c        *Config
	problems Problems
}

func (v *validator) report(key, format string, args ...any) {
	v.problems = append(v.problems, Problem{Key: key, Text: fmt.Sprintf(format, args...)})
}

func (v *validator) node() {
	c := v.c
	if c.DataDir == "" {
		v.report("data_dir", "is empty; name a directory for the data")
	}
	if c.Node.ID == 0 {
		v.report("node.id", "is 0; nodes are numbered from 1")
	}
	if c.Cluster.Name == "" {
		v.report("cluster.name", "is empty")
	}
	if c.Cluster.Join && len(c.Cluster.Nodes) < 2 {
		v.report("cluster.join", "is true, but cluster.nodes does not name a node of the cluster to join, and this one")
	}
	if len(c.Cluster.Nodes) == 0 {
		return
	}
	ids, addrs := make(map[uint64]bool), make(map[string]bool)
	for _, p := range c.Cluster.Nodes {
		if p.ID == 0 {
			v.report("cluster.nodes", "has a node without id, or with id 0")
		} else if ids[p.ID] {
			v.report("cluster.nodes", "has node %d twice", p.ID)
		}
		if err := checkAddress(p.Addr, false); err != nil {
			v.report("cluster.nodes", "has a wrong peer address for node %d: %v", p.ID, err)
		} else if addrs[p.Addr] {
			v.report("cluster.nodes", "has the peer address %s twice", p.Addr)
		}
		ids[p.ID], addrs[p.Addr] = true, true
	}
	if !ids[c.Node.ID] {
		v.report("cluster.nodes", "does not list node %d (node.id), this node", c.Node.ID)
	}
	if c.Peer.Addr == Off {
		v.report("peer.addr", "is off, but cluster.nodes lists other nodes")
	}
}

func (v *validator) listeners() {
	used := make(map[string]string)
	for _, l := range []struct {
		name string
		*Listener
	}{{"http", &v.c.HTTP}, {"tcp", &v.c.TCP}, {"peer", &v.c.Peer}, {"admin", &v.c.Admin}} {
		if l.Advertise != "" {
			if err := checkAddress(l.Advertise, false); err != nil {
				v.report(l.name+".advertise", "%v", err)
			}
		}
		if l.Addr == Off {
			continue
		}
		if err := checkAddress(l.Addr, true); err != nil {
			v.report(l.name+".addr", "%v", err)
			continue
		}
		if other := used[l.Addr]; other != "" {
			v.report(l.name+".addr", "%s is also %s.addr; each listener needs its own port", l.Addr, other)
		}
		if !strings.HasSuffix(l.Addr, ":0") {
			used[l.Addr] = l.name
		}
	}
}

// checkAddress wants host:port with a numeric port; anyPort allows an empty host and port 0, for listening.
func checkAddress(addr string, anyPort bool) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not host:port", addr)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 && !anyPort {
		return fmt.Errorf("%q has no usable port; ports are 1 to 65535", addr)
	}
	if host == "" && !anyPort {
		return fmt.Errorf("%q has no host", addr)
	}
	return nil
}

func (v *validator) key() {
	a := &v.c.Auth
	if a.SecretID == "" && !v.c.Cluster.Join {
		v.report("auth.secret_id", "is missing; choose one, for example AKID and some letters, and give it to the clients")
	}
	if a.SecretKey == "" && a.SecretKeyFile == "" && !v.c.Cluster.Join {
		v.report("auth.secret_key", "is missing; make one with: openssl rand -hex 16")
	}
	for key, s := range map[string]string{"auth.secret_id": a.SecretID, "auth.secret_key": a.SecretKey} {
		v.printable(key, s)
	}
	if a.ClockSkew < 0 {
		v.report("auth.clock_skew", "is negative")
	}
}

func (v *validator) printable(key, s string) {
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
		v.report(key, "has blanks or characters outside ASCII")
	}
}

func (v *validator) push() {
	if _, err := guard.ParseAllowed(v.c.Push.Allow); err != nil {
		v.report("push.allow", "has %v", err)
	}
	if n := v.c.Push.HostConnections; n < 0 {
		v.report("push.host_connections", "is %d; at least 1, or 0 for any number", n)
	}
	if addr := v.c.Push.SMTPAddr; addr != "" {
		if err := checkAddress(addr, false); err != nil {
			v.report("push.smtp_addr", "%v", err)
		}
	}
}

func (v *validator) numbers() {
	v.storage()
	if n := v.c.Limits.QueuesPerOwner; n < 1 {
		v.report("limits.queues_per_owner", "is %d; at least 1", n)
	}
	if n := v.c.Limits.TopicsPerOwner; n < 1 {
		v.report("limits.topics_per_owner", "is %d; at least 1", n)
	}
	if n := v.c.Limits.SubscriptionsPerTopic; n < 1 {
		v.report("limits.subscriptions_per_topic", "is %d; at least 1", n)
	}
	if n := v.c.Limits.RequestBytes; n < 64<<10 || n > 64<<20 {
		v.report("limits.request_bytes", "is %d; from 65536 to 67108864", n)
	}
	v.tcp()
	v.shutdown(v.c.Shutdown)
}

func (v *validator) shutdown(s Shutdown) {
	if d := s.Deadline; d < time.Second || d > time.Hour {
		v.report("shutdown.deadline", "is %s; from 1s to 1h", shortDuration(d))
	}
}

func (v *validator) between(key string, n, lo, hi int) {
	if n < lo || n > hi {
		v.report(key, "is %d; from %d to %d", n, lo, hi)
	}
}

func (v *validator) tcp() {
	l := &v.c.Limits
	v.between("limits.tcp_connections", l.TCPConnections, 1, 1_000_000)
	v.between("limits.tcp_strangers", l.TCPStrangers, 1, 1_000_000)
	for key, d := range map[string]time.Duration{"limits.tcp_auth_timeout": l.TCPAuthTimeout, "limits.tcp_idle_timeout": l.TCPIdleTimeout} {
		if d < time.Second || d > time.Hour {
			v.report(key, "is %s; from 1s to 1h", shortDuration(d))
		}
	}
}

func (v *validator) storage() {
	s, between := &v.c.Storage, v.between
	between("storage.segment_bytes", s.SegmentBytes, 1<<20, 1<<30)
	between("storage.cache_bytes", s.CacheBytes, 1<<20, 16<<30)
	between("storage.fetch_rate", s.FetchRate, 1<<20, 1<<40)
	if s.ScrubRate != 0 {
		between("storage.scrub_rate", s.ScrubRate, 64<<10, 1<<40)
	}
	if s.ScrubPause < time.Second || s.ScrubPause > 24*time.Hour {
		v.report("storage.scrub_pause", "is %v; from 1s to 24h", s.ScrubPause)
	}
	between("storage.soft_free_bytes", s.SoftFreeBytes, 0, 1<<50)
	between("storage.hard_free_bytes", s.HardFreeBytes, 0, 1<<50)
	if s.SoftFreeBytes > 0 && s.HardFreeBytes >= s.SoftFreeBytes {
		v.report("storage.hard_free_bytes", "is %d, not less than storage.soft_free_bytes, %d", s.HardFreeBytes, s.SoftFreeBytes)
	}
}

// choices checks the keys that take one of a few words.
func (v *validator) choices(keys []Key, values reflect.Value) {
	for _, k := range keys {
		s := format(values.FieldByIndex(k.field))
		if len(k.oneof) > 0 && !slices.Contains(k.oneof, s) {
			v.report(k.Name, "is %q; one of %s%s", s, strings.Join(k.oneof, ", "), didYouMean(s, k.oneof))
		}
	}
}
