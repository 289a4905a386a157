package store

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/store/archive"
	"github.com/opencmq/cmq/internal/store/checkpoint"
	"github.com/opencmq/cmq/internal/store/segment"
	"github.com/opencmq/cmq/internal/vfs"
)

// oldStore makes a directory with everything a root names: segments of the log and of the archive, archive files, two images. It
// returns which messages live.
func oldStore(t *testing.T) (*vfs.Disk, alive) {
	t.Helper()
	disk := newTestDisk(1)
	s, err := Create(disk.Mount(), "set", oldOptions(), testImage(10))
	require.NoError(t, err)
	live := alive{}
	for i := uint64(11); i < 80; i++ { // sparse: archive files
		live[at(i, uint16(i%slots))] = true
	}
	for i := uint64(80); i < 250; i++ { // dense: segments
		for slot := range uint16(slots) {
			live[at(i, slot)] = true
		}
	}
	for i := uint64(11); i < 400; i += 10 {
		hi := min(i+10, 400)
		require.NoError(t, s.Log().Append(testEntries(1, i, hi), segment.HardState{Term: 1, Commit: hi - 1}, true))
	}
	require.NoError(t, s.SaveImage(testImage(200)))
	require.NoError(t, s.SaveImage(testImage(300)))
	_, err = s.Maintain(live, 1<<60, noThrottle)
	require.NoError(t, err)
	live[at(398, 2)] = true
	require.NotEmpty(t, s.man.files)
	require.NotEmpty(t, s.man.segments)
	require.Len(t, s.man.images, 2)
	require.NoError(t, s.Close())
	return disk, live
}

// oldOptions are those of such a directory. Its segments are large enough that a full one stays as it is.
func oldOptions() Options {
	o := testOptions()
	o.SegmentSize = 32 << 10
	return o
}

// filesOf is the content of every file of a disk, but for the lock, which has none.
func filesOf(t *testing.T, disk *vfs.Disk) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, name := range disk.Files() {
		p, err := vfs.ReadFile(disk.Mount(), name)
		require.NoError(t, err)
		if !strings.HasSuffix(name, lockName) {
			out[name] = string(p)
		}
	}
	return out
}

func filesWith(disk *vfs.Disk, suffix string) []string {
	return slices.DeleteFunc(disk.Files(), func(name string) bool { return !strings.HasSuffix(name, suffix) })
}

func TestRootIsMadeAgainFromTheFiles(t *testing.T) {
	root := "/set/" + manifestName
	for name, harm := range map[string]func(d *vfs.Disk) error{
		"missing":       func(d *vfs.Disk) error { return d.Vanish(root) },
		"empty":         func(d *vfs.Disk) error { return d.Shorten(root, 0) },
		"cut":           func(d *vfs.Disk) error { return d.Shorten(root, 100) },
		"a flipped bit": func(d *vfs.Disk) error { return d.Flip(root, 90, 3) },
		"unreadable":    func(d *vfs.Disk) error { return d.BadSectors(root, 0, 100) },
		"another file's bytes": func(d *vfs.Disk) error {
			k, err := d.Keep(filesWith(d, checkpoint.Suffix)[0])
			if err != nil {
				return err
			}
			return d.Put(k, root)
		},
	} {
		t.Run(name, func(t *testing.T) {
			disk, live := oldStore(t)
			s, err := Open(disk.Mount(), "set", oldOptions())
			require.NoError(t, err)
			want, last, hs := s.man.clone(), s.Log().LastIndex(), s.Log().HardState()
			require.NoError(t, s.Close())
			before := disk.Files()
			require.NoError(t, harm(disk))
			s, err = Open(disk.Mount(), "set", oldOptions())
			require.NoError(t, err)
			require.Equal(t, want.images, s.man.images)
			require.Equal(t, want.segments, s.man.segments)
			require.ElementsMatch(t, want.files, s.man.files)
			require.Equal(t, want.first, s.man.first)
			require.GreaterOrEqual(t, s.man.next, want.next)
			require.Equal(t, last, s.Log().LastIndex())
			require.Equal(t, hs, s.Log().HardState())
			require.Empty(t, s.Log().Holes())
			require.False(t, s.Log().Amnesia() || s.Log().Short())
			live.mustHave(t, s)
			require.Equal(t, KindManifest, s.Damage()[0].Kind)
			require.Subset(t, disk.Files(), before, "nothing is removed")
			require.NoError(t, s.Close())
			disk.Crash(vfs.LoseAll)
			s, err = Open(disk.Mount(), "set", oldOptions())
			require.NoError(t, err)
			require.Empty(t, s.Damage(), "the new root is whole")
			live.mustHave(t, s)
			mustAppend(t, s, 400, 420)
			require.NoError(t, s.SaveImage(testImage(410)))
			_, err = s.Maintain(live, 1<<60, noThrottle)
			require.NoError(t, err)
			live.mustHave(t, s)
		})
	}
}

