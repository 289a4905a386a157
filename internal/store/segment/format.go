package segment

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Sizes and places in a segment file.
const (
	headerSize = 4096 // identity and begin; batches start here
	beginAt    = 512  // a sector of its own, because it is written later than the identity
	blockSize  = 64   // identity and begin
	recordSize = 32   // header of a record
	align      = 8    // of records
	commitBody = 40
	commitSize = recordSize + commitBody

	version = 1

	// MaxEntry is the largest payload of one entry in bytes. Entries are about 1 MiB at most in normal operation; the
	// limit keeps a damaged length from allocating the machine's memory.
	MaxEntry = 64 << 20
)

var (
	le         = binary.LittleEndian
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

func checksum(p []byte) uint32 { return crc32.Checksum(p, castagnoli) }

const (
	headerMagic = "cmqsegm\n"
	beginMagic  = uint32(0x4e474542) // "BEGN"
)

// header is the identity of a segment file.
//
//	0   magic     "cmqsegm\n"
//	8   version   u32
//	12  set       u16, then 2 zero bytes
//	16  cluster   u64
//	24  replica   u64
//	32  number    u64   also the file's name
//	40  size      u64   preallocated bytes; an unsealed file is not shorter
//	48  salt      u32   random; in every record
//	52  zeros
//	60  crc32c    u32   of bytes 0 to 59
type header struct {
	id     identity
	number uint64
	size   int64
	salt   uint32
}

// identity says whose log this is.
type identity struct {
	cluster uint64
	set     uint16
	replica uint64
}

func (id identity) String() string {
	return fmt.Sprintf("cluster %d, set %d, replica %d", id.cluster, id.set, id.replica)
}

func (h *header) encode(p []byte) {
	copy(p, headerMagic)
	le.PutUint32(p[8:], version)
	le.PutUint16(p[12:], h.id.set)
	le.PutUint64(p[16:], h.id.cluster)
	le.PutUint64(p[24:], h.id.replica)
	le.PutUint64(p[32:], h.number)
	le.PutUint64(p[40:], uint64(h.size))
	le.PutUint32(p[48:], h.salt)
	le.PutUint32(p[60:], checksum(p[:60]))
}

// decodeHeader returns why the block is no header, or "". newer is the format version if it is one we do not know.
func decodeHeader(p []byte) (h header, newer uint32, why string) {
	if string(p[:8]) != headerMagic {
		return h, 0, "the file does not begin with the mark of a segment"
	}
	if le.Uint32(p[60:]) != checksum(p[:60]) {
		return h, 0, "the header's checksum is wrong"
	}
	if v := le.Uint32(p[8:]); v != version {
		return h, v, ""
	}
	return header{
		id:     identity{cluster: le.Uint64(p[16:]), set: le.Uint16(p[12:]), replica: le.Uint64(p[24:])},
		number: le.Uint64(p[32:]),
		size:   int64(le.Uint64(p[40:])),
		salt:   le.Uint32(p[48:]),
	}, 0, ""
}

// begin is written with a segment's first batch and says how the segment continues the log.
//
//	0   magic     "BEGN"
//	4   salt      u32   of this segment
//	8   first     u64   index of the first entry; entries from here on in older segments are replaced
//	16  prevTerm  u64   term of the entry before first; 0: not known
//	24  prevEnd   u64   the previous segment belongs to the log up to here, and was synced so far; 0: there is none
//	32  term      u64   hard state at the head of the segment
//	40  vote      u64
//	48  commit    u64
//	56  prevSalt  u32   salt of the previous segment; 0 if there is none
//	60  crc32c    u32   of bytes 0 to 59
type begin struct {
	first    uint64
	prevTerm uint64
	prevEnd  int64
	prevSalt uint32
	hs       HardState
}

func (b *begin) encode(p []byte, salt uint32) {
	le.PutUint32(p, beginMagic)
	le.PutUint32(p[4:], salt)
	le.PutUint64(p[8:], b.first)
	le.PutUint64(p[16:], b.prevTerm)
	le.PutUint64(p[24:], uint64(b.prevEnd))
	b.hs.encode(p[32:])
	le.PutUint32(p[56:], b.prevSalt)
	le.PutUint32(p[60:], checksum(p[:60]))
}

func decodeBegin(p []byte, salt uint32) (b begin, ok bool) {
	if le.Uint32(p) != beginMagic || le.Uint32(p[4:]) != salt || le.Uint32(p[60:]) != checksum(p[:60]) {
		return b, false
	}
	return begin{
		first:    le.Uint64(p[8:]),
		prevTerm: le.Uint64(p[16:]),
		prevEnd:  int64(le.Uint64(p[24:])),
		prevSalt: le.Uint32(p[56:]),
		hs:       decodeHardState(p[32:]),
	}, true
}

func (hs HardState) encode(p []byte) {
	le.PutUint64(p, hs.Term)
	le.PutUint64(p[8:], hs.Vote)
	le.PutUint64(p[16:], hs.Commit)
}

func decodeHardState(p []byte) HardState {
	return HardState{Term: le.Uint64(p), Vote: le.Uint64(p[8:]), Commit: le.Uint64(p[16:])}
}

// The types of records.
const (
	typeEntry    = uint8(1) // index, term; flags: the raft entry's type; payload: its data
	typeTruncate = uint8(2) // entries from index on are gone; term: of the entry before index; no payload
	typeCommit   = uint8(3) // ends a batch; index, term: of the log's last entry; payload: commit
	typeFooter   = uint8(4) // footer.go
	typePad      = uint8(5) // zeros, so that a segment that was written anew ends where the old one did
)

// record is one record of a batch.
//
//	0   len     u32   bytes of payload
//	4   type    u8
//	5   flags   u8
//	6   hdrcrc  u16   low half of the CRC32C of bytes 0 to 5 and 8 to 27: len can be trusted before the payload is read
//	8   index   u64
//	16  term    u64
//	24  salt    u32   the segment's salt, xor the record's offset / 8: stale and misdirected bytes do not parse
//	28  crc32c  u32   of bytes 0 to 27 and the payload
//	32  payload, then zeros up to a multiple of 8 (under no checksum)
type record struct {
	off     int64
	typ     uint8
	flags   uint8
	index   uint64
	term    uint64
	length  int // of the payload
	crc     uint32
	payload []byte // nil until it has been read
}

func padded(n int) int { return (n + align - 1) &^ (align - 1) }

func (r *record) size() int64 { return int64(recordSize + padded(r.length)) }

func saltAt(salt uint32, off int64) uint32 { return salt ^ uint32(off/align) }

func headerCRC(p []byte) uint16 {
	return uint16(crc32.Update(checksum(p[:6]), castagnoli, p[8:28]))
}

// encode writes the record's header to p; the payload is the caller's to write.
func (r *record) encode(p []byte, salt uint32) {
	le.PutUint32(p, uint32(len(r.payload)))
	p[4], p[5] = r.typ, r.flags
	le.PutUint64(p[8:], r.index)
	le.PutUint64(p[16:], r.term)
	le.PutUint32(p[24:], saltAt(salt, r.off))
	le.PutUint16(p[6:], headerCRC(p))
	le.PutUint32(p[28:], crc32.Update(checksum(p[:28]), castagnoli, r.payload))
}

// decodeRecord reads a record's header, found at off; the payload is not looked at.
func decodeRecord(p []byte, salt uint32, off int64) (r record, why string) {
	if le.Uint32(p[24:]) != saltAt(salt, off) {
		return r, "no record of this segment"
	}
	if le.Uint16(p[6:]) != headerCRC(p) {
		return r, "the checksum of a record's header is wrong"
	}
	return record{
		off:    off,
		typ:    p[4],
		flags:  p[5],
		index:  le.Uint64(p[8:]),
		term:   le.Uint64(p[16:]),
		length: int(le.Uint32(p)),
		crc:    le.Uint32(p[28:]),
	}, ""
}

// intact checks the payload, given the header's bytes.
func (r *record) intact(head []byte) bool {
	return crc32.Update(checksum(head[:28]), castagnoli, r.payload) == r.crc
}

// commit is the payload of a COMMIT record.
//
//	0   syncedUpTo  u64   the segment was synced up to this offset when the batch was made
//	8   term        u64   hard state
//	16  vote        u64
//	24  commit      u64
//	32  records     u32   of the batch, without the COMMIT
//	36  crc32c      u32   of the 32-byte headers of those records, which cover the payloads
//
// Flag 1: the log was closed in order after everything before this record had been synced.
type commit struct {
	syncedUpTo int64
	hs         HardState
	records    uint32
	crc        uint32
}

const flagClean = uint8(1)

func (c *commit) encode(p []byte) {
	le.PutUint64(p, uint64(c.syncedUpTo))
	c.hs.encode(p[8:])
	le.PutUint32(p[32:], c.records)
	le.PutUint32(p[36:], c.crc)
}

func decodeCommit(p []byte) commit {
	return commit{
		syncedUpTo: int64(le.Uint64(p)),
		hs:         decodeHardState(p[8:]),
		records:    le.Uint32(p[32:]),
		crc:        le.Uint32(p[36:]),
	}
}
