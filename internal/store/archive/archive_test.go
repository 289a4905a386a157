package archive

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/store/segment"
	"github.com/opencmq/cmq/internal/vfs"
)

var testID = ID{Cluster: 0x1122334455667788, Set: 0x99aa, Replica: 77}

func noThrottle(int) error { return nil }

func newTestDisk(seed uint64) *vfs.Disk { return vfs.NewDisk(rand.New(rand.NewPCG(seed, 3))) }

// testMessages are n messages in the order of some queues, not of the log, with bodies of all lengths, empty ones too.
func testMessages(n int) []Message {
	rng := rand.New(rand.NewPCG(uint64(n), 1))
	var ms []Message
	for i := range n {
		m := Message{Ref: Ref{Index: 100 + uint64(i)/3*7, Slot: uint16(i % 3 * 20000)}, Time: 1_700_000_000_000 + int64(rng.IntN(5000)-2500), Body: make([]byte, rng.IntN(40))}
		if i%4 == 0 {
			m.Origin = rng.Uint64()
		}
		for j := range m.Body {
			m.Body[j] = byte(rng.Uint32())
		}
		ms = append(ms, m)
	}
	rng.Shuffle(n, func(i, j int) { ms[i], ms[j] = ms[j], ms[i] })
	return ms
}

func write(t testing.TB, fsys vfs.FS, id ID, number uint64, ms []Message) Info {
	t.Helper()
	w, err := Create(fsys, "/", id, number)
	require.NoError(t, err)
	for _, m := range ms {
		require.NoError(t, w.Add(m))
	}
	require.Equal(t, len(ms), w.Messages())
	info, err := w.Finish()
	require.NoError(t, err)
	return info
}

// problems is what Verify reports.
func problems(t testing.TB, f *File) (found []error) {
	t.Helper()
	require.NoError(t, f.Verify(noThrottle, func(err error) { found = append(found, err) }))
	return found
}

// mustNotLie reads every message: it is what was written, or an error.
func mustNotLie(t testing.TB, f *File, ms []Message) (unread int) {
	t.Helper()
	for _, m := range ms {
		got, err := f.Get(m.Ref)
		if err != nil {
			unread++
			continue
		}
		require.Equal(t, m, got)
	}
	return unread
}

func TestWhatWasWrittenIsReadAfterACrash(t *testing.T) {
	for _, n := range []int{0, 1, blockMessages, blockMessages + 1, 1000} {
		disk := newTestDisk(1)
		ms := testMessages(n)
		info := write(t, disk.Mount(), testID, 12, ms)
		disk.Crash(vfs.LoseAll)
		f := Open(disk.Mount(), "/", testID, info)
		require.Equal(t, info, f.Info())
		require.Empty(t, problems(t, f))
		require.Zero(t, mustNotLie(t, f, ms))
		var refs []Ref
		require.NoError(t, f.Each(func(r Ref) error { refs = append(refs, r); return nil }))
		require.Len(t, refs, n)
		require.True(t, slices.IsSortedFunc(refs, func(a, b Ref) int {
			if a.before(b) {
				return -1
			}
			return 1
		}))
		for _, r := range []Ref{{}, {Index: 99, Slot: 9}, {Index: 100, Slot: 1}, {Index: 101}, {Index: 1 << 60}} {
			has, err := f.Has(r)
			require.NoError(t, err)
			require.False(t, has, "%v", r)
			_, err = f.Get(r)
			require.ErrorIs(t, err, ErrNotFound)
		}
		require.NoError(t, f.Release())
		require.Zero(t, mustNotLie(t, f, ms))
		require.NoError(t, f.Close())
		if n > 0 {
			_, err := f.Get(ms[0].Ref)
			require.ErrorIs(t, err, fs.ErrClosed)
		}
	}
}

