package archive

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/opencmq/cmq/internal/store/segment"
)

// Ref is where a message was stored first: the raft entry and its place in it. It never changes.
type Ref struct {
	Index uint64
	Slot  uint16
}

func (r Ref) before(o Ref) bool { return r.Index < o.Index || r.Index == o.Index && r.Slot < o.Slot }

// Message is one message with what is stored about it.
type Message struct {
	Ref
	Origin uint64 // id it was born with if it came from another shard, else 0
	Time   int64  // send time, Unix milliseconds
	Body   []byte
}

// ID says whose files they are.
type ID struct {
	Cluster uint64
	Set     uint16
	Replica uint64
}

func (id ID) String() string {
	return fmt.Sprintf("cluster %d, set %d, replica %d", id.Cluster, id.Set, id.Replica)
}

// Info describes a whole file, for a root that lists it.
type Info struct {
	Number   uint64
	Lo, Hi   uint64 // raft indexes of its messages, [Lo, Hi)
	Messages uint64
	Bytes    int64  // of the bodies
	Size     int64  // of the file
	Sum      uint32 // checksum of the tail, which covers all of the above: another file under this name shows
}

// Name is the file's name.
func (i *Info) Name() string { return fmt.Sprintf("%010d%s", i.Number, Suffix) }

// Suffix ends the names of archive files.
const Suffix = ".arc"

const (
	headMagic = "cmqarch\n"
	tailMagic = "cmqatail"
	version   = 1
	headSize  = 64
	tailSize  = 64
	dirItem   = 24
	sumSize   = 4

	// blockMessages is how many messages share an index block: small enough to read one for one message.
	blockMessages = 128
	// MaxMessages bounds what a Writer keeps in memory, MaxBytes the bodies of a file.
	MaxMessages = 1 << 18
	MaxBytes    = 1 << 31
)

