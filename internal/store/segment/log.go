package segment

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/opencmq/cmq/internal/vfs"
)

const createFlags = os.O_RDWR | os.O_CREATE | os.O_TRUNC

// Entry is one entry of the Raft log. Data must not be changed by anybody once it has been appended or returned.
type Entry struct {
	Index uint64
	Term  uint64
	Type  uint8 // raft's entry type as a number
	Data  []byte
}

// HardState is what a Raft replica must not forget. The zero value means "unchanged" where one is given.
type HardState struct {
	Term   uint64
	Vote   uint64
	Commit uint64
}

// Options say whose log it is and how much of what it may use. Cluster, Set and Replica are checked against what is
// on the disk.
type Options struct {
	Cluster uint64
	Set     uint16
	Replica uint64

	// First is the number of the log's first segment, as the caller's root says. Files with lower numbers are not the
	// log's. 0: the side file says it.
	First uint64

	// Root is the sequence number of the caller's root, for a side file that must be made anew.
	Root uint32
	// CheckRoot, if not nil, is told by Open, before it changes anything, the newest root that the side file knows. Open ends with
	// its error, unless that is a *DamageError of the side file: then that is an older copy, and nobody knows term and vote.
	CheckRoot func(known uint32) error
	// Judge, if not nil, is told by Open what is lost, before anything is changed. Open ends with its error.
	Judge func(*Findings) error
	// VerifyFrom is the lowest entry that will be read at once: segments with entries from there on are read as a whole by
	// Open. Of older ones only the tables are. All entries before it were durable once: where the log ends earlier, it has lost
	// its end.
	VerifyFrom uint64

	SegmentSize    int64 // bytes preallocated; 64 MiB if 0; a larger batch makes a larger segment
	CacheBytes     int64 // newest entries kept in memory; 16 MiB if 0
	ReadCacheBytes int64 // older entries kept after Entry read them; 8 MiB if 0

	// Room, if not nil, is asked to make room when there is none for a segment that is needed at once, and tells whether it did.
	// It runs on the appending goroutine.
	Room func() bool

	// Background makes the segment after the next in a goroutine. Without it Append does it itself, which is
	// deterministic and now and then slow.
	Background bool

	Rand   io.Reader    // for salts; crypto/rand if nil
	Logger *slog.Logger // nothing is logged if nil
}

// Findings are what Open has found out about a log.
type Findings struct {
	First uint64         // index of the log's first entry
	Holes []Hole         // without anchors
	Lost  []*DamageError // segments that are missing as a whole or end too early
	Short bool           // the last one is among them, and nobody knows how far it went
	// Damaged reads the lost entries whose records say which they are. It is good until Judge returns.
	Damaged func() ([]Damaged, error)
}

// Damaged is a lost entry. Intact: it is what was written, but something behind it is lost, which might have replaced it. Otherwise its
// data is not, and only its owner can tell what can still be used of it.
type Damaged struct {
	Entry
	Intact bool
}

const (
	defaultSegmentSize = 64 << 20 // long enough that sealing costs nothing, short enough that dropping frees soon
	minSegmentSize     = 2 * headerSize
	defaultCache       = 16 << 20
	defaultReadCache   = 8 << 20
)

func (o Options) withDefaults() Options {
	if o.SegmentSize == 0 {
		o.SegmentSize = defaultSegmentSize
	}
	o.SegmentSize = max(o.SegmentSize, minSegmentSize)
	if o.CacheBytes == 0 {
		o.CacheBytes = defaultCache
	}
	if o.ReadCacheBytes == 0 {
		o.ReadCacheBytes = defaultReadCache
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func (o *Options) identity() identity {
	return identity{cluster: o.Cluster, set: o.Set, replica: o.Replica}
}

// Log is the log of one replica. See the package comment for which methods may run at the same time.
type Log struct {
	fs    vfs.FS
	dir   string
	opt   Options
	slots *slots

	// Of the appending goroutine.
	err      error // why the log is dead
	enc      encoder
	places   []int64 // offsets of the batch's entries
	synced   int64   // the active segment is durable up to here
	spare    *segment
	spareErr error // why there is no spare, as last logged
	making   chan made

	mu      sync.RWMutex // readers against publishing
	segs    []*segment   // ascending; the last is the active one; never empty
	hs      HardState
	durable uint64 // last entry that is durable
	tail    tailCache
	shut    bool
	given   map[uint64]Entry // lost entries that came back, until their segment is whole

	syncedEnd atomic.Int64 // synced, for Verify
	lost      atomic.Int64 // entries that are lost

	read readCache

	healing sync.Mutex // held while a file is replaced
}

// Create makes an empty log in dir, which must exist: its first entry will have index firstIndex, and prevTerm is the
// term of the entry before that (0 if there is none or it is not known). The log is durable when Create returns. If there is
// anything of a log already the error is fs.ErrExist; so after a crash in Create the directory must be emptied first.
func Create(fsys vfs.FS, dir string, opt Options, firstIndex, prevTerm uint64, hs HardState) (*Log, error) {
	if firstIndex == 0 {
		panic("BUG: a log begins at index 1 or later")
	}
	opt = opt.withDefaults()
	if err := mustBeEmpty(fsys, dir); err != nil {
		return nil, err
	}
	l := &Log{fs: fsys, dir: dir, opt: opt, hs: hs}
	salt, err := l.newSalt()
	if err != nil {
		return nil, err
	}
	head := header{id: opt.identity(), number: 1, size: opt.SegmentSize, salt: salt}
	first := &segment{begin: begin{first: firstIndex, prevTerm: prevTerm, hs: hs}, table: table{first: firstIndex, prevTerm: prevTerm}}
	active, err := l.makeClosed(head, first, nil)
	if err != nil {
		return nil, err
	}
	if err := createSlots(fsys, dir, opt.identity(), slot{term: hs.Term, vote: hs.Vote, first: 1}); err != nil {
		return nil, errors.Join(err, active.file.Close())
	}
	if l.slots, err = openSlots(fsys, dir, opt.identity()); err != nil {
		return nil, errors.Join(err, active.file.Close())
	}
	l.start([]*segment{active})
	return l, nil
}

// mustBeEmpty refuses a directory with anything of a log in it.
func mustBeEmpty(fsys vfs.FS, dir string) error {
	names, err := fsys.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("create log: %w", err)
	}
	for _, name := range names {
		if _, ok := fileNumber(name); ok || name == slotsName {
			return fmt.Errorf("create log: %s is there already: %w", filepath.Join(dir, name), fs.ErrExist)
		}
	}
	return nil
}

// start makes the log ready, with its segments known.
func (l *Log) start(segs []*segment) {
	l.segs = segs
	l.setSynced(l.active().end)
	l.durable = l.lastLocked()
	l.tail = newTailCache(l.opt.CacheBytes, l.lastLocked()+1)
	l.read.limit = l.opt.ReadCacheBytes
}

func (l *Log) active() *segment { return l.segs[len(l.segs)-1] }

// HardState is the newest hard state that was appended.
func (l *Log) HardState() HardState {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.hs
}

// FirstIndex is the index of the oldest entry that is kept, or that will be if there is none.
func (l *Log) FirstIndex() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.segs[0].table.first
}

