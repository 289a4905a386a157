package segment

import (
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencmq/cmq/internal/vfs"
)

const suffix = ".seg"

func fileName(number uint64) string { return fmt.Sprintf("%010d%s", number, suffix) }

// fileNumber is the number in a segment's file name; ok is false for other names.
func fileNumber(name string) (number uint64, ok bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	if !ok {
		return 0, false
	}
	number, err := strconv.ParseUint(digits, 10, 64)
	return number, err == nil && fileName(number) == name
}

// segment is one file of the log. Everything but the table is constant once the segment is in the log, except end and
// size of the active one, which belong to the appending goroutine. The table is under Log.mu.
type segment struct {
	path  string
	file  vfs.File
	head  header
	begin begin
	begun bool // the begin block has been read or written
	table table
	end   int64 // where the batches that count end
	size  int64 // of the file

	// doubt is set while a damaged log is opened: entries from here on, in older segments too, may have been replaced by
	// something that is lost. 0: none.
	doubt uint64
	// bad says what is wrong with the file of a segment that is damaged or lost; seen is where the last record that could be read ends.
	bad  *DamageError
	seen int64
	// sure is an entry whose term a COMMIT says, though the entry may be lost. Index 0: none.
	sure run
}

// newSalt reads a salt for a new segment.
func (l *Log) newSalt() (uint32, error) {
	var p [4]byte
	if _, err := io.ReadFull(l.opt.Rand, p[:]); err != nil {
		return 0, fmt.Errorf("random salt: %w", err)
	}
	return le.Uint32(p[:]), nil
}

// makeFile creates a segment file under a temporary name, lets fill write the batches and sync it, and then gives it
// its name: there is never a segment file without a durable header.
func makeFile(fs vfs.FS, dir string, head header, fill func(*segment) error) (s *segment, err error) {
	path := filepath.Join(dir, fileName(head.number))
	temp := path + vfs.TempSuffix
	f, err := fs.OpenFile(temp, createFlags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create segment: %w", err)
	}
	s = &segment{path: path, file: f, head: head, end: headerSize, size: head.size}
	if err := writeFile(fs, s, temp, dir, fill); err != nil {
		f.Close()
		_ = fs.Remove(temp) // only to give the space back
		return nil, fmt.Errorf("create segment %s: %w", path, err)
	}
	return s, nil
}

func writeFile(fs vfs.FS, s *segment, temp, dir string, fill func(*segment) error) error {
	if err := s.file.Preallocate(s.head.size); err != nil {
		return err
	}
	p := make([]byte, blockSize)
	s.head.encode(p)
	if _, err := s.file.WriteAt(p, 0); err != nil {
		return err
	}
	if err := fill(s); err != nil {
		return err
	}
	if err := fs.Rename(temp, s.path); err != nil {
		return err
	}
	return fs.SyncDir(dir)
}

// beginBytes is what lies between the identity and the first batch: the begin block and zeros.
func (s *segment) beginBytes() []byte {
	p := make([]byte, headerSize-beginAt)
	s.begin.encode(p, s.head.salt)
	return p
}

// fits reports whether a batch of need bytes with n entries leaves room for the footer and the closing commit.
func (s *segment) fits(need int64, n int) bool {
	footer := footerSize(len(s.table.offsets)+n, len(s.table.runs)+n)
	return s.end+need+int64(footer)+commitSize <= s.size
}

// FileNumber is the number of the segment with this file name; ok is false if it is no segment's name.
func FileNumber(name string) (number uint64, ok bool) { return fileNumber(name) }
