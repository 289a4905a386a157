package reflog

import (
	"errors"
	"hash/crc32"
	"math"
	"os"

	"github.com/opencmq/cmq/internal/vfs"
)

// Verify reads every file from the disk and reports what is damaged. An error is one of throttle, or one that is no damage
// (too many open files).
func (l *Log) Verify(throttle func(bytes int) error, report func(*DamageError)) error {
	if throttle == nil {
		throttle = func(int) error { return nil }
	}
	v := l.current()
	v2 := verifier{l: l, v: v, throttle: throttle, files: make(map[uint32]*verified)}
	v2.report = func(d *DamageError) {
		// A file that has been replaced meanwhile may be gone.
		if l.current() == v {
			report(d)
		}
	}
	defer v2.close()
	for _, m := range v.main {
		k := Key{Shard: m.shard}
		for i := range m.chunks {
			c := &m.chunks[i]
			if err := v2.check(m.source(i), DamageError{Key: k, Last: k, Lo: c.seq, Hi: c.end()}); err != nil {
				return err
			}
		}
	}
	for _, lv := range v.levels {
		for i := range lv.blocks {
			if err := v2.check(lv.source(i), lv.extent(i)); err != nil {
				return err
			}
		}
	}
	return v2.rest()
}

// extent is all that may be in entry i.
func (lv *level) extent(i int) DamageError {
	e := &lv.blocks[i]
	d := DamageError{Key: e.key, Lo: e.seq, Last: Key{Shard: math.MaxUint64, Lane: math.MaxInt64}, Hi: math.MaxUint64}
	if e.size == 0 {
		_, d.Hi = lv.bounds(i, e.key)
		d.Last = e.key
	} else if i+1 < len(lv.blocks) {
		next := &lv.blocks[i+1]
		d.Last, d.Hi = next.key, next.seq
	}
	return d
}

type verifier struct {
	l        *Log
	v        *view
	throttle func(int) error
	report   func(*DamageError)
	files    map[uint32]*verified
}

type verified struct {
	file vfs.File
	bad  bool
}

func (v *verifier) open(number uint32) (*verified, error) {
	if f := v.files[number]; f != nil {
		return f, nil
	}
	file, err := v.l.fs.OpenFile(v.l.path(number), os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	f := &verified{file: file}
	v.files[number] = f
	return f, nil
}

func (v *verifier) close() {
	for _, f := range v.files {
		_ = f.file.Close()
	}
}

// check reads one block. lost says what is lost if it is damaged.
func (v *verifier) check(s source, lost DamageError) error {
	if s.body != nil {
		return nil
	}
	err := v.read(&s)
	var d *DamageError
	if !errors.As(err, &d) {
		return err
	}
	lost.File, lost.Offset, lost.Why = d.File, d.Offset, d.Why
	if v.l.salvaged.get(s.id()) != nil {
		lost.Last, lost.Hi = lost.Key, lost.Lo
	}
	v.l.suspect(s.file)
	if f := v.files[s.file]; f != nil {
		f.bad = true
	}
	v.report(&lost)
	return nil
}

func (v *verifier) read(s *source) error {
	if s.size == 0 {
		_, err := v.l.readBody(s)
		return err
	}
	f, err := v.open(s.file)
	if err != nil {
		return v.l.readError(s, err)
	}
	if err := v.throttle(int(s.size)); err != nil {
		return err
	}
	body, err := v.l.readFrom(f.file, s)
	if err == nil {
		_, err = v.l.decode(s, body)
	}
	return err
}

// rest looks at what no block in use has: a peer that fetches the file checks all of it.
func (v *verifier) rest() error {
	for _, file := range v.v.files {
		for number, f := range v.files {
			if number != numberOf(file.Name) || f.bad {
				continue
			}
			good, err := v.whole(f.file, file)
			if err != nil {
				return err
			}
			if !good {
				v.l.suspect(number)
				v.report(&DamageError{File: v.l.path(number), Why: "the checksum of the whole file is wrong, in parts that nothing needs"})
			}
		}
	}
	return nil
}

func (v *verifier) whole(f vfs.File, file File) (bool, error) {
	if size, err := f.Size(); err != nil || size != file.Size {
		return false, err
	}
	buf, sum := make([]byte, bufSize), uint32(0)
	for off := int64(0); off < file.Size; off += int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), file.Size-off)]
		if err := v.throttle(len(buf)); err != nil {
			return false, err
		}
		if _, err := f.ReadAt(buf, off); err != nil {
			return false, nil
		}
		sum = crc32.Update(sum, castagnoli, buf)
	}
	return sum == file.CRC, nil
}
