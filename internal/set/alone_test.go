package set

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/store/archive"
	"github.com/opencmq/cmq/internal/store/reflog"
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

// TestOnlyReplicaFreesDiskBesideDamagedReferences, which nobody can give back: what they lead to stays, a file with damage of its own
// is healed if they do not lead to it and left alone if they may, and the files are not read again and again.
func TestOnlyReplicaFreesDiskBesideDamagedReferences(t *testing.T) {
	c, m := solo(t)
	c.fillUp(m, 1) // a living one, in a segment in which little lives
	dark := m.st.Log().LastIndex()
	m.m.dark = reflog.Stretch{Lo: dark, Hi: dark + 1}
	c.fillUp(m, 900)
	c.tick(1300)
	require.Greater(t, m.st.Log().FirstIndex(), dark)
	inTheDark := func() (name string) {
		for _, s := range m.st.Contents().Segments {
			if s.First <= dark && dark <= s.Last {
				name = s.Name()
			}
		}
		require.NotEmpty(t, name)
		return name
	}
	kept := inTheDark()
	for _, name := range m.archived() {
		m.spoil(t, name, 30)
	}
	ref := store.Ref{Index: dark}
	require.False(t, m.unreadable(ref))
	require.True(t, c.flipIn(m, kept, []byte("live 0 ")) || c.flipIn(m, kept, []byte("dead ")))
	before, files := m.r.scrub.stats.Passes, len(m.archived())
	for range 5 {
		c.fillUp(m, 200)
		c.tick(1300)
	}
	require.NoError(t, m.err)
	require.NoError(t, m.r.failed)
	require.True(t, m.m.leading)
	require.Equal(t, kept, inTheDark())
	require.False(t, m.unreadable(ref), "what nothing leads to any more is kept all the same")
	require.Greater(t, len(m.archived()), files)
	require.LessOrEqual(t, len(m.st.Contents().Segments), 2, "what else leaves the log is written anew")
	var left []string
	require.NoError(t, m.st.Scrub(func(int) error { return nil }, func(d store.Damage) { left = append(left, filepath.Base(d.File)) }))
	require.Equal(t, []string{kept}, slices.Compact(left))
	require.Less(t, m.r.scrub.stats.Passes-before, uint64(20))
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
