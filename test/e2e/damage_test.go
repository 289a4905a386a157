package e2e

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/test/cluster"
)

// loaded is a cluster with messages in a queue, which nobody has received yet.
func loaded(t *testing.T, ctx context.Context, nodes, messages int) (*cluster.Cluster, *cluster.Ledger) {
	c := cluster.Start(t, cluster.Options{Binary: binary, Nodes: nodes})
	c.CreateQueue(ctx, "damage")
	l := cluster.NewLedger()
	q := c.Client(0, true).Queue("damage")
	for i := 0; i < messages; i += 10 {
		var keys []string
		for j := range 10 {
			keys = append(keys, fmt.Sprintf("m%d", i+j))
		}
		require.NoError(t, l.Send(ctx, q, keys, 1024))
	}
	return c, l
}

// stop ends a node in order.
func stop(t *testing.T, c *cluster.Cluster, n *cluster.Node) {
	c.Signal(n, syscall.SIGTERM)
	select {
	case <-n.Exited():
	case <-time.After(60 * time.Second):
		t.Fatal("the node does not stop")
	}
	n.Ended()
}

// tree is every file of a directory with a hash of what is in it, but for the locks, which are empty.
func tree(t *testing.T, dir string) map[string]string {
	out := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "LOCK" {
			return err
		}
		p, err := os.ReadFile(path)
		out[path] = fmt.Sprintf("%d %x", len(p), sha256.Sum256(p))
		return err
	}))
	return out
}

// refused starts a node that must not start, and returns what it says.
func refused(t *testing.T, c *cluster.Cluster, n *cluster.Node) string {
	before, said := tree(t, n.Dir), len(n.Log())
	c.Start(n)
	select {
	case <-n.Exited():
	case <-time.After(60 * time.Second):
		t.Fatal("the node starts")
	}
	require.Equal(t, 1, n.Ended())
	require.Equal(t, before, tree(t, n.Dir), "refused, but something changed")
	return n.Log()[said:]
}

// TestOneOfThreeWithoutItsRoots is made whole while the others go on, and keeps every message when they are gone.
func TestOneOfThreeWithoutItsRoots(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	c, l := loaded(t, ctx, 3, 200)
	n := c.Nodes[2]
	c.Kill(n)
	roots, err := filepath.Glob(filepath.Join(n.Dir, "set-*", "MANIFEST"))
	require.NoError(t, err)
	require.NotEmpty(t, roots)
	for _, root := range roots {
		require.NoError(t, os.Remove(root))
	}
	c.Start(n)
	c.WaitReady(n)
	for _, root := range roots {
		require.FileExists(t, root)
	}
	require.Contains(t, n.Log(), "a new one was made from what the files say of themselves")
	c.Kill(c.Nodes[0]) // now it counts
	require.NoError(t, c.Drain(ctx, "damage", l, 2*time.Minute))
	require.Empty(t, l.Lost())
	require.Empty(t, l.Wrong())
}

// TestOnlyNodeSaysWhatItCannotDoWithout, and goes on when its operator gives that up or puts it back.
func TestOnlyNodeSaysWhatItCannotDoWithout(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	c, l := loaded(t, ctx, 1, 100)
	n := c.Nodes[0]
	stop(t, c, n)
	segments, err := filepath.Glob(filepath.Join(n.Dir, "set-001", "*.seg"))
	require.NoError(t, err)
	aside := filepath.Join(t.TempDir(), "aside.seg")
	require.NoError(t, os.Rename(segments[0], aside))
	said := refused(t, c, n)
	require.Contains(t, said, segments[0]+" is damaged: the file is missing")
	require.Contains(t, said, "restore the file, or the whole data directory, from a backup")
	require.Contains(t, said, "make an empty file "+segments[0]+".lost")

	set := filepath.Join(n.Dir, "set-001")
	require.NoError(t, os.Rename(set, set+".aside"))
	require.Contains(t, refused(t, c, n), set+" is missing, though this node has run before")
	require.NoError(t, os.Rename(set+".aside", set))

	out, err := exec.Command("mv", aside, segments[0]).CombinedOutput() // it may be on another disk
	require.NoError(t, err, "%s", out)
	c.Start(n)
	c.WaitReady(n)
	require.NoError(t, c.Drain(ctx, "damage", l, 2*time.Minute))
	require.Empty(t, l.Lost())
	require.Empty(t, l.Wrong())

	stop(t, c, n)
	require.NoError(t, os.Remove(segments[0]))
	require.NoError(t, os.WriteFile(segments[0]+".lost", nil, 0o600))
	c.Start(n)
	c.WaitReady(n)
	require.NoFileExists(t, segments[0]+".lost")
	l = cluster.NewLedger()
	c.CreateQueue(ctx, "after")
	require.NoError(t, l.Send(ctx, c.Client(0, true).Queue("after"), []string{"still", "works"}, 100))
	require.NoError(t, c.Drain(ctx, "after", l, time.Minute))
}

