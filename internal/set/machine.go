package set

// Machine is the state machine a set replicates, together with its leader's side. All methods are called by
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
	// Cut returns the next entry, at most about limit bytes, or nil. now is cluster time.
	Cut(now int64, limit int) []byte
	// Wake is the cluster time at which Waiting may change by the mere passing of time, 0 for never.
	Wake() int64
	// Due is called when the time that Wake named has come.
	Due(now int64)

	// Time is the cluster time of the newest batch applied, 0 if there was none.
	Time() int64
	// Image encodes the state after the entry applied last.
	Image() []byte
	// Restore replaces the state by an image that was made after the entry with this index.
	Restore(index uint64, image []byte) error
	// Floor is the lowest index whose entry the machine may still have to read.
	Floor() uint64
}
