// Package segment is the log that is the store: the Raft log of one replica of one set, in segment files, with every
// message body in it exactly once. Records go in at the end, are read back by index, and are thrown away a whole
// segment at a time from the front.
//
// It knows nothing of consensus: which entries exist, conflict or are committed is decided by the caller (package
// set). What it promises is that Append with sync returns nil only when the bytes are on the disk, that what was
// promised is either read back unchanged or reported as a *DamageError, and that what was not promised is either
// there whole or gone.
//
// # Files of a directory
//
//	0000000007.seg      one segment: header, batches, and, when it is full, a footer
//	0000000008.seg      the segment after the last is made ahead, so that a full disk shows early
//	hardstate           term, vote and the first live segment, in two slots
//	*.seg.tmp           being made; counts for nothing
//
// # Segment file
//
//	0     identity, 64 bytes, durable before the file gets its name      (format.go: header)
//	512   begin, 64 bytes, written together with the first batch         (format.go: begin)
//	4096  batch, batch, …                                                (format.go: record, commit)
//	      [FOOTER COMMIT] once the segment is sealed; the file ends here  (footer.go)
//	      zeros up to the preallocated size while it is not
//
// A batch is what one Append wrote:
//
//	[TRUNCATE] ENTRY* COMMIT
//
// Numbers are little endian. Records start at multiples of 8.
//
// # Promise
//
// A COMMIT says up to where the segment had been synced when the batch was made. The begin block says up to where
// the previous segment belongs to the log; it was synced before that. So on a restart the first bad spot is torn if
// no later promise covers it, and damage if one does. See DESIGN.md of package store.
//
// # Concurrency
//
// Append, DropBefore and Close belong to one goroutine. All reading methods may be called from any goroutine meanwhile.
package segment