// TestOnlyNodeLosesExactlyTheDamagedMessage: it is reported and counted, and the queue goes on.
func TestOnlyNodeLosesExactlyTheDamagedMessage(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	c, l := loaded(t, ctx, 1, 100)
	n := c.Nodes[0]
	stop(t, c, n)
	body := cluster.Body("m37", 1024)
	segments, err := filepath.Glob(filepath.Join(n.Dir, "set-001", "*.seg"))
	require.NoError(t, err)
	for _, name := range segments {
		p, err := os.ReadFile(name)
		require.NoError(t, err)
		if i := strings.Index(string(p), body); i >= 0 {
			p[i+500] ^= 16
			require.NoError(t, os.WriteFile(name, p, 0o600))
		}
	}
	c.Start(n)
	c.WaitReady(n)
	stopped, stopConsuming := context.WithCancel(ctx)
	go func() {
		defer stopConsuming()
		for changed := l.Changed(); l.Missing() > 1 && ctx.Err() == nil; changed = l.Changed() {
			select {
			case <-changed:
			case <-ctx.Done():
			}
		}
	}()
	cluster.Consume(stopped, l, c.Client(0, true).Queue("damage"), nil)
	require.Len(t, l.Lost(), 1)
	require.Empty(t, l.Wrong())
	require.NoError(t, cluster.Eventually(time.Minute, func() error {
		m, err := n.Metrics()
		if err == nil && m.Of("cmq_messages_quarantined_total", 1) != 1 {
			err = fmt.Errorf("quarantined: %v", m.Of("cmq_messages_quarantined_total", 1))
		}
		return err
	}))
	require.Contains(t, n.Log(), "a message is damaged on every replica and was deleted")
}

// TestBackupTakenLiveIsUsedOrRefused: a copy of the directory of a node at work has files of different moments. Either it is refused,
// unchanged, or everything in it is right.
func TestBackupTakenLiveIsUsedOrRefused(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	c, l := loaded(t, ctx, 1, 20)
	n := c.Nodes[0]
	load := c.Load(ctx, "damage", l, cluster.LoadOptions{Senders: 2})
	copies := t.TempDir()
	for i := range 4 {
		out, err := exec.Command("cp", "-r", n.Dir, filepath.Join(copies, fmt.Sprint(i))).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	load.Stop()
	stop(t, c, n)
	for i := range 4 {
		require.NoError(t, os.RemoveAll(n.Dir))
		require.NoError(t, os.Rename(filepath.Join(copies, fmt.Sprint(i)), n.Dir))
		before, said := tree(t, n.Dir), len(n.Log())
		c.Start(n)
		if err := starts(n); err != nil {
			require.Equal(t, 1, n.Ended(), err)
			require.Equal(t, before, tree(t, n.Dir))
			require.Regexp(t, "restore|put the right one back", n.Log()[said:])
			continue
		}
		old := cluster.NewLedger() // of what there was then
		require.NoError(t, drainAll(ctx, c, old))
		require.Zero(t, old.Totals().Damaged)
		require.GreaterOrEqual(t, old.Totals().Deliveries, 20, "they were there before the copy")
		stop(t, c, n)
	}
}

// starts waits until a node is ready; the error says that it has ended instead.
func starts(n *cluster.Node) error {
	return cluster.Eventually(time.Minute, func() error {
		select {
		case <-n.Exited():
			return cluster.Final(errors.New("the node has ended"))
		default:
		}
		_, err := cluster.Get("http://" + n.Admin + "/readyz")
		return err
	})
}

// drainAll receives and deletes until nothing more comes.
func drainAll(ctx context.Context, c *cluster.Cluster, l *cluster.Ledger) error {
	q := c.Client(0, true).Queue("damage")
	for {
		before := l.Totals()
		if err := l.Receive(ctx, q, 0, nil); err != nil {
			return err
		}
		if l.Totals() == before {
			return nil
		}
	}
}
