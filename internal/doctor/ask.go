package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/opencmq/cmq/internal/access/adminapi"
	"github.com/opencmq/cmq/internal/cmq"
)

const (
	// askLimit is how long one question may take: longer than a node waits for its loops.
	askLimit = 10 * time.Second
	// maxAnswer bounds what is read of an answer: a node with thousands of sets has some megabytes.
	maxAnswer = 64 << 20
)

// asked is a node that has answered.
type asked struct {
	base        string
	live, ready Health
	state       adminapi.State
}

// Running checks the node at an admin address, http://HOST:PORT, and with all the other nodes that it knows, at theirs. The first report
// is of that node; if it does not answer, that is an error.
func Running(ctx context.Context, admin string, all bool) ([]Report, error) {
	base, err := adminURL(admin)
	if err != nil {
		return nil, err
	}
	first, err := ask(ctx, base)
	if err != nil {
		return nil, err
	}
	nodes := []*asked{first}
	reports := []Report{first.report()}
	if all {
		for _, o := range first.state.Nodes {
			if o.ID == first.state.Node {
				continue
			}
			r, a := askOther(ctx, o)
			reports = append(reports, r)
			if a != nil {
				nodes = append(nodes, a)
			}
		}
	}
	reports[0].add(compare(nodes)...)
	for i := range reports {
		reports[i].finish()
	}
	return reports, nil
}

// askOther checks another node of the cluster. One without an admin address that can be reached from here is not checked, which is
// no finding: the address may be a loopback one.
func askOther(ctx context.Context, o adminapi.Node) (Report, *asked) {
	r := Report{Subject: fmt.Sprintf("node %d", o.ID)}
	if o.Admin == "" {
		r.Unchecked = []string{"it has no admin address"}
		return r, nil
	}
	a, err := ask(ctx, "http://"+o.Admin)
	switch {
	case err != nil:
		r.Unchecked = []string{err.Error()}
		return r, nil
	case a.state.Node != o.ID: // loopback addresses of nodes on several machines
		r.Unchecked = []string{fmt.Sprintf("at %s node %d answers, not node %d: run cmq doctor on its own machine", o.Admin, a.state.Node, o.ID)}
		return r, nil
	}
	return a.report(), a
}

func (a *asked) report() Report {
	r := Report{Subject: fmt.Sprintf("node %d of cluster %q at %s", a.state.Node, a.state.Cluster, a.base)}
	r.add(Judge(a.live, a.ready, &a.state)...)
	r.Checked = []string{
		fmt.Sprintf("/livez (%d checks)", a.live.Passing+len(a.live.Failing)), fmt.Sprintf("/readyz (%d checks)", a.ready.Passing+len(a.ready.Failing)),
		fmt.Sprintf("process: version %s, up since %s, %d of %d descriptors, %s of memory", a.state.Version, a.state.Started.UTC().Format(time.RFC3339), a.state.Process.Descriptors, a.state.Process.Limit, size(a.state.Process.Memory)),
		fmt.Sprintf("disk: %s of %s are free", size(a.state.Disk.Free), size(a.state.Disk.Total)),
	}
	var sets []string
	for i := range a.state.Sets {
		sets = append(sets, fmt.Sprint(a.state.Sets[i].Set))
	}
	if len(sets) > 0 {
		r.Checked = append(r.Checked, "leader, repair, damage, disk, clocks and replicas of its sets: "+strings.Join(sets, ", "))
	}
	return r
}

// compare looks for what nodes disagree about.
func compare(nodes []*asked) (list []Finding) {
	versions := map[string][]cmq.NodeID{}
	leaders := map[cmq.SetID][]cmq.NodeID{}
	for _, a := range nodes {
		versions[a.state.Version] = append(versions[a.state.Version], a.state.Node)
		for i := range a.state.Sets {
			if t := &a.state.Sets[i]; t.Leading {
				leaders[t.Set] = append(leaders[t.Set], a.state.Node)
			}
		}
	}
	if len(versions) > 1 {
		var parts []string
		for v, ids := range versions {
			parts = append(parts, fmt.Sprintf("%s on node %s", v, idList(ids)))
		}
		slices.Sort(parts)
		list = append(list, Finding{Warning, "cluster", "nodes run different versions: " + strings.Join(parts, "; "),
			"That is all right while nodes are upgraded one by one.", "Finish the upgrade."})
	}
	for id, ids := range leaders {
		if len(ids) > 1 {
			list = append(list, Finding{Warning, "cluster", fmt.Sprintf("nodes %s each say that they lead set %d", idList(ids), id),
				"The nodes were asked one after the other, so leadership may have moved meanwhile; only one of them can confirm anything.",
				"Run this again; if it stays so, the nodes do not reach each other on their peer addresses."})
		}
	}
	return list
}

func adminURL(admin string) (string, error) {
	text := admin
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Path != "" && u.Path != "/" {
		return "", fmt.Errorf("%q is not an admin address of the form http://HOST:PORT (setting admin.addr, by default http://127.0.0.1:7673)", admin)
	}
	return u.Scheme + "://" + u.Host, nil
}

// ask asks a node everything.
func ask(ctx context.Context, base string) (*asked, error) {
	a := &asked{base: base}
	live, err := get(ctx, base+"/livez?verbose")
	if err != nil {
		return nil, err
	}
	ready, err := get(ctx, base+"/readyz?verbose")
	if err != nil {
		return nil, err
	}
	data, err := get(ctx, base+adminapi.StatePath)
	if err != nil {
		return nil, err
	}
	a.live, a.ready = ParseHealth(string(live)), ParseHealth(string(ready))
	if err := json.Unmarshal(data, &a.state); err != nil || a.state.Node == 0 {
		return nil, fmt.Errorf("%s%s does not answer as a node of cmq does: is this the admin address (admin.addr)?", base, adminapi.StatePath)
	}
	return a, nil
}

// direct reaches admin addresses without a proxy.
var direct = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// get reads an answer of 200 or 503, which is that of a health check that fails.
func get(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := direct.Do(req)
	var op *net.OpError
	switch {
	case errors.As(err, &op):
		return nil, fmt.Errorf("%s cannot be reached: %w; is the node running, and is this its admin address (admin.addr)?", url, op)
	case err != nil:
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusServiceUnavailable {
		return nil, fmt.Errorf("%s answers %s: is this the admin address (admin.addr) of a node of this version?", url, resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
}
