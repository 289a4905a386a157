package set

import (
	"errors"
	"slices"
	"time"

	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/store/reflog"
	"github.com/opencmq/cmq/internal/store/segment"
)

const (
	// scrubFirst is how long to wait before the first reading of all files.
	scrubFirst = 10 * time.Second
	// maxSick is how many damaged files are treated at a time.
	maxSick = 16
)

// scrubber reads every file again and again, slowly, and heals what rotted: entries of the log, messages of the archive,
// references and images, each from the replicas that still have it.
type scrubber struct {
	running  bool
	next     time.Duration // when to begin again
	early    bool          // something is suspected
	sick     []*sickFile   // archive files to be written anew with the next image
	suspects map[uint64]bool
	looking  bool
	retired  uint64 // last entry of the damaged segments that are to leave the log; 0: there are none
	stats    ScrubStats
}

// ScrubStats counts what the scrubber has done.
type ScrubStats struct {
	Passes  uint64 // complete readings of all files
	Damaged uint64 // places found
}

// sickFile is an archive file with damage. Its messages that cannot be read are found out and fetched; then it is written
// anew. There are never more of them in memory than one file has.
type sickFile struct {
	store.Damage
	looked   bool
	missing  []store.Ref // live ones that cannot be read
	found    map[store.Ref]store.Message
	fetching bool
	ready    bool // what could be fetched is found
	healed   bool
	blind    bool // references that may lead to it are damaged: what lives in it is not known
}

// soon makes the scrubber look at once.
func (s *scrubber) soon() { s.early = true }

func (s *scrubber) tick(r *Replica, now Now) {
	if s.next == 0 {
		s.next = now.Mono + scrubFirst
	}
	if r.rn == nil || r.failed != nil {
		return
	}
	s.dismiss(r, now)
	s.nurse(r, now)
	if s.running || r.cfg.ScrubRate < 0 || r.pull != nil || now.Mono < s.next && !s.early {
		return
	}
	s.running, s.early = true, false
	st, throttle := r.storage.store, r.throttle(r.cfg.ScrubRate, nil)
	refs, _ := r.machine.(References)
	var found []store.Damage
	var lanes []laneDamage
	r.jobs = append(r.jobs, &Job{
		Class: Scrub, Bytes: chunkBytes,
		run: func() error {
			if err := st.Scrub(throttle, func(d store.Damage) { found = append(found, d) }); err != nil || refs == nil {
				return err
			}
			return refs.VerifyRefs(throttle, func(key reflog.Key, lo, hi uint64) { lanes = append(lanes, laneDamage{key, lo, hi}) })
		},
		done: func(now Now, err error) {
			s.running, s.next = false, now.Mono+r.cfg.ScrubPause
			s.stats.Passes++
			s.found(r, now, found)
			s.foundRefs(r, lanes)
			if err != nil && !errors.Is(err, errStop) {
				r.log.Warn("not all files could be read to check them; trying again later", "error", err)
			}
		},
	})
}

// found decides what to do about each damage.
func (s *scrubber) found(r *Replica, now Now, found []store.Damage) {
	var segments []uint64
	for _, d := range found {
		s.stats.Damaged++
		r.log.Error("a file is damaged", "file", d.File, "offset", d.Offset, "why", d.Why)
		switch d.Kind {
		case store.KindLog:
			if !slices.Contains(segments, d.Number) {
				segments = append(segments, d.Number)
			}
		case store.KindArchive:
			if d.Awaited {
				r.log.Error("the file is lost as a whole and this is the only replica: messages in it wait until it is put back; the node says at its next start how to give it up", "file", d.File)
				continue
			}
			s.treat(d)
		case store.KindImage, store.KindManifest:
			r.checkpoint.want(1)
		case store.KindSpare:
			s.renewSpare(r)
		}
	}
	if len(segments) > 0 {
		r.leave(now, segments, &segment.DamageError{File: found[0].File, Offset: found[0].Offset, Why: found[0].Why})
	}
}

