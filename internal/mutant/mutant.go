// Package mutant tests the tests: it names deliberate bugs that can be switched on, one at a time, in binaries built
// with the tag "mutants". A tier of tests that stays green with a mutant on has a hole.
//
// On is constant false without the tag, so that release binaries carry neither the bugs nor a look-up. With the tag,
// the environment variable CMQ_MUTANT names the bug of the process. The packages that would have the bug call On at
// the place where it would be made; this package imports nothing.
package mutant

// ID is one deliberate bug.
type ID int

// The deliberate bugs.
const (
	None ID = iota
	ConfirmBeforeFsync
	VoteNotPersisted
	LockIgnoredAfterLeaderChange
	DeleteNotReplicated
	StaleHandleAccepted
	TornTailKept
	NoDirectorySync
	ApplyOrder
	CheckpointNotAtomic
	ChunkLost
	CompactionDropsLive
	EmptyLiveSet
	SnapshotCountedEarly
	ScrubSkipsBlock
	NoSpaceHole
	RetentionByWallClock
	ExtendedLockEndsEarly
	PreparedVisibleAfterLeaderChange
	PreparedNotLive
	SessionsNotInImage
	StatesNotCompared
	FilterAfterStore
	UnsubscribeLeavesReferences
	DeliveredBeforeDone
	RetryForgetsCount
	end
)

// String is the bug's name, as CMQ_MUTANT wants it.
func (id ID) String() string { return describe(id).name }

// Sentence says what the bug does.
func (id ID) Sentence() string { return describe(id).sentence }

// Names lists the names of all bugs in the order of their ids.
func Names() []string {
	names := make([]string, 0, end-1)
	for id := None + 1; id < end; id++ {
		names = append(names, id.String())
	}
	return names
}

// Parse finds a bug by name; None if there is no such name.
func Parse(name string) ID {
	for id := None + 1; id < end; id++ {
		if id.String() == name {
			return id
		}
	}
	return None
}

type description struct{ name, sentence string }

func describe(id ID) description {
	switch id {
	case ConfirmBeforeFsync:
		return description{"ConfirmBeforeFsync", "A log append that asks for durability returns without fdatasync."}
	case VoteNotPersisted:
		return description{"VoteNotPersisted", "Term and vote are kept in memory and never written."}
	case LockIgnoredAfterLeaderChange:
		return description{"LockIgnoredAfterLeaderChange", "A new leader forgets which messages are locked."}
	case DeleteNotReplicated:
		return description{"DeleteNotReplicated", "A delete is confirmed without being in the log."}
	case StaleHandleAccepted:
		return description{"StaleHandleAccepted", "An older receipt handle deletes a newer delivery."}
	case TornTailKept:
		return description{"TornTailKept", "Recovery keeps a log record whose checksum is wrong."}
	case NoDirectorySync:
		return description{"NoDirectorySync", "Creates, renames and removes are not followed by a directory fsync."}
	case ApplyOrder:
		return description{"ApplyOrder", "Two operations of one batch are applied in the wrong order on some replicas."}
	case CheckpointNotAtomic:
		return description{"CheckpointNotAtomic", "An image carries the index of the entry after the one it was made behind."}
	case ChunkLost:
		return description{"ChunkLost", "An image leaves out one chunk of references."}
	case CompactionDropsLive:
		return description{"CompactionDropsLive", "Rewriting a file of messages leaves out one that is still needed."}
	case EmptyLiveSet:
		return description{"EmptyLiveSet", "An empty list of needed messages is taken for the truth now and then."}
	case SnapshotCountedEarly:
		return description{"SnapshotCountedEarly", "A replica counts as filled before all messages of the snapshot are there."}
	case ScrubSkipsBlock:
		return description{"ScrubSkipsBlock", "The search for damage leaves out the first block of every file."}
	case NoSpaceHole:
		return description{"NoSpaceHole", "A batch that met a full disk is counted as written."}
	case RetentionByWallClock:
		return description{"RetentionByWallClock", "Retention ends by the leader's wall clock instead of cluster time."}
	case ExtendedLockEndsEarly:
		return description{"ExtendedLockEndsEarly", "A lock that was extended ends when it would have without."}
	case PreparedVisibleAfterLeaderChange:
		return description{"PreparedVisibleAfterLeaderChange", "A new leader hands out messages that are not decided."}
	case PreparedNotLive:
		return description{"PreparedNotLive", "Messages that are not decided are taken for dead when files are rewritten."}
	case SessionsNotInImage:
		return description{"SessionsNotInImage", "An image forgets what producer sessions have sent."}
	case StatesNotCompared:
		return description{"StatesNotCompared", "A replica whose state is not that of the others goes on."}
	case FilterAfterStore:
		return description{"FilterAfterStore", "What is published is stored for every subscription before the filters are asked."}
	case UnsubscribeLeavesReferences:
		return description{"UnsubscribeLeavesReferences", "A topic goes on with a subscription that was deleted."}
	case DeliveredBeforeDone:
		return description{"DeliveredBeforeDone", "A delivery that takes long is written down as done instead of having its lock extended."}
	case RetryForgetsCount:
		return description{"RetryForgetsCount", "A new leader counts the tries of a message from the first one it makes itself."}
	}
	return description{"None", "No deliberate bug."}
}
