package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/config"
)

// devRun is one cmq dev with fake nodes. Output is written until "Ctrl-C stops it" and then onReady is called.
type devRun struct {
	app     *app
	out     bytes.Buffer
	errs    bytes.Buffer
	nodes   []*fakeNode
	onReady func(*devRun)
}

func (r *devRun) Write(p []byte) (int, error) {
	n, err := r.out.Write(p)
	if strings.Contains(string(p), "Ctrl-C stops it") {
		r.onReady(r)
	}
	return n, err
}

func runDev(t *testing.T, onReady func(*devRun), args ...string) (int, *devRun) {
	t.Helper()
	r := &devRun{onReady: onReady}
	r.app = &app{stdout: r, stderr: &r.errs, environ: []string{"HOME=/nowhere"}, exit: func(int) {},
		start: func(_ context.Context, o nodeOptions) (process, error) {
			n := &fakeNode{options: o, failed: make(chan struct{})}
			r.nodes = append(r.nodes, n)
			return n, nil
		}}
	free := strings.Fields("dev --http-addr 127.0.0.1:0 --tcp-addr 127.0.0.1:0 --peer-addr 127.0.0.1:0 --admin-addr 127.0.0.1:0")
	return r.app.run(append(free, args...)), r
}

// interrupt sends this process the signal of Ctrl-C; the command under test listens to it at that time.
func interrupt(t *testing.T) { require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGINT)) }

func TestDevWritesPortsAndKeepsItsKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	var first []ports
	code, r := runDev(t, func(r *devRun) {
		data, err := os.ReadFile(filepath.Join(dir, "ports.json"))
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(data, &first))
		interrupt(t)
	}, "--nodes", "3", "--data-dir", dir)
	require.Equal(t, exitOK, code, r.errs.String())
	require.Len(t, first, 3)
	require.Len(t, r.nodes, 3)
	for i, p := range first {
		require.EqualValues(t, i+1, p.Node)
		o := r.nodes[i].options
		require.Equal(t, o.listeners.HTTP.Addr().String(), p.HTTP)
		require.Equal(t, o.listeners.Admin.Addr().String(), p.Admin)
		require.Equal(t, filepath.Join(dir, "node"+string(rune('1'+i))), o.config.DataDir)
		require.Equal(t, config.Peer{ID: uint64(i + 1), Addr: p.Peer}, o.config.Cluster.Nodes[i])
		require.Len(t, o.cluster, 3)
	}
	_, err := os.Stat(filepath.Join(dir, "ports.json"))
	require.ErrorIs(t, err, os.ErrNotExist, "a stopped cluster has no ports")
	st, err := os.Stat(filepath.Join(dir, "dev.json"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), st.Mode().Perm())
	auth := r.nodes[0].options.config.Auth
	require.Contains(t, r.out.String(), "CMQ_SECRET_KEY='"+auth.SecretKey+"'")
	require.Contains(t, r.out.String(), "Action=SendMessage")
	for _, p := range first {
		require.Contains(t, r.out.String(), fmt.Sprintf("node %d      http://%s   tcp://%s   admin http://%s\n", p.Node, p.HTTP, p.TCP, p.Admin))
	}

	code, r = runDev(t, func(*devRun) { interrupt(t) }, "--nodes", "3", "--data-dir", dir)
	require.Equal(t, exitOK, code)
	require.Equal(t, auth, r.nodes[0].options.config.Auth)

	code, r = runDev(t, nil, "--data-dir", dir)
	require.Equal(t, exitUsage, code)
	require.Contains(t, r.errs.String(), "holds a cluster of 3 nodes; start it with --nodes 3")
}

func TestDevGivenKey(t *testing.T) {
	dir := t.TempDir()
	code, r := runDev(t, func(*devRun) { interrupt(t) }, "--data-dir", dir, "--secret-id", "AKIDgiven", "--secret-key", "s")
	require.Equal(t, exitOK, code, r.errs.String())
	require.Equal(t, "AKIDgiven", r.nodes[0].options.config.Auth.SecretID)
	require.Empty(t, r.nodes[0].options.config.Cluster.Nodes)
	code, r = runDev(t, nil, "--data-dir", dir, "--secret-id", "AKIDgiven")
	require.Equal(t, exitUsage, code)
	require.Contains(t, r.errs.String(), "go together")
}

func TestDevEndsWhenANodeFails(t *testing.T) {
	code, r := runDev(t, func(r *devRun) {
		for _, n := range r.nodes {
			n.stop = func(context.Context) error { t.Error("nothing is stopped in order"); return nil }
		}
		close(r.nodes[0].failed)
	}, "--nodes", "3", "--data-dir", t.TempDir())
	require.Equal(t, exitFailure, code)
	require.Contains(t, r.errs.String(), "disk on fire")
}

func TestSecondSignalStopsAtOnce(t *testing.T) {
	stopping, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var exited int
	code, _ := runDev(t, func(r *devRun) {
		r.app.exit = func(code int) { exited = code; close(release) }
		r.nodes[0].stop = func(context.Context) error {
			once.Do(func() { close(stopping) })
			<-release
			return errors.New("cut off")
		}
		go func() { <-stopping; interrupt(t) }()
		interrupt(t)
	}, "--data-dir", t.TempDir())
	require.Equal(t, exitInterrupted, exited)
	require.Equal(t, exitFailure, code)
}

func TestTakenPortIsNamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	code, r := runDev(t, nil, "--data-dir", t.TempDir(), "--http-addr", l.Addr().String())
	require.Equal(t, exitUsage, code)
	require.Contains(t, r.errs.String(), l.Addr().String()+" is in use by another program; give another address with --http-addr")
	require.Empty(t, r.nodes)
}

func TestPortsCountUp(t *testing.T) {
	d := &dev{nodes: 3, dir: "d", conf: config.Default()}
	d.conf.Auth.SecretID, d.conf.Auth.SecretKey = "a", "b"
	configs, err := d.configs()
	require.NoError(t, err)
	for i, want := range []string{"127.0.0.1:7670", "127.0.0.1:7680", "127.0.0.1:7690"} {
		require.Equal(t, want, configs[i].HTTP.Addr)
	}
	require.Equal(t, "127.0.0.1:7693", configs[2].Admin.Addr)
	d.conf.HTTP.Addr = "127.0.0.1:65530"
	_, err = d.configs()
	require.ErrorContains(t, err, "count up by 10")
}
