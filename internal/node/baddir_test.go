package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
)

// used is a node that ran, with messages in a queue, and was stopped.
func used(t *testing.T, n int) *cluster {
	c := startCluster(t, 1)
	ctx := timeout(t)
	c.ready(ctx)
	_, err := c.nodes[0].router.CreateQueue(ctx, "1", "q", cmq.QueueSettings{})
	require.NoError(t, err)
	for i := range n {
		_, err := c.nodes[0].router.Send(ctx, "1", "q", [][]byte{body(i)}, 0)
		require.NoError(t, err)
	}
	c.stop(0)
	return c
}

func body(i int) []byte { return fmt.Appendf(nil, "message number %d of a queue", i) }

// again starts the node on its directory.
func (c *cluster) again() {
	opt := &c.opts[0]
	c.start(0, listen(c.t, opt.Nodes[0].Peer))
}

// drained is what can be received, until nothing more comes.
func (c *cluster) drained(ctx context.Context) (bodies []string) {
	wait := time.Duration(0)
	for {
		got, err := c.nodes[0].router.Receive(ctx, "1", "q", 16, &wait, 0)
		require.NoError(c.t, err)
		if len(got) == 0 {
			return bodies
		}
		for _, m := range got {
			bodies = append(bodies, string(m.Body))
		}
	}
}

// tree is every file of a directory with a hash of what is in it, but for the locks, which are empty.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
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

// damageBody flips a bit of a message in the files of set 1.
func damageBody(t *testing.T, dir string, text []byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "set-001", "*"))
	require.NoError(t, err)
	for _, name := range files {
		p, err := os.ReadFile(name)
		require.NoError(t, err)
		if i := bytes.Index(p, text); i >= 0 {
			p[i+len(text)/2] ^= 1
			require.NoError(t, os.WriteFile(name, p, 0o600))
			return
		}
	}
	t.Fatalf("%q is in no file", text)
}

// TestOnlyReplicaQuarantinesADamagedMessage: that one is reported, counted and skipped, and the queue goes on.
func TestOnlyReplicaQuarantinesADamagedMessage(t *testing.T) {
	c := used(t, 20)
	damageBody(t, c.opts[0].DataDir, body(7))
	c.again()
	ctx := timeout(t)
	c.ready(ctx)
	want := make([]string, 0, 20)
	for i := range 20 {
		if i != 7 {
			want = append(want, string(body(i)))
		}
	}
	require.Equal(t, want, c.drained(ctx))
	require.Eventually(t, func() bool {
		resp, err := http.Get("http://" + c.opts[0].Admin.Addr().String() + "/metrics")
		require.NoError(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return bytes.Contains(text, []byte(`cmq_messages_quarantined_total{set="1"} 1`))
	}, patience, 10*time.Millisecond)
}

// TestBadDirectoriesAreRefused with the file and the remedy named, and nothing changed on the disk.
func TestBadDirectoriesAreRefused(t *testing.T) {
	for name, row := range map[string]struct {
		harm func(t *testing.T, opt *Options)
		want []string // in the error: the file, what is wrong, what to do
	}{
		"of another cluster": {
			func(_ *testing.T, opt *Options) { opt.Cluster = "other" },
			[]string{"identity.json", `node 1 of cluster "test", not to node 1 of cluster "other"`, "give this node its own data directory"},
		},
		"of another node": {
			func(_ *testing.T, opt *Options) { opt.ID, opt.Nodes = 2, []cmq.Node{{ID: 2}} },
			[]string{"identity.json", "node 1 of cluster", "give this node its own data directory"},
		},
		"without its identity": {
			func(t *testing.T, opt *Options) {
				require.NoError(t, os.Remove(filepath.Join(opt.DataDir, "identity.json")))
			},
			[]string{"holds set-000 but no identity.json", "restore the file from a backup"},
		},
		"with another text for its identity": {
			func(t *testing.T, opt *Options) {
				require.NoError(t, os.WriteFile(filepath.Join(opt.DataDir, "identity.json"), []byte("what?"), 0o600))
			},
			[]string{"identity.json cannot be read", "restore it from a backup"},
		},
		"of a newer format": {
			func(t *testing.T, opt *Options) {
				name := filepath.Join(opt.DataDir, "set-001", "MANIFEST")
				p, err := os.ReadFile(name)
				require.NoError(t, err)
				p[8]++
				sum := crc32.Checksum(p[:len(p)-4], crc32.MakeTable(crc32.Castagnoli))
				p = append(p[:len(p)-4], byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24))
				require.NoError(t, os.WriteFile(name, p, 0o600))
			},
			[]string{"set-001/MANIFEST has format version 2", "start the newer program again"},
		},
		"without a set": {
			func(t *testing.T, opt *Options) {
				require.NoError(t, os.RemoveAll(filepath.Join(opt.DataDir, "set-001")))
			},
			[]string{"set-001 is missing, though this node has run before", "restore the whole data directory", "set-001.lost"},
		},
		"without the controller's set": {
			func(t *testing.T, opt *Options) {
				require.NoError(t, os.RemoveAll(filepath.Join(opt.DataDir, "set-000")))
			},
			[]string{"set-000 is missing, though this node has run before", "restore the whole data directory"},
		},
		"with an empty set": {
			func(t *testing.T, opt *Options) {
				dir := filepath.Join(opt.DataDir, "set-001")
				require.NoError(t, os.RemoveAll(dir))
				require.NoError(t, os.Mkdir(dir, 0o700))
			},
			[]string{"set-001 is missing, though this node has run before", "restore the whole data directory"},
		},
		"without the log": {
			func(t *testing.T, opt *Options) {
				files, err := filepath.Glob(filepath.Join(opt.DataDir, "set-001", "*.seg"))
				require.NoError(t, err)
				for _, name := range files {
					require.NoError(t, os.Remove(name))
				}
			},
			[]string{"set-001/0000000001.seg is damaged: the file is missing", "from a backup", "0000000001.seg.lost"},
		},
		"with a log of zero length": {
			func(t *testing.T, opt *Options) {
				require.NoError(t, os.Truncate(filepath.Join(opt.DataDir, "set-001", "0000000001.seg"), 0))
			},
			[]string{"set-001/0000000001.seg is damaged: the file is too short to be a segment", "from a backup"},
		},
		"without images": {
			func(t *testing.T, opt *Options) {
				files, err := filepath.Glob(filepath.Join(opt.DataDir, "set-001", "*.image"))
				require.NoError(t, err)
				for _, name := range files {
					require.NoError(t, os.Remove(name))
				}
			},
			[]string{"no image of the state can be read", ".image: the file is missing", "restore the whole data directory from a backup"},
		},
		"with the log of another set": {
			func(t *testing.T, opt *Options) {
				p, err := os.ReadFile(filepath.Join(opt.DataDir, "set-000", "0000000001.seg"))
				require.NoError(t, err)
				require.NoError(t, os.WriteFile(filepath.Join(opt.DataDir, "set-001", "0000000001.seg"), p, 0o600))
			},
			[]string{"set-001/0000000001.seg belongs to", "set 0", "put the right one back"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := used(t, 5)
			opt := c.opts[0]
			opt.Admin, opt.HTTP, opt.Peer = nil, nil, nil
			row.harm(t, &opt)
			before := tree(t, opt.DataDir)
			n, err := Start(opt)
			if err == nil {
				require.NoError(t, n.Stop(canceled()))
			}
			require.Error(t, err)
			for _, want := range row.want {
				require.ErrorContains(t, err, want)
			}
			require.Equal(t, before, tree(t, opt.DataDir))
		})
	}
}
