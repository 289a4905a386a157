package sim

import (
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/store/archive"
	"github.com/opencmq/cmq/internal/vfs"
)

// The faults of the group "storage": disks that rot and lie, files that people mix up. wounds.go says on which node they
// may strike.

// storageKinds lists them.
func storageKinds() []fault {
	const s = time.Second
	list := []fault{
		{name: "rot", lo: 2 * s, hi: 8 * s, strike: (*fault).rot},
		{name: "rotmany", lo: 4 * s, hi: 12 * s, strike: (*fault).rotMany},
		{name: "badsector", lo: 3 * s, hi: 9 * s, strike: (*fault).badSector},
		{name: "mixup", lo: 3 * s, hi: 9 * s, strike: (*fault).mixUp},
		{name: "stale", lo: 4 * s, hi: 12 * s, strike: (*fault).stale},
		{name: "wipe", lo: 5 * s, hi: 15 * s, strike: (*fault).wipe},
		{name: "lie", lo: 2 * s, hi: 8 * s, strike: (*fault).lie},
		{name: "descriptors", lo: 2 * s, hi: 8 * s, strike: (*fault).descriptors},
		{name: "readonly", lo: 4 * s, hi: 12 * s, strike: (*fault).readOnly},
		{name: "inodes", lo: 3 * s, hi: 9 * s, strike: (*fault).inodes},
		{name: "astray", lo: 3 * s, hi: 9 * s, strike: (*fault).astray},
	}
	for i := range list {
		list[i].group = storageGroup
	}
	return list
}

// rot changes bytes of one or more files of one node, while it runs or while it is stopped.
func (f *fault) rot() {
	n, stopped, times := f.node(), f.rng.chance(50), 1+f.rng.IntN(3)
	f.hurt(n, stopped, func() bool {
		done := false
		for range times {
			names := n.files(func(string) bool { return true })
			if len(names) > 0 {
				done = f.spoil(n, pick(f.rng, names)) || done
			}
		}
		return done
	})
}

// flip changes a byte of a file.
func (f *fault) flip(n *node, name string) bool {
	size := n.disk.Size(name)
	if size == 0 {
		return false
	}
	off, change := f.rng.Int64N(size), byte(1+f.rng.IntN(255))
	f.say("node %d: byte %d of %s is changed by %02x", n.id, off, name, change)
	if err := n.disk.Corrupt(name, off, 1, func(p []byte) { p[0] ^= change }); err != nil {
		f.w.violation("simulator", "%v", err)
	}
	return true
}

// spoil changes some bytes of a file in one of the ways in which media and controllers do: a bit, a sector as it was
// before a write that never came, a sector that belongs elsewhere, noise.
func (f *fault) spoil(n *node, name string) bool {
	off, ok := f.place(n, name)
	if !ok {
		return false
	}
	const sector = 512
	size := n.disk.Size(name)
	start := off / sector * sector
	length := int(min(sector*int64(1+f.rng.IntN(8)), size-start))
	var err error
	switch how := f.rng.IntN(6); how {
	case 0, 1, 2:
		bit := uint(f.rng.IntN(8))
		f.say("node %d: bit %d of byte %d of %s", n.id, bit, off, name)
		err = n.disk.Flip(name, off, bit)
	case 3:
		f.say("node %d: %d bytes from %d of %s are zeros", n.id, length, start, name)
		err = n.disk.Corrupt(name, start, length, func(p []byte) { clear(p) })
	case 4:
		data, _ := vfs.ReadFile(n.disk.Mount(), name)
		from := f.rng.Int64N(size) / sector * sector
		f.say("node %d: bytes from %d of %s are those from %d", n.id, start, name, from)
		if len(data) > 0 {
			err = n.disk.Corrupt(name, start, length, func(p []byte) { copy(p, data[from:]) })
		}
	default:
		f.say("node %d: %d bytes from %d of %s are noise", n.id, length, start, name)
		err = n.disk.Corrupt(name, start, length, func(p []byte) { f.rng.Read(p) })
	}
	if err != nil {
		f.w.violation("simulator", "%v", err)
	}
	return true
}

// place is an offset in a file, where there is something if possible: segments are mostly zeros.
func (f *fault) place(n *node, name string) (int64, bool) {
	data, err := vfs.ReadFile(n.disk.Mount(), name)
	if err != nil || len(data) == 0 {
		return 0, false
	}
	off := f.rng.IntN(len(data))
	for range 8 {
		if slices.ContainsFunc(data[off:min(off+64, len(data))], func(b byte) bool { return b != 0 }) {
			break
		}
		off = f.rng.IntN(len(data))
	}
	return int64(off), true
}

