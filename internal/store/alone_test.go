package store

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/store/segment"
	"github.com/opencmq/cmq/internal/vfs"
)

func aloneOptions() Options {
	o := oldOptions()
	o.Alone, o.Usable = true, usableTestEntry
	return o
}

// rot flips a bit of a message, wherever the directory has it.
func rot(t *testing.T, disk *vfs.Disk, ref Ref) {
	t.Helper()
	text := fmt.Appendf(nil, "slot %d of entry %d ", ref.Slot, ref.Index)
	found := false
	for _, name := range disk.Files() {
		require.NoError(t, disk.Corrupt(name, 0, int(disk.Size(name)), func(p []byte) {
			if i := bytes.Index(p, text); i >= 0 {
				p[i+2] ^= 4
				found = true
			}
		}))
	}
	require.True(t, found, "%v", ref)
}

// TestOnlyReplicaGoesOnWithoutDamagedMessages: exactly those are lost, wherever they are stored.
func TestOnlyReplicaGoesOnWithoutDamagedMessages(t *testing.T) {
	d := newBadDir(t)
	for name, refs := range map[string][]Ref{
		"behind the images":                         {at(453, 3)},
		"in the newest segment":                     {at(504, 4), at(528, 3)},
		"before the newest image, in the log":       {at(202, 1), at(203, 0)},
		"before the images, with the operations":    {at(230, 0)},
		"in the archive":                            {at(50, 0), at(120, 2), at(121, 2)},
		"everywhere":                                {at(50, 0), at(120, 2), at(203, 0), at(263, 3), at(453, 3), at(528, 3)},
		"two of one entry, one behind the other":    {at(120, 2), at(120, 3)},
		"before the newest image and right behind":  {at(300, 0), at(301, 1)},
		"the operations of the entry of the image":  {at(300, 0)},
		"in the last segment before and behind all": {at(215, 4), at(529, 4)},
	} {
		t.Run(name, func(t *testing.T) {
			disk := d.whole.Clone(nil)
			for _, ref := range refs {
				rot(t, disk, ref)
			}
			for range 2 {
				s, err := Open(disk.Mount(), "set", aloneOptions())
				require.NoError(t, err)
				require.Empty(t, s.Log().Holes())
				require.Equal(t, uint64(529), s.Log().LastIndex())
				require.Equal(t, uint64(300), s.NewestIndex())
				require.Equal(t, refs, d.unreadable(s))
				_, err = s.Log().Entries(301, 530, 1<<30)
				require.NoError(t, err)
				require.NoError(t, s.Close())
			}
			s, err := Open(disk.Mount(), "set", aloneOptions())
			require.NoError(t, err)
			require.NoError(t, s.Log().Append(testEntries(2, 530, 540), segment.HardState{Term: 2, Commit: 539}, true))
			for range 2 { // the log lets go of everything; what is damaged is written anew without it
				img := testImage(539)
				img.Term = 2
				require.NoError(t, s.SaveImage(img))
			}
			_, err = s.Maintain(d.live, 1<<60, noThrottle)
			require.NoError(t, err)
			var sick []Damage
			require.NoError(t, s.Scrub(noThrottle, func(d Damage) { sick = append(sick, d) }))
			for _, damage := range sick {
				require.Equal(t, KindArchive, damage.Kind)
				_, err := s.Rewrite(damage, d.live, func([]Ref) ([]Message, error) { return nil, nil }, noThrottle)
				require.NoError(t, err)
			}
			require.Equal(t, refs, d.unreadable(s))
			require.NoError(t, s.Scrub(noThrottle, func(d Damage) { t.Errorf("left: %v", d) }))
		})
	}
}

// TestOnlyReplicaGivesUpWhatItsOperatorGivesUp, and nothing else.
func TestOnlyReplicaGivesUpWhatItsOperatorGivesUp(t *testing.T) {
	d := newBadDir(t)
	last := map[string]uint64{"newest segment": 499, "segment behind the images": 429, "first segment of the log": 529, "segment of the archive": 529, "archive file": 529}
	for _, f := range d.files {
		want, ok := last[f.what]
		if !ok {
			continue
		}
		t.Run(f.what, func(t *testing.T) {
			disk := d.whole.Clone(nil)
			require.NoError(t, disk.Vanish(f.name))
			_, err := Open(disk.Mount(), "set", aloneOptions())
			var refused *segment.DamageError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, f.name, "/"+refused.File)
			require.Contains(t, refused.Fix, refused.File+lostSuffix)
			require.NoError(t, vfs.WriteFile(disk.Mount(), f.name+lostSuffix))
			s, err := Open(disk.Mount(), "set", aloneOptions())
			require.NoError(t, err)
			require.Equal(t, want, s.Log().LastIndex())
			require.LessOrEqual(t, s.Log().HardState().Commit, want)
			lost := d.unreadable(s)
			require.NotEmpty(t, lost)
			if want < 529 {
				require.Equal(t, want+1, lost[0].Index, "everything before is there")
			}
			if f.what == "archive file" || f.what == "segment of the archive" {
				require.Contains(t, disk.Files(), f.name+lostSuffix, "it is good for as long as the root names the file")
				damage := s.Damage()
				i := slices.IndexFunc(damage, func(d Damage) bool { return d.Kind == KindArchive })
				require.GreaterOrEqual(t, i, 0)
				_, err := s.Rewrite(damage[i], d.live, func([]Ref) ([]Message, error) { return nil, nil }, noThrottle)
				require.NoError(t, err)
			}
			require.NoError(t, s.Close())
			s, err = Open(disk.Mount(), "set", aloneOptions())
			require.NoError(t, err)
			require.NotContains(t, disk.Files(), f.name+lostSuffix)
			require.Equal(t, lost, d.unreadable(s))
			next := want + 1
			require.NoError(t, s.Log().Append(testEntries(2, next, next+3), segment.HardState{Term: 2, Commit: next}, true))
			require.NoError(t, s.Close())
		})
	}
}