func TestHeadKeepsEveryField(t *testing.T) {
	p := encodeHead(testID, 88)
	require.NoError(t, checkHead("x", p, testID, 88))
	allFlipsFound(t, p, func() bool { return checkHead("x", p, testID, 88) != nil })
	for _, id := range []ID{{1, 0x99aa, 77}, {testID.Cluster, 1, 77}, {testID.Cluster, 0x99aa, 1}} {
		var foreign *segment.ForeignError
		require.ErrorAs(t, checkHead("x", p, id, 88), &foreign)
		require.Equal(t, "x", foreign.File)
	}
	require.ErrorContains(t, checkHead("x", p, testID, 89), "this is file 88 under the name of another")
	le.PutUint32(p[8:], version+1)
	le.PutUint32(p[60:], checksum(p[:60]))
	var newer *segment.VersionError
	require.ErrorAs(t, checkHead("x", p, testID, 88), &newer)
	require.Equal(t, uint32(version+1), newer.Version)
}

func TestTailKeepsEveryField(t *testing.T) {
	want := tail{lo: 1, hi: 2, messages: 3, bytes: 4, dir: headSize + 5, dirSum: 6, sums: 7}
	p, size := want.encode(), int64(headSize+5+2*dirItem+tailSize)
	got, ok := decodeTail(p, size)
	require.True(t, ok)
	require.Equal(t, want, got)
	allFlipsFound(t, p, func() bool { _, ok := decodeTail(p, size); return !ok })
	_, ok = decodeTail(p, size+1)
	require.False(t, ok)
}

func TestBlockKeepsEveryField(t *testing.T) {
	items := []item{
		{Ref: Ref{1, 2}, off: headSize, length: 3, origin: 4, time: 5, sum: 6},
		{Ref: Ref{1, 1<<16 - 1}, off: headSize + 9, length: 0, origin: 1<<64 - 1, time: -7, sum: 1<<32 - 1},
		{Ref: Ref{1<<64 - 1, 0}, off: headSize + 3, length: 6, time: 1<<63 - 1},
	}
	p := appendBlock([]byte("before"), items)[6:]
	got, why := decodeBlock(p, headSize+9)
	require.Empty(t, why)
	require.Equal(t, items, got)
	allFlipsFound(t, p, func() bool { _, why := decodeBlock(p, headSize+9); return why != "" })
	_, why = decodeBlock(p, headSize+8)
	require.Equal(t, "an index block contradicts itself", why, "a body behind the bodies")
	_, why = decodeBlock(appendBlock(nil, []item{items[1], items[0]}), headSize+9)
	require.NotEmpty(t, why, "not ascending")
	_, why = decodeBlock(appendBlock(nil, make([]item, blockMessages+1)), headSize+9)
	require.NotEmpty(t, why, "too many")
}

func TestDirectoryKeepsEveryField(t *testing.T) {
	want := []block{{first: Ref{1, 2}, length: 3, off: 4}, {first: Ref{1<<64 - 1, 1<<16 - 1}, length: 1<<32 - 1, off: 1<<63 - 1}}
	require.Equal(t, want, decodeDir(appendDir(nil, want)))
}

// TestChecksumCoversWhoseBodyItIs: a body cannot pass for another message's, nor with another time or origin.
func TestChecksumCoversWhoseBodyItIs(t *testing.T) {
	m := Message{Ref: Ref{1, 2}, Origin: 3, Time: 4, Body: []byte("body")}
	for _, other := range []Message{
		{Ref: Ref{9, 2}, Origin: 3, Time: 4, Body: m.Body}, {Ref: Ref{1, 9}, Origin: 3, Time: 4, Body: m.Body},
		{Ref: Ref{1, 2}, Origin: 9, Time: 4, Body: m.Body}, {Ref: Ref{1, 2}, Origin: 3, Time: 9, Body: m.Body},
		{Ref: Ref{1, 2}, Origin: 3, Time: 4, Body: []byte("bodz")},
	} {
		require.NotEqual(t, sumOf(&m), sumOf(&other))
	}
}

func allFlipsFound(t *testing.T, p []byte, found func() bool) {
	t.Helper()
	for i := range p {
		for bit := range 8 {
			p[i] ^= 1 << bit
			if !found() {
				t.Errorf("bit %d of byte %d can flip unseen", bit, i)
			}
			p[i] ^= 1 << bit
		}
	}
}

