package inspect

import (
	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/store/segment"
)

// Verify reads and checks every byte of the replica that counts, and reports what is wrong beyond Problems. The error says what could
// not be read at all.
func (s *Set) Verify(report func(Problem)) error {
	if s.store == nil {
		return s.verifyApart(report)
	}
	free := func(int) error { return nil }
	err := s.store.Scrub(free, func(d store.Damage) {
		report(s.ofDamage(d))
	})
	if err == nil {
		err = s.verifyApart(report) // where a hole of the log is in the file
	}
	if err != nil || !s.isData() || s.image.Index == 0 {
		return err
	}
	refs, err := s.references()
	if err != nil {
		return err
	}
	bad, err := s.badReferences(refs)
	for _, p := range bad {
		report(p)
	}
	for _, f := range s.refFiles(bad) { // those of the older image
		for _, p := range f.Problems {
			report(p)
		}
	}
	return err
}

// verifyApart checks the segments of the log one by one, as they lie on the disk; of a directory that the node could not open, all
// segments.
func (s *Set) verifyApart(report func(Problem)) error {
	segs, err := s.listSegments()
	if err != nil {
		return err
	}
	for i := range segs {
		if s.store != nil && segs[i].Place != "log" {
			continue
		}
		if segs[i].head != nil && segs[i].State == "" {
			s.readSegment(&segs[i], false, func(segment.Record) error { return nil })
		}
		for _, p := range segs[i].Problems {
			if p.Kind != Torn {
				report(p)
			}
		}
	}
	return nil
}

// Strangers lists names in the directory that count for nothing: foreign ones, which nobody knows, and leftovers of work that was
// interrupted, which the node removes when it starts.
func (s *Set) Strangers() (foreign, leftovers []string, err error) {
	if s.store == nil {
		return nil, nil, nil
	}
	return s.store.Strangers(s.fs)
}
