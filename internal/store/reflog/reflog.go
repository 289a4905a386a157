package reflog

import "iter"

// Key names one lane of one shard.
type Key struct {
	Shard uint64
	Lane  int64 // due time in milliseconds, 0 for the main sequence
}

// Ref says where a message is stored and when it was sent.
type Ref struct {
	Index uint64
	Slot  uint16
	Time  int64  // Unix milliseconds, cluster time
	Bytes uint32 // of the message, or the average of those it was sent with
}

// Run is N messages with consecutive positions, stored in consecutive slots of one entry.
type Run struct {
	Seq, Index uint64
	Time       int64
	Bytes      uint32 // of all of them
	Slot, N    uint16
}

// File is one file of references, whole and synced.
type File struct {
	Name string // in the directory
	Size int64
	CRC  uint32 // CRC32C of all bytes
}

// Options say whose references they are and how much memory they may take.
type Options struct {
	Cluster uint64
	Set     uint16
	// CacheBytes is for chunks and blocks read from the disk. Default 16 MiB, at least 4 MiB.
	CacheBytes int64
	// TailBytes is for the encoded ends of main lanes, which are part of the image too. When there is more, the longest
	// become chunks before they are full, down to 64 runs. Default 16 MiB (some 3 million runs).
	TailBytes int64
	// Go runs read-ahead on another goroutine, whose end the caller waits for before it closes the file system; nil: there
	// is no read-ahead.
	Go func(work func())

	// Set by tests, to have many chunks and levels of few runs.
	runs    int    // of a chunk or block
	inImage uint64 // runs of a level
}

// Needed says what a Merge keeps: for every shard, ascending, its lanes, ascending, and the first position of each that can
// still be asked for. What is not listed is gone.
type Needed interface {
	Shards(f func(shard uint64, lanes iter.Seq2[int64, uint64]) error) error
}

// Span is positions [Lo, Hi) of a lane.
type Span struct {
	Lane   int64
	Lo, Hi uint64
}

// Live says which positions have messages that may still be delivered: for every shard, ascending, its spans, ascending by lane
// and position, disjoint.
type Live interface {
	Shards(f func(shard uint64, spans iter.Seq[Span]) error) error
}
