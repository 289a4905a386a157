package reflog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/opencmq/cmq/internal/vfs"
)

var (
	le         = binary.LittleEndian
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

func fileName(number uint32) string { return fmt.Sprintf("refs-%010d.chunk", number) }

// numberOf is the number in the name of a file, which may have something behind it; 0 if there is none.
func numberOf(name string) (number uint32) {
	if _, err := fmt.Sscanf(name, "refs-%10d", &number); err != nil {
		return 0
	}
	return number
}

// A file of references begins with 40 bytes:
//
//	0   magic    "cmqrefs\n"
//	8   version  u32
//	12  set      u16, then 2 zero bytes
//	16  cluster  u64
//	24  number   u64   also the file's name
//	32  zeros    u32
//	36  crc32c   u32   of bytes 0 to 35
//
// Blocks follow, without gaps, up to the end of the file. A chunk of a main lane is a block too. Every block:
//
//	0   magic    u32   "RBLK"
//	4   number   u32   of the file
//	8   offset   u32   of this block in the file
//	12  size     u32   of the body
//	16  runs     u16
//	18  lanes    u16
//	20  crc32c   u32   of bytes 0 to 19 and the body; the directory in the image has it too
//	24  body
//
// The directory tells the blocks of the file that it means from those of an older or another one by the checksum.
const (
	fileMagic  = "cmqrefs\n"
	fileHeader = 40
	blockMagic = uint32(0x4b4c4252) // "RBLK"
	blockHead  = 24
	version    = 1

	maxFile = 128 << 20 // one file is not made longer, so that it can be fetched and rewritten in reasonable pieces
	bufSize = 256 << 10
)

func encodeFileHeader(opt *Options, number uint32) []byte {
	p := make([]byte, fileHeader)
	copy(p, fileMagic)
	le.PutUint32(p[8:], version)
	le.PutUint16(p[12:], opt.Set)
	le.PutUint64(p[16:], opt.Cluster)
	le.PutUint64(p[24:], uint64(number))
	le.PutUint32(p[36:], crc32.Checksum(p[:36], castagnoli))
	return p
}

func encodeBlockHead(number, off uint32, body []byte, runs, lanes int) (p [blockHead]byte, sum uint32) {
	le.PutUint32(p[0:], blockMagic)
	le.PutUint32(p[4:], number)
	le.PutUint32(p[8:], off)
	le.PutUint32(p[12:], uint32(len(body)))
	le.PutUint16(p[16:], uint16(runs))
	le.PutUint16(p[18:], uint16(lanes))
	sum = crc32.Update(crc32.Checksum(p[:20], castagnoli), castagnoli, body)
	le.PutUint32(p[20:], sum)
	return p, sum
}

// checkBlock returns the body of a block, or why it is none.
func checkBlock(p []byte, s *source) (body []byte, why string) {
	if le.Uint32(p) != blockMagic {
		return nil, "there is no block"
	}
	body = p[blockHead:]
	sum := crc32.Update(crc32.Checksum(p[:20], castagnoli), castagnoli, body)
	switch {
	case le.Uint32(p[20:]) != sum:
		return nil, "the checksum is wrong"
	case sum != s.checksum:
		return nil, "it is another block than the one that was written here"
	case le.Uint32(p[4:]) != s.file, le.Uint32(p[8:]) != s.off, le.Uint32(p[12:]) != s.size:
		return nil, "it is a block of another place"
	}
	return body, ""
}

// readBody reads an encoded body from its file. A *DamageError does not say yet what is lost.
func (l *Log) readBody(s *source) ([]byte, error) {
	if s.size == 0 {
		return nil, &DamageError{File: l.path(s.file), Offset: int64(s.off), Why: "the block was damaged before and has not been repaired"}
	}
	f, err := l.fs.OpenFile(l.path(s.file), os.O_RDONLY, 0)
	if err != nil {
		return nil, l.readError(s, err)
	}
	defer f.Close()
	return l.readFrom(f, s)
}

func (l *Log) readFrom(f vfs.File, s *source) ([]byte, error) {
	p := make([]byte, blockHead+int(s.size))
	if n, err := f.ReadAt(p, int64(s.off)); n < len(p) {
		return nil, l.readError(s, err)
	}
	body, why := checkBlock(p, s)
	if why != "" {
		return nil, &DamageError{File: l.path(s.file), Offset: int64(s.off), Why: why}
	}
	return body, nil
}

// readError tells damage from what will pass.
func (l *Log) readError(s *source, err error) error {
	why := ""
	switch {
	case errors.Is(err, fs.ErrNotExist):
		why = "the file is missing"
	case errors.Is(err, io.EOF), err == nil:
		why = "the file is too short"
	case errors.Is(err, syscall.EIO):
		why = "the disk cannot read it"
	default:
		return fmt.Errorf("references in %s at offset %d: %w", l.path(s.file), s.off, err)
	}
	return &DamageError{File: l.path(s.file), Offset: int64(s.off), Why: why}
}

func (l *Log) path(number uint32) string {
	if name, ok := l.names[number]; ok {
		return filepath.Join(l.dir, name)
	}
	return filepath.Join(l.dir, fileName(number))
}

// decode is decodeBody for a body that has passed its checksum.
func (l *Log) decode(s *source, body []byte) (*block, error) {
	b, err := decodeBody(body)
	if err != nil || len(b.runs) != s.runs {
		return nil, &DamageError{File: l.path(s.file), Offset: int64(s.off), Why: "the checksum is right, but the references do not make sense"}
	}
	return b, nil
}

// writer writes one file of references.
type writer struct {
	number   uint32
	file     vfs.File
	buf      []byte
	size     int64 // with what is in buf
	checksum uint32
	spend    func(bytes int) error
}

func createFile(l *Log, number uint32, spend func(int) error) (*writer, error) {
	f, err := l.fs.OpenFile(l.path(number), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	w := &writer{number: number, file: f, spend: spend}
	return w, w.write(encodeFileHeader(&l.opt, number))
}

func (w *writer) write(p []byte) error {
	w.buf = append(w.buf, p...)
	w.size += int64(len(p))
	if len(w.buf) < bufSize {
		return nil
	}
	return w.flush()
}

func (w *writer) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	w.checksum = crc32.Update(w.checksum, castagnoli, w.buf)
	if _, err := w.file.WriteAt(w.buf, w.size-int64(len(w.buf))); err != nil {
		return err
	}
	n := len(w.buf)
	w.buf = w.buf[:0]
	return w.spend(n)
}

// block appends a block and returns where it is.
func (w *writer) block(body []byte, runs, lanes int) (source, error) {
	s := source{file: w.number, off: uint32(w.size), size: uint32(len(body)), runs: runs}
	head, sum := encodeBlockHead(w.number, s.off, body, runs, lanes)
	s.checksum = sum
	if err := w.write(head[:]); err != nil {
		return s, err
	}
	return s, w.write(body)
}

// finish makes the file durable, not its name.
func (w *writer) finish() (File, error) {
	err := w.flush()
	if err == nil {
		err = w.file.Sync()
	}
	err = errors.Join(err, w.file.Close())
	w.file = nil
	return File{Name: fileName(w.number), Size: w.size, CRC: w.checksum}, err
}
