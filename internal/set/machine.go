package set

import (
	"github.com/opencmq/cmq/internal/store"
	"github.com/opencmq/cmq/internal/store/reflog"
)

// Machine is the state machine a set replicates, together with its leader's side. All methods but Live are called by
// the one goroutine that drives the Replica.
type Machine interface {
	// Apply applies the committed entry. Calls come in log order without gaps; data is nil for the empty entry
	// with which raft begins a term. The machine may keep data and must not change it.
	Apply(index, term uint64, data []byte)

	// Lead says that this replica leads, everything of earlier terms is applied and Cut may be called.
	Lead(term uint64)
	// Follow says that this replica does not lead any more; requests not yet cut must be refused.
	Follow()
	// Close is the last call: whoever still waits for an entry hears that its outcome is unknown.
	Close()

	// Waiting is about how many bytes Cut would return; 0 means that there is nothing to cut.
	Waiting() int
	// Cut returns the next entry, at most about limit bytes, or nil. now is cluster time. The entry is good until the next
	// Cut: raft makes a copy of what is proposed.
	Cut(now int64, limit int) []byte
	// Wake is the cluster time at which Waiting may change by the mere passing of time, 0 for never.
	Wake() int64
	// Due is called when the time that Wake named has come.
	Due(now int64)
	// SetSpace tells a leader how full the fullest disk of the set is, whenever that changes.
	SetSpace(level Space)

	// Time is the cluster time of the newest batch applied, 0 if there was none.
	Time() int64
	// Digest is a sum over everything applied so far: equal on all replicas that have applied the same entries.
	Digest() uint64

	// StartImage begins an image of the state after the entry applied last. Entries go on being applied meanwhile
	// and are not in it. There is one at a time.
	StartImage()
	// StepImage encodes about limit bytes of it and reports whether nothing is left to encode.
	StepImage(limit int) (done bool)
	// TakeImage hands over the encoded image for the part that needs the disk.
	TakeImage() ImageJob
	// Restore replaces the state by an image that was made after the entry with this index; an image begun and not
	// done is forgotten. No data is the image of an empty set.
	Restore(index uint64, image []byte, files []reflog.File) error
	// Live says which messages the image of another replica still needs, before it is restored; nil if such images
	// have no messages beside them. Any goroutine may call it. The files are those of the image, in the staging of the
	// store.
	Live(image []byte, files []reflog.File) (store.Live, error)
}

// ImageJob is the part of an image that is made in the background.
type ImageJob interface {
	// Run brings everything that belongs to the image to the disk but the image itself, whose parts it returns. live
	// is good until Done and nil for a machine without messages. throttle is told of the bytes read and written; its
	// error ends the job.
	Run(throttle func(bytes int) error) (parts [][]byte, files []reflog.File, live store.Live, err error)
	// Done is called on the goroutine that drives the Replica, with the error of Run or of saving the image. After one
	// the machine is as if the image had never been begun.
	Done(err error)
}

// References is what a Machine has beside its state if it refers to messages: it lets replicas heal each other's
// references.
type References interface {
	// Runs reads the runs of positions [lo, hi), at most limit of them. If some cannot be read, they are those that can, and the error
	// is a *reflog.DamageError. Any goroutine may call it.
	Runs(key reflog.Key, lo, hi uint64, limit int) ([]reflog.Run, error)
	// WreckRefs is what is left of the parts of [lo, hi) that cannot be read, at most about limit bytes, for SalvageRefs on
	// another replica. Any goroutine may call it.
	WreckRefs(key reflog.Key, lo, hi uint64, limit int) []byte
	// VerifyRefs reads everything on the disk and reports the positions that cannot be read; lo == hi: a file is damaged where nothing
	// that counts is, and the next image replaces it. Any goroutine may call it.
	VerifyRefs(throttle func(bytes int) error, report func(key reflog.Key, lo, hi uint64)) error
	// RepairRefs takes the runs of positions [lo, hi) instead of those on the disk, for good with the next image.
	RepairRefs(key reflog.Key, lo, hi uint64, runs []reflog.Run)
	// SalvageRefs puts positions [lo, hi) together from the runs that other replicas could read of them, wrecks of what they could not, and
	// what is left here. What that gives is used at once, and for good with the next image. The error is a *reflog.DamageError of
	// what is lacking still. Any goroutine may call it.
	SalvageRefs(key reflog.Key, lo, hi uint64, runs []reflog.Run, wrecks [][]byte) error
}
