package segment

import (
	"errors"
	"fmt"
)

// Errors that callers tell apart.
var (
	// ErrCompacted: the index is before FirstIndex.
	ErrCompacted = errors.New("log entry is no longer kept")
	// ErrUnavailable: the index is after LastIndex.
	ErrUnavailable = errors.New("log entry does not exist yet")
	// ErrNoSpace: there is no room for another segment. Nothing was written, the log is as before, and the same Append
	// may be tried again later.
	ErrNoSpace = errors.New("no space for another log segment")
	// ErrFailed: something was being written when the disk failed. Nobody knows what is on it, so the log is dead.
	ErrFailed = errors.New("the log failed")
	// ErrClosed: the log has been closed.
	ErrClosed = errors.New("log is closed")
)

// DamageError says that bytes are wrong that were once confirmed to be on the disk. Nothing has been changed or
// repaired; the replica must neither vote nor acknowledge until it is whole again.
type DamageError struct {
	File   string // path
	Offset int64  // in the file, bytes
	Why    string
	Fix    string // what the operator should do
}

func (e *DamageError) Error() string {
	if e.Offset == 0 {
		return fmt.Sprintf("%s is damaged: %s; %s", e.File, e.Why, e.Fix)
	}
	return fmt.Sprintf("%s is damaged at offset %d: %s; %s", e.File, e.Offset, e.Why, e.Fix)
}

// ForeignError says that a file belongs to another cluster, set or replica.
type ForeignError struct {
	File string
	Have string // whose the file is
	Want string // whose directory this is
}

func (e *ForeignError) Error() string {
	return fmt.Sprintf("%s belongs to %s, but this is the directory of %s; put the right one back; if there is none and the set has other replicas, move this directory away, and they fill it again", e.File, e.Have, e.Want)
}

// VersionError says that a file was written by a newer program. It has not been touched.
type VersionError struct {
	File    string
	Version uint32 // of the file
	Known   uint32 // the newest this program knows
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("%s has format version %d, this program knows up to %d; start the newer program again", e.File, e.Version, e.Known)
}

const (
	fixRejoin  = "restore the file if there is a copy of exactly this moment; else, if the set has other replicas, move this directory away, and they fill it again"
	fixReplica = "what was in it is fetched from the other replicas of the set; if that does not come about, move this directory away, and they fill it again"
)

func damage(file string, off int64, why string, args ...any) error {
	return &DamageError{File: file, Offset: off, Why: fmt.Sprintf(why, args...), Fix: fixReplica}
}
