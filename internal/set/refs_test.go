package set

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/store/reflog"
	"github.com/opencmq/cmq/internal/vfs"
)

// referring is a list with references of one lane, all of which are damaged or not.
type referring struct {
	*list
	runs   []reflog.Run
	some   []reflog.Run // that can be read if damaged
	broken *reflog.DamageError
	wreck  string

	repaired []reflog.Run // by others
	salvaged []string     // the wrecks it was given
	enough   bool         // they are enough
}

func (m *referring) Runs(reflog.Key, uint64, uint64, int) ([]reflog.Run, error) {
	if m.broken != nil {
		return m.some, m.broken
	}
	return m.runs, nil
}

func (m *referring) WreckRefs(reflog.Key, uint64, uint64, int) []byte { return []byte(m.wreck) }

func (m *referring) VerifyRefs(func(int) error, func(reflog.Key, uint64, uint64)) error { return nil }

func (m *referring) RepairRefs(_ reflog.Key, _, _ uint64, runs []reflog.Run) {
	m.repaired, m.broken = runs, nil
}

func (m *referring) SalvageRefs(_ reflog.Key, _, _ uint64, runs []reflog.Run, wrecks [][]byte) error {
	m.salvaged = nil
	for _, w := range wrecks {
		m.salvaged = append(m.salvaged, string(w))
	}
	m.repaired = runs
	if m.enough {
		return nil
	}
	return m.broken
}

// refer gives every replica references that are damaged.
func (c *trio) refer() map[cmq.NodeID]*referring {
	all := map[cmq.NodeID]*referring{}
	for id, m := range c.members {
		all[id] = &referring{
			list: m.m, runs: []reflog.Run{{Seq: 5, N: 2}}, some: []reflog.Run{{Seq: 4 + uint64(id), N: 1}},
			broken: &reflog.DamageError{File: "set/refs-0000000001.chunk"}, wreck: "wreck of " + string('0'+rune(id)),
		}
		m.r.machine = all[id]
	}
	return all
}

// fetchRefs is what comes of asking for references.
func (c *trio) fetchRefs(m *member) error {
	var err error
	done := false
	m.r.FetchRefs(reflog.Key{Shard: 1}, 5, 7, func(e error) { done, err = true, e })
	c.tick(int(8 * askPatience / TickInterval))
	require.True(c.t, done)
	return err
}

func TestReferencesComeFromWhoeverCanReadThem(t *testing.T) {
	for _, whole := range []cmq.NodeID{2, 3} {
		c := newTrio(t)
		l := c.elect(1)
		all := c.refer()
		all[whole].broken = nil
		require.NoError(t, c.fetchRefs(l))
		require.Equal(t, all[whole].runs, all[1].repaired)
		require.Nil(t, all[1].salvaged)
	}
}

// TestReferencesDamagedEverywhereArePutTogether from what the others can read, and the wrecks of what they cannot.
func TestReferencesDamagedEverywhereArePutTogether(t *testing.T) {
	c := newTrio(t)
	l := c.elect(1)
	all := c.refer()
	all[1].enough = true
	require.NoError(t, c.fetchRefs(l))
	require.Equal(t, []string{"wreck of 2", "wreck of 3"}, all[1].salvaged)
	require.ElementsMatch(t, slices.Concat(all[2].some, all[3].some), all[1].repaired)
}

// TestReferencesAreLostWhenAllHaveSaidSo, and not while one of the others may have them.
func TestReferencesAreLostWhenAllHaveSaidSo(t *testing.T) {
	c := newTrio(t)
	l := c.elect(1)
	all := c.refer()
	require.ErrorIs(t, c.fetchRefs(l), ErrLost)
	all[1].broken.Whole = true
	require.ErrorIs(t, c.fetchRefs(l), ErrLost, "the others have nothing to put back")
	c.members[3].r.pull = &pull{done: true}
	require.ErrorIs(t, c.fetchRefs(l), ErrUnsure, "one that is being filled may get them")
	c.crash(3)
	require.ErrorIs(t, c.fetchRefs(l), ErrUnsure, "one that is down may have them")
	all[1].enough = true
	require.NoError(t, c.fetchRefs(l), "what is put together is right whoever is down")
}

// TestReferencesAreNotTakenFromWhoLags: it does not have all that is in the image here, and would not know.
func TestReferencesAreNotTakenFromWhoLags(t *testing.T) {
	c := newTrio(t)
	c.images = 1 << 10
	for _, id := range []cmq.NodeID{1, 2, 3} {
		c.crash(id)
		c.boot(id)
	}
	l := c.elect(1)
	c.cut[[2]cmq.NodeID{1, 3}], c.cut[[2]cmq.NodeID{3, 1}] = true, true
	c.fillUp(l, 40)
	c.tick(3)
	all := c.refer()
	all[3].broken, all[3].runs = nil, nil
	require.Less(t, c.members[3].r.applied, l.r.storage.image.Index)
	c.cut[[2]cmq.NodeID{1, 3}], c.cut[[2]cmq.NodeID{3, 1}] = false, false
	var answers []*Answer
	c.lose = func(from cmq.NodeID, e Envelope) bool {
		if a := e.Answer; from == 3 && a != nil && a.Kind == AskRefs {
			answers = append(answers, a)
		}
		return from == 1 && e.Raft != nil && e.To == 3
	}
	require.ErrorIs(t, c.fetchRefs(l), ErrUnsure)
	require.NotEmpty(t, answers)
	require.Equal(t, []string{"wreck of 2"}, all[1].salvaged)
	c.lose = nil
	all[3].runs = []reflog.Run{{Seq: 5, N: 2}}
	c.tick(20)
	require.NoError(t, c.fetchRefs(l))
}

// TestReferencesOfTheOnlyReplica are lost at once, unless their file is lost as a whole: that may be put back, until its operator gives it up.
func TestReferencesOfTheOnlyReplica(t *testing.T) {
	c, m := solo(t)
	r := c.refer()[1]
	require.ErrorIs(t, c.fetchRefs(m), ErrLost)
	r.broken.Whole = true
	require.ErrorIs(t, c.fetchRefs(m), ErrUnsure)
	require.NoError(t, vfs.WriteFile(m.fs, r.broken.File+".lost"))
	require.ErrorIs(t, c.fetchRefs(m), ErrLost)
	r.enough = true
	require.NoError(t, c.fetchRefs(m))
}
