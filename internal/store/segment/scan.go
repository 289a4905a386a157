package segment

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/opencmq/cmq/internal/mutant"
	"github.com/opencmq/cmq/internal/vfs"
)

func isEOF(err error) bool { return err == nil || errors.Is(err, io.EOF) }

// scanner reads the batches of one segment file through a window.
type scanner struct {
	file vfs.File
	name string
	salt uint32
	end  int64 // nothing is read from here on
	buf  []byte
	at   int64 // offset of buf
}

// window is how much is read at a time. Most of a log's start-up is this loop.
const window = 256 << 10

// bytes returns n bytes at off, nil if they go beyond the end; valid until the next call.
func (s *scanner) bytes(off int64, n int) ([]byte, error) {
	if n < 0 || off+int64(n) > s.end {
		return nil, nil
	}
	if off < s.at || off+int64(n) > s.at+int64(len(s.buf)) {
		if err := s.fill(off, n); err != nil {
			return nil, err
		}
	}
	return s.buf[off-s.at:][:n], nil
}

func (s *scanner) fill(off int64, n int) error {
	want := int(min(int64(max(n, window)), s.end-off))
	if cap(s.buf) < want {
		s.buf = make([]byte, want)
	}
	s.buf, s.at = s.buf[:want], off
	got, err := s.file.ReadAt(s.buf, off)
	if got < want {
		s.buf = s.buf[:0]
		return fmt.Errorf("read %s at offset %d: %w", s.name, off, err)
	}
	return nil
}

const whyChecksum = "the checksum of a record is wrong"

// record reads and checks the record at off. why says what is wrong with it.
func (s *scanner) record(off int64) (r record, head [recordSize]byte, why string, err error) {
	p, err := s.bytes(off, recordSize)
	if err != nil || p == nil {
		return r, head, "the file ends", err
	}
	copy(head[:], p)
	if r, why = decodeRecord(p, s.salt, off); why != "" {
		return r, head, why, nil
	}
	p, err = s.bytes(off, int(r.size()))
	if err != nil || p == nil {
		return r, head, "the file ends within a record", err
	}
	r.payload = p[recordSize:][:r.length]
	if !r.intact(head[:]) && !mutant.On(mutant.TornTailKept) {
		return r, head, whyChecksum, nil
	}
	return r, head, "", nil
}

// batch is what one Append wrote, without the payloads.
type batch struct {
	start, end int64
	records    []record
	commit     commit
	last       record // the COMMIT
}

func (b *batch) clean() bool { return b.last.flags&flagClean != 0 }

// next reads the batch at off. why says what is wrong with it, at offset bad.
func (s *scanner) next(off int64) (b batch, why string, bad int64, err error) {
	b.start = off
	sum := uint32(0)
	for {
		r, head, why, err := s.record(off)
		if err != nil {
			return b, "", 0, err
		}
		if why != "" {
			if mutant.On(mutant.TornTailKept) && len(b.records) > 0 {
				b.end = off
				return b, "", 0, nil
			}
			return b, why, off, nil
		}
		off += r.size()
		if r.typ == typeCommit {
			b.end, b.last = off, r
			why = b.seal(r, sum)
			return b, why, r.off, nil
		}
		sum = crc32.Update(sum, castagnoli, head[:])
		r.payload = nil
		b.records = append(b.records, r)
	}
}

func (b *batch) seal(r record, sum uint32) (why string) {
	if len(r.payload) != commitBody {
		return "a COMMIT has the wrong length"
	}
	b.commit = decodeCommit(r.payload)
	b.last.payload = nil
	if (b.commit.crc != sum || int(b.commit.records) != len(b.records)) && !mutant.On(mutant.TornTailKept) {
		return "a COMMIT does not fit its batch"
	}
	return ""
}

// rest looks at everything from off on: the highest promise of a valid COMMIT there, 0 if there is none, and whether
// there is anything but zeros.
func (s *scanner) rest(off int64) (promise int64, zero bool, err error) {
	zero = true
	off = (off + align - 1) &^ (align - 1)
	for off < s.end {
		n := int(min(window, s.end-off))
		p, err := s.bytes(off, n)
		if err != nil {
			return 0, false, err
		}
		if allZero(p) {
			off += int64(n)
			continue
		}
		zero = false
		for _, at := range s.commits(p, off) {
			r, _, why, err := s.record(at)
			if err != nil {
				return 0, false, err
			}
			if why == "" && len(r.payload) == commitBody {
				promise = max(promise, decodeCommit(r.payload).syncedUpTo)
			}
		}
		off += int64(n)
	}
	return promise, zero, nil
}

// commits lists where in p, found at off, the header of a COMMIT could begin. A header across the end of p begins in p
// and is judged by what is seen of it.
func (s *scanner) commits(p []byte, off int64) []int64 {
	var found []int64
	for i := 0; i+align <= len(p); i += align {
		if p[i+4] != typeCommit || le.Uint32(p[i:]) != commitBody {
			continue
		}
		if i+28 > len(p) || le.Uint32(p[i+24:]) == saltAt(s.salt, off+int64(i)) {
			found = append(found, off+int64(i))
		}
	}
	return found
}

func allZero(p []byte) bool {
	var zeros [4096]byte
	for len(p) > 0 {
		n := min(len(p), len(zeros))
		if !bytes.Equal(p[:n], zeros[:n]) {
			return false
		}
		p = p[n:]
	}
	return true
}
