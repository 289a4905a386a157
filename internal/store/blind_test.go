package store

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/store/reflog"
)

// blind is a Live whose references to messages of some stretches of the log are damaged. As the references' directory does, it
// knows that something is there.
type blind struct {
	alive
	stretches []reflog.Stretch
}

func (b blind) hidden(ref Ref) bool {
	for _, s := range b.stretches {
		if s.Lo <= ref.Index && ref.Index < s.Hi {
			return true
		}
	}
	return false
}

func (b blind) Each(lo, hi uint64, f func(Run) error) error {
	err := b.alive.Each(lo, hi, func(r Run) error {
		if b.hidden(Ref{Index: r.Index}) {
			return nil
		}
		return f(r)
	})
	var partial *reflog.PartialError
	for _, s := range b.stretches {
		if s.Lo < hi && lo < s.Hi {
			if partial == nil {
				partial = &reflog.PartialError{Damage: []*reflog.DamageError{{Why: "damaged by the test"}}}
			}
			partial.Stretches = append(partial.Stretches, s)
		}
	}
	if err == nil && partial != nil {
		return partial
	}
	return err
}

// TestDamagedReferencesKeepTheirFilesOnly: what they may lead to stays as it is, and all else becomes as small as ever.
func TestDamagedReferencesKeepTheirFilesOnly(t *testing.T) {
	disk := newTestDisk(1)
	s, err := Create(disk.Mount(), "data/set-4", testOptions(), testImage(10))
	require.NoError(t, err)
	mustAppend(t, s, 11, 600)
	require.NoError(t, s.SaveImage(testImage(500)))
	require.NoError(t, s.SaveImage(testImage(560)))
	live := blind{alive{}, []reflog.Stretch{{Lo: 150, Hi: 152}, {Lo: 350, Hi: 351}}}
	for index := uint64(11); index < 500; index += 20 {
		live.alive[at(index, 1)] = true
	}
	live.alive[at(150, 2)], live.alive[at(350, 0)] = true, true // which nothing finds
	r, err := s.Maintain(live, 1<<60, noThrottle)
	require.NoError(t, err)
	require.Positive(t, r.Rewritten)
	require.Positive(t, r.Blind)
	require.Zero(t, r.Damaged)
	live.mustHave(t, s)
	kept := 0
	for _, p := range s.shelf.pieces() {
		has := p.lo <= 151 && p.hi > 150 || p.lo <= 350 && p.hi > 350
		require.Equal(t, has, p.segment != nil, "[%d, %d)", p.lo, p.hi)
		if has {
			kept++
		}
	}
	require.Equal(t, 2, kept)
	require.Equal(t, kept, r.Blind)

	// The same again, and when all else is dead, changes nothing for those files.
	for ref := range live.alive {
		if !live.hidden(ref) {
			delete(live.alive, ref)
		}
	}
	_, err = s.Maintain(live, 1<<60, noThrottle)
	require.NoError(t, err)
	require.Len(t, s.shelf.pieces(), kept)
	live.mustHave(t, s)

	// A file with damage of its own is not written anew without what nobody can name.
	p := s.shelf.pieces()[0]
	_, err = s.Rewrite(Damage{Kind: KindArchive, Number: p.key, Lo: p.lo, Hi: p.hi}, live, nil, noThrottle)
	require.ErrorAs(t, err, new(*reflog.PartialError))
	live.mustHave(t, s)

	// With references that are whole again everything becomes small.
	live.stretches = nil
	r, err = s.Maintain(live, 1<<60, noThrottle)
	require.NoError(t, err)
	require.Zero(t, r.Blind)
	require.Equal(t, kept, r.Rewritten)
	live.mustHave(t, s)
}

// TestMissingGoesOnBehindDamagedReferences: what else is missing is named.
func TestMissingGoesOnBehindDamagedReferences(t *testing.T) {
	disk := newTestDisk(1)
	s, err := Create(disk.Mount(), "data/set-4", testOptions(), testImage(10))
	require.NoError(t, err)
	live := blind{alive{at(3, 0): true, at(5, 1): true, at(8, 2): true}, []reflog.Stretch{{Lo: 5, Hi: 6}}}
	var missing []Ref
	err = s.Missing(live, noThrottle, func(ref Ref) error { missing = append(missing, ref); return nil })
	require.ErrorAs(t, err, new(*reflog.PartialError))
	require.Equal(t, []Ref{at(3, 0), at(8, 2)}, missing)
}