// renewSpare has the segment that was made ahead made again. It waits for no append: it is one job of the disk among others.
func (s *scrubber) renewSpare(r *Replica) {
	r.jobs = append(r.jobs, &Job{Class: Disk, run: r.storage.log().RenewSpare, done: func(_ Now, err error) {
		if err != nil && !noRoom(err) { // the next pass finds it again
			r.fail(err)
		}
	}})
}

// treat takes an archive file in.
func (s *scrubber) treat(d store.Damage) {
	known := slices.ContainsFunc(s.sick, func(f *sickFile) bool { return f.Number == d.Number })
	if !known && len(s.sick) < maxSick {
		s.sick = append(s.sick, &sickFile{Damage: d})
	}
}

// dismiss has images made until the damaged segments that a repair gave up have left the log. They may be kept there for a while, for
// replicas that lag or are filled. Then they are looked for as files of the archive.
func (s *scrubber) dismiss(r *Replica, now Now) {
	switch {
	case s.retired == 0 || r.checkpoint.running:
	case r.storage.log().FirstIndex() > s.retired:
		s.retired = 0
		s.soon()
	case r.applied >= s.retired && now.Mono-r.checkpoint.since >= pressedEvery && r.keepFrom() > s.retired:
		r.checkpoint.want(keptImages)
	}
}

// first is the file that is treated now, nil if there is none.
func (s *scrubber) first() *sickFile {
	if len(s.sick) == 0 {
		return nil
	}
	return s.sick[0]
}

// nurse brings the sick files forward, one by one: an image's job looks what is missing and writes anew, in between that is fetched.
func (s *scrubber) nurse(r *Replica, now Now) {
	if r.checkpoint.running {
		return
	}
	// A blind one is found again by the next pass: the references may be repaired by then.
	s.sick = slices.DeleteFunc(s.sick, func(f *sickFile) bool { return f.healed || f.blind })
	f := s.first()
	switch {
	case f == nil:
	case !f.looked || f.ready:
		r.checkpoint.want(1)
	case !f.fetching:
		f.fetching, f.found = true, make(map[store.Ref]store.Message)
		s.fetch(r, now, f.missing, func(now Now, got []store.Message, then func(Now)) {
			for i := range got {
				f.found[got[i].Ref] = got[i]
			}
			then(now)
		}, func() { f.ready = true })
	}
}

// fetch gets messages from the others, about an answer's worth at a time, and gives them to take, which goes on with then.
func (s *scrubber) fetch(r *Replica, now Now, refs []store.Ref, take func(now Now, got []store.Message, then func(Now)), done func()) {
	if len(refs) == 0 {
		done()
		return
	}
	n := min(len(refs), 1024)
	r.gather(now, &gathering{want: refs[:n:n], done: func(now Now, got []store.Message, missing []store.Ref, sure bool) {
		if len(missing) > 0 {
			r.log.Error("messages cannot be had from any replica", "count", len(missing), "first_index", missing[0].Index, "sure", sure)
		}
		take(now, got, func(now Now) { s.fetch(r, now, refs[n:], take, done) })
	}}, 0)
}

// treat is the part of an image's job that looks at a sick file or writes it anew. A message it cannot read and nobody has
// is left out; who gets to it finds that out.
func (f *sickFile) treat(st *store.Store, live store.Live, throttle func(int) error) error {
	err := f.advance(st, live, throttle)
	f.blind = errors.As(err, new(*reflog.PartialError))
	return err
}

func (f *sickFile) advance(st *store.Store, live store.Live, throttle func(int) error) error {
	if !f.looked {
		err := live.Each(f.Lo, f.Hi, func(run store.Run) error {
			for i := range run.N {
				ref := store.Ref{Index: run.Index, Slot: run.Slot + i}
				if _, err := st.Message(ref); err != nil && (isDamage(err) || errors.Is(err, store.ErrGone)) {
					f.missing = append(f.missing, ref)
				} else if err != nil {
					return err
				}
			}
			return nil
		})
		f.looked = err == nil
		return err
	}
	if !f.ready {
		return nil
	}
	_, err := st.Rewrite(f.Damage, live, func(refs []store.Ref) ([]store.Message, error) {
		var out []store.Message
		for _, ref := range refs {
			if m, ok := f.found[ref]; ok {
				out = append(out, m)
			}
		}
		return out, nil
	}, throttle)
	f.healed = err == nil
	return err
}