// LastIndex is the index of the newest entry, FirstIndex-1 if there is none.
func (l *Log) LastIndex() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.lastLocked()
}

// DurableIndex is the index of the newest entry that is known to be on the disk; between FirstIndex-1 and LastIndex.
func (l *Log) DurableIndex() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.durable
}

// lastLocked is the last entry of the log: tables of empty segments end before their first entry, which is where the
// segment before ends.
func (l *Log) lastLocked() uint64 { return l.active().table.last() }

// Term is the term of an entry between FirstIndex-1 and LastIndex. ErrCompacted before that (and for FirstIndex-1 if
// its term was not given to Create), ErrUnavailable behind.
func (l *Log) Term(index uint64) (uint64, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.termLocked(index)
}

func (l *Log) termLocked(index uint64) (uint64, error) {
	head := &l.segs[0].table
	if index+1 == head.first && (head.prevTerm != 0 || index == 0) {
		return head.prevTerm, nil
	}
	s, err := l.findLocked(index)
	if err != nil {
		return 0, err
	}
	if term := s.table.term(index); term != 0 {
		return term, nil
	}
	if e, ok := l.given[index]; ok {
		return e.Term, nil
	}
	return 0, s.lostEntry(index)
}

// findLocked finds the segment that holds an entry.
func (l *Log) findLocked(index uint64) (*segment, error) {
	if index < l.segs[0].table.first {
		return nil, ErrCompacted
	}
	if index > l.lastLocked() {
		return nil, ErrUnavailable
	}
	i := sort.Search(len(l.segs), func(i int) bool { return l.segs[i].table.last() >= index })
	return l.segs[i], nil
}

// Size is the number of bytes that the log's files take, the segment made ahead not counted.
func (l *Log) Size() int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var n int64
	for _, s := range l.segs {
		n += s.size
	}
	return n
}

// Close syncs and closes the log; a log that failed is only closed. Readers get ErrClosed afterwards.
func (l *Log) Close() error {
	if errors.Is(l.err, ErrClosed) {
		return nil
	}
	err := l.closeSpare()
	if l.err == nil && l.lost.Load() == 0 {
		err = errors.Join(err, l.writeClean(l.active()))
	}
	l.err = fmt.Errorf("log in %s: %w", l.dir, ErrClosed)
	l.mu.Lock()
	l.shut = true
	segs := l.segs
	l.mu.Unlock()
	return errors.Join(err, closeAll(segs), l.slots.close())
}

// writeClean marks that all before has been synced and nothing comes after. It must be durable in this order: a mark
// that is only in the page cache must not vouch for bytes that are only there too. The next batch overwrites the mark,
// for nobody knows after a restart whether the mark itself is durable; that is why it does not move the segment's end.
func (l *Log) writeClean(s *segment) error {
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", s.path, err)
	}
	l.enc.reset(s.head.salt, s.end)
	last, term := l.end(s)
	bufs := l.enc.commit(last, term, l.hs, s.end, flagClean)
	if err := s.file.WritevAt(bufs, s.end); err != nil {
		return fmt.Errorf("write %s: %w", s.path, err)
	}
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", s.path, err)
	}
	return nil
}

// end is the last entry of the log if s is the active segment; its term is 0 if it is not known.
func (l *Log) end(s *segment) (index, term uint64) {
	index = s.table.last()
	if len(s.table.offsets) == 0 {
		return index, s.table.prevTerm
	}
	return index, s.table.term(index)
}