// TestCrashWhileTheOnlyReplicaBeginsItsLogAnew, at every operation of the disk.
func TestCrashWhileTheOnlyReplicaBeginsItsLogAnew(t *testing.T) {
	d := newBadDir(t)
	rot(t, d.whole, at(203, 0))
	rot(t, d.whole, at(453, 3))
	for n, done := 1, false; !done; n++ {
		for _, mode := range vfs.CrashModes() {
			disk := d.whole.Clone(rand.New(rand.NewPCG(uint64(n), uint64(mode))))
			left := n
			disk.OnOp(func(op vfs.Op) error {
				if !op.Kind.Changes() {
					return nil
				}
				if left--; left == 0 {
					return vfs.ErrCrashed
				}
				return nil
			})
			s, err := Open(disk.Mount(), "set", aloneOptions())
			done = left > 0
			if err == nil {
				_ = s.Close() // the crash may be in it
			}
			disk.OnOp(nil)
			disk.Crash(mode)
			s, err = Open(disk.Mount(), "set", aloneOptions())
			require.NoError(t, err, "operation %d, %v", n, mode)
			require.Equal(t, uint64(529), s.Log().LastIndex(), "operation %d, %v", n, mode)
			require.Equal(t, []Ref{at(203, 0), at(453, 3)}, d.unreadable(s), "operation %d, %v", n, mode)
			require.NoError(t, s.Close())
		}
		require.True(t, done || n < 200)
	}
}

// What is left of a newest segment that was made shorter counts, once the operator has said that the rest does not come back.
func TestOnlyReplicaGoesOnWithWhatIsLeftOfAShortenedSegment(t *testing.T) {
	d := newBadDir(t)
	i := slices.IndexFunc(d.files, func(f badFile) bool { return f.what == "newest segment" })
	disk, name := d.whole.Clone(nil), d.files[i].name
	f, err := disk.Mount().OpenFile(name, os.O_RDWR, 0)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(8000)) // some of its entries
	require.NoError(t, f.Sync())
	require.NoError(t, f.Close())
	_, err = Open(disk.Mount(), "set", aloneOptions())
	var refused *segment.DamageError
	require.ErrorAs(t, err, &refused)
	require.Contains(t, refused.Fix, refused.File+lostSuffix)
	require.NoError(t, vfs.WriteFile(disk.Mount(), name+lostSuffix))
	s, err := Open(disk.Mount(), "set", aloneOptions())
	require.NoError(t, err)
	last := s.Log().LastIndex()
	require.Greater(t, last, uint64(499))
	require.Less(t, last, uint64(529))
	require.NoError(t, s.Log().Append(testEntries(2, last+1, last+4), segment.HardState{Term: 2, Commit: last + 1}, true))
	require.NoError(t, s.Close())
	s, err = Open(disk.Mount(), "set", aloneOptions())
	require.NoError(t, err)
	require.NoError(t, s.Close())
}

// TestWhatTheOnlyReplicaRefuses: what other files or a new election tell costs nothing; a file of the log or of the archive that is missing
// or cut off is refused, with the file named; a damaged message in one is not.
func TestWhatTheOnlyReplicaRefuses(t *testing.T) {
	d := newBadDir(t)
	free := []string{"root", "side file", "newest image"}
	harms := map[string]func(disk *vfs.Disk, name string) error{
		"missing": func(disk *vfs.Disk, name string) error { return disk.Vanish(name) },
		"cut off": func(disk *vfs.Disk, name string) error { return disk.Shorten(name, disk.Size(name)/2) },
		"empty":   func(disk *vfs.Disk, name string) error { return disk.Shorten(name, 0) },
		"damaged": func(disk *vfs.Disk, name string) error { return disk.Flip(name, disk.Size(name)/2, 3) },
	}
	for _, f := range d.files {
		for how, harm := range harms {
			t.Run(f.what+" "+how, func(t *testing.T) {
				disk := d.whole.Clone(nil)
				require.NoError(t, harm(disk, f.name))
				s, err := Open(disk.Mount(), "set", aloneOptions())
				if slices.Contains(free, f.what) || how == "damaged" {
					require.NoError(t, err)
					require.Equal(t, uint64(529), s.Log().LastIndex(), "nothing confirmed is lost")
					require.NoError(t, s.Close())
					return
				}
				var refused *segment.DamageError
				require.ErrorAs(t, err, &refused)
				require.Equal(t, f.name, "/"+refused.File)
				require.Contains(t, refused.Fix, "from a backup")
			})
		}
	}
}

// TestRefusalOffersNothingThatHasNoEffect: a directory that is there cannot be given up by a file beside it.
func TestRefusalOffersNothingThatHasNoEffect(t *testing.T) {
	a := &alone{s: &Store{fs: vfs.NewDisk(nil).Mount(), dir: "set"}, base: 10}
	err := a.judge(&segment.Findings{First: 20})
	var refused *segment.DamageError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "set", refused.File)
	require.Contains(t, refused.Why, "entries 11 to 19 of the log are missing")
	require.Contains(t, refused.Fix, "restore the whole data directory")
	require.NotContains(t, refused.Fix, lostSuffix)
}
