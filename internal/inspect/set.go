package inspect

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/core/meta"
	"github.com/opencmq/cmq/internal/engine"
	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/store/checkpoint"
	"github.com/opencmq/cmq/internal/store/reflog"
	"github.com/opencmq/cmq/internal/store/segment"
	"github.com/opencmq/cmq/internal/vfs"
)

// Set is a replica that was opened to be looked at.
type Set struct {
	SetDir
	Owner    checkpoint.Identity
	Running  bool           // a node uses the directory
	Contents store.Contents // zero if the root cannot be read
	Problems []Problem      // what was found when it was opened
	Voters   []cmq.NodeID   // of the set, as of the newest image; nil if none can be read

	fs     vfs.FS
	shadow *vfs.Shadow
	store  *store.Store // nil if the node could not open it either

	image   store.Image
	meta    *meta.State     // of set 0, after Load
	machine *engine.Machine // of a data set, after Load
	applied uint64
	partial error // why the state is not known up to the end of the log
}

// tries is how often a directory that a node uses is opened anew when something seems wrong.
const tries = 5

// Open opens a replica. What is wrong with it is in Problems; Close it in any case.
func (n *Node) Open(d SetDir) *Set {
	for i := 1; ; i++ {
		s := &Set{SetDir: d, fs: n.fs, Running: n.PID != 0, shadow: vfs.NewShadow(n.fs)}
		s.open(n)
		if len(s.Problems) == 0 || !s.Running || i == tries {
			return s
		}
		s.Close()
	}
}

func (s *Set) open(n *Node) {
	var err error
	if s.Owner, err = n.owner(s.SetDir); err != nil {
		s.trouble(err)
		return
	}
	s.store, err = store.Open(s.shadow, s.Dir, s.options())
	if err != nil {
		s.store = nil
		s.cannotOpen(err)
		return
	}
	s.Contents = s.store.Contents()
	for _, d := range s.store.Damage() {
		s.Problems = append(s.Problems, s.ofDamage(d))
	}
	for _, h := range s.store.Log().Holes() {
		s.Problems = append(s.Problems, Problem{File: h.File, Offset: h.Offset, Kind: Damaged, Fix: fixAsked,
			What: some(h.Lo, h.Hi, "entry", "entries") + " cannot be read, or may have been replaced by what cannot be read"})
	}
	if s.store.Log().Amnesia() {
		s.Problems = append(s.Problems, Problem{File: s.path(segment.SideFile), Kind: Damaged, Fix: fixAsked, What: "term and vote are in doubt: the file was lost, and the log was not closed in order"})
	}
	if _, err := s.fs.Stat(s.path(segment.SideFile)); errors.Is(err, fs.ErrNotExist) && !s.store.Log().Amnesia() {
		s.Problems = append(s.Problems, Problem{File: s.path(segment.SideFile), Kind: Missing, Alone: true, What: "the file is missing",
			Fix: "the node makes it again: the log was closed in order, so it knows term and vote"})
	}
	if s.store.Log().Short() {
		s.Problems = append(s.Problems, Problem{File: s.Dir, Kind: Damaged, Fix: fixAsked, What: "the log has lost its end: how far it went is not known"})
	}
	if s.store.Log().WrongState() {
		s.Problems = append(s.Problems, Problem{File: s.path(segment.SideFile), Kind: Wrong, Fix: fixAsked, What: "the state of this replica was found not to be that of most replicas, and has not been replaced yet"})
	}
	s.readImage()
	if len(s.Voters) == 1 && len(s.Problems) > 0 {
		s.fixAlone()
	}
}

// fixAlone says of what is lost what the only replica of a set does about it: it has no others to ask.
func (s *Set) fixAlone() {
	refused := s.Refused()
	var damage *segment.DamageError
	errors.As(refused, &damage)
	for i := range s.Problems {
		p := &s.Problems[i]
		switch {
		case p.Alone || p.Kind != Damaged && p.Kind != Missing:
		case refused == nil:
			p.Fix = fixWithout
		case damage != nil && damage.File == p.File:
			p.Fix = "the node refuses to start: " + damage.Fix
		default:
			p.Fix = fixRestored
		}
	}
}

func (s *Set) options() store.Options {
	opt := store.Options{Options: segment.Options{
		Cluster: s.Owner.Cluster, Set: s.Owner.Set, Replica: s.Owner.Replica, CacheBytes: 1 << 20,
	}}
	if s.isData() {
		opt.Message, opt.Usable = engine.StoredMessage, engine.UsableEntry
	}
	return opt
}

// Refused says why the node would not start with this directory; nil: it would. A replica that has others beside it starts with more damage
// than the only one of its set.
func (s *Set) Refused() error {
	if s.Owner.Cluster == 0 {
		return nil // whose it is was not found out
	}
	shadow := vfs.NewShadow(s.fs)
	defer shadow.Close()
	opt := s.options()
	opt.Alone = len(s.Voters) == 1
	st, err := store.Open(shadow, s.Dir, opt)
	if err == nil {
		return st.Close()
	}
	if errors.Is(err, store.ErrNotExist) {
		return nil // it makes a new one
	}
	return err
}

