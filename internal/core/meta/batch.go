package meta

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Batch is the data of one raft entry of the controller's set.
//
//	offset  size
//	     0     4  magic "CMQM"
//	     4     1  version
//	     5     3  zero
//	     8     8  proposer: which process cut the batch
//	    16     8  number: the proposer's own count of batches
//	    24     8  time: cluster time in Unix milliseconds
//	    32     4  number of commands
//	    36     4  length of what follows the header
//	    40     4  CRC32C of bytes [0, 40) and [44, end)
//	    44        commands, each as length (uvarint) and bytes of Encode
//
// All numbers are little endian. A batch may have no command: it then only asks to be applied.
type Batch struct {
	Proposer uint64
	Number   uint64
	Time     int64
	Commands []Command
}

const (
	batchMagic   = 0x4d514d43 // "CMQM"
	batchVersion = 1
	batchHeader  = 44
)

// EncodeBatch makes the entry of commands that are encoded already.
func EncodeBatch(proposer, number uint64, time int64, commands [][]byte) []byte {
	size := batchHeader
	for _, c := range commands {
		size += len(c) + binary.MaxVarintLen32
	}
	b := make([]byte, batchHeader, size)
	for _, c := range commands {
		b = append(appendUint(b, uint64(len(c))), c...)
	}
	binary.LittleEndian.PutUint32(b[0:], batchMagic)
	b[4] = batchVersion
	binary.LittleEndian.PutUint64(b[8:], proposer)
	binary.LittleEndian.PutUint64(b[16:], number)
	binary.LittleEndian.PutUint64(b[24:], uint64(time))
	binary.LittleEndian.PutUint32(b[32:], uint32(len(commands)))
	binary.LittleEndian.PutUint32(b[36:], uint32(len(b)-batchHeader))
	binary.LittleEndian.PutUint32(b[40:], batchSum(b))
	return b
}

func batchSum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:40], castagnoli), castagnoli, b[batchHeader:])
}

// ParseBatch reads the data of an entry. Errors wrap ErrFormat; a replica that gets one must stop, because it
// would not end equal to the others if it went on.
func ParseBatch(data []byte) (*Batch, error) {
	if len(data) < batchHeader || binary.LittleEndian.Uint32(data) != batchMagic {
		return nil, fmt.Errorf("%w: entry of %d bytes is no batch of the controller", ErrFormat, len(data))
	}
	if data[4] != batchVersion || data[5]|data[6]|data[7] != 0 {
		return nil, fmt.Errorf("%w: batch of version %d, this program knows %d", ErrFormat, data[4], batchVersion)
	}
	if n := binary.LittleEndian.Uint32(data[36:]); uint64(n) != uint64(len(data)-batchHeader) {
		return nil, fmt.Errorf("%w: batch of %d bytes, its header says %d", ErrFormat, len(data)-batchHeader, n)
	}
	if want, got := binary.LittleEndian.Uint32(data[40:]), batchSum(data); want != got {
		return nil, fmt.Errorf("%w: checksum of the batch is %08x, its header says %08x", ErrFormat, got, want)
	}
	b := &Batch{
		Proposer: binary.LittleEndian.Uint64(data[8:]),
		Number:   binary.LittleEndian.Uint64(data[16:]),
		Time:     int64(binary.LittleEndian.Uint64(data[24:])),
	}
	return b, b.parseCommands(data[batchHeader:], binary.LittleEndian.Uint32(data[32:]))
}

func (b *Batch) parseCommands(data []byte, count uint32) error {
	r := &reader{data: data}
	for ; count > 0 && r.err == nil; count-- {
		n := r.count("length of a command")
		if r.err != nil {
			break
		}
		c, err := Decode(r.data[:n])
		if err != nil {
			return err
		}
		r.data = r.data[n:]
		b.Commands = append(b.Commands, c)
	}
	return r.end()
}
