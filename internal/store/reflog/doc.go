// Package reflog maps a position in a queue to where the message is stored: (raft index, slot).
//
// Positions of one lane (the main sequence of a shard, or its messages due at one moment) are given out one after the
// other, and a batch of sends fills consecutive slots of one raft entry, so the map is a list of runs that only grows
// at its end. References are logical: they never name a file of messages, so each replica may lay out its files as it
// likes. The send time of a run is kept with it, because it does not decrease within a lane: that turns a moment into a
// position (retention, rewind); and so are the bytes, because that tells how much of a file is alive. The state machine
// itself never needs any of this.
//
// The map is larger than memory. What was added since the last checkpoint is in tables; Freeze hands them over and
// Merge, in the background, brings them to the disk and gives an image, which names the files and finds the way in them.
// What is not needed any more is left out. There are two layouts, for there are two shapes:
//
//   - A main lane is long and there are few: its runs are cut into chunks of 1,024, of which 64 bytes stay in
//     memory. The rest, the tail, stays in memory encoded and is part of the image. A chunk is found without asking.
//   - Delayed lanes are short and there are up to a million: their runs lie in levels, files sorted by (shard, lane,
//     position), of which 64 bytes for every 1,024 runs stay in memory. A level is merged with the one before it when
//     it has grown to a third of it, so there are few.
//
// Files are never changed. What they hold depends on the references, on when they were frozen and on what was needed
// then, not on the replica.
//
// The map is derived: an image and the log behind it rebuild it. A chunk or block that cannot be read is a *DamageError,
// which names what is missing; Repair takes that from a peer, and Salvage makes the best of it if no peer has it whole.
//
// Package engine is the caller, and package store keeps images and files. Add, DropShard, SeqAt, TimeAt, Freeze,
// Install and Abandon belong to the goroutine that applies the log and never touch the disk; the others may be called from any.
package reflog
