package set

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/store/archive"
)

// solo is a set of one replica with an archive, and messages that live.
func solo(t *testing.T) (*trio, *member) {
	c := newSet(t, 1)
	c.images = 8 << 10
	c.restart(1)
	m := c.elect(1)
	c.fillUp(m, 300)
	c.tick(3)
	require.NotEmpty(t, m.archived())
	return c, m
}

// fetched is what comes of asking for messages.
func (c *trio) fetched(m *member, refs ...store.Ref) error {
	var err error
	done := false
	m.r.FetchMessages(c.clock(), refs, func(_ []store.Message, e error) { done, err = true, e })
	c.work()
	require.True(c.t, done)
	return err
}

// living is the newest living message from the end, n of them skipped.
func (m *member) livingFromEnd(n int) (store.Ref, string) {
	runs := m.m.living()
	ref := store.Ref{Index: runs[len(runs)-1-n].Index}
	for i, index := range m.m.indexes {
		if index == ref.Index {
			return ref, m.m.entries[i]
		}
	}
	return ref, ""
}

// TestOnlyReplicaLosesExactlyWhatIsDamaged while it runs: it goes on leading, the message is given up, and the log and the archive are whole
// again without it.
func TestOnlyReplicaLosesExactlyWhatIsDamaged(t *testing.T) {
	for name, skip := range map[string]int{"in the newest segment": 0, "in the log": 2, "in the archive": 25} {
		t.Run(name, func(t *testing.T) {
			c, m := solo(t)
			if skip == 0 {
				c.fillUp(m, 1) // a living one
			}
			ref, text := m.livingFromEnd(skip)
			c.fillUp(m, 20) // it is not in memory any more
			require.True(t, c.flip(m, m.fs, []byte(text)) || c.flipIn(m, archive.Suffix, []byte(text)))
			require.Equal(t, []store.Ref{ref}, m.lost())
			require.ErrorIs(t, c.fetched(m, ref), ErrLost)
			c.tick(1300)
			require.NoError(t, m.err)
			require.True(t, m.m.leading)
			require.NoError(t, m.r.failed)
			require.Equal(t, []store.Ref{ref}, m.lost())
			require.NoError(t, m.st.Scrub(func(int) error { return nil }, func(d store.Damage) { t.Errorf("left: %v", d) }))
			c.fillUp(m, 3)
			c.restart(1)
			c.tick(100)
			require.Equal(t, []store.Ref{ref}, m.lost())
			require.True(t, m.m.leading)
		})
	}
}

// TestOnlyReplicaWaitsForAFileThatMayComeBack: messages in it are not given up.
func TestOnlyReplicaWaitsForAFileThatMayComeBack(t *testing.T) {
	c, m := solo(t)
	c.restart(1) // no file is open
	c.tick(100)
	name := m.archived()[0]
	kept, err := m.disk.Keep(name)
	require.NoError(t, err)
	require.NoError(t, m.disk.Vanish(name))
	lost := m.lost()
	require.NotEmpty(t, lost)
	require.ErrorIs(t, c.fetched(m, lost...), ErrUnsure)
	c.tick(1300)
	require.NoError(t, m.r.failed)
	require.ErrorIs(t, c.fetched(m, lost...), ErrUnsure)
	require.NoError(t, m.disk.Put(kept, name))
	require.Empty(t, m.lost())
}

// flipIn flips a bit of a text in the files with this ending.
func (c *trio) flipIn(m *member, ending string, text []byte) (found bool) {
	for _, name := range m.disk.Files() {
		if strings.HasSuffix(name, ending) {
			require.NoError(c.t, m.disk.Corrupt(name, 0, int(m.disk.Size(name)), func(p []byte) {
				if at := strings.Index(string(p), string(text)); at >= 0 {
					p[at+len(text)/2] ^= 0x80
					found = true
				}
			}))
		}
	}
	return found
}
