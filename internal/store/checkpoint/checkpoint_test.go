package checkpoint

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"reflect"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/store/segment"
	"github.com/opencmq/cmq/internal/vfs"
)

var (
	testID    = Identity{Cluster: 1, Set: 2, Replica: 3}
	testImage = Image{Index: 4, Term: 5, ConfState: []byte("conf"), Time: 6, Files: []byte("files"), Parts: [][]byte{[]byte("machine")}}
)

func newTestDisk(seed uint64) *vfs.Disk { return vfs.NewDisk(rand.New(rand.NewPCG(seed, 1))) }

func encode(id Identity, img Image) []byte {
	return slices.Concat(encodeHead(id, &img), img.ConfState, img.Files, img.Data())
}

func TestImageKeepsEveryField(t *testing.T) {
	p := encode(testID, testImage)
	img, _, err := decode("x", testID, p)
	require.NoError(t, err)
	require.Equal(t, testImage, img)
	for i := range p {
		for bit := range 8 {
			p[i] ^= 1 << bit
			if _, _, err := decode("x", testID, p); err == nil {
				t.Errorf("bit %d of byte %d can flip unseen", bit, i)
			}
			p[i] ^= 1 << bit
		}
		if _, _, err := decode("x", testID, p[:i]); err == nil {
			t.Errorf("%d of %d bytes were accepted", i, len(p))
		}
	}
	_, _, err = decode("x", testID, append(p, 0))
	require.Error(t, err, "a byte too many")
}

// TestPartsAreOneMachine: however an image is cut into parts, the file is the same.
func TestPartsAreOneMachine(t *testing.T) {
	disk := newTestDisk(1)
	fsys := disk.Mount()
	whole, cut := testImage, testImage
	cut.Parts = [][]byte{[]byte("mach"), nil, []byte("i"), []byte("ne")}
	a, err := Save(fsys, "/", testID, 7, &whole)
	require.NoError(t, err)
	b, err := Save(fsys, "/", testID, 7, &cut)
	require.NoError(t, err)
	require.Equal(t, a, b)
	require.Equal(t, Info{Number: 7, Index: 4, Term: 5, Time: 6, Size: headSize + 16, Sum: a.Sum}, a)
	require.Equal(t, []string{"/0000000007.image"}, disk.Files())
	disk.Crash(vfs.LoseAll)
	img, err := Load(disk.Mount(), "/", testID, b)
	require.NoError(t, err)
	require.Equal(t, testImage, img)
	empty := Image{Index: 9, Term: 1}
	info, err := Save(disk.Mount(), "/", testID, 8, &empty)
	require.NoError(t, err)
	img, err = Load(disk.Mount(), "/", testID, info)
	require.NoError(t, err)
	require.Empty(t, img.Data())
	require.Empty(t, img.ConfState)
}

func TestEveryFlippedByteIsReported(t *testing.T) {
	disk := newTestDisk(1)
	info, err := Save(disk.Mount(), "/", testID, 7, &testImage)
	require.NoError(t, err)
	for off := range info.Size {
		clone := disk.Clone(nil)
		require.NoError(t, clone.Flip(info.Name(), off, uint(off%8)))
		_, err := Load(clone.Mount(), "/", testID, info)
		var d *segment.DamageError
		require.ErrorAs(t, err, &d, "offset %d", off)
		require.Equal(t, "/"+info.Name(), d.File)
		require.NotEmpty(t, d.Fix)
		require.Equal(t, err, Verify(clone.Mount(), "/", testID, info, func(int) error { return nil }), "offset %d", off)
	}
}

func TestVerifyReadsAllPieceByPiece(t *testing.T) {
	disk := newTestDisk(1)
	img := testImage
	img.Parts = [][]byte{make([]byte, 3*verifyStep+5)}
	info, err := Save(disk.Mount(), "/", testID, 7, &img)
	require.NoError(t, err)
	var pieces []int
	require.NoError(t, Verify(disk.Mount(), "/", testID, info, func(n int) error { pieces = append(pieces, n); return nil }))
	require.Equal(t, []int{verifyStep, verifyStep, verifyStep, 5 + len(img.ConfState) + len(img.Files)}, pieces)

	stop := errors.New("enough")
	require.ErrorIs(t, Verify(disk.Mount(), "/", testID, info, func(int) error { return stop }), stop)
	require.NoError(t, disk.Flip(info.Name(), info.Size-1, 0))
	var d *segment.DamageError
	require.ErrorAs(t, Verify(disk.Mount(), "/", testID, info, func(int) error { return nil }), &d)
}

