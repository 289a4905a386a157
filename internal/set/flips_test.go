package set

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/store"
)

// flipAnywhere flips one random bit of one random file of the replica, but for those with the names given.
func (c *trio) flipAnywhere(rng *rand.Rand, m *member, running bool, not ...string) string {
	var names []string
	for _, name := range m.disk.Files() {
		if !slices.Contains(append(not, "LOCK"), path.Base(name)) {
			names = append(names, name)
		}
	}
	fs := m.fs
	if !running {
		fs = m.disk.Mount()
	}
	name := names[rng.IntN(len(names))]
	info, err := fs.Stat(strings.TrimPrefix(name, "/"))
	require.NoError(c.t, err)
	if info.Size == 0 {
		return ""
	}
	at := rng.Int64N(info.Size)
	require.NoError(c.t, m.disk.Flip(name, at, uint(rng.IntN(8))))
	return fmt.Sprintf("node %d: %s at %d", m.id, name, at)
}

// TestFlippedBitsHeal flips bits while replicas run, while one is stopped, and on all of them at once. Left out are the root of a
// stopped replica, which refuses to start and says what to do, and the votes of a running one, which it does not read again.
// CMQ_FLIPS is how often, CMQ_FLIP one seed.
func TestFlippedBitsHeal(t *testing.T) {
	seeds, first := uint64(60), uint64(0)
	if n, err := strconv.ParseUint(os.Getenv("CMQ_FLIPS"), 10, 64); err == nil {
		seeds = n
	}
	if n, err := strconv.ParseUint(os.Getenv("CMQ_FLIP"), 10, 64); err == nil {
		first, seeds = n, n+1
	}
	for seed := first; seed < seeds; seed++ {
		rng := rand.New(rand.NewPCG(seed, 5))
		c := smallImages(t)
		c.elect(1)
		c.fillUp(c.leader(), 150)
		c.tick(2)
		var flipped []string
		switch seed % 3 {
		case 0: // one runs on
			m := c.members[cmq.NodeID(1+rng.IntN(3))]
			for range 3 {
				flipped = append(flipped, c.flipAnywhere(rng, m, true, "hardstate"))
			}
		case 1: // one is stopped
			id := cmq.NodeID(1 + rng.IntN(3))
			c.crash(id)
			flipped = append(flipped, c.flipAnywhere(rng, c.members[id], false))
			c.fillUp(c.leader(), 20)
			c.bootNoting(id, flipped)
		case 2: // all are stopped
			for _, id := range []cmq.NodeID{1, 2, 3} {
				c.crash(id)
			}
			for _, id := range []cmq.NodeID{1, 2, 3} {
				flipped = append(flipped, c.flipAnywhere(rng, c.members[id], false))
				c.bootNoting(id, flipped)
			}
		}
		c.tick(700)
		c.fillUp(c.leader(), 30)
		c.tick(1400)
		for _, m := range c.members {
			require.NoError(t, m.err, "seed %d: %v", seed, flipped)
			require.Nil(t, m.r.repair, "seed %d: %v", seed, flipped)
			require.Empty(t, m.lost(), "seed %d: %v", seed, flipped)
		}
		c.whole()
		{ // nothing is left that the next start or the scrubber would find
			for _, m := range c.members {
				require.NoError(t, m.st.Scrub(func(int) error { return nil }, func(d store.Damage) { t.Errorf("seed %d: %v: left: %v", seed, flipped, d) }))
			}
		}
	}
}

func (c *trio) bootNoting(id cmq.NodeID, what []string) {
	c.t.Helper()
	defer func() {
		if c.t.Failed() {
			c.t.Log(what)
		}
	}()
	c.boot(id)
}
