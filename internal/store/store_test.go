package store

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/store/archive"
	"github.com/opencmq/cmq/internal/store/checkpoint"
	"github.com/opencmq/cmq/internal/store/segment"
	"github.com/opencmq/cmq/internal/vfs"
)

func newTestDisk(seed uint64) *vfs.Disk { return vfs.NewDisk(rand.New(rand.NewPCG(seed, 2))) }

func noThrottle(int) error { return nil }

// The entries of these tests hold messages of bodySize bytes each: text, blanks, checksum.
const bodySize = 64

func testOptions() Options {
	return Options{
		Options: segment.Options{Cluster: 9, Set: 4, Replica: 1, SegmentSize: 16 << 10, CacheBytes: 1, ReadCacheBytes: 1, Rand: rand.NewChaCha8([32]byte{1})},
		Message: readTestMessage, OpenFiles: 3,
	}
}

func at(index uint64, slot uint16) Ref { return Ref{Index: index, Slot: slot} }

func testBody(ref Ref) []byte {
	text := fmt.Sprintf("slot %d of entry %d", ref.Slot, ref.Index)
	p := []byte(text + strings.Repeat(" ", bodySize-4-len(text)))
	return le.AppendUint32(p, crc32.ChecksumIEEE(p))
}

func readTestMessage(entry segment.Payload, slot uint16) (Message, error) {
	p := make([]byte, bodySize)
	if _, err := entry.ReadAt(p, int64(slot)*bodySize); err != nil {
		return Message{}, err
	}
	if crc32.ChecksumIEEE(p[:bodySize-4]) != le.Uint32(p[bodySize-4:]) {
		return Message{}, errors.New("checksum of the body")
	}
	return Message{Body: p}, nil
}

const slots = 5 // messages of an entry

func testEntry(term, index uint64) segment.Entry {
	var data []byte
	for slot := range uint16(slots) {
		data = append(data, testBody(at(index, slot))...)
	}
	return segment.Entry{Index: index, Term: term, Data: data}
}

func testEntries(term, lo, hi uint64) []segment.Entry {
	var es []segment.Entry
	for i := lo; i < hi; i++ {
		es = append(es, testEntry(term, i))
	}
	return es
}

func testImage(index uint64) Image {
	return Image{Image: checkpoint.Image{Index: index, Term: 1, ConfState: []byte("conf"), Time: int64(1000 + index), Parts: [][]byte{[]byte("machine "), []byte(fmt.Sprint("after ", index))}}}
}

// alive is a Live over a set of messages.
type alive map[Ref]bool

func (a alive) Weigh(f func(lo, hi, bytes uint64)) error {
	for ref := range a {
		f(ref.Index, ref.Index+1, bodySize)
	}
	return nil
}

func (a alive) Each(lo, hi uint64, f func(Run) error) error {
	for index := lo; index < hi && len(a) > 0; index++ {
		for slot := range uint16(slots) {
			if a[at(index, slot)] {
				if err := f(Run{Index: index, Slot: slot, N: 1, Bytes: bodySize}); err != nil {
					return err
				}
			}
		}
		if index > 1<<20 {
			break
		}
	}
	return nil
}

// mustHave checks that every living message can be read.
func (a alive) mustHave(t testing.TB, s *Store) {
	t.Helper()
	for ref := range a {
		m, err := s.Message(ref)
		require.NoError(t, err, "%v", ref)
		require.Equal(t, Message{Ref: ref, Body: testBody(ref)}, m)
	}
}

func mustAppend(t testing.TB, s *Store, lo, hi uint64) {
	t.Helper()
	for i := lo; i < hi; i++ {
		require.NoError(t, s.Log().Append(testEntries(1, i, i+1), segment.HardState{Term: 1, Commit: i}, true))
	}
}