// rotMany damages several nodes, each at another place, so that everything is good somewhere: files of different kinds, or
// segments with different entries. Or the references of all, each file by a byte: these can be put together.
func (f *fault) rotMany() {
	w, bySegment := f.w, f.rng.chance(50)
	order := f.rng.Perm(len(w.nodes))
	f.hurtAll(func() bool {
		f.w.trace.say(f.w.now, "rot on several nodes")
		done := false
		if !bySegment && f.rng.chance(30) {
			for _, n := range w.nodes {
				for _, name := range n.files(func(name string) bool { return path.Ext(name) == ".chunk" }) {
					done = f.flip(n, name) || done
				}
			}
			return done
		}
		if !bySegment {
			suffixes := [][]string{{".image"}, {".chunk"}, {".seg", ".arc"}}
			for i, at := range order {
				n := w.nodes[at]
				names := n.files(func(name string) bool { return slices.Contains(suffixes[i%len(suffixes)], path.Ext(name)) })
				if i < len(suffixes) && len(names) > 0 {
					done = f.spoil(n, pick(f.rng, names)) || done
				}
			}
			return done
		}
		id := cmq.SetID(1 + f.rng.IntN(w.knobs.sets))
		var taken []span
		for _, at := range order {
			n := w.nodes[at]
			var names []string
			var spans []span
			for _, s := range n.replica(id).st.Log().Sealed() {
				if here := (span{s.First, s.Last}); !slices.ContainsFunc(taken, here.touches) {
					names, spans = append(names, path.Join(directory(id), s.Name())), append(spans, here)
				}
			}
			if len(names) == 0 {
				continue
			}
			i := f.rng.IntN(len(names))
			if f.spoil(n, names[i]) {
				taken, done = append(taken, spans[i]), true
			}
		}
		return done
	})
}

// span is entries first to last.
type span struct{ first, last uint64 }

func (s span) touches(o span) bool { return s.first <= o.last && o.first <= s.last }

// badSector makes a part of a file unreadable.
func (f *fault) badSector() {
	n, stopped := f.node(), f.rng.chance(50)
	f.hurt(n, stopped, func() bool {
		names := n.files(func(name string) bool { return n.disk.Size(name) > 0 })
		if len(names) == 0 {
			return false
		}
		name := pick(f.rng, names)
		off, _ := f.place(n, name)
		length := min(1+f.rng.Int64N(4096), n.disk.Size(name)-off)
		f.say("node %d: %d bytes from %d of %s cannot be read", n.id, length, off, name)
		return n.disk.BadSectors(name, off, length) == nil
	})
}

// mixUp does to the files of a stopped node what people do: a file goes, is cut off, changes place with another, or is
// another node's; or a copy leaves out the archive, which is large, and the root, which names it.
func (f *fault) mixUp() {
	n, other := f.node(), f.node()
	f.hurt(n, true, func() bool {
		names := n.files(func(name string) bool { return true })
		if len(names) < 2 {
			return false
		}
		name, second := pick(f.rng, names), pick(f.rng, names)
		switch f.rng.IntN(5) {
		case 4:
			return f.leaveOut(n)
		case 0:
			f.say("node %d: %s vanishes", n.id, name)
			return n.disk.Vanish(name) == nil
		case 1:
			size := n.disk.Size(name)
			if size <= 0 {
				return false
			}
			size = f.rng.Int64N(size)
			f.say("node %d: %s is cut off at %d", n.id, name, size)
			return n.disk.Shorten(name, size) == nil
		case 2:
			f.say("node %d: %s and %s change places", n.id, name, second)
			return name != second && n.disk.Exchange(name, second) == nil
		}
		theirs := other.files(func(name string) bool { return true })
		if other == n || len(theirs) == 0 {
			return false
		}
		foreign := pick(f.rng, theirs)
		f.say("node %d: %s is %s of node %d", n.id, name, foreign, other.id)
		k, err := other.disk.Keep(foreign)
		return err == nil && n.disk.Put(k, name) == nil
	})
}

// leaveOut takes away the root of a set and the archive files, of which nothing that is left knows then.
func (f *fault) leaveOut(n *node) bool {
	dir := directory(cmq.SetID(1 + f.rng.IntN(f.w.knobs.sets)))
	left := n.files(func(name string) bool {
		return path.Dir(name) == dir && (path.Ext(name) == archive.Suffix || path.Base(name) == "MANIFEST")
	})
	for _, name := range left {
		f.say("node %d: %s is left out", n.id, name)
		if n.disk.Vanish(name) != nil {
			return false
		}
	}
	return len(left) > 0
}

