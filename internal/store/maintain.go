package store

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sort"

	"github.com/opencmq/cmq/internal/mutant"
	"github.com/opencmq/cmq/internal/store/archive"
	"github.com/opencmq/cmq/internal/store/reflog"
	"github.com/opencmq/cmq/internal/store/segment"
)

// Report says what Maintain did, and what the archive is like now.
type Report struct {
	Left      int   // segments that left the log
	Dropped   int   // files without a living message that were removed
	Rewritten int   // files that were replaced by smaller ones
	Bytes     int64 // of the archive's files
	Live      int64 // about how many of them were living messages before files were rewritten
	Damaged   int   // files that should be rewritten and cannot be read: Scrub names them
	Blind     int   // files that stay as they are, because of references that cannot be read
}

const (
	// sparse is the share of living bytes, in percent, below which a file is rewritten: so the files are at rest at most 1.5 times as
	// large as what lives in them.
	sparse = 66
	// small files beside each other are put together when so many are there.
	smallRun = 8
	// rewriteStep is how many bytes are copied between two calls of throttle.
	rewriteStep = 256 << 10
)

// Maintain lets the log go as far as images and keepFrom (the lowest entry that somebody may still want from the log) allow,
// removes files without a living message, and rewrites files in which few live. live is as of the newest image, nil if the set
// stores no messages. What is newer than that image is left alone, and so is each file that may have messages to which only
// damaged references lead. throttle is told of the bytes read and written, and of what removing files counts for; its error ends the work, and
// nothing is lost by it.
func (s *Store) Maintain(live Live, keepFrom uint64, throttle func(bytes int) error) (Report, error) {
	var r Report
	if live == nil {
		live = nothing{}
	}
	if err := s.removeGone(throttle); err != nil {
		return r, err
	}
	w, err := s.weigh(live, keepFrom)
	if err != nil {
		return r, err
	}
	if err := s.leave(w, &r); err != nil {
		return r, err
	}
	if err := s.removeGone(throttle); err != nil {
		return r, err
	}
	if err := s.count(w, live); err != nil {
		return r, err
	}
	for _, p := range s.shelf.pieces() {
		r.Live += p.alive(w.of(p))
	}
	for _, group := range s.sparseGroups(w) {
		if err := s.shrink(group, live, throttle, &r); err != nil {
			return r, err
		}
		if err := s.removeGone(throttle); err != nil {
			return r, err
		}
	}
	for _, p := range s.shelf.pieces() {
		r.Bytes += p.size
	}
	return r, nil
}

// shrink rewrites a group if that frees enough. Where references are damaged nobody knows what lives, so the files that
// may have some of it stay, and the others are looked at without them.
func (s *Store) shrink(group []*piece, live Live, throttle func(int) error, r *Report) error {
	ok, err := s.worthwhile(group, live)
	if err == nil && ok {
		err = s.rewrite(group, live, nil, throttle)
	}
	var partial *reflog.PartialError
	var damage *segment.DamageError
	switch {
	case errors.As(err, &partial):
		rest := beside(group, partial.Stretches)
		kept := len(group)
		for _, g := range rest {
			kept -= len(g)
		}
		r.Blind += kept
		if kept == 0 { // it is of a file between them
			r.Blind += len(group)
			return nil
		}
		for _, g := range rest {
			if err := s.shrink(g, live, throttle, r); err != nil {
				return err
			}
		}
		return nil
	case errors.As(err, &damage):
		r.Damaged += len(group)
		s.logger().Warn("a file is not made smaller before it is repaired", "error", err)
		return nil
	case err == nil && ok:
		r.Rewritten += len(group)
	}
	return err
}

// beside is the parts of a group between the files that have an entry of one of the stretches.
func beside(group []*piece, stretches []reflog.Stretch) (parts [][]*piece) {
	open := false
	for _, p := range group {
		switch {
		case p.touches(stretches):
			open = false
		case open:
			parts[len(parts)-1] = append(parts[len(parts)-1], p)
		default:
			parts, open = append(parts, []*piece{p}), true
		}
	}
	return parts
}

