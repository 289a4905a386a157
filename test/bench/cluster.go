package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencmq/cmq/client"
)

const (
	secretID  = "AKIDbench"
	secretKey = "bench-secret-key"
	// spare is how much of the disk must stay free beside what a measurement needs.
	spare = 10 << 30
)

// clusters are those of the measurement that run.
type clusters struct {
	mu   sync.Mutex
	list []*cluster
}

// closeAll ends and removes all that run.
func (l *clusters) closeAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.list {
		c.close()
	}
}

// cluster is the processes of one measurement.
type cluster struct {
	bin   string
	dir   string
	nodes []*process
}

// process is one `cmq server`.
type process struct {
	c                 *cluster
	id                int
	http, peer, admin string
	cmd               *exec.Cmd
	args              []string
	log               *os.File
}

// newCluster starts n nodes with these further flags.
func (o *options) newCluster(n int, flags ...string) (*cluster, error) {
	dir, err := os.MkdirTemp(os.Getenv("CMQ_BENCH_DIR"), "cmq-bench-")
	if err != nil {
		return nil, err
	}
	c := &cluster{bin: o.bin, dir: dir}
	o.clusters.mu.Lock()
	o.clusters.list = append(o.clusters.list, c)
	o.clusters.mu.Unlock()
	var peers []string
	for i := range n {
		p := &process{c: c, id: i + 1}
		for _, addr := range []*string{&p.http, &p.peer, &p.admin} {
			if *addr, err = freePort(); err != nil {
				return nil, err
			}
		}
		c.nodes = append(c.nodes, p)
		peers = append(peers, fmt.Sprintf("%d=%s", p.id, p.peer))
	}
	for _, p := range c.nodes {
		p.args = append([]string{"server", "--node-id", strconv.Itoa(p.id), "--data-dir", p.dir(), "--http-addr", p.http, "--tcp-addr", "off",
			"--peer-addr", p.peer, "--admin-addr", p.admin, "--auth-secret-id", secretID, "--auth-secret-key", secretKey, "--log-level", "warn"}, flags...)
		if n > 1 {
			p.args = append(p.args, "--cluster-nodes", strings.Join(peers, ","))
		}
		if err := p.start(); err != nil {
			c.close()
			return nil, err
		}
	}
	for _, p := range c.nodes {
		if err := p.ready(time.Minute); err != nil {
			c.close()
			return nil, err
		}
	}
	return c, nil
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// close ends all processes and removes their data.
func (c *cluster) close() {
	for _, p := range c.nodes {
		p.kill()
	}
	if err := os.RemoveAll(c.dir); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
}

func (c *cluster) client() *client.Client {
	var more []string
	for _, p := range c.nodes[1:] {
		more = append(more, "http://"+p.http)
	}
	cl, err := client.New("http://"+c.nodes[0].http, secretID, secretKey, client.WithEndpoints(more...))
	if err != nil {
		panic(err)
	}
	return cl
}

// doors are clients that cost little, one for each node.
func (c *cluster) doors() (list []*client.Client, err error) {
	for _, p := range c.nodes {
		cl, err := client.New("http://"+p.http, secretID, secretKey, client.WithTransport(client.NewLeanTransport()), client.WithRetries(0))
		if err != nil {
			return nil, err
		}
		list = append(list, cl)
	}
	return list, nil
}

func closeDoors(doors []*client.Client) {
	for _, d := range doors {
		d.Close()
	}
}

// usage is what all nodes together have used so far.
type usage struct {
	cpu     time.Duration
	written float64            // bytes, in the replicas of all sets
	sets    map[string]float64 // the same for each set
}

func (c *cluster) usage() (u usage, err error) {
	u.sets = make(map[string]float64)
	for _, p := range c.nodes {
		u.cpu += p.cpu()
		err := p.samples("cmq_set_written_bytes_total", func(labels string, v float64) {
			u.written += v
			u.sets[strings.Trim(labels, `{}set="`)] += v
		})
		if err != nil {
			return usage{}, err
		}
	}
	return u, nil
}

func (p *process) dir() string { return filepath.Join(p.c.dir, fmt.Sprintf("node%d", p.id)) }

func (p *process) start() (err error) {
	if p.log, err = os.OpenFile(filepath.Join(p.c.dir, fmt.Sprintf("node%d.log", p.id)), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	p.cmd = exec.Command(p.c.bin, p.args...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	return p.cmd.Start()
}

// kill ends the process at once, as kill -9 does.
func (p *process) kill() {
	if p.cmd == nil || p.cmd.Process == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	p.log.Close()
	p.cmd = nil
}

// ready waits until /readyz says that requests are served.
func (p *process) ready(limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.admin+"/readyz", nil)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		if !pause(ctx, 5*time.Millisecond) {
			tail, _ := os.ReadFile(p.log.Name())
			return fmt.Errorf("node %d is not ready after %v:\n%s", p.id, limit, tail[max(0, len(tail)-2000):])
		}
	}
}

// pause waits between two looks at a process; false if ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// restart kills the process, starts it again, and says how long it took until requests were served.
func (p *process) restart() (time.Duration, error) {
	p.kill()
	begin := time.Now()
	if err := p.start(); err != nil {
		return 0, err
	}
	err := p.ready(time.Minute)
	return time.Since(begin), err
}

// rss is the resident memory in bytes, and its highest value so far.
func (p *process) rss() (now, peak int64) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var kb int64
		if n, _ := fmt.Sscanf(s.Text(), "VmRSS: %d kB", &kb); n == 1 {
			now = kb << 10
		}
		if n, _ := fmt.Sscanf(s.Text(), "VmHWM: %d kB", &kb); n == 1 {
			peak = kb << 10
		}
	}
	return now, peak
}

// cpu is the processor time used so far.
func (p *process) cpu() time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// disk is how many bytes of the disk the data of the node takes.
func (p *process) disk() (bytes int64) {
	err := filepath.WalkDir(p.dir(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // it was removed meanwhile
		}
		if info, err := d.Info(); err == nil {
			bytes += info.Size()
		}
		return nil
	})
	if err != nil {
		panic(err)
	}
	return bytes
}

// metric sums the samples of a metric over sets 1 and up; sets without the label count too.
func (p *process) metric(name string) (sum float64, err error) {
	err = p.samples(name, func(_ string, v float64) { sum += v })
	return sum, err
}

// samples gives the samples of a metric with their labels, without those of set 0.
func (p *process) samples(name string, each func(labels string, v float64)) error {
	resp, err := http.Get("http://" + p.admin + "/metrics")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	found := false
	for _, line := range strings.Split(string(text), "\n") {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || strings.HasPrefix(rest, `{set="0"}`) || rest == "" || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		space := strings.LastIndexByte(rest, ' ')
		v, err := strconv.ParseFloat(rest[space+1:], 64)
		if err != nil {
			return err
		}
		each(rest[:space], v)
		found = true
	}
	if !found {
		return errors.New("no metric " + name)
	}
	return nil
}

// profile saves what the process says at /debug/pprof/KIND in a file of the directory; none if dir is empty.
func (p *process) profile(dir, kind, name string) error {
	if dir == "" {
		return nil
	}
	resp, err := http.Get("http://" + p.admin + "/debug/pprof/" + kind)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-node%d.pprof", name, p.id)), data, 0o600)
}

func mb(n int64) string { return fmt.Sprintf("%.0f MB", float64(n)/1e6) }
