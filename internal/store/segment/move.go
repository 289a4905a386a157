package segment

import (
	"errors"
	"fmt"

	"github.com/opencmq/cmq/internal/vfs"
)

// errBadPlace says that the medium does not take a write at the place where it must go: a sector there cannot be read, and only a
// part of it is written. Nothing was written.
var errBadPlace = errors.New("the medium is bad there")

// sealAnywhere seals a segment. If its footer cannot be written where it belongs, the file is copied, which moves it to another place on
// the medium; then the result is another segment, and the caller closes the file of the old one when nobody finds that any more.
func (l *Log) sealAnywhere(s *segment) (*segment, error) {
	err := l.seal(s)
	if !errors.Is(err, errBadPlace) {
		return s, err
	}
	l.opt.Logger.Error("the end of a segment cannot be written; the segment is copied", "segment", s.path, "error", err)
	moved, err := l.copyFile(s)
	if err != nil {
		return s, fmt.Errorf("copy %s: %w", s.path, err)
	}
	return moved, l.seal(moved)
}

// copyFile puts a durable copy of a segment in its place, up to its end. Bytes that cannot be read are others there, as they are when
// they are read.
func (l *Log) copyFile(s *segment) (*segment, error) {
	temp := s.path + vfs.TempSuffix
	f, err := l.fs.OpenFile(temp, createFlags, 0o600)
	if err != nil {
		return nil, err
	}
	if err := l.fillCopy(f, s, temp); err != nil {
		f.Close()
		_ = l.fs.Remove(temp) // only to give the space back
		return nil, err
	}
	moved := *s
	moved.file = f
	return &moved, nil
}

func (l *Log) fillCopy(f vfs.File, s *segment, temp string) error {
	for off := int64(0); off < s.end; off += window {
		p := make([]byte, min(window, s.end-off))
		if n, err := s.file.ReadAt(p, off); n < len(p) {
			return err
		}
		if _, err := f.WriteAt(p, off); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := l.fs.Rename(temp, s.path); err != nil {
		return err
	}
	return l.fs.SyncDir(l.dir)
}