// readImage reads the newest image that can be read.
func (s *Set) readImage() {
	before := len(s.store.Damage())
	var err error
	s.image, err = s.store.LatestImage()
	for _, d := range s.store.Damage()[before:] {
		s.Problems = append(s.Problems, s.ofDamage(d))
	}
	if err != nil {
		s.trouble(err)
		return
	}
	conf := new(raftpb.ConfState)
	if err := proto.Unmarshal(s.image.ConfState, conf); err != nil {
		s.trouble(fmt.Errorf("the membership in the image at index %d cannot be read: %w", s.image.Index, err))
	}
	for _, v := range conf.GetVoters() {
		s.Voters = append(s.Voters, cmq.NodeID(v))
	}
}

// cannotOpen notes why the node could not open the directory, and reads what it can.
func (s *Set) cannotOpen(err error) {
	if errors.Is(err, store.ErrNotExist) {
		s.Problems = append(s.Problems, Problem{File: s.Dir, Kind: Unfinished,
			What: "there is no replica in it, or the making of one was not finished; the node makes a new one"})
		return
	}
	s.trouble(err)
	if c, err := store.ReadContents(s.shadow, s.Dir, s.Owner); err == nil {
		s.Contents = c
	}
}

func (s *Set) trouble(err error) { s.Problems = append(s.Problems, problemOf(err, s.Dir)) }

// Close lets go of the files.
func (s *Set) Close() {
	if s.store != nil {
		s.store.Close() // on the shadow: there is nothing to lose
	}
	s.shadow.Close()
}

func (s *Set) path(name string) string { return filepath.Join(s.Dir, name) }

// some names the numbers [lo, hi) of things.
func some(lo, hi uint64, one, many string) string {
	if hi == lo+1 {
		return fmt.Sprintf("%s %d", one, lo)
	}
	return fmt.Sprintf("%s %d to %d", many, lo, hi-1)
}

// errNoState says that the state of a set cannot be known.
var errNoState = errors.New("no image of the state can be read, or the log has lost what comes behind it")

// Load brings the state of the set up to the end of its log: the newest image and the entries behind it. After an
// error, which says why it cannot be known, there may be a part of it: that of the entries up to the first that cannot be read.
func (s *Set) Load() (err error) {
	if s.meta != nil || s.machine != nil {
		return s.partial
	}
	defer func() { s.partial = err }()
	if s.store == nil || s.image.Index == 0 {
		return fmt.Errorf("set %d: %w", s.ID, errNoState)
	}
	defer func() {
		if p := recover(); p != nil { // what a machine does with an entry it cannot apply
			err = fmt.Errorf("set %d: %v", s.ID, p)
		}
	}()
	if s.ID == cmq.ControllerSet {
		return s.loadMeta()
	}
	m := s.newMachine()
	if err := m.Restore(s.image.Index, s.image.Data(), s.image.Refs); err != nil {
		return fmt.Errorf("set %d: image at index %d: %w", s.ID, s.image.Index, err)
	}
	s.machine = m
	return s.replay(func(e segment.Entry, data []byte) error {
		m.Apply(e.Index, e.Term, data)
		return nil
	})
}

// newMachine makes a machine of the set that is never driven.
func (s *Set) newMachine() *engine.Machine {
	return engine.New(engine.Config{
		Set: s.ID, Node: cmq.NodeID(s.Owner.Replica), Logger: slog.New(slog.DiscardHandler), FS: s.shadow, Dir: s.Dir,
		Refs: reflog.Options{Cluster: s.Owner.Cluster, Set: s.Owner.Set},
	})
}

func (s *Set) loadMeta() (err error) {
	s.meta = meta.New()
	if data := s.image.Data(); len(data) > 0 {
		if s.meta, err = meta.DecodeState(data); err != nil {
			return fmt.Errorf("set 0: image at index %d: %w", s.image.Index, err)
		}
	}
	return s.replay(func(e segment.Entry, data []byte) error {
		if data == nil {
			return nil
		}
		b, err := meta.ParseBatch(data)
		if err == nil {
			s.meta.ApplyBatch(b)
		}
		return err
	})
}

// replay gives the entries behind the image to apply, as the machines take them.
func (s *Set) replay(apply func(e segment.Entry, data []byte) error) error {
	log := s.store.Log()
	s.applied = s.image.Index
	for i := s.image.Index + 1; i <= log.LastIndex(); i++ {
		e, err := log.Entry(i)
		if err != nil {
			return fmt.Errorf("the state is known up to entry %d only: %s", s.applied, problemOf(err, s.Dir))
		}
		data := e.Data
		if raftpb.EntryType(e.Type) != raftpb.EntryNormal || len(data) == 0 {
			data = nil
		}
		if err := apply(e, data); err != nil {
			return fmt.Errorf("set %d: entry %d: %w", s.ID, i, err)
		}
		s.applied = i
	}
	return nil
}
