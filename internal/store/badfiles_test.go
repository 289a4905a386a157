package store

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/store/archive"
	"github.com/opencmq/cmq/internal/store/checkpoint"
	"github.com/opencmq/cmq/internal/store/segment"
	"github.com/opencmq/cmq/internal/vfs"
)

var rewrite = flag.Bool("rewrite", false, "write what came out to testdata")

// usableTestEntry takes the first message of an entry for its operations.
func usableTestEntry(data []byte) bool {
	return len(data) == slots*bodySize && crc32.ChecksumIEEE(data[:bodySize-4]) == le.Uint32(data[bodySize-4:])
}

// badDir is a directory to harm, with what harming it needs.
type badDir struct {
	t     *testing.T
	whole *vfs.Disk
	early *vfs.Disk // the same, some time before
	live  alive
	files []badFile
}

// badFile is a file by what it is for.
type badFile struct{ what, name string }

func newBadDir(t *testing.T) *badDir {
	early, live := oldStore(t)
	disk := early.Clone(nil)
	s, err := Open(disk.Mount(), "set", oldOptions())
	require.NoError(t, err)
	for i := uint64(400); i < 530; i += 10 {
		require.NoError(t, s.Log().Append(testEntries(1, i, i+10), segment.HardState{Term: 1, Commit: i + 9}, true))
	}
	for i := uint64(250); i < 530; i++ {
		live[at(i, uint16(i%slots))] = true
	}
	for range 3 {
		require.NoError(t, s.RewriteManifest())
	}
	first, last := s.Log().Numbers()
	seg := func(n uint64) string { return fmt.Sprintf("/set/%010d.seg", n) }
	d := &badDir{t: t, whole: disk, early: early, live: live, files: []badFile{
		{"root", "/set/" + manifestName},
		{"side file", "/set/" + segment.SideFile},
		{"newest image", filesWith(disk, checkpoint.Suffix)[1]},
		{"newest segment", seg(last)},
		{"segment behind the images", seg(last - 1)},
		{"first segment of the log", seg(first)},
		{"segment of the archive", "/set/" + s.man.segments[0].Name()},
		{"archive file", filesWith(disk, archive.Suffix)[0]},
	}}
	require.NoError(t, s.Close())
	return d
}

// foreign is the directory of another replica with files of the same names.
func (d *badDir) foreign(change func(*Options)) *vfs.Disk {
	opt := oldOptions()
	change(&opt)
	disk := newTestDisk(7)
	s, err := Create(disk.Mount(), "set", opt, testImage(10))
	require.NoError(d.t, err)
	require.NoError(d.t, s.Add([]Message{{Ref: at(5, 1), Body: testBody(at(5, 1))}}))
	require.NoError(d.t, s.Flush())
	require.NoError(d.t, s.Close())
	return disk
}

func copyFile(from *vfs.Disk, name string, to *vfs.Disk, as string) error {
	k, err := from.Keep(name)
	if err != nil {
		return err
	}
	return to.Put(k, as)
}

// stranger puts a file of another directory in the place of one.
func (d *badDir) stranger(change func(*Options)) func(disk *vfs.Disk, f badFile) error {
	other := d.foreign(change)
	return func(disk *vfs.Disk, f badFile) error {
		name := f.name
		if ext := path.Ext(name); ext != "" {
			name = filesWith(other, ext)[0]
		}
		return copyFile(other, name, disk, f.name)
	}
}

// newer gives a file the mark of the next version of its format.
func newer(disk *vfs.Disk, f badFile) error {
	size := int(disk.Size(f.name))
	return disk.Corrupt(f.name, 0, size, func(p []byte) {
		sum := func(from, to int) { le.PutUint32(p[to:], crc32.Checksum(p[from:to], castagnoli)) }
		switch f.what {
		case "side file":
			for _, at := range []int{0, 4096} {
				p[at+4]++
				sum(at, at+60)
			}
		case "root":
			p[8]++
			sum(0, size-4)
		case "newest image":
			p[8]++
			sum(0, 84)
		default:
			p[8]++
			sum(0, 60)
		}
	})
}

// badCases are the ways to harm a file.
func (d *badDir) badCases() []struct {
	name string
	harm func(disk *vfs.Disk, f badFile) error
} {
	return []struct {
		name string
		harm func(disk *vfs.Disk, f badFile) error
	}{
		{"missing", func(disk *vfs.Disk, f badFile) error { return disk.Vanish(f.name) }},
		{"zero length", func(disk *vfs.Disk, f badFile) error { return disk.Shorten(f.name, 0) }},
		{"cut in the middle", func(disk *vfs.Disk, f badFile) error { return disk.Shorten(f.name, disk.Size(f.name)/2) }},
		{"zeros in the middle", func(disk *vfs.Disk, f badFile) error {
			size := disk.Size(f.name)
			return disk.Corrupt(f.name, size/6, int(size/8), func(p []byte) { clear(p) })
		}},
		{"a flipped bit", func(disk *vfs.Disk, f badFile) error { return disk.Flip(f.name, disk.Size(f.name)/3, 3) }},
		{"of another node", d.stranger(func(o *Options) { o.Replica = 2 })},
		{"of another set", d.stranger(func(o *Options) { o.Set = 5 })},
		{"of another cluster", d.stranger(func(o *Options) { o.Cluster = 10 })},
		{"of a newer format", newer},
		{"an older copy", func(disk *vfs.Disk, f badFile) error {
			if d.early.Size(f.name) < 0 {
				return errNoSuch
			}
			return copyFile(d.early, f.name, disk, f.name)
		}},
		{"another of the same kind", func(disk *vfs.Disk, f badFile) error {
			for _, name := range filesWith(disk, path.Ext(f.name)) {
				if path.Ext(name) != "" && name != f.name {
					return copyFile(disk, name, disk, f.name)
				}
			}
			return errNoSuch
		}},
		{"a text file", func(disk *vfs.Disk, f badFile) error {
			if err := disk.Vanish(f.name); err != nil {
				return err
			}
			return vfs.WriteFile(disk.Mount(), f.name, bytes.Repeat([]byte("not what you think\n"), 500))
		}},
	}
}

