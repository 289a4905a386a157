package archive

import (
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencmq/cmq/internal/vfs"
)

// writeBuffer is how much is written at a time.
const writeBuffer = 256 << 10

// Writer makes one file.
type Writer struct {
	fs    vfs.FS
	dir   string
	info  Info
	temp  string
	file  vfs.File
	buf   []byte
	at    int64 // offset of buf in the file
	items []item
}

// Create begins a file under a temporary name.
func Create(fsys vfs.FS, dir string, id ID, number uint64) (*Writer, error) {
	w := &Writer{fs: fsys, dir: dir, info: Info{Number: number}}
	w.temp = filepath.Join(dir, w.info.Name()+vfs.TempSuffix)
	f, err := fsys.OpenFile(w.temp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create archive file: %w", err)
	}
	w.file, w.buf = f, encodeHead(id, number)
	return w, nil
}

// Messages is how many messages were added.
func (w *Writer) Messages() int { return len(w.items) }

// Bytes is how long their bodies are together.
func (w *Writer) Bytes() int64 { return w.end() - headSize }

func (w *Writer) end() int64 { return w.at + int64(len(w.buf)) }

// Full reports whether another message of n bytes belongs into another file, which should hold about limit bytes.
func (w *Writer) Full(n int, limit int64) bool {
	return len(w.items) > 0 && (w.Bytes()+int64(n) > min(limit, MaxBytes) || len(w.items) >= MaxMessages)
}

// Add writes a message. No message may be added twice.
func (w *Writer) Add(m Message) error {
	w.items = append(w.items, item{
		Ref: m.Ref, off: w.end(), length: len(m.Body), origin: m.Origin, time: m.Time, sum: sumOf(&m),
	})
	w.buf = append(w.buf, m.Body...)
	if len(w.buf) < writeBuffer {
		return nil
	}
	return w.flush()
}

func (w *Writer) flush() error {
	if _, err := w.file.WriteAt(w.buf, w.at); err != nil {
		return fmt.Errorf("write %s: %w", w.temp, err)
	}
	w.at += int64(len(w.buf))
	w.buf = w.buf[:0]
	return nil
}

// Finish makes the file durable under its name. The Writer is used up, whether there is an error or not; after one
// there is no file.
func (w *Writer) Finish() (Info, error) {
	err := w.finish()
	if err != nil {
		w.Abort()
		return Info{}, fmt.Errorf("archive file %s: %w", w.info.Name(), err)
	}
	return w.info, nil
}

func (w *Writer) finish() error {
	w.seal()
	if err := w.flush(); err != nil {
		return err
	}
	w.info.Size = w.at
	if err := w.file.Sync(); err != nil {
		return err
	}
	if err := w.file.Close(); err != nil {
		return err
	}
	if err := w.fs.Rename(w.temp, filepath.Join(w.dir, w.info.Name())); err != nil {
		return err
	}
	return w.fs.SyncDir(w.dir)
}

// seal appends blocks, directory and tail.
func (w *Writer) seal() {
	slices.SortFunc(w.items, func(a, b item) int {
		switch {
		case a.Ref == b.Ref:
			panic(fmt.Sprintf("BUG: message %v is twice in an archive file", a.Ref))
		case a.before(b.Ref):
			return -1
		}
		return 1
	})
	t := tail{bytes: w.Bytes(), messages: uint64(len(w.items))}
	var blocks []block
	for rest := w.items; len(rest) > 0; {
		n := min(len(rest), blockMessages)
		at, off := len(w.buf), w.end()
		w.buf = appendBlock(w.buf, rest[:n])
		t.sums = crc32.Update(t.sums, castagnoli, w.buf[len(w.buf)-sumSize:])
		blocks = append(blocks, block{first: rest[0].Ref, length: len(w.buf) - at, off: off})
		rest = rest[n:]
	}
	if n := len(w.items); n > 0 {
		t.lo, t.hi = w.items[0].Index, w.items[n-1].Index+1
	}
	t.dir = w.end()
	at := len(w.buf)
	w.buf = appendDir(w.buf, blocks)
	t.dirSum = checksum(w.buf[at:])
	p := t.encode()
	w.buf = append(w.buf, p...)
	w.info.Lo, w.info.Hi, w.info.Messages, w.info.Bytes = t.lo, t.hi, t.messages, t.bytes
	w.info.Sum = le.Uint32(p[60:])
}

// Abort gives the file up.
func (w *Writer) Abort() {
	w.file.Close()
	_ = w.fs.Remove(w.temp) // only to give the space back; what is left is removed at the next start
}