// TestEveryFlippedByteIsReported: Verify reports it, with the file and what to do, and no read gives wrong bytes; a reader that has
// the index in memory does not either.
func TestEveryFlippedByteIsReported(t *testing.T) {
	disk := newTestDisk(1)
	ms := testMessages(150)
	info := write(t, disk.Mount(), testID, 12, ms)
	for off := range info.Size {
		clone := disk.Clone(nil)
		before := Open(clone.Mount(), "/", testID, info)
		require.NoError(t, before.Check())
		require.NoError(t, clone.Flip(info.Name(), off, uint(off%8)))
		f := Open(clone.Mount(), "/", testID, info)
		found := problems(t, f)
		require.NotEmpty(t, found, "offset %d", off)
		var d *segment.DamageError
		require.ErrorAs(t, found[0], &d, "offset %d", off)
		require.Equal(t, "/"+info.Name(), d.File)
		require.NotEmpty(t, d.Fix)
		mustNotLie(t, f, ms)
		mustNotLie(t, before, ms)
		require.NotEmpty(t, problems(t, before), "offset %d", off)
	}
}

// TestDamageOfABodyCostsOneMessage: everything around it can be read, and Verify says where it is.
func TestDamageOfABodyCostsOneMessage(t *testing.T) {
	disk := newTestDisk(1)
	ms := testMessages(1000)
	info := write(t, disk.Mount(), testID, 12, ms)
	require.NoError(t, disk.Flip(info.Name(), headSize+info.Bytes/2, 1))
	f := Open(disk.Mount(), "/", testID, info)
	require.Len(t, problems(t, f), 1)
	require.Equal(t, 1, mustNotLie(t, f, ms))
}

func TestFilesThatAreNotTheOneWritten(t *testing.T) {
	ms := testMessages(300)
	disk := newTestDisk(1)
	info := write(t, disk.Mount(), testID, 12, ms)
	other := func(id ID, number uint64, ms []Message) *vfs.Kept {
		d := newTestDisk(2)
		i := write(t, d.Mount(), id, number, ms)
		k, err := d.Keep(i.Name())
		require.NoError(t, err)
		return k
	}
	put := func(k *vfs.Kept) func(*vfs.Disk) error {
		return func(d *vfs.Disk) error { return d.Put(k, info.Name()) }
	}
	changed := slices.Clone(ms)
	changed[7].Time++
	foreign := testID
	foreign.Replica++
	for name, row := range map[string]struct {
		harm func(*vfs.Disk) error
		want any
	}{
		"missing":            {func(d *vfs.Disk) error { return d.Vanish(info.Name()) }, fs.ErrNotExist},
		"empty":              {func(d *vfs.Disk) error { return d.Shorten(info.Name(), 0) }, new(*segment.DamageError)},
		"cut in the bodies":  {func(d *vfs.Disk) error { return d.Shorten(info.Name(), 500) }, new(*segment.DamageError)},
		"cut by one byte":    {func(d *vfs.Disk) error { return d.Shorten(info.Name(), info.Size-1) }, new(*segment.DamageError)},
		"of another replica": {put(other(foreign, 12, ms)), new(*segment.DamageError)},
		"renumbered":         {put(other(testID, 13, ms)), new(*segment.DamageError)},
		"an older state":     {put(other(testID, 12, ms[:299])), new(*segment.DamageError)},
		"of the same shape":  {put(other(testID, 12, changed)), new(*segment.DamageError)},
	} {
		t.Run(name, func(t *testing.T) {
			clone := disk.Clone(nil)
			require.NoError(t, row.harm(clone))
			f := Open(clone.Mount(), "/", testID, info)
			if target, ok := row.want.(error); ok {
				require.ErrorIs(t, f.Check(), target)
			} else {
				require.ErrorAs(t, f.Check(), row.want)
			}
			require.Len(t, problems(t, f), 1)
			require.Equal(t, len(ms), mustNotLie(t, f, ms))
			has, err := f.Has(ms[0].Ref)
			require.Error(t, err)
			require.False(t, has)
			require.Error(t, f.Each(func(Ref) error { return nil }))
		})
	}
}

