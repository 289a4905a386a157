package store

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/opencmq/cmq/internal/mutant"
	"github.com/opencmq/cmq/internal/store/checkpoint"
	"github.com/opencmq/cmq/internal/store/segment"
	"github.com/opencmq/cmq/internal/vfs"
)

// Kind says what a damaged file is, and with it how it is healed.
type Kind uint8

// The kinds of files.
const (
	KindLog      Kind = iota + 1 // a segment of the log: its entries are fetched, Log.Rebuild
	KindArchive                  // a file of the archive: Rewrite
	KindImage                    // an image: the next checkpoint replaces it
	KindRefs                     // references: package reflog knows which
	KindManifest                 // the root: the next change replaces it
	KindSpare                    // a segment that was made ahead: Log.RenewSpare
)

// String is the kind in words.
func (k Kind) String() string {
	return [...]string{"?", "log", "archive", "image", "references", "manifest", "spare"}[min(int(k), 6)]
}

// Damage says that a file is not what was written.
type Damage struct {
	File   string
	Offset int64
	Why    string
	Kind   Kind
	Number uint64 // of the segment of the log or the image; of the archive it tells segments and files apart
	Lo, Hi uint64 // entries it is about, if it is about some; [Lo, Hi)
	// Awaited: the whole file of the only replica is lost, which may be put back, so it must not be written anew.
	Awaited bool
}

func (d Damage) String() string {
	return fmt.Sprintf("%s file %s at offset %d: %s", d.Kind, d.File, d.Offset, d.Why)
}

// Damage lists what Open and LatestImage found and nothing has healed yet.
func (s *Store) Damage() []Damage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.damage)
}

func (s *Store) noteDamage(d Damage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.ContainsFunc(s.damage, func(o Damage) bool { return o.File == d.File }) {
		s.damage = append(s.damage, d)
	}
}

// Scrub reads every file of the store again from the disk, the files of references excepted, and reports what is damaged.
// throttle is told of the bytes read; its error ends the reading. What is reported may have been removed meanwhile.
func (s *Store) Scrub(throttle func(bytes int) error, report func(Damage)) error {
	m := s.manifest()
	if why := s.manifestDamage(); why != "" {
		report(Damage{File: s.path(manifestName), Kind: KindManifest, Why: why})
	}
	for i := range m.images {
		img := &m.images[i]
		var stop error
		err := checkpoint.Verify(s.fs, s.dir, identityOf(&s.opt), img.Info, func(n int) error { stop = throttle(n); return stop })
		switch {
		case stop != nil:
			return stop
		case err != nil && s.named(img.Number):
			report(damageOf(segment.Disowned(err), Damage{File: s.path(img.Name()), Kind: KindImage, Number: img.Number}))
		}
	}
	for _, p := range s.shelf.pieces() {
		if err := s.scrubPiece(p, throttle, report); err != nil {
			return err
		}
	}
	return s.scrubLog(throttle, report)
}

// manifestDamage says what is wrong with the file of the manifest in force.
func (s *Store) manifestDamage() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := vfs.ReadFile(s.fs, s.path(manifestName))
	switch {
	case err != nil:
		return err.Error()
	case !bytes.Equal(p, s.man.encode(identityOf(&s.opt))):
		return "it is not what was written last"
	}
	return ""
}

// named tells whether an image still counts.
func (s *Store) named(number uint64) bool {
	m := s.manifest()
	return slices.ContainsFunc(m.images, func(i image) bool { return i.Number == number })
}

func (s *Store) scrubPiece(p *piece, throttle func(int) error, report func(Damage)) error {
	note := func(err error) {
		if slices.Contains(s.shelf.pieces(), p) && !closedUnder(err) {
			report(damageOf(err, Damage{File: s.path(p.name), Kind: KindArchive, Number: p.key, Lo: p.lo, Hi: p.hi, Awaited: s.awaited(p)}))
		}
	}
	if p.file != nil {
		return p.file.Verify(throttle, note)
	}
	holes, err := p.segment.Verify(throttle)
	for _, h := range holes {
		note(&segment.DamageError{File: h.File, Offset: h.Offset, Why: h.Why})
	}
	return err
}

func (s *Store) scrubLog(throttle func(int) error, report func(Damage)) error {
	first, last := s.log.Numbers()
	for number := first; number <= last; number++ {
		holes, err := s.log.Verify(number, throttle)
		for _, h := range holes {
			report(Damage{File: h.File, Offset: h.Offset, Why: h.Why, Kind: KindLog, Number: number, Lo: h.Lo, Hi: h.Hi})
		}
		if err != nil {
			return err
		}
	}
	holes, err := s.log.VerifySpare()
	for _, h := range holes {
		report(Damage{File: h.File, Offset: h.Offset, Why: h.Why, Kind: KindSpare, Number: last + 1})
	}
	return err
}

func damageOf(err error, d Damage) Damage {
	d.Why = err.Error()
	var damage *segment.DamageError
	if errors.As(err, &damage) {
		d.Offset, d.Why = damage.Offset, damage.Why
	}
	return d
}

// Rewrite writes the archive file that a Damage names anew: with what is alive, from fetch where it cannot be read here.
// Messages that fetch cannot give either are left out, and returned. live is as of the newest image.
func (s *Store) Rewrite(d Damage, live Live, fetch func([]Ref) ([]Message, error), throttle func(int) error) (lost []Ref, err error) {
	var p *piece
	for _, q := range s.shelf.pieces() {
		if q.key == d.Number {
			p = q
		}
	}
	if p == nil || p.hi > s.NewestIndex()+1 {
		return nil, nil // it is gone, or too new; the next search finds it again
	}
	c := &copying{s: s, fetch: fetch, throttle: throttle, seen: RefSet{}, lost: func(ref Ref) { lost = append(lost, ref) }}
	defer c.abort()
	group := []*piece{p}
	if err := live.Each(p.lo, p.hi, func(run Run) error { return c.run(group, run) }); err != nil {
		return nil, err
	}
	files, err := c.finish()
	if err != nil {
		return nil, err
	}
	if err := s.exchange(group, files); err != nil {
		return nil, err
	}
	s.healed(p.name)
	return lost, nil
}

// healed takes a file off the list of damage.
func (s *Store) healed(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.damage = slices.DeleteFunc(s.damage, func(d Damage) bool { return d.File == s.path(name) })
}

// RewriteManifest writes the root again as it is in memory.
func (s *Store) RewriteManifest() error { return s.change(nil, nil, func(*manifest) {}) }

// missingBatch bounds how many references Missing keeps in memory.
const missingBatch = 1 << 16

// Missing calls f for every living message, as of the newest image, that no file here has by its tables; once for each.
func (s *Store) Missing(live Live, throttle func(bytes int) error, f func(Ref) error) error {
	count, seen := 0, RefSet{}
	return live.Each(0, s.NewestIndex()+1, func(run Run) error {
		if mutant.On(mutant.EmptyLiveSet) {
			return nil
		}
		for i := range run.N {
			if ref := (Ref{Index: run.Index, Slot: run.Slot + i}); !s.Has(ref, ref.Index) && seen.Add(ref) {
				if err := f(ref); err != nil {
					return err
				}
			}
		}
		if count += int(run.N); count < missingBatch {
			return nil
		}
		count = 0
		return throttle(missingBatch * 8)
	})
}