// TestOlderRootIsNotTrusted: what was made since would be forgotten, and what was removed since be missed.
func TestOlderRootIsNotTrusted(t *testing.T) {
	disk, live := oldStore(t)
	kept, err := disk.Keep("/set/" + manifestName)
	require.NoError(t, err)
	s, err := Open(disk.Mount(), "set", oldOptions())
	require.NoError(t, err)
	mustAppend(t, s, 400, 500)
	for _, index := range []uint64{420, 450, 480} {
		require.NoError(t, s.SaveImage(testImage(index)))
	}
	for i := uint64(100); i < 200; i++ {
		for slot := range uint16(slots - 1) {
			delete(live, at(i, slot))
		}
	}
	_, err = s.Maintain(live, 1<<60, noThrottle)
	require.NoError(t, err)
	want := s.man.clone()
	require.NoError(t, s.Close())
	require.NoError(t, disk.Put(kept, "/set/"+manifestName))
	s, err = Open(disk.Mount(), "set", oldOptions())
	require.NoError(t, err)
	require.Equal(t, want.images, s.man.images)
	require.Equal(t, want.segments, s.man.segments)
	require.ElementsMatch(t, want.files, s.man.files)
	require.Contains(t, s.Damage()[0].Why, "older copy")
	require.Greater(t, s.man.sequence, want.sequence)
	live.mustHave(t, s)
}

// TestOlderSideFilePutsTheVoteInDoubt, for the root knows that it was written since.
func TestOlderSideFilePutsTheVoteInDoubt(t *testing.T) {
	disk, live := oldStore(t)
	kept, err := disk.Keep("/set/" + segment.SideFile)
	require.NoError(t, err)
	s, err := Open(disk.Mount(), "set", oldOptions())
	require.NoError(t, err)
	require.NoError(t, s.Log().Append(nil, segment.HardState{Term: 7, Vote: 2, Commit: 399}, true))
	require.NoError(t, s.Log().Append(testEntries(7, 400, 405), segment.HardState{Term: 7, Vote: 2, Commit: 404}, true))
	for _, index := range []uint64{401, 402} {
		img := testImage(index)
		img.Term = 7
		require.NoError(t, s.SaveImage(img))
	}
	disk.Crash(vfs.KillProcess)
	require.NoError(t, disk.Put(kept, "/set/"+segment.SideFile))
	for range 2 {
		s, err = Open(disk.Mount(), "set", oldOptions())
		require.NoError(t, err)
		require.True(t, s.Log().Amnesia())
		require.Equal(t, uint64(402), s.NewestIndex())
		live.mustHave(t, s)
		require.NoError(t, s.Close())
	}
}

// TestLostRootIsNotTheOnlyLoss: whatever else is damaged is found as if the root were there.
func TestLostRootIsNotTheOnlyLoss(t *testing.T) {
	last := func(d *vfs.Disk, suffix string) string { l := filesWith(d, suffix); return l[len(l)-1] }
	for name, row := range map[string]struct {
		harm  func(d *vfs.Disk) error
		check func(t *testing.T, s *Store, live alive)
	}{
		"the newest image": {
			func(d *vfs.Disk) error { return d.Flip(last(d, checkpoint.Suffix), 95, 1) },
			func(t *testing.T, s *Store, live alive) {
				require.Equal(t, uint64(200), s.NewestIndex())
				require.Empty(t, s.Log().Holes())
				live.mustHave(t, s)
			},
		},
		"all images": {
			func(d *vfs.Disk) error {
				for _, name := range filesWith(d, checkpoint.Suffix) {
					if err := d.Vanish(name); err != nil {
						return err
					}
				}
				return nil
			},
			func(t *testing.T, s *Store, live alive) {
				_, err := s.LatestImage()
				require.ErrorIs(t, err, ErrNoImage)
				live.mustHave(t, s)
			},
		},
		"the side file": {
			func(d *vfs.Disk) error { return d.Vanish("/set/" + segment.SideFile) },
			func(t *testing.T, s *Store, live alive) {
				require.False(t, s.Log().Amnesia(), "the log was closed in order and knows the vote")
				live.mustHave(t, s)
			},
		},
		"an archive file": {
			func(d *vfs.Disk) error { return d.Shorten(filesWith(d, archive.Suffix)[0], 200) },
			func(t *testing.T, s *Store, live alive) {
				var missing []Ref
				require.NoError(t, s.Missing(live, noThrottle, func(ref Ref) error { missing = append(missing, ref); return nil }))
				require.NotEmpty(t, missing)
				for _, ref := range missing {
					require.Less(t, ref.Index, uint64(100))
				}
			},
		},
		"the newest segment with entries": {
			func(d *vfs.Disk) error { l := filesWith(d, ".seg"); return d.Flip(l[len(l)-2], 5000, 1) },
			func(t *testing.T, s *Store, live alive) { require.NotEmpty(t, s.Log().Holes()) },
		},
		"everything": {
			func(d *vfs.Disk) error {
				for _, name := range d.Files() {
					if name != "/set/"+segment.SideFile && !strings.HasSuffix(name, lockName) {
						if err := d.Vanish(name); err != nil {
							return err
						}
					}
				}
				return nil
			},
			func(t *testing.T, s *Store, live alive) {
				require.True(t, s.Log().Short())
				_, err := s.LatestImage()
				require.ErrorIs(t, err, ErrNoImage)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			disk, live := oldStore(t)
			require.NoError(t, row.harm(disk))
			if slices.Contains(disk.Files(), "/set/"+manifestName) {
				require.NoError(t, disk.Vanish("/set/"+manifestName))
			}
			s, err := Open(disk.Mount(), "set", oldOptions())
			require.NoError(t, err)
			row.check(t, s, live)
		})
	}
}