// TestUnreadableSectorIsAnErrorOfTheDisk, not another message, and the next read of something else works.
func TestUnreadableSectorIsAnErrorOfTheDisk(t *testing.T) {
	disk := newTestDisk(1)
	ms := testMessages(1000)
	info := write(t, disk.Mount(), testID, 12, ms)
	require.NoError(t, disk.BadSectors(info.Name(), headSize+info.Bytes/2, 1))
	f := Open(disk.Mount(), "/", testID, info)
	unread := mustNotLie(t, f, ms)
	require.Positive(t, unread)
	require.Less(t, unread, 100)
	require.Len(t, problems(t, f), unread)
}

// TestCrashOrErrorWhileWriting: until Finish has returned nil there is either no file under the name or all of it, and after
// an error nothing of it takes room.
func TestCrashOrErrorWhileWriting(t *testing.T) {
	ms := testMessages(20000) // several writes
	attempt := func(disk *vfs.Disk) (info Info, err error) {
		w, err := Create(disk.Mount(), "/", testID, 12)
		if err != nil {
			return info, err
		}
		for _, m := range ms {
			if err := w.Add(m); err != nil {
				w.Abort()
				return info, err
			}
		}
		return w.Finish()
	}
	var whole Info
	for _, fault := range []error{vfs.ErrCrashed, syscall.EIO, syscall.ENOSPC} {
		for n := 1; ; n++ {
			disk := newTestDisk(uint64(n))
			count := 0
			disk.OnOp(func(op vfs.Op) error {
				if !op.Kind.Changes() {
					return nil
				}
				if count++; count != n {
					return nil
				}
				if errors.Is(fault, vfs.ErrCrashed) {
					disk.Crash(vfs.CrashModes()[n%5])
				}
				return fault
			})
			info, err := attempt(disk)
			disk.OnOp(nil)
			if count < n {
				require.NoError(t, err)
				whole = info
				break
			}
			_, statErr := disk.Mount().Stat(info.Name())
			if err == nil {
				require.NoError(t, statErr)
			}
			if errors.Is(fault, vfs.ErrCrashed) {
				continue
			}
			for _, name := range disk.Files() {
				require.NotContains(t, name, vfs.TempSuffix, "operation %d", n)
			}
		}
	}
	require.Equal(t, uint64(len(ms)), whole.Messages)
}

func TestMessageAddedTwiceIsABug(t *testing.T) {
	w, err := Create(newTestDisk(1).Mount(), "/", testID, 1)
	require.NoError(t, err)
	m := Message{Ref: Ref{1, 1}, Body: []byte("x")}
	require.NoError(t, w.Add(m))
	require.NoError(t, w.Add(m))
	require.Panics(t, func() { _, _ = w.Finish() })
}

func TestThrottleEndsTheSearch(t *testing.T) {
	disk := newTestDisk(1)
	info := write(t, disk.Mount(), testID, 12, testMessages(1000))
	f := Open(disk.Mount(), "/", testID, info)
	stop, told := errors.New("stop"), 0
	require.ErrorIs(t, f.Verify(func(int) error { return stop }, func(error) {}), stop)
	require.NoError(t, f.Verify(func(n int) error { told += n; return nil }, func(error) {}))
	require.GreaterOrEqual(t, int64(told), info.Bytes)
	require.LessOrEqual(t, int64(told), info.Size)
}

