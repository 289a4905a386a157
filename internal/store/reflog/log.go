package reflog

import (
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/opencmq/cmq/internal/vfs"
)

const (
	minCache  = 4 << 20 // more than what one question can need: a block of every level
	someCache = 16 << 20
	someTails = 16 << 20
)

// Log is the map of all lanes of one set.
type Log struct {
	fs    vfs.FS
	dir   string
	opt   Options
	names map[uint32]string // of files that do not have the usual one; not changed after Open
	cache *cache

	fetching fetching
	salvaged salvaged

	// mu is held for look-ups in memory and for changes of it, never for the disk.
	mu      sync.RWMutex
	view    *view
	tables  []*table // oldest first; the last one takes what is added
	patches []*patch
	last    uint64  // the highest index added
	frozen  *Frozen // not yet installed or abandoned

	suspects struct {
		sync.Mutex
		files map[uint32]bool // that could not be read, in part
	}
}

// New makes an empty map, whose files will be in dir.
func New(fs vfs.FS, dir string, opt Options) *Log { return newLog(fs, dir, opt, &view{next: 1}) }

func newLog(fs vfs.FS, dir string, opt Options, v *view) *Log {
	if opt.CacheBytes == 0 {
		opt.CacheBytes = someCache
	}
	if opt.TailBytes == 0 {
		opt.TailBytes = someTails
	}
	if opt.runs == 0 {
		opt.runs, opt.inImage = maxRuns, inImage
		opt.CacheBytes = max(opt.CacheBytes, minCache)
	}
	l := &Log{fs: fs, dir: dir, opt: opt, view: v, tables: []*table{newTable()}}
	l.cache = newCache(opt.CacheBytes)
	l.salvaged.bodies = make(map[cacheID][]byte)
	l.fetching.ids = make(map[cacheID]bool)
	l.suspects.files = make(map[uint32]bool)
	return l
}

// Open makes the map that an image describes. It reads no file; that one is missing or damaged shows as *DamageError
// when it is needed. An error means that image and files do not belong together or that the image is not one.
func Open(fs vfs.FS, dir string, opt Options, image []byte, files []File) (*Log, error) {
	v, err := decodeImage(image)
	if err != nil {
		return nil, err
	}
	names, err := v.rename(files)
	if err != nil {
		return nil, err
	}
	l := newLog(fs, dir, opt, v)
	l.names = names
	return l, nil
}

// rename gives the files of the image the names they have here, and returns those that are not the usual ones: a file that came
// from another replica must not take the place of another with its number.
func (v *view) rename(files []File) (map[uint32]string, error) {
	if len(files) != len(v.files) {
		return nil, errImage
	}
	byNumber := make(map[uint32]File, len(files))
	for _, f := range files {
		byNumber[numberOf(f.Name)] = f
	}
	names := make(map[uint32]string)
	for i := range v.files {
		f := &v.files[i]
		have, ok := byNumber[numberOf(f.Name)]
		if !ok || have.Size != f.Size || have.CRC != f.CRC {
			return nil, errImage
		}
		if have.Name != f.Name {
			names[numberOf(f.Name)] = have.Name
			f.Name = have.Name
		}
	}
	return names, nil
}

// Files are the files the map needs now: those of the image it was opened with or that was installed last.
func (l *Log) Files() []File { return slices.Clone(l.current().files) }

func (l *Log) current() *view {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.view
}

// Pending is about how many bytes of memory hold what the next Merge brings to the disk, to see when a checkpoint is due.
func (l *Log) Pending() int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var sum int64
	for _, t := range l.tables {
		sum += t.size
	}
	return sum
}

// Add notes that n messages of together so many bytes, sent at time, got the positions from seq on and are stored at
// (index, slot...). Positions of a lane must be added in order; indexes need not rise in a main lane.
func (l *Log) Add(k Key, seq, index uint64, slot uint16, n int, time int64, bytes uint32) {
	if n <= 0 || int(slot)+n > math.MaxUint16+1 {
		panic("BUG: references to no messages, or to more than an entry has")
	}
	if n > math.MaxUint16 {
		first := bytes / uint32(n)
		l.Add(k, seq, index, slot, 1, time, first)
		seq, slot, n, bytes = seq+1, slot+1, n-1, bytes-first
	}
	r := Run{Seq: seq, Index: index, Time: time, Bytes: bytes, Slot: slot, N: uint16(n)}
	l.mu.Lock()
	l.tables[len(l.tables)-1].add(k, r)
	l.last = max(l.last, index)
	l.mu.Unlock()
}

// DropShard forgets all lanes of a shard. What is added for it with later indexes counts.
func (l *Log) DropShard(shard uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tables[len(l.tables)-1].dropped[shard] = l.last
}

// Repair gives what was damaged: the runs of the lane in [lo, hi), which may be none. They are used wherever the files fail to
// give the lane's part [lo, hi), and the next Merge writes them. The range must be that of a *DamageError, or larger. An error
// means that these are no runs of a lane.
func (l *Log) Repair(k Key, lo, hi uint64, runs []Run) error {
	if !inOrder(k, runs) {
		return fmt.Errorf("references to repair shard %d, lane %d with are in no order", k.Shard, k.Lane)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.patches = append(l.patches, &patch{key: k, lo: lo, hi: hi, runs: slices.Clone(runs)})
	return nil
}

// suspect remembers that a file is to be written anew.
func (l *Log) suspect(file uint32) {
	l.suspects.Lock()
	defer l.suspects.Unlock()
	l.suspects.files[file] = true
}

func (l *Log) suspected(file uint32) bool {
	l.suspects.Lock()
	defer l.suspects.Unlock()
	return l.suspects.files[file]
}

// reader is for what is not in tables. l.mu is held. A shard that was dropped has nothing there.
func (l *Log) reader(cached bool) *reader {
	return &reader{l: l, v: l.view, patches: l.patches, cached: cached}
}

// Freeze sets apart what was added so far, for a Merge. There may be one Frozen at a time.
func (l *Log) Freeze() *Frozen {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.frozen != nil {
		panic("BUG: the references are frozen already")
	}
	n := len(l.tables)
	if t := l.tables[n-1]; t.lanes.n > 0 || len(t.dropped) > 0 {
		l.tables = append(l.tables[:n:n], newTable())
		n++
	}
	p := len(l.patches)
	l.frozen = &Frozen{l: l, old: l.view, tables: l.tables[: n-1 : n-1], patches: l.patches[:p:p]}
	return l.frozen
}

// Install makes the merged files those of the map and frees the memory of what is in them now. Call it when the image is
// durable.
func (l *Log) Install(f *Frozen) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.frozen != f || f.merged == nil {
		panic("BUG: references are installed that were not merged")
	}
	l.frozen, l.view = nil, f.merged
	l.salvaged.keep(f.merged)
	l.tables = slices.Clone(l.tables[len(f.tables):])
	l.patches = slices.Clone(l.patches[len(f.patches):])
}

// Abandon ends a Frozen whose Merge failed or whose image was not saved. All it held is part of the next one.
func (l *Log) Abandon(f *Frozen) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.frozen != f {
		panic("BUG: references are abandoned that are not frozen")
	}
	l.frozen = nil
}