var (
	le         = binary.LittleEndian
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

func checksum(p []byte) uint32 { return crc32.Checksum(p, castagnoli) }

// encodeHead writes the header:
//
//	0   magic    "cmqarch\n"
//	8   version  u32
//	12  set      u16, then 2 zero bytes
//	16  cluster  u64
//	24  replica  u64
//	32  number   u64   also the file's name
//	40  zeros
//	60  crc32c   u32   of bytes 0 to 59
func encodeHead(id ID, number uint64) []byte {
	p := make([]byte, headSize)
	copy(p, headMagic)
	le.PutUint32(p[8:], version)
	le.PutUint16(p[12:], id.Set)
	le.PutUint64(p[16:], id.Cluster)
	le.PutUint64(p[24:], id.Replica)
	le.PutUint64(p[32:], number)
	le.PutUint32(p[60:], checksum(p[:60]))
	return p
}

func checkHead(path string, p []byte, id ID, number uint64) error {
	switch {
	case string(p[:8]) != headMagic:
		return damage(path, 0, "the file does not begin with the mark of an archive file")
	case le.Uint32(p[60:]) != checksum(p[:60]):
		return damage(path, 0, "the header's checksum is wrong")
	case le.Uint32(p[8:]) != version:
		return &segment.VersionError{File: path, Version: le.Uint32(p[8:]), Known: version}
	}
	have := ID{Set: le.Uint16(p[12:]), Cluster: le.Uint64(p[16:]), Replica: le.Uint64(p[24:])}
	switch {
	case have != id:
		return &segment.ForeignError{File: path, Have: have.String(), Want: id.String()}
	case le.Uint64(p[32:]) != number:
		return damage(path, 32, "this is file %d under the name of another", le.Uint64(p[32:]))
	}
	return nil
}

// item is what the index says of one message.
type item struct {
	Ref
	off    int64
	length int
	origin uint64
	time   int64
	sum    uint32 // see sumOf
}

// sumOf is the checksum of a message: CRC32C of the body and then of index, slot, origin and time, so that a body
// cannot pass for another message's.
func sumOf(m *Message) uint32 {
	var p [26]byte
	le.PutUint64(p[0:], m.Index)
	le.PutUint16(p[8:], m.Slot)
	le.PutUint64(p[10:], m.Origin)
	le.PutUint64(p[18:], uint64(m.Time))
	return crc32.Update(checksum(m.Body), castagnoli, p[:])
}

// appendBlock writes an index block, everything a varint but the checksums:
//
//	n, n × { index - index before, slot, offset, length, time - time before (zigzag), origin, sum u32 }
//	crc32c  u32  of all before
func appendBlock(b []byte, items []item) []byte {
	at := len(b)
	b = binary.AppendUvarint(b, uint64(len(items)))
	var index uint64
	var time int64
	for i := range items {
		it := &items[i]
		b = binary.AppendUvarint(b, it.Index-index)
		b = binary.AppendUvarint(b, uint64(it.Slot))
		b = binary.AppendUvarint(b, uint64(it.off))
		b = binary.AppendUvarint(b, uint64(it.length))
		b = binary.AppendVarint(b, it.time-time)
		b = binary.AppendUvarint(b, it.origin)
		b = le.AppendUint32(b, it.sum)
		index, time = it.Index, it.time
	}
	return le.AppendUint32(b, checksum(b[at:]))
}

// decodeBlock reads an index block; why says what is wrong with it. Bodies lie within [headSize, end).
func decodeBlock(p []byte, end int64) (items []item, why string) {
	if len(p) < sumSize || le.Uint32(p[len(p)-sumSize:]) != checksum(p[:len(p)-sumSize]) {
		return nil, "the checksum of an index block is wrong"
	}
	r := reader{p: p[:len(p)-sumSize]}
	n := r.uint()
	if n > blockMessages {
		return nil, "an index block is too long"
	}
	var last item
	for i := range n {
		it := item{Ref: Ref{Index: last.Index + r.uint()}}
		slot := r.uint()
		it.Slot, it.off, it.length = uint16(slot), int64(r.uint()), int(r.uint())
		it.time, it.origin, it.sum = last.time+r.int(), r.uint(), r.u32()
		if r.bad || slot > 1<<16-1 || it.off < headSize || it.length < 0 || it.off > end || int64(it.length) > end-it.off ||
			i > 0 && !last.before(it.Ref) {
			return nil, "an index block contradicts itself"
		}
		items = append(items, it)
		last = it
	}
	if len(r.p) > 0 {
		return nil, "an index block is longer than its messages"
	}
	return items, ""
}

// block is where an index block is. In the directory:
//
//	0   index   u64   of its first message
//	8   slot    u16, then 2 zero bytes
//	12  length  u32   bytes, checksum included
//	16  offset  u64
type block struct {
	first  Ref
	length int
	off    int64
}

func appendDir(b []byte, blocks []block) []byte {
	for _, k := range blocks {
		b = le.AppendUint64(b, k.first.Index)
		b = le.AppendUint16(b, k.first.Slot)
		b = le.AppendUint16(b, 0)
		b = le.AppendUint32(b, uint32(k.length))
		b = le.AppendUint64(b, uint64(k.off))
	}
	return b
}

func decodeDir(p []byte) []block {
	var blocks []block
	for ; len(p) >= dirItem; p = p[dirItem:] {
		blocks = append(blocks, block{
			first:  Ref{Index: le.Uint64(p), Slot: le.Uint16(p[8:])},
			length: int(le.Uint32(p[12:])), off: int64(le.Uint64(p[16:])),
		})
	}
	return blocks
}

// tail ends a file.
//
//	0   magic     "cmqatail"
//	8   lo        u64   lowest raft index
//	16  hi        u64   behind the highest
//	24  messages  u64
//	32  bytes     u64   of the bodies; the blocks begin at 64 + bytes
//	40  dir       u64   offset of the directory, which goes up to the tail
//	48  dirSum    u32   CRC32C of the directory
//	52  sums      u32   CRC32C of the checksums of all blocks: two files with other messages have other tails
//	56  zeros
//	60  crc32c    u32   of bytes 0 to 59
type tail struct {
	lo, hi, messages uint64
	bytes, dir       int64
	dirSum, sums     uint32
}

func (t *tail) encode() []byte {
	p := make([]byte, tailSize)
	copy(p, tailMagic)
	le.PutUint64(p[8:], t.lo)
	le.PutUint64(p[16:], t.hi)
	le.PutUint64(p[24:], t.messages)
	le.PutUint64(p[32:], uint64(t.bytes))
	le.PutUint64(p[40:], uint64(t.dir))
	le.PutUint32(p[48:], t.dirSum)
	le.PutUint32(p[52:], t.sums)
	le.PutUint32(p[60:], checksum(p[:60]))
	return p
}

// decodeTail reads the tail of a file of this size.
func decodeTail(p []byte, size int64) (t tail, ok bool) {
	if string(p[:8]) != tailMagic || le.Uint32(p[60:]) != checksum(p[:60]) {
		return t, false
	}
	t = tail{
		lo: le.Uint64(p[8:]), hi: le.Uint64(p[16:]), messages: le.Uint64(p[24:]),
		bytes: int64(le.Uint64(p[32:])), dir: int64(le.Uint64(p[40:])), dirSum: le.Uint32(p[48:]), sums: le.Uint32(p[52:]),
	}
	end := size - tailSize
	return t, t.bytes >= 0 && t.bytes <= end && t.dir >= headSize+t.bytes && t.dir <= end && (end-t.dir)%dirItem == 0
}

// reader takes numbers off the front of p.
type reader struct {
	p   []byte
	bad bool
}

func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.p)
	if n <= 0 {
		r.p, r.bad = nil, true
		return 0
	}
	r.p = r.p[n:]
	return v
}

func (r *reader) int() int64 {
	v, n := binary.Varint(r.p)
	if n <= 0 {
		r.p, r.bad = nil, true
		return 0
	}
	r.p = r.p[n:]
	return v
}

func (r *reader) u32() uint32 {
	if len(r.p) < 4 {
		r.p, r.bad = nil, true
		return 0
	}
	v := le.Uint32(r.p)
	r.p = r.p[4:]
	return v
}

func damage(path string, off int64, why string, args ...any) error {
	return &segment.DamageError{File: path, Offset: off, Why: fmt.Sprintf(why, args...),
		Fix: "the messages in it are fetched from the other replicas of the set; without any they are lost"}
}