func TestImagesThatAreNotTheOneWritten(t *testing.T) {
	disk := newTestDisk(1)
	info, err := Save(disk.Mount(), "/", testID, 7, &testImage)
	require.NoError(t, err)
	put := func(id Identity, edit func(*Image), head func(p []byte)) func(*vfs.Disk) error {
		return func(d *vfs.Disk) error {
			img := testImage
			edit(&img)
			p := encode(id, img)
			head(p)
			le.PutUint32(p[headSum:], checksumOf(p[:headSum]))
			return vfs.WriteFile(d.Mount(), info.Name(), p)
		}
	}
	same, asIs := func(*Image) {}, func([]byte) {}
	for name, row := range map[string]struct {
		harm func(*vfs.Disk) error
		want any
	}{
		"missing":       {func(d *vfs.Disk) error { return d.Vanish(info.Name()) }, fs.ErrNotExist},
		"empty":         {func(d *vfs.Disk) error { return d.Shorten(info.Name(), 0) }, new(*segment.DamageError)},
		"cut":           {func(d *vfs.Disk) error { return d.Shorten(info.Name(), info.Size-1) }, new(*segment.DamageError)},
		"other cluster": {put(Identity{9, 2, 3}, same, asIs), new(*segment.ForeignError)},
		"other set":     {put(Identity{1, 9, 3}, same, asIs), new(*segment.ForeignError)},
		"other replica": {put(Identity{1, 2, 9}, same, asIs), new(*segment.ForeignError)},
		"newer version": {put(testID, same, func(p []byte) { p[8]++ }), new(*segment.VersionError)},
		"other index":   {put(testID, func(i *Image) { i.Index++ }, asIs), new(*segment.DamageError)},
		"other term":    {put(testID, func(i *Image) { i.Term++ }, asIs), new(*segment.DamageError)},
		"other machine": {put(testID, func(i *Image) { i.Parts = [][]byte{[]byte("machinf")} }, asIs), new(*segment.DamageError)},
		"other conf":    {put(testID, func(i *Image) { i.ConfState = []byte("cong") }, asIs), new(*segment.DamageError)},
	} {
		t.Run(name, func(t *testing.T) {
			clone := disk.Clone(nil)
			require.NoError(t, row.harm(clone))
			_, err := Load(clone.Mount(), "/", testID, info)
			require.ErrorContains(t, err, info.Name())
			if target, ok := row.want.(error); ok {
				require.ErrorIs(t, err, target)
			} else {
				require.ErrorAs(t, err, row.want)
			}
		})
	}
}

// TestCrashOrErrorWhileSaving: under the name there is the whole image or nothing, and what an error left takes no room.
func TestCrashOrErrorWhileSaving(t *testing.T) {
	for _, fault := range []error{vfs.ErrCrashed, syscall.EIO, syscall.ENOSPC} {
		for n := 1; n < 100; n++ {
			disk := newTestDisk(uint64(n))
			count := 0
			disk.OnOp(func(op vfs.Op) error {
				if !op.Kind.Changes() {
					return nil
				}
				if count++; count != n%10 {
					return nil
				}
				if errors.Is(fault, vfs.ErrCrashed) {
					disk.Crash(vfs.CrashModes()[n%5])
				}
				return fault
			})
			info, err := Save(disk.Mount(), "/", testID, 7, &testImage)
			disk.OnOp(nil)
			files := disk.Files()
			if err == nil {
				require.Equal(t, []string{"/" + info.Name()}, files)
			}
			if errors.Is(fault, vfs.ErrCrashed) {
				files = slices.DeleteFunc(files, func(name string) bool { return name == "/0000000007.image"+vfs.TempSuffix })
			}
			for _, name := range files {
				require.Equal(t, "/0000000007.image", name, "operation %d", n)
				p, err := vfs.ReadFile(disk.Mount(), name)
				require.NoError(t, err)
				_, _, err = decode(name, testID, p)
				require.NoError(t, err)
			}
		}
	}
}

// FuzzImage: no bytes make the decoder fail other than by an error, and what it accepts it would write the same way.
func FuzzImage(f *testing.F) {
	f.Add(encode(testID, testImage))
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) >= headSize { // let the fuzzer get behind the header's checksum
			le.PutUint32(p[headSum:], checksumOf(p[:headSum]))
		}
		img, _, err := decode("x", testID, p)
		if err != nil {
			return
		}
		again, _, err := decode("x", testID, encode(testID, img))
		if err != nil || !reflect.DeepEqual(img, again) {
			t.Fatalf("%+v became %+v, %v", img, again, err)
		}
	})
}
