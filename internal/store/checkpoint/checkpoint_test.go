package checkpoint

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/opencmq/cmq/internal/store/segment"
	"github.com/opencmq/cmq/internal/vfs"
)

var (
	testID    = Identity{Cluster: 1, Set: 2, Replica: 3}
	testImage = Image{Index: 4, Term: 5, ConfState: []byte("conf"), Time: 6, Data: []byte("machine")}
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func encode(id Identity, img Image) []byte {
	return append(append(encodeHead(id, img), img.ConfState...), img.Data...)
}

func TestImageKeepsEveryField(t *testing.T) {
	p := encode(testID, testImage)
	img, err := decode("x", testID, p)
	must(t, err)
	if !reflect.DeepEqual(img, testImage) {
		t.Fatalf("%+v", img)
	}
	for i := range p {
		for bit := range 8 {
			p[i] ^= 1 << bit
			if _, err := decode("x", testID, p); err == nil {
				t.Errorf("bit %d of byte %d can flip unseen", bit, i)
			}
			p[i] ^= 1 << bit
		}
		if _, err := decode("x", testID, p[:i]); err == nil {
			t.Errorf("%d of %d bytes were accepted", i, len(p))
		}
	}
	if _, err := decode("x", testID, append(p, 0)); err == nil {
		t.Error("a byte too many was accepted")
	}
}

func TestImageOfSomebodyElse(t *testing.T) {
	var f *segment.ForeignError
	for _, id := range []Identity{{9, 2, 3}, {1, 9, 3}, {1, 2, 9}} {
		if _, err := decode("x", id, encode(testID, testImage)); !errors.As(err, &f) {
			t.Errorf("%+v: %v", id, err)
		}
	}
}

func TestTwoNewestAreKept(t *testing.T) {
	disk := vfs.NewDisk(rand.New(rand.NewPCG(1, 1)))
	fsys := disk.Mount()
	_, _, err := Load(fsys, "/", testID)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, index := range []uint64{10, 9, 200, 1000} {
		img := testImage
		img.Index = index
		must(t, Save(fsys, "/", testID, img))
	}
	disk.Crash(vfs.LoseAll)
	fsys = disk.Mount()
	if files := disk.Files(); len(files) != 3 { // the last removal need not be durable
		t.Fatalf("files %v", files)
	}
	img, passed, err := Load(fsys, "/", testID)
	must(t, err)
	if img.Index != 1000 || len(passed) != 0 {
		t.Fatalf("image %d, passed %v", img.Index, passed)
	}
	must(t, disk.Flip("/"+fileName(1000), 82, 1))
	img, passed, err = Load(fsys, "/", testID)
	must(t, err)
	if img.Index != 200 || len(passed) != 1 || passed[0].File != "/"+fileName(1000) {
		t.Fatalf("image %d, passed %v", img.Index, passed)
	}
}

// FuzzImage: no bytes make the decoder fail other than by an error, and what it accepts it would write the same way.
func FuzzImage(f *testing.F) {
	f.Add(encode(testID, testImage))
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) >= headSize { // let the fuzzer get behind the header's checksum
			le.PutUint32(p[76:], checksumOf(p[:76]))
		}
		img, err := decode("x", testID, p)
		if err != nil {
			return
		}
		again, err := decode("x", testID, encode(testID, img))
		if err != nil || !reflect.DeepEqual(img, again) {
			t.Fatalf("%+v became %+v, %v", img, again, err)
		}
	})
}
