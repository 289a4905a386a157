package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/opencmq/cmq/client"
	"github.com/opencmq/cmq/internal/config"
)

// devPortStep is the distance between the ports of two nodes of cmq dev: the default ports of one node are four
// in a row, and 10 keeps the last digit the same on all nodes.
const devPortStep = 10

// dev is a cluster in one process.
type dev struct {
	app   *app
	nodes int
	dir   string
	conf  config.Config // what all nodes have in common; addresses are those of node 1
	state devState
}

// devState is the file dev.json in the data directory.
type devState struct {
	Nodes     int    `json:"nodes"`
	SecretID  string `json:"secretId"`
	SecretKey string `json:"secretKey"`
}

func (a *app) devCommand() *cobra.Command {
	d := &dev{app: a, conf: config.Default()}
	d.conf.Cluster.Name = "dev"
	cmd := &cobra.Command{
		Use: "dev", Short: "run a cluster on this machine, without configuration", Args: exactly(),
		Long: "Runs a cluster in one process, durable like any other, until Ctrl-C, and prints how to use it. With --nodes 3 the\n" +
			"nodes have directories node1, node2, node3 below the data directory, and ports that count up by 10 from the given\n" +
			"ones (7670, 7680, 7690). Port 0 takes free ones. When all nodes are ready, their addresses are in ports.json in\n" +
			"the data directory. The access key is made once and kept there too, in dev.json.",
	}
	f := cmd.Flags()
	f.IntVar(&d.nodes, "nodes", 1, "number of nodes, 1 to 9")
	f.StringVar(&d.dir, "data-dir", "cmq-data", "directory for all data (or CMQ_DATA_DIR)")
	f.StringVar(&d.conf.HTTP.Addr, "http-addr", d.conf.HTTP.Addr, "address of the HTTP door of node 1")
	f.StringVar(&d.conf.TCP.Addr, "tcp-addr", d.conf.TCP.Addr, "address of the TCP door of node 1")
	f.StringVar(&d.conf.Peer.Addr, "peer-addr", d.conf.Peer.Addr, "address for other nodes of node 1")
	f.StringVar(&d.conf.Admin.Addr, "admin-addr", d.conf.Admin.Addr, "address for health, metrics and administration of node 1")
	f.StringVar(&d.conf.Auth.SecretID, "secret-id", "", "id of the access key (or CMQ_SECRET_ID)")
	f.StringVar(&d.conf.Auth.SecretKey, "secret-key", "", "secret of the access key (or CMQ_SECRET_KEY)")
	d.conf.Push.Allow = []string{"127.0.0.0/8", "::1"}
	f.StringSliceVar(&d.conf.Push.Allow, "push-allow", d.conf.Push.Allow, "ranges of addresses that messages of topics may be delivered to beside public ones (or CMQ_PUSH_ALLOW)")
	f.StringVar(&d.conf.Log.Level, "log-level", "warn", "least level that is logged: debug, info, warn or error")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if v := a.env("CMQ_DATA_DIR"); v != "" && !cmd.Flags().Changed("data-dir") {
			d.dir = v
		}
		if v := a.env("CMQ_PUSH_ALLOW"); v != "" && !cmd.Flags().Changed("push-allow") {
			d.conf.Push.Allow = strings.Split(v, ",")
		}
		return d.run(cmd)
	}
	return cmd
}

func (d *dev) run(cmd *cobra.Command) error {
	if d.nodes < 1 || d.nodes > 9 {
		return usagef("--nodes is from 1 to 9")
	}
	if err := d.loadState(); err != nil {
		return err
	}
	configs, err := d.configs()
	if err != nil {
		return err
	}
	logger, err := newLogger(d.app.stderr, d.conf.Log)
	if err != nil {
		return err
	}
	options, all, err := d.listen(configs)
	if err != nil {
		return err
	}
	for i := range options {
		options[i].logger, options[i].cluster = logger, all
	}
	unlock, err := d.prepare()
	if err != nil {
		for _, o := range options {
			o.listeners.close()
		}
		return err
	}
	defer unlock()
	defer d.removePorts() // what is stopped has no ports
	r := &running{app: d.app, deadline: d.conf.Shutdown.Deadline}
	return r.run(cmd.Context(), options, func() error { return d.announce(all) })
}

