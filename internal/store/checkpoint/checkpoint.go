// Package checkpoint keeps images of a state machine on the disk: what the machine was after a certain log entry, so
// that a restart need not replay the log from its beginning. It knows nothing of the machine; the image is bytes.
//
// An image is one file, written beside, synced and renamed, so that it is there whole or not at all. The index it
// belongs to is in the same file and under the same checksum as the state: etcd once kept the two apart (#13967).
// The two newest images are kept, so that one that rots can be replaced by the one before and more replay.
//
// Package store is the only caller.
package checkpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencmq/cmq/internal/store/segment"
	"github.com/opencmq/cmq/internal/vfs"
)

// Image is the state of a machine after one log entry.
type Image struct {
	Index     uint64 // of the last entry that is in it
	Term      uint64 // of that entry
	ConfState []byte // membership at that entry, as the caller encodes it
	Time      int64  // cluster time at that entry, Unix milliseconds
	Data      []byte // the machine
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
//	64  data     u64   length
//	72  body     u32   CRC32C of conf and data
//	76  head     u32   CRC32C of bytes 0 to 75
//	80  conf, data; the file ends here
const (
	magic    = "cmqimag\n"
	version  = 1
	headSize = 80
	suffix   = ".image"
	kept     = 2 // images: the newest, and one to fall back on
)

var (
	le         = binary.LittleEndian
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

func checksumOf(p []byte) uint32 { return crc32.Checksum(p, castagnoli) }

func encodeHead(id Identity, img Image) []byte {
	p := make([]byte, headSize)
	copy(p, magic)
	le.PutUint32(p[8:], version)
	le.PutUint16(p[12:], id.Set)
	le.PutUint64(p[16:], id.Cluster)
	le.PutUint64(p[24:], id.Replica)
	le.PutUint64(p[32:], img.Index)
	le.PutUint64(p[40:], img.Term)
	le.PutUint64(p[48:], uint64(img.Time))
	le.PutUint64(p[56:], uint64(len(img.ConfState)))
	le.PutUint64(p[64:], uint64(len(img.Data)))
	body := crc32.Update(checksumOf(img.ConfState), castagnoli, img.Data)
	le.PutUint32(p[72:], body)
	le.PutUint32(p[76:], checksumOf(p[:76]))
	return p
}

// decode reads an image file. The returned slices share p.
func decode(name string, id Identity, p []byte) (Image, error) {
	if len(p) < headSize || string(p[:8]) != magic {
		return Image{}, damaged(name, 0, "it does not begin with the mark of an image")
	}
	if checksumOf(p[:76]) != le.Uint32(p[76:]) {
		return Image{}, damaged(name, 0, "the header's checksum is wrong")
	}
	if v := le.Uint32(p[8:]); v != version {
		return Image{}, &segment.VersionError{File: name, Version: v, Known: version}
	}
	have := Identity{Set: le.Uint16(p[12:]), Cluster: le.Uint64(p[16:]), Replica: le.Uint64(p[24:])}
	if have != id {
		return Image{}, &segment.ForeignError{File: name, Have: have.String(), Want: id.String()}
	}
	conf, data, body := le.Uint64(p[56:]), le.Uint64(p[64:]), p[headSize:]
	if conf > uint64(len(body)) || data != uint64(len(body))-conf {
		return Image{}, damaged(name, int64(len(p)), "the file has another length than its header says")
	}
	if checksumOf(body) != le.Uint32(p[72:]) {
		return Image{}, damaged(name, headSize, "the checksum is wrong")
	}
	return Image{
		Index:     le.Uint64(p[32:]),
		Term:      le.Uint64(p[40:]),
		Time:      int64(le.Uint64(p[48:])),
		ConfState: body[:conf:conf],
		Data:      body[conf:],
	}, nil
}

func damaged(name string, off int64, why string) error {
	return &segment.DamageError{File: name, Offset: off, Why: why,
		Fix: "remove this replica from its set and add a new one, which fetches the state from its peers"}
}

func fileName(index uint64) string { return fmt.Sprintf("%020d%s", index, suffix) }

func fileIndex(name string) (index uint64, ok bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	if !ok {
		return 0, false
	}
	index, err := strconv.ParseUint(digits, 10, 64)
	return index, err == nil && fileName(index) == name
}

// list returns the indexes of the images in dir, oldest first.
func list(fsys vfs.FS, dir string) ([]uint64, error) {
	names, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var indexes []uint64
	for _, name := range names {
		if i, ok := fileIndex(name); ok {
			indexes = append(indexes, i)
		}
	}
	return indexes, nil
}

// Save makes an image durable and then removes all but the two newest. An error means that there is no new image
// (a full disk, for one, is harmless), unless only the removing failed.
func Save(fsys vfs.FS, dir string, id Identity, img Image) error {
	name := filepath.Join(dir, fileName(img.Index))
	if err := vfs.WriteFile(fsys, name, encodeHead(id, img), img.ConfState, img.Data); err != nil {
		return fmt.Errorf("save image: %w", err)
	}
	indexes, err := list(fsys, dir)
	if err != nil {
		return fmt.Errorf("list images: %w", err)
	}
	for _, old := range indexes[:max(0, len(indexes)-kept)] {
		if err := fsys.Remove(filepath.Join(dir, fileName(old))); err != nil {
			return fmt.Errorf("remove old image: %w", err)
		}
	}
	return nil
}

// Load returns the newest readable image and the errors of newer ones, which were passed over. If no image is
// readable, the error is that of the newest; fs.ErrNotExist if there is none at all. An image of somebody else or of a newer
// program is never passed over.
func Load(fsys vfs.FS, dir string, id Identity) (img Image, passed []*segment.DamageError, err error) {
	indexes, err := list(fsys, dir)
	if err != nil {
		return Image{}, nil, fmt.Errorf("load image: %w", err)
	}
	for i := len(indexes) - 1; i >= 0; i-- {
		img, err := load(fsys, filepath.Join(dir, fileName(indexes[i])), id, indexes[i])
		var damage *segment.DamageError
		switch {
		case err == nil:
			return img, passed, nil
		case !errors.As(err, &damage):
			return Image{}, nil, err
		}
		passed = append(passed, damage)
	}
	if len(passed) > 0 {
		return Image{}, nil, passed[0]
	}
	return Image{}, nil, fmt.Errorf("no image in %s: %w", dir, fs.ErrNotExist)
}

func load(fsys vfs.FS, name string, id Identity, index uint64) (Image, error) {
	p, err := vfs.ReadFile(fsys, name)
	if err != nil {
		return Image{}, fmt.Errorf("load image: %w", err)
	}
	img, err := decode(name, id, p)
	if err == nil && img.Index != index {
		err = damaged(name, 32, "it is an image of another index under this name")
	}
	return img, err
}
