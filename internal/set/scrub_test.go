package set

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/store/archive"
)

// withArchive is a set whose replicas have let go of most of the log.
func withArchive(t *testing.T) (*trio, *member) {
	c := smallImages(t)
	l := c.elect(1)
	c.fillUp(l, 600)
	c.tick(3)
	for _, m := range c.members {
		require.NotEmpty(t, m.archived(), "node %d", m.id)
	}
	return c, l
}

// archived lists the replica's archive files.
func (m *member) archived() []string {
	var out []string
	for _, name := range m.disk.Files() {
		if strings.HasSuffix(name, archive.Suffix) {
			out = append(out, name)
		}
	}
	return out
}

// spoil flips a bit in a body, some hundredths into a file, behind the process's back.
func (m *member) spoil(t *testing.T, name string, percent int64) {
	info, err := m.fs.Stat(strings.TrimPrefix(name, "/"))
	require.NoError(t, err)
	require.NoError(t, m.disk.Flip(name, 64+(info.Size-64)*percent/100, 3))
}

// lost counts the living messages a replica cannot read.
func (m *member) lost() []store.Ref {
	var out []store.Ref
	for _, run := range m.m.living() {
		if ref := (store.Ref{Index: run.Index}); m.unreadable(ref) {
			out = append(out, ref)
		}
	}
	return out
}

func (m *member) unreadable(ref store.Ref) bool {
	_, err := m.st.Message(ref)
	return err != nil
}

func TestScrubberHealsTheArchive(t *testing.T) {
	c, _ := withArchive(t)
	m := c.members[2]
	for _, name := range m.archived() {
		m.spoil(t, name, 30)
	}
	require.NotEmpty(t, m.lost())
	c.tick(400)
	require.Empty(t, m.lost())
	require.NotZero(t, m.r.scrub.stats.Damaged)
	require.Empty(t, m.r.scrub.sick)
	require.Zero(t, m.r.generation, "the log is whole: it goes on voting")
	c.whole()
}

func TestDifferentDamageInEveryArchiveHeals(t *testing.T) {
	c, _ := withArchive(t)
	for id, percent := range map[cmq.NodeID]int64{1: 10, 2: 40, 3: 70} {
		m := c.members[id]
		for _, name := range m.archived() {
			m.spoil(t, name, percent)
		}
		require.NotEmpty(t, m.lost(), "node %d", id)
	}
	c.tick(1200)
	for _, m := range c.members {
		require.Empty(t, m.lost(), "node %d", m.id)
	}
	c.whole()
}

func TestMissingArchiveFileIsFetchedAgain(t *testing.T) {
	c, l := withArchive(t)
	c.crash(2)
	m := c.members[2]
	fs := m.disk.Mount()
	for _, name := range m.archived() {
		require.NoError(t, fs.Remove(strings.TrimPrefix(name, "/")))
	}
	require.NoError(t, fs.SyncDir("set"))
	c.boot(2)
	require.NotEmpty(t, m.lost())
	c.tick(10)
	c.fillUp(l, 40)
	c.tick(1300)
	require.Empty(t, m.lost())
	c.whole()
}

func TestMessageIsFetchedFromWhoeverHasIt(t *testing.T) {
	c, l := withArchive(t)
	for _, name := range l.archived() {
		l.spoil(t, name, 30)
	}
	lost := l.lost()
	require.NotEmpty(t, lost)
	var got []store.Message
	var err error = ErrUnsure
	l.r.FetchMessages(c.clock(), lost, func(found []store.Message, e error) { got, err = found, e })
	c.work()
	require.NoError(t, err)
	require.Len(t, got, len(lost))
	for _, m := range got {
		require.True(t, strings.HasPrefix(string(m.Body), "live"))
	}
}

func TestMessageThatNobodyHasIsLost(t *testing.T) {
	c, l := withArchive(t)
	nowhere := []store.Ref{{Index: 3, Slot: 9}, {Index: l.m.indexes[1]}}
	asked := func() (got []store.Message, err error) {
		answered := false
		l.r.FetchMessages(c.clock(), nowhere, func(found []store.Message, e error) { got, err, answered = found, e, true })
		c.tick(int(8 * askPatience / TickInterval))
		require.True(t, answered)
		return got, err
	}
	_, err := asked()
	require.ErrorIs(t, err, ErrLost)
	c.crash(3)
	_, err = asked()
	require.ErrorIs(t, err, ErrUnsure, "the one that is down may have them")
	c.boot(3)
	c.members[3].r.pull = &pull{done: true}
	_, err = asked()
	require.ErrorIs(t, err, ErrUnsure, "the one that is being filled may get them")
}