// loadState reads dev.json and settles number of nodes and access key.
func (d *dev) loadState() error {
	data, err := os.ReadFile(d.path("dev.json"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.state.Nodes = d.nodes
	case err != nil:
		return err
	default:
		if err := json.Unmarshal(data, &d.state); err != nil {
			return fmt.Errorf("%s: %w; correct it, or choose another --data-dir", d.path("dev.json"), err)
		}
	}
	if d.state.Nodes != d.nodes {
		return usagef("%s holds a cluster of %d nodes; start it with --nodes %d, or choose another --data-dir", d.dir, d.state.Nodes, d.state.Nodes)
	}
	auth := &d.conf.Auth
	if auth.SecretID == "" && auth.SecretKey == "" {
		auth.SecretID, auth.SecretKey = d.app.env("CMQ_SECRET_ID"), d.app.env("CMQ_SECRET_KEY")
	}
	if (auth.SecretID == "") != (auth.SecretKey == "") {
		return usagef("--secret-id and --secret-key (or CMQ_SECRET_ID and CMQ_SECRET_KEY) go together; give both or none")
	}
	if auth.SecretID == "" {
		auth.SecretID, auth.SecretKey = d.state.SecretID, d.state.SecretKey
	}
	if auth.SecretID == "" {
		auth.SecretID, auth.SecretKey = "AKID"+randomHex(8), randomHex(16)
	}
	d.state.SecretID, d.state.SecretKey = auth.SecretID, auth.SecretKey
	return nil
}

// prepare makes the data directory, locks it and writes dev.json. Only the owner may read the key.
func (d *dev) prepare() (unlock func(), err error) {
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	lock, err := os.OpenFile(d.path("lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("%s is in use by another cmq dev; stop that, or choose another --data-dir", d.dir)
	}
	d.removePorts() // of a run that did not end in order
	data, err := json.MarshalIndent(d.state, "", "  ")
	if err == nil {
		err = writeFileAtomically(d.path("dev.json"), append(data, '\n'), 0o600)
	}
	if err != nil {
		lock.Close()
		return nil, err
	}
	return func() { lock.Close() }, nil
}

func (d *dev) path(name string) string { return filepath.Join(d.dir, name) }

func (d *dev) removePorts() { os.Remove(d.path("ports.json")) }

// configs makes the configuration of every node, with ports counted up.
func (d *dev) configs() ([]config.Config, error) {
	var configs []config.Config
	for i := range d.nodes {
		c := d.conf
		c.Node.ID = uint64(i + 1)
		c.DataDir = d.path("node" + strconv.Itoa(i+1))
		for name, l := range map[string]*config.Listener{"http": &c.HTTP, "tcp": &c.TCP, "peer": &c.Peer, "admin": &c.Admin} {
			addr, err := countUp(l.Addr, i*devPortStep)
			if err != nil {
				return nil, usagef("--%s-addr: %v", name, err)
			}
			l.Addr = addr
		}
		if problems := c.Validate(); len(problems) > 0 {
			return nil, problems
		}
		configs = append(configs, c)
	}
	return configs, nil
}

func countUp(addr string, by int) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port == "0" {
		return addr, nil // Validate reports what is wrong
	}
	n, err := strconv.Atoi(port)
	if err != nil || n+by > 65535 {
		return "", fmt.Errorf("%q: ports count up by %d for each node, and %q plus %d is no port", addr, devPortStep, port, by)
	}
	return net.JoinHostPort(host, strconv.Itoa(n+by)), nil
}

// listen opens the listeners of all nodes, so that each can be told where the others are.
func (d *dev) listen(configs []config.Config) (options []nodeOptions, all []ports, err error) {
	var peers []config.Peer
	for i := range configs {
		l, err := listen(&configs[i])
		if err != nil {
			for _, o := range options {
				o.listeners.close()
			}
			return nil, nil, err
		}
		p := l.ports(&configs[i])
		peers = append(peers, config.Peer{ID: p.Node, Addr: p.Peer})
		options = append(options, nodeOptions{config: configs[i], listeners: l})
		all = append(all, p)
	}
	for i := range options {
		if len(options) > 1 {
			options[i].config.Cluster.Nodes = peers
		}
	}
	return options, all, nil
}

// announce writes ports.json and tells the user how to go on.
func (d *dev) announce(all []ports) error {
	data, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	if err := writeFileAtomically(d.path("ports.json"), append(data, '\n'), 0o644); err != nil {
		return err
	}
	text, err := d.welcome(all, program())
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(d.app.stdout, text)
	return err
}

// welcome is what can be copied and pasted. program is how cmq is called here.
func (d *dev) welcome(all []ports, program string) (string, error) {
	auth := &d.conf.Auth
	endpoint := "http://" + all[0].HTTP
	c, err := client.New(endpoint, auth.SecretID, auth.SecretKey)
	if err != nil {
		return "", err
	}
	defer c.Close()
	var b strings.Builder
	fmt.Fprintf(&b, "cmq is ready: %d node(s), data in %s\n\n", len(all), d.dir)
	for _, p := range all {
		fmt.Fprintf(&b, "  node %d      http://%s   tcp://%s   admin http://%s\n", p.Node, p.HTTP, p.TCP, p.Admin)
	}
	fmt.Fprintf(&b, "  secret id   %s\n  secret key  %s\n\n", auth.SecretID, auth.SecretKey)
	fmt.Fprintf(&b, "Paste into another terminal:\n\n  export CMQ_ENDPOINT=%s CMQ_SECRET_ID=%s CMQ_SECRET_KEY=%s\n", endpoint, quote(auth.SecretID), quote(auth.SecretKey))
	for _, line := range []string{"queue create hello", "send hello 'Hello, world'", "receive hello --delete"} {
		fmt.Fprintf(&b, "  %s %s\n", program, line)
	}
	b.WriteString("\nThe same without cmq; these requests are signed, for the next two hours:\n\n")
	for _, call := range [][]client.Param{
		{{Name: "CreateQueue"}, {Name: "queueName", Value: "hello-curl"}},
		{{Name: "SendMessage"}, {Name: "queueName", Value: "hello-curl"}, {Name: "msgBody", Value: "Hello, world"}},
		{{Name: "ReceiveMessage"}, {Name: "queueName", Value: "hello-curl"}},
	} {
		url, form := c.SignedForm(call[0].Name, call[1:]...)
		fmt.Fprintf(&b, "  curl %s -d %s\n", url, quote(form))
	}
	b.WriteString("\nCtrl-C stops it; the data stays.\n")
	return b.String(), nil
}

// quote makes s one word of a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// program is how this program can be called from a shell in the same directory.
func program() string {
	exe, err := os.Executable()
	if err != nil {
		return "cmq"
	}
	if found, err := exec.LookPath("cmq"); err == nil && sameFile(found, exe) {
		return "cmq"
	}
	if strings.Contains(exe, "go-build") { // go run removes its binary at the end
		return "go run ./cmd/cmq"
	}
	return quote(exe)
}

func sameFile(a, b string) bool {
	sa, errA := os.Stat(a)
	sb, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(sa, sb)
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