// FuzzDecodeBlock: what the decoder accepts lies within the bodies, ascends, and is encoded again as the same messages.
func FuzzDecodeBlock(f *testing.F) {
	f.Add(appendBlock(nil, nil), int64(headSize))
	f.Add(appendBlock(nil, []item{{Ref: Ref{1, 2}, off: headSize, length: 3, origin: 4, time: 5, sum: 6}, {Ref: Ref{7, 0}, off: headSize + 3, time: -1}}), int64(headSize+3))
	f.Add([]byte{1, 0, 0, 64, 255, 255, 255, 255, 255, 255, 255, 255, 127, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, int64(1<<62))
	f.Fuzz(func(t *testing.T, p []byte, end int64) {
		if len(p) >= sumSize { // let the fuzzer get behind the checksum
			le.PutUint32(p[len(p)-sumSize:], checksum(p[:len(p)-sumSize]))
		}
		items, why := decodeBlock(p, end)
		if why != "" {
			return
		}
		for i, it := range items {
			if it.off < headSize || it.length < 0 || it.off+int64(it.length) > end || it.off+int64(it.length) < 0 {
				t.Fatalf("%+v in bodies up to %d", it, end)
			}
			if i > 0 && !items[i-1].before(it.Ref) {
				t.Fatalf("%v does not follow %v", it.Ref, items[i-1].Ref)
			}
		}
		again, why := decodeBlock(appendBlock(nil, items), end)
		if why != "" || !slices.Equal(again, items) {
			t.Fatalf("%+v became %+v, %s", items, again, why)
		}
	})
}

// FuzzDecodeTail: what the decoder accepts lies in the file and is encoded the same way.
func FuzzDecodeTail(f *testing.F) {
	f.Add((&tail{lo: 1, hi: 2, messages: 3, bytes: 4, dir: headSize + 5, dirSum: 6, sums: 7}).encode(), int64(headSize+5+dirItem+tailSize))
	f.Add((&tail{bytes: 1<<63 - 1, dir: 1<<63 - 1}).encode(), int64(1<<63-1))
	f.Add((&tail{bytes: -1, dir: -1}).encode(), int64(0))
	f.Fuzz(func(t *testing.T, p []byte, size int64) {
		if len(p) != tailSize || size < headSize+tailSize {
			return
		}
		clear(p[56:60])
		le.PutUint32(p[60:], checksum(p[:60]))
		got, ok := decodeTail(p, size)
		if !ok {
			return
		}
		if got.dir < headSize || got.dir > size-tailSize || got.bytes < 0 || headSize+got.bytes > got.dir || headSize+got.bytes < 0 {
			t.Fatalf("%+v in a file of %d bytes", got, size)
		}
		if !bytes.Equal(got.encode(), p) {
			t.Fatalf("%x became %x", p, got.encode())
		}
	})
}

// FuzzFile lets a reader look at any bytes as a file whose directory and tail have the right checksums: it may refuse them; it must
// not panic or give a message whose checksum is wrong.
func FuzzFile(f *testing.F) {
	disk := newTestDisk(1)
	info := write(f, disk.Mount(), testID, 12, testMessages(3))
	good, err := vfs.ReadFile(disk.Mount(), info.Name())
	require.NoError(f, err)
	f.Add(good[headSize:], uint16(0), byte(0))
	f.Add(good[headSize:], uint16(len(good)-headSize-tailSize-10), byte(200))
	f.Fuzz(func(t *testing.T, p []byte, at uint16, x byte) {
		if len(p) < tailSize || len(p) > 1<<16 {
			return
		}
		p[int(at)%len(p)] ^= x
		all := append(encodeHead(testID, 12), p...)
		end := all[len(all)-tailSize:]
		if dir := le.Uint64(end[40:]); dir <= uint64(len(all)-tailSize) {
			le.PutUint32(end[48:], checksum(all[dir:len(all)-tailSize]))
		}
		le.PutUint32(end[60:], checksum(end[:60]))
		disk := newTestDisk(1)
		i := Info{Number: 12, Size: int64(len(all)), Sum: le.Uint32(end[60:])}
		require.NoError(t, vfs.WriteFile(disk.Mount(), i.Name(), all))
		file := Open(disk.Mount(), "/", testID, i)
		_ = problems(t, file)
		_ = file.Each(func(Ref) error { return nil })
		for _, m := range testMessages(3) {
			if got, err := file.Get(m.Ref); err == nil && got.Ref != m.Ref {
				t.Fatalf("%v for %v", got.Ref, m.Ref)
			}
		}
	})
}
