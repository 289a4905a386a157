package archive

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/opencmq/cmq/internal/vfs"
)

// Identify reads the ends of the file under this number and describes it as its Writer did, for a root that was lost. The errors are
// *segment.DamageError, *segment.ForeignError, *segment.VersionError, fs.ErrNotExist or the disk's.
func Identify(fsys vfs.FS, dir string, id ID, number uint64) (Info, error) {
	info := Info{Number: number}
	file, err := fsys.OpenFile(filepath.Join(dir, info.Name()), os.O_RDONLY, 0)
	if err != nil {
		return info, err
	}
	f := &File{fs: fsys, path: filepath.Join(dir, info.Name()), id: id, file: file}
	err = f.identify(&info)
	return info, errors.Join(err, file.Close())
}

func (f *File) identify(info *Info) error {
	size, err := f.file.Size()
	if err != nil {
		return err
	}
	if size < headSize+tailSize {
		return damage(f.path, size, "the file is too short to be an archive file")
	}
	head, err := f.read(0, headSize)
	if err != nil {
		return err
	}
	if err := checkHead(f.path, head, f.id, info.Number); err != nil {
		return err
	}
	p, err := f.read(size-tailSize, tailSize)
	if err != nil {
		return err
	}
	t, ok := decodeTail(p, size)
	if !ok {
		return damage(f.path, size-tailSize, "the end of the file is not what was written")
	}
	*info = Info{Number: info.Number, Lo: t.lo, Hi: t.hi, Messages: t.messages, Bytes: t.bytes, Size: size, Sum: le.Uint32(p[60:])}
	f.info = *info
	return f.readEnds()
}