// TestEntriesNobodyAgreedOnStayUnknown: what a log had beyond the image that replaced it is in a segment of the archive, behind
// its end, and must not be served because the root that knew the end is lost.
func TestEntriesNobodyAgreedOnStayUnknown(t *testing.T) {
	disk := newTestDisk(1)
	s, err := Create(disk.Mount(), "set", testOptions(), testImage(10))
	require.NoError(t, err)
	mustAppend(t, s, 11, 100)
	require.NoError(t, s.Log().Append(testEntries(2, 100, 120), segment.HardState{Term: 2, Vote: 3, Commit: 99}, true)) // never committed
	st, err := s.Stage(1000, 3, ImageSum([]byte("machine")))
	require.NoError(t, err)
	require.NoError(t, st.AddImage(0, []byte("machine")))
	img := testImage(1000)
	img.Term, img.Parts = 3, [][]byte{[]byte("machine")}
	require.NoError(t, st.Finish(img, segment.HardState{Term: 3}))
	require.NoError(t, s.Install(st, 0))
	require.NoError(t, s.Close())
	require.NoError(t, disk.Vanish("/set/"+manifestName))
	s, err = Open(disk.Mount(), "set", testOptions())
	require.NoError(t, err)
	require.Equal(t, uint64(1001), s.Log().FirstIndex())
	require.Equal(t, uint64(1000), s.NewestIndex())
	alive{at(20, 0): true, at(98, 4): true}.mustHave(t, s)
	for index := uint64(100); index < 120; index++ {
		_, err = s.Message(at(index, 0))
		require.ErrorIs(t, err, ErrGone)
	}
}

// TestCrashWhileTheRootIsMadeAgain, at every operation of the disk.
func TestCrashWhileTheRootIsMadeAgain(t *testing.T) {
	whole, live := oldStore(t)
	require.NoError(t, whole.Shorten("/set/"+manifestName, 40))
	for n := 1; ; n++ {
		disk := whole.Clone(nil)
		left := n
		disk.OnOp(func(vfs.Op) error {
			if left--; left == 0 {
				return vfs.ErrCrashed
			}
			return nil
		})
		s, err := Open(disk.Mount(), "set", oldOptions())
		done := left > 0
		if err == nil {
			_ = s.Close() // the crash may be in it
		}
		disk.OnOp(nil)
		disk.Crash(vfs.LoseAll)
		s, err = Open(disk.Mount(), "set", oldOptions())
		require.NoError(t, err, "operation %d", n)
		live.mustHave(t, s)
		require.Equal(t, uint64(399), s.Log().LastIndex(), "operation %d", n)
		if done {
			require.Greater(t, n, 5)
			return
		}
	}
}

// TestForeignFilesAreRefused: without a root nobody can say that they took the place of files of this replica. Nothing changes.
func TestForeignFilesAreRefused(t *testing.T) {
	theirs := oldOptions()
	theirs.Replica = 2
	foreign := newTestDisk(3)
	s, err := Create(foreign.Mount(), "set", theirs, testImage(10))
	require.NoError(t, err)
	require.NoError(t, s.Add([]Message{{Ref: at(5, 1), Body: testBody(at(5, 1))}}))
	require.NoError(t, s.Flush())
	require.NoError(t, s.Close())
	for _, suffix := range []string{".seg", checkpoint.Suffix, archive.Suffix} {
		t.Run(suffix, func(t *testing.T) {
			disk, _ := oldStore(t)
			require.NoError(t, disk.Vanish("/set/"+manifestName))
			name := filesWith(disk, suffix)[0]
			kept, err := foreign.Keep(filesWith(foreign, suffix)[0])
			require.NoError(t, err)
			require.NoError(t, disk.Put(kept, name))
			before := filesOf(t, disk)
			_, err = Open(disk.Mount(), "set", oldOptions())
			var refused *segment.ForeignError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, name, "/"+refused.File)
			require.Equal(t, before, filesOf(t, disk))
		})
	}
}

// TestRootThatWasMadeAgainIsHealed with the next change: it is not damaged for ever.
func TestRootThatWasMadeAgainIsHealed(t *testing.T) {
	disk, _ := oldStore(t)
	require.NoError(t, disk.Flip("/set/"+manifestName, 3, 1))
	s, err := Open(disk.Mount(), "set", oldOptions())
	require.NoError(t, err)
	require.Len(t, s.Damage(), 1)
	require.Equal(t, KindManifest, s.Damage()[0].Kind)
	require.NoError(t, s.SaveImage(testImage(390)))
	require.Empty(t, s.Damage())
}
