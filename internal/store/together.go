package store

import "github.com/opencmq/cmq/internal/store/segment"

// Messages reads messages and gives each to got, or why it cannot be given (see Message); i is the place in refs. Messages of
// one entry that follow each other in refs, as those of a queue often do, are read together.
func (s *Store) Messages(refs []Ref, got func(i int, m Message, err error)) {
	for i := 0; i < len(refs); {
		n := 1
		for i+n < len(refs) && refs[i+n].Index == refs[i].Index {
			n++
		}
		entry := s.together(refs[i], n)
		for ; n > 0; n-- {
			m, err := s.through(entry, refs[i])
			got(i, m, err)
			i++
		}
	}
}

// together gives the data of an entry of which n messages are to be read, or nil if they are better read one by one.
func (s *Store) together(ref Ref, n int) segment.Payload {
	if n == 1 {
		return nil
	}
	if data, err := s.log.Cached(ref.Index); err == nil && data != nil {
		return data
	}
	data, err := s.near.payload(ref.Index, n, func() (segment.Payload, error) { return s.entry(ref.Index) })
	if err != nil {
		return nil
	}
	if _, whole := data.(segment.Data); whole {
		return data
	}
	return &window{Payload: data}
}

// entry finds the data of an entry, in the log or in a segment of the archive.
func (s *Store) entry(index uint64) (segment.Payload, error) {
	data, err := s.log.Payload(index)
	if err == nil {
		return data, nil
	}
	s.shelf.covering(index, func(p *piece) bool {
		if p.segment == nil {
			return true
		}
		s.shelf.touch(p)
		data, err = p.segment.Payload(index)
		return err != nil
	})
	return data, err
}

// through reads a message from the data of its entry. Whatever is wrong with that, Message knows what to do.
func (s *Store) through(entry segment.Payload, ref Ref) (Message, error) {
	if entry != nil {
		if m, err := s.opt.Message(entry, ref.Slot); err == nil {
			m.Ref = ref
			return m, nil
		}
	}
	return s.Message(ref)
}

// window reads an entry's data ahead and keeps what it read last: one piece for the entry's header, one for its table and
// one for the bodies, as command draws them. So neighbours cost one read.
type window struct {
	segment.Payload
	pieces [3]windowPiece
	uses   int
}

type windowPiece struct {
	off  int64
	data []byte
	used int
}

// windowSize is how much is read ahead: a receive's messages of about 1 KB.
const windowSize = 16 << 10

// ReadAt implements io.ReaderAt, for one goroutine.
func (w *window) ReadAt(p []byte, off int64) (int, error) {
	if len(p) > windowSize || off+int64(len(p)) > w.Size() {
		return w.Payload.ReadAt(p, off)
	}
	w.uses++
	oldest := &w.pieces[0]
	for i := range w.pieces {
		q := &w.pieces[i]
		if off >= q.off && off+int64(len(p)) <= q.off+int64(len(q.data)) {
			q.used = w.uses
			return copy(p, q.data[off-q.off:]), nil
		}
		if q.used < oldest.used {
			oldest = q
		}
	}
	data := make([]byte, min(windowSize, w.Size()-off))
	if n, err := w.Payload.ReadAt(data, off); n < len(data) {
		return 0, err
	}
	*oldest = windowPiece{off: off, data: data, used: w.uses}
	return copy(p, data), nil
}