var errNoSuch = errors.New("there is none")

// outcome opens a harmed directory and says what came of it. Whatever that is: nothing wrong is served, what is missing is known, and a
// refusal names a file and a remedy and changes nothing.
func (d *badDir) outcome(disk *vfs.Disk, alone bool) string {
	t := d.t
	opt := oldOptions()
	opt.Alone, opt.Usable = alone, usableTestEntry
	before := filesOf(t, disk)
	s, err := Open(disk.Mount(), "set", opt)
	if err != nil {
		require.Equal(t, before, filesOf(t, disk), "refused, but something changed")
		require.ErrorContains(t, err, "set/", "which file?")
		require.Regexp(t, `restore |put the right|start the newer|move it away`, err.Error(), "what to do?")
		require.NotErrorIs(t, err, ErrNotExist, "it would be created anew")
		return "refused: " + strings.TrimPrefix(err.Error(), "open store in set: ")
	}
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for _, h := range s.Log().Holes() {
		say("entries %d-%d are asked for", h.Lo, h.Hi-1)
	}
	if s.Log().Short() {
		say("the log's end is asked for")
	}
	if s.Log().Amnesia() {
		say("term and vote are asked for")
	}
	base := uint64(0)
	if img, err := s.LatestImage(); errors.Is(err, ErrNoImage) {
		say("an image is asked for")
	} else if base = img.Index; base != 300 {
		say("image %d is used", base)
	}
	if !s.Log().Short() && len(s.Log().Holes()) == 0 {
		require.Equal(t, uint64(529), s.Log().LastIndex(), "acknowledged")
	}
	if alone {
		require.Empty(t, s.Log().Holes())
		require.False(t, s.Log().Short() || s.Log().Amnesia())
		require.NotZero(t, base)
		if m := s.Log(); m.LastIndex() > base { // what is behind the image can be replayed
			_, err := m.Entries(base+1, m.LastIndex()+1, 1<<30)
			require.NoError(t, err)
		}
	}
	lost := d.unreadable(s)
	if len(lost) > 0 {
		say("%d messages are %s, of entries %d-%d", len(lost), map[bool]string{false: "asked for", true: "lost"}[alone], lost[0].Index, lost[len(lost)-1].Index)
	}
	if s.remade {
		say("the root is made again")
	}
	again := alone && s.Log().FirstIndex() == base+1 // the log begins anew, with what it has behind the image
	require.NoError(t, s.Close())
	for name := range before {
		if !again || path.Ext(name) == archive.Suffix || path.Ext(name) == "" {
			require.Contains(t, disk.Files(), name, "removed")
		}
	}
	if len(out) == 0 {
		return "goes on"
	}
	return strings.Join(out, ", ")
}

// unreadable lists the living messages that cannot be read. What can be read is right.
func (d *badDir) unreadable(s *Store) (lost []Ref) {
	for ref := range d.live {
		m, err := s.Message(ref)
		if err == nil {
			require.Equal(d.t, Message{Ref: ref, Body: testBody(ref)}, m)
			continue
		}
		require.True(d.t, errors.Is(err, ErrGone) || errors.As(err, new(*segment.DamageError)) || errors.Is(err, segment.ErrUnavailable), "%v", err)
		lost = append(lost, ref)
	}
	slices.SortFunc(lost, func(a, b Ref) int { return int(int64(a.Index)-int64(b.Index))*slots + int(a.Slot) - int(b.Slot) })
	return lost
}

// TestBadFiles harms each kind of file in each way, in the directory of one of three replicas and in that of the only one. What comes of
// it is in testdata/badfiles.txt, to be read as an operator would.
func TestBadFiles(t *testing.T) {
	d := newBadDir(t)
	var b strings.Builder
	for _, f := range d.files {
		fmt.Fprintf(&b, "# %s\n", f.what)
		for _, c := range d.badCases() {
			row := map[bool]string{}
			for _, alone := range []bool{false, true} {
				disk := d.whole.Clone(nil)
				if err := c.harm(disk, f); errors.Is(err, errNoSuch) {
					continue
				} else {
					require.NoError(t, err, "%s: %s", f.what, c.name)
				}
				t.Logf("%s: %s, alone %v", f.what, c.name, alone)
				row[alone] = d.outcome(disk, alone)
			}
			if len(row) > 0 {
				fmt.Fprintf(&b, "\n%s\n  one of three: %s\n  alone:        %s\n", c.name, row[false], row[true])
			}
		}
		b.WriteString("\n")
	}
	if *rewrite {
		require.NoError(t, os.WriteFile("testdata/badfiles.txt", []byte(b.String()), 0o644))
	}
	want, err := os.ReadFile("testdata/badfiles.txt")
	require.NoError(t, err)
	require.Equal(t, string(want), b.String())
}
