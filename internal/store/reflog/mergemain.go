package reflog

import (
	"cmp"
	"math/bits"
	"slices"
)

const (
	leastSealed = 64 // runs: below it a chunk's 64 bytes in memory would be no gain over the encoded runs
	tierFiles   = 8  // files of about the same size that are joined
)

// mainLane brings one main lane up to date. from is the first position needed.
func (m *merge) mainLane(k Key, from uint64, fate fate, fresh []*lane) error {
	old := m.f.old.lane(k.Shard)
	if fate.dropped {
		old = nil
	}
	if old == nil {
		old = &mainLane{shard: k.Shard}
	}
	keep := old.at(from)
	if keep == 0 && len(fresh) == 0 && len(old.chunks) > 0 && !m.patched(old) {
		m.lanes = append(m.lanes, old)
		return nil
	}
	b := laneBuilder{m: m, key: k, out: &mainLane{shard: k.Shard}, from: from}
	for i := keep; i < len(old.chunks); i++ {
		if err := b.take(old, i, len(fresh) > 0); err != nil {
			return err
		}
	}
	if err := eachFresh(fresh, from, fate, b.add); err != nil {
		return err
	}
	b.end()
	if len(b.out.chunks) > 0 {
		b.out.chunks = slices.Clone(b.out.chunks) // without the room for more
		m.lanes = append(m.lanes, b.out)
	}
	return nil
}

// patched reports whether a peer gave anything for the lane.
func (m *merge) patched(ln *mainLane) bool {
	for _, p := range m.f.patches {
		if p.key == (Key{Shard: ln.shard}) {
			return true
		}
	}
	return false
}

// laneBuilder cuts the runs of a main lane into chunks.
type laneBuilder struct {
	m      *merge
	key    Key
	out    *mainLane
	from   uint64
	runs   []Run  // not yet in a chunk
	lo, hi uint64 // their indexes, [lo, hi]
	upTo   uint64
}

