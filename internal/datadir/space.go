package datadir

import "github.com/opencmq/cmq/internal/vfs"

// Marks say how much must be free on the disk of a data directory: below Soft sends are refused, below Hard receives too.
type Marks struct {
	Soft, Hard uint64 // bytes
}

const (
	// softShare and hardShare say which part of the disk, and of the soft mark, the marks are if the operator sets none.
	softShare = 20
	softMost  = 2 << 30
	hardShare = 16
	// SoftInodes and HardInodes are how few inodes count as a full disk: enough for the files that receives and deletes still
	// need.
	SoftInodes = 256
	HardInodes = 64
)

// For gives the marks of a disk of that many bytes, with the ones that are not set filled in.
func (m Marks) For(total uint64) Marks {
	if m.Soft == 0 {
		m.Soft = min(total/softShare, softMost)
	}
	if m.Hard == 0 {
		m.Hard = m.Soft / hardShare
	}
	return m
}

// Fullness is how full a disk is.
type Fullness uint8

// The levels of fullness.
const (
	Room     Fullness = iota
	SoftFull          // sends are refused
	HardFull          // receives too
)

// Judge says how full a disk is by these marks.
func (m Marks) Judge(s vfs.Space) Fullness {
	m = m.For(s.Total)
	limited := s.Inodes > 0
	switch {
	case s.Free < m.Hard || limited && s.FreeInodes < HardInodes:
		return HardFull
	case s.Free < m.Soft || limited && s.FreeInodes < SoftInodes:
		return SoftFull
	}
	return Room
}
