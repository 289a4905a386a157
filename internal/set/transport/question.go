package transport

import (
	"github.com/opencmq/cmq/internal/cmq"
	"github.com/opencmq/cmq/internal/set"
	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/store/reflog"
)

// Questions and answers, little endian; names and entries are as in message.go. A list is its count u32 and its elements.
//
//	ask:     id u64 | kind u8 | lo, hi, anchor, anchorTerm, index, offset u64 | bytes name | shard u64, lane i64
//	         | refs: index u64, slot u16
//	answer:  id u64 | kind, verdict, whole u8 | first, last, commit, voted, index, term u64 | bytes conf | size u64, sum u32
//	         | files: bytes name, size u64, crc u32
//	         | entries | seen u32
//	         | messages: index u64, slot u16, origin u64, time i64, bytes body
//	         | runs: seq, index u64, slot, n u16, time i64, bytes u32
//	         | bytes data
const (
	askHead     = 8 + 1 + 6*8 + 2*8
	answerHead  = 8 + 3 + 6*8 + 8 + 4 + 4
	refSize     = 8 + 2
	fileHead    = 4 + 8 + 4
	messageItem = 8 + 2 + 8 + 8 + 4
	runSize     = 2*8 + 2*2 + 8 + 4
)

// maxFileSize bounds sizes of files, so that they can be added without overflow.
const maxFileSize = 1 << 50

func (n *measure) ask(a *set.Ask) {
	n.fixed(askHead)
	n.fixed(4 + len(a.Name))
	n.fixed(4 + len(a.Refs)*refSize)
}

func (n *measure) answer(a *set.Answer) {
	n.fixed(answerHead)
	n.bytes(a.Conf)
	n.fixed(4)
	for i := range a.Files {
		n.fixed(fileHead + len(a.Files[i].Name))
	}
	n.entries(a.Entries)
	n.fixed(4)
	for i := range a.Messages {
		n.fixed(messageItem - 4)
		n.bytes(a.Messages[i].Body)
	}
	n.fixed(4 + len(a.Runs)*runSize)
	n.bytes(a.Data)
}

// answerSize is about what an answer takes in the queue of a connection.
func answerSize(a *set.Answer) int {
	var n measure
	n.answer(a)
	return n.payload
}

func (e *encoder) ask(a *set.Ask) {
	e.u64(a.ID)
	e.u8(uint8(a.Kind))
	e.u64(a.Lo, a.Hi, a.Anchor, a.AnchorTerm, a.Index, a.Offset)
	e.text(a.Name)
	e.u64(a.Shard, uint64(a.Lane))
	e.u32(uint32(len(a.Refs)))
	for _, ref := range a.Refs {
		e.u64(ref.Index)
		e.u16(ref.Slot)
	}
}

func (e *encoder) answer(a *set.Answer) {
	e.u64(a.ID)
	e.u8(uint8(a.Kind))
	e.u8(uint8(a.Verdict))
	e.u8(bit(a.Whole, 1))
	e.u64(a.First, a.Last, a.Commit, a.Voted, a.Index, a.Term)
	e.bytes(a.Conf)
	e.u64(a.Size)
	e.u32(a.Sum)
	e.u32(uint32(len(a.Files)))
	for _, f := range a.Files {
		e.text(f.Name)
		e.u64(uint64(f.Size))
		e.u32(f.CRC)
	}
	e.entries(a.Entries)
	e.u32(a.Seen)
	e.u32(uint32(len(a.Messages)))
	for i := range a.Messages {
		m := &a.Messages[i]
		e.u64(m.Index)
		e.u16(m.Slot)
		e.u64(m.Origin, uint64(m.Time))
		e.bytes(m.Body)
	}
	e.u32(uint32(len(a.Runs)))
	for _, r := range a.Runs {
		e.u64(r.Seq, r.Index)
		e.u16(r.Slot)
		e.u16(r.N)
		e.u64(uint64(r.Time))
		e.u32(r.Bytes)
	}
	e.bytes(a.Data)
}

func (e *encoder) text(s string) {
	e.u32(uint32(len(s)))
	e.buf = append(e.buf, s...)
}

func (d *decoder) ask() *set.Ask {
	a := &set.Ask{ID: d.u64(), Kind: d.kind(), Lo: d.u64(), Hi: d.u64(), Anchor: d.bounded(cmq.MaxIndex),
		AnchorTerm: d.bounded(maxTerm), Index: d.bounded(cmq.MaxIndex), Offset: d.bounded(maxFileSize), Name: d.text(), Shard: d.u64(), Lane: int64(d.u64())}
	if n := d.count(refSize); n > 0 {
		a.Refs = make([]store.Ref, n)
		for i := range a.Refs {
			a.Refs[i] = d.ref()
		}
	}
	return a
}

func (d *decoder) kind() set.AskKind {
	k := set.AskKind(d.u8())
	if k == 0 || k > set.AskSuccessor {
		d.fail()
	}
	return k
}

func (d *decoder) answer() *set.Answer {
	a := &set.Answer{ID: d.u64(), Kind: d.kind(), Verdict: set.Verdict(d.u8())}
	if a.Verdict == 0 || a.Verdict > set.Later {
		d.fail()
	}
	whole := d.u8()
	if a.Whole = whole == 1; whole > 1 {
		d.fail()
	}
	a.First, a.Last, a.Commit = d.bounded(cmq.MaxIndex), d.bounded(cmq.MaxIndex), d.bounded(cmq.MaxIndex)
	a.Voted, a.Index, a.Term = d.bounded(maxTerm), d.bounded(cmq.MaxIndex), d.bounded(maxTerm)
	a.Conf = d.bytes()
	a.Size, a.Sum = d.bounded(maxFileSize), d.u32()
	if n := d.count(fileHead); n > 0 {
		a.Files = make([]reflog.File, n)
		for i := range a.Files {
			a.Files[i] = reflog.File{Name: d.text(), Size: int64(d.bounded(maxFileSize)), CRC: d.u32()}
		}
	}
	a.Entries = d.entries()
	a.Seen = d.u32()
	if n := d.count(messageItem); n > 0 {
		a.Messages = make([]store.Message, n)
		for i := range a.Messages {
			a.Messages[i] = store.Message{Ref: d.ref(), Origin: d.u64(), Time: int64(d.u64()), Body: d.bytes()}
		}
	}
	if n := d.count(runSize); n > 0 {
		a.Runs = make([]reflog.Run, n)
		for i := range a.Runs {
			a.Runs[i] = reflog.Run{Seq: d.u64(), Index: d.bounded(cmq.MaxIndex), Slot: d.u16(), N: d.u16(), Time: int64(d.u64()), Bytes: d.u32()}
		}
	}
	a.Data = d.bytes()
	return a
}

func (d *decoder) ref() store.Ref {
	return store.Ref{Index: d.bounded(cmq.MaxIndex), Slot: d.u16()}
}

// count reads the length of a list whose elements have at least size bytes.
func (d *decoder) count(size int) int {
	n := int(d.u32())
	if n > len(d.b)/size {
		d.fail()
		return 0
	}
	return n
}

func (d *decoder) text() string { return string(d.bytes()) }