func TestLifeOfAStore(t *testing.T) {
	disk := newTestDisk(1)
	_, err := Open(disk.Mount(), "data/set-4", testOptions())
	require.ErrorIs(t, err, fs.ErrNotExist)
	s, err := Create(disk.Mount(), "data/set-4", testOptions(), testImage(10))
	require.NoError(t, err)
	require.Equal(t, segment.HardState{Term: 1, Commit: 10}, s.Log().HardState())
	require.Equal(t, uint64(11), s.Log().FirstIndex())
	_, err = Open(disk.Mount(), "data/set-4", testOptions())
	require.ErrorIs(t, err, vfs.ErrLocked)
	mustAppend(t, s, 11, 400)
	require.ErrorIs(t, s.SaveImage(testImage(400)), ErrNotDurable)
	require.NoError(t, s.SaveImage(testImage(100)))
	require.NoError(t, s.SaveImage(testImage(300)))
	live := alive{at(50, 1): true, at(51, 0): true, at(390, 4): true}
	r, err := s.Maintain(live, 1<<60, noThrottle)
	require.NoError(t, err)
	require.Positive(t, r.Left)
	require.Positive(t, r.Dropped)
	require.Positive(t, r.Rewritten)
	require.Greater(t, s.Log().FirstIndex(), uint64(60))
	require.LessOrEqual(t, s.Log().FirstIndex(), uint64(101))
	live.mustHave(t, s)
	_, err = s.Message(at(52, 0))
	require.ErrorIs(t, err, ErrGone)
	first := s.Log().FirstIndex()
	require.NoError(t, s.Close())
	_, err = Create(disk.Mount(), "data/set-4", testOptions(), testImage(10))
	require.ErrorIs(t, err, fs.ErrExist)
	disk.Crash(vfs.LoseAll)
	s, err = Open(disk.Mount(), "data/set-4", testOptions())
	require.NoError(t, err)
	img, err := s.LatestImage()
	require.NoError(t, err)
	require.Equal(t, "machine after 300", string(img.Data()))
	require.Equal(t, int64(1300), img.Time)
	require.Equal(t, "conf", string(img.ConfState))
	require.Equal(t, uint64(300), s.NewestIndex())
	require.Equal(t, first, s.Log().FirstIndex())
	require.Equal(t, uint64(399), s.Log().LastIndex())
	live.mustHave(t, s)
}

func TestInstallGoesOnBehindTheImage(t *testing.T) {
	disk := newTestDisk(1)
	s, err := Create(disk.Mount(), "set", testOptions(), testImage(10))
	require.NoError(t, err)
	mustAppend(t, s, 11, 100)
	require.NoError(t, s.Log().Append(testEntries(2, 100, 120), segment.HardState{Term: 2, Vote: 3, Commit: 99}, true)) // never committed
	live := alive{at(20, 0): true, at(99, 4): true, at(105, 1): true, at(700, 0): true}
	require.True(t, s.Has(at(99, 4), 99))
	require.False(t, s.Has(at(105, 1), 99))
	st, err := s.Stage(1000, 3, ImageSum([]byte("machine of another")))
	require.NoError(t, err)
	require.NoError(t, s.Add([]Message{{Ref: at(105, 1), Body: testBody(at(105, 1))}, {Ref: at(700, 0), Body: testBody(at(700, 0))}}))
	require.NoError(t, s.Flush())
	require.NoError(t, st.AddImage(0, []byte("machine ")))
	require.NoError(t, st.Close())
	st, err = s.Stage(1000, 3, ImageSum([]byte("machine of another")))
	require.NoError(t, err)
	n, err := st.ImageHas()
	require.NoError(t, err)
	require.NoError(t, st.AddImage(n, []byte("of another")))
	img := testImage(1000)
	data, err := st.Image()
	require.NoError(t, err)
	img.Term, img.Parts = 3, [][]byte{data}
	require.NoError(t, st.Finish(img, segment.HardState{Term: 3}))
	require.NoError(t, s.Install(st, 0))
	for range 2 {
		l := s.Log()
		require.Equal(t, uint64(1001), l.FirstIndex())
		require.Equal(t, uint64(1000), l.LastIndex())
		require.Equal(t, segment.HardState{Term: 3, Commit: 1000}, l.HardState())
		term, err := l.Term(1000)
		require.NoError(t, err)
		require.Equal(t, uint64(3), term)
		img, err := s.LatestImage()
		require.NoError(t, err)
		require.Equal(t, "machine of another", string(img.Data()))
		live.mustHave(t, s)
		_, err = s.Message(at(105, 0)) // of an entry the set never agreed on
		require.ErrorIs(t, err, ErrGone)
		disk.Crash(vfs.LoseAll)
		s, err = Open(disk.Mount(), "set", testOptions())
		require.NoError(t, err)
	}
	require.NoError(t, s.Log().Append([]segment.Entry{testEntry(3, 1001)}, segment.HardState{Term: 3, Commit: 1001}, true))
	require.NoError(t, s.SaveImage(testImage(1001)))
	_, err = s.Maintain(live, 1<<60, noThrottle)
	require.NoError(t, err)
	live.mustHave(t, s)
}