// touches reports whether the file may have a message of one of the stretches.
func (p *piece) touches(stretches []reflog.Stretch) bool {
	return slices.ContainsFunc(stretches, func(t reflog.Stretch) bool { return p.lo < t.Hi && t.Lo < p.hi })
}

// nothing is the Live of a set without messages.
type nothing struct{}

func (nothing) Weigh(func(lo, hi, bytes uint64)) error     { return nil }
func (nothing) Each(uint64, uint64, func(Run) error) error { return nil }

// scale weighs files: how many bytes of living messages are in them. A file of weight 0 has none; any other weight is about
// right.
type scale struct {
	pans []pan // ascending by lo; ranges do not overlap but for fetched messages
	ends []uint64
	upto uint64 // only files below this are weighed: the state is not older than that
}

type pan struct {
	lo, hi uint64
	size   int64
	bytes  uint64
	leaves *segment.Info // a segment of the log
	piece  *piece        // or a file of the archive
}

// weigh weighs the archive and the segments of the log that may leave it.
func (s *Store) weigh(live Live, keepFrom uint64) (*scale, error) {
	m := s.manifest()
	w := &scale{upto: m.newest().Index + 1}
	for _, p := range s.shelf.pieces() {
		w.pans = append(w.pans, pan{lo: p.lo, hi: p.hi, size: p.size, piece: p})
	}
	var sealed []segment.Info
	if err := s.opt.Serial(func() error { sealed = s.log.Sealed(); return nil }); err != nil {
		return nil, err
	}
	bound := min(m.floor(), keepFrom)
	for i := range sealed {
		if sealed[i].Last >= bound {
			break
		}
		w.pans = append(w.pans, pan{lo: sealed[i].First, hi: sealed[i].Last + 1, size: sealed[i].Size, leaves: &sealed[i]})
	}
	slices.SortStableFunc(w.pans, func(a, b pan) int { return cmp.Compare(a.lo, b.lo) })
	w.ends = make([]uint64, len(w.pans))
	for i, end := 0, uint64(0); i < len(w.pans); i++ {
		end = max(end, w.pans[i].hi)
		w.ends[i] = end
	}
	return w, live.Weigh(w.put)
}

// put spreads bytes evenly over the entries [lo, hi). No file that has one of them stays at weight 0.
func (w *scale) put(lo, hi, bytes uint64) {
	n := sort.Search(len(w.pans), func(i int) bool { return w.pans[i].lo >= hi })
	for i := n - 1; i >= 0 && w.ends[i] > lo; i-- {
		p := &w.pans[i]
		if from, to := max(lo, p.lo), min(hi, p.hi); from < to {
			p.bytes += uint64(float64(bytes)*float64(to-from)/float64(hi-lo)) + 1
		}
	}
}

// leave takes segments out of the log and files without living messages out of the archive.
func (s *Store) leave(w *scale, r *Report) error {
	var stay []segment.Info // of those that leave the log
	var dead []*piece
	var names []string
	var first uint64
	for i := range w.pans {
		p := &w.pans[i]
		switch {
		case p.leaves != nil:
			first = p.leaves.Number + 1
			r.Left++
			if p.bytes > 0 && p.leaves.Last >= p.leaves.First {
				stay = append(stay, *p.leaves)
				continue
			}
			names = append(names, p.leaves.Name())
		case p.bytes == 0 && p.hi <= w.upto:
			dead = append(dead, p.piece)
			names = append(names, p.piece.name)
		default:
			continue
		}
		r.Dropped++
	}
	if first == 0 && len(dead) == 0 {
		return nil
	}
	gone := map[uint64]bool{}
	for _, p := range dead {
		gone[p.key] = true
	}
	err := s.change(nil, names, func(m *manifest) {
		m.segments = without(m.segments, func(i segment.Info) bool { return gone[pieceKey(i.Name(), i.Number)] })
		m.files = without(m.files, func(i archive.Info) bool { return gone[pieceKey(i.Name(), i.Number)] })
		m.segments = append(m.segments, stay...)
		m.first = max(m.first, first)
	})
	if err != nil {
		return err
	}
	var add []*piece
	for _, info := range stay {
		add = append(add, newSegmentPiece(segment.OpenSealed(s.fs, s.dir, s.opt.Options, info), s.opt.Message))
	}
	s.shelf.replace(add, dead)
	if r.Left > 0 {
		if err := s.opt.Serial(func() error { return s.log.Forget(r.Left) }); err != nil {
			return err
		}
	}
	return s.discard(dead)
}