// choresDone takes what an image's job found.
func (r *Replica) choresDone(now Now, w *chores) {
	r.scrub.fetch(r, now, w.missing, func(now Now, got []store.Message, then func(Now)) {
		r.keep(now, got, func(now Now, err error) {
			switch {
			case err == nil:
				then(now)
			case !noRoom(err):
				r.fail(err)
			}
		})
	}, func() {})
}

// suspect has the segment of the log checked that holds an entry which could not be read.
func (r *Replica) suspect(index uint64) {
	s := &r.scrub
	if log := r.storage.log(); index < log.FirstIndex() || index > log.LastIndex() {
		s.soon()
		return
	}
	if s.suspects == nil {
		s.suspects = make(map[uint64]bool)
	}
	s.suspects[r.storage.segmentWith(index)] = true
}

// check verifies the suspected segments.
func (s *scrubber) check(r *Replica, _ Now) {
	if s.looking || len(s.suspects) == 0 || r.rn == nil {
		return
	}
	numbers := make([]uint64, 0, len(s.suspects))
	for n := range s.suspects {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	clear(s.suspects)
	s.looking = true
	log, throttle := r.storage.log(), r.throttle(0, nil)
	var sick []uint64
	var why error
	r.jobs = append(r.jobs, &Job{
		Class: Reader, Bytes: chunkBytes,
		run: func() error {
			for _, n := range numbers {
				if n == 0 { // the active one is verified when it is sealed, in the repair
					sick = append(sick, n)
					why = errUnreadable
					continue
				}
				holes, err := log.Verify(n, throttle)
				if err != nil {
					return err
				}
				if len(holes) > 0 {
					sick = append(sick, n)
					why = &segment.DamageError{File: holes[0].File, Offset: holes[0].Offset, Why: holes[0].Why}
				}
			}
			return nil
		},
		done: func(now Now, err error) {
			s.looking = false
			switch {
			case err != nil:
				s.soon()
			case len(sick) > 0:
				r.leave(now, sick, why)
			default:
				s.soon() // the archive has it, or it is dead
			}
		},
	})
}

var errUnreadable = errors.New("an entry of the newest segment could not be read")

// leaving is a damaged leader that waits for another to take over before it is repaired.
type leaving struct {
	since    time.Duration
	segments []uint64
	why      error
}

// leave repairs segments of the log, after the leadership is handed over if this replica leads.
func (r *Replica) leave(now Now, segments []uint64, why error) {
	switch {
	case r.rn == nil:
		return
	case len(r.others()) == 0:
		r.letGo(segments, why)
		return
	case r.leaving == nil:
		r.leaving = &leaving{since: now.Mono, segments: segments, why: why}
		r.Transfer(now)
	}
	r.left(now)
}

// letGo has damaged segments leave the log of the only replica of a set. Its state has the effect of what was in them, so an image is all
// that is needed to do without; then they are healed as files of the archive, without the messages that nobody has.
func (r *Replica) letGo(segments []uint64, why error) {
	r.log.Error("the log of the only replica is damaged; it is replaced by an image, and what cannot be read of messages is reported when they are received", "error", why)
	log := r.storage.log()
	r.jobs = append(r.jobs, &Job{
		Class: Disk, Bytes: chunkBytes,
		run: func() error {
			if _, active := log.Numbers(); slices.Contains(segments, 0) || slices.Contains(segments, active) {
				return log.Roll()
			}
			return nil
		},
		done: func(_ Now, err error) {
			switch {
			case err == nil:
				r.checkpoint.want(keptImages)
			case !noRoom(err):
				r.fail(err)
			}
		},
	})
}

// keptImages is how many images a store keeps. When all are new, the log before them can go.
const keptImages = 2

// left begins the repair once another leads, or nobody takes over.
func (r *Replica) left(now Now) {
	l := r.leaving
	if l == nil || r.leader == r.id && now.Mono-l.since < leavePatience && len(r.others()) > 0 {
		return
	}
	r.breakDown(l.why, &repair{segments: l.segments})
}
