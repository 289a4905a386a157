package segment

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// made is the result of making a segment in the background.
type made struct {
	seg *segment
	err error
}

// makeAhead makes the segment after the active one when that is half full, so that it is there when it is needed and a
// full disk shows before. A failure is logged once and tried again with the next batch.
func (l *Log) makeAhead() {
	l.collect(false)
	s := l.active()
	if l.spare != nil || l.making != nil || l.err != nil || s.end < s.size/2 {
		return
	}
	head, err := l.nextHeader(l.opt.SegmentSize)
	if err != nil {
		l.noteSpare(made{err: err})
		return
	}
	if !l.opt.Background {
		l.noteSpare(l.makeSpare(head))
		return
	}
	result := make(chan made, 1)
	l.making = result
	go func() { result <- l.makeSpare(head) }()
}

func (l *Log) nextHeader(size int64) (header, error) {
	salt, err := l.newSalt()
	if err != nil {
		return header{}, err
	}
	return header{id: l.opt.identity(), number: l.active().head.number + 1, size: size, salt: salt}, nil
}

func (l *Log) makeSpare(head header) made {
	seg, err := makeFile(l.fs, l.dir, head, func(s *segment) error { return s.file.Sync() })
	return made{seg, err}
}

// collect takes the result of the background goroutine, if there is one and, unless wait is true, it is ready.
func (l *Log) collect(wait bool) {
	if l.making == nil {
		return
	}
	if wait {
		l.noteSpare(<-l.making)
		l.making = nil
		return
	}
	select {
	case m := <-l.making:
		l.noteSpare(m)
		l.making = nil
	default:
	}
}

func (l *Log) noteSpare(m made) {
	l.spare = m.seg
	if m.err != nil && l.spareErr == nil {
		l.opt.Logger.Warn("cannot make the next log segment yet", "dir", l.dir, "error", m.err)
	}
	l.spareErr = m.err
}

// takeSpare returns the next segment with room for a batch of need bytes and n entries, making or growing it if need be.
func (l *Log) takeSpare(need int64, n int) (*segment, error) {
	l.collect(true)
	if err := l.checkSpare(); err != nil {
		return nil, err
	}
	want := headerSize + need + int64(footerSize(n, n)) + commitSize
	if l.spare == nil {
		s, err := l.makeNow(want)
		if err != nil {
			return nil, err
		}
		l.spare = s
	}
	s := l.spare
	if s.size < want {
		err := s.file.Preallocate(want)
		for full(err) && l.opt.Room != nil && l.opt.Room() {
			err = s.file.Preallocate(want)
		}
		if err != nil {
			return nil, fmt.Errorf("grow %s: %w", s.path, err)
		}
		s.size = want
	}
	l.spare = nil
	return s, nil
}

// checkSpare lets go of a segment whose header rotted while it lay there: what is written into it would be lost with it. The next one gets
// its name.
func (l *Log) checkSpare() error {
	s := l.spare
	if s == nil {
		return nil
	}
	probe := &segment{path: s.path, file: s.file}
	err := probe.readHead(s.head.number, l.opt.identity())
	if err == nil && probe.head == s.head {
		return nil
	}
	l.opt.Logger.Error("the segment that was made ahead is damaged; another one is made", "segment", s.path, "error", err)
	l.spare = nil
	return s.file.Close()
}

// VerifySpare looks whether the segment that was made ahead, if there is one, is still what was made; the hole it gives has no entries.
// RenewSpare heals it. Any goroutine may call it.
func (l *Log) VerifySpare() ([]Hole, error) {
	_, last := l.Numbers()
	path := filepath.Join(l.dir, fileName(last+1))
	f, err := l.fs.OpenFile(path, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	probe := &segment{path: path, file: f}
	var damage *DamageError
	if err = probe.readHead(last+1, l.opt.identity()); !errors.As(err, &damage) {
		return nil, err
	}
	if _, now := l.Numbers(); now != last { // it is in use, or was replaced
		return nil, nil
	}
	return []Hole{{File: path, Offset: damage.Offset, Why: damage.Why}}, nil
}

// RenewSpare removes a damaged segment that was made ahead, lest the next Open take it for a lost one of the log, and makes another when
// it is time. It belongs to the appending goroutine.
func (l *Log) RenewSpare() error {
	if l.err != nil {
		return l.err
	}
	l.collect(true)
	if err := l.checkSpare(); err != nil || l.spare != nil {
		return err
	}
	err := l.fs.Remove(filepath.Join(l.dir, fileName(l.active().head.number+1)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l.makeAhead()
	return nil
}

// closeSpare ends the making of segments.
func (l *Log) closeSpare() error {
	l.collect(true)
	if l.spare == nil {
		return nil
	}
	s := l.spare
	l.spare = nil
	return s.file.Close()
}
