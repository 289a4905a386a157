// Package checkpoint is the file of an image of a state machine: what the machine was after a certain log entry, so that
// a restart need not replay the log from its beginning. It knows nothing of the machine; the image is bytes.
//
// An image is one file, written beside, synced and renamed, so that it is there whole or not at all. The index it
// belongs to is in the same file and under the same checksum as the state: etcd once kept the two apart (#13967).
// Which images count is in the root that package store keeps. Which files belong to an image is in both, so that the root
// can be made again.
//
// Package store is the only caller.
package checkpoint

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"github.com/opencmq/cmq/internal/store/segment"
	"github.com/opencmq/cmq/internal/vfs"
)

// Image is the state of a machine after one log entry.
type Image struct {
	Index     uint64   // of the last entry that is in it
	Term      uint64   // of that entry
	ConfState []byte   // membership at that entry, as the caller encodes it
	Time      int64    // cluster time at that entry, Unix milliseconds
	Files     []byte   // which other files belong to it, as the caller encodes it
	Parts     [][]byte // the machine, one part behind the other; one part if it was read
}

// Data is the machine in one piece.
func (img *Image) Data() []byte {
	if len(img.Parts) == 1 {
		return img.Parts[0]
	}
	var n int
	for _, p := range img.Parts {
		n += len(p)
	}
	data := make([]byte, 0, n)
	for _, p := range img.Parts {
		data = append(data, p...)
	}
	return data
}

// Identity says whose images they are.
type Identity struct {
	Cluster uint64
	Set     uint16
	Replica uint64
}

func (id Identity) String() string {
	return fmt.Sprintf("cluster %d, set %d, replica %d", id.Cluster, id.Set, id.Replica)
}

// Info describes an image file, for a root that lists it.
type Info struct {
	Number uint64 // names the file
	Index  uint64
	Term   uint64
	Time   int64
	Size   int64
	Sum    uint32 // the header's checksum, which covers the body's: another image under this name shows
}

// Name is the file's name.
func (i *Info) Name() string { return fmt.Sprintf("%010d%s", i.Number, Suffix) }

// Suffix ends the names of image files.
const Suffix = ".image"

// An image file:
//
//	0   magic    "cmqimag\n"
//	8   version  u32
//	12  set      u16, then 2 zero bytes
//	16  cluster  u64
//	24  replica  u64
//	32  index    u64
//	40  term     u64
//	48  time     i64   Unix milliseconds
//	56  conf     u64   length
//	64  files    u64   length
//	72  data     u64   length
//	80  body     u32   CRC32C of conf, files and data
//	84  head     u32   CRC32C of bytes 0 to 83
//	88  conf, files, data; the file ends here
const (
	magic    = "cmqimag\n"
	version  = 3
	headSize = 88
	headSum  = headSize - 4
)

