// Package archive is the files of messages that the log has let go of and somebody still needs: the living rest of log segments
// of which most was dead, and messages that were fetched from another replica.
//
// A file is written once, in the order in which its messages will be read (queue by queue), and found again by (raft index,
// slot). It knows nothing of queues, and not whether a message is still needed; package store, its only caller, does.
//
// # File
//
//	0000000012.arc     number as in Info; *.arc.tmp is being written and counts for nothing
//
//	0    header, 64 bytes                        (format.go)
//	64   bodies, one behind the other, nothing between them
//	..   index blocks, sorted by (index, slot)   (format.go)
//	..   directory: where each block is
//	..   tail, 64 bytes; the file ends here
//
// All that is known of a message, its checksum too, is in the index block: 14 bytes a message or so. Numbers are little endian.
//
// # Concurrency
//
// A Writer belongs to one goroutine. A File may be used by any.
package archive
