package vfs

import (
	"math/rand/v2"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// shown is the content of every file that programs see.
func shown(t *testing.T, d *Disk) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, name := range d.Files() {
		p, err := ReadFile(d.Mount(), name)
		require.NoError(t, err)
		out[name] = string(p)
	}
	return out
}

// TestForkIsCrashedAsTheDiskWouldBe: same draws, same outcome; and the disk itself knows nothing of it.
func TestForkIsCrashedAsTheDiskWouldBe(t *testing.T) {
	for _, mode := range CrashModes() {
		for seed := range uint64(20) {
			scene := func() *Disk {
				d := NewDisk(rand.New(rand.NewPCG(seed, 1)))
				fs := d.Mount()
				require.NoError(t, fs.MkdirAll("dir", 0o700))
				require.NoError(t, fs.SyncDir("/"))
				require.NoError(t, WriteFile(fs, "dir/kept", []byte("durable, and long enough")))
				f, err := fs.OpenFile("dir/kept", os.O_RDWR|os.O_CREATE, 0o600)
				require.NoError(t, err)
				for i := range int64(8) {
					_, err = f.WriteAt([]byte("not durable"), i*700)
					require.NoError(t, err)
				}
				require.NoError(t, f.Truncate(5000))
				_, err = fs.OpenFile("dir/new", os.O_RDWR|os.O_CREATE, 0o600)
				require.NoError(t, err)
				require.NoError(t, fs.Rename("dir/new", "dir/renamed"))
				return d
			}
			d := scene()
			before := shown(t, d)
			fork := d.Fork(rand.New(rand.NewPCG(seed, 1)))
			require.Equal(t, before, shown(t, fork))
			fork.Crash(mode)
			require.Equal(t, before, shown(t, d))
			d.Crash(mode)
			require.Equal(t, shown(t, d), shown(t, fork), "%v, seed %d", mode, seed)
			require.Equal(t, d.Used(), fork.Used())
		}
	}
}