// keepsake is an old copy of a file or directory of a node.
type keepsake struct {
	node *node
	name string
	kept *vfs.Kept
}

// stale puts an old copy in the place of a file or of a whole directory. The copy is taken at one strike and put back at
// the next.
func (f *fault) stale() {
	old := f.old
	n := f.node()
	name := directory(cmq.SetID(1 + f.rng.IntN(f.w.knobs.sets)))
	if names := n.files(func(string) bool { return true }); f.rng.chance(50) && len(names) > 0 {
		name = pick(f.rng, names)
	}
	if k, err := n.disk.Keep(name); err == nil {
		f.old = &keepsake{n, name, k}
	}
	if old == nil {
		return
	}
	f.hurt(old.node, true, func() bool {
		f.say("node %d: %s as it was a while ago", old.node.id, old.name)
		return old.node.disk.Put(old.kept, old.name) == nil
	})
}

// wipe takes away all data of a stopped node.
func (f *fault) wipe() {
	n := f.node()
	f.hurt(n, true, func() bool {
		f.say("node %d loses everything", n.id)
		for id := cmq.SetID(1); id <= cmq.SetID(f.w.knobs.sets); id++ {
			_ = n.disk.Vanish(directory(id)) // a start that failed may have left nothing
		}
		return true
	})
}

// lie lets a disk confirm writes that it does not do, or does elsewhere. The log is left out: if the last write to it is
// lost, the log ends before what was acknowledged and nobody can tell; rot strikes it later instead.
func (f *fault) lie() {
	n, times, elsewhere := f.node(), 1+f.rng.IntN(3), f.rng.chance(50)
	f.hurt(n, false, func() bool {
		f.say("node %d: %d writes are lost, elsewhere: %t", n.id, times, elsewhere)
		n.lying = true
		if elsewhere {
			n.disk.MisdirectWrites(times, notOfTheLog)
		} else {
			n.disk.LoseWrites(times, notOfTheLog)
		}
		return true
	})
	f.later(3*time.Second, n.stopLying)
}

func notOfTheLog(name string) bool {
	return !strings.Contains(name, ".seg") && !strings.Contains(name, "hardstate") && !strings.Contains(name, "LOCK")
}

// descriptors lets files not be opened for a while.
func (f *fault) descriptors() {
	n, err := f.node(), pick(f.rng, []error{syscall.EMFILE, syscall.ENFILE})
	count, d := 1+f.rng.IntN(20), f.rng.between(200*time.Millisecond, 3*time.Second)
	f.struck()
	f.say("node %d cannot open %d files, or for %v", n.id, count, d)
	n.disk.FailOpens(count, err)
	f.hamper(n, d, func() { n.disk.FailOpens(0, nil) })
}

// readOnly lets a disk refuse every change, as after an error of the medium.
func (f *fault) readOnly() {
	n, d := f.node(), f.rng.between(200*time.Millisecond, 3*time.Second)
	f.struck()
	f.say("node %d cannot write for %v", n.id, d)
	n.disk.SetReadOnly(true)
	f.hamper(n, d, func() { n.disk.SetReadOnly(false) })
}

// inodes lets no new files be made for a while.
func (f *fault) inodes() {
	n, d := f.node(), f.rng.between(200*time.Millisecond, 3*time.Second)
	f.struck()
	f.say("node %d can make no files for %v", n.id, d)
	n.disk.SetInodes(0)
	f.hamper(n, d, func() { n.disk.SetInodes(-1) })
}

// hamper notes that a node is refused something for a while. It may stop for that, now or when it hears of it, and start
// again and again in vain; but not the next time after all is as it should be.
func (f *fault) hamper(n *node, d time.Duration, undo func()) {
	n.hampering++
	n.hampered = n.incarnation
	f.later(d, func() {
		undo()
		n.hampering--
	})
}

// unhamper gives a node everything back.
func (n *node) unhamper() {
	n.hampering = 0
	n.disk.FailOpens(0, nil)
	n.disk.SetReadOnly(false)
	n.disk.SetInodes(-1)
	n.stopLying()
}

func (n *node) stopLying() {
	n.lying = false
	n.disk.LoseWrites(0, notOfTheLog)
}

// excused tells whether a process may end by itself.
func (n *node) excused() bool {
	return n.full || n.failing || n.disk.Sick() || n.hampering > 0 || n.hampered == n.incarnation
}

// files lists the files of the node's sets that accept takes.
func (n *node) files(accept func(name string) bool) []string {
	return slices.DeleteFunc(n.disk.Files(), func(name string) bool {
		return strings.HasSuffix(name, "LOCK") || !strings.HasPrefix(name, "/sets/") || !accept(name)
	})
}