// sparseGroups lists what is to be rewritten: files with a small share of living bytes, next to each other in groups whose
// living bytes fill one file; and many small files next to each other.
func (s *Store) sparseGroups(w *scale) [][]*piece {
	limit := s.fileLimit()
	var groups [][]*piece
	var group []*piece
	var bytes, few int64
	anySparse := false
	end := func() {
		if anySparse || few >= smallRun {
			groups = append(groups, group)
		}
		group, bytes, few, anySparse = nil, 0, 0, false
	}
	for _, p := range s.shelf.pieces() {
		n := p.alive(w.of(p))
		isSparse := p.isSparse(n)
		isSmall := p.size < limit/smallRun
		if p.hi > w.upto || !isSparse && !isSmall {
			end()
			continue
		}
		if bytes+n > limit && len(group) > 0 {
			end()
		}
		group, bytes = append(group, p), bytes+n
		anySparse = anySparse || isSparse
		if isSmall {
			few++
		}
	}
	end()
	return groups
}

// fileLimit is how many bytes of bodies a rewritten file should have.
func (s *Store) fileLimit() int64 {
	if s.opt.SegmentSize > 0 {
		return s.opt.SegmentSize
	}
	return 64 << 20
}

// payload is how many bytes of messages the file can have at most.
func (p *piece) payload() int64 {
	if p.file != nil {
		return p.file.Info().Bytes
	}
	return p.size
}

// of is the weight of a file that is on the scale.
func (w *scale) of(p *piece) uint64 {
	for i := sort.Search(len(w.pans), func(i int) bool { return w.pans[i].lo >= p.lo }); i < len(w.pans) && w.pans[i].lo == p.lo; i++ {
		if q := &w.pans[i]; q.piece == p || q.leaves != nil && pieceKey(q.leaves.Name(), q.leaves.Number) == p.key {
			return q.bytes
		}
	}
	return 0
}

// rewrite replaces pieces, which are neighbours, by files with what lives in their range, in the order in which it will be
// read. What cannot be read comes from fetch; without one, or if that does not have it either, the error is a
// *segment.DamageError and everything stays as it is.
func (s *Store) rewrite(group []*piece, live Live, fetch func([]Ref) ([]Message, error), throttle func(int) error) error {
	c := &copying{s: s, fetch: fetch, throttle: throttle, seen: RefSet{}}
	defer c.abort()
	// Two pieces of a group may have a gap between them that another file covers; its messages are not theirs.
	lo, hi := bounds(group)
	if err := live.Each(lo, hi, func(run Run) error { return c.run(group, run) }); err != nil {
		return err
	}
	files, err := c.finish()
	if err != nil {
		return err
	}
	return s.exchange(group, files)
}

func bounds(group []*piece) (lo, hi uint64) {
	lo, hi = group[0].lo, group[0].hi
	for _, p := range group {
		lo, hi = min(lo, p.lo), max(hi, p.hi)
	}
	return lo, hi
}

func covers(group []*piece, index uint64) bool {
	return slices.ContainsFunc(group, func(p *piece) bool { return p.lo <= index && index < p.hi })
}