var (
	le         = binary.LittleEndian
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

func checksumOf(p []byte) uint32 { return crc32.Checksum(p, castagnoli) }

func encodeHead(id Identity, img *Image) []byte {
	p := make([]byte, headSize)
	body, n := crc32.Update(checksumOf(img.ConfState), castagnoli, img.Files), 0
	for _, part := range img.Parts {
		body = crc32.Update(body, castagnoli, part)
		n += len(part)
	}
	copy(p, magic)
	le.PutUint32(p[8:], version)
	le.PutUint16(p[12:], id.Set)
	le.PutUint64(p[16:], id.Cluster)
	le.PutUint64(p[24:], id.Replica)
	le.PutUint64(p[32:], img.Index)
	le.PutUint64(p[40:], img.Term)
	le.PutUint64(p[48:], uint64(img.Time))
	le.PutUint64(p[56:], uint64(len(img.ConfState)))
	le.PutUint64(p[64:], uint64(len(img.Files)))
	le.PutUint64(p[72:], uint64(n))
	le.PutUint32(p[80:], body)
	le.PutUint32(p[headSum:], checksumOf(p[:headSum]))
	return p
}

// head is what an image file's header says.
type head struct {
	index, term       uint64
	time              int64
	conf, files, data uint64 // lengths
	body, sum         uint32
}

// decodeHead reads the header of a file of that many bytes.
func decodeHead(name string, id Identity, p []byte, size int64) (h head, err error) {
	if len(p) < headSize || string(p[:8]) != magic {
		return h, damaged(name, 0, "it does not begin with the mark of an image")
	}
	if checksumOf(p[:headSum]) != le.Uint32(p[headSum:]) {
		return h, damaged(name, 0, "the header's checksum is wrong")
	}
	if v := le.Uint32(p[8:]); v != version {
		return h, &segment.VersionError{File: name, Version: v, Known: version}
	}
	have := Identity{Set: le.Uint16(p[12:]), Cluster: le.Uint64(p[16:]), Replica: le.Uint64(p[24:])}
	if have != id {
		return h, &segment.ForeignError{File: name, Have: have.String(), Want: id.String()}
	}
	h = head{
		index: le.Uint64(p[32:]), term: le.Uint64(p[40:]), time: int64(le.Uint64(p[48:])),
		conf: le.Uint64(p[56:]), files: le.Uint64(p[64:]), data: le.Uint64(p[72:]), body: le.Uint32(p[80:]), sum: le.Uint32(p[headSum:]),
	}
	if length := uint64(size) - headSize; h.conf > length || h.files > length-h.conf || h.data != length-h.conf-h.files {
		return h, damaged(name, size, "the file has another length than its header says")
	}
	return h, nil
}

// is tells whether it is the header of the image that a root describes.
func (h *head) is(name string, info Info) error {
	if h.index != info.Index || h.term != info.Term || h.sum != info.Sum {
		return damaged(name, 32, "it is another image than the one written under this name")
	}
	return nil
}

// decode reads an image file. The returned slices share p.
func decode(name string, id Identity, p []byte) (Image, head, error) {
	h, err := decodeHead(name, id, p, int64(len(p)))
	if err != nil {
		return Image{}, h, err
	}
	body := p[headSize:]
	if checksumOf(body) != h.body {
		return Image{}, h, damaged(name, headSize, "the checksum is wrong")
	}
	return Image{
		Index: h.index, Term: h.term, Time: h.time,
		ConfState: body[:h.conf:h.conf], Files: body[h.conf:][:h.files:h.files], Parts: [][]byte{body[h.conf+h.files:]},
	}, h, nil
}

func damaged(name string, off int64, why string) error {
	return &segment.DamageError{File: name, Offset: off, Why: why,
		Fix: "the image before it is used, or this replica is filled from the others of its set"}
}

// Save makes an image durable under the number. An error means that there is no such image (a full disk, for one, is
// harmless).
func Save(fsys vfs.FS, dir string, id Identity, number uint64, img *Image) (Info, error) {
	head := encodeHead(id, img)
	info := Info{Number: number, Index: img.Index, Term: img.Term, Time: img.Time, Sum: le.Uint32(head[headSum:])}
	bufs := append([][]byte{head, img.ConfState, img.Files}, img.Parts...)
	for _, b := range bufs {
		info.Size += int64(len(b))
	}
	path := filepath.Join(dir, info.Name())
	if err := vfs.WriteFile(fsys, path, bufs...); err != nil {
		_ = fsys.Remove(path + vfs.TempSuffix) // only to give the space back
		return Info{}, fmt.Errorf("save image: %w", err)
	}
	return info, nil
}

// Load reads the image that a root describes. *segment.DamageError if it is not what was written, fs.ErrNotExist,
// *segment.ForeignError, *segment.VersionError, or the disk's error.
func Load(fsys vfs.FS, dir string, id Identity, info Info) (Image, error) {
	name := filepath.Join(dir, info.Name())
	p, err := vfs.ReadFile(fsys, name)
	if err != nil {
		return Image{}, fmt.Errorf("load image: %w", err)
	}
	img, h, err := decode(name, id, p)
	if err == nil {
		err = h.is(name, info)
	}
	return img, err
}

// Identify reads the image under this number, and describes it as Save once did, for a root that was lost. The errors are those of
// Load.
func Identify(fsys vfs.FS, dir string, id Identity, number uint64) (Info, Image, error) {
	info := Info{Number: number}
	name := filepath.Join(dir, info.Name())
	p, err := vfs.ReadFile(fsys, name)
	if err != nil {
		return info, Image{}, fmt.Errorf("identify image: %w", err)
	}
	img, h, err := decode(name, id, p)
	info.Index, info.Term, info.Time, info.Size, info.Sum = h.index, h.term, h.time, int64(len(p)), h.sum
	return info, img, err
}

// verifyStep is how many bytes Verify reads at a time.
const verifyStep = 256 << 10

// Verify reads the image that a root describes and throws it away. throttle is told of the bytes read; its error ends the
// reading. Otherwise the errors are those of Load.
func Verify(fsys vfs.FS, dir string, id Identity, info Info, throttle func(bytes int) error) error {
	name := filepath.Join(dir, info.Name())
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return fmt.Errorf("verify image: %w", err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return fmt.Errorf("verify image: %w", err)
	}
	p := make([]byte, headSize)
	if _, err := f.ReadAt(p, 0); err != nil && err != io.EOF {
		return fmt.Errorf("verify image: %w", err)
	}
	h, err := decodeHead(name, id, p, size)
	if err == nil {
		err = h.is(name, info)
	}
	if err != nil {
		return err
	}
	p = make([]byte, verifyStep)
	sum := uint32(0)
	for off := int64(headSize); off < size; {
		n, err := f.ReadAt(p[:min(verifyStep, size-off)], off)
		if err != nil && (err != io.EOF || n == 0) {
			return fmt.Errorf("verify image: %w", err)
		}
		sum = crc32.Update(sum, castagnoli, p[:n])
		off += int64(n)
		if err := throttle(n); err != nil {
			return err
		}
	}
	if sum != h.body {
		return damaged(name, headSize, "the checksum is wrong")
	}
	return nil
}