// TestStagedImageIsChecked: its part is not synced while it is fetched, so what a crash leaves may have the right length and other
// bytes; and two images of one entry are not mixed.
func TestStagedImageIsChecked(t *testing.T) {
	disk := newTestDisk(1)
	s, err := Create(disk.Mount(), "set", testOptions(), testImage(10))
	require.NoError(t, err)
	sum := ImageSum([]byte("right bytes"))
	st, err := s.Stage(1000, 3, sum)
	require.NoError(t, err)
	require.NoError(t, st.AddImage(0, []byte("wrong bytes")))
	_, err = st.Keep([]byte("wrong bytes"), nil)
	require.ErrorAs(t, err, new(*segment.DamageError))
	st, err = s.Stage(1000, 3, sum)
	require.NoError(t, err)
	n, err := st.ImageHas()
	require.NoError(t, err)
	require.Zero(t, n, "it is fetched again")
	require.NoError(t, st.AddImage(0, []byte("right")))
	st, err = s.Stage(1000, 3, ImageSum([]byte("another one")))
	require.NoError(t, err)
	n, err = st.ImageHas()
	require.NoError(t, err)
	require.Zero(t, n, "that part was of another image")
	require.NoError(t, st.AddImage(0, []byte("another one")))
	_, err = st.Keep([]byte("another one"), nil)
	require.NoError(t, err)
}

// TestFileThatCannotBeOpenedJustNowIsNoDamage, even if another that covers the message is damaged: the first may have it.
func TestFileThatCannotBeOpenedJustNowIsNoDamage(t *testing.T) {
	disk := newTestDisk(1)
	s, err := Create(disk.Mount(), "set", testOptions(), testImage(10))
	require.NoError(t, err)
	for _, refs := range [][]Ref{{at(2, 0), at(6, 0)}, {at(3, 0), at(5, 0)}} {
		for _, ref := range refs {
			require.NoError(t, s.Add([]Message{{Ref: ref, Body: testBody(ref)}}))
		}
		require.NoError(t, s.Flush())
	}
	require.NoError(t, s.Close())
	files := filesWith(disk, archive.Suffix)
	require.Len(t, files, 2)
	size := disk.Size(files[0])
	require.NoError(t, disk.Corrupt(files[0], 0, int(size), func(p []byte) { clear(p) }))
	s, err = Open(disk.Mount(), "set", testOptions())
	require.NoError(t, err)
	disk.FailOpens(1, syscall.EMFILE)
	_, err = s.Message(at(4, 0))
	require.ErrorIs(t, err, syscall.EMFILE)
	_, err = s.Message(at(4, 0))
	require.ErrorAs(t, err, new(*segment.DamageError))
	require.NoError(t, s.Close())
}

// TestLogIsKeptForTheImageInUse and not for a newer one that cannot be read.
func TestLogIsKeptForTheImageInUse(t *testing.T) {
	disk := newTestDisk(1)
	s, err := Create(disk.Mount(), "set", testOptions(), testImage(10))
	require.NoError(t, err)
	mustAppend(t, s, 11, 400)
	require.NoError(t, s.SaveImage(testImage(100)))
	require.NoError(t, s.SaveImage(testImage(300)))
	newest := s.man.newest().Name()
	require.NoError(t, s.Close())
	require.NoError(t, disk.Flip("/set/"+newest, 9, 1))
	s, err = Open(disk.Mount(), "set", testOptions())
	require.NoError(t, err)
	img, err := s.LatestImage()
	require.NoError(t, err)
	require.Equal(t, uint64(100), img.Index)
	for range 2 {
		require.NoError(t, s.SaveImage(testImage(100)))
		_, err = s.Maintain(alive{}, 1<<60, noThrottle)
		require.NoError(t, err)
		require.LessOrEqual(t, s.Log().FirstIndex(), uint64(101))
	}
	require.Empty(t, s.Damage())
	require.NotContains(t, disk.Files(), "/set/"+newest)
}