// worthwhile counts exactly what lives in a group: by now that may be less than when its files were counted, and full ones may
// be among them.
func (s *Store) worthwhile(group []*piece, live Live) (bool, error) {
	var have, alive int64
	segments, seen := false, RefSet{}
	for _, p := range group {
		have += p.payload()
		segments = segments || p.segment != nil
	}
	lo, hi := bounds(group)
	err := live.Each(lo, hi, func(run Run) error {
		if covers(group, run.Index) {
			alive += int64(run.Bytes) * int64(seen.fresh(run)) / int64(run.N)
		}
		return nil
	})
	return alive*100 < have*sparse || len(group) >= smallRun && !segments, err
}

// copying writes the files of one rewrite.
type copying struct {
	s        *Store
	fetch    func([]Ref) ([]Message, error)
	throttle func(int) error
	w        *archive.Writer
	files    []archive.Info
	seen     RefSet    // what was copied, or could not be
	lost     func(Ref) // is told of messages nobody has; nil: such a message ends the rewrite
	pending  int       // bytes copied since the last call of throttle
	skipped  bool      // of a mutant
}

func (c *copying) run(group []*piece, run Run) error {
	if !covers(group, run.Index) {
		return nil
	}
	for i := range run.N {
		ref := Ref{Index: run.Index, Slot: run.Slot + i}
		if !c.seen.Add(ref) {
			continue
		}
		if mutant.On(mutant.CompactionDropsLive) && !c.skipped {
			c.skipped = true
			continue
		}
		m, err := c.read(ref)
		if errors.Is(err, ErrGone) && c.fetch == nil {
			continue // no file lists it: it is still to be fetched, and Missing names it
		}
		if err != nil && c.lost != nil && errors.Is(err, errNowhere) {
			c.lost(ref)
			continue
		}
		if err != nil {
			return err
		}
		if err := c.add(m); err != nil {
			return err
		}
	}
	return nil
}

// read takes a message from the files here, and only if that fails from elsewhere.
func (c *copying) read(ref Ref) (Message, error) {
	m, err := c.s.Message(ref)
	if err == nil || c.fetch == nil {
		return m, err
	}
	found, fetchErr := c.fetch([]Ref{ref})
	if fetchErr != nil {
		return m, errors.Join(err, fetchErr)
	}
	if len(found) != 1 || found[0].Ref != ref {
		return m, fmt.Errorf("%w: %w", errNowhere, err)
	}
	return found[0], nil
}

// errNowhere says that no replica has a message.
var errNowhere = errors.New("no replica has the message")

func (c *copying) add(m Message) error {
	if c.w != nil && c.w.Full(len(m.Body), c.s.fileLimit()) {
		if err := c.end(); err != nil {
			return err
		}
	}
	if c.w == nil {
		w, err := archive.Create(c.s.fs, c.s.dir, c.s.archiveID(), c.s.number())
		if err != nil {
			return err
		}
		c.w = w
	}
	if err := c.w.Add(m); err != nil {
		return err
	}
	c.pending += 2 * len(m.Body)
	if c.pending < rewriteStep {
		return nil
	}
	n := c.pending
	c.pending = 0
	return c.throttle(n)
}

func (c *copying) end() error {
	w := c.w
	c.w = nil
	info, err := w.Finish()
	if err == nil {
		c.files = append(c.files, info)
	}
	return err
}

func (c *copying) finish() ([]archive.Info, error) {
	if c.w != nil {
		if err := c.end(); err != nil {
			return nil, err
		}
	}
	files := c.files
	c.files = nil
	return files, nil
}

// abort removes what was written and is not needed.
func (c *copying) abort() {
	if c.w != nil {
		c.w.Abort()
	}
	for i := range c.files {
		_ = c.s.fs.Remove(c.s.path(c.files[i].Name())) // else the next start does
	}
}
