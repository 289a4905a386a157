package segment

import "fmt"

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
		head, err := l.nextHeader(max(l.opt.SegmentSize, want))
		if err != nil {
			return nil, err
		}
		m := l.makeSpare(head)
		if m.err != nil {
			return nil, m.err
		}
		l.spare = m.seg
	}
	s := l.spare
	if s.size < want {
		if err := s.file.Preallocate(want); err != nil {
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
