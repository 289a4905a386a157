package segment

import "fmt"

// DropBefore removes the oldest segments as long as all their entries are before index; the active one stays. It
// returns when the removal is durable. The error is the log's, as for Append.
func (l *Log) DropBefore(index uint64) error {
	if l.err != nil {
		return l.err
	}
	n := 0
	for n < len(l.segs)-1 && (len(l.segs[n].table.offsets) == 0 || l.segs[n].table.last() < index) {
		n++
	}
	if n == 0 {
		return nil
	}
	return l.died(l.drop(n))
}

// drop removes the first n segments. The new first segment is recorded before any file goes, so that after a crash
// the files before it are known as leftovers, and any other missing file is known to be missing.
func (l *Log) drop(n int) error {
	if err := l.flush(true); err != nil {
		return err
	}
	first := l.segs[n].head.number
	if err := l.slots.write(func(next *slot) { next.first = first }); err != nil {
		return err
	}
	l.mu.Lock()
	dead := l.segs[:n:n]
	l.segs = append([]*segment(nil), l.segs[n:]...)
	l.read.dropBefore(l.segs[0].table.first)
	l.mu.Unlock()
	for _, s := range dead {
		if err := s.file.Close(); err != nil {
			return fmt.Errorf("close %s: %w", s.path, err)
		}
		if err := l.fs.Remove(s.path); err != nil {
			return fmt.Errorf("drop segment: %w", err)
		}
	}
	return l.fs.SyncDir(l.dir)
}