// take takes a chunk of the old lane over. The tail is opened if there is something to put behind it.
func (b *laneBuilder) take(old *mainLane, i int, more bool) error {
	c := old.chunks[i]
	patch := b.m.r.patch(b.key, c.seq, c.end())
	if patch == nil && (c.file != 0 || !more) {
		if err := b.seal(); err != nil {
			return err
		}
		b.out.chunks = append(b.out.chunks, c)
		if c.file == 0 {
			b.out.tail = old.tail
		}
		b.upTo = c.end()
		return nil
	}
	runs, err := b.m.r.chunk(old, i)
	if err != nil {
		return err
	}
	for _, r := range runs {
		if r.end() > b.from {
			if err := b.add(r); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *laneBuilder) add(r Run) error {
	if r.Seq < b.upTo {
		return nil // there already
	}
	lo, hi := min(b.lo, r.Index), max(b.hi, r.Index)
	if n := len(b.runs); n > 0 && (n == b.m.l.opt.runs || r.Time < b.runs[n-1].Time || !fits(&b.runs[0], r.end(), r.Time, lo, hi)) {
		if err := b.seal(); err != nil {
			return err
		}
	}
	if len(b.runs) == 0 {
		lo, hi = r.Index, r.Index
	}
	b.runs, b.lo, b.hi = append(b.runs, r), lo, hi
	b.upTo = r.end()
	return nil
}

// seal makes a chunk of the runs so far.
func (b *laneBuilder) seal() error {
	if len(b.runs) == 0 {
		return nil
	}
	c, err := b.m.writeChunk(b.key, b.runs)
	b.out.chunks = append(b.out.chunks, c)
	b.runs = b.runs[:0]
	return err
}

// end leaves the rest in memory.
func (b *laneBuilder) end() {
	if len(b.runs) == 0 {
		return
	}
	c := chunkOf(b.runs)
	b.out.tail = encodeLane(b.key, b.runs)
	c.size = uint32(len(b.out.tail))
	b.out.chunks = append(b.out.chunks, c)
}

func (m *merge) writeChunk(k Key, runs []Run) (chunk, error) {
	c := chunkOf(runs)
	s, err := m.writeBody(encodeLane(k, runs), len(runs))
	c.place(s)
	return c, err
}

// writeBody puts the body of a chunk into the newest file of chunks.
func (m *merge) writeBody(body []byte, runs int) (source, error) {
	if m.chunk == nil || m.chunk.size+blockHead+int64(len(body)) > maxFile {
		w, err := m.create()
		if err != nil {
			return source{}, err
		}
		m.chunk = w
	}
	return m.chunk.block(body, runs, 1)
}

// shorten makes chunks of the longest tails when all together take too much memory, until they take three quarters.
func (m *merge) shorten() error {
	var sum int64
	for _, ln := range m.lanes {
		sum += int64(len(ln.tail))
	}
	if sum <= m.l.opt.TailBytes {
		return nil
	}
	var long []int
	for i, ln := range m.lanes {
		if n := len(ln.chunks); ln.tail != nil && int(ln.chunks[n-1].runs) >= min(leastSealed, m.l.opt.runs/2) {
			long = append(long, i)
		}
	}
	slices.SortStableFunc(long, func(a, b int) int { return cmp.Compare(len(m.lanes[b].tail), len(m.lanes[a].tail)) })
	for _, i := range long {
		if sum <= m.l.opt.TailBytes/4*3 {
			break
		}
		sum -= int64(len(m.lanes[i].tail))
		ln := &mainLane{shard: m.lanes[i].shard, chunks: slices.Clone(m.lanes[i].chunks)}
		c := &ln.chunks[len(ln.chunks)-1]
		s, err := m.writeBody(m.lanes[i].tail, int(c.runs))
		if err != nil {
			return err
		}
		c.place(s)
		m.lanes[i] = ln
	}
	return nil
}

// rewrite copies what is alive out of files of chunks that are less than half alive, or damaged, or many of one size.
func (m *merge) rewrite() error {
	leave := m.leave()
	if len(leave) == 0 {
		return nil
	}
	for i, ln := range m.lanes {
		var err error
		if m.lanes[i], err = m.moveLane(ln, leave); err != nil {
			return err
		}
	}
	return nil
}

// leave chooses the files.
func (m *merge) leave() map[uint32]bool {
	live := make(map[uint32]int64)
	for _, ln := range m.lanes {
		for i := range ln.chunks {
			if c := &ln.chunks[i]; c.file != 0 && c.file < m.f.old.next {
				live[c.file] += blockHead + int64(c.size)
			}
		}
	}
	leave := make(map[uint32]bool)
	tiers := make(map[int][]uint32)
	for number, bytes := range live {
		size := m.f.old.file(number).Size
		switch {
		case bytes < size/2, m.l.suspected(number):
			leave[number] = true
		case size < maxFile/2:
			tier := bits.Len64(uint64(size)>>16) / 3
			tiers[tier] = append(tiers[tier], number)
		}
	}
	for _, numbers := range tiers {
		if len(numbers) >= tierFiles {
			for _, n := range numbers {
				leave[n] = true
			}
		}
	}
	return leave
}

// moveLane copies the chunks of a lane that are in the files to leave. Chunks side by side that are short become one. One
// that cannot be read stays where it is, and with it its file.
func (m *merge) moveLane(ln *mainLane, leave map[uint32]bool) (*mainLane, error) {
	if !slices.ContainsFunc(ln.chunks, func(c chunk) bool { return leave[c.file] }) {
		return ln, nil
	}
	k := Key{Shard: ln.shard}
	out := &mainLane{shard: ln.shard, tail: ln.tail}
	for i := 0; i < len(ln.chunks); {
		n := joinable(ln.chunks[i:], leave, m.l.opt.runs)
		if n == 0 {
			out.chunks = append(out.chunks, ln.chunks[i])
			i++
			continue
		}
		var runs []Run
		for ; n > 0 && len(runs) < m.l.opt.runs; n, i = n-1, i+1 {
			more, err := m.r.chunk(ln, i)
			if isDamage(err) {
				break
			}
			if err != nil {
				return nil, err
			}
			runs = append(runs, more...)
		}
		if len(runs) > 0 {
			c, err := m.writeChunk(k, runs)
			if err != nil {
				return nil, err
			}
			out.chunks = append(out.chunks, c)
		}
		if n > 0 {
			out.chunks = append(out.chunks, ln.chunks[i])
			i++
		}
	}
	return out, nil
}

// joinable is how many of the first chunks are in files to leave and fit into one chunk.
func joinable(chunks []chunk, leave map[uint32]bool, most int) (n int) {
	first, runs := &Run{Seq: chunks[0].seq, Time: chunks[0].time}, 0
	lo, hi := chunks[0].index, chunks[0].last()
	for i := range chunks {
		c := &chunks[i]
		runs += int(c.runs)
		lo, hi = min(lo, c.index), max(hi, c.last())
		if !leave[c.file] || runs > most || !fits(first, c.end(), c.lastTime(), lo, hi) {
			break
		}
		n++
	}
	return n
}
